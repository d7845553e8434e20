"""Energies, forces and stresses against the potentials' own packages, and against differences."""

from __future__ import annotations

import contextlib
import hashlib
import io
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from gandb.core.crystals import Crystal, crystal
from gandb.core.errors import MissingExtraError, NotFoundError, UsageError
from gandb.energies import bond_potentials
from gandb.energies.bond_potentials import packaged
from gandb.energies.chgnet_model import WEIGHTS, CHGNetPotential
from gandb.energies.neighbours import find_bonds
from gandb.energies.potentials import GPA, Batch, Potential, load, potential_parameters
from gandb.representations.pymatgen_structures import to_structure
from tests.energies.boxes import shaken
from tests.energies.springs import Springs
from tests.real_crystals import real_crystals
from tests.shared_data import real

needs_chgnet = pytest.mark.skipif(find_spec("chgnet") is None, reason="chgnet is not installed")
needs_sevenn = pytest.mark.skipif(find_spec("sevenn") is None, reason="sevenn is not installed")


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """What packages print and warn of is none of ours."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def chgnet() -> Potential:
    return load("chgnet")


def some_real(n: int, most: int) -> list[Crystal]:
    """Ordered real crystals of 2 to ``most`` sites, from all files."""
    small = [c for c in real_crystals() if c.ordered and 1 < len(c) <= most]
    return small[:: max(1, len(small) // n)][:n]


def strained(batch: Batch, k: int, j: int, by: float) -> Batch:
    strain = np.eye(3)
    strain[k, j] += by
    return Batch(batch.numbers, batch.positions @ strain, batch.lattices @ strain, batch.starts)


def check_differences(potential: Potential, batch: Batch, step: float, tolerance: float) -> None:
    """Forces and stresses are what energies say when atoms are moved and cells strained."""
    found = potential.evaluate(batch)
    volumes = np.abs(np.linalg.det(batch.lattices))
    for site in range(0, len(batch.numbers), 3):
        for k in range(3):
            ends = []
            for sign in (1, -1):
                moved = batch.positions.copy()
                moved[site, k] += sign * step
                own = Batch(batch.numbers, moved, batch.lattices, batch.starts)
                ends.append(potential.evaluate(own).energies[batch.owners[site]])
            slope = (ends[0] - ends[1]) / (2 * step)
            assert found.forces[site, k] == pytest.approx(-slope, abs=tolerance)
    for k, j in ((0, 0), (1, 2), (2, 0)):
        up, down = (potential.evaluate(strained(batch, k, j, s * step)).energies for s in (1, -1))
        slopes = (up - down) / (2 * step * volumes)
        assert found.stresses[:, k, j] == pytest.approx(slopes, abs=tolerance)


# --- bonds -------------------------------------------------------------------------------


@real
def test_bonds_are_pymatgens() -> None:
    crystals = some_real(12, 40)
    batch = Batch.of(crystals)
    bonds = find_bonds(batch, 5.0)
    lengths = np.linalg.norm(
        batch.positions[bonds.first] - batch.positions[bonds.second] - bonds.offsets, axis=1
    )
    for i, record in enumerate(crystals):
        own = slice(*bonds.starts[i : i + 2])
        first, second = bonds.first[own], bonds.second[own]
        a, b, _, theirs = to_structure(record).get_neighbor_list(5.0)
        shift = batch.starts[i]
        expected = np.stack([a + shift, b + shift, theirs])
        both = np.stack([np.append(first, second), np.append(second, first)])
        mine = np.stack([*both, np.tile(lengths[own], 2)])
        assert mine.shape == expected.shape
        mine, expected = (x[:, np.lexsort((x[2].round(5), x[1], x[0]))] for x in (mine, expected))
        assert mine == pytest.approx(expected, abs=2e-5)


def test_what_cannot_be_judged_leaves_the_others() -> None:
    good = shaken(2)
    lonely = crystal([20, 20, 20], [90, 90, 90], ["Na"], [[0, 0, 0]])
    tight = crystal([0.3, 0.3, 0.3], [90, 90, 90], ["Na"], [[0, 0, 0]])
    batch = Batch.of([good[0], lonely, tight, good[1]])
    batch.positions[batch.starts[3]] = np.nan
    found = Springs().evaluate(batch)
    alone = Springs().evaluate(Batch.of(good[:1]))
    assert found.errors == (
        None,
        "an atom has no neighbour within 6 Å",
        "its atoms lie too densely: as with less than 2.5 Å³ for each",
        "its positions or cell are not finite",
    )
    assert found.energies[0] == alone.energies[0]
    assert np.isnan(found.energies[1:]).all()
    assert np.isnan(found.stresses[1:]).all()
    assert np.isnan(found.forces[batch.owners > 0]).all()
    flat = Batch(batch.numbers[:2], batch.positions[:2], np.zeros((1, 3, 3)), np.array([0, 2]))
    assert Springs().evaluate(flat).errors == ("the cell has no volume",)


def test_springs_agree_with_differences() -> None:
    check_differences(Springs(), Batch.of(shaken(3)), 1e-4, 1e-6)


# --- CHGNet ------------------------------------------------------------------------------


@real
@needs_chgnet
def test_chgnet_is_the_packages(chgnet: Potential) -> None:
    crystals = some_real(10, 24)
    with quietly():
        from chgnet.model.model import CHGNet

        package: Any = CHGNet.load(use_device="cpu", verbose=False)
    package.graph_converter.set_isolated_atom_response("ignore")
    batch = Batch.of(crystals)
    found = chgnet.evaluate(batch)
    assert found.errors == (None,) * len(crystals)
    for i, record in enumerate(crystals):
        with quietly():
            theirs = package.predict_structure(to_structure(record))
        forces = found.forces[batch.starts[i] : batch.starts[i + 1]]
        scale = max(1.0, np.abs(theirs["f"]).max())
        assert found.energies[i] / len(record) == pytest.approx(theirs["e"], abs=1e-5)
        assert forces == pytest.approx(theirs["f"], abs=1e-3 * scale)
        assert found.stresses[i] * GPA == pytest.approx(theirs["s"], abs=1e-2 * scale)


@needs_chgnet
def test_chgnet_agrees_with_differences() -> None:
    package, path = packaged("chgnet", "energy", WEIGHTS["0.3.0"])
    exact = CHGNetPotential(path, "CHGNet", package, precision="float64")
    check_differences(exact, Batch.of(shaken(2, seed=3)), 1e-3, 2e-4)


@needs_chgnet
def test_who_else_is_in_the_batch_is_noise(chgnet: Potential) -> None:
    crystals = shaken(12)
    together = chgnet.evaluate(Batch.of(crystals))
    batch = Batch.of(crystals)
    for i, record in enumerate(crystals):
        alone = chgnet.evaluate(Batch.of([record]))
        forces = together.forces[batch.starts[i] : batch.starts[i + 1]]
        assert together.energies[i] == pytest.approx(alone.energies[0], abs=2e-5)
        assert forces == pytest.approx(alone.forces, abs=2e-4)


@needs_chgnet
def test_weights_are_named_by_their_hash(chgnet: Potential) -> None:
    _, path = packaged("chgnet", "energy", WEIGHTS["0.3.0"])
    stated = potential_parameters(chgnet)
    assert stated["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert stated["name"] == "CHGNet-0.3.0"
    assert stated["package"].startswith("chgnet 0.4")
    assert len(chgnet.elements) == 94


@pytest.mark.slow
@needs_sevenn
def test_sevennet_is_the_packages() -> None:
    potential = load("sevennet")
    with quietly():
        from sevenn.calculator import SevenNetCalculator

        calculator = SevenNetCalculator("7net-0", device="cpu")
    from gandb.representations.ase_atoms import to_atoms

    crystals = shaken(3, seed=5)
    batch = Batch.of(crystals)
    found = potential.evaluate(batch)
    for i, record in enumerate(crystals):
        atoms = to_atoms(record)
        with quietly():
            calculator.calculate(atoms)
        forces = found.forces[batch.starts[i] : batch.starts[i + 1]]
        assert found.energies[i] == pytest.approx(calculator.results["energy"], abs=1e-4)
        assert forces == pytest.approx(calculator.results["forces"], abs=1e-4)
        stress = calculator.results["stress"]  # xx, yy, zz, yz, xz, xy
        own = found.stresses[i][[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        assert own == pytest.approx(stress, abs=1e-5)
    assert len(potential.elements) == 89


# --- asking ------------------------------------------------------------------------------


def test_unknown_potentials_are_named() -> None:
    with pytest.raises(NotFoundError, match="no potential named 'chgnett'; known: chgnet"):
        load("chgnett")


@needs_chgnet
def test_unknown_devices_are_refused() -> None:
    with pytest.raises(UsageError, match="device 'tpu' is not supported"):
        load("chgnet", "tpu")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bond_potentials, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'gandb\[energy\]'"):
        load("chgnet")
    with pytest.raises(MissingExtraError, match=r"pip install 'gandb\[sevennet\]'"):
        load("sevennet")


def test_missing_weights_are_named() -> None:
    with pytest.raises(NotFoundError, match="does not bring the weights pretrained/none"):
        packaged("numpy", "energy", "pretrained/none")
