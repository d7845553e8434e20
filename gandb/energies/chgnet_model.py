"""CHGNet with the weights that the package ``chgnet`` ships (doi:10.1038/s42256-023-00716-3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from gandb.energies.bond_potentials import evaluate, packaged, torch_device
from gandb.energies.chgnet_network import ATOM_CUTOFF, BOND_CUTOFF, Graph, Network
from gandb.energies.neighbours import Bonds, find_angles
from gandb.energies.potentials import Batch, Evaluation, file_sha256

WEIGHTS = {
    "0.3.0": "pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar",
    "r2scan": "pretrained/r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",
}
"""File of each variant in the package."""
MOST_BONDS = {"cpu": 2_000, "cuda": 400_000}
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
    torch_device(device)
    package, path = packaged("chgnet", "energy", WEIGHTS[variant])
    return CHGNetPotential(path, f"CHGNet-{variant}", package, device)


class CHGNetPotential:
    """CHGNet as a `gandb.energies.potentials.Potential`; in float32, as it was trained.

    Args:
        path: file of weights; it is read as plain tensors, no code in it is run.
        name: of model and training.
        package: where it is from.
        device: ``cpu`` or ``cuda``.
        precision: ``float32`` or ``float64``.
    """

    cutoff = ATOM_CUTOFF

    def __init__(
        self, path: Path, name: str, package: str, device: str = "cpu", precision: str = "float32"
    ) -> None:
        self.name, self.package, self.precision = name, package, precision
        self.sha256 = file_sha256(path)
        # Plain tensors: nothing in the file is run.
        held = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
        dtype = {"float32": torch.float32, "float64": torch.float64}[precision]
        self._network = Network(held["model"]["state_dict"], torch_device(device), dtype)
        self.elements = frozenset(range(1, self._network.n_elements + 1))
        self.most_bonds = MOST_BONDS[device]

    def evaluate(self, batch: Batch) -> Evaluation:
        """Work out energies, forces and stresses; see `gandb.energies.bond_potentials.evaluate`."""
        return evaluate(self, batch)

    def energies(
        self, batch: Batch, bonds: Bonds, vectors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return energies and their derivatives by the bonds, see `BondNetwork`."""
        short = np.einsum("ij,ij->i", vectors, vectors) < BOND_CUTOFF**2
        angles = find_angles(len(batch.numbers), bonds.first, bonds.second, short)
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
        energies, slopes = network.energies(graph, tensor(vectors).to(network.dtype))
        return energies.cpu().numpy(), slopes.double().cpu().numpy()
