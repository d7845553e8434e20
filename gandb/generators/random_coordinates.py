"""Baseline ``random_coordinates``: the cell and atoms of a training crystal, put anywhere in it.

A training crystal is drawn, each as likely as any other. Its cell and what atoms it has stay; every
fractional coordinate is drawn anew, uniformly from 0 to below 1. So density, cells and compositions
are those of real crystals, and only where the atoms are is left to chance: what a model must beat
to have learned anything of that.

Asked for elements or a composition, it draws from the training crystals that have these. A
composition is compared as a reduced formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from gandb.core.crystals import Crystal, CrystalError, crystal
from gandb.core.elements import MAX_Z, SYMBOLS
from gandb.core.errors import UsageError
from gandb.generators import base
from gandb.generators.kept_crystals import KeptCrystals, formula_asked, usable
from gandb.generators.structures import (
    COMPOSITION,
    ELEMENTS,
    Request,
    StructureData,
    StructureSamples,
    read_condition,
)

REASONS = ("accepted", "no_crystal")
"""Why a sample is none, by code: the record refuses it (two atoms at one place)."""

_SYMBOLS = np.array(SYMBOLS)


@dataclass(frozen=True)
class RandomCoordinatesConfig:
    """Options of this baseline.

    Attributes:
        max_atoms: training crystals with more atoms in their cell are left out; 0 for none.
    """

    max_atoms: int = 0


@dataclass(frozen=True)
class RandomCoordinates:
    """Atoms anywhere in the cells of training crystals.

    Attributes:
        options: its configuration.
        kept: the training crystals.
    """

    options: RandomCoordinatesConfig
    kept: KeptCrystals
    name: str = "random_coordinates"

    @property
    def config(self) -> Mapping[str, Any]:
        """Return the configuration as plain JSON data."""
        return base.config_json(self.options)

    @classmethod
    def fit(
        cls, name: str, data: StructureData, options: RandomCoordinatesConfig
    ) -> base.Fit[Self]:
        """Keep the training crystals that are ordered.

        Raises:
            InputError: there is none.
        """
        chosen, rejected = usable(data.crystals, options.max_atoms)
        return base.Fit(cls(options, KeptCrystals.of(chosen), name), len(chosen), rejected)

    def sample(
        self,
        n: int,
        seed: np.random.SeedSequence,
        condition: Mapping[str, Any] | None = None,
        device: str | None = None,
    ) -> StructureSamples:
        """Draw n crystals; see `gandb.generators.structures`. The device makes no difference.

        Args:
            n: number of samples.
            seed: where their randomness comes from.
            condition: None, ``elements`` or ``composition``.
            device: ignored.

        Raises:
            UsageError: no training crystal has what is asked for.
        """
        del device
        request = read_condition(condition, self.name, (ELEMENTS, COMPOSITION))
        rows = self._rows(request)
        found: list[Crystal | None] = [None] * n
        rejections = np.zeros(n, np.uint8)
        for part, rng in base.blocks(n, seed):
            drawn = rows[rng.integers(len(rows), size=part.stop - part.start)]
            for place, i in enumerate(drawn.tolist(), part.start):
                numbers = self.kept.numbers(i)
                coords = rng.random((len(numbers), 3))
                species = _SYMBOLS[numbers].tolist()
                try:
                    found[place] = crystal(
                        self.kept.lengths(i), self.kept.angles(i), species, coords
                    )
                except CrystalError:
                    rejections[place] = 1
        formulas = [formula_asked(request)] * n
        return StructureSamples(found, rejections, REASONS, np.zeros(n, np.int16), formulas)

    def _rows(self, request: Request) -> np.ndarray:
        """Return the crystals that have what is asked for, int64 (k,)."""
        if not request.elements:
            return np.arange(len(self.kept))
        held = self.kept.reduced
        asked = np.zeros(MAX_Z + 1, np.int64)
        asked[list(request.elements)] = request.counts or 1
        if request.counts:
            fits = (held == asked // np.gcd.reduce(request.counts)).all(axis=1)
        else:
            fits = ((held > 0) == (asked > 0)).all(axis=1)
        if not fits.any():
            raise UsageError(
                f"none of the {len(self.kept)} training crystals of this {self.name} has "
                f"{formula_asked(request)}; ask for what its training set has, or train it on a "
                "dataset that has it"
            )
        return np.flatnonzero(fits)

    def checkpoint(self) -> bytes:
        """Write the training crystals."""
        return base.pack(self.kept.tensors(), base.describe(self.name, self.options))

    @classmethod
    def restore(
        cls, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any], device: str
    ) -> Self:
        """Make it of a checkpoint's tensors; the device makes no difference.

        Raises:
            InputError: the tensors do not fit together.
        """
        del device
        name = str(description["model"])
        options = base.read_options(RandomCoordinatesConfig, description["config"], name)
        return cls(options, KeptCrystals.restore(tensors), name)
