"""Unpacking within bounds: what packed bytes may become, and errors that say what is wrong.

Sizes in headers are not believed; bytes are counted as they come. Whatever an unpacking library
raises at broken data becomes an `InputError`.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

import pyarrow as pa

from gandb.core.errors import InputError

MAX_RATIO = 250
"""Most bytes that a packed byte may become. Text of crystals packs 3 to 20 times."""
FREE_BYTES = 16 * 2**20
"""Bytes that are unpacked before the ratio counts: small files of zeros are no danger."""
MAX_MEMBER_BYTES = 2**38
"""Most unpacked bytes of one member (256 GiB); the largest dumps of databases are below it."""
MAX_TOTAL_BYTES = 2**40
"""Most unpacked bytes of one archive (1 TiB)."""

_HEAD_BYTES = 2**20  # of a member of a tar, kept so that it can be opened again
_XZ_MEMORY = 2**28  # 256 MiB: four times what xz -9 asks for
BROKEN = (
    OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError,
    pa.ArrowException, NotImplementedError, ValueError, IndexError, KeyError, RuntimeError,
    struct.error, OverflowError, MemoryError,
)  # fmt: skip
"""What the unpacking libraries raise at broken data."""


def open_file(path: Path) -> BinaryIO:
    """Open a file on disk.

    Raises:
        InputError: it is gone or may not be read.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}") from None


def open_packed(path: Path, packing: str, size: int) -> BinaryIO:
    """Open a packed file as what it holds."""
    raw = open_file(path)
    source: Any
    if packing == "gz":
        source = gzip.GzipFile(fileobj=raw)
    elif packing == "bz2":
        source = bz2.BZ2File(raw)
    elif packing == "xz":
        source = _Xz(raw)
    else:
        source = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
    return guarded(source, (Allowance(size),), raw)


def guarded(source: Any, counts: Sequence[Allowance], beneath: BinaryIO | None = None) -> BinaryIO:
    """Return a stream that spends of allowances, and closes what is beneath its source too."""
    return io.BufferedReader(_Guard(source, counts, beneath), 2**16)


def what_is_wrong(error: BaseException) -> str:
    """Return what an unpacking library says of broken data."""
    return str(error).rstrip(".") or type(error).__name__


class Allowance:
    """Bounds what packed bytes may become; bytes that are read twice count twice."""

    def __init__(self, packed: int, most: int = MAX_TOTAL_BYTES) -> None:
        self._packed = packed
        self._most = min(most, FREE_BYTES + packed * MAX_RATIO)
        self._spent = 0

    def spend(self, size: int) -> None:
        """Count bytes that came.

        Raises:
            InputError: they are too many.
        """
        self._spent += size
        if self._spent > self._most:
            raise InputError(
                f"{self._packed:,} packed bytes become more than {self._most:,}, which no text of "
                f"crystals does: a zip bomb? (at most {MAX_RATIO} times is unpacked)"
            )


class _Guard(io.RawIOBase):
    """Counts what is read, and says what is wrong as `InputError`."""

    def __init__(self, source: Any, counts: Sequence[Allowance], beneath: BinaryIO | None) -> None:
        self._source = source
        self._counts = counts
        self._beneath = beneath

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._source.read(len(buffer))
        except InputError:
            raise
        except BROKEN as error:
            raise InputError(f"cannot be unpacked to its end: {what_is_wrong(error)}") from None
        for count in self._counts:
            count.spend(len(data))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
            if self._beneath is not None:
                self._beneath.close()
        super().close()


class _Xz(io.RawIOBase):
    """Unpacks xz with a bound on memory, which lzma.open does not give."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._stream: lzma.LZMADecompressor | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while True:
            rest = b""
            if self._stream is not None and self._stream.eof:
                rest = self._stream.unused_data
                self._stream = None
            if self._stream is None:  # another stream may follow, after zeros
                rest = (rest or self._raw.read(2**16)).lstrip(b"\0")
                while not rest:
                    block = self._raw.read(2**16)
                    if not block:
                        return b""
                    rest = block.lstrip(b"\0")
                self._stream = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
            elif self._stream.needs_input:
                rest = self._raw.read(2**16)
                if not rest:
                    raise EOFError("compressed file ended before the end-of-stream marker")
            if data := self._stream.decompress(rest, size):
                return data


class Replay:
    """Opens a member of a stream again and again, as long as its beginning is kept."""

    def __init__(self, source: IO[bytes], is_current: Callable[[], bool]) -> None:
        self._source = source
        self._is_current = is_current
        self._head = bytearray()
        self._passed = 0

    def open(self) -> BinaryIO:
        """Open the member at its beginning."""
        return guarded(_FromReplay(self), ())

    def read(self, at: int, size: int) -> bytes:
        """Return up to ``size`` bytes from a place on.

        Raises:
            InputError: the stream has gone past it.
        """
        if at < len(self._head):
            return bytes(self._head[at : at + size])
        if not self._is_current():
            raise InputError("the archive has been read past it; open members one after another")
        if at != self._passed:
            raise InputError("a large member of a tar is read only once; unpack the archive")
        data = self._source.read(size)
        self._passed += len(data)
        if at == len(self._head) and self._passed <= _HEAD_BYTES:
            self._head += data
        return data


class _FromReplay(io.RawIOBase):
    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._at = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._replay.read(self._at, size)
        self._at += len(data)
        return data
