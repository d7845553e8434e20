"""A query's result to where the user wants it: terminal, pipe or file."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from gandb.cli.output import ReaderGoneError, console, message
from gandb.core.errors import GandbError, UsageError
from gandb.query import display
from gandb.query.formats import FileFormat, format_of, save, stream
from gandb.query.readonly import run
from gandb.query.result import Limits, ReadableStore, Result

TABLE = "table"


def deliver(
    store: ReadableStore,
    statement: str,
    *,
    limits: Limits,
    output: Path | None = None,
    name: str | None = None,
    rows: int = 0,
) -> None:
    """Run a statement and write its rows.

    Args:
        store: where to ask.
        statement: one that reads.
        limits: of the query.
        output: a file; None or ``-`` is stdout.
        name: ``table`` or a `FileFormat`; None goes by the file's ending.
        rows: how many a table on a terminal shows; 0 shows all.

    Raises:
        QueryError: the statement is refused or fails.
        UsageError: the format does not suit the output.
    """
    if output is not None and str(output) == "-":
        output = None
    if name is None:
        guessed = None if output is None else format_of(output)
        name = guessed.value if guessed is not None else TABLE
    if output is not None:
        if name == TABLE:
            raise UsageError(
                f"{output}: say which format (--format csv, json, jsonl, parquet, md), "
                "or end the name in one of them"
            )
        start = time.monotonic()
        with run(store, statement, limits) as result:
            count = save(result, output, FileFormat(name))
        rows_written = f"{count:,} row{'' if count == 1 else 's'}"
        message(f"wrote {rows_written} to {output} ({time.monotonic() - start:.1f} s)")
        return
    if name == FileFormat.PARQUET and sys.stdout.isatty():
        raise UsageError("Parquet is no text: give a file (--output FILE) or a pipe")
    with run(store, statement, limits) as result:
        shown = show(result, name, rows)
    if shown.shown < shown.total:
        message(f"{shown} (--limit 0 shows all, --output FILE writes them)")


def show(result: Result, name: str, rows: int) -> display.Shown:
    """Write a result to stdout and return how much of it was shown.

    Args:
        result: the rows.
        name: ``table`` or a `FileFormat`.
        rows: how many a table on a terminal shows; 0 shows all.

    Raises:
        ReaderGoneError: the other end of the pipe is closed.
        GandbError: stdout takes no more.
    """
    try:
        return _show(result, name, rows)
    except BrokenPipeError as error:
        raise ReaderGoneError from error
    except OSError as error:
        raise GandbError(f"cannot write to stdout: {error.strerror or error}") from error


def _show(result: Result, name: str, rows: int) -> display.Shown:
    if name != TABLE:
        sys.stdout.flush()
        count = stream(result, sys.stdout.buffer, FileFormat(name))
        sys.stdout.buffer.flush()
        return display.Shown(count, count)
    if not sys.stdout.isatty():
        shown = display.as_text(result, sys.stdout)
        sys.stdout.flush()
        return shown
    return display.on_terminal(result, console(), rows)
