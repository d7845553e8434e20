"""Compiled search for the bases of one lattice that are like another, and their mean lattice.

Metric tensors are float64 (6,): aa, bb, cc, bc, ac, ab in Å². A map is a row of float64 (16,):
three lattice points in whole coordinates (9), their lengths (3), the cosines of alpha, beta and
gamma (3), and how far that is from the other lattice.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import math

import numpy as np

from gandb.core.compiled import inner

_SHIFT = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to whole numbers
_SLACK = 1e-9  # of cosines; nearer to a bound than this, angles themselves are compared


@inner
def nearest_whole(x):
    """Return the nearest whole number."""
    return (x + _SHIFT) - _SHIFT


@inner
def square_length(metric, x, y, z):
    """Squared length of a fractional vector."""
    return (
        x * (x * metric[0] + 2.0 * (y * metric[5] + z * metric[4]))
        + y * (y * metric[1] + 2.0 * z * metric[3])
        + z * z * metric[2]
    )


@inner
def determinant(m):
    """Determinant of a matrix (3, 3)."""
    return (
        m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1])
        - m[0, 1] * (m[1, 0] * m[2, 2] - m[1, 2] * m[2, 0])
        + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0])
    )


@inner
def _cosine_bounds(cosine, tolerance):
    """Return an angle (degrees) and the cosines of the farthest ones within a tolerance."""
    angle = math.degrees(math.acos(min(1.0, max(-1.0, cosine))))
    low = -2.0 if angle + tolerance >= 180.0 else math.cos(math.radians(angle + tolerance))
    high = 2.0 if angle - tolerance <= 0.0 else math.cos(math.radians(angle - tolerance))
    return angle, low, high


@inner
def _near_angle(cosine, angle, low, high, tolerance):
    if cosine < low - _SLACK or cosine > high + _SLACK:
        return False
    if cosine > low + _SLACK and cosine < high - _SLACK:
        return True
    return abs(math.degrees(math.acos(min(1.0, max(-1.0, cosine)))) - angle) <= tolerance


@inner
def lattice_points(lattice, target, ltol, points, masks):
    """Find the points of a lattice that are about as long as one of three lengths.

    Fills ``points`` (k, 7) with whole coordinates, Cartesian coordinates and length, ``masks`` (k,)
    with one bit for each of the three lengths. Returns how many there are, even if that is more
    than there is room for.
    """
    longest = max(target[0], target[1], target[2]) * (1.0 + ltol)
    shortest = min(target[0], target[1], target[2]) / (1.0 + ltol)
    volume = abs(determinant(lattice))
    most = np.empty(3, np.int64)
    for i in range(3):
        u = lattice[(i + 1) % 3]
        v = lattice[(i + 2) % 3]
        x = u[1] * v[2] - u[2] * v[1]
        y = u[2] * v[0] - u[0] * v[2]
        z = u[0] * v[1] - u[1] * v[0]
        most[i] = int(longest * math.sqrt(x * x + y * y + z * z) / volume + 1e-6)
    low = (shortest * (1.0 - 1e-9)) ** 2
    high = (longest * (1.0 + 1e-9)) ** 2
    found = 0
    for i in range(-most[0], most[0] + 1):
        for j in range(-most[1], most[1] + 1):
            x0 = i * lattice[0, 0] + j * lattice[1, 0]
            y0 = i * lattice[0, 1] + j * lattice[1, 1]
            z0 = i * lattice[0, 2] + j * lattice[1, 2]
            for k in range(-most[2], most[2] + 1):
                x = x0 + k * lattice[2, 0]
                y = y0 + k * lattice[2, 1]
                z = z0 + k * lattice[2, 2]
                square = x * x + y * y + z * z
                if square < low or square > high:
                    continue
                length = math.sqrt(square)
                mask = 0
                for axis in range(3):
                    ratio = length / target[axis]
                    if ratio < 1.0 + ltol and ratio > 1.0 / (1.0 + ltol):
                        mask |= 1 << axis
                if mask == 0:
                    continue
                if found < len(points):
                    point = points[found]
                    point[0], point[1], point[2] = i, j, k
                    point[3], point[4], point[5] = x, y, z
                    point[6] = length
                    masks[found] = mask
                found += 1
    return found


@inner
def lattice_maps(points, masks, count, target, cosines, atol, maps):
    """Find the bases among lattice points whose lengths and angles are near a target's.

    Of a basis and its inverse only one is listed. Fills ``maps`` (k, 16) with the whole coordinates
    of the three vectors, their lengths, the cosines of alpha, beta, gamma, and how far it is from
    the target. Returns how many there are, even if that is more than there is room for.
    """
    alpha, alpha_low, alpha_high = _cosine_bounds(cosines[0], atol)
    beta, beta_low, beta_high = _cosine_bounds(cosines[1], atol)
    gamma, gamma_low, gamma_high = _cosine_bounds(cosines[2], atol)
    found = 0
    for i in range(count):
        if masks[i] & 1 == 0:
            continue
        a = points[i]
        if a[0] < 0 or (a[0] == 0 and (a[1] < 0 or (a[1] == 0 and a[2] < 0))):
            continue
        for j in range(count):
            if masks[j] & 2 == 0:
                continue
            b = points[j]
            cos_gamma = (a[3] * b[3] + a[4] * b[4] + a[5] * b[5]) / (a[6] * b[6])
            if not _near_angle(cos_gamma, gamma, gamma_low, gamma_high, atol):
                continue
            x = a[1] * b[2] - a[2] * b[1]
            y = a[2] * b[0] - a[0] * b[2]
            z = a[0] * b[1] - a[1] * b[0]
            if x == 0.0 and y == 0.0 and z == 0.0:
                continue
            for k in range(count):
                if masks[k] & 4 == 0:
                    continue
                c = points[k]
                if abs(x * c[0] + y * c[1] + z * c[2]) != 1.0:
                    continue
                cos_alpha = (b[3] * c[3] + b[4] * c[4] + b[5] * c[5]) / (b[6] * c[6])
                if not _near_angle(cos_alpha, alpha, alpha_low, alpha_high, atol):
                    continue
                cos_beta = (a[3] * c[3] + a[4] * c[4] + a[5] * c[5]) / (a[6] * c[6])
                if not _near_angle(cos_beta, beta, beta_low, beta_high, atol):
                    continue
                if found < len(maps):
                    row = maps[found]
                    for axis in range(3):
                        row[axis] = a[axis]
                        row[3 + axis] = b[axis]
                        row[6 + axis] = c[axis]
                    row[9], row[10], row[11] = a[6], b[6], c[6]
                    row[12], row[13], row[14] = cos_alpha, cos_beta, cos_gamma
                    row[15] = (
                        abs(a[6] / target[0] - 1.0)
                        + abs(b[6] / target[1] - 1.0)
                        + abs(c[6] / target[2] - 1.0)
                        + abs(cos_alpha - cosines[0])
                        + abs(cos_beta - cosines[1])
                        + abs(cos_gamma - cosines[2])
                    )
                found += 1
    return found


@inner
def _mean_cosine(one, two):
    """Cosine of the mean of two angles, by their cosines; exact for equal ones."""
    sines = math.sqrt(max(0.0, 1.0 - one * one) * max(0.0, 1.0 - two * two))
    half = math.sqrt(max(0.0, (1.0 + one * two + sines) / 2.0))  # cosine of half their difference
    return max(-1.0, min(1.0, (one + two) / (2.0 * half)))


@inner
def mean_lattice(row, target, cosines, metric):
    """Metric tensor of the lattice of mean lengths and angles (aa bb cc bc ac ab); its volume."""
    a = (row[9] + target[0]) / 2.0
    b = (row[10] + target[1]) / 2.0
    c = (row[11] + target[2]) / 2.0
    metric[0] = a * a
    metric[1] = b * b
    metric[2] = c * c
    metric[3] = b * c * _mean_cosine(row[12], cosines[0])
    metric[4] = a * c * _mean_cosine(row[13], cosines[1])
    metric[5] = a * b * _mean_cosine(row[14], cosines[2])
    return volume_of(metric)


@inner
def fill_metric(lengths, cosines, metric):
    """Fill the metric tensor of a lattice of three lengths and three cosines."""
    for i in range(3):
        metric[i] = lengths[i] * lengths[i]
        metric[3 + i] = lengths[(i + 1) % 3] * lengths[(i + 2) % 3] * cosines[i]


@inner
def whiten(metric, others, out):
    """Fill ``out`` (3, 3) with a metric tensor as it is where another one is the unit matrix.

    Its eigenvalues are the squares of the factors by which lengths on the other lattice change.
    """
    # Cholesky factor of the other one, and its inverse; both lower triangles.
    a = math.sqrt(others[0])
    b = others[5] / a
    c = others[4] / a
    d = math.sqrt(others[1] - b * b)
    e = (others[3] - b * c) / d
    f = math.sqrt(others[2] - c * c - e * e)
    inverse = np.zeros((3, 3))
    inverse[0, 0], inverse[1, 1], inverse[2, 2] = 1.0 / a, 1.0 / d, 1.0 / f
    inverse[1, 0] = -b / (a * d)
    inverse[2, 1] = -e / (d * f)
    inverse[2, 0] = (b * e - c * d) / (a * d * f)
    full = full_metric(metric)
    for i in range(3):
        for j in range(3):
            total = 0.0
            for k in range(3):
                for m in range(3):
                    total += inverse[i, k] * full[k, m] * inverse[j, m]
            out[i, j] = total
    return inverse


@inner
def full_metric(metric):
    """Return a metric tensor as a matrix (3, 3)."""
    full = np.empty((3, 3))
    full[0, 0], full[1, 1], full[2, 2] = metric[0], metric[1], metric[2]
    full[1, 2] = full[2, 1] = metric[3]
    full[0, 2] = full[2, 0] = metric[4]
    full[0, 1] = full[1, 0] = metric[5]
    return full


@inner
def strain_between(row, target, cosines):
    """Return a number by whose factor, up or down, no length differs between two lattices, less 1.

    Infinite where that factor could be large.
    """
    one = np.empty(6)
    two = np.empty(6)
    fill_metric(row[9:12], row[12:15], one)
    fill_metric(target, cosines, two)
    out = np.empty((3, 3))
    whiten(one, two, out)
    for i in range(3):
        out[i, i] -= 1.0
    change = math.sqrt((out * out).sum())  # no eigenvalue is farther from 1
    return 1.0 / math.sqrt(1.0 - change) - 1.0 if change < 0.5 else math.inf


@inner
def _squared(matrix):
    """Return a matrix (3, 3) times itself; numba's own product would ask for SciPy."""
    found = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                found[i, j] += matrix[i, k] * matrix[k, j]
    return found


@inner
def stretch_between(metric, others):
    """By what factor at most lengths on another lattice grow on this one."""
    out = np.empty((3, 3))
    whiten(metric, others, out)
    size = 1.0
    for _ in range(4):  # the trace of the sixteenth power, whose root is near the eigenvalue
        trace = out[0, 0] + out[1, 1] + out[2, 2]
        out /= trace
        size *= trace
        out = _squared(out)
        size *= size
    trace = size * (out[0, 0] + out[1, 1] + out[2, 2])
    return math.sqrt(trace ** (1.0 / 16.0))


@inner
def volume_of(g):
    """Volume of the cell of a metric tensor."""
    square = (
        g[0] * (g[1] * g[2] - g[3] * g[3])
        - g[5] * (g[5] * g[2] - g[3] * g[4])
        + g[4] * (g[5] * g[3] - g[1] * g[4])
    )
    return math.sqrt(max(0.0, square))


@inner
def fill_box(metric, volume, reach, box):
    """Half width, in fractions, of the box around a sphere."""
    box[0] = reach * math.sqrt(max(0.0, metric[1] * metric[2] - metric[3] * metric[3])) / volume
    box[1] = reach * math.sqrt(max(0.0, metric[0] * metric[2] - metric[4] * metric[4])) / volume
    box[2] = reach * math.sqrt(max(0.0, metric[0] * metric[1] - metric[5] * metric[5])) / volume


@inner
def reduce_mean(row, target, cosines, metric, reduced, basis, inverse):
    """Reduce the mean lattice as Lenstra, Lenstra & Lovász do, delta 3/4 (doi:10.1007/BF01457454).

    Where a vector lies just between two others, as in hexagonal lattices, last digits decide. So
    the lattice vectors are made as pymatgen makes them, of mean angles in degrees.

    Fills ``reduced`` with the new metric tensor, ``basis`` with the new vectors in the old ones,
    and ``inverse``, by which rows of old fractional coordinates are multiplied. Returns the square
    of a length below which no lattice vector is.
    """
    vectors = _mean_vectors(row, target, cosines)
    for i in range(3):
        for j in range(3):
            basis[i, j] = 1.0 if i == j else 0.0
    k = 1
    n0 = n1 = n2 = 0.0
    for _ in range(1000):
        # Gram-Schmidt vectors, coefficients and squared norms.
        first = vectors[0]
        n0 = _dot(first, first)
        u10 = _dot(vectors[1], first) / n0
        second = vectors[1] - u10 * first
        n1 = _dot(second, second)
        if k == 1:
            step = nearest_whole(u10)
            if step != 0.0:
                _subtract(vectors, basis, 1, 0, step)
                u10 -= step
            if n1 >= (0.75 - u10 * u10) * n0:
                k = 2
            else:
                _swap(vectors, basis, 0, 1)
            continue
        u20 = _dot(vectors[2], first) / n0
        u21 = _dot(vectors[2], second) / n1
        third = vectors[2] - (u20 * first + u21 * second)
        n2 = _dot(third, third)
        step = nearest_whole(u21)
        if step != 0.0:
            _subtract(vectors, basis, 2, 1, step)
            u20 -= step * u10
            u21 -= step
        step = nearest_whole(u20)
        if step != 0.0:
            _subtract(vectors, basis, 2, 0, step)
        if n2 >= (0.75 - u21 * u21) * n1:
            break
        _swap(vectors, basis, 1, 2)
        k = 1
    invert_basis(basis, determinant(basis), inverse)
    full = full_metric(metric)
    for i in range(3):
        for j in range(i, 3):
            total = 0.0
            for p in range(3):
                for q in range(3):
                    total += basis[i, p] * full[p, q] * basis[j, q]
            reduced[i if i == j else 6 - i - j] = total
    return min(n0, n1, n2)


@inner
def _mean_vectors(row, target, cosines):
    """Lattice vectors of mean lengths and angles: c along z, a in the xz plane."""
    cos, sin = np.empty(3), np.empty(3)
    for i in range(3):
        one = math.degrees(math.acos(max(-1.0, min(1.0, row[12 + i]))))
        two = math.degrees(math.acos(cosines[i]))
        angle = math.radians((one + two) / 2.0)
        cos[i], sin[i] = math.cos(angle), math.sin(angle)
    star = (cos[0] * cos[1] - cos[2]) / (sin[0] * sin[1])
    star = math.acos(max(-1.0, min(1.0, star)))
    a, b, c = (row[9] + target[0]) / 2.0, (row[10] + target[1]) / 2.0, (row[11] + target[2]) / 2.0
    vectors = np.zeros((3, 3))
    vectors[0, 0] = a * sin[1]
    vectors[0, 2] = a * cos[1]
    vectors[1, 0] = -b * sin[0] * math.cos(star)
    vectors[1, 1] = b * sin[0] * math.sin(star)
    vectors[1, 2] = b * cos[0]
    vectors[2, 2] = c
    return vectors


@inner
def _dot(u, v):
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


@inner
def invert_basis(m, sign, out):
    """Inverse of a whole matrix of determinant 1 or -1."""
    for i in range(3):
        p, q = (i + 1) % 3, (i + 2) % 3
        for j in range(3):
            r, s = (j + 1) % 3, (j + 2) % 3
            out[j, i] = sign * (m[p, r] * m[q, s] - m[p, s] * m[q, r])


@inner
def _subtract(vectors, basis, i, j, step):
    """Take ``step`` times vector j off vector i."""
    for x in range(3):
        vectors[i, x] -= step * vectors[j, x]
        basis[i, x] -= step * basis[j, x]


@inner
def _swap(vectors, basis, i, j):
    for x in range(3):
        vectors[i, x], vectors[j, x] = vectors[j, x], vectors[i, x]
        basis[i, x], basis[j, x] = basis[j, x], basis[i, x]
