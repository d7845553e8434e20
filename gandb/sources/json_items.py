"""JSON objects of many members, read member by member: ``{id: structure, id: structure ...}``.

Memory holds one member and not the file. JSON (RFC 8259) with Python's NaN and Infinity.
"""

from __future__ import annotations

import codecs
import json
import lzma
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from gandb.core.errors import InputError

MAX_ITEM = 64 * 2**20
"""Most characters of one member: a structure of 10,000 sites with properties has about 10**7."""

READ_ERRORS = (InputError, OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading a damaged file or archive raises."""

_CHUNK = 2**18
_NEAR = 16  # characters: the longest piece of a token that can be cut at the end
_DECODER = json.JSONDecoder()


def pairs(stream: BinaryIO) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of the one JSON object that a stream holds.

    Args:
        stream: UTF-8, with or without a byte order mark.

    Raises:
        InputError: what follows is not JSON, not UTF-8, nested too deeply or too large. What was
            yielded before is good.
    """
    text = _Text(stream)
    text.expect("{")
    if text.peek() == "}":
        text.skip()
        text.finish()
        return
    while True:
        name = text.value()
        if not isinstance(name, str):
            raise InputError(f"is not JSON {text.where()}: a name that is not a string")
        text.expect(":")
        yield name, text.value()
        if text.expect(",}") == "}":
            text.finish()
            return


class _Text:
    """A window on a stream of UTF-8."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._buffer = ""
        self._place = 0
        self._before = 0
        self._ended = False

    def where(self) -> str:
        return f"at character {self._before + self._place + 1:,}"

    def peek(self) -> str:
        """Return the next character that is no white space, and stand before it."""
        while True:
            while self._place < len(self._buffer):
                character = self._buffer[self._place]
                if character not in " \t\r\n":
                    return character
                self._place += 1
            if not self._more():
                return ""

    def skip(self) -> None:
        self._place += 1

    def expect(self, characters: str) -> str:
        found = self.peek()
        if not found:
            raise InputError(f"ends {self.where()}, before it is complete")
        if found not in characters:
            raise InputError(
                f"is not JSON: {found!r} {self.where()}, not {' or '.join(characters)}"
            )
        self.skip()
        return found

    def finish(self) -> None:
        """See to it that nothing follows."""
        if self.peek():
            raise InputError(f"is not JSON: more follows {self.where()}, after its end")

    def value(self) -> Any:
        if not self.peek():
            raise InputError(f"ends {self.where()}, before it is complete")
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._place)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self._buffer) - _NEAR or "Unterminated" in error.msg
                if not cut or self._ended:
                    raise InputError(f"is not JSON {self.where()}: {error.msg}") from None
                self._more()
            except RecursionError:
                raise InputError(f"is nested too deeply {self.where()}") from None
            except ValueError as error:  # a whole number of thousands of digits
                raise InputError(f"cannot be read {self.where()}: {error}") from None
            else:
                # A number at the end of the window may go on, with an exponent for example.
                if end < len(self._buffer) - _NEAR or self._ended:
                    self._place = end
                    return value
                self._more()

    def _more(self) -> bool:
        """Double what is left of the window; false at the end of the stream."""
        if self._ended:
            return False
        left = len(self._buffer) - self._place
        if left > MAX_ITEM:
            raise InputError(f"one member {self.where()} has more than {MAX_ITEM:,} characters")
        data = self._stream.read(max(_CHUNK, left))
        try:
            more = self._decode.decode(data, final=not data)
        except UnicodeDecodeError:
            raise InputError(
                f"is not UTF-8 after character {self._before + len(self._buffer):,}"
            ) from None
        self._before += self._place
        self._buffer = self._buffer[self._place :] + more
        self._place = 0
        self._ended = not data
        return bool(data)
