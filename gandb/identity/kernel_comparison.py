"""Verdicts for grouping from the compiled matcher."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gandb.identity.bounds import bound_pairs, near_pairs
from gandb.identity.cells import Cells
from gandb.identity.matching import fit_pairs, measure_pairs
from gandb.identity.recipes import MatchRecipe

LEVELS = ((0.004, 0.2), (0.004, 0.1), (0.003, 0.04))
"""Strain, and displacement in units of (volume / sites)^(1/3), of tight duplicates."""

_COMMON = 1.5
"""AMD of tight duplicates differ by this many times strain and displacement at most, mostly.

Twice the displacement and three times the strain are possible, but sites move in all directions.
"""


class KernelComparison:
    """The cells of one block under a recipe; a `gandb.identity.comparing.Comparison`.

    Its promise is that of `gandb.identity.bounds`.

    Args:
        cells: reduced cells, packed with the recipe's comparator, in the order of the block.
        recipe: what counts as the same.
        threads: how many threads share a question.
        levels: strain and displacement of tight duplicates, from the widest to the tightest.
    """

    def __init__(
        self,
        cells: Cells,
        recipe: MatchRecipe,
        threads: int = 1,
        levels: Sequence[tuple[float, float]] = LEVELS,
    ) -> None:
        self._cells, self._recipe, self._threads = cells, recipe, threads
        self._levels = tuple(levels)

    @property
    def reaches(self) -> tuple[float, ...]:
        """How far apart AMD of tight duplicates commonly lie, for a common volume per site."""
        return tuple(_COMMON * (strain + displacement) for strain, displacement in self._levels)

    def fit(self, pairs: np.ndarray) -> np.ndarray:
        """Say whether the first matches the second; bool (k,)."""
        return fit_pairs(self._cells, pairs, self._recipe, self._threads)

    def measure(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return root mean square and largest displacement; see `measure_pairs`."""
        return measure_pairs(self._cells, pairs, self._recipe, self._threads)

    def near(self, pairs: np.ndarray, level: int) -> np.ndarray:
        """Say whether the second is a tight duplicate of the first."""
        return near_pairs(self._cells, pairs, self._recipe, *self._levels[level], self._threads)

    def apart(self, pairs: np.ndarray, level: int) -> np.ndarray:
        """Say what surely holds no match between tight duplicates of the one and of the other."""
        return ~bound_pairs(self._cells, pairs, self._recipe, *self._levels[level], self._threads)
