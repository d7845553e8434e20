"""The nearest known structure of each of many, without comparing all with all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

ROUND = 8
"""References that each is compared with at a time, nearest first."""


class Judge(Protocol):
    """Verdicts on pairs, given as int64 (k, 2) of indices; see `gandb.identity.grouping`."""

    def fit(self, pairs: np.ndarray) -> np.ndarray:
        """Say whether the first matches the second, in this direction; bool (k,)."""

    def measure(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return root mean square and largest displacement, float64 (k,) each; NaN for none."""


@dataclass(frozen=True, eq=False)
class Compared:
    """Pairs that were compared, a query and a reference each.

    Attributes:
        query, reference: int64 (m,), their numbers.
        forward: int8 (m,), whether the query, as the first, matches the reference: 1 or 0.
        backward: int8 (m,), the other way round.
        rms, max_distance: float64 (m,), of the direction that matches; NaN for no match.
        amd_distance: float64 (m,).
    """

    query: np.ndarray
    reference: np.ndarray
    forward: np.ndarray
    backward: np.ndarray
    rms: np.ndarray
    max_distance: np.ndarray
    amd_distance: np.ndarray

    @property
    def matched(self) -> np.ndarray:
        """Whether they are the same, bool (m,)."""
        return np.asarray((self.forward == 1) | (self.backward == 1))


@dataclass(eq=False)
class Search:
    """What each of q queries was compared with, and the best match of each.

    Attributes:
        reference: int64 (q,), the match with the least rms of the round that had one; else -1.
        rms: float64 (q,), NaN for none.
        n_compared: int64 (q,).
    """

    reference: np.ndarray
    rms: np.ndarray
    n_compared: np.ndarray
    parts: list[Compared] = field(default_factory=list)


def search(
    judge: Judge,
    amd: np.ndarray,
    queries: np.ndarray,
    starts: np.ndarray,
    references: np.ndarray,
    progress: Callable[[int], None] | None = None,
) -> Search:
    """Compare each query with its references, nearest by AMD first, until a round has a match.

    A query without a match was compared with all of its references, so nothing is missed. What is
    compared does not depend on other queries.

    Args:
        judge: what answers on pairs.
        amd: float64 (n, k), of all that ``queries`` and ``references`` number.
        queries: int64 (q,).
        starts: int64 (q + 1,), where the references of each query begin.
        references: int64 (starts[-1],); a query is not among its own.
        progress: told how many pairs were compared; what it raises ends the work.
    """
    n = len(queries)
    found = Search(np.full(n, -1), np.full(n, np.nan), np.zeros(n, np.int64))
    distance = _distances(amd, np.repeat(queries, np.diff(starts)), references)
    owner = np.repeat(np.arange(n), np.diff(starts))
    order = np.lexsort((references, distance, owner))
    references, distance = references[order], distance[order]
    at = starts[:-1].copy()
    open_ = np.flatnonzero(at < starts[1:])
    asked = 0
    while len(open_):
        counts = np.minimum(starts[open_ + 1] - at[open_], ROUND)
        own = np.repeat(open_, counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = at[own] + within
        part = _compare(judge, queries, own, references[rows], distance[rows])
        found.parts.append(part)
        found.n_compared[open_] += counts
        at[open_] += counts
        _take_best(found, own, part)
        asked += len(rows)
        if progress is not None:
            progress(asked)
        open_ = open_[(found.reference[open_] < 0) & (at[open_] < starts[open_ + 1])]
    return found


def _compare(
    judge: Judge, queries: np.ndarray, own: np.ndarray, references: np.ndarray, distance: np.ndarray
) -> Compared:
    pairs = np.stack([queries[own], references], axis=1)
    forward = judge.fit(pairs).astype(np.int8)
    backward = judge.fit(pairs[:, ::-1]).astype(np.int8)
    rms, largest = np.full((2, len(pairs)), np.nan)
    for way, turned in ((forward == 1, 1), ((forward == 0) & (backward == 1), -1)):
        if way.any():
            rms[way], largest[way] = judge.measure(pairs[way, ::turned])
    return Compared(queries[own], references, forward, backward, rms, largest, distance)


def _take_best(found: Search, own: np.ndarray, part: Compared) -> None:
    rows = np.flatnonzero(part.matched)
    rows = rows[np.lexsort((part.reference[rows], part.rms[rows], own[rows]))]
    first = rows[np.unique(own[rows], return_index=True)[1]]
    found.reference[own[first]] = part.reference[first]
    found.rms[own[first]] = part.rms[first]


def _distances(amd: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    found = np.empty(len(a))
    for at in range(0, len(a), 8192):
        part = slice(at, at + 8192)
        found[part] = np.abs(amd[a[part]] - amd[b[part]]).max(axis=1, initial=0.0)
    return found
