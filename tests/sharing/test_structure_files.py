"""Structures written to files come back with their ids, here and in pymatgen."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from pymatgen.core import Structure

from gandb.core.config import Settings
from gandb.core.crystals import Crystal
from gandb.core.errors import QueryError, StoreError, UsageError
from gandb.representations.pymatgen_structures import from_structure
from gandb.sharing.exports.structure_files import export_structures, format_of
from gandb.sharing.exports.texts import cif_text, json_text, poscar_text
from gandb.sources.cif import decode_cif
from gandb.sources.poscar import decode_poscar
from gandb.store import StoreReader
from gandb.tasks.records import records_job
from tests.crystals import crystals as random_crystals
from tests.tasks.labs import make_store, work


def _plain(crystal: Crystal) -> Crystal:
    """Return what a format without site properties and charge can hold."""
    return Crystal(crystal.lengths, crystal.angles, crystal.species, crystal.frac_coords)


@given(random_crystals())
@settings(max_examples=60)
def test_a_cif_comes_back_as_it_was(crystal: Crystal) -> None:
    assert decode_cif(cif_text(crystal, "x")).crystal() == _plain(crystal)


@given(random_crystals())
@settings(max_examples=40)
def test_json_is_pymatgens_and_comes_back_as_it_was(crystal: Crystal) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sites without a property that others have
        back = Structure.from_dict(json.loads(json_text(crystal, "x")))  # from_str drops charges
    assert from_structure(back) == crystal


@given(random_crystals(disordered=False))
@settings(max_examples=40)
def test_a_poscar_comes_back_without_oxidation_states(crystal: Crystal) -> None:
    back = decode_poscar(poscar_text(crystal, "x")).crystal()
    assert sorted(back.species) == sorted(s[0].element for s in crystal.occupants)
    assert back.lengths.tolist() == crystal.lengths.tolist()
    assert sorted(map(tuple, back.frac_coords)) == sorted(map(tuple, crystal.frac_coords))


@pytest.mark.parametrize("form", ["cif", "poscar", "json"])
@pytest.mark.parametrize("target", ["files", "files.zip"])
def test_a_querys_structures_become_files(
    store_url: str, tmp_path: Path, shared_data: Path, form: str, target: str
) -> None:
    store = make_store(store_url, tmp_path)
    work(store, records_job("mp", [shared_data / "matching" / "pymatgen"]))
    reader, place = StoreReader(Settings(store_url)), tmp_path / target
    query = "SELECT structure_id FROM structures"
    written = export_structures(store, reader, query, place, form, skip=True).written
    if place.suffix:
        with zipfile.ZipFile(place) as archive:
            archive.extractall(tmp_path / "unpacked")
        place = tmp_path / "unpacked"
    files = sorted(place.iterdir())
    assert len(files) == written == (5 if form != "poscar" else written)
    for path in files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            crystal = from_structure(Structure.from_file(path))
        if form != "cif":
            assert str(crystal.id) == path.stem
    with pytest.raises(StoreError, match="exists"):
        export_structures(store, reader, query, tmp_path / target, form)
    with pytest.raises(QueryError, match="no column structure_id"):
        export_structures(store, reader, "SELECT 1 AS x", tmp_path / "no", form)
    assert not (tmp_path / "no").exists()


def test_a_poscar_cannot_say_disorder() -> None:
    from gandb.core.crystals import crystal

    half = crystal([4, 4, 4], [90, 90, 90], ["Fe:0.5 Ni:0.5"], [[0, 0, 0]])
    with pytest.raises(UsageError, match="disordered"):
        poscar_text(half, "x")


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a", "cif"),
        ("a.zip", "cif"),
        ("a.extxyz", "extxyz"),
        ("a.xyz.gz", "extxyz"),
        ("a.db", "ase"),
        ("a.ase.json", "ase"),
        ("a.json", "json"),
        ("a.jsonl.gz", "json"),
        ("a.parquet", "lemat"),
        ("a.optimade.jsonl", "optimade"),
    ],
)
def test_a_name_says_the_format(name: str, form: str) -> None:
    assert format_of(Path(name)) == form


def test_a_name_that_says_none() -> None:
    with pytest.raises(UsageError, match="say which format"):
        format_of(Path("a.pdf"))
