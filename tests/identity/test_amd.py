"""Average minimum distances against known lattices, brute force, and what must not change them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.core.crystals import Crystal
from gandb.core.errors import InputError, UsageError
from gandb.identity.amd import AMD_K, amd, normalised_amd
from tests.crystals import crystals
from tests.shared_data import SHARED, real
from tests.variants import SAME, VARIANTS, Cell

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def of(cell: Crystal | Cell, k: int = AMD_K) -> np.ndarray:
    return amd(cell.lattice, cell.frac_coords, k)


def by_force(lattice: np.ndarray, frac_coords: np.ndarray, k: int) -> np.ndarray:
    """The same from all sites of so many cells around that none of the nearest can be outside."""
    inside = np.mod(frac_coords, 1.0)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    reach = np.ones(3, int)
    while True:
        ranges = [np.arange(-r, r + 1) for r in reach]
        steps = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
        places = ((inside[None] + steps[:, None]).reshape(-1, 3)) @ lattice
        sites = inside @ lattice
        distances = np.sqrt(((sites[:, None] - places[None]) ** 2).sum(axis=2))
        distances.sort(axis=1)
        if len(places) > k:
            furthest = distances[:, k].max()
            needed = np.floor(furthest / heights).astype(int) + 1
            if (needed <= reach).all():
                break
            reach = np.maximum(reach, needed)
        else:
            reach += 1
    found: np.ndarray = distances[:, 1 : k + 1].mean(axis=0)
    return found


def unimodular(rng: np.random.Generator, shears: int, largest: int) -> np.ndarray:
    matrix = np.eye(3)
    for _ in range(shears):
        i, j = rng.choice(3, 2, replace=False)
        matrix[i] += rng.integers(-largest, largest + 1) * matrix[j]
    return matrix


# --- right ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lattice", "shells"),
    [
        # shells of the cubic lattices: how many points at which square distance
        (np.eye(3), [(6, 1), (12, 2), (8, 3), (6, 4), (24, 5)]),
        (np.ones((3, 3)) - np.eye(3), [(12, 2), (6, 4), (24, 6), (12, 8)]),
        (np.ones((3, 3)) - 2 * np.eye(3), [(8, 3), (6, 4), (12, 8), (24, 11)]),
    ],
    ids=["cubic", "face-centred", "body-centred"],
)
def test_lattices_have_the_shells_of_the_textbook(
    lattice: np.ndarray, shells: list[tuple[int, int]]
) -> None:
    expected = [math.sqrt(square) for count, square in shells for _ in range(count)]
    found = amd(4.2 * lattice, [[0.3, 0.1, 0.8]], len(expected))
    np.testing.assert_allclose(found, 4.2 * np.array(expected), **EXACT)


def test_sites_are_averaged() -> None:
    # A pair 1 apart on a line of cells 10 long and wide, and a third that is 4 from the second.
    coords = [[0, 0, 0], [0.1, 0, 0], [0.5, 0, 0]]
    found = amd(10 * np.eye(3), coords, 2)
    np.testing.assert_allclose(found, [(1 + 1 + 4) / 3, (5 + 4 + 5) / 3], **EXACT)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 9),
    k=st.integers(1, 60),
    stretch=st.floats(0.0, 1.5),
)
def test_as_by_brute_force(seed: int, n: int, k: int, stretch: float) -> None:
    rng = np.random.default_rng(seed)
    lattice = (3 * np.eye(3) + rng.normal(size=(3, 3))) * np.exp(rng.normal(scale=stretch, size=3))
    if abs(np.linalg.det(lattice)) < 1.0 or np.linalg.cond(lattice) > 30:
        lattice = 3 * np.eye(3)
    coords = rng.random((n, 3))
    expected = by_force(lattice, coords, k)
    np.testing.assert_allclose(amd(lattice, coords, k), expected, **EXACT)
    skew = unimodular(rng, 6, 4)
    found = amd(skew @ lattice, coords @ np.linalg.inv(skew), k)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize("lengths", [(40, 3, 3), (2.5, 2.5, 900), (1.5, 300, 300), (0.01, 2, 2)])
def test_long_and_flat_cells(lengths: tuple[float, float, float]) -> None:
    lattice = np.diag(np.array(lengths, float)) + 0.1 * min(lengths) * np.eye(3, k=1)
    coords = np.array([[0.1, 0.2, 0.3], [0.6, 0.5, 0.35]])
    np.testing.assert_allclose(amd(lattice, coords, 9), by_force(lattice, coords, 9), **EXACT)


def test_a_cell_with_space_above_its_sites() -> None:
    """A slab's nearest are nearer, an atom's beside it farther, than the density says."""
    layer = [[x / 4, y / 4, 0.5] for x in range(4) for y in range(4)]
    coords = np.array([*layer, [0.1, 0.1, 0.99]])
    lattice = np.diag([12.0, 12.0, 60.0])
    np.testing.assert_allclose(amd(lattice, coords, 50), by_force(lattice, coords, 50), **EXACT)


@pytest.mark.parametrize("k", [1, 63, 64, 300])
def test_few_and_many_neighbours(k: int) -> None:
    coords = np.random.default_rng(8).random((5, 3))
    lattice = np.array([[4.0, 0.1, 0], [-1.9, 3.3, 0], [0.5, 0.4, 6.0]])
    np.testing.assert_allclose(amd(lattice, coords, k), by_force(lattice, coords, k), **EXACT)


@real
def test_real_crystals_as_by_brute_force() -> None:
    pytest.importorskip("gemmi")
    from gandb.sources.cif import decode_cif
    from gandb.sources.reading import read_files
    from gandb.sources.records import Encoded, Record

    records = read_files([SHARED / "structures" / "mp-cifs.zip"])
    found = [r.structure for r in records if isinstance(r, Record)]
    checked = 0
    for structure in found[::25]:
        assert isinstance(structure, Encoded)
        record = decode_cif(structure.text).crystal()
        if len(record) <= 30:
            expected = by_force(record.lattice, record.frac_coords, AMD_K)
            np.testing.assert_allclose(of(record), expected, **EXACT)
            checked += 1
    assert checked > 30


# --- what does not change it ---------------------------------------------------------------


@settings(max_examples=40)
@given(record=crystals(properties=False), seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("name", sorted(SAME | {"enantiomorph, moved"}))
def test_the_same_crystal_written_otherwise(name: str, record: Crystal, seed: int) -> None:
    cell = Cell.of(record)
    other = VARIANTS[name](cell, np.random.default_rng(seed))
    np.testing.assert_allclose(of(other), of(cell), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        normalised_amd(other.lattice, other.frac_coords),
        normalised_amd(cell.lattice, cell.frac_coords),
        rtol=1e-9,
        atol=1e-9,
    )


@given(record=crystals(properties=False), factor=st.floats(0.3, 3.0))
def test_scaling_changes_it_in_proportion_unless_normalised(record: Crystal, factor: float) -> None:
    larger = factor * record.lattice
    np.testing.assert_allclose(
        amd(larger, record.frac_coords), factor * of(record), rtol=1e-9, atol=1e-12
    )
    expected = of(record) / (record.volume / len(record)) ** (1 / 3)
    np.testing.assert_allclose(
        normalised_amd(larger, record.frac_coords), expected, rtol=1e-9, atol=1e-12
    )


@given(record=crystals(properties=False), k=st.integers(1, 70))
def test_it_rises_and_a_shorter_one_is_its_beginning(record: Crystal, k: int) -> None:
    longer, shorter = of(record, 70), of(record, k)
    assert (np.diff(longer) >= 0).all()
    np.testing.assert_allclose(shorter, longer[:k], rtol=1e-12)


# --- how far it can change -----------------------------------------------------------------


@given(
    record=crystals(properties=False),
    seed=st.integers(0, 2**32 - 1),
    size=st.floats(1e-6, 1.0),
)
def test_sites_moved_by_e_change_it_by_2e_at_most(record: Crystal, seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(len(record), 3))
    steps *= size / np.linalg.norm(steps, axis=1, keepdims=True)
    coords = record.frac_coords + steps @ np.linalg.inv(record.lattice)
    change = np.abs(amd(record.lattice, coords) - of(record)).max()
    assert change <= 2 * size + 1e-9


def test_a_change_of_2e_is_reached() -> None:
    lattice = np.diag([10.0, 30.0, 30.0])
    near = amd(lattice, [[0.0, 0, 0], [0.2, 0, 0]], 1)
    apart = amd(lattice, [[-0.01, 0, 0], [0.21, 0, 0]], 1)
    np.testing.assert_allclose(apart - near, [0.2], **EXACT)


@given(
    record=crystals(properties=False),
    seed=st.integers(0, 2**32 - 1),
    size=st.floats(1e-6, 0.1),
)
def test_a_strained_lattice_changes_it_by_no_more_than_lengths(
    record: Crystal, seed: int, size: float
) -> None:
    strain = np.eye(3) + np.random.default_rng(seed).normal(scale=size, size=(3, 3))
    stretches = np.linalg.svd(strain, compute_uv=False)
    found = amd(record.lattice @ strain, record.frac_coords)
    assert (found <= of(record) * stretches.max() * (1 + 1e-9)).all()
    assert (found >= of(record) * stretches.min() * (1 - 1e-9)).all()


# --- what is refused -----------------------------------------------------------------------


def test_what_has_no_distances_is_refused() -> None:
    with pytest.raises(InputError, match="no sites"):
        amd(np.eye(3), np.empty((0, 3)))
    with pytest.raises(InputError, match="no volume"):
        amd(np.zeros((3, 3)), [[0.0, 0, 0]])
    with pytest.raises(InputError, match="not all finite"):
        amd(np.eye(3), [[0.0, 0, math.nan]])
    with pytest.raises(InputError, match=r"shape \(2, 3\)"):
        amd(np.ones((2, 3)), [[0.0, 0, 0]])
    with pytest.raises(UsageError, match="k is 0"):
        normalised_amd(np.eye(3), [[0.0, 0, 0]], 0)
