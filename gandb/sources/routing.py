"""Which way a file is read: as a formula table, or record by record."""

from __future__ import annotations

from pathlib import Path

from gandb.sources.archives import members
from gandb.sources.base import Reject
from gandb.sources.files import COMPRESSIONS, READERS
from gandb.sources.formats import HEAD_BYTES, format_of


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
