"""Importing OQMD: 341,700 formulas with four properties, as the command a user types.

Each time is of a whole process, from the shell's side until it has committed and ended.
"""

from __future__ import annotations

import functools
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from pymatgen.core import Composition

from tests.benchmarks import data
from tests.postgres import fresh_database

REPEATS = 3
SAMPLE = 5_000
PEER = f"pandas + pymatgen (of {SAMPLE:,}, scaled up) + SQLite"


def _import(store: str, tables: list[Path]) -> data.Measured:
    return data.gandb(store, "import", "oqmd", *tables)


def _rows(store: str) -> int:
    asked = data.gandb(store, "sql", "--json", "SELECT count(*) AS n FROM entry")
    return int(json.loads(asked.output)[0]["n"])


def _require(store: str, when: str) -> None:
    if (n := _rows(store)) != data.REAL_ENTRIES:
        raise SystemExit(f"{n:,} entries {when}, not {data.REAL_ENTRIES:,}")


def _shuffled(tables: list[Path], folder: Path) -> list[Path]:
    """Write the same rows in another order, under other names that end in the same property."""
    rng = random.Random(0)
    written = []
    for path in tables:
        head, *rows = data.read_table(path)
        rng.shuffle(rows)
        target = folder / f"shuffled.{path.name}"
        data.write_table(target, [head, *rows])
        written.append(target)
    return written


def _by_hand(tables: list[Path], database: Path) -> float:
    """Import as a script of one's own does: seconds, with the formulas' share scaled up.

    Read and join with pandas, one pymatgen Composition per formula for its reduced formula and
    chemical system, rows into SQLite where the formula is the key and known ones are left alone.
    """
    started = time.perf_counter()
    frames = [
        pd.read_csv(path).rename(columns={"value": path.name.split(".")[1]}).set_index("formula")
        for path in tables
    ]
    joined = functools.reduce(lambda a, b: a.join(b, how="outer"), frames).reset_index()
    joined["reduced_formula"] = joined["chemical_system"] = joined["formula"]  # room for them
    with sqlite3.connect(database) as connection:
        columns = ", ".join(f'"{name}"' for name in joined.columns)
        connection.execute(f"CREATE TABLE IF NOT EXISTS entry ({columns}, PRIMARY KEY (formula))")
        marks = ", ".join("?" * len(joined.columns))
        rows = joined.itertuples(index=False, name=None)
        connection.executemany(f"INSERT OR IGNORE INTO entry VALUES ({marks})", rows)
    connection.close()
    seconds = time.perf_counter() - started
    few = joined["formula"].sample(SAMPLE, random_state=0)
    started = time.perf_counter()
    for formula in few:
        composition = Composition(formula)
        _ = composition.reduced_formula, composition.chemical_system
    return seconds + (time.perf_counter() - started) * len(joined) / SAMPLE


def run(report: Callable[..., None]) -> None:
    """Import into new stores, again into the same, and again in another order."""
    tables = data.oqmd_tables()
    median = statistics.median
    with tempfile.TemporaryDirectory(prefix="gandb-bench-") as name:
        folder = Path(name)
        shuffled = _shuffled(tables, folder)
        warm = str(folder / "warm")
        data.gandb(warm, "init", warm)
        _import(warm, tables[:1])  # compiles what is not compiled yet
        first, second, other = [], [], []
        for k in range(REPEATS):
            store = str(folder / f"store-{k}")
            data.gandb(store, "init", store)
            first.append(_import(store, tables))
            _require(store, "after the import")
            second.append(_import(store, tables))
            other.append(_import(store, shuffled))
            _require(store, "after importing them again in another order")
        theirs = [_by_hand(tables, folder / "by-hand.sqlite") for _ in range(2)]
        report("import.oqmd.load", data.load(), "processes/core")
        report("import.oqmd.seconds", median(m.seconds for m in first), "s", PEER, theirs[0])
        report("import.oqmd.cpu_seconds", median(m.cpu_seconds for m in first), "s")
        report("import.oqmd.rss_gb", max(m.rss_gb for m in first), "GB")
        report("reimport.oqmd.seconds", median(m.seconds for m in second), "s", PEER, theirs[1])
        name = "reimport.oqmd.reordered"
        report(f"{name}.seconds", median(m.seconds for m in other), "s", PEER, theirs[1])
        report(f"{name}.cpu_seconds", median(m.cpu_seconds for m in other), "s")
        _on_postgres(report, tables, shuffled, folder)


def _on_postgres(
    report: Callable[..., None], tables: list[Path], shuffled: list[Path], folder: Path
) -> None:
    with data.server() as url:
        if url is None:
            return
        with fresh_database(url) as store:
            data.gandb(store, "init", store, "--blobs", str(folder / "blobs"))
            first = _import(store, tables)
            other = _import(store, shuffled)
            _require(store, "after importing them twice")
    report("import.oqmd.postgres.seconds", first.seconds, "s")
    report("reimport.oqmd.postgres.reordered.seconds", other.seconds, "s")
