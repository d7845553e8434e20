"""Whatever the user names, read: which way, in which format, with the tables that lie beside."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from gandb.core.crystals import Crystal
from gandb.core.errors import InputError, StoreError
from gandb.sources.archives import members
from gandb.sources.base import Reject
from gandb.sources.companions import companions, may_have_companions
from gandb.sources.files import COMPRESSIONS, READERS
from gandb.sources.formats import FORMATS, HEAD_BYTES, crystal_of, format_of
from gandb.sources.records import Format, Member, Record, reject

_WIDE = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_FULL = (errno.ENOSPC, errno.EDQUOT)


def read_files(paths: Sequence[Path], form: Format | None = None) -> Iterator[Record | Reject]:
    """Yield every record and reject of files, folders and archives, in a fixed order.

    Args:
        paths: what to read.
        form: the format of all of it; None tells it from each file.
    """
    for path in paths:
        beside = {}
        if may_have_companions(path):
            beside = companions(members([path]), _claimed)
        tables = {table.member.name for table in beside.values()}
        for member in members([path]):
            if isinstance(member, Reject):
                yield member
                continue
            if member.name in tables:
                continue
            companion = beside.get(str(PurePosixPath(member.name).parent))
            for item in read_member(member, form):
                yield companion.told(item) if companion and isinstance(item, Record) else item
        for companion in beside.values():
            yield from companion.unused()


def _claimed(name: str, head: bytes) -> bool:
    return format_of(name, head) is not None


def read_member(member: Member, form: Format | None = None) -> Iterator[Record | Reject]:
    """Read a member in a format, or in the one that fits; whatever fails is a reject."""
    try:
        with member.open() as handle:
            head = handle.read(HEAD_BYTES)
        if not head:
            yield reject(member, 0, "it is empty")
            return
        chosen = form or format_of(member.name, head)
        if chosen is None and head.startswith(_WIDE):
            yield reject(member, 0, "it is UTF-16 or UTF-32: save it as UTF-8")
            return
        if chosen is None:
            shown = head[:200].decode(errors="replace")
            yield reject(
                member,
                0,
                f"no format fits its name and content; known: {', '.join(FORMATS)} (to insist on "
                "one: --format NAME)",
                shown,
            )
            return
        yield from chosen.read(member)
    except InputError as error:
        yield reject(member, 0, str(error))
    except OSError as error:
        if error.errno in _FULL:
            raise StoreError(
                f"no room on disk for what reading {member.name} needs for a while: make some "
                "(TMPDIR names another place), then give the command again"
            ) from error
        yield reject(member, 0, f"cannot be read: {error}")
    except (ArithmeticError, EOFError, LookupError, TypeError, ValueError) as error:
        yield reject(member, 0, f"cannot be read on: {type(error).__name__}: {error}")


def is_formula_table(path: Path) -> bool:
    """Say whether a file is a table of formulas: a table in which no format of records fits.

    A file that is not there counts as whatever its name says, so that reading it tells why.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] in COMPRESSIONS
    kind = "".join(suffixes[-2:-1] if packed else suffixes[-1:])
    if kind not in READERS or path.is_dir():
        return False
    if not path.is_file():
        return True
    for member in members([path]):
        if isinstance(member, Reject):
            return True
        try:
            with member.open() as handle:
                head = handle.read(HEAD_BYTES)
        except (OSError, EOFError, ValueError):
            return True
        return format_of(member.name, head) is None
    return True


def read_crystal(path: Path) -> Crystal:
    """Return the one structure that a file holds.

    Raises:
        InputError: it holds none that can be read, or several.
    """
    found = list(islice(read_files([path]), 2))
    if len(found) > 1:
        raise InputError(f"{path} holds several records; name a file of one structure")
    if not found:
        raise InputError(f"{path} holds no structure")
    (item,) = found
    if isinstance(item, Reject):
        raise InputError(f"{path}: {item.reason}")
    if item.structure is None:
        raise InputError(f"{path} holds a formula, no structure")
    return crystal_of(item.structure)
