"""Rows for every table of any revision, made up from what the database says of its columns."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any
from uuid import UUID

import sqlalchemy as sa

N = 3
"""Rows per table; in the first, every column that may be null is."""

Content = dict[str, dict[str, list[str]]]
"""Of each table and column, the values as text, in the order of the rows."""

_MIGRATIONS = "alembic_version"


def reflect(connection: sa.Connection) -> list[sa.Table]:
    """Return the tables of the database, parents before children where there is no circle."""
    metadata = sa.MetaData()
    metadata.reflect(connection)
    tables = [t for t in metadata.tables.values() if t.name != _MIGRATIONS]
    for table in tables:
        for constraint in table.foreign_key_constraints:
            constraint.use_alter = any(c.nullable for c in constraint.columns)
    return [t for t in metadata.sorted_tables if t in tables]


def fill(connection: sa.Connection) -> None:
    """Insert N rows into every table."""
    tables = reflect(connection)
    for table in tables:
        loose = {c.name for c in table.columns if c.foreign_keys and c.nullable}
        rows = [
            {c.name: None if c.name in loose else _value(c, i) for c in table.columns}
            for i in range(N)
        ]
        connection.execute(table.insert(), rows)
    for table in tables:  # references that may close a circle
        keys = list(table.primary_key.columns)
        for column in table.columns:
            if column.foreign_keys and column.nullable:
                for i in range(1, N):
                    same = [key == _value(key, i) for key in keys]
                    change = sa.update(table).where(*same).values({column.name: _value(column, i)})
                    assert connection.execute(change).rowcount == 1


def read(connection: sa.Connection) -> Content:
    """Return all rows of all tables."""
    content: Content = {}
    for table in reflect(connection):
        rows = sorted(
            connection.execute(sa.select(table)).mappings(), key=lambda r: _sort_key(table, r)
        )
        content[table.name] = {c.name: [_text(row[c.name]) for row in rows] for c in table.columns}
    return content


def losses(before: Content, after: Content) -> list[str]:
    """Say what was there before and is not now, in tables and columns that still exist."""
    found = []
    for table, columns in before.items():
        if table not in after:
            continue
        for column, values in columns.items():
            if column in after[table] and after[table][column] != values:
                found.append(f"{table}.{column}: {values} became {after[table][column]}")
    return found


def _value(column: sa.Column[Any], i: int) -> Any:
    """Return the value of a column in row i: equal for a reference and what it refers to."""
    if i == 0 and column.nullable:
        return None
    for key in column.foreign_keys:
        return _value(key.column, i)
    kind = column.type
    if isinstance(kind, sa.Uuid):
        return UUID(int=(i + 1) << 120 | 7)
    if isinstance(kind, sa.Boolean):
        return i == 1
    if isinstance(kind, sa.Integer):
        return 100 + i
    if isinstance(kind, (sa.Numeric, sa.Float)):
        return i + 0.1
    if isinstance(kind, sa.DateTime):
        return dt.datetime(2025, 2, 3, 4, 5, 6, 789 + i)
    if isinstance(kind, sa.JSON):
        return {"n": i, "text": 'é "q"\n', "list": [1.5, None]}
    if isinstance(kind, sa.LargeBinary):
        return bytes([0, 255, 10, 34, 39, i])
    if isinstance(kind, sa.ARRAY):
        text = isinstance(kind.item_type, sa.String)
        return ["Fe", "O", str(i)] if text else [0.1, 1e-8 * i, -2.5]
    if isinstance(kind, sa.String):
        return f"{column.name} {i}, 'é' \"q\"\n\\"
    raise AssertionError(f"no value for {column} of type {kind!r}: teach this generator")


def _text(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    return str(value)


def _sort_key(table: sa.Table, row: Any) -> list[str]:
    keys = [c.name for c in table.primary_key.columns] or [c.name for c in table.columns]
    return [_text(row[name]) for name in sorted(keys)]
