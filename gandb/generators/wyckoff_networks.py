"""A generator that chooses a Wyckoff position for each base site, then places it there.

The sites of a crystal, ascending in atomic number, are given positions one after another, each with
the knowledge of those before; a position without free coordinates is given once. Then the free
coordinates and the lengths follow, so that a cell fits the atoms that it holds. Positions are
discrete: their gradient is the policy gradient of Williams (1992), doi:10.1007/BF00992696, with the
critic's value as the reward, as in `gandb.generators.matgan`; coordinates and lengths have the
critic's own. The network starts from how often the training crystals of a space group have each
position, and where on it; choices may be kept near that, so that no position is given up for good.
The rest is learned from the critic alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gandb.generators.site_networks import Drawn, Elements, Layer, LengthScale, SiteNetwork, bounded
from gandb.representations.space_groups import space_group

SITE_NOISE, COMMON_NOISE = 8, 16
"""Random numbers per site, and per crystal."""

_NEVER = -1e9  # a logit
_NEAR, _MOST_COMPARED = 0.03, 1000


@dataclass(frozen=True, eq=False)
class Choices:
    """The positions that were chosen.

    Attributes:
        drawn: the crystals.
        log_chances: logarithm of the chance of each choice, (n, k).
        entropies: entropy of each choice, nats, (n, k).
        divergences: how far each choice's chances are from the training frequencies of the group's
            positions: Kullback and Leibler's divergence, nats, (n, k).
        known: what the network knew at each choice, (n, k, width).
    """

    drawn: Drawn
    log_chances: Tensor
    entropies: Tensor
    divergences: Tensor
    known: Tensor


class Positions(nn.Module):
    """The Wyckoff positions of some space groups, w at most.

    Attributes:
        allowed: bool (groups, w), whether a group has one there.
        fixed: bool (groups, w), whether it has no free coordinate.
        multiplicities: (groups, w).
    """

    allowed: Tensor
    fixed: Tensor
    multiplicities: Tensor
    _projections: Tensor
    _offsets: Tensor

    def __init__(self, numbers: Sequence[int]) -> None:
        super().__init__()
        groups = [space_group(number) for number in numbers]
        self.most = max(len(group.positions) for group in groups)
        shape = (len(groups), self.most)
        allowed, fixed = np.zeros(shape, bool), np.zeros(shape, bool)
        times = np.ones(shape, np.float32)
        projections = np.zeros((*shape, 3, 3), np.float32)
        offsets = np.zeros((*shape, 3), np.float32)
        for g, group in enumerate(groups):
            for w, position in enumerate(group.positions):
                allowed[g, w], fixed[g, w] = True, position.n_free == 0
                times[g, w] = position.multiplicity
                projections[g, w], offsets[g, w] = position.projection, position.offset
        for name, values in (
            ("allowed", allowed), ("fixed", fixed), ("multiplicities", times),
            ("_projections", projections), ("_offsets", offsets),
        ):  # fmt: skip
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def points(self, groups: Tensor, positions: Tensor, free: Tensor) -> Tensor:
        """Return the points (n, k, 3) of positions (n, k) that are nearest to free ones."""
        own = groups[:, None]
        turned = self._projections[own, positions] @ free[..., None]
        return turned[..., 0] + self._offsets[own, positions]


class WyckoffGenerator(SiteNetwork):
    """Wyckoff positions, coordinates on them and lengths, of space groups, elements and noise.

    Attributes:
        positions: the Wyckoff positions of the groups.
    """

    _frequencies: Tensor

    def __init__(
        self, numbers: Sequence[int], n_sites: int, n_lengths: int, width: int, layers: int
    ) -> None:
        super().__init__()
        self.n_sites, self.width = n_sites, width
        self.noise = n_sites * (1 + SITE_NOISE) + COMMON_NOISE
        self.positions = Positions(numbers)
        self.scale = LengthScale(len(numbers), n_lengths)
        self._elements = Elements()
        self._groups = nn.Embedding(len(numbers), width)
        most = self.positions.most
        self._chosen = nn.Parameter(0.3 * torch.randn(len(numbers), most, width))
        # choices
        self._own = nn.Linear(self._elements.size, width)
        self._all = nn.Linear(self._elements.size, width, bias=False)
        self._before = nn.Sequential(
            nn.Linear(self._elements.size + width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self._think = nn.Sequential(
            nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self._logits = nn.Parameter(torch.zeros(len(numbers), width, most))
        self._bias = nn.Parameter(torch.zeros(len(numbers), most))
        self.register_buffer("_frequencies", torch.zeros(len(numbers), most), persistent=False)
        # places
        self._first = nn.Linear(self._elements.size + SITE_NOISE + COMMON_NOISE, width)
        self._layers = nn.ModuleList(Layer(width) for _ in range(layers))
        self._free = nn.Linear(width, 3)
        self._middles = nn.Parameter(torch.rand(len(numbers), most, 3))
        self._lengths = nn.Linear(width, n_lengths)
        with torch.no_grad():
            self._lengths.weight.mul_(0.3)
            self._free.weight.mul_(0.1)
            self._free.bias.zero_()

    @torch.no_grad()
    def start_from(self, groups: np.ndarray, positions: np.ndarray, coords: np.ndarray) -> None:
        """Begin with what positions have in the training crystals of each group.

        Args:
            groups: places of space groups, (n,).
            positions: places of positions, (n, k): their shares become the chances.
            coords: fractional, (n, k, 3): those that most others are near to become the middle of
                what is drawn. (A mean of x and -x, which are often equal, would lie on a position
                with more symmetry.)
        """
        own, where, points = np.repeat(groups, positions.shape[1]), positions.ravel(), coords
        points = points.reshape(-1, 3)
        for g, w in sorted(set(zip(own.tolist(), where.tolist(), strict=True))):
            found = points[(own == g) & (where == w)]
            self._middles[g, w] = torch.from_numpy(found[_densest(found)])
        times = np.full(self._bias.shape, 0.05)
        np.add.at(times, (np.repeat(groups, positions.shape[1]), positions.ravel()), 1.0)
        logs = np.log(times / times.sum(axis=1, keepdims=True))
        self._bias.copy_(torch.from_numpy(logs))
        self._frequencies.copy_(self._bias)

    def forward(self, noise: Tensor, groups: Tensor, numbers: Tensor) -> Drawn:
        """Draw crystals; see `choose`."""
        return self.choose(noise, groups, numbers).drawn

    def choose(self, noise: Tensor, groups: Tensor, numbers: Tensor) -> Choices:
        """Draw crystals, with what is needed to learn from them.

        Args:
            noise: standard normal, (n, `noise`).
            groups: places of space groups, int64 (n,).
            numbers: atomic numbers, ascending, int64 (n, k).
        """
        n, k = numbers.shape
        places = 0.5 * (1.0 + torch.erf(noise[:, :k] / math.sqrt(2.0)))
        common = noise[:, k : k + COMMON_NOISE]
        own_noise = noise[:, k + COMMON_NOISE :].reshape(n, k, SITE_NOISE)
        elements = self._elements(numbers)
        group = self._groups(groups)
        base = group[:, None] + self._own(elements) + self._all(elements).sum(dim=1, keepdim=True)
        known, chances, entropies, divergences, chosen = [], [], [], [], []
        told = torch.zeros(n, self.width, device=noise.device)
        taken = torch.zeros_like(self.positions.fixed[groups])
        for site in range(k):
            # Where a group has fewer fixed positions than sites are left, nothing else is left.
            features = self._think(base[:, site] + told)
            logits = torch.bmm(features[:, None], self._logits[groups])[:, 0] + self._bias[groups]
            closed = ~self.positions.allowed[groups] | taken
            logs = torch.log_softmax(logits.masked_fill(closed, _NEVER), dim=1)
            usual = torch.log_softmax(self._frequencies[groups].masked_fill(closed, _NEVER), dim=1)
            with torch.no_grad():
                sums = logs.exp().cumsum(dim=1)
                below = sums <= places[:, site : site + 1] * sums[:, -1:]
                picked = below.sum(dim=1).clamp(max=logs.shape[1] - 1)
                # a place beyond the last sum by rounding
                picked = torch.where(logs.gather(1, picked[:, None])[:, 0] > 0.5 * _NEVER,
                                     picked, logs.argmax(dim=1))  # fmt: skip
                mark = nn.functional.one_hot(picked, logs.shape[1]).bool()
                taken = taken | (mark & self.positions.fixed[groups])
            known.append(features)
            chances.append(logs.gather(1, picked[:, None])[:, 0])
            entropies.append(-(logs.exp() * logs.clamp(min=-50.0)).sum(dim=1))
            divergences.append((logs.exp() * (logs - usual)).sum(dim=1))
            chosen.append(picked)
            vector = self._chosen[groups, picked]
            told = told + self._before(torch.cat([elements[:, site], vector], dim=1))
        positions = torch.stack(chosen, dim=1)
        x = torch.cat([elements, own_noise, common[:, None].expand(n, k, -1)], dim=-1)
        x = self._first(x) + group[:, None] + self._chosen[groups[:, None], positions]
        for layer in self._layers:
            x = layer(x)
        x = nn.functional.silu(x)
        drawn = Drawn(
            self.positions.points(
                groups, positions, self._free(x) + self._middles[groups[:, None], positions]
            ),
            bounded(self._lengths(x.mean(dim=1))),
            self.positions.multiplicities[groups[:, None], positions],
            positions,
        )
        stacked = (torch.stack(rows, dim=1) for rows in (chances, entropies, divergences, known))
        return Choices(drawn, *stacked)


def _densest(points: np.ndarray) -> int:
    """Return which of some points (n, 3), in cells, most others are near to."""
    best, place = -1.0, 0
    for i, point in enumerate(points[:_MOST_COMPARED]):
        steps = points[:_MOST_COMPARED] - point
        steps -= np.rint(steps)
        near = float(np.exp(-(steps**2).sum(axis=1) / (2.0 * _NEAR**2)).sum())
        if near > best + 1e-9:
            best, place = near, i
    return place


class Expectation(nn.Module):
    """What value a choice is expected to lead to, from what the network knew."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._value = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))

    def forward(self, known: Tensor) -> Tensor:
        """Take (n, k, width), give (n, k)."""
        values: Tensor = self._value(known)[..., 0]
        return values
