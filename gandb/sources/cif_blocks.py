"""The text of CIFs: blocks split from a stream, their tags and values, and faults that are mended.

CIF 1.1, https://www.iucr.org/resources/cif/spec/version1.1 (S. R. Hall, F. H. Allen and
I. D. Brown, Acta Cryst. A47, 655 (1991), doi:10.1107/S010876739101067X).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from itertools import islice, pairwise
from typing import Any, BinaryIO

from gandb.core.errors import InputError, MissingExtraError

MAX_BLOCK_BYTES = 2**25
"""Most bytes of one block (32 MiB); one with 10,000 atoms has about 1 MiB."""

_FAULT = re.compile(r"string:(\d+)(?::\d+\(\d+\))?:?(?: in .*?:)?\s*(.*)", re.DOTALL)
_START = re.compile(rb"[ \t]*data_", re.IGNORECASE)
_STARTS = re.compile(rb"^[ \t]*data_", re.IGNORECASE | re.MULTILINE)
_TEXT_MARK = re.compile(rb"^;", re.MULTILINE)
_COMMENTS = re.compile(rb"(?:[ \t\r]*(?:#[^\n]*)?(?:\n|\Z))*+")
_LINE_BYTES = 2**20
_VITAL = ("_cell_", "_atom_site", "_symmetry_", "_space_group_", "_atom_type_")


@dataclass(frozen=True)
class Block:
    """One data block.

    Attributes:
        name: what follows ``data_``.
        values: tag, in lower case with ``_`` for ``.``, to its values: one, or those of its loop.
    """

    name: str
    values: dict[str, list[str]] = field(repr=False)

    def column(self, *tags: str) -> list[str] | None:
        """Return the values, quotes and all, of the first tag that is there."""
        for tag in tags:
            if (found := self.values.get(tag)) is not None:
                return found
        return None

    def text(self, *tags: str) -> str | None:
        """Return the first value, unquoted, of the first tag that has one."""
        for tag in tags:
            for value in self.values.get(tag, ())[:1]:
                if (said := unquoted(value)) is not None:
                    return said
        return None

    def texts(self, *tags: str) -> list[str | None]:
        """Return all values, unquoted, of the first tag that is there."""
        return [unquoted(value) for value in self.column(*tags) or ()]


def unquoted(value: str) -> str | None:
    """Return a value without its quotes and outer blanks; None for ``?``, ``.`` and nothing."""
    if value in ("?", "."):
        return None
    if value[:1] == ";":
        value = value[1:].rpartition("\n")[0]
    elif value[:1] in "'\"" and len(value) > 1:
        value = value[1:-1]
    return value.strip() or None


def parse_blocks(text: str) -> list[Block]:
    """Read all blocks of a text, mending what can be mended without guessing.

    Raises:
        InputError: it is no CIF, with the line.
        MissingExtraError: gemmi is not installed.
    """
    try:
        from gemmi import cif
    except ImportError:
        raise MissingExtraError.for_package("gemmi", "structures") from None
    if len(text) > MAX_BLOCK_BYTES:
        raise InputError(f"more than {MAX_BLOCK_BYTES:,} characters in one CIF: split it")
    text = text.removeprefix("\ufeff")
    try:
        document = cif.read_string(text, check_level=0)
    except (ValueError, RuntimeError) as error:
        try:
            document = cif.read_string(_mended(text), check_level=0)
        except (ValueError, RuntimeError):
            match = _FAULT.match(str(error))
            where, what = match.groups() if match else ("1", str(error))
            raise InputError(f"line {where}: no CIF: {what.strip().rstrip('.')}") from None
    return [_block(found) for found in document]


def _block(found: Any) -> Block:
    values: dict[str, list[str]] = {}
    for item in found:
        if (pair := item.pair) is not None:
            _add(values, pair[0], [pair[1]])
        elif (loop := item.loop) is not None:
            tags, cells = loop.tags, loop.values
            for at, tag in enumerate(tags):
                _add(values, tag, cells[at :: len(tags)])
    return Block(found.name.strip(), values)


@lru_cache(maxsize=10_000)
def _plain_tag(tag: str) -> str:
    return tag.lower().replace(".", "_").rstrip("_")


def _add(values: dict[str, list[str]], tag: str, given: list[str]) -> None:
    name = _plain_tag(tag)
    there = values.setdefault(name, given)
    if there is not given and there != given and name.startswith(_VITAL):
        raise InputError(f"{tag} is there twice, with other values")


def _mended(text: str) -> str:
    """Quote names and values with blanks that programs such as AFLOW write without quotes."""
    lines = text.split("\n")
    in_text = False
    looped = False
    for at, line in enumerate(lines):
        if line.startswith(";"):
            in_text = not in_text
        if in_text or line.startswith(";"):
            continue
        words = line.split(None, 1)
        if not words:
            continue
        first = words[0].lower()
        rest = words[1].strip() if len(words) > 1 else ""
        if first.startswith("data_"):
            lines[at] = "_".join(line.split())
            looped = False
        elif first == "loop_":
            looped = True
        elif first.startswith("_"):
            plain = rest and rest[0] not in "'\";#" and " #" not in rest
            if not looped and plain and len(rest.split()) > 1:
                quote = "'" if "'" not in rest else '"'
                lines[at] = f"{words[0]} {quote}{rest}{quote}"
        elif not first.startswith("#"):
            looped = False
    return "\n".join(lines)


# --- splitting ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """The text of one block, as bytes.

    Attributes:
        line: on which it begins, from 1.
        data: from its ``data_`` to the next, or to the end.
        fault: why it is not whole; None if it is.
    """

    line: int
    data: bytes
    fault: str | None = None


def split_blocks(handle: BinaryIO) -> Iterator[Piece]:
    """Split a stream at lines that begin with ``data_``, but not within text fields (``;``).

    A text field that is never closed hides the blocks after it: what cannot be read as one block
    should be tried by `split_again`. Comments before the first block are passed over.
    """
    if isinstance(handle, BytesIO):  # most files are small and of one block
        data = handle.getvalue()
        starts = list(islice(_STARTS.finditer(data), 2))
        if (
            len(starts) == 1
            and b"\r" not in data
            and _COMMENTS.fullmatch(data, 0, starts[0].start())
        ):
            yield Piece(data.count(b"\n", 0, starts[0].start()) + 1, data[starts[0].start() :])
            return
    held = bytearray()
    begin = 1
    started = in_text = passing = False
    for number, line in enumerate(_lines(handle), 1):
        if not in_text and _START.match(line):
            yield from _finished(begin, held, started)
            held, begin, started, passing = bytearray(), number, True, False
        elif line[:1] == b";":
            in_text = not in_text
        if passing:
            in_text = False
            continue
        held += line
        if len(held) > MAX_BLOCK_BYTES:
            pieces = split_again(Piece(begin, bytes(held)))
            yield from pieces[:-1]
            if len(pieces) > 1:
                held, begin = bytearray(pieces[-1].data), pieces[-1].line
                in_text = bool(len(_TEXT_MARK.findall(held)) % 2)
            else:
                reason = f"a block of more than {MAX_BLOCK_BYTES:,} bytes: split it"
                yield Piece(begin, bytes(held[:2_000]), reason)
                held, started, passing, in_text = bytearray(), False, True, False
    yield from _finished(begin, held, started)


def split_again(piece: Piece) -> list[Piece]:
    """Split a piece at every line that begins with ``data_``, within text fields too."""
    starts = [match.start() for match in _STARTS.finditer(piece.data)]
    cuts = sorted({0, *starts, len(piece.data)})
    found = []
    line = piece.line
    for begin, end in pairwise(cuts):
        part = piece.data[begin:end]
        found.append(Piece(line, part))
        line += part.count(b"\n")
    return found


def _finished(begin: int, held: bytearray, started: bool) -> Iterator[Piece]:
    if started:
        yield Piece(begin, bytes(held))
    elif not _COMMENTS.fullmatch(held):
        what = "it does not begin with data_"
        if b"\0" in held[:2_000]:
            what = "it is binary, or UTF-16; save it as UTF-8"
        yield Piece(begin, bytes(held[:2_000]), f"no CIF: {what}")


def _lines(handle: BinaryIO) -> Iterator[bytes]:
    """Read lines, also those that end in a carriage return alone."""
    first = True
    while line := handle.readline(_LINE_BYTES):
        if first:
            line, first = line.removeprefix(b"\xef\xbb\xbf"), False
        if b"\r" in line[:-2]:
            yield from line.replace(b"\r\n", b"\n").replace(b"\r", b"\n").splitlines(keepends=True)
        else:
            yield line
