"""Distances between base sites and all images of them, with gradient.

For groups whose angles are 90 and 120 degrees: orthorhombic to cubic ones. Every distance is the
least among the 27 cells around: fractional steps are wrapped, and in a cell with an angle of 120
degrees the six next to them are tried too, of which one may be nearer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import torch
from torch import Tensor, nn

from gandb.representations.space_groups import space_group

_SMALL = 1e-6  # Å², under roots
_FAR = 100.0
_AROUND = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1))


class SymmetryImages(nn.Module):
    """The operations of some space groups, and what they do to sites.

    A batch of n crystals by their images is ragged: rows of (crystal, operation), as many for each
    crystal as its group has operations.

    Attributes:
        average: (groups, 3, 3), takes lengths to lengths that a group allows.
    """

    average: Tensor
    _offsets: Tensor
    _rotations: Tensor
    _translations: Tensor
    _cosines: Tensor
    _shifts: Tensor

    def __init__(self, numbers: Sequence[int], n_sites: int) -> None:
        super().__init__()
        groups = [space_group(number) for number in numbers]
        counts = [len(group) for group in groups]
        cosines = np.stack([np.eye(3)] * len(groups))
        for i, group in enumerate(groups):
            if group.angles[2] == 120.0:
                cosines[i, 0, 1] = cosines[i, 1, 0] = -0.5
        shifts = np.array([(a, b, 0) for a, b in _AROUND], np.float32)
        for name, values in (
            ("average", np.stack([group.length_average for group in groups])),
            ("_offsets", np.concatenate([[0], np.cumsum(counts)])),
            ("_rotations", np.concatenate([group.rotations for group in groups])),
            ("_translations", np.concatenate([group.translations for group in groups])),
            ("_cosines", cosines),
            ("_shifts", shifts),
        ):
            kind = torch.int64 if name == "_offsets" else torch.float32
            self.register_buffer(name, torch.from_numpy(values).to(kind), persistent=False)
        self.pairs = list(combinations_with_replacement(range(n_sites), 2))

    def rows(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Return crystal and operation of every row, int64 (r,) each, for groups (n,)."""
        counts = self._offsets[groups + 1] - self._offsets[groups]
        owners = torch.repeat_interleave(torch.arange(len(groups), device=groups.device), counts)
        starts = torch.cumsum(counts, 0) - counts
        steps = torch.arange(len(owners), device=groups.device) - starts[owners]
        return owners, self._offsets[groups][owners] + steps

    def metrics(self, groups: Tensor, lengths: Tensor) -> Tensor:
        """Return metric tensors, Å², (n, 3, 3)."""
        return lengths[:, :, None] * lengths[:, None, :] * self._cosines[groups]

    def images(self, coords: Tensor, owners: Tensor, operations: Tensor) -> Tensor:
        """Return the images of coordinates (n, k, 3), (r, k, 3)."""
        turned = torch.bmm(coords[owners], self._rotations[operations].transpose(1, 2))
        return turned + self._translations[operations][:, None]

    def steps(self, steps: Tensor, metrics: Tensor) -> tuple[Tensor, Tensor]:
        """Bring fractional steps (r, p, 3) to the nearest cell; return them and distances, Å."""
        with torch.no_grad():
            cells = steps.round()
            skew = torch.nonzero(metrics[:, 0, 1] < 0)[:, 0]
            if len(skew):
                tried = (steps[skew] - cells[skew])[:, :, None] - self._shifts
                squares = torch.einsum("rpsi,rij,rpsj->rps", tried, metrics[skew], tried)
                cells[skew] += self._shifts[squares.argmin(dim=2)]
        near = steps - cells
        squares = (torch.bmm(near, metrics) * near).sum(dim=2)
        return near, (squares + _SMALL).sqrt()

    @torch.no_grad()
    def settled(self, coords: Tensor, groups: Tensor, lengths: Tensor, reaches: Tensor) -> Tensor:
        """Put each site at the mean of those of its images that it is to be joined with.

        Args:
            coords: (n, k, 3).
            groups: places of space groups, (n,).
            lengths: Å, (n, 3).
            reaches: Å, (n, k); images nearer than this are joined.

        Returns:
            Coordinates (n, k, 3): on the special position, where the images around a site are
            those of its site symmetry.
        """
        owners, operations = self.rows(groups)
        metrics = self.metrics(groups, lengths)[owners]
        for _ in range(2):
            images = self.images(coords, owners, operations)
            near, distances = self.steps(images - coords[owners], metrics)
            joined = (distances < reaches[owners])[:, :, None].float()
            sums = torch.zeros_like(coords).index_add_(0, owners, near * joined)
            times = torch.zeros_like(coords[:, :, :1]).index_add_(0, owners, joined)
            coords = coords + sums / times
        return coords

    def surroundings(
        self, coords: Tensor, groups: Tensor, lengths: Tensor, reaches: Tensor, radii: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return how near the images of each pair of sites come, and how densely they lie.

        Args:
            coords: (n, k, 3).
            groups: places of space groups, (n,).
            lengths: Å, (n, 3).
            reaches: Å, (n, k); images of one site nearer than this are one atom.
            radii: Å, (n, k).

        Returns:
            For every pair of `pairs`, (n, pairs) each: the least distance as a share of the sum of
            the two radii, between two sites of any images, of one site of those that are not one
            atom, other cells included; and the sum over all operations of exp(-2 share^2), which
            tells how many images of the one surround the other.
        """
        owners, operations = self.rows(groups)
        images = self.images(coords, owners, operations)
        first = [i for i, _ in self.pairs]
        second = [j for _, j in self.pairs]
        _, distances = self.steps(
            coords[owners][:, first] - images[:, second], self.metrics(groups, lengths)[owners]
        )
        same = torch.tensor([i == j for i, j in self.pairs], device=coords.device)
        sums = radii[:, first] + radii[:, second]
        shares = distances / sums[owners]
        density = torch.zeros_like(sums).index_add_(0, owners, torch.exp(-2.0 * shares.square()))
        joined = same & (distances < reaches[owners][:, first])
        shares = torch.where(joined, torch.full_like(shares, _FAR), shares)
        edges = lengths.amin(dim=1, keepdim=True) / sums
        nearest = torch.where(same, edges, torch.full_like(edges, _FAR))
        nearest = nearest.scatter_reduce(
            0, owners[:, None].expand_as(shares), shares, "amin", include_self=True
        )
        return nearest, density
