"""Compiled loops of the codecs; `gandb.representations.onehot` is their face."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def encode_cells(offsets, numbers, counts, index, max_count, max_elements, empty):
    """Turn flat compositions into sorted cells; see `onehot.encode`."""
    n = len(offsets) - 1
    cells = np.full((n, max_elements), empty, np.uint16)
    codes = np.zeros(n, np.uint8)
    for i in range(n):
        start = offsets[i]
        size = offsets[i + 1] - start
        if size == 0:
            codes[i] = 1
            continue
        for j in range(size):
            if index[numbers[start + j]] < 0:
                codes[i] = 2
                break
        if codes[i]:
            continue
        for j in range(size):
            if counts[start + j] > max_count:
                codes[i] = 3
                break
        if codes[i]:
            continue
        if size > max_elements:
            codes[i] = 4
            continue
        for j in range(size):
            cells[i, j] = index[numbers[start + j]] * max_count + counts[start + j] - 1
    return cells, codes


@njit(cache=True, nogil=True)
def decode_cells(cells, elements, max_count, empty):
    """Turn cells into slots of atomic numbers and counts; see `onehot.decode`."""
    n, k = cells.shape
    numbers = np.zeros((n, k), np.uint8)
    counts = np.zeros((n, k), np.uint8)
    for i in range(n):
        for j in range(k):
            cell = cells[i, j]
            if cell < empty:
                numbers[i, j] = elements[cell // max_count]
                counts[i, j] = cell % max_count + 1
    return numbers, counts


@njit(cache=True, nogil=True)
def threshold_cells(values, threshold, max_elements, empty):
    """Choose at most one count per element from real values; see `onehot.choose`."""
    n, size, max_count = values.shape
    cells = np.full((n, max_elements), empty, np.uint16)
    codes = np.zeros(n, np.uint8)
    for i in range(n):
        k = 0
        for e in range(size):
            best = 0
            for c in range(1, max_count):
                if values[i, e, c] > values[i, e, best]:
                    best = c
            if values[i, e, best] >= threshold:
                if k < max_elements:
                    cells[i, k] = e * max_count + best
                k += 1
        if k == 0:
            codes[i] = 1
        elif k > max_elements:
            codes[i] = 4
            for j in range(max_elements):
                cells[i, j] = empty
    return cells, codes
