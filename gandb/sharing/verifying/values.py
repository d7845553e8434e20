"""What holds for the values of any table of a bundle: types say less than gandb does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from gandb.core.errors import InputError
from gandb.query.values import printable
from gandb.sharing.bundles.bundle import BundleTable
from gandb.sharing.portable import canonical_document

LONGEST_KEY = 1_000
"""Bytes of a text that is part of a key or an index: PostgreSQL's indexes take no longer ones."""
LONGEST_TEXT = 1 << 20
LONGEST_DOCUMENT = 16 << 20
_SHOWN = 80

_BOUNDS = {
    "space_group_number": (1, 230),
    "hall_number": (1, 530),
    "atomic_number": (1, 118),
    "level": (0, 4),
    "number": (1, 2**31 - 1),
    "formula_units": (1, 2**31 - 1),
    "times": (1, 2**63 - 1),
    "times_generated": (1, 2**63 - 1),
    "change": (-1, 1),
}
"""Least and largest value of columns by name; other whole numbers are at least 0."""

_DIGITS = np.full(256, 255, np.uint8)
_DIGITS[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)
_DASHES = np.array([8, 13, 18, 23])
_HEX = np.setdiff1d(np.arange(36), _DASHES)


class FlawError(InputError):
    """Something in a row group that cannot be; a row is counted from 0, None for no row."""

    def __init__(self, row: int | None, reason: str) -> None:
        super().__init__(reason)
        self.row = row
        self.reason = reason

    def told(self, where: str, begin: int = 0) -> str:
        """Say it with the file and the row, from 1."""
        at = "" if self.row is None else f": row {begin + self.row + 1}"
        return f"{where}{at}: {self.reason}"


def shown(value: Any) -> str:
    """Quote what another group wrote: short, and without control characters."""
    text = printable(str(value))
    return f"'{text[:_SHOWN]}{'...' if len(text) > _SHOWN else ''}'"


def flag(wrong: Any, reason: str, values: Any = None) -> None:
    """Refuse a row group in which a flag is set.

    Args:
        wrong: bool (n,); null counts as not set.
        reason: why; ``{}`` in it becomes the value of the row.
        values: n values.

    Raises:
        FlawError: one is set; names the first.
    """
    if isinstance(wrong, (pa.Array, pa.ChunkedArray)):
        wrong = pc.fill_null(wrong, False).to_numpy(zero_copy_only=False)
    found = np.flatnonzero(np.asarray(wrong))
    if len(found):
        row = int(found[0])
        if values is not None:
            value = values[row]
            value = value.as_py() if isinstance(value, pa.Scalar) else value
            reason = reason.replace("{}", shown(value))
        raise FlawError(row, reason)


# --- ids ---------------------------------------------------------------------------------


def ids_of(texts: pa.ChunkedArray | pa.Array, name: str = "id") -> np.ndarray:
    """Read ids written ``8-4-4-4-12`` in small letters, uint8 (n, 16); null becomes 16 zeros.

    Raises:
        FlawError: one is not written so.
    """
    array = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    if array.null_count:
        out = np.zeros((len(array), 16), np.uint8)
        valid = np.asarray(array.is_valid())
        out[valid] = ids_of(array.drop_null(), name)
        return out
    lengths = pc.binary_length(array)
    flag(pc.not_equal(lengths, 36), f"{name} {{}} is not a UUID", array)
    if not len(array):
        return np.zeros((0, 16), np.uint8)
    start = int(np.frombuffer(array.buffers()[1], np.int32)[array.offset])
    raw = np.frombuffer(array.buffers()[2], np.uint8, 36 * len(array), start).reshape(-1, 36)
    digits = _DIGITS[raw[:, _HEX]]
    wrong = (raw[:, _DASHES] != ord("-")).any(axis=1) | (digits == 255).any(axis=1)
    flag(wrong, f"{name} {{}} is not a UUID in its usual form", array)
    return np.ascontiguousarray((digits[:, 0::2] << np.uint8(4)) | digits[:, 1::2])


# --- values ------------------------------------------------------------------------------


def check_values(table: BundleTable, rows: pa.Table) -> None:
    """Check every value of some rows by its column's type.

    Raises:
        FlawError: one cannot be.
    """
    indexed = _indexed(table.table)
    for column in table.columns:
        values = rows.column(column.name)
        try:
            _check_column(column, values, column.name in indexed)
        except FlawError as flaw:
            raise FlawError(flaw.row, f"{column.name}: {flaw.reason}") from None


def _indexed(table: sa.Table) -> set[str]:
    names = {c.name for c in table.primary_key.columns}
    names |= {c.name for index in table.indexes for c in index.columns}
    return names | {c.name for c in table.columns if c.unique}


def _check_column(column: sa.Column[Any], values: pa.ChunkedArray, indexed: bool) -> None:
    type_ = column.type
    if isinstance(type_, sa.Uuid):
        ids_of(values, "the id")
    elif isinstance(type_, sa.JSON):
        if column.name != "site_properties":  # looked into with the structure
            _check_documents(values)
    elif isinstance(type_, sa.ARRAY):
        _check_lists(values)
    elif pa.types.is_string(values.type):
        _check_texts(values, LONGEST_KEY if indexed else LONGEST_TEXT)
    elif pa.types.is_floating(values.type):
        flag(pc.invert(pc.is_finite(values)), "{} is not a finite number", values)
    elif pa.types.is_integer(values.type):
        low, high = _BOUNDS.get(column.name, (0, 2**63 - 1))
        wrong = pc.or_(pc.less(values, low), pc.greater(values.cast(pa.int64()), high))
        flag(wrong, f"{{}} is not between {low} and {high}", values)


def _check_texts(values: pa.ChunkedArray, longest: int) -> None:
    lengths = pc.binary_length(values)
    flag(pc.greater(lengths, longest), f"it has more than {longest:,} bytes")
    flag(pc.match_substring(values, "\x00"), "{} holds a NUL character", values)


def _check_lists(values: pa.ChunkedArray) -> None:
    flat = pc.list_flatten(values)
    if flat.null_count:
        raise FlawError(None, "a list has an element that is missing")
    if pa.types.is_floating(flat.type):
        wrong = pc.invert(pc.is_finite(flat))
        reason = "a list holds {}, which is not a finite number"
    else:
        lengths = pc.binary_length(flat)
        if pc.any(pc.greater(lengths, 2_000)).as_py():
            raise FlawError(None, "a text in a list has more than 2,000 bytes")
        wrong = pc.or_(pc.match_substring(flat, "\x00"), pc.match_substring(flat, "\x1f"))
        reason = "a list holds {}, with a control character"
    if pc.any(wrong).as_py():
        place = pc.index(wrong, True).as_py()
        row = pc.list_parent_indices(values)[place].as_py()
        raise FlawError(int(row), reason.replace("{}", shown(flat[place].as_py())))


def _check_documents(values: pa.ChunkedArray) -> None:
    flag(
        pc.greater(pc.binary_length(values), LONGEST_DOCUMENT),
        f"it has more than {LONGEST_DOCUMENT >> 20} MB",
    )
    flag(pc.match_substring(values, "\\u0000"), "it holds a NUL character")
    flag(pc.match_substring(values, "\x00"), "it holds a NUL character")
    distinct = values.combine_chunks().dictionary_encode()
    for place, text in enumerate(distinct.dictionary.to_pylist()):
        try:
            same = canonical_document(text) == text
            reason = "{} is not JSON in its canonical form"
        except (ValueError, RecursionError, ArithmeticError) as error:
            same, reason = False, f"{{}} is not JSON ({error})"
        if not same:
            row = pc.index(distinct.indices, place).as_py()
            raise FlawError(row, reason.replace("{}", shown(text)))


# --- order -------------------------------------------------------------------------------


def check_order(key: Sequence[str], rows: pa.Table) -> None:
    """Check that keys ascend, so that none is there twice.

    Raises:
        FlawError: they do not.
    """
    n = rows.num_rows
    if n < 2:
        return
    ascending: Any = None
    for name in reversed(key):
        values = rows.column(name).combine_chunks()
        before, after = values.slice(0, n - 1), values.slice(1)
        less = pc.less(before, after)
        if ascending is None:
            ascending = less
        else:
            ascending = pc.or_(less, pc.and_(pc.equal(before, after), ascending))
    wrong = np.flatnonzero(~ascending.to_numpy(zero_copy_only=False))
    if len(wrong):
        row = int(wrong[0]) + 1
        same = all(rows.column(k)[row].equals(rows.column(k)[row - 1]) for k in key)
        raise FlawError(
            row, "its key is there twice" if same else "rows are not sorted by their key"
        )


def first_and_last(key: Sequence[str], rows: pa.Table) -> tuple[Any, Any]:
    """Return the first and the last key, texts as bytes, so that they compare as they sort."""

    def at(row: int) -> tuple[Any, ...]:
        values = (rows.column(k)[row].as_py() for k in key)
        return tuple(v.encode() if isinstance(v, str) else v for v in values)

    return at(0), at(rows.num_rows - 1)
