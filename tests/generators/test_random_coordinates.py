"""Real cells and their atoms, anywhere: everything but the coordinates is a training crystal's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gandb import generators, training
from gandb.core.crystals import Crystal, crystal
from gandb.core.elements import SYMBOLS
from gandb.core.errors import InputError, UsageError
from gandb.generators import StructureData, StructureSamples
from gandb.generators.base import read_description, unpack
from gandb.generators.kept_crystals import KeptCrystals
from gandb.generators.random_coordinates import RandomCoordinates
from tests.real_crystals import real_crystals
from tests.shared_data import real

NAME = "random_coordinates"


def rock_salt(a: str, b: str, length: float) -> Crystal:
    corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    coords = np.concatenate([corners, (corners + 0.5) % 1.0])
    return crystal([length] * 3, [90] * 3, [a] * 4 + [b] * 4, coords)


CRYSTALS = (
    rock_salt("Na", "Cl", 5.64),
    rock_salt("K", "Cl", 6.29),
    rock_salt("Mg", "O", 4.21),
    crystal([3.0, 3.0, 4.2], [90, 90, 120], ["Mg", "Cl", "Cl"], np.eye(3) * 0.3),
    crystal([2.87] * 3, [90] * 3, ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
)


def fit(crystals: Sequence[Crystal] = CRYSTALS, **options: object) -> generators.StructureGenerator:
    run = training.start(NAME, options, StructureData.of(crystals), np.random.SeedSequence(0))
    run.run(1)
    found = generators.load(run.checkpoint())
    assert isinstance(found, generators.StructureGenerator)
    return found


def draw(
    model: generators.StructureGenerator, n: int, condition: dict[str, object] | None = None
) -> StructureSamples:
    samples = model.sample(n, np.random.SeedSequence(3), condition)
    assert isinstance(samples, StructureSamples)
    return samples


def cell_of(own: Crystal) -> tuple[object, ...]:
    return (*own.lengths.tolist(), *own.angles.tolist(), tuple(sorted(own.species)))


def test_cells_and_atoms_are_training_crystals_coordinates_are_uniform() -> None:
    samples = draw(fit(), 3000)
    assert not samples.rejections.any()
    made = [own for own in samples.crystals if own is not None]
    known = {cell_of(own) for own in CRYSTALS}
    assert {cell_of(own) for own in made} == known
    assert len({own.id for own in made}) == len(made)
    times = [sum(cell_of(own) == kind for own in made) for kind in known]
    assert stats.chisquare(times).pvalue > 1e-3
    for axis in range(3):
        coords = np.concatenate([own.frac_coords[:, axis] for own in made])
        assert stats.kstest(coords, "uniform").pvalue > 1e-3
    assert set(samples.formulas) == {None}
    assert not samples.space_groups.any()


def test_one_seed_gives_one_answer_and_another_another() -> None:
    model = fit()
    first, again = draw(model, 50), draw(model, 50)
    assert list(first.crystals) == list(again.crystals)
    other = model.sample(50, np.random.SeedSequence(4))
    assert list(first.crystals) != list(other.crystals)


@pytest.mark.parametrize(
    ("condition", "formula", "systems"),
    [
        ({"elements": ["Cl", "Na"]}, "Cl-Na", {("Na", "Cl")}),
        ({"elements": ["Mg", "Cl"]}, "Cl-Mg", {("Mg", "Cl")}),
        ({"composition": "Na2Cl2"}, "NaCl", {("Na", "Cl")}),
        ({"composition": "Fe"}, "Fe", {("Fe",)}),
    ],
)
def test_what_is_asked_for_is_drawn(
    condition: dict[str, object], formula: str, systems: set[tuple[str, ...]]
) -> None:
    samples = draw(fit(), 40, condition)
    assert {frozenset(own.amounts) for own in samples.crystals if own} == set(
        map(frozenset, systems)
    )
    assert set(samples.formulas) == {formula}


@pytest.mark.parametrize(
    "condition",
    [
        {"elements": ["Na", "O"]},
        {"composition": "MgCl"},
        {"composition": "Fe2O3"},
        {"space_group": 225},
        {"elements": ["Xx"]},
        {"elements": ["Na"], "composition": "Na"},
    ],
)
def test_what_the_training_set_has_not_is_refused(condition: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        draw(fit(), 5, condition)


def test_disordered_and_large_crystals_are_left_out_and_counted() -> None:
    mixed = crystal([4.0] * 3, [90] * 3, ["Fe:0.5 Ni:0.5"], [[0, 0, 0]])
    data = StructureData.of([*CRYSTALS, mixed])
    run = training.start(NAME, {"max_atoms": 7}, data, np.random.SeedSequence(0))
    run.run(1)
    assert run.rows == 2
    assert run.rejected == {"disordered": 1, "too_many_atoms": 3}
    with pytest.raises(InputError, match="disordered"):
        fit([mixed])
    with pytest.raises(UsageError, match="max_atoms"):
        fit(max_atoms=-1)


def test_two_atoms_at_one_place_are_a_counted_rejection() -> None:
    tiny = crystal([0.3] * 3, [90] * 3, ["H", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    samples = draw(fit([tiny]), 20_000)
    rejected = samples.rejected()
    assert 0 < rejected["no_crystal"] < 200
    assert sum(own is None for own in samples.crystals) == rejected["no_crystal"]


def test_a_checkpoint_is_canonical_and_damaged_ones_are_refused() -> None:
    model = fit()
    checkpoint = model.checkpoint()
    assert generators.load(checkpoint).checkpoint() == checkpoint
    tensors, description = unpack(checkpoint)
    assert read_description(checkpoint)["model"] == NAME
    for name in tensors:
        cut = {**tensors, name: tensors[name][:-1]}
        with pytest.raises(InputError, match="fit together"):
            RandomCoordinates.restore(cut, description, "cpu")


@given(st.lists(st.floats(0, 0.4), min_size=6, max_size=6))
@settings(max_examples=50, deadline=None)
def test_kept_crystals_are_the_same_records(coords: list[float]) -> None:
    sites = np.reshape(coords, (2, 3)) + np.array([[0.0], [0.5]])
    own = crystal([4.1, 5.2, 6.3], [80, 95, 110], ["Li", "F"], sites)
    _check_kept([own])


@real
def test_real_crystals_are_kept_as_they_are() -> None:
    _check_kept([own for own in StructureData.of(real_crystals()).crystals if own.ordered])


def _check_kept(crystals: Sequence[Crystal]) -> None:
    kept = KeptCrystals.restore(KeptCrystals.of(crystals).tensors())
    for i, own in enumerate(crystals):
        symbols = np.array(SYMBOLS)[kept.numbers(i)].tolist()
        assert crystal(kept.lengths(i), kept.angles(i), symbols, kept.frac_coords(i)) == own
        assert kept.counts[i].sum() == len(own)


def test_baselines_need_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import gandb.generators.random_coordinates, "
        "gandb.generators.prototype_substitution"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
