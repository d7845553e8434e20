"""Networks on base sites that CubicGAN and PGCGM share in their ``compact`` presets.

A crystal is k base sites of k elements, a space group and a cell. The order of the sites has no
meaning, so the networks are equivariant: each site has its own features, layers are the same for
all sites, and a site hears of the others by the mean over all of them (Zaheer et al. 2017,
arXiv:1703.06114). The critic is given a coordinate x as cos 2 pi x and sin 2 pi x, so that nothing
changes where a cell ends.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import torch
from torch import Tensor, nn

from gandb.core.radii import COVALENT_RADIUS
from gandb.generators.element_features import FEATURES

SITE_NOISE, COMMON_NOISE = 16, 16
"""Random numbers per site, and per crystal."""

_EMBEDDED = 16
_TURN = 2.0 * math.pi
_WIDEST = 5.0  # standard deviations that a logarithm of a length may be off


def place_inputs(drawn: Drawn, nearest: Tensor, density: Tensor, n_positions: int) -> Tensor:
    """Return what a critic sees of crystals, float32 (n, 6 k + l + 2 p + k w).

    Args:
        drawn: the crystals; any image of a site stands for it.
        nearest: least distances of p pairs of sites, as shares of radii, (n, p).
        density: how densely the images of the one lie around the other, (n, p).
        n_positions: Wyckoff positions w, each a one or zero for every site; 0 for none.
    """
    turns = _TURN * drawn.coords.flatten(1)
    parts = [turns.cos(), turns.sin(), drawn.scaled]
    parts += [2.0 * torch.tanh(nearest), torch.log1p(density) / 2.0]
    if n_positions:
        parts.append(nn.functional.one_hot(drawn.positions, n_positions).flatten(1).float())
    return torch.cat(parts, dim=1)


class LengthScale(nn.Module):
    """Logarithms of lengths in standard deviations, by space group and the size of the atoms.

    u = (log a - log r - mean) / deviation, r being the cube root of the sum of the atoms' cubed
    covalent radii, or of the base sites' where multiplicities are not known; mean and deviation are
    those of the training crystals of a space group, drawn towards those of all where there are few.

    Attributes:
        mean: (groups, l).
        deviation: (groups, l).
    """

    mean: Tensor
    deviation: Tensor
    _volumes: Tensor

    def __init__(self, n_groups: int, n_lengths: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_groups, n_lengths))
        self.register_buffer("deviation", torch.ones(n_groups, n_lengths))
        radii = np.nan_to_num(COVALENT_RADIUS, nan=1.5).astype(np.float32)
        self.register_buffer("_volumes", torch.from_numpy(radii**3), persistent=False)

    def fit(self, groups: np.ndarray, lengths: np.ndarray, numbers: Tensor, times: Tensor) -> None:
        """Take mean and deviation from crystals: groups (n,), lengths, Å, (n, l); see `lengths`."""
        rest = np.log(lengths) - self._size(numbers, times).double().numpy()
        whole, spread = rest.mean(axis=0), rest.std(axis=0) + 0.02
        for g in range(len(self.mean)):
            own = rest[groups == g]
            weight = len(own) / (len(own) + 10.0)
            centre = own.mean(axis=0) if len(own) else whole
            apart = own.std(axis=0) + 0.02 if len(own) else spread
            self.mean[g] = torch.from_numpy(weight * centre + (1 - weight) * whole)
            self.deviation[g] = torch.from_numpy(weight * apart + (1 - weight) * spread)

    def scaled(self, lengths: Tensor, groups: Tensor, numbers: Tensor, times: Tensor) -> Tensor:
        """Return u of lengths, Å."""
        rest = lengths.log() - self._size(numbers, times)
        return (rest - self.mean[groups]) / self.deviation[groups]

    def lengths(self, scaled: Tensor, groups: Tensor, numbers: Tensor, times: Tensor) -> Tensor:
        """Return lengths, Å, (n, l), of u.

        Args:
            scaled: u, (n, l).
            groups: places of space groups, int64 (n,).
            numbers: atomic numbers, int64 (n, k).
            times: atoms of each site, (n, k); ones where that is not known.
        """
        logs = scaled * self.deviation[groups] + self.mean[groups] + self._size(numbers, times)
        return logs.exp()

    def _size(self, numbers: Tensor, times: Tensor) -> Tensor:
        """Return log r, (n, 1)."""
        return (self._volumes[numbers] * times).sum(dim=1, keepdim=True).log() / 3.0


@dataclass(frozen=True, eq=False)
class Drawn:
    """n crystals as a network draws them.

    Attributes:
        coords: fractional, (n, k, 3), unbounded.
        scaled: scaled logarithms of lengths, (n, l).
        times: atoms of each site, (n, k); ones where the network does not know.
        positions: place of each site's Wyckoff position, int64 (n, k); (n, 0) where it has none.
    """

    coords: Tensor
    scaled: Tensor
    times: Tensor
    positions: Tensor


class SiteNetwork(nn.Module, ABC):
    """A generator's network.

    Attributes:
        noise: random numbers that a crystal takes.
        scale: what lengths are measured by.
    """

    noise: int
    scale: LengthScale

    @abstractmethod
    def forward(self, noise: Tensor, groups: Tensor, numbers: Tensor) -> Drawn:
        """Draw crystals.

        Args:
            noise: standard normal, (n, `noise`).
            groups: places of space groups, int64 (n,).
            numbers: atomic numbers, ascending, int64 (n, k).
        """


class Layer(nn.Module):
    """A residual layer: each site, and the mean of all sites."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.own = nn.Linear(width, width)
        self.all = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Take and give (n, k, width)."""
        heard = self.own(x) + self.all(x.mean(dim=1, keepdim=True))
        found: Tensor = x + self.out(nn.functional.silu(heard))
        return found


class Elements(nn.Module):
    """What is known of an element, and what is learned of it."""

    _table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("_table", torch.from_numpy(FEATURES.copy()), persistent=False)
        self.learned = nn.Embedding(len(FEATURES), _EMBEDDED)
        nn.init.normal_(self.learned.weight, std=0.3)
        self.size = FEATURES.shape[1] + _EMBEDDED

    def forward(self, numbers: Tensor) -> Tensor:
        """Take atomic numbers (n, k), give (n, k, size)."""
        return torch.cat([self._table[numbers], self.learned(numbers)], dim=-1)


class SiteGenerator(SiteNetwork):
    """Coordinates anywhere in the cell, and lengths, of space groups, elements and noise."""

    def __init__(
        self, n_groups: int, n_sites: int, n_lengths: int, width: int, layers: int
    ) -> None:
        super().__init__()
        self.n_sites = n_sites
        self.noise = n_sites * SITE_NOISE + COMMON_NOISE
        self.scale = LengthScale(n_groups, n_lengths)
        self._elements = Elements()
        self._groups = nn.Embedding(n_groups, width)
        self._first = nn.Linear(self._elements.size + SITE_NOISE + COMMON_NOISE, width)
        self._layers = nn.ModuleList(Layer(width) for _ in range(layers))
        self._coords = nn.Linear(width, 3)
        self._lengths = nn.Linear(width, n_lengths)

    def forward(self, noise: Tensor, groups: Tensor, numbers: Tensor) -> Drawn:
        """Draw crystals.

        Args:
            noise: standard normal, (n, `noise`).
            groups: places of space groups, int64 (n,).
            numbers: atomic numbers, int64 (n, k).
        """
        n, k = numbers.shape
        own = noise[:, COMMON_NOISE:].reshape(n, k, SITE_NOISE)
        common = noise[:, None, :COMMON_NOISE].expand(n, k, COMMON_NOISE)
        x = self._first(torch.cat([self._elements(numbers), own, common], dim=-1))
        x = x + self._groups(groups)[:, None]
        for layer in self._layers:
            x = layer(x)
        x = nn.functional.silu(x)
        scaled = self._lengths(x.mean(dim=1))
        return Drawn(
            self._coords(x),
            bounded(scaled),
            torch.ones(n, k, device=x.device),
            torch.zeros(n, 0, dtype=torch.int64, device=x.device),
        )


def bounded(scaled: Tensor) -> Tensor:
    """Return scaled lengths, kept within what any crystal has."""
    return _WIDEST * torch.tanh(scaled / _WIDEST)


class SiteCritic(nn.Module):
    """The value of crystals.

    Its inputs, float32 (n, 6 k + l + 2 p + k w), are those of `place_inputs`, p being pairs of
    sites, a site with itself included, and w Wyckoff positions, 0 for none.
    """

    _pair: Tensor
    _others: Tensor

    def __init__(
        self,
        n_groups: int,
        n_sites: int,
        n_lengths: int,
        n_positions: int,
        width: int,
        layers: int,
    ) -> None:
        super().__init__()
        self.n_sites, self.n_lengths = n_sites, n_lengths
        self._positions = nn.Parameter(0.3 * torch.randn(n_groups, n_positions, width))
        self._elements = Elements()
        self._groups = nn.Embedding(n_groups, width)
        self._first = nn.Linear(self._elements.size + 26 + n_lengths, width)
        self._neighbours = nn.Sequential(
            nn.Linear(self._elements.size + 2, width), nn.SiLU(), nn.Linear(width, width)
        )
        self._layers = nn.ModuleList(Layer(width) for _ in range(layers))
        self._last = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, 1))
        pair = torch.zeros(n_sites, n_sites, dtype=torch.int64)
        for p, (i, j) in enumerate(combinations_with_replacement(range(n_sites), 2)):
            pair[i, j] = pair[j, i] = p
        others = [[j for j in range(n_sites) if j != i] for i in range(n_sites)]
        self.register_buffer("_pair", pair, persistent=False)
        self.register_buffer("_others", torch.tensor(others), persistent=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return values (n,) of inputs and conditions, int64 (n, 1 + k)."""
        groups, numbers = condition[:, 0], condition[:, 1:]
        k, count = self.n_sites, self.n_lengths
        cos = x[:, : 3 * k].reshape(-1, k, 3)
        sin = x[:, 3 * k : 6 * k].reshape(-1, k, 3)
        lengths = x[:, None, 6 * k : 6 * k + count].expand(-1, k, -1)
        rest, n_pairs = x[:, 6 * k + count :], k * (k + 1) // 2
        pairs = rest[:, : 2 * n_pairs].reshape(-1, 2, n_pairs)[:, :, self._pair]  # (n, 2, k, k)
        chosen = rest[:, 2 * n_pairs :].reshape(len(x), k, -1)
        around = torch.roll(cos, 1, dims=2), torch.roll(sin, 1, dims=2)
        places = [
            cos, sin,
            cos * cos - sin * sin, 2.0 * cos * sin,  # of twice a coordinate
            cos * around[0] + sin * around[1], sin * around[0] - cos * around[1],  # of x - z ...
            cos * around[0] - sin * around[1], sin * around[0] + cos * around[1],  # of x + z ...
        ]  # fmt: skip
        known = self._elements(numbers)
        itself = pairs.diagonal(dim1=2, dim2=3).transpose(1, 2)
        own = self._first(torch.cat([known, *places, lengths, itself], dim=-1))
        own = own + self._groups(groups)[:, None] + torch.bmm(chosen, self._positions[groups])
        if k > 1:
            rows = torch.arange(k, device=x.device)[:, None]
            near = pairs[:, :, rows, self._others].permute(0, 2, 3, 1)  # (n, k, k - 1, 2)
            heard = self._neighbours(torch.cat([known[:, self._others], near], dim=-1))
            own = own + heard.sum(dim=2)
        for layer in self._layers:
            own = layer(own)
        own = nn.functional.silu(own)
        pooled = torch.cat([own.mean(dim=1), own.amax(dim=1)], dim=1)
        values: Tensor = self._last(pooled)[:, 0]
        return values
