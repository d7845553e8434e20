"""What a store knows of its imports: snapshots, their files, and what changed between two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.core.errors import InputError, NotFoundError
from gandb.core.units import PROPERTIES
from gandb.schema.tables import (
    entry,
    snapshot_entry,
    snapshot_file,
    snapshot_reject,
    source_snapshot,
)
from gandb.store import Store

_COMPARED = ("formula", "structure_id", *PROPERTIES, "extra")


def snapshots(store: Store, source: str | None = None) -> list[dict[str, Any]]:
    """List snapshots, oldest first."""
    query = sa.select(source_snapshot).order_by(source_snapshot.c.imported_at, source_snapshot.c.id)
    if source is not None:
        query = query.where(source_snapshot.c.source == source)
    with store.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def find_snapshot(store: Store, text: str) -> dict[str, Any]:
    """Return the one snapshot whose id begins with ``text``, or the newest of a source.

    Raises:
        NotFoundError: there is none, or there are several.
    """
    listed = snapshots(store)
    wanted = text.strip().lower()
    of_source = [row for row in listed if row["source"] == wanted]
    if of_source:
        return of_source[-1]
    found = [row for row in listed if str(row["id"]).startswith(wanted)]
    if wanted and len(found) == 1:
        return found[0]
    names = [f"{str(row['id'])[:8]} ({row['source']})" for row in listed]
    if len(found) > 1:
        raise NotFoundError(f"{len(found)} snapshots begin with {text!r}; give more of the id")
    raise NotFoundError.naming("snapshot", text, names)


def files(store: Store, snapshot: UUID) -> list[dict[str, Any]]:
    """List what a snapshot was read from, in order."""
    query = (
        sa.select(snapshot_file)
        .where(snapshot_file.c.snapshot_id == snapshot)
        .order_by(snapshot_file.c.number)
    )
    with store.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def reasons(store: Store, snapshot: UUID) -> list[dict[str, Any]]:
    """Count a snapshot's rejects by reason, most frequent first."""
    count = sa.func.count().label("rows")
    query = (
        sa.select(snapshot_reject.c.reason, count)
        .where(snapshot_reject.c.snapshot_id == snapshot)
        .group_by(snapshot_reject.c.reason)
        .order_by(count.desc(), snapshot_reject.c.reason)
    )
    with store.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


@dataclass(frozen=True)
class Difference:
    """What changed from one snapshot of a source to another.

    Attributes:
        counts: records that are ``new``, ``gone``, ``changed`` and ``same``.
        rows: one mapping per record that is not the same: ``status``, ``external_id``, ``formula``
            and ``columns``, the names of what changed.
    """

    counts: dict[str, int]
    rows: list[dict[str, Any]]


def difference(store: Store, older: UUID, newer: UUID, limit: int | None = None) -> Difference:
    """Compare two snapshots by the ids that the source gives its records.

    Records without such an id are compared as a whole. One id that stands for several records is
    changed if the set of its records is.

    Args:
        store: where both are.
        older: a snapshot.
        newer: another of the same source.
        limit: most rows to return; counts are of all.

    Raises:
        InputError: they are of different sources.
    """
    with store.read() as connection:
        sources = set(
            connection.scalars(
                sa.select(source_snapshot.c.source).where(source_snapshot.c.id.in_([older, newer]))
            )
        )
        if len(sources) > 1:
            raise InputError(
                f"the snapshots are of different sources ({', '.join(sorted(sources))}): "
                "only snapshots of one source can be compared"
            )
        gone_rows = list(connection.execute(_only_in(older, newer)).mappings())
        new_rows = list(connection.execute(_only_in(newer, older)).mappings())
        same = connection.execute(_in_both(older, newer)).scalar_one()
    before, after = _by_id(gone_rows), _by_id(new_rows)
    rows: list[dict[str, Any]] = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key, []), after.get(key, [])
        status = "changed" if old and new else "new" if new else "gone"
        shown = (new or old)[0]
        rows.append(
            {
                "status": status,
                "external_id": shown["external_id"],
                "formula": shown["formula"],
                "columns": _changed(old, new) if status == "changed" else [],
            }
        )
    counts = {s: sum(r["status"] == s for r in rows) for s in ("new", "gone", "changed")}
    return Difference({**counts, "same": same}, rows if limit is None else rows[:limit])


def _only_in(one: UUID, other: UUID) -> sa.Select[Any]:
    theirs = sa.select(snapshot_entry.c.entry_id).where(snapshot_entry.c.snapshot_id == other)
    return (
        sa.select(entry)
        .join(snapshot_entry, snapshot_entry.c.entry_id == entry.c.id)
        .where(snapshot_entry.c.snapshot_id == one, entry.c.id.not_in(theirs))
    )


def _in_both(one: UUID, other: UUID) -> sa.Select[Any]:
    theirs = sa.select(snapshot_entry.c.entry_id).where(snapshot_entry.c.snapshot_id == other)
    return sa.select(sa.func.count()).where(
        snapshot_entry.c.snapshot_id == one, snapshot_entry.c.entry_id.in_(theirs)
    )


def _by_id(rows: Sequence[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in rows:
        key = row["external_id"]
        found.setdefault(f"id {key}" if key is not None else f"row {row['id']}", []).append(row)
    return found


def _changed(old: Sequence[Any], new: Sequence[Any]) -> list[str]:
    if len(old) != len(new):
        return [f"{len(old)} records became {len(new)}"]
    return [
        name
        for name in _COMPARED
        if sorted(str(row[name]) for row in old) != sorted(str(row[name]) for row in new)
    ]
