"""Many rows at once as Arrow tables: straight from DuckDB's memory, by COPY with PostgreSQL."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import sqlalchemy as sa

_TYPES: tuple[tuple[type, pa.DataType], ...] = (
    (sa.Uuid, pa.string()),
    (sa.Boolean, pa.bool_()),
    (sa.Integer, pa.int64()),
    (sa.Float, pa.float64()),
    (sa.String, pa.string()),
    (sa.LargeBinary, pa.binary()),
)
_SEPARATOR = "\x1f"
_CSV_ROWS = 65_536
_HEX_WIDTH = 32


# --- reading -----------------------------------------------------------------------------


def fetch(connection: sa.Connection, query: sa.Select[Any]) -> pa.Table:
    """Return all rows of a query: ids and texts as strings, numbers as int64 or float64.

    Blobs and lists, of numbers or texts that are neither null nor empty, come as Arrow's own.

    Args:
        connection: an open transaction of a store.
        query: selects labelled columns of plain types; its parameters are written into the SQL, so
            they are gandb's own ids, names and numbers, never a user's text.
    """
    sql = str(query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
    schema = pa.schema([(c.name, _arrow_type(c.type)) for c in query.selected_columns])
    if connection.dialect.name == "duckdb":
        driver: Any = connection.connection.driver_connection
        table: pa.Table = driver.execute(sql).to_arrow_table()
        return table.rename_columns(schema.names).cast(schema)
    sql = sql.replace("%%", "%")  # psycopg's COPY has no parameters
    return _copy_out_nested(connection, sql, schema)


def fetch_ids(connection: sa.Connection, query: sa.Select[Any]) -> np.ndarray:
    """Return the ids that a query of one UUID column selects, uint8 (n, 16)."""
    return ids_from_text(fetch(connection, query).column(0))


def ids_from_text(column: pa.ChunkedArray) -> np.ndarray:
    """Turn ids written ``8-4-4-4-12`` into uint8 (n, 16)."""
    text = "".join(column.to_pylist()).replace("-", "")
    return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, 16)


def _arrow_type(type_: Any) -> pa.DataType:
    if isinstance(type_, sa.ARRAY):
        return pa.list_(_arrow_type(type_.item_type))
    for kind, arrow in _TYPES:
        if isinstance(type_, kind):
            return arrow
    raise TypeError(f"cannot fetch a column of type {type_} in bulk")


# --- COPY, PostgreSQL alone --------------------------------------------------------------


def copy_out(connection: sa.Connection, sql: str, schema: pa.Schema) -> pa.Table:
    """Return the rows of a PostgreSQL query as a table of ``schema``."""
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY ({sql}) TO STDOUT (FORMAT csv)") as out:
        data = b"".join(bytes(part) for part in out)
    if not data:
        return schema.empty_table()
    return pa_csv.read_csv(
        pa.BufferReader(data),
        read_options=pa_csv.ReadOptions(column_names=schema.names),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pa_csv.ConvertOptions(
            column_types=schema,
            true_values=["t"],
            false_values=["f"],
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _copy_out_nested(connection: sa.Connection, sql: str, schema: pa.Schema) -> pa.Table:
    """Return the rows of a PostgreSQL query that may select lists and blobs."""
    plain, chosen = [], []
    for field in schema:
        name = connection.dialect.identifier_preparer.quote(field.name)
        if pa.types.is_list(field.type):
            chosen.append(f"array_to_string({name}, chr({ord(_SEPARATOR)}))")
        elif pa.types.is_binary(field.type):
            chosen.append(f"encode({name}, 'hex')")
        else:
            chosen.append(name)
        nested = pa.types.is_list(field.type) or pa.types.is_binary(field.type)
        plain.append(pa.field(field.name, pa.string() if nested else field.type))
    if pa.schema(plain) == schema:
        return copy_out(connection, sql, schema)
    rows = copy_out(connection, f"SELECT {', '.join(chosen)} FROM ({sql}) AS q", pa.schema(plain))
    columns = [_nested(rows.column(i), field.type) for i, field in enumerate(schema)]
    return pa.table(columns, schema=schema)


def _nested(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    """Read lists and blobs back from the texts that stand for them."""
    if pa.types.is_list(type_):
        lists = pc.split_pattern(column, _SEPARATOR)
        empty = pc.fill_null(pc.equal(column, ""), False)
        if pc.any(empty).as_py():
            none = pa.scalar([], lists.type)
            lists = pc.if_else(empty, none, lists)
        return lists.cast(type_)
    if pa.types.is_binary(type_):
        values = [None if v is None else bytes.fromhex(v) for v in column.to_pylist()]
        return pa.chunked_array([pa.array(values, type_)])
    return column


def copy_in(connection: sa.Connection, name: str, rows: pa.Table) -> None:
    """Append rows to a PostgreSQL table by COPY; ``name`` is quoted where it must be."""
    quote = connection.dialect.identifier_preparer.quote
    columns = ", ".join(map(quote, rows.column_names))
    driver: Any = connection.connection.driver_connection
    options = pa_csv.WriteOptions(include_header=False)
    with (
        driver.cursor() as cursor,
        cursor.copy(f"COPY {name} ({columns}) FROM STDIN (FORMAT csv)") as out,
    ):
        for batch in rows.to_batches(max_chunksize=_CSV_ROWS):
            sink = pa.BufferOutputStream()
            pa_csv.write_csv(_as_text(batch), sink, options)
            out.write(sink.getvalue())


def _as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Write UUIDs as hexadecimal, lists and blobs as PostgreSQL's literals."""
    columns = []
    for column in batch.columns:
        if isinstance(column.type, pa.UuidType):
            columns.append(_hex(column))
        elif pa.types.is_list(column.type):
            columns.append(_array_literals(column))
        elif pa.types.is_binary(column.type):
            columns.append(_blob_literals(column))
        else:
            columns.append(column)
    return pa.record_batch(columns, names=batch.schema.names)


def _array_literals(lists: pa.ListArray) -> pa.StringArray:
    """Write lists of texts as ``{"a","b"}`` and lists of numbers as ``{0.5,1}``."""
    texts = lists.flatten()
    if pa.types.is_string(texts.type):
        for special in ("\\", '"'):
            texts = pc.replace_substring(texts, special, "\\" + special)
        texts = pc.binary_join_element_wise('"', texts, '"', "").fill_null("NULL")
    else:
        texts = texts.cast(pa.string()).fill_null("NULL")
    offsets = np.zeros(len(lists) + 1, np.int32)
    np.cumsum(pc.list_value_length(lists).fill_null(0), out=offsets[1:])
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), texts), ",")
    literals = pc.binary_join_element_wise("{", joined, "}", "")
    return pc.if_else(lists.is_valid(), literals, None)


def _blob_literals(blobs: pa.BinaryArray) -> pa.StringArray:
    r"""Write blobs as ``\\x00ff``."""
    return pa.array(
        [None if v is None else f"\\x{v.hex()}" for v in blobs.to_pylist()], pa.string()
    )


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
