"""CHGNet with the weights that the package ``chgnet`` ships (doi:10.1038/s42256-023-00716-3)."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from gandb.core.errors import MissingExtraError, NotFoundError, UsageError
from gandb.energies.chgnet_network import ATOM_CUTOFF, BOND_CUTOFF, Graph, Network
from gandb.energies.neighbours import FOUND, NO_VOLUME, Bonds, find_angles, find_bonds
from gandb.energies.potentials import Batch, Evaluation, evaluation_of, file_sha256

WEIGHTS = {
    "0.3.0": "0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar",
    "r2scan": "r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",
}
"""File of each variant in the package's folder ``pretrained``."""
BONDS = {"cpu": 4_000, "cuda": 400_000}
"""Bonds that the network sees at a time: on a processor what its caches hold."""


def load(variant: str, device: str = "cpu") -> CHGNetPotential:
    """Load CHGNet.

    Args:
        variant: key of `WEIGHTS`.
        device: ``cpu`` or ``cuda``.

    Raises:
        MissingExtraError: the package is not installed.
        NotFoundError: it ships no such weights.
        UsageError: there is no such device.
    """
    if device not in BONDS:
        raise UsageError(f"device {device!r} is not supported; give cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("PyTorch finds no CUDA device here; give --device cpu")
    spec = find_spec("chgnet")
    if spec is None or spec.origin is None:
        raise MissingExtraError.for_package("chgnet", "energy")
    try:
        package = f"chgnet {version('chgnet')}"
    except PackageNotFoundError:
        raise MissingExtraError.for_package("chgnet", "energy") from None
    path = Path(spec.origin).parent / "pretrained" / WEIGHTS[variant]
    if not path.is_file():
        raise NotFoundError(f"{package} has no weights {variant}: {path} is missing")
    return CHGNetPotential(path, f"CHGNet-{variant}", package, device)


class CHGNetPotential:
    """CHGNet as a `gandb.energies.potentials.Potential`; in float32, as it was trained.

    Distances, forces and stresses are added up in float64.

    Args:
        path: file of weights; it is read as plain tensors, no code in it is run.
        name: of model and training.
        package: where it is from.
        device: ``cpu`` or ``cuda``.
        precision: ``float32`` or ``float64``.
    """

    def __init__(
        self, path: Path, name: str, package: str, device: str = "cpu", precision: str = "float32"
    ) -> None:
        self.name, self.package, self.precision = name, package, precision
        self.sha256 = file_sha256(path)
        # Plain tensors: nothing in the file is run.
        held = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
        state = held["model"]["state_dict"]
        dtype = {"float32": torch.float32, "float64": torch.float64}[precision]
        self._network = Network(state, torch.device(device), dtype)
        self.elements = frozenset(range(1, self._network.n_elements + 1))
        self._most = BONDS[device]

    def evaluate(self, batch: Batch) -> Evaluation:
        """Work out energies, forces and stresses.

        Errors: a site without neighbours within 6 Å, which CHGNet knows nothing about; a cell
        without volume, or collapsed; numbers that are not finite.
        """
        n = len(batch)
        bonds = find_bonds(batch, ATOM_CUTOFF)
        errors = _errors(batch, bonds)
        energies, forces = np.full(n, np.nan), np.full((len(batch.numbers), 3), np.nan)
        stresses = np.full((n, 3, 3), np.nan)
        sizes = np.diff(bonds.starts)
        for rows in _parts(
            np.array([i for i in range(n) if i not in errors], int), sizes, self._most
        ):
            own = batch if len(rows) == n else batch.take(rows)
            found = bonds if len(rows) == n else _taken(bonds, batch, own, rows)
            sites = np.concatenate([np.arange(*batch.starts[i : i + 2]) for i in rows])
            energies[rows], forces[sites], stresses[rows] = self._evaluate(own, found)
        return evaluation_of(batch, energies, forces, stresses, errors)

    def _evaluate(self, batch: Batch, bonds: Bonds) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        positions = batch.positions
        vectors = positions[bonds.first] - positions[bonds.second] - bonds.offsets
        short = np.einsum("ij,ij->i", vectors, vectors) < BOND_CUTOFF**2
        angles = find_angles(len(positions), bonds.first, bonds.second, short)
        network = self._network
        listed = np.cumsum(short) - 1

        def tensor(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(network.device)

        graph = Graph(
            numbers=tensor(batch.numbers),
            owners=tensor(batch.owners),
            n_crystals=len(batch),
            first=tensor(bonds.first),
            second=tensor(bonds.second),
            short=tensor(np.flatnonzero(short)),
            centres=tensor(angles.centres),
            one=tensor(listed[angles.one]),
            other=tensor(listed[angles.other]),
            signs=tensor(angles.signs).to(network.dtype),
        )
        found, slopes = network.energies(graph, tensor(vectors).to(network.dtype))
        gradient = slopes.double().cpu().numpy()
        forces = np.zeros_like(positions)
        virials = np.zeros((len(batch), 3, 3))
        owners = np.repeat(np.arange(len(batch)), np.diff(bonds.starts))
        for k in range(3):
            forces[:, k] -= np.bincount(bonds.first, gradient[:, k], len(positions))
            forces[:, k] += np.bincount(bonds.second, gradient[:, k], len(positions))
            for j in range(3):
                virials[:, j, k] = np.bincount(owners, vectors[:, j] * gradient[:, k], len(batch))
        volumes = np.abs(np.linalg.det(batch.lattices))
        return found.double().cpu().numpy(), forces, virials / volumes[:, None, None]


def _errors(batch: Batch, bonds: Bonds) -> dict[int, str]:
    """Say which crystals CHGNet cannot judge, and why."""
    degree = np.bincount(bonds.first, minlength=len(batch.numbers))
    degree += np.bincount(bonds.second, minlength=len(batch.numbers))
    errors: dict[int, str] = {}
    for owner in batch.owners[degree == 0].tolist():
        errors[owner] = f"an atom has no neighbour within {ATOM_CUTOFF:g} Å"
    for i in np.flatnonzero(bonds.codes != FOUND).tolist():
        no_volume = bonds.codes[i] == NO_VOLUME
        errors[i] = "the cell has no volume" if no_volume else "its atoms lie too densely"
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
