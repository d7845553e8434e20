"""Go through all pairs of many members, the likely ones first, without ever holding all pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

Keep = Callable[[np.ndarray], "np.ndarray | None"]
"""Chooses among pairs (k, 2); None ends the sweep."""


def leading_columns(rows: np.ndarray, count: int = 4) -> np.ndarray:
    """Return the directions in which rows (n, k) differ most, as columns, float64 (n, count).

    They are scaled so that two rows differ no more in them than in the row.
    """
    n, k = rows.shape
    if not n or not k:
        return np.zeros((n, 1))
    centred = rows - rows.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    columns: np.ndarray = centred @ vectors[:, ::-1][:, :count] / np.sqrt(k)
    return columns


def neighbours(items: np.ndarray, columns: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield pairs of items that lie close in all columns: space is halved again and again.

    Where two parts meet, pairs are missed; so it is done twice, with other cuts.

    Args:
        items: int64 (m,).
        columns: float64 (n, c), those of each index that an item can be.
        size: halve parts down to this.
    """
    for share in (1 / 2, 1 / 3):
        order, cell = items, np.zeros(len(items), np.int64)
        while len(items) and (count := np.bincount(cell)).max() > size:
            starts = np.cumsum(count) - count
            own = columns[order]
            widest = np.maximum.reduceat(own, starts) - np.minimum.reduceat(own, starts)
            turn = np.lexsort((own[np.arange(len(own)), widest.argmax(axis=1)[cell]], cell))
            order = order[turn]
            place = np.arange(len(cell)) - starts[cell]
            cell = 2 * cell + (place >= (count * share)[cell])
            cell = np.cumsum(np.diff(cell, prepend=cell[0]) != 0)
        for step in range(1, min(size, len(order))):
            alike = cell[:-step] == cell[step:]
            yield np.stack([order[:-step][alike], order[step:][alike]], axis=1)


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


def products(
    pairs: np.ndarray, inner: np.ndarray, starts: np.ndarray, size: int
) -> Iterator[np.ndarray]:
    """Yield the pairs of something inside the first and something inside the second of each pair.

    Args:
        pairs: int64 (k, 2).
        inner: what is inside of all, one after another.
        starts: where that of each begins.
        size: how many pairs to yield at once, but for pairs that have more.
    """
    begin, end = starts[pairs], starts[pairs + 1]
    many = end - begin
    total = np.cumsum(many[:, 0] * many[:, 1])
    at = 0
    while at < len(pairs):
        done = total[at - 1] if at else 0
        to = max(int(np.searchsorted(total, done + size, "right")), at + 1)
        counts = np.diff(total[at:to], prepend=done)
        place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        width = np.repeat(many[at:to, 1], counts)
        left = np.repeat(begin[at:to, 0], counts) + place // width
        right = np.repeat(begin[at:to, 1], counts) + place % width
        yield np.stack([inner[left], inner[right]], axis=1)
        at = to


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
