"""Keys of structures out of a store, and the blocks within which structures can match."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa

from gandb.schema.tables import structure_key
from gandb.store.bulk import fetch, ids_from_text
from gandb.tasks.keys import key_recipe

_LISTED = 2_000  # ids that a query names one by one


@dataclass(frozen=True, eq=False)
class Places:
    """Where structures stand: their blocks. All arrays are in the order of the structure ids.

    Attributes:
        ids: S16 (n,), structure ids.
        blocks: S20 (n,), composition id and number of sites in the reduced cell.
    """

    ids: np.ndarray
    blocks: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def compositions(self) -> np.ndarray:
        """Composition ids, S16 (n,)."""
        return raw(self.blocks, 20)[:, :16].copy().view("S16").reshape(-1)

    def take(self, rows: np.ndarray) -> Places:
        """Return some of them; ``rows`` ascending or a mask."""
        return Places(self.ids[rows], self.blocks[rows])

    def by_block(self) -> Iterator[np.ndarray]:
        """Yield the rows of each block, ascending; blocks in the order of their keys."""
        if not len(self):
            return
        order = np.argsort(self.blocks, kind="stable")
        cuts = np.flatnonzero(self.blocks[order][1:] != self.blocks[order][:-1]) + 1
        yield from np.split(order, cuts)


@dataclass(frozen=True, eq=False)
class Keyed:
    """Structures with what comparisons need, in the order of their ids.

    Attributes:
        places: ids and blocks.
        amd: float64 (n, k), average minimum distances.
        cells: reduced cells as bytes.
    """

    places: Places
    amd: np.ndarray
    cells: list[bytes]

    def __len__(self) -> int:
        return len(self.cells)

    def take(self, rows: np.ndarray) -> Keyed:
        """Return some of them; ``rows`` ascending."""
        cells = [self.cells[row] for row in rows.tolist()]
        return Keyed(self.places.take(rows), self.amd[rows], cells)

    def followed_by(self, others: Keyed) -> Keyed:
        """Return these and then others; ids are no longer in order."""
        joined = Places(
            np.concatenate([self.places.ids, others.places.ids]),
            np.concatenate([self.places.blocks, others.places.blocks]),
        )
        return Keyed(joined, np.concatenate([self.amd, others.amd]), self.cells + others.cells)


def places(connection: sa.Connection, *conditions: Any) -> Places:
    """Return where all structures with keys stand.

    Args:
        connection: an open transaction of a store.
        conditions: SQLAlchemy conditions on the table ``structure_key``.
    """
    key = structure_key.c
    query = sa.select(key.structure_id, key.composition_id, key.n_reduced).where(
        key.recipe_id == key_recipe()["id"], key.n_reduced.is_not(None), *conditions
    )
    return _sorted(fetch(connection, query))[0]


def keyed(connection: sa.Connection, *conditions: Any) -> Keyed:
    """Return structures with all their keys; as `places`."""
    key = structure_key.c
    query = sa.select(key.structure_id, key.composition_id, key.n_reduced, key.amd, key.cell).where(
        key.recipe_id == key_recipe()["id"], key.n_reduced.is_not(None), *conditions
    )
    rows = fetch(connection, query)
    found, order = _sorted(rows)
    flat = rows.column("amd").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    amd = flat.reshape(len(rows), -1) if len(rows) else np.zeros((0, 0))
    cells = rows.column("cell").to_pylist()
    return Keyed(found, amd[order], [cells[i] for i in order.tolist()])


def keyed_of(connection: sa.Connection, ids: np.ndarray) -> Keyed:
    """Return the keys of the structures with these ids, S16; those without keys are left out."""
    own = structure_key.c.structure_id
    parts = [
        keyed(connection, own.in_(uuids(ids[start : start + _LISTED])))
        for start in range(0, len(ids), _LISTED)
    ]
    if not parts:
        return keyed(connection, sa.false())
    joined = Places(
        np.concatenate([p.places.ids for p in parts]),
        np.concatenate([p.places.blocks for p in parts]),
    )
    order = np.argsort(joined.ids, kind="stable")
    cells = [cell for part in parts for cell in part.cells]
    return Keyed(
        Places(joined.ids[order], joined.blocks[order]),
        np.concatenate([p.amd for p in parts if len(p)] or [np.zeros((0, 0))])[order],
        [cells[i] for i in order.tolist()],
    )


def raw(ids: np.ndarray, width: int = 16) -> np.ndarray:
    """Return ids, S16 (n,), as uint8 (n, 16)."""
    return np.ascontiguousarray(ids).view(np.uint8).reshape(-1, width)


def uuids(ids: np.ndarray) -> list[UUID]:
    """Return ids, S16 (n,), as UUIDs."""
    return [UUID(bytes=row.tobytes()) for row in raw(ids)]


def id_keys(ids: np.ndarray) -> np.ndarray:
    """Return ids, uint8 (n, 16), as S16 (n,), which sort and compare."""
    return np.ascontiguousarray(ids).view("S16").reshape(-1)


def _sorted(rows: Any) -> tuple[Places, np.ndarray]:
    ids = id_keys(ids_from_text(rows.column("structure_id")))
    blocks = np.zeros((len(rows), 20), np.uint8)
    blocks[:, :16] = ids_from_text(rows.column("composition_id"))
    sites = rows.column("n_reduced").to_numpy().astype(">u4")
    blocks[:, 16:] = np.ascontiguousarray(sites).view(np.uint8).reshape(-1, 4)
    order = np.argsort(ids, kind="stable")
    return Places(ids[order], blocks.view("S20").reshape(-1)[order]), order
