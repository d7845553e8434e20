"""CubicGAN: what it makes, what it learns, its conditions and its checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from gandb import generators, training
from gandb.core.crystals import Crystal
from gandb.core.errors import InputError, UsageError
from gandb.generators import StructureData
from gandb.generators.cubicgan import CubicGAN, CubicGANAdversary, CubicGANConfig
from gandb.validation.geometry import Sites, radius_distances, space_group_found
from tests.cubic_crystals import cubic_quaternaries, cubic_ternaries

SMALL = {"width": 32, "critic_width": 32, "layers": 1, "batch_size": 32, "generator_batch": 64}


@pytest.fixture(scope="module")
def data() -> StructureData:
    return StructureData.of(cubic_ternaries())


def train(data: StructureData, iterations: int, **options: object) -> CubicGAN:
    run = training.start(
        "cubicgan", {**SMALL, "iterations": iterations, **options}, data, np.random.SeedSequence(1)
    )
    run.run(iterations)
    model = generators.load(run.checkpoint())
    assert isinstance(model, CubicGAN)
    return model


@pytest.fixture(scope="module")
def trained(data: StructureData) -> CubicGAN:
    return train(data, 120, generator_rate=3e-3, critic_rate=3e-3, averaging=0.9)


def draw(model: CubicGAN, n: int, seed: int = 2, **condition: object) -> list[Crystal]:
    samples = model.sample(n, np.random.SeedSequence(seed), condition)
    return [own for own in samples.crystals if own is not None]


def test_crystals_are_cubes_with_all_images_of_quarters(trained: CubicGAN) -> None:
    samples = trained.sample(10, np.random.SeedSequence(4))
    symbols = {216: "F-43m", 221: "Pm-3m", 225: "Fm-3m"}
    for own, number in zip(samples.crystals, samples.space_groups.tolist(), strict=True):
        if own is None:
            continue
        np.testing.assert_array_equal(own.angles, 90.0)
        assert np.ptp(own.lengths) < 1e-7
        steps = own.frac_coords * 4
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-6)
        # an atom of each element and the group's symbol give pymatgen the same atoms
        first = {text: own.species.index(text) for text in dict.fromkeys(own.species)}
        lattice = Lattice.cubic(own.lengths[0])
        parts = [
            Structure.from_spacegroup(symbols[number], lattice, [text], [own.frac_coords[i]])
            for text, i in first.items()
        ]
        assert {text: len(part) for text, part in zip(first, parts, strict=True)} == own.counts()


def test_it_learns_positions_and_lengths(data: StructureData, trained: CubicGAN) -> None:
    """In perovskites the anion, the last of three elements or the first, has three sites."""
    shares = []
    for model in (train(data, 1), trained):
        made = draw(model, 200, seed=8, space_group=221)
        shares.append(np.mean([own.counts().get(x) == 3 for own in made for x in ("O", "F", "S")
                               if x in own.counts()]))  # fmt: skip
    assert shares[1] > 0.8
    assert shares[1] > shares[0] + 0.2
    assert radius_distances(Sites.of(draw(trained, 200))).passed.sum() > 180
    samples = trained.sample(100, np.random.SeedSequence(5))
    found = space_group_found(samples.crystals, samples.space_groups.tolist())
    assert found.passed.mean() > 0.9


def test_new_combinations_come_up_unless_told_otherwise(
    data: StructureData, trained: CubicGAN
) -> None:
    known = {tuple(sorted(own.counts())) for own in data.crystals}
    new = [tuple(sorted(own.counts())) not in known for own in draw(trained, 200)]
    assert 0.1 < np.mean(new) < 0.95
    plain = train(data, 1, exchanged=0.0)
    assert {tuple(sorted(own.counts())) for own in draw(plain, 100)} <= known


def test_one_seed_gives_one_answer_also_from_a_checkpoint(trained: CubicGAN) -> None:
    again = generators.load(trained.checkpoint())
    assert again.checkpoint() == trained.checkpoint()
    assert [own.id for own in draw(trained, 50)] == [own.id for own in draw(again, 50)]
    assert [own.id for own in draw(trained, 50)] != [own.id for own in draw(trained, 50, seed=3)]


def test_training_goes_on_bit_for_bit(data: StructureData) -> None:
    options = {**SMALL, "iterations": 6}
    whole = training.start("cubicgan", options, data, np.random.SeedSequence(7))
    whole.run(6)
    part = training.start("cubicgan", options, data, np.random.SeedSequence(7))
    part.run(3)
    rest = training.resume(part.state(), data, options=options)
    rest.run(3)
    assert rest.checkpoint() == whole.checkpoint()
    assert set(whole.curves()) >= {"wasserstein", "gradient_penalty", "volume", "entropy"}


def test_conditions_are_met(trained: CubicGAN) -> None:
    for own in draw(trained, 40, elements=["Rb", "Ti", "O"]):
        assert set(own.counts()) == {"Rb", "Ti", "O"}
    samples = trained.sample(40, np.random.SeedSequence(1), {"space_group": 221})
    assert set(samples.space_groups.tolist()) == {221}
    for own in draw(trained, 40, composition="KTiO3"):
        assert own.counts() == {"K": 1, "Ti": 1, "O": 3}
    with pytest.raises(UsageError, match="3 elements"):
        draw(trained, 1, elements=["Li", "O"])
    with pytest.raises(UsageError, match="cannot be asked"):
        draw(trained, 1, band_gap=[1, 2])


def test_quaternaries_have_four_sites() -> None:
    data = StructureData.of(cubic_quaternaries())
    model = train(data, 3, base_sites=4)
    made = draw(model, 60)
    assert made
    assert {len(own.counts()) for own in made} == {4}


def test_conditions_of_generated_crystals_change_from_batch_to_batch(data: StructureData) -> None:
    adversary = CubicGANAdversary(CubicGANConfig.of(SMALL), data, "cpu")
    rng = torch.Generator().manual_seed(0)
    batches = [adversary.real(32, rng)[1] for _ in range(8)]
    assert len({tuple(batch.flatten().tolist()) for batch in batches}) == 8
    inputs = [adversary.fake(batches[0], rng) for _ in range(2)]
    assert not torch.equal(*inputs)


@pytest.mark.parametrize("preset", ["compact", "paper"])
def test_decay_acts_on_both_networks(data: StructureData, preset: str) -> None:
    options = {"preset": preset, "width": 16, "critic_width": 32, "batch_size": 8,
               "generator_batch": 8, "decay": 0.1}  # fmt: skip
    adversary = CubicGANAdversary(CubicGANConfig.of(options), data, "cpu")
    rng = torch.Generator().manual_seed(0)
    loss = adversary.auxiliary_loss(*adversary.real(4, rng))
    assert loss is not None
    loss.backward()
    weights = [p for p in adversary.critic.parameters() if p.dim() > 1]
    for weight in weights:
        torch.testing.assert_close(weight.grad, 0.2 * weight.detach())
    without = CubicGANAdversary(CubicGANConfig.of({**options, "decay": 0.0}), data, "cpu")
    assert without.auxiliary_loss(*without.real(4, rng)) is None


def test_the_published_networks_train(data: StructureData) -> None:
    model = train(data, 3, preset="paper", critic_steps=1, width=16, critic_width=32)
    samples = model.sample(30, np.random.SeedSequence(0))
    assert len(samples) == 30
    assert model.sample(30, np.random.SeedSequence(0)).rejected() == samples.rejected()


@pytest.mark.parametrize(
    "options",
    [
        {"preset": "huge"}, {"base_sites": 0}, {"grid": -1}, {"space_groups": [62]},
        {"coordinates": "odd"}, {"exchanged": 2.0}, {"iterations": 0}, {"beta1": 1.0},
        {"critic_rate": 0.0}, {"nonsense": 1}, {"decay": -1.0}, {"width": "wide"},
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        CubicGANConfig.of(options)


def test_no_fitting_crystal_is_an_error(data: StructureData) -> None:
    with pytest.raises(InputError, match="other_number_of_elements"):
        train(data, 1, base_sites=4)
    many = {**SMALL, "space_groups": [225], "iterations": 1}
    run = training.start("cubicgan", many, data, np.random.SeedSequence(1))
    assert (run.rows, run.rejected) == (64, {"other_space_group": 139})
