"""Compiled search for nearest neighbours; `gandb.identity.amd` is its face.

The lattice is turned so that its vectors are a = (ax, 0, 0), b = (bx, by, 0), c = (cx, cy, cz).
A point of the set that lies at p + i a + j b + k c from a site, p the step to one site of the
cell, has z = pz + k cz, y = py + k cy + j by and x = px + k cx + j bx + i ax. Within the radius r,
|z| is at most r, |y| at most sqrt(r² - z²) and |x| at most sqrt(r² - z² - y²); each leaves a range
of whole numbers k, j and i. So the search meets every point within r, whatever the shape of the
cell, and if these are n or more, the n nearest of all are among them. If not, r grows. Multiples of
the lattice vector a alone put n points within ceil(n / 2) |a|, so it need not grow beyond that.

That the basis is reduced first makes the ranges short; the result does not depend on it.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gandb.core.compiled import inner
from gandb.identity.niggli_kernels import inverse_of

_SHELL = 1.25
"""How many neighbours the first radius should hold, as a multiple of those asked for."""
_GROWTH = 1.25
"""Factor on a radius that held too few."""
_PASSES = 200  # of a reduction that should take a few
_BINS = 64
_FEW = 256  # numbers that are sorted by bins


@inner
def _dot(u, v):
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


@inner
def _reduced(lattice):
    """Return a basis of the same lattice with short vectors, by length; float64 (3, 3)."""
    basis = lattice.copy()
    squares = np.empty(3)
    for _ in range(_PASSES):
        changed = False
        for i in range(3):
            squares[i] = _dot(basis[i], basis[i])
        for i in range(3):  # by length
            for j in range(2, i, -1):
                if squares[j] < squares[j - 1]:
                    squares[j], squares[j - 1] = squares[j - 1], squares[j]
                    for axis in range(3):
                        held = basis[j, axis]
                        basis[j, axis] = basis[j - 1, axis]
                        basis[j - 1, axis] = held
        for i in range(3):
            for j in range(i):
                steps = np.rint(_dot(basis[i], basis[j]) / squares[j])
                if steps != 0.0:
                    trial = basis[i] - steps * basis[j]
                    if _dot(trial, trial) < squares[i] * (1.0 - 1e-9):
                        basis[i] = trial
                        squares[i] = _dot(trial, trial)
                        changed = True
        if not changed:
            for p in range(-1, 2, 2):
                for q in range(-1, 2, 2):
                    trial = basis[2] + p * basis[0] + q * basis[1]
                    if _dot(trial, trial) < squares[2] * (1.0 - 1e-9):
                        basis[2] = trial
                        squares[2] = _dot(trial, trial)
                        changed = True
        if not changed:
            break
    return basis


@inner
def _triangular(basis):
    """Turn a basis so that its matrix is lower triangular with a positive diagonal."""
    found = np.zeros((3, 3))
    for i in range(3):
        for j in range(i):
            total = _dot(basis[i], basis[j])
            for axis in range(j):
                total -= found[i, axis] * found[j, axis]
            found[i, j] = total / found[j, j]
        total = _dot(basis[i], basis[i])
        for axis in range(i):
            total -= found[i, axis] * found[i, axis]
        found[i, i] = math.sqrt(total) if total > 0.0 else 0.0
    return found


@inner
def _collect(places, site, basis, radius, k, squares):
    """Put the squared distances from a site to the others within a radius into ``squares``.

    Where these are more than it holds, the k nearest and some others stay.

    Args:
        places: float64 (n, 3), Cartesian.
        site: index of the site.
        basis: lower triangular lattice vectors, rows.
        radius: Å.
        k: neighbours to keep.
        squares: float64, longer than k; is written.

    Returns:
        How many there are; at least k if k points are within the radius.
    """
    ax = basis[0, 0]
    bx, by = basis[1, 0], basis[1, 1]
    cx, cy, cz = basis[2, 0], basis[2, 1], basis[2, 2]
    per_a, per_b, per_c = 1.0 / ax, 1.0 / by, 1.0 / cz
    within = radius * radius
    limit = within
    count = 0
    for other in range(len(places)):
        pz = places[other, 2] - places[site, 2]
        py = places[other, 1] - places[site, 1]
        px = places[other, 0] - places[site, 0]
        last_k = math.floor((radius - pz) * per_c)
        step_k = math.ceil((-radius - pz) * per_c)
        while step_k <= last_k:
            z = pz + step_k * cz
            rest = within - z * z
            if rest >= 0.0:
                y_most = math.sqrt(rest)
                y_from = py + step_k * cy
                x_from = px + step_k * cx
                last_j = math.floor((y_most - y_from) * per_b)
                step_j = math.ceil((-y_most - y_from) * per_b)
                while step_j <= last_j:
                    y = y_from + step_j * by
                    left = rest - y * y
                    if left >= 0.0:
                        x_most = math.sqrt(left)
                        x_start = x_from + step_j * bx
                        last_i = math.floor((x_most - x_start) * per_a)
                        step_i = math.ceil((-x_most - x_start) * per_a)
                        flat = z * z + y * y
                        while step_i <= last_i:
                            x = x_start + step_i * ax
                            square = flat + x * x
                            own = other == site and step_i == 0 and step_j == 0 and step_k == 0
                            if square <= limit and not own:
                                if count == len(squares):
                                    squares.sort()
                                    limit = squares[k - 1]
                                    count = k
                                squares[count] = square
                                count += 1
                            step_i += 1
                    step_j += 1
            step_k += 1
    return count


@inner
def _sort(squares, count, within, ordered, bins, starts):
    """Sort the first ``count`` of the squared distances up to ``within`` into ``ordered``.

    Points fill space evenly, so the cubes of their distances fall evenly into bins; each needs
    little sorting then.
    """
    if count > _FEW:
        ordered[:count] = squares[:count]
        ordered[:count].sort()
        return
    starts[:] = 0
    for i in range(count):
        share = squares[i] / within
        place = min(_BINS - 1, int(share * math.sqrt(share) * _BINS))
        bins[i] = place
        starts[place + 1] += 1
    for place in range(_BINS):
        starts[place + 1] += starts[place]
    for i in range(count):
        ordered[starts[bins[i]]] = squares[i]
        starts[bins[i]] += 1
    for i in range(1, count):
        square = ordered[i]
        j = i - 1
        while j >= 0 and ordered[j] > square:
            ordered[j + 1] = ordered[j]
            j -= 1
        ordered[j + 1] = square


@inner
def _times(rows, matrix):
    """Multiply rows (n, 3) with a matrix (3, 3); numba's own product would ask for SciPy."""
    found = np.empty_like(rows)
    for i in range(len(rows)):
        for j in range(3):
            found[i, j] = (
                rows[i, 0] * matrix[0, j] + rows[i, 1] * matrix[1, j] + rows[i, 2] * matrix[2, j]
            )
    return found


@njit(cache=True, nogil=True)
def average_distances(lattice, frac_coords, k):
    """Return the mean over sites of the distances to the 1st, 2nd ... kth neighbour, Å; (k,).

    Args:
        lattice: float64 (3, 3), rows a, b, c, Å; of some volume.
        frac_coords: float64 (n, 3), n at least 1.
        k: how many; at least 1.
    """
    n = len(frac_coords)
    short = _reduced(lattice)
    basis = _triangular(short)
    volume = basis[0, 0] * basis[1, 1] * basis[2, 2]
    inside = _times(frac_coords - np.floor(frac_coords), lattice)
    coords = _times(inside, inverse_of(short))
    places = _times(coords - np.floor(coords), basis)
    enough = math.ceil(k / 2) * basis[0, 0] * (1.0 + 1e-9)
    first = min(enough, (_SHELL * k * volume / n * 3.0 / (4.0 * math.pi)) ** (1.0 / 3.0))
    squares = np.empty(4 * k + 64)
    ordered = np.empty(len(squares))
    bins = np.empty(_FEW, np.int64)
    starts = np.empty(_BINS + 1, np.int64)
    totals = np.zeros(k)
    for site in range(n):
        radius = first
        count = _collect(places, site, basis, radius, k, squares)
        while count < k:
            radius = min(enough, radius * _GROWTH)
            count = _collect(places, site, basis, radius, k, squares)
        _sort(squares, count, radius * radius, ordered, bins, starts)
        for i in range(k):
            totals[i] += math.sqrt(ordered[i])
    return totals / n
