"""A real file for formats that cannot be read as a stream."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from gandb.core.errors import InputError
from gandb.sources.records import Member

MAX_UNPACKED = 16 * 2**30
"""Most bytes of a member of an archive that is unpacked to a temporary file."""

_CHUNK = 2**20


@contextmanager
def path_of(member: Member) -> Iterator[str]:
    """Give the path of a member; one of an archive is unpacked to a temporary file for the while.

    Raises:
        InputError: it has more than `MAX_UNPACKED` bytes.
    """
    if member.path is not None:
        yield member.path
        return
    with tempfile.NamedTemporaryFile(prefix="gandb-") as copy:
        with member.open() as handle:
            while data := handle.read(_CHUNK):
                copy.write(data)
                if copy.tell() > MAX_UNPACKED:
                    raise InputError(f"more than {MAX_UNPACKED:,} bytes after unpacking")
        copy.flush()
        yield copy.name
