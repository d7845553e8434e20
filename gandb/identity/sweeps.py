"""Go through all pairs of many members, the likely ones first, without ever holding all pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

Keep = Callable[[np.ndarray], "np.ndarray | None"]
"""Chooses among pairs (k, 2); None ends the sweep."""


def leading_columns(rows: np.ndarray, count: int = 4) -> np.ndarray:
    """Return the directions in which rows (n, k) differ most, as columns, float64 (n, count)."""
    centred = rows - rows.mean(axis=0) if len(rows) else rows
    count = min(count, rows.shape[1])
    _, vectors = np.linalg.eigh(centred.T @ centred)
    columns: np.ndarray = centred @ vectors[:, ::-1][:, :count]
    return columns if count else np.zeros((len(rows), 1))


def within(items: np.ndarray, score: np.ndarray, size: int, keep: Keep) -> Iterator[np.ndarray]:
    """Yield pairs among items once each, those closest in the order of their scores first.

    Args:
        items: int64 (m,).
        score: (n,), of each index that an item can be.
        size: about how many pairs to yield at once.
        keep: chooses; asked once for each pair.
    """
    order = items[np.argsort(score[items], kind="stable")]
    m = len(order)
    offsets = iter(range(1, m))

    def found() -> Iterator[np.ndarray]:
        for first in offsets:
            left = np.arange(m - first)
            steps = [first]
            while len(steps) * m < size and (more := next(offsets, None)):
                steps.append(more)
            right = left[:, None] + np.array(steps)
            i, place = np.nonzero(right < m)
            yield np.stack([order[i], order[right[i, place]]], axis=1)

    return _gathered(found(), size, keep)


def across(
    left: np.ndarray, right: np.ndarray, score: np.ndarray, size: int, keep: Keep
) -> Iterator[np.ndarray]:
    """Yield the pairs of one of the left and one of the right, as `within` does."""
    order = right[np.argsort(score[right], kind="stable")]
    at = np.searchsorted(score[order], score[left])
    m = len(order)

    def found() -> Iterator[np.ndarray]:
        width = max(size // (2 * max(len(left), 1)), 1)
        for start in range(0, m, width) if len(left) else ():
            steps = np.arange(start, min(start + width, m))
            steps = np.stack([steps, -1 - steps], axis=1).ravel()
            place = at[:, None] + steps
            i, j = np.nonzero((place >= 0) & (place < m))
            yield np.stack([left[i], order[place[i, j]]], axis=1)

    return _gathered(found(), size, keep)


def _gathered(found: Iterator[np.ndarray], size: int, keep: Keep) -> Iterator[np.ndarray]:
    """Keep what is wanted and yield it in larger arrays."""
    held: list[np.ndarray] = []
    count = 0
    for pairs in found:
        chosen = keep(pairs)
        if chosen is None:
            return
        if len(chosen):
            held.append(chosen)
            count += len(chosen)
        if count >= size:
            yield np.concatenate(held)
            held, count = [], 0
    if held:
        yield np.concatenate(held)
