"""Compiled search for the Niggli cell of a lattice.

Lattices are float64 (3, 3) with rows a, b, c in Å. The parameters of the cell are found by the
steps A1 to A8 of Grosse-Kunstleve, Sauter & Adams, Acta Cryst. A60, 1 (2004),
doi:10.1107/S010876730302186X, on the metric alone, from a basis reduced as by Lenstra, Lenstra &
Lovász, doi:10.1007/BF01457454. Which of the many vectors of the right lengths and angles become its
a, b and c is a convention: the first that fit, in the order in which pymatgen's neighbour search
lists points around the origin.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gandb.core.compiled import inner

_NIGGLI_TOLERANCE = 1e-5  # of lengths, per cube root of the volume
_DELTA = 0.75  # of the Lovász condition
_MOST_STEPS = 100  # of the Niggli reduction
_MOST_SWAPS = 10_000  # of the reduction before it
_ANGLE_TOLERANCE = 1.0  # degrees
_EDGE = 1e-8  # Å, by which boxes of the neighbour search are widened
_HALF_RANGE = 1 << 18  # beyond any count of lattice vectors within a sphere


@njit(cache=True, nogil=True)
def niggli_cell(lattice: np.ndarray) -> tuple[bool, np.ndarray]:
    """Return whether a right-handed Niggli cell was found, and that cell."""
    volume = abs(_determinant(lattice))
    tolerance = _NIGGLI_TOLERANCE * volume ** (1 / 3)
    settled, basis, numbers = _lll(lattice)
    if not settled:
        return False, lattice
    fits, lengths, angles = _niggli_parameters(basis, tolerance)
    if not fits:
        return False, lattice

    longest = max(lengths[0], lengths[1], lengths[2])
    counts_a, places_a = _vectors(lattice, basis, numbers, lengths[0], longest, tolerance)
    counts_b, places_b = _vectors(lattice, basis, numbers, lengths[1], longest, tolerance)
    counts_c, places_c = _vectors(lattice, basis, numbers, lengths[2], longest, tolerance)
    first = np.zeros((3, 3))
    found = False
    for i in range(len(places_a)):
        for j in range(len(places_b)):
            if not _near_angle(places_a[i], places_b[j], angles[2]):
                continue
            for k in range(len(places_c)):
                if not _near_angle(places_b[j], places_c[k], angles[0]):
                    continue
                if not _near_angle(places_a[i], places_c[k], angles[1]):
                    continue
                hand = _triple(counts_a[i], counts_b[j], counts_c[k])
                if hand == 0 or (found and hand < 0):
                    continue
                found = True
                for d in range(3):
                    first[0, d] = places_a[i, d]
                    first[1, d] = places_b[j, d]
                    first[2, d] = places_c[k, d]
                if hand > 0:
                    return True, _right_handed(first)
    return found, _right_handed(first)


@inner
def _right_handed(lattice: np.ndarray) -> np.ndarray:
    """Invert a left-handed lattice, in place."""
    if _determinant(lattice) < 0:
        for i in range(3):
            for j in range(3):
                lattice[i, j] = -lattice[i, j]
    return lattice


@inner
def _lll(lattice: np.ndarray) -> tuple[bool, np.ndarray, np.ndarray]:
    """Return whether it ended, the reduced basis, and its vectors as whole numbers of a, b, c."""
    basis = lattice.copy()
    numbers = np.eye(3, dtype=np.int64)
    star = np.zeros((3, 3))  # the orthogonal vectors,
    norms = np.zeros(3)  # their squares,
    mu = np.zeros((3, 3))  # and the basis in terms of them
    for i in range(3):
        _orthogonalise(basis, star, norms, mu, i)
    k = 1
    for _ in range(_MOST_SWAPS):
        for i in range(k - 1, -1, -1):
            q = np.rint(mu[k, i])
            if q != 0:
                for j in range(3):
                    basis[k, j] -= q * basis[i, j]
                    numbers[k, j] -= np.int64(q) * numbers[i, j]
                for j in range(i):
                    mu[k, j] -= q * mu[i, j]
                mu[k, i] -= q
        if norms[k] >= (_DELTA - mu[k, k - 1] ** 2) * norms[k - 1]:
            k += 1
            if k == 3:
                return True, basis, numbers
            continue
        for j in range(3):
            basis[k, j], basis[k - 1, j] = basis[k - 1, j], basis[k, j]
            numbers[k, j], numbers[k - 1, j] = numbers[k - 1, j], numbers[k, j]
        _orthogonalise(basis, star, norms, mu, k - 1)
        _orthogonalise(basis, star, norms, mu, k)
        if k == 1:
            for j in range(2):
                mu[2, j] = dot(basis[2], star[j]) / norms[j]
        else:
            k = 1
    return False, basis, numbers


@inner
def _orthogonalise(
    basis: np.ndarray, star: np.ndarray, norms: np.ndarray, mu: np.ndarray, i: int
) -> None:
    """Work out what belongs to vector i from those before it."""
    for j in range(i):
        mu[i, j] = dot(basis[i], star[j]) / norms[j]
    for d in range(3):
        along = 0.0
        for j in range(i):
            along += star[j, d] * mu[i, j]
        star[i, d] = basis[i, d] - along
    norms[i] = dot(star[i], star[i])


@inner
def _niggli_parameters(basis: np.ndarray, eps: float) -> tuple[bool, np.ndarray, np.ndarray]:
    """Return whether there are any, lengths (Å) and angles (degrees) of the Niggli cell.

    As in the paper, xi, eta and zeta are twice the products b·c, a·c and a·b; aa, bb and cc are
    the squares of the lengths.
    """
    aa, bb, cc = dot(basis[0], basis[0]), dot(basis[1], basis[1]), dot(basis[2], basis[2])
    xi = 2 * dot(basis[1], basis[2])
    eta = 2 * dot(basis[0], basis[2])
    zeta = 2 * dot(basis[0], basis[1])
    for _ in range(_MOST_STEPS):
        if bb + eps < aa or (abs(aa - bb) < eps and abs(xi) > abs(eta) + eps):  # A1
            aa, bb, xi, eta = bb, aa, eta, xi
        if cc + eps < bb or (abs(bb - cc) < eps and abs(eta) > abs(zeta) + eps):  # A2
            bb, cc, eta, zeta = cc, bb, zeta, eta
            continue
        xi, eta, zeta = _signed(xi, eta, zeta, eps)  # A3, A4
        if _overlong(xi, bb, zeta, eta, eps):  # A5: c - b or c + b
            sign = math.copysign(1.0, xi)
            cc += bb - sign * xi
            eta -= sign * zeta
            xi -= 2 * sign * bb
        elif _overlong(eta, aa, zeta, xi, eps):  # A6: c - a or c + a
            sign = math.copysign(1.0, eta)
            cc += aa - sign * eta
            xi -= sign * zeta
            eta -= 2 * sign * aa
        elif _overlong(zeta, aa, eta, xi, eps):  # A7: b - a or b + a
            sign = math.copysign(1.0, zeta)
            bb += aa - sign * zeta
            xi -= sign * eta
            zeta -= 2 * sign * aa
        else:
            rest = xi + eta + zeta + aa + bb
            if rest < -eps or (abs(rest) < eps and 2 * (aa + eta) + zeta > eps):  # A8: a + b + c
                cc += rest
                xi += 2 * bb + zeta
                eta += 2 * aa + zeta
            else:
                break
    lengths, angles = np.zeros(3), np.zeros(3)
    if min(aa, bb, cc) <= 0:
        return False, lengths, angles
    a, b, c = math.sqrt(aa), math.sqrt(bb), math.sqrt(cc)
    cosines = (xi / 2 / b / c, eta / 2 / a / c, zeta / 2 / a / b)
    lengths[0], lengths[1], lengths[2] = a, b, c
    for i in range(3):
        if abs(cosines[i]) > 1:
            return False, lengths, angles
        angles[i] = math.degrees(math.acos(cosines[i]))
    return True, lengths, angles


@inner
def _overlong(product: float, square: float, first: float, second: float, eps: float) -> bool:
    """Whether a vector gets shorter, or nearer to the normal form, less another one."""
    return (
        abs(product) > square + eps
        or (abs(product - square) < eps and 2 * second < first - eps)
        or (abs(product + square) < eps and first < -eps)
    )


@inner
def _signed(xi: float, eta: float, zeta: float, eps: float) -> tuple[float, float, float]:
    """Turn vectors about until all three products are positive, or none is."""
    above = (xi >= eps) + (eta >= eps) + (zeta >= eps)
    below = (xi <= -eps) + (eta <= -eps) + (zeta <= -eps)
    if above + below == 3 and below % 2 == 0:
        return abs(xi), abs(eta), abs(zeta)
    # Vectors are inverted whose opposite products are above 0; an even number of them, so that
    # the hand stays, by one whose opposite product is about 0.
    i = -1.0 if xi >= eps else 1.0
    j = -1.0 if eta >= eps else 1.0
    k = -1.0 if zeta >= eps else 1.0
    if i * j * k < 0:
        if abs(zeta) < eps:
            k = -1.0
        elif abs(eta) < eps:
            j = -1.0
        else:
            i = -1.0
    return xi * j * k, eta * i * k, zeta * i * j


@inner
def _vectors(
    lattice: np.ndarray,
    basis: np.ndarray,
    numbers: np.ndarray,
    length: float,
    longest: float,
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Find all lattice vectors of about one length, in the order of the search.

    Returns:
        Whole numbers of a, b, c, int64 (m, 3), and Cartesian vectors, float64 (m, 3).
    """
    most, least = 1 + tolerance, 1 / (1 + tolerance)
    outer, inner = length * most * (1 + 1e-9), length * least * (1 - 1e-9)
    reach = longest * most
    if reach < 1.0:
        reach = 1.0 + _EDGE
    # The range of each number is that of the sphere; the widest is solved for.
    inverse = inverse_of(basis)
    ranges = np.empty(3)
    for i in range(3):
        ranges[i] = outer * math.sqrt(inverse[0, i] ** 2 + inverse[1, i] ** 2 + inverse[2, i] ** 2)
    z = int(np.argmax(ranges))
    x, y = (z + 1) % 3, (z + 2) % 3
    square = dot(basis[z], basis[z])

    counts = np.empty((16, 3), np.int64)
    places = np.empty((16, 3))
    m = 0
    for p in range(-int(ranges[x]), int(ranges[x]) + 1):
        for q in range(-int(ranges[y]), int(ranges[y]) + 1):
            along, rest = 0.0, 0.0
            for d in range(3):
                value = p * basis[x, d] + q * basis[y, d]
                along += value * basis[z, d]
                rest += value * value
            under = along * along - square * (rest - outer * outer)
            if under < 0:
                continue
            root = math.sqrt(under)
            low = math.ceil((-along - root) / square - 1e-6)
            high = math.floor((-along + root) / square + 1e-6)
            # Between these is the inside of the shell.
            gap_from, gap_to = high + 1, high + 1
            under = along * along - square * (rest - inner * inner)
            if under > 0:
                root = math.sqrt(under)
                gap_from = math.ceil((-along - root) / square + 1e-6)
                gap_to = math.floor((-along + root) / square - 1e-6)
            r = low
            while r <= high:
                if gap_from <= r <= gap_to:
                    r = gap_to + 1
                    continue
                i, j, k = _combined(numbers, x, p, y, q, z, r)
                r += 1
                if max(abs(i), abs(j), abs(k)) >= _HALF_RANGE:
                    continue
                total = 0.0
                if m == len(counts):
                    counts, places = _longer(counts), _longer(places)
                for d in range(3):
                    value = i * lattice[0, d] + j * lattice[1, d] + k * lattice[2, d]
                    places[m, d] = value
                    total += value * value
                ratio = math.sqrt(total) / length
                if least < ratio < most:
                    counts[m, 0], counts[m, 1], counts[m, 2] = i, j, k
                    m += 1
    keys = np.empty(m, np.int64)
    for at in range(m):
        box = 0
        for d in range(3):
            box = 3 * box + math.floor((places[at, d] + reach + _EDGE + 1e-8) / reach)
        keys[at] = _search_key(box, counts[at, 0], counts[at, 1], counts[at, 2])
    ranks = sorted_order(keys)
    listed, found = np.empty((m, 3), np.int64), np.empty((m, 3))
    for at in range(m):
        for d in range(3):
            listed[at, d], found[at, d] = counts[ranks[at], d], places[ranks[at], d]
    return listed, found


@inner
def _longer(rows: np.ndarray) -> np.ndarray:
    """Return the same rows with as many again behind them, not filled."""
    found = np.empty((2 * len(rows), 3), rows.dtype)
    for i in range(len(rows)):
        for d in range(3):
            found[i, d] = rows[i, d]
    return found


@inner
def sorted_order(keys: np.ndarray) -> np.ndarray:
    """Return the order (n,) that sorts keys (n,) without ties: Shell's sort, quick to compile."""
    order = np.arange(len(keys))
    gap = len(keys) // 2
    while gap > 0:
        for i in range(gap, len(keys)):
            moved = order[i]
            j = i
            while j >= gap and keys[order[j - gap]] > keys[moved]:
                order[j] = order[j - gap]
                j -= gap
            order[j] = moved
        gap = 1 if gap == 2 else int(gap / 2.2)
    return order


@inner
def _combined(
    numbers: np.ndarray, x: int, p: int, y: int, q: int, z: int, r: int
) -> tuple[int, int, int]:
    """Return p, q and r of three basis vectors as whole numbers of a, b, c."""
    return (
        p * numbers[x, 0] + q * numbers[y, 0] + r * numbers[z, 0],
        p * numbers[x, 1] + q * numbers[y, 1] + r * numbers[z, 1],
        p * numbers[x, 2] + q * numbers[y, 2] + r * numbers[z, 2],
    )


@inner
def _search_key(box: int, i: int, j: int, k: int) -> int:
    """Return the place in the search: box by box, within each from the last image to the first."""
    width = 2 * _HALF_RANGE
    return ((box * width + _HALF_RANGE - i) * width + _HALF_RANGE - j) * width + _HALF_RANGE - k


@inner
def _near_angle(u: np.ndarray, v: np.ndarray, angle: float) -> bool:
    cosine = dot(u, v) / math.sqrt(dot(u, u)) / math.sqrt(dot(v, v))
    found = math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
    return abs(found - angle) <= _ANGLE_TOLERANCE


# --- vectors -----------------------------------------------------------------------------


@inner
def dot(u: np.ndarray, v: np.ndarray) -> float:
    """Return the inner product of two vectors (3,)."""
    product: float = u[0] * v[0] + u[1] * v[1] + u[2] * v[2]
    return product


@inner
def _triple(u: np.ndarray, v: np.ndarray, w: np.ndarray) -> float:
    """Return the determinant of three rows."""
    product: float = (
        u[0] * (v[1] * w[2] - v[2] * w[1])
        - u[1] * (v[0] * w[2] - v[2] * w[0])
        + u[2] * (v[0] * w[1] - v[1] * w[0])
    )
    return product


@inner
def _determinant(matrix: np.ndarray) -> float:
    return _triple(matrix[0], matrix[1], matrix[2])


@inner
def inverse_of(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse of a matrix (3, 3) by its cofactors."""
    found = np.empty((3, 3))
    det = _determinant(matrix)
    for i in range(3):
        p, q = (i + 1) % 3, (i + 2) % 3
        for j in range(3):
            r, s = (j + 1) % 3, (j + 2) % 3
            found[j, i] = (matrix[p, r] * matrix[q, s] - matrix[p, s] * matrix[q, r]) / det
    return found
