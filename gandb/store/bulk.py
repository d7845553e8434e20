"""Reading many rows as arrays: straight Arrow from DuckDB, COPY from PostgreSQL."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import sqlalchemy as sa

_TYPES: tuple[tuple[type, pa.DataType], ...] = (
    (sa.Uuid, pa.string()),
    (sa.Boolean, pa.bool_()),
    (sa.Integer, pa.int64()),
    (sa.Float, pa.float64()),
    (sa.String, pa.string()),
)


def fetch(connection: sa.Connection, query: sa.Select[Any]) -> pa.Table:
    """Return all rows of a query: ids and texts as strings, numbers as int64 or float64.

    Args:
        connection: an open transaction of a store.
        query: selects labelled columns of plain types; its parameters are written into the SQL, so
            they are gandb's own ids, names and numbers, never a user's text.
    """
    sql = str(query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
    schema = pa.schema([(c.name, _arrow_type(c.type)) for c in query.selected_columns])
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "duckdb":
        table: pa.Table = driver.execute(sql).to_arrow_table()
        return table.rename_columns(schema.names).cast(schema)
    with driver.cursor() as cursor, cursor.copy(f"COPY ({sql}) TO STDOUT (FORMAT csv)") as out:
        data = b"".join(bytes(part) for part in out)
    if not data:
        return schema.empty_table()
    return pa_csv.read_csv(
        pa.BufferReader(data),
        read_options=pa_csv.ReadOptions(column_names=schema.names),
        convert_options=pa_csv.ConvertOptions(
            column_types=schema,
            true_values=["t"],
            false_values=["f"],
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def fetch_ids(connection: sa.Connection, query: sa.Select[Any]) -> np.ndarray:
    """Return the ids that a query of one UUID column selects, uint8 (n, 16)."""
    return ids_from_text(fetch(connection, query).column(0))


def ids_from_text(column: pa.ChunkedArray) -> np.ndarray:
    """Turn ids written ``8-4-4-4-12`` into uint8 (n, 16)."""
    text = "".join(column.to_pylist()).replace("-", "")
    return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, 16)


def _arrow_type(type_: Any) -> pa.DataType:
    for kind, arrow in _TYPES:
        if isinstance(type_, kind):
            return arrow
    raise TypeError(f"cannot fetch a column of type {type_} in bulk")
