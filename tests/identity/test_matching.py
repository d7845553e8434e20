"""Whether cells match: small crystals, against pymatgen's StructureMatcher on the same cells."""

from __future__ import annotations

import itertools
import re
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from gandb.core.crystals import Crystal, crystal
from gandb.core.errors import UsageError
from gandb.identity.assignment_kernels import assign_cheapest, assign_nearest
from gandb.identity.cells import Cells, Reduced
from gandb.identity.comparing import Comparison
from gandb.identity.kernel_comparison import KernelComparison
from gandb.identity.matching import (
    bound_pairs,
    fit_anonymous_pairs,
    fit_pairs,
    greedy_groups,
    match,
    measure_pairs,
    near_pairs,
)
from gandb.identity.recipes import MatchRecipe
from gandb.identity.reduction import ReductionError, reduce_arrays, reduce_crystal
from tests import pymatgen_matcher as theirs
from tests.crystals import crystals
from tests.variants import VARIANTS, Cell, variants

DEFAULT = MatchRecipe()
RECIPES = [
    DEFAULT,
    MatchRecipe(ltol=0.05, stol=0.1, angle_tol=2),
    MatchRecipe(ltol=0.4, stol=0.6, angle_tol=12),
    MatchRecipe(stol=1.0),
    MatchRecipe(scale=False),
    MatchRecipe(comparator="element"),
]


def cubic(a: float, species: list[str], coords: list[list[float]]) -> Crystal:
    return crystal((a,) * 3, (90,) * 3, species, coords)


def primitive_fcc(a: float, species: list[str], x: list[float]) -> Crystal:
    edge = a / 2**0.5
    return crystal((edge,) * 3, (60,) * 3, species, [[s] * 3 for s in x])


def hexagonal(a: float, c: float, species: list[str], coords: list[list[float]]) -> Crystal:
    return crystal((a, a, c), (90, 90, 120), species, coords)


ROCK_SALT = primitive_fcc(5.64, ["Na", "Cl"], [0, 0.5])
CAESIUM_CHLORIDE = cubic(3.6, ["Na", "Cl"], [[0, 0, 0], [0.5] * 3])
PEROVSKITE = cubic(
    3.9,
    ["Sr", "Ti", "O", "O", "O"],
    [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
)
QUARTZ = hexagonal(
    4.91,
    5.4,
    ["Si"] * 3 + ["O"] * 6,
    [
        [0.4697, 0, 0],
        [0, 0.4697, 2 / 3],
        [0.5303, 0.5303, 1 / 3],
        [0.4133, 0.2672, 0.1188],
        [0.7328, 0.1461, 0.7855],
        [0.8539, 0.5867, 0.4521],
        [0.2672, 0.4133, 0.8812],
        [0.1461, 0.7328, 0.2145],
        [0.5867, 0.8539, 0.5479],
    ],
)
SMALL = [
    cubic(2.87, ["Fe", "Fe"], [[0, 0, 0], [0.5] * 3]),
    cubic(3.6, ["Fe"] * 4, [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]),
    hexagonal(2.5, 4.1, ["Fe", "Fe"], [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]),
    primitive_fcc(5.43, ["Fe", "Fe"], [0, 0.25]),
    ROCK_SALT,
    primitive_fcc(5.64, ["Na", "Cl"], [0, 0.25]),
    CAESIUM_CHLORIDE,
    hexagonal(3.8, 6.2, ["Na", "Cl"] * 2, [[0, 0, 0], [1 / 3, 2 / 3, 0.25], [0, 0, 0.5],
                                           [2 / 3, 1 / 3, 0.75]]),
    PEROVSKITE,
    QUARTZ,
    crystal((3.1, 3.3, 5.2), (88, 92, 97), ["Na", "Cl", "Na", "Cl"],
            [[0, 0, 0], [0.4, 0.5, 0.2], [0.1, 0.1, 0.55], [0.6, 0.5, 0.8]]),
    cubic(2.9, ["Fe:0.5 Ni:0.5"], [[0, 0, 0]]),
    cubic(2.9, ["Fe:0.5 Ni:0.5", "Fe:0.5 Ni:0.5"], [[0, 0, 0], [0.5] * 3]),
    cubic(2.9, ["Fe", "Ni"], [[0, 0, 0], [0.5] * 3]),
    cubic(4.2, ["Na+", "Cl-"], [[0, 0, 0], [0.5] * 3]),
    cubic(4.2, ["Na:0.5", "Cl"], [[0, 0, 0], [0.5] * 3]),
    crystal((3, 3, 31), (90, 90, 90), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.06]]),
]  # fmt: skip


def family(seed: int, names: list[str] | None = None) -> list[Reduced]:
    """Return small crystals and variants of them, reduced."""
    rng = np.random.default_rng(seed)
    found = []
    for record in SMALL:
        found.append(reduce_crystal(record))
        for _, cell in variants(record, rng, names or list(VARIANTS)[5:], max_sites=40):
            found.append(reduce_arrays(cell.lattice, cell.frac_coords, cell.species))
    return found


def alike_pairs(cells: list[Reduced], most: int, seed: int = 0) -> np.ndarray:
    """Return pairs of cells of one size and nearly one composition."""
    pairs = [
        (i, j)
        for i, j in itertools.permutations(range(len(cells)), 2)
        if len(cells[i]) == len(cells[j]) and set(cells[i].species) == set(cells[j].species)
    ]
    order = np.random.default_rng(seed).permutation(len(pairs))[:most]
    return np.array([pairs[i] for i in order], np.int64)


def check(cells: list[Reduced], pairs: np.ndarray, recipe: MatchRecipe) -> np.ndarray:
    """Compare verdicts and measures with pymatgen's, and return the verdicts."""
    packed = Cells.of(cells, recipe.comparator)
    found = fit_pairs(packed, pairs, recipe)
    np.testing.assert_array_equal(found, theirs.fits(cells, pairs, recipe))
    expected = theirs.measures(cells, pairs, recipe)
    rms, largest = measure_pairs(packed, pairs, recipe)
    np.testing.assert_array_equal(np.isnan(rms), np.isnan(expected[:, 0]))
    # Below 1e-5 pymatgen takes the first that it finds.
    late = ~(expected[:, 0] < 1e-5)
    np.testing.assert_allclose(rms[late], expected[late, 0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(largest[late], expected[late, 1], rtol=0, atol=1e-5)
    assert (rms[~late] < 1e-5).all()
    return found


# --- verdicts and measures ---------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_small_crystals(recipe: MatchRecipe) -> None:
    cells = family(1)
    found = check(cells, alike_pairs(cells, 100), recipe)
    assert 10 < found.sum() < len(found) - 10


def test_oxidation_states_with_the_element_comparator() -> None:
    cells = [
        reduce_crystal(cubic(4.2, species, [[0, 0, 0], [0.5] * 3]))
        for species in (["Fe2+", "O2-"], ["Fe3+", "O2-"], ["Fe", "O"], ["Fe2+:0.5 Fe3+:0.5", "O"])
    ]
    pairs = np.array(list(itertools.product(range(4), repeat=2)))
    assert check(cells, pairs, MatchRecipe(comparator="element")).all()
    charged = pairs[(pairs != 2).all(axis=1) & (pairs != 3).all(axis=1)]
    assert check(cells, charged, DEFAULT).sum() == 2


def test_atoms_without_oxidation_states_do_not_match_ions() -> None:
    """With pymatgen it depends on which comes first: an element there equals any of its ions."""
    atoms, ions = (
        reduce_crystal(cubic(4.2, species, [[0, 0, 0], [0.5] * 3]))
        for species in (["Fe", "O"], ["Fe2+", "O2-"])
    )
    pairs = np.array([[0, 1], [1, 0]])
    assert theirs.fits([atoms, ions], pairs, DEFAULT).tolist() == [True, False]
    assert not fit_pairs(Cells.of([atoms, ions]), pairs, DEFAULT).any()


def test_cells_that_are_not_primitive() -> None:
    recipe = MatchRecipe(primitive_cell=False)
    rng = np.random.default_rng(2)
    cells = [
        reduce_crystal(cell.crystal(), primitive=False)
        for record in SMALL[:9]
        for _, cell in variants(record, rng, ["unimodular", "random supercell"] * 3, max_sites=24)
    ]
    check(cells, alike_pairs(cells, 80), recipe)


def mixes_atoms_and_ions(record: Crystal) -> bool:
    """See `test_atoms_without_oxidation_states_do_not_match_ions`."""
    occupants = {occupant for site in record.occupants for occupant in site}
    atoms = {o.element for o in occupants if o.oxidation_state is None}
    return any(o.element in atoms for o in occupants if o.oxidation_state is not None)


@settings(max_examples=25)
@given(
    record=crystals(max_sites=6),
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(sorted(VARIANTS)),
    recipe=st.sampled_from(RECIPES),
)
def test_any_crystal_and_a_variant(
    record: Crystal, seed: int, name: str, recipe: MatchRecipe
) -> None:
    assume(not mixes_atoms_and_ions(record))
    with warnings.catch_warnings():  # of elements without electronegativity
        warnings.simplefilter("ignore")
        for _, cell in variants(record, np.random.default_rng(seed), [name], max_sites=24):
            cells = [
                reduce_crystal(record),
                reduce_arrays(cell.lattice, cell.frac_coords, cell.species),
            ]
            check(cells, np.array([[0, 1], [1, 0], [0, 0]]), recipe)


def test_mirror_images_match() -> None:
    mirrored = crystal(QUARTZ.lengths, QUARTZ.angles, QUARTZ.species, -QUARTZ.frac_coords)
    assert match(QUARTZ, mirrored).same


def test_threads_and_order_change_nothing() -> None:
    cells = family(3, ["noise 0.05", "antisite", "one site 1.0"])
    packed, pairs = Cells.of(cells), np.repeat(alike_pairs(cells, 200), 4, axis=0)
    one = measure_pairs(packed, pairs, DEFAULT)
    np.testing.assert_array_equal(one, measure_pairs(packed, pairs, DEFAULT, threads=3))
    fit = fit_pairs(packed, pairs, DEFAULT)
    np.testing.assert_array_equal(fit, fit_pairs(packed, pairs[::-1], DEFAULT, threads=2)[::-1])
    assert fit_pairs(packed, np.empty((0, 2), np.int64), DEFAULT).shape == (0,)


def test_more_lattice_points_and_pairs_than_there_is_room_for() -> None:
    flat = crystal((2, 2, 190), (90, 90, 90), ["Fe"] * 2, [[0, 0, 0], [0, 0, 0.01]])
    rng = np.random.default_rng(4)
    gas = reduce_arrays(np.eye(3) * 5, rng.random((40, 3)), ["Fe"] * 40, primitive=False)
    cells = [reduce_crystal(flat), gas]
    check(cells, np.array([[0, 0], [1, 1]]), MatchRecipe(stol=1.5))


# --- groups ------------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("comparator", ["species", "element"])
def test_greedy_groups_are_those_of_pymatgen(symmetric: bool, comparator: str) -> None:
    recipe = MatchRecipe(comparator=comparator)  # type: ignore[arg-type]
    cells = family(5, ["noise 0.1", "strain 1 %", "one site 1.0", "element", "supercell, antisite"])
    cells = [cells[i] for i in np.random.default_rng(5).permutation(len(cells))]
    if comparator == "species":  # in a mixture with ions, pymatgen's order is one of hashes
        cells = [cell for cell in cells if not any("+" in text for text in cell.species)]
    given_cells = [theirs.structure_of(cell) for cell in cells]
    places = {id(structure): i for i, structure in enumerate(given_cells)}
    groups = theirs.matcher(recipe).group_structures(given_cells, symmetric=symmetric)
    expected = [[places[id(s)] for s in group] for group in groups]
    packed = Cells.of(cells, recipe.comparator)
    assert greedy_groups(packed, recipe, symmetric) == expected
    assert greedy_groups(packed, recipe, symmetric, threads=2) == expected
    assert 10 < len(expected) < len(cells) - 10


def test_species_may_be_exchanged() -> None:
    cells = family(6, ["noise 0.05", "element", "antisite"])
    cells += [
        reduce_crystal(record)
        for record in (
            primitive_fcc(5.1, ["Mg", "O"], [0.5, 0]),
            primitive_fcc(5.1, ["Mg2+", "O2-"], [0.5, 0]),
            cubic(3.9, ["O", "Ti", "Sr", "Sr", "Sr"], PEROVSKITE.frac_coords.tolist()),
            cubic(3.0, ["Co:0.5 Cu:0.5"], [[0, 0, 0]]),
            cubic(3.0, ["Co:0.25 Cu:0.75"], [[0, 0, 0]]),
            cubic(4.2, ["F", "K:0.5"], [[0, 0, 0], [0.5] * 3]),
        )
    ]
    pairs = np.array(
        [
            (i, j)
            for i, j in itertools.permutations(range(len(cells)), 2)
            if len(cells[i]) == len(cells[j]) <= 5
        ]
    )
    pairs = pairs[np.random.default_rng(6).permutation(len(pairs))[:400]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = theirs.fits(cells, pairs, DEFAULT, anonymous=True)
    found = fit_anonymous_pairs(Cells.of(cells), pairs, DEFAULT)
    np.testing.assert_array_equal(found, expected)
    same = fit_pairs(Cells.of(cells), pairs, DEFAULT)
    assert found[same].all()
    assert (found & ~same).sum() > 10


# --- near cells and what they cannot match -------------------------------------------------------


def perturbed(
    cell: Reduced, strain: float, displacement: float, rng: np.random.Generator
) -> Reduced:
    """Strain a cell and displace its sites, by no more than that, and reduce it anew."""
    n = len(cell)
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    changes = rng.uniform(-1, 1, 3) * np.log1p(strain)
    away = rng.normal(size=(n, 3))
    away *= displacement * (cell.volume / n) ** (1 / 3) / np.linalg.norm(away, axis=1)[:, None]
    coords = cell.frac_coords + away @ np.linalg.inv(cell.lattice)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    lattice = cell.lattice @ axes @ np.diag(np.exp(changes)) @ axes.T @ turn
    return reduce_arrays(lattice, coords, cell.species)


@pytest.mark.parametrize(("strain", "displacement"), [(0.004, 0.008), (0.02, 0.04)])
@pytest.mark.parametrize("recipe", [DEFAULT, RECIPES[1], MatchRecipe(scale=False)])
def test_the_bound_keeps_its_promise(
    recipe: MatchRecipe, strain: float, displacement: float
) -> None:
    cells = family(7, ["noise 0.1", "one site 1.0", "one site 0.2", "antisite", "strain 1 %"])
    packed, pairs = Cells.of(cells), alike_pairs(cells, 1500)
    fit = fit_pairs(packed, pairs, recipe) | fit_pairs(packed, pairs[:, ::-1], recipe)
    may = bound_pairs(packed, pairs, recipe, strain, displacement)
    assert may[fit].all()
    assert (~may).sum() > 100
    np.testing.assert_array_equal(
        may, bound_pairs(packed, pairs[:, ::-1], recipe, strain, displacement, threads=2)
    )
    rng = np.random.default_rng(7)
    close = [[perturbed(cell, strain, displacement, rng) for cell in cells] for _ in range(3)]
    for one, two in itertools.product(close, repeat=2):
        both = Cells.of([*one, *two])
        across = pairs[~may] + np.array([0, len(one)])
        assert not fit_pairs(both, across, recipe).any()
        assert not fit_pairs(both, across[:, ::-1], recipe).any()


def test_the_bound_is_tight_enough_to_be_of_use() -> None:
    cells = family(8, ["one site 1.0", "antisite", "noise 0.1"])
    packed, pairs = Cells.of(cells), alike_pairs(cells, 1500)
    apart = ~(fit_pairs(packed, pairs, DEFAULT) | fit_pairs(packed, pairs[:, ::-1], DEFAULT))
    may = bound_pairs(packed, pairs, DEFAULT, 0.0025, 0.005)
    assert (~may).sum() > 0.6 * apart.sum()


def test_near_cells() -> None:
    rng = np.random.default_rng(9)
    cells = [reduce_crystal(record) for record in SMALL]
    near = [perturbed(cell, 0.003, 0.005, rng) for cell in cells]
    far = [perturbed(cell, 0.003, 0.2, rng) for cell in cells]
    packed = Cells.of([*cells, *near, *far])
    n = len(cells)
    pairs = np.stack([np.arange(n), np.arange(n)], axis=1)
    assert near_pairs(packed, pairs, DEFAULT, 0.01, 0.02).all()
    assert near_pairs(packed, pairs + np.array([0, n]), DEFAULT, 0.01, 0.02).all()
    distant = near_pairs(packed, pairs + np.array([0, 2 * n]), DEFAULT, 0.01, 0.02)
    assert not distant[[len(cell) > 1 for cell in cells]].any()
    strained = [Reduced(c.lattice * [1, 1, 1.05], c.frac_coords, c.species) for c in cells]
    assert not near_pairs(
        Cells.of([*cells, *strained]), pairs + np.array([0, n]), DEFAULT, 0.01, 0.9
    ).any()
    larger = [Reduced(c.lattice * 1.05, c.frac_coords, c.species) for c in cells]
    packed = Cells.of([*cells, *larger])
    assert near_pairs(packed, pairs + np.array([0, n]), DEFAULT, 0.01, 0.02).all()
    unscaled = MatchRecipe(scale=False)
    assert not near_pairs(packed, pairs + np.array([0, n]), unscaled, 0.01, 0.02).any()


def test_strains_and_displacements_are_checked() -> None:
    packed = Cells.of([reduce_crystal(ROCK_SALT)])
    for strain, displacement in ((-0.1, 0), (0, 3), (np.nan, 0)):
        with pytest.raises(UsageError, match="make sense"):
            bound_pairs(packed, np.array([[0, 0]]), DEFAULT, strain, displacement)


def test_what_grouping_asks_for() -> None:
    cells = family(10, ["noise 0.01", "antisite"])
    pairs = alike_pairs(cells, 200)
    packed = Cells.of(cells)
    ask: Comparison = KernelComparison(packed, DEFAULT, 2, [(0.01, 0.02)])
    (reach,) = ask.reaches
    assert reach > 0
    np.testing.assert_array_equal(ask.fit(pairs), fit_pairs(packed, pairs, DEFAULT))
    np.testing.assert_array_equal(ask.measure(pairs), measure_pairs(packed, pairs, DEFAULT))
    near, apart = ask.near(pairs, 0), ask.apart(pairs, 0)
    np.testing.assert_array_equal(near, near_pairs(packed, pairs, DEFAULT, 0.01, 0.02))
    np.testing.assert_array_equal(apart, ~bound_pairs(packed, pairs, DEFAULT, 0.01, 0.02))
    assert near.any()
    assert apart.any()
    assert not (near & apart).any()


# --- assignment --------------------------------------------------------------------------------


@settings(max_examples=200)
@given(
    n=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
    share=st.floats(0.2, 1),
    ties=st.booleans(),
)
def test_assignment_is_that_of_scipy(n: int, seed: int, share: float, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    cost = np.round(rng.random((n, n)) * 4) if ties else rng.random((n, n))
    allowed = rng.random((n, n)) < share
    allowed[np.arange(n), rng.integers(0, n, n)] = True
    first = np.concatenate([[0], np.cumsum(allowed.sum(axis=1))])
    partner = np.nonzero(allowed)[1]
    row_of, column_of = np.empty((2, n), np.int64)
    marks = np.empty((4, n), np.int64)
    sparse = cost[allowed]
    nearest = assign_nearest(n, first, partner, sparse, row_of, column_of)
    found = nearest or assign_cheapest(
        n, first, partner, sparse, row_of, column_of, np.empty((3, n)), marks
    )
    try:
        rows, columns = linear_sum_assignment(np.where(allowed, cost, np.inf))
    except ValueError:
        assert not found
        return
    assert found
    assert sorted(partner[column_of]) == list(range(n))
    assert sparse[column_of].sum() == pytest.approx(cost[rows, columns].sum(), abs=1e-9)


# --- one comparison in full --------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_the_mapping_lays_the_cells_on_each_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for record in (ROCK_SALT, PEROVSKITE, QUARTZ, SMALL[10], SMALL[2]):
        for name, cell in variants(record, rng, ["supercell, unimodular, moved", "noise 0.05"]):
            found = match(record, cell.crystal())
            assert (found.forward, found.backward, found.same) == (True, True, True)
            assert found.reason is None
            mapping, sites = found.lattice_mapping, found.site_mapping
            assert mapping is not None
            assert sites is not None
            assert abs(round(np.linalg.det(mapping))) == 1
            assert sorted(sites) == list(range(len(found.first)))
            assert [found.first.species[i] for i in sites] == list(found.second.species)
            basis = mapping @ found.first.lattice
            np.testing.assert_allclose(
                basis @ basis.T, found.second.lattice @ found.second.lattice.T, rtol=0.1, atol=1
            )
            away = found.first.frac_coords[sites] @ np.linalg.inv(mapping)
            away -= found.second.frac_coords + found.translation
            away -= np.rint(away)
            assert found.rms is not None
            assert found.rms_angstrom is not None
            assert found.max_distance_angstrom is not None
            np.testing.assert_allclose(away.mean(axis=0), 0, atol=1e-9)
            distances = np.linalg.norm(away @ found.second.lattice, axis=1)
            assert distances.max() == pytest.approx(found.max_distance_angstrom, rel=0.1, abs=1e-6)
            unit = (found.second.volume / len(sites)) ** (1 / 3)
            assert found.rms_angstrom == pytest.approx(found.rms * unit, rel=0.1)
            assert (found.rms < 1e-6) == (name != "noise 0.05" or len(sites) == 1)


@pytest.mark.parametrize(
    ("one", "two", "reason"),
    [
        (ROCK_SALT, primitive_fcc(5.6, ["K", "Cl"], [0, 0.5]), "1 Cl, 1 Na against 1 Cl, 1 K"),
        (
            ROCK_SALT,
            primitive_fcc(5.6, ["Na+", "Cl-"], [0, 0.5]),
            "only oxidation states differ, which the comparator `element` ignores",
        ),
        (ROCK_SALT, SMALL[10], "reduced cells have 2 and 4 sites"),
        (
            ROCK_SALT,
            CAESIUM_CHLORIDE,
            r"within 20% and angles within 5° .* nearest is 4\.01 .* against 3\.58",
        ),
        (ROCK_SALT, SMALL[5], r"go, the farthest lies 0\.433 .* 1\.22 Å"),
        (ROCK_SALT, SMALL[16], "lengths within 20%"),
        (QUARTZ, "shuffled", "laid on each other as well as they go, the farthest lies"),
    ],
)
def test_reasons(one: Crystal, two: Crystal | str, reason: str) -> None:
    if isinstance(two, str):
        coords = np.random.default_rng(1).random((9, 3))
        two = crystal(QUARTZ.lengths, QUARTZ.angles, QUARTZ.species, coords)
    found = match(one, two)
    assert (found.same, found.rms, found.lattice_mapping) == (False, None, None)
    assert found.reason is not None
    assert re.search(reason, found.reason)


def test_a_crystal_without_reduced_cell_is_refused() -> None:
    sheet = Cell.of(ROCK_SALT)
    with pytest.raises(ReductionError):
        reduce_arrays(sheet.lattice[[0, 0, 1]], sheet.frac_coords, sheet.species)
