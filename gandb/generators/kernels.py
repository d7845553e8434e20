"""Compiled loops of the generators; each generator's module is their face."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, inline="always")
def _search(cumulative, u):
    """Return the first place whose cumulative value exceeds u."""
    low = 0
    high = len(cumulative) - 1
    while low < high:
        middle = (low + high) // 2
        if cumulative[middle] > u:
            high = middle
        else:
            low = middle + 1
    return low


@njit(cache=True, nogil=True)
def draw_by_frequency(uniforms, size_cdf, weights, count_cdf, max_count, empty):
    """Draw a number of elements, then that many different elements, then a count for each.

    ``uniforms`` is float64 (n, 1 + 2 k); see `frequency.FrequencyGenerator`.
    """
    n = len(uniforms)
    k = (uniforms.shape[1] - 1) // 2
    cells = np.full((n, k), empty, np.uint16)
    chosen = np.empty(k, np.int64)
    for i in range(n):
        size = _search(size_cdf, uniforms[i, 0])
        left = 1.0
        for j in range(size):
            u = uniforms[i, 1 + j] * left
            e = 0
            total = 0.0
            last = -1
            while e < len(weights):
                taken = False
                for q in range(j):
                    if chosen[q] == e:
                        taken = True
                if not taken and weights[e] > 0.0:
                    last = e
                    total += weights[e]
                    if total > u:
                        break
                e += 1
            chosen[j] = last
            left -= weights[last]
        for j in range(1, size):
            e = chosen[j]
            p = j
            while p > 0 and chosen[p - 1] > e:
                chosen[p] = chosen[p - 1]
                p -= 1
            chosen[p] = e
        for j in range(size):
            e = chosen[j]
            cells[i, j] = e * max_count + _search(count_cdf[e], uniforms[i, 1 + k + j])
    return cells


@njit(cache=True, nogil=True)
def substitute_one(uniforms, training, weights, max_count, empty):
    """Replace one element of a drawn training row; see `substitution.SubstitutionGenerator`.

    ``uniforms`` is float64 (n, 3): the row, the place in it, the new element.
    """
    n = len(uniforms)
    k = training.shape[1]
    cells = np.full((n, k), empty, np.uint16)
    for i in range(n):
        row = training[int(uniforms[i, 0] * len(training))]
        size = 0
        left = 1.0
        while size < k and row[size] < empty:
            left -= weights[row[size] // max_count]
            size += 1
        place = int(uniforms[i, 1] * size)
        u = uniforms[i, 2] * left
        total = 0.0
        new = -1
        for e in range(len(weights)):
            taken = weights[e] <= 0.0
            for j in range(size):
                if row[j] // max_count == e:
                    taken = True
            if taken:
                continue
            new = e
            total += weights[e]
            if total > u:
                break
        if new < 0:
            new = row[place] // max_count
        cell = new * max_count + row[place] % max_count
        p = 0
        for j in range(size):
            if j != place and row[j] < cell:
                cells[i, p] = row[j]
                p += 1
        cells[i, p] = cell
        p += 1
        for j in range(size):
            if j != place and row[j] > cell:
                cells[i, p] = row[j]
                p += 1
    return cells


@njit(cache=True, nogil=True)
def choose_element(weights, uniforms, last, first):
    """Choose among elements beyond ``last``, or the end, by one uniform number each.

    Args:
        weights: float32 (n, m + 1), not negative, not all zero; the last column is the end.
        uniforms: float32 or float64 (n,), in [0, 1).
        last: int64 (n,), place of the element before; -1 without one.
        first: whether this is the first element, before which the end is no choice.

    Returns:
        int64 (n,), the place, m for the end.
    """
    n, width = weights.shape
    end = width - 1
    out = np.empty(n, np.int64)
    for i in range(n):
        row = weights[i]
        begin = last[i] + 1
        total = np.float32(0.0)
        for j in range(begin, end):
            total += row[j]
        if not first:
            total += row[end]
        u = np.float32(uniforms[i]) * total
        place = begin
        part = row[begin]
        while part <= u and place < end:
            place += 1
            part += row[place]
        if first and place == end:
            place = end - 1
        out[i] = place
    return out


@njit(cache=True, nogil=True)
def choose(weights, uniforms):
    """Choose a column in each row by one uniform number each.

    Args:
        weights: float32 (n, m), not negative, not all zero.
        uniforms: float32 or float64 (n,), in [0, 1).

    Returns:
        int64 (n,), the column.
    """
    n, width = weights.shape
    out = np.empty(n, np.int64)
    for i in range(n):
        row = weights[i]
        total = np.float32(0.0)
        for j in range(width):
            total += row[j]
        u = np.float32(uniforms[i]) * total
        place = 0
        part = row[0]
        while part <= u and place < width - 1:
            place += 1
            part += row[place]
        out[i] = place
    return out
