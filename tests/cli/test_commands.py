"""Every command: its help, its output, its refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from gandb.cli.app import app
from gandb.core.config import Settings
from gandb.jobs import queue
from gandb.store import Store
from tests.conftest import ROOT
from tests.tasks.labs import TINY, cut_tables

OPTIONS = [part for name, value in TINY.items() for part in ("--set", f"{name}={value}")]


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the names of every command, in groups or not."""
    parts: dict[str, Any] = getattr(command, "commands", {})
    if not parts:
        yield path
    for name, part in parts.items():
        yield from leaves(part, (*path, name))


COMMANDS = sorted(leaves(typer.main.get_command(app)))


class Outcome:
    def __init__(self, *args: object, store: str | None = None, **environment: str) -> None:
        settings = {"GANDB_STORE": store, "COLUMNS": "200", **environment}
        result = CliRunner().invoke(app, [str(a) for a in args], env=settings)
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            result.exception
        )
        assert "Traceback" not in self.err

    @property
    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.out)
        return found


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return cut_tables(tmp_path_factory.mktemp("tables"), 400)


@pytest.fixture(scope="module")
def lab(tables: list[Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store that was made and filled by commands, each of which says JSON on stdout."""
    store = str(tmp_path_factory.mktemp("lab") / "store")

    def done(*args: object) -> list[dict[str, Any]]:
        outcome = Outcome(*args, store=store)
        assert outcome.code == 0, outcome.err
        return outcome.rows

    assert Outcome("init", store).code == 0
    (row,) = done("import", "mp", *tables, "--json")
    assert (row["state"], row["rows_read"], row["rows_rejected"]) == ("done", 800, 0)
    (row,) = done("dataset", "create", "d", "--where", "source = 'mp'", "-m", "all", "--json")
    assert row["dataset"] == "d@1"
    (row,) = done("train", "matgan", "d@1", *OPTIONS, "--wait", "--json")
    assert (row["model"], row["dataset"], row["iteration"]) == ("matgan", "d@1", 12)
    condition = ("--condition", "band_gap=0.5,2", "--seed", "5")
    (row,) = done("train", "matgan", "d@1", *OPTIONS, *condition, "--wait", "--json")
    sample = ("-n", "300", "--chunk-size", "200", "--wait", "--json")
    (row,) = done("generate", row["checkpoint_id"], "--condition", "band_gap=2..", *sample)
    assert (row["model"], row["n_samples"]) == ("matgan", 300)
    (row,) = done("train", "count_given_element", "d@1", "--wait", "--json")
    (row,) = done("generate", "count_given_element:d@1", *sample)
    assert 0 <= row["cnen_strict"] <= row["cnen_default"] <= 1
    (row,) = done("check", "count_given_element:d@1", "--against", "d@1", "--json")
    assert row["novelty"] == row["novel"] / row["candidates"]
    return store


# --- help --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example(command: tuple[str, ...]) -> None:
    outcome = Outcome(*command, "--help")
    assert outcome.code == 0
    _, found, examples = outcome.out.partition("Example")
    assert found
    assert f"gandb {command[0]}" in examples or f" {' '.join(command)}" in examples


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    heavy = ["duckdb", "matplotlib", "numba", "numpy", "pyarrow", "pymatgen", "sqlalchemy", "torch"]
    script = (
        "import sys\nfrom gandb.cli.app import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    shown = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert shown.splitlines()[-1] == "[]"
    assert len(COMMANDS) > 20
    for command in COMMANDS:
        assert command[0] in shown


def test_version() -> None:
    outcome = Outcome("--version")
    assert outcome.code == 0
    assert outcome.out.startswith("gandb 0.")


# --- output ------------------------------------------------------------------------------

SHOWING = [
    ("schema",),
    ("schema", "generated"),
    ("schema", "entry"),
    ("dataset", "list"),
    ("dataset", "show", "d@1"),
    ("models",),
    ("models", "--trained"),
    ("job", "list"),
    ("job", "list", "--state", "done", "--kind", "generate"),
    ("db", "check"),
    ("db", "verify"),
    ("report",),
    ("sql", "SELECT reduced_formula, elements, novel FROM generated LIMIT 3"),
]


@pytest.mark.parametrize("command", SHOWING, ids=" ".join)
def test_what_shows_something_shows_it_as_json(command: tuple[str, ...], lab: str) -> None:
    outcome = Outcome(*command, "--json", store=lab)
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert isinstance(found, list) or command == ("report",)
    assert found or command == ("db", "check")
    plain = Outcome(*command, store=lab)
    assert plain.code == 0
    assert plain.out or command == ("db", "check")


def test_a_job_in_full(lab: str) -> None:
    job_id = Outcome("job", "list", "--kind", "generate", "--json", store=lab).rows[0]["job_id"]
    (row,) = Outcome("job", "show", job_id[:8], "--json", store=lab).rows
    assert row["job_id"] == job_id
    assert [c["state"] for c in row["chunks"]] == ["done"] * 3
    assert [t["outcome"] for t in row["tries"]] == ["done"] * 3
    assert row["spec"]["n"] == 300
    logs = Outcome("job", "logs", job_id[:8], "--json", store=lab).rows
    assert [line["message"] for line in logs] == ["generate asked for", "done"]
    assert "generate" in Outcome("job", "show", job_id[:8], store=lab).out


def test_the_same_again_says_so_and_prints_the_same(lab: str, tables: list[Path]) -> None:
    outcome = Outcome("import", "mp", *tables, "--json", store=lab)
    assert outcome.code == 0
    assert "this was imported before; nothing is new" in outcome.err
    assert outcome.rows[0]["entries"] > 0
    outcome = Outcome("dataset", "create", "d", "--where", "source = 'mp'", "--json", store=lab)
    assert "nothing changed since d@1" in outcome.err
    assert outcome.rows[0]["dataset"] == "d@1"
    outcome = Outcome("train", "matgan", "d@1", *OPTIONS, "--wait", "--json", store=lab)
    assert outcome.rows[0]["iteration"] == 12


def test_the_option_outranks_the_environment(lab: str, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    assert Outcome("--store", other, "init", other, store=lab).code == 0
    assert Outcome("--store", other, "dataset", "list", "--json", store=lab).rows == []
    assert Outcome("-s", lab, "dataset", "list", "--json", store=other).rows != []
    assert Outcome("dataset", "list", "--json", store=lab).rows != []


def test_an_import_with_rejects_says_where_they_are(lab: str, tmp_path: Path) -> None:
    table = tmp_path / "own.csv"
    table.write_text("formula,band_gap\nNaCl,5\nXx2,1\n")
    outcome = Outcome("import", "mp", table, "--json", store=lab)
    assert outcome.code == 0
    assert outcome.rows[0]["rows_rejected"] == 1
    statement = outcome.err.partition('gandb sql "')[2].rpartition('"')[0]
    (reject,) = Outcome("sql", statement, "--json", store=lab).rows
    assert (reject["file"], reject["line"]) == ("own.csv", 3)


def test_work_may_be_left_to_a_worker(lab: str) -> None:
    outcome = Outcome("train", "substitution", "d@1", "--json", store=lab)
    assert outcome.rows[0]["state"] == "queued"
    assert "a worker does it: gandb worker" in outcome.err
    outcome = Outcome("worker", "--job", outcome.rows[0]["job_id"], store=lab)
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err.endswith("1 chunks done\n")
    names = [row["model"] for row in Outcome("models", "--trained", "--json", store=lab).rows]
    assert "substitution" in names


# --- refusals ----------------------------------------------------------------------------

REFUSED: list[tuple[tuple[str, ...], int, str]] = [
    (("dataset", "show", "e@1"), 3, "no dataset named 'e'; known: d"),
    (("dataset", "show", "d@9"), 3, "no dataset version named 'd@9'; known: d@1"),
    (("dataset", "show", "d@x"), 3, "d has no tags; versions are numbered, such as d@1"),
    (("dataset", "show", "d@"), 2, "write NAME@NUMBER"),
    (("dataset", "create", "x", "--where", "gap > 1"), 6, "band_gap"),
    (("dataset", "create", "x", "--where", "band_gap > 1e9"), 2, "no entry was selected"),
    (("dataset", "create", "x"), 2, "--where SQL or by --from FILE"),
    (("dataset", "create", "x", "--from", "none.txt"), 4, "none.txt"),
    (("dataset", "create", "x", "--where", "true", "--split", "0.5,0.1,0.1"), 2, "add up to 1"),
    (("train", "matgam", "d@1"), 3, "known: matgan"),
    (("train", "matgan", "e@1"), 3, "known: d"),
    (("train", "matgan", "d@1", "--set", "with=3"), 2, "known: width"),
    (("train", "matgan", "d@1", "--set", "width=wide"), 2, "give a value of type int"),
    (("train", "matgan", "d@1", "--set", "width"), 2, "write OPTION=VALUE"),
    (("train", "matgan", "d@1", "--set", "preset=papers"), 2, "known: paper"),
    (("train", "matgan", "d@1", "--condition", "gap=1"), 3, "known: band_gap"),
    (("train", "matgan", "d@1", "--condition", "band_gap=a"), 2, "write PROPERTY=EDGE"),
    (("train", "matgan", "d@1", "--condition", "band_gap=2,1"), 2, "ascending"),
    (("train", "uniform", "d@1", "--set", "width=3"), 2, "takes no options"),
    (("generate", "uniform:d@1"), 3, "count_given_element:d@1"),
    (("generate", "0000000"), 3, "known: "),
    (("generate", "abc"), 2, "at least 4 digits"),
    (("generate", "count_given_element:d@1", "--condition", "band_gap=1"), 2, "LOW..HIGH"),
    (("generate", "count_given_element:d@1", "-n", "0"), 2, "-n"),
    (
        ("generate", "count_given_element:d@1", "-n", "9", "--condition", "band_gap=1..", "--wait"),
        7,
        "takes no condition",
    ),
    (("check", "count_given_element:d@1", "--against", "e@1"), 3, "known: d"),
    (("check", "matgan:d@2", "--against", "d@1"), 3, "known: d@1"),
    (("job", "show", "0123456789"), 3, "known: "),
    (("job", "show", "abc"), 2, "at least 4 digits"),
    (("job", "logs", "0123456789"), 3, "known: "),
    (("job", "cancel", "0123456789"), 3, "known: "),
    (("job", "retry", "0123456789"), 3, "known: "),
    (("job", "list", "--state", "don"), 3, "known: done"),
    (("job", "list", "--kind", "training"), 3, "known: train"),
    (("report", "0123456789"), 3, "known: "),
    (("worker", "--job", "0123456789"), 3, "known: "),
    (("schema", "generate"), 3, "known: generated"),
    (("sql", "SELECT nothing FROM entries"), 6, "nothing"),
    (("sql", "DELETE FROM entry"), 6, ""),
    (("import",), 2, "a source with --live, or --sample"),
    (("import", "mp"), 2, "name a source with its files"),
    (("import", "mpp", "x.csv"), 3, "known: mp, aflow, oqmd"),
    (("import", "mp", "none.csv"), 4, "cannot read none.csv"),
    (("import", "mp", "TABLE", "--map", "gap"), 2, "write COLUMN=MEANING"),
    (("import", "mp", "TABLE", "--map", "gap=band_gap"), 7, "known: "),
    (("import", "mp", "TABLE", "--map", "value=gaps"), 7, "known: "),
    (("import", "mp", "TABLE", "--map", "value=band_gap:eW"), 7, "eV"),
    (("import", "mp", "TABLE", "--map", "value=band_gap:GPa"), 7, "GPa"),
    (("init", "STORE"), 5, "there is a store at"),
    (("--store", "nowhere", "job", "list"), 5, "create one with: gandb init"),
    (("--store", "mysql://host/lab", "job", "list"), 5, "directory path or a postgresql:// URL"),
    (("nonsense",), 2, "No such command"),
]


@pytest.mark.parametrize(("command", "code", "said"), REFUSED, ids=lambda v: str(v)[:60])
def test_bad_input_is_refused_and_names_what_exists(
    command: tuple[str, ...], code: int, said: str, lab: str, tables: list[Path],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    places = {"TABLE": str(tables[1]), "STORE": lab}
    outcome = Outcome(*(places.get(part, part) for part in command), store=lab)
    assert outcome.code == code, outcome.err
    assert said in " ".join(outcome.err.split())
    assert outcome.out == ""


def test_without_a_store_it_says_how_to_name_one() -> None:
    outcome = Outcome("job", "list")
    assert outcome.code == 5
    assert outcome.err == ("error: no store is named: give --store PATH|URL, or set GANDB_STORE\n")


def test_strict_import_leaves_a_failed_job_and_nothing_else(lab: str, tmp_path: Path) -> None:
    table = tmp_path / "bad.csv"
    table.write_text("formula,band_gap\nNaBr,5\nXx2,1\n")
    count = ("sql", "SELECT count(*) AS n FROM entries", "--json")
    before = Outcome(*count, store=lab).rows
    outcome = Outcome("import", "mp", table, "--strict", store=lab)
    assert outcome.code == 7
    assert "bad.csv line 3" in outcome.err
    assert Outcome(*count, store=lab).rows == before
    (failed, *_) = Outcome("job", "list", "--state", "failed", "--json", store=lab).rows
    assert "--strict was asked for" in failed["error"]
    assert "gandb job logs " + failed["job_id"][:8] in outcome.err


# --- signals -----------------------------------------------------------------------------


HEEDS_CTRL_C = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from gandb.cli.app import main; main()"
)
"""The command as from a terminal: what is started in the background would ignore SIGINT."""


def begin(*args: object, store: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HEEDS_CTRL_C, *map(str, args)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "GANDB_STORE": store, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(lab: str) -> None:
    command = ("train", "matgan", "d@1", *OPTIONS, "--set", "iterations=400", "--wait", "--json")
    process = begin(*command, store=lab)
    assert process.stderr is not None
    assert process.stderr.readline() == "training matgan (seed 0): 40/400\n"
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    out, err = process.communicate(timeout=120)
    assert time.monotonic() - asked < 10
    assert (process.returncode, out) == (130, "")
    assert err.endswith(
        "stopped; what is done so far is kept, and the same command goes on from there\n"
        "interrupted\n"
    )
    (row,) = Outcome("job", "list", "--state", "running", "--json", store=lab).rows
    outcome = Outcome(*command, store=lab)
    assert outcome.rows[0]["iteration"] == 400
    logs = Outcome("job", "logs", row["job_id"], "--json", store=lab).rows
    assert [line for line in logs if line["message"].startswith("going on from iteration ")]


def test_cancelling_from_elsewhere_ends_the_wait(lab: str) -> None:
    process = begin(
        "train", "matgan", "d@1", *OPTIONS, "--set", "iterations=1000000", "--wait", store=lab
    )
    store = Store.open(Settings(lab))
    until(lambda: bool(queue.listing(store, state="running")), process)
    (row,) = queue.listing(store, state="running")
    assert Outcome("job", "cancel", str(row["job_id"])[:8], store=lab).code == 0
    cancelled = time.monotonic()
    _, err = process.communicate(timeout=120)
    assert time.monotonic() - cancelled < 15
    assert process.returncode == 7
    assert "was cancelled; to go on: gandb job retry" in err


def test_a_worker_that_polls_ends_well_when_it_is_told_to(lab: str) -> None:
    process = begin("worker", "--poll", "0.2", store=lab)
    Outcome("train", "element_frequency", "d@1", store=lab)
    store = Store.open(Settings(lab))
    until(lambda: not queue.listing(store, state="queued"), process)
    process.terminate()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert err.endswith(" chunks done\n")
