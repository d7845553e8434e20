"""Networks on base sites: what must not change their answers, and what their answers are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gandb.generators.site_distances import SymmetryImages
from gandb.generators.site_networks import (
    Drawn,
    LengthScale,
    SiteCritic,
    SiteGenerator,
    place_inputs,
)
from gandb.generators.wyckoff_networks import WyckoffGenerator
from gandb.representations.asymmetric_unit import AsymmetricUnits, expand
from gandb.representations.space_groups import space_group

GROUPS = (62, 139, 194, 225)


def crystals(n: int, positions: int) -> tuple[Drawn, torch.Tensor]:
    torch.manual_seed(5)
    condition = torch.cat([torch.randint(4, (n, 1)), torch.randint(3, 80, (n, 3))], dim=1)
    chosen = torch.randint(max(1, positions), (n, 3))[:, : 3 if positions else 0]
    return Drawn(torch.rand(n, 3, 3), torch.randn(n, 3), torch.ones(n, 3), chosen), condition


def seen(drawn: Drawn, condition: torch.Tensor, positions: int) -> torch.Tensor:
    around = SymmetryImages(GROUPS, 3).surroundings(
        drawn.coords, condition[:, 0], torch.full((len(condition), 3), 6.0),
        torch.full((len(condition), 3), 0.01), torch.full((len(condition), 3), 1.2),
    )  # fmt: skip
    return place_inputs(drawn, *around, positions)


@pytest.mark.parametrize("positions", [0, 9])
def test_the_critic_sees_neither_the_order_of_sites_nor_where_the_cell_ends(positions: int) -> None:
    critic = SiteCritic(4, 3, 3, positions, 16, 2)
    drawn, condition = crystals(20, positions)
    values = critic(seen(drawn, condition, positions), condition)
    assert values.std() > 0
    order = torch.tensor([2, 0, 1])
    other = Drawn(
        drawn.coords[:, order] + torch.randint(-2, 3, (20, 3, 3)),
        drawn.scaled,
        drawn.times,
        drawn.positions[:, order] if positions else drawn.positions,
    )
    changed = torch.cat([condition[:, :1], condition[:, 1:][:, order]], dim=1)
    again = critic(seen(other, changed, positions), changed)
    torch.testing.assert_close(again, values, atol=1e-3, rtol=1e-3)


def test_free_sites_go_with_their_elements() -> None:
    network = SiteGenerator(4, 3, 1, 16, 2)
    _, condition = crystals(10, 0)
    noise = torch.randn(10, network.noise)
    drawn = network(noise, condition[:, 0], condition[:, 1:])
    order = torch.tensor([1, 2, 0])
    own = noise[:, 16:].reshape(10, 3, 16)[:, order].flatten(1)
    other = network(
        torch.cat([noise[:, :16], own], dim=1), condition[:, 0], condition[:, 1:][:, order]
    )
    torch.testing.assert_close(other.coords, drawn.coords[:, order])
    torch.testing.assert_close(other.scaled, drawn.scaled)


def test_lengths_come_back_and_have_unit_spread() -> None:
    rng = np.random.default_rng(2)
    groups, numbers = rng.integers(4, size=400), torch.from_numpy(rng.integers(3, 80, (400, 3)))
    times = torch.from_numpy(rng.integers(1, 9, (400, 3))).float()
    lengths = np.exp(rng.normal(1.5 + 0.2 * groups[:, None], 0.3, (400, 2)))
    scale = LengthScale(4, 2)
    scale.fit(groups, lengths, numbers, times)
    given = torch.from_numpy(groups), numbers, times
    scaled = scale.scaled(torch.from_numpy(lengths).float(), *given)
    assert scaled.mean() == pytest.approx(0.0, abs=0.05)
    assert scaled.std() == pytest.approx(1.0, abs=0.1)
    torch.testing.assert_close(scale.lengths(scaled, *given).double().numpy(), lengths, rtol=1e-5,
                               atol=1e-5)  # fmt: skip


def test_sites_are_on_the_positions_that_were_chosen() -> None:
    torch.manual_seed(1)
    network = WyckoffGenerator(GROUPS, 3, 3, 16, 1)
    _, condition = crystals(300, 0)
    with torch.no_grad():
        choices = network.choose(torch.randn(300, network.noise), condition[:, 0], condition[:, 1:])
    drawn = choices.drawn
    groups = [space_group(GROUPS[g]) for g in condition[:, 0].tolist()]
    units = AsymmetricUnits.of_sites(
        [group.number for group in groups],
        np.full((300, 3), 60.0),
        np.full((300, 3), 90.0),
        condition[:, 1:].tolist(),
        list(drawn.coords.numpy()),
    )
    atoms = expand(units)
    times = np.bincount(atoms.base_sites, minlength=900).reshape(300, 3)
    exact = (times == drawn.times.numpy()).mean()
    assert exact > 0.98  # a free coordinate may come upon a position with more symmetry
    for group, row in zip(groups, drawn.positions.tolist(), strict=True):
        fixed = [p for p in row if group.positions[p].n_free == 0]
        assert len(set(fixed)) == len(fixed)


def test_chances_are_those_of_what_is_drawn() -> None:
    torch.manual_seed(3)
    network = WyckoffGenerator((221,), 1, 1, 16, 1)
    network.start_from(np.zeros(4, np.int64), np.array([[0], [0], [0], [1]]), np.zeros((4, 1, 3)))
    groups, numbers = torch.zeros(4000, dtype=torch.int64), torch.full((4000, 1), 8)
    with torch.no_grad():
        choices = network.choose(torch.randn(4000, network.noise), groups, numbers)
    for place in (0, 1):
        drawn = choices.drawn.positions[:, 0] == place
        chance = float(choices.log_chances[drawn, 0][0].exp())
        assert float(drawn.float().mean()) == pytest.approx(chance, abs=0.03)
        assert choices.log_chances[drawn, 0].std() < 1e-5
