"""Symmetry labels of candidates at wider tolerances than the standard one.

What a generator puts out is mostly not relaxed: at 0.01 Å its symmetry is lost, though it is plain
at 0.1 Å. A label that is new at 0.01 Å alone is no news of the prototype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from gandb.core.pool import Pool, default_processes
from gandb.identity.labels import symmetry_label
from gandb.schema.tables import structure
from gandb.store import Store
from gandb.store.bulk import fetch, ids_from_text
from gandb.tasks.keyed import id_keys, uuids
from gandb.tasks.structures import RECORD, crystal_of_row
from gandb.validation.symmetry import SYMPREC, SymmetryError, find_symmetry

WIDER = (0.03, 0.1)
"""Tolerances, Å. Of 385 candidates of MatterGen's release, 322 have the label of their symmetrized
form at 0.01 Å, 354 at that or 0.03, 382 at those or 0.1; beyond it searches begin to fail."""
_LISTED = 2_000  # structures that are read at once
_PIECE = 50
_FEW = 200  # up to so many, other processes are not worth their start


def label_parameters() -> dict[str, object]:
    """Return what decides the labels of candidates, for the recipe of novelty."""
    return {"symprec_angstrom": [SYMPREC, *WIDER], "new": "at all of them, and beyond P1 at one"}


def wider_labels(
    store: Store, ids: np.ndarray, progress: Callable[[int], None]
) -> dict[bytes, set[str]]:
    """Return the symmetry labels of structures at the wider tolerances, by structure.

    A search that finds nothing gives no label.

    Args:
        store: where the structures are.
        ids: S16, their ids.
        progress: told how many are done; what it raises ends the work.
    """
    found: dict[bytes, set[str]] = {}
    with Pool(_work, default_processes() if len(ids) > _FEW else 0) as pool:
        for part in pool.map(_pieces(store, ids)):
            found |= part
            progress(len(found))
    return found


def _pieces(store: Store, ids: np.ndarray) -> Iterator[pa.Table]:
    for start in range(0, len(ids), _LISTED):
        wanted = structure.c.id.in_(uuids(ids[start : start + _LISTED]))
        with store.read() as connection:
            rows = fetch(connection, sa.select(*RECORD).where(wanted).order_by(structure.c.id))
        for at in range(0, len(rows), _PIECE):
            yield rows.slice(at, _PIECE).combine_chunks()


def _work(rows: pa.Table) -> dict[bytes, set[str]]:
    found: dict[bytes, set[str]] = {}
    ids = id_keys(ids_from_text(rows.column("id"))).tolist()
    for own, row in zip(ids, rows.to_pylist(), strict=True):
        crystal = crystal_of_row({**row, "site_properties": None})
        labels = found.setdefault(own, set())
        for symprec in WIDER:
            try:
                symmetry = find_symmetry(crystal, symprec)
            except SymmetryError:
                continue
            labels.add(
                symmetry_label(
                    symmetry.space_group_number, crystal.species, symmetry.site_symmetries
                )
            )
    return found
