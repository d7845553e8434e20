"""The bound against cells that are moved towards each other as far as it allows."""

from __future__ import annotations

import numpy as np
import pytest

from gandb.identity.bounds import bound_pairs
from gandb.identity.cells import Cells, Reduced
from gandb.identity.explaining import match_reduced
from gandb.identity.matching import fit_pairs
from gandb.identity.recipes import MatchRecipe
from gandb.identity.reduction import reduce_crystal
from tests.variants import Cell, noisy

RECIPE = MatchRecipe(comparator="element")
WIDE = MatchRecipe(stol=2.0, comparator="element")


def forms(rng: np.random.Generator) -> list[list[Reduced]]:
    """Cells of one composition and lattice each, whose sites lie a little or far apart."""
    found = []
    for size in (0.15, 0.25, 0.35):
        vectors = np.diag(rng.uniform(4.5, 7.0, 3)) + rng.uniform(-0.8, 0.8, (3, 3))
        base = Cell(vectors, rng.random((10, 3)), ("Mg",) * 4 + ("Co",) * 2 + ("O",) * 4)
        moved = [noisy(base, rng, size * 2.5).crystal() for _ in range(12)]
        found.append([cell for cell in map(reduce_crystal, moved) if len(cell) == len(base)])
    return found


def towards(one: Reduced, two: Reduced, displacement: float) -> tuple[Reduced, Reduced] | None:
    """Move the sites of both towards each other, each by what is allowed at most."""
    found = match_reduced(one, two, WIDE)
    if found.lattice_mapping is None or found.site_mapping is None or found.translation is None:
        return None
    inverse = np.linalg.inv(found.lattice_mapping)
    there = one.frac_coords[found.site_mapping] @ inverse
    steps = there - two.frac_coords - found.translation
    steps -= np.rint(steps)
    steps -= steps.mean(axis=0)
    unit = (two.volume / len(two)) ** (1 / 3)
    lattices = two.lattice, found.lattice_mapping @ one.lattice
    far = np.maximum(*(np.linalg.norm(steps @ lattice, axis=1) for lattice in lattices))
    share = np.minimum(0.5, 0.999 * displacement * unit / np.maximum(far, 1e-9))[:, None]
    moved = one.frac_coords.copy()
    moved[found.site_mapping] -= (steps * share) @ found.lattice_mapping
    return (
        Reduced(one.lattice, moved, one.species),
        Reduced(two.lattice, two.frac_coords + steps * share, two.species),
    )


@pytest.mark.parametrize("displacement", [0.02, 0.05, 0.1, 0.2])
def test_no_cells_that_are_moved_towards_each_other_match(displacement: float) -> None:
    rng = np.random.default_rng(5)
    excluded = matched = 0
    for own in forms(rng):
        pairs = np.array([(i, j) for j in range(len(own)) for i in range(j)])
        may = bound_pairs(Cells.of(own, "element"), pairs, RECIPE, 0.001, displacement)
        for (i, j), possible in zip(pairs.tolist(), may.tolist(), strict=True):
            moved = towards(own[i], own[j], displacement)
            if moved is None:
                continue
            cells = Cells.of(moved, "element")
            same = fit_pairs(cells, np.array([[0, 1], [1, 0]]), RECIPE).any()
            excluded += not possible
            matched += same
            assert possible or not same
    if displacement <= 0.05:
        assert excluded > 50
    if displacement >= 0.05:
        assert matched > 5
