"""All there is to say of one dataset version."""

from __future__ import annotations

import dataclasses
from typing import Any

import sqlalchemy as sa

from gandb.datasets.comparing import state_of
from gandb.datasets.leaks import leaks
from gandb.datasets.members import require_members
from gandb.datasets.names import OWN, Version, reference_of, tags_of, versions_of
from gandb.datasets.versions import split_sizes
from gandb.schema.tables import dataset_version
from gandb.store import Store


def describe(store: Store, version: Version) -> dict[str, Any]:
    """Return what a version holds, where it comes from and what it is called, as plain data.

    Of a version whose members were not shared, ``splits``, ``sources`` and ``leak`` are empty.
    """
    with store.read() as connection:
        own = versions_of(connection)
        tags = [t for t in tags_of(connection) if t.version_id == version.id]
        parents = [
            {"dataset": reference_of(connection, parent), "version_id": str(parent)}
            for parent in version.parents
        ]
        query = sa.select(dataset_version.c.members_hash).where(dataset_version.c.id == version.id)
        members_hash = connection.execute(query).scalar_one()
    same = [v for v in own if v.id == version.id and v.removed_at is None]
    shared = version.members_shared
    splits = split_sizes(store, version.id) if shared else {}
    return {
        "dataset": version.reference,
        "entries": version.n_entries,
        "compositions": version.n_compositions,
        **{name: sizes["entries"] for name, sizes in splits.items()},
        "message": version.message,
        "created_at": version.created_at,
        "version_id": str(version.id),
        "members_hash": members_hash,
        "members_shared": shared,
        "parents": parents,
        "tags": [
            {"tag": f"{t.name}@{t.tag}", "origin": t.origin, "counts": t.counts} for t in tags
        ],
        "also": [v.reference for v in same if v.reference != version.reference],
        "selection": dict(version.selection),
        "split_recipe": dict(version.split_recipe),
        "splits": [{"split": name, **sizes} for name, sizes in splits.items()],
        "leak": [dataclasses.asdict(leak) for leak in leaks(store, version)] if shared else [],
        "sources": sources(store, version) if shared else [],
    }


def sources(store: Store, version: Version) -> list[dict[str, Any]]:
    """Return where the members of a version come from, and under which licences.

    Returns:
        for each distinct source, release, licence and attribution of the snapshots that hold
        members, how many of them (``entries``); one that several snapshots hold counts in each.

    Raises:
        NotFoundError: the members were not shared.
    """
    sql = (
        "\nSELECT p.source, p.release, p.licence, p.attribution, count(DISTINCT s.entry_id) AS n"
        " FROM state AS s JOIN snapshot_entry AS h ON h.entry_id = s.entry_id"
        " JOIN source_snapshot AS p ON p.id = h.snapshot_id"
        " GROUP BY p.source, p.release, p.licence, p.attribution"
    )
    with store.read() as connection:
        require_members(connection, version.id, version.reference)
        state = state_of(connection, version.id, version.id)
        rows = connection.exec_driver_sql(state + sql).all()
    names = ("source", "release", "licence", "attribution", "entries")
    found = [dict(zip(names, row, strict=True)) for row in rows]
    return sorted(found, key=lambda r: tuple(str(r[n]) for n in names))


def tag_rows(store: Store, name: str | None = None) -> list[dict[str, Any]]:
    """Return the tags of a dataset, or of all, as rows."""
    with store.read() as connection:
        tags = tags_of(connection, name)
        called = {t.version_id: reference_of(connection, t.version_id) for t in tags}
    return [
        {
            "tag": f"{t.name}@{t.tag}",
            "dataset": called[t.version_id],
            "by": t.origin if t.origin != OWN else "",
            "counts": t.counts,
            "message": t.message,
            "created_at": t.created_at,
        }
        for t in tags
    ]
