"""Crystal records out of a store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa

from gandb.core.crystals import Crystal
from gandb.core.errors import NotFoundError
from gandb.schema.tables import entry, entry_alias, structure
from gandb.store import Store
from gandb.store.bulk import fetch

_LISTED = 2_000  # structures that are read at once
_CELL = ("a", "b", "c", "alpha", "beta", "gamma")
RECORD = (
    structure.c.id,
    *(structure.c[name] for name in _CELL),
    structure.c.charge,
    sa.cast(structure.c.site_properties, sa.Text()).label("site_properties"),
    structure.c.species,
    structure.c.frac_coords,
)
"""Columns that make up a crystal record."""


def crystals(connection: sa.Connection, *conditions: Any) -> Iterator[tuple[UUID, Crystal]]:
    """Yield structures with their ids, ordered by id.

    Args:
        connection: an open transaction of a store.
        conditions: SQLAlchemy conditions on the table ``structure``; none for all.
    """
    query = sa.select(*RECORD).where(*conditions).order_by(structure.c.id)
    for batch in fetch(connection, query).to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            yield UUID(row["id"]), crystal_of_row(row)


def crystals_of(store: Store, ids: Sequence[str]) -> dict[str, Crystal]:
    """Return structures by their ids as texts."""
    found: dict[str, Crystal] = {}
    distinct = sorted(set(ids))
    for start in range(0, len(distinct), _LISTED):
        wanted = [UUID(own) for own in distinct[start : start + _LISTED]]
        with store.read() as connection:
            held = crystals(connection, structure.c.id.in_(wanted))
            found |= {str(own): crystal for own, crystal in held}
    return found


def crystal_of_row(row: Mapping[str, Any]) -> Crystal:
    """Return the crystal of a row of `RECORD`'s columns."""
    properties = json.loads(row["site_properties"]) if row["site_properties"] else {}
    cell = np.array([row[name] for name in _CELL])
    return Crystal(
        lengths=cell[:3],
        angles=cell[3:],
        species=tuple(row["species"]),
        frac_coords=np.array(row["frac_coords"]).reshape(-1, 3),
        properties={k: tuple(properties[k]) for k in sorted(properties)},
        charge=None if row["charge"] is None or np.isnan(row["charge"]) else row["charge"],
    )


def has_structures(store: Store) -> bool:
    """Say whether a store holds any structure."""
    with store.read() as connection:
        return connection.execute(sa.select(structure.c.id).limit(1)).first() is not None


def find_structure(store: Store, text: str) -> tuple[UUID, Crystal]:
    """Return the one structure whose id begins with ``text``, or that of an entry of that id.

    Args:
        store: where to look.
        text: beginning of a structure id, or the id of an entry in its database, such as mp-149.

    Raises:
        NotFoundError: there is none, or there are several.
    """
    wanted = text.strip()
    own = sa.cast(structure.c.id, sa.Text())
    with store.read() as connection:
        ids: list[UUID] = []
        if wanted:
            query = (
                sa.select(structure.c.id)
                .where(own.startswith(wanted.lower(), autoescape=True))
                .limit(2)
            )
            ids = list(connection.scalars(query)) or _of_entry(connection, wanted)
        if len(ids) == 1:
            return next(crystals(connection, structure.c.id == ids[0]))
    problem = "several structures are called" if len(ids) > 1 else "no structure is called"
    raise NotFoundError(f"{problem} {text!r}; ids are in the views structures and entries")


def _of_entry(connection: sa.Connection, external_id: str) -> list[UUID]:
    alias = sa.select(entry_alias.c.entry_id).where(entry_alias.c.alias == external_id)
    query = sa.select(entry.c.structure_id).where(
        entry.c.structure_id.is_not(None),
        sa.or_(entry.c.external_id == external_id, entry.c.id.in_(alias)),
    )
    return list(connection.scalars(query.distinct().limit(2)))
