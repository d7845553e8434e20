"""What repeats in a cell, against moyo's and against making cells of several by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandb.core.crystals import Crystal, crystal_of_matrix
from gandb.energies.fire import Settings
from gandb.energies.potentials import Batch
from gandb.energies.relaxing import relax
from gandb.energies.translations import fold
from gandb.representations.standard_cells import SymmetryError, find_dataset
from tests.energies.boxes import shaken
from tests.energies.springs import Springs
from tests.real_crystals import real_crystals
from tests.shared_data import real


def several(record: Crystal, multiples: np.ndarray) -> Crystal:
    """The same crystal in a larger cell; whole multiples, rows of (3, 3)."""
    lattice = multiples @ record.lattice
    most = int(np.abs(multiples).sum())
    ways = np.stack(np.meshgrid(*[np.arange(-most, most + 1)] * 3, indexing="ij"), -1).reshape(
        -1, 3
    )
    coords, species = [], []
    for text, place in zip(record.species, record.frac_coords, strict=True):
        inside = (place + ways) @ np.linalg.inv(multiples)
        wrapped = np.unique(np.round(inside - np.floor(inside + 1e-9), 9), axis=0)
        coords += wrapped.tolist()
        species += [text] * len(wrapped)
    return crystal_of_matrix(lattice, species, coords)


MULTIPLES = st.sampled_from(
    [
        [[2, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 1, 0], [-1, 1, 0], [0, 0, 1]],
        [[-1, 1, 1], [1, -1, 1], [1, 1, -1]],
        [[0, 1, 1], [1, 0, 1], [1, 1, 0]],
        [[1, 0, 0], [1, 3, 0], [0, 0, 1]],
        [[2, 0, 0], [0, 2, 0], [0, 0, 2]],
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    ]
)


@given(multiples=MULTIPLES, which=st.integers(0, 9))
def test_larger_cells_fold_into_what_they_were(multiples: list[list[int]], which: int) -> None:
    record = shaken(10)[which]
    whole = np.array(multiples)
    larger = several(record, whole)
    times = round(abs(np.linalg.det(whole)))
    assert len(larger) == times * len(record)
    folded = fold(larger, 1e-3)
    assert len(folded.sites) == len(record)
    assert abs(np.linalg.det(folded.lattice)) == pytest.approx(record.volume, rel=1e-6)
    lattice, positions = folded.unfold(folded.lattice, larger.cart_coords[folded.sites])
    assert lattice == pytest.approx(larger.lattice, abs=1e-6)
    assert positions == pytest.approx(larger.cart_coords, abs=1e-5)
    assert [larger.species[folded.sites[p]] for p in folded.places] == list(larger.species)


def test_without_tolerance_nothing_is_folded() -> None:
    larger = several(shaken(1)[0], 2 * np.eye(3, dtype=int))
    folded = fold(larger, 0.0)
    assert len(folded.sites) == len(larger)
    assert folded.lattice == pytest.approx(larger.lattice)


@real
def test_real_cells_fold_as_moyo_says() -> None:
    for record in real_crystals()[::3]:
        try:
            found = find_dataset(record, 1e-3)
        except SymmetryError:
            continue
        same = sum(np.array_equal(r, np.eye(3)) for r in found.operations.rotations)
        assert len(fold(record, 1e-3).sites) * same == len(record)


def test_a_larger_cell_relaxes_as_what_repeats() -> None:
    settings = Settings(max_force=0.01, max_steps=200)
    record = shaken(1)[0]
    larger = several(record, np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]))
    one, many, plain = (
        relax(Springs(), [c], s)[0]
        for c, s in (
            (record, settings),
            (larger, settings),
            (larger, replace(settings, repeat_tolerance=0.0)),
        )
    )
    assert many.crystal is not None
    assert many.forces is not None
    assert one.crystal is not None
    assert len(many.crystal) == len(larger) == len(many.forces)
    assert many.crystal.species == larger.species
    assert many.n_steps == one.n_steps
    assert many.energy_per_atom == pytest.approx(one.energy_per_atom, abs=1e-7)
    assert many.crystal.volume == pytest.approx(2 * one.crystal.volume, rel=1e-5)
    assert plain.energy_per_atom == pytest.approx(one.energy_per_atom, abs=1e-3)
    again = Springs().evaluate(Batch.of([many.crystal]))
    assert again.forces == pytest.approx(many.forces, abs=1e-5)
