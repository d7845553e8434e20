"""Compiled search for bonds and angles of many periodic cells at once.

A bond is listed once: of two sites from the first to the second, of a site and its own image in one
of the two directions. Every angle is listed twice, once from each of its bonds.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from gandb.energies.potentials import Batch

SMALLEST = 2.5
"""Least volume for each atom, Å³, half of diamond's: what lies more densely, or has as many bonds
for each atom as if it did, has collapsed, and its angles would not fit into memory."""
FOUND, NO_VOLUME, TOO_DENSE, NOT_FINITE = range(4)
REASONS = {
    NO_VOLUME: "the cell has no volume",
    TOO_DENSE: f"its atoms lie too densely: as with less than {SMALLEST:g} Å³ for each",
    NOT_FINITE: "its positions or cell are not finite",
}
"""Why there are no bonds, by code."""
_TOO_FLAT = 0.01  # Å between opposite faces of a cell
_MOST_TRIES = 200_000_000


@dataclass(frozen=True, eq=False)
class Bonds:
    """All bonds of n crystals, those of one after those of the other.

    Attributes:
        first: int64 (bonds,), the site at which a bond begins, counted through all crystals.
        second: int64 (bonds,), the site at which it ends.
        offsets: float64 (bonds, 3), lattice vectors to add to the second site.
        starts: int64 (n + 1,), where the bonds of each crystal begin.
        codes: int64 (n,), `FOUND`, or why a crystal has no bonds.
    """

    first: np.ndarray
    second: np.ndarray
    offsets: np.ndarray
    starts: np.ndarray
    codes: np.ndarray


def find_bonds(batch: Batch, cutoff: float) -> Bonds:
    """Find all pairs of sites not farther apart than ``cutoff``, Å."""
    lattices = np.ascontiguousarray(batch.lattices)
    with np.errstate(all="ignore"):
        volumes = np.abs(np.linalg.det(lattices))
        heights = volumes[:, None] / np.linalg.norm(
            np.cross(lattices[:, [1, 2, 0]], lattices[:, [2, 0, 1]]), axis=2
        )
    codes = np.full(len(batch), FOUND, np.int64)
    flat = ~(np.isfinite(heights).all(axis=1) & (heights.min(axis=1, initial=np.inf) > _TOO_FLAT))
    codes[flat] = NO_VOLUME
    lost = ~np.isfinite(lattices).all(axis=(1, 2))
    lost[batch.owners[~np.isfinite(batch.positions).all(axis=1)]] = True
    codes[lost] = NOT_FINITE
    inverses = np.zeros_like(lattices)
    inverses[~flat] = np.linalg.inv(lattices[~flat])
    fractions = np.einsum("ij,ijk->ik", batch.positions, inverses[batch.owners])
    counts = np.zeros(len(batch), np.int64)
    most = 4 / 3 * np.pi * cutoff**3 / (2 * SMALLEST)  # bonds for each site
    args = (fractions, lattices, heights, batch.starts, float(cutoff), most, codes)
    nothing = np.zeros(0, np.int64)
    _bonds(*args, counts, np.zeros(len(batch) + 1, np.int64), nothing, nothing, np.zeros((0, 3)))
    starts = np.zeros(len(batch) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    first, second = np.empty(starts[-1], np.int64), np.empty(starts[-1], np.int64)
    offsets = np.empty((starts[-1], 3))
    _bonds(*args, counts, starts, first, second, offsets)
    return Bonds(first, second, offsets, starts, codes)


@njit(cache=True, nogil=True)
def _bonds(
    fractions, lattices, heights, sites, cutoff, most, codes, counts, starts, first, second, offsets
):
    """Count the bonds of each crystal, and list them where there is room."""
    fill = len(first) > 0
    limit = cutoff * cutoff
    for m in range(len(lattices)):
        if codes[m] != FOUND:
            continue
        begin, end = sites[m], sites[m + 1]
        n = end - begin
        tries = n * n * 1.0
        reach = np.empty(3)
        for k in range(3):
            reach[k] = cutoff / heights[m, k]
            tries *= 2.0 * reach[k] + 1.0
        found = 0
        if tries > _MOST_TRIES:
            codes[m] = TOO_DENSE
            counts[m] = 0
            continue
        cell = lattices[m]
        low, high, near = np.empty(3, np.int64), np.empty(3, np.int64), np.empty(3)
        for i in range(begin, end):
            for j in range(i, end):
                for k in range(3):
                    away = fractions[j, k] - fractions[i, k]
                    near[k] = away
                    low[k] = math.ceil(-reach[k] - away)
                    high[k] = math.floor(reach[k] - away)
                for x in range(low[0], high[0] + 1):
                    for y in range(low[1], high[1] + 1):
                        for z in range(low[2], high[2] + 1):
                            if i == j and (x < 0 or (x == 0 and (y < 0 or (y == 0 and z <= 0)))):
                                continue
                            square = 0.0
                            for k in range(3):
                                d = (
                                    (near[0] + x) * cell[0, k]
                                    + (near[1] + y) * cell[1, k]
                                    + (near[2] + z) * cell[2, k]
                                )
                                square += d * d
                            if square > limit:
                                continue
                            if fill:
                                place = starts[m] + found
                                first[place] = i
                                second[place] = j
                                for k in range(3):
                                    offsets[place, k] = (
                                        x * cell[0, k] + y * cell[1, k] + z * cell[2, k]
                                    )
                            found += 1
            if found > most * n:
                codes[m] = TOO_DENSE
                break
        counts[m] = 0 if codes[m] == TOO_DENSE else found


@dataclass(frozen=True, eq=False)
class Angles:
    """Pairs of short bonds that meet in a site; a bond d runs from site to site, d + b back.

    Attributes:
        centres: int64 (angles,), the site.
        one: int64 (angles,), a bond.
        other: int64 (angles,), another.
        signs: float64 (angles,), 1 where both bonds begin or both end in the site, else -1.
    """

    centres: np.ndarray
    one: np.ndarray
    other: np.ndarray
    signs: np.ndarray


def find_angles(n_sites: int, first: np.ndarray, second: np.ndarray, short: np.ndarray) -> Angles:
    """List the angles between bonds.

    Args:
        n_sites: of all crystals.
        first: as in `Bonds`.
        second: likewise.
        short: bool (bonds,), those that count.
    """
    chosen = np.flatnonzero(short)
    return Angles(*_angles(n_sites, first, second, chosen))


@njit(cache=True, nogil=True)
def _angles(n_sites, first, second, chosen):
    degree = np.zeros(n_sites + 1, np.int64)
    for b in chosen:
        degree[first[b] + 1] += 1
        degree[second[b] + 1] += 1
    total = 0
    for s in range(n_sites):
        k = degree[s + 1]
        total += k * (k - 1)
        degree[s + 1] += degree[s]
    bonds, signs = np.empty(degree[n_sites], np.int64), np.empty(degree[n_sites])
    filled = degree[:-1].copy()
    for b in chosen:
        for end in range(2):
            s = first[b] if end == 0 else second[b]
            bonds[filled[s]] = b
            signs[filled[s]] = 1.0 if end == 0 else -1.0
            filled[s] += 1
    centres, one, other = (
        np.empty(total, np.int64),
        np.empty(total, np.int64),
        np.empty(total, np.int64),
    )
    turned = np.empty(total)
    at = 0
    for s in range(n_sites):
        for p in range(degree[s], degree[s + 1]):
            for q in range(degree[s], degree[s + 1]):
                if p == q:
                    continue
                centres[at] = s
                one[at] = bonds[p]
                other[at] = bonds[q]
                turned[at] = signs[p] * signs[q]
                at += 1
    return centres, one, other, turned
