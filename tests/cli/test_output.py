"""Data goes to stdout, everything else to stderr, and failures end as they should."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from typing import Any

import pytest
import typer

from gandb.cli import output
from gandb.core.errors import NotFoundError, QueryError

ROWS: list[dict[str, Any]] = [
    {"name": "oqmd", "entries": 341700, "gap": 1.25, "note": None, "bad": float("nan")},
    {"name": "m\x1b[31mp", "entries": 7, "gap": 0.333333333, "note": "ok", "bad": 1.0},
]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit(ROWS, as_json=True, columns=["name"])
    shown = json.loads(capsys.readouterr().out)
    assert shown == [{**ROWS[0], "bad": None}, ROWS[1]]
    output.emit([], as_json=True)
    assert json.loads(capsys.readouterr().out) == []


def test_text_is_aligned_and_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit(ROWS, as_json=False, columns=["name", "entries", "note"])
    assert capsys.readouterr().out == (
        "name        entries  note\noqmd         341700\nm\\x1b[31mp        7  ok\n"
    )
    output.emit([], as_json=False, columns=["name"])
    assert capsys.readouterr().out == "name\n"
    output.emit([], as_json=False)
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_a_table_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    output.emit([{"a": "x" * 100, "b": 1}], as_json=False, title="things [b]")
    shown = screen.getvalue()
    assert "things [b]" in shown
    assert "…" in shown
    wide = {f"column_{i}": i for i in range(12)}
    output.emit([wide], as_json=False)
    assert "column_11" in screen.getvalue()
    assert "\x1b[31mp" not in shown


def test_failures_end_with_their_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (QueryError("no such thing"), NotFoundError("gone")):
        with pytest.raises(typer.Exit) as caught, output.failures_reported():
            raise error
        assert caught.value.exit_code == error.exit_code
        assert capsys.readouterr() == ("", f"error: {error}\n")


def test_ctrl_c_ends_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, output.failures_reported():
        raise KeyboardInterrupt
    assert caught.value.exit_code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_defect_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), output.failures_reported():
        print(1 // 0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_progress_is_plain_lines_elsewhere(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with output.progress("importing", 3000, unit="rows") as advance:
        advance(1000)
        clock[0] += 10
        advance(1000)
        clock[0] += 1
        advance(1000)
    assert capsys.readouterr() == (
        "",
        "importing: 2,000/3,000 rows (10 s)\nimporting: 3,000/3,000 rows (11 s)\n",
    )


def test_progress_is_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with output.progress("training [x]", 10, unit="steps") as advance:
        advance(4)
    assert "training [x]" in screen.getvalue()
    assert "4/10 steps" in screen.getvalue()
    assert capsys.readouterr().out == ""


def test_commands_load_nothing_heavy() -> None:
    script = (
        "import sys, gandb.cli.sql, gandb.cli.export, gandb.cli.output\n"
        "heavy = {'duckdb', 'numpy', 'prompt_toolkit', 'psycopg', 'pyarrow', 'sqlalchemy'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\n"
