"""The dataset versions of a bundle: their graph, and their members as arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gandb.core.errors import InputError
from gandb.datasets.members import Changes, Members, as_keys, split_codes
from gandb.sharing.bundles.bundle import Bundle
from gandb.sharing.verifying.values import ids_of

_HELD = 8
"""Versions whose members are kept at hand, as others build on them."""


@dataclass(frozen=True)
class BundleVersion:
    """A row of ``dataset_version`` with its parents, the first parent first.

    Attributes:
        base: the version whose members its changes apply to; None if they are all its members.
        shared: it has members in the bundle; False for a stub.
    """

    id: UUID
    parents: tuple[UUID, ...]
    members_hash: str
    split_recipe: Mapping[str, Any]
    n_entries: int
    n_compositions: int
    base: UUID | None
    shared: bool


class BundleVersions:
    """The versions of a bundle, parents before those made from them.

    Raises:
        InputError: parents or bases form a circle, are missing or contradict each other.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._where = str(bundle.path)
        rows = {name: _rows(bundle, name) for name in _SMALL}
        parents: dict[str, list[tuple[int, str]]] = {}
        for row in rows["dataset_parent"]:
            parents.setdefault(row["version_id"], []).append((row["position"], row["parent_id"]))
        bases: dict[str, set[str]] = {}
        for row in rows["dataset_base"]:
            bases.setdefault(row["version_id"], set()).add(row["base_id"])
        found: dict[UUID, BundleVersion] = {}
        for row in rows["dataset_version"]:
            version = self._version(row, parents.pop(row["id"], []), bases)
            found[version.id] = version
        for name, left in (("dataset_parent", parents), ("dataset_base", bases)):
            known = {str(i) for i in found}
            if strange := [i for i in left if i not in known]:
                raise self._error(name, f"it is of a version {strange[0]} that is not there")
        self._all = found
        self.order = tuple(self._sorted())
        self._changes = _Changes.of(bundle)
        self._held: dict[UUID, Members] = {}

    def __iter__(self) -> Iterator[BundleVersion]:
        return (self._all[i] for i in self.order)

    def __len__(self) -> int:
        return len(self.order)

    def __contains__(self, version_id: object) -> bool:
        return version_id in self._all

    def members(self, version: BundleVersion) -> Members:
        """Return the members of a version that is no stub.

        Raises:
            InputError: its changes do not fit what they are changes of.
        """
        if version.id not in self._held:
            changes = self._changes.of_version(version.id)
            try:
                if version.base is None:
                    if len(changes) and (changes.change != 1).any():
                        raise InputError("it drops members of no other version")
                    if len(np.unique(changes.keys)) != len(changes.keys):
                        raise InputError("an entry is there twice")
                    found = Members(changes.keys, changes.splits)
                else:
                    found = self.members(self._all[version.base]).with_changes(changes)
            except InputError as error:
                raise self._error("dataset_member", f"version {version.id}: {error}") from None
            while len(self._held) >= _HELD:
                del self._held[next(iter(self._held))]
            self._held[version.id] = found
        return self._held[version.id]

    def strangers(self) -> list[UUID]:
        """Return versions that have members in the bundle and are none, or stubs."""
        shared = {v.id for v in self._all.values() if v.shared}
        return [i for i in self._changes.versions if i not in shared]

    # --- how -----------------------------------------------------------------------------

    def _error(self, table: str, reason: str) -> InputError:
        return InputError(f"{self._where}: tables/{table}.parquet: {reason}")

    def _version(
        self, row: Mapping[str, Any], parents: list[tuple[int, str]], bases: dict[str, set[str]]
    ) -> BundleVersion:
        own = row["id"]
        parents.sort()
        if [position for position, _ in parents] != list(range(len(parents))):
            raise self._error("dataset_parent", f"parents of version {own} are not numbered from 0")
        first = parents[0][1] if parents else None
        if first != row["parent_id"]:
            raise self._error(
                "dataset_version", f"version {own} names another parent than dataset_parent does"
            )
        chain = bases.get(own)
        base = None
        if chain is not None:
            if own not in chain:
                raise self._error("dataset_base", f"version {own} is not among its own bases")
            rest = chain - {own}
            if rest:
                base = max(rest, key=lambda b: (len(bases.get(b, ())), b))
                if bases.get(base) != rest:
                    raise self._error("dataset_base", f"the bases of version {own} form no chain")
        return BundleVersion(
            id=UUID(own),
            parents=tuple(UUID(p) for _, p in parents),
            members_hash=row["members_hash"],
            split_recipe=json.loads(row["split_recipe"]),
            n_entries=row["n_entries"],
            n_compositions=row["n_compositions"],
            base=None if base is None else UUID(base),
            shared=chain is not None,
        )

    def _sorted(self) -> Iterator[UUID]:
        """Yield versions after their parents and bases."""
        state: dict[UUID, int] = {}
        for start in sorted(self._all, key=str):
            stack = [start]
            while stack:
                own = stack[-1]
                if state.get(own) == 2:
                    stack.pop()
                    continue
                needed = [*self._all[own].parents]
                if (base := self._all[own].base) is not None:
                    needed.append(base)
                if missing := [p for p in needed if p not in self._all]:
                    raise self._error(
                        "dataset_parent", f"version {own} is made from {missing[0]}, not there"
                    )
                waiting = [p for p in needed if state.get(p) != 2]
                if not waiting:
                    state[own] = 2
                    stack.pop()
                    yield own
                elif state.get(own) == 1 or own in waiting:
                    raise self._error("dataset_parent", f"version {own} comes from itself")
                else:
                    state[own] = 1
                    stack += waiting


_SMALL = ("dataset_version", "dataset_parent", "dataset_base")


def _rows(bundle: Bundle, name: str) -> list[dict[str, Any]]:
    with pq.ParquetFile(bundle.tables[name]) as file:
        return list(file.read().to_pylist())


@dataclass(frozen=True, eq=False)
class _Changes:
    """All rows of ``dataset_member``, sorted by version and entry."""

    versions: dict[UUID, slice]
    keys: np.ndarray
    change: np.ndarray
    splits: np.ndarray

    @classmethod
    def of(cls, bundle: Bundle) -> _Changes:
        owners, keys = [np.zeros(0, "S16")], [np.zeros(0, "S16")]
        change, splits = [np.zeros(0, np.int16)], [np.zeros(0, np.uint8)]
        path = bundle.tables["dataset_member"]
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                rows: pa.Table = file.read_row_group(group)
                owners.append(as_keys(ids_of(rows.column("version_id"))))
                keys.append(as_keys(ids_of(rows.column("entry_id"))))
                change.append(rows.column("change").to_numpy())
                try:
                    splits.append(split_codes(rows.column("split").combine_chunks()))
                except InputError as error:
                    where = f"{bundle.path}: tables/dataset_member.parquet"
                    raise InputError(f"{where}: {error}") from None
        own = np.concatenate(owners)
        cuts = np.flatnonzero(own[1:] != own[:-1]) + 1
        begins: list[int] = [0, *cuts.tolist()] if len(own) else []
        ends = [*begins[1:], len(own)]
        slices = {
            UUID(bytes=own[b : b + 1].tobytes()): slice(b, e)
            for b, e in zip(begins, ends, strict=False)
        }
        return cls(slices, np.concatenate(keys), np.concatenate(change), np.concatenate(splits))

    def of_version(self, version: UUID) -> Changes:
        own = self.versions.get(version, slice(0, 0))
        return Changes(self.keys[own], self.change[own], self.splits[own])
