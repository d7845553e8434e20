"""MatGAN: what it draws, what it learns, its conditions and its checkpoints."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from gandb import generators, training
from gandb.core.compositions import CompositionBatch
from gandb.core.errors import InputError, UsageError
from gandb.generators import TrainingData, kernels
from gandb.generators import matgan_networks as networks
from gandb.generators.matgan import (
    MatGAN,
    MatGANAdversary,
    MatGANConfig,
    from_slot_order,
    to_slot_order,
)
from gandb.generators.matgan_networks import N_CELLS, SlotGenerator
from gandb.representations import onehot

SMALL = {"width": 24, "critic_width": 32, "charges": 8, "batch_size": 64, "generator_batch": 128}
QUICK = {"width": 48, "critic_width": 64, "generator_batch": 256, "generator_rate": 5e-3,
         "critic_rate": 5e-3, "beta1": 0.5, "beta2": 0.99, "averaging": 0.95}  # fmt: skip
METALS = ["Li", "Na", "K", "Mg", "Ca", "Sr", "Ba", "Al", "Sc", "Y"]
CHARGES = {"Li": 1, "Na": 1, "K": 1, "Mg": 2, "Ca": 2, "Sr": 2, "Ba": 2, "Al": 3, "Sc": 3, "Y": 3}
ANIONS = {"F": 1, "Cl": 1, "Br": 1, "O": 2, "S": 2, "N": 3}


def salts() -> list[dict[str, int]]:
    """Neutral binary salts, by their charges."""
    rows = []
    for metal in METALS:
        for anion, charge in ANIONS.items():
            divisor = np.gcd(CHARGES[metal], charge)
            rows.append({metal: int(charge // divisor), anion: int(CHARGES[metal] // divisor)})
    return rows


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return TrainingData(CompositionBatch.from_dicts(salts()))


@pytest.fixture(scope="module")
def labelled() -> TrainingData:
    """The salts, with a "gap": 5 of halides, 1 of the others, unknown for nitrides."""
    rows = salts()
    gap = [5.0 if set(row) & {"F", "Cl", "Br"} else 1.0 for row in rows]
    gap = [np.nan if "N" in row else g for row, g in zip(rows, gap, strict=True)]
    return TrainingData(CompositionBatch.from_dicts(rows), np.array(gap), "band_gap")


def train(data: TrainingData, iterations: int, **options: object) -> MatGAN:
    run = training.start(
        "matgan", {**SMALL, "iterations": iterations, **options}, data, np.random.SeedSequence(1)
    )
    run.run(iterations)
    model = generators.load(run.checkpoint())
    assert isinstance(model, MatGAN)
    return model


def formulas(model: MatGAN, n: int, **options: object) -> list[dict[str, int]]:
    batch, _ = model.sample(n, np.random.SeedSequence(2), **options).compositions()
    return [batch[i] for i in range(len(batch))]


def test_slot_order_is_a_permutation_of_cells() -> None:
    rows = [{"H": 1}, {"Xe": 1, "F": 6}, {"Pm": 2, "O": 3}, {"Na": 1, "Fe": 1, "O": 2}]
    cells = onehot.encode(CompositionBatch.from_dicts(rows)).cells
    slots = to_slot_order(cells)
    np.testing.assert_array_equal(from_slot_order(slots), cells)
    # electronegativity ascends: sodium, iron, oxygen
    order = [int(c) // 8 for c in slots[3] if c < N_CELLS]
    named = [int(to_slot_order(onehot.encode(CompositionBatch.from_dicts([{s: 1}])).cells)[0, 0])
             // 8 for s in ("Na", "Fe", "O")]  # fmt: skip
    assert order == named == sorted(named)


def test_draws_follow_the_probabilities_that_training_evaluates() -> None:
    """Frequencies of whole samples equal the exponentials of their log-probabilities."""
    torch.manual_seed(0)
    network = SlotGenerator(16, 2)
    with torch.no_grad():
        network.element_bias.fill_(-30.0)
        network.element_bias[:, [3, 40, 85]] = torch.tensor([1.0, 0.5, 0.8])
        network.count.bias.fill_(-30.0)
        network.count.bias[[0, 2]] = torch.tensor([0.3, 0.0])
    n = 40_000
    uniforms = np.random.default_rng(0).random((n, 16), np.float32)
    for label in (0, 1):
        drawn = network.draw(torch.full((n,), label), uniforms)
        distinct, times = np.unique(drawn, axis=0, return_counts=True)
        assert len(distinct) == 8  # one of two counts for each of {a}, {b}, {a, b}
        cells = torch.from_numpy(distinct)
        found = network.decisions(cells, torch.full((len(cells),), label))
        logs = torch.zeros(len(cells)).index_add(0, found.row, found.log_element)
        logs = logs.index_add(0, found.row[found.going], found.log_count)
        probabilities = logs.exp().detach().numpy()
        assert probabilities.sum() == pytest.approx(1.0, abs=1e-4)
        np.testing.assert_allclose(times / n, probabilities, atol=0.012)


@pytest.mark.parametrize("first", [True, False])
def test_choices_on_other_devices_are_those_of_the_compiled_loops(first: bool) -> None:
    rng = np.random.default_rng(5)
    n = 5000
    # Eighths add without rounding, so both ways of adding must agree to the last sample.
    weights = (rng.integers(0, 9, (n, 86)) * rng.integers(0, 2, (n, 86)) / 8).astype(np.float32)
    weights[:, 60] += 1
    uniforms = (rng.integers(0, 1024, n) / 1024).astype(np.float32)
    last = np.full(n, -1) if first else rng.integers(-1, 60, n)
    ours = kernels.choose_element(weights, uniforms, last, first)
    w, u = torch.from_numpy(weights), torch.from_numpy(uniforms)
    theirs = networks.choose_element(w, u, torch.from_numpy(last), first).numpy()
    np.testing.assert_array_equal(ours, theirs)
    assert (ours > last).all()
    assert (weights[np.arange(n), ours] > 0).all()
    ours = kernels.choose(weights[:, :8] + np.float32(1), uniforms)
    np.testing.assert_array_equal(ours, networks.choose(w[:, :8] + 1, u).numpy())


def test_samples_are_formulas_of_distinct_elements(data: TrainingData) -> None:
    model = train(data, 3)
    samples = model.sample(5000, np.random.SeedSequence(4))
    used = samples.counts > 0
    assert used.any(axis=1).all()
    assert samples.counts.max() <= 8
    places = np.where(used, samples.atomic_numbers.astype(int), 1000)
    assert (np.diff(places, axis=1)[used[:, 1:]] > 0).all()


def test_chunk_samples_depend_on_the_seed_alone(data: TrainingData) -> None:
    model = train(data, 3)
    before = torch.get_num_threads()
    first = model.sample(5000, np.random.SeedSequence(9, spawn_key=(2,)))
    np.random.default_rng(0).random(10)
    torch.rand(10)
    again = model.sample(5000, np.random.SeedSequence(9, spawn_key=(2,)), device="cpu")
    other = model.sample(5000, np.random.SeedSequence(9, spawn_key=(3,)))
    np.testing.assert_array_equal(first.counts, again.counts)
    np.testing.assert_array_equal(first.atomic_numbers, again.atomic_numbers)
    assert (first.counts != other.counts).any()
    assert torch.get_num_threads() == before


def test_it_learns_which_elements_and_counts_go_together(data: TrainingData) -> None:
    """The critic alone teaches it neutral salts, which frequencies do not give."""
    neutral = {frozenset(row.items()) for row in salts()}

    def share(rows: list[dict[str, int]]) -> float:
        return float(np.mean([frozenset(row.items()) in neutral for row in rows]))

    untrained = share(formulas(train(data, 1, averaging=0.0), 2000))
    trained = formulas(train(data, 250, **QUICK), 2000)
    assert untrained < 0.2
    assert share(trained) > 0.45
    assert len({frozenset(row.items()) for row in trained} & neutral) > 30


def test_classes_steer_the_samples(labelled: TrainingData) -> None:
    condition = {"property": "band_gap", "edges": [3.0]}
    model = train(labelled, 250, **QUICK, condition=condition)
    assert model.class_shares.tolist() == pytest.approx([0.4, 0.6])

    def halides(rows: list[dict[str, int]]) -> float:
        return float(np.mean([bool(set(row) & {"F", "Cl", "Br"}) for row in rows]))

    low = halides(formulas(model, 1000, condition={"class": 0}))
    high = halides(formulas(model, 1000, condition={"band_gap": [3.0, None]}))
    assert high > low + 0.4
    assert low < halides(formulas(model, 1000)) < high


def test_condition_that_does_not_fit_is_named(data: TrainingData, labelled: TrainingData) -> None:
    condition = {"property": "band_gap", "edges": [3.0]}
    options = {**SMALL, "iterations": 1, "condition": condition}
    run = training.start("matgan", options, labelled, np.random.SeedSequence(0))
    assert run.rejected == {"no_band_gap": 10}
    model = generators.load(run.checkpoint())
    seed = np.random.SeedSequence(0)
    for wrong in (
        {"class": 2},
        {"class": True},
        {"band_gap": [1.0, 2.0]},
        {"band_gap": 3.0},
        {"density": [0, 1]},
    ):
        with pytest.raises(UsageError):
            model.sample(1, seed, condition=wrong)
    with pytest.raises(UsageError, match="without a condition"):
        train(data, 1).sample(1, seed, condition={"class": 0})
    with pytest.raises(InputError, match="band_gap"):
        training.start("matgan", options, data, seed)
    for edges in ([], [2.0, 1.0], ["x"], [np.inf]):
        with pytest.raises(UsageError, match="edges"):
            MatGANConfig.of({"condition": {"property": "band_gap", "edges": edges}})


@pytest.mark.parametrize("preset", ["compact", "paper"])
def test_checkpoint_bytes_are_canonical_and_survive(preset: str, data: TrainingData) -> None:
    options = {"preset": preset, "iterations": 2, "width": 24, "critic_width": 24}
    run = training.start("matgan", options, data, np.random.SeedSequence(1))
    run.run(2)
    checkpoint = run.checkpoint()
    assert run.checkpoint() == checkpoint
    model = generators.load(checkpoint)
    assert model.checkpoint() == checkpoint
    assert model.config["preset"] == preset
    assert model.config["iterations"] == 2
    samples = model.sample(100, np.random.SeedSequence(1))
    assert len(samples) == 100
    assert (samples.counts.sum(axis=1) > 0).tolist() == (samples.rejections == 0).tolist()


def test_paper_networks_have_the_published_shapes(data: TrainingData) -> None:
    adversary = MatGANAdversary(MatGANConfig.of({"preset": "paper"}), data, "cpu")
    rng = torch.Generator().manual_seed(0)
    real, classes = adversary.real(4, rng)
    fake = adversary.fake(classes, rng)
    assert real.shape == fake.shape == (4, 680)
    assert 0 < float(fake.min()) < float(fake.max()) < 1
    assert adversary.critic(fake, classes).shape == (4,)
    dense = adversary.generator.get_submodule("dense")
    assert dense.weight.shape == (3072, 128)


@pytest.mark.slow
def test_paper_preset_learns_to_draw_decodable_formulas(data: TrainingData) -> None:
    options = {"preset": "paper", "width": 32, "critic_width": 32, "averaging": 0.9}
    first = train(data, 1, **options).sample(500, np.random.SeedSequence(0))
    assert (first.rejections == 0).mean() < 0.1
    model = train(data, 300, **options)
    samples = model.sample(500, np.random.SeedSequence(0))
    assert (samples.rejections == 0).mean() > 0.5


def test_options_that_cannot_be_are_named(data: TrainingData) -> None:
    for options, message in [
        ({"preset": "huge"}, "compact"),
        ({"iteration": 5}, "iterations"),
        ({"iterations": 0}, "at least 1"),
        ({"iterations": 2.5}, "type int"),
        ({"iterations": True}, "type int"),
        ({"generator_rate": 0.0}, "positive"),
        ({"averaging": 1.0}, "below 1"),
        ({"penalty": -1.0}, "0 or more"),
        ({"condition": {"property": "band_gap"}}, "edges"),
    ]:
        with pytest.raises(UsageError, match=message):
            MatGANConfig.of(options)
    with pytest.raises(UsageError, match="no device"):
        training.start("matgan", SMALL, data, np.random.SeedSequence(0), device="gpu7")
    assert MatGANConfig.of({"penalty": 3}).penalty == 3.0


def test_a_checkpoint_of_other_shapes_is_refused(data: TrainingData) -> None:
    model = train(data, 1)
    wider = copy.copy(model)
    object.__setattr__(wider, "options", MatGANConfig.of({**SMALL, "width": 32}))
    with pytest.raises(InputError, match="shape"):
        generators.load(wider.checkpoint())
