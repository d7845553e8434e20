"""Verdicts for grouping from the compiled matcher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gandb.identity.cells import Cells
from gandb.identity.matching import fit_pairs, measure_pairs
from gandb.identity.recipes import MatchRecipe


@dataclass(frozen=True)
class Tightness:
    """Tolerances within which two are duplicates of each other; see `MatchRecipe`."""

    ltol: float
    stol: float
    angle_tol: float


LEVELS = (Tightness(0.02, 0.1, 1.0), Tightness(0.01, 0.02, 0.5))


class KernelComparison:
    """The cells of one block under a recipe, as grouping asks of them.

    Args:
        cells: reduced cells, packed with the recipe's comparator, in the order of the block.
        recipe: what counts as the same.
        threads: how many threads share a question.
        levels: what counts as a tight duplicate, from the widest to the tightest.
    """

    def __init__(
        self,
        cells: Cells,
        recipe: MatchRecipe,
        threads: int = 1,
        levels: Sequence[Tightness] = LEVELS,
    ) -> None:
        self._cells, self._recipe, self._threads = cells, recipe, threads
        self._tight = [
            replace(
                recipe,
                ltol=min(recipe.ltol, level.ltol),
                stol=min(recipe.stol, level.stol),
                angle_tol=min(recipe.angle_tol, level.angle_tol),
            )
            for level in levels
        ]
        self.reaches = tuple(level.stol for level in self._tight)

    def fit(self, pairs: np.ndarray) -> np.ndarray:
        """Say whether the first matches the second; bool (k,)."""
        return fit_pairs(self._cells, pairs, self._recipe, self._threads)

    def measure(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return root mean square and largest displacement; see `measure_pairs`."""
        return measure_pairs(self._cells, pairs, self._recipe, self._threads)

    def near(self, pairs: np.ndarray, level: int) -> np.ndarray:
        """Say whether the first matches the second within the tolerances of a level."""
        return fit_pairs(self._cells, pairs, self._tight[level], self._threads)

    def apart(self, pairs: np.ndarray, level: int) -> np.ndarray:
        """Say what surely holds no match; see `Comparison.apart`."""
        return np.zeros(len(pairs), bool)
