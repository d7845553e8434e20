"""Rows as a table on a terminal, or as aligned text anywhere."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any

from gandb.query.values import plain

if TYPE_CHECKING:
    from rich.console import Console

_DIGITS = 6  # significant digits of numbers on a terminal
_NARROWEST = 8  # characters a column needs before rows are shown one under the other
_SAMPLED = 1_000  # rows that decide the column widths of aligned text


def print_table(
    console: Console,
    names: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    right: Sequence[bool],
    title: str | None = None,
) -> None:
    """Print rows to fit the terminal; too many columns are printed as records, one a line.

    Args:
        console: where.
        names: column names.
        rows: their values.
        right: which columns are aligned to the right.
        title: a line above.
    """
    if len(names) * (_NARROWEST + 2) > console.width and len(names) > 2:
        _records(console, names, rows, title)
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title_justify="left")
    table.title = None if title is None else Text(title, "italic")
    for name, to_right in zip(names, right, strict=True):
        table.add_column(
            Text(plain(name)),
            justify="right" if to_right else "left",
            overflow="ellipsis",
            no_wrap=True,
        )
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def write_aligned(
    out: IO[str],
    names: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    right: Sequence[bool],
) -> int:
    """Write rows as aligned text, without borders and whatever the width.

    The first thousand rows decide the widths; a longer value later shifts its line.

    Returns:
        The number of rows.
    """
    texts = ([plain(value) for value in row] for row in rows)
    sample = list(itertools.islice(texts, _SAMPLED))
    heads = [plain(name) for name in names]
    widths = [max(map(len, column)) for column in zip(heads, *sample, strict=True)]
    count = -1
    for row in itertools.chain([heads], sample, texts):
        padded = (
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(row, widths, right, strict=True)
        )
        out.write("  ".join(padded).rstrip() + "\n")
        count += 1
    return count


def _records(
    console: Console, names: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None
) -> None:
    from rich.text import Text

    width = max(map(len, names))
    if title:
        console.print(Text(title, "italic"))
    for number, row in enumerate(rows, 1):
        console.print(Text(f"row {number}", "bold"))
        for name, value in zip(names, row, strict=True):
            console.print(Text(plain(name).ljust(width) + "  ", "cyan") + _cell(value))


def _cell(value: Any) -> Any:
    from rich.text import Text

    return Text("NULL", "dim") if value is None else Text(plain(value, _DIGITS))
