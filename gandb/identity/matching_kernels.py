"""Compiled comparison of reduced cells; `gandb.identity.matching` is its face.

One comparison of cell 1 with cell 2 goes as in pymatgen's ``StructureMatcher`` (Ong et al.,
doi:10.1016/j.commatsci.2012.10.028):

1. Both cells are brought to one volume.
2. Every basis of lattice 1 is found whose lengths and angles are near those of cell 2.
3. In each such basis, each site of cell 1 of the rarest kind in turn is laid on the first such site
   of cell 2. On the lattice of mean lengths and angles every site of cell 2 must then have one of
   its kind within a box twice as wide as the tolerance.
4. Sites are assigned to sites so that the sum of squared distances is least; the mean displacement
   is taken off; the root mean square and the largest distance are left.

Fractional vectors and metric tensors do all of it; there are no Cartesian coordinates.
"""

from __future__ import annotations

import math
from collections import namedtuple

import numpy as np
from numba import njit

from gandb.core.compiled import inner
from gandb.identity.lattice_kernels import (
    determinant,
    fill_box,
    fill_metric,
    invert_basis,
    lattice_maps,
    lattice_points,
    mean_lattice,
    reduce_mean,
    strain_between,
    stretch_between,
    volume_of,
)
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
    take_mean_off,
)

Tolerances = namedtuple("Tolerances", "ltol stol angle_tol scale")
"""The numbers of a recipe."""

FIT = 0  # stop at the first placing whose largest distance is within the tolerance
RMS = 1  # find the least root mean square
NEAR = 2  # as FIT, but no length may change by more than ltol, and distances are those in cell 1

_EXACT = 1e-8  # a root mean square below this ends the search
_LIKELY = 0.05  # bases no farther than this beyond the nearest one are tried first


@njit(cache=True, nogil=True)
def find_maps(cells, one, two, tolerances, target, cosines, room):
    """Find the bases of lattice ``one`` that are like cell ``two``, both at one volume.

    Fills the lengths and cosines of cell two. Returns what there was too little room for, and how
    many bases there are.
    """
    scale = 1.0
    if tolerances.scale:
        scale = (cells.volumes[two] / cells.volumes[one]) ** (1.0 / 6.0)
    lattice = np.empty((3, 3))
    for i in range(3):
        square = 0.0
        for x in range(3):
            lattice[i, x] = cells.lattices[one, i, x] * scale
            square += cells.lattices[two, i, x] ** 2
        target[i] = math.sqrt(square) / scale
    for i in range(3):
        p, q = (i + 1) % 3, (i + 2) % 3
        dot = 0.0
        for x in range(3):
            dot += cells.lattices[two, p, x] * cells.lattices[two, q, x]
        cosines[i] = max(-1.0, min(1.0, dot / (target[p] * target[q] * scale * scale)))
    points = lattice_points(lattice, target, tolerances.ltol, room.points, room.masks)
    if points > len(room.points):
        return MORE_POINTS, 0
    count = lattice_maps(
        room.points, room.masks, points, target, cosines, tolerances.angle_tol, room.maps
    )
    if count > len(room.maps):
        return MORE_MAPS, 0
    return DONE, count


@njit(cache=True, nogil=True)
def compare(cells, one, two, tolerances, goal, room):
    """Compare cell ``one`` with cell ``two``.

    Fills ``room.result``: the value (largest distance for `FIT`, root mean square for `RMS`), the
    largest distance, both in units of (V/n)^(1/3), infinite if nothing was found; and for `RMS`
    which placing it was. Returns `DONE`, or what there was too little room for.
    """
    room.result[0] = math.inf
    room.result[1] = math.inf
    if not same_kinds(cells, one, two):
        return DONE
    return _search(
        cells,
        one,
        two,
        cells.sites[cells.starts[one] : cells.starts[one + 1]],
        tolerances,
        goal,
        room,
    )


@inner
def _search(cells, one, two, sites, tolerances, goal, room):
    """Compare cells whose blocks of sites are alike, with the sites of cell ``one`` given."""
    target = np.empty(3)
    cosines = np.empty(3)
    lack, count = find_maps(cells, one, two, tolerances, target, cosines, room)
    if lack != DONE or count == 0:
        return lack
    n = len(sites)
    others = cells.sites[cells.starts[two] : cells.starts[two + 1]]
    ends = cells.ends[cells.first_blocks[two] : cells.first_blocks[two + 1]]
    # The block whose sites are laid on a site of cell 2, its first.
    lead = cells.leads[two]
    anchors = 0 if lead == 0 else ends[lead - 1]
    size = ends[lead] - anchors
    for i in range(n):
        for x in range(3):
            room.offsets[i, x] = others[i, x] - others[anchors, x]

    result = room.result
    metric = np.empty(6)
    own = np.empty(6)
    reduced = np.empty(6)
    basis = np.empty((3, 3))
    inverse = np.empty((3, 3))
    reduction = np.empty((3, 3))
    unreduction = np.empty((3, 3))
    box = np.empty(3)
    reduced_box = np.empty(3)
    shift = np.empty(3)
    laid = np.empty(3)
    suspect = np.int64(0)
    nearest = math.inf
    for m in range(count):
        nearest = min(nearest, room.maps[m, 15])
    for turn in range(2):
        for m in range(count):
            row = room.maps[m]
            if (row[15] <= nearest + _LIKELY) != (turn == 0):
                continue
            if goal == NEAR and strain_between(row, target, cosines) > tolerances.ltol:
                continue
            volume = mean_lattice(row, target, cosines, metric)
            longer = 1.0
            if goal == NEAR:
                fill_metric(row[9:12], row[12:15], own)
                longer = stretch_between(own, metric) * (volume / volume_of(own)) ** (1.0 / 3.0)
            unit = (volume / n) ** (1.0 / 3.0)
            reach = 2.0 * tolerances.stol * unit
            fill_box(metric, volume, reach, box)
            ball = math.inf
            if goal != RMS and max(box[0], box[1], box[2]) < 1.0:
                ball = reach * reach * (1.0 + 1e-9)
            for i in range(3):
                for j in range(3):
                    basis[i, j] = row[3 * i + j]
            invert_basis(basis, determinant(basis), inverse)
            move_sites(sites, n, inverse, 1.0, 0.0, 0.0, 0.0, False, room.turned)
            quarter = -1.0
            for mirror in range(2):  # the basis, and its inverse
                sign = 1.0 - 2.0 * mirror
                moved = False
                start = anchors
                if not math.isinf(ball):
                    start, suspect = _first_within(
                        room, anchors, ends, lead, sign, box, metric, ball, suspect
                    )
                    if start < 0:
                        continue
                for step in range(size):
                    anchor = anchors + (start - anchors + step) % size
                    missing = site_without_partner(
                        room.turned, anchor, sign, room.offsets, ends, box, metric, math.inf,
                        suspect,
                    )  # fmt: skip
                    if missing >= 0:
                        suspect = missing
                        continue
                    if quarter < 0.0:
                        least = reduce_mean(
                            row, target, cosines, metric, reduced, reduction, unreduction
                        )
                        quarter = 0.25 * least * (1.0 - 1e-9)
                        fill_box(reduced, volume, reach, reduced_box)
                    if not moved:
                        move_sites(
                            room.turned, n, unreduction, sign, 0.0, 0.0, 0.0, True, room.reduced
                        )
                        moved = True
                    for x in range(3):
                        laid[x] = sign * room.turned[anchor, x]
                    move_sites(
                        room.offsets, n, unreduction, 1.0, laid[0], laid[1], laid[2], True,
                        room.placed,
                    )  # fmt: skip
                    listed = list_pairs(
                        room, ends, reduced, reduced_box, quarter, math.inf, np.bool_(False)
                    )
                    if listed == -2:
                        return MORE_PAIRS
                    if listed < 0 or not assign_sites(room, n):
                        continue
                    mean, largest = take_mean_off(room, n, reduced, shift)
                    value = longer * math.sqrt(mean if goal == RMS else largest) / unit
                    if value >= result[0]:
                        continue
                    result[0] = value
                    result[1] = math.sqrt(largest) / unit
                    if goal != RMS:
                        if value < tolerances.stol:
                            return DONE
                        continue
                    for k in range(3):
                        result[2 + k] = laid[k] - others[anchors, k]
                        for i in range(3):
                            result[2 + k] += shift[i] * reduction[i, k]
                    for k in range(9):
                        result[5 + k] = sign * row[k]
                    result[14] = unit
                    for i in range(n):
                        room.chosen[i] = room.partner[room.column_of[i]]
                    if value < _EXACT and value < tolerances.stol:
                        return DONE
    return DONE


@inner
def _first_within(room, anchors, ends, lead, sign, box, metric, ball, suspect):
    """Find a site to lay on the first of cell 2 so that all sites have partners within a ball.

    Where a placing fits, so does one that lays a site on the very site with which it is paired, and
    there all displacements are at most twice the tolerance. So where there is none, none fits.

    Returns -1 if there is none, and the site that lacked a partner last.
    """
    for anchor in range(anchors, ends[lead]):
        missing = site_without_partner(
            room.turned, anchor, sign, room.offsets, ends, box, metric, ball, suspect
        )
        if missing < 0:
            return anchor, suspect
        suspect = missing
    return -1, suspect


@njit(cache=True, nogil=True)
def compare_pairs(cells, pairs, tolerances, goal, values, largest):
    """Compare many pairs of cells, int64 (k, 2); fills the results of `compare`, float64 (k,)."""
    n = most_sites(cells, pairs)
    room = first_room(n)
    for p in range(len(pairs)):
        lack = compare(cells, pairs[p, 0], pairs[p, 1], tolerances, goal, room)
        while lack != DONE:
            room = larger_room(room, n, lack)
            lack = compare(cells, pairs[p, 0], pairs[p, 1], tolerances, goal, room)
        values[p] = room.result[0]
        largest[p] = room.result[1]


@njit(cache=True, nogil=True)
def compare_anonymously(cells, pairs, tolerances, fits):
    """Say of pairs of cells, each site of one full kind, whether they match with kinds exchanged.

    Every way to give each kind of the one cell a kind of the other with as many sites is tried.
    """
    n = most_sites(cells, pairs)
    room = first_room(n)
    given = np.empty(n, np.int64)
    for p in range(len(pairs)):
        one, two = pairs[p]
        fits[p] = False
        a = cells.first_blocks[one]
        b = cells.first_blocks[two]
        blocks = cells.first_blocks[one + 1] - a
        if blocks != cells.first_blocks[two + 1] - b:
            continue
        alike = True
        for i in range(blocks):
            alike = alike and cells.ends[a + i] == cells.ends[b + i]
            given[i] = i
        while alike:
            begin = 0
            for i in range(blocks):
                end = cells.ends[b + i]
                source = cells.starts[one] + cells.ends[a + given[i]] - end
                for j in range(begin, end):
                    for x in range(3):
                        room.swapped[j, x] = cells.sites[source + j, x]
                begin = end
            sites = room.swapped[:begin]
            room.result[0] = math.inf
            lack = _search(cells, one, two, sites, tolerances, np.int64(FIT), room)
            while lack != DONE:
                room = larger_room(room, n, lack)
                room.result[0] = math.inf
                lack = _search(cells, one, two, sites, tolerances, np.int64(FIT), room)
            if room.result[0] < tolerances.stol:
                fits[p] = True
                break
            if not _next_order(given, blocks, cells.ends[b : b + blocks]):
                break


@inner
def _next_order(given, blocks, ends):
    """Step to the next order of blocks that keeps sizes; says whether there is one."""
    end = blocks
    while end > 0:
        # The run of blocks of one size that ends here.
        size = _size(ends, end - 1)
        begin = end - 1
        while begin > 0 and _size(ends, begin - 1) == size:
            begin -= 1
        if _next_permutation(given, begin, end):
            return True
        end = begin  # it is back in its first order; step in the run before it
    return False


@inner
def _size(ends, block):
    return ends[block] - (ends[block - 1] if block > 0 else 0)


@inner
def _next_permutation(values, begin, end):
    """Step to the next permutation of a stretch; after the last comes the first, and False."""
    i = end - 2
    while i >= begin and values[i] >= values[i + 1]:
        i -= 1
    if i >= begin:
        j = end - 1
        while values[j] <= values[i]:
            j -= 1
        values[i], values[j] = values[j], values[i]
    low, high = i + 1, end - 1
    while low < high:
        values[low], values[high] = values[high], values[low]
        low += 1
        high -= 1
    return i >= begin
