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

from gandb.identity.assignment_kernels import assign_cheapest, assign_nearest
from gandb.identity.lattice_kernels import (
    determinant,
    fill_box,
    invert_basis,
    lattice_maps,
    lattice_points,
    mean_lattice,
    nearest_whole,
    reduce_basis,
    square_length,
)

Sorted = namedtuple("Sorted", "lattices volumes starts sites order first_blocks kinds ends leads")
"""Cells with their sites in blocks of one kind, fewest sites first.

lattices: float64 (m, 3, 3); volumes: float64 (m,), Å³; starts: int64 (m + 1,), first site of each
cell; sites: float64 (sites, 3), fractional; order: int64 (sites,), place of each in its cell before
sorting; first_blocks: int64 (m + 1,), first block of each cell; kinds: int64 (blocks,); ends: int64
(blocks,), end of each block, counted in its cell; leads: int64 (m,), of the smallest blocks the one
whose site came first, counted in its cell.
"""

Tolerances = namedtuple("Tolerances", "ltol stol angle_tol scale")
"""The numbers of a recipe."""

Room = namedtuple(
    "Room",
    "points masks maps swapped turned offsets reduced placed first partner cost vectors row_of"
    " column_of work marks result chosen",
)
"""What a comparison works in; made by `make_room`, filled as told there."""

FIT = 0  # stop at the first placing whose largest distance is within the tolerance
RMS = 1  # find the least root mean square

DONE = 0
MORE_POINTS = 1
MORE_MAPS = 2
MORE_PAIRS = 3

_EXACT = 1e-8  # a root mean square below this ends the search
_LIKELY = 0.05  # bases no farther than this beyond the nearest one are tried first


@njit(cache=True, nogil=True)
def sort_sites(lattices, coords, kinds, starts):
    """Put the sites of every cell into blocks; returns `Sorted`."""
    m = len(lattices)
    total = len(kinds)
    sites = np.empty((total, 3))
    order = np.empty(total, np.int64)
    block_kinds = np.empty(total, np.int64)
    ends = np.empty(total, np.int64)
    first_blocks = np.zeros(m + 1, np.int64)
    leads = np.zeros(m, np.int64)
    volumes = np.empty(m)
    counts = np.empty(total, np.int64)
    firsts = np.empty(total, np.int64)
    at = 0
    for cell in range(m):
        volumes[cell] = abs(determinant(lattices[cell]))
        begin = starts[cell]
        n = starts[cell + 1] - begin
        blocks = 0
        for i in range(n):
            kind = kinds[begin + i]
            b = 0
            while b < blocks and block_kinds[at + b] != kind:
                b += 1
            if b == blocks:
                block_kinds[at + b] = kind
                counts[b] = 0
                firsts[b] = i
                blocks += 1
            counts[b] += 1
        for b in range(1, blocks):  # insertion sort by count and kind
            kind, count, first = block_kinds[at + b], counts[b], firsts[b]
            c = b
            while c > 0 and (
                counts[c - 1] > count or (counts[c - 1] == count and block_kinds[at + c - 1] > kind)
            ):
                block_kinds[at + c] = block_kinds[at + c - 1]
                counts[c] = counts[c - 1]
                firsts[c] = firsts[c - 1]
                c -= 1
            block_kinds[at + c] = kind
            counts[c] = count
            firsts[c] = first
        end = 0
        for b in range(blocks):
            place = end
            for i in range(n):
                if kinds[begin + i] == block_kinds[at + b]:
                    for x in range(3):
                        sites[begin + place, x] = coords[begin + i, x]
                    order[begin + place] = i
                    place += 1
            end = place
            ends[at + b] = end
            if counts[b] == counts[0] and firsts[b] < firsts[leads[cell]]:
                leads[cell] = b
        at += blocks
        first_blocks[cell + 1] = at
    return Sorted(
        lattices,
        volumes,
        starts,
        sites,
        order,
        first_blocks,
        block_kinds[:at].copy(),
        ends[:at].copy(),
        leads,
    )


@njit(cache=True, nogil=True)
def make_room(n, points, maps, pairs):
    """Make room for cells of ``n`` sites, with so many lattice points, lattice maps and pairs."""
    return Room(
        np.empty((points, 7)),
        np.empty(points, np.int64),
        np.empty((maps, 16)),
        np.empty((n, 3)),  # swapped: sites of cell 1 with its blocks in another order
        np.empty((n, 3)),  # turned: sites of cell 1 in the basis of a map
        np.empty((n, 3)),  # offsets: sites of cell 2 from the one on which others are laid
        np.empty((n, 3)),  # reduced: sites of cell 1 in the reduced basis, in [0, 1)
        np.empty((n, 3)),  # placed: sites of cell 2 there
        np.empty(n + 1, np.int64),  # first, partner, cost, vectors: pairs by site of cell 2
        np.empty(pairs, np.int64),
        np.empty(pairs),
        np.empty((pairs, 3)),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty((3, n)),
        np.empty((4, n), np.int64),
        np.empty(15),  # result: value, largest distance, shift (3), basis (9), unit
        np.empty(n, np.int64),  # chosen: for each site of cell 2, that of cell 1; both sorted
    )


@njit(cache=True, nogil=True)
def larger_room(room, n, lack):
    """Make more room of what was lacking."""
    points, maps, pairs = len(room.points), len(room.maps), len(room.partner)
    if lack == MORE_POINTS:
        points *= 4
    elif lack == MORE_MAPS:
        maps *= 4
    else:
        pairs *= 4
    return make_room(n, points, maps, pairs)


# --- lattices ------------------------------------------------------------------------------


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


# --- sites ---------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def site_without_partner(turned, anchor, sign, offsets, ends, box, suspect):
    """Look for a site of cell 2 without one of its kind in cell 1 within a box.

    Returns such a site, -1 if there is none. The suspect is tried first.
    """
    x, y, z = turned[anchor, 0], turned[anchor, 1], turned[anchor, 2]
    begin = 0
    for end in ends:
        if suspect < end:
            if not _has_partner(turned, x, y, z, sign, offsets, suspect, begin, end, box):
                return suspect
            break
        begin = end
    begin = 0
    for end in ends:
        for i in range(begin, end):
            if not _has_partner(turned, x, y, z, sign, offsets, i, begin, end, box):
                return i
        begin = end
    return -1


@njit(cache=True, inline="always")
def _has_partner(turned, ax, ay, az, sign, offsets, i, begin, end, box):
    x = ax + sign * offsets[i, 0]
    y = ay + sign * offsets[i, 1]
    z = az + sign * offsets[i, 2]
    near = False
    for j in range(begin, end):
        d = turned[j, 0] - x
        if abs(d - nearest_whole(d)) > box[0]:
            continue
        d = turned[j, 1] - y
        if abs(d - nearest_whole(d)) > box[1]:
            continue
        d = turned[j, 2] - z
        if abs(d - nearest_whole(d)) > box[2]:
            continue
        near = True
        break
    return near


@njit(cache=True, inline="always")
def move_sites(rows, n, matrix, sign, sx, sy, sz, wrap, out):
    """Shift fractional rows, mirrored or not, and multiply them by a matrix."""
    for i in range(n):
        x = sign * rows[i, 0] + sx
        y = sign * rows[i, 1] + sy
        z = sign * rows[i, 2] + sz
        for k in range(3):
            value = x * matrix[0, k] + y * matrix[1, k] + z * matrix[2, k]
            out[i, k] = value - math.floor(value) if wrap else value


@njit(cache=True, nogil=True)
def list_pairs(room, ends, metric, box, quarter):
    """List the pairs of a kind within a box, each with its shortest vector from cell 2 to cell 1.

    The shortest of the 27 nearest images is taken; one whose square is at most ``quarter`` of the
    shortest lattice vector's is the shortest at once. Returns the number of pairs; -1 if some site
    has none; -2 if there is no room for all.
    """
    one, two = room.reduced, room.placed
    found = 0
    begin = 0
    for end in ends:
        for i in range(begin, end):
            room.first[i] = found
            for j in range(begin, end):
                dx = one[j, 0] - two[i, 0]
                x = dx - nearest_whole(dx)
                if abs(x) > box[0]:
                    continue
                dy = one[j, 1] - two[i, 1]
                y = dy - nearest_whole(dy)
                if abs(y) > box[1]:
                    continue
                dz = one[j, 2] - two[i, 2]
                z = dz - nearest_whole(dz)
                if abs(z) > box[2]:
                    continue
                best = square_length(metric, x, y, z)
                if best > quarter:
                    best = math.inf
                    for p in range(-1, 2):
                        for q in range(-1, 2):
                            for r in range(-1, 2):
                                square = square_length(metric, dx + p, dy + q, dz + r)
                                if square < best:
                                    best = square
                                    x, y, z = dx + p, dy + q, dz + r
                if found == len(room.partner):
                    return -2
                room.partner[found] = j
                room.cost[found] = best
                room.vectors[found, 0] = x
                room.vectors[found, 1] = y
                room.vectors[found, 2] = z
                found += 1
            if found == room.first[i]:
                return -1
        begin = end
    room.first[begin] = found
    return found


@njit(cache=True, nogil=True)
def assign_sites(room, n):
    """Assign sites so that the sum of squares is least; says whether every site has one."""
    if assign_nearest(n, room.first, room.partner, room.cost, room.row_of, room.column_of):
        return True
    return assign_cheapest(
        n, room.first, room.partner, room.cost, room.row_of, room.column_of, room.work, room.marks
    )


@njit(cache=True, nogil=True)
def take_mean_off(room, n, metric, shift):
    """Take the mean displacement off the chosen pairs, and fill it in.

    Returns the mean square and the largest square that are left.
    """
    for k in range(3):
        total = 0.0
        for i in range(n):
            total += room.vectors[room.column_of[i], k]
        shift[k] = total / n
    total = 0.0
    largest = 0.0
    for i in range(n):
        place = room.column_of[i]
        square = square_length(
            metric,
            room.vectors[place, 0] - shift[0],
            room.vectors[place, 1] - shift[1],
            room.vectors[place, 2] - shift[2],
        )
        total += square
        largest = max(largest, square)
    return max(0.0, total / n), max(0.0, largest)


# --- cells ---------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def same_kinds(cells, one, two):
    """Whether two cells have equally many sites of each kind."""
    a = cells.first_blocks[one]
    b = cells.first_blocks[two]
    blocks = cells.first_blocks[one + 1] - a
    if blocks != cells.first_blocks[two + 1] - b:
        return False
    for i in range(blocks):
        if cells.kinds[a + i] != cells.kinds[b + i] or cells.ends[a + i] != cells.ends[b + i]:
            return False
    return True


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


@njit(cache=True, nogil=True)
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
    for i in range(n):
        for x in range(3):
            room.offsets[i, x] = others[i, x] - others[anchors, x]

    result = room.result
    metric = np.empty(6)
    reduced = np.empty(6)
    basis = np.empty((3, 3))
    inverse = np.empty((3, 3))
    reduction = np.empty((3, 3))
    unreduction = np.empty((3, 3))
    box = np.empty(3)
    reduced_box = np.empty(3)
    shift = np.empty(3)
    laid = np.empty(3)
    suspect = 0
    nearest = math.inf
    for m in range(count):
        nearest = min(nearest, room.maps[m, 15])
    for turn in range(2):
        for m in range(count):
            row = room.maps[m]
            if (row[15] <= nearest + _LIKELY) != (turn == 0):
                continue
            volume = mean_lattice(row, target, cosines, metric)
            unit = (volume / n) ** (1.0 / 3.0)
            fill_box(metric, volume, 2.0 * tolerances.stol * unit, box)
            for i in range(3):
                for j in range(3):
                    basis[i, j] = row[3 * i + j]
            invert_basis(basis, determinant(basis), inverse)
            move_sites(sites, n, inverse, 1.0, 0.0, 0.0, 0.0, False, room.turned)
            quarter = -1.0
            for mirror in range(2):  # the basis, and its inverse
                sign = 1.0 - 2.0 * mirror
                moved = False
                for anchor in range(anchors, ends[lead]):
                    missing = site_without_partner(
                        room.turned, anchor, sign, room.offsets, ends, box, suspect
                    )
                    if missing >= 0:
                        suspect = missing
                        continue
                    if quarter < 0.0:
                        least = reduce_basis(metric, reduced, reduction, unreduction)
                        quarter = 0.25 * least * (1.0 - 1e-9)
                        fill_box(reduced, volume, 2.0 * tolerances.stol * unit, reduced_box)
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
                    listed = list_pairs(room, ends, reduced, reduced_box, quarter)
                    if listed == -2:
                        return MORE_PAIRS
                    if listed < 0 or not assign_sites(room, n):
                        continue
                    mean, largest = take_mean_off(room, n, reduced, shift)
                    value = math.sqrt(mean if goal == RMS else largest) / unit
                    if value >= result[0]:
                        continue
                    result[0] = value
                    result[1] = math.sqrt(largest) / unit
                    if goal == FIT:
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


@njit(cache=True, nogil=True)
def most_sites(cells, pairs):
    """Sites of the largest cell of some pairs."""
    n = 1
    for p in range(len(pairs)):
        for side in range(2):
            cell = pairs[p, side]
            n = max(n, cells.starts[cell + 1] - cells.starts[cell])
    return n


@njit(cache=True, nogil=True)
def compare_pairs(cells, pairs, tolerances, goal, values, largest):
    """Compare many pairs of cells, int64 (k, 2); fills the results of `compare`, float64 (k,)."""
    n = most_sites(cells, pairs)
    room = make_room(n, 512, 256, 8 * n)
    for p in range(len(pairs)):
        lack = compare(cells, pairs[p, 0], pairs[p, 1], tolerances, goal, room)
        while lack != DONE:
            room = larger_room(room, n, lack)
            lack = compare(cells, pairs[p, 0], pairs[p, 1], tolerances, goal, room)
        values[p] = room.result[0]
        largest[p] = room.result[1]


@njit(cache=True, nogil=True)
def group_greedily(cells, members, tolerances, symmetric, groups):
    """Put each cell into the group of the first one before it, itself a first, that it matches.

    Args:
        cells: `Sorted`.
        members: int64 (k,), cells in the order in which they count.
        tolerances: `Tolerances`.
        symmetric: whether the match must hold in both directions.
        groups: int64 (k,), filled with numbers in order of the first members.
    """
    k = len(members)
    n = 1
    for cell in members:
        n = max(n, cells.starts[cell + 1] - cells.starts[cell])
    room = make_room(n, 512, 256, 8 * n)
    for i in range(k):
        groups[i] = -1
    count = 0
    for i in range(k):
        if groups[i] >= 0:
            continue
        groups[i] = count
        for j in range(i + 1, k):
            if groups[j] >= 0:
                continue
            same = True
            for back in range(2 if symmetric else 1):
                one, two = (members[j], members[i]) if back else (members[i], members[j])
                lack = compare(cells, one, two, tolerances, FIT, room)
                while lack != DONE:
                    room = larger_room(room, n, lack)
                    lack = compare(cells, one, two, tolerances, FIT, room)
                if not room.result[0] < tolerances.stol:
                    same = False
                    break
            if same:
                groups[j] = count
        count += 1


@njit(cache=True, nogil=True)
def compare_anonymously(cells, pairs, tolerances, fits):
    """Say of pairs of cells, each site of one full kind, whether they match with kinds exchanged.

    Every way to give each kind of the one cell a kind of the other with as many sites is tried.
    """
    n = most_sites(cells, pairs)
    room = make_room(n, 512, 256, 8 * n)
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
            lack = _search(cells, one, two, sites, tolerances, FIT, room)
            while lack != DONE:
                room = larger_room(room, n, lack)
                room.result[0] = math.inf
                lack = _search(cells, one, two, sites, tolerances, FIT, room)
            if room.result[0] < tolerances.stol:
                fits[p] = True
                break
            if not _next_order(given, blocks, cells.ends[b : b + blocks]):
                break


@njit(cache=True, nogil=True)
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


@njit(cache=True, inline="always")
def _size(ends, block):
    return ends[block] - (ends[block - 1] if block > 0 else 0)


@njit(cache=True, nogil=True)
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
