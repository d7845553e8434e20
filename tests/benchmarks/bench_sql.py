"""Ten questions of a materials scientist, each as ``gandb sql`` asks it: open, ask, fetch, close.

The store holds OQMD and MP, 437,000 entries, and more than 700,000 candidates of MatGAN and a
baseline. A time is the median of five in one process, without the interpreter's start.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gandb.core.config import Settings
from gandb.query.frames import query
from gandb.store import StoreReader
from tests.benchmarks import data
from tests.benchmarks.bench_matgan_2m import CHECKPOINT, trained_store
from tests.postgres import fresh_database

REPEATS = 5
CANDIDATES = 700_000
DRAWS = {CHECKPOINT: 1_300_000, "count_given_element:oqmd@1": 250_000}
MP_TABLES = ("formation_energy_per_atom", "band_gap", "e_hull")
PEER = "pandas on a Parquet export"


@dataclass(frozen=True)
class Question:
    """What is asked, in words and in SQL for either engine.

    Attributes:
        filters: whether it asks for candidates by elements, checks and novelty.
    """

    text: str
    sql: str
    filters: bool = False


QUESTIONS = (
    Question(
        "Which novel, charge-balanced nitrides does MatGAN propose most often?",
        """SELECT reduced_formula, chemical_system, times_generated FROM generated
        WHERE model = 'matgan' AND novel AND cnen_strict AND elements @> ARRAY['N']
          AND n_elements >= 3
        ORDER BY times_generated DESC, reduced_formula LIMIT 20""",
        filters=True,
    ),
    Question(
        "Which novel ternary oxides of lithium are balanced, whoever proposes them?",
        """SELECT reduced_formula, chemical_system, model, times_generated FROM generated
        WHERE elements @> ARRAY['Li', 'O'] AND n_elements = 3 AND novel AND cnen_strict
        ORDER BY times_generated DESC, reduced_formula, model LIMIT 50""",
        filters=True,
    ),
    Question(
        "Which balanced ABX3 compounds with a halogen are new: perovskite candidates?",
        """SELECT reduced_formula, times_generated FROM generated
        WHERE anonymous_formula = 'ABC3' AND novel AND cnen_strict
          AND elements && ARRAY['F', 'Cl', 'Br', 'I'] AND model = 'matgan'
        ORDER BY times_generated DESC, reduced_formula LIMIT 50""",
        filters=True,
    ),
    Question(
        "Which of MatGAN's balanced sulfides that OQMD lacks does MP know, how stable?",
        """SELECT g.reduced_formula, e.formation_energy_per_atom, e.band_gap, g.times_generated
        FROM generated AS g JOIN entries AS e ON e.composition_id = g.composition_id
        WHERE g.model = 'matgan' AND g.novel AND g.cnen_strict AND g.elements @> ARRAY['S']
          AND e.source = 'mp'
        ORDER BY e.formation_energy_per_atom, g.reduced_formula, e.band_gap LIMIT 20""",
        filters=True,
    ),
    Question(
        "Where does the first of those nitrides come from?",
        """SELECT model, dataset, training_seed, generation_seed, times, first_index
        FROM lineage WHERE reduced_formula = '{nitride}' ORDER BY model, first_index""",
    ),
    Question(
        "What is known of the system Fe-Li-O, most stable first?",
        """SELECT formula, source, formation_energy_per_atom, band_gap, volume_per_atom
        FROM entries WHERE chemical_system = 'Fe-Li-O'
        ORDER BY formation_energy_per_atom, formula, source, band_gap LIMIT 20""",
    ),
    Question(
        "Which elements are in the novel, balanced candidates, and in how many?",
        """SELECT c.element, count(*) AS candidates FROM generated AS g
        JOIN composition_element AS c ON c.composition_id = g.composition_id
        WHERE g.novel AND g.cnen_strict
        GROUP BY c.element ORDER BY candidates DESC, c.element""",
    ),
    Question(
        "Which compositions have most polymorphs, and how far apart are their energies?",
        """SELECT reduced_formula, count(*) AS entries,
          max(formation_energy_per_atom) - min(formation_energy_per_atom) AS spread
        FROM entries WHERE source = 'mp'
        GROUP BY reduced_formula ORDER BY entries DESC, reduced_formula LIMIT 20""",
    ),
    Question(
        "Does the model beat the baseline?",
        """SELECT model, role, dataset, n_samples, cnen_strict, uniqueness, novelty, recovery
        FROM leaderboard ORDER BY cnen_strict DESC, model""",
    ),
    Question(
        "How large are the splits of the training set, and how much of each is balanced?",
        """SELECT m.split, count(*) AS entries,
          count(CASE WHEN e.cnen_strict THEN 1 END) AS balanced
        FROM dataset_members AS m JOIN entries AS e ON e.entry_id = m.entry_id
        WHERE m.dataset = 'oqmd@1' GROUP BY m.split ORDER BY m.split""",
    ),
)


def _build(store: str) -> None:
    """Make the store to ask: OQMD and MatGAN, then MP, a baseline, and candidates of both."""
    shutil.copytree(trained_store(), store)
    folder = data.oqmd_tables()[0].parent
    data.gandb(store, "import", "mp", *(folder / f"mp.{name}.csv.gz" for name in MP_TABLES))
    data.gandb(store, "train", "count_given_element", "oqmd@1", "--wait")
    for checkpoint, n in DRAWS.items():
        data.gandb(store, "generate", checkpoint, "-n", str(n), "--wait")


def _ask(address: str, sql: str) -> list[dict[str, Any]]:
    settings = Settings(address, lock_timeout=60.0, lease_seconds=60.0)
    return query(StoreReader(settings), sql).to_pylist()


def _milliseconds(ask: Callable[[], object]) -> float:
    """Median time of `REPEATS` answers, after one that fills the caches."""
    times = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        ask()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[1:])


# --- the same in pandas ------------------------------------------------------------------


def _has(frame: pd.DataFrame, *elements: str) -> pd.Series:
    """Say which rows hold all these elements, by the text of the chemical system."""
    found = pd.Series(True, index=frame.index)
    for element in elements:
        found &= frame.chemical_system.str.contains(rf"(?:^|-){element}(?:-|$)")
    return found


def _nitrides(path: Path) -> pd.DataFrame:
    frame = pd.read_parquet(path)
    frame = frame[(frame.model == "matgan") & frame.novel & frame.cnen_strict]
    frame = frame[frame.n_elements >= 3]
    frame = frame[_has(frame, "N")]
    return frame.sort_values(["times_generated", "reduced_formula"], ascending=[False, True])[:20]


def _lithium_oxides(path: Path) -> pd.DataFrame:
    frame = pd.read_parquet(path)
    frame = frame[frame.novel & frame.cnen_strict & (frame.n_elements == 3)]
    frame = frame[_has(frame, "Li", "O")]
    order = ["times_generated", "reduced_formula", "model"]
    return frame.sort_values(order, ascending=[False, True, True])[:50]


PEERS = {1: _nitrides, 2: _lithium_oxides}
"""The question of that number, asked of a table in a file."""


def _peers(store: str, folder: Path) -> dict[int, float]:
    """Return milliseconds by question; pandas must find the same formulas."""
    path = folder / "generated.parquet"
    columns = "reduced_formula, chemical_system, n_elements, model, times_generated, cnen_strict"
    asked = f"SELECT {columns}, novel FROM generated"
    data.gandb(store, "sql", asked, "--output", path)
    times = {}
    for number, ask in PEERS.items():
        ours = [row["reduced_formula"] for row in _ask(store, QUESTIONS[number - 1].sql)]
        if (theirs := list(ask(path).reduced_formula)) != ours:
            raise SystemExit(f"question {number}: pandas finds {theirs}, SQL {ours}")
        times[number] = _milliseconds(lambda ask=ask: ask(path))
    return times


# --- both engines ------------------------------------------------------------------------


def run(report: Callable[..., None]) -> None:
    """Ask everything on DuckDB, then the same store on PostgreSQL."""
    store = str(data.cached_store("sql", _build))
    (size,) = _ask(store, "SELECT count(*) AS n FROM generated")
    if size["n"] < CANDIDATES:
        raise SystemExit(f"the store has {size['n']:,} candidates, not {CANDIDATES:,}")
    with tempfile.TemporaryDirectory(prefix="gandb-bench-") as name:
        folder = Path(name)
        report("sql.candidates", size["n"], "candidates")
        report("sql.load", data.load(), "processes/core")
        answers = _all(report, store, "sql", _peers(store, folder))
        archive = folder / "store.tar"
        with data.server() as url:
            if url is None:
                return
            data.gandb(store, "db", "backup", archive)
            with fresh_database(url) as database:
                blobs = str(folder / "blobs")
                data.gandb(store, "db", "restore", archive, database, "--blobs", blobs)
                theirs = _all(report, database, "sql.postgres", {})
    for number, (ours, other) in enumerate(zip(answers, theirs, strict=True), 1):
        if ours != other:
            raise SystemExit(f"question {number}: DuckDB answers {ours}, PostgreSQL {other}")


def _all(
    report: Callable[..., None], address: str, prefix: str, peers: dict[int, float]
) -> list[list[dict[str, Any]]]:
    """Time all questions on one store; return the answers."""
    answers, filtering = [], []
    for number, question in enumerate(QUESTIONS, 1):
        nitride = answers[0][0]["reduced_formula"] if answers else ""
        sql = question.sql.replace("{nitride}", nitride)
        rows = _ask(address, sql)
        if not rows:
            raise SystemExit(f"question {number} has no answer: {question.text}")
        answers.append(rows)
        taken = _milliseconds(lambda sql=sql: _ask(address, sql))
        if question.filters:
            filtering.append(taken)
        peer = (PEER, peers[number]) if number in peers else ()
        report(f"{prefix}.q{number:02}_ms", taken, "ms", *peer)
    report(f"{prefix}.worst_ms", max(filtering), "ms")
    return answers
