"""Files, folders and archives as a stream of members, read without writing anything to disk.

Zip, tar (plain, gzip, bzip2, xz, zstd) and single packed files are unpacked while they are read.
What a header says of sizes is not believed: bytes are counted as they come, so a zip bomb is
refused after a few megabytes. Nothing is ever run: pickles are refused by name.

Zip: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT; tar: POSIX.1-2001, pax.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from gandb.core.errors import InputError
from gandb.sources.base import Reject
from gandb.sources.records import Member
from gandb.sources.unpacking import (
    BROKEN,
    MAX_MEMBER_BYTES,
    Allowance,
    Replay,
    guarded,
    open_file,
    open_packed,
    what_is_wrong,
)

MAX_MEMBERS = 2_000_000
"""Most members of one archive; each costs memory while a zip is open."""
MAX_DIRECTORY_BYTES = 2**28
"""Most bytes of a zip's table of contents, which is read at once (256 MiB)."""
MAX_NAME_BYTES = 2**20
"""Most bytes of a tar's extended header, which is read at once."""

TARS = {
    ".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.bz2": "bz2", ".tbz2": "bz2", ".tbz": "bz2",
    ".tar.xz": "xz", ".txz": "xz", ".tar.zst": "zst", ".tzst": "zst",
}  # fmt: skip
SINGLES = {".gz": "gz", ".bz2": "bz2", ".xz": "xz", ".zst": "zst"}
PICKLES = frozenset(
    ".pkl .pickle .pckl .p .pt .pth .ckpt .joblib .dill .cloudpickle .npz .jbl".split()
)
FOREIGN = frozenset(".7z .rar .lz4 .lzma .z .cab .iso".split())

_ENCRYPTED = "encrypted: decrypt it first"
_AS_PICKLE = (
    "pickles run code when they are read, so this is refused by its name: convert it to CIF, "
    "extxyz or pymatgen JSON where it was made"
)
_NOTHING = "it holds no files"
_EMPTY_READS = 16  # at the end of a stream; tarfile needs two or three
_NESTED = "packed within an archive: unpack the outer archive first and name the folder"


def members(paths: Sequence[Path]) -> Iterator[Member | Reject]:
    """Walk files, folders and archives in the order of their names.

    A member of an archive must be opened before the next one is asked for: the archive is read
    once, from its beginning to its end. One of a tar can be opened again as long as what was read
    of it before is within its first MiB. Hidden files and ``__MACOSX`` are passed over. Errors
    in reading a member are `InputError`.

    Args:
        paths: files, folders and archives. Folders are walked; links to folders in them are not.

    Yields:
        Members, and a reject for each thing that cannot be one, and one for the rest of an archive
        that ends too early.
    """
    unique = sorted({Path(path).absolute(): Path(path) for path in reversed(paths)}.items())
    names = [
        full.name if full.name not in ("", "..") else full.resolve().name or str(full)
        for full, _ in unique
    ]
    for (full, given), name in zip(unique, names, strict=True):
        yield from _of_path(full, name if names.count(name) == 1 else str(given))


def _of_path(path: Path, shown: str) -> Iterator[Member | Reject]:
    """Walk one path; folders by a stack, for they may be nested deeper than calls may."""
    stack = [(path, shown, True)]
    while stack:
        at, name, named = stack.pop()
        try:
            mode = at.stat().st_mode
            if stat.S_ISREG(mode):
                yield from _of_file(at, _visible(name))
            elif not stat.S_ISDIR(mode):
                yield _reject(name, "neither a file nor a folder")
            elif at.is_symlink() and not named:
                yield _reject(name, "a link to a folder: name that folder itself")
            else:
                inside = sorted(entry.name for entry in os.scandir(at))
                stack += [
                    (at / entry, f"{name}/{entry}", False)
                    for entry in reversed(inside)
                    if not _hidden(entry)
                ]
        except OSError as error:
            yield _reject(name, f"cannot be read: {error.strerror or error}")


def _of_file(path: Path, shown: str) -> Iterator[Member | Reject]:
    lower = path.name.lower()
    tar = next((ending for ending in TARS if lower.endswith(ending)), None)
    size = path.stat().st_size
    if lower.endswith(".zip"):
        yield from _of_zip(path, shown, size)
    elif tar is not None:
        yield from _of_tar(path, shown, TARS[tar], size)
    elif (packing := SINGLES.get(Path(lower).suffix)) is not None:
        inner = Path(path.name).stem
        opener = partial(open_packed, path, packing, size)
        yield from _checked(Member(f"{shown}/{_visible(inner)}", None, opener), inner)
    else:
        opener = partial(open_file, path)
        yield from _checked(Member(shown, size, opener, str(path)), path.name)


def _checked(member: Member, name: str) -> Iterator[Member | Reject]:
    """Give a member, or a reject if files of this name are not read."""
    ending = Path(name.lower()).suffix
    reason = None
    if ending in PICKLES:
        reason = _AS_PICKLE
    elif ending in FOREIGN:
        reason = f"{ending} archives are not read: pack it as .zip or .tar.gz"
    elif ending in SINGLES or ending == ".zip" or name.lower().endswith(tuple(TARS)):
        reason = _NESTED
    elif ending == ".npy":
        try:
            with member.open() as handle:
                head = handle.read(256)
        except InputError as error:
            reason = str(error)
        else:
            reason = _AS_PICKLE if re.search(rb"'descr':.*\|?O", head) else None
    yield member if reason is None else _reject(member.name, reason)


# --- zip ---------------------------------------------------------------------------------


def _of_zip(path: Path, shown: str, size: int) -> Iterator[Member | Reject]:
    try:
        _check_directory(path, size)
        archive = zipfile.ZipFile(path)
    except InputError as error:
        yield _reject(shown, str(error))
        return
    except BROKEN as error:
        yield _reject(shown, f"cannot be read as zip: {what_is_wrong(error)}; is it whole?")
        return
    with archive:
        if not archive.infolist():
            yield _reject(shown, _NOTHING)
        total = Allowance(size)
        seen: set[str] = set()
        for info in sorted(archive.infolist(), key=lambda i: i.filename):
            mode = info.external_attr >> 16
            if info.is_dir() or stat.S_ISDIR(mode):
                continue
            inner = info.filename.replace("\\", "/")  # as some programs for Windows write it
            name = f"{shown}/{_visible(inner)}"
            reason = _unsafe(info.filename)
            if reason is None and _hidden_within(inner):
                continue
            if reason is None and stat.S_ISLNK(mode):
                reason = "a link: put the file itself into the archive"
            elif reason is None and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                reason = "a device or the like, not a file"
            elif reason is None and info.flag_bits & 1:
                reason = _ENCRYPTED
            elif reason is None and _plain_name(inner) in seen:
                reason = "its name is in the archive before; only the first is read"
            if reason is not None:
                yield _reject(name, reason)
                continue
            seen.add(_plain_name(inner))
            counts = (Allowance(min(info.compress_size, size), MAX_MEMBER_BYTES), total)
            opener = partial(_of_zip_member, archive, info, counts)
            yield from _checked(Member(name, info.file_size, opener), inner)


def _of_zip_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, counts: tuple[Allowance, Allowance]
) -> BinaryIO:
    try:
        return guarded(archive.open(info), counts)
    except BROKEN as error:
        raise InputError(f"cannot be unpacked: {what_is_wrong(error)}") from None


def _check_directory(path: Path, size: int) -> None:
    """Refuse a zip whose table of contents is too large to be read at once.

    Raises:
        InputError: it is.
    """
    with path.open("rb") as handle:
        handle.seek(max(0, size - 65_557))
        tail = handle.read(65_557)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise InputError(
            "cannot be read as zip: its table of contents, which stands at the end, is not there; "
            "is it cut off?"
        )
    records, directory = struct.unpack_from("<HL", tail, end + 10)
    large = tail.rfind(b"PK\x06\x06", 0, end)
    if large >= 0 and len(tail) >= large + 48:
        records, directory = struct.unpack_from("<QQ", tail, large + 32)
    if directory > MAX_DIRECTORY_BYTES or records > MAX_MEMBERS:
        raise InputError(
            f"{records:,} members in a table of contents of {directory:,} bytes; at most "
            f"{MAX_MEMBERS:,} and {MAX_DIRECTORY_BYTES:,} are read: split it"
        )


# --- tar ---------------------------------------------------------------------------------


class _Header(tarfile.TarInfo):
    """A header that is not read past its bounds, and whose faults do not end a tar silently."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Header:
        try:
            return super().fromtarfile(tarfile)
        except _FAULTY_HEADERS as error:
            raise _CutError(what_is_wrong(error)) from None

    def _proc_member(self, tarfile: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type not in _DATA_TYPES and self.size > MAX_NAME_BYTES:
            raise _CutError(f"a header of {self.size:,} bytes")
        return super()._proc_member(tarfile)  # type: ignore[misc, no-any-return]


class _Ending:
    """A stream that may not be read on and on after its end.

    tarfile goes to the next header by reading over what a member's size says, 10 KiB at a time, and
    never looks whether anything comes: a size of 2^88 would take for ever.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._empty = 0

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._empty = 0 if data else self._empty + 1
        if self._empty > _EMPTY_READS:
            raise EOFError("it ends within a member, or a size in it is wrong")
        return data


class _CutError(tarfile.TarError):
    """The rest of a tar cannot be read."""


_FAULTY_HEADERS = (
    tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
    tarfile.InvalidHeaderError,  # type: ignore[attr-defined]
    tarfile.EmptyHeaderError,  # type: ignore[attr-defined]
)
_DATA_TYPES = frozenset(
    [tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE]
)


def _of_tar(path: Path, shown: str, packing: str, size: int) -> Iterator[Member | Reject]:
    """Read a tar as a stream: members in its own order."""
    at = 0
    current = [0]
    seen: set[str] = set()
    try:
        source = open_packed(path, packing, size) if packing else open_file(path)
        stream = cast("Any", _Ending(source))
        with source, tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as tar:
            while (info := tar.next()) is not None:
                cast("Any", tar).members.clear()  # which grows without end
                at += 1
                current[0] = at
                if at > MAX_MEMBERS:
                    raise InputError(f"more than {MAX_MEMBERS:,} members: split it")
                if not info.isdir():
                    yield from _of_tar_member(tar, info, shown, seen, current)
        if not at:
            yield _reject(shown, _NOTHING)
    except InputError as error:
        yield _reject(shown, f"{_after(at)}{error}")
    except BROKEN as error:
        said = what_is_wrong(error) or "it ends without its end mark"
        yield _reject(shown, f"{_after(at)}cannot be read as tar: {said}; is it whole?")


def _of_tar_member(
    tar: tarfile.TarFile, info: tarfile.TarInfo, shown: str, seen: set[str], current: list[int]
) -> Iterator[Member | Reject]:
    name = f"{shown}/{_visible(info.name)}"
    reason = _unsafe(info.name)
    if reason is None and _hidden_within(info.name):
        return
    if reason is None and (info.issym() or info.islnk()):
        reason = "a link: put the file itself into the archive"
    elif reason is None and (not info.isreg() or info.issparse()):
        reason = "a device, a sparse file or the like, not a plain file"
    elif reason is None and info.size > MAX_MEMBER_BYTES:
        reason = f"{info.size:,} bytes; at most {MAX_MEMBER_BYTES:,} are read"
    elif reason is None and _plain_name(info.name) in seen:
        reason = "its name is in the archive before; only the first is read"
    if reason is not None:
        yield _reject(name, reason)
        return
    seen.add(_plain_name(info.name))
    source = cast("IO[bytes]", tar.extractfile(info))
    mine = current[0]
    replay = Replay(source, lambda: current[0] == mine)
    yield from _checked(Member(name, info.size, replay.open), info.name)


# --- names -------------------------------------------------------------------------------


def _unsafe(name: str) -> str | None:
    """Say why a member's name is refused; None if it is not."""
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "an absolute path: pack it relative to a folder"
    if ".." in re.split(r"[/\\]", name):
        return "its path leads out of the archive by '..'"
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        return "control characters in its name"
    return None


def _plain_name(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _hidden(part: str) -> bool:
    return part == "__MACOSX" or part.startswith(".")


def _hidden_within(name: str) -> bool:
    return any(_hidden(part) for part in _plain_name(name).split("/"))


def _visible(name: str) -> str:
    """Write bytes of a name that are not UTF-8 as escapes."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _after(at: int) -> str:
    return f"the rest, after {at:,} members: " if at else ""


def _reject(name: str, reason: str) -> Reject:
    return Reject(_visible(name), 1, reason, "")
