"""``gandb export`` writes files and pipes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner, Result

from gandb.cli import context
from gandb.cli.export import export
from tests.query.stores import ROWS, make_duckdb

QUERY = "SELECT entry_id, formula FROM entry ORDER BY entry_id"


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """The command alone, on a small store."""
    (tmp_path / "store").mkdir()
    store = make_duckdb(tmp_path / "store")
    monkeypatch.setattr(context, "open_reader", lambda ctx: store)
    made = typer.Typer()
    made.command()(export)
    return made


def _run(app: typer.Typer, *arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin)


def test_the_ending_names_the_format(app: typer.Typer, tmp_path: Path) -> None:
    assert _run(app, QUERY, "-o", str(tmp_path / "a.parquet")).exit_code == 0
    assert pq.read_table(tmp_path / "a.parquet").num_rows == len(ROWS)
    ended = _run(app, QUERY, "-o", str(tmp_path / "a.jsonl.gz"))
    assert ended.stderr.startswith(f"wrote {len(ROWS)} rows to {tmp_path / 'a.jsonl.gz'}")
    lines = gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).decode().split("\n")
    assert [json.loads(line)["formula"] for line in lines if line] == [row[1] for row in ROWS]


def test_an_option_overrules_it(app: typer.Typer, tmp_path: Path) -> None:
    _run(app, "SELECT 1 AS x", "-o", str(tmp_path / "a.txt"), "--format", "csv")
    assert (tmp_path / "a.txt").read_text() == "x\n1\n"


def test_stdin_and_stdout(app: typer.Typer) -> None:
    assert _run(app, "-", "--format", "csv", stdin="SELECT 1 AS x").stdout == "x\n1\n"
    assert _run(app, "SELECT 1 AS x", "--format", "jsonl", "-o", "-").stdout == '{"x": 1}\n'


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([QUERY], 2, "say which format"),
        ([QUERY, "-o", "a.txt"], 2, "say which format"),
        ([QUERY, "-o", "a.md"], 2, "say which format"),
        (["DROP TABLE entry", "-o", "a.csv"], 6, "DROP is refused"),
        (
            ["SELECT * FROM range(10000000000)", "-o", "a.csv", "--timeout", "0.3"],
            6,
            "stopped after",
        ),
    ],
)
def test_failures(
    app: typer.Typer,
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = _run(app, *arguments)
    assert ended.exit_code == code
    assert said in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
