"""Baseline ``substitution``: a training formula with one element replaced.

A training formula is drawn, one of its elements is drawn, and another element that it does not
hold takes its place with the same count. The new element is drawn by how many training formulas
hold it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from gandb.core.errors import UsageError
from gandb.generators import base, kernels
from gandb.representations import onehot


@dataclass(frozen=True)
class SubstitutionConfig:
    """This baseline has no options."""


@dataclass(frozen=True)
class SubstitutionGenerator:
    """One element of a training formula replaced.

    Attributes:
        training: uint16 (m, 8), cells of the training formulas.
    """

    training: np.ndarray
    name: str = "substitution"

    @property
    def config(self) -> Mapping[str, Any]:
        """Return no options."""
        return {}

    @classmethod
    def fit(cls, name: str, data: base.TrainingData, options: SubstitutionConfig) -> base.Fit[Self]:
        """Keep the training set."""
        del options
        encoded = data.encode()
        return base.Fit(cls(encoded.cells, name), len(encoded.rows), encoded.rejected())

    def sample(
        self,
        n: int,
        seed: np.random.SeedSequence,
        condition: Mapping[str, Any] | None = None,
        device: str | None = None,
    ) -> base.Samples:
        """Draw n formulas; see `gandb.generators.base.Generator`. The device makes no difference.

        Raises:
            UsageError: a condition is given.
        """
        if condition:
            raise UsageError(f"model {self.name} takes no condition, but got {dict(condition)}")
        used = self.training[self.training < onehot.EMPTY] // onehot.MAX_COUNT
        times = np.bincount(used, minlength=len(onehot.ELEMENTS))
        cells = np.empty((n, onehot.MAX_ELEMENTS), np.uint16)
        for part, rng in base.blocks(n, seed):
            cells[part] = kernels.substitute_one(
                rng.random((part.stop - part.start, 3)),
                self.training,
                times / times.sum(),
                onehot.MAX_COUNT,
                onehot.EMPTY,
            )
        return base.Samples.from_cells(cells)

    def checkpoint(self) -> bytes:
        """Write the training cells."""
        return base.pack(
            {"training": self.training}, base.describe(self.name, SubstitutionConfig())
        )

    @classmethod
    def restore(
        cls, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any], device: str
    ) -> Self:
        """Make it of a checkpoint's tensors; the device makes no difference."""
        del device
        return cls(tensors["training"], description["model"])
