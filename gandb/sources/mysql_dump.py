"""Dumps of MySQL and MariaDB, read as a stream of columns without a server.

What ``mysqldump`` writes (https://dev.mysql.com/doc/refman/8.4/en/mysqldump.html): CREATE TABLE
tells the order of columns, INSERT (or REPLACE) statements of any number of rows hold the data.
Memory does not grow with the dump: a block is held at a time, and more only for a longer row.

Strings must have backslash escapes, as they do unless the server ran with
``NO_BACKSLASH_ESCAPES``. A fault costs its row; where rows cannot be told apart any more, the rest
of its statement.
"""

from __future__ import annotations

import lzma
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from gandb.sources import _mysql_kernel as kernel
from gandb.sources.mysql_cells import column
from gandb.sources.records import MAX_RAW

BLOCK = 2 << 20
"""Bytes held at a time."""
MAX_ROW = 64 << 20
"""Longest row, bytes: a server takes no longer statement unless it is told to."""
MAX_HEAD = 1 << 20
"""Longest CREATE TABLE, or INSERT up to its rows, bytes: a table has at most 4,096 columns, whose
names have at most 64 characters."""

_ROWS = 65_536  # rows found at a time
_NAME = rb'(?:`(?:[^`]|``)*`|"(?:[^"]|"")*"|[0-9A-Za-z_$\x80-\xff]+)'
_TABLE = rb"(?:" + _NAME + rb"\s*\.\s*)?(" + _NAME + rb")\s*"
_CREATE = re.compile(rb"(?i)CREATE\s+(?:TEMPORARY\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?" + _TABLE)
_INSERT = re.compile(
    rb"(?i)(?:INSERT|REPLACE)\s+(?:(?:LOW_PRIORITY|DELAYED|HIGH_PRIORITY|IGNORE)\s+)*(?:INTO\s+)?"
    + _TABLE
)
_COLUMNS = re.compile(
    rb"(?i)(?:\(\s*(" + _NAME + rb"(?:\s*,\s*" + _NAME + rb")*)?\s*\)\s*)?VALUES?\s*(?=\()"
)
_AFTER_ROWS = re.compile(rb"(?i)(?:ON\s+DUPLICATE|AS\s)")
_NO_COLUMN = re.compile(
    rb"(?i)(?:PRIMARY|KEY|UNIQUE|INDEX|CONSTRAINT|FOREIGN|FULLTEXT|SPATIAL|CHECK|PERIOD)\b"
)
_DELIMITER = re.compile(rb"(?i)DELIMITER\s")
_ANY_NAME = re.compile(_NAME)
_BEGINS = (b"-- MySQL dump", b"-- MariaDB dump")
_ENDS = b"-- Dump completed"
_SPACE = re.compile(rb"[\s;]*")
_ENDS_IN = {kernel.CUT: "after a row", kernel.MORE: "within a row"}


@dataclass(frozen=True)
class Table:
    """A wanted table is defined here.

    Attributes:
        name: as it was asked for.
        columns: of the table, in lower case.
        line: of the dump, from 1.
    """

    name: str
    columns: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Rows:
    """n rows of a wanted table.

    Attributes:
        table: as it was asked for.
        batch: n rows of the wanted columns; null where the table has no such column.
        lines: int64 (n,), the line on which each row begins, from 1.
    """

    table: str
    batch: pa.RecordBatch
    lines: np.ndarray


@dataclass(frozen=True)
class Fault:
    """What could not be read.

    Attributes:
        table: the wanted table that it belongs to; None if that cannot be told.
        line: of the dump, from 1.
        reason: what is wrong.
        raw: the text, its first thousand characters.
        row: whether it is exactly one row that is lost.
    """

    table: str | None
    line: int
    reason: str
    raw: str = ""
    row: bool = False


def read_dump(
    stream: BinaryIO, wanted: Mapping[str, pa.Schema], block: int = BLOCK
) -> Iterator[Table | Rows | Fault]:
    """Read tables of a dump, in the order of the dump.

    Names of tables and columns are told apart without case. See `gandb.sources.mysql_cells` for
    what becomes of cells.

    Args:
        stream: the dump, unpacked.
        wanted: table to the columns to read; string, binary, integer or floating types.
        block: bytes held at a time.
    """
    return _Dump(_Buffer(stream, block), wanted).read()


class _Buffer:
    """A window of a stream that moves on.

    Attributes:
        data: the bytes; those from ``at`` up to ``end`` are still to be read.
        view: the same as uint8.
        final: whether the stream has ended.
        problem: why it ended before its end.
    """

    def __init__(self, stream: BinaryIO, block: int) -> None:
        self._stream = stream
        self._block = block
        self._lines = 1  # line of the place that lines are counted up to
        self._counted = 0
        self.data = bytearray(block)
        self.view = np.frombuffer(self.data, np.uint8)
        self.at = 0
        self.end = 0
        self.final = False
        self.problem = ""

    def more(self) -> bool:
        """Read on, and forget what was read; whether anything came."""
        if self.final:
            return False
        self.line(self.at)
        self._counted -= self.at
        rest = self.data[self.at : self.end]
        size = max(self._block, 2 * len(rest))
        if size != len(self.data):
            self.data = bytearray(size)
            self.view = np.frombuffer(self.data, np.uint8)
        self.data[: len(rest)] = rest
        self.at, self.end = 0, len(rest)
        while self.end < size:
            try:
                got = self._read(memoryview(self.data)[self.end :])
            except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
                self.problem = f": {error}"
                got = 0
            if not got:
                self.final = True
                break
            self.end += got
        return self.end > len(rest)

    def _read(self, room: memoryview) -> int:
        """Read into a place; returns how many bytes came, 0 at the end."""
        if hasattr(self._stream, "readinto"):
            return self._stream.readinto(room) or 0
        got = self._stream.read(len(room))
        room[: len(got)] = got
        return len(got)

    def hold(self, length: int) -> None:
        """Have so many bytes at hand, if the stream has them."""
        while self.end - self.at < length and self.more():
            pass

    def line(self, place: int) -> int:
        """Return the line of a place in the data, not before those asked for earlier."""
        self._lines += self.data.count(b"\n", self._counted, place)
        self._counted = place
        return self._lines

    def lines(self, places: np.ndarray) -> np.ndarray:
        """Return the lines of places in the data, int64 (n,), which ascend."""
        first, last = int(places[0]), int(places[-1])
        begin = self.line(first)
        if self.data.find(b"\n", first, last) < 0:
            return np.full(len(places), begin, np.int64)
        breaks = first + np.flatnonzero(self.view[first:last] == 10)
        return begin + np.searchsorted(breaks, places).astype(np.int64)

    def raw(self, place: int) -> str:
        """Return the text at a place, cut."""
        text = bytes(self.data[place : min(self.end, place + MAX_RAW)])
        return text.decode(errors="backslashreplace")

    def pass_over(self, mark: bytes) -> bool:
        """Go to behind the next such mark, else to the end of the stream."""
        while True:
            found = self.data.find(mark, self.at, self.end)
            if found >= 0:
                self.at = found + len(mark)
                return True
            self.at = max(self.at, self.end - len(mark) + 1)
            if not self.more():
                self.at = self.end
                return False

    def pass_statement(self) -> bool:
        """Go to behind the semicolon that ends a statement, else to the end of the stream."""
        state = 0
        while True:
            self.at, state = kernel.skip_statement(self.view, self.at, self.end, state)
            if state < 0:
                return True
            if not self.more():
                return False

    def pass_alike(self, head: int) -> bool:
        """Go to behind the statements at hand that begin as up to ``head``; whether one ended."""
        words = np.frombuffer(bytes(self.data[self.at : head]), np.uint8)
        before = self.at
        self.at = kernel.skip_alike(self.view, self.at, self.end, words)
        return self.at > before


class _Dump:
    """The statements of a dump."""

    def __init__(self, buffer: _Buffer, wanted: Mapping[str, pa.Schema]) -> None:
        self._buffer = buffer
        self._wanted = {name.lower(): (name, schema) for name, schema in wanted.items()}
        self._columns: dict[str, tuple[str, ...]] = {}
        self._open = 0  # the line on which mysqldump began what it has not said to be complete
        most = max((len(schema) for schema in wanted.values()), default=0)
        self._starts = np.empty((most, _ROWS), np.int32)
        self._stops = np.empty((most, _ROWS), np.int32)
        self._kinds = np.empty((most, _ROWS), np.uint8)
        self._rows = np.empty(_ROWS, np.int32)
        self._faults = np.empty(_ROWS, np.uint8)

    def read(self) -> Iterator[Table | Rows | Fault]:
        buffer = self._buffer
        while self._next_statement():
            line = buffer.line(buffer.at)
            if insert := _INSERT.match(buffer.data, buffer.at, buffer.end):
                name = _plain(insert[1])
                if name in self._wanted:
                    yield from self._insert(name, insert.end() - buffer.at)
                    continue
                if buffer.pass_alike(insert.end()):
                    continue
            elif create := _CREATE.match(buffer.data, buffer.at, buffer.end):
                name = _plain(create[1])
                if name in self._wanted:
                    yield from self._create(name, create.end() - buffer.at)
                    continue
            if not buffer.pass_statement():
                yield self._cut(None, line, "within a statement")
        if self._open:
            yield self._cut(None, buffer.line(buffer.end), "without saying that it is complete")

    def _next_statement(self) -> bool:
        """Go to the next statement, over blanks, comments and empty statements."""
        buffer = self._buffer
        while True:
            buffer.hold(4096)
            blank = _SPACE.match(buffer.data, buffer.at, buffer.end)
            buffer.at = blank.end() if blank else buffer.at
            if buffer.at == buffer.end:
                if buffer.final:
                    return False
                buffer.more()
                continue
            buffer.hold(4096)
            lead = bytes(buffer.data[buffer.at : min(buffer.at + 20, buffer.end)])
            if lead.startswith((b"--", b"#")) or _DELIMITER.match(lead):
                if lead.startswith(_BEGINS):
                    self._open = buffer.line(buffer.at)
                elif lead.startswith(_ENDS):
                    self._open = 0
                buffer.pass_over(b"\n")
            elif lead.startswith(b"/*"):
                buffer.pass_over(b"*/")
            elif lead.startswith(b"\xef\xbb\xbf"):
                buffer.at += 3
            else:
                return True

    def _cut(self, table: str | None, line: int, where: str) -> Fault:
        self._open = 0
        of = f" of table {table!r}" if table else ""
        reason = (
            f"the dump ends {where}{of}{self._buffer.problem}: it was cut off; "
            "what comes before was read; fetch it again to have all of it"
        )
        return Fault(table, line, reason)

    # --- tables --------------------------------------------------------------------------

    def _create(self, key: str, head: int) -> Iterator[Table | Fault]:
        buffer = self._buffer
        name = self._wanted[key][0]
        line = buffer.line(buffer.at)
        while True:
            place, state = kernel.skip_statement(buffer.view, buffer.at, buffer.end, 0)
            if state < 0 or buffer.end - buffer.at > MAX_HEAD or not buffer.more():
                break
        if state >= 0:
            if buffer.final:
                yield self._cut(name, line, "within the definition")
                buffer.at = buffer.end
            else:
                yield Fault(name, line, f"its definition takes more than {MAX_HEAD:,} bytes")
                buffer.pass_over(b";\n")
            return
        columns = _defined(bytes(buffer.data[buffer.at + head : place]))
        if columns:
            self._columns[key] = columns
            yield Table(name, columns, line)
        else:
            yield Fault(name, line, "its definition names no columns", buffer.raw(buffer.at))
        buffer.at = place

    def _insert(self, key: str, head: int) -> Iterator[Rows | Fault]:
        buffer = self._buffer
        name, schema = self._wanted[key]
        line = buffer.line(buffer.at)
        begin = _COLUMNS.match(buffer.data, buffer.at + head, buffer.end)
        while begin is None and buffer.end - buffer.at < MAX_HEAD and buffer.more():
            begin = _COLUMNS.match(buffer.data, buffer.at + head, buffer.end)
        columns = self._columns.get(key)
        reason = ""
        if begin is None:
            reason = "no VALUES follow INSERT INTO"
        elif begin[1]:
            columns = tuple(_plain(part) for part in _ANY_NAME.findall(begin[1]))
        elif columns is None:
            reason = "no CREATE TABLE comes before it that would name its columns"
        if begin is None or columns is None:
            raw = buffer.raw(buffer.at)
            if not buffer.pass_statement():
                yield self._cut(name, line, "within a statement")
            else:
                yield Fault(name, line, f"rows of {name!r} were left out: {reason}", raw)
            return
        places = {column: place for place, column in enumerate(schema.names)}
        slots = np.array([places.get(column, -1) for column in columns], np.int64)
        words = np.frombuffer(bytes(buffer.data[buffer.at : begin.end()]), np.uint8)
        buffer.at = begin.end()
        yield from self._values(name, schema, slots, words)

    def _values(
        self, name: str, schema: pa.Schema, slots: np.ndarray, words: np.ndarray
    ) -> Iterator[Rows | Fault]:
        buffer = self._buffer
        while True:
            status, n, place = kernel.scan_rows(
                buffer.view, buffer.at, buffer.end, buffer.final, slots, words,
                self._starts, self._stops, self._kinds, self._rows, self._faults,
            )  # fmt: skip
            if n:
                yield from self._found(name, schema, slots, n)
            buffer.at = place
            if status == kernel.DONE:
                return
            if status == kernel.FULL:
                continue
            if status == kernel.MORE and not buffer.final:
                if buffer.end - place <= MAX_ROW:
                    buffer.more()
                    continue
                status, reason = kernel.BROKEN, f"a row takes more than {MAX_ROW:,} bytes"
            elif status in _ENDS_IN:
                yield self._cut(name, buffer.line(place), _ENDS_IN[status])
                buffer.at = buffer.end
                return
            elif status == kernel.TAIL and _AFTER_ROWS.match(buffer.data, place, buffer.end):
                if not buffer.pass_statement():
                    yield self._cut(name, buffer.line(buffer.at), "within a statement")
                return
            else:
                reason = "no row, comma or semicolon follows a row"
            yield Fault(
                name,
                buffer.line(place),
                f"the rest of a statement of {name!r} was left out: {reason}",
                buffer.raw(place),
            )
            buffer.pass_over(b";\n")  # strings hold no line breaks where mysqldump wrote them
            return

    # --- rows ----------------------------------------------------------------------------

    def _found(
        self, name: str, schema: pa.Schema, slots: np.ndarray, n: int
    ) -> Iterator[Rows | Fault]:
        buffer = self._buffer
        lines = buffer.lines(self._rows[:n])
        sound = self._faults[:n] == kernel.SOUND
        reasons = {
            row: _ROW_REASONS[int(self._faults[row])].format(len(slots))
            for row in np.flatnonzero(~sound).tolist()
        }
        arrays = []
        there = set(slots.tolist())
        for slot, field in enumerate(schema):
            if slot not in there:
                arrays.append(pa.nulls(n, field.type))
                continue
            cells = self._starts[slot, :n], self._stops[slot, :n], self._kinds[slot, :n]
            arrays.append(column(buffer.view, field, sound, reasons, *cells))
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        if sound.all():
            yield Rows(name, batch, lines)
            return
        for k in np.flatnonzero(~sound).tolist():
            raw = buffer.raw(int(self._rows[k]))
            reason = f"row of {name!r}: {reasons[k]}"
            yield Fault(name, int(lines[k]), reason, raw, row=True)
        if sound.any():
            yield Rows(name, batch.filter(pa.array(sound)), lines[sound])


_ROW_REASONS = {
    kernel.SYNTAX: "a value is none of SQL's",
    kernel.WIDTH: "it has not the {} values that its table has columns",
}


def _plain(name: bytes) -> str:
    """Return a name without quotes, in lower case."""
    text = name.decode(errors="replace")
    if text[:1] in '`"':
        text = text[1:-1].replace(text[0] * 2, text[0])
    return text.lower()


def _defined(text: bytes) -> tuple[str, ...]:
    """Return the columns that CREATE TABLE defines, given what follows the table's name."""
    columns = []
    depth = 0
    at = 0
    due = False
    token = re.compile(rb"'(?:[^'\\]|\\.|'')*'|/\*.*?\*/|" + _NAME + rb"|[(),]", re.DOTALL)
    while match := token.search(text, at):
        at = match.end()
        found = match[0]
        if found.startswith((b"/*", b"'")):
            continue
        if found == b"(":
            depth += 1
            due = depth == 1
        elif found == b")":
            depth -= 1
            if depth == 0:
                break
        elif found == b",":
            due = depth == 1
        elif due:
            if found[:1] in b'`"' or not _NO_COLUMN.match(found):
                columns.append(_plain(found))
            due = False
    return tuple(columns)
