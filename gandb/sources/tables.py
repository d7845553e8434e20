"""Formula tables of a source, read into entries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gandb.core.errors import NotFoundError, UsageError
from gandb.core.formula import parse_formulas
from gandb.core.units import convert
from gandb.sources.base import ParsedTable, Reject, Source
from gandb.sources.columns import ColumnMap, map_columns
from gandb.sources.entries import Join, Rows, join_rows
from gandb.sources.files import RecordTable, TextTable, read_file

_MISSING = frozenset({"", "nan", "na", "n/a", "none", "null", "-"})
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_tables(
    paths: Sequence[Path],
    source: Source,
    mapping: Mapping[str, str] | None = None,
    join: Join = Join.FORMULA,
) -> ParsedTable:
    """Read files of one source into entries.

    Args:
        paths: CSV, TSV, JSONL, JSON or Parquet files, also packed (.gz, .bz2, .zst).
        source: which source's columns are meant, where ``mapping`` does not say.
        mapping: column to ``formula``, ``external_id``, ``ignore`` or ``PROPERTY[:UNIT]``; each
            column must be in at least one of the files.
        join: how rows of several files become entries.

    Raises:
        InputError: a file cannot be read, or its columns do not say what they are.
        NotFoundError: ``mapping`` names a column or property that does not exist.
        UnitError: ``mapping`` names a unit that does not fit its property.
        UsageError: ``mapping`` gives two columns one meaning, or there is no file.
    """
    if not paths:
        raise UsageError("no file to read")
    tables = [read_file(path) for path in paths]
    mapping = dict(mapping or {})
    for column in mapping:
        if not any(table.has(column) for table in tables):
            known = [name for table in tables for name in table.columns]
            raise NotFoundError.naming("column", column, known)
    maps = [map_columns(table, source, mapping) for table in tables]
    files = [_rows(t, m, source) for t, m in zip(tables, maps, strict=True)]
    return join_rows(source, tuple(paths), files, join)


def _rows(table: TextTable | RecordTable, columns: ColumnMap, source: Source) -> Rows:
    """Read the columns of one file; a row with a bad formula or number is a reject."""
    n = len(table.lines)
    formulas = table.texts(columns.formula)
    parsed = parse_formulas(formulas)
    reasons: dict[int, list[str]] = {row: [reason] for row, reason in parsed.rejects}
    properties: dict[str, np.ndarray] = {}
    for column, (found, unit) in columns.properties.items():
        values, bad = _numbers(table.column(column))
        for row, problem in bad:
            reasons.setdefault(row, []).append(f"{problem} in column {column!r}")
        values[np.isin(values, source.missing)] = np.nan
        properties[found.name] = convert(values, unit, found) + 0.0  # no negative zero

    good = np.ones(n, np.bool_)
    good[list(reasons)] = False
    kept = np.flatnonzero(good)
    compositions = parsed.batch
    if len(kept) < len(parsed.rows):
        compositions = compositions.take(np.searchsorted(parsed.rows, kept))
    external_ids = table.texts(columns.external_id) if columns.external_id else None
    extra = table.extra(columns.extra) if columns.extra else None
    rejects = [
        Reject(str(table.path), int(table.lines[row]), "; ".join(why), table.raw(row))
        for row, why in reasons.items()
    ]
    take = pa.array(kept)
    return Rows(
        compositions,
        formulas.take(take),
        None if external_ids is None else external_ids.take(take),
        {name: values[kept] for name, values in properties.items()},
        None if extra is None or not any(extra) else [extra[row] for row in kept.tolist()],
        table.lines[kept],
        sorted(table.rejects + rejects, key=lambda reject: reject.line),
    )


def _numbers(cells: pa.Array | list[Any]) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Read cells as numbers.

    Returns:
        float64 (n,) with NaN for missing, and (row, problem) of cells that are no finite number.
    """
    if isinstance(cells, list):
        return _numbers_one_by_one(cells)
    try:
        values = cells.cast(pa.float64())
    except pa.ArrowInvalid:
        texts = pc.utf8_trim_whitespace(cells)
        missing = pc.is_in(pc.utf8_lower(texts), pa.array(sorted(_MISSING)))
        try:
            values = pc.if_else(missing, pa.scalar(None, pa.string()), texts).cast(pa.float64())
        except pa.ArrowInvalid:
            return _numbers_one_by_one(cells.to_pylist())
    numbers = values.to_numpy(zero_copy_only=False)
    if np.isinf(numbers).any():
        return _numbers_one_by_one(cells.to_pylist())
    return np.array(numbers, np.float64), []


def _numbers_one_by_one(cells: list[Any]) -> tuple[np.ndarray, list[tuple[int, str]]]:
    values = np.full(len(cells), np.nan)
    bad: list[tuple[int, str]] = []
    for row, cell in enumerate(cells):
        if cell is None:
            continue
        text = str(cell).strip()
        if text.casefold() in _MISSING:
            continue
        shown = text if len(text) <= 40 else text[:39] + "…"
        if text.casefold().lstrip("+-") in ("inf", "infinity"):
            bad.append((row, f"infinite value {shown!r}"))
        elif isinstance(cell, bool) or not _NUMBER.fullmatch(text):
            bad.append((row, f"not a number: {shown!r}"))
        elif np.isinf(float(text)):
            bad.append((row, f"infinite value {shown!r}"))
        else:
            values[row] = float(text)
    return values, bad
