"""Rows of CSV and TSV files, one by one, in the memory of one row.

RFC 4180, with blank lines and, before the names of the columns, ``#`` comments. Where the quotes of
a row are wrong, reading goes on at the next line that is a good row; what is between is that row's.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

from gandb.core.errors import InputError

MAX_LINE = 16 * 2**20
"""Most bytes of one line."""
MAX_ROW = 32 * 2**20
"""Most characters of one row."""
MAX_ROW_LINES = 50_000
"""Most lines of one row: a CIF of 10,000 sites has about as many."""

_MARKS = (b"\xff\xfe", b"\xfe\xff")


class RowError(InputError):
    """A row that cannot be split into its columns.

    Attributes:
        line: its line, from 1.
        raw: its text.
        quotes: whether its quotes are wrong, so that its end is not known.
    """

    def __init__(self, line: int, reason: str, raw: str, *, quotes: bool = False) -> None:
        super().__init__(reason)
        self.line = line
        self.raw = raw
        self.quotes = quotes


def header_of(head: bytes, delimiter: str) -> list[str]:
    """Return the names of the columns from the beginning of a file; empty if there are none."""
    text = head.removeprefix(b"\xef\xbb\xbf").decode(errors="replace")
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                return [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
            except (csv.Error, StopIteration):
                return []
    return []


def rows(stream: BinaryIO, delimiter: str) -> Iterator[tuple[int, dict[str, str]] | RowError]:
    """Yield each row with the line on which it begins, or the error that it is.

    Raises:
        InputError: there are no names of columns, or one is there twice.
    """
    if csv.field_size_limit() < MAX_ROW:
        csv.field_size_limit(MAX_ROW)
    names: list[str] = []
    lost = False  # within a row whose end is not known
    short = False  # behind a row that has too few fields
    for found in _records(_lines(stream), delimiter):
        if isinstance(found, RowError):
            if not names:
                raise found
            if not (lost or (short and found.quotes)):
                yield found
            lost = lost or found.quotes
            continue
        line, cells, raw = found
        if not names:
            names = [cell.strip() for cell in cells]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise InputError(f"line {line}: column {twice[0]!r} is there twice")
        elif len(cells) != len(names):
            # A line without a delimiter is the rest of a text whose first quote is missing.
            if not (lost or (short and len(cells) == 1)):
                yield RowError(line, f"{len(cells)} fields where {len(names)} are named", raw)
            short = len(cells) < len(names)
        else:
            lost = short = False
            yield line, dict(zip(names, cells, strict=True))
    if not names:
        raise InputError("is empty; its first line must name the columns")


def _lines(stream: BinaryIO) -> Iterator[str | None]:
    """Yield lines with their ends, None for one that is too long; other bytes as surrogates."""
    first = True
    while line := stream.readline(MAX_LINE):
        if first:
            if line.startswith(_MARKS):
                raise InputError("is UTF-16; save it as UTF-8")
            line = line.removeprefix(b"\xef\xbb\xbf")
            first = False
        if len(line) == MAX_LINE and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE)
            yield None
        else:
            yield line.decode("utf-8", "surrogateescape")


def _records(
    lines: Iterator[str | None], delimiter: str
) -> Iterator[tuple[int, list[str], str] | RowError]:
    """Yield the line, the cells and the text of every row, the names of the columns first."""
    waiting: deque[str | None] = deque()  # lines that were read ahead
    number = 0
    begun = False
    while True:
        line = waiting.popleft() if waiting else next(lines, "")
        if line == "":
            return
        number += 1
        if line is None:
            yield RowError(number, f"a line of more than {MAX_LINE:,} bytes", "")
            continue
        if not line.strip() or (not begun and line.lstrip().startswith("#")):
            continue
        begun = True
        taken = [line]
        quotes = line.count('"')
        size = len(line)
        ahead = 0
        while quotes % 2 and len(taken) < MAX_ROW_LINES and size < MAX_ROW:
            if ahead < len(waiting):
                more = waiting[ahead]
            else:
                more = next(lines, "")
                if more != "":
                    waiting.append(more)
            if not more:
                break
            ahead += 1
            taken.append(more)
            quotes += more.count('"')
            size += len(more)
        try:
            cells = _cells(taken, quotes, delimiter)
        except csv.Error as error:
            yield RowError(number, str(error), _visible(line), quotes=True)
            continue
        for _ in range(ahead):
            waiting.popleft()
        raw = _visible("".join(taken))
        if all(map(_is_text, cells)):
            yield number, cells, raw
        else:
            yield RowError(number, "it has bytes that are not UTF-8", raw)
        number += ahead


def _cells(taken: list[str], quotes: int, delimiter: str) -> list[str]:
    if quotes % 2:
        raise csv.Error("a quote is not closed")
    taken[-1] = taken[-1].removesuffix("\n").removesuffix("\r")
    if not quotes:
        cells = taken[0].split(delimiter)
    else:
        found = list(csv.reader(taken, delimiter=delimiter, strict=True))
        if len(found) != 1:
            raise csv.Error("its quotes are misplaced")
        cells = found[0]
    return cells


def _is_text(cell: str) -> bool:
    return cell.isascii() or not any("\udc80" <= c <= "\udcff" for c in cell)


def _visible(text: str) -> str:
    return text[:2_000].encode(errors="surrogateescape").decode(errors="backslashreplace")
