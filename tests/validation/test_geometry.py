"""Checks by geometry, against pymatgen on real structures, and against brute force."""

from __future__ import annotations

import contextlib
import warnings
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.core.crystals import Crystal, crystal, lattice_matrix
from gandb.core.errors import InputError, UsageError
from gandb.core.radii import COVALENT_RADIUS
from gandb.representations.asymmetric_unit import encode, expand
from gandb.representations.pymatgen_structures import to_structure
from gandb.validation.geometry import (
    REASONS,
    Sites,
    closest_pairs,
    coordination,
    coordination_numbers,
    density,
    radius_distances,
    space_group_found,
    structural_validity,
    volume_per_atom,
)
from gandb.validation.symmetry import SymmetryError, find_symmetry
from tests.real_crystals import real_crystals, some_crystals
from tests.shared_data import real

CUBIC = (90.0, 90.0, 90.0)
JUDGES = (structural_validity, radius_distances, density, volume_per_atom, coordination)


def brute_force(record: Crystal, sizes: np.ndarray, reach: int = 3) -> tuple[float, float]:
    """The least ratio with and without images of an atom itself, over many cells around."""
    steps = np.array(list(product(range(-reach, reach + 1), repeat=3)))
    gaps = record.frac_coords[None] - record.frac_coords[:, None]
    far = np.linalg.norm((gaps[:, :, None] + steps) @ record.lattice, axis=3)
    far[:, :, len(steps) // 2] += np.where(np.eye(len(record)) > 0, np.inf, 0.0)
    ratio = far / (sizes[:, None] + sizes)[:, :, None]
    with_images = float(ratio.min())
    ratio[np.arange(len(record)), np.arange(len(record))] = np.inf
    return with_images, float(ratio.min())


# --- pymatgen ----------------------------------------------------------------------------


@real
def test_real_structures_have_the_distances_and_neighbours_of_pymatgen() -> None:
    crystals = [c for c in real_crystals() if c.ordered]
    sites = Sites.of(crystals)
    shortest = structural_validity(sites)
    published = structural_validity(sites, self_images=False)
    shares = radius_distances(sites)
    counts, why = coordination_numbers(sites)
    for row, record in enumerate(crystals):
        structure = to_structure(record)
        matrix = structure.distance_matrix.copy()
        np.fill_diagonal(matrix, np.inf)
        if len(record) > 1:
            assert published.value[row] == pytest.approx(matrix.min(), abs=1e-9)
        else:
            assert np.isnan(published.value[row])
        radii = COVALENT_RADIUS[[site.specie.Z for site in structure]]
        assert not np.isnan(radii).any()
        reach = 1.5 * 2 * float(radii.max())
        first, second, _, far = structure.get_neighbor_list(
            reach, numerical_tol=1e-8, exclude_self=True
        )
        near = far < 1.5 * (radii[first] + radii[second])
        theirs = np.bincount(first[near], minlength=len(record))
        ours = counts[sites.offsets[row] : sites.offsets[row + 1]]
        assert ours.tolist() == theirs.tolist()
        if len(far):
            assert shortest.value[row] == pytest.approx(far.min(), abs=1e-9)
            share = far / (radii[first] + radii[second])
            if share.min() < 1.2:
                assert shares.value[row] == pytest.approx(share.min(), abs=1e-9)
    assert not why.any()


@real
def test_real_structures_have_the_density_of_pymatgen() -> None:
    crystals = real_crystals()
    sites = Sites.of(crystals)
    theirs = [to_structure(c) for c in crystals]
    assert density(sites).value == pytest.approx([float(s.density) for s in theirs], rel=1e-6)
    assert volume_per_atom(sites).value == pytest.approx([s.volume / len(s) for s in theirs])


@real
def test_verdicts_on_candidates_are_those_of_the_published_code() -> None:
    """CDVAE's rule, written with pymatgen: https://github.com/txie-93/cdvae, eval_utils.py."""
    crystals = some_crystals("generated/mattergen-cifs.zip", 150)
    squeezed = []
    for k, record in enumerate(crystals):
        scale = (1.0, 0.3, 0.2, 0.15)[k % 4]
        with contextlib.suppress(InputError):  # too small to be a record
            squeezed.append(
                crystal(scale * record.lengths, record.angles, record.species, record.frac_coords)
            )
    assert len(squeezed) > 100
    verdicts = structural_validity(Sites.of(squeezed), self_images=False)
    seen = set()
    for record, ours in zip(squeezed, verdicts.passed, strict=True):
        structure = to_structure(record)
        matrix = structure.distance_matrix
        matrix = matrix + np.diag(np.full(len(matrix), 10.5))
        theirs = not (matrix.min() < 0.5 or structure.volume < 0.1)
        assert ours == theirs
        seen.add(theirs)
    assert seen == {True, False}


# --- brute force -------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_any_cell_against_brute_force(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    lengths, angles = rng.uniform(2, 9, 3), rng.uniform(50, 130, 3)
    species = rng.choice(["H", "O", "Fe", "Cs"], n).tolist()
    try:
        record = crystal(lengths, angles, species, rng.random((n, 3)))
    except InputError:
        return
    # The cells around must hold the nearest image; a flat cell would need more of them.
    heights = 1 / np.sqrt((np.linalg.inv(record.lattice) ** 2).sum(axis=0))
    if heights.min() < 1.0:
        return
    sites = Sites.of([record])
    reach = int(np.ceil(9.5 / heights.min())) + 1
    if reach > 8:
        return
    halves = np.full(len(record), 0.5)
    own, others = brute_force(record, halves, reach)
    assert structural_validity(sites).value[0] == pytest.approx(own, abs=1e-9)
    published = structural_validity(sites, self_images=False).value[0]
    assert (np.isnan(published) and others == np.inf) or published == pytest.approx(others)
    radii = COVALENT_RADIUS[sites.atomic_numbers]
    share, _ = brute_force(record, radii, reach)
    assert radius_distances(sites).value[0] == pytest.approx(share, abs=1e-9)
    pair_share, places = closest_pairs(sites, "covalent")
    assert pair_share[0] == pytest.approx(share, abs=1e-9)
    assert ((places >= 0) & (places < len(record))).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_cell_sheared_flat_is_the_same_crystal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lattice = lattice_matrix(rng.uniform(3, 7, 3), rng.uniform(70, 110, 3))
    shear = np.eye(3, dtype=int)
    for _ in range(4):
        i, j = rng.choice(3, 2, replace=False)
        shear[i] += int(rng.integers(-3, 4)) * shear[j]
    coords = rng.random((4, 3))
    found = []
    for basis, points in (
        (lattice, coords),
        (shear @ lattice, coords @ np.linalg.inv(shear)),
    ):
        metric = basis @ basis.T
        lengths = np.sqrt(np.diag(metric))
        cosines = np.array([metric[1, 2], metric[0, 2], metric[0, 1]]) * lengths / lengths.prod()
        sites = Sites.of_atoms(
            lengths[None],
            np.degrees(np.arccos(cosines))[None],
            np.array([0, 4]),
            np.array([8, 26, 8, 55]),
            points,
        )
        values = structural_validity(sites).value[0], radius_distances(sites).value[0]
        found.append((*values, *coordination_numbers(sites)[0]))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


# --- verdicts ----------------------------------------------------------------------------


def test_an_atom_and_its_image_are_a_pair_only_where_that_is_asked() -> None:
    sites = Sites.of([crystal((0.4, 5, 5), CUBIC, ["Fe"], [[0, 0, 0]])])
    own, published = structural_validity(sites), structural_validity(sites, self_images=False)
    assert own.check.name == "structural_validity"
    assert own.value[0] == pytest.approx(0.4)
    assert own.tally() == {"atoms too near": 1}
    assert published.check.name == "structural_validity_published"
    assert np.isnan(published.value[0])
    assert published.passed.tolist() == [True]
    assert own.check.parameters["self_images"] is True
    _, places = closest_pairs(sites)
    assert places.tolist() == [[0, 0]]


def test_small_volumes_fail() -> None:
    sites = Sites.of([crystal((0.45, 0.45, 0.45), CUBIC, ["Fe"], [[0, 0, 0]])])
    found = structural_validity(sites, self_images=False)
    assert found.tally() == {"volume too small": 1}


def test_what_cannot_be_judged_is_an_error_and_never_passes() -> None:
    cells = np.array(
        [(4, 4, 4), (4, 4, 4), (np.nan, 4, 4), (0, 4, 4), (4, 4, 4), (4, 4, 4), (-4, 4, -4)], float
    )
    angles = np.tile(CUBIC, (7, 1))
    angles[4] = (10, 170, 10)
    offsets = np.array([0, 1, 2, 3, 4, 5, 5, 6])
    coords = np.zeros((6, 3))
    coords[1, 0] = np.nan
    sites = Sites.of_atoms(cells, angles, offsets, np.full(6, 26), coords)
    words = [
        "passed", "coordinates not finite", "no cell", "no cell", "no cell", "no atoms", "no cell",
    ]  # fmt: skip
    for outcome in (
        structural_validity(sites),
        structural_validity(sites, self_images=False),
        radius_distances(sites),
        coordination(sites, reach=2),
    ):
        assert [REASONS[code] for code in outcome.reason] == words
        assert outcome.errors.tolist() == [False] + [True] * 6
        assert outcome.passed.tolist() == [True] + [False] * 6
        assert np.isnan(outcome.value[1:]).all()
    for outcome in (density(sites), volume_per_atom(sites)):
        assert [REASONS[code] for code in outcome.reason][2:] == words[2:]


ANY = st.one_of(
    st.floats(), st.floats(-10, 200), st.sampled_from([0.0, 90.0, 120.0, 180.0, 1e-9, 1e9])
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ANY, min_size=12, max_size=12))
def test_nothing_that_a_network_writes_breaks_a_check(values: list[float]) -> None:
    sites = Sites.of_atoms(
        np.array([values[:3]]),
        np.array([values[3:6]]),
        np.array([0, 2]),
        np.array([3, 8]),
        np.array(values[6:]).reshape(2, 3),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcomes = [judge(sites) for judge in JUDGES]
        outcomes.append(structural_validity(sites, self_images=False))
    for outcome in outcomes:
        assert not (outcome.errors & outcome.passed).any()
        assert outcome.errors.any() or np.isfinite(outcome.value).all()
    # All agree on what is a cell, but for those that are too flat for distances.
    if outcomes[2].errors.any():
        assert all(outcome.errors.any() for outcome in outcomes)


def test_disorder_and_missing_radii_are_errors() -> None:
    mixed = crystal((4, 4, 4), CUBIC, ["Fe:0.5 Ni:0.5"], [[0, 0, 0]])
    heavy = crystal((4, 4, 4), CUBIC, ["Bk"], [[0, 0, 0]])
    ions = crystal((4, 4, 4), CUBIC, ["Fe3+"], [[0, 0, 0]])
    sites = Sites.of([mixed, heavy, ions])
    words = ["disordered", "an element without a radius", "passed"]
    for outcome in (radius_distances(sites), coordination(sites, reach=2)):
        assert [REASONS[code] for code in outcome.reason] == words
    assert structural_validity(sites).passed.all()
    assert density(sites).value[0] == pytest.approx((55.845 + 58.6934) / 2 * 1.66053907 / 64)


def test_bounds_decide() -> None:
    sites = Sites.of([crystal((a, a, a), CUBIC, ["Os"], [[0, 0, 0]]) for a in (1.2, 3.0, 40.0)])
    assert density(sites).tally() == {"passed": 1, "below the bounds": 1, "above the bounds": 1}
    assert density(sites).passed.tolist() == [False, True, False]
    assert volume_per_atom(sites).passed.tolist() == [False, True, False]
    assert coordination(sites).passed.tolist() == [True, True, False]
    assert coordination(sites).value.tolist()[1:] == [18, 0]  # 6 at 3.0 Å and 12 at 4.24


def test_atoms_must_be_farther_apart_than_their_radii_allow() -> None:
    sites = Sites.of([crystal((a, a, a), CUBIC, ["Fe"], [[0, 0, 0]]) for a in (1.9, 2.1)])
    found = radius_distances(sites)
    assert found.value == pytest.approx([1.9 / 2.64, 2.1 / 2.64])
    assert found.passed.tolist() == [False, True]
    assert radius_distances(sites, 0.5, "atomic").value == pytest.approx([1.9 / 2.8, 2.1 / 2.8])
    for wrong in (lambda: radius_distances(sites, -1), lambda: radius_distances(sites, radii="x")):
        with pytest.raises(UsageError):
            wrong()


@real
def test_the_space_group_asked_for_is_found() -> None:
    pytest.importorskip("moyopy")
    crystals = [c for c in real_crystals()[::5] if c.ordered]
    units = encode(crystals).units
    records, _ = expand(units).crystals()
    requested = units.space_groups.tolist()
    for symprec in (0.1, 0.01):
        found = space_group_found(records, requested, symprec)
        for record, number, value, passed in zip(
            records, requested, found.value, found.passed, strict=True
        ):
            assert record is not None
            try:
                again = find_symmetry(record, symprec).space_group_number
            except SymmetryError:
                assert np.isnan(value)
            else:
                assert value == again
                assert passed == (again == number)
        assert found.passed.mean() > (0.9 if symprec == 0.1 else 0.99)
    assert space_group_found(records[:2], [231, 0]).tally() == {"no space group asked for": 2}
    assert space_group_found([None], [1]).tally() == {"no cell": 1}


def test_threads_and_batches_change_nothing() -> None:
    rng = np.random.default_rng(5)
    n = 700
    sites = Sites.of_atoms(
        rng.uniform(3, 8, (n, 3)),
        rng.uniform(70, 110, (n, 3)),
        np.arange(0, 4 * n + 1, 4),
        rng.integers(1, 90, 4 * n),
        rng.random((4 * n, 3)),
    )
    for judge in (structural_validity, radius_distances, coordination):
        one: Any = judge(sites)  # type: ignore[operator]
        two: Any = judge(sites, threads=3)  # type: ignore[operator]
        assert np.array_equal(one.value, two.value, equal_nan=True)
        assert (one.reason == two.reason).all()


def test_shapes_are_checked() -> None:
    with pytest.raises(InputError, match="lengths of 1 crystals"):
        Sites.of_atoms(np.ones((1, 2)), np.ones((1, 3)), np.array([0, 0]), np.empty(0), np.empty(0))
    with pytest.raises(InputError, match="do not divide"):
        Sites.of_atoms(
            np.ones((1, 3)), np.ones((1, 3)), np.array([0, 2]), np.ones(1), np.zeros((1, 3))
        )
    assert len(Sites.of([])) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for judge in (
            structural_validity,
            radius_distances,
            density,
            volume_per_atom,
            coordination,
        ):
            assert len(judge(Sites.of([])).value) == 0
