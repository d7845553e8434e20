"""CIF's symmetry, against ASE's crystals of known settings and a search for the space group."""

from __future__ import annotations

import pytest
from ase.spacegroup import crystal as ase_crystal

from gandb.core.crystals import CrystalError
from tests.sources.cif_texts import (
    CUBIC,
    assert_same_sites,
    cif,
    decoded,
)


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
