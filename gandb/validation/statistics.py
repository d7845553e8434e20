"""What a set of compositions is made of, and how far two sets are apart.

The statistics of a generated set are compared with those of its training set: which elements occur,
how many in one formula, in which proportions and which beside each other. Distances are
Jensen-Shannon divergences in bits: 0 for equal distributions, 1 for disjoint ones (J. Lin, IEEE
Trans. Inf. Theory 37, 145 (1991), doi:10.1109/18.61115).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gandb.core.compositions import CompositionBatch
from gandb.core.elements import MAX_Z

_Z = MAX_Z + 1


@dataclass(frozen=True)
class SetStatistics:
    """Counts over a set of compositions; each composition weighs as often as it occurred.

    Attributes:
        total: number of compositions, repeats included.
        elements: int64 (119,), compositions that contain each atomic number.
        n_elements: int64 (k+1,), compositions of each number of different elements.
        counts: int64 (c+1,), how often an element has each number of atoms in a composition.
        pairs: int64 (119, 119), compositions that contain both elements; the lower atomic number
            is the row, the rest is zero.
        stoichiometries: compositions of each anonymous formula, as `anonymous_formula` writes it.
    """

    total: int
    elements: np.ndarray
    n_elements: np.ndarray
    counts: np.ndarray
    pairs: np.ndarray
    stoichiometries: Mapping[str, int]


def describe(batch: CompositionBatch, times: np.ndarray | None = None) -> SetStatistics:
    """Count what a set of compositions is made of.

    Args:
        batch: n compositions, as a rule reduced: counts are taken as they stand.
        times: int (n,), how often each occurred; once if not given.

    Raises:
        ValueError: ``times`` does not have one value for each composition, or has a negative one.
    """
    n = len(batch)
    weight = np.ones(n, np.int64) if times is None else np.asarray(times, np.int64)
    if weight.shape != (n,):
        raise ValueError(f"times has shape {weight.shape}, expected ({n},)")
    if n and int(weight.min()) < 0:
        raise ValueError(f"times has a negative value, {weight.min()}")
    spread = np.repeat(weight, batch.n_elements)
    pairs = np.zeros(_Z * _Z, np.int64)
    ascending = np.empty_like(batch.counts)
    for size in np.unique(batch.n_elements):
        rows = np.flatnonzero(batch.n_elements == size)
        cells = batch.offsets[rows, None] + np.arange(size)
        numbers = batch.atomic_numbers[cells].astype(np.int64)
        ascending[cells] = np.sort(batch.counts[cells], axis=1)
        for i in range(size):
            for j in range(i + 1, size):
                pairs += _histogram(numbers[:, i] * _Z + numbers[:, j], weight[rows], _Z * _Z)
    return SetStatistics(
        total=int(weight.sum()),
        elements=_histogram(batch.atomic_numbers, spread, _Z),
        n_elements=_histogram(batch.n_elements, weight),
        counts=_histogram(batch.counts, spread),
        pairs=pairs.reshape(_Z, _Z),
        stoichiometries=_stoichiometries(batch.offsets, ascending, weight),
    )


def _histogram(values: np.ndarray, weight: np.ndarray, length: int = 0) -> np.ndarray:
    """Sum integer weights per value, exactly up to 2**53, int64."""
    return np.bincount(values, weight, length).astype(np.int64)


def _stoichiometries(
    offsets: np.ndarray, ascending: np.ndarray, weight: np.ndarray
) -> dict[str, int]:
    """Sum weights per row of ascending counts."""
    # As the composition of elements 1, 2, 3 ..., a row of counts has an id to group it by.
    places = np.arange(len(ascending)) - np.repeat(offsets[:-1], np.diff(offsets)) + 1
    anonymous = CompositionBatch(offsets, places.astype(np.uint8), ascending)
    groups = anonymous.unique()
    sums = np.bincount(groups.inverse, weight, len(groups.first)).astype(np.int64)
    found = {}
    for row, times in zip(groups.first, sums, strict=True):
        counts = ascending[offsets[row] : offsets[row + 1]]
        if times:
            found[anonymous_formula(counts.tolist())] = int(times)
    return found


def anonymous_formula(counts: Sequence[int]) -> str:
    """Write the proportions of a composition: ``A2B3`` for Fe2O3 and Al2S3.

    Args:
        counts: atoms of each element, in any order; taken as they stand.
    """
    names = [
        chr(65 + i) if i < 26 else chr(64 + i // 26) + chr(97 + i % 26) for i in range(len(counts))
    ]
    parts = zip(names, sorted(counts), strict=True)
    return "".join(name if count == 1 else f"{name}{count}" for name, count in parts)


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Return the Jensen-Shannon divergence of two histograms over the same bins, in bits.

    Args:
        p: (k,), non-negative, not all zero; need not sum to one.
        q: (k,), likewise.

    Raises:
        ValueError: the shapes differ, or a histogram is empty or has a negative value.
    """
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    if p.shape != q.shape:
        raise ValueError(f"histograms of shapes {p.shape} and {q.shape} have different bins")
    for histogram in (p, q):
        if not histogram.size or histogram.min() < 0 or histogram.sum() <= 0:
            raise ValueError("a histogram must have a positive value and no negative one")
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    return float(np.clip((_divergence(p, middle) + _divergence(q, middle)) / 2, 0.0, 1.0))


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Kullback-Leibler divergence in bits; ``q`` is positive wherever ``p`` is."""
    found = p > 0
    return float(np.sum(p[found] * np.log2(p[found] / q[found])))


def distances(a: SetStatistics, b: SetStatistics) -> dict[str, float | None]:
    """Return how far two sets are apart in each respect, in bits.

    Returns:
        Jensen-Shannon divergences of ``elements``, ``n_elements``, ``stoichiometries`` and
        ``pairs``; None where a set has nothing of the kind (no pairs among single elements).
    """
    width = max(len(a.n_elements), len(b.n_elements))
    kinds = sorted({*a.stoichiometries, *b.stoichiometries})
    histograms = {
        "elements": (a.elements, b.elements),
        "n_elements": (_widen(a.n_elements, width), _widen(b.n_elements, width)),
        "stoichiometries": (
            np.array([a.stoichiometries.get(k, 0) for k in kinds]),
            np.array([b.stoichiometries.get(k, 0) for k in kinds]),
        ),
        "pairs": (a.pairs.ravel(), b.pairs.ravel()),
    }
    return {
        name: jensen_shannon(p, q) if p.sum() > 0 and q.sum() > 0 else None
        for name, (p, q) in histograms.items()
    }


def _widen(histogram: np.ndarray, width: int) -> np.ndarray:
    return np.pad(histogram, (0, width - len(histogram)))


def share(flags: np.ndarray, times: np.ndarray | None = None) -> float:
    """Return the share of true values: novelty, hold-out recovery, validity.

    Args:
        flags: bool (n,).
        times: int (n,), how often each counts; once if not given.

    Raises:
        ValueError: nothing to take a share of.
    """
    weight = np.ones(len(flags), np.int64) if times is None else np.asarray(times, np.int64)
    total = int(weight.sum())
    if total <= 0:
        raise ValueError("an empty set has no shares")
    return int(weight[np.asarray(flags, np.bool_)].sum()) / total


def uniqueness(first: np.ndarray, n: int, total: int) -> float:
    """Return the share of distinct ones among the first ``n`` samples.

    Args:
        first: int64 (u,), row of first appearance of each distinct sample, in any order.
        n: how many samples to look at; the share falls as it grows, so quote it with the number.
        total: how many samples there are.

    Raises:
        ValueError: there are no ``n`` samples.
    """
    if not 1 <= n <= total:
        raise ValueError(f"uniqueness at {n} samples needs that many; there are {total}")
    return int(np.count_nonzero(first < n)) / n
