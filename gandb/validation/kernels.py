"""Compiled charge balance; `gandb.validation.charge` is its face.

One formula: element e carries one of its oxidation states, the same on all its atoms. The formula
is *neutral* if some choice sums to zero over all atoms, and *balanced* if for some neutral choice
every cation is strictly less electronegative than every anion.

Sort the elements by electronegativity. In a balanced choice those up to some place are cations and
the rest anions, and the two neighbours at that place differ in electronegativity. So let P_s be the
set of total charges that the first s elements can carry as cations, and N_s the set of (negated)
charges that the others can carry as anions; the formula is balanced if P_s and N_s meet for some s.
Sets of charges are bits of machine words: adding an element is a few shifts. A charge above the
lesser of the largest possible sums of either sign cannot meet anything and is dropped, so one word
does for almost every formula; the others take as many words as they need.

Costs do not depend on the number of combinations of states.
"""

from __future__ import annotations

import numpy as np
from numba import njit

BALANCED, SINGLE_ELEMENT, ALLOY, NEUTRAL = 0, 1, 2, 3
NO_OXIDATION_STATE, NOT_NEUTRAL, NO_ELECTRONEGATIVITY, ELECTRONEGATIVITY_ORDER = 4, 5, 6, 7
NOT_REDUCED, EMPTY = 8, 9

NO_RANK = 255
"""Electronegativity rank of an element that has none."""


@njit(cache=True, inline="always")
def _spread(bits, charges, z, n, count):
    """Charges reachable from the set ``bits`` when ``count`` atoms of ``z`` join, below 64."""
    out = np.uint64(0)
    for s in range(n):
        shift = charges[z, s] * count
        if shift > 63:
            break
        out |= bits << np.uint64(shift)
    return out


@njit(cache=True)
def _balanced(order, size, counts, rank, n_cation, cation, n_anion, anion, suffix):
    """Whether the formula is balanced; all its sums that matter are below 64."""
    first = size
    bits = np.uint64(1)
    for j in range(size - 1, 0, -1):
        z = order[j]
        bits = _spread(bits, anion, z, n_anion[z], counts[j])
        if bits == 0:
            break
        suffix[j] = bits
        first = j
    if first == size:
        return False
    bits = np.uint64(1)
    for j in range(size - 1):
        z = order[j]
        bits = _spread(bits, cation, z, n_cation[z], counts[j])
        if bits == 0:
            return False
        if j + 1 >= first and bits & suffix[j + 1] and rank[z] < rank[order[j + 1]]:
            return True
    return False


@njit(cache=True)
def _neutral(order, size, counts, n_states, states, down, up):
    """Whether the formula is neutral, when the lesser of ``down`` and ``up`` is below 64.

    ``down`` is the magnitude of the most negative total charge, ``up`` the most positive one.
    """
    bits = np.uint64(1)
    for j in range(size):
        z = order[j]
        n = n_states[z]
        out = np.uint64(0)
        for s in range(n):
            if down <= up:
                shift = (states[z, s] - states[z, 0]) * counts[j]
            else:
                shift = (states[z, n - 1] - states[z, n - 1 - s]) * counts[j]
            if shift > 63:
                break
            out |= bits << np.uint64(shift)
        bits = out
    return (bits >> np.uint64(min(down, up))) & np.uint64(1) != 0


@njit(cache=True)
def _shift_or(target, source, shift):
    """``target |= source << shift`` for sets of many words; what leaves the last word is lost."""
    words = len(target)
    skip = shift >> 6
    left = np.uint64(shift & 63)
    right = np.uint64(64 - (shift & 63))
    for w in range(words - skip):
        target[w + skip] |= source[w] << left
        if left and w + skip + 1 < words:
            target[w + skip + 1] |= source[w] >> right


@njit(cache=True)
def _balanced_wide(order, size, counts, rank, n_cation, cation, n_anion, anion, limit):
    """`_balanced` for sums up to ``limit``, however large."""
    words = (limit >> 6) + 1
    suffix = np.zeros((size + 1, words), np.uint64)
    suffix[size, 0] = 1
    for j in range(size - 1, 0, -1):
        z = order[j]
        for s in range(n_anion[z]):
            _shift_or(suffix[j], suffix[j + 1], anion[z, s] * counts[j])
    bits = np.zeros(words, np.uint64)
    bits[0] = 1
    for j in range(size - 1):
        z = order[j]
        out = np.zeros(words, np.uint64)
        for s in range(n_cation[z]):
            _shift_or(out, bits, cation[z, s] * counts[j])
        bits = out
        if rank[z] < rank[order[j + 1]]:
            for w in range(words):
                if bits[w] & suffix[j + 1, w]:
                    return True
    return False


@njit(cache=True)
def _neutral_wide(order, size, counts, n_states, states, down, up):
    """`_neutral` for any ``down`` and ``up``."""
    target = min(down, up)
    words = (target >> 6) + 1
    bits = np.zeros(words, np.uint64)
    bits[0] = 1
    for j in range(size):
        z = order[j]
        n = n_states[z]
        out = np.zeros(words, np.uint64)
        for s in range(n):
            if down <= up:
                shift = (states[z, s] - states[z, 0]) * counts[j]
            else:
                shift = (states[z, n - 1] - states[z, n - 1 - s]) * counts[j]
            _shift_or(out, bits, shift)
        bits = out
    return (bits[target >> 6] >> np.uint64(target & 63)) & np.uint64(1) != 0


@njit(cache=True, nogil=True)
def judge(
    offsets,
    numbers,
    counts,
    units,
    exempt,
    rank,
    metal,
    n_states,
    states,
    n_cation,
    cation,
    n_anion,
    anion,
):
    """Judge every formula.

    Args:
        offsets: int64 (n+1,), and
        numbers: uint8 (m,), and
        counts: uint16 (m,): the formulas, as in `CompositionBatch`.
        units: uint16 (n,), formula units as written: more than one fails; or (0,) to ignore them.
        exempt: do not look further at a formula of metals alone; its reason is then `ALLOY`.
        rank: uint8 (256,), place of each element by electronegativity, equal if that is equal.
        metal: bool (256,).
        n_states: int64 (256,), number of oxidation states of each element, and
        states: int64 (256, k), the states, ascending.
        n_cation: int64 (256,), and
        cation: int64 (256, k): the positive ones, ascending.
        n_anion: int64 (256,), and
        anion: int64 (256, k): magnitudes of the negative ones, ascending.

    Returns:
        reasons, uint8 (n,), as above, and whether all elements of several are metals, bool (n,).
    """
    n = len(offsets) - 1
    reasons = np.empty(n, np.uint8)
    alloys = np.zeros(n, np.bool_)
    order = np.empty(256, np.int64)
    amounts = np.empty(256, np.int64)
    suffix = np.empty(256, np.uint64)
    for i in range(n):
        a = offsets[i]
        size = offsets[i + 1] - a
        if size < 2:
            reasons[i] = SINGLE_ELEMENT if size == 1 else EMPTY
            continue
        if len(units) and units[i] > 1:
            reasons[i] = NOT_REDUCED
            continue
        metals = True
        complete = True
        lowest = 0
        highest = 0
        cations = 0
        anions = 0
        for j in range(size):
            z = np.int64(numbers[a + j])
            count = np.int64(counts[a + j])
            metals &= metal[z]
            k = n_states[z]
            complete &= k > 0
            low = states[z, 0] * count
            high = states[z, max(k, 1) - 1] * count
            lowest += low
            highest += high
            anions += max(-low, 0)
            cations += max(high, 0)
            place = rank[z]
            p = j
            while p > 0 and rank[order[p - 1]] > place:
                order[p] = order[p - 1]
                amounts[p] = amounts[p - 1]
                p -= 1
            order[p] = z
            amounts[p] = count
        alloys[i] = metals
        if metals and exempt:
            reasons[i] = ALLOY
            continue
        if not complete:
            reasons[i] = NO_OXIDATION_STATE
            continue
        if lowest > 0 or highest < 0:
            reasons[i] = NOT_NEUTRAL
            continue
        known = rank[order[size - 1]] != NO_RANK
        if known:
            limit = min(cations, anions)
            if limit < 64:
                passed = _balanced(
                    order, size, amounts, rank, n_cation, cation, n_anion, anion, suffix
                )
            else:
                passed = _balanced_wide(
                    order, size, amounts, rank, n_cation, cation, n_anion, anion, limit
                )
            if passed:
                reasons[i] = BALANCED
                continue
        if min(-lowest, highest) < 64:
            neutral = _neutral(order, size, amounts, n_states, states, -lowest, highest)
        else:
            neutral = _neutral_wide(order, size, amounts, n_states, states, -lowest, highest)
        if not neutral:
            reasons[i] = NOT_NEUTRAL
        elif known:
            reasons[i] = ELECTRONEGATIVITY_ORDER
        else:
            reasons[i] = NO_ELECTRONEGATIVITY
    return reasons, alloys
