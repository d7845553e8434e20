"""What stores that shared everything agree on: the meaning of equal content after merges."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.datasets.members import members_shared, read_members
from gandb.schema import tables
from gandb.schema.tables import metadata
from gandb.sharing.merging.results import SHARED_KINDS
from gandb.sharing.merging.statements import conflicts
from gandb.sharing.origin import own_origin
from gandb.store import Store
from tests.content import Dump

_OWN_WORK = ("dataset_change", "dataset_base", "comparison", "snapshot_reject", "statement")
"""Ways to keep members, evidence that depends on the order, what is not shared; and statements,
which are told apart."""


def shared_content(store: Store, *, attributed: bool = True) -> Dump:
    """Return what a store says, as two stores say it that have taken in each other's bundles.

    Datasets are told by name with the origin of the group, members as they are and not as they are
    kept, materials as the partition that they are. A cell that groups state differently is what
    they state, not what the row says.

    Args:
        store: the store.
        attributed: tell who states what; otherwise only what is stated.
    """
    origin = own_origin(store) or ""
    names: dict[UUID, str] = {}
    stated = _stated(store, origin, attributed=attributed)
    content: Dump = {"statement": sorted(stated.values())}
    with store.read() as connection:
        for row in connection.execute(sa.select(tables.dataset)):
            names[row.id] = row.name if "/" in row.name else f"{origin}/{row.name}"
        jobs = set(
            connection.scalars(
                sa.select(tables.job.c.id).where(tables.job.c.kind.in_(SHARED_KINDS))
            )
        )
        for table in metadata.sorted_tables:
            if not table.info["content"] or table.name in _OWN_WORK:
                continue
            columns = [c for c in table.columns if not c.info["volatile"]]
            rows = []
            for found in connection.execute(sa.select(*columns)).mappings():
                row = {c.name: found[c.name] for c in columns}
                job = row.get("job_id", row["id"] if table.name == "job" else None)
                if table.name in ("job", "job_chunk", "metric") and job not in jobs:
                    continue
                if table.name == "dataset":
                    row = {"name": names[row["id"]]}
                if "dataset_id" in row:
                    row["dataset_id"] = names[row["dataset_id"]]
                if table.name == "dataset_tag":
                    row["origin"] = row["origin"] or origin
                rows.append(tuple(_cell(table, row, name, stated) for name in row))
            content[table.name] = sorted(rows, key=repr)
        content["material_member"] = _partition(content["material_member"])
        content["members"] = []
        for (version,) in connection.execute(sa.select(tables.dataset_version.c.id)).all():
            if members_shared(connection, version):
                held = read_members(connection, version)
                content["members"].append((str(version), held.hash(), len(held)))
        content["members"].sort()
    return content


def _stated(
    store: Store, origin: str, *, attributed: bool
) -> dict[tuple[str, str, str], tuple[Any, ...]]:
    found = {}
    for row in conflicts(store):
        subject = dict(row["subject"])
        if "dataset" in subject and "/" not in subject["dataset"]:
            subject["dataset"] = f"{origin}/{subject['dataset']}"
        values = {
            ((s["origin"] or origin) if attributed else "", json.dumps(s["value"], sort_keys=True))
            for s in row["statements"]
        }
        key = (row["relation"], json.dumps(subject, sort_keys=True), row["attribute"])
        found[key] = (*key, repr(sorted(values)))
    return found


def _cell(
    table: sa.Table,
    row: dict[str, Any],
    name: str,
    stated: dict[tuple[str, str, str], tuple[Any, ...]],
) -> Any:
    key = [c.name for c in table.primary_key.columns if c.name in row]
    subject = {k: row[k] if isinstance(row[k], int) else str(row[k]) for k in key}
    if table.name == "dataset_number":
        subject = {"dataset": row["dataset_id"], "number": row["number"]}
    if (table.name, json.dumps(subject, sort_keys=True), name) in stated:
        return "stated differently"
    value = row[name]
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, float):
        return float(f"{value:.9g}")
    return json.dumps(value, sort_keys=True) if isinstance(value, (dict, list, tuple)) else value


def _partition(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    groups: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for recipe, structure, material, _ in rows:
        groups[recipe, material].append(structure)
    return sorted((recipe, *sorted(own)) for (recipe, _), own in groups.items())
