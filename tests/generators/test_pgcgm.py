"""PGCGM: its two ways to coordinates, its distance losses, merging, conditions and checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gandb import generators, training
from gandb.core.errors import UsageError
from gandb.generators import StructureData
from gandb.generators.pgcgm import PGCGM, SPACE_GROUPS, PGCGMAdversary, PGCGMConfig
from gandb.generators.site_networks import Drawn
from gandb.representations.asymmetric_unit import Merging
from gandb.representations.space_groups import cell_constraints
from gandb.validation.geometry import Sites, radius_distances
from tests.cubic_crystals import cubic_ternaries

SMALL = {"width": 32, "critic_width": 32, "layers": 1, "batch_size": 16, "generator_batch": 32}
WAYS = ({}, {"positions": "free"}, {"positions": "free", "merging_share": 0.0},
        {"preset": "paper", "critic_steps": 1, "width": 16})  # fmt: skip


@pytest.fixture(scope="module")
def data() -> StructureData:
    return StructureData.of(cubic_ternaries()[::4])


def train(data: StructureData, iterations: int, **options: object) -> PGCGM:
    run = training.start(
        "pgcgm", {**SMALL, "iterations": iterations, **options}, data, np.random.SeedSequence(1)
    )
    run.run(iterations)
    model = generators.load(run.checkpoint())
    assert isinstance(model, PGCGM)
    return model


@pytest.mark.parametrize("options", WAYS)
def test_every_sample_is_a_crystal_as_asked_or_a_counted_rejection(
    data: StructureData, options: dict[str, object]
) -> None:
    model = train(data, 2, **options)
    samples = model.sample(40, np.random.SeedSequence(3))
    made = [own for own in samples.crystals if own is not None]
    assert len(made) + sum(samples.rejected().values()) == 40
    assert [own is None for own in samples.crystals] == (samples.rejections > 0).tolist()
    for own, number in zip(samples.crystals, samples.space_groups.tolist(), strict=True):
        if own is not None:
            average, angles = cell_constraints(number)
            np.testing.assert_allclose(average @ own.lengths, own.lengths, rtol=1e-7)
            np.testing.assert_array_equal(own.angles, angles)
            assert len(own.counts()) == 3
    again = generators.load(model.checkpoint())
    assert isinstance(again, PGCGM)
    same = again.sample(40, np.random.SeedSequence(3)).crystals
    assert [own and own.id for own in same] == [own and own.id for own in samples.crystals]


@pytest.mark.parametrize("options", WAYS[:2])
def test_training_goes_on_bit_for_bit(data: StructureData, options: dict[str, object]) -> None:
    chosen = {**SMALL, **options, "iterations": 4}
    whole = training.start("pgcgm", chosen, data, np.random.SeedSequence(7))
    whole.run(4)
    part = training.start("pgcgm", chosen, data, np.random.SeedSequence(7))
    part.run(2)
    rest = training.resume(part.state(), data, options=chosen)
    rest.run(2)
    assert rest.checkpoint() == whole.checkpoint()


def adversary(data: StructureData, **options: object) -> PGCGMAdversary:
    return PGCGMAdversary(PGCGMConfig.of({**SMALL, **options}), data, "cpu")


def cost_of(own: PGCGMAdversary, coords: list[list[float]], edge: float = 4.0) -> float:
    place = list(SPACE_GROUPS).index(221)
    condition = torch.tensor([[place, 8, 22, 38]])  # oxygen, titanium, strontium
    groups, numbers, times = condition[:, 0], condition[:, 1:], torch.ones(1, 3)
    scaled = own.generator.scale.scaled(torch.full((1, 3), edge), groups, numbers, times)
    drawn = Drawn(torch.tensor([coords]), scaled, times, torch.zeros(1, 0, dtype=torch.int64))
    nearest, _ = own.surroundings(drawn, condition)
    return float(own.cost(nearest)[0])


def test_costs_are_for_short_distances_alone(data: StructureData) -> None:
    perovskite = [[0.5, 0.5, 0.0], [0.5, 0.5, 0.5], [0.0, 0.0, 0.0]]
    own = adversary(data, positions="free", margin=0.8)
    assert cost_of(own, perovskite) == 0.0
    assert cost_of(own, perovskite, edge=3.0) > 0.0
    close = [[0.5, 0.5, 0.1], *perovskite[1:]]  # oxygen near strontium's face, twice as many
    assert cost_of(own, close, edge=3.5) > cost_of(own, perovskite, edge=3.5)
    # two at one place cost the whole margin, ten times over
    assert cost_of(own, [perovskite[1], *perovskite[1:]], 9.0) == pytest.approx(8.0, abs=0.1)
    assert cost_of(adversary(data, positions="free", between=0.0, within=0.0), close, 3.0) == 0.0


def test_free_sites_are_seen_where_merging_puts_them(data: StructureData) -> None:
    own = adversary(data, positions="free")
    place = list(SPACE_GROUPS).index(221)
    condition = torch.tensor([[place, 8, 22, 38]])
    coords = torch.tensor([[[0.52, 0.49, 0.03], [0.51, 0.48, 0.5], [0.03, 0.0, 0.02]]])
    coords.requires_grad_()
    none = torch.zeros(1, 0, dtype=torch.int64)
    drawn = own.seen(Drawn(coords, torch.zeros(1, 3), torch.ones(1, 3), none), condition)
    exact = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.5], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(drawn.coords[0].detach(), exact, atol=1e-5, rtol=0)
    drawn.coords.sum().backward()
    assert torch.equal(coords.grad, torch.ones_like(coords))
    raw = adversary(data, positions="free", merging_share=0.0)
    seen = raw.seen(Drawn(coords, torch.zeros(1, 3), torch.ones(1, 3), none), condition)
    assert torch.equal(seen.coords, coords)


def test_real_crystals_cost_next_to_nothing(data: StructureData) -> None:
    """What the critic sees of training crystals has their own distances."""
    own = adversary(data)
    inputs, condition = own.real(200, torch.Generator().manual_seed(0))
    assert inputs.shape[1] == 18 + 3 + 12 + 3 * own.n_positions
    assert torch.isfinite(inputs).all()
    near = torch.atanh(inputs[:, 21:27] / 2.0)
    shares = radius_distances(Sites.of(data.crystals)).value
    assert float(near.amin()) == pytest.approx(shares.min(), abs=1e-3)
    assert (condition[:, 0] < len(SPACE_GROUPS)).all()


def test_conditions_are_met(data: StructureData) -> None:
    model = train(data, 2)
    samples = model.sample(30, np.random.SeedSequence(1), {"space_group": [221, 225]})
    assert set(samples.space_groups.tolist()) == {221, 225}
    samples = model.sample(20, np.random.SeedSequence(1), {"elements": ["Li", "O", "P"]})
    assert set(samples.formulas) == {"Li-O-P"}
    assert all(set(own.counts()) == {"Li", "O", "P"} for own in samples.crystals if own)
    samples = model.sample(20, np.random.SeedSequence(1), {"composition": "SrTiO3"})
    assert all(own.counts()["O"] == 3 * own.counts()["Sr"] for own in samples.crystals if own)
    with pytest.raises(UsageError, match="trained on space groups"):
        model.sample(1, np.random.SeedSequence(1), {"space_group": 62})


@pytest.mark.parametrize(
    "options",
    [
        {"preset": "huge"}, {"positions": "both"}, {"preset": "paper", "positions": "wyckoff"},
        {"space_groups": [14]}, {"between": -1.0}, {"merging_share": 11.0}, {"base_sites": 9},
        {"margin": -0.5}, {"symprec": 0.0},
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        PGCGMConfig.of(options)


def test_merging_is_an_option() -> None:
    assert PGCGMConfig.of({}).merging() == Merging(0.6, "atomic")
    assert PGCGMConfig.of({"merging_share": 0.0}).merging() is None
    assert tuple(PGCGMConfig.of({}).space_groups or ()) == SPACE_GROUPS
