"""ASE databases without ASE, against ASE."""

from __future__ import annotations

import io
import json
import sqlite3
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import ase.db
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.representations.ase_atoms import from_atoms, to_atoms
from gandb.sources.ase_database import ASE_DATABASE
from gandb.sources.base import Reject
from gandb.sources.records import Member, Record, Sites
from tests.crystals import crystals

OQMD = {
    "name": "1-1603-LaF3",
    "directory": "/home/oqmd/libraries/icsd/3/static",
    "energy_pa": -6.79,
    "delta_e": -4.46,
    "stability": 0.0151,
    "bandgap": float("nan"),
}


def member(path: Path, *, packed: bool = False) -> Member:
    return Member(path.name, None, lambda: path.open("rb"), None if packed else str(path))


def read(path: Path, *, packed: bool = False) -> list[Record | Reject]:
    given = member(path, packed=packed)
    with given.open() as handle:
        assert ASE_DATABASE.fits(path.name, handle.read(2**16))
    return list(ASE_DATABASE.read(given))


def records(path: Path) -> list[Record]:
    found = [r for r in read(path) if isinstance(r, Record)]
    assert len(found) == len(read(path))
    return found


def salt() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    atoms.set_initial_magnetic_moments([0.5, -0.25])
    atoms.set_initial_charges([1.0, -1.0])
    atoms.set_tags([3, 4])
    results: dict[str, Any] = {
        "energy": -6.5,
        "free_energy": -6.6,
        "forces": np.array([[0.0, 0.1, 0.2], [0.0, -0.1, -0.2]]),
        "stress": np.arange(6.0),
        "magmom": 0.25,
        "magmoms": np.array([0.5, 0.25]),
    }
    atoms.calc = SinglePointCalculator(atoms, **results)  # type: ignore[no-untyped-call]
    return atoms


@pytest.fixture(params=["x.db", "x.json"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    with ase.db.connect(path) as made:
        made.write(salt(), gap=1.5, hform=-0.5, comment="good", data={"grid": np.eye(2), "k": 3})
        water = Atoms("OHH", positions=[[0, 0, 0], [1, 0, 0], [0, 1, 0]])
        made.write(water)
        made.write(bulk("Fe"), band_gap=0.0, formation_energy=-1.0, material_id="mp-13", on=True)
        made.write(bulk("Cu"), **OQMD)
        slab = bulk("Cu")
        slab.pbc = (True, True, False)
        made.write(slab)
        made.metadata = {
            "title": "test",
            "key_descriptions": {"gap": ["Gap", "Band gap", "meV"], "hform": ["", "", "eV/atom"]},
        }
    return path


def test_rows_are_what_ase_says(database: Path) -> None:
    found = read(database)
    rows = list(ase.db.connect(database).select())
    assert len(found) == len(rows) == 5
    for ours, theirs in zip(found, rows, strict=True):
        assert ours.line == theirs.id
        if not theirs.pbc.all():
            assert isinstance(ours, Reject)
            continue
        assert isinstance(ours, Record)
        assert ours.external_id == theirs.unique_id
        assert isinstance(ours.structure, Sites)
        assert np.array_equal(ours.structure.lattice, theirs.cell)
        assert np.array_equal(ours.structure.coords, theirs.positions)
        assert list(ours.structure.species) == list(theirs.symbols)
        assert ours.structure.crystal() == from_atoms(theirs.toatoms())
    assert [r.reason for r in found if isinstance(r, Reject)] == [
        "is periodic along no axis, not in three directions",
        "is periodic along a and b, not in three directions",
    ]


def test_values_become_properties_only_where_the_unit_is_certain(database: Path) -> None:
    first, _, second, third, _ = read(database)
    assert isinstance(first, Record)
    assert first.properties == {
        "energy_per_atom": -3.25,
        "total_magnetization": 0.25,
        "band_gap": 1.5e-3,
    }
    assert first.extra["hform"] == -0.5
    assert first.extra["comment"] == "good"
    assert first.extra["data"] == {"grid": [[1.0, 0.0], [0.0, 1.0]], "k": 3}
    assert first.extra["stress"] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert first.extra["free_energy"] == -6.6
    assert isinstance(first.structure, Sites)
    assert sorted(first.structure.properties) == [
        "charge", "final_magmom", "forces", "magmom", "tags"
    ]  # fmt: skip

    assert isinstance(second, Record)
    assert second.properties == {"band_gap": 0.0}  # ASE's unit is eV; an energy may be of a cell
    assert second.extra["formation_energy"] == -1.0
    assert second.extra["on"] in (True, 1)
    assert ("mp-id", "mp-13") in second.aliases

    assert isinstance(third, Record)
    assert third.aliases == (("oqmd", "1603"),)
    assert third.properties == {
        "energy_per_atom": -6.79,
        "formation_energy_per_atom": -4.46,
        "energy_above_hull": 0.0151,
    }
    assert "bandgap" not in third.extra


@pytest.mark.parametrize("ending", ["-journal", "-wal"])
def test_a_database_that_is_being_written_is_refused(tmp_path: Path, ending: str) -> None:
    with ase.db.connect(tmp_path / "x.db") as made:
        made.write(salt())
    (tmp_path / f"x.db{ending}").write_bytes(b"")
    assert len(records(tmp_path / "x.db")) == 1
    (tmp_path / f"x.db{ending}").write_bytes(b"half")
    (refused,) = read(tmp_path / "x.db")
    assert isinstance(refused, Reject)
    assert "being written" in refused.reason


def test_a_name_like_oqmds_alone_says_nothing(tmp_path: Path) -> None:
    with ase.db.connect(tmp_path / "x.db") as made:
        made.write(bulk("Cu"), name="1-1603-Cu", delta_e=-1.0)
    (record,) = records(tmp_path / "x.db")
    assert record.aliases == ()
    assert record.extra == {"name": "1-1603-Cu", "delta_e": -1.0}


def test_databases_in_archives_are_read_as_well(tmp_path: Path) -> None:
    with ase.db.connect(tmp_path / "x.db") as made:
        made.write(salt())
    (packed,), (plain,) = read(tmp_path / "x.db", packed=True), records(tmp_path / "x.db")
    assert isinstance(packed, Record)
    assert isinstance(packed.structure, Sites)
    assert isinstance(plain.structure, Sites)
    assert packed.structure.crystal() == plain.structure.crystal()
    assert packed.extra == plain.extra


@given(st.lists(crystals(disordered=False, oxidation_states=False), min_size=1, max_size=3))
@settings(max_examples=15, deadline=None)
def test_records_come_back(some: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("x.db", "x.json"):
            path = Path(folder) / name
            kept = [to_atoms(one) for one in some]
            for atoms in kept:
                for array in ("coordination_no", "label", "selective_dynamics"):
                    atoms.arrays.pop(array, None)
                atoms.info.clear()
            with ase.db.connect(path) as made:
                for atoms in kept:
                    made.write(atoms)
            for record, atoms in zip(records(path), kept, strict=True):
                assert isinstance(record.structure, Sites)
                assert record.structure.crystal() == from_atoms(atoms)


# --- files as older and other machines write them ----------------------------------------


def edit(path: Path, *statements: tuple[str, tuple[Any, ...]]) -> None:
    with sqlite3.connect(path) as connection:
        for statement, values in statements:
            connection.execute(statement, values)
    connection.close()


def test_numbers_of_a_big_endian_machine(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with ase.db.connect(path) as made:
        made.write(salt())
    before = records(path)
    with sqlite3.connect(path) as connection:
        row = connection.execute(
            "SELECT numbers, tags, positions, cell, initial_magmoms, magmoms, initial_charges, "
            "forces, stress FROM systems"
        ).fetchone()
        names = "numbers tags positions cell initial_magmoms magmoms initial_charges forces stress"
        for name, blob in zip(names.split(), row, strict=True):
            size = 4 if name in ("numbers", "tags") else 8
            turned = b"".join(blob[i : i + size][::-1] for i in range(0, len(blob), size))
            connection.execute(f"UPDATE systems SET {name} = ?", (turned,))
    connection.close()
    after = records(path)
    assert isinstance(before[0].structure, Sites)
    assert isinstance(after[0].structure, Sites)
    assert after[0].structure.crystal() == before[0].structure.crystal()
    assert after[0].extra == before[0].extra


@pytest.mark.parametrize("version", [5, 6, 7, 8, 9])
def test_versions(tmp_path: Path, version: int) -> None:
    path = tmp_path / "x.db"
    with ase.db.connect(path) as made:
        made.write(salt(), gap=1.0, data={"a": [1, 2]})
    edit(path, ("UPDATE information SET value = ? WHERE name = 'version'", (str(version),)))
    if version < 9:  # JSON text, with arrays as ASE's JSON has them
        data = json.dumps({"a": [1, 2], "b": {"__ndarray__": [[2], "float64", [1.0, 2.0]]}})
        edit(path, ("UPDATE systems SET data = ?", (data,)))
    if version < 6:
        edit(path, ("UPDATE systems SET magmom = ?", (struct.pack("<d", 0.25),)))
    (record,) = records(path)
    assert record.properties["total_magnetization"] == 0.25
    assert record.extra["data"]["a"] == [1, 2]


@pytest.mark.parametrize("version", ["4", "10", "x", ""])
def test_other_versions_are_refused_with_the_way_round(tmp_path: Path, version: str) -> None:
    path = tmp_path / "x.db"
    with ase.db.connect(path) as made:
        made.write(bulk("Cu"))
    edit(path, ("UPDATE information SET value = ? WHERE name = 'version'", (version,)))
    (refused,) = read(path)
    assert isinstance(refused, Reject)
    assert "ase.db.convert" in refused.reason


# --- what is broken ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("numbers", None, "no atomic numbers"),
        ("numbers", b"", "no atoms"),
        ("numbers", b"\1\2\3", "numbers is not an array"),
        ("numbers", "text", "numbers is not an array"),
        ("numbers", struct.pack("<2i", 29, 0), "atom 2 has atomic number 0"),
        ("numbers", struct.pack("<2i", 119, 1), "atom 1 has atomic number 119"),
        ("numbers", struct.pack("<2i", 29, 29), "positions holds 3 numbers, not 6"),
        ("positions", None, "no positions"),
        ("cell", b"\0" * 16, "cell holds 2 numbers, not 9"),
        ("pbc", 3, "is periodic along a and b"),
        ("pbc", "yes", "pbc"),
        ("tags", b"\0" * 8, "tags holds 2 numbers, not 1"),
        ("key_value_pairs", "{", "is not JSON"),
        ("key_value_pairs", "[1]", "not a JSON object"),
        ("key_value_pairs", '{"a": "\\ud800"}', "not UTF-8"),
        ("key_value_pairs", b"\xff\xff\xff\xff\0\0\0\0{}", "would begin at byte"),
    ],
)
def test_a_broken_row_costs_one_row(tmp_path: Path, column: str, value: Any, reason: str) -> None:
    path = tmp_path / "x.db"
    with ase.db.connect(path) as made:
        for symbol in ("Cu", "Cu", "Ag"):
            made.write(bulk(symbol))
    edit(path, (f"UPDATE systems SET {column} = ? WHERE id = 2", (value,)))
    first, second, third = read(path)
    assert isinstance(first, Record)
    assert isinstance(third, Record)
    assert isinstance(second, Reject)
    assert second.line == 2
    assert reason in second.reason


def test_text_that_is_not_utf8_costs_one_row(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with ase.db.connect(path) as made:
        made.write(bulk("Cu"))
        made.write(bulk("Cu"))
    edit(
        path,
        (
            "UPDATE systems SET key_value_pairs = CAST(x'7b2261223a2022ff227d' AS TEXT) "
            "WHERE id = 1",
            (),
        ),
    )
    first, second = read(path)
    assert isinstance(first, Reject)
    assert "not UTF-8" in first.reason
    assert isinstance(second, Record)


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        (["CREATE TABLE other (id INTEGER)"], "no table 'systems'"),
        (
            [
                "CREATE TABLE information (name, value)",
                "CREATE VIEW systems AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL "
                "SELECT id + 1 FROM n) SELECT id FROM n",
            ],
            "no table 'systems'",
        ),
        (
            [
                "CREATE TABLE information (name, value)",
                "CREATE TABLE systems (id INTEGER, numbers AS (zeroblob(1000000000)))",
            ],
            "computed columns",
        ),
        (
            ["CREATE TABLE information (name, value)", "CREATE TABLE systems (id INTEGER)"],
            "has no column calculator",
        ),
    ],
)
def test_other_databases_are_refused(tmp_path: Path, statements: list[str], reason: str) -> None:
    path = tmp_path / "x.db"
    edit(path, *[(statement, ()) for statement in statements])
    (refused,) = read(path)
    assert isinstance(refused, Reject)
    assert reason in refused.reason


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_files_end_as_rejects(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["x.db", "x.json"]))
    whole = bytearray(small(kind))
    if data.draw(st.booleans()):
        del whole[int(data.draw(st.floats(0.01, 1)) * len(whole)) :]
    for _ in range(data.draw(st.integers(0, 20))):
        place = int(data.draw(st.floats(0, 1, exclude_max=True)) * len(whole))
        whole[place] = data.draw(st.integers(0, 255))
    given = Member(kind, None, lambda: io.BytesIO(whole), None)
    found = list(ASE_DATABASE.read(given))
    assert len(found) <= 4
    assert all(isinstance(one, Record | Reject) for one in found)


@cache
def small(name: str) -> bytes:
    """Return a database of three rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        with ase.db.connect(path) as made:
            for symbol in ("Cu", "Ag", "Au"):
                made.write(bulk(symbol), gap=1.0)
        return path.read_bytes()


def test_lmdb_is_refused_with_the_way_round() -> None:
    given = Member("x.aselmdb", 8, lambda: io.BytesIO(b"\0" * 64), None)
    assert ASE_DATABASE.fits("x.aselmdb", b"\0" * 64)
    (refused,) = ASE_DATABASE.read(given)
    assert isinstance(refused, Reject)
    assert "--insert-into" in refused.reason


@pytest.mark.parametrize(
    "head",
    [
        b'{"lattice": {"matrix": []}, "sites": []}',
        b'{"1": {"@module": "pymatgen.core.structure", "sites": []}}',
        b"[1, 2]",
        b"SQLite format 4\0",
        b"",
    ],
)
def test_other_files_do_not_fit(head: bytes) -> None:
    assert not ASE_DATABASE.fits("x.json", head)
