"""Asymmetric units, against moyo's cells, the matcher, pymatgen, and merging by brute force."""

from __future__ import annotations

import sys
import warnings
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gandb.core.crystals import Crystal, crystal, lattice_matrix
from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.errors import InputError, MissingExtraError, UsageError
from gandb.identity.cells import Cells
from gandb.identity.matching import fit_pairs
from gandb.identity.recipes import MatchRecipe
from gandb.identity.reduction import reduce_crystal
from gandb.representations.asymmetric_unit import (
    REJECTIONS,
    AsymmetricUnits,
    Merging,
    encode,
    expand,
)
from gandb.representations.pymatgen_structures import to_structure
from gandb.representations.space_groups import constrain_cells, space_group
from gandb.representations.standard_cells import SymmetryError, find_dataset, standard_cell
from tests.real_crystals import real_crystals
from tests.shared_data import real

pytest.importorskip("moyopy")


def gaps(one: Crystal, two: Crystal) -> float:
    """The farthest that a site of one is from the nearest of its kind in the other, Å."""
    steps = one.frac_coords[:, None] - two.frac_coords[None]
    steps -= np.rint(steps)
    far = np.linalg.norm(steps @ one.lattice, axis=2)
    far[np.array(one.species)[:, None] != np.array(two.species)[None]] = 99.0
    return float(max(far.min(axis=0).max(), far.min(axis=1).max()))


def matches(pairs: list[tuple[Crystal, Crystal]]) -> np.ndarray:
    cells = Cells.of([reduce_crystal(c) for pair in pairs for c in pair])
    places = np.arange(2 * len(pairs)).reshape(-1, 2)
    return fit_pairs(cells, places, MatchRecipe())


def rock_salt() -> Crystal:
    faces = [(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)]
    sites = [*faces, *(tuple(np.add(f, 0.5)) for f in faces)]
    return crystal((5.64,) * 3, (90.0,) * 3, ["Na"] * 4 + ["Cl"] * 4, np.array(sites))


def units_of(
    number: int, lengths: Any, angles: Any, sites: list[tuple[int, Any]]
) -> AsymmetricUnits:
    cell = constrain_cells(
        np.array([number]), np.array([lengths], float), np.array([angles], float)
    )
    return AsymmetricUnits.of_sites(
        [number], *cell, [[z for z, _ in sites]], [np.array([x for _, x in sites], float)]
    )


# --- there and back ----------------------------------------------------------------------


@real
def test_real_structures_come_back_as_they_are_in_their_standard_cell() -> None:
    crystals = real_crystals()
    encoded = encode(crystals)
    assert len(encoded.rows) + sum(encoded.rejected().values()) == len(crystals)
    assert set(encoded.rejected()) <= {"no_symmetry", "disordered", "not_plain_elements"}
    assert len(encoded.rows) > 0.98 * len(crystals)
    found, codes = expand(encoded.units).crystals()
    assert not codes.any()
    pairs = []
    for row, number, back in zip(encoded.rows, encoded.units.space_groups, found, strict=True):
        assert back is not None
        standard = standard_cell(crystals[row])
        assert number == standard.space_group_number
        record = standard.crystal()
        assert back.species == record.species
        assert np.abs(back.lengths - record.lengths).max() < 1e-6
        assert np.abs(back.angles - record.angles).max() < 1e-6
        assert gaps(back, record) < 1e-6
        # At a tolerance this low, what is found is what the coordinates have.
        assert find_dataset(back, 1e-5).number == number
        pairs.append((crystals[row], back))
    fits = matches(pairs)
    # pymatgen's smallest cell of the one may have fewer sites than that of the other: then the
    # two never match, nor does moyo's own cell.
    for place in np.flatnonzero(~fits):
        one, two = pairs[place]
        assert len(reduce_crystal(one)) != len(reduce_crystal(two))
        assert not matches([(one, standard_cell(one).crystal())])[0]
    assert (~fits).sum() <= 3


@real
def test_pymatgen_says_that_they_are_the_same() -> None:
    matcher = pytest.importorskip("pymatgen.analysis.structure_matcher").StructureMatcher(
        attempt_supercell=True, primitive_cell=False
    )
    crystals = [c for c in real_crystals() if len(c) <= 12][::6]
    encoded = encode(crystals)
    found, _ = expand(encoded.units).crystals()
    for row, back in zip(encoded.rows, found, strict=True):
        assert back is not None
        assert matcher.fit(to_structure(crystals[row]), to_structure(back))


@real
def test_letters_are_those_of_moyo() -> None:
    crystals = real_crystals()[::4]
    encoded = encode(crystals)
    for row, letters, numbers in zip(
        encoded.rows,
        encoded.units.wyckoff_letters(),
        np.split(encoded.units.atomic_numbers, encoded.units.offsets[1:-1]),
        strict=True,
    ):
        found = find_dataset(crystals[row])
        named = [p.letter for p in found.normalizer_wyckoff_positions().wyckoffs]
        texts = list(dict.fromkeys(crystals[row].species))
        ours = []
        group = space_group(found.number)
        for z, letter in zip(numbers.tolist(), letters, strict=True):
            ours += [(z, letter)] * group.position(letter).multiplicity
        theirs = [
            (ATOMIC_NUMBERS[texts[kind - 1]], letter)
            for kind, letter in zip(found.std_cell.numbers, named, strict=True)
        ]
        assert sorted(ours) == sorted(theirs)


def test_rock_salt() -> None:
    encoded = encode([rock_salt()])
    units = encoded.units
    assert units.space_groups.tolist() == [225]
    assert units.atomic_numbers.tolist() == [11, 17]
    assert {tuple(x) for x in units.frac_coords.tolist()} == {(0, 0, 0), (0.5, 0.5, 0.5)}
    assert sorted(units.wyckoff_letters()[0]) == ["a", "b"]
    assert expand(units).crystal(0) == standard_cell(rock_salt()).crystal()


def test_what_has_no_unit_is_counted_by_reason() -> None:
    salt = rock_salt()
    mixed = crystal(salt.lengths, salt.angles, ["Na:0.5 K:0.5"] * 4 + ["Cl"] * 4, salt.frac_coords)
    ions = crystal(salt.lengths, salt.angles, ["Na+"] * 4 + ["Cl-"] * 4, salt.frac_coords)
    heavy = crystal(salt.lengths, salt.angles, ["Na"] * 4 + ["D"] * 4, salt.frac_coords)
    thin = crystal((0.1, 5, 5), (90, 90, 90), ["Na"], [[0, 0, 0]])
    encoded = encode([mixed, salt, ions, heavy, thin])
    assert encoded.rows.tolist() == [1]
    assert [REJECTIONS[code] for code in encoded.rejections] == [
        "disordered", "accepted", "not_plain_elements", "not_plain_elements", "no_symmetry",
    ]  # fmt: skip
    assert encoded.rejected() == {"disordered": 1, "not_plain_elements": 2, "no_symmetry": 1}
    assert encode([salt], max_base_sites=1).rejected() == {"too_many_base_sites": 1}
    assert encode([salt], max_sites=7).rejected() == {"too_many_sites": 1}
    assert len(encode([]).units) == 0
    assert len(expand(encode([]).units)) == 0


# --- any group, any positions ------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 230), st.integers(0, 2**32 - 1))
def test_sites_on_any_positions_give_their_multiplicities(number: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = space_group(number)
    chosen, sites = [], []
    for z in (3, 8, 26, 57):
        position = group.positions[rng.integers(len(group.positions))]
        if position.n_free == 0 and any(p is position for p in chosen):
            continue
        chosen.append(position)
        point = position.projection @ rng.random(3) + position.offset
        steps = group.rotations @ point + group.translations - point
        far = np.abs(steps - np.rint(steps)).max(axis=1)
        assume(not ((far > 1e-6) & (far < 0.02)).any())  # near a position of more symmetry
        sites.append((z, point))
    units = units_of(number, (11, 13, 17), (83, 97, 105), sites)
    found = expand(units)
    assert not found.rejections.any()
    counts = np.bincount(found.base_sites, minlength=len(sites))
    assert counts.tolist() == [p.multiplicity for p in chosen]
    assert units.wyckoff_letters()[0] == tuple(p.letter for p in chosen)
    # Every operation leaves the crystal as it is.
    for turn, shift in zip(group.rotations, group.translations, strict=True):
        moved = found.frac_coords @ turn.T + shift
        steps = moved[:, None] - found.frac_coords[None]
        near = np.abs(steps - np.rint(steps)).max(axis=2) < 1e-9
        near &= found.atomic_numbers[:, None] == found.atomic_numbers[None]
        assert (near.sum(axis=1) == 1).all()
    try:
        record = found.crystal(0)
        back = encode([record], symprec=1e-4)
    except (InputError, SymmetryError):
        return
    # Generic sites may have more symmetry together than was asked for; never less.
    if len(back.rows) and back.units.space_groups[0] == number:
        assert len(back.units.atomic_numbers) == len(sites)
        again = expand(back.units).crystal(0)
        assert sorted(again.species) == sorted(record.species)
        assert matches([(record, again)])[0]


# --- merging -----------------------------------------------------------------------------


def clusters_by_brute_force(
    lattice: np.ndarray, points: np.ndarray, reach: float
) -> list[list[tuple[int, tuple[int, ...]]]]:
    """Single linkage over all pairs of points and cells; each cluster unwrapped."""
    steps = np.array(list(product((-2, -1, 0, 1, 2), repeat=3)))
    links: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
    for i, j in product(range(len(points)), repeat=2):
        far = np.linalg.norm((points[j] - points[i] + steps) @ lattice, axis=1)
        for k in np.flatnonzero((far < reach) & ((i != j) | steps.any(axis=1))):
            links.setdefault(i, []).append((j, tuple(int(s) for s in steps[k])))
    left, found = set(range(len(points))), []
    while left:
        start = min(left)
        members = {start: (0, 0, 0)}
        queue = [start]
        while queue:
            i = queue.pop()
            for j, step in links.get(i, []):
                place = tuple(int(v) for v in np.add(members[i], step))
                if j not in members:
                    members[j] = place  # type: ignore[assignment]
                    queue.append(j)
                else:
                    assert members[j] == place
        found.append(list(members.items()))
        left -= set(members)
    return found


@pytest.mark.parametrize(
    ("number", "site"),
    [
        (221, (0.03, 0.01, 0.02)),
        (225, (0.26, 0.24, 0.255)),
        (194, (0.33, 0.66, 0.76)),
        (139, (0.02, 0.49, 0.25)),
        (166, (0.99, 0.005, 0.24)),
        (62, (0.1, 0.24, 0.4)),
        (14, (0.03, 0.98, 0.02)),
        (2, (0.51, 0.49, 0.02)),
    ],
)
def test_one_round_of_merging_is_what_brute_force_finds(number: int, site: Any) -> None:
    units = units_of(number, (6.1, 7.3, 8.2), (85, 95, 100), [(26, site)])
    merging = Merging(0.6)
    reach = float(merging.reaches()[26])
    assert reach == pytest.approx(0.6 * 2 * 1.40)
    apart, merged = expand(units), expand(units, merging)
    lattice = lattice_matrix(apart.lengths[0], apart.angles[0])
    groups = clusters_by_brute_force(lattice, apart.frac_coords, reach)
    means = np.array(
        [np.mean([apart.frac_coords[i] + cell for i, cell in group], axis=0) for group in groups]
    )
    assert len(groups) < len(apart.frac_coords)
    assert len(merged.frac_coords) == len(groups)
    steps = means[:, None] - merged.frac_coords[None]
    steps -= np.rint(steps)
    far = np.linalg.norm(steps @ lattice, axis=2)
    assert far.min(axis=0).max() < 1e-6
    assert far.min(axis=1).max() < 1e-6


@real
def test_merging_undoes_small_errors_of_real_structures() -> None:
    """Base sites moved by up to 0.1 Å, as a model places them, come back to their positions."""
    rng = np.random.default_rng(3)
    crystals = [c for c in real_crystals() if len(c) <= 20]
    units = encode(crystals).units
    keep = [
        i for i in range(len(units))
        if units.offsets[i + 1] - units.offsets[i] <= 4 and units.space_groups[i] > 60
    ]  # fmt: skip
    units = units.take(np.array(keep)[:80])
    owner = np.repeat(np.arange(len(units)), np.diff(units.offsets))
    moves = rng.uniform(-1, 1, (len(owner), 3)) * 0.05 / units.lengths[owner]
    moved = AsymmetricUnits(
        units.space_groups,
        units.lengths,
        units.angles,
        units.offsets,
        units.atomic_numbers,
        units.frac_coords + moves,
    )
    exact, loose, merged = expand(units), expand(moved), expand(moved, Merging(0.3, "covalent"))
    assert len(loose.frac_coords) > 3 * len(exact.frac_coords)
    assert merged.offsets.tolist() == exact.offsets.tolist()
    pairs = []
    for row in range(len(units)):
        one, two = exact.crystal(row), merged.crystal(row)
        assert one.species == two.species
        assert find_dataset(two, 1e-5).number == units.space_groups[row]
        pairs.append((one, two))
    assert matches(pairs).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 230), st.integers(0, 2**32 - 1))
def test_after_merging_no_two_of_an_element_are_near(number: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sites = [(int(z), rng.random(3)) for z in rng.choice([8, 26, 56], 3)]
    units = units_of(number, rng.uniform(4, 12, 3), rng.uniform(70, 110, 3), sites)
    merging = Merging()
    found = expand(units, merging, max_sites=250)
    if found.rejections[0]:
        reasons = ("endless_merging", "no_cell", "too_many_sites")
        assert REJECTIONS[found.rejections[0]] in reasons
        assert len(found.frac_coords) == 0
        return
    assert set(found.atomic_numbers) == {z for z, _ in sites}
    group = space_group(number)
    lattice = lattice_matrix(found.lengths[0], found.angles[0])
    steps = np.array(list(product((-1, 0, 1), repeat=3)))
    for z in set(found.atomic_numbers.tolist()):
        points = found.frac_coords[found.atomic_numbers == z]
        gap = points[:, None] - points[None]
        far = np.linalg.norm((gap[:, :, None] + steps) @ lattice, axis=3)
        far[np.arange(len(points)), np.arange(len(points)), 13] = 99
        assert far.min() >= merging.reaches()[z] - 1e-6
        for turn, shift in zip(group.rotations[1:9], group.translations[1:9], strict=True):
            gap = (points @ turn.T + shift)[:, None] - points[None]
            gap -= np.rint(gap)
            assert (np.abs(gap).max(axis=2).min(axis=1) < 1e-6).all()


def test_sites_of_one_element_may_become_one() -> None:
    units = units_of(
        221, (4, 4, 4), (90,) * 3, [(26, (0.02, 0, 0)), (26, (0, 0.01, 0.02)), (8, (0.5,) * 3)]
    )
    found = expand(units, Merging())
    assert found.atomic_numbers.tolist() == [26, 8]
    assert found.frac_coords == pytest.approx(np.array([[0, 0, 0], [0.5] * 3]), abs=1e-9)
    assert found.joined.tolist() == [1]
    assert found.base_sites.tolist() == [0, 2]


def test_what_does_not_end_is_rejected() -> None:
    chain = units_of(1, (2.0, 9, 9), (90,) * 3, [(55, (0, 0, 0)), (55, (0.5, 0, 0))])
    found = expand(chain, Merging())
    assert found.rejected() == {"endless_merging": 1}
    assert len(found.frac_coords) == 0
    assert len(expand(chain).frac_coords) == 2
    crystals, codes = found.crystals()
    assert crystals == [None]
    assert REJECTIONS[codes[0]] == "endless_merging"
    with pytest.raises(InputError, match="endless_merging"):
        found.crystal(0)


def test_broken_units_are_rejected_by_reason() -> None:
    good = units_of(225, (5, 5, 5), (90,) * 3, [(11, (0, 0, 0))])
    cells = [(5.0, 5.0, 5.0), (np.nan, 5, 5), (5, 5, 5), (-1, -1, -1), (5, 5, 5), (5, 5, 5)]
    angles = [(90.0, 90, 90)] * 4 + [(10, 170, 10), (90, 90, 90)]
    coords = [(0, 0, 0), (0, 0, 0), (np.nan, 0, 0), (0, 0, 0), (0, 0, 0), (0.1, 0.2, 0.31)]
    many = AsymmetricUnits.of_sites(
        [225, 225, 225, 225, 1, 225],
        np.array(cells),
        np.array(angles, float),
        [[11], [11], [11], [11], [11], [2]],
        [np.array([c], float) for c in coords],
    )
    found = expand(many, Merging(), max_sites=191)
    assert [REJECTIONS[code] for code in found.rejections] == [
        "accepted", "no_cell", "not_finite", "no_cell", "no_cell", "no_radius",
    ]  # fmt: skip
    assert REJECTIONS[expand(many, max_sites=191).rejections[5]] == "too_many_sites"
    assert found.offsets.tolist() == [0, 4, 4, 4, 4, 4, 4]
    assert expand(good).crystal(0) == found.crystal(0)


ANY = st.one_of(
    st.floats(), st.floats(-10, 200), st.sampled_from([0.0, 90.0, 120.0, 180.0, 1e-9, 1e9])
)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 230), st.lists(ANY, min_size=12, max_size=12))
def test_nothing_that_a_network_writes_breaks_it(number: int, values: list[float]) -> None:
    units = AsymmetricUnits.of_sites(
        [number],
        np.array(values[:3]),
        np.array(values[3:6]),
        [[26, 26]],
        [np.array(values[6:]).reshape(2, 3)],
    )
    for merging in (None, Merging()):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = expand(units, merging)
        assert (len(found.frac_coords) == 0) == bool(found.rejections[0])
        assert np.isfinite(found.frac_coords).all()
        crystals, codes = found.crystals()
        assert (crystals[0] is None) == bool(codes[0])


def test_atoms_of_two_elements_at_one_place_are_no_crystal() -> None:
    units = units_of(221, (4, 4, 4), (90,) * 3, [(26, (0, 0, 0)), (8, (0, 0, 0))])
    crystals, codes = expand(units).crystals()
    assert crystals == [None]
    assert REJECTIONS[codes[0]] == "no_crystal"


def test_batches_are_checked_and_taken_from() -> None:
    units = encode([rock_salt()] * 3).units
    assert expand(units.take(np.array([2]))).crystal(0) == expand(units).crystal(0)
    assert len(units.take(np.array([False, True, True]))) == 2
    parts: dict[str, Any] = {
        name: getattr(units, name)
        for name in (
            "space_groups",
            "lengths",
            "angles",
            "offsets",
            "atomic_numbers",
            "frac_coords",
        )
    }
    for name, value, reason in (
        ("space_groups", np.array([225, 0, 1], np.int16), "1 to 230"),
        ("lengths", np.ones((2, 3)), "lengths of 3 units"),
        ("offsets", np.array([0, 2, 1, 6]), "do not divide"),
        ("atomic_numbers", np.zeros(6, np.uint8), "1 to 118"),
    ):
        with pytest.raises(InputError, match=reason):
            AsymmetricUnits(**{**parts, name: value})
    with pytest.raises(UsageError, match="above 0"):
        Merging(0)
    with pytest.raises(UsageError, match="covalent or atomic"):
        Merging(radii="ionic")
    assert Merging().parameters() == {"share_of_radii": 0.6, "radii": "atomic", "linkage": "single"}


def test_cells_are_what_the_group_allows() -> None:
    loose = AsymmetricUnits.of_sites(
        [225], np.array([[5.0, 5.1, 5.2]]), np.array([[89.0, 91, 90]]), [[11]], [np.zeros((1, 3))]
    )
    found = expand(loose)
    assert found.lengths[0] == pytest.approx([5.1] * 3)
    assert found.angles[0].tolist() == [90, 90, 90]


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moyopy", None)
    with pytest.raises(MissingExtraError, match="structures"):
        encode([rock_salt()])


def test_a_site_just_below_the_end_of_a_long_cell_stays_there() -> None:
    coords = [[0, 0, 0.999_999_25], [0, 0, 0.013], [0, 0, 0.22]]
    long = crystal((3.8, 3.8, 180), (90, 90, 90), ["Mg", "Cl", "Br"], coords)
    found, _ = expand(encode([long]).units).crystals()
    assert found[0] is not None
    assert gaps(found[0], standard_cell(long).crystal()) < 1e-6
