from __future__ import annotations

import io
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gandb.core.errors import StoreError
from gandb.sources import oqmd_dump, oqmd_join
from gandb.sources.base import Reject
from gandb.sources.oqmd_dump import OQMD_DUMP, read_oqmd_dump
from gandb.sources.oqmd_join import Chunk
from gandb.sources.records import Member, Record, Sites
from tests.benchmarks.oqmd_dump import write_dump
from tests.sources.slow_mysql import slow_tables

SHARED = Path(
    os.environ.get("GANDB_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
).resolve()
SAMPLE = SHARED / "native" / "oqmd" / "mysqldump.sql"
real = pytest.mark.skipif(not SAMPLE.is_file(), reason="the real dump is not here")

STRUCTURE_COLUMNS = (
    "id,entry_id,label,measured,natoms,x1,x2,x3,y1,y2,y3,z1,z2,z3,spacegroup_id,volume_pa"
)
TABLES = {
    "atoms": "id,structure_id,element_id,ox,x,y,z,occupancy",
    "calculations": "id,label,entry_id,output_id,energy_pa,magmom,band_gap,converged",
    "entries": "id,path,label,delta_e,stability,composition_id,reference_id,prototype_id",
    "formation_energies": "id,entry_id,calculation_id,fit_id,stability,delta_e",
    "structures": STRUCTURE_COLUMNS,
}


def member(data: bytes) -> Member:
    return Member("oqmd.sql", len(data), lambda: io.BytesIO(data))


def dump(**rows: list[tuple[Any, ...]]) -> bytes:
    """Write tables; a structure may be given as (id, entry, label), an atom as (id, structure)."""
    lines = ["-- MySQL dump 10.13"]
    for table, columns in TABLES.items():
        names = columns.split(",")
        lines.append(f"CREATE TABLE `{table}` (" + ", ".join(f"`{n}` int" for n in names) + ");")
        for row in rows.get(table, []):
            if table == "structures":
                row = (*row, 0, 1, 4, 0, 0, 0, 5, 0, 0, 1, 6, 1, 120.0)[: len(names)]
            elif table == "atoms":
                row = (*row, *("Fe", None, 0.1, 0.2, 0.3, 1)[len(row) - 2 :])
            cells = ["NULL" if v is None else repr(v) for v in row]
            lines.append(f"INSERT INTO `{table}` VALUES ({','.join(cells)});")
    lines.append("-- Dump completed")
    return "\n".join(lines).encode() + b"\n"


def entry(number: int, **said: Any) -> tuple[Any, ...]:
    columns = TABLES["entries"].split(",")
    known = {"id": number, "path": f"/lib/{number}", "composition_id": "Fe1", **said}
    return tuple(known.get(name) for name in columns)


def read(data: bytes) -> tuple[list[Record], list[Reject]]:
    found = list(OQMD_DUMP.read(member(data)))
    records = [r for r in found if isinstance(r, Record)]
    return records, [r for r in found if isinstance(r, Reject)]


def of_entries(rejects: list[Reject]) -> list[Reject]:
    return [r for r in rejects if r.reason.startswith("entry")]


# --- an independent join -----------------------------------------------------------------


def sqlite_of(data: bytes) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:")
    for name, (columns, rows) in slow_tables(data).items():
        listed = ", ".join(f'"{c}" {"text" if _is_text(c) else "real"}' for c in columns)
        database.execute(f'CREATE TABLE "{name}" ({listed})')
        for column in {"id", "entry_id", "structure_id"} & set(columns):
            database.execute(f'CREATE INDEX "{name}_{column}" ON "{name}" ("{column}")')
        marks = ", ".join("?" * len(columns))
        decoded = [[None if c is None else c.decode() for c in row] for row in rows]
        database.executemany(f'INSERT INTO "{name}" VALUES ({marks})', decoded)
    database.row_factory = sqlite3.Row
    return database


def _is_text(column: str) -> bool:
    return column in {
        "label", "path", "composition_id", "prototype_id", "element_id", "fit_id", "title", "name",
        "settings", "data", "configuration", "file", "coords", "code",
    }  # fmt: skip


def expected_of(database: sqlite3.Connection) -> Iterator[dict[str, Any]]:
    """Say what each entry should be, by one small query after the other."""

    def one(query: str, *values: Any) -> sqlite3.Row | None:
        found: sqlite3.Row | None = database.execute(query, values).fetchone()
        return found

    labels = ("static", "standard", "relaxation", "fine_relax", "coarse_relax")
    for row in database.execute("SELECT * FROM entries ORDER BY rowid").fetchall():
        energy = one(
            "SELECT * FROM formation_energies WHERE entry_id = ? AND fit_id = 'standard'", row["id"]
        )
        calculation = energy and one(
            "SELECT * FROM calculations WHERE id = ?", energy["calculation_id"]
        )
        structure = calculation and one(
            "SELECT * FROM structures WHERE id = ?", calculation["output_id"]
        )
        for label in labels if structure is None else ():
            best = one(
                "SELECT * FROM calculations WHERE entry_id = ? AND label = ? AND converged = 1",
                row["id"], label,
            )  # fmt: skip
            structure = best and one("SELECT * FROM structures WHERE id = ?", best["output_id"])
            if structure is not None:
                calculation = calculation or best
                break
        for label in ("input", "initialize") if structure is None else ():
            structure = structure or one(
                "SELECT * FROM structures WHERE entry_id = ? AND label = ?", row["id"], label
            )
        atoms = (
            structure
            and database.execute(
                "SELECT * FROM atoms WHERE structure_id = ? ORDER BY id", (structure["id"],)
            ).fetchall()
        )
        yield {
            "entry": row, "energy": energy, "calculation": calculation, "structure": structure,
            "atoms": atoms,
        }  # fmt: skip


def compare(record: Record, truth: dict[str, Any]) -> None:
    row, energy, calculation = truth["entry"], truth["energy"], truth["calculation"]
    structure, atoms = truth["structure"], truth["atoms"]
    assert record.external_id == str(int(row["id"]))
    assert record.formula == row["composition_id"]
    properties = {
        "formation_energy_per_atom": energy["delta_e"] if energy else row["delta_e"],
        "energy_above_hull": energy["stability"] if energy else row["stability"],
        "energy_per_atom": calculation and calculation["energy_pa"],
        "band_gap": calculation and calculation["band_gap"],
        "volume_per_atom": structure and structure["volume_pa"],
    }
    assert record.properties == {k: v for k, v in properties.items() if v is not None}
    icsd = row["label"] and row["label"].removeprefix("icsd-")
    assert record.aliases == ((("icsd", icsd),) if icsd else ())
    assert record.extra["path"] == row["path"]
    assert record.extra.get("prototype") == row["prototype_id"]
    assert record.extra.get("calculation_label") == (calculation and calculation["label"])
    assert record.extra.get("structure_label") == (structure and structure["label"])
    assert record.extra.get("fit") == ("standard" if energy else None)
    assert ("reference" in record.extra) == (row["reference_id"] is not None)
    assert isinstance(record.structure, Sites)
    assert list(record.structure.species) == [a["element_id"] for a in atoms]
    assert np.array_equal(record.structure.coords, [[a["x"], a["y"], a["z"]] for a in atoms])
    cell = [[structure[f"{axis}{k}"] for k in (1, 2, 3)] for axis in "xyz"]
    assert record.structure.lattice is not None
    assert np.array_equal(record.structure.lattice, cell)


def test_a_synthetic_dump_agrees_with_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oqmd_join, "CHUNK_ENTRIES", 70)
    monkeypatch.setattr(oqmd_join, "CHUNK_ATOMS", 200)
    path = tmp_path / "dump.sql"
    write_dump(path, 300, seed=3)
    data = path.read_bytes()
    records, rejects = read(data)
    assert not rejects
    assert len(records) == 300
    truths = list(expected_of(sqlite_of(data)))
    for record, truth in zip(records, truths, strict=True):
        compare(record, truth)
    assert {r.extra["structure_label"] for r in records} == {"static", "input"}
    lines = data.split(b"\n")
    assert all(lines[r.line - 1].startswith(b"INSERT INTO `entries`") for r in records)
    amounts = [r.structure.crystal().amounts for r in records if isinstance(r.structure, Sites)]
    for record, amount in zip(records, amounts, strict=True):
        stated = "".join(f"{k}{int(v)} " for k, v in sorted(amount.items())).strip()
        assert stated == record.formula


@real
def test_the_real_dump() -> None:
    data = SAMPLE.read_bytes()
    assert OQMD_DUMP.fits(SAMPLE.name, data[:65_536])
    records, rejects = read(data)
    assert not rejects
    assert len(records) == 1
    compare(records[0], next(expected_of(sqlite_of(data))))
    assert records[0].external_id == "6126"
    assert records[0].extra["structure_label"] == "initialize"  # neither calculation converged
    assert records[0].extra["reference"] == {
        "title": "Die Kristallstruktur von Perowskit und verwandter Verbindungen",
        "journal": "Norsk Geologisk Tidsskrift",
        "year": 1925,
        "volume": 8,
    }
    assert isinstance(records[0].structure, Sites)
    crystal = records[0].structure.crystal()
    assert crystal.lengths.tolist() == [3.795] * 3
    assert abs(crystal.volume / 5 - records[0].properties["volume_per_atom"]) < 1e-4


# --- which structure ---------------------------------------------------------------------

CHOICES = {
    "entries": [entry(1)],
    "structures": [
        (10, 1, "input"), (11, 1, "relaxation"), (12, 1, "static"), (13, 1, "initialize"),
        (14, 1, "fine_relax"),
    ],
    "atoms": [(100 + k, k) for k in range(10, 15)],
}  # fmt: skip


@pytest.mark.parametrize(
    ("calculations", "energies", "chosen", "gap"),
    [
        # that of the formation energy, converged or not, whatever its label
        ([(1, "static", 1, 12, -1, 0, 0.1, 1), (2, "relaxation", 1, 11, -1, 0, 0.2, 0)],
         [(1, 1, 2, "standard", 0, -1)], 11, 0.2),
        # formation energies of other fits do not count; the best of two does
        ([(1, "static", 1, 12, -1, 0, 0.1, 1), (2, "relaxation", 1, 11, -1, 0, 0.2, 1)],
         [(1, 1, 2, "nothing", 0, -1)], 12, 0.1),
        ([(1, "relaxation", 1, 11, -1, 0, 0.1, 1), (2, "static", 1, 12, -1, 0, 0.2, 1)],
         [(1, 1, 1, "standard", 0, -1), (2, 1, 2, "standard", 0, -2)], 12, 0.2),
        # the best converged calculation whose output is there
        ([(1, "static", 1, 12, -1, 0, 0.1, 0), (2, "fine_relax", 1, 14, -1, 0, 0.2, 1),
          (3, "relaxation", 1, 11, -1, 0, 0.3, 1)], [], 11, 0.3),
        ([(1, "static", 1, 99, -1, 0, 0.1, 1), (2, "standard", 1, None, -1, 0, 0.2, 1),
          (3, "fine_relax", 1, 14, -1, 0, 0.3, 1)], [], 14, 0.3),
        # labels of other functionals do not count
        ([(1, "static_lda", 1, 12, -1, 0, 0.1, 1)], [], 10, None),
        # the initial structure; the gap is still that of the formation energy's calculation
        ([(1, "static", 1, None, -1, 0, 0.1, 1)], [(1, 1, 1, "standard", 0, -1)], 10, 0.1),
        ([], [(1, 1, 7, "standard", 0, -1)], 10, None),
    ],
)  # fmt: skip
def test_which_structure_an_entry_has(
    calculations: list[Any], energies: list[Any], chosen: int, gap: float | None
) -> None:
    data = dump(**CHOICES, calculations=calculations, formation_energies=energies)
    records, rejects = read(data)
    assert not of_entries(rejects)
    assert [r.extra["structure_id"] for r in records] == [chosen]
    assert records[0].properties.get("band_gap") == gap
    assert isinstance(records[0].structure, Sites)
    cell = [[4.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 1.0, 6.0]]
    assert np.asarray(records[0].structure.lattice).tolist() == cell


def test_initial_structures_before_others() -> None:
    for structures, chosen in (
        ([(13, 1, "initialize"), (14, 1, "fine_relax")], 13),
        ([(14, 1, "fine_relax"), (15, 1, "what"), (16, 1, None), (11, 1, "relaxation")], 11),
        ([(15, 1, "what"), (16, 1, None)], 15),
    ):
        atoms = [(100 + row[0], row[0]) for row in structures]
        records, rejects = read(dump(entries=[entry(1)], structures=structures, atoms=atoms))
        assert not rejects
        assert [r.extra["structure_id"] for r in records] == [chosen]


def test_species_have_oxidation_states_and_occupancies() -> None:
    atoms = [
        (5, 10, "O", -2, 0.5, 0.5, 0.5, 1),
        (1, 10, "Fe", 3, 0, 0, 0, 0.5),
        (2, 10, "Ni", None, 0, 0, 0, 0.25),
        (3, 10, "Ti", 0, 0.5, 0, 0, 1),
        (4, 10, None, None, 0, 0.5, 0, 1),
    ]
    structures = [(10, 1, "input", 1, 5, 4, 0, 0, 0, 5, 0, 0, 1, 6, 1, 24.0)]
    records, rejects = read(dump(entries=[entry(1)], structures=structures, atoms=atoms))
    assert not rejects
    assert isinstance(records[0].structure, Sites)
    assert records[0].structure.species == ["Fe3+:0.5", "Ni:0.25", "Ti0+", "?", "O2-"]
    assert records[0].extra["measured"] is True
    assert np.asarray(records[0].structure.lattice)[2].tolist() == [0.0, 1.0, 6.0]


# --- what does not add up ----------------------------------------------------------------


def test_entries_are_records_or_rejects() -> None:
    data = dump(
        entries=[
            entry(3, label="icsd-77"), entry(1), entry(3), entry(2, composition_id=None),
            entry(None), entry(4, path="/home/libraries/icsd/55"), entry(5), entry(6),
        ],  # type: ignore[arg-type]
        structures=[(10, 5, "input"), (11, 6, "input"), (12, 99, "input"), (13, None, "input")],
        atoms=[(1, 10), (2, 10), (3, 77), (4, 77)],
        calculations=[(1, "static", 98, None, -1, 0, 0, 1)],
        formation_energies=[(1, 97, 1, "standard", 0, 0)],
    )  # fmt: skip
    records, rejects = read(data)
    assert [r.external_id for r in records] == ["3", "1", "4"]
    assert [r.aliases for r in records] == [(("icsd", "77"),), (), (("icsd", "55"),)]
    assert all(r.structure is None for r in records)
    reasons = sorted(r.reason for r in of_entries(rejects))
    assert len(reasons) == 5
    assert "entry 2: it has neither a structure nor a composition" in reasons
    assert "the dump has 2 atoms of its structure 10, which should have 1" in "".join(reasons)
    assert "the dump has 0 atoms of its structure 11" in "".join(reasons)
    assert "entry: 3 was there before" in reasons
    assert "entry: it has no id" in reasons
    others = [r.reason for r in rejects if not r.reason.startswith("entry")]
    assert len(others) == 4
    assert "2 rows of table 'atoms' belong to structures that are not there (such as 77)" in (
        "".join(others)
    )
    assert "2 rows of table 'structures'" in "".join(others)
    assert "1 rows of table 'calculations'" in "".join(others)


def test_tables_that_are_missing_are_told() -> None:
    data = dump(entries=[entry(1)])
    records, rejects = read(data[data.index(b"CREATE TABLE `entries`") :])
    assert [r.external_id for r in records] == ["1"]
    assert sorted(r.reason.split("'")[1] for r in rejects) == ["atoms", "calculations"]
    records, rejects = read(b"CREATE TABLE `atoms` (`id` int);\n")
    assert not records
    assert "no table 'entries'" in rejects[0].reason


def test_structures_of_too_many_atoms_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oqmd_dump, "MAX_ATOMS", 10_000)
    atoms = [(k, 10) for k in range(10_001)]
    data = dump(entries=[entry(1)], structures=[(10, 1, "input")], atoms=atoms)
    records, rejects = read(data)
    assert not records
    assert "10,001 atoms; at most 10,000 are read" in rejects[0].reason


def test_rejects_of_rows_other_than_entries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oqmd_join, "MAX_REJECTS", 2)
    data = dump(entries=[entry(k) for k in range(5)], atoms=[(k, 10) for k in range(9)])
    data = data.replace(b",0.1,0.2,0.3,1)", b",0.1,0.2,1)").replace(b"/lib/", b"','")
    records, rejects = read(data)
    assert not records
    assert len(of_entries(rejects)) == 5
    others = [r.reason for r in rejects if not r.reason.startswith("entry")]
    assert len(others) == 3
    assert others[-1] == "7 more rows of 'atoms' could not be read"


def test_rows_that_are_there_twice_give_one_record() -> None:
    data = dump(
        entries=[entry(1)],
        structures=[(10, 1, "input"), (10, 1, "input")],
        atoms=[(1, 10)],
        calculations=[(1, "static", 1, 10, -1, 0, 0, 1)] * 2,
        formation_energies=[(1, 1, 1, "standard", 0, 0)] * 3,
    )
    records, rejects = read(data)
    assert not rejects
    assert len(records) == 1


def test_wherever_a_dump_is_cut_off_the_counts_add_up(tmp_path: Path) -> None:
    path = tmp_path / "dump.sql"
    write_dump(path, 6, seed=1)
    data = path.read_bytes()
    step = len(data) // 17
    for end in range(step, len(data) - 100, step):
        records, rejects = read(data[:end])
        there = len(slow_tables(data[:end]).get("entries", ([], []))[1])
        counted = len(records) + len(of_entries(rejects))
        assert counted >= there  # rows of a statement that is cut off count as well
        assert rejects


@pytest.mark.parametrize("how", ["to the end", "closed", "thrown"])
def test_nothing_is_left_behind(tmp_path: Path, how: str) -> None:
    path = tmp_path / "dump.sql"
    write_dump(path, 20)
    place = tmp_path / "place"
    place.mkdir()
    records = read_oqmd_dump(member(path.read_bytes()), place)
    assert isinstance(next(iter(records)), Record)
    assert list(place.iterdir())
    if how == "to the end":
        assert len(list(records)) == 19
    elif how == "closed":
        records.close()  # type: ignore[attr-defined]
    else:
        with pytest.raises(KeyboardInterrupt):
            records.throw(KeyboardInterrupt())  # type: ignore[attr-defined]
    assert not list(place.iterdir())


def test_no_room_ends_the_import_rather_than_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import duckdb

    def full(*_: Any) -> Iterator[Chunk]:
        raise duckdb.IOException("could not write: no space left on device")

    monkeypatch.setattr(oqmd_dump, "join_dump", full)
    with pytest.raises(StoreError, match="set TMPDIR"):
        list(read_oqmd_dump(member(b""), tmp_path))
    assert not list(tmp_path.iterdir())


def test_which_files_are_of_this_format() -> None:
    assert OQMD_DUMP.fits("qmdb.sql", dump())
    assert OQMD_DUMP.fits("qmdb", dump())
    assert not OQMD_DUMP.fits("other.sql", b"-- MySQL dump\nCREATE TABLE `users` (`id` int);\n")
    assert not OQMD_DUMP.fits("blog.sql", b"CREATE TABLE `entries` (`id` int, `text` longtext);")
    assert not OQMD_DUMP.fits("a.json", b'[{"entry_id": 1}]')


def test_nothing_is_printed_among_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where DuckDB takes a program for a session, it shows on stdout how far it is."""
    asked: list[str] = []

    class Watched:
        def __init__(self, *args: Any, **options: Any) -> None:
            self._connection = connect(*args, **options)

        def __enter__(self) -> Watched:
            return self

        def __exit__(self, *_: object) -> None:
            self._connection.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        def execute(self, statement: str, *more: Any) -> Any:
            asked.append(statement)
            return self._connection.execute(statement, *more)

    connect = oqmd_join.duckdb.connect
    monkeypatch.setattr(oqmd_join.duckdb, "connect", Watched)
    list(read_oqmd_dump(member(dump())))
    assert asked[0] == "SET enable_progress_bar = false"
    assert len(asked) > 1
