"""CubicGAN's published networks; see `gandb.generators.cubicgan`.

After Zhao et al. 2021. The generator: space group, elements and noise go through layers of their
own and come together as a 128-channel map per site; transposed convolutions over the sites' pairs,
1 x 1 convolutions, tanh; the length follows from the coordinates through a narrow stack of dense
layers. The critic: convolutions over the rows of a crystal's table, then dense layers. Where the
published widths are 1024 and 4096 others follow in proportion.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from gandb.generators.site_networks import Drawn, Elements, LengthScale, SiteNetwork, bounded

LATENT = 128


class ConvGenerator(SiteNetwork):
    """Coordinates and edge of space groups, elements and noise."""

    noise = LATENT

    def __init__(self, n_groups: int, n_sites: int, width: int = 1024) -> None:
        super().__init__()
        self.n_sites = n_sites
        self.scale = LengthScale(n_groups, 1)
        self._elements = Elements()
        self._groups = nn.Sequential(nn.Embedding(n_groups, 64), nn.Linear(64, 96), nn.ReLU())
        self._each = nn.Sequential(nn.Conv1d(self._elements.size, 128, 1), nn.ReLU())
        self._noise = nn.Sequential(nn.Linear(LATENT, 256), nn.ReLU())
        self._joined = nn.Linear(96 + 128 * n_sites + 256, n_sites * 128)
        half = max(8, width // 2)
        self._maps = nn.Sequential(
            nn.ConvTranspose2d(128, width, (1, 2)), nn.BatchNorm2d(width), nn.ReLU(),
            nn.ConvTranspose2d(width, width, (1, 2)), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, half, 1), nn.ReLU(), nn.Dropout(0.5),
            nn.Conv2d(half, half, 1), nn.ReLU(),
            nn.Conv2d(half, 128, 1), nn.ReLU(),
            nn.Conv2d(128, 1, 1), nn.Tanh(),
        )  # fmt: skip
        self._length = nn.Sequential(
            nn.Linear(3 * n_sites + 96 + 128 * n_sites, 30), nn.ReLU(), nn.Linear(30, 18),
            nn.ReLU(), nn.Linear(18, 6), nn.ReLU(), nn.Linear(6, 1),
        )  # fmt: skip

    def forward(self, noise: Tensor, groups: Tensor, numbers: Tensor) -> Drawn:
        """Draw crystals; coordinates in [0, 1].

        Args:
            noise: standard normal, (n, 128).
            groups: places of space groups, int64 (n,).
            numbers: atomic numbers, int64 (n, k).
        """
        group = self._groups(groups)
        each = self._each(self._elements(numbers).transpose(1, 2)).flatten(1)
        joined = self._joined(torch.cat([group, each, self._noise(noise)], dim=1))
        maps = torch.relu(joined).reshape(-1, 128, self.n_sites, 1)
        coords = self._maps(maps)[:, 0]
        scaled = self._length(torch.cat([coords.flatten(1), group, each], dim=1))
        none = torch.zeros(len(noise), 0, dtype=torch.int64, device=noise.device)
        times = torch.ones(numbers.shape, device=noise.device)
        return Drawn((coords + 1.0) / 2.0, bounded(scaled), times, none)


class ConvCritic(nn.Module):
    """The value of crystals: inputs are 3 k coordinates from -1 to 1 and the scaled edge."""

    def __init__(self, n_groups: int, n_sites: int, width: int = 4096) -> None:
        super().__init__()
        self.n_sites = n_sites
        self._elements = Elements()
        self._groups = nn.Embedding(n_groups, 16)
        rows = 3 + 1 + self._elements.size + 16
        layers: list[nn.Module] = []
        before = rows
        for channels in (width // 32, width // 8, width // 4, width // 4, width // 2, width):
            after = max(8, channels)
            kernel = 2 if len(layers) == 0 else 1
            layers += [nn.Conv1d(before, after, kernel), nn.LeakyReLU(0.2), nn.Dropout(0.25)]
            before = after
        self._maps = nn.Sequential(*layers)
        sizes = [before * (n_sites - 1), 1024, 256, 32]
        dense: list[nn.Module] = []
        for one, other in pairwise(sizes):
            dense += [nn.Linear(one, other), nn.LeakyReLU(0.2)]
        self._dense = nn.Sequential(*dense, nn.Linear(sizes[-1], 1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return values (n,) of inputs (n, 3 k + 1) and conditions, int64 (n, 1 + k)."""
        k = self.n_sites
        coords = x[:, : 3 * k].reshape(-1, k, 3)
        edges = x[:, None, 3 * k :].expand(-1, k, -1)
        groups = self._groups(condition[:, 0])[:, None].expand(-1, k, -1)
        table = torch.cat([coords, edges, self._elements(condition[:, 1:]), groups], dim=-1)
        values: Tensor = self._dense(self._maps(table.transpose(1, 2)).flatten(1))[:, 0]
        return values
