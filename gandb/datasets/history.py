"""The history of datasets: versions with their parents, and what each changed."""

from __future__ import annotations

import datetime as dt
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from gandb.datasets.comparing import state_of
from gandb.datasets.names import (
    OWN,
    Version,
    find_in,
    parents_of,
    parse_reference,
    tags_of,
    versions_of,
)
from gandb.schema.tables import dataset_base, dataset_change, dataset_version
from gandb.store import Store


@dataclass(frozen=True)
class Commit:
    """A version in the history.

    Attributes:
        id: the version.
        references: its standing numbers, such as ``mp@3``, by name; empty if it has none, as an
            ancestor whose number was removed, or that came from another group without one.
        removed: its numbers that were removed.
        tags: its tags, ``mp@best``; ``mp@best (delta)`` where group delta says so.
        parents: the versions it was made from.
        message: why it was made, under its first number.
        created_at: when that number was given, UTC.
        n_entries: how many members it has.
        members_shared: the store holds them.
        added: entries that the first parent lacks; all, without a parent; None if that cannot be
            said, because members of one of them were not shared.
        dropped: entries that the first parent has and it lacks.
        moved: entries that are in another split than in the first parent.
    """

    id: UUID
    references: tuple[str, ...]
    removed: tuple[str, ...]
    tags: tuple[str, ...]
    parents: tuple[UUID, ...]
    message: str
    created_at: dt.datetime | None
    n_entries: int
    members_shared: bool
    added: int | None
    dropped: int | None
    moved: int | None


def log(store: Store, reference: str | None = None) -> list[Commit]:
    """Return the versions of a dataset, or of all, and all their ancestors.

    Args:
        store: where.
        reference: a dataset, for all that has a number of it; or a version, ``NAME@3``, for it and
            its ancestors.

    Returns:
        newest first, and every version before its parents.

    Raises:
        NotFoundError: there is no such dataset or version.
    """
    with store.read() as connection:
        numbered = versions_of(connection)
        known = _rows(connection)
        parents = parents_of(connection, known)
        wanted = _ancestors(_starts(connection, numbered, reference), parents)
        named = _by_id(numbered)
        tags: dict[UUID, list[str]] = {}
        for tag in tags_of(connection):
            by = "" if tag.origin == OWN else f" ({tag.origin})"
            tags.setdefault(tag.version_id, []).append(f"{tag.name}@{tag.tag}{by}")
        changes = _changes(connection, wanted, known, parents)
    commits = {}
    for own in wanted:
        names = named.get(own, [])
        standing = [v for v in names if v.removed_at is None]
        told = next(iter(standing or names), None)
        added, dropped, moved = changes[own]
        commits[own] = Commit(
            id=own,
            references=tuple(v.reference for v in standing),
            removed=tuple(v.reference for v in names if v.removed_at is not None),
            tags=tuple(tags.get(own, ())),
            parents=parents.get(own, ()),
            message=told.message if told is not None else "",
            created_at=told.created_at if told is not None else None,
            n_entries=known[own][0],
            members_shared=known[own][1],
            added=added,
            dropped=dropped,
            moved=moved,
        )
    return _ordered(commits)


def _starts(
    connection: sa.Connection, numbered: Sequence[Version], reference: str | None
) -> list[UUID]:
    standing = [v for v in numbered if v.removed_at is None]
    if reference is None:
        return [v.id for v in standing]
    newest = find_in(connection, reference)
    parts = parse_reference(reference)
    if parts.number is not None or parts.tag is not None:
        return [newest.id]
    return [v.id for v in standing if v.name == newest.name]


def _rows(connection: sa.Connection) -> dict[UUID, tuple[int, bool]]:
    shared = sa.exists().where(dataset_base.c.version_id == dataset_version.c.id)
    query = sa.select(dataset_version.c.id, dataset_version.c.n_entries, shared.label("shared"))
    return {row[0]: (int(row[1]), bool(row[2])) for row in connection.execute(query)}


def _ancestors(starts: Iterable[UUID], parents: dict[UUID, tuple[UUID, ...]]) -> list[UUID]:
    found: dict[UUID, None] = {}
    waiting = list(starts)
    while waiting:
        own = waiting.pop()
        if own not in found:
            found[own] = None
            waiting.extend(parents.get(own, ()))
    return list(found)


def _by_id(numbered: Iterable[Version]) -> dict[UUID, list[Version]]:
    named: dict[UUID, list[Version]] = {}
    for version in numbered:
        named.setdefault(version.id, []).append(version)
    return named


# --- what a version changes --------------------------------------------------------------

_Counts = tuple[int | None, int | None, int | None]


def _changes(
    connection: sa.Connection,
    wanted: Sequence[UUID],
    known: dict[UUID, tuple[int, bool]],
    parents: dict[UUID, tuple[UUID, ...]],
) -> dict[UUID, _Counts]:
    """Count what versions add, drop and move against their first parents."""
    stated: dict[UUID, dict[int, int]] = {}
    own = (dataset_change.c.version_id, dataset_change.c.change)
    query = sa.select(*own, sa.func.count()).group_by(*own)
    for version, change, n in connection.execute(query):
        stated.setdefault(version, {})[change] = n
    bases: dict[UUID, set[UUID]] = {}
    for version, base in connection.execute(sa.select(dataset_base)):
        bases.setdefault(version, set()).add(base)
    counts: dict[UUID, _Counts] = {}
    for version in wanted:
        first = parents.get(version, (None,))[0]
        if first is None:
            counts[version] = (known[version][0], 0, 0)
        elif not (known[version][1] and known[first][1]):
            counts[version] = (None, None, None)
        elif bases[version] == {version, *bases[first]}:  # stored as what it changes of that
            held = stated.get(version, {})
            counts[version] = (held.get(1, 0), held.get(-1, 0), held.get(0, 0))
        else:
            counts[version] = _compared(connection, first, version)
    return counts


def _compared(connection: sa.Connection, first: UUID, version: UUID) -> _Counts:
    sql = state_of(connection, first, version) + (
        "\nSELECT count(CASE WHEN was = 0 THEN 1 END), count(CASE WHEN now = 0 THEN 1 END),"
        " count(CASE WHEN split_before <> split_after THEN 1 END) FROM state"
    )
    added, dropped, moved = connection.exec_driver_sql(sql).one()
    return int(added), int(dropped), int(moved)


def _ordered(commits: dict[UUID, Commit]) -> list[Commit]:
    """Sort newest first, every version before its parents."""
    children = dict.fromkeys(commits, 0)
    for commit in commits.values():
        for parent in dict.fromkeys(commit.parents):
            children[parent] += 1
    order = sorted(commits.values(), key=lambda c: (c.created_at or dt.datetime.min, str(c.id)))
    rank = {commit.id: -i for i, commit in enumerate(order)}
    ready = [(rank[own], own) for own, n in children.items() if not n]
    heapq.heapify(ready)
    result = []
    while ready:
        _, own = heapq.heappop(ready)
        result.append(commits[own])
        for parent in dict.fromkeys(commits[own].parents):
            children[parent] -= 1
            if not children[parent]:
                heapq.heappush(ready, (rank[parent], parent))
    return result
