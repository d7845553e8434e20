"""Every format gives back the record that was written, and other programs read it."""

from __future__ import annotations

import contextlib
import json
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase.db import connect
from ase.io import read as ase_read
from hypothesis import given, settings
from hypothesis import strategies as st
from optimade.models import StructureResource
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from gandb.core.crystals import Crystal, crystal
from gandb.core.units import PROPERTIES
from gandb.representations.pymatgen_structures import from_structure
from gandb.sharing.exports.rows import Item
from gandb.sharing.exports.sinks import sink_for
from gandb.sharing.exports.tables import HEADER, LEMAT
from gandb.sharing.exports.texts import CannotHoldError, poscar_lacks, xyz_lacks
from gandb.sources.formats import crystal_of
from gandb.sources.own_records import KEY
from gandb.sources.reading import read_files
from gandb.sources.records import Record
from tests.crystals import crystals

NAMES = {
    "cif": "x.zip",
    "json": "x.json",
    "extxyz": "x.extxyz",
    "ase": "x.db",
    "lemat": "x.parquet",
    "optimade": "x.optimade.jsonl",
}
MORE = [("json", "x.jsonl"), ("json", "x.jsonl.gz"), ("extxyz", "x.extxyz.gz"), ("ase", "x.json"),
        ("cif", "folder"), ("json", "folder"), ("extxyz", "x.zip"), ("json", "x.zip")]  # fmt: skip
HOLDS_ALL = [*NAMES.items(), *MORE]

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.floats(-1e9, 1e9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
entries = st.fixed_dictionaries(
    {
        "source": st.just("s"),
        "external_id": st.none() | texts.filter(bool),
        "formula": st.just("FeO"),
        "properties": st.dictionaries(st.sampled_from(list(PROPERTIES)), st.floats(-1e9, 1e9)),
        "extra": st.dictionaries(texts, plain, max_size=4),
        "aliases": st.lists(st.lists(texts, min_size=2, max_size=2), max_size=2),
    }
)
values = st.dictionaries(
    st.sampled_from(["my gap", "formula", "x y", "energy", "Fe", "model", "pbc", "Lattice"]),
    st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | texts | st.lists(texts, max_size=2),
    max_size=3,
)


def item(made: Crystal, number: int, entry: Any, said: Any) -> Item:
    return Item(str(UUID(int=number + 1)), str(made.id), made, said, entry)


@st.composite
def items(draw: st.DrawFn, *, disordered: bool = True) -> list[Item]:
    found = draw(st.lists(crystals(disordered=disordered), min_size=1, max_size=3))
    return [item(made, i, draw(st.none() | entries), draw(values)) for i, made in enumerate(found)]


def write(folder: Path, form: str, name: str, given: Sequence[Item]) -> Path:
    target = folder / name
    columns = {k for one in given for k in one.values}
    schema = pa.schema([(k, pa.string()) for k in sorted(columns)])
    with contextlib.closing(sink_for(target, name, form, schema)) as sink:
        for one in given:
            sink.write(one)
        sink.finish()
    return target


def back(path: Path, n: int) -> list[Record]:
    found = list(read_files([path]))
    assert all(isinstance(record, Record) for record in found), found
    assert len(found) == n
    return [record for record in found if isinstance(record, Record)]


def same(given: Sequence[Item], path: Path) -> None:
    for one, record in zip(given, back(path, len(given)), strict=True):
        assert record.structure is not None
        assert crystal_of(record.structure).id == one.crystal.id
        if one.entry is not None:
            assert record.external_id == one.entry["external_id"]
            assert record.properties == one.entry["properties"]
            assert record.extra == one.entry["extra"]
            assert [list(pair) for pair in record.aliases] == one.entry["aliases"]


@pytest.mark.parametrize(("form", "name"), HOLDS_ALL)
@given(data=st.data())
@settings(max_examples=15)
def test_what_is_written_comes_back(form: str, name: str, data: st.DataObject) -> None:
    whole = form not in ("extxyz", "ase")
    given = data.draw(items(disordered=whole))
    if not all(one.crystal.ordered for one in given) and not whole:
        return
    with TemporaryDirectory() as folder:
        same(given, write(Path(folder), form, name, given))


@given(crystals())
@settings(max_examples=40)
def test_what_a_format_lacks_is_refused(made: Crystal) -> None:
    one = item(made, 0, None, {})
    with TemporaryDirectory() as folder:
        for form, name, lacks in (
            ("poscar", "p", poscar_lacks(made)),
            ("extxyz", "x.extxyz", xyz_lacks(made)),
            ("ase", "x.db", xyz_lacks(made)),
            ("ase", "x.json", xyz_lacks(made)),
        ):
            if lacks is None:
                same([one], write(Path(folder), form, name, [one]))
                continue
            with pytest.raises(CannotHoldError, match=lacks):
                write(Path(folder), form, name, [one])


def test_an_edited_file_is_not_put_right() -> None:
    made = crystal([4, 4, 4], [90, 90, 90], ["Na+", "Cl-"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    with TemporaryDirectory() as folder:
        path = write(Path(folder), "extxyz", "x.extxyz", [item(made, 0, None, {})])
        path.write_text(path.read_text().replace("\nNa ", "\nK "))
        (refused,) = read_files([path])
        assert "says 'Na+' of site 1" in getattr(refused, "reason", "")
        path.write_text(path.read_text().replace('\\"format\\": 1', '\\"format\\": 2'))
        (refused,) = read_files([path])
        assert "is of format 2" in getattr(refused, "reason", "")


# --- other programs ----------------------------------------------------------------------


@given(crystals(), values, st.none() | entries)
@settings(max_examples=25)
def test_optimades_models_take_every_resource(made: Crystal, said: Any, entry: Any) -> None:
    with TemporaryDirectory() as folder:
        path = write(Path(folder), "optimade", "x.optimade.jsonl", [item(made, 0, entry, said)])
        header, line = path.read_text().splitlines()
    assert json.loads(header) == HEADER
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fields that it does not know
        resource = StructureResource(**json.loads(line))
    attributes = resource.attributes
    assert attributes.nsites == len(made)
    assert attributes.elements == sorted(made.amounts)
    assert np.allclose(attributes.cartesian_site_positions, made.cart_coords)
    assert np.isclose(sum(attributes.elements_ratios or ()), 1)


@given(crystals(disordered=False, oxidation_states=False), values)
@settings(max_examples=15)
def test_pymatgen_and_ase_read_the_same_crystal(made: Crystal, said: Any) -> None:
    one = item(made, 0, None, said)
    bare = Crystal(made.lengths, made.angles, made.species, made.frac_coords)
    with TemporaryDirectory() as text, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(text)
        atoms: Any = ase_read(write(folder, "extxyz", "x.extxyz", [one]))
        assert atoms.info["structure_id"] == one.structure_id
        with connect(write(folder, "ase", "x.db", [one])) as database:
            (row,) = database.select(structure_id=one.structure_id)
        with connect(write(folder, "ase", "x.json", [one])) as database:
            (other,) = database.select()
        from_row: Any = row.toatoms()
        assert row.natoms == other.natoms == len(made)
        for found in (atoms, from_row, other.toatoms()):
            theirs = from_structure(AseAtomsAdaptor.get_structure(found))
            assert (
                Crystal(theirs.lengths, theirs.angles, theirs.species, theirs.frac_coords) == bare
            )
        (cif,) = zipfile.ZipFile(write(folder, "cif", "c.zip", [one])).namelist()
        with zipfile.ZipFile(folder / "c.zip") as archive:
            theirs = from_structure(Structure.from_str(archive.read(cif).decode(), fmt="cif"))
        assert theirs.lengths.tolist() == made.lengths.tolist()
        assert theirs.amounts == made.amounts
        (listed,) = json.loads(write(folder, "json", "y.json", [one]).read_text())
        assert from_structure(Structure.from_dict(listed)) == made


def test_lemat_bulks_columns_load_as_a_dataset(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    made = crystal(
        [4, 4, 4], [90, 90, 90], ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]],
        properties={"magmom": [0.5, -0.5], "forces": [[0.0, 0.0, 0.1], [0.0, 0.0, -0.1]]},
    )  # fmt: skip
    entry = {
        "source": "mp", "external_id": "mp-1", "formula": "CsCl", "aliases": [],
        "properties": {"energy_per_atom": -3.25, "band_gap": 5.0},
        "extra": {"functional": "pbe", "cross_compatibility": True},
    }  # fmt: skip
    path = write(tmp_path, "lemat", "x.parquet", [item(made, 0, entry, {"note": "a"})])
    schema = pq.read_schema(path)
    assert schema.names[: len(LEMAT)] == LEMAT.names
    assert [schema.field(n).type for n in LEMAT.names] == [LEMAT.field(n).type for n in LEMAT.names]
    loaded = datasets.load_dataset(
        "parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    (row,) = loaded
    assert row["immutable_id"] == "mp-1"
    assert row["energy"] == -6.5
    assert row["band_gap"] == 5.0
    assert row["note"] == "a"
    assert row["functional"] == "pbe"
    theirs = Structure(
        row["lattice_vectors"],
        row["species_at_sites"],
        row["cartesian_site_positions"],
        coords_are_cartesian=True,
        site_properties={"magmom": row["magnetic_moments"], "forces": row["forces"]},
    )
    assert from_structure(theirs) == made


def test_what_mattergen_evaluates(tmp_path: Path) -> None:
    made = crystal([4, 4, 4], [90, 90, 90], ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    given = [item(made, i, None, {"model": "m"}) for i in range(3)]
    folder = write(tmp_path, "mattergen", "results", given)
    names = ["generated_crystals.extxyz", "generated_crystals_cif.zip"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert len(ase_read(folder / names[0], ":")) == 3
    with zipfile.ZipFile(folder / names[1]) as archive:
        assert len(archive.namelist()) == 3
    for name in names:
        same(given, folder / name)


def test_a_record_under_the_key_is_checked() -> None:
    from gandb.core.errors import InputError
    from gandb.sources.own_records import restored

    record = Record("f", 1, formula="FeO")
    for said in (
        "[", "[]", "{}", {"format": 1, "entry": []}, {"format": 1, "entry": {"external_id": 3}},
        {"format": 1, "entry": {"properties": {"colour": 1}}},
        {"format": 1, "entry": {"properties": {"band_gap": "x"}}},
        {"format": 1, "entry": {"aliases": [["a"]]}}, {"format": 1, "entry": {"extra": "x"}},
        {"format": 1, "entry": {"extra": {"x": "y" * 300_000}}},
    ):  # fmt: skip
        with pytest.raises(InputError, match=KEY):
            restored(record, said)
    assert restored(record, {"format": 1}) == record
