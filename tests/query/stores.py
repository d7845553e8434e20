"""Small stores that offer what `gandb.query` needs, on either engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psycopg

ROWS = [
    ("00000000-0000-4000-8000-000000000001", "Fe2O3", 5, -1.5, ["oxide", "red, rust"], True),
    ("00000000-0000-4000-8000-000000000002", 'say "NaCl"', 2, -2.25, ["halide"], False),
    ("00000000-0000-4000-8000-000000000003", "line\nbreak, é", 1, None, [], None),
    ("00000000-0000-4000-8000-000000000004", "", 7, 0.1, None, True),
    ("00000000-0000-4000-8000-000000000005", None, None, 1e100, ["x"], True),
]
TABLE = """
CREATE TABLE entry (
    entry_id uuid, formula {text}, n_sites bigint, energy double precision, tags {text}[],
    stable boolean, price numeric(10, 2), seen timestamp with time zone, extra {json}
)
"""
VIEW = "CREATE VIEW stable_entries AS SELECT entry_id, formula FROM entry WHERE stable"


@dataclass(frozen=True)
class DuckDBStore:
    """One file, as the real store opens it for reading."""

    path: Path
    kind: str = "duckdb"

    @contextlib.contextmanager
    def read_only(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with duckdb.connect(str(self.path), read_only=True) as connection:
            yield connection

    def content(self) -> Any:
        """Return what an attack could have changed."""
        with duckdb.connect(str(self.path), read_only=True) as connection:
            rows = connection.execute("SELECT * FROM entry ORDER BY entry_id").fetchall()
        names = sorted(path.name for path in self.path.parent.iterdir())
        return rows, names, self.path.read_bytes()


@dataclass(frozen=True)
class PostgresStore:
    """One database; its user is a superuser, the worst case."""

    url: str
    kind: str = "postgres"

    @contextlib.contextmanager
    def read_only(self) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(self.url) as connection:
            yield connection

    def content(self) -> Any:
        """Return what an attack could have changed."""
        with psycopg.connect(self.url) as connection:
            return [
                connection.execute(query).fetchall()
                for query in (
                    "SELECT * FROM entry ORDER BY entry_id",
                    "SELECT relname FROM pg_class ORDER BY relname",
                    "SELECT oid FROM pg_largeobject_metadata",
                    "SELECT locktype FROM pg_locks WHERE locktype = 'advisory'",
                    "SELECT name, setting FROM pg_settings WHERE source = 'database'",
                )
            ]


def make_duckdb(folder: Path) -> DuckDBStore:
    """Create a store with `ROWS`."""
    store = DuckDBStore(folder / "gandb.duckdb")
    with duckdb.connect(str(store.path)) as connection:
        connection.execute(TABLE.format(text="varchar", json="json"))
        connection.execute(VIEW)
        connection.executemany(
            "INSERT INTO entry VALUES "
            "(?, ?, ?, ?, ?, ?, 12.50, '2024-05-06 07:08:09+00', '{\"a\": 1}')",
            ROWS,
        )
    return store


def make_postgres(url: str) -> PostgresStore:
    """Create a store with `ROWS`, and things in its database that no query should use."""
    with psycopg.connect(url) as connection:
        connection.execute(TABLE.format(text="text", json="jsonb"))
        connection.execute(VIEW)
        connection.execute("CREATE FUNCTION leaky() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1'")
        connection.execute("CREATE FOREIGN DATA WRAPPER nowhere")
        connection.execute("CREATE SERVER remote FOREIGN DATA WRAPPER nowhere")
        connection.execute("CREATE FOREIGN TABLE faraway (x int) SERVER remote")
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO entry VALUES "
                "(%s, %s, %s, %s, %s, %s, 12.50, '2024-05-06 07:08:09+00', '{\"a\": 1}')",
                ROWS,
            )
    return PostgresStore(url)
