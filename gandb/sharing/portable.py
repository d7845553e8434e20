"""Tables as Parquet that any program can read, equal in bytes for equal rows, from either engine.

Ids and JSON are text, lists are Parquet's lists, blobs are bytes. JSON is written in one form
(sorted keys, no spaces), because PostgreSQL keeps the value of a document and DuckDB its text. Row
groups are cut by what the rows hold, not by the batches in which an engine happens to give them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import sqlalchemy as sa

from gandb.core.compositions import uuid_array
from gandb.core.ids import canonical_json
from gandb.store.bulk import ids_from_text

GROUP_ROWS = 49_152
"""Rows of a row group at most; a multiple of `_SLICE`."""
LEAST_GROUP_ROWS = 64
"""Rows of every row group but the last, at least."""
GROUP_BYTES = 32 << 20
"""Bytes of a row group at which it is closed, counted before encoding."""
_SLICE = 2_048
_BATCH = 49_152
_SEPARATOR = "\x1f"
_ID_LENGTH = 36


# --- types -------------------------------------------------------------------------------


def portable_schema(columns: Iterable[sa.Column[Any]]) -> pa.Schema:
    """Return the Arrow schema of columns; what may not be null is not nullable."""
    return pa.schema([pa.field(c.name, _type(c.type), nullable=c.nullable) for c in columns])


def _type(type_: Any) -> pa.DataType:
    if isinstance(type_, sa.ARRAY):
        return pa.list_(pa.field("element", _type(type_.item_type), nullable=False))
    for kind, arrow in _TYPES:
        if isinstance(type_, kind):
            return arrow
    return pa.string()


_TYPES: tuple[tuple[type, pa.DataType], ...] = (
    (sa.DateTime, pa.timestamp("us")),
    (sa.Boolean, pa.bool_()),
    (sa.SmallInteger, pa.int16()),
    (sa.BigInteger, pa.int64()),
    (sa.Integer, pa.int32()),
    (sa.LargeBinary, pa.binary()),
    (sa.Float, pa.float64()),
)


# --- out of a store ----------------------------------------------------------------------


def rows_of(
    connection: sa.Connection,
    columns: Sequence[sa.Column[Any]],
    query: str,
    order: Sequence[str],
    folder: Path,
) -> Iterator[pa.Table]:
    """Yield the rows of a query in portable form, sorted; texts in the order of their bytes.

    Args:
        connection: a transaction on either engine.
        columns: what to yield.
        query: SQL of gandb's own that selects columns of these names and types.
        order: names of the columns to sort by.
        folder: for what does not fit into memory.
    """
    quote = connection.dialect.identifier_preparer.quote
    duckdb = connection.dialect.name == "duckdb"
    chosen = ", ".join(
        f"{_written(f'q.{quote(c.name)}', c.type, duckdb=duckdb)} AS {quote(c.name)}"
        for c in columns
    )
    kinds = {c.name: c.type for c in columns}
    collate = {n: not duckdb and isinstance(kinds[n], sa.Text) for n in order}
    keys = ", ".join(f"q.{quote(n)}" + (' COLLATE "C"' if collate[n] else "") for n in order)
    sql = f"SELECT {chosen} FROM ({query}) AS q ORDER BY {keys}"
    schema = portable_schema(columns)
    batches = _from_duckdb(connection, sql) if duckdb else _by_copy(connection, sql, schema, folder)
    documents = [c.name for c in columns if isinstance(c.type, sa.JSON)]
    for batch in batches:
        yield _finished(batch, schema, documents)


def _written(value: str, type_: Any, *, duckdb: bool) -> str:
    """Return the SQL that takes a column out in portable form, or in what stands for it."""
    if isinstance(type_, (sa.Uuid, sa.JSON)):
        return f"CAST({value} AS TEXT)"
    if duckdb:
        return value
    if isinstance(type_, sa.ARRAY):
        return f"array_to_string({value}, chr({ord(_SEPARATOR)}))"
    return f"encode({value}, 'hex')" if isinstance(type_, sa.LargeBinary) else value


def _from_duckdb(connection: sa.Connection, sql: str) -> Iterator[pa.RecordBatch]:
    driver: Any = connection.connection.driver_connection
    yield from driver.execute(sql).to_arrow_reader(_BATCH)


def _by_copy(
    connection: sa.Connection, sql: str, schema: pa.Schema, folder: Path
) -> Iterator[pa.RecordBatch]:
    """Copy the rows of a PostgreSQL query to a file and read that, which bounds the memory."""
    spill = folder / "copy.csv"
    driver: Any = connection.connection.driver_connection
    try:
        with (
            spill.open("wb") as out,
            driver.cursor() as cursor,
            cursor.copy(f"COPY ({sql}) TO STDOUT (FORMAT csv)") as source,
        ):
            for part in source:
                out.write(part)
        if not spill.stat().st_size:
            return
        plain = [(f.name, pa.string() if _nested(f.type) else f.type) for f in schema]
        options = pa_csv.ConvertOptions(
            column_types=pa.schema(plain),
            true_values=["t"],
            false_values=["f"],
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        names = pa_csv.ReadOptions(column_names=schema.names)
        parse = pa_csv.ParseOptions(newlines_in_values=True)
        with pa_csv.open_csv(spill, names, parse, options) as reader:
            yield from reader
    finally:
        spill.unlink(missing_ok=True)


def _nested(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_binary(type_))


def _finished(batch: pa.RecordBatch, schema: pa.Schema, documents: Sequence[str]) -> pa.Table:
    """Give a batch its types, and its documents their one form."""
    columns = []
    for field, column in zip(schema, batch.columns, strict=True):
        if field.name in documents:
            column = canonical_documents(column)
        elif pa.types.is_string(column.type) and _nested(field.type):
            column = _from_text(column, field.type)
        columns.append(column.cast(field.type))
    return pa.table(columns, schema=schema)


def _from_text(column: pa.Array, type_: pa.DataType) -> pa.Array:
    """Read lists and blobs back from the texts that stand for them."""
    if pa.types.is_binary(type_):
        return pa.array(
            [None if v is None else bytes.fromhex(v) for v in column.to_pylist()], type_
        )
    lists = pc.split_pattern(column, _SEPARATOR)
    empty = pc.fill_null(pc.equal(column, ""), False)
    if pc.any(empty).as_py():
        lists = pc.if_else(empty, pa.scalar([], lists.type), lists)
    return lists


# --- documents ---------------------------------------------------------------------------


def canonical_documents(texts: pa.Array) -> pa.Array:
    """Write JSON texts in one form, whichever engine kept them; null stays null."""
    distinct = texts.dictionary_encode()
    values = [canonical_document(text) for text in distinct.dictionary.to_pylist()]
    return pa.array(values, pa.string()).take(distinct.indices)


def canonical_document(text: str) -> str:
    """Write one JSON text with sorted keys, without spaces, numbers as Python writes them.

    PostgreSQL writes out the digits of large numbers, so that 1e22 is an integer there, and knows
    no negative zero.
    """
    value = json.loads(text, parse_float=_number)
    try:
        return canonical_json(value).decode()
    except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 cannot hold
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _number(token: str) -> float | int:
    value = float(token)
    if "e" in token.lower() and value.is_integer():
        return int(Decimal(token))
    return value + 0.0


# --- Parquet -----------------------------------------------------------------------------


def write_parquet(
    path: Path, schema: pa.Schema, pieces: Iterable[pa.Table], on_rows: Any = None
) -> int:
    """Write rows to a Parquet file; return how many.

    Args:
        path: a new file.
        schema: as `portable_schema` gives it.
        pieces: the rows, in whatever portions they come.
        on_rows: is told how many more rows were written.
    """
    rows = 0
    options = {
        "compression": "zstd",
        "store_schema": False,
        "use_dictionary": [_leaf(f) for f in schema if _repeats(f)] or False,
    }
    with pq.ParquetWriter(path, schema, **options) as writer:
        for group in _groups(schema, pieces):
            writer.write_table(group, row_group_size=GROUP_ROWS)
            rows += group.num_rows
            if on_rows is not None:
                on_rows(group.num_rows)
    return rows


def _leaf(field: pa.Field) -> str:
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else str(field.name)


def _repeats(field: pa.Field) -> bool:
    """Say whether values are worth a dictionary: ids and numbers are not."""
    kind = field.type.value_type if pa.types.is_list(field.type) else field.type
    return bool(pa.types.is_string(kind)) and not field.name.endswith(("id", "structure_a", "_b"))


def _groups(schema: pa.Schema, pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cut rows into row groups, each at the same place however they come."""
    held: list[pa.Table] = []
    rows = size = 0
    for part, part_size in _sized(_slices(schema, pieces)):
        held.append(part)
        rows += part.num_rows
        size += part_size
        if rows >= GROUP_ROWS or size >= GROUP_BYTES:
            yield pa.concat_tables(held).combine_chunks()
            held, rows, size = [], 0, 0
    if held:
        yield pa.concat_tables(held).combine_chunks()


def _sized(slices: Iterable[pa.Table]) -> Iterator[tuple[pa.Table, int]]:
    """Yield slices with their sizes; those that are large, in parts of `LEAST_GROUP_ROWS`."""
    for part in slices:
        size = content_size(part)
        if size < GROUP_BYTES:
            yield part, size
            continue
        for begin in range(0, part.num_rows, LEAST_GROUP_ROWS):
            small = part.slice(begin, LEAST_GROUP_ROWS)
            yield small, content_size(small)


def _slices(schema: pa.Schema, pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield slices of `_SLICE` rows, counted from the first row of all; the last may be shorter."""
    rest = schema.empty_table()
    for piece in pieces:
        rest = pa.concat_tables([rest, piece]) if rest.num_rows else piece
        whole = rest.num_rows - rest.num_rows % _SLICE
        for begin in range(0, whole, _SLICE):
            yield rest.slice(begin, _SLICE)
        rest = rest.slice(whole)
    if rest.num_rows:
        yield rest


def content_size(table: pa.Table) -> int:
    """Return the bytes of the values of a table, however its memory is laid out."""
    return sum(_size(column) for column in table.columns)


def _size(column: pa.ChunkedArray | pa.Array) -> int:
    type_ = column.type
    if pa.types.is_list(type_):
        return 4 * len(column) + _size(pc.list_flatten(column))
    if pa.types.is_string(type_) or pa.types.is_binary(type_):
        return 4 * len(column) + (pc.sum(pc.binary_length(column)).as_py() or 0)
    return len(column) * max(1, int(type_.bit_width) // 8)


# --- into a store ------------------------------------------------------------------------


def importable(columns: Iterable[sa.Column[Any]], rows: pa.Table) -> pa.Table:
    """Turn portable rows into those that a merge takes: ids as Arrow's UUIDs, the rest as it is.

    Args:
        columns: of the table; those that ``rows`` lacks are left out.
        rows: portable rows.

    Raises:
        ValueError: an id is not a UUID in its usual form.
    """
    taken = {}
    for column in columns:
        if column.name in rows.column_names:
            values = rows.column(column.name)
            taken[column.name] = uuids(values) if isinstance(column.type, sa.Uuid) else values
    return pa.table(taken)


def uuids(texts: pa.ChunkedArray) -> pa.Array:
    """Turn ids written ``8-4-4-4-12`` into Arrow UUIDs; null stays null.

    Raises:
        ValueError: one is not such a text.
    """
    if isinstance(texts, pa.Array):
        texts = pa.chunked_array([texts])
    present = texts.drop_null()
    lengths = pc.min_max(pc.binary_length(present)).as_py()
    if len(present) and (lengths["min"], lengths["max"]) != (_ID_LENGTH, _ID_LENGTH):
        raise ValueError("an id is not a UUID")
    if not texts.null_count:
        return uuid_array(ids_from_text(texts))
    valid = np.asarray(texts.is_valid())
    raw = np.zeros((len(texts), 16), np.uint8)
    raw[valid] = ids_from_text(present)
    mask = pa.array(valid, pa.bool_()).buffers()[1]
    storage = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(texts), [mask, pa.py_buffer(raw)]
    )
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)
