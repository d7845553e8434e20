"""Compiled search for the mixture of phases of lowest energy; `gandb.energies.hull` is its face."""

from __future__ import annotations

import numpy as np
from numba import njit

from gandb.core.compiled import inner

_PIVOT = 1e-9  # smallest entry of a column that a basis is turned on
_GAIN = 1e-12  # eV/atom: a phase that would lower the energy by less does not come in


@inner
def _fractions(offsets, numbers, counts, row, column_of, out):
    """Write the share of each element among the atoms of a composition."""
    out[:] = 0.0
    total = 0.0
    for k in range(offsets[row], offsets[row + 1]):
        out[column_of[numbers[k]]] = counts[k]
        total += counts[k]
    for i in range(len(out)):
        out[i] /= total


@inner
def _entering(shares, energies, prices, careful):
    """Return the phase that gains most over the prices, or the first that gains; -1 if none."""
    n, d = shares.shape
    best, at = -_GAIN, -1
    for j in range(n):
        gain = energies[j]
        for i in range(d):
            gain -= prices[i] * shares[j, i]
        if gain < best:
            best, at = gain, j
            if careful:
                break
    return at


@inner
def _leaving(column, amounts, basis, careful):
    """Return which phase of the basis is used up first; -1 if none ever is."""
    least, at = np.inf, -1
    for i in range(len(column)):
        if column[i] > _PIVOT:
            ratio = max(amounts[i], 0.0) / column[i]
            if ratio < least - 1e-13:
                least, at = ratio, i
            elif ratio <= least + 1e-13:
                better = basis[i] < basis[at] if careful else column[i] > column[at]
                if better:
                    least, at = min(ratio, least), i
    return at


@inner
def _turn(inverse, amounts, column, at):
    """Let the phase with this column in at the place of another."""
    d = len(amounts)
    pivot = column[at]
    amounts[at] /= pivot
    for k in range(d):
        inverse[at, k] /= pivot
    for i in range(d):
        if i != at:
            factor = column[i]
            amounts[i] -= factor * amounts[at]
            for k in range(d):
                inverse[i, k] -= factor * inverse[at, k]


@inner
def _lowest(shares, energies, own, elements, basis, amounts):
    """Find the mixture of phases of one composition; return whether the search came to an end.

    The simplex method from the elements, which is a mixture that there always is. After as many
    turns as degenerate corners could take, Bland's rule keeps it from going in circles.
    """
    d = len(own)
    inverse = np.eye(d)
    prices = np.empty(d)
    column = np.empty(d)
    basis[:] = elements
    amounts[:] = own
    for turn in range(10_000):
        careful = turn > 200
        for k in range(d):
            prices[k] = 0.0
            for i in range(d):
                prices[k] += energies[basis[i]] * inverse[i, k]
        coming = _entering(shares, energies, prices, careful)
        if coming < 0:
            return True
        for i in range(d):
            column[i] = 0.0
            for k in range(d):
                column[i] += inverse[i, k] * shares[coming, k]
        going = _leaving(column, amounts, basis, careful)
        if going < 0:
            return False
        _turn(inverse, amounts, column, going)
        basis[going] = coming
    return False


@njit(cache=True, nogil=True)
def mixtures(
    offsets, numbers, counts, energies, chosen, elements, own_offsets, own_numbers, own_counts, rows
):
    """Find the mixtures of lowest energy of compositions of one chemical system; see `hull`.

    The first four are all reference phases; ``chosen``, int64 (n,), those within the system, and
    ``elements``, int64 (d,), the places among these of the phases that are the elements
    themselves, by atomic number. The next three are all compositions, ``rows``, int64 (k,), those
    of the system. Returned are phases, int64 (k, d), places in ``chosen``; their shares of the
    atoms, float64 (k, d); and whether each search came to an end, bool (k,).
    """
    d = len(elements)
    column_of = np.zeros(256, np.int64)
    for i in range(d):
        column_of[numbers[offsets[chosen[elements[i]]]]] = i
    shares = np.empty((len(chosen), d))
    values = np.empty(len(chosen))
    for j in range(len(chosen)):
        _fractions(offsets, numbers, counts, chosen[j], column_of, shares[j])
        values[j] = energies[chosen[j]]
    own = np.empty(d)
    basis = np.zeros((len(rows), d), np.int64)
    amounts = np.zeros((len(rows), d))
    ended = np.zeros(len(rows), np.bool_)
    for q in range(len(rows)):
        _fractions(own_offsets, own_numbers, own_counts, rows[q], column_of, own)
        ended[q] = _lowest(shares, values, own, elements, basis[q], amounts[q])
    return basis, amounts, ended
