"""JSON files as streams of objects, and what of an object is kept as extra.

A file is an array of objects, JSON Lines, one object, or an object that holds the array under a
known name. Arrays are decoded element by element, so memory is that of the largest object and a
chunk. An object that cannot be read costs that object: reading goes on behind its closing bracket.
"""

from __future__ import annotations

import codecs
import json
import lzma
import math
import re
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, BinaryIO

from gandb.core.errors import InputError
from gandb.sources.base import Reject
from gandb.sources.records import Member, reject

MAX_OBJECT = 64 * 2**20
"""Most characters of one object; the largest pages and documents have a few million."""
MAX_VALUE = 20_000
"""Most characters of one value that is kept as extra; spectra have more."""
MAX_EXTRA = 100_000
"""Most characters of all that is kept as extra of one record."""
LEFT_OUT = "left_out"
"""Key in extra under which the names of values are listed that were too large to keep."""

READ_ERRORS = (InputError, OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading a damaged file or archive raises."""
FAULTS = (InputError, ArithmeticError, LookupError, TypeError, ValueError)
"""What making a record of a document raises that is not what it should be."""

_MAX_DEPTH = 20
_CHUNK = 2**16  # bytes read at a time; the decoder counts the lines of a chunk for each error
_FIRST = 2**20  # most bytes of a first line that is looked at as a whole
_NEAR_END = 16  # where a text breaks off, a decoder stops at most so far before its end
_JSON_LINES = re.compile(r"\.(jsonl|ndjson|jsonlines)\b")
_TOKENS = re.compile(r'\\.|["\[\]{}]', re.DOTALL)
_WORD = re.compile(r"[^,\[\]{}\"]+(?=[,\]])")
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class Document:
    """One JSON object of a file.

    Attributes:
        line: its line in JSON Lines, or its number in the file, from 1.
        value: the object.
    """

    line: int
    value: dict[str, Any]


class _BrokenError(Exception):
    """A value that cannot be decoded; ``found_end`` says whether what follows can be read."""

    def __init__(self, reason: str, raw: str, found_end: bool) -> None:
        super().__init__(reason)
        self.raw = raw
        self.found_end = found_end


def documents(member: Member, holders: Collection[str] = ()) -> Iterator[Document | Reject]:
    """Yield the objects of a JSON or JSON Lines file.

    Args:
        member: the file.
        holders: names under which an object may hold the array of the objects that are meant.
    """
    with member.open() as handle:
        try:
            blank = 0
            first = handle.readline(_FIRST)
            while first and not first.removeprefix(codecs.BOM_UTF8).strip():
                blank += first.endswith(b"\n")
                first = handle.readline(_FIRST)
            yield from _read(member, handle, first, blank, holders)
        except READ_ERRORS as error:
            yield reject(member, 1, f"cannot be read to its end: {error}")


def _read(
    member: Member, handle: BinaryIO, first: bytes, blank: int, holders: Collection[str]
) -> Iterator[Document | Reject]:
    """Yield the objects of a file of which the first line has been read that is not blank."""
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield reject(member, 1, "is UTF-16; save it as UTF-8")
        return
    first = first.removeprefix(codecs.BOM_UTF8)
    begin = first.lstrip()[:1]
    if begin not in (b"{", b"["):
        yield reject(member, 1, "is not JSON: it begins with neither { nor [", _visible(first))
        return
    if begin == b"{":
        named = _JSON_LINES.search(member.name.lower()) is not None
        long = len(first) == _FIRST and not first.endswith(b"\n")
        if long and named:
            first += handle.readline(MAX_OBJECT - _FIRST)
        value = _decoded(first) if named or not long else None
        second = b"" if value is not None or named or long else handle.readline(_FIRST)
        if value is not None or named or _decoded(second) is not None:
            following = iter(partial(handle.readline, MAX_OBJECT), b"")
            lines = chain((first, second) if second else (first,), following)
            yield from _lines(member, enumerate(lines, blank + 1), value, holders)
            return
        first += second
    yield from _Stream(member, handle, first, holders).objects()


def _decoded(line: bytes) -> dict[str, Any] | None:
    """Return the object that is all of a line, None if there is none."""
    try:
        return _object_of(line)
    except (ValueError, RecursionError):
        return None


def _lines(
    member: Member,
    lines: Iterator[tuple[int, bytes]],
    value: dict[str, Any] | None,
    holders: Collection[str],
) -> Iterator[Document | Reject]:
    """Yield the objects of JSON Lines.

    Args:
        member: the file.
        lines: of it, numbered; in pieces where they are too long.
        value: of the first line, where it is known.
        holders: as in `documents`.
    """
    held = 0  # elements so far of arrays that objects hold
    for number, line in lines:
        if len(line) == MAX_OBJECT and not line.endswith(b"\n"):
            yield reject(member, number, f"a line of more than {MAX_OBJECT:,} bytes; split it")
            while len(line) == MAX_OBJECT and not line.endswith(b"\n"):
                _, line = next(lines, (0, b""))
        elif line.strip():
            try:
                value = value or _object_of(line)
            except (ValueError, RecursionError) as error:
                yield reject(member, number, f"no JSON object: {error}", _visible(line))
                continue
            array = _held(value, holders)
            if array is None:
                yield Document(number, value)
            else:
                for item in array:
                    held += 1
                    yield _checked(member, held, item)
        value = None


def _object_of(line: bytes) -> dict[str, Any]:
    """Return the object of a line.

    Raises:
        ValueError: it holds none.
        RecursionError: it is nested too deeply.
    """
    value = _DECODER.decode(line.decode())
    if not isinstance(value, dict):
        raise ValueError(f"it is of type {type(value).__name__}")
    refuse_halves(value, line)
    return value


def _held(value: Mapping[str, Any], holders: Collection[str]) -> list[Any] | None:
    for name in holders:
        array = value.get(name)
        if isinstance(array, list) and (not array or isinstance(array[0], dict)):
            return array
    return None


def _checked(member: Member, number: int, item: Any) -> Document | Reject:
    if isinstance(item, dict):
        return Document(number, item)
    raw = json.dumps(item) if not isinstance(item, str) else item
    return reject(member, number, f"no JSON object: it is of type {type(item).__name__}", raw)


class _Stream:
    """JSON text that is decoded value by value while it is read."""

    def __init__(
        self, member: Member, handle: BinaryIO, first: bytes, holders: Collection[str]
    ) -> None:
        self.member = member
        self.handle = handle
        self.holders = holders
        self.decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.text = self.decoder.decode(first)
        self.at = 0
        self.ended = False
        self.number = 0

    def objects(self) -> Iterator[Document | Reject]:
        """Yield the objects of all values of the text."""
        try:
            while begin := self.peek():
                if begin == "[":
                    yield from self.array()
                elif begin == "{":
                    yield from self.members()
                else:
                    self.refuse("neither { nor [ where an object or array should begin")
        except _BrokenError as error:
            raw = _visible(error.raw)
            yield reject(self.member, self.number + 1, f"cannot be read on: {error}", raw)

    def array(self) -> Iterator[Document | Reject]:
        """Yield the elements of the array that begins here."""
        self.at += 1
        if self.peek() == "]":
            self.at += 1
            return
        while True:
            try:
                value = self.value()
            except _BrokenError as error:
                if not error.found_end:
                    raise
                self.number += 1
                reason = f"no JSON object: {error}"
                yield reject(self.member, self.number, reason, _visible(error.raw))
            else:
                self.number += 1
                yield _checked(self.member, self.number, value)
            if self.peek() == "]":
                self.at += 1
                return
            self.expect(",")

    def members(self) -> Iterator[Document | Reject]:
        """Yield the elements of the array that the object here holds, or else the object."""
        self.at += 1
        rest: dict[str, Any] = {}
        size = 0
        held = False
        while self.peek() != "}":
            name = self.value()
            if not isinstance(name, str):
                self.refuse("the name of a member is not a string")
            self.expect(":")
            if self.peek() == "[" and name in self.holders:
                held = True
                yield from self.array()
            else:
                before = self.at
                rest[name] = self.value()
                size += max(self.at - before, 0)
                if size > MAX_OBJECT:
                    self.refuse(f"an object of more than {MAX_OBJECT:,} characters; split it")
            if self.peek() != "}":
                self.expect(",")
        self.at += 1
        if not held:
            self.number += 1
            yield Document(self.number, rest)

    def value(self) -> Any:
        """Decode the value that begins here and go behind it.

        Raises:
            _BrokenError: it cannot be decoded; goes behind it if its end is found.
        """
        while True:
            self.peek()
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
                # The rest of a number may follow: 1.5 is decoded before what 1.5e- is part of.
                if end >= len(self.text) - _NEAR_END and not self.ended:
                    self.fill()
                    continue
                refuse_halves(value, self.text[self.at : end])
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self.text) - _NEAR_END or "Unterminated" in error.msg
                if cut and not self.ended and len(self.text) - self.at < MAX_OBJECT:
                    self.fill()
                    continue
                if cut and self.ended:
                    raise self.broken("the file ends in the middle of it") from None
                if cut:
                    raise self.broken(f"more than {MAX_OBJECT:,} characters; split it") from None
                raise self.broken(error.msg) from None
            except RecursionError:
                raise self.broken("nested too deeply") from None
            except ValueError as error:
                raise self.broken(str(error)) from None
            else:
                self.at = end
                return value

    def peek(self) -> str:
        """Go to the next character that is not a space and return it, empty at the end."""
        while True:
            match = _SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended:
                return ""
            self.fill()

    def expect(self, character: str) -> None:
        """Go behind a character that must come next.

        Raises:
            _BrokenError: another one does.
        """
        found = self.peek()
        if found != character:
            self.refuse(
                f"{found!r} where {character!r} should be"
                if found
                else "the file ends here; it was cut off"
            )
        self.at += 1

    def refuse(self, reason: str) -> None:
        """Stop reading.

        Raises:
            _BrokenError: always.
        """
        raise _BrokenError(reason, self.text[self.at : self.at + 2_000], found_end=False)

    def fill(self) -> None:
        """Read on, as much as there is of the present value, and a chunk at least."""
        self.text = self.text[self.at :]
        self.at = 0
        data = self.handle.read(max(_CHUNK, len(self.text)))
        self.ended = not data
        self.text += self.decoder.decode(data, final=self.ended)

    def broken(self, reason: str) -> _BrokenError:
        """Go behind the value that cannot be decoded, if its own brackets close."""
        begins = self.text[self.at : self.at + 2_000]
        opens = begins[:1]
        closes = {"{": "}", "[": "]"}.get(opens)
        if closes is None:  # a word: what follows it begins at the next comma or bracket
            end = _WORD.match(self.text, self.at)
            self.at = end.end() if end else self.at
            return _BrokenError(reason, begins, found_end=end is not None)
        while True:
            depth = 0
            quoted = False
            for token in _TOKENS.finditer(self.text, self.at):
                if token[0] == '"':
                    quoted = not quoted
                elif not quoted and token[0] == opens:
                    depth += 1
                elif not quoted and token[0] == closes:
                    depth -= 1
                    if depth == 0:
                        self.at = token.end()
                        return _BrokenError(reason, begins, found_end=True)
            if self.ended or len(self.text) - self.at >= MAX_OBJECT:
                return _BrokenError(reason, begins, found_end=False)
            self.fill()


def refuse_halves(value: Any, raw: str | bytes) -> None:
    """Refuse text that no file can hold: half a surrogate pair, or bytes that are not UTF-8.

    Raises:
        ValueError: with the reason.
    """
    if raw.isascii() and (b"\\u" if isinstance(raw, bytes) else "\\u") not in raw:  # type: ignore[operator]
        return
    json.dumps(value, ensure_ascii=False).encode()


def _visible(raw: str | bytes) -> str:
    if isinstance(raw, str):
        raw = raw.encode(errors="surrogateescape")
    return raw[:4_000].decode(errors="backslashreplace")


def _constant(name: str) -> str | None:
    """Read ``NaN`` as missing and keep ``Infinity`` as a text that no number is made of."""
    return None if name == "NaN" else name


_DECODER = json.JSONDecoder(parse_constant=_constant)


def reason_of(error: Exception) -> str:
    """Return why a document is no record, from one of `FAULTS`."""
    if isinstance(error, InputError):
        return str(error)
    return f"is not laid out as it should be: {type(error).__name__}: {str(error)[:200]}"


# --- what is kept of an object -----------------------------------------------------------


def kept(values: Mapping[str, Any], without: Collection[str] = ()) -> dict[str, Any]:
    """Return what of an object is kept as extra: plain JSON data of bounded size.

    What says nothing (null, empty, NaN) is dropped, infinite numbers become text, other things than
    JSON has become text or lists, and what is too large is named under `LEFT_OUT`.
    """
    extra: dict[str, Any] = {}
    large: list[str] = []
    total = 0
    for name, value in values.items():
        if name in without:
            continue
        value = _plain(value, _MAX_DEPTH)
        if value is None or value in ("", [], {}):
            continue
        size = len(json.dumps(value)) + len(name)
        if size > MAX_VALUE or total + size > MAX_EXTRA:
            large.append(_text(name)[:100])
            continue
        total += size
        extra[_text(name)] = value
    if large:
        extra[LEFT_OUT] = sorted(large)[:1_000]
    return extra


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)  # NumPy's is one too
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        if depth == 0:
            return None
        return {_text(k): _plain(v, depth - 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, depth - 1) for v in value] if depth else None
    if hasattr(value, "tolist"):  # an array of NumPy, or one of its numbers
        return _plain(value.tolist(), depth)
    return _text(value)


def _text(value: Any) -> str:
    """Return a text without halves of surrogate pairs, which no file can hold."""
    return str(value).encode(errors="backslashreplace").decode()
