"""Members of dataset versions: as arrays, as queries, as what one version changes of another.

What a version is stored as: `dataset_base` lists a chain of versions, `dataset_change` what each of
them changed, and all of it adds up. A change is +1 for an entry that came, -1 for one that went and
0 for one that moved to another split; the split of an entry is the one that was stated last, and a
version comes later than another of its chain if its own chain is longer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from gandb.core.errors import InputError, NotFoundError
from gandb.datasets.splits import SPLITS
from gandb.schema.tables import dataset_base, dataset_change, dataset_version, entry
from gandb.store.bulk import fetch, ids_from_text

SPLIT_NAMES = pa.array(SPLITS)
ADDED, DROPPED, MOVED = 1, -1, 0
"""Values of ``dataset_change.change``."""


def as_keys(ids: np.ndarray) -> np.ndarray:
    """View ids, uint8 (n, 16), as byte strings (n,), which sort and compare as a whole."""
    return np.ascontiguousarray(ids).view("S16").reshape(-1)


def as_ids(keys: np.ndarray) -> np.ndarray:
    """Turn what `as_keys` returned, in any order, back into ids, uint8 (n, 16)."""
    return np.frombuffer(keys.tobytes(), np.uint8).reshape(-1, 16)


def split_codes(names: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return the indexes into `SPLITS` of names, uint8 (n,).

    Raises:
        InputError: a name is not train, validation or test.
    """
    codes = pc.index_in(names, value_set=SPLIT_NAMES)
    if codes.null_count:
        wrong = pc.unique(pc.filter(names, pc.is_null(codes))).to_pylist()
        raise InputError(f"splits are {', '.join(SPLITS)}, not {', '.join(map(repr, wrong[:5]))}")
    indexes: np.ndarray = codes.to_numpy(zero_copy_only=False)
    return indexes.astype(np.uint8)


@dataclass(frozen=True)
class Members:
    """Distinct entries with their splits, sorted by id.

    Attributes:
        keys: ids as byte strings of 16, ``S16`` (n,), ascending.
        splits: indexes into `SPLITS`, uint8 (n,).
    """

    keys: np.ndarray
    splits: np.ndarray

    @classmethod
    def of(cls, entry_ids: np.ndarray, splits: np.ndarray) -> Members:
        """Sort entries; of one that occurs twice the first counts.

        Args:
            entry_ids: uint8 (n, 16).
            splits: indexes into `SPLITS`, (n,).
        """
        keys, first = np.unique(as_keys(entry_ids), return_index=True)
        return cls(keys, np.asarray(splits)[first].astype(np.uint8))

    @property
    def ids(self) -> np.ndarray:
        """The ids, uint8 (n, 16)."""
        return as_ids(self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def hash(self) -> str:
        """Return the SHA-256 of all ids and then all splits: ``dataset_version.members_hash``."""
        digest = hashlib.sha256(self.keys.tobytes())
        digest.update(self.splits.tobytes())
        return digest.hexdigest()

    def changes_from(self, base: Members) -> Changes:
        """Return what makes these members of ``base``'s."""
        place, held = _find(base.keys, self.keys)
        moved = held.copy()
        moved[held] = base.splits[place[held]] != self.splits[held]
        gone = ~_find(self.keys, base.keys)[1]
        parts = ((self, ~held, ADDED), (base, gone, DROPPED), (self, moved, MOVED))
        return Changes(
            np.concatenate([m.keys[chosen] for m, chosen, _ in parts]),
            np.concatenate([np.full(int(c.sum()), change, np.int16) for _, c, change in parts]),
            np.concatenate([m.splits[chosen] for m, chosen, _ in parts]),
        )

    def with_changes(self, changes: Changes) -> Members:
        """Return the members after changes; the reverse of `changes_from`.

        Raises:
            InputError: an entry is added that is there, or dropped or moved that is not, or
                occurs twice.
        """
        if len(np.unique(changes.keys)) != len(changes.keys):
            raise InputError("an entry occurs twice among the changes of a dataset version")
        place, held = _find(self.keys, changes.keys)
        coming = changes.change == ADDED
        if (held == coming).any():
            raise InputError(
                f"{int((held == coming).sum())} changes of a dataset version do not fit its "
                "parent: they add what is there or drop what is not"
            )
        kept = np.ones(len(self), np.bool_)
        kept[place[changes.change == DROPPED]] = False
        splits = self.splits.copy()
        moved = changes.change == MOVED
        splits[place[moved]] = changes.splits[moved]
        keys = np.concatenate([self.keys[kept], changes.keys[coming]])
        splits = np.concatenate([splits[kept], changes.splits[coming]])
        order = np.argsort(keys, kind="stable")
        return Members(keys[order], splits[order])


@dataclass(frozen=True)
class Changes:
    """What one version changes of another, in no particular order.

    Attributes:
        keys: ids as byte strings, ``S16`` (n,).
        change: `ADDED`, `DROPPED` or `MOVED`, int16 (n,).
        splits: uint8 (n,); of what was dropped the split that it had, otherwise the one it has.
    """

    keys: np.ndarray
    change: np.ndarray
    splits: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)


def _find(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where ``wanted`` stand among sorted ``keys``, and which of them are there."""
    if not len(keys):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted


# --- reading -----------------------------------------------------------------------------


def members_query(version_id: UUID) -> sa.Select[Any]:
    """Return the query for (entry_id, split) of a version's members.

    It finds nothing for a version whose members were not shared: who reads members calls
    `require_members` first, or names the version through `gandb.datasets.versions.resolve`.
    """
    chain = (
        sa.select(dataset_base.c.base_id)
        .where(dataset_base.c.version_id == version_id)
        .scalar_subquery()
    )
    length = (
        sa.select(dataset_base.c.version_id, sa.func.count().label("length"))
        .where(dataset_base.c.version_id.in_(chain))
        .group_by(dataset_base.c.version_id)
        .subquery()
    )
    split = dataset_change.c.split
    code = sa.case((split == SPLITS[0], 0), (split == SPLITS[1], 1), else_=2)
    last = sa.func.max(length.c.length * len(SPLITS) + code) % len(SPLITS)
    return (
        sa.select(
            dataset_change.c.entry_id,
            sa.case((last == 0, SPLITS[0]), (last == 1, SPLITS[1]), else_=SPLITS[2]).label("split"),
        )
        .join(length, length.c.version_id == dataset_change.c.version_id)
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


def read_members(connection: sa.Connection, version_id: UUID) -> Members:
    """Return the members of a version.

    Raises:
        NotFoundError: the store has no such version, or its members were not shared.
    """
    require_members(connection, version_id)
    rows = fetch(connection, members_query(version_id))
    return Members.of(ids_from_text(rows.column("entry_id")), split_codes(rows.column("split")))


def members_shared(connection: sa.Connection, version_id: UUID) -> bool:
    """Say whether the store holds the members of a version, and not its name and counts alone."""
    query = sa.select(sa.literal(1)).where(dataset_base.c.version_id == version_id).limit(1)
    return connection.execute(query).first() is not None


def require_members(connection: sa.Connection, version_id: UUID, name: str | None = None) -> None:
    """Refuse a version whose members the store does not hold.

    Args:
        connection: an open transaction.
        version_id: the version.
        name: what to call it in the message; its id by default.

    Raises:
        NotFoundError: there is no such version, or its members were not shared.
    """
    if members_shared(connection, version_id):
        return
    called = name or str(version_id)
    query = sa.select(dataset_version.c.n_entries).where(dataset_version.c.id == version_id)
    row = connection.execute(query).first()
    if row is None:
        raise NotFoundError(f"no dataset version {called}")
    raise NotFoundError(
        f"the {row[0]:,} members of {called} were not shared with this store, which knows its "
        "counts and hash alone; ask the group it came from for a bundle with its entries, then: "
        "gandb share merge BUNDLE"
    )
