"""What grouping asks of a comparison, and how much of it was asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Comparison(Protocol):
    """Verdicts on pairs of members of one block, given as int64 (k, 2) of their indices.

    All answers depend on the pair alone. `near` and `apart` are what lets a large block be grouped
    without comparing all of its pairs, and together they keep one promise, on which the partition
    rests: if ``apart`` holds of (a, b) at a level, then neither ``fit(x, y)`` nor ``fit(y, x)``
    holds for any x that is a or has ``near(a, x)`` at that level, and any y that is b or has
    ``near(b, y)`` at that level. Nothing is asked of `near` besides.
    """

    @property
    def reaches(self) -> Sequence[float]:
        """How far apart the rows of AMD of two that are near commonly lie at most.

        One for each level, from the widest to the tightest. They guide where to look and decide
        nothing.
        """

    def fit(self, pairs: np.ndarray) -> np.ndarray:
        """Say whether the first matches the second, in this direction; bool (k,)."""

    def measure(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return root mean square and largest displacement, float64 (k,) each; NaN for none."""

    def near(self, pairs: np.ndarray, level: int) -> np.ndarray:
        """Say whether the second is a tight duplicate of the first, bool (k,)."""

    def apart(self, pairs: np.ndarray, level: int) -> np.ndarray:
        """Say what surely holds no match between all near the one and all near the other.

        Returns:
            bool (k,), false wherever it is not certain.
        """


@dataclass
class Made:
    """How many questions of each kind were asked."""

    fit: int = 0
    measure: int = 0
    near: int = 0
    apart: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.fit + self.measure + self.near + self.apart


class Asked:
    """A comparison asked in batches, counted, with progress told after each.

    Args:
        comparison: what answers.
        batch: most pairs in one question.
        progress: told how many questions were asked so far; what it raises ends the work.
    """

    def __init__(
        self, comparison: Comparison, batch: int, progress: Callable[[int], None] | None
    ) -> None:
        self.reaches = tuple(comparison.reaches)
        self.made = Made()
        self._comparison = comparison
        self._batch = batch
        self._progress = progress

    def fit(self, pairs: np.ndarray) -> np.ndarray:
        """As `Comparison.fit`."""
        answers = np.empty(len(pairs), bool)
        for part in self._parts(len(pairs)):
            answers[part] = self._comparison.fit(pairs[part])
            self.made.fit += len(pairs[part])
            self._tell()
        return answers

    def measure(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Comparison.measure`."""
        rms, largest = np.empty(len(pairs)), np.empty(len(pairs))
        for part in self._parts(len(pairs)):
            rms[part], largest[part] = self._comparison.measure(pairs[part])
            self.made.measure += len(pairs[part])
            self._tell()
        return rms, largest

    def near(self, pairs: np.ndarray, level: int) -> np.ndarray:
        """As `Comparison.near`."""
        answers = np.empty(len(pairs), bool)
        for part in self._parts(len(pairs)):
            answers[part] = self._comparison.near(pairs[part], level)
            self.made.near += len(pairs[part])
            self._tell()
        return answers

    def apart(self, pairs: np.ndarray, level: int) -> np.ndarray:
        """As `Comparison.apart`."""
        answers = np.empty(len(pairs), bool)
        for part in self._parts(len(pairs)):
            answers[part] = self._comparison.apart(pairs[part], level)
            self.made.apart += len(pairs[part])
            self._tell()
        return answers

    def _parts(self, count: int) -> list[slice]:
        return [slice(at, at + self._batch) for at in range(0, count, self._batch)]

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self.made.total)
