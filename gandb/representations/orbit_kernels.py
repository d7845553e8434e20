"""Compiled work on the images of sites under a space group; see `asymmetric_unit`.

An orbit is never listed twice: a site is *settled* once all images near it lie on it. Then as many
of the group's operations leave it where it is, and the rest give every other atom as often.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import math

import numpy as np
from numba import njit

ACCEPTED, NO_CELL, NOT_FINITE, ENDLESS, UNSETTLED = 0, 1, 2, 3, 4

SHORTEST, LONGEST = 1e-6, 1e6  # Å; what has other edges is no cell

_ROUNDS = 20
_ROUNDING = 1e-12  # of the cell
_SAME = 1e-6  # Å; images nearer than this are one
_MOST_CELLS = 10  # beyond this many cells next to it a cell is too thin
_MIN_VOLUME = 0.01  # Å³


@njit(cache=True, nogil=True)
def metric_of(lengths, angles):
    """Return the metric tensor (3, 3), Å², and the volume, Å³; 0 if it is no cell."""
    metric = np.zeros((3, 3))
    cosines = np.empty(3)
    for k in range(3):
        if not (SHORTEST < lengths[k] < LONGEST and 0.0 < angles[k] < 180.0):
            return metric, 0.0
        cosines[k] = 0.0 if angles[k] == 90.0 else math.cos(math.radians(angles[k]))
        metric[k, k] = lengths[k] * lengths[k]
    x, y, z = cosines
    metric[1, 2] = metric[2, 1] = lengths[1] * lengths[2] * x
    metric[0, 2] = metric[2, 0] = lengths[0] * lengths[2] * y
    metric[0, 1] = metric[1, 0] = lengths[0] * lengths[1] * z
    flat = 1.0 - x * x - y * y - z * z + 2.0 * x * y * z
    if flat <= 0.0:
        return metric, 0.0
    return metric, lengths[0] * lengths[1] * lengths[2] * math.sqrt(flat)


@njit(cache=True, nogil=True)
def heights_of(lengths, angles, volume):
    """Return the distances between opposite faces of a cell, (3,), Å."""
    heights = np.empty(3)
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        area = lengths[i] * lengths[j] * math.sin(math.radians(angles[k]))
        heights[k] = volume / area
    return heights


@njit(cache=True, nogil=True)
def square(metric, x, y, z):
    """Return the square of the length of a fractional vector, Å²."""
    return (
        metric[0, 0] * x * x
        + metric[1, 1] * y * y
        + metric[2, 2] * z * z
        + 2.0 * (metric[1, 2] * y * z + metric[0, 2] * x * z + metric[0, 1] * x * y)
    )


@njit(cache=True, nogil=True)
def wrapped(value):
    """Return a fractional coordinate in [0, 1)."""
    value -= math.floor(value)
    return 0.0 if value >= 1.0 else value


@njit(cache=True, nogil=True)
def _image(rotation, translation, point, out):
    for k in range(3):
        value = translation[k]
        for j in range(3):
            value += rotation[k, j] * point[j]
        out[k] = wrapped(value)


@njit(cache=True, nogil=True)
def _cluster(points, start, metric, heights, reach, seen, cells, queue):
    """Gather all points that are linked to one, each nearer to the next than ``reach``.

    Writes the members into ``queue`` and the cell that each is met in into ``cells``. Returns how
    many there are; -1 if the links lead back to a point in another cell.
    """
    n = len(points)
    for i in range(n):
        seen[i] = False
    seen[start] = True
    cells[start, 0] = cells[start, 1] = cells[start, 2] = 0
    queue[0] = start
    size, at = 1, 0
    low = np.empty(3, np.int64)
    high = np.empty(3, np.int64)
    gap = np.empty(3)
    while at < size:
        a = queue[at]
        at += 1
        for b in range(n):
            possible = True
            for k in range(3):
                gap[k] = points[b, k] - points[a, k]
                width = reach / heights[k]
                low[k] = math.ceil(-width - gap[k])
                high[k] = math.floor(width - gap[k])
                if low[k] > high[k]:
                    possible = False
                    break
            if not possible:
                continue
            for u in range(low[0], high[0] + 1):
                for v in range(low[1], high[1] + 1):
                    for w in range(low[2], high[2] + 1):
                        if a == b and u == 0 and v == 0 and w == 0:
                            continue
                        far = square(metric, gap[0] + u, gap[1] + v, gap[2] + w)
                        if far >= reach * reach:
                            continue
                        x, y, z = cells[a, 0] + u, cells[a, 1] + v, cells[a, 2] + w
                        if not seen[b]:
                            seen[b] = True
                            cells[b, 0], cells[b, 1], cells[b, 2] = x, y, z
                            queue[size] = b
                            size += 1
                        elif cells[b, 0] != x or cells[b, 1] != y or cells[b, 2] != z:
                            return -1
    return size


@njit(cache=True, nogil=True)
def settle(groups, lengths, angles, offsets, numbers, coords, starts, turns, shifts, reaches):
    """Move sites onto the mean of what is nearer than their element's reach, until nothing is.

    Args:
        groups: (n,), space groups.
        lengths: (n, 3), Å.
        angles: (n, 3), degrees.
        offsets: (n + 1,), base sites of each unit.
        numbers: (m,), atomic numbers.
        coords: (m, 3), fractional.
        starts: (232,), first operation of each group.
        turns: (k, 3, 3), rotations.
        shifts: (k, 3), translations.
        reaches: (119,), Å, of each element.

    Returns:
        Coordinates (m, 3); how many atoms each site stands for, (m,), 0 if another stands for it
        too; how many base sites of its element, itself included, were within reach at some time,
        (m,); a code for each unit, (n,).
    """
    n = len(groups)
    found = coords.copy()
    sizes = np.zeros(len(coords), np.int64)
    joined = np.ones(len(coords), np.int64)
    codes = np.zeros(n, np.uint8)
    new = np.empty((0, 3))
    for i in range(n):
        begin, end = offsets[i], offsets[i + 1]
        first = starts[groups[i]]
        order = starts[groups[i] + 1] - first
        metric, volume = metric_of(lengths[i], angles[i])
        if not volume > _MIN_VOLUME:
            codes[i] = NO_CELL
            continue
        heights = heights_of(lengths[i], angles[i], volume)
        finite = True
        for s in range(begin, end):
            for k in range(3):
                if not abs(coords[s, k]) < 1e6:
                    finite = False
        if not finite:
            codes[i] = NOT_FINITE
            continue
        points = np.empty(((end - begin) * order, 3))
        owners = np.empty((end - begin) * order, np.int64)
        seen = np.empty(len(points), np.bool_)
        cells = np.empty((len(points), 3), np.int64)
        queue = np.empty(len(points), np.int64)
        met = np.zeros((end - begin, end - begin), np.bool_)
        done = np.zeros(119, np.bool_)
        for s in range(begin, end):
            z = numbers[s]
            if done[z] or codes[i]:
                continue
            done[z] = True
            reach = reaches[z]
            thin = False
            for k in range(3):
                if reach > _MOST_CELLS * heights[k]:
                    thin = True
            if thin:
                codes[i] = ENDLESS
                continue
            settled = False
            for _ in range(_ROUNDS):
                count = 0
                for t in range(begin, end):
                    if numbers[t] != z:
                        continue
                    for g in range(order):
                        _image(turns[first + g], shifts[first + g], found[t], points[count])
                        owners[count] = t
                        count += 1
                here = points[:count]
                settled = True
                new = found[begin:end].copy()
                for base in range(0, count, order):
                    t = owners[base]
                    size = _cluster(here, base, metric, heights, reach, seen, cells, queue)
                    if size < 0:
                        codes[i] = ENDLESS
                        break
                    mean = np.zeros(3)
                    for q in range(size):
                        b = queue[q]
                        for k in range(3):
                            mean[k] += (here[b, k] - here[base, k] + cells[b, k]) / size
                    sizes[t] = 0
                    earliest = t
                    for q in range(size):
                        b = queue[q]
                        far = square(
                            metric,
                            here[b, 0] - here[base, 0] + cells[b, 0],
                            here[b, 1] - here[base, 1] + cells[b, 1],
                            here[b, 2] - here[base, 2] + cells[b, 2],
                        )
                        if far > _SAME * _SAME:
                            settled = False
                        met[t - begin, owners[b] - begin] = True
                        earliest = min(earliest, owners[b])
                        if owners[b] == t:
                            sizes[t] += 1
                    sizes[t] = order // sizes[t] if earliest == t else 0
                    for k in range(3):
                        value = here[base, k] + mean[k]
                        new[t - begin, k] = wrapped(value)
                found[begin:end] = new
                if codes[i] or settled:
                    break
            if not settled and not codes[i]:
                codes[i] = UNSETTLED
        for s in range(begin, end):
            joined[s] = met[s - begin].sum()
        if codes[i]:
            sizes[begin:end] = 0
    return found, sizes, joined, codes


@njit(cache=True, nogil=True)
def expand(groups, lengths, angles, offsets, coords, sizes, starts, turns, shifts):
    """List the images of settled sites, each once.

    Args:
        groups: (n,), space groups.
        lengths: (n, 3), Å.
        angles: (n, 3), degrees.
        offsets: (n + 1,), base sites of each unit.
        coords: (m, 3), settled.
        sizes: (m,), how many atoms each stands for.
        starts: (232,), first operation of each group.
        turns: (k, 3, 3), rotations.
        shifts: (k, 3), translations.

    Returns:
        Coordinates (sum of sizes, 3), in [0, 1), site after site.
    """
    out = np.empty((sizes.sum(), 3))
    point = np.empty(3)
    at = 0
    for i in range(len(groups)):
        metric, _ = metric_of(lengths[i], angles[i])
        first = starts[groups[i]]
        order = starts[groups[i] + 1] - first
        for s in range(offsets[i], offsets[i + 1]):
            begin = at
            for g in range(order):
                if at - begin == sizes[s]:
                    break
                _image(turns[first + g], shifts[first + g], coords[s], point)
                known = False
                for b in range(begin, at):
                    x, y, z = point[0] - out[b, 0], point[1] - out[b, 1], point[2] - out[b, 2]
                    far = square(metric, x - np.rint(x), y - np.rint(y), z - np.rint(z))
                    if far < 100.0 * _SAME * _SAME:
                        known = True
                        break
                if not known:
                    out[at] = point
                    at += 1
    return out


@njit(cache=True, nogil=True)
def orbit(turns, shifts, point, metric, near):
    """Return a point with exactly the symmetry that it has within ``near``, Å, and its images.

    Args:
        turns: (g, 3, 3), rotations.
        shifts: (g, 3), translations.
        point: (3,), fractional.
        metric: (3, 3), Å².
        near: Å; images nearer than that are one.

    Returns:
        The point (3,), and its images, (k, 3), in [0, 1), each once.
    """
    order = len(turns)
    exact = np.zeros(3)
    count = 0
    gap = np.empty(3)
    for g in range(order):
        for k in range(3):
            value = shifts[g, k]
            for j in range(3):
                value += turns[g, k, j] * point[j]
            gap[k] = value - point[k]
            gap[k] -= np.rint(gap[k])
        if square(metric, gap[0], gap[1], gap[2]) < near * near:
            exact += gap
            count += 1
    exact = point + exact / count
    images = np.empty((order, 3))
    image = np.empty(3)
    size = 0
    for g in range(order):
        _image(turns[g], shifts[g], exact, image)
        known = False
        for b in range(size):
            for k in range(3):
                gap[k] = image[k] - images[b, k]
                gap[k] -= np.rint(gap[k])
            if square(metric, gap[0], gap[1], gap[2]) < near * near:
                known = True
                break
        if not known:
            images[size] = image
            size += 1
    return exact, images[:size].copy()


@njit(cache=True, nogil=True)
def place(images, multiplicities, projections, offsets, within):
    """Find the Wyckoff position of an orbit, and the image that stands for it.

    Args:
        images: (k, 3), in [0, 1), each once.
        multiplicities: (p,), of the group's positions.
        projections: (p, 3, 3).
        offsets: (p, 3).
        within: how far, in fractions of the cell, a point may lie off a position.

    Returns:
        The position, -1 for none, and a point (3,) in [0, 1): of the images on the first of the
        position the smallest, put there exactly.
    """
    chosen = np.zeros(3)
    point = np.empty(3)
    for p in range(len(multiplicities)):
        if multiplicities[p] != len(images):
            continue
        found = False
        for b in range(len(images)):
            on = False
            for u in range(-2, 3):
                for v in range(-2, 3):
                    for w in range(-2, 3):
                        x, y, z = images[b, 0] + u, images[b, 1] + v, images[b, 2] + w
                        off = 0.0
                        for k in range(3):
                            value = (
                                projections[p, k, 0] * x
                                + projections[p, k, 1] * y
                                + projections[p, k, 2] * z
                                + offsets[p, k]
                            )
                            point[k] = value
                        off = max(abs(point[0] - x), abs(point[1] - y), abs(point[2] - z))
                        if off < within:
                            on = True
                            break
                    if on:
                        break
                if on:
                    break
            if not on:
                continue
            for k in range(3):
                point[k] = wrapped(point[k])
                if point[k] > 1.0 - _ROUNDING:
                    point[k] = 0.0
            smaller = not found
            if found:
                for k in range(3):
                    if abs(point[k] - chosen[k]) > within:
                        smaller = point[k] < chosen[k]
                        break
            if smaller:
                chosen[:] = point
            found = True
        if found:
            return p, chosen
    return -1, chosen
