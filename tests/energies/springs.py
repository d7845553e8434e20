"""A cheap potential for tests: pairs of atoms attract each other as Morse has it, in float64."""

from __future__ import annotations

import numpy as np

from gandb.energies import potentials
from gandb.energies.bond_potentials import evaluate
from gandb.energies.neighbours import Bonds
from gandb.energies.potentials import Batch, Evaluation, Kind

NAME = "springs"
KIND = Kind("Morse pairs, for tests", "tests.energies.springs", "")
_STEEPNESS = 1.2  # 1/Å


class Springs:
    """Each pair has its best distance, by its atomic numbers; smooth to 0 at 6 Å."""

    name = "springs"
    package = "tests 1"
    sha256 = "0" * 64
    precision = "float64"
    elements = frozenset(range(1, 84))
    cutoff = 6.0
    most_bonds = 500

    def evaluate(self, batch: Batch) -> Evaluation:
        """Work out energies, forces and stresses."""
        return evaluate(self, batch)

    def energies(
        self, batch: Batch, bonds: Bonds, vectors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return energies and their derivatives by the bonds."""
        lengths = np.sqrt((vectors * vectors).sum(axis=1))
        z = batch.numbers
        best = 1.5 + 0.1 * np.sqrt(z[bonds.first]) + 0.1 * np.sqrt(z[bonds.second])
        best = best + 0.8 * (z[bonds.first] == z[bonds.second])
        fall = np.exp(-_STEEPNESS * (lengths - best))
        well, slope = fall * fall - 2 * fall, -2 * _STEEPNESS * (fall * fall - fall)
        scaled = (lengths / self.cutoff) ** 2
        smooth, turn = (1 - scaled) ** 2, -4 * (1 - scaled) * lengths / self.cutoff**2
        owners = np.repeat(np.arange(len(batch)), np.diff(bonds.starts))
        energies = np.bincount(owners, well * smooth, len(batch))
        slopes = (slope * smooth + well * turn) / lengths
        return energies, slopes[:, None] * vectors


def load(variant: str, device: str) -> Springs:
    """Load it, as `gandb.energies.potentials.load` does."""
    del variant, device
    return Springs()


def register() -> None:
    """Let it be asked for by its name, in this process."""
    potentials.POTENTIALS[NAME] = KIND
