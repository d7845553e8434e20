"""Arrow columns as text: CSV fields, JSON values, and whole lines made of them.

Everything that is text, number, truth value or time is converted by column; lists and the rest go
value by value. Missing values are empty in CSV, where an empty string is ``""``, and null in JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gandb.query.values import json_text, jsonable

_CSV_SPECIAL = '[",\\r\\n]|^$|^\\s|\\s$'
_JSON_SPECIAL = r'["\\\x00-\x1f]'


def csv_lines(batch: pa.RecordBatch) -> pa.Buffer:
    """Return the rows as CSV, each ended by a line feed; quotes only where needed."""
    fields = [_csv_field(column) for column in batch.columns]
    return _lines(fields, [","] * (len(fields) - 1), "", "\n", batch.num_rows)


def csv_header(names: Sequence[str]) -> str:
    """Return the line of column names."""
    field = _csv_field(pa.array(names, pa.string()))
    return ",".join(field.to_pylist()) + "\n"


def json_lines(batch: pa.RecordBatch, *, prefix: str = "", suffix: str = "\n") -> pa.Buffer:
    """Return the rows as JSON objects, each between ``prefix`` and ``suffix``."""
    keys = [json.dumps(name, ensure_ascii=False) + ": " for name in batch.schema.names]
    values = [_json_value(column) for column in batch.columns]
    between = [", " + key for key in keys[1:]]
    return _lines(values, between, prefix + "{" + keys[0], "}" + suffix, batch.num_rows)


def _csv_field(column: pa.Array) -> pa.Array:
    text = _text(column)
    special = pc.match_substring_regex(text, _CSV_SPECIAL)
    if not pc.any(special).as_py():
        return pc.fill_null(text, "")
    doubled = pc.replace_substring(text, '"', '""')
    quoted = pc.binary_join_element_wise('"', doubled, '"', "")
    return pc.fill_null(pc.if_else(special, quoted, text), "")


def _json_value(column: pa.Array) -> pa.Array:
    kind = _decoded(column).type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return pc.fill_null(_text(column), "null")
    if pa.types.is_floating(kind):
        finite = pc.fill_null(pc.is_finite(column), False)
        return pc.if_else(finite, pc.fill_null(_text(column), "null"), "null")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_temporal(kind):
        text = _text(column)
        if pc.any(pc.match_substring_regex(text, _JSON_SPECIAL)).as_py():
            return pa.array([json_text(value) for value in text.to_pylist()], pa.string())
        return pc.fill_null(pc.binary_join_element_wise('"', text, '"', ""), "null")
    return pa.array([json_text(value) for value in column.to_pylist()], pa.string())


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _text(column: pa.Array) -> pa.Array:
    """Return the column as strings, nulls kept."""
    column = _decoded(column)
    kind = column.type
    if pa.types.is_string(kind):
        return column
    if pa.types.is_decimal(kind):  # Arrow would write 0E-9
        texts = [None if value is None else f"{value:f}" for value in column.to_pylist()]
        return pa.array(texts, pa.string())
    if pa.types.is_timestamp(kind):  # ISO 8601
        return pc.replace_substring(column.cast(pa.string()), " ", "T", max_replacements=1)
    simple = (
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_date(kind)
        or pa.types.is_time(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_null(kind)
    )
    if simple:
        return column.cast(pa.string())
    texts = []
    for value in column.to_pylist():
        item = jsonable(value)
        texts.append(item if item is None or isinstance(item, str) else json_text(item))
    return pa.array(texts, pa.string())


def _lines(
    columns: list[pa.Array], between: list[str], prefix: str, suffix: str, rows: int
) -> pa.Buffer:
    """Join columns into lines and return the lines' bytes, one after the other."""
    if rows == 0:
        return pa.py_buffer(b"")
    parts: list[Any] = [prefix, columns[0]]
    for separator, column in zip(between, columns[1:], strict=True):
        parts += [separator, column]
    parts.append(suffix)
    wide = pa.large_string()
    joined = pc.binary_join_element_wise(
        *(pa.scalar(p, wide) if isinstance(p, str) else p.cast(wide) for p in parts),
        pa.scalar("", wide),
    )
    _, offsets, data = joined.buffers()
    bounds = memoryview(offsets).cast("q")
    start, end = bounds[joined.offset], bounds[joined.offset + len(joined)]
    return data.slice(start, end - start)
