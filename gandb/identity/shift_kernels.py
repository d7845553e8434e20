"""Whether one shift brings every site near one of its kind: by halving boxes of shifts.

See `gandb.identity.bounds` for what it serves.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import math

import numpy as np

from gandb.core.compiled import inner

_HALVINGS = 4  # of the box of shifts; what is left then may hold one
_PER_SITE = 64  # vectors that there is room for
_DEEPEST = 8 * (_HALVINGS + 1)


@inner
def may_be_shifted(one, two, ends, metric, box, largest, mean_square):
    """Whether a shift may bring each site of the second cell near one of its kind in the first.

    Near is less than ``largest`` for each, and a mean square below ``mean_square`` for all. No is
    certain; yes is not.

    Args:
        one: float64 (n, 3), fractional coordinates of the first, sorted by kind.
        two: the same of the second.
        ends: where the sites of each kind end.
        metric: (6,), of the lattice: aa, bb, cc, bc, ac, ab.
        box: (3,), half width in fractions of the box around a sphere of twice ``largest``.
        largest: Å; the shift itself is shorter.
        mean_square: Å².
    """
    n = len(two)
    vectors = np.empty((_PER_SITE * n, 3))
    starts = np.empty(n + 1, np.int64)
    count = _list_vectors(one, two, ends, metric, box, 4.0 * largest * largest, vectors, starts)
    if count == -2:
        return True
    if count < 0:
        return False
    stack = np.empty((_DEEPEST, 4))
    stack[0] = 0.0, 0.0, 0.0, largest
    held = 1
    hard = np.int64(0)  # the site that failed last is looked at first
    narrow = largest * 0.5**_HALVINGS * 1.5
    while held:
        held -= 1
        x, y, z, half = stack[held]
        slack = math.sqrt(3.0) * half
        if math.sqrt(x * x + y * y + z * z) > largest + slack:
            continue
        failed = _fails(vectors, starts, hard, x, y, z, slack, largest, n * mean_square)
        if failed >= 0:
            hard = failed
            continue
        if half < narrow:
            return True
        for corner in range(8):
            stack[held, 0] = x + (0.5 if corner & 1 else -0.5) * half
            stack[held, 1] = y + (0.5 if corner & 2 else -0.5) * half
            stack[held, 2] = z + (0.5 if corner & 4 else -0.5) * half
            stack[held, 3] = 0.5 * half
            held += 1
    return False


@inner
def _fails(vectors, starts, hard, x, y, z, slack, largest, total):
    """Return a site that no shift in a box brings near enough, or the last one of all; else -1."""
    n = len(starts) - 1
    limit = (largest + slack) ** 2
    spent = 0.0
    for k in range(n):
        site = (hard + k) % n
        least = math.inf
        for row in range(starts[site], starts[site + 1]):
            dx, dy, dz = vectors[row, 0] - x, vectors[row, 1] - y, vectors[row, 2] - z
            least = min(least, dx * dx + dy * dy + dz * dz)
        if least > limit:
            return site
        beyond = math.sqrt(least) - slack
        if beyond > 0.0:
            spent += beyond * beyond
            if spent > total:
                return site
    return -1


@inner
def _list_vectors(one, two, ends, metric, box, farthest, vectors, starts):
    """List all vectors from each site to those of its kind, images too, up to a square.

    Returns how many; -1 if a site has none, -2 if there is no room.
    """
    ax = math.sqrt(metric[0])
    bx = metric[5] / ax
    by = math.sqrt(max(metric[1] - bx * bx, 0.0))
    cx = metric[4] / ax
    cy = (metric[3] - bx * cx) / by
    cz = math.sqrt(max(metric[2] - cx * cx - cy * cy, 0.0))
    # Of fractions in [-1/2, 1/2], images farther than this lie outside the box.
    p, q, r = math.floor(box[0] + 0.5), math.floor(box[1] + 0.5), math.floor(box[2] + 0.5)
    found = 0
    begin = 0
    for end in ends:
        for site in range(begin, end):
            starts[site] = found
            for other in range(begin, end):
                u = one[other, 0] - two[site, 0]
                v = one[other, 1] - two[site, 1]
                w = one[other, 2] - two[site, 2]
                u, v, w = u - round(u), v - round(v), w - round(w)
                for i in range(-p, p + 1):
                    for j in range(-q, q + 1):
                        for k in range(-r, r + 1):
                            fx, fy, fz = u + i, v + j, w + k
                            x = fx * ax + fy * bx + fz * cx
                            y = fy * by + fz * cy
                            z = fz * cz
                            if x * x + y * y + z * z > farthest:
                                continue
                            if found == len(vectors):
                                return -2
                            vectors[found, 0], vectors[found, 1], vectors[found, 2] = x, y, z
                            found += 1
            if found == starts[site]:
                return -1
        begin = end
    starts[len(starts) - 1] = found
    return found
