"""Dataset versions: making them, naming them, reading their members.

A version holds what it changes against its base; `dataset_base` lists the chain whose changes add
up. Its id is taken from its sorted members, their splits and its parent, so the same selection of
the same data has the same id everywhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from gandb.core.compositions import uuid_array
from gandb.core.errors import NotFoundError, UsageError
from gandb.core.ids import Domain, content_id, json_id
from gandb.datasets.splits import SPLITS, SplitRecipe
from gandb.jobs.queue import now
from gandb.schema.tables import (
    dataset,
    dataset_base,
    dataset_change,
    dataset_number,
    dataset_parent,
    dataset_version,
    entry,
)
from gandb.store import Store, Transaction
from gandb.store.bulk import fetch, ids_from_text

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_SPLIT_NAMES = pa.array(SPLITS)
_LONGEST = 2


@dataclass(frozen=True)
class Version:
    """A numbered version of a dataset."""

    name: str
    number: int
    id: UUID
    parent_id: UUID | None
    n_entries: int
    n_compositions: int
    split_recipe: Mapping[str, Any]
    message: str

    @property
    def reference(self) -> str:
        """``NAME@NUMBER``."""
        return f"{self.name}@{self.number}"


@dataclass(frozen=True)
class Selection:
    """Entries chosen for a version.

    Attributes:
        entry_ids: uint8 (n, 16).
        composition_ids: uint8 (n, 16).
        origin: how they were chosen, as plain data.
    """

    entry_ids: np.ndarray
    composition_ids: np.ndarray
    origin: Mapping[str, Any]


# --- reading -----------------------------------------------------------------------------


def parse_reference(text: str) -> tuple[str, int | None]:
    """Split ``NAME@3`` into name and number; ``NAME`` alone has none and means the newest.

    Raises:
        UsageError: it is neither.
    """
    name, at, number = text.partition("@")
    if not _NAME.fullmatch(name) or (at and not number.isdecimal()):
        raise UsageError(
            f"{text!r} is not a dataset version: write NAME@NUMBER, such as mp@3, where a name "
            "begins with a letter and has letters, digits, '_', '.' and '-' (at most 64)"
        )
    return name, int(number) if at else None


def resolve(store: Store, reference: str) -> Version:
    """Find a version by ``NAME@3`` (or ``NAME`` for the newest).

    Raises:
        NotFoundError: there is none; names those that exist.
    """
    name, number = parse_reference(reference)
    with store.read() as connection:
        versions = _versions(connection, name)
        if not versions:
            names = [r[0] for r in connection.execute(sa.select(dataset.c.name))]
            raise NotFoundError.naming("dataset", name, names)
        if number is None:
            return versions[-1]
        for version in versions:
            if version.number == number:
                return version
        raise NotFoundError.naming("dataset version", reference, [v.reference for v in versions])


def reference_of(connection: sa.Connection, version_id: UUID) -> str:
    """Return a ``NAME@3`` that stands for a version."""
    query = (
        sa.select(dataset.c.name, dataset_number.c.number)
        .join(dataset, dataset.c.id == dataset_number.c.dataset_id)
        .where(dataset_number.c.version_id == version_id)
        .order_by(dataset.c.name, dataset_number.c.number)
    )
    row = connection.execute(query).first()
    return f"{row[0]}@{row[1]}" if row else str(version_id)


def members_query(version_id: UUID) -> sa.Select[Any]:
    """Return the query for (entry_id, split) of a version's members."""
    return (
        sa.select(dataset_change.c.entry_id, sa.func.max(dataset_change.c.split).label("split"))
        .join(dataset_base, dataset_base.c.base_id == dataset_change.c.version_id)
        .where(dataset_base.c.version_id == version_id)
        .group_by(dataset_change.c.entry_id)
        .having(sa.func.sum(dataset_change.c.change) == 1)
    )


def member_compositions(version_id: UUID, split: str | None = None) -> sa.Select[Any]:
    """Return the query for the distinct composition ids of a version, or of one split of it."""
    members = members_query(version_id).subquery()
    query = (
        sa.select(entry.c.composition_id).join(members, members.c.entry_id == entry.c.id).distinct()
    )
    return query if split is None else query.where(members.c.split == split)


def split_sizes(store: Store, version_id: UUID) -> dict[str, dict[str, int]]:
    """Count entries and distinct compositions of every split."""
    members = members_query(version_id).subquery()
    query = (
        sa.select(
            members.c.split,
            sa.func.count(),
            sa.func.count(entry.c.composition_id.distinct()),
        )
        .join(entry, entry.c.id == members.c.entry_id)
        .group_by(members.c.split)
    )
    with store.read() as connection:
        found = {r[0]: {"entries": r[1], "compositions": r[2]} for r in connection.execute(query)}
    return {s: found.get(s, {"entries": 0, "compositions": 0}) for s in SPLITS}


def _versions(connection: sa.Connection, name: str) -> list[Version]:
    query = (
        sa.select(dataset_number, dataset_version)
        .join(dataset, dataset.c.id == dataset_number.c.dataset_id)
        .join(dataset_version, dataset_version.c.id == dataset_number.c.version_id)
        .where(dataset.c.name == name)
        .order_by(dataset_number.c.number)
    )
    return [
        Version(
            name=name,
            number=row["number"],
            id=row["version_id"],
            parent_id=row["parent_id"],
            n_entries=row["n_entries"],
            n_compositions=row["n_compositions"],
            split_recipe=row["split_recipe"],
            message=row["message"],
        )
        for row in connection.execute(query).mappings()
    ]


# --- making ------------------------------------------------------------------------------


def create(
    store: Store,
    name: str,
    selection: Selection,
    message: str,
    split: SplitRecipe | None = None,
) -> tuple[Version, bool]:
    """Make the next version of a dataset.

    Args:
        store: where.
        name: name of the dataset; its newest version becomes the parent.
        selection: the members.
        message: why it is made.
        split: how to split; by default as the parent, else 0.9, 0.05, 0.05.

    Returns:
        the version and whether it is new: the same members under the same split recipe as the
        newest version make no further one.

    Raises:
        UsageError: the name cannot be used, or nothing was selected.
    """
    if parse_reference(name)[1] is not None:
        raise UsageError(f"{name!r}: give the name alone; the number is the next one")
    if not len(selection.entry_ids):
        raise UsageError(
            f"no entry was selected for {name!r}: a dataset version needs at least one"
        )
    if len(selection.entry_ids) != len(selection.composition_ids):
        raise ValueError(
            f"{len(selection.entry_ids)} entries with {len(selection.composition_ids)} compositions"
        )
    with store.write() as tx:
        existing = _versions(tx.connection, name)
        parent = existing[-1] if existing else None
        if split is None:
            split = _inherited(parent)
        members = _Members.of(selection, split)
        if (
            parent is not None
            and parent.split_recipe == split.as_json()
            and _hash_of(tx, parent.id) == members.hash()
        ):
            return parent, False
        version_id = members.version_id(split, parent)
        row = {
            "id": version_id,
            "parent_id": parent.id if parent else None,
            "members_hash": members.hash(),
            "split_recipe": split.as_json(),
            "n_entries": len(members.ids),
            "n_compositions": len(np.unique(_as_keys(selection.composition_ids))),
        }
        if tx.insert_new(dataset_version, row):
            if parent is not None:
                own = {"version_id": version_id, "position": 0, "parent_id": parent.id}
                tx.execute(dataset_parent.insert(), own)
            _write_changes(tx, version_id, members, parent, split)
        number = parent.number + 1 if parent else 1
        dataset_id = content_id(Domain.DATASET, name.encode())
        tx.insert_new(dataset, {"id": dataset_id, "name": name})
        tx.execute(
            dataset_number.insert(),
            {
                "dataset_id": dataset_id,
                "number": number,
                "version_id": version_id,
                "message": message,
                "selection": dict(selection.origin),
                "created_at": now(),
            },
        )
        return _versions(tx.connection, name)[-1], True


@dataclass(frozen=True)
class _Members:
    """Sorted members: ids as 16-byte keys (n,) and splits uint8 (n,)."""

    ids: np.ndarray
    splits: np.ndarray

    @classmethod
    def of(cls, selection: Selection, split: SplitRecipe) -> _Members:
        keys, first = np.unique(_as_keys(selection.entry_ids), return_index=True)
        return cls(keys, split.assign(selection.composition_ids[first]))

    def hash(self) -> str:
        digest = hashlib.sha256(self.ids.tobytes())
        digest.update(self.splits.tobytes())
        return digest.hexdigest()

    def version_id(self, split: SplitRecipe, parent: Version | None) -> UUID:
        return json_id(
            Domain.DATASET_VERSION,
            {
                "members": self.hash(),
                "parent": str(parent.id) if parent else None,
                "split": split.as_json(),
            },
        )


def _write_changes(
    tx: Transaction,
    version_id: UUID,
    members: _Members,
    parent: Version | None,
    split: SplitRecipe,
) -> None:
    """Write what differs from the parent; all members where the chain would grow too long.

    Who reads a version reads its whole chain, so a chain holds at most `_LONGEST` times as many
    changes as the version has members. All entries of a chain keep their split.
    """
    ids, splits = members.ids, members.splits
    change = np.ones(len(ids), np.int16)
    bases = [version_id]
    if parent is not None and parent.split_recipe == split.as_json():
        old_ids, old_splits = _read_members(tx.connection, parent.id)
        added = ~np.isin(ids, old_ids)
        dropped = ~np.isin(old_ids, ids)
        chain = [
            r[0]
            for r in tx.execute(
                sa.select(dataset_base.c.base_id).where(dataset_base.c.version_id == parent.id)
            )
        ]
        held = sa.select(sa.func.count()).where(dataset_change.c.version_id.in_(chain))
        differing = int(added.sum() + dropped.sum())
        if tx.execute(held).scalar_one() + differing <= _LONGEST * len(ids):
            ids = np.concatenate([ids[added], old_ids[dropped]])
            splits = np.concatenate([splits[added], old_splits[dropped]])
            change = np.ones(len(ids), np.int16)
            change[added.sum() :] = -1
            bases += chain
    raw = np.frombuffer(ids.tobytes(), np.uint8).reshape(-1, 16)
    own = np.tile(np.frombuffer(version_id.bytes, np.uint8), (len(raw), 1))
    rows = pa.table(
        {
            "version_id": uuid_array(own),
            "entry_id": uuid_array(raw),
            "change": pa.array(change),
            "split": _SPLIT_NAMES.take(pa.array(splits)),
        }
    )
    tx.merge(dataset_change, rows)
    tx.execute(dataset_base.insert(), [{"version_id": version_id, "base_id": b} for b in bases])


def _inherited(parent: Version | None) -> SplitRecipe:
    if parent is None:
        return SplitRecipe()
    recipe = parent.split_recipe
    train, validation, test = (float(recipe["fractions"][s]) for s in SPLITS)
    return SplitRecipe((train, validation, test), int(recipe["seed"]))


def _hash_of(tx: Transaction, version_id: UUID) -> str:
    query = sa.select(dataset_version.c.members_hash).where(dataset_version.c.id == version_id)
    return str(tx.execute(query).scalar_one())


def _read_members(connection: sa.Connection, version_id: UUID) -> tuple[np.ndarray, np.ndarray]:
    rows = fetch(connection, members_query(version_id))
    splits = pc.index_in(rows.column("split"), value_set=_SPLIT_NAMES)
    return _as_keys(ids_from_text(rows.column("entry_id"))), splits.to_numpy().astype(np.uint8)


def _as_keys(ids: np.ndarray) -> np.ndarray:
    """View ids, uint8 (n, 16), as byte strings (n,), which sort and compare as a whole."""
    return np.ascontiguousarray(ids).view("S16").reshape(-1)
