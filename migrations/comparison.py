"""How Alembic compares a database with the declared tables, per engine."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic.ddl.impl import DefaultImpl


class DuckDBImpl(DefaultImpl):
    """Alembic's plain behaviour, under DuckDB's name; defining it registers it."""

    __dialect__ = "duckdb"
    transactional_ddl = True


def _skip_physical_keys(
    _object: Any, _name: str | None, kind: str, _reflected: bool, _compared: Any
) -> bool:
    """Leave out what DuckDB stores do not carry: indexes and foreign keys."""
    return kind not in {"index", "foreign_key_constraint", "unique_constraint"}


def _same_text(
    _context: Any, _inspected: Any, _declared: Any, found: Any, wanted: Any
) -> bool | None:
    """Take DuckDB's one text type for what it is; leave other types to Alembic."""
    texts = (sa.String, sa.Text)
    if isinstance(found, sa.ARRAY) and isinstance(wanted, sa.ARRAY):
        found, wanted = found.item_type, wanted.item_type
    return False if isinstance(found, texts) and isinstance(wanted, texts) else None


OPTIONS: dict[str, dict[str, Any]] = {
    "duckdb": {"compare_type": _same_text, "include_object": _skip_physical_keys},
    "postgresql": {},
}
