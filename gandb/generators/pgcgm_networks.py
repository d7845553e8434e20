"""PGCGM's networks after the paper; see `gandb.generators.pgcgm`.

The space group enters as its affine operations, (192, 4, 4), zero-padded, through convolutions over
the operations. Coordinates follow from noise and elements by transposed convolutions, lengths from
noise and operations by dense layers. The critic's image of a crystal has a row per site and
three for the cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gandb.generators.site_networks import Drawn, Elements, LengthScale, SiteNetwork, bounded
from gandb.representations.space_groups import space_group

LATENT = 128
MOST_OPERATIONS = 192


class Operations(nn.Module):
    """A vector of each space group, from its affine operations."""

    _affine: Tensor

    def __init__(self, numbers: Sequence[int], size: int) -> None:
        super().__init__()
        affine = np.stack([space_group(number).affine(MOST_OPERATIONS) for number in numbers])
        flat = torch.from_numpy(affine.reshape(len(numbers), MOST_OPERATIONS, 16)).float()
        self.register_buffer("_affine", flat.transpose(1, 2).contiguous(), persistent=False)
        self._maps = nn.Sequential(
            nn.Conv1d(16, 64, 1), nn.LeakyReLU(0.2), nn.Conv1d(64, 128, 1), nn.LeakyReLU(0.2),
            nn.Conv1d(128, 256, 1), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self._last = nn.Linear(256, size)

    def forward(self, groups: Tensor) -> Tensor:
        """Take places of space groups (n,), give (n, size); each group is worked out once."""
        vectors: Tensor = self._last(self._maps(self._affine).mean(dim=2))
        return vectors[groups]


class OperationsGenerator(SiteNetwork):
    """Coordinates and lengths of space groups, elements and noise."""

    noise = LATENT

    def __init__(self, numbers: Sequence[int], n_sites: int, width: int = 1024) -> None:
        super().__init__()
        self.n_sites = n_sites
        self.scale = LengthScale(len(numbers), 3)
        self._operations = Operations(numbers, 256)
        self._elements = Elements()
        self._each = nn.Sequential(
            nn.Conv1d(self._elements.size, 64, 1), nn.ReLU(), nn.Conv1d(64, 128, 1), nn.ReLU()
        )
        self._all = nn.Linear(128 * n_sites, 256)
        self._noise = nn.Sequential(nn.Linear(LATENT, 256), nn.ReLU())
        sizes = [max(8, width // 2), max(8, width // 4), 128, 64]
        maps: list[nn.Module] = [
            nn.ConvTranspose1d(768, width, n_sites), nn.BatchNorm1d(width), nn.ReLU()
        ]  # fmt: skip
        before = width
        for after in sizes:
            maps += [nn.Conv1d(before, after, 1), nn.BatchNorm1d(after), nn.ReLU()]
            before = after
        self._maps = nn.Sequential(*maps, nn.Conv1d(before, 3, 1), nn.Tanh())
        dense: list[nn.Module] = []
        before = 512
        for after in (128, 64, 32, 16):
            dense += [nn.Linear(before, after), nn.ReLU()]
            before = after
        self._lengths = nn.Sequential(*dense, nn.Linear(before, 3))

    def forward(self, noise: Tensor, groups: Tensor, numbers: Tensor) -> Drawn:
        """Draw crystals; coordinates in [0, 1].

        Args:
            noise: standard normal, (n, 128).
            groups: places of space groups, int64 (n,).
            numbers: atomic numbers, int64 (n, k).
        """
        each = self._each(self._elements(numbers).transpose(1, 2)).flatten(1)
        inner, group = self._noise(noise), self._operations(groups)
        joined = torch.cat([inner, torch.relu(self._all(each)), group], dim=1)
        coords = self._maps(joined[:, :, None]).transpose(1, 2)
        scaled = self._lengths(torch.cat([inner, group], dim=1))
        return Drawn(
            (coords + 1.0) / 2.0,
            bounded(scaled),
            torch.ones(numbers.shape, device=noise.device),
            torch.zeros(len(noise), 0, dtype=torch.int64, device=noise.device),
        )


class OperationsCritic(nn.Module):
    """The value of crystals: inputs are 3 k coordinates from -1 to 1 and 3 scaled lengths."""

    def __init__(self, numbers: Sequence[int], n_sites: int, width: int = 256) -> None:
        super().__init__()
        self.n_sites = n_sites
        self._operations = Operations(numbers, 256)
        self._elements = Elements()
        rows = 3 + 3 + self._elements.size
        layers: list[nn.Module] = []
        before = rows
        for share in (16, 8, 4, 2, 2, 1, 1):
            after = max(8, width // share)
            kernel = 2 if len(layers) == 0 and n_sites > 1 else 1
            layers += [nn.Conv1d(before, after, kernel), nn.LeakyReLU(0.2)]
            before = after
        self._maps = nn.Sequential(*layers)
        self._dense = nn.Sequential(
            nn.Linear(before * max(1, n_sites - 1) + 256, 512), nn.LeakyReLU(0.2),
            nn.Linear(512, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1),
        )  # fmt: skip

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return values (n,) of inputs (n, 3 k + 3) and conditions, int64 (n, 1 + k)."""
        k = self.n_sites
        coords = x[:, : 3 * k].reshape(-1, k, 3)
        lengths = x[:, None, 3 * k :].expand(-1, k, -1)
        table = torch.cat([coords, lengths, self._elements(condition[:, 1:])], dim=-1)
        maps = self._maps(table.transpose(1, 2)).flatten(1)
        values: Tensor = self._dense(torch.cat([maps, self._operations(condition[:, 0])], dim=1))[
            :, 0
        ]
        return values
