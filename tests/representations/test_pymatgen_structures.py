"""Records through pymatgen and its files, and pymatgen's structures through records."""

from __future__ import annotations

import io
import json
import sys
import warnings
import zipfile
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import DummySpecies, Element, Lattice, Species, Structure
from pymatgen.io.cif import CifParser, CifWriter
from pymatgen.io.vasp import Poscar

from gandb.core.crystals import Crystal, CrystalError, crystal
from gandb.core.errors import InputError, MissingExtraError
from gandb.representations.pymatgen_structures import from_structure, to_structure
from gandb.sources.structures import sites_of_structure
from tests.crystals import crystals, parts_of
from tests.representations.any_properties import any_properties
from tests.shared_data import SHARED, real

MP = SHARED / "structures" / "mp-cifs.zip"
NO_ISOTOPES = ("D", "T")


def through_cif(structure: Structure, **how: Any) -> Structure:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = str(CifWriter(structure, significant_figures=10, **how))
        parser = CifParser(io.StringIO(text), frac_tolerance=0, occupancy_tolerance=1.001)
        return parser.parse_structures(primitive=False, check_occu=False)[0]


def isotopes_in(record: Crystal) -> bool:
    return any(o.symbol in NO_ISOTOPES for site in record.occupants for o in site)


@given(crystals())
@settings(max_examples=80, deadline=None)
def test_a_record_comes_back_from_a_structure(record: Crystal) -> None:
    structure = to_structure(record)
    assert from_structure(structure) == record
    assert np.allclose(structure.lattice.matrix, record.lattice, atol=1e-12)
    assert structure.volume == pytest.approx(record.volume)
    for site, occupants in zip(structure, record.occupants, strict=True):
        assert len(site.species) == len(occupants)


@given(crystals(max_sites=3), st.data())
@settings(max_examples=60, deadline=None)
def test_any_properties_come_back(record: Crystal, data: st.DataObject) -> None:
    properties = data.draw(any_properties(len(record)))
    record = replace(parts_of(record), properties=properties).crystal()
    assert from_structure(to_structure(record)) == record


@given(crystals())
@settings(max_examples=60, deadline=None)
def test_a_record_comes_back_from_pymatgen_json(record: Crystal) -> None:
    if isotopes_in(record):
        return  # pymatgen's JSON writes deuterium as hydrogen
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = json.dumps(to_structure(record).as_dict())
        again = Structure.from_dict(json.loads(text))
    assert sites_of_structure(json.loads(text)).crystal() == record
    if all(sum(o.occupancy for o in site) <= 1 + 1e-8 for site in record.occupants):
        assert from_structure(again) == record


@given(crystals(properties=False))
@settings(max_examples=50, deadline=None)
def test_a_record_comes_back_from_pymatgens_cif(record: Crystal) -> None:
    if isotopes_in(record):
        return
    again = from_structure(through_cif(to_structure(record)))
    if all(o.oxidation_state is not None for site in record.occupants for o in site):
        assert again == record
    else:  # a CIF states oxidation states of all atom types or of none
        assert again.frac_coords.shape == record.frac_coords.shape
        assert np.array_equal(again.lengths, record.lengths)


@given(crystals(properties=False, disordered=False, oxidation_states=False))
@settings(max_examples=50, deadline=None)
def test_a_record_comes_back_from_pymatgens_poscar(record: Crystal) -> None:
    text = Poscar(to_structure(record)).get_str(significant_figures=16)
    assert from_structure(Poscar.from_str(text).structure) == record


@real
def test_the_real_structures_come_back() -> None:
    with zipfile.ZipFile(MP) as archive:
        names = [name for name in archive.namelist() if name.endswith(".cif")]
        assert len(names) == 1245
        for name in names[::10]:
            text = archive.read(name).decode()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                structure = CifParser(io.StringIO(text)).parse_structures(primitive=False)[0]
            same_structure(structure)


def same_structure(structure: Structure) -> None:
    """Hold a structure and what comes back of it to the same cell and the same sites."""
    record = from_structure(structure)
    again = to_structure(record)
    assert from_structure(again) == record
    assert np.allclose(again.lattice.abc, structure.lattice.abc, atol=1e-8)
    assert np.allclose(again.lattice.angles, structure.lattice.angles, atol=1e-8)
    sign = np.sign(np.linalg.det(structure.lattice.matrix))
    left = list(range(len(again)))
    for site in structure:
        off = again.frac_coords[left] - sign * site.frac_coords
        off -= np.rint(off)
        place = int(np.argmin(np.abs(off).max(axis=1)))
        assert np.abs(off[place]).max() <= 1e-8
        found = again[left.pop(place)]
        assert found.species == site.species
        for name, value in site.properties.items():
            assert found.properties[name] == pytest.approx(value, abs=1e-8)


def test_what_pymatgen_says_of_a_species_is_kept() -> None:
    structure = Structure(
        Lattice.from_parameters(4, 5, 6, 80, 95, 100),
        [
            {Species("Fe", 2, spin=4): 0.25, Species("Fe", 3): 0.5},
            Species("O", -2, spin=1),
            Element("D"),
            {"T": 0.5},
            Species("Ti", 0),
            Species("Fe", 2.5),
        ],
        [
            [0, 0, 0],
            [0.5, 0.5, 0.5],
            [0.25, 0.1, 0.9],
            [0.1, 0.6, 0.4],
            [0.7, 0.2, 0.2],
            [0, 0.5, 0],
        ],
        site_properties={"magmom": [1.0, None, 0.5, None, -1.0, 2.0]},
        charge=2,
    )
    record = from_structure(structure)
    assert record.charge == 2
    assert sorted(record.species) == sorted(
        ["Fe2+:0.25 Fe3+:0.5", "O2-", "D", "T:0.5", "Ti0+", "Fe2.5+"]
    )
    same_structure(structure)
    spins = dict(zip(record.species, record.properties["species_spin"], strict=True))
    assert spins["Fe2+:0.25 Fe3+:0.5"] == {"Fe2+": 4}
    assert spins["O2-"] == 1
    assert spins["D"] is None


def test_a_charge_that_is_the_sum_of_the_oxidation_states_is_one_only_if_it_was_given() -> None:
    record = crystal((4, 4, 4), (90, 90, 90), ["Fe3+"], [[0, 0, 0]])
    document = to_structure(record).as_dict()
    assert document["charge"] == 3
    assert sites_of_structure(document).crystal() == record
    assert from_structure(Structure.from_dict(document)) == record

    charged = replace(record, charge=3.0)
    document = to_structure(charged).as_dict()
    assert sites_of_structure(document).crystal() == charged
    assert from_structure(Structure.from_dict(document)) == charged


def test_the_package_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymatgen.core.composition", None)
    record = crystal((4, 4, 4), (90, 90, 90), ["Fe3+"], [[0, 0, 0]])
    with pytest.raises(MissingExtraError, match=r"gandb\[pymatgen\]"):
        to_structure(record)


def test_a_left_handed_cell_keeps_its_hand() -> None:
    structure = Structure(
        [[0, 4, 0], [3, 0.5, 0], [0.2, 0, 5]],
        ["Na", "Cl", "O"],
        [[0, 0, 0], [0.5, 0.1, 0.2], [0.3, 0.7, 0.9]],
    )
    same_structure(structure)
    again = to_structure(from_structure(structure))
    assert sorted(again.distance_matrix.ravel()) == pytest.approx(
        sorted(structure.distance_matrix.ravel()), abs=1e-6
    )


def test_what_a_record_cannot_hold_is_refused() -> None:
    with pytest.raises(CrystalError, match="there is no element 'X'"):
        from_structure(Structure(Lattice.cubic(4), [DummySpecies("X")], [[0, 0, 0]]))
    slab = Structure(Lattice(np.eye(3) * 4, pbc=(True, True, False)), ["Na"], [[0, 0, 0]])
    with pytest.raises(InputError, match="not periodic"):
        from_structure(slab)
