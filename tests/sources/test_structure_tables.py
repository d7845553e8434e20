"""Tables with a column of structures, against pandas-free readings of the same cells."""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
import zipfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Structure
from pymatgen.io.cif import CifParser
from pymatgen.io.vasp import Poscar

from gandb.core.crystals import Crystal
from gandb.core.errors import InputError
from gandb.representations.pymatgen_structures import from_structure
from gandb.sources import structure_tables
from gandb.sources.base import Reject
from gandb.sources.cif import decode_cif
from gandb.sources.poscar import decode_poscar
from gandb.sources.records import Encoded, Member, Record, Sites
from gandb.sources.structure_tables import (
    JARVIS_LEADERBOARD,
    JARVIS_TARGETS,
    STRUCTURE_TABLE,
    structure_of,
)
from tests.shared_data import SHARED, real

SALT = Structure(
    [[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)
IRON = Structure([[2.9, 0, 0], [0, 2.9, 0], [0, 0, 2.9]], ["Fe"] * 2, [[0, 0, 0], [0.5, 0.5, 0.5]])
ATOMS = {
    "lattice_mat": SALT.lattice.matrix.tolist(),
    "coords": SALT.frac_coords.tolist(),
    "elements": ["Na", "Cl"],
    "cartesian": False,
    "props": ["", ""],
}
LEMAT = {
    "immutable_id": "mp-22862",
    "lattice_vectors": SALT.lattice.matrix.tolist(),
    "cartesian_site_positions": SALT.cart_coords.tolist(),
    "species_at_sites": ["Na", "Cl"],
    "species": [
        {"name": s, "chemical_symbols": [s], "concentration": [1.0], "mass": None}
        for s in ("Na", "Cl")
    ],
    "dimension_types": [1, 1, 1],
    "energy": -6.5,
    "forces": [[0.0, 0.0, 0.1], [0.0, 0.0, -0.1]],
    "magnetic_moments": [0.5, -0.5],
    "total_magnetization": 0.25,
    "functional": "pbe",
    "stress_tensor": [[0.0, 0.1], [0.2, 0.3]],
}


def member(data: str | bytes, name: str) -> Member:
    raw = data if isinstance(data, bytes) else data.encode()
    return Member(name, len(raw), lambda: io.BytesIO(raw))


def read(data: str | bytes, name: str) -> list[Record | Reject]:
    given = member(data, name)
    with given.open() as handle:
        assert STRUCTURE_TABLE.fits(name, handle.read(2**16))
    return list(STRUCTURE_TABLE.read(given))


def crystal_of(record: Record | Reject) -> Crystal:
    assert isinstance(record, Record), record
    structure = record.structure
    if isinstance(structure, Encoded):
        return {"cif": decode_cif, "poscar": decode_poscar}[structure.format](
            structure.text
        ).crystal()
    assert isinstance(structure, Sites)
    return structure.crystal()


def table(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("cif", SALT.to(fmt="cif")),
        ("structure", json.dumps(SALT.as_dict())),
        ("structure", repr(SALT.as_dict())),
        ("structure", SALT.to(fmt="cif")),
        ("POSCAR", SALT.to(fmt="poscar")),
        ("poscar", SALT.to(fmt="poscar").replace("\n", "\\n")),
        ("atoms", json.dumps(ATOMS)),
        ("atoms", repr(ATOMS)),
    ],
)
@pytest.mark.parametrize(
    ("name", "delimiter"), [("x.csv", ","), ("x.tsv", "\t"), ("a.csv.gz", ",")]
)
def test_cells_of_every_kind(column: str, cell: str, name: str, delimiter: str) -> None:
    text = table([{"id": "7", column: cell, "note": "é"}], delimiter)
    (record,) = read(text, name)
    assert isinstance(record, Record)
    assert record.external_id == "7"
    assert record.extra == {"note": "é"}
    ours, theirs = crystal_of(record), from_structure(SALT)
    assert ours.species == theirs.species
    assert np.allclose(ours.lengths, theirs.lengths, atol=1e-6)
    assert np.allclose(ours.angles, theirs.angles, atol=1e-6)


def test_columns_with_their_units() -> None:
    cif = SALT.to(fmt="cif")
    (record,) = read(
        table(
            [
                {
                    "Unnamed: 0": 3,
                    "material_id": "mp-22862",
                    "formation_energy_per_atom": -2.1,
                    "band_gap": "5.0",
                    "e_above_hull": 0,
                    "spacegroup.number": 225,
                    "formation_energy": -4.2,
                    "cif": cif,
                }
            ]
        ),
        "train.csv",
    )
    assert isinstance(record, Record)
    assert record.external_id == "mp-22862"
    assert ("mp-id", "mp-22862") in record.aliases
    assert record.properties == {
        "formation_energy_per_atom": -2.1,
        "band_gap": 5.0,
        "energy_above_hull": 0.0,
    }
    assert record.extra == {
        "Unnamed: 0": "3", "spacegroup.number": "225", "formation_energy": "-4.2"
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet", "csv"])
def test_lemat(kind: str) -> None:
    if kind == "parquet":
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([LEMAT] * 600), out, row_group_size=100)
        found = read(out.getvalue(), "part-0.parquet")
        assert len(found) == 600
        assert [r.line for r in found] == list(range(1, 601))
    elif kind == "csv":
        found = read(table([{k: str(v) for k, v in LEMAT.items()}]), "x.csv")
    else:
        found = read(json.dumps(LEMAT if kind == "jsonl" else [LEMAT]), f"x.{kind}")
    record = found[0]
    assert isinstance(record, Record)
    assert record.external_id == "mp-22862"
    assert record.properties == {"energy_per_atom": -3.25, "total_magnetization": 0.25}
    assert record.extra["functional"] == "pbe"
    assert set(record.extra) == {"functional", "stress_tensor"}
    theirs = SALT.copy(site_properties={"forces": LEMAT["forces"], "magmom": [0.5, -0.5]})
    assert crystal_of(record) == from_structure(theirs)


def test_jarvis() -> None:
    rows = [
        {
            "jid": "JVASP-1",
            "atoms": ATOMS,
            "formation_energy_peratom": -2.0,
            "optb88vdw_bandgap": 5.1,
            "ehull": "na",
            "mbj_bandgap": "na",
        },
        {"jid": "JVASP-2", "atoms": "na"},
    ]
    first, second = read(json.dumps(rows), "jdft_3d.json")
    assert isinstance(first, Record)
    assert first.external_id == "JVASP-1"
    assert first.properties == {"formation_energy_per_atom": -2.0, "band_gap": 5.1}
    assert crystal_of(first) == from_structure(SALT)
    assert isinstance(second, Reject)
    assert "holds no structure" in second.reason
    (bare,) = read(json.dumps(ATOMS), "x.json")
    assert crystal_of(bare) == from_structure(SALT)


def test_one_bad_row_costs_one_row() -> None:
    good = {"id": "1", "structure": json.dumps(SALT.as_dict()), "band_gap": "1"}
    rows = [
        good,
        {**good, "structure": "{'lattice': __import__('os').getcwd(), 'sites': []}"},
        {**good, "structure": ""},
        {**good, "structure": "rocksalt"},
        {**good, "structure": "[" * 5_000},
        {**good, "band_gap": "wide"},
        {**good, "structure": '{"a": 1}'},
        good,
    ]
    found = read(table(rows), "x.csv")
    reasons = [one.reason for one in found if isinstance(one, Reject)]
    assert len(found) == len(rows)
    assert isinstance(found[0], Record)
    assert isinstance(found[-1], Record)
    for reason, expected in zip(
        reasons,
        (
            "neither JSON nor a Python literal",
            "holds no structure",
            "neither a CIF nor a POSCAR",
            "structure: is neither JSON",
            "band_gap is 'wide'",
            "is no structure of",
        ),
        strict=True,
    ):
        assert expected in reason


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=5),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=8,
    ).filter(lambda value: isinstance(value, list | dict))
)
@settings(max_examples=100, deadline=None)
def test_literals_are_what_python_says(value: Any) -> None:
    assert structure_tables._data(repr(value)) == value


def test_literals_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure_tables, "MAX_LITERAL", 100)
    with pytest.raises(InputError, match="more than 100 characters"):
        structure_of(repr(tuple(SALT.as_dict().items())).replace("(", "[", 1))


def test_parquet_without_structures_is_refused() -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"formula": ["NaCl"]}), out)
    (refused,) = read(out.getvalue(), "x.parquet")
    assert isinstance(refused, Reject)
    assert "formula" in refused.reason
    (refused,) = read(out.getvalue()[:-3], "x.parquet")
    assert isinstance(refused, Reject)


def test_a_text_that_many_rows_share_is_in_memory_once() -> None:
    out = io.BytesIO()
    one = pa.DictionaryArray.from_arrays(pa.array([0] * 3_000, pa.int32()), ["data_" + "x" * 2**23])
    pq.write_table(pa.table({"cif": one}), out, compression="zstd")
    del one
    assert out.tell() < 2**17
    before = pa.default_memory_pool().max_memory()
    given = member(out.getvalue(), "x.parquet")
    assert sum(isinstance(r, Record) for r in islice(STRUCTURE_TABLE.read(given), 100)) == 100
    assert pa.default_memory_pool().max_memory() < before + 2**29


def test_parquet_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"cif": [SALT.to(fmt="cif")], "energy_per_atom": [-3.0]}), path)
    given = Member("x.parquet", None, lambda: path.open("rb"), str(path))
    (record,) = STRUCTURE_TABLE.read(given)
    assert isinstance(record, Record)
    assert record.properties == {"energy_per_atom": -3.0}


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("x.csv", b"formula,value\nNaCl,1\n"),
        ("x.csv", b""),
        ("x.json", b'{"data": [{"attributes": {"lattice_vectors": [[1, 0, 0]]}}]}'),
        ("x.json", b'[{"formula": "NaCl"}]'),
        ("x.txt", b"cif\n"),
        ("x.cif", b"data_x\n"),
    ],
)
def test_other_files_do_not_fit(name: str, head: bytes) -> None:
    assert not STRUCTURE_TABLE.fits(name, head)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_damaged_files_end_as_rejects(data: st.DataObject) -> None:
    rows = [{"id": "1", "cif": SALT.to(fmt="cif")}, {"id": "2", "cif": repr(IRON.as_dict())}]
    parquet = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([LEMAT] * 3), parquet)
    name, whole = data.draw(
        st.sampled_from(
            [
                ("x.csv", table(rows).encode()),
                ("x.jsonl", "\n".join(map(json.dumps, rows)).encode()),
                ("x.parquet", parquet.getvalue()),
            ]
        )
    )
    cut = bytearray(whole[: 8 + int(data.draw(st.floats(0, 1)) * len(whole))])
    for _ in range(data.draw(st.integers(0, 8))):
        place = 4 + int(data.draw(st.floats(0, 1, exclude_max=True)) * (len(cut) - 4))
        cut[place] = data.draw(st.integers(0, 255))
    for found in STRUCTURE_TABLE.read(member(bytes(cut), name)):
        assert isinstance(found, Record | Reject)


# --- JARVIS's leaderboard ----------------------------------------------------------------


def poscar_cell(structure: Structure) -> str:
    return structure.to(fmt="poscar").replace("\n", "\\n")


def test_the_two_sides_of_the_leaderboard() -> None:
    text = f"id,target,prediction\nJVASP-1,{poscar_cell(SALT)},{poscar_cell(IRON)}\nJVASP-2,x,y\n"
    assert JARVIS_LEADERBOARD.fits("x.csv", text.encode())
    assert not JARVIS_TARGETS.fits("x.csv", text.encode())
    assert not STRUCTURE_TABLE.fits("x.csv", text.encode())
    assert not JARVIS_LEADERBOARD.fits("x.csv", b"id,target,prediction\nJVASP-1,1.0,1.1\n")
    first, second = JARVIS_LEADERBOARD.read(member(text, "x.csv"))
    assert isinstance(first, Record)
    assert first.external_id is None
    assert first.extra == {"target_id": "JVASP-1"}
    assert crystal_of(first) == from_structure(IRON)
    assert isinstance(second, Reject)
    assert second.reason.startswith("prediction: is neither")
    target, _ = JARVIS_TARGETS.read(member(text, "x.csv"))
    assert isinstance(target, Record)
    assert target.external_id == "JVASP-1"
    assert crystal_of(target) == from_structure(SALT)


# --- real files --------------------------------------------------------------------------


def same(ours: Crystal, theirs: Structure) -> None:
    """Hold a record to pymatgen's reading: cell and places within 1e-6, and what sits there."""
    assert np.abs(ours.lengths - theirs.lattice.abc).max() < 1e-6
    assert np.abs(ours.angles - theirs.lattice.angles).max() < 1e-6
    assert len(ours) == len(theirs)
    sign = np.sign(np.linalg.det(theirs.lattice.matrix))
    left = list(range(len(ours)))
    for site in theirs:
        off = ours.frac_coords[left] - sign * site.frac_coords
        off -= np.rint(off)
        nearest = int(np.argmin(np.abs(off).max(axis=1)))
        assert np.abs(off[nearest]).max() < 1e-6
        assert ours.species[left.pop(nearest)] == site.species_string


@real
@pytest.mark.parametrize(
    ("name", "count"), [("mp20-mini", 2573), ("mp40-test", 708), ("mp-flla-2015", 3938)]
)
def test_real_tables(name: str, count: int) -> None:
    raw = gzip.decompress((SHARED / "structures" / f"{name}.csv.gz").read_bytes())
    csv.field_size_limit(2**25)
    text = raw.decode()
    if text.startswith("#"):
        text = text.partition("\n")[2]
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    found = read(raw, f"{name}.csv")
    assert len(found) == len(rows) == count
    meanings = {
        "formation_energy_per_atom": "formation_energy_per_atom",
        "band_gap": "band_gap",
        "e_above_hull": "energy_above_hull",
        "energy_above_hull": "energy_above_hull",
    }
    for number, (record, row) in enumerate(zip(found, rows, strict=True)):
        assert isinstance(record, Record)
        assert record.external_id == row["material_id"]
        assert record.properties == {
            meaning: float(row[column]) for column, meaning in meanings.items() if column in row
        }
        assert set(record.extra) == {
            *(column for column, cell in row.items() if cell)
        } - meanings.keys() - {"material_id", "cif", "structure"}
        if "structure" in row:
            assert isinstance(record.structure, Sites)
            if number % 10:
                continue
            document = ast.literal_eval(row["structure"])
            assert record.structure.lattice == document["lattice"]["matrix"]
            assert record.structure.coords == [site["abc"] for site in document["sites"]]
            if number % 40 == 0:
                same(crystal_of(record), Structure.from_dict(document))
        else:
            assert record.structure == Encoded("cif", row["cif"].rstrip())
            if number % 60 == 0:
                parser = CifParser.from_str(row["cif"], frac_tolerance=0)
                same(crystal_of(record), parser.parse_structures(primitive=False)[0])


@real
def test_real_leaderboard() -> None:
    total = 0
    for path in sorted((SHARED / "generated" / "jarvis-atomgen").glob("*.csv.zip")):
        with zipfile.ZipFile(path) as archive:
            raw = archive.read(archive.namelist()[0])
        rows = list(csv.DictReader(io.StringIO(raw.decode(), newline="")))
        assert JARVIS_LEADERBOARD.fits(path.name, raw[: 2**16])
        for form, side in ((JARVIS_LEADERBOARD, "prediction"), (JARVIS_TARGETS, "target")):
            found = list(form.read(member(raw, "x.csv")))
            for number, (record, row) in enumerate(zip(found, rows, strict=True)):
                assert isinstance(record, Record)
                text = row[side].replace("\\n", "\n").rstrip() + "\n"
                assert record.structure == Encoded("poscar", text)
                if number % 100 == 0:
                    same(crystal_of(record), Poscar.from_str(text).structure)
        assert [r.extra["target_id"] for r in JARVIS_LEADERBOARD.read(member(raw, "x.csv"))
                if isinstance(r, Record)] == [row["id"] for row in rows]  # fmt: skip
        total += len(rows)
    assert total == 8_055
