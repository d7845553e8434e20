r"""The tables and views of a store with their columns: for hints, completion and ``\d``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gandb.query.result import Column, ReadableStore

_DUCKDB = """
SELECT c.table_name, v.view_name IS NOT NULL AS is_view, c.column_name, c.data_type
FROM duckdb_columns() c
LEFT JOIN duckdb_views() v
  ON v.schema_oid = c.schema_oid AND v.database_oid = c.database_oid
 AND v.view_name = c.table_name
WHERE NOT c.internal AND c.schema_name = current_schema()
  AND c.database_name = current_database()
ORDER BY c.table_name, c.column_index
"""

_POSTGRES = """
SELECT c.relname, c.relkind IN ('v', 'm'), a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
  AND has_table_privilege(c.oid, 'SELECT')
ORDER BY c.relname COLLATE "C", a.attnum
"""

_MIGRATIONS = "alembic_version"  # bookkeeping, of no interest here


@dataclass(frozen=True)
class Relation:
    """A table or view.

    Attributes:
        name: its name in the store's schema.
        kind: ``"table"`` or ``"view"``.
        columns: in order, with SQL types.
    """

    name: str
    kind: str
    columns: tuple[Column, ...]


def relations(connection: Any, kind: str) -> list[Relation]:
    """List what an open connection can read.

    Args:
        connection: as `ReadableStore.read_only` yields it.
        kind: the store's engine.

    Returns:
        Views and tables together, by name.
    """
    rows = connection.execute(_DUCKDB if kind == "duckdb" else _POSTGRES).fetchall()
    columns: dict[tuple[str, bool], list[Column]] = {}
    for name, is_view, column, sql_type in rows:
        if name != _MIGRATIONS:
            columns.setdefault((name, is_view), []).append(Column(column, sql_type))
    return [
        Relation(name, "view" if is_view else "table", tuple(listed))
        for (name, is_view), listed in columns.items()
    ]


def load(store: ReadableStore) -> list[Relation]:
    """List the tables and views of a store."""
    with store.read_only() as connection:
        return relations(connection, store.kind)
