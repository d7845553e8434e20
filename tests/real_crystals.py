"""Some real structures of every file in the shared data, read once for all tests that want them."""

from __future__ import annotations

from functools import cache
from itertools import islice

from gandb.core.crystals import Crystal
from gandb.sources.base import Reject
from gandb.sources.reading import crystal_of, read_files
from tests.shared_data import SHARED

FILES = (
    "mp-cifs.zip", "oqmd-cifs.zip", "aflow-cifs.zip", "alexandria-cifs.zip", "mp40-test.csv.gz",
    "mp20-mini.csv.gz", "mp-flla-2015.csv.gz",
)  # fmt: skip
EACH = 40


def some_crystals(path: str, most: int) -> tuple[Crystal, ...]:
    """The first structures of a file in the shared data, as they are."""
    records = (r for r in read_files([SHARED / path]) if not isinstance(r, Reject))
    structures = (r.structure for r in records if r.structure is not None)
    return tuple(crystal_of(structure) for structure in islice(structures, most))


@cache
def real_crystals() -> tuple[Crystal, ...]:
    """Forty structures of each file."""
    return tuple(c for name in FILES for c in some_crystals(f"structures/{name}", EACH))
