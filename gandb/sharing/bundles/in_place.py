"""Asking a bundle in SQL without taking it in: the tables and views of a store, over its Parquet.

It is what `gandb.query` needs of a store, so a query on a bundle is checked and sandboxed like any
other; of files it can reach those of the bundle alone. Ids are text here. What a bundle does not
hold (times, workers, tokens) is null or empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import sqlalchemy as sa
from duckdb_sqlalchemy import Dialect

from gandb.schema.tables import metadata
from gandb.schema.views import VIEWS, load_view
from gandb.sharing.bundles.bundle import TABLES, Bundle


class BundleReader:
    """A bundle as a store that can be read; it holds a database in memory, so close it.

    Args:
        bundle: as `gandb.sharing.bundles.bundle.open_bundle` yields it.
    """

    kind = "duckdb"

    def __init__(self, bundle: Bundle) -> None:
        self._connection = duckdb.connect()
        files = [str(path.resolve()) for path in bundle.tables.values()]
        for statement in _relations(bundle):
            self._connection.execute(statement)
        self._connection.execute(f"SET allowed_paths = [{', '.join(map(_quoted, files))}]")

    @contextmanager
    def read_only(self) -> Iterator[Any]:
        """Yield DuckDB's connection; there is no transaction, for nothing can change."""
        yield self._connection

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()


@contextmanager
def reading(bundle: Bundle) -> Iterator[BundleReader]:
    """Open a bundle for queries until the block ends."""
    reader = BundleReader(bundle)
    try:
        yield reader
    finally:
        reader.close()


def _relations(bundle: Bundle) -> Iterator[str]:
    """Yield the statements that make the tables and views of a store."""
    packed = {table.table.name: table for table in TABLES}
    for name, table in metadata.tables.items():
        own = packed.get(name)
        held = {c.name for c in own.columns} if own else set()
        columns = ", ".join(_column(c, held=c.name in held) for c in table.columns)
        source = (
            f"FROM read_parquet({_quoted(str(bundle.tables[own.name].resolve()))})"
            if own
            else "WHERE false"
        )
        yield f'CREATE VIEW "{name}" AS SELECT {columns} {source}'
    for name in VIEWS:
        yield f"CREATE VIEW {name} AS\n{load_view(name).sql}"


def _column(column: sa.Column[Any], *, held: bool) -> str:
    name = f'"{column.name}"'
    kind = "TEXT" if isinstance(column.type, sa.Uuid) else column.type.compile(Dialect())
    if not held:
        return f"CAST(NULL AS {kind}) AS {name}"
    if isinstance(column.type, sa.JSON):
        return f"CAST({name} AS JSON) AS {name}"
    return name


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
