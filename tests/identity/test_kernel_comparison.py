"""Grouping crystals by the compiled matcher: the components of brute force."""

from __future__ import annotations

import numpy as np
import pytest

from gandb.identity.amd import normalised_amd
from gandb.identity.cells import Cells
from gandb.identity.grouping import Effort, group_block
from gandb.identity.kernel_comparison import LEVELS, KernelComparison
from gandb.identity.matching import fit_pairs
from gandb.identity.recipes import MatchRecipe
from gandb.identity.reduction import reduce_arrays

RECIPE = MatchRecipe()


def block(noise: float, each: int) -> tuple[Cells, np.ndarray, np.ndarray]:
    """Variants of some crystals of one composition, their AMD, and which crystal each is of."""
    rng = np.random.default_rng(7)
    species = ("Ca", "Ti", "O", "O", "O", "O", "Sr", "Sr")
    found, kinds = [], []
    for kind in range(6):
        lattice = np.diag([4.1, 5.0, 6.3]) + rng.normal(0, 0.4, (3, 3))
        sites = rng.uniform(0, 1, (8, 3))
        for _ in range(each):
            moved = sites + rng.normal(0, noise, (8, 3)) @ np.linalg.inv(lattice)
            order = rng.permutation(8)
            scaled = lattice * rng.uniform(0.95, 1.05)
            found.append(reduce_arrays(scaled, moved[order], [species[i] for i in order]))
            kinds.append(kind)
    mixed = rng.permutation(len(found))
    cells = [found[i] for i in mixed]
    amd = np.array([normalised_amd(cell.lattice, cell.frac_coords) for cell in cells])
    return Cells.of(cells), amd, np.array(kinds)[mixed]


@pytest.mark.parametrize("noise", [0.004, 0.03, 0.1])
def test_components_are_those_of_brute_force(noise: float) -> None:
    cells, amd, kinds = block(noise, 15)
    n = len(cells)
    pairs = np.argwhere(~np.eye(n, dtype=bool))
    verdicts = np.zeros((n, n), bool)
    verdicts[pairs[:, 0], pairs[:, 1]] = fit_pairs(cells, pairs, RECIPE)
    reached = np.eye(n, dtype=bool) | verdicts | verdicts.T
    for _ in range(8):
        reached = reached @ reached
    comparison = KernelComparison(cells, RECIPE, threads=2)
    known = np.full(n, -1)
    for last in (n // 3, n):
        part = KernelComparison(cells, RECIPE)
        grouped = group_block(part, amd[:last], known[:last], Effort(full=8, worth=4))
        known[:last] = grouped.component
    assert np.array_equal(known, reached.argmax(axis=1))
    whole = group_block(comparison, amd, np.full(n, -1), Effort(full=8, worth=4))
    assert np.array_equal(whole.component, known)
    evidence = whole.evidence()
    assert np.array_equal(evidence.forward == 1, verdicts[evidence.a, evidence.b])
    asked = evidence.backward >= 0
    backward = verdicts[evidence.b, evidence.a]
    assert np.array_equal(evidence.backward[asked] == 1, backward[asked])
    matched = verdicts[evidence.a, evidence.b] | backward
    assert np.array_equal(np.isfinite(evidence.rms), matched)
    if noise == 0.004:
        assert len(np.unique(whole.component)) == len(np.unique(kinds))
        assert len(np.unique(whole.centre)) < 20, "tight duplicates are collapsed"
        assert (evidence.method > 0).any(), "and bounded"


def test_bounds_keep_their_promise() -> None:
    cells, _, _ = block(0.02, 10)
    n = len(cells)
    comparison = KernelComparison(cells, RECIPE)
    pairs = np.argwhere(~np.eye(n, dtype=bool))
    fits = np.zeros((n, n), bool)
    fits[pairs[:, 0], pairs[:, 1]] = comparison.fit(pairs)
    for level in range(len(LEVELS)):
        near, apart = np.eye(n, dtype=bool), np.zeros((n, n), bool)
        near[pairs[:, 0], pairs[:, 1]] = comparison.near(pairs, level)
        apart[pairs[:, 0], pairs[:, 1]] = comparison.apart(pairs, level)
        reachable = near @ (fits | fits.T) @ near.T
        assert apart.any()
        assert not (apart & reachable).any()
