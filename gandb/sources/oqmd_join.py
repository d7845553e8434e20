"""The tables of an OQMD dump, joined on disk within bounded memory.

Atoms come before the structures that they are of, and these in another order than the entries, so
nothing can be put together while the dump is read. The wanted columns go to Parquet files, which
DuckDB joins and sorts; what is sorted is then read on together.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gandb.sources.base import Reject
from gandb.sources.mysql_dump import Fault, Rows, Table, read_dump
from gandb.sources.oqmd_tables import MAX_ATOMS, STEPS, TABLES
from gandb.sources.records import Member, reject

MEMORY = "300MB"
"""What DuckDB may use; beyond it, it goes to disk."""
MAX_THREADS = 2
"""Each takes memory of its own."""
MAX_REJECTS = 1_000
"""Most rows of one table that are rejected one by one; entries always are."""
CHUNK_ENTRIES = 5_000
CHUNK_ATOMS = 100_000
"""Most entries and atoms put together at a time, above one entry's."""

READ_ROWS = 20_000
"""Rows of a sorted file that are read at a time."""
ROW_GROUP = 61_440
"""Rows that are written at a time, of all columns."""

_NEEDED = {
    "atoms": "no entry has a structure",
    "structures": "no entry has a structure",
    "calculations": "no entry has a total energy or band gap",
    "formation_energies": "formation energies and stabilities are what 'entries' says",
}
_ORPHANS = {
    "atoms": ("structure_id", "structures"),
    "structures": ("entry_id", "numbered"),
    "calculations": ("entry_id", "numbered"),
    "formation_energies": ("entry_id", "numbered"),
}
_ENTRY = "entry: "
"""How the reason of a reject begins that is one row of ``entries``."""


@dataclass(frozen=True)
class Chunk:
    """Entries of a dump with the atoms of their structures.

    Attributes:
        entries: k rows of entries, with what belongs to each: columns of its formation energy
            (``energy_``), calculation (``calculation_``) and structure (``structure_``), the
            number of that's ``atoms`` in the dump, and the ``reference``; ``n``, their number,
            ascends.
        atoms: m rows of n (their entry's), species, x, y, z; sorted by n and id.
    """

    entries: pa.Table
    atoms: pa.Table


_SORTED = {
    "sorted_energies": "energy_",
    "sorted_calculations": "calculation_",
    "sorted_structures": "structure_",
    "sizes": "",
    "cited": "",
}
"""What belongs to the entries, in files sorted like them, and how its columns are called there."""


# --- the join ----------------------------------------------------------------------------


def join_dump(member: Member, folder: Path) -> Iterator[Reject | Chunk]:
    """Read a dump and yield its entries, with what belongs to each, in the order of the dump.

    Rows of ``entries`` that cannot be read, and those whose id was there before, are rejects whose
    reason begins with ``entry``; rows of other tables that belong to nothing are counted in one
    reject per table.

    Args:
        member: the dump.
        folder: for the temporary database; whoever made it removes it.

    Raises:
        duckdb.Error: there is no room for it.
    """
    settings: dict[str, Any] = {
        "memory_limit": MEMORY,
        "temp_directory": str(folder / "spill"),
        "threads": min(os.cpu_count() or 1, MAX_THREADS),
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    with duckdb.connect(":memory:", config=settings) as connection:
        connection.execute("SET enable_progress_bar = false")  # it would print on stdout
        join = _Join(member, connection, folder)
        yield from join.read()
    if join.complete:
        yield from _chunks(folder)


class _Files:
    """Tables as Parquet files that grow."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[str, list[pa.Table]] = {name: [] for name in TABLES}
        self._writers: dict[str, pq.ParquetWriter] = {}

    def __enter__(self) -> _Files:
        for name, schema in TABLES.items():
            texts = [f.name for f in schema if pa.types.is_string(f.type)]
            self._writers[name] = pq.ParquetWriter(
                self._folder / f"{name}.parquet", schema, compression="lz4", use_dictionary=texts
            )
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            writer.close()

    def add(self, name: str, rows: pa.Table) -> None:
        """Append rows to a table; they are written many at a time."""
        waiting = self._waiting[name]
        waiting.append(rows)
        if sum(map(len, waiting)) >= ROW_GROUP:
            self._write(name)

    def finish(self) -> None:
        """Write what is left."""
        for name in TABLES:
            self._write(name)

    def _write(self, name: str) -> None:
        if self._waiting[name]:
            self._writers[name].write_table(pa.concat_tables(self._waiting[name]))
            self._waiting[name] = []


class _Join:
    def __init__(self, member: Member, connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        self._member = member
        self._connection = connection
        self._folder = folder
        self.complete = False
        self._lines: dict[str, int] = {}  # where each table begins
        self._entries = 0

    def read(self) -> Iterator[Reject]:
        """Sort all that belongs to entries by their numbers; yield what does not."""
        yield from self._load()
        if "entries" not in self._lines:
            reason = "it holds no table 'entries'; take the dump of OQMD's whole database"
            yield reject(self._member, 1, reason)
            return
        for table, loss in _NEEDED.items():
            if table not in self._lines:
                yield reject(self._member, 1, f"it holds no table {table!r}: {loss}")
        for name, query in STEPS.items():
            self._connection.execute(
                f"COPY ({query}) TO '{self._file(name)}' "
                f"(FORMAT parquet, COMPRESSION lz4, ROW_GROUP_SIZE {ROW_GROUP})"
            )
            self._show(name)
        yield from self._repeated()
        yield from self._orphans()
        self.complete = True

    def _load(self) -> Iterator[Reject]:
        """Copy the wanted columns of all tables to disk."""
        more: Counter[str | None] = Counter()
        with self._member.open() as stream, _Files(self._folder) as files:
            for found in read_dump(stream, TABLES):
                if isinstance(found, Fault):
                    of_entries = found.row and found.table == "entries"
                    if found.row and not of_entries:
                        more[found.table] += 1
                        if more[found.table] > MAX_REJECTS:
                            continue
                    kind = _ENTRY if of_entries else ""
                    yield reject(self._member, found.line, kind + found.reason, found.raw)
                elif isinstance(found, Table):
                    self._lines.setdefault(found.name, found.line)
                else:
                    self._lines.setdefault(found.table, int(found.lines[0]))
                    files.add(found.table, self._numbered(found))
            files.finish()
        for table, n in more.items():
            if n > MAX_REJECTS:
                reason = f"{n - MAX_REJECTS:,} more rows of {table!r} could not be read"
                yield reject(self._member, 1, reason)
        for name in TABLES:
            self._show(name)

    def _file(self, name: str) -> str:
        return str(self._folder / f"{name}.parquet").replace("'", "''")

    def _show(self, name: str) -> None:
        self._connection.execute(f"CREATE VIEW {name} AS FROM read_parquet('{self._file(name)}')")

    def _numbered(self, rows: Rows) -> pa.Table:
        """Return the rows, those of entries with numbers and the lines of the dump."""
        table = pa.Table.from_batches([rows.batch])
        if rows.table != "entries":
            return table
        numbers = np.arange(self._entries, self._entries + len(table))
        self._entries += len(table)
        for name, values in (("n", numbers), ("line", rows.lines)):
            table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
        return table

    def _repeated(self) -> Iterator[Reject]:
        """Refuse entries without an id, or with one that was there before."""
        others = self._connection.execute(
            "SELECT line, id, path FROM entries WHERE n NOT IN (SELECT n FROM numbered) ORDER BY n"
        )
        while rows := others.fetchmany(CHUNK_ENTRIES):
            for line, number, path in rows:
                reason = "it has no id" if number is None else f"{number} was there before"
                yield reject(self._member, line, _ENTRY + reason, path or "")

    def _orphans(self) -> Iterator[Reject]:
        for table, (column, parents) in _ORPHANS.items():
            if table not in self._lines:
                continue
            found = self._connection.execute(
                f"SELECT count(*), min({column}) FROM {table} c "
                f"WHERE NOT EXISTS (FROM {parents} p WHERE p.id = c.{column})"
            ).fetchone()
            if found and found[0]:
                example = "without an id" if found[1] is None else f"such as {found[1]}"
                whole = "structures" if column == "structure_id" else "entries"
                reason = (
                    f"{found[0]:,} rows of table {table!r} belong to {whole} that are not there "
                    f"({example}) and were left out"
                )
                yield reject(self._member, self._lines[table], reason)


# --- reading on --------------------------------------------------------------------------


def _chunks(folder: Path) -> Iterator[Chunk]:
    """Put together what the sorted files say of the same entries."""
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(_Sorted(folder, name)) for name in _SORTED}
        of_atoms = stack.enter_context(_Sorted(folder, "sorted_atoms"))
        entries = stack.enter_context(pq.ParquetFile(folder / "sorted_entries.parquet"))
        for batch in entries.iter_batches(CHUNK_ENTRIES, use_threads=False):
            table = pa.Table.from_batches([batch])
            numbers = table["n"].to_numpy()
            for name, prefix in _SORTED.items():
                part = _aligned(files[name].until(int(numbers[-1])), numbers)
                for column in part.column_names:
                    table = table.append_column(prefix + column, part[column])
            atoms = np.nan_to_num(table["atoms"].to_numpy().astype(np.float64))
            groups = np.cumsum(np.minimum(atoms, MAX_ATOMS)) // CHUNK_ATOMS
            cuts = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(table)]
            for begin, end in pairwise(cuts):
                found = of_atoms.until(int(numbers[end - 1]))
                yield Chunk(table.slice(begin, end - begin), found)


class _Sorted:
    """Rows of a Parquet file sorted by their number n, so many numbers at a time."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = pq.ParquetFile(folder / f"{name}.parquet")
        self._batches = self._file.iter_batches(READ_ROWS, use_threads=False)
        self._rest: pa.Table = self._file.schema_arrow.empty_table()

    def __enter__(self) -> _Sorted:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def until(self, last: int) -> pa.Table:
        """Return the rows up to the number ``last`` that were not returned before."""
        parts = [self._rest]
        while not len(parts[-1]) or parts[-1]["n"][-1].as_py() <= last:
            batch = next(self._batches, None)
            if batch is None:
                break
            parts.append(pa.Table.from_batches([batch]))
        table = pa.concat_tables(parts)
        place = int(np.searchsorted(table["n"].to_numpy(), last, "right"))
        self._rest = table.slice(place)
        return table.slice(0, place)


def _aligned(part: pa.Table, numbers: np.ndarray) -> pa.Table:
    """Return the first row of each number, nulls where there is none."""
    of_rows = part["n"].to_numpy()
    places = np.searchsorted(of_rows, numbers)
    there = places < len(of_rows)
    there[there] = of_rows[places[there]] == numbers[there]
    return part.drop_columns("n").take(pa.array(places, pa.int64(), mask=~there))
