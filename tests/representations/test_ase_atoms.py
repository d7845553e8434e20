"""Records through ASE and its files, and ASE's atoms through records."""

from __future__ import annotations

import io
import sys
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.io.ase import AseAtomsAdaptor

from gandb.core.crystals import Crystal, CrystalError, crystal
from gandb.core.errors import InputError, MissingExtraError
from gandb.representations.ase_atoms import from_atoms, to_atoms
from gandb.representations.pymatgen_structures import from_structure
from tests.crystals import crystals, parts_of
from tests.representations.any_properties import any_properties
from tests.shared_data import SHARED, real

MP = SHARED / "structures" / "mp-cifs.zip"


def through_extxyz(atoms: Atoms) -> Atoms:
    handle = io.StringIO()
    ase.io.write(handle, atoms, format="extxyz")
    handle.seek(0)
    return ase.io.read(handle, format="extxyz")


def read_cif(text: str) -> Atoms:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ase.io.read(io.StringIO(text), format="cif")


@given(crystals())
@settings(max_examples=60, deadline=None)
def test_a_record_comes_back_from_atoms(record: Crystal) -> None:
    atoms = to_atoms(record)
    assert from_atoms(atoms) == record
    assert from_atoms(atoms.copy()) == record or atoms.calc is not None
    assert np.allclose(atoms.cell.cellpar(), [*record.lengths, *record.angles], atol=1e-9)
    assert np.allclose(atoms.positions, record.cart_coords, atol=1e-9)


@given(crystals(max_sites=3), st.data())
@settings(max_examples=60, deadline=None)
def test_any_properties_come_back(record: Crystal, data: st.DataObject) -> None:
    properties = data.draw(any_properties(len(record)))
    record = replace(parts_of(record), properties=properties).crystal()
    assert from_atoms(to_atoms(record)) == record


@given(crystals())
@settings(max_examples=50, deadline=None)
def test_a_record_comes_back_from_extxyz(record: Crystal) -> None:
    # ASE writes texts as JSON and loses their backslashes when it reads them.
    kept = {name: v for name, v in record.properties.items() if name != "label"}
    record = replace(record, properties=kept)
    assert from_atoms(through_extxyz(to_atoms(record))) == record


def test_a_record_comes_back_from_ase_json_and_database(tmp_path: Path) -> None:
    record = crystal(
        (4, 5, 6.5),
        (80, 95, 100),
        ["Fe", "O", "D", "T"],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.25, 0.1, 0.9], [0.1, 0.6, 0.4]],
        properties={
            "magmom": [2.5, 0.0, 0.0, -0.125],
            "charge": [1.0, -2.0, 0.5, 0.5],
            "tags": [0, 1, 2, 3],
            "forces": [[0.1, 0.2, -0.3]] * 4,
            "final_magmom": [2.0, 0.5, 0.0, 0.0],
        },
    )
    for name in ("x.json", "x.db"):
        with ase.db.connect(tmp_path / name) as database:
            database.write(to_atoms(record))
            row = next(iter(database.select()))
            assert from_atoms(row.toatoms()) == record


@real
def test_the_real_structures_come_back() -> None:
    with zipfile.ZipFile(MP) as archive:
        names = [name for name in archive.namelist() if name.endswith(".cif")]
        assert len(names) == 1245
        for name in names[::10]:
            same_atoms(read_cif(archive.read(name).decode()))


def same_atoms(atoms: Atoms) -> None:
    """Hold atoms and what comes back of them to the same cell and the same sites."""
    record = from_atoms(atoms)
    again = to_atoms(record)
    assert from_atoms(again) == record
    assert np.allclose(again.cell.cellpar(), atoms.cell.cellpar(), atol=1e-8)
    sign = np.sign(np.linalg.det(atoms.cell))
    places = again.get_scaled_positions()
    left = list(range(len(again)))
    for symbol, mass, place in zip(
        atoms.symbols, atoms.get_masses(), atoms.get_scaled_positions(), strict=True
    ):
        off = places[left] - sign * place
        off -= np.rint(off)
        nearest = int(np.argmin(np.abs(off).max(axis=1)))
        assert np.abs(off[nearest]).max() <= 1e-8
        found = left.pop(nearest)
        assert again.symbols[found] == symbol
        assert again.get_masses()[found] == pytest.approx(mass, abs=1e-6)


DISORDERED = """data_x
_cell_length_a 4.1
_cell_length_b 4.1
_cell_length_c 4.1
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
A1 K 0 0 0 0.75
A2 Na 0 0 0 0.25
B1 Ta 0.5 0.5 0.5 1
O1 O 0.5 0.5 0 0.9
"""


def test_disorder_is_where_ase_keeps_it() -> None:
    theirs = read_cif(DISORDERED)
    record = from_atoms(theirs)
    assert sorted(record.species) == ["Na:0.25 K:0.75", *["O:0.9"] * 3, "Ta"]
    ours = to_atoms(record)
    assert from_atoms(ours) == record

    def shares(atoms: Atoms) -> list[Any]:
        kinds = atoms.arrays["spacegroup_kinds"]
        occupancy = atoms.info["occupancy"]
        sites = [occupancy[str(kind)] for kind in kinds]
        return sorted(
            (symbol, *sorted(s.items())) for symbol, s in zip(atoms.symbols, sites, strict=True)
        )

    assert shares(ours) == shares(theirs)
    handle = io.BytesIO()
    ase.io.write(handle, ours, format="cif")
    assert from_atoms(read_cif(handle.getvalue().decode())).species == record.species


def test_pymatgens_adaptor_understands_the_atoms() -> None:
    record = crystal(
        (4, 5, 6.5),
        (80, 95, 100),
        ["Fe3+", "O2-"],
        [[0, 0, 0], [0.5, 0.5, 0.5]],
        properties={"magmom": [2.5, 0.0], "coordination_no": [4, 6]},
    )
    assert from_structure(AseAtomsAdaptor.get_structure(to_atoms(record))) == record
    calculated = crystal(
        (4, 5, 6.5), (90, 90, 90), ["Fe", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]],
        properties={"final_magmom": [2.5, 0.25], "final_charge": [0.5, -0.5]},
    )  # fmt: skip
    assert from_structure(AseAtomsAdaptor.get_structure(to_atoms(calculated))) == calculated


def test_a_turned_left_handed_cell_keeps_its_vectors() -> None:
    atoms = Atoms(
        "NaClO",
        positions=[[0, 0, 0], [1.5, 1.7, 0.3], [0.5, 3.1, 3.9]],
        cell=[[0, 4, 0], [3, 0.5, 0], [0.2, 0, 5]],
        pbc=True,
    )
    forces = np.array([[0.1, 0.0, 0.0], [0.0, 0.2, 0.0], [-0.1, 0.3, 0.5]])
    atoms.calc = SinglePointCalculator(atoms, forces=forces)
    same_atoms(atoms)
    again = to_atoms(from_atoms(atoms))
    order = [again.symbols.search(symbol)[0] for symbol in ("Na", "Cl", "O")]
    turned = again.get_forces()[order]
    # Scalar products of forces and of bonds with forces are the same in every orientation.
    assert turned @ turned.T == pytest.approx(forces @ forces.T, abs=1e-7)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        bond = atoms.get_distance(i, j, mic=True, vector=True)
        there = again.get_distance(order[i], order[j], mic=True, vector=True)
        assert turned @ there == pytest.approx(forces @ bond, abs=1e-6)


def test_masses_that_are_no_isotope_are_kept() -> None:
    atoms = Atoms("HHC", positions=[[0, 0, 0], [1, 1, 1], [2, 2, 2]], cell=[4] * 3, pbc=True)
    atoms.set_masses([2.014, 1.008, 13.003])
    record = from_atoms(atoms)
    assert record.species == ("D", "H", "C")
    assert record.properties["masses"] == (2.014, None, 13.003)
    same_atoms(atoms)


def test_the_package_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ase", None)
    record = crystal((4, 4, 4), (90, 90, 90), ["Fe3+"], [[0, 0, 0]])
    with pytest.raises(MissingExtraError, match=r"gandb\[ase\]"):
        to_atoms(record)


def test_what_does_not_fit_is_refused() -> None:
    atoms = Atoms("Na", positions=[[0, 0, 0]], cell=[4] * 3, pbc=[True, True, False])
    with pytest.raises(InputError, match="not periodic"):
        from_atoms(atoms)
    atoms.pbc = True
    atoms.info["occupancy"] = {"0": {"K": 0.5}}
    with pytest.raises(InputError, match="is missing"):
        from_atoms(atoms)
    atoms.set_array("spacegroup_kinds", np.array([0]))
    with pytest.raises(InputError, match="atom 1 is Na"):
        from_atoms(atoms)
    with pytest.raises(CrystalError, match="there is no element 'X'"):
        from_atoms(Atoms("X", positions=[[0, 0, 0]], cell=[4] * 3, pbc=True))
