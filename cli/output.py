"""The habits all commands share: data on stdout, progress and messages on stderr.

Rich is loaded where it is used: ``gandb --help`` has no time for it.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, NoReturn

import typer

from gandb.core.errors import GandbError

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_EVERY = 10.0  # seconds between lines of progress where stderr is no terminal

Advance = Callable[[float], None]


class ReaderGoneError(Exception):
    """Who read stdout has closed it: there is nobody left to write for."""


def message(text: str) -> None:
    """Say something to the person at the terminal, on stderr."""
    print(text, file=sys.stderr, flush=True)


def fail(error: GandbError) -> NoReturn:
    """Report an expected failure on stderr and end with its exit code."""
    message(f"error: {error}")
    raise typer.Exit(error.exit_code)


@contextlib.contextmanager
def failures_reported() -> Iterator[None]:
    """End the command as its user expects when it fails, is interrupted, or its reader leaves.

    Expected failures go through `fail`; Ctrl-C ends with 130; a pipe closed by its reader
    (``gandb sql ... | head``) is no failure.
    """
    try:
        yield
        sys.stdout.flush()
    except GandbError as error:
        fail(error)
    except KeyboardInterrupt:
        message("interrupted")
        raise typer.Exit(130) from None
    except (BrokenPipeError, ReaderGoneError):
        # What is still buffered has nowhere to go, and Python would complain about it at exit.
        with contextlib.suppress(OSError):
            sys.stdout.close()
        raise typer.Exit(0) from None


def console(stream: IO[str] | None = None) -> Console:
    """Return a Rich console for a stream; stdout by default."""
    from rich.console import Console

    return Console(file=stream or sys.stdout, highlight=False)


def emit(
    rows: Sequence[Mapping[str, Any]],
    *,
    as_json: bool,
    columns: Sequence[str] | None = None,
    title: str | None = None,
) -> None:
    """Print rows on stdout: JSON, a table on a terminal, or aligned text elsewhere.

    Args:
        rows: one mapping per row.
        as_json: print a JSON array of objects with every key.
        columns: which keys a table shows, in order; those of the first row by default.
        title: a line above a table on a terminal.
    """
    from gandb.query.values import jsonable

    if as_json:
        array = [{key: jsonable(value) for key, value in row.items()} for row in rows]
        print(json.dumps(array, indent=2, ensure_ascii=False))
        return
    names = list(columns) if columns is not None else list(rows[0]) if rows else []
    if not names:
        return
    values = [[row.get(name) for name in names] for row in rows]
    right = [_numeric([row[i] for row in values]) for i in range(len(names))]
    from gandb.query import tables

    if sys.stdout.isatty():
        tables.print_table(console(), names, values, right=right, title=title)
    else:
        tables.write_aligned(sys.stdout, names, values, right=right)


def _numeric(values: Sequence[Any]) -> bool:
    present = [value for value in values if value is not None]
    return bool(present) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in present
    )


@contextlib.contextmanager
def progress(label: str, total: float | None = None, *, unit: str = "") -> Iterator[Advance]:
    """Show how far something is, on stderr.

    A bar on a terminal, elsewhere a line every ten seconds and one at the end.

    Args:
        label: what is going on.
        total: how much there is to do; None if unknown.
        unit: of what, in the plural.

    Yields:
        A function to call with how much more has been done.
    """
    if sys.stderr.isatty():
        with _bar(label, total, unit) as advance:
            yield advance
        return
    yield from _lines(label, total, unit)


@contextlib.contextmanager
def _bar(label: str, total: float | None, unit: str) -> Iterator[Advance]:
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    amount = "{task.completed:,.0f}" + ("" if total is None else "/{task.total:,.0f}")
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn(f"{amount} {unit}".rstrip()),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console(sys.stderr),
    ) as bars:
        task = bars.add_task(label, total=total)
        yield lambda amount: bars.advance(task, amount)


def _lines(label: str, total: float | None, unit: str) -> Iterator[Advance]:
    start = spoken = time.monotonic()
    done = 0.0

    def state() -> str:
        share = f"{done:,.0f}" + ("" if total is None else f"/{total:,.0f}")
        return f"{label}: {share} {unit}".rstrip() + f" ({time.monotonic() - start:.0f} s)"

    def advance(amount: float) -> None:
        nonlocal done, spoken
        done += amount
        if time.monotonic() - spoken >= _PLAIN_EVERY:
            message(state())
            spoken = time.monotonic()

    yield advance
    message(state())
