"""What the columns of a file mean: what an option says, else what the source knows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gandb.core.errors import InputError, NotFoundError, UsageError
from gandb.core.units import PROPERTIES, Property, find_property, unit_factor
from gandb.sources.base import EXTERNAL_ID, FORMULA, IGNORE, Source
from gandb.sources.files import COMPRESSIONS, READERS, RecordTable, TextTable

VALUE_COLUMNS = ("value", "target")
"""Columns whose meaning the name of the file tells."""

NAMELESS = frozenset({"", "index", "Unnamed: 0"})
"""Row numbers that programs write beside a table; they are not kept."""


@dataclass(frozen=True)
class ColumnMap:
    """What the columns of one file mean.

    Attributes:
        formula: the column of formulas.
        external_id: the column of the source's own ids, if there is one.
        properties: column to property and the unit it is given in.
        extra: columns that mean nothing here and are kept as JSON.
    """

    formula: str
    external_id: str | None
    properties: dict[str, tuple[Property, str]]
    extra: tuple[str, ...]


def map_columns(
    table: TextTable | RecordTable, source: Source, mapping: Mapping[str, str]
) -> ColumnMap:
    """Say what each column of a file means: what ``mapping`` says, else what the source knows.

    Raises:
        InputError, NotFoundError, UnitError, UsageError: see `read_tables`.
    """
    taken: dict[str, str] = {}  # meaning to column
    chosen: dict[str, str] = {}  # column to what was said of it
    for column, target in mapping.items():
        if not table.has(column):
            continue
        meaning = _meaning(target)
        if meaning in taken:
            both = f"{taken[meaning]!r} and {column!r}"
            raise UsageError(f"{table.path}: columns {both} are both mapped to {meaning}")
        if meaning != IGNORE:
            taken[meaning] = column
        chosen[column] = target
    known: dict[str, str] = {}
    for layout in source.layouts:
        if table.has(layout.marker):
            known |= layout.columns
    known |= {c: t for c, t in source.columns.items() if c not in known}
    known |= {c: FORMULA for c in ("formula",) if c not in known}
    names = {name.casefold(): name for name in reversed(table.columns)}
    for candidate, target in known.items():
        column = candidate if table.has(candidate) else names.get(candidate.casefold(), "")
        meaning = _meaning(target)
        if column and column not in chosen and (meaning == IGNORE or meaning not in taken):
            taken[meaning] = column
            chosen[column] = target
    if not any(meaning in PROPERTIES for meaning in taken):
        for column in VALUE_COLUMNS:
            if table.has(column) and column not in chosen:
                chosen[column] = _by_file_name(table.path, source, column)
                break
    properties: dict[str, tuple[Property, str]] = {}
    for column, target in chosen.items():
        if target not in (FORMULA, EXTERNAL_ID, IGNORE):
            name, _, unit = target.partition(":")
            found = find_property(name)
            unit_factor(unit or found.unit, found)
            properties[column] = (found, unit or found.unit)
    if FORMULA not in taken:
        raise InputError(
            f"{table.path}: no column of formulas among {', '.join(table.columns[:20])}; "
            "name it with --map COLUMN=formula"
        )
    extra = [c for c in table.columns if c not in chosen and c not in NAMELESS]
    return ColumnMap(taken[FORMULA], taken.get(EXTERNAL_ID), properties, tuple(extra))


def _meaning(target: str) -> str:
    """Return ``formula``, ``external_id``, ``ignore`` or the name of the property."""
    if target in (FORMULA, EXTERNAL_ID, IGNORE):
        return target
    name = target.partition(":")[0]
    try:
        return find_property(name).name
    except NotFoundError:
        others = [FORMULA, EXTERNAL_ID, IGNORE]
        raise NotFoundError.naming("property", name, [*PROPERTIES, *others]) from None


def _by_file_name(path: Path, source: Source, column: str) -> str:
    """Return what a value column means by how the name of its file ends."""
    stem = path.name.split(".")
    while len(stem) > 1 and f".{stem[-1].lower()}" in (*READERS, *COMPRESSIONS):
        stem.pop()
    name = ".".join(stem).casefold()
    known = {p: p for p in PROPERTIES} | dict(source.tables)
    fitting = [
        table
        for table in known
        if name == table.casefold() or re.search(rf"[._-]{re.escape(table.casefold())}$", name)
    ]
    if not fitting:
        raise InputError(
            f"{path}: the file's name does not tell what {column!r} is; say it with "
            f"--map {column}=PROPERTY[:UNIT], where PROPERTY is one of {', '.join(PROPERTIES)}"
        )
    return known[max(fitting, key=len)]


_ENDINGS = frozenset(
    {".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".gz", ".bz2", ".zst"}
)
