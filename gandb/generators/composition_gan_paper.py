"""Networks of the composition-conditioned GAN's preset ``paper``: convolutions over slots.

See `gandb.generators.composition_gan`. A crystal is a matrix (2 + s, 3) of
`gandb.representations.point_cloud`. A convolution of 1 x 3 over it is one layer for every row.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gandb.generators.composition_gan_networks import Draw, Geometry, Slots, draw_normal
from gandb.representations.point_cloud import PRESENT, PointCloudForm, PointClouds

LATENT = 512
"""Random numbers for each crystal."""

_CELL_WIDTH = 30  # of the network that makes the cell
_SLOPE = 0.2
_VALUES = 10  # of the critic, which are averaged


class ConvGenerator(nn.Module):
    """Rows of all slots at once from random numbers and counts; the cell from the rows.

    Args:
        form: which element has which slots.
        width: channels of the first map, 128 in the paper.
    """

    def __init__(self, form: PointCloudForm, width: int) -> None:
        super().__init__()
        self.form = form
        self.slots = Slots(form)
        self.width = width
        n = self.slots.n_slots
        self.first = nn.Linear(LATENT + 1 + n, width * n)
        layers: list[nn.Module] = [nn.BatchNorm2d(width), nn.ReLU()]
        sizes = (width, 2 * width, 4 * width, 2 * width)
        for place, (before, after) in enumerate(pairwise(sizes)):
            kernel = (1, 3) if place == 0 else (1, 1)
            layers += [nn.ConvTranspose2d(before, after, kernel), nn.BatchNorm2d(after), nn.ReLU()]
        self.rows = nn.Sequential(*layers, nn.ConvTranspose2d(sizes[-1], 1, (1, 1)))
        self.cell = nn.Sequential(
            nn.Linear(3 * n, _CELL_WIDTH), nn.BatchNorm1d(_CELL_WIDTH), nn.ReLU(),
            nn.Linear(_CELL_WIDTH, 6),
        )  # fmt: skip

    def draws(self, n: int) -> list[Draw]:
        """Say what random numbers n crystals take."""
        return [draw_normal(n, LATENT)]

    def forward(self, counts: Tensor, latent: Tensor) -> Tensor:
        """Make matrices (n, 2 + s, 3) of counts (n, elements) and standard normal (n, LATENT).

        Counts enter as one-hot vectors, one number for each slot; no atoms as all zeros.
        """
        slots = self.slots
        asked = counts[:, slots.owner]
        places = ((slots.place + 1) == asked).to(latent)
        atoms = counts.sum(dim=1, keepdim=True) / slots.n_slots
        first = self.first(torch.cat([latent, atoms, places], dim=1))
        maps = first.view(len(latent), self.width, slots.n_slots, 1)
        rows = self.rows(maps).sigmoid()[:, 0]
        cell = self.cell(rows.flatten(1)).sigmoid().view(-1, 2, 3)
        return torch.cat([cell, rows], dim=1)

    def encode(self, clouds: PointClouds) -> Tensor:
        """Return matrices, float32 (n, 2 + s, 3)."""
        return torch.from_numpy(clouds.matrices(np.float32))

    def geometry(self, x: Tensor) -> Geometry:
        """Read matrices (n, 2 + s, 3)."""
        rows = x[:, 2:]
        return Geometry(
            x[:, 0] * self.form.max_length,
            torch.cos(math.pi * x[:, 1]),
            1.5 * rows - 0.25,
            rows.sum(dim=2) > PRESENT,
        )


class ConvCritic(nn.Module):
    """Values crystals by means over each element's slots, and the cell's two rows.

    It does not see what was asked for: that is the classifier's part.

    Args:
        form: which element has which slots.
        width: channels of the widest map, 512 in the paper.
    """

    def __init__(self, form: PointCloudForm, width: int) -> None:
        super().__init__()
        self.slots = Slots(form)
        half = max(1, width // 2)
        self.rows = nn.Sequential(
            nn.Linear(3, width), nn.LeakyReLU(_SLOPE),
            nn.Linear(width, width), nn.LeakyReLU(_SLOPE),
            nn.Linear(width, half), nn.LeakyReLU(_SLOPE),
        )  # fmt: skip
        self.value = nn.Sequential(
            nn.Linear(half * (len(form.slots) + 2), 1000), nn.LeakyReLU(_SLOPE),
            nn.Linear(1000, 200), nn.LeakyReLU(_SLOPE),
            nn.Linear(200, _VALUES),
        )  # fmt: skip
        self.classifier = Classifier(form, half)

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        """Return values (n,) of matrices (n, 2 + s, 3)."""
        rows = self.rows(x)
        means = torch.einsum("nsw,se->new", rows[:, 2:], self.slots.sums / self.slots.size)
        pooled = torch.cat([rows[:, :2].flatten(1), means.flatten(1)], dim=1)
        value: Tensor = self.value(pooled).mean(dim=1)
        return value


class Classifier(nn.Module):
    """Tells for each slot whether it holds an atom, and for each element how many of its slots do.

    Each element has its own layers; the order of its slots makes no difference to the count.
    """

    def __init__(self, form: PointCloudForm, width: int) -> None:
        super().__init__()
        self.blocks = form.blocks
        self.towers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(3, width), nn.LeakyReLU(_SLOPE),
                nn.Linear(width, width), nn.LeakyReLU(_SLOPE),
            )
            for _ in form.slots
        )  # fmt: skip
        self.presence = nn.ModuleList(nn.Linear(width, 2) for _ in form.slots)
        self.count = nn.ModuleList(nn.Linear(width, n + 1) for n in form.slots)

    def losses(
        self, x: Tensor, counts: Tensor, present: Tensor | None
    ) -> tuple[Tensor | None, Tensor]:
        """Return the cross entropies of slots and of counts, each a sum over elements.

        Args:
            x: (n, 2 + s, 3).
            counts: (n, elements), the true ones.
            present: bool (n, s), which slots hold an atom; None where that is not to be judged.
        """
        of_slots, of_counts = [], []
        for e, block in enumerate(self.blocks):
            rows = self.towers[e](x[:, 2 + block.start : 2 + block.stop])
            if present is not None:
                truth = present[:, block].long().flatten()
                told = self.presence[e](rows).flatten(0, 1)
                of_slots.append(functional.cross_entropy(told, truth))
            told = self.count[e](rows.mean(dim=1))
            of_counts.append(functional.cross_entropy(told, counts[:, e].long()))
        slots = torch.stack(of_slots).sum() if of_slots else None
        return slots, torch.stack(of_counts).sum()
