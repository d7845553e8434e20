"""Baselines that draw elements and counts independently, from tables of frequencies.

The number of different elements is drawn from the training histogram, then different elements one
after another, then a count for each:

- ``uniform``: every element and every count 1 to 8 alike;
- ``element_frequency``: elements by how many training formulas hold them, counts by how often
  they occur with any element;
- ``count_given_element``: the same elements, counts by how often they occur with that element.

They know nothing of which elements and counts go together, which is what a model has to learn.
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
class FrequencyConfig:
    """These baselines have no options."""


@dataclass(frozen=True)
class FrequencyGenerator:
    """Elements and counts drawn from tables.

    Attributes:
        name: which of the three baselines it is.
        sizes: float64 (9,), probability of 0 to 8 different elements.
        elements: float64 (85,), probability of each element.
        counts: float64 (85, 8), probability of each count, given the element.
    """

    name: str
    sizes: np.ndarray
    elements: np.ndarray
    counts: np.ndarray

    @property
    def config(self) -> Mapping[str, Any]:
        """Return no options."""
        return {}

    @classmethod
    def fit(cls, name: str, data: base.TrainingData, options: FrequencyConfig) -> base.Fit[Self]:
        """Count what the training set holds."""
        del options
        encoded = data.encode()
        cells = encoded.cells
        used = cells[cells < onehot.EMPTY]
        shape = (len(onehot.ELEMENTS), onehot.MAX_COUNT)
        times = np.bincount(used, minlength=onehot.EMPTY).reshape(shape).astype(np.float64)
        sizes = np.bincount((cells < onehot.EMPTY).sum(axis=1), minlength=onehot.MAX_ELEMENTS + 1)
        elements = times.sum(axis=1)
        if name == "uniform":
            elements = np.ones(shape[0])
            times = np.ones(shape)
        elif name == "element_frequency":
            times = np.broadcast_to(times.sum(axis=0), shape)
        rows = times.sum(axis=1, keepdims=True)
        counts = np.divide(times, rows, out=np.full(shape, 1 / shape[1]), where=rows > 0)
        sizes[np.count_nonzero(elements) + 1 :] = 0
        fitted = cls(name, sizes / sizes.sum(), elements / elements.sum(), counts)
        return base.Fit(fitted, len(encoded.rows), encoded.rejected())

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
        size_cdf = np.cumsum(self.sizes)
        count_cdf = np.cumsum(self.counts, axis=1)
        cells = np.empty((n, onehot.MAX_ELEMENTS), np.uint16)
        for part, rng in base.blocks(n, seed):
            uniforms = rng.random((part.stop - part.start, 1 + 2 * onehot.MAX_ELEMENTS))
            cells[part] = kernels.draw_by_frequency(
                uniforms, size_cdf, self.elements, count_cdf, onehot.MAX_COUNT, onehot.EMPTY
            )
        return base.Samples.from_cells(cells)

    def checkpoint(self) -> bytes:
        """Write the tables."""
        tensors = {"sizes": self.sizes, "elements": self.elements, "counts": self.counts}
        return base.pack(tensors, base.describe(self.name, FrequencyConfig()))

    @classmethod
    def restore(
        cls, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any], device: str
    ) -> Self:
        """Make it of a checkpoint's tensors; the device makes no difference."""
        del device
        return cls(description["model"], tensors["sizes"], tensors["elements"], tensors["counts"])
