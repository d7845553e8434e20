"""SevenNet with weights that the package ``sevenn`` ships (doi:10.1021/acs.jctc.4c00190).

The network is the package's own; what is added is bonds of many crystals at once, and derivatives
that end at the bonds.
"""

from __future__ import annotations

import codecs
import warnings
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gandb.core.errors import MissingExtraError
from gandb.energies.bond_potentials import evaluate, packaged, torch_device
from gandb.energies.neighbours import Bonds
from gandb.energies.potentials import Batch, Evaluation, file_sha256

WEIGHTS = {
    "0": "pretrained_potentials/SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
    "0-22May2024": "pretrained_potentials/SevenNet_0__22May2024/checkpoint_sevennet_0.pth",
    "l3i5": "pretrained_potentials/SevenNet_l3i5/checkpoint_l3i5.pth",
}
"""File of each variant in the package."""
MOST_BONDS = {"cpu": 1_000, "cuda": 200_000}
"""Bonds that the network sees at a time."""


def load(variant: str, device: str = "cpu") -> SevenNetPotential:
    """Load SevenNet.

    Args:
        variant: key of `WEIGHTS`.
        device: ``cpu`` or ``cuda``.

    Raises:
        MissingExtraError: the package is not installed.
        NotFoundError: it ships no such weights.
        UsageError: there is no such device.
    """
    torch_device(device)
    package, path = packaged("sevenn", "sevennet", WEIGHTS[variant])
    return SevenNetPotential(path, f"SevenNet-{variant}", package, device)


class SevenNetPotential:
    """SevenNet as a `gandb.energies.potentials.Potential`; in float32, as it was trained.

    Args:
        path: file of weights and settings; it is read as plain data, no code in it is run.
        name: of model and training.
        package: where it is from.
        device: ``cpu`` or ``cuda``.
    """

    precision = "float32"

    def __init__(self, path: Path, name: str, package: str, device: str = "cpu") -> None:
        self.name, self.package = name, package
        self.sha256 = file_sha256(path)
        self._device = torch_device(device)
        self._network, settings = _built(path)
        self._network.to(self._device).eval().requires_grad_(False)
        self.elements = frozenset(settings["_type_map"])
        self.cutoff = float(settings["cutoff"])
        self.most_bonds = MOST_BONDS[device]

    def evaluate(self, batch: Batch) -> Evaluation:
        """Work out energies, forces and stresses; see `gandb.energies.bond_potentials.evaluate`."""
        return evaluate(self, batch)

    def energies(
        self, batch: Batch, bonds: Bonds, vectors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return energies and their derivatives by the bonds, see `BondNetwork`."""
        device = self._device
        own = torch.from_numpy(vectors.astype(np.float32)).to(device).requires_grad_(True)
        numbers = torch.from_numpy(batch.numbers).to(device)
        ends = np.concatenate(
            [np.stack([bonds.second, bonds.first]), np.stack([bonds.first, bonds.second])], axis=1
        )
        data = {
            "x": numbers,
            "atomic_numbers": numbers,
            "edge_index": torch.from_numpy(ends).to(device),
            "edge_vec": torch.cat([own, -own]),
            "num_atoms": torch.tensor(len(batch.numbers), device=device),
            "batch": torch.from_numpy(batch.owners).to(device),
        }
        sites = self._network(data)["atomic_energy"].view(-1)
        (slopes,) = torch.autograd.grad(sites.sum(), own)
        energies = np.bincount(
            batch.owners, sites.detach().double().cpu().numpy(), minlength=len(batch)
        )
        return energies, slopes.double().cpu().numpy()


def _built(path: Path) -> tuple[Any, dict[str, Any]]:
    """Return the package's network with the weights of a file, and its settings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of e3nn and torch about each other
            package: Any = import_module("sevenn.checkpoint")
    except ImportError:
        raise MissingExtraError.for_package("sevenn", "sevennet") from None

    def plain(file: Any, **_: Any) -> Any:
        with torch.serialization.safe_globals(list(_allowed())):
            return torch.load(file, map_location="cpu", weights_only=True)  # noqa: TID251

    before = package.torch_load
    package.torch_load = plain  # its own would run what is in the file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            held = package.SevenNetCheckpoint(path)
            settings = dict(held.config)
            network = held.build_model()
    finally:
        package.torch_load = before
    for name in ("force_output", "reduce_total_enegy"):  # energies of sites are what is used
        network.delete_module_by_key(name)
    network.key_grad = None
    return network, settings


def _allowed() -> Iterable[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Yield what a file of settings and tensors is made of besides plain types: NumPy arrays."""
    from numpy._core import multiarray

    yield multiarray._reconstruct, "numpy.core.multiarray._reconstruct"
    yield multiarray.scalar, "numpy.core.multiarray.scalar"
    yield from (np.ndarray, np.dtype, codecs.encode)
    yield from (type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8"))
