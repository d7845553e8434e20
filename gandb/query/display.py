"""Show a result to a person: a table on a terminal, plain aligned text elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from gandb.query.result import Result
from gandb.query.tables import print_table
from gandb.query.values import plain, printable

if TYPE_CHECKING:
    from rich.console import Console

_COUNTED = 100_000  # rows counted beyond those shown, before saying "more than"
_SAMPLED = 1_000  # rows that decide the column widths of plain text


@dataclass(frozen=True)
class Shown:
    """What a display came to.

    Attributes:
        shown: rows displayed.
        total: rows of the result, as far as counted.
        complete: False if there are more than ``total``.
    """

    shown: int
    total: int
    complete: bool = True

    def __str__(self) -> str:
        """Say it, as in ``showing 40 of 1,234 rows``."""
        total = f"{self.total:,}" if self.complete else f"more than {self.total:,}"
        if self.complete and self.shown == self.total:
            return f"{total} row{'' if self.total == 1 else 's'}"
        return f"showing {self.shown:,} of {total} rows"


def on_terminal(result: Result, console: Console, limit: int) -> Shown:
    """Print at most ``limit`` rows (0: all) to fit the terminal's width."""
    if result.plan:
        return _plan(result, lambda line: console.print(line, markup=False, highlight=False))
    rows = _rows(result)
    head = list(itertools.islice(rows, limit or None))
    print_table(console, result.schema.names, head, right=_numeric(result.schema))
    rest = sum(1 for _ in itertools.islice(rows, _COUNTED + 1))
    if rest > _COUNTED:
        return Shown(len(head), _COUNTED, complete=False)
    return Shown(len(head), len(head) + rest)


def as_text(result: Result, out: IO[str]) -> Shown:
    """Write all rows as aligned text, without borders and whatever the width."""
    if result.plan:
        return _plan(result, lambda line: print(line, file=out))
    rows = ([plain(value) for value in row] for row in _rows(result))
    sample = list(itertools.islice(rows, _SAMPLED))
    names = [plain(name) for name in result.schema.names]
    widths = [max(map(len, column)) for column in zip(names, *sample, strict=True)]
    right = _numeric(result.schema)
    count = -1
    for row in itertools.chain([names], sample, rows):
        out.write(_aligned(row, widths, right))
        count += 1
    return Shown(count, count)


def _rows(result: Result) -> Iterator[tuple[Any, ...]]:
    for batch in result.batches:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _numeric(schema: pa.Schema) -> list[bool]:
    kinds = [field.type for field in schema]
    return [
        pa.types.is_integer(k) or pa.types.is_floating(k) or pa.types.is_decimal(k) for k in kinds
    ]


def _aligned(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (
        text.rjust(width) if to_right else text.ljust(width)
        for text, width, to_right in zip(row, widths, right, strict=True)
    )
    return "  ".join(padded).rstrip() + "\n"


def _plan(result: Result, show: Callable[[str], None]) -> Shown:
    """Print the lines of a query plan as they are."""
    count = 0
    for row in _rows(result):
        for line in plain_lines(str(row[-1])):
            show(line)
            count += 1
    return Shown(count, count)


def plain_lines(text: str) -> list[str]:
    """Split text into lines without control characters."""
    return [printable(line) for line in text.split("\n")]
