"""Compiled distances in many crystals; `gandb.validation.geometry` is their face.

Every cell is first reduced until no vector gets shorter by adding multiples of another. Then only
few cells around a pair can hold a shorter way between the two, however flat the cell was.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gandb.representations.orbit_kernels import metric_of, square

JUDGED, NO_CELL, NOT_FINITE, NO_SITES = 0, 1, 2, 3

_REDUCTIONS = 1_000
_MOST_CELLS = 1_000.0  # that a way may lead through along one vector; far beyond reduced cells
_FLATTEST = 1e-12  # volume of a cell relative to a box of its edges


@njit(cache=True, nogil=True)
def reduced(lengths, angles, coords):
    """Reduce a cell in pairs of vectors.

    Returns:
        Its metric (3, 3), the heights over its faces (3,), coordinates (n, 3) in it, its volume,
        Å³, and a code.
    """
    metric, volume = metric_of(lengths, angles)
    heights = np.zeros(3)
    found = coords.copy()
    if volume == 0.0 or not volume > _FLATTEST * lengths[0] * lengths[1] * lengths[2]:
        return metric, heights, found, 0.0, NO_CELL
    for s in range(len(found)):
        for k in range(3):
            if not abs(found[s, k]) < 1e6:
                return metric, heights, found, volume, NOT_FINITE
            found[s, k] -= math.floor(found[s, k])
    for _ in range(_REDUCTIONS):
        changed = False
        for i in range(3):
            for j in range(3):
                if i == j:
                    continue
                times = np.rint(metric[i, j] / metric[j, j])
                gain = 2.0 * times * metric[i, j] - times * times * metric[j, j]
                if times == 0.0 or gain <= 1e-9 * metric[i, i]:
                    continue
                changed = True
                for k in range(3):
                    metric[i, k] -= times * metric[j, k]
                for k in range(3):
                    metric[k, i] -= times * metric[k, j]
                for s in range(len(found)):
                    found[s, j] += times * found[s, i]
        if not changed:
            break
    for s in range(len(found)):
        for k in range(3):
            found[s, k] -= math.floor(found[s, k])
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        minor = metric[i, i] * metric[j, j] - metric[i, j] * metric[i, j]
        if not minor > 0.0:
            return metric, heights, found, volume, NO_CELL
        heights[k] = volume / math.sqrt(minor)
    return metric, heights, found, volume, JUDGED


@njit(cache=True, nogil=True)
def _shortest(metric, heights, x, y, z, reach, itself):
    """Return the least distance, Å, over a fractional vector and what repeats it, below reach.

    ``itself`` leaves out the vector without any repeat.
    """
    best = reach
    bound_x, bound_y, bound_z = best / heights[0], best / heights[1], best / heights[2]
    for u in range(math.ceil(-bound_x - x), math.floor(bound_x - x) + 1):
        for v in range(math.ceil(-bound_y - y), math.floor(bound_y - y) + 1):
            for w in range(math.ceil(-bound_z - z), math.floor(bound_z - z) + 1):
                if itself and u == 0 and v == 0 and w == 0:
                    continue
                far = square(metric, x + u, y + v, z + w)
                if far < best * best:
                    best = math.sqrt(far)
    return best


@njit(cache=True, nogil=True)
def closest(start, stop, lengths, angles, offsets, coords, sizes, self_images, out):
    """Find the pair of atoms that is nearest in units of the sum of their sizes.

    Args:
        start: first crystal to judge.
        stop: end of them.
        lengths: (n, 3), Å.
        angles: (n, 3), degrees.
        offsets: (n + 1,).
        coords: (m, 3), fractional.
        sizes: (m,); one half of each gives distances in Å.
        self_images: whether an atom and its own image in another cell are a pair.
        out: (n, 5), written: the least ratio (inf for none), the places of the two in their
            crystal, the volume, Å³, and a code.
    """
    for i in range(start, stop):
        begin, end = offsets[i], offsets[i + 1]
        out[i, 0] = np.inf
        out[i, 1] = out[i, 2] = -1.0
        metric, heights, sites, volume, code = reduced(lengths[i], angles[i], coords[begin:end])
        out[i, 3] = volume
        if code == JUDGED and begin == end:
            code = NO_SITES
        out[i, 4] = code
        if code != JUDGED:
            continue
        edge = math.sqrt(max(metric[0, 0], metric[1, 1], metric[2, 2]))
        if edge > _MOST_CELLS * min(heights[0], heights[1], heights[2]):
            out[i, 4] = NO_CELL
            continue
        best = np.inf
        if self_images:
            shortest = math.sqrt(min(metric[0, 0], metric[1, 1], metric[2, 2]))
            shortest = _shortest(metric, heights, 0.0, 0.0, 0.0, shortest, True)
            for a in range(end - begin):
                ratio = shortest / (2.0 * sizes[begin + a])
                if ratio < best:
                    best = ratio
                    out[i, 1] = out[i, 2] = a
        for a in range(end - begin):
            for b in range(a + 1, end - begin):
                total = sizes[begin + a] + sizes[begin + b]
                x = sites[b, 0] - sites[a, 0]
                y = sites[b, 1] - sites[a, 1]
                z = sites[b, 2] - sites[a, 2]
                x -= np.rint(x)
                y -= np.rint(y)
                z -= np.rint(z)
                far = best * total
                if (
                    abs(x) * heights[0] >= far
                    or abs(y) * heights[1] >= far
                    or abs(z) * heights[2] >= far
                ):
                    continue
                straight = math.sqrt(square(metric, x, y, z))
                if straight < far:
                    far = straight
                    best = straight / total
                    out[i, 1], out[i, 2] = a, b
                far = _shortest(metric, heights, x, y, z, far, False)
                if far / total < best:
                    best = far / total
                    out[i, 1], out[i, 2] = a, b
        out[i, 0] = best


@njit(cache=True, nogil=True)
def neighbours(start, stop, lengths, angles, offsets, coords, sizes, counts, codes):
    """Count the atoms around each that are nearer than the sum of their sizes.

    Args:
        start: first crystal to judge.
        stop: end of them.
        lengths: (n, 3), Å.
        angles: (n, 3), degrees.
        offsets: (n + 1,).
        coords: (m, 3), fractional.
        sizes: (m,), Å.
        counts: int64 (m,), zeros; written.
        codes: (n,), written.
    """
    for i in range(start, stop):
        begin, end = offsets[i], offsets[i + 1]
        metric, heights, sites, _, code = reduced(lengths[i], angles[i], coords[begin:end])
        if code == JUDGED and begin == end:
            code = NO_SITES
        largest = 0.0
        for a in range(begin, end):
            largest = max(largest, sizes[a])
        if code == JUDGED and 2.0 * largest > 50.0 * min(heights[0], heights[1], heights[2]):
            code = NO_CELL
        codes[i] = code
        if code != JUDGED:
            continue
        for a in range(end - begin):
            for b in range(a, end - begin):
                reach = sizes[begin + a] + sizes[begin + b]
                x = sites[b, 0] - sites[a, 0]
                y = sites[b, 1] - sites[a, 1]
                z = sites[b, 2] - sites[a, 2]
                wide, deep, high = reach / heights[0], reach / heights[1], reach / heights[2]
                for u in range(math.ceil(-wide - x), math.floor(wide - x) + 1):
                    for v in range(math.ceil(-deep - y), math.floor(deep - y) + 1):
                        for w in range(math.ceil(-high - z), math.floor(high - z) + 1):
                            if a == b and u == 0 and v == 0 and w == 0:
                                continue
                            if square(metric, x + u, y + v, z + w) < reach * reach:
                                counts[begin + a] += 1
                                if a != b:
                                    counts[begin + b] += 1


@njit(cache=True, nogil=True)
def bond_valences(
    start, stop, lengths, angles, offsets, coords, kinds, strengths, reach, scale, softness, sums,
    codes,
):  # fmt: skip
    """Add up the valences of the bonds of every atom.

    Args:
        start: first crystal to judge.
        stop: end of them.
        lengths: (n, 3), Å.
        angles: (n, 3), degrees.
        offsets: (n + 1,).
        coords: (m, 3), fractional.
        kinds: (m,), kind of each atom.
        strengths: (k, k, 2), of two kinds: length of a bond of valence 1, Å, NaN where none forms,
            and the sign of the valence for the first.
        reach: longest bond, Å.
        scale: what distances are multiplied by.
        softness: Å, over which a valence falls to 1/e.
        sums: float64 (m,), zeros; written.
        codes: (n,), written.
    """
    for i in range(start, stop):
        begin, end = offsets[i], offsets[i + 1]
        metric, heights, sites, _, code = reduced(lengths[i], angles[i], coords[begin:end])
        if code == JUDGED and begin == end:
            code = NO_SITES
        if code == JUDGED and reach > 50.0 * min(heights[0], heights[1], heights[2]):
            code = NO_CELL
        codes[i] = code
        if code != JUDGED:
            continue
        wide, deep, high = reach / heights[0], reach / heights[1], reach / heights[2]
        for a in range(end - begin):
            for b in range(a + 1, end - begin):
                one, two = kinds[begin + a], kinds[begin + b]
                length = strengths[one, two, 0]
                if math.isnan(length):
                    continue
                x = sites[b, 0] - sites[a, 0]
                y = sites[b, 1] - sites[a, 1]
                z = sites[b, 2] - sites[a, 2]
                total = 0.0
                for u in range(math.ceil(-wide - x), math.floor(wide - x) + 1):
                    for v in range(math.ceil(-deep - y), math.floor(deep - y) + 1):
                        for w in range(math.ceil(-high - z), math.floor(high - z) + 1):
                            far = square(metric, x + u, y + v, z + w)
                            if far <= reach * reach:
                                total += math.exp((length - math.sqrt(far) * scale) / softness)
                sums[begin + a] += total * strengths[one, two, 1]
                sums[begin + b] += total * strengths[two, one, 1]
