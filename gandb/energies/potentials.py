"""What gives energies: universal potentials behind one interface, for many crystals at once.

A potential's weights come with its package; they are named by their hash, so that what was worked
out with them is known for good. Energies are those of the potential, without corrections.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gandb.core.crystals import Crystal
from gandb.core.elements import ATOMIC_NUMBERS, SYMBOLS
from gandb.core.errors import NotFoundError

GPA = 160.21766208
"""GPa in 1 eV/Å³."""

NO_NUMBERS = "the potential gives no finite energy, forces and stress"


@dataclass(frozen=True, eq=False)
class Batch:
    """Cells of n crystals side by side.

    Attributes:
        numbers: int64 (sites of all,), atomic numbers.
        positions: float64 (sites of all, 3), Cartesian, Å.
        lattices: float64 (n, 3, 3), vectors a, b, c as rows, Å.
        starts: int64 (n + 1,), where the sites of each crystal begin.
    """

    numbers: np.ndarray
    positions: np.ndarray
    lattices: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.lattices)

    @staticmethod
    def of(crystals: Sequence[Crystal]) -> Batch:
        """Put ordered crystals side by side; oxidation states are left aside.

        Raises:
            ValueError: a crystal is disordered.
        """
        if not all(c.ordered for c in crystals):
            raise ValueError("a potential needs one species on every site")
        starts = np.zeros(len(crystals) + 1, np.int64)
        np.cumsum([len(c) for c in crystals], out=starts[1:])
        none = np.zeros((0, 3))
        return Batch(
            numbers=np.array(
                [ATOMIC_NUMBERS[site[0].element] for c in crystals for site in c.occupants],
                np.int64,
            ),
            positions=np.concatenate([none, *(c.cart_coords for c in crystals)]),
            lattices=np.array([c.lattice for c in crystals]).reshape(-1, 3, 3),
            starts=starts,
        )

    @property
    def owners(self) -> np.ndarray:
        """Which crystal each site belongs to, int64 (sites of all,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def take(self, rows: np.ndarray) -> Batch:
        """Return some of the crystals, in the order of ``rows``."""
        sizes = np.diff(self.starts)[rows]
        starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(sizes, out=starts[1:])
        sites = np.repeat(self.starts[:-1][rows] - starts[:-1], sizes) + np.arange(starts[-1])
        return Batch(self.numbers[sites], self.positions[sites], self.lattices[rows], starts)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a potential says of n crystals; NaN where there is an error.

    Attributes:
        energies: float64 (n,), of the whole cell, eV.
        forces: float64 (sites of all, 3), eV/Å.
        stresses: float64 (n, 3, 3), symmetric, derivative of the energy by strain over the volume,
            eV/Å³; above 0 where the crystal would shrink.
        errors: (n,) why a crystal could not be judged, None where it was.
    """

    energies: np.ndarray
    forces: np.ndarray
    stresses: np.ndarray
    errors: tuple[str | None, ...]


class Potential(Protocol):
    """A function from crystals to energies, forces and stresses.

    Attributes:
        name: of model and training, such as ``CHGNet-0.3.0``.
        package: name and version of the package that it comes with, such as ``chgnet 0.4.2``.
        sha256: of the file with its weights.
        precision: of its arithmetic, ``float32`` or ``float64``.
        elements: the atomic numbers that it knows.
    """

    name: str
    package: str
    sha256: str
    precision: str
    elements: frozenset[int]

    def evaluate(self, batch: Batch) -> Evaluation:
        """Work out energies, forces and stresses; what fails for one crystal leaves the others."""
        ...


def potential_parameters(potential: Potential) -> dict[str, Any]:
    """Return what tells a potential from all others, as plain data for a recipe."""
    return {
        "name": potential.name,
        "package": potential.package,
        "weights_sha256": potential.sha256,
        "precision": potential.precision,
    }


@dataclass(frozen=True)
class Kind:
    """A potential that can be asked for.

    Attributes:
        title: what it is, in a line.
        module: where it is loaded.
        variant: which of the weights that come with its package.
    """

    title: str
    module: str
    variant: str

    @property
    def load(self) -> Callable[[str, str], Potential]:
        """The function that loads it, from variant and device."""
        loader: Callable[[str, str], Potential] = import_module(self.module).load
        return loader


POTENTIALS: dict[str, Kind] = {
    "chgnet": Kind("CHGNet 0.3.0, PBE(+U)", "gandb.energies.chgnet_model", "0.3.0"),
    "chgnet-r2scan": Kind("CHGNet, r2SCAN", "gandb.energies.chgnet_model", "r2scan"),
    "sevennet": Kind("SevenNet-0, PBE(+U)", "gandb.energies.sevennet_model", "0"),
    "sevennet-22may2024": Kind(
        "SevenNet-0 of 22 May 2024, PBE(+U)", "gandb.energies.sevennet_model", "0-22May2024"
    ),
    "sevennet-l3i5": Kind("SevenNet-l3i5, PBE(+U)", "gandb.energies.sevennet_model", "l3i5"),
}
"""Every potential, by the name that people type."""


def load(name: str, device: str = "cpu") -> Potential:
    """Load a potential.

    Args:
        name: key of `POTENTIALS`.
        device: ``cpu`` or ``cuda``.

    Raises:
        NotFoundError: there is no such potential.
        MissingExtraError: its package is not installed.
        UsageError: there is no such device.
    """
    if name not in POTENTIALS:
        raise NotFoundError.naming("potential", name, POTENTIALS)
    kind = POTENTIALS[name]
    return kind.load(kind.variant, device)


def unknown_elements(potential: Potential, crystal: Crystal) -> list[str]:
    """Return the elements of a crystal that a potential does not know, by symbol."""
    numbers = {ATOMIC_NUMBERS[symbol] for symbol in crystal.amounts}
    return [SYMBOLS[z] for z in sorted(numbers - potential.elements)]


def file_sha256(path: Path) -> str:
    """Return the hash of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def evaluation_of(
    batch: Batch,
    energies: np.ndarray,
    forces: np.ndarray,
    stresses: np.ndarray,
    errors: Mapping[int, str],
) -> Evaluation:
    """Make an evaluation of raw results: stresses made symmetric, errors found and set apart.

    Args:
        batch: the n crystals.
        energies: as in `Evaluation`.
        forces: likewise.
        stresses: likewise, but need not be symmetric.
        errors: by crystal; what is not finite is an error too.
    """
    energies = np.asarray(energies, np.float64).copy()
    forces = np.asarray(forces, np.float64).copy()
    stresses = np.asarray(stresses, np.float64)
    stresses = 0.5 * (stresses + stresses.transpose(0, 2, 1))
    finite = np.isfinite(energies) & np.isfinite(stresses).all(axis=(1, 2))
    owners = batch.owners
    finite[owners[~np.isfinite(forces).all(axis=1)]] = False
    told = [errors.get(i, None if ok else NO_NUMBERS) for i, ok in enumerate(finite.tolist())]
    failed = np.array([text is not None for text in told], bool)
    energies[failed], stresses[failed], forces[failed[owners]] = np.nan, np.nan, np.nan
    return Evaluation(energies, forces, stresses, tuple(told))
