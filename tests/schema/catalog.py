"""What a database says of itself, in its own catalogue's words: one line per fact.

``python -m tests.schema.catalog`` writes the golden files anew, for a revision that is still being
made; those of a released revision never change.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import sqlalchemy as sa

from gandb.store import revisions
from gandb.store.engines import connect
from tests import postgres

GOLDEN = Path(__file__).parent / "golden"

_DUCKDB = """
SELECT 'column ' || table_name || '.' || column_name || ' ' || data_type
       || CASE WHEN is_nullable THEN '' ELSE ' NOT NULL' END
FROM duckdb_columns()
WHERE NOT internal AND table_name IN (SELECT t.table_name FROM duckdb_tables() AS t)
UNION ALL
SELECT 'constraint ' || table_name || ' ' || constraint_text
FROM duckdb_constraints() WHERE constraint_type <> 'NOT NULL'
UNION ALL
SELECT 'index ' || table_name || ' ' || sql FROM duckdb_indexes()
"""

_POSTGRES = """
SELECT 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
       || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
  AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = current_schema()::regnamespace
UNION ALL
SELECT 'index ' || i.indrelid::regclass || ' ' || pg_get_indexdef(i.indexrelid)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = current_schema()::regnamespace
  AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid)
"""


def facts(connection: sa.Connection) -> list[str]:
    """List columns, constraints and indexes of the tables."""
    query = _DUCKDB if connection.dialect.name == "duckdb" else _POSTGRES
    return sorted(row[0] for row in connection.exec_driver_sql(query))


def golden_file(revision: str, kind: str) -> Path:
    return GOLDEN / f"{revision}.{kind}.txt"


def _write(revision: str, url: str) -> None:
    engine = connect(url, 10)
    with engine.creating() as connection:
        revisions.upgrade(connection, revision)
        text = "\n".join(facts(connection)) + "\n"
    golden_file(revision, engine.kind).write_text(text)


if __name__ == "__main__":
    binaries = postgres.server_binaries()
    assert binaries is not None, "install PostgreSQL"
    GOLDEN.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        postgres.running_server(binaries) as server,
        postgres.fresh_database(server) as url,
    ):
        _write(revisions.HEAD, f"{folder}/store")
        _write(revisions.HEAD, url)
