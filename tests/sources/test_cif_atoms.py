"""CIF's atoms: what sits where, with which occupancy, charge and moment, against pymatgen."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from gandb.core.crystals import CrystalError
from tests.sources.cif_texts import (
    CUBIC,
    MAGNETIC,
    PLAIN,
    assert_as_pymatgen,
    assert_same_sites,
    by_pymatgen,
    cif,
    decoded,
)

STATES = "loop_\n_atom_type_symbol\n_atom_type_oxidation_number\n"


@pytest.mark.parametrize(
    "text",
    [
        cif(
            CUBIC.format("3.905(1)"),
            "Sr1 Sr2+ 0 0 0 0.7\nLa1 La3+ 0 0 0 0.3\nTi1 Ti4+ 0.5 0.5 0.5 1\nO1 O2- 0.5 0.5 0 .95",
            "_symmetry_space_group_name_H-M 'P m -3 m'\n"
            + STATES
            + "Sr2+ 2\nLa3+ 3\nTi4+ 4\nO2- -2\n",
            PLAIN,
        ),
        cif(
            "4 5 6 80 90 100",
            "Fe1 Fe 0.1 0.2 0.3 1.0(0)\nO1 O 0.5(1) 0.25(12) -0.125(3) 1",
            "",
            PLAIN,
        ),
        cif(
            "4 5 6 90 90 90",
            "Fe1 Fe2+ 0 0 0 0.5\nFe2 Fe3+ 0 0 0 0.5\nO1 O2- 0.5 0.5 0.5 1.0",
            STATES + "Fe2+ 2\nFe3+ 3\nO2- -2\n",
            PLAIN,
        ),
    ],
)
def test_disorder_and_oxidation_states_as_pymatgen_has_them(text: str) -> None:
    assert_as_pymatgen(text)


@pytest.mark.parametrize(
    ("label", "kind", "species"),
    [
        ("Fe1", None, "Fe"), ("Fe1A", None, "Fe"), ("O1W", None, "O"), ("AL1", None, "Al"),
        ("OW1", None, "O"), ("C12", None, "C"), ("D1", None, "D"), ("X", "Fe3+", "Fe3+"),
        ("X", "Fe+3", "Fe3+"), ("X", "O2-", "O2-"), ("X", "FE", "Fe"), ("X", "Ti0+", "Ti0+"),
        ("X", "T", "T"), ("Cu1", "?", "Cu"), ("X", "'Cl1-'", "Cl-"), ("X", "Fe2.5+", "Fe2.5+"),
    ],
)  # fmt: skip
def test_what_an_atom_is(label: str, kind: str | None, species: str) -> None:
    columns = "label fract_x fract_y fract_z"
    atom = f"{label} 0 0 0"
    if kind is not None:
        columns, atom = PLAIN, f"{label} {kind} 0 0 0 1"
    assert decoded(cif("4 5 6 90 90 90", atom, "", columns)).species == (species,)


@pytest.mark.parametrize(
    ("label", "kind"),
    [("CA1", None), ("Wat1", None), ("Q1", None), ("X1", "X"), ("OH1", "OH"), ("M", "Wat"),
     ("N1", "NH4"), ("Xx", "Xx3+"), ("1", None), ("Fe1", "Fe99+")],
)  # fmt: skip
def test_what_is_no_element_is_refused(label: str, kind: str | None) -> None:
    columns = "label fract_x fract_y fract_z"
    atom = f"{label} 0 0 0"
    if kind is not None:
        columns, atom = PLAIN, f"{label} {kind} 0 0 0 1"
    with pytest.raises(CrystalError, match=r"element|may be|oxidation"):
        decoded(cif("4 5 6 90 90 90", atom, "", columns))


def test_the_formula_tells_what_a_label_means() -> None:
    stated = "_chemical_formula_sum 'Ca O'"
    text = cif("4 5 6 90 90 90", "CA1 0 0 0\nO1 .5 .5 .5", stated)
    assert decoded(text).species == ("O", "Ca")


def test_dummies_and_empty_sites_are_left_out() -> None:
    columns = f"{PLAIN} calc_flag"
    atoms = "Fe1 Fe 0 0 0 1 d\nO1 O . . . 1 dum\nO2 O .5 .5 .5 0 d\n. . . . . . ."
    assert decoded(cif("4 5 6 90 90 90", atoms, "", columns)).species == ("Fe",)


@pytest.mark.parametrize(
    ("cell", "atoms", "reason"),
    [
        ("4 5 6 90 90 90", "Fe1 Fe ? 0 0 1", "a coordinate is unknown"),
        ("4 5 6 90 90 90", "Fe1 Fe 0 0 x 1", "no number"),
        ("4 5 6 90 90 90", "Fe1 Fe 0 0 0,5 1", "no number"),
        ("4 5 6 90 90 90", "Fe1 Fe 0 0 nan 1", "no number"),
        ("4 5 6 90 90 90", "Fe1 Fe 0 0 0 ?", "occupancy is '\\?'"),
        ("4 5 6 90 90 90", "Fe1 Fe 0 0 0 -0.5", "occupancy is '-0.5'"),
        ("4 5 6 90 90 90", "Fe1 Fe 0 0 0 0.7\nNi1 Ni 0 0 0 0.7", "at one place"),
        ("4 5 6 90 90 90", "Fe1 Fe 0 0 0 1.2", "occupied 1.2 times"),
        ("4 5 6 90 90 90", "Fe1 Fe 0 0 0 1\nFe2 Fe 0 0 0 1", "at one place"),
        ("4 5 6 90 90 90", "Fe1 Fe 0 0 0 0", "empty"),
        ("0 5 6 90 90 90", "Fe1 Fe 0 0 0 1", "_cell_length_a is 0"),
        ("nan 5 6 90 90 90", "Fe1 Fe 0 0 0 1", "_cell_length_a is 'nan'"),
        ("? 5 6 90 90 90", "Fe1 Fe 0 0 0 1", "_cell_length_a is not given"),
        ("4 -5 6 90 90 90", "Fe1 Fe 0 0 0 1", "_cell_length_b is -5"),
        ("4 5 6e5 90 90 90", "Fe1 Fe 0 0 0 1", "at most 1,000"),
        ("4 5 6 90 90 180", "Fe1 Fe 0 0 0 1", "gamma is 180"),
        ("4 5 6 60 60 120", "Fe1 Fe 0 0 0 1", "no volume"),
        ("4 5 6 10 60 120", "Fe1 Fe 0 0 0 1", "no volume"),
    ],
)
def test_what_is_wrong_is_said(cell: str, atoms: str, reason: str) -> None:
    with pytest.raises(CrystalError, match=reason):
        decoded(cif(cell, atoms, "", PLAIN))


def test_too_many_atoms_are_refused() -> None:
    atoms = "\n".join(f"Fe{k} 0 0 {k / 20_000}" for k in range(10_001))
    with pytest.raises(CrystalError, match="at most 10,000"):
        decoded(cif("4 5 600 90 90 90", atoms))
    atoms = "\n".join(f"Fe{k} 0.1 {k / 300:.5f} 0.3" for k in range(300))
    with pytest.raises(CrystalError, match="10,000 sites by its symmetry"):
        decoded(cif(CUBIC.format(50), atoms, "_symmetry_space_group_name_H-M 'F m -3 m'"))


def test_cartesian_coordinates() -> None:
    structure = Structure(
        Lattice.from_parameters(4, 5, 6, 80, 95, 103),
        ["Fe", "O"],
        [[0.1, 0.2, 0.3], [0.5, 0.6, 0.7]],
    )
    to_fractional = structure.lattice.inv_matrix.T
    rows = "\n".join(
        f"_atom_sites.fract_tran_matrix[{i + 1}][{j + 1}] {to_fractional[i, j]:.10f}"
        for i in range(3)
        for j in range(3)
    )
    stated = rows.replace("[", "").replace("]", "").replace("matrix", "matrix_")
    atoms = "\n".join(
        f"{s.species_string} {s.species_string} " + " ".join(f"{x:.9f}" for x in s.coords)
        for s in structure
    )
    columns = "label type_symbol Cartn_x Cartn_y Cartn_z"
    found = decoded(cif("4 5 6 80 95 103", atoms, stated, columns))
    assert_same_sites(found, ["Fe", "O"], structure.frac_coords, within=1e-6)
    with pytest.raises(CrystalError, match="axes are not stated"):
        decoded(cif("4 5 6 80 95 103", atoms, "", columns))
    found = decoded(cif("4 5 8 90 90 90", "O O 1 2 6", "", columns))
    assert found.frac_coords.tolist() == [[0.25, 0.4, 0.75]]


def test_mmcif_spells_its_tags_with_dots() -> None:
    text = (
        cif("4 5 8 90 90 90", "O1 O 1 2 6", "", "id type_symbol Cartn_x Cartn_y Cartn_z")
        .replace("_cell_", "_cell.")
        .replace("_atom_site_", "_atom_site.")
    )
    assert decoded(text).species == ("O",)


def test_modulated_structures_are_refused() -> None:
    for stated in (
        "_cell_modulation_dimension 1",
        "loop_\n_cell_wave_vector_seq_id\n_cell_wave_vector_x\n1 0.31",
        "_space_group_ssg_name 'P m (0 0 g)'",
    ):
        with pytest.raises(CrystalError, match="modulated"):
            decoded(cif("4 5 6 90 90 90", "Fe1 0 0 0", stated))


def test_magnetic_moments_as_pymatgen_has_them() -> None:
    text = cif(
        "4 5 6 90 100 90",
        "Mn1 Mn 0 0 0 1\nO1 O 0.1 0.2 0.3 1",
        "_space_group_magn.number_BNS 2.7\n" + MAGNETIC,
        PLAIN,
    )
    found, structure = decoded(text), by_pymatgen(text)
    assert_same_sites(
        found, [s.species_string.split(",")[0] for s in structure], structure.frac_coords
    )
    for place, moment in zip(found.frac_coords, found.properties["magmom"], strict=True):
        [near] = [
            s for s in structure if s.lattice.get_distance_and_image(s.frac_coords, place)[0] < 1e-4
        ]
        theirs = near.properties["magmom"]
        assert np.allclose(getattr(theirs, "global_moment", theirs), moment, atol=1e-6)


def test_moments_without_a_magnetic_group_are_refused() -> None:
    moments = MAGNETIC[MAGNETIC.index("loop_\n_atom_site_moment") :]
    stated = "_symmetry_space_group_name_H-M 'P -1'\n" + moments
    with pytest.raises(CrystalError, match="magnetic"):
        decoded(cif("4 5 6 90 100 90", "Mn1 0 0 0", stated))
    found = decoded(cif("4 5 6 90 90 90", "Mn1 0 0 0", moments))
    assert found.properties["magmom"] == ([1.0, 2.0, 3.0],)
