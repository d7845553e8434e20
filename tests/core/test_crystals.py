"""Records of crystals: what leaves their id alone, what changes it, and what it says of them."""

from __future__ import annotations

import dataclasses
import math
import random as randomness
from collections import Counter
from fractions import Fraction
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pymatgen.core import Composition, Lattice, Structure

from gandb.core.crystals import (
    GRID,
    SAME_PLACE,
    Crystal,
    CrystalError,
    crystal,
    crystal_of_matrix,
    lattice_matrix,
)
from tests.crystals import MIXED, Parts, angles, crystal_parts, crystals, lengths, parts_of

CUBE = ((5.0, 5.0, 5.0), (90.0, 90.0, 90.0))
HERE = [(0.0, 0.0, 0.0)]


def rotation(seed: int, *, mirrored: bool = False) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if (np.linalg.det(q) < 0) == mirrored else -q


def cube(coords: Any, species: Any = None, **more: Any) -> Crystal:
    return crystal(*CUBE, species or ["Fe"] * len(coords), coords, **more)


# --- one id for one crystal --------------------------------------------------------------


@given(crystals(max_sites=20))
def test_a_record_is_made_again_of_its_own_fields(record: Crystal) -> None:
    again = parts_of(record).crystal()
    assert again.id == record.id
    assert again == record
    assert hash(again) == hash(record)
    for name in ("lengths", "angles", "frac_coords"):
        assert np.array_equal(getattr(again, name), getattr(record, name))
    assert (again.species, again.properties) == (record.species, record.properties)


@given(crystal_parts(max_sites=12), st.randoms())
def test_order_of_the_sites_does_not_matter(parts: Parts, random: randomness.Random) -> None:
    order = list(range(len(parts.species)))
    random.shuffle(order)
    assert parts.ordered_as(order).crystal().id == parts.crystal().id


@given(crystals(max_sites=12), st.integers(0, 99), st.booleans())
def test_orientation_does_not_matter(record: Crystal, seed: int, cartesian: bool) -> None:
    turn = rotation(seed)
    properties = dict(record.properties)
    if "forces" in properties:
        properties["forces"] = (np.array(properties["forces"]) @ turn).tolist()
    turned = crystal_of_matrix(
        record.lattice @ turn,
        record.species,
        record.cart_coords @ turn if cartesian else record.frac_coords,
        cartesian=cartesian,
        properties=properties,
        charge=record.charge,
    )
    assert turned.id == record.id


@given(crystals(max_sites=12))
def test_twelve_decimals_of_vectors_keep_the_id(record: Crystal) -> None:
    written = [[f"{x:.12f}" for x in row] for row in record.lattice]
    coords = [[f"{x:.12f}" for x in row] for row in record.cart_coords]
    read = crystal_of_matrix(
        np.array(written, float),
        record.species,
        np.array(coords, float),
        cartesian=True,
        properties=record.properties,
        charge=record.charge,
    )
    assert read.id == record.id


@given(crystals(max_sites=6), st.integers(-1000, 1000))
def test_whole_cells_away_is_the_same_place(record: Crystal, cells: int) -> None:
    shift = np.array([cells, -cells, 3.0 * cells])
    moved = dataclasses.replace(parts_of(record), coords=record.frac_coords + shift)
    assert moved.crystal().id == record.id


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 1.0, -1.0, 1e-9, -1e-9, 4.9e-9, -4.9e-9, 1 - 1e-12, -1e-300, 5e-324, 7.0]
)
def test_zero_has_one_form(value: float) -> None:
    record = cube([(value, value, value)])
    assert record.id == cube(HERE).id
    assert record.frac_coords.tobytes() == bytes(24)  # no -0.0


@given(st.integers(0, GRID - 1), st.floats(-0.49, 0.49))
@example(GRID - 1, 0.49)
@example(0, -0.49)
def test_coordinates_are_rounded_to_the_nearest_step(step: int, off: float) -> None:
    record = cube([((step + off) / GRID, 0.5, 0.5)])
    assert record.frac_coords[0, 0] == step / GRID
    assert 0 <= record.frac_coords.min() <= record.frac_coords.max() < 1


@pytest.mark.parametrize("edge", [0.5, GRID / 2 + 0.5, GRID - 0.5, -0.5])
def test_values_on_a_rounding_edge_settle_at_once(edge: float) -> None:
    value = edge / GRID
    for near in (value, np.nextafter(value, 9), np.nextafter(value, -9)):
        record = cube([(near, 0.25, 0.25)])
        steps = record.frac_coords[0, 0] * GRID
        assert min(abs(steps - edge % GRID), GRID - abs(steps - edge % GRID)) <= 0.5 + 1e-6
        assert parts_of(record).crystal().id == record.id


# --- different ids for different crystals ------------------------------------------------


@given(crystals(max_sites=6), st.data())
def test_any_difference_gives_another_id(record: Crystal, data: st.DataObject) -> None:
    parts = parts_of(record)
    site = data.draw(st.integers(0, len(record) - 1))
    axis = data.draw(st.integers(0, 2))
    coords = record.frac_coords.copy()
    coords[site, axis] += 1e-7
    longer = tuple(v + (k == axis) * 1e-7 for k, v in enumerate(parts.lengths))
    wider = tuple(v + (k == axis) * 1e-7 for k, v in enumerate(parts.angles))
    other = "Xe" if record.species[site] != "Xe" else "Kr"
    species = tuple(other if k == site else what for k, what in enumerate(record.species))
    changes: list[dict[str, Any]] = [
        {"coords": coords},
        {"lengths": longer},
        {"angles": wider},
        {"species": species},
        {"charge": (record.charge or 0.0) + 1e-7},
        {"properties": {**record.properties, "new": [site] * len(record)}},
    ]
    changes += [
        {"properties": {k: v for k, v in record.properties.items() if k != name}}
        for name in record.properties
    ]
    ids = {record.id} | {dataclasses.replace(parts, **change).crystal().id for change in changes}
    assert len(ids) == len(changes) + 1


def test_species_differ_by_every_part_of_their_text() -> None:
    texts = ["Fe", "Fe2+", "Fe3+", "Fe0+", "Fe:0.5", "Fe2+:0.5", "Fe:0.5 Ni:0.5", "Fe:0.50000001"]
    assert len({cube(HERE, [text]).id for text in texts}) == len(texts)


def test_sites_that_swap_their_properties_differ() -> None:
    coords = [(0, 0, 0), (0.5, 0.5, 0.4)]
    one = cube(coords, properties={"magmom": [1.0, 2.0]})
    two = cube(coords, properties={"magmom": [2.0, 1.0]})
    assert one.id != two.id


def test_no_charge_is_a_charge_of_zero() -> None:
    assert len({cube(HERE, charge=c).id for c in (None, 0, 0.0, -0.0, 1e-12)}) == 1


# --- lattices ----------------------------------------------------------------------------


@given(lengths(), angles())
def test_the_lattice_is_that_of_pymatgen(
    edges: tuple[float, float, float], corners: tuple[float, float, float]
) -> None:
    ours = crystal(edges, corners, ["Fe"], HERE).lattice
    theirs = Lattice.from_parameters(*edges, *corners).matrix
    assert np.abs(ours - theirs).max() < 1e-10


@given(st.lists(st.floats(1, 179), min_size=3, max_size=3))
@example([120.0, 120.0, 119.999])
@example([30.0, 60.0, 89.999])
@example([1.0, 1.0, 1.0])
@example([179.0, 179.0, 1.0])
def test_flat_cells_are_those_of_pymatgen_or_refused(corners: list[float]) -> None:
    cosines = np.cos(np.radians(corners))
    square = 1 - (cosines**2).sum() + 2 * cosines.prod()
    possible = (
        sum(corners) < 360 and 2 * max(corners) < sum(corners) and square > 0
    )  # geometry of three directions
    if not possible or square < 1e-8:
        if not possible or square < 1e-11:
            with pytest.raises(CrystalError, match="no volume"):
                crystal((10.0, 10.0, 10.0), corners, ["Fe"], HERE)
        return
    record = crystal((10.0, 10.0, 10.0), corners, ["Fe"], HERE)
    theirs = Lattice.from_parameters(10, 10, 10, *record.angles).matrix
    # What the cosines do not tell, neither program knows: their last digit over the flatness.
    assert np.abs(record.lattice - theirs).max() < 1e-10 + 1e-13 / math.sqrt(square)
    assert record.volume == pytest.approx(abs(np.linalg.det(theirs)), rel=1e-6)


@given(crystals(max_sites=3), st.integers(0, 99))
def test_parameters_come_back_from_the_lattice(record: Crystal, seed: int) -> None:
    theirs = Lattice(record.lattice @ rotation(seed))
    assert np.allclose(theirs.abc, record.lengths, rtol=0, atol=1e-9)
    assert np.allclose(theirs.angles, record.angles, rtol=0, atol=1e-9)
    assert record.volume == pytest.approx(theirs.volume, rel=1e-12)


def nearest_vectors(coords: np.ndarray, matrix: np.ndarray) -> np.ndarray | None:
    """Vectors (3, 3), Å, from the first of four sites to the others' nearest images.

    None if some site has two images that are about as near.
    """
    cells = np.array(np.meshgrid(*[(-2, -1, 0, 1, 2)] * 3)).reshape(3, -1).T
    vectors = (coords[1:, None] - coords[0] + cells) @ matrix
    distances = np.linalg.norm(vectors, axis=-1)
    nearest, second = np.sort(distances, axis=1)[:, :2].T
    if (second - nearest).min() < 1e-3:
        return None
    return np.asarray(vectors[np.arange(3), distances.argmin(axis=1)])


@given(st.integers(0, 10_000))
def test_a_left_handed_cell_keeps_the_hand_of_the_crystal(seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix = lattice_matrix(random.uniform(4, 7, 3), random.uniform(75, 105, 3))
    species = ["Fe", "Co", "Ni", "Cu"]  # in canonical order
    coords = random.random((4, 3))
    theirs = nearest_vectors(coords, matrix)
    assume(theirs is not None)
    assert theirs is not None
    # The same points in space on the axes a, c, b: left-handed.
    record = crystal_of_matrix(matrix[[0, 2, 1]], species, coords[:, [0, 2, 1]])
    ours = nearest_vectors(record.frac_coords, record.lattice)
    assert ours is not None
    assert np.linalg.det(record.lattice) > 0
    assert np.allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-5)
    assert np.linalg.det(ours) == pytest.approx(np.linalg.det(theirs), abs=1e-5)


def test_a_mirror_image_is_another_crystal_and_twice_mirrored_is_the_first() -> None:
    coords = np.array([(0.1, 0.2, 0.3), (0.4, 0.15, 0.7), (0.8, 0.6, 0.45), (0.33, 0.9, 0.05)])
    species = ["Fe", "Co", "Ni", "Cu"]
    matrix = lattice_matrix(np.array([4.0, 5.0, 6.0]), np.array([80.0, 95.0, 100.0]))
    record = crystal_of_matrix(matrix, species, coords)
    mirrored = crystal_of_matrix(matrix @ rotation(1, mirrored=True), species, coords)
    assert mirrored.id != record.id
    back = crystal_of_matrix(
        mirrored.lattice @ rotation(2, mirrored=True), mirrored.species, mirrored.frac_coords
    )
    assert back.id == record.id


@pytest.mark.parametrize("mirrored", [False, True])
def test_vectors_turn_with_the_lattice(mirrored: bool) -> None:
    random = np.random.default_rng(5)
    turn = rotation(7, mirrored=mirrored)
    matrix = lattice_matrix(np.array([4.0, 5.0, 6.0]), np.array([80.0, 95.0, 100.0])) @ turn
    coords, forces = random.random((4, 3)), random.normal(size=(4, 3))
    species = ["Fe", "Co", "Ni", "Cu"]
    record = crystal_of_matrix(
        matrix,
        species,
        coords,
        properties={
            "forces": forces,
            "magmom": forces.tolist(),
            "velocities": [tuple(v) for v in forces],
            "label": ["abc", "def", "ghi", "jkl"],
            "selective_dynamics": [[True, False, True]] * 4,
        },
    )
    assert record.species == tuple(species)
    turned = np.array(record.properties["forces"])
    assert record.properties["magmom"] == record.properties["forces"]
    assert record.properties["velocities"] == record.properties["forces"]
    assert record.properties["label"] == ("abc", "def", "ghi", "jkl")
    assert record.properties["selective_dynamics"] == ([True, False, True],) * 4
    assert np.allclose(turned @ turned.T, forces @ forces.T, atol=1e-7)
    # Work along displacements within the cell: what does not depend on the orientation.
    steps = coords - coords[0]
    hand = -1 if mirrored else 1
    ours = turned @ (hand * steps @ record.lattice).T
    assert np.allclose(ours, forces @ (steps @ matrix).T, atol=1e-6)
    assert np.linalg.det(turned[:3]) == pytest.approx(np.linalg.det(forces[:3]), abs=1e-6)


def test_scalar_moments_and_missing_vectors_stay() -> None:
    matrix = np.diag([4.0, 5.0, 6.0]) @ rotation(3)
    given_ = {"magmom": [1.5, None], "forces": [None, [math.nan, 0.0, 0.0]]}
    record = crystal_of_matrix(
        matrix, ["Fe", "Fe"], [(0, 0, 0), (0.5, 0.5, 0.5)], properties=given_
    )
    assert record.properties["magmom"] == (1.5, None)
    assert record.properties["forces"] == (None, [None, None, None])


# --- composition -------------------------------------------------------------------------


@given(crystals(max_sites=12, disordered=False))
def test_counts_of_ordered_crystals_are_those_of_pymatgen(record: Crystal) -> None:
    sites = [o.element for [o] in record.occupants]
    theirs = Structure(record.lattice, sites, record.frac_coords).composition
    assert record.ordered
    assert record.counts() == {str(e): round(n) for e, n in theirs.items()}
    assert record.counts() == Counter(sites)


SIMPLE = {
    "0.3333": Fraction(1, 3), "0.333": Fraction(1, 3), "0.33333333": Fraction(1, 3),
    "0.667": Fraction(2, 3), "0.666": Fraction(2, 3), "0.6667": Fraction(2, 3),
    "0.167": Fraction(1, 6), "0.16666667": Fraction(1, 6), "0.8333": Fraction(5, 6),
    "0.143": Fraction(1, 7), "0.125": Fraction(1, 8), "0.375": Fraction(3, 8),
    "0.0833": Fraction(1, 12), "0.25": Fraction(1, 4), "0.5": Fraction(1, 2),
    "0.33": Fraction(33, 100), "0.1": Fraction(1, 10), "0.98": Fraction(49, 50),
    "0.997": Fraction(997, 1000), "0.001": Fraction(1, 1000), "0.999": Fraction(999, 1000),
}  # fmt: skip


@pytest.mark.parametrize("written", SIMPLE)
def test_occupancies_mean_the_fractions_that_their_digits_do(written: str) -> None:
    record = cube([(0, 0, 0), (0.5, 0.5, 0.5)], [f"Fe:{written}", "O"])
    counts = record.counts()
    assert Fraction(counts["Fe"], counts["O"]) == SIMPLE[written]
    assert record.amounts == {"Fe": float(written), "O": 1.0}
    assert not record.ordered


@pytest.mark.parametrize("text", MIXED)
def test_counts_of_disordered_crystals_are_those_of_pymatgen(text: str) -> None:
    record = cube([(0, 0, 0), (0.5, 0, 0), (0.5, 0.5, 0.5)], [text, text, "S"])
    theirs = Composition(dict(record.amounts))
    ours = Composition(record.counts())
    for element in theirs:
        share = theirs.get_atomic_fraction(element)
        assert ours.get_atomic_fraction(element) == pytest.approx(share, abs=1e-3)
    assert all(isinstance(n, int) and n > 0 for n in record.counts().values())


@given(st.lists(st.integers(1, 10**8), min_size=1, max_size=12))
def test_counts_are_whole_and_close_for_any_occupancies(steps: list[int]) -> None:
    elements = ["Li", "Na", "K", "Mg", "Ca", "Sr", "Fe", "Co", "Ni", "Cu", "Zn", "Al"]
    species = [f"{e}:{n / 10**8:.8f}" for e, n in zip(elements, steps, strict=False)]
    coords = [(k / 12, 0.5, 0.5) for k in range(len(steps))]
    counts = crystal((30.0, 5.0, 5.0), CUBE[1], species, coords).counts()
    assert set(counts) == set(elements[: len(steps)])
    assert all(n >= 1 for n in counts.values())
    for element, n in zip(elements, steps, strict=False):
        share = counts[element] / sum(counts.values())
        assert share == pytest.approx(n / sum(steps), abs=3e-3)


def test_isotopes_count_as_hydrogen() -> None:
    record = cube([(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0, 0)], ["D", "H", "O"])
    assert record.counts() == {"H": 2, "O": 1}


# --- sites at one place ------------------------------------------------------------------


def test_partial_sites_at_one_place_become_one_whatever_their_order() -> None:
    joined = cube([(0.2, 0.3, 0.4)], ["Fe:0.25 Ni:0.5"])
    for order in permutations([("Fe:0.25", 0.2), ("Ni:0.25", 0.2), ("Ni:0.25", 1.2)]):
        species, x = zip(*order, strict=True)
        assert cube([(v, 0.3, 0.4) for v in x], species).id == joined.id


def test_joined_sites_that_differ_a_little_do_not_depend_on_their_order() -> None:
    off = 0.006 / 5  # Å on the edge: neighbours are at one place, the outer ones by the middle
    sites = [("Ni:0.2", 0.0), ("Fe:0.2", off), ("Co:0.2", 2 * off), ("S", 0.5)]
    records = []
    for order in permutations(sites):
        species, x = zip(*order, strict=True)
        records.append(cube([(v, 0.3, 0.4) for v in x], species))
    assert len({record.id for record in records}) == 1
    assert records[0].species == ("S", "Fe:0.2 Co:0.2 Ni:0.2")
    assert parts_of(records[0]).crystal().id == records[0].id


@pytest.mark.parametrize("gap", [-0.0009, 0.0009])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_place_is_seen_across_the_border_of_the_cell(axis: int, gap: float) -> None:
    near = np.full(3, 0.5)
    near[axis] = 0.0
    far = near.copy()
    far[axis] = gap
    assert len(cube([near, far], ["Fe:0.5", "Ni:0.5"])) == 1
    with pytest.raises(CrystalError, match=r"sites 1 \(Fe\) and 2 \(Ni\) are at one place"):
        cube([near, far], ["Fe", "Ni"])
    far[axis] = 3 * gap
    assert len(cube([near, far], ["Fe", "Ni"])) == 2


@given(angles(), st.integers(0, 999))
def test_one_place_is_judged_by_distance_in_any_cell(
    corners: tuple[float, float, float], seed: int
) -> None:
    random = np.random.default_rng(seed)
    record = crystal((3.0, 5.0, 9.0), corners, ["Fe:0.5"], [random.random(3)])
    direction = random.normal(size=3)
    direction /= np.linalg.norm(direction)
    for distance, n in ((0.99 * SAME_PLACE, 1), (1.01 * SAME_PLACE, 2)):
        other = record.cart_coords[0] + distance * direction
        both = np.stack([record.cart_coords[0], other])
        found = crystal_of_matrix(record.lattice, ["Fe:0.5", "Ni:0.5"], both, cartesian=True)
        assert len(found) == n


def test_too_much_at_one_place_is_refused() -> None:
    with pytest.raises(CrystalError, match="at one place"):
        cube(HERE * 3, ["Fe:0.5", "Ni:0.4", "Co:0.2"])
    assert cube(HERE * 3, ["Fe:0.5", "Ni:0.4", "Co:0.1"]).species == ("Fe:0.5 Co:0.1 Ni:0.4",)


def test_sites_at_one_place_share_their_properties_or_are_refused() -> None:
    species = ["Fe:0.5", "Ni:0.5", "O"]
    coords = [(0, 0, 0), (0, 0, 1), (0.5, 0.5, 0.5)]
    record = cube(coords, species, properties={"charge": [1, 1, -2]})
    assert record.properties == {"charge": (-2, 1)}
    with pytest.raises(CrystalError, match="differ in charge"):
        cube(coords, species, properties={"charge": [1, 2, -2]})


def test_thousands_of_sites() -> None:
    m = 21
    grid = np.array(np.meshgrid(*[np.arange(m)] * 3)).reshape(3, -1).T / m
    record = crystal((60.0,) * 3, CUBE[1], ["Fe"] * len(grid), grid)
    assert len(record) == m**3
    half = np.concatenate([grid[:5000], grid[:5000] + 1e-5])
    joined = crystal((60.0,) * 3, CUBE[1], ["Fe:0.5"] * 5000 + ["Ni:0.5"] * 5000, half)
    assert len(joined) == 5000
    with pytest.raises(CrystalError, match="one place"):
        crystal((60.0,) * 3, CUBE[1], ["Fe"] * 10_000, np.zeros((10_000, 3)))


# --- properties --------------------------------------------------------------------------


def test_properties_become_plain_data() -> None:
    record = cube(
        [(0, 0, 0), (0.5, 0.5, 0.5)],
        properties={
            "b": np.array([1, 2]),
            "a": [np.float64(0.1) + 0.2, math.nan],
            "none": [None, math.inf],
            "nested": [{"y": (1, -0.0), "x": np.bool_(True)}, None],
        },
    )
    assert record.properties == {
        "a": (0.3, None),
        "b": (1, 2),
        "nested": ({"x": True, "y": [1, 0.0]}, None),
    }
    assert list(record.properties) == ["a", "b", "nested"]
    assert parts_of(record).crystal().id == record.id


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1], "1 values of q for 2 sites"),
        ([1, 2, 3], "3 values of q for 2 sites"),
        ("ab", "q is one str"),
        (5, "q is one int"),
        (None, "q is one NoneType"),
        ([object(), 1], "holds a object, which is not kept"),
        ([1j, 1], "holds a complex"),
        ([{1, 2}, 1], "holds a set"),
        ([b"x", 1], "holds a bytes"),
        ([2**63, 1], "beyond 64 bits"),
        (["\ud800", 1], "not Unicode"),
        ([{"\ud800": 1}, 1], "not Unicode"),
    ],
)
def test_properties_that_are_refused(values: Any, reason: str) -> None:
    with pytest.raises(CrystalError, match=reason):
        cube([(0, 0, 0), (0.5, 0.5, 0.5)], properties={"q": values})


def test_nesting_has_an_end() -> None:
    value: Any = 1
    for _ in range(5_000):
        value = [value]
    with pytest.raises(CrystalError, match="levels deep"):
        cube(HERE, properties={"q": [value]})


def test_vectors_of_something_else_are_refused() -> None:
    matrix = np.diag([5.0, 5.0, 5.0])
    for vector in ([10**400, 0, 0], [{}, 0, 0]):
        with pytest.raises(CrystalError, match="forces of site 1 are not numbers"):
            crystal_of_matrix(matrix, ["Fe"], HERE, properties={"forces": [vector]})


@pytest.mark.parametrize("kept", [[[1, 2], 3, 4], ["x", 0, 0], [1, 2], "abc", 5.0, [[1, 0, 0]] * 3])
def test_what_is_no_vector_is_kept_as_it_is(kept: Any) -> None:
    matrix = np.diag([4.0, 5.0, 6.0]) @ rotation(3)
    record = crystal_of_matrix(matrix, ["Fe"], HERE, properties={"forces": [kept]})
    assert record.properties["forces"] == (kept,)
