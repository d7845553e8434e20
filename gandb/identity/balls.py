"""Collapse tight duplicates: balls of members near one of them, within each other in levels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

_FIRST_COLUMNS = 4


@dataclass(frozen=True, eq=False)
class Balls:
    """Balls in levels, the widest first; the last level is that of the members alone.

    Attributes:
        centres: int64 (levels + 1, n), the centre of the ball that holds each member.
    """

    centres: np.ndarray

    @cached_property
    def sizes(self) -> np.ndarray:
        """How many members the ball around each centre holds at each level, (levels + 1, n)."""
        n = self.centres.shape[1]
        return np.stack([np.bincount(row, minlength=n) for row in self.centres])

    @cached_property
    def _children(self) -> list[tuple[np.ndarray, np.ndarray]]:
        n = self.centres.shape[1]
        tables = []
        for wide, tight in zip(self.centres[:-1], self.centres[1:], strict=True):
            inner = np.flatnonzero(np.bincount(tight, minlength=n))
            inner = inner[np.argsort(wide[inner], kind="stable")]
            tables.append((inner, np.searchsorted(wide[inner], np.arange(n + 1))))
        return tables

    def inside(self, centre: int, level: int) -> np.ndarray:
        """Return the centres of the balls one level down within a ball."""
        inner, starts = self._children[level]
        return inner[starts[centre] : starts[centre + 1]]


def collapse(
    groups: list[np.ndarray],
    rows: np.ndarray,
    reach: float,
    join: Callable[[np.ndarray], np.ndarray],
    tries: int,
) -> np.ndarray:
    """Find a centre for each member among those of its group.

    Members whose rows lie within reach of a middle one are offered to it; those that it does not
    take are divided anew. After some tries a member is a ball of its own.

    Args:
        groups: indices of members, int64, distinct.
        rows: float32 (n, k), those of members near each other are alike. They should begin with the
            columns that tell members apart best.
        reach: how much alike: the largest difference.
        join: says of pairs (centre, member) whether the member is in the centre's ball.
        tries: how often a member is offered.

    Returns:
        int64 (n,), the centre of each member; itself where it is in no group.
    """
    centres = np.arange(len(rows))
    groups = [group for group in groups if len(group) > 1]
    for _ in range(tries):
        if not groups:
            break
        heads = [_heads(group, rows, reach) for group in groups]
        pairs = np.stack([np.concatenate(heads), np.concatenate(groups)], axis=1)
        which = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        offered = pairs[:, 0] != pairs[:, 1]
        pairs, which = pairs[offered], which[offered]
        taken = join(pairs)
        centres[pairs[taken, 1]] = pairs[taken, 0]
        left, which = pairs[~taken, 1], which[~taken]
        parts = np.split(left, np.flatnonzero(np.diff(which)) + 1)
        groups = [part for part in parts if len(part) > 1]
    return centres


def _heads(members: np.ndarray, rows: np.ndarray, reach: float) -> np.ndarray:
    """Return for each member the middle one of those around it, int64 (m,)."""
    own = rows[members]
    order = np.argsort(own[:, 0], kind="stable")
    members_sorted, own = members[order], np.ascontiguousarray(own[order])
    first = np.ascontiguousarray(own[:, :_FIRST_COLUMNS])
    low = np.searchsorted(own[:, 0], own[:, 0] - np.float32(reach), "left")
    high = np.searchsorted(own[:, 0], own[:, 0] + np.float32(reach), "right")
    label = np.full(len(members), -1)
    for i in np.argsort(members_sorted, kind="stable"):
        if label[i] >= 0:
            continue
        free = low[i] + np.flatnonzero(label[low[i] : high[i]] < 0)
        free = free[(np.abs(first[free] - first[i]) <= reach).all(axis=1)]
        free = free[(np.abs(own[free] - own[i]) <= reach).all(axis=1)]
        label[free] = i
    heads = np.empty(len(members), np.int64)
    heads[order] = members_sorted[_middles(own, label)]
    return heads


def _middles(own: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Replace each label by the position of the row closest to the mean under that label."""
    _, place, counts = np.unique(label, return_inverse=True, return_counts=True)
    if len(counts) == len(label):
        return label
    order = np.argsort(place, kind="stable")
    starts = np.cumsum(counts) - counts
    means = np.add.reduceat(own[order].astype(np.float64), starts, axis=0) / counts[:, None]
    off = np.abs(own - means[place]).max(axis=1)
    best = np.lexsort((off, place))[starts]
    middles: np.ndarray = best[place]
    return middles
