"""The baselines draw what their tables say, nothing else, and the same again from one seed."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from gandb import generators, training
from gandb.core.compositions import CompositionBatch
from gandb.core.errors import InputError, JobError, NotFoundError, UsageError
from gandb.generators import Samples, TrainingData
from gandb.generators.base import read_description
from gandb.representations import onehot

BASELINES = [
    name
    for name, model in generators.MODELS.items()
    if not model.trained and model.makes == generators.COMPOSITIONS
]
ROWS = [
    {"Na": 1, "Cl": 1},
    {"Na": 2, "O": 1},
    {"Fe": 2, "O": 3},
    {"Fe": 1, "O": 1},
    {"Na": 1, "Fe": 1, "O": 2},
    {"Ti": 1, "O": 2},
]


@pytest.fixture
def data() -> TrainingData:
    return TrainingData(CompositionBatch.from_dicts(ROWS))


def fit(name: str, data: TrainingData) -> generators.Generator:
    run = training.start(name, {}, data, np.random.SeedSequence(0))
    run.run(1)
    return generators.load(run.checkpoint())


def draw(name: str, data: TrainingData, n: int, seed: int = 1) -> list[dict[str, int]]:
    batch, rows = fit(name, data).sample(n, np.random.SeedSequence(seed)).compositions()
    assert len(rows) == n
    return [batch[i] for i in range(n)]


def shares(values: list[object]) -> dict[object, float]:
    return {key: times / len(values) for key, times in Counter(values).items()}


@pytest.mark.parametrize("name", BASELINES)
def test_samples_are_valid_distinct_elements_in_the_vocabulary(
    name: str, data: TrainingData
) -> None:
    samples = fit(name, data).sample(3000, np.random.SeedSequence(5))
    assert isinstance(samples, Samples)
    assert samples.atomic_numbers.dtype == samples.counts.dtype == np.uint8
    used = samples.counts > 0
    assert (used == (samples.atomic_numbers > 0)).all()
    assert samples.counts.max() <= 8
    assert np.isin(samples.atomic_numbers[used], onehot.ELEMENTS).all()
    for row in samples.atomic_numbers:
        present = row[row > 0]
        assert len(set(present.tolist())) == len(present)
    assert not samples.rejections.any()


@pytest.mark.parametrize("name", BASELINES)
def test_one_seed_gives_one_answer_and_another_another(name: str, data: TrainingData) -> None:
    model = fit(name, data)
    first = model.sample(70_000, np.random.SeedSequence(7, spawn_key=(3,)))
    again = model.sample(70_000, np.random.SeedSequence(7, spawn_key=(3,)))
    other = model.sample(70_000, np.random.SeedSequence(7, spawn_key=(4,)))
    np.testing.assert_array_equal(first.atomic_numbers, again.atomic_numbers)
    np.testing.assert_array_equal(first.counts, again.counts)
    assert (first.counts != other.counts).any()


def test_number_of_elements_follows_the_training_set(data: TrainingData) -> None:
    for name in ("uniform", "element_frequency", "count_given_element"):
        sizes = shares([len(row) for row in draw(name, data, 20_000)])
        assert sizes == {2: pytest.approx(5 / 6, abs=0.015), 3: pytest.approx(1 / 6, abs=0.015)}


def test_uniform_draws_every_element_and_count_alike(data: TrainingData) -> None:
    rows = draw("uniform", data, 40_000)
    elements = shares([e for row in rows for e in row])
    assert len(elements) == 85
    assert max(elements.values()) < 1.25 / 85
    assert min(elements.values()) > 0.75 / 85
    counts = shares([n for row in rows for n in row.values()])
    assert counts == {n: pytest.approx(1 / 8, abs=0.01) for n in range(1, 9)}


def test_elements_are_drawn_one_after_another_by_frequency(data: TrainingData) -> None:
    # First draw: O 5, Na 3, Fe 3, Cl 1, Ti 1 of 13; so a pair without O has this probability.
    times = {"O": 5, "Na": 3, "Fe": 3, "Cl": 1, "Ti": 1}
    expected = sum(
        times[a] / 13 * times[b] / (13 - times[a])
        for a in times
        for b in times
        if a != b and "O" not in (a, b)
    )
    pairs = [row for row in draw("element_frequency", data, 40_000) if len(row) == 2]
    seen = sum("O" not in row for row in pairs) / len(pairs)
    assert seen == pytest.approx(expected, abs=0.012)


def test_counts_are_drawn_given_the_element_or_not(data: TrainingData) -> None:
    given = draw("count_given_element", data, 30_000)
    oxygen = shares([row["O"] for row in given if "O" in row])
    assert oxygen == {
        1: pytest.approx(2 / 5, abs=0.015),
        2: pytest.approx(2 / 5, abs=0.015),
        3: pytest.approx(1 / 5, abs=0.015),
    }
    assert {row["Cl"] for row in given if "Cl" in row} == {1}
    free = shares([row["Cl"] for row in draw("element_frequency", data, 30_000) if "Cl" in row])
    assert free == {
        1: pytest.approx(8 / 13, abs=0.04),
        2: pytest.approx(4 / 13, abs=0.04),
        3: pytest.approx(1 / 13, abs=0.04),
    }


def test_substitution_changes_exactly_one_element(data: TrainingData) -> None:
    reachable = {
        frozenset({**{k: n for k, n in row.items() if k != old}, new: row[old]}.items())
        for row in ROWS
        for old in row
        for new in ("O", "Na", "Fe", "Cl", "Ti")
        if new not in row
    }
    drawn = {frozenset(row.items()) for row in draw("substitution", data, 20_000)}
    assert drawn == reachable


def test_substitution_without_another_element_keeps_the_formula() -> None:
    data = TrainingData(CompositionBatch.from_dicts([{"Na": 1, "Cl": 2}]))
    assert draw("substitution", data, 50) == [{"Na": 1, "Cl": 2}] * 50


@pytest.mark.parametrize("name", BASELINES)
def test_checkpoint_bytes_are_canonical_and_survive(name: str, data: TrainingData) -> None:
    model = fit(name, data)
    checkpoint = model.checkpoint()
    assert generators.load(checkpoint).checkpoint() == checkpoint
    assert fit(name, data).checkpoint() == checkpoint
    assert read_description(checkpoint) == {"model": name, "format": 1, "config": {}}


@pytest.mark.parametrize("name", BASELINES)
def test_a_fit_stops_and_goes_on(name: str, data: TrainingData) -> None:
    run = training.start(name, {}, data, np.random.SeedSequence(0))
    assert (run.iteration, run.total, run.rows) == (0, 1, 0)
    before = training.resume(run.state(), data)
    assert before.iteration == 0
    run.run(10)
    assert (run.iteration, run.rows) == (1, 6)
    after = training.resume(run.state(), data)
    assert after.iteration == 1
    assert after.checkpoint() == run.checkpoint() == before.checkpoint()
    assert run.curves()["iteration"].tolist() == [1]
    other = TrainingData(CompositionBatch.from_dicts(ROWS[:-1]))
    with pytest.raises(JobError, match="other data"):
        training.resume(run.state(), other)


def test_rows_outside_the_encoding_are_counted() -> None:
    rows = [*ROWS, {"He": 1}, {"Fe": 9, "O": 1}, {"Rn": 2, "O": 1}]
    run = training.start(
        "uniform",
        {},
        TrainingData(CompositionBatch.from_dicts(rows)),
        np.random.SeedSequence(0),
    )
    run.run(1)
    assert run.rows == 6
    assert run.rejected == {"element_outside_vocabulary": 2, "count_above_8": 1}
    with pytest.raises(InputError, match="element_outside_vocabulary"):
        TrainingData(CompositionBatch.from_dicts([{"He": 1}])).encode()


def test_what_cannot_be_is_named(data: TrainingData) -> None:
    seed = np.random.SeedSequence(0)
    with pytest.raises(NotFoundError, match="uniform"):
        training.start("unifrom", {}, data, seed)
    with pytest.raises(UsageError, match="takes no options"):
        training.start("uniform", {"width": 3}, data, seed)
    with pytest.raises(UsageError, match="takes no condition"):
        fit("uniform", data).sample(3, seed, condition={"class": 1})
    checkpoint = fit("uniform", data).checkpoint()
    for damaged in (b"", checkpoint[:20], checkpoint[:-5], b"\xff" * 100):
        with pytest.raises(InputError):
            generators.load(damaged)
    run = training.start("uniform", {}, data, seed)
    with pytest.raises(InputError, match="training state"):
        generators.load(run.state())
    with pytest.raises(JobError, match="not a training state"):
        training.resume(checkpoint, data)
    with pytest.raises(InputError, match="one value each"):
        TrainingData(data.compositions, np.zeros(3), "band_gap")
    with pytest.raises(InputError, match="neither"):
        TrainingData(data.compositions, np.zeros(6))


def test_baselines_work_without_torch() -> None:
    program = """
import sys
sys.modules["torch"] = None
import numpy as np
from gandb import training, generators
from gandb.core.compositions import CompositionBatch
from gandb.core.errors import MissingExtraError
data = generators.TrainingData(CompositionBatch.from_dicts([{"Na": 1, "Cl": 1}, {"Mg": 1, "O": 1}]))
for name, model in generators.MODELS.items():
    if not model.trained and model.makes == generators.COMPOSITIONS:
        run = training.start(name, {}, data, np.random.SeedSequence(0))
        generators.load(run.checkpoint()).sample(10, np.random.SeedSequence(0))
try:
    training.start("matgan", {}, data, np.random.SeedSequence(0))
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "gandb[train]" in done.stdout
