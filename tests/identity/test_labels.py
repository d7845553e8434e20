"""Symmetry labels: against known crystals, every space group, and what must not change them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.core.crystals import Crystal, crystal, lattice_matrix
from gandb.core.errors import InputError
from gandb.core.species import SpeciesError
from gandb.identity.labels import prototype_label, symmetry_label
from gandb.validation.symmetry import SymmetryError, find_symmetry
from tests.crystals import crystals
from tests.shared_data import SHARED, real
from tests.variants import SAME, VARIANTS, Cell, variants

moyopy = pytest.importorskip("moyopy")

CUBIC = (90.0, 90.0, 90.0)
FACES = np.array([(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)])
MIRRORED = sorted(SAME | {"enantiomorph, moved"})
ENANTIOMORPHS = [
    (76, 78), (91, 95), (92, 96), (144, 145), (151, 153), (152, 154),
    (169, 170), (171, 172), (178, 179), (180, 181), (212, 213),
]  # fmt: skip


def labels(record: Crystal) -> tuple[str, str]:
    found = find_symmetry(record)
    parts = found.space_group_number, record.species, found.site_symmetries
    return symmetry_label(*parts), prototype_label(*parts)


def rock_salt(cation: str, anion: str) -> Crystal:
    coords = np.concatenate([FACES, FACES + 0.5])
    return crystal((5.0,) * 3, CUBIC, [cation] * 4 + [anion] * 4, coords)


# --- known crystals ------------------------------------------------------------------------


def test_rock_salt_by_its_elements_and_as_a_prototype() -> None:
    assert labels(rock_salt("Na", "Cl"))[0] == "225 Cl:1(m-3m) Na:1(m-3m)"
    assert labels(rock_salt("Mg", "O"))[0] == "225 Mg:1(m-3m) O:1(m-3m)"
    for pair in (("Na", "Cl"), ("Mg", "O"), ("Mg2+", "O2-")):
        assert labels(rock_salt(*pair))[1] == "225 A:1(m-3m) B:1(m-3m)"


def test_caesium_chloride_is_another_prototype() -> None:
    record = crystal((4.12,) * 3, CUBIC, ["Cs", "Cl"], [(0, 0, 0), (0.5, 0.5, 0.5)])
    assert labels(record) == ("221 Cl:1(m-3m) Cs:1(m-3m)", "221 A:1(m-3m) B:1(m-3m)")


def test_perovskites_and_antiperovskites_share_a_prototype() -> None:
    coords = [(0.5, 0.5, 0.5), (0, 0, 0), (0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5)]
    found = labels(crystal((3.9,) * 3, CUBIC, ["Sr", "Ti", "O", "O", "O"], coords))
    assert found[0] == "221 O:3(4/mm.m) Sr:1(m-3m) Ti:1(m-3m)"
    assert found[1] == "221 A:1(m-3m) B:1(m-3m) C:3(4/mm.m)"
    assert labels(crystal((3.9,) * 3, CUBIC, ["N", "C", "Mn", "Mn", "Mn"], coords))[1] == found[1]


def test_oxidation_states_and_isotopes_are_left_out() -> None:
    plain = symmetry_label(62, ["Fe", "Fe", "O", "H"], [".m."] * 4)
    assert plain == "62 Fe:2(m) H:1(m) O:1(m)"
    assert symmetry_label(62, ["Fe2+", "Fe3+", "O2-", "D"], [".m."] * 4) == plain


def test_disordered_sites_name_amounts() -> None:
    species = ["Fe2+:0.25 Fe3+:0.25 Ni2+:0.5", "Li+:0.75", "O2-", "O2-"]
    found = symmetry_label(225, species, ["m-3m", "m-3m", "-43m", "-43m"])
    assert found == "225 Fe0.5Ni0.5:1(m-3m) Li0.75:1(m-3m) O:2(-43m)"
    found = prototype_label(225, species, ["m-3m", "m-3m", "-43m", "-43m"])
    assert found == (
        "225 A0.5+0.5:1(m-3m) B0.5+0.5:1(m-3m) C0.75:1(m-3m) D:2(-43m)"
    )  # fmt: skip


def test_letters_go_on_beyond_z() -> None:
    symbols = "H Li Be B C N O F Na Mg Al Si P S Cl K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga".split()
    found = prototype_label(1, symbols, ["1"] * len(symbols))
    assert found.endswith(" Z:1(1) Aa:1(1) Ab:1(1)")


@pytest.mark.parametrize(("lower", "higher"), ENANTIOMORPHS)
def test_enantiomorphic_groups_go_by_the_lower_number(lower: int, higher: int) -> None:
    assert symmetry_label(higher, ["C"], ["1"]) == symmetry_label(lower, ["C"], ["1"])
    assert symmetry_label(lower, ["C"], ["1"]) == f"{lower} C:1(1)"


def test_no_other_groups_share_a_number() -> None:
    groups = {symmetry_label(number, ["C"], ["1"]) for number in range(1, 231)}
    assert len(groups) == 230 - len(ENANTIOMORPHS)


@pytest.mark.parametrize(
    ("number", "alike"),
    [
        (47, ["2mm", "m2m", "mm2"]),
        (51, [".2/m.", "2/m..", "..2/m"]),
        (16, ["2..", ".2.", "..2"]),
        (48, ["-1"]),
        (25, ["m..", ".m."]),
    ],
)
def test_orthorhombic_axes_are_alike(number: int, alike: list[str]) -> None:
    assert len({symmetry_label(number, ["C"], [symbol]) for symbol in alike}) == 1


def test_places_in_tetragonal_and_hexagonal_symbols_are_not() -> None:
    for number, first, second in ((123, ".m.", "..m"), (191, ".m.", "..m"), (177, ".2.", "..2")):
        assert symmetry_label(number, ["C"], [first]) != symmetry_label(number, ["C"], [second])


# --- invariance ----------------------------------------------------------------------------


@given(
    sites=st.lists(
        st.tuples(
            st.sampled_from(["Na", "Cl", "O", "Fe:0.5 Ni:0.5", "Li:0.25 Na:0.75", "Cl:0.5"]),
            st.sampled_from(["m-3m", "-43m", ".3m", "..m", "1"]),
        ),
        min_size=1,
        max_size=12,
    ),
    seed=st.integers(0, 2**32 - 1),
    cells=st.integers(1, 4),
    names=st.permutations(["Na", "Cl", "O", "Fe", "Ni", "Li"]),
)
def test_order_multiples_and_names(
    sites: list[tuple[str, str]], seed: int, cells: int, names: list[str]
) -> None:
    species, symbols = [s for s, _ in sites], [s for _, s in sites]
    order = np.random.default_rng(seed).permutation(len(sites) * cells)
    other = [(species * cells)[i] for i in order], [(symbols * cells)[i] for i in order]
    assert symmetry_label(216, *other) == symmetry_label(216, species, symbols)
    assert prototype_label(216, *other) == prototype_label(216, species, symbols)
    new = dict(zip(("Na", "Cl", "O", "Fe", "Ni", "Li"), names, strict=True))
    renamed = [re.sub("[A-Z][a-z]?", lambda found: new[found[0]], text) for text in other[0]]
    assert prototype_label(216, renamed, other[1]) == prototype_label(216, species, symbols)


@settings(max_examples=25)
@given(record=crystals(properties=False, max_sites=6), seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("name", MIRRORED)
def test_random_crystals_written_otherwise(name: str, record: Crystal, seed: int) -> None:
    other = VARIANTS[name](Cell.of(record), np.random.default_rng(seed)).crystal()
    try:
        near = {find_symmetry(record, symprec).space_group_number for symprec in (2e-3, 0.01, 0.05)}
        expected, found = find_symmetry(record), find_symmetry(other)
    except SymmetryError:
        return  # no group within the tolerance, or a cell too flat for it
    if len(near) == 1 and found.symprec == expected.symprec:  # no near-symmetry that is a toss-up
        assert labels(other) == labels(record)


@real
def test_real_crystals_written_otherwise() -> None:
    pytest.importorskip("gemmi")
    from gandb.sources.cif import decode_cif
    from gandb.sources.reading import read_files
    from gandb.sources.records import Encoded, Record

    rng = np.random.default_rng(4)
    folder = SHARED / "structures"
    compared = 0
    for source in ("mp", "oqmd", "aflow", "alexandria"):
        records = [r for r in read_files([folder / f"{source}-cifs.zip"]) if isinstance(r, Record)]
        for read in records[::25]:
            assert isinstance(read.structure, Encoded)
            record = decode_cif(read.structure.text).crystal()
            expected = labels(record)
            for name, cell in variants(record, rng, MIRRORED):
                assert labels(cell.crystal()) == expected, (read.external_id, name)
                compared += 1
    assert compared > 1_000


# --- every space group ---------------------------------------------------------------------


@cache
def operations(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (m, 3, 3) and translations (m, 3) of a group in its standard setting."""
    found = moyopy.operations_from_number(number, setting=moyopy.Setting.spglib())
    return np.array(found.rotations), np.array(found.translations)


def lattice_of(number: int) -> np.ndarray:
    lengths, angles = np.array([10.6, 12.2, 15.4]), np.array([90.0, 90.0, 90.0])
    if number <= 2:
        angles = np.array([78.0, 83.0, 97.0])
    elif number <= 15:
        angles[1] = 103.7
    elif number > 74:
        lengths[1] = lengths[0]
        if 142 < number <= 194:
            angles[2] = 120.0
        elif number > 194:
            lengths[2] = lengths[0]
    return lattice_matrix(lengths, angles)


def orbit(number: int, point: np.ndarray) -> np.ndarray:
    rotations, translations = operations(number)
    places = np.mod(rotations @ point + translations, 1.0)
    _, first = np.unique(np.round(places, 6) % 1.0, axis=0, return_index=True)
    found: np.ndarray = places[first]
    return found


def special_points(number: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Points of each kind in a space group, with the rotations (m, 3, 3) that leave them in place.

    One of each set of operations, with any lattice translation.
    """
    x, z = 0.1373, 0.3719
    corners = product((0.0, 0.25, 0.5, 0.75, 0.125, 0.375, 1 / 3, 2 / 3), repeat=3)
    values = (0.0, 0.25, 0.5, 0.75, x, -x, 2 * x, x + 0.25, x + 0.5, 0.25 - x, 1 / 3, 2 / 3, z)
    points = np.array([*corners, *product(values, repeat=3)])
    rotations, translations = operations(number)
    kept = np.ones((len(points), len(rotations)), bool)
    for i, (rotation, translation) in enumerate(zip(rotations, translations, strict=True)):
        steps = points @ rotation.T + translation - points
        kept[:, i] = np.abs(steps - np.rint(steps)).max(axis=1) < 1e-6
    _, first = np.unique(kept, axis=0, return_index=True)
    for i in np.sort(first):
        yield points[i], rotations[kept[i]]


@cache
def holohedry(number: int) -> np.ndarray:
    """Rotations (m, 3, 3) that keep a lattice of this system; an orthorhombic one as if cubic."""
    if 142 < number <= 194:
        return operations(191)[0]
    if 74 < number <= 142:
        return operations(123)[0]
    signs = [np.diag(s) for s in product((1, -1), repeat=3)]
    turns = [s @ np.eye(3, dtype=int)[list(p)] for p in permutations(range(3)) for s in signs]
    return np.array(turns)


def up_to_axes(number: int, rotations: np.ndarray) -> str:
    """Rotations that leave a site in place, up to those that a choice of axes can make."""
    if number <= 15:  # there is one axis at most
        return str(sorted((int(np.trace(r)), np.linalg.det(r) > 0) for r in rotations))
    turns = holohedry(number)[:, None]
    back = np.rint(np.linalg.inv(turns)).astype(int)
    turned = (turns @ rotations @ back).reshape(len(turns), len(rotations), 9)
    return str(min(np.sort(turned @ 3 ** np.arange(9), axis=1).tolist()))


def with_site(number: int, point: np.ndarray) -> Cell:
    """A crystal of a space group: sodium on a general position, chlorine on one more."""
    general = orbit(number, np.array([0.0731, 0.1617, 0.2329]))
    special = orbit(number, point)
    species = ["Na"] * len(general) + ["Cl"] * len(special)
    return Cell(lattice_of(number), np.concatenate([general, special]), tuple(species))


@pytest.mark.parametrize("numbers", [range(n, min(n + 23, 231)) for n in range(1, 231, 23)])
def test_classes_are_point_groups_up_to_a_choice_of_axes(numbers: range) -> None:
    """Sites of every space group: labels are equal where, and only where, point groups are."""
    for number in numbers:
        texts: dict[str, set[str]] = {}
        for point, rotations in special_points(number):
            cell = with_site(number, point)
            found = moyopy.MoyoDataset(
                moyopy.Cell(
                    cell.lattice.tolist(),
                    cell.frac_coords.tolist(),
                    [1 if text == "Na" else 2 for text in cell.species],
                ),
                symprec=1e-4,
                setting=moyopy.Setting.spglib(),
            )
            if found.number == number:  # not one with more symmetry
                text = symmetry_label(number, ["Cl"], [found.site_symmetry_symbols[-1]])
                texts.setdefault(up_to_axes(number, rotations), set()).add(text)
        assert texts
        assert all(len(found) == 1 for found in texts.values()), (number, texts)
        assert len({text for found in texts.values() for text in found}) == len(texts), number


@pytest.mark.parametrize(("lower", "higher"), ENANTIOMORPHS)
def test_mirror_images_of_enantiomorphic_groups(lower: int, higher: int) -> None:
    compared = 0
    for point, _ in special_points(lower):
        record = with_site(lower, point).crystal()
        mirrored = VARIANTS["enantiomorph, moved"](Cell.of(record), np.random.default_rng(1))
        if find_symmetry(record).space_group_number == lower:
            assert find_symmetry(mirrored.crystal()).space_group_number == higher
            assert labels(mirrored.crystal()) == labels(record)
            compared += 1
    assert compared


# --- what is refused -----------------------------------------------------------------------


def test_what_is_no_crystal_is_refused() -> None:
    with pytest.raises(InputError, match="no space group 231"):
        symmetry_label(231, ["Na"], ["1"])
    with pytest.raises(InputError, match="no space group 0"):
        prototype_label(0, ["Na"], ["1"])
    with pytest.raises(InputError, match="2 sites with 1 site symmetries"):
        symmetry_label(1, ["Na", "Cl"], ["1"])
    with pytest.raises(InputError, match="0 sites"):
        prototype_label(1, [], [])
    with pytest.raises(SpeciesError, match="not an element"):
        symmetry_label(1, ["sodium"], ["1"])
