"""Random Wyckoff fillings: their space group, atoms, distances and conditions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gandb import generators, training
from gandb.core.errors import InputError, UsageError
from gandb.core.radii import COVALENT_RADIUS
from gandb.generators import StructureData, StructureSamples
from gandb.generators.random_wyckoff import RandomWyckoff, choose_positions
from gandb.representations.space_groups import space_group
from gandb.validation.geometry import Sites, radius_distances
from gandb.validation.symmetry import find_symmetry
from tests.cubic_crystals import cubic_ternaries, placed
from tests.real_crystals import real_crystals
from tests.shared_data import real

NAME = "random_wyckoff"


def fit(data: StructureData, **options: object) -> RandomWyckoff:
    run = training.start(NAME, options, data, np.random.SeedSequence(0))
    run.run(1)
    found = generators.load(run.checkpoint())
    assert isinstance(found, RandomWyckoff)
    return found


@pytest.fixture(scope="module")
def model() -> RandomWyckoff:
    return fit(StructureData.of(cubic_ternaries()[::3]))


def draw(model: RandomWyckoff, n: int, **condition: object) -> StructureSamples:
    return model.sample(n, np.random.SeedSequence(3), condition)


def test_atoms_and_groups_are_those_of_training_crystals(model: RandomWyckoff) -> None:
    known = {
        (int(group), tuple(sorted(model.atoms(i).items())))
        for i, group in enumerate(model.space_groups)
    }
    samples = draw(model, 150)
    assert samples.rejections.mean() < 0.1
    numbers = samples.space_groups.tolist()
    for own, number in zip(samples.crystals, numbers, strict=True):
        if own is not None:
            counts = Sites.of([own]).atomic_numbers
            assert (number, tuple(sorted(Counter(counts.tolist()).items()))) in known
    times = Counter(model.space_groups.tolist())
    drawn = Counter(numbers)
    expected = [150 * times[g] / len(model.space_groups) for g in times]
    assert stats.chisquare([drawn[g] for g in times], expected).pvalue > 1e-3


@pytest.mark.parametrize("tolerance", [0.5, 0.7])
def test_atoms_are_as_far_apart_as_asked(tolerance: float) -> None:
    model = fit(StructureData.of(cubic_ternaries()[::9]), tolerance=tolerance)
    made = [own for own in draw(model, 60).crystals if own is not None]
    assert len(made) > 20
    assert radius_distances(Sites.of(made)).value.min() >= tolerance - 1e-6


@real
def test_the_symmetry_asked_for_is_there_in_all_systems() -> None:
    data = StructureData.of([own for own in real_crystals() if len(own) < 30][::2])
    model = fit(data, max_atoms=60, attempts=5)
    samples = draw(model, 60)
    systems = Counter(space_group(int(g)).crystal_system for g in samples.space_groups)
    assert len(systems) >= 5
    for own, number in zip(samples.crystals, samples.space_groups.tolist(), strict=True):
        if own is None:
            continue
        assert len(own) <= 60
        found = find_symmetry(own, 1e-3).space_group_number
        ours = space_group(number)
        # more symmetry may come by chance, less never
        if found != number:
            point = len({tuple(r.ravel()) for r in ours.rotations})
            other = len({tuple(r.ravel()) for r in space_group(found).rotations})
            assert other >= point


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 230),
    st.dictionaries(st.sampled_from([3, 8, 22, 57]), st.integers(1, 24), min_size=1, max_size=3),
    st.integers(0, 2**32),
)
def test_multiplicities_add_up(number: int, counts: dict[int, int], seed: int) -> None:
    group = space_group(number)
    chosen = choose_positions(group, counts, np.random.default_rng(seed))
    if chosen is None:
        return
    total: Counter[int] = Counter()
    for z, place in chosen:
        total[z] += group.positions[place].multiplicity
    assert dict(total) == counts
    fixed = [place for _, place in chosen if group.positions[place].n_free == 0]
    assert len(set(fixed)) == len(fixed)


def test_volumes_are_as_asked_or_as_in_training(model: RandomWyckoff) -> None:
    def logs(own: RandomWyckoff) -> np.ndarray:
        found = []
        for crystal in draw(own, 150).crystals:
            if crystal is not None:
                radii = COVALENT_RADIUS[Sites.of([crystal]).atomic_numbers]
                found.append(np.log(crystal.volume / (4 / 3 * np.pi * (radii**3).sum())))
        return np.array(found)

    own = logs(model)
    assert own.mean() == pytest.approx(model.volume[0], abs=0.02)
    data = StructureData.of(cubic_ternaries()[::9])
    np.testing.assert_allclose(logs(fit(data, volume=4.0)), np.log(4.0), atol=1e-6)


def test_one_seed_gives_one_answer_also_from_a_checkpoint(model: RandomWyckoff) -> None:
    again = generators.load(model.checkpoint())
    assert again.checkpoint() == model.checkpoint()
    first = [own and own.id for own in draw(model, 30).crystals]
    assert first == [own and own.id for own in draw(again, 30).crystals]  # type: ignore[arg-type]


def test_conditions_are_met(model: RandomWyckoff) -> None:
    samples = draw(model, 20, elements=["Li", "O", "P"], space_group=221)
    assert set(samples.formulas) == {"Li-O-P"}
    assert set(samples.space_groups.tolist()) == {221}
    assert all(set(own.counts()) == {"Li", "O", "P"} for own in samples.crystals if own)
    samples = draw(model, 20, composition="Li2MgO4", space_group=[62, 227])
    assert set(samples.space_groups.tolist()) == {62, 227}
    assert any(own is not None for own in samples.crystals)
    for own in samples.crystals:
        if own is not None:
            counts = own.counts()
            assert (counts["Li"], counts["O"]) == (2 * counts["Mg"], 4 * counts["Mg"])
    for condition, message in (
        ({"elements": ["Li"]}, "1 elements"),
        ({"space_group": 62}, "ask for a composition too"),
        ({"composition": "Li50MgO60", "space_group": 225}, "raise the option 'max_atoms'"),
        ({"band_gap": 1}, "cannot be asked"),
    ):
        with pytest.raises(UsageError, match=message):
            model.sample(1, np.random.SeedSequence(0), condition)


def test_what_cannot_be_used_is_counted_or_an_error() -> None:
    large = placed(225, 12.0, {"Na": (0.11, 0.19, 0.32), "Cl": (0, 0, 0)})
    small = placed(225, 5.6, {"Na": (0, 0, 0), "Cl": (0.5,) * 3})
    data = StructureData.of([large, small])
    run = training.start(NAME, {"max_atoms": 100}, data, np.random.SeedSequence(0))
    run.run(1)
    assert (run.rows, run.rejected) == (1, {"too_many_atoms": 1})
    with pytest.raises(InputError, match="none of the 1 training crystals"):
        fit(StructureData.of([large]), max_atoms=100)


@pytest.mark.parametrize(
    "options",
    [{"tolerance": -1.0}, {"attempts": 0}, {"volume": -2.0}, {"max_atoms": 0}, {"symprec": 0.0}],
)
def test_options_that_cannot_be_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        fit(StructureData.of(cubic_ternaries()[:1]), **options)
