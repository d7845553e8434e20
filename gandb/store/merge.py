"""The staged merge: how rows enter a table in bulk.

An Arrow batch becomes a temporary relation, and one ``INSERT ... SELECT`` takes in those rows whose
key the table does not hold yet. Redoing it changes nothing. On DuckDB the relation is the Arrow
memory itself and an anti-join finds new rows; on PostgreSQL it is a temporary table filled by COPY.
"""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import sqlalchemy as sa

_HEX_WIDTH = 32


class Merger:
    """Merges Arrow tables into a store's tables inside one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._duckdb = connection.dialect.name == "duckdb"
        self._quote = connection.dialect.identifier_preparer.quote

    def merge(self, table: sa.Table, rows: pa.Table) -> int:
        """Insert the rows whose primary key is new; return how many.

        Args:
            table: where they go.
            rows: one column per table column (absent ones become null); ids as Arrow UUIDs. A key
                occurs once in ``rows``.
        """
        if not rows.num_rows:
            return 0
        with_key = [c.name for c in table.primary_key.columns]
        stage = self._stage(table, rows)
        columns = ", ".join(self._quote(name) for name in rows.column_names)
        source = ", ".join(self._expression(table, name) for name in rows.column_names)
        same = " AND ".join(f"t.{self._quote(k)} = s.{self._quote(k)}" for k in with_key)
        name = self._quote(table.name)
        result = self._connection.exec_driver_sql(
            f"INSERT INTO {name} ({columns}) SELECT {source} FROM {stage} AS s "
            f"WHERE NOT EXISTS (SELECT 1 FROM {name} AS t WHERE {same})"
            + ("" if self._duckdb else " ON CONFLICT DO NOTHING")
        )
        added = result.scalar_one() if self._duckdb else result.rowcount
        self._unstage(stage)
        return int(added)

    def stage(self, table: sa.Table, rows: pa.Table) -> str:
        """Make ``rows`` a temporary relation with ``table``'s column types; return its name."""
        return self._stage(table, rows)

    def unstage(self, name: str) -> None:
        """Drop a temporary relation."""
        self._unstage(name)

    def _expression(self, table: sa.Table, name: str) -> str:
        quoted = f"s.{self._quote(name)}"
        if self._duckdb and isinstance(table.c[name].type, sa.JSON):
            return f"{quoted}::JSON"
        return quoted

    def _stage(self, table: sa.Table, rows: pa.Table) -> str:
        name = f"stage_{uuid.uuid4().hex}"
        if self._duckdb:
            _driver(self._connection).register(name, rows)
            return name
        dialect = self._connection.dialect
        columns = ", ".join(
            f"{self._quote(c)} {table.c[c].type.compile(dialect)}" for c in rows.column_names
        )
        self._connection.exec_driver_sql(f"CREATE TEMP TABLE {name} ({columns}) ON COMMIT DROP")
        with _driver(self._connection).cursor().copy(f"COPY {name} FROM STDIN (FORMAT csv)") as out:
            options = pa_csv.WriteOptions(include_header=False)
            for batch in rows.to_batches(max_chunksize=65_536):
                sink = pa.BufferOutputStream()
                pa_csv.write_csv(_as_text(batch), sink, options)
                out.write(sink.getvalue())
        self._connection.exec_driver_sql(f"ANALYZE {name}")
        return name

    def _unstage(self, name: str) -> None:
        if self._duckdb:
            _driver(self._connection).unregister(name)
        else:
            self._connection.exec_driver_sql(f"DROP TABLE {name}")


def _driver(connection: sa.Connection) -> Any:
    return connection.connection.driver_connection


def _as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Write UUIDs as hexadecimal and lists as PostgreSQL array literals, for COPY's CSV."""
    columns = []
    for column in batch.columns:
        if isinstance(column.type, pa.UuidType):
            columns.append(_hex(column))
        elif pa.types.is_list(column.type):
            joined = pc.binary_join(column, ",")
            columns.append(pc.binary_join_element_wise("{", joined, "}", ""))
        else:
            columns.append(column)
    return pa.record_batch(columns, names=batch.schema.names)


def _hex(ids: pa.ExtensionArray) -> pa.StringArray:
    storage = ids.storage
    width = 16
    raw = storage.buffers()[1]
    start = storage.offset * width
    text = raw[start : start + len(storage) * width].to_pybytes().hex().encode()
    offsets = np.arange(len(storage) + 1, dtype=np.int32) * _HEX_WIDTH
    validity = None
    if storage.null_count:
        validity = pa.array(np.asarray(storage.is_valid()), pa.bool_()).buffers()[1]
    return pa.StringArray.from_buffers(
        len(storage), pa.py_buffer(offsets), pa.py_buffer(text), validity
    )
