"""Crystal records out of a store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa

from gandb.core.crystals import Crystal
from gandb.core.errors import NotFoundError
from gandb.schema.tables import structure
from gandb.store import Store
from gandb.store.bulk import fetch

_CELL = ("a", "b", "c", "alpha", "beta", "gamma")


def crystals(connection: sa.Connection, *conditions: Any) -> Iterator[tuple[UUID, Crystal]]:
    """Yield structures with their ids, ordered by id.

    Args:
        connection: an open transaction of a store.
        conditions: SQLAlchemy conditions on the table ``structure``; none for all.
    """
    listed = (structure.c.species, structure.c.frac_coords)
    texts = [sa.func.array_to_string(c, ",", type_=sa.Text()).label(c.name) for c in listed]
    query = (
        sa.select(
            structure.c.id,
            *(structure.c[name] for name in _CELL),
            structure.c.charge,
            sa.cast(structure.c.site_properties, sa.Text()).label("site_properties"),
            *texts,
        )
        .where(*conditions)
        .order_by(structure.c.id)
    )
    for batch in fetch(connection, query).to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            yield UUID(row["id"]), _crystal(row)


def _crystal(row: dict[str, Any]) -> Crystal:
    coords = np.array(row["frac_coords"].split(","), np.float64).reshape(-1, 3)
    properties = json.loads(row["site_properties"]) if row["site_properties"] else {}
    cell = np.array([row[name] for name in _CELL])
    return Crystal(
        lengths=cell[:3],
        angles=cell[3:],
        species=tuple(row["species"].split(",")),
        frac_coords=coords,
        properties={k: tuple(properties[k]) for k in sorted(properties)},
        charge=None if row["charge"] is None or np.isnan(row["charge"]) else row["charge"],
    )


def find_structure(store: Store, text: str) -> tuple[UUID, Crystal]:
    """Return the one structure whose id begins with ``text``.

    Raises:
        NotFoundError: there is none, or there are several.
    """
    wanted = text.strip().lower()
    own = sa.cast(structure.c.id, sa.Text())
    with store.read() as connection:
        ids = connection.scalars(
            sa.select(structure.c.id).where(own.like(f"{wanted}%")).limit(2)
        ).all()
        if wanted and len(ids) == 1:
            return next(crystals(connection, structure.c.id == ids[0]))
    problem = "several structures begin" if len(ids) > 1 else "no structure begins"
    raise NotFoundError(f"{problem} with {text!r}; ids are in the view structures")
