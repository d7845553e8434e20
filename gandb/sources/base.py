"""What every source shares: how a source describes itself, and what reading its tables gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a list of sources is had without the weight of arrays
    import numpy as np
    import pyarrow as pa

    from gandb.core.compositions import CompositionBatch

FORMULA = "formula"
EXTERNAL_ID = "external_id"
IGNORE = "ignore"


@dataclass(frozen=True)
class Layout:
    """Columns of one export of a source that says the same things in other units.

    Attributes:
        marker: a column that only this export has.
        columns: as `Source.columns`; these go before them.
    """

    marker: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Source:
    """A database, where its records come from and what its columns mean.

    Attributes:
        name: what the command line calls it.
        title: its full name.
        url: where it lives.
        licence: under which terms its data may be passed on.
        attribution: the sentence that has to go with the data.
        citations: references with DOIs.
        columns: column to ``formula``, ``external_id``, ``ignore`` or ``PROPERTY[:UNIT]``; a path
            such as ``bulk_modulus.vrh`` reaches into JSON objects. Where several columns mean one
            thing, the first that a file has is taken and the others are kept as extra.
        tables: what ``value`` means in a table of formula and value, by how the file's name ends.
        missing: numbers that stand for a missing value.
        layouts: exports with columns of their own.
    """

    name: str
    title: str
    url: str
    licence: str
    attribution: str
    citations: tuple[str, ...]
    columns: Mapping[str, str]
    tables: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[float, ...] = ()
    layouts: tuple[Layout, ...] = ()


@dataclass(frozen=True)
class Reject:
    """A row that was not taken.

    Attributes:
        file: path as given.
        line: line of the file on which the row begins, from 1; in Parquet and JSON arrays the
            number of the record, from 1.
        reason: what is wrong with it.
        raw: the row as the file has it, cut at 1,000 characters.
    """

    file: str
    line: int
    reason: str
    raw: str


@dataclass(frozen=True)
class Counts:
    """How the rows of all files became entries.

    Every row read is either rejected or part of exactly one entry:
    ``rows_read == rows_rejected + rows_used``, and
    ``rows_used == rows_joined + (entries - entries_joined)``.

    Attributes:
        rows_read: rows of all files, headers and blank lines not counted.
        rows_rejected: rows not taken.
        rows_used: rows that are part of an entry.
        entries: entries made.
        entries_joined: entries made of rows of two or more files.
        rows_joined: the rows of those.
        rows_kept_apart: rows that share a formula (or external id) with rows of another file, but
            not one to one, so each is an entry of its own.
    """

    rows_read: int
    rows_rejected: int
    rows_used: int
    entries: int
    entries_joined: int
    rows_joined: int
    rows_kept_apart: int


@dataclass(frozen=True)
class ParsedTable:
    """n entries of one source, read from F files.

    Attributes:
        source: name of the source.
        files: the files, in the order given.
        compositions: n compositions as written (not reduced).
        formulas: (n,) strings, the formulas as the files give them.
        external_ids: (n,) strings, null where a row has none; None if no file has any.
        properties: property name to (n,) doubles in its stored unit, null where missing.
        extra: (n,) JSON objects of the columns that mean nothing here, keys sorted, null where a
            row has none; None if there are none at all.
        ordinals: int32 (n,), 0, 1, 2 ... among entries equal in reduced composition, external id,
            properties and extra, in the order of their formulas, so that an entry's content and
            ordinal identify it whatever the order of rows and files.
        lines: int64 (n, F), the line of each file that is part of the entry; 0 for none.
        rejects: rows not taken, by file and line.
        counts: how rows became entries.
    """

    source: str
    files: tuple[Path, ...]
    compositions: CompositionBatch
    formulas: pa.StringArray
    external_ids: pa.StringArray | None
    properties: dict[str, pa.DoubleArray]
    extra: pa.StringArray | None
    ordinals: np.ndarray
    lines: np.ndarray
    rejects: list[Reject]
    counts: Counts

    def __len__(self) -> int:
        return len(self.compositions)

    def __post_init__(self) -> None:
        """Hold the columns to one length and the counts to their sums."""
        columns = [self.formulas, self.ordinals, self.lines, *self.properties.values()]
        columns += [c for c in (self.external_ids, self.extra) if c is not None]
        if any(len(column) != len(self) for column in columns):
            raise ValueError(f"columns of {[len(c) for c in columns]} rows for {len(self)} entries")
        c = self.counts
        used = int((self.lines > 0).sum())
        if not (
            c.rows_read == c.rows_rejected + c.rows_used
            and c.rows_rejected == len(self.rejects)
            and c.rows_used == used == c.rows_joined + c.entries - c.entries_joined
            and c.entries == len(self)
        ):
            raise ValueError(f"counts do not add up: {c}, {used} rows used")
