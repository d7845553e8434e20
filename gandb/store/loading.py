"""Filling an empty PostgreSQL table: its keys and indexes are built once, over all rows.

Row by row, checking references and growing indexes take four fifths of a first import. PostgreSQL's
own advice for a first load is to make them afterwards; DDL is part of the transaction, so others
see the table empty with its keys, or full with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

_WORTHWHILE = 20_000
"""Rows from which on it is faster."""

# Workers look at jobs all the time: references to that table stay, so that it is not locked.
_REFERENCES = """
SELECT conname, pg_get_constraintdef(oid), confrelid::regclass::text FROM pg_catalog.pg_constraint
WHERE conrelid = to_regclass(:name) AND contype = 'f' AND confrelid <> to_regclass('job')
ORDER BY conname
"""

_INDEXES = """
SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_catalog.pg_index i
WHERE i.indrelid = to_regclass(:name)
  AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint c WHERE c.conindid = i.indexrelid)
ORDER BY 1
"""

_OWNED = """
SELECT pg_catalog.pg_has_role(relowner, 'USAGE') FROM pg_catalog.pg_class
WHERE oid = to_regclass(:name)
"""


@contextmanager
def loading(connection: sa.Connection, table: str, n_rows: int) -> Iterator[None]:
    """Take references and secondary indexes off an empty table, and put them back at the end.

    It is done only where the tables are ours to change and nobody else uses them at this moment
    (no lock is waited for, so that none is waited for in a circle); otherwise rows go in as ever.
    """
    if n_rows < _WORTHWHILE:
        yield
        return
    references = _all(connection, _REFERENCES, table)
    if not _locked(connection, table, sorted({parent for _, _, parent in references})):
        yield
        return
    indexes = _all(connection, _INDEXES, table)
    quote = connection.dialect.identifier_preparer.quote
    for name, _, _ in references:
        connection.exec_driver_sql(f"ALTER TABLE {quote(table)} DROP CONSTRAINT {quote(name)}")
    for name, _ in indexes:
        connection.exec_driver_sql(f"DROP INDEX {name}")
    yield
    for _, definition in indexes:
        connection.exec_driver_sql(definition)
    connection.exec_driver_sql(f"ANALYZE {quote(table)}")
    for name, definition, _ in references:
        connection.exec_driver_sql(
            f"ALTER TABLE {quote(table)} ADD CONSTRAINT {quote(name)} {definition}"
        )


def _locked(connection: sa.Connection, table: str, parents: list[str]) -> bool:
    """Lock the table and those it refers to, if that can be had at once."""
    quote = connection.dialect.identifier_preparer.quote
    own = connection.execute(sa.text(_OWNED), {"name": table}).scalar()
    if not own:
        return False
    names = [quote(table), *parents]
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(
                f"LOCK TABLE {', '.join(names)} IN ACCESS EXCLUSIVE MODE NOWAIT"
            )
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in {"55P03", "42501"}:  # taken, not allowed
            raise
        return False
    return True


def _all(connection: sa.Connection, query: str, table: str) -> list[tuple[str, ...]]:
    return [tuple(row) for row in connection.execute(sa.text(query), {"name": table})]
