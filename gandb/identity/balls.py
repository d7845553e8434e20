"""Collapse tight duplicates: balls of members near one of them, within each other in levels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

_FIRST_COLUMNS = 4
_LITTLE = 0.1  # a share of members taken that is not worth another round


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
    def _tables(self) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
        return {}

    def inside(self, level: int, below: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which balls of a tighter level are within those of a wider one.

        Returns:
            Centres of the tighter level, and (n + 1,) where those within the ball around each
            member begin.
        """
        if (level, below) not in self._tables:
            n = self.centres.shape[1]
            inner = np.flatnonzero(self.sizes[below])
            outer = self.centres[level][inner]
            order = np.argsort(outer, kind="stable")
            starts = np.searchsorted(outer[order], np.arange(n + 1))
            self._tables[level, below] = inner[order], starts
        return self._tables[level, below]


def collapse(
    groups: list[np.ndarray],
    rows: np.ndarray,
    reach: float,
    join: Callable[[np.ndarray], np.ndarray],
    tries: int,
) -> np.ndarray:
    """Find a centre for each member among those of its group.

    Members whose rows lie within reach of a middle one are offered to it; those that it does not
    take are divided anew. What is left after some tries in vain are balls of their own.

    Args:
        groups: indices of members, int64, distinct.
        rows: float32 (n, k), those of members near each other are alike. They should begin with the
            columns that tell members apart best.
        reach: how much alike: the largest difference.
        join: says of pairs (centre, member) whether the member is in the centre's ball.
        tries: how many rounds may bring little.

    Returns:
        int64 (n,), the centre of each member; itself where it is in no group.
    """
    centres = np.arange(len(rows))
    groups = [group for group in groups if len(group) > 1]
    while groups and tries:
        heads = [_heads(group, rows, reach) for group in groups]
        pairs = np.stack([np.concatenate(heads), np.concatenate(groups)], axis=1)
        which = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        offered = pairs[:, 0] != pairs[:, 1]
        pairs, which = pairs[offered], which[offered]
        taken = join(pairs)
        centres[pairs[taken, 1]] = pairs[taken, 0]
        tries -= int(taken.sum() < _LITTLE * len(taken))
        left, which = pairs[~taken, 1], which[~taken]
        parts = np.split(left, np.flatnonzero(np.diff(which)) + 1)
        groups = [part for part in parts if len(part) > 1]
    return centres


def _heads(members: np.ndarray, rows: np.ndarray, reach: float) -> np.ndarray:
    """Return for each member the middle one of those around it, int64 (m,)."""
    order = members[np.argsort(rows[members, 0], kind="stable")]
    own = np.ascontiguousarray(rows[order])
    label = _covered(own, np.argsort(order, kind="stable"), reach)
    label, counts = _middles(own, label)
    # The middles of the largest take all they reach, and those left over form what they can.
    first = label[np.sort(np.unique(label, return_index=True)[1])]
    first = first[np.argsort(-counts[first], kind="stable")]
    label = _covered(own, np.concatenate([first, np.argsort(order, kind="stable")]), reach)
    back = np.empty(len(rows), np.int64)
    back[order] = order[label]
    heads: np.ndarray = back[members]
    return heads


def _covered(own: np.ndarray, turns: np.ndarray, reach: float) -> np.ndarray:
    """Let each row in turn, unless it is taken, take all free ones in reach; int64 (m,), by whom.

    The rows are sorted by their first column.
    """
    first = np.ascontiguousarray(own[:, :_FIRST_COLUMNS])
    low = np.searchsorted(own[:, 0], own[:, 0] - np.float32(reach), "left")
    high = np.searchsorted(own[:, 0], own[:, 0] + np.float32(reach), "right")
    label = np.full(len(own), -1)
    for i in turns:
        if label[i] >= 0:
            continue
        free = low[i] + np.flatnonzero(label[low[i] : high[i]] < 0)
        free = free[(np.abs(first[free] - first[i]) <= reach).all(axis=1)]
        free = free[(np.abs(own[free] - own[i]) <= reach).all(axis=1)]
        label[free] = i
        label[i] = i
    return label


def _middles(own: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Replace each label by the row closest to the mean under it; and count what that row has."""
    _, place, counts = np.unique(label, return_inverse=True, return_counts=True)
    order = np.argsort(place, kind="stable")
    starts = np.cumsum(counts) - counts
    means = np.add.reduceat(own[order].astype(np.float64), starts, axis=0) / counts[:, None]
    off = np.abs(own - means[place]).max(axis=1)
    best = np.lexsort((off, place))[starts]
    held = np.zeros(len(own), np.int64)
    held[best] = counts
    return best[place], held
