"""Structures as JSON documents write them, against pymatgen and by hand."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Structure

from gandb.core.crystals import CrystalError
from gandb.core.errors import InputError
from gandb.core.species import Occupant
from gandb.representations.pymatgen_structures import from_structure
from gandb.sources.records import Sites
from gandb.sources.structures import (
    parse_json,
    sites_of_atoms,
    sites_of_optimade,
    sites_of_structure,
)
from tests.shared_data import SHARED, real

LATTICE = {"matrix": [[4.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 6.0]]}


def site(species: Any, abc: Any = (0, 0, 0), **more: Any) -> dict[str, Any]:
    return {"species": species, "abc": list(abc), **more}


def structure(*sites: Any, **more: Any) -> dict[str, Any]:
    return {"lattice": LATTICE, "sites": list(sites), **more}


def iron(**more: Any) -> dict[str, Any]:
    return {"element": "Fe", "occu": 1, **more}


@pytest.mark.parametrize(
    ("species", "expected"),
    [
        ([iron()], "Fe"),
        ([iron(oxidation_state=3)], "Fe3+"),
        ([iron(oxidation_state=2.5, spin=None)], "Fe2.5+"),
        ([iron(oxidation_state=0)], "Fe0+"),
        ([iron(oxidation_state=None)], "Fe"),
        ([{"element": "Fe3+", "occu": 0.5}, {"element": "Ni", "occu": 0.25}], "Fe3+:0.5 Ni:0.25"),
        ({"Fe3+": 0.5, "Ni2+": 0.25}, "Fe3+:0.5 Ni2+:0.25"),
        ("Fe2+", "Fe2+"),
        ([{"specie": "D", "occu": 1.0}], "D"),
        ([{"element": "Fe"}], "Fe"),
    ],
)
def test_species_of_every_age(species: Any, expected: str) -> None:
    assert sites_of_structure(structure(site(species))).crystal().species == (expected,)


def test_the_oldest_sites_have_a_label_alone() -> None:
    old = {"lattice": LATTICE, "sites": [{"label": "Fe3+", "abc": [0, 0, 0]}]}
    assert sites_of_structure(old).crystal().species == ("Fe3+",)


def test_parameters_and_cartesian_sites() -> None:
    parameters = dict(zip("a b c alpha beta gamma".split(), (4, 5, 6, 80, 95, 100), strict=True))
    document = {"lattice": parameters, "sites": [site([iron()], (0.25, 0.5, 0.75))]}
    record = sites_of_structure(document).crystal()
    assert record == from_structure(Structure.from_dict(document))
    cartesian = structure({"species": [iron()], "xyz": [1, 2.5, 4.5]})
    assert sites_of_structure(cartesian).crystal().frac_coords.tolist() == [[0.25, 0.5, 0.75]]
    document["sites"] = cartesian["sites"]
    with pytest.raises(InputError, match="without vectors"):
        sites_of_structure(document)


def test_site_properties_spins_and_arrays() -> None:
    document = structure(
        site([iron(spin=5)], properties={"magmom": 4.5}),
        site(
            [iron(occu=0.5, properties={"spin": 1}), {"element": "Ni", "occu": 0.5}],
            (0.5, 0.5, 0.5),
            properties={"forces": {"@module": "numpy", "@class": "array", "data": [0, 0, 1]}},
        ),
    )
    sites = sites_of_structure(document)
    assert sites.properties == {
        "magmom": [4.5, None],
        "species_spin": [5.0, {"Fe": 1.0}],
        "forces": [None, [0, 0, 1]],
    }


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "not a JSON object"),
        ({"sites": [site([iron()])]}, "no lattice"),
        (structure(), "no sites"),
        (structure(1), "site 1 is not a JSON object"),
        (structure(site([])), "site 1 has no species"),
        (structure(site([{"element": ["Fe"], "occu": 1}])), "no element"),
        (structure(site([iron(occu="1")])), "occupancy of site 1 is '1'"),
        (structure(site([{"element": "Fe", "occu": float("nan")}])), "not finite"),
        (structure(site([{"element": "Fe", "occu": None}])), "null or NaN"),
        (structure(site([iron(oxidation_state=10**400)])), "not finite"),
        (structure(site([iron()], properties=3)), "properties of site 1"),
        (structure({"species": [iron()]}), "no coordinates"),
        ({"lattice": {"a": 1}, "sites": [site([iron()])]}, "no matrix and no b, c"),
        ({"lattice": "cubic", "sites": [site([iron()])]}, "neither an object nor three"),
        (
            {"lattice": {**LATTICE, "pbc": [True, True, False]}, "sites": [site([iron()])]},
            "not periodic",
        ),
        (structure(site([iron()]), charge="one"), "charge is 'one'"),
        (structure(*[site([iron()])] * 10_001), "10,001 values; at most"),
    ],
)
def test_what_is_wrong_with_a_structure_is_said(document: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        sites_of_structure(document)


def test_jarvis_atoms() -> None:
    data = {
        "lattice_mat": LATTICE["matrix"],
        "coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
        "elements": ["Na", "Cl"],
        "cartesian": False,
        "props": ["", ""],
        "abc": [4, 5, 6],
        "angles": [90, 90, 90],
    }
    fractional = sites_of_atoms(data).crystal()
    assert fractional.species == ("Na", "Cl")
    assert not fractional.properties
    data |= {"coords": [[0, 0, 0], [2, 2.5, 3]], "cartesian": "True"}
    assert sites_of_atoms(data).crystal() == fractional
    data["props"] = [0.5, ""]
    assert sites_of_atoms(data).crystal().properties == {"props": (0.5, None)}
    for change, reason in (
        ({"props": [1]}, "1 values of props for 2 sites"),
        ({"coords": [[0, 0, 0]]}, "1 values of coords"),
        ({"elements": ["Na", "Xx"]}, "site 2: 'Xx' is not an element"),
        ({"elements": None}, "has no elements"),
        ({"cartesian": 3}, "neither true nor false"),
    ):
        with pytest.raises(InputError, match=reason):
            sites_of_atoms({**data, **change})


def optimade(species: Any, names: list[str], **more: Any) -> dict[str, Any]:
    return {
        "lattice_vectors": LATTICE["matrix"],
        "dimension_types": [1, 1, 1],
        "cartesian_site_positions": [[0.5 * i, 0, 0] for i in range(len(names))],
        "species_at_sites": names,
        "species": species,
        **more,
    }


def kind(name: str, symbols: list[str], shares: list[float], **more: Any) -> dict[str, Any]:
    return {"name": name, "chemical_symbols": symbols, "concentration": shares, **more}


def test_optimade_species() -> None:
    species = [
        kind("A", ["Fe", "Ni", "vacancy"], [0.5, 0.25, 0.25]),
        kind("hole", ["vacancy"], [1.0]),
        kind("D", ["H"], [1.0], mass=[2.014]),
        kind("O1", ["O"], [1.0], mass=None, attached=None, nattached=None),
    ]
    sites = sites_of_optimade(
        optimade(species, ["A", "hole", "D", "O1"]), {"magmom": [1.0, 9.0, 2.0, 3.0]}
    )
    assert sites.species == [(Occupant("Fe", 0.5), Occupant("Ni", 0.25)), "D", "O"]
    assert sites.properties == {"magmom": [1.0, 2.0, 3.0]}
    assert np.array(sites.coords)[:, 0].tolist() == [0.0, 1.0, 1.5]
    plain = sites_of_optimade(optimade(None, ["Fe", "O"]))
    assert plain.species == ["Fe", "O"]


def test_optimade_assemblies_share_places() -> None:
    species = [kind("Fe", ["Fe"], [1.0]), kind("Ni", ["Ni"], [1.0])]
    data = optimade(species, ["Fe", "Ni", "Fe"])
    data["cartesian_site_positions"] = [[0, 0, 0], [0, 0, 0], [2, 2, 2]]
    data["assemblies"] = [{"sites_in_groups": [[0], [1]], "group_probabilities": [0.25, 0.75]}]
    assert sorted(sites_of_optimade(data).crystal().species) == ["Fe", "Fe:0.25 Ni:0.75"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dimension_types": [1, 1, 0]}, "not periodic"),
        ({"nperiodic_dimensions": 2}, "periodic in 2 directions"),
        ({"lattice_vectors": None}, "no lattice_vectors"),
        ({"species_at_sites": ["Fe", "Ni"]}, "1 values of cartesian_site_positions for 2"),
        ({"species_at_sites": ["Q"]}, "site 1 names 'Q'"),
        ({"species": None, "species_at_sites": ["Fe1"]}, "'Fe1' is not an element"),
        ({"species": [kind("Fe", ["X"], [1.0])]}, "'X' is an unknown atom"),
        ({"species": [kind("Fe", ["Fe"], [1.0], attached=["H"], nattached=[3])]}, "attached"),
        ({"species": [kind("Fe", ["Fe"], [])]}, "0 values of concentration"),
        ({"species": [kind("Fe", ["Fe"], ["1"])]}, "concentration of species 'Fe' is '1'"),
        ({"species": [kind("Fe", ["Fe"], [1.0])] * 2}, "there twice"),
        ({"assemblies": [{"sites_in_groups": [[4]], "group_probabilities": [1]}]}, "site 4"),
    ],
)
def test_what_is_wrong_with_an_optimade_structure_is_said(
    change: dict[str, Any], reason: str
) -> None:
    data = optimade([kind("Fe", ["Fe"], [1.0])], ["Fe"]) | change
    with pytest.raises(InputError, match=reason):
        sites_of_optimade(data)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "Fe", "O2-", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_document_gives_sites_or_a_reason(data: st.DataObject) -> None:
    names = (
        "lattice sites species abc xyz element occu oxidation_state spin properties charge matrix "
        "lattice_mat coords elements cartesian props lattice_vectors cartesian_site_positions "
        "species_at_sites name chemical_symbols concentration assemblies"
    ).split()
    good: dict[Any, dict[str, Any]] = {
        sites_of_structure: structure(site([iron()]), site([iron()], (0.5, 0.5, 0.5))),
        sites_of_atoms: {
            "lattice_mat": LATTICE["matrix"], "coords": [[0, 0, 0]], "elements": ["Na"]
        },
        sites_of_optimade: optimade([kind("Fe", ["Fe"], [1.0])], ["Fe"]),
    }  # fmt: skip
    read = data.draw(st.sampled_from(list(good)))
    document = json.loads(json.dumps(good[read]))
    holders = [document]
    if read is sites_of_structure:
        holders += [document["sites"][0], document["sites"][0]["species"][0], document["lattice"]]
    holder = data.draw(st.sampled_from(holders))
    holder[data.draw(st.sampled_from(names))] = data.draw(JSON)
    try:
        found = read(document)
    except InputError:
        return
    assert isinstance(found, Sites)
    try:
        found.crystal()
    except CrystalError:
        return


def test_json_that_cannot_be_read() -> None:
    for text, reason in (
        ("{", "is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        (b'"\xff"', "not UTF-8"),
        ("1" * 5_000, "cannot be read"),
    ):
        with pytest.raises(InputError, match=reason):
            parse_json(text)


@real
def test_real_structures_against_pymatgen() -> None:
    path = SHARED / "native" / "mp" / "optimade-structures.jsonl.gz"
    count = 0
    with gzip.open(path, "rt") as lines:
        for number, line in enumerate(lines):
            attributes = json.loads(line).get("attributes") or {}
            if number % 10 or "lattice_vectors" not in attributes:
                continue
            theirs = Structure(
                attributes["lattice_vectors"],
                attributes["species_at_sites"],
                attributes["cartesian_site_positions"],
                coords_are_cartesian=True,
            )
            assert sites_of_optimade(attributes).crystal() == from_structure(theirs)
            assert sites_of_structure(theirs.as_dict()).crystal() == from_structure(theirs)
            count += 1
    assert count > 300
