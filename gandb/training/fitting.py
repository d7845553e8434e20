"""Baselines behind the interface of a training: one iteration, the fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from gandb.generators import base


class FittedTraining:
    """The fit of a baseline; see `gandb.training.Training`."""

    total = 1

    def __init__(self, generator: Any, model: str, data: base.Data, config: Any) -> None:
        self._class = generator
        self._model = model
        self._data = data
        self._config = config
        self._fit: base.Fit[base.Generator] | None = None

    @property
    def iteration(self) -> int:
        """1 once it is fitted."""
        return int(self._fit is not None)

    @property
    def rows(self) -> int:
        """Training rows in use; 0 before the fit."""
        return self._fit.rows if self._fit else 0

    @property
    def rejected(self) -> Mapping[str, int]:
        """Training rows left out, by reason; none before the fit."""
        return self._fit.rejected if self._fit else {}

    def run(self, iterations: int) -> None:
        """Fit, unless it was done."""
        if iterations > 0 and self._fit is None:
            self._fit = self._class.fit(self._model, self._data, self._config)

    def state(self) -> bytes:
        """Return the model's name, the data's digest and whether the fit was done."""
        description = {
            "kind": "state",
            "model": self._model,
            "format": base.FORMAT,
            "config": base.config_json(self._config),
            "data": self._data.digest(),
            "iteration": self.iteration,
        }
        return base.pack({}, description)

    @classmethod
    def resume(cls, generator: Any, state: bytes, data: base.Data, config: Any) -> Self:
        """Fit again if it was done: that takes a moment and gives the same."""
        description = base.read_description(state)
        training = cls(generator, description["model"], data, config)
        training.run(description["iteration"])
        return training

    def curves(self) -> dict[str, np.ndarray]:
        """Return the iteration alone."""
        return {"iteration": np.arange(1, self.iteration + 1)}

    def checkpoint(self) -> bytes:
        """Fit if that is still to do, and return the model's tables."""
        self.run(1)
        assert self._fit is not None
        return self._fit.generator.checkpoint()
