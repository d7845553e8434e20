"""Compiled bound: which cells cannot match, nor any cells close to them.

Written out in `gandb.identity.bounds`. The names here are the ones used there.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import math

import numpy as np
from numba import njit

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
from gandb.identity.shift_kernels import may_be_shifted
from gandb.identity.site_kernels import (
    DONE,
    MORE_MAPS,
    MORE_PAIRS,
    MORE_POINTS,
    assign_sites,
    larger_room,
    list_pairs,
    make_room,
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
    room = make_room(n, 512, 256, 8 * n)
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


@njit(cache=True, nogil=True)
def _near_reduced(lattice, factor, bases):
    """List the bases of a lattice that are reduced after a strain; -1 if there are too many."""
    lengths = np.empty(3)
    for i in range(3):
        lengths[i] = math.sqrt((lattice[i] ** 2).sum())
    shortest = np.sort(lengths)
    within = factor * factor * (1.0 + _NIGGLI_SLACK)
    volume = abs(determinant(lattice))
    most = np.empty(3, np.int64)
    for i in range(3):
        face = np.cross(lattice[(i + 1) % 3], lattice[(i + 2) % 3])
        most[i] = int(shortest[2] * within * math.sqrt((face * face).sum()) / volume + 1e-6)
    points = np.empty((128, 7))
    count = 0
    for i in range(most[0] + 1):
        for j in range(-most[1], most[1] + 1):
            for k in range(-most[2], most[2] + 1):
                if i == 0 and (j < 0 or (j == 0 and k <= 0)):
                    continue  # of a vector and its inverse only one
                vector = i * lattice[0] + j * lattice[1] + k * lattice[2]
                length = math.sqrt((vector * vector).sum())
                if length > shortest[2] * within:
                    continue
                if count == len(points):
                    return -1
                points[count, 0], points[count, 1], points[count, 2] = i, j, k
                points[count, 3:6] = vector
                points[count, 6] = length
                count += 1
    places = np.argsort(points[:count, 6])
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
            normal = np.cross(a[:3], b[:3])
            for z in range(y + 1, count):
                c = points[places[z]]
                if abs(abs((normal * c[:3]).sum()) - 1.0) > 0.5:
                    continue
                if not (_may_be_reduced(a, c, factor) and _may_be_reduced(b, c, factor)):
                    continue
                if found == len(bases):
                    return -1
                bases[found, 0] = a[:3]
                bases[found, 1] = b[:3]
                bases[found, 2] = c[:3]
                found += 1
    return found


@njit(cache=True, nogil=True)
def _may_be_reduced(a, b, factor):
    """Whether two vectors, the shorter first, may be in a reduced basis after a strain."""
    dot = abs((a[3:6] * b[3:6]).sum())
    change = factor * factor - 1.0
    limit = 0.5 * a[6] * a[6] * (1.0 + change) + change * a[6] * b[6]
    return dot <= limit * (1.0 + _NIGGLI_SLACK)


@njit(cache=True, nogil=True)
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
    lattice = cells.lattices[one] * scale
    other = cells.lattices[two] / scale
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
    for b in range(found):
        vectors = np.zeros((3, 3))
        for i in range(3):
            for j in range(3):
                vectors[i] += bases[b, i, j] * other[j]
            target[i] = math.sqrt((vectors[i] ** 2).sum())
        for i in range(3):
            p, q = (i + 1) % 3, (i + 2) % 3
            cosines[i] = (vectors[p] * vectors[q]).sum() / (target[p] * target[q])
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
        suspect = 0
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
                        room, ends, reduced, reduced_box, quarter, reach * reach, True
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


@njit(cache=True, nogil=True)
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
    inverse = np.abs(whiten(most, metric, out))
    full = full_metric(most)
    total = 0.0
    for i in range(3):
        for j in range(3):
            entry = 0.0
            for k in range(3):
                for m in range(3):
                    entry += inverse[i, k] * full[k, m] * inverse[j, m]
            total += entry * entry
    return math.sqrt(total)
