"""The small tables that name versions, in which a store's own names get its origin."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pyarrow as pa
import sqlalchemy as sa

from gandb.core.ids import Domain, content_id
from gandb.schema.tables import dataset, dataset_number, dataset_tag
from gandb.sharing.bundles.bundle import BundleTable
from gandb.sharing.bundles.selection_rows import Closure
from gandb.sharing.merging.statements import packed_statements
from gandb.sharing.portable import canonical_document, portable_schema


class Names:
    """The small tables that name versions, in which a store's own names get its origin."""

    def __init__(
        self, connection: sa.Connection, closure: Closure, origin: str, *, tags: bool
    ) -> None:
        self._connection = connection
        self._versions = set(closure.graph.versions)
        self._origin = origin
        self._rows: dict[str, list[dict[str, Any]]] = {
            "dataset_number": [],
            "dataset_tag": [],
            "statement": packed_statements(connection, closure.query, origin),
        }
        self._names: dict[UUID, str] = {}
        self._rows["dataset_base"] = [
            {"version_id": version, "base_id": base}
            for version, bases in closure.bases.items()
            for base in bases
        ]
        self._number()
        if tags:
            self._tag()
        self._rows["dataset"] = [{"id": i, "name": name} for i, name in self._names.items()]

    def rows(self, table: BundleTable) -> list[pa.Table] | None:
        """Return the rows of a table, or None if they are not made here."""
        found = self._rows.get(table.name)
        if found is None:
            return None
        distinct = {
            tuple(_sortable(_plain(row[k])) for k in table.key): {
                k: _plain(v) for k, v in row.items()
            }
            for row in found
        }
        plain = [row for _, row in sorted(distinct.items(), key=lambda one: one[0])]
        return [pa.Table.from_pylist(plain, portable_schema(table.columns))]

    def references(self) -> list[str]:
        """Return ``ORIGIN/NAME@3`` of every version that has one, sorted."""
        return sorted(
            f"{self._names[row['dataset_id']]}@{row['number']}"
            for row in self._rows["dataset_number"]
        )

    def _qualified(self, name: str) -> UUID:
        full = name if "/" in name else f"{self._origin}/{name}"
        own = content_id(Domain.DATASET, full.encode())
        self._names[own] = full
        return own

    def _number(self) -> None:
        query = (
            sa.select(dataset.c.name, dataset_number)
            .join(dataset, dataset.c.id == dataset_number.c.dataset_id)
            .where(dataset_number.c.removed_at.is_(None))
        )
        self._take("dataset_number", query, dataset_number)

    def _tag(self) -> None:
        query = sa.select(dataset.c.name, dataset_tag).join(
            dataset, dataset.c.id == dataset_tag.c.dataset_id
        )
        self._take("dataset_tag", query, dataset_tag)
        for row in self._rows["dataset_tag"]:
            row["origin"] = row["origin"] or self._origin

    def _take(self, name: str, query: sa.Select[Any], table: sa.Table) -> None:
        columns = [c.name for c in table.columns if not c.info["volatile"]]
        for row in self._connection.execute(query).mappings():
            if row["version_id"] in self._versions:
                own = self._qualified(row["name"])
                self._rows[name].append({k: row[k] for k in columns} | {"dataset_id": own})


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, (dict, list)):
        return canonical_document(json.dumps(value))
    return value


def _sortable(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value
