"""The tables of an OQMD dump, joined on disk: a temporary DuckDB database within bounded memory.

Atoms come before the structures that they are of, and these in another order than the entries, so
nothing can be put together while the dump is read. The tables' meaning follows qmpy's models
(https://github.com/wolverton-research-group/qmpy).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from gandb.sources.base import Reject
from gandb.sources.mysql_dump import Fault, Rows, Table, read_dump
from gandb.sources.records import Member, reject

LABELS = ("static", "standard", "relaxation", "fine_relax", "coarse_relax")
"""Labels of calculations with OQMD's own settings, the most exact first."""
INITIAL = ("input", "initialize")
"""Labels of structures as they were taken from where the entry comes from."""
FIT = "standard"
"""The set of reference energies that formation energies are relative to."""
MEMORY = "300MB"
"""What DuckDB may use; beyond it, it goes to disk."""
MAX_THREADS = 2
"""Each takes memory of its own."""
MAX_ATOMS = 10_000
"""Most atoms of a structure that are read; no more make a crystal."""
CHUNK_ENTRIES = 5_000
CHUNK_ATOMS = 100_000
"""Most entries and atoms put together at a time, above one entry's."""

LATTICE = [f"{row}{k}" for row in "xyz" for k in (1, 2, 3)]
"""Columns of the lattice vectors, row after row."""

_I, _F, _S = pa.int64(), pa.float64(), pa.string()
_TABLES: dict[str, pa.Schema] = {
    name: pa.schema(list(columns.items()))
    for name, columns in {
        "atoms": {
            "id": _I, "structure_id": _I, "element_id": _S, "ox": _I,
            "x": _F, "y": _F, "z": _F, "occupancy": _F,
        },
        "authors": {"id": _I, "last": _S, "first": _S},
        "calculations": {
            "id": _I, "label": _S, "entry_id": _I, "output_id": _I, "energy_pa": _F,
            "magmom": _F, "magmom_pa": _F, "band_gap": _F, "converged": _I,
        },
        "entries": {
            "id": _I, "path": _S, "label": _S, "duplicate_of_id": _I, "delta_e": _F,
            "stability": _F, "composition_id": _S, "reference_id": _I, "prototype_id": _S,
            "ntypes": _I, "natoms": _I, "n": _I, "line": _I,
        },
        "formation_energies": {
            "id": _I, "entry_id": _I, "calculation_id": _I, "fit_id": _S, "stability": _F,
            "delta_e": _F,
        },
        "journals": {"id": _I, "name": _S},
        "publications": {
            "id": _I, "journal_id": _I, "title": _S, "page_first": _I, "page_last": _I,
            "year": _I, "volume": _I,
        },
        "publications_author_set": {"id": _I, "reference_id": _I, "author_id": _I},
        "structures": {
            "id": _I, "entry_id": _I, "label": _S, "measured": _I, "natoms": _I,
            **dict.fromkeys(LATTICE, _F), "spacegroup_id": _I, "volume_pa": _F,
        },
    }.items()
}  # fmt: skip
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
        entries: k rows, see `_chunk_of` for the columns; ``n``, their number, ascends.
        atoms: m rows of n (their entry's), species, x, y, z; sorted by n and id.
    """

    entries: pa.Table
    atoms: pa.Table


# --- queries -----------------------------------------------------------------------------

_SEVERAL = len(LABELS)
_LOW = (1 << 40) - 1


def _rank(table: str) -> str:
    cases = " ".join(f"WHEN '{label}' THEN {rank}" for rank, label in enumerate(LABELS))
    return f"(CASE {table}.label {cases} ELSE {_SEVERAL} END)::BIGINT"


# Every step joins one large table with one of a few numbers per entry, so that memory does for it.
# A key is a rank and, in its lower 40 bits, an id: the smallest is the best, then the first.
_PREPARE = (
    """
    CREATE TABLE numbered AS SELECT min(n) AS n, id FROM entries
    WHERE id IS NOT NULL GROUP BY id
    """,
    f"""
    CREATE TABLE labelled AS
    SELECT c.id, c.entry_id, c.output_id, c.converged, {_rank("c")} AS rank
    FROM calculations c WHERE c.id BETWEEN 0 AND {_LOW}
    """,
    # the formation energy of each entry, and the calculation that it is of
    f"""
    CREATE TABLE energy AS SELECT entry_id, min(key) & {_LOW} AS id FROM (
        SELECT f.entry_id,
            ((f.delta_e IS NULL)::BIGINT << 50) | (coalesce(c.rank, 9) << 40) | f.id AS key
        FROM formation_energies f LEFT JOIN labelled c ON c.id = f.calculation_id
        WHERE f.fit_id = '{FIT}' AND f.id BETWEEN 0 AND {_LOW}
    ) GROUP BY entry_id
    """,
    """
    CREATE TABLE sorted_energies AS
    SELECT e.n, f.id, f.calculation_id, f.delta_e, f.stability
    FROM formation_energies f JOIN energy g ON g.id = f.id JOIN numbered e ON e.id = g.entry_id
    ORDER BY e.n
    """,
    # the structure of each entry
    """
    CREATE TABLE usable AS SELECT c.* FROM labelled c
    WHERE EXISTS (FROM structures s WHERE s.id = c.output_id)
    """,
    f"""
    CREATE TABLE choice AS SELECT n, min(key) AS key FROM (
        SELECT g.n, c.id AS key FROM usable c JOIN sorted_energies g ON g.calculation_id = c.id
        UNION ALL
        SELECT e.n, ((1 + c.rank) << 40) | c.id
        FROM usable c JOIN numbered e ON e.id = c.entry_id
        WHERE c.converged = 1 AND c.rank < {_SEVERAL}
        UNION ALL
        SELECT e.n, ((CASE s.label WHEN '{INITIAL[0]}' THEN 10 WHEN '{INITIAL[1]}' THEN 11
        ELSE 20 + {_rank("s")} END)::BIGINT << 40) | s.id
        FROM structures s JOIN numbered e ON e.id = s.entry_id
        WHERE s.id BETWEEN 0 AND {_LOW}
    ) GROUP BY n
    """,
    f"""
    CREATE TABLE placed AS
    SELECT h.n, h.key & {_LOW} AS structure_id FROM choice h WHERE h.key >> 40 >= 10
    UNION
    SELECT h.n, c.output_id FROM usable c JOIN choice h
    ON c.id = CASE WHEN h.key >> 40 < 10 THEN h.key & {_LOW} END
    """,
    f"""
    CREATE TABLE calculated AS
    SELECT n, calculation_id AS id FROM sorted_energies WHERE calculation_id IS NOT NULL
    UNION
    SELECT n, key & {_LOW} FROM choice WHERE key >> 40 BETWEEN 1 AND 9
    AND n NOT IN (SELECT n FROM sorted_energies WHERE calculation_id IS NOT NULL)
    """,
    # what is read of the two
    """
    CREATE TABLE sorted_calculations AS
    SELECT c.n, k.id, k.label, k.converged, k.energy_pa, k.band_gap, k.magmom, k.magmom_pa
    FROM calculations k JOIN calculated c ON c.id = k.id ORDER BY c.n
    """,
    f"""
    CREATE TABLE sorted_structures AS
    SELECT p.n, s.id, s.label, s.measured, s.natoms, s.spacegroup_id, s.volume_pa,
        {", ".join(f"s.{name}" for name in LATTICE)}
    FROM structures s JOIN placed p ON p.structure_id = s.id ORDER BY p.n
    """,
    """
    CREATE TABLE sizes AS SELECT p.n, count(*) AS atoms
    FROM atoms a JOIN placed p ON p.structure_id = a.structure_id GROUP BY p.n
    """,
    f"DELETE FROM placed WHERE n IN (SELECT n FROM sizes WHERE atoms > {MAX_ATOMS})",
    """
    CREATE TABLE sorted_atoms AS
    SELECT p.n, a.id, a.x, a.y, a.z, coalesce(a.element_id, '?') ||
        CASE WHEN a.ox IS NULL THEN ''
        ELSE abs(a.ox) || CASE WHEN a.ox < 0 THEN '-' ELSE '+' END END ||
        CASE WHEN a.occupancy = 1 THEN '' ELSE ':' || coalesce(a.occupancy::VARCHAR, '?') END
        AS species
    FROM atoms a JOIN placed p ON p.structure_id = a.structure_id ORDER BY p.n, a.id
    """,
    """
    CREATE TABLE literature AS
    SELECT p.id, struct_pack(title := p.title, journal := j.name, year := p.year,
        volume := p.volume, page_first := p.page_first, page_last := p.page_last,
        authors := w.names) AS reference
    FROM publications p LEFT JOIN journals j ON j.id = p.journal_id LEFT JOIN (
        SELECT s.reference_id, list(concat_ws(', ', a.last, a.first) ORDER BY s.id) AS names
        FROM publications_author_set s JOIN authors a ON a.id = s.author_id
        GROUP BY s.reference_id
    ) w ON w.reference_id = p.id
    """,
)


def _chunk_of(first: int, last: int) -> tuple[str, str]:
    """Return the queries of the entries and atoms of a range of numbers."""
    within = f"n BETWEEN {first} AND {last}"

    def part(table: str) -> str:
        return f"(FROM {table} WHERE {within})"

    entries = f"""
    SELECT e.n, e.line, e.id AS entry_id, e.path, e.label, e.duplicate_of_id,
        e.delta_e AS entry_delta_e, e.stability AS entry_stability, e.composition_id,
        e.prototype_id, e.ntypes, e.natoms, r.reference,
        f.id AS energy_id, f.delta_e, f.stability,
        k.id AS calculation_id, k.label AS calculation_label, k.converged, k.energy_pa,
        k.band_gap, k.magmom, k.magmom_pa,
        s.id AS structure_id, s.label AS structure_label, s.measured,
        s.natoms AS structure_natoms, s.spacegroup_id, s.volume_pa, coalesce(z.atoms, 0) AS atoms,
        {", ".join(f"s.{name}" for name in LATTICE)}
    FROM {part("entries")} e JOIN {part("numbered")} m USING (n)
    LEFT JOIN {part("sorted_energies")} f USING (n)
    LEFT JOIN {part("sorted_calculations")} k USING (n)
    LEFT JOIN {part("sorted_structures")} s USING (n)
    LEFT JOIN {part("sizes")} z USING (n)
    LEFT JOIN literature r ON r.id = e.reference_id
    ORDER BY n, s.id
    """
    atoms = f"SELECT n, species, x, y, z FROM {part('sorted_atoms')} ORDER BY n, id"
    return entries, atoms


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
    with duckdb.connect(str(folder / "oqmd.duckdb"), config=settings) as connection:
        yield from _Join(member, connection).read()


class _Join:
    def __init__(self, member: Member, connection: duckdb.DuckDBPyConnection) -> None:
        self._member = member
        self._connection = connection
        self._lines: dict[str, int] = {}  # where each table begins
        self._entries = 0

    def read(self) -> Iterator[Reject | Chunk]:
        yield from self._load()
        if "entries" not in self._lines:
            reason = "it holds no table 'entries'; take the dump of OQMD's whole database"
            yield reject(self._member, 1, reason)
            return
        for table, loss in _NEEDED.items():
            if table not in self._lines:
                yield reject(self._member, 1, f"it holds no table {table!r}: {loss}")
        for statement in _PREPARE:
            self._connection.execute(statement)
        yield from self._repeated()
        yield from self._orphans()
        yield from self._chunks()

    def _load(self) -> Iterator[Reject]:
        """Copy the wanted columns of all tables to disk."""
        connection = self._connection
        for table, schema in _TABLES.items():
            connection.from_arrow(schema.empty_table()).create(table)
        connection.execute("BEGIN")
        with self._member.open() as stream:
            for found in read_dump(stream, _TABLES):
                if isinstance(found, Fault):
                    kind = _ENTRY if found.row and found.table == "entries" else ""
                    yield reject(self._member, found.line, kind + found.reason, found.raw)
                elif isinstance(found, Table):
                    self._lines.setdefault(found.name, found.line)
                else:
                    self._lines.setdefault(found.table, int(found.lines[0]))
                    connection.from_arrow(self._numbered(found)).insert_into(found.table)
        connection.execute("COMMIT")

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

    def _chunks(self) -> Iterator[Chunk]:
        sizes = self._connection.execute(
            "SELECT e.n, coalesce(s.atoms, 0) AS atoms FROM numbered e LEFT JOIN sizes s USING (n) "
            "ORDER BY e.n"
        ).fetchnumpy()
        numbers, atoms = sizes["n"], np.minimum(sizes["atoms"], MAX_ATOMS)
        total = np.concatenate([[0], np.cumsum(atoms)])
        begin = 0
        while begin < len(numbers):
            room = int(np.searchsorted(total, total[begin] + CHUNK_ATOMS, "right")) - 1
            end = min(max(room, begin + 1), begin + CHUNK_ENTRIES, len(numbers))
            entries, found = _chunk_of(numbers[begin], numbers[end - 1])
            yield Chunk(
                self._connection.execute(entries).to_arrow_table(),
                self._connection.execute(found).to_arrow_table(),
            )
            begin = end
