"""Compiled loops of `gandb.identity.reduction`: cells, and the smaller cells that repeat in them.

Lattices are float64 (3, 3) with rows a, b, c in Å; coordinates are fractional, float64 (n, 3).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gandb.core.compiled import inner
from gandb.identity.niggli_kernels import dot, inverse_of, niggli_cell, sorted_order

DONE, NO_NIGGLI_CELL = 0, 1

_TOLERANCE = 0.25  # Å along each lattice vector, within which translated sites coincide
_FEW = 24  # sites up to which a sorted list does not pay


@njit(cache=True, nogil=True)
def reduce_sites(
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    groups: np.ndarray,
    sizes: np.ndarray,
    primitive: bool,
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Reduce a cell.

    Args:
        lattice: float64 (3, 3).
        frac_coords: float64 (n, 3).
        groups: int64 (n,), equal for sites that may coincide; 0, 1, ... in the order of the result.
        sizes: int64, number of sites of each group.
        primitive: look for smaller cells too.

    Returns:
        DONE or the reason why not, the lattice, the coordinates (m, 3), and for each of the m
        sites the one of the n that it stands for.
    """
    sources = np.arange(len(frac_coords))
    code, cell, coords = _reduced_cell(lattice, frac_coords)
    if code != DONE or not primitive:
        return code, cell, coords, sources

    order, inner = _grouped(coords, groups, sizes)
    smaller = cell
    levels = 0
    while True:
        det, smaller, inner, kept = _smaller_cell(smaller, inner, sizes)
        if det == 1:
            break
        sizes = sizes // det
        for i in range(len(kept)):
            kept[i] = order[kept[i]]
        order = kept
        levels += 1
    if levels == 0:
        return code, cell, coords, sources
    # A cell that is its own Niggli cell may have several: as often as pymatgen does it.
    for _ in range(levels):
        before = smaller
        code, smaller, inner = _reduced_cell(smaller, inner)
        if code != DONE or before is smaller:
            break
    return code, smaller, inner, order


@inner
def _grouped(
    coords: np.ndarray, groups: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of sites that lists them group after group, and so the coordinates."""
    places = np.zeros(len(sizes), np.int64)
    for g in range(1, len(sizes)):
        places[g] = places[g - 1] + sizes[g - 1]
    order, found = np.empty(len(coords), np.int64), np.empty_like(coords)
    for i in range(len(coords)):
        at = places[groups[i]]
        places[groups[i]] += 1
        order[at] = i
        for d in range(3):
            found[at, d] = coords[i, d]
    return order, found


@inner
def _reduced_cell(
    lattice: np.ndarray, frac_coords: np.ndarray
) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the Niggli cell and the coordinates in it; those of a cell that is one stay."""
    found, cell = niggli_cell(lattice)
    if not found:
        return NO_NIGGLI_CELL, lattice, frac_coords
    same = True
    for i in range(3):
        for j in range(3):
            same &= abs(cell[i, j] - lattice[i, j]) <= 1e-8 + 1e-5 * abs(lattice[i, j])
    if same:
        return DONE, lattice, frac_coords
    coords = _product(_product(frac_coords, lattice), inverse_of(cell))
    for i in range(len(coords)):
        for d in range(3):
            coords[i, d] %= 1.0
    return DONE, cell, coords


@inner
def _product(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the product of rows (n, 3) and a matrix (3, 3); numba's own needs SciPy."""
    found = np.empty((len(rows), 3))
    for i in range(len(rows)):
        for j in range(3):
            found[i, j] = (
                rows[i, 0] * matrix[0, j] + rows[i, 1] * matrix[1, j] + rows[i, 2] * matrix[2, j]
            )
    return found


@inner
def _smaller_cell(
    lattice: np.ndarray, coords: np.ndarray, sizes: np.ndarray
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Find the first cell of which this one is a supercell.

    Args:
        lattice: float64 (3, 3).
        coords: float64 (n, 3), group after group.
        sizes: int64, of the groups.

    Returns:
        How many cells this one holds, their lattice, the mean coordinates of the sites, group after
        group, and for each the first of those that it is the mean of. All as it is, and 1, if there
        is none.
    """
    units = 0
    for size in sizes:
        units = math.gcd(units, size)
    if units == 1:
        return 1, lattice, coords, np.arange(len(coords))
    tolerance = np.empty(3)  # as fractions
    for i in range(3):
        tolerance[i] = _TOLERANCE / math.sqrt(dot(lattice[i], lattice[i]))
    shifts = _translations(coords, sizes, 2 * tolerance)
    n_shifts = len(shifts)
    close = np.empty((n_shifts, 3))
    for det in range(2, units + 1):
        if units % det:
            continue
        for a in range(1, det + 1):
            if det % a:
                continue
            for e in range(1, det // a + 1):
                if det // a % e:
                    continue
                g = det // a // e
                if not _any_close(shifts, n_shifts, 0.0, 0.0, 1 / g, tolerance):
                    continue
                f_fits = np.empty(e, np.bool_)
                some = False
                for f in range(e):
                    f_fits[f] = _any_close(shifts, n_shifts, 0.0, 1 / e, -f / (e * g), tolerance)
                    some |= f_fits[f]
                if not some:
                    continue
                for b in range(a):
                    y = -b / (a * e)
                    m = _close_in_plane(shifts, 1 / a, y, tolerance, close)
                    if m == 0:
                        continue
                    for c in range(a):
                        for f in range(e):
                            z = (b * f - c * e) / det
                            if not f_fits[f] or not _any_close(close, m, 1 / a, y, z, tolerance):
                                continue
                            matrix = np.zeros((3, 3))
                            matrix[0, 0], matrix[0, 1], matrix[0, 2] = a, b, c
                            matrix[1, 1], matrix[1, 2], matrix[2, 2] = e, f, g
                            fits, cell, means, kept = _folded(
                                lattice, coords, sizes, matrix, det, tolerance
                            )
                            if fits:
                                return det, cell, means, kept
    return 1, lattice, coords, np.arange(len(coords))


@inner
def _translations(coords: np.ndarray, sizes: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Find the vectors that move every site near to one of its own group.

    They are taken from those between the first site of the smallest group and all of it; float64
    (m, 3), the first of them 0.
    """
    least, begin, after = 0, 0, 0
    for g in range(len(sizes)):
        if sizes[g] < sizes[least]:
            least, begin = g, after
        after += sizes[g]
    shifts = np.empty((sizes[least], 3))
    targets = np.empty((sizes[least], 3))
    scale = np.empty(3)
    for d in range(3):
        scale[d] = 1 / tolerance[d]
        for v in range(len(shifts)):
            shifts[v, d] = coords[begin + v, d] - coords[begin, d]
            targets[v, d] = _scaled(shifts[v, d], scale[d])
    alive = np.arange(len(shifts))
    left = len(shifts)
    begin = 0
    for size in sizes:
        group = coords[begin : begin + size]
        begin += size
        sorted_x = np.empty(size)
        for i in range(size):
            sorted_x[i] = group[i, 0] % 1.0
        order = np.arange(size)
        width = 1.0
        if size > _FEW:
            order = sorted_order(sorted_x)
            for i in range(size):
                sorted_x[i] = group[order[i], 0] % 1.0
            width = 2 * tolerance[0] + 1e-8
        relative = np.empty((size, 3))
        for i in range(size):
            if left == 1:
                break
            for j in range(size):
                for d in range(3):
                    relative[j, d] = _scaled(group[j, d] - group[i, d], scale[d])
            met = 1
            for at in range(1, left):
                v = alive[at]
                start = (group[i, 0] + shifts[v, 0] - width / 2) % 1.0
                if _met(relative, targets[v], scale, order, sorted_x, start, width):
                    alive[met] = v
                    met += 1
            left = met
    found = np.empty((left, 3))
    for at in range(left):
        for d in range(3):
            found[at, d] = shifts[alive[at], d]
    return found


@inner
def _scaled(fraction: float, scale: float) -> float:
    """Return a fraction, wrapped, in units of the tolerance; below 1 / tolerance."""
    return min(max((fraction % 1.0) * scale, 0.0), scale * (1 - 1e-15))


@inner
def _met(
    relative: np.ndarray,
    target: np.ndarray,
    scale: np.ndarray,
    order: np.ndarray,
    sorted_x: np.ndarray,
    start: float,
    width: float,
) -> bool:
    """Whether one of the relative places is within the tolerance of the target.

    Places are looked at by their x, from ``start`` on for ``width``; all where that is 1 or more.
    """
    n = len(order)
    first = _first_from(sorted_x, start) if width < 1 else 0
    for p in range(n):
        at = (first + p) % n
        if width < 1 and (sorted_x[at] - start) % 1.0 > width:
            return False
        j = order[at]
        for d in range(3):
            away = abs(relative[j, d] - target[d])
            if min(away, scale[d] - away) >= 1:
                break
        else:
            return True
    return False


@inner
def _first_from(values: np.ndarray, least: float) -> int:
    """Return where in sorted values the first begins that is not below this."""
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        if values[middle] < least:
            low = middle + 1
        else:
            high = middle
    return low


@inner
def _any_close(
    shifts: np.ndarray, m: int, x: float, y: float, z: float, tolerance: np.ndarray
) -> bool:
    """Whether one of the first m translations is this vector, within the tolerance."""
    for v in range(m):
        if (
            abs(_centred(x - shifts[v, 0])) < tolerance[0]
            and abs(_centred(y - shifts[v, 1])) < tolerance[1]
            and abs(_centred(z - shifts[v, 2])) < tolerance[2]
        ):
            return True
    return False


@inner
def _close_in_plane(
    shifts: np.ndarray, x: float, y: float, tolerance: np.ndarray, close: np.ndarray
) -> int:
    """Copy the translations that have this x and y, within the tolerance; return how many."""
    m = 0
    for v in range(len(shifts)):
        if (
            abs(_centred(x - shifts[v, 0])) < tolerance[0]
            and abs(_centred(y - shifts[v, 1])) < tolerance[1]
        ):
            for d in range(3):
                close[m, d] = shifts[v, d]
            m += 1
    return m


@inner
def _folded(
    lattice: np.ndarray,
    coords: np.ndarray,
    sizes: np.ndarray,
    matrix: np.ndarray,
    det: int,
    tolerance: np.ndarray,
) -> tuple[bool, np.ndarray, np.ndarray, np.ndarray]:
    """Fold a supercell, given by its matrix, into one cell if all sites fall together ``det``-fold.

    Returns:
        Whether they do, the cell, and as `_smaller_cell`.
    """
    n = len(coords)
    cell = _product(inverse_of(matrix), lattice)
    inside = _product(coords, matrix)
    near = np.empty(3)
    for i in range(3):
        near[i] = _TOLERANCE / math.sqrt(dot(cell[i], cell[i]))
    means = np.empty((n // det, 3))
    kept = np.empty(n // det, np.int64)
    members = np.empty((n, det), np.int64)
    done = 0
    begin = 0
    for size in sizes:
        end = begin + size
        for i in range(begin, end):
            count = 0
            for j in range(begin, end):
                if _together(coords, inside, i, j, near, tolerance):
                    if count == det:
                        return False, cell, means, kept
                    members[i, count] = j
                    count += 1
            if count < det:
                return False, cell, means, kept
        for i in range(begin, end):
            if members[i, 0] < i:
                continue
            for p in range(det):
                for q in range(det):
                    if members[members[i, p], q] != members[i, q]:
                        return False, cell, means, kept
            # The mean, one after another; sites that lie across a face come near first.
            for d in range(3):
                mean = inside[i, d] % 1.0
                for p in range(1, det):
                    mean += _centred(inside[members[i, p], d] % 1.0 - mean) / (p + 1)
                means[done, d] = mean
            kept[done] = i
            done += 1
        begin = end
    return True, cell, means, kept


@inner
def _together(
    coords: np.ndarray, inside: np.ndarray, i: int, j: int, near: np.ndarray, tolerance: np.ndarray
) -> bool:
    """Whether two sites fall together in the smaller cell, and are no neighbours in this one."""
    if i == j:
        return True
    for d in range(3):
        if abs(_centred(inside[i, d] - inside[j, d])) >= near[d]:
            return False
    return (
        abs(_centred(coords[i, 0] - coords[j, 0])) > 2 * tolerance[0]
        or abs(_centred(coords[i, 1] - coords[j, 1])) > 2 * tolerance[1]
        or abs(_centred(coords[i, 2] - coords[j, 2])) > 2 * tolerance[2]
    )


@inner
def _centred(fraction: float) -> float:
    """Return the same fraction in [-1/2, 1/2]."""
    return fraction - np.rint(fraction)
