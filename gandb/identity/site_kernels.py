"""Compiled work on the sites of two cells: which are alike, near each other, and assigned.

Sites stand in blocks of one kind, the smallest first, so that only sites of one kind ever meet.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import math
from collections import namedtuple

import numpy as np
from numba import njit

from gandb.core.compiled import inner
from gandb.identity.assignment_kernels import assign_cheapest, assign_nearest
from gandb.identity.lattice_kernels import determinant, nearest_whole, square_length

Sorted = namedtuple("Sorted", "lattices volumes starts sites order first_blocks kinds ends leads")
"""Cells with their sites in blocks of one kind, fewest sites first.

lattices: float64 (m, 3, 3); volumes: float64 (m,), Å³; starts: int64 (m + 1,), first site of each
cell; sites: float64 (sites, 3), fractional; order: int64 (sites,), place of each in its cell before
sorting; first_blocks: int64 (m + 1,), first block of each cell; kinds: int64 (blocks,); ends: int64
(blocks,), end of each block, counted in its cell; leads: int64 (m,), of the smallest blocks the one
whose site came first, counted in its cell.
"""

Room = namedtuple(
    "Room",
    "points masks maps swapped turned offsets reduced placed first partner cost vectors row_of"
    " column_of work marks result chosen",
)
"""What a comparison works in; made by `make_room`, filled as told there."""

DONE = 0
MORE_POINTS = 1
MORE_MAPS = 2
MORE_PAIRS = 3


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


@inner
def most_sites(cells, pairs):
    """Sites of the largest cell of some pairs."""
    n = np.int64(1)
    for p in range(len(pairs)):
        for side in range(2):
            cell = pairs[p, side]
            n = max(n, cells.starts[cell + 1] - cells.starts[cell])
    return n


@inner
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


@inner
def first_room(n):
    """Make room for cells of ``n`` sites, enough for most."""
    return make_room(n, np.int64(512), np.int64(256), 8 * n)


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


@inner
def site_without_partner(turned, anchor, sign, offsets, ends, box, metric, ball, suspect):
    """Look for a site of cell 2 without one of its kind in cell 1 within a box and a ball.

    The ball is given by the square of its radius; the box surrounds it. If the ball is not infinite
    the box must reach less than a cell from its middle.

    Returns such a site, -1 if there is none. The suspect is tried first.
    """
    x, y, z = turned[anchor, 0], turned[anchor, 1], turned[anchor, 2]
    begin = 0
    for end in ends:
        if suspect < end:
            if not _has_partner(
                turned, x, y, z, sign, offsets, suspect, begin, end, box, metric, ball
            ):
                return suspect
            break
        begin = end
    begin = 0
    for end in ends:
        for i in range(begin, end):
            if not _has_partner(turned, x, y, z, sign, offsets, i, begin, end, box, metric, ball):
                return i
        begin = end
    return -1


@inner
def _has_partner(turned, ax, ay, az, sign, offsets, i, begin, end, box, metric, ball):
    x = ax + sign * offsets[i, 0]
    y = ay + sign * offsets[i, 1]
    z = az + sign * offsets[i, 2]
    for j in range(begin, end):
        dx = turned[j, 0] - x
        dx -= nearest_whole(dx)
        if abs(dx) > box[0]:
            continue
        dy = turned[j, 1] - y
        dy -= nearest_whole(dy)
        if abs(dy) > box[1]:
            continue
        dz = turned[j, 2] - z
        dz -= nearest_whole(dz)
        if abs(dz) > box[2]:
            continue
        if square_length(metric, dx, dy, dz) <= ball or _image_within(
            metric, ball, box, dx, dy, dz
        ):
            return True
    return False


@inner
def _image_within(metric, ball, box, x, y, z):
    """Whether another image in the box, up to a cell away from its middle, lies within a ball."""
    if max(box[0], box[1], box[2]) < 0.5:
        return False
    for p in range(2):
        for q in range(2):
            for r in range(2):
                u = x - p * math.copysign(1.0, x)
                v = y - q * math.copysign(1.0, y)
                w = z - r * math.copysign(1.0, z)
                if square_length(metric, u, v, w) <= ball:
                    return True
    return False


@inner
def move_sites(rows, n, matrix, sign, sx, sy, sz, wrap, out):
    """Shift fractional rows, mirrored or not, and multiply them by a matrix."""
    for i in range(n):
        x = sign * rows[i, 0] + sx
        y = sign * rows[i, 1] + sy
        z = sign * rows[i, 2] + sz
        for k in range(3):
            value = x * matrix[0, k] + y * matrix[1, k] + z * matrix[2, k]
            out[i, k] = value - math.floor(value) if wrap else value


@inner
def list_pairs(room, ends, metric, box, quarter, farthest, surely):
    """List the pairs of a kind within a box, each with its shortest vector from cell 2 to cell 1.

    The shortest of 27 images of the coordinates in [0, 1) is taken; or surely the shortest of all,
    of 125 images of the nearest fractions. One whose square is at most ``quarter`` of the shortest
    lattice vector's is the shortest at once. Pairs farther apart than a square are left out.

    Returns the number of pairs; -1 if some site has none; -2 if there is no room for all.
    """
    one, two = room.reduced, room.placed
    images = 2 if surely else 1
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
                    if surely:
                        dx, dy, dz = x, y, z
                    for p in range(-images, images + 1):
                        for q in range(-images, images + 1):
                            for r in range(-images, images + 1):
                                square = square_length(metric, dx + p, dy + q, dz + r)
                                if square < best:
                                    best = square
                                    x, y, z = dx + p, dy + q, dz + r
                if best > farthest:
                    continue
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


@inner
def assign_sites(room, n):
    """Assign sites so that the sum of squares is least; says whether every site has one."""
    if assign_nearest(n, room.first, room.partner, room.cost, room.row_of, room.column_of):
        return True
    return assign_cheapest(
        n, room.first, room.partner, room.cost, room.row_of, room.column_of, room.work, room.marks
    )


@inner
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
