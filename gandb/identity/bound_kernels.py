"""Compiled bound: which cells cannot match, nor any cells close to them.

Written out in `gandb.identity.bounds`. The names here are the ones used there.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gandb.core.compiled import inner
from gandb.identity.lattice_kernels import (
    determinant,
    fill_box,
    fill_metric,
    full_metric,
    invert_basis,
    lattice_maps,
    lattice_points,
    mean_lattice,
    reduce_mean,
    stretch_between,
    whiten,
)
from gandb.identity.niggli_kernels import dot, sorted_order
from gandb.identity.shift_kernels import may_be_shifted
from gandb.identity.site_kernels import (
    DONE,
    MORE_MAPS,
    MORE_PAIRS,
    MORE_POINTS,
    assign_sites,
    first_room,
    larger_room,
    list_pairs,
    most_sites,
    move_sites,
    same_kinds,
    site_without_partner,
)

_ROUNDING = 1e-6  # added to what is compared
_NIGGLI_SLACK = 1e-3  # by which a reduced basis may be longer than the shortest
_MOST_CHANGE = 0.9  # of squared lengths; beyond it nothing is excluded


@njit(cache=True, nogil=True)
def may_match_pairs(cells, pairs, tolerances, strain, displacement, may):
    """Say of pairs (k, 2) of cells whether any cells close to them could match, either way."""
    n = most_sites(cells, pairs)
    room = first_room(n)
    bases = np.empty((64, 3, 3))
    for p in range(len(pairs)):
        may[p] = False
        if not same_kinds(cells, pairs[p, 0], pairs[p, 1]):
            continue
        for back in range(2):
            one, two = pairs[p, back], pairs[p, 1 - back]
            while True:
                lack, found = _may_match(
                    cells, one, two, tolerances, strain, displacement, bases, room
                )
                if lack == DONE:
                    break
                room = larger_room(room, n, lack)
            if found:
                may[p] = True
                break


@inner
def _near_reduced(lattice, factor, bases):
    """List the bases of a lattice that are reduced after a strain; -1 if there are too many."""
    lengths = np.empty(3)
    for i in range(3):
        lengths[i] = math.sqrt(dot(lattice[i], lattice[i]))
    shortest = lengths[sorted_order(lengths)]
    within = factor * factor * (1.0 + _NIGGLI_SLACK)
    volume = abs(determinant(lattice))
    most = np.empty(3, np.int64)
    vector = np.empty(3)
    for i in range(3):
        _cross(lattice[(i + 1) % 3], lattice[(i + 2) % 3], vector)
        most[i] = int(shortest[2] * within * math.sqrt(dot(vector, vector)) / volume + 1e-6)
    points = np.empty((128, 7))
    far = np.empty(128)
    count = 0
    for i in range(most[0] + 1):
        for j in range(-most[1], most[1] + 1):
            for k in range(-most[2], most[2] + 1):
                if i == 0 and (j < 0 or (j == 0 and k <= 0)):
                    continue  # of a vector and its inverse only one
                for x in range(3):
                    vector[x] = i * lattice[0, x] + j * lattice[1, x] + k * lattice[2, x]
                length = math.sqrt(dot(vector, vector))
                if length > shortest[2] * within:
                    continue
                if count == len(points):
                    return -1
                points[count, 0], points[count, 1], points[count, 2] = i, j, k
                for x in range(3):
                    points[count, 3 + x] = vector[x]
                points[count, 6] = length
                count += 1
    for i in range(count):
        far[i] = points[i, 6]
    places = sorted_order(far[:count])
    found = 0
    for x in range(count):
        a = points[places[x]]
        if a[6] > shortest[0] * within:
            break
        for y in range(x + 1, count):
            b = points[places[y]]
            if b[6] > shortest[1] * within:
                break
            if not _may_be_reduced(a, b, factor):
                continue
            _cross(a, b, vector)
            for z in range(y + 1, count):
                c = points[places[z]]
                if abs(abs(dot(vector, c)) - 1.0) > 0.5:
                    continue
                if not (_may_be_reduced(a, c, factor) and _may_be_reduced(b, c, factor)):
                    continue
                if found == len(bases):
                    return -1
                for i in range(3):
                    bases[found, 0, i], bases[found, 1, i], bases[found, 2, i] = a[i], b[i], c[i]
                found += 1
    return found


@inner
def _cross(u, v, out):
    """Fill ``out`` with the vector product of the first three numbers of two rows."""
    for i in range(3):
        p, q = (i + 1) % 3, (i + 2) % 3
        out[i] = u[p] * v[q] - u[q] * v[p]


@inner
def _may_be_reduced(a, b, factor):
    """Whether two vectors, the shorter first, may be in a reduced basis after a strain."""
    product = abs(dot(a[3:6], b[3:6]))
    change = factor * factor - 1.0
    limit = 0.5 * a[6] * a[6] * (1.0 + change) + change * a[6] * b[6]
    return product <= limit * (1.0 + _NIGGLI_SLACK)


@inner
def _may_match(cells, one, two, tolerances, strain, displacement, bases, room):
    """Whether cells close to ``one`` and ``two`` may match in this direction.

    Returns what there was too little room for, and the answer.
    """
    factor = 1.0 + strain
    turn = 2.0 * math.asin((factor * factor - 1.0) / (factor * factor + 1.0))  # theta, twice
    ltol = (1.0 + tolerances.ltol) * factor * factor * (1.0 + _ROUNDING) - 1.0
    angle_tol = tolerances.angle_tol + math.degrees(2.0 * turn) + _ROUNDING
    n = cells.starts[one + 1] - cells.starts[one]
    scale = 1.0
    if tolerances.scale:
        scale = (cells.volumes[two] / cells.volumes[one]) ** (1.0 / 6.0)
    lattice = np.empty((3, 3))
    other = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            lattice[i, j] = cells.lattices[one, i, j] * scale
            other[i, j] = cells.lattices[two, i, j] / scale
    unit_one = (cells.volumes[one] * scale**3 / n) ** (1.0 / 3.0)
    unit_two = (cells.volumes[two] / scale**3 / n) ** (1.0 / 3.0)
    sites = cells.sites[cells.starts[one] : cells.starts[one + 1]]
    others = cells.sites[cells.starts[two] : cells.starts[two + 1]]
    ends = cells.ends[cells.first_blocks[two] : cells.first_blocks[two + 1]]
    lead = cells.leads[two]
    anchors = 0 if lead == 0 else ends[lead - 1]

    found = _near_reduced(other, factor, bases)
    if found < 0:
        return DONE, True
    target = np.empty(3)
    cosines = np.empty(3)
    of_one = np.empty(6)
    of_two = np.empty(6)
    metric = np.empty(6)
    reduced = np.empty(6)
    basis = np.empty((3, 3))
    inverse = np.empty((3, 3))
    back = np.empty((3, 3))
    reduction = np.empty((3, 3))
    unreduction = np.empty((3, 3))
    box = np.empty(3)
    reduced_box = np.empty(3)
    vectors = np.empty((3, 3))
    for b in range(found):
        for i in range(3):
            for x in range(3):
                vectors[i, x] = 0.0
                for j in range(3):
                    vectors[i, x] += bases[b, i, j] * other[j, x]
            target[i] = math.sqrt(dot(vectors[i], vectors[i]))
        for i in range(3):
            p, q = (i + 1) % 3, (i + 2) % 3
            cosines[i] = dot(vectors[p], vectors[q]) / (target[p] * target[q])
        points = lattice_points(lattice, target, ltol, room.points, room.masks)
        if points > len(room.points):
            return MORE_POINTS, False
        count = lattice_maps(room.points, room.masks, points, target, cosines, angle_tol, room.maps)
        if count > len(room.maps):
            return MORE_MAPS, False
        if count == 0:
            continue
        invert_basis(bases[b], determinant(bases[b]), back)
        move_sites(others, n, back, 1.0, 0.0, 0.0, 0.0, False, room.offsets)
        for x in range(3):
            start = room.offsets[anchors, x]
            for i in range(n):
                room.offsets[i, x] -= start
        fill_metric(target, cosines, of_two)
        suspect = np.int64(0)
        for m in range(count):
            row = room.maps[m]
            volume = mean_lattice(row, target, cosines, metric)
            unit = (volume / n) ** (1.0 / 3.0)
            change = _change(metric, factor, turn)
            if not change < _MOST_CHANGE:
                return DONE, True
            fill_metric(row[9:12], row[12:15], of_one)
            moved = displacement * (
                stretch_between(metric, of_one) * unit_one
                + stretch_between(metric, of_two) * unit_two
            )
            within = tolerances.stol * unit * math.sqrt((1.0 + change) / (1.0 - change))
            within += _ROUNDING * unit
            largest = within + 2.0 * moved
            reach = 2.0 * largest
            most = n * ((within + moved) ** 2 + largest * largest)
            fill_box(metric, volume, reach, box)
            ball = reach * reach if max(box[0], box[1], box[2]) < 1.0 else math.inf
            for i in range(3):
                for j in range(3):
                    basis[i, j] = row[3 * i + j]
            invert_basis(basis, determinant(basis), inverse)
            move_sites(sites, n, inverse, 1.0, 0.0, 0.0, 0.0, False, room.turned)
            quarter = -1.0
            for mirror in range(2):
                sign = 1.0 - 2.0 * mirror
                is_moved = False
                for anchor in range(anchors, ends[lead]):
                    missing = site_without_partner(
                        room.turned, anchor, sign, room.offsets, ends, box, metric, ball, suspect
                    )
                    if missing >= 0:
                        suspect = missing
                        continue
                    if quarter < 0.0:
                        least = reduce_mean(
                            row, target, cosines, metric, reduced, reduction, unreduction
                        )
                        quarter = 0.25 * least * (1.0 - 1e-9)
                        fill_box(reduced, volume, reach, reduced_box)
                    if not is_moved:
                        move_sites(
                            room.turned, n, unreduction, sign, 0.0, 0.0, 0.0, True, room.reduced
                        )
                        is_moved = True
                    x, y, z = room.turned[anchor]
                    move_sites(
                        room.offsets, n, unreduction, 1.0, sign * x, sign * y, sign * z, True,
                        room.placed,
                    )  # fmt: skip
                    listed = list_pairs(
                        room, ends, reduced, reduced_box, quarter, reach * reach, np.bool_(True)
                    )
                    if listed == -2:
                        return MORE_PAIRS, False
                    if listed < 0 or not assign_sites(room, n):
                        continue
                    total = 0.0
                    for i in range(n):
                        total += room.cost[room.column_of[i]]
                    if total <= most and may_be_shifted(
                        room.reduced[:n], room.placed[:n], ends, reduced, reduced_box, largest,
                        (within + moved) ** 2,
                    ):  # fmt: skip
                        return DONE, True
    return DONE, False


@inner
def _change(metric, factor, turn):
    """By how much at most, as a share, squared lengths change with lengths and angles of a basis.

    Each length changes by a factor at most, each angle by at most ``turn``, radians.
    """
    most = np.empty(6)
    square = factor * factor
    for i in range(3):
        p, q = (i + 1) % 3, (i + 2) % 3
        most[i] = metric[i] * (square - 1.0)
        size = math.sqrt(metric[p] * metric[q])
        most[3 + i] = (square - 1.0) * abs(metric[3 + i]) + square * turn * size
    out = np.empty((3, 3))
    inverse = whiten(most, metric, out)
    full = full_metric(most)
    total = 0.0
    for i in range(3):
        for j in range(3):
            entry = 0.0
            for k in range(3):
                for m in range(3):
                    entry += abs(inverse[i, k]) * full[k, m] * abs(inverse[j, m])
            total += entry * entry
    return math.sqrt(total)
