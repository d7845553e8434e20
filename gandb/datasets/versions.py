"""Dataset versions: making them, naming them, reading their members.

A version is an immutable set of entries with splits. Its id is taken from its sorted members, their
splits and its parents, so the same selection of the same data has the same id everywhere. Versions
form a graph: each knows the versions it was made from. A number of a name stands for a version.

The parts are in modules of their own: `members` (arrays and queries), `names` (finding), `storing`
(rows), `changing` (versions made of others), `numbers` (tags, removing, restoring), `diffs`,
`leaks`, `history`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa

from gandb.core.errors import UsageError
from gandb.core.ids import Domain, content_id
from gandb.datasets.members import (
    Changes,
    Members,
    as_keys,
    member_compositions,
    members_query,
    members_shared,
    read_members,
    require_members,
)
from gandb.datasets.names import (
    Reference,
    Version,
    find,
    parse_reference,
    reference_of,
    require_own_name,
    resolve,
    versions_of,
)
from gandb.datasets.splits import (
    COMPOSITION,
    SPLITS,
    UNSPLIT,
    AnySplit,
    GivenSplit,
    SplitRecipe,
    grouped_by,
    split_from_json,
    text_ids,
)
from gandb.datasets.storing import fill_stub, store_version, version_id, write_stub
from gandb.jobs.queue import now
from gandb.schema.tables import composition, dataset, dataset_number, dataset_version, entry
from gandb.store import Store, Transaction
from gandb.store.bulk import fetch, ids_from_text

__all__ = [
    "Changes",
    "Members",
    "Reference",
    "Selection",
    "SplitRecipe",
    "Version",
    "create",
    "fill_stub",
    "find",
    "member_compositions",
    "members_query",
    "members_shared",
    "newest",
    "parse_reference",
    "read_members",
    "reference_of",
    "require_members",
    "resolve",
    "split_sizes",
    "store_version",
    "version_id",
    "write_stub",
]


@dataclass(frozen=True)
class Selection:
    """Entries chosen for a version.

    Attributes:
        entry_ids: uint8 (n, 16).
        composition_ids: uint8 (n, 16).
        origin: how they were chosen, as plain data.
        splits: those that were given with them, indexes into `SPLITS` or `UNSPLIT`, uint8 (n,);
            None if none were.
    """

    entry_ids: np.ndarray
    composition_ids: np.ndarray
    origin: Mapping[str, Any]
    splits: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.entry_ids)


def create(
    store: Store,
    name: str,
    selection: Selection,
    message: str,
    split: SplitRecipe | None = None,
    parents: Sequence[UUID] | None = None,
) -> tuple[Version, bool]:
    """Make the next version of a dataset.

    Args:
        store: where.
        name: name of the dataset.
        selection: the members.
        message: why it is made.
        split: how to split; by default as the newest version, else 0.9, 0.05, 0.05 by composition.
            Given splits of the selection are kept; the recipe is for the rest.
        parents: what it is made from, the first parent first; by default the newest version of the
            dataset.

    Returns:
        the version and whether it is new: the same members under the same split recipe as the
        newest version or the first parent make no further one.

    Raises:
        UsageError: the name cannot be used, or nothing was selected.
    """
    require_own_name(name)
    if not len(selection.entry_ids):
        raise UsageError(
            f"no entry was selected for {name!r}: a dataset version needs at least one"
        )
    if len(selection.entry_ids) != len(selection.composition_ids):
        raise ValueError(
            f"{len(selection.entry_ids)} entries with {len(selection.composition_ids)} compositions"
        )
    with store.write() as tx:
        standing = [v for v in versions_of(tx.connection, name) if v.removed_at is None]
        last = standing[-1] if standing else None
        recipe = _recipe(selection, split, last)
        members = Members.of(selection.entry_ids, split_members(tx.connection, selection, recipe))
        if last is not None and _says_the_same(tx, last.id, members, recipe):
            return last, False
        if parents is None:
            parents = [last.id] if last else []
        if parents and _says_the_same(tx, parents[0], members, recipe):
            numbered = standing_number(tx, name, parents[0])
            if numbered is not None:
                return numbered, False
            return add_number(tx, name, parents[0], message, selection.origin), True
        version, _ = store_version(
            tx,
            members,
            recipe.as_json(),
            parents,
            n_compositions=len(np.unique(as_keys(selection.composition_ids))),
        )
        return add_number(tx, name, version, message, selection.origin), True


def newest(store: Store, name: str) -> Version | None:
    """Return the newest version of a dataset that was not removed; None if there is none."""
    with store.read() as connection:
        standing = [v for v in versions_of(connection, name) if v.removed_at is None]
    return standing[-1] if standing else None


def _recipe(selection: Selection, split: SplitRecipe | None, newest: Version | None) -> AnySplit:
    inherited = split_from_json(newest.split_recipe) if newest else SplitRecipe()
    if selection.splits is None:
        if split is None and isinstance(inherited, GivenSplit):
            return inherited.rest
        return split or inherited
    if split is None:
        split = inherited.rest if isinstance(inherited, GivenSplit) else inherited
    return GivenSplit(split)


def _says_the_same(tx: Transaction, version: UUID, members: Members, recipe: AnySplit) -> bool:
    query = sa.select(dataset_version.c.members_hash, dataset_version.c.split_recipe)
    row = tx.execute(query.where(dataset_version.c.id == version)).one()
    return bool(row.split_recipe == recipe.as_json() and row.members_hash == members.hash())


def standing_number(tx: Transaction, name: str, version: UUID) -> Version | None:
    """Return the last number of a dataset that stands for a version and was not removed."""
    found = [
        v for v in versions_of(tx.connection, name) if v.id == version and v.removed_at is None
    ]
    return found[-1] if found else None


def add_number(
    tx: Transaction, name: str, version: UUID, message: str, selection: Mapping[str, Any]
) -> Version:
    """Give a version the next number of a dataset; removed numbers are not given again.

    Args:
        tx: a transaction that is alone.
        name: name of the dataset, which is made if it is new.
        version: a version of the store.
        message: why it was made.
        selection: how its members were chosen, as plain data.
    """
    dataset_id = content_id(Domain.DATASET, name.encode())
    tx.insert_new(dataset, {"id": dataset_id, "name": name})
    last = sa.select(sa.func.max(dataset_number.c.number)).where(
        dataset_number.c.dataset_id == dataset_id
    )
    number = int(tx.execute(last).scalar_one() or 0) + 1
    tx.execute(
        dataset_number.insert(),
        {
            "dataset_id": dataset_id,
            "number": number,
            "version_id": version,
            "message": message,
            "selection": dict(selection),
            "created_at": now(),
        },
    )
    return next(v for v in versions_of(tx.connection, name) if v.number == number)


def split_members(connection: sa.Connection, selection: Selection, recipe: AnySplit) -> np.ndarray:
    """Return the split of every entry of a selection, indexes into `SPLITS`, uint8 (n,)."""
    groups = _group_ids(connection, selection.composition_ids, grouped_by(recipe))
    if isinstance(recipe, SplitRecipe):
        return recipe.assign(groups)
    given = selection.splits
    if given is None:
        given = np.full(len(selection), UNSPLIT, np.uint8)
    return recipe.complete(given, groups)


def _group_ids(connection: sa.Connection, composition_ids: np.ndarray, by: str) -> np.ndarray:
    """Return the id of what entries share, uint8 (n, 16), from those of their compositions."""
    if by == COMPOSITION:
        return composition_ids
    rows = fetch(connection, sa.select(composition.c.id, composition.c[by].label("name")))
    names = rows.column("name").combine_chunks().dictionary_encode()
    keys = as_keys(ids_from_text(rows.column("id")))
    order = np.argsort(keys, kind="stable")
    place = order[np.searchsorted(keys, as_keys(composition_ids), sorter=order)]
    groups: np.ndarray = text_ids(names.dictionary.to_pylist())[names.indices.to_numpy()[place]]
    return groups


def split_sizes(store: Store, version_id: UUID) -> dict[str, dict[str, int]]:
    """Count entries and distinct compositions of every split.

    Raises:
        NotFoundError: the members were not shared.
    """
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
        require_members(connection, version_id)
        found = {r[0]: {"entries": r[1], "compositions": r[2]} for r in connection.execute(query)}
    return {s: found.get(s, {"entries": 0, "compositions": 0}) for s in SPLITS}
