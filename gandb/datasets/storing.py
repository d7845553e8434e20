"""Writing dataset versions: with their members, or as a stub that members may fill later.

A version's id is taken from the hash of its sorted members with their splits, its split recipe and
its parents, so the same work on the same data has the same id in every store. Whoever writes a
version here may state the id that it should have, and is refused if it comes out otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from gandb.core.compositions import uuid_array
from gandb.core.errors import InputError
from gandb.core.ids import Domain, json_id
from gandb.datasets.members import (
    ADDED,
    SPLIT_NAMES,
    Changes,
    Members,
    as_ids,
    members_shared,
    read_members,
)
from gandb.schema.tables import (
    dataset_base,
    dataset_change,
    dataset_parent,
    dataset_version,
    entry,
)
from gandb.store import Transaction

_LONGEST = 2
_MOST_BASES = 256


def version_id(members_hash: str, split_recipe: Mapping[str, Any], parents: Sequence[UUID]) -> UUID:
    """Return the id of a dataset version.

    Args:
        members_hash: `Members.hash` of its members.
        split_recipe: how they were split, as plain data.
        parents: what it was made from, the first parent first.
    """
    content: dict[str, Any] = {
        "members": members_hash,
        "parent": str(parents[0]) if parents else None,
        "split": dict(split_recipe),
    }
    if len(parents) > 1:
        content["united"] = [str(p) for p in parents[1:]]
    return json_id(Domain.DATASET_VERSION, content)


def store_version(
    tx: Transaction,
    members: Members,
    split_recipe: Mapping[str, Any],
    parents: Sequence[UUID] = (),
    *,
    n_compositions: int | None = None,
    expected: UUID | None = None,
) -> tuple[UUID, bool]:
    """Write a version with its members; of one that is a stub, the members.

    It gets no name: that is a row of `dataset_number`.

    Args:
        tx: a transaction that is alone.
        members: its entries, which the store holds, with their splits.
        split_recipe: how they were split, as plain data.
        parents: versions of the store that it was made from, the first parent first; stubs too.
        n_compositions: how many compositions they have; counted from the store by default.
        expected: the id that it should have, such as a bundle states.

    Returns:
        its id, and whether it was new (a stub that was filled is not).

    Raises:
        InputError: the id comes out otherwise than expected, there are no members, or the store
            lacks a parent.
    """
    if not len(members):
        raise InputError("a dataset version needs at least one member")
    members_hash = members.hash()
    own = version_id(members_hash, split_recipe, parents)
    _require_id(own, expected)
    if n_compositions is None:
        n_compositions = _count_compositions(tx, members)
    row = {
        "members_hash": members_hash,
        "split_recipe": dict(split_recipe),
        "n_entries": len(members),
        "n_compositions": n_compositions,
    }
    new = _insert(tx, own, row, parents)
    if new or not members_shared(tx.connection, own):
        _write_members(tx, own, members, parents)
    return own, new


def write_stub(
    tx: Transaction,
    members_hash: str,
    split_recipe: Mapping[str, Any],
    parents: Sequence[UUID] = (),
    *,
    n_entries: int,
    n_compositions: int,
    expected: UUID | None = None,
) -> tuple[UUID, bool]:
    """Write a version without its members, which were not shared.

    Args:
        tx: a transaction that is alone.
        members_hash: hash of its members.
        split_recipe: how they were split, as plain data.
        parents: versions of the store that it was made from, the first parent first; stubs too.
        n_entries: how many members it has.
        n_compositions: how many compositions these have.
        expected: the id that it should have.

    Returns:
        its id, and whether it was new; a version that is there, with or without its members, stays
        as it is.

    Raises:
        InputError: the id comes out otherwise than expected, or the store lacks a parent.
    """
    own = version_id(members_hash, split_recipe, parents)
    _require_id(own, expected)
    row = {
        "members_hash": members_hash,
        "split_recipe": dict(split_recipe),
        "n_entries": n_entries,
        "n_compositions": n_compositions,
    }
    return own, _insert(tx, own, row, parents)


def fill_stub(tx: Transaction, stub: UUID, members: Members) -> bool:
    """Give a stub its members; return False, and change nothing, if it has them.

    Args:
        tx: a transaction that is alone.
        stub: the version.
        members: its entries, which the store holds, with their splits.

    Raises:
        InputError: these are not its members, or the store has no such version.
    """
    query = sa.select(dataset_version.c.members_hash).where(dataset_version.c.id == stub)
    row = tx.execute(query).first()
    if row is None:
        raise InputError(f"the store has no dataset version {stub}, whose members these should be")
    if row[0] != members.hash():
        raise InputError(
            f"these {len(members):,} entries are not the members of the dataset version {stub}: "
            f"their hash is {members.hash()}, not {row[0]}"
        )
    if members_shared(tx.connection, stub):
        return False
    own = (
        sa.select(dataset_parent.c.parent_id)
        .where(dataset_parent.c.version_id == stub)
        .order_by(dataset_parent.c.position)
    )
    _write_members(tx, stub, members, [r[0] for r in tx.execute(own)])
    return True


# --- rows --------------------------------------------------------------------------------


def _require_id(own: UUID, expected: UUID | None) -> None:
    if expected is not None and own != expected:
        raise InputError(
            f"the dataset version {expected} does not hold what its id says: members, splits and "
            f"parents make {own}"
        )


def _insert(tx: Transaction, own: UUID, row: Mapping[str, Any], parents: Sequence[UUID]) -> bool:
    found = set(
        tx.connection.scalars(
            sa.select(dataset_version.c.id).where(dataset_version.c.id.in_(parents))
        )
    )
    missing = [str(p) for p in parents if p not in found]
    if missing:
        raise InputError(
            f"the dataset version {own} was made from versions that this store lacks: "
            + ", ".join(missing)
        )
    first = parents[0] if parents else None
    if not tx.insert_new(dataset_version, {"id": own, "parent_id": first, **row}):
        return False
    for position, parent in enumerate(parents):
        values = {"version_id": own, "position": position, "parent_id": parent}
        tx.execute(dataset_parent.insert(), values)
    return True


def _count_compositions(tx: Transaction, members: Members) -> int:
    column = pa.table({"id": uuid_array(members.ids)})
    stage = tx.stage(entry, column)
    staged = sa.table(stage, sa.column("id"))
    query = sa.select(sa.func.count(entry.c.composition_id.distinct())).select_from(
        entry.join(staged, staged.c.id == entry.c.id)
    )
    counted = int(tx.execute(query).scalar_one())
    tx.unstage(stage)
    return counted


def _write_members(tx: Transaction, own: UUID, members: Members, parents: Sequence[UUID]) -> None:
    """Write what differs from one of the parents; all members where that would cost more.

    Who reads a version reads its whole chain, so a chain holds at most `_LONGEST` times as many
    changes as the version has members, and at most `_MOST_BASES` versions. Of several parents the
    one that least differs from is built upon.
    """
    best = Changes(members.keys, np.full(len(members), ADDED, np.int16), members.splits)
    bases: list[UUID] = []
    for parent in parents:
        chain, held = _chain(tx, parent)
        if not chain or len(chain) >= _MOST_BASES:
            continue
        changes = members.changes_from(read_members(tx.connection, parent))
        fits = held + len(changes) <= _LONGEST * len(members)
        if fits and len(changes) < len(best):
            best, bases = changes, chain
    rows = pa.table(
        {
            "version_id": _repeated(own, len(best)),
            "entry_id": uuid_array(as_ids(best.keys)),
            "change": pa.array(best.change),
            "split": SPLIT_NAMES.take(pa.array(best.splits)),
        }
    )
    tx.append(dataset_change, rows)
    chain = [own, *bases]
    raw = np.frombuffer(b"".join(b.bytes for b in chain), np.uint8).reshape(-1, 16)
    links = {"version_id": _repeated(own, len(chain)), "base_id": uuid_array(raw)}
    tx.append(dataset_base, pa.table(links))


def _chain(tx: Transaction, version: UUID) -> tuple[list[UUID], int]:
    """Return the bases of a version and how many changes they hold together."""
    query = sa.select(dataset_base.c.base_id).where(dataset_base.c.version_id == version)
    bases = [r[0] for r in tx.execute(query)]
    held = sa.select(sa.func.count()).where(dataset_change.c.version_id.in_(bases))
    return bases, int(tx.execute(held).scalar_one()) if bases else 0


def _repeated(own: UUID, n: int) -> pa.ExtensionArray:
    return uuid_array(np.tile(np.frombuffer(own.bytes, np.uint8), (n, 1)))
