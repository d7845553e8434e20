"""CIF, against pymatgen, ASE's crystals of known settings, and a search for the space group."""

from __future__ import annotations

import contextlib
import io
import math
import os
import random
import re
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.spacegroup import crystal as ase_crystal
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifParser, CifWriter

from gandb.core.crystals import Crystal, CrystalError
from gandb.core.errors import InputError, MissingExtraError
from gandb.core.species import parse_species
from gandb.sources import cif_blocks
from gandb.sources.archives import members
from gandb.sources.base import Reject
from gandb.sources.cif import CIF, decode_cif
from gandb.sources.records import Encoded, Member, Record

SHARED = Path(
    os.environ.get("GANDB_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
).resolve()
ZIPS = (
    "structures/mp-cifs.zip", "structures/oqmd-cifs.zip", "structures/aflow-cifs.zip",
    "structures/alexandria-cifs.zip", "generated/ftcp-cifs.zip", "generated/mattergen-cifs.zip",
    "validity/seed_42.zip", "validity/seed_123.zip",
    "native/aflow/rest-entry/AlCu_pvMn_pv.T0001.A2BC.cif",
)  # fmt: skip
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the real structures are not here")

CUBIC = "{0} {0} {0} 90 90 90"
CELL_TAGS = [f"_cell_length_{x}" for x in "abc"] + [
    f"_cell_angle_{x}" for x in ("alpha", "beta", "gamma")
]


def cif(
    cell: str,
    atoms: str,
    stated: str = "",
    columns: str = "label fract_x fract_y fract_z",
    name: str = "test",
) -> str:
    """Write a CIF: cell parameters, other items, and one loop of atoms."""
    lines = [f"data_{name}"]
    lines += [f"{tag} {value}" for tag, value in zip(CELL_TAGS, cell.split(), strict=True)]
    lines += [stated, "loop_", *(f"_atom_site_{column}" for column in columns.split()), atoms]
    return "\n".join(lines) + "\n"


def decoded(text: str) -> Crystal:
    return decode_cif(text).crystal()


def records(text: str | bytes, name: str = "dir/x.cif") -> list[Record | Reject]:
    data = text.encode() if isinstance(text, str) else text
    return list(CIF.read(Member(name, len(data), lambda: io.BytesIO(data))))


def by_pymatgen(text: str) -> Structure:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser = CifParser.from_str(text, frac_tolerance=0)
        [structure] = parser.parse_structures(primitive=False)
    return structure


def shares(text: str) -> dict[str, float]:
    """What sits on a site, as pymatgen's dictionary says it."""
    return {str(o): round(o.occupancy, 6) for o in parse_species(text)}


def assert_same_sites(
    found: Crystal, species: list[Any], coords: np.ndarray, *, within: float = 2e-5
) -> None:
    """Hold sites against others in any order; ``within`` is in Å."""
    assert len(found) == len(species)
    apart = found.frac_coords[:, None] - coords[None]
    apart -= np.rint(apart)
    distances = np.linalg.norm(apart @ found.lattice, axis=2)
    nearest = distances.argmin(axis=1)
    assert sorted(nearest) == list(range(len(species)))
    assert distances.min(axis=1).max() < within
    for mine, other in enumerate(nearest):
        if isinstance(species[other], str):
            assert found.species[mine] == species[other]
        else:
            theirs = {str(s): round(n, 6) for s, n in species[other].items()}
            assert shares(found.species[mine]) == theirs


def assert_as_pymatgen(text: str, *, within: float = 2e-5) -> None:
    found, structure = decoded(text), by_pymatgen(text)
    assert np.abs(found.lengths - structure.lattice.abc).max() < 1e-6
    assert np.abs(found.angles - structure.lattice.angles).max() < 1e-6
    assert math.isclose(found.volume, structure.volume, rel_tol=1e-7)
    species = [site.species.as_dict() for site in structure]
    assert_same_sites(found, species, structure.frac_coords, within=within)


# --- real files ---------------------------------------------------------------------------


def real_members(every: int) -> Iterator[tuple[int, Member]]:
    number = 0
    for path in ZIPS:
        for found in members([SHARED / path]):
            assert isinstance(found, Member), found
            if not found.name.endswith(".cif"):
                continue
            number += 1
            if number % every == 0:
                yield number, found


def check_real(every: int) -> int:
    number = 0
    for number, member in real_members(every):  # noqa: B007
        [record] = CIF.read(member)
        assert isinstance(record, Record)
        assert isinstance(record.structure, Encoded)
        assert member.name.endswith(f"{record.external_id}.cif")
        if member.name.endswith("MgMn(Fe3O4)2_symmetrized.cif"):
            # Its atoms lie 0.02 Å from their images; pymatgen keeps both of each.
            with pytest.raises(CrystalError, match="do not have the stated formula"):
                decoded(record.structure.text)
            continue
        assert_as_pymatgen(record.structure.text, within=1e-4)
    return number


@real
def test_real_files_agree_with_pymatgen() -> None:
    check_real(12)


@real
@pytest.mark.slow
def test_all_real_files_agree_with_pymatgen() -> None:
    assert check_real(1) == 7_815


# --- symmetry -----------------------------------------------------------------------------


def assert_as_ase(
    text: str, number: int, setting: int, basis: dict[str, tuple[float, ...]]
) -> None:
    """Hold a structure against ASE's, which knows the operations of the settings of its own."""
    found = decoded(text)
    cell = [*found.lengths, *found.angles]
    made = ase_crystal(
        list(basis), list(basis.values()), spacegroup=number, setting=setting, cellpar=cell
    )
    assert_same_sites(found, made.get_chemical_symbols(), made.get_scaled_positions(), within=0.01)


SPINEL = "Mg1 0.125 0.125 0.125\nAl1 0.5 0.5 0.5\nO1 0.2624 0.2624 0.2624"
SPINEL_1 = "Mg1 0 0 0\nAl1 0.625 0.625 0.625\nO1 0.3874 0.3874 0.3874"


@pytest.mark.parametrize(
    ("stated", "atoms", "setting"),
    [
        ("_symmetry_space_group_name_H-M 'F d -3 m :2'", SPINEL, 2),
        ("_symmetry_space_group_name_H-M 'F d -3 m Z'", SPINEL, 2),
        ("_space_group_name_H-M_alt 'F d -3 m O2'", SPINEL, 2),
        ("_symmetry_space_group_name_H-M 'F d -3 m S'", SPINEL_1, 1),
        ("_symmetry_space_group_name_H-M 'F d -3 m :1'", SPINEL_1, 1),
        ("_symmetry_space_group_name_Hall '-F 4vw 2vw 3'", SPINEL, 2),
        ("_space_group_name_Hall 'F 4d 2 3 -1d'", SPINEL_1, 1),
        # Nothing says which origin is meant but the formula.
        (
            "_symmetry_space_group_name_H-M 'F d -3 m'\n_chemical_formula_sum 'Al2 Mg O4'\n"
            "_cell_formula_units_Z 8",
            SPINEL,
            2,
        ),
        ("_space_group_IT_number 227\n_chemical_formula_sum 'Al2 Mg O4'", SPINEL_1, 1),
    ],
)
def test_both_origins_of_a_spinel(stated: str, atoms: str, setting: int) -> None:
    places = [tuple(map(float, line.split()[1:])) for line in atoms.splitlines()]
    basis = dict(zip(("Mg", "Al", "O"), places, strict=True))
    assert_as_ase(cif(CUBIC.format("8.08(2)"), atoms, stated), 227, setting, basis)


def test_an_origin_that_nothing_tells_is_refused() -> None:
    text = cif(CUBIC.format(5.43), "Si1 0.1 0.1 0.1", "_symmetry_space_group_name_H-M 'F d -3 m'")
    with pytest.raises(CrystalError, match=r"F d -3 m:1 or F d -3 m:2.*give the operations"):
        decoded(text)


HEXAGONAL = ("4.759 4.759 12.991 90 90 120", "Al1 0 0 0.3522\nO1 0.3063 0 0.25")
RHOMBOHEDRAL = (
    "5.128 5.128 5.128 55.287 55.287 55.287",
    "Al1 0.3522 0.3522 0.3522\nO1 0.5563 0.9437 0.25",
)


@pytest.mark.parametrize("setting", [1, 2])
@pytest.mark.parametrize("named", ["R -3 c", "R -3 c {}", "R -3 c :{}", "R-3c:{}", "167"])
def test_both_axes_of_corundum(setting: int, named: str) -> None:
    cell, atoms = HEXAGONAL if setting == 1 else RHOMBOHEDRAL
    named = named.format("H" if setting == 1 else "R")
    tag = "_symmetry_Int_Tables_number" if named.isdigit() else "_symmetry_space_group_name_H-M"
    stated = f"{tag} '{named}'\n_chemical_formula_sum 'Al2 O3'"
    places = [tuple(map(float, line.split()[1:])) for line in atoms.splitlines()]
    basis = dict(zip(("Al", "O"), places, strict=True))
    assert_as_ase(cif(cell, atoms, stated), 167, setting, basis)


def test_symmetry_that_cannot_be_read_is_not_taken_for_none() -> None:
    for stated, reason in (
        ("_symmetry_space_group_name_Hall 'Q 9'", "Hall symbol 'Q 9'"),
        ("_symmetry_space_group_name_H-M 'Q 9'", "space group 'Q 9' is not known"),
        ("_space_group_IT_number 231", "number '231' is not"),
        ("_space_group_IT_number x", "number 'x' is not"),
    ):
        with pytest.raises(CrystalError, match=reason):
            decoded(cif(CUBIC.format(5), "Fe1 0 0 0", stated))
    long = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "x+" * 10_000 + ",y,z"
    with pytest.raises(CrystalError) as caught:
        decoded(cif(CUBIC.format(5), "Fe1 0 0 0", long))
    assert len(str(caught.value)) < 400


def test_operations_of_another_setting_are_refused() -> None:
    for cell, setting in ((HEXAGONAL[0], "R"), (RHOMBOHEDRAL[0], "H")):
        stated = f"_symmetry_space_group_name_H-M 'R -3 c :{setting}'"
        with pytest.raises(CrystalError, match="do not fit its cell"):
            decoded(cif(cell, HEXAGONAL[1], stated))


@pytest.mark.parametrize("digits", [2, 3, 4, 5, 9])
def test_rounded_special_positions_are_joined(digits: int) -> None:
    third, other = f"{1 / 3:.{digits}f}", f"{2 / 3:.{digits}f}"
    atoms = f"Zn1 {third} {other} 0\nO1 {third} {other} 0.3819"
    text = cif("3.25 3.25 5.207 90 90 120", atoms, "_symmetry_space_group_name_H-M 'P 63 m c'")
    found = decoded(text)
    made = ase_crystal(
        ["Zn", "O"],
        [(1 / 3, 2 / 3, 0), (1 / 3, 2 / 3, 0.3819)],
        spacegroup=186,
        cellpar=[3.25, 3.25, 5.207, 90, 90, 120],
    )
    assert_same_sites(found, made.get_chemical_symbols(), made.get_scaled_positions(), within=1e-7)


def test_atoms_beside_a_mirror_stay_two() -> None:
    stated = "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\nx,y,-z"
    columns = "label fract_x fract_y fract_z occupancy"
    found = decoded(cif("5 5 5 90 90 90", "O1 0 0 0.02 0.5\nFe1 .5 .5 .5 1", stated, columns))
    assert found.species == ("O:0.5", "O:0.5", "Fe")


def test_operations_that_are_no_group_are_refused() -> None:
    for operations, reason in (
        ("x,y,z\n-y,x,z", "no group"),
        ("x,y,z\nx,x,z", "no rotation"),
        ("x,y,z\nx+q,y,z", "cannot be read"),
        ("x,y,z\nx,y", "cannot be read"),
        ("x,y,z\n" + "\n".join(f"x,y,z+{k}/2000" for k in range(1_001)), "more than 400"),
    ):
        stated = f"loop_\n_symmetry_equiv_pos_as_xyz\n{operations}"
        with pytest.raises(CrystalError, match=reason):
            decoded(cif(CUBIC.format(5), "Fe1 0.1 0.2 0.3", stated))


def test_one_operation_beside_a_larger_group_is_decided_by_the_formula() -> None:
    """Language models write the symbol of the group with the identity alone."""
    stated = (
        "_symmetry_space_group_name_H-M 'F m -3 m'\nloop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n"
    )
    atoms = "Na1 0 0 0\nCl1 0.5 0.5 0.5"
    few = cif(
        CUBIC.format(5.64),
        atoms,
        stated + "_chemical_formula_sum 'Na4 Cl4'\n_cell_formula_units_Z 4",
    )
    assert decoded(few).amounts == {"Na": 4.0, "Cl": 4.0}
    whole = cif(
        "5 5 7 90 90 90",
        atoms,
        stated.replace("F m -3 m", "P 4/m m m") + "_chemical_formula_sum 'Na Cl'",
    )
    assert decoded(whole).amounts == {"Na": 1.0, "Cl": 1.0}
    with pytest.raises(CrystalError, match="its symmetry may be"):
        decoded(cif(CUBIC.format(5.64), atoms, stated))


def test_every_group_of_the_tables_gives_its_own_number_back() -> None:
    import gemmi
    from moyopy import Cell, MoyoDataset

    for number in range(1, 231, 3):
        group = gemmi.find_spacegroup_by_number(number)
        system = group.crystal_system_str()
        cell = {
            "triclinic": "5.1 6.2 7.3 81 97 104",
            "monoclinic": "5.1 6.2 7.3 90 97 90",
            "orthorhombic": "5.1 6.2 7.3 90 90 90",
            "tetragonal": "5.1 5.1 7.3 90 90 90",
            "trigonal": "5.1 5.1 7.3 90 90 120",
            "hexagonal": "5.1 5.1 7.3 90 90 120",
            "cubic": "9.1 9.1 9.1 90 90 90",
        }[system]
        atoms = "Fe1 .137 .331 .219\nO1 .411 .076 .288\nS1 .263 .187 .431"
        found = decoded(cif(cell, atoms, f"_symmetry_space_group_name_H-M '{group.xhm()}'"))
        assert len(found) == 3 * len(group.operations())
        numbers = [26 if s == "Fe" else 8 if s == "O" else 16 for s in found.species]
        data = MoyoDataset(Cell(found.lattice.tolist(), found.frac_coords.tolist(), numbers))
        assert data.number == number


# --- atoms --------------------------------------------------------------------------------

PLAIN = "label type_symbol fract_x fract_y fract_z occupancy"
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


MAGNETIC = """loop_
_space_group_symop_magn_operation.id
_space_group_symop_magn_operation.xyz
1 x,y,z,+1
2 -x,-y,-z,+1
loop_
_space_group_symop_magn_centering.id
_space_group_symop_magn_centering.xyz
1 x,y,z,+1
2 x+1/2,y+1/2,z,-1
loop_
_atom_site_moment.label
_atom_site_moment.crystalaxis_x
_atom_site_moment.crystalaxis_y
_atom_site_moment.crystalaxis_z
Mn1 1.0(1) 2.0 3.0
"""


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


# --- the text -----------------------------------------------------------------------------

FE = cif("4 5 6 90 90 90", "Fe1 Fe 0 0 0 1", "", PLAIN, name="one")
NI = cif("5 5 6 90 90 90", "Ni1 Ni 0 0 0 1", "", PLAIN, name="two")


def test_the_text_of_aflow_is_mended() -> None:
    text = FE.replace(
        "data_one",
        "data_AlCu_pvMn_pv/T0001.A2BC - (T0001.A2BC) -\n"
        "_pd_phase_name AlCu_pvMn_pv/T0001.A2BC - (T0001.A2BC) -",
    )
    [record] = records(text)
    assert isinstance(record, Record)
    assert record.extra["chemical_name"] == "AlCu_pvMn_pv/T0001.A2BC - (T0001.A2BC) -"
    assert decoded(text).species == ("Fe",)


def test_blocks_are_records() -> None:
    found = records(FE + NI)
    assert [r.external_id for r in found if isinstance(r, Record)] == ["x#one", "x#two"]
    assert [r.line for r in found] == [1, FE.count("\n") + 1]
    species = [
        decoded(r.structure.text).species
        for r in found
        if isinstance(r, Record) and isinstance(r.structure, Encoded)
    ]
    assert species == [("Fe",), ("Ni",)]
    [alone] = records(FE)
    assert isinstance(alone, Record)
    assert alone.external_id == "x"
    with pytest.raises(InputError, match="2 structures"):
        decode_cif(FE + NI)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_text_fields_do_not_split_blocks(ends: str) -> None:
    told = "_publ_section_comment\n;\ndata_three\nloop_\n_atom_site_label\n;\n"
    text = "# a comment\n\n" + FE + told + NI + "_publ_section_comment\n; x ;\ndata_four\n;\n"
    found = records(("\ufeff" + text).replace("\n", ends))
    assert [r.external_id for r in found if isinstance(r, Record)] == ["x#one", "x#two"]


def test_one_bad_block_costs_one_record() -> None:
    bad = FE.replace("data_one", "data_bad")
    for broken in (
        bad + "_publ_section_comment\n;\nnever closed\n",
        bad.replace("0 0 0 1", "0 0 0"),
        bad + "_x 'unclosed\n",
        bad + "_cell_length_a 7\n",
        bad.replace("Fe1", "Fe\udce9"),
    ):
        text = FE + broken + NI + NI.replace("two", "three")
        found = records(text.encode(errors="surrogateescape"))
        kinds = [type(r) for r in found]
        assert kinds == [Record, Reject, Record, Record], broken
        bad_one = found[1]
        assert isinstance(bad_one, Reject)
        lines = text.split("\n")
        start = lines.index("data_bad") + 1
        assert start <= bad_one.line <= start + broken.count("\n") + 1
        assert bad_one.reason


def test_large_blocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cif_blocks, "MAX_BLOCK_BYTES", 10_000)
    huge = FE.replace("data_one", "data_huge") + "# padding\n" * 5_000
    found = records(FE + huge + NI)
    assert [type(r) for r in found] == [Record, Reject, Record]
    assert isinstance(found[1], Reject)
    assert "more than 10,000 bytes" in found[1].reason
    unclosed = FE.replace("data_one", "data_bad") + "_x\n;\n"
    text = unclosed + "".join(NI.replace("two", f"k{k}") for k in range(300))
    found = records(text)
    assert [type(r) for r in found] == [Reject] + [Record] * 300


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no block"),
        (b"# nothing\n", "no block"),
        (b"data_x\n_a 1\n", "no block"),
        (b"hello\n", "does not begin with data_"),
        (FE.encode("utf-16"), "UTF-16"),
        (FE.encode() + b"_x '\xe9'\n", "not UTF-8"),
        (b"data_x\n" + bytes(1_000), "binary"),
        (FE.partition("loop_")[0].encode(), "no atom sites"),
        (b"x\n" * 1_000_000, "does not begin"),
        (b"data_x\n" + b"_a 1\n" * 3, "no block"),
    ],
)
def test_what_is_no_cif_is_one_reject(data: bytes, reason: str) -> None:
    [found] = records(data)
    assert isinstance(found, Reject)
    assert re.search(reason, found.reason)
    assert len(found.raw) <= 1_000


def test_a_text_that_is_cut_off_is_told_by_its_formula() -> None:
    structure = Structure.from_spacegroup(
        "Pnma", Lattice.orthorhombic(5, 7, 6), ["Ca", "Ti", "O"],
        [[0.03, 0.25, 0.99], [0, 0, 0.5], [0.48, 0.25, 0.07]],
    )  # fmt: skip
    text = str(CifWriter(structure))
    assert len(decoded(text)) == 12
    for lines in range(1, 10):
        cut = "\n".join(text.rstrip().split("\n")[:-lines]) + "\n"
        with pytest.raises(CrystalError, match="cut off"):
            decoded(cut)
    assert len(decoded(cut + "#END\n")) == 3  # a file that says that it ends there


# --- ids and literature -------------------------------------------------------------------

ICSD = (
    "#(C) 2023 by FIZ Karlsruhe\n"
    + cif(
        "8.0806(2) 8.0806(2) 8.0806(2) 90. 90. 90.",
        "Mg1 Mg2+ 8 a 0.125 0.125 0.125 . 1. 0\n"
        "Al1 Al3+ 16 d 0.5 0.5 0.5 . 1. 0\nO1 O2- 32 e 0.2624(3) 0.2624(3) 0.2624(3) . 1. 0",
        """_database_code_ICSD 31373
_audit_creation_date 1984-06-06
_chemical_name_common 'Magnesium dialuminium oxide'
_chemical_formula_structural 'Mg (Al2 O4)'
_chemical_formula_sum 'Al2 Mg1 O4'
_chemical_name_structure_type Spinel-Al2MgO4
_chemical_name_mineral Spinel
_cell_volume 527.6
_cell_formula_units_Z 8
_cell_measurement_temperature 298(2)
_diffrn_ambient_pressure 101
_refine_ls_R_factor_all 0.021
_symmetry_space_group_name_H-M 'F d -3 m Z'
_space_group_IT_number 227
loop_
_citation_id
_citation_journal_full
_citation_year
_citation_journal_volume
_citation_page_first
_citation_page_last
_citation_journal_id_ASTM
primary 'Zeitschrift fuer Kristallographie' 1937 96 440 445 ZEKRDZ
2 'Acta Crystallographica' 1950 3 9 ? ACCRA9
loop_
_citation_author_citation_id
_citation_author_name
primary 'Hauptmann, H.'
primary 'Novak, J.'
2 'Else, S.'
loop_
_atom_type_symbol
_atom_type_oxidation_number
Mg2+ 2
Al3+ 3
O2- -2""",
        "label type_symbol symmetry_multiplicity Wyckoff_symbol fract_x fract_y fract_z "
        "B_iso_or_equiv occupancy attached_hydrogens",
        name="31373-ICSD",
    )
    + "#End of TTdata_31373-ICSD\n"
)


def test_an_export_of_icsd() -> None:
    [named] = records(ICSD.replace("_database_code_ICSD 31373", ""))
    assert isinstance(named, Record)
    assert named.aliases == (("icsd", "31373"),)  # by the block's name
    [record] = records(ICSD, "EntryWithCollCode31373.cif")
    assert isinstance(record, Record)
    assert record.external_id == "31373"
    assert record.aliases == (("icsd", "31373"),)
    assert record.line == 2
    extra = dict(record.extra)
    assert extra["references"] == [
        {
            "authors": ["Hauptmann, H.", "Novak, J."], "volume": "96", "page": "440",
            "journal": "Zeitschrift fuer Kristallographie", "year": 1937,
        },
        {"authors": ["Else, S."], "journal": "Acta Crystallographica", "year": 1950,
         "volume": "3", "page": "9"},
    ]  # fmt: skip
    assert extra["stated_formula"] == "Al2 Mg1 O4"
    assert (extra["stated_space_group"], extra["stated_space_group_number"]) == ("F d -3 m Z", 227)
    assert (extra["temperature_k"], extra["pressure_kpa"], extra["r_factor"]) == (298, 101, 0.021)
    assert extra["structure_type"] == "Spinel-Al2MgO4"
    found = decoded(ICSD)
    assert found.amounts == {"Mg": 8.0, "Al": 16.0, "O": 32.0}
    assert set(found.species) == {"Mg2+", "Al3+", "O2-"}


def test_an_entry_of_cod() -> None:
    text = cif(
        "4.9134(2) 4.9134(2) 5.4052(3) 90 90 120",
        "Si 0.46970(10) 0.00000 0.00000\nO 0.41350(20) 0.26690(20) 0.11910(10)",
        """loop_
_publ_author_name
'M\\"uller, A.'
'Curie, M.'
_publ_section_title
;
 The structure of
 quartz; data_ and all
;
_journal_name_full               'American Mineralogist'
_journal_page_first              920
_journal_paper_doi               10.2138/am.1980.1
_journal_volume                  65
_journal_year                    1980
_chemical_formula_sum            'O2 Si'
_space_group_IT_number           152
_symmetry_space_group_name_Hall  'P 31 2"'
_symmetry_space_group_name_H-M   'P 31 2 1'
_database_code_amcsd             AMCSD:0000789
_cod_database_code               9000775
loop_
_space_group_symop_operation_xyz
x,y,z
y,x,2/3-z
-y,x-y,1/3+z
-x,-x+y,1/3-z
-x+y,-x,2/3+z
x-y,-y,-z""",
        name="9000775",
    )
    [record] = records(text, "cod/9000775.cif")
    assert isinstance(record, Record)
    assert record.external_id == "9000775"
    assert record.aliases == (("cod", "9000775"), ("amcsd", "0000789"))
    assert record.extra["references"] == [
        {
            "authors": ['M\\"uller, A.', "Curie, M."], "journal": "American Mineralogist",
            "year": 1980, "volume": "65", "page": "920", "doi": "10.2138/am.1980.1",
        }
    ]  # fmt: skip
    with pytest.raises(CrystalError, match=r"no group|do not fit"):
        decoded(text)  # as printed here, its operations contradict each other
    right = text.replace("y,x,2/3-z", "y,x,1/3-z").replace("-x,-x+y,1/3-z", "-x,-x+y,2/3-z")
    assert_as_pymatgen(right, within=1e-4)


def test_a_deposition_of_csd_with_its_header_block() -> None:
    header = """data_global
_journal_name_full 'Inorg. Chem.'
_journal_year 2011
loop_
_publ_author_name
'A. Author'
"""
    text = header + FE + "_database_code_depnum_ccdc_archive 'CCDC 812345'\n" + NI
    found = records(text)
    assert all(isinstance(r, Record) for r in found)
    first, second = [r for r in found if isinstance(r, Record)]
    assert (first.external_id, first.aliases) == ("812345", (("ccdc", "812345"),))
    assert second.external_id == "x#two"
    expected = [{"authors": ["A. Author"], "journal": "Inorg. Chem.", "year": 2011}]
    assert first.extra["references"] == second.extra["references"] == expected


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gemmi", None)
    with pytest.raises(MissingExtraError, match="structures"):
        decode_cif(FE)
    with pytest.raises(MissingExtraError, match="structures"):
        records(FE)


def test_which_files_are_taken_for_cif() -> None:
    assert CIF.fits("a/b.cif", b"")
    assert CIF.fits("a/b.mcif", b"")
    assert CIF.fits("entry", FE.encode())
    assert not CIF.fits("b.json", FE.encode())
    assert not CIF.fits("notes.txt", b"data_ is a word\n")


# --- round trips and broken texts ---------------------------------------------------------

lengths = st.floats(3, 30)
angles = st.floats(70, 110)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(lengths, lengths, lengths, angles, angles, angles),
    st.lists(
        st.tuples(st.sampled_from(["Fe", "O", "Na", "Cl"]), *[st.integers(0, 19)] * 3),
        min_size=1, max_size=8, unique_by=lambda a: a[1:],
    ),
)  # fmt: skip
def test_what_pymatgen_writes(
    cell: tuple[float, ...], atoms: list[tuple[str, int, int, int]]
) -> None:
    coords = [[x / 20 for x in atom[1:]] for atom in atoms]
    structure = Structure(Lattice.from_parameters(*cell), [atom[0] for atom in atoms], coords)
    text = str(CifWriter(structure, significant_figures=12))
    assert_same_sites(decoded(text), [atom[0] for atom in atoms], np.array(coords), within=1e-6)


def test_mutations_never_crash() -> None:
    rng = random.Random(5)
    magnetic = cif("4 5 6 90 90 90", "Mn1 Mn 0 0 0 1\nO1 O .1 .2 .3 1", MAGNETIC, PLAIN)
    sources = [ICSD, FE + NI, magnetic]
    tokens = ["data_", "loop_", ";", "'", '"', "?", ".", "nan", "1e999", "-1", "\n;\n",
              "_cell_length_a 0", "save_", "\x00", "é", "99999999999", "_",
              "#", "\n", "x,y,-z", "global_"]  # fmt: skip
    outcomes = {Record: 0, Reject: 0}
    for number in range(500):
        text = sources[number % len(sources)]
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(text) + 1)
            kind = rng.randrange(4)
            if kind == 0:
                text = text[:at] + rng.choice(tokens) + text[at:]
            elif kind == 1:
                text = text[:at] + text[at + rng.randint(1, 60) :]
            elif kind == 2:
                text = text[:at]
            else:
                other = rng.randrange(len(text) + 1)
                text = text[:at] + text[min(at, other) : max(at, other)][:200] + text[at:]
        found = records(text)
        assert found
        for one in found:
            outcomes[type(one)] += 1
            if isinstance(one, Record):
                assert isinstance(one.structure, Encoded)
                with contextlib.suppress(InputError):
                    decode_cif(one.structure.text).crystal()
    assert min(outcomes.values()) > 50


def test_a_file_that_may_be_cut_within_its_atoms_is_refused() -> None:
    """Without a formula, a row that is the last of a file needs its line break."""
    lines = [f"_cell_length_{x} 4" for x in "abc"]
    lines += [f"_cell_angle_{x} 90" for x in ("alpha", "beta", "gamma")]
    tags = "label fract_x fract_y fract_z type_symbol".split()
    lines += ["loop_", *(f"_atom_site_{tag}" for tag in tags), "Si1 0 0 0 Si", "Si2 .5 .5 .5 Si"]
    text = "\n".join(["data_a", *lines])
    whole = [text + end for end in ("\n", "\r\n", "\n#END", "\n\n")]
    for each in whole:
        data = each.encode()
        (found,) = CIF.read(Member("a.cif", len(data), partial(io.BytesIO, data)))
        assert isinstance(found, Record), found
    for cut in (text, text[:-1], text[:-2], text[:-16], text[:-17], "data_a\n"):
        data = cut.encode()
        (refused,) = CIF.read(Member("a.cif", len(data), partial(io.BytesIO, data)))
        assert isinstance(refused, Reject), cut
