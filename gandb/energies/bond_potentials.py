"""Potentials that see a crystal as its bonds: what they share, whatever the network.

The network gives energies and their derivatives by the vectors of the bonds; forces and stresses
are sums over these, in float64.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from gandb.core.errors import MissingExtraError, NotFoundError, UsageError
from gandb.energies.neighbours import FOUND, REASONS, Bonds, find_bonds
from gandb.energies.potentials import Batch, Evaluation, evaluation_of

DEVICES = ("cpu", "cuda")


class BondNetwork(Protocol):
    """A network on bonds.

    Attributes:
        cutoff: how long bonds are at most, Å.
        most_bonds: how many it should see at a time; a single crystal may have more.
    """

    cutoff: float
    most_bonds: int

    def energies(
        self, batch: Batch, bonds: Bonds, vectors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Work out energies of n crystals and their derivatives by the bonds.

        Args:
            batch: the crystals.
            bonds: all of theirs.
            vectors: float64 (bonds, 3), from the second site to the first, Å.

        Returns:
            float64 (n,), eV, and float64 (bonds, 3), eV/Å.
        """
        ...


def torch_device(name: str) -> torch.device:
    """Return a device.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in DEVICES:
        raise UsageError(f"device {name!r} is not supported; give {' or '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("PyTorch finds no CUDA device here; give --device cpu")
    return torch.device(name)


def packaged(package: str, extra: str, file: str) -> tuple[str, Path]:
    """Return name and version of a package, and a file that it ships; it is not imported.

    Raises:
        MissingExtraError: the package is not installed.
        NotFoundError: it has no such file.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtraError.for_package(package, extra)
    try:
        title = f"{package} {version(package)}"
    except PackageNotFoundError:
        raise MissingExtraError.for_package(package, extra) from None
    path = Path(spec.origin).parent / file
    if not path.is_file():
        raise NotFoundError(f"{title} does not bring the weights {file}: install another version")
    return title, path


def evaluate(network: BondNetwork, batch: Batch) -> Evaluation:
    """Work out energies, forces and stresses, part by part.

    Errors: a site without neighbours, of which such networks know nothing; a cell without volume,
    or collapsed; numbers that are not finite.
    """
    n = len(batch)
    bonds = find_bonds(batch, network.cutoff)
    errors = _errors(batch, bonds, network.cutoff)
    energies, forces = np.full(n, np.nan), np.full((len(batch.numbers), 3), np.nan)
    stresses = np.full((n, 3, 3), np.nan)
    able = np.array([i for i in range(n) if i not in errors], np.int64)
    for rows in _parts(able, np.diff(bonds.starts), network.most_bonds):
        own = batch if len(rows) == n else batch.take(rows)
        found = bonds if len(rows) == n else _taken(bonds, batch, own, rows)
        sites = np.concatenate([np.arange(*batch.starts[i : i + 2]) for i in rows.tolist()])
        energies[rows], forces[sites], stresses[rows] = _evaluate(network, own, found)
    return evaluation_of(batch, energies, forces, stresses, errors)


def _evaluate(
    network: BondNetwork, batch: Batch, bonds: Bonds
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    positions = batch.positions
    vectors = positions[bonds.first] - positions[bonds.second] - bonds.offsets
    energies, slopes = network.energies(batch, bonds, vectors)
    forces = np.zeros_like(positions)
    virials = np.zeros((len(batch), 3, 3))
    owners = np.repeat(np.arange(len(batch)), np.diff(bonds.starts))
    for k in range(3):
        forces[:, k] -= np.bincount(bonds.first, slopes[:, k], len(positions))
        forces[:, k] += np.bincount(bonds.second, slopes[:, k], len(positions))
        for j in range(3):
            virials[:, j, k] = np.bincount(owners, vectors[:, j] * slopes[:, k], len(batch))
    volumes = np.abs(np.linalg.det(batch.lattices))
    return energies, forces, virials / volumes[:, None, None]


def _errors(batch: Batch, bonds: Bonds, cutoff: float) -> dict[int, str]:
    """Say which crystals cannot be judged, and why."""
    degree = np.bincount(bonds.first, minlength=len(batch.numbers))
    degree += np.bincount(bonds.second, minlength=len(batch.numbers))
    errors: dict[int, str] = {}
    for owner in batch.owners[degree == 0].tolist():
        errors[owner] = f"an atom has no neighbour within {cutoff:g} Å"
    for i in np.flatnonzero(bonds.codes != FOUND).tolist():
        errors[i] = REASONS[int(bonds.codes[i])]
    return errors


def _parts(rows: np.ndarray, sizes: np.ndarray, most: int) -> list[np.ndarray]:
    """Cut rows into consecutive parts of up to ``most`` bonds, at least one crystal each."""
    parts: list[list[int]] = []
    held = 0
    for row in rows.tolist():
        if not parts or held + sizes[row] > most:
            parts.append([])
            held = 0
        parts[-1].append(row)
        held += int(sizes[row])
    return [np.array(part) for part in parts]


def _taken(bonds: Bonds, batch: Batch, own: Batch, rows: np.ndarray) -> Bonds:
    """Return the bonds of some crystals, with their sites counted among these."""
    sizes = np.diff(bonds.starts)[rows]
    places = np.concatenate([np.arange(*bonds.starts[i : i + 2]) for i in rows.tolist()])
    shift = np.repeat(own.starts[:-1] - batch.starts[:-1][rows], sizes)
    starts = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(sizes, out=starts[1:])
    return Bonds(
        bonds.first[places] + shift,
        bonds.second[places] + shift,
        bonds.offsets[places],
        starts,
        bonds.codes[rows],
    )
