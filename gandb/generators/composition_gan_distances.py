"""Atoms that are nearer to each other than in real crystals, as a loss with a gradient.

See `gandb.generators.composition_gan`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.radii import COVALENT_RADIUS
from gandb.generators.composition_gan_networks import Geometry, find_neighbours, metric
from gandb.representations.point_cloud import PointClouds

_FARTHEST = 5.0  # Å, to which pairs of training atoms are looked at for their shortest distance
_LIKELY = 0.7  # shortest distance, of the sum of covalent radii, of elements never seen so near
_FLATTEST = 1e-3  # squared volume of a cell with edges of 1, below which distances mean nothing
_BATCH = 256  # training crystals that are looked at together


def overlap(shape: Geometry, owner: Tensor, least: Tensor) -> Tensor:
    """Return how much the atoms of each crystal overlap, (n,); see the module.

    Args:
        shape: n crystals. Of cells too flat to be any, the overlap is 0.
        owner: int64 (s,), element of each slot.
        least: (elements, elements), Å, distance from which atoms do not overlap.
    """
    metrics = metric(shape.lengths, shape.cosines)
    n_slots = shape.present.shape[1]
    square = torch.linalg.det(metric(torch.ones_like(shape.lengths), shape.cosines))
    present = shape.present & (square > _FLATTEST)[:, None]
    pairs = find_neighbours(shape.coords, metrics, present, float(least.max()))
    _, distance = pairs.vectors(shape.coords, metrics)
    bound = least[owner[pairs.atom % n_slots], owner[pairs.other % n_slots]]
    short = ((bound - distance) / bound).clamp(min=0.0) ** 2
    sums = torch.zeros_like(square).index_add(0, pairs.crystal, short)
    return sums / shape.present.sum(dim=1).clamp(min=1)


def least_distances(clouds: PointClouds, owner: Tensor, quantile: float) -> Tensor:
    """Return the option ``distance_quantile`` of the shortest distances, float32 (e, e), Å.

    Of elements never within 5 Å of each other, it is a share of the sum of covalent radii.
    """
    e, n_slots = len(clouds.form.slots), clouds.present.shape[1]
    shortest = np.full((len(clouds), e, e), np.inf, np.float32)
    for start in range(0, len(clouds), _BATCH):
        part = clouds.take(np.arange(start, min(start + _BATCH, len(clouds))))
        cosines = np.cos(np.radians(part.angles)).astype(np.float32)
        metrics = metric(
            torch.from_numpy(part.lengths.astype(np.float32)), torch.from_numpy(cosines)
        )
        coords = torch.from_numpy(part.frac_coords.astype(np.float32))
        pairs = find_neighbours(coords, metrics, torch.from_numpy(part.present), _FARTHEST)
        _, distance = pairs.vectors(coords, metrics)
        one, other = owner[pairs.atom % n_slots], owner[pairs.other % n_slots]
        places = (start + pairs.crystal.numpy(), one.numpy(), other.numpy())
        np.minimum.at(shortest, places, distance.numpy())
    radii = np.nan_to_num(
        COVALENT_RADIUS[[ATOMIC_NUMBERS[symbol] for symbol in clouds.form.elements]],
        nan=float(np.nanmean(COVALENT_RADIUS)),
    )
    least = _LIKELY * (radii[:, None] + radii)
    for a in range(e):
        for b in range(e):
            seen = shortest[np.isfinite(shortest[:, a, b]), a, b]
            if len(seen):
                least[a, b] = np.quantile(seen, quantile)
    return torch.from_numpy(least.astype(np.float32))
