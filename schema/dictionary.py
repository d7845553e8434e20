"""The data dictionary: meaning, type, unit and provenance of every column of tables and views."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from gandb.core.errors import IntegrityError, NotFoundError
from gandb.schema.tables import metadata
from gandb.schema.views import VIEWS, load_view

_TYPE_NAMES: dict[type, str] = {
    sa.BigInteger: "bigint",
    sa.Boolean: "boolean",
    sa.DateTime: "timestamp",
    sa.Double: "double",
    sa.Integer: "integer",
    sa.JSON: "json",
    sa.LargeBinary: "blob",
    sa.SmallInteger: "smallint",
    sa.Text: "text",
    sa.Uuid: "uuid",
}


def relations() -> list[dict[str, Any]]:
    """List views and tables with what a row of them is."""
    views = [{"name": v, "kind": "view", "meaning": load_view(v).comment} for v in VIEWS]
    tables = [
        {"name": t.name, "kind": "table", "meaning": t.info["meaning"]}
        for t in sorted(metadata.tables.values(), key=lambda t: t.name)
    ]
    return views + tables


def describe(name: str) -> list[dict[str, Any]]:
    """Describe the columns of a table or view.

    Raises:
        NotFoundError: there is neither of that name; names those that exist.
    """
    if name in VIEWS:
        return _describe_view(name)
    if name in metadata.tables:
        return [_describe_column(c) for c in metadata.tables[name].columns]
    raise NotFoundError.naming("table or view", name, [*VIEWS, *metadata.tables])


def _describe_column(column: sa.Column[Any]) -> dict[str, Any]:
    return {
        "column": column.name,
        "type": _type_name(column.type),
        "unit": column.info["unit"],
        "meaning": column.info["meaning"],
        "provenance": column.info["provenance"],
    }


def _describe_view(name: str) -> list[dict[str, Any]]:
    rows = []
    for column, note in load_view(name).notes.items():
        if note.startswith("= "):
            rows.append({**_inherited(name, note[2:]), "column": column})
            continue
        parts = [part.strip() for part in note.split("|")]
        if len(parts) != 4:
            raise IntegrityError(f"view {name}, column {column}: cannot read the note {note!r}")
        type_, meaning, unit, provenance = parts
        rows.append(
            {
                "column": column,
                "type": type_,
                "unit": unit,
                "meaning": meaning,
                "provenance": provenance,
            }
        )
    return rows


def _inherited(view: str, origin: str) -> dict[str, Any]:
    relation, _, column = origin.partition(".")
    for row in describe(relation):
        if row["column"] == column:
            return row
    raise IntegrityError(f"view {view} takes a column from {origin}, which does not exist")


def _type_name(type_: Any) -> str:
    if isinstance(type_, sa.ARRAY):
        return f"{_type_name(type_.item_type)}[]"
    return _TYPE_NAMES[type(type_)]
