"""``gandb sql``, once and at its prompt."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import typer
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from typer.testing import CliRunner, Result

from gandb.cli import context
from gandb.cli.prompt import NameCompleter, Prompt, finished
from gandb.cli.sql import sql
from gandb.query import catalog
from gandb.query.result import Limits
from tests import postgres
from tests.query.stores import ROWS, DuckDBStore, PostgresStore, make_duckdb, make_postgres

AnyStore = DuckDBStore | PostgresStore

APP = """
import pathlib, sys, typer
from gandb.cli import context
from gandb.cli.sql import sql
from tests.query.stores import DuckDBStore, PostgresStore
where = sys.argv.pop(1)
store = PostgresStore(where) if ":" in where else DuckDBStore(pathlib.Path(where))
def open_reader(ctx):
    print("opened", file=sys.stderr, flush=True)
    return store
context.open_reader = open_reader
app = typer.Typer()
app.command()(sql)
app()
"""
ENDLESS = (
    "SELECT count(*) FROM generate_series(1, 50000000) a(x), generate_series(1, 50000000) b(y) "
    "WHERE a.x + b.y = -1"
)


@pytest.fixture(scope="module")
def duckdb_store(tmp_path_factory: pytest.TempPathFactory) -> DuckDBStore:
    return make_duckdb(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def postgres_store(postgres_url: str) -> Iterator[PostgresStore]:
    with postgres.fresh_database(postgres_url) as url:
        yield make_postgres(url)


@pytest.fixture(params=["duckdb", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest) -> AnyStore:
    made: AnyStore = request.getfixturevalue(f"{request.param}_store")
    return made


def _invoke(store: AnyStore, command: Any, *arguments: str, stdin: str = "") -> Result:
    app = typer.Typer()
    app.command()(command)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "open_reader", lambda ctx: store)
        return CliRunner().invoke(app, list(arguments), input=stdin)


def _command(store: AnyStore, *arguments: str) -> list[str]:
    where = str(store.path) if isinstance(store, DuckDBStore) else store.url
    return [sys.executable, "-c", APP, where, *arguments]


ENVIRONMENT = os.environ | {"PYTHONPATH": ".", "TERM": "xterm", "COLUMNS": "60"}

# --- once --------------------------------------------------------------------------------


def test_a_table_is_plain_text_in_a_pipe(store: AnyStore) -> None:
    ended = _invoke(
        store, sql, "SELECT formula, energy FROM entry WHERE n_sites < 6 ORDER BY energy"
    )
    assert ended.exit_code == 0
    assert ended.stdout == (
        'formula         energy\nsay "NaCl"       -2.25\nFe2O3             -1.5\nline\\nbreak, é\n'
    )
    assert ended.stderr == ""


def test_formats(store: AnyStore) -> None:
    query = "SELECT entry_id, formula FROM entry ORDER BY entry_id"
    expected = [{"entry_id": row[0], "formula": row[1]} for row in ROWS]
    assert json.loads(_invoke(store, sql, query, "--json").stdout) == expected
    lines = _invoke(store, sql, query, "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == expected
    text = _invoke(store, sql, query, "--format", "csv").stdout
    read = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["entry_id"] for row in read] == [row[0] for row in ROWS]
    parquet = _invoke(store, sql, query, "--format", "parquet").stdout_bytes
    assert pq.read_table(io.BytesIO(parquet)).to_pylist() == expected


def test_the_query_comes_from_stdin_or_a_file(store: AnyStore, tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text("SELECT 3 AS x;\n")
    assert _invoke(store, sql, "--format", "csv", stdin="SELECT 1 AS x").stdout == "x\n1\n"
    assert _invoke(store, sql, "-", "--format", "csv", stdin="SELECT 2 AS x").stdout == "x\n2\n"
    ended = _invoke(store, sql, "--file", str(tmp_path / "q.sql"), "--format", "csv")
    assert ended.stdout == "x\n3\n"


def test_output_goes_to_a_file(store: AnyStore, tmp_path: Path) -> None:
    target = tmp_path / "a.jsonl"
    ended = _invoke(store, sql, "SELECT 1 AS x", "--output", str(target))
    assert ended.exit_code == 0
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"wrote 1 row to {target} (")
    assert target.read_text() == '{"x": 1}\n'


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["SELECT * FROM entri"], 6, "error: no table or view named 'entri'; known: entry, "),
        (["DELETE FROM entry"], 6, "error: DELETE is refused"),
        ([""], 6, "error: the query is empty"),
        ([ENDLESS, "--timeout", "0.3"], 6, "stopped after 0.3 s"),
        (["SELECT 1", "-o", "a.txt"], 2, "say which format"),
        (["SELECT 1", "--json", "--format", "csv"], 2, "contradict"),
        (["SELECT 1", "--file", "q.sql"], 2, "not both"),
        (["--file", "missing.sql"], 4, "cannot read missing.sql"),
        (["SELECT 1", "-o", "no/such/folder/a.csv"], 1, "cannot write no/such/folder/a.csv"),
        (["SELECT 1", "--format", "xml"], 2, "xml"),
    ],
)
def test_failures_are_messages_with_exit_codes(
    store: AnyStore, arguments: list[str], code: int, said: str
) -> None:
    ended = _invoke(store, sql, *arguments)
    assert ended.exit_code == code
    assert said in ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr


def test_ctrl_c_ends_the_command(store: AnyStore) -> None:
    with subprocess.Popen(
        _command(store, ENDLESS), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        assert running.stderr.readline() == "opened\n"
        time.sleep(1)
        assert running.poll() is None
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=20)
    assert running.returncode == 130
    assert said == "interrupted\n"


def test_a_reader_that_leaves_is_no_failure(store: AnyStore) -> None:
    query = "SELECT * FROM generate_series(1, 1000000) g(x)"
    for name in ("csv", "table", "json"):
        with subprocess.Popen(
            _command(store, query, "--format", name),
            env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as running:  # fmt: skip
            assert running.stdout is not None
            assert running.stderr is not None
            running.stdout.readline()
            running.stdout.close()
            assert running.stderr.read() == b"opened\n"
        assert running.returncode == 0


def test_a_full_disk_behind_stdout_is_reported(store: AnyStore) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            _command(store, "SELECT * FROM generate_series(1, 100000) g(x)", "--format", "csv"),
            env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert ended.stderr == "opened\nerror: cannot write to stdout: No space left on device\n"
    assert ended.returncode == 1


def _on_terminal(store: AnyStore, *arguments: str) -> tuple[int, str]:
    """Run the command with a terminal for stdout and stderr."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        _command(store, *arguments), env=ENVIRONMENT, stdin=theirs, stdout=theirs, stderr=theirs
    ) as running:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # what reading gives when the other end has closed
            while chunk := os.read(ours, 4096):
                shown += chunk
    os.close(ours)
    return running.returncode, shown.decode()


def test_a_terminal_shows_the_first_rows_and_says_how_many_there_are(store: AnyStore) -> None:
    code, shown = _on_terminal(store, "SELECT * FROM generate_series(1, 1234) g(x)", "--limit", "3")
    assert code == 0
    assert "showing 3 of 1,234 rows (--limit 0 shows all" in shown
    assert "\n3\r\n" in shown
    assert "\n4\r\n" not in shown
    _, shown = _on_terminal(store, "SELECT * FROM generate_series(1, 300000)", "--limit", "1")
    assert "showing 1 of more than 100,000 rows" in shown
    _, shown = _on_terminal(store, "SELECT * FROM entry")
    assert "showing" not in shown
    code, shown = _on_terminal(store, "SELECT 1", "--format", "parquet")
    assert code == 2
    assert "Parquet is no text" in shown


# --- prompt ------------------------------------------------------------------------------


def _typed(store: AnyStore, text: str, folder: Path, **options: Any) -> Prompt:
    with create_pipe_input() as keys:
        keys.send_text(text)
        prompt = Prompt(
            store,
            limits=Limits(),
            history=folder / "state" / "history",
            terminal=(keys, DummyOutput()),
            **options,
        )
        prompt.loop()
    return prompt


def test_a_session(store: AnyStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _typed(
        store,
        "SELECT formula\rFROM entry WHERE n_sites = 5;\r"  # Enter without ; goes on
        "SELECT * FROM entris;\r"
        ".format csv\r"
        "SELECT 1 AS x;\r"
        "\\d\r"
        "\\d stable_entries\r"
        "\\d nothing\r"
        ".format parquet\r"
        ".limit 5\r"
        ".nonsense\r"
        "help\r"
        "\r"
        "\\q\r",
        tmp_path,
    )
    shown = capsys.readouterr()
    assert shown.out.startswith("formula\nFe2O3\nx\n1\nname            kind   columns\n")
    assert "stable_entries  view   entry_id, formula\n" in shown.out
    assert "entry_id  uuid" in shown.out.lower()
    assert "(1 row, 0." in shown.err
    assert "error: no table or view named 'entris'; known: entry, stable_entries" in shown.err
    assert "error: no table or view named 'nothing'; known: " in shown.err
    assert "error: no format 'parquet' at a prompt; known: table, csv" in shown.err
    assert "error: '.nonsense' is no command: help lists them" in shown.err
    assert "Ctrl-C cancels a query" in shown.err
    history = (tmp_path / "state" / "history").read_text()
    assert "+SELECT formula\n+FROM entry WHERE n_sites = 5;\n" in history


def test_history_is_remembered(
    duckdb_store: DuckDBStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _typed(duckdb_store, "SELECT 42 AS x;\r\x04", tmp_path)
    _typed(duckdb_store, "\x1b[A\r\x04", tmp_path)  # arrow up, Enter, Ctrl-D
    assert capsys.readouterr().out == " x\n42\n" * 2


def test_ctrl_c_clears_the_line_and_cancels_a_query(
    duckdb_store: DuckDBStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(DuckDBStore):
        """Ctrl-C arrives during the second query."""

        opened = 0

        @contextlib.contextmanager
        def read_only(self) -> Iterator[Any]:
            Interrupted.opened += 1
            if Interrupted.opened == 3:  # names, first query, second query
                os.kill(os.getpid(), signal.SIGINT)
            with super().read_only() as connection:
                yield connection

    store = Interrupted(duckdb_store.path)
    _typed(store, "garbage\x03SELECT 1 AS x;\rSELECT 2 AS x;\rSELECT 3 AS x;\r\x04", tmp_path)
    shown = capsys.readouterr()
    assert shown.out == "x\n1\nx\n3\n"
    assert "cancelled" in shown.err
    assert "garbage" not in shown.err


def test_a_prompt_keeps_nobody_waiting(
    duckdb_store: DuckDBStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Counting(DuckDBStore):
        """Counts the connections that are open."""

        open_now = 0
        seen: list[int] = []  # noqa: RUF012 - read by the test

        @contextlib.contextmanager
        def read_only(self) -> Iterator[Any]:
            Counting.open_now += 1
            with super().read_only() as connection:
                yield connection
            Counting.open_now -= 1

    store = Counting(duckdb_store.path)
    prompt = _typed(store, "SELECT 1;\rSELECT 2;\r\\d\r\x04", tmp_path)
    assert Counting.open_now == 0
    assert prompt is not None
    assert capsys.readouterr().out.count("\n1\n") == 1


def test_the_prompt_ends_with_eof(duckdb_store: DuckDBStore, tmp_path: Path) -> None:
    for leave in ("\x04", "exit\r", "quit\r", "\\q\r", "\\q;\r", ".exit\r"):
        _typed(duckdb_store, leave, tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1", False),
        ("SELECT 1;", True),
        ("SELECT\n1 ; ", True),
        ("\\d entry", True),
        (".format csv", True),
        ("HELP", True),
        ("", True),
        ("SELECT ';' AS x", False),
    ],
)
def test_enter_runs_what_is_finished(text: str, *, expected: bool) -> None:
    assert finished(text) is expected


def _completions(store: AnyStore, text: str) -> list[str]:
    completer = NameCompleter(catalog.load(store))
    found = completer.get_completions(Document(text), CompleteEvent())
    return [completion.text for completion in found]


def test_completion_knows_this_store(store: AnyStore) -> None:
    assert _completions(store, "SELECT form") == ["formula"]
    assert _completions(store, "SELECT * FROM ") == ["entry", "stable_entries"]
    assert _completions(store, "SELECT * FROM st") == ["stable_entries"]
    assert _completions(store, "SELECT stable_entries.") == ["entry_id", "formula"]
    assert _completions(store, "sel") == ["SELECT"]
    assert _completions(store, "\\d en") == ["entry"]
    assert "stable" in _completions(store, "SELECT sta")
