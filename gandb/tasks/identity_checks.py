"""Checks of ``gandb db verify`` on keys, comparisons, materials and novelty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa

from gandb.core.errors import InputError
from gandb.identity.cells import Reduced
from gandb.schema.tables import (
    bundle,
    candidate,
    candidate_novelty,
    comparison,
    material_member,
    structure,
    structure_key,
)
from gandb.store.bulk import fetch, ids_from_text
from gandb.store.verify import finding, query_finding
from gandb.tasks.keyed import id_keys, uuids
from gandb.tasks.keys import id_range
from gandb.tasks.structure_novelty import GRADES, KNOWN, SUBSTITUTION

_PARTS = 16  # of the keys, which are read one after the other


def verify_identity(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    """Check that identity says of structures, pairs and candidates what follows from the rest."""
    yield from _verify_keys(connection)
    yield from _verify_comparisons(connection)
    for (recipe_id,) in connection.execute(sa.select(material_member.c.recipe_id).distinct()):
        yield _verify_materials(connection, recipe_id)
    yield from _verify_novelty(connection)


def _verify_keys(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    key = structure_key.c
    other = sa.select(key.structure_id).join(structure, structure.c.id == key.structure_id)
    query = other.where(structure.c.composition_id != key.composition_id)
    yield query_finding(connection, "structure_key has its structure's composition", query)
    there = [key.n_reduced, key.volume_per_site, key.amd, key.cell]
    whole = sa.and_(key.error.is_(None), *(column.is_not(None) for column in there))
    none = sa.and_(key.error.is_not(None), *(column.is_(None) for column in there))
    query = sa.select(key.structure_id).where(~sa.or_(whole, none))
    yield query_finding(connection, "structure_key has a cell or an error", query)
    wrong: list[str] = []
    for part in range(_PARTS):
        low, high = id_range(part, _PARTS)
        query = sa.select(key.structure_id, key.n_reduced, key.cell).where(
            key.cell.is_not(None), key.structure_id >= low
        )
        rows = fetch(connection, query if high is None else query.where(key.structure_id < high))
        columns = (rows.column(name).to_pylist() for name in ("structure_id", "n_reduced", "cell"))
        wrong += [own for own, n, cell in zip(*columns, strict=True) if _sites(cell) != n]
    yield finding("structure_key.cell has the sites that it should", len(wrong), wrong)


def _sites(cell: bytes) -> int | None:
    try:
        return len(Reduced.from_bytes(cell))
    except InputError:
        return None


def _verify_comparisons(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    own = comparison.c
    query = sa.select(own.structure_a).where(own.structure_a >= own.structure_b)
    yield query_finding(connection, "comparison names the smaller id first", query)
    said = sa.or_(sa.func.coalesce(own.forward, False), sa.func.coalesce(own.backward, False))
    query = sa.select(own.structure_a).where(own.matched != said)
    yield query_finding(connection, "comparison.matched follows from both directions", query)
    query = sa.select(own.structure_a).where(
        sa.or_(
            own.matched != own.rms.is_not(None),
            own.matched != own.max_distance.is_not(None),
        )
    )
    yield query_finding(connection, "comparison has distances where it matched", query)
    one, other = structure.alias(), structure.alias()
    query = (
        sa.select(own.structure_a)
        .join(one, one.c.id == own.structure_a)
        .join(other, other.c.id == own.structure_b)
        .where(one.c.composition_id != other.c.composition_id)
    )
    yield query_finding(connection, "comparison is of one composition", query)


def _verify_materials(connection: sa.Connection, recipe_id: UUID) -> dict[str, Any]:
    """Compare materials with the components of the matches among their members."""
    member, own = material_member.c, comparison.c
    query = sa.select(member.structure_id, member.material_id).where(member.recipe_id == recipe_id)
    rows = fetch(connection, query)
    ids, materials = (
        id_keys(ids_from_text(rows.column(name))) for name in ("structure_id", "material_id")
    )
    order = np.argsort(ids)
    ids, materials = ids[order], materials[order]
    query = sa.select(own.structure_a, own.structure_b).where(
        own.recipe_id == recipe_id, own.matched
    )
    rows = fetch(connection, query)
    pairs = np.empty((len(rows), 2), np.int64)
    within = np.ones(len(rows), bool)
    for side, name in enumerate(("structure_a", "structure_b")):
        ends = id_keys(ids_from_text(rows.column(name)))
        pairs[:, side] = np.minimum(np.searchsorted(ids, ends), len(ids) - 1)
        within &= ids[pairs[:, side]] == ends  # new candidates are no members yet
    expected = ids[components(len(ids), pairs[within])]
    wrong = [str(i) for i in uuids(ids[expected != materials])]
    what = f"materials are the components of the matches ({recipe_id})"
    return finding(what, len(wrong), wrong)


def components(n: int, pairs: np.ndarray) -> np.ndarray:
    """Return the smallest of what each of n is linked to by pairs, int64 (k, 2)."""
    label = np.arange(n)
    while len(pairs):
        ends = label[pairs]
        np.minimum.at(label, ends.max(axis=1), ends.min(axis=1))
        while not np.array_equal(label, label[label]):
            label = label[label]
        pairs = pairs[label[pairs[:, 0]] != label[pairs[:, 1]]]
    return label


def _verify_novelty(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    own = candidate_novelty.c
    named = own.level.in_([KNOWN, SUBSTITUTION])
    told = sa.and_(
        own.representative_id.is_not(None), named == own.reference_structure_id.is_not(None)
    )
    # What others shared without the data that it was compared with names no structure of it.
    cut = sa.and_(
        sa.exists(sa.select(sa.literal(1)).select_from(bundle)),
        sa.or_(named, own.reference_structure_id.is_(None)),
    )
    judged = sa.and_(own.level.between(0, len(GRADES) - 1), own.error.is_(None), sa.or_(told, cut))
    failed = sa.and_(
        own.level.is_(None),
        own.error.is_not(None),
        own.representative_id.is_(None),
        own.reference_structure_id.is_(None),
    )
    query = sa.select(own.candidate_id).where(
        ~sa.or_(sa.func.coalesce(judged, False), sa.func.coalesce(failed, False))
    )
    yield query_finding(connection, "candidate_novelty has a grade or an error", query)
    joined = candidate_novelty.join(candidate, candidate.c.id == own.candidate_id)
    query = (
        sa.select(own.candidate_id)
        .select_from(joined)
        .where(
            sa.or_(
                candidate.c.structure_id.is_(None),
                own.representative_id > candidate.c.structure_id,
            )
        )
    )
    yield query_finding(connection, "candidate_novelty.representative_id is the smallest", query)
