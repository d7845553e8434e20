"""Show a result to a person: a table on a terminal, plain aligned text elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from gandb.query.result import Result
from gandb.query.tables import print_table, write_aligned
from gandb.query.values import printable

if TYPE_CHECKING:
    from rich.console import Console

_COUNTED = 100_000  # rows counted beyond those shown, before saying "more than"


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
    count = write_aligned(out, result.schema.names, _rows(result), right=_numeric(result.schema))
    return Shown(count, count)


def _rows(result: Result) -> Iterator[tuple[Any, ...]]:
    for batch in result.batches:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _numeric(schema: pa.Schema) -> list[bool]:
    kinds = [field.type for field in schema]
    return [
        pa.types.is_integer(k) or pa.types.is_floating(k) or pa.types.is_decimal(k) for k in kinds
    ]


def _plan(result: Result, show: Callable[[str], None]) -> Shown:
    """Print the lines of a query plan as they are."""
    count = 0
    for row in _rows(result):
        for line in str(row[-1]).split("\n"):
            show(printable(line))
            count += 1
    return Shown(count, count)
