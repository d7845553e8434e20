"""The headers of Parquet's pages, read for themselves.

They are structures of Thrift's compact protocol, before each page:
https://parquet.apache.org/docs/file-format/data-pages/,
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

DATA_PAGE = 0
DICTIONARY_PAGE = 2
_HEADER = 1 << 12
"""Bytes of a header at most; statistics in it are short."""
_LONGEST_HEADER = 1 << 20
_DEPTH = 8
_KIND, _UNCOMPRESSED, _COMPRESSED, _DATA, _DICTIONARY = 1, 2, 3, 5, 7
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 0, 1, 2, 3, 7, 8, 12
_VARINTS = (4, 5, 6)


class PageError(Exception):
    """A header that cannot be one."""


@dataclass(frozen=True)
class PageHeader:
    """What the header of a page says.

    Attributes:
        kind: 0 data, 1 index, 2 dictionary, 3 data of version 2.
        header_size: bytes of the header itself.
        uncompressed_size: bytes of the page when it is decompressed.
        compressed_size: bytes of the page as it lies in the file.
        n_values: values, nulls included.
    """

    kind: int
    header_size: int
    uncompressed_size: int
    compressed_size: int
    n_values: int


def page_headers(handle: IO[bytes], begin: int, length: int) -> Iterator[PageHeader]:
    """Yield the headers of a column's pages.

    Args:
        handle: the file.
        begin: where the first page is.
        length: bytes of all pages with their headers.

    Raises:
        PageError: a header is malformed, or the pages do not fill these bytes exactly.
    """
    place, end = begin, begin + length
    while place < end:
        header = _header_at(handle, place, min(end - place, _HEADER), end - place)
        place += header.header_size + header.compressed_size
        if place > end:
            raise PageError(f"a page of {header.compressed_size} bytes leaves its column")
        yield header


def _header_at(handle: IO[bytes], place: int, wanted: int, longest: int) -> PageHeader:
    handle.seek(place)
    data = handle.read(wanted)
    try:
        return _header(data)
    except IndexError:
        if wanted >= min(longest, _LONGEST_HEADER):
            raise PageError("the header of a page is cut off") from None
        return _header_at(handle, place, min(longest, _LONGEST_HEADER), longest)


def _header(data: bytes) -> PageHeader:
    reader = _Reader(data)
    fields = reader.struct(0)
    about = fields.get(_DICTIONARY if fields.get(_KIND) == DICTIONARY_PAGE else _DATA, {})
    numbers = [fields.get(n) for n in (_KIND, _UNCOMPRESSED, _COMPRESSED)]
    numbers.append(about.get(1, 0) if isinstance(about, dict) else None)
    kind, uncompressed, compressed, n_values = (n if isinstance(n, int) else -1 for n in numbers)
    if min(kind, uncompressed, compressed, n_values) < 0:
        raise PageError("the header of a page lacks its kind, its sizes or its number of values")
    return PageHeader(kind, reader.place, uncompressed, compressed, n_values)


class _Reader:
    """Thrift's compact protocol. Reading past the end raises IndexError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.place = 0

    def _byte(self) -> int:
        value = self._data[self.place]
        self.place += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise PageError("a number in the header of a page is too long")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, length: int) -> None:
        if length > _LONGEST_HEADER:
            raise PageError(f"the header of a page holds {length} bytes in one place")
        self.place += length
        if self.place > len(self._data):
            raise IndexError

    def struct(self, depth: int) -> dict[int, Any]:
        """Read a structure; return its numbers and structures by the number of the field."""
        if depth > _DEPTH:
            raise PageError("the header of a page is nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while True:
            head = self._byte()
            kind = head & 0x0F
            if kind == _STOP:
                return fields
            number = number + (head >> 4) if head >> 4 else self._integer()
            if number in fields:
                raise PageError("the header of a page states something twice")
            fields[number] = self._value(kind, depth)

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind in _VARINTS:
            return self._integer()
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind == _BYTE:
            self._skip(1)
        elif kind == _DOUBLE:
            self._skip(8)
        elif kind == _BINARY:
            self._skip(self._varint())
        else:
            raise PageError(f"the header of a page holds what none does (kind {kind})")
        return None
