"""What grouping found: components, and the evidence on pairs, kept small for millions of pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gandb.identity.comparing import Made

NOT_MADE = -1
METHODS = ("compared", "bound", "compared, bound")
KINDS = ("clique", "chain", "unknown")


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of pairs, one row each, sorted by a, then b.

    Attributes:
        a: int64 (m,), the smaller index.
        b: int64 (m,), the larger index.
        forward: int8 (m,), whether a matches b: 1, 0, or -1 where this was not asked.
        backward: int8 (m,), whether b matches a.
        rms: float64 (m,), of the direction that matches, forward if both do; NaN for no match.
        max_distance: float64 (m,), likewise.
        amd_distance: float64 (m,), largest difference between the rows of AMD.
        method: int8 (m,), in `METHODS`: verdicts on this pair, or a bound that says that nothing
            near a matches anything near b (hence neither a b), or both.
    """

    a: np.ndarray
    b: np.ndarray
    forward: np.ndarray
    backward: np.ndarray
    rms: np.ndarray
    max_distance: np.ndarray
    amd_distance: np.ndarray
    method: np.ndarray

    def __len__(self) -> int:
        return len(self.a)


@dataclass(frozen=True, eq=False)
class Components:
    """The components of a block, one row each, singletons too, by their smallest members.

    Attributes:
        first: int64 (c,), the smallest member.
        size: int64 (c,).
        pairs: int64 (c,), pairs inside with at least one new member.
        compared: int64 (c,), of these, those with a row of evidence.
        confirmed: int64 (c,), of these, matches.
        merged: int64 (c,), how many earlier components are in it.
        kind: int8 (c,), in `KINDS`. A clique: all pairs with a new member are matches. A chain:
            one is not, or earlier components were merged (whose members do not match across).
            Else unknown. It speaks of the new pairs: a clique with ``merged`` of 1 is what the
            earlier component was, and a chain stays a chain.
    """

    first: np.ndarray
    size: np.ndarray
    pairs: np.ndarray
    compared: np.ndarray
    confirmed: np.ndarray
    merged: np.ndarray
    kind: np.ndarray

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True, eq=False)
class Grouped:
    """What `group_block` found.

    Attributes:
        component: int64 (n,), the smallest member of the component of each.
        components: one row for each component.
        centre: int64 (n,), whose tight duplicate each new member was taken for; itself if none's.
        made: how many questions were asked.
        dropped: how many pairs were found not to match without a row of evidence.
    """

    component: np.ndarray
    components: Components
    centre: np.ndarray
    made: Made
    dropped: int
    _amd: np.ndarray
    _rows: Rows

    def __len__(self) -> int:
        """Return the number of rows of evidence."""
        return len(self._rows.code)

    def evidence(self) -> Evidence:
        """Return all evidence at once."""
        return self._slice(slice(None))

    def parts(self, size: int = 100_000) -> Iterator[Evidence]:
        """Yield the evidence in parts, as a large block has millions of rows."""
        for at in range(0, len(self), size):
            yield self._slice(slice(at, at + size))

    def _slice(self, part: slice) -> Evidence:
        rows = self._rows
        a, b = np.divmod(rows.code[part], max(len(self.component), 1))
        place = rows.matched.searchsorted(rows.code[part])
        place[place == len(rows.matched)] = 0
        rms, largest = np.full((2, len(a)), np.nan)
        if len(rows.matched):
            hit = rows.matched[place] == rows.code[part]
            rms[hit], largest[hit] = rows.rms[place[hit]], rows.max_distance[place[hit]]
        return Evidence(
            a=a,
            b=b,
            forward=rows.forward[part],
            backward=rows.backward[part],
            rms=rms,
            max_distance=largest,
            amd_distance=distance(self._amd, np.stack([a, b], axis=1)),
            method=rows.method[part],
        )


@dataclass(frozen=True, eq=False)
class Rows:
    """Evidence as it is kept: a pair's code is a * n + b. Displacements of matches alone."""

    code: np.ndarray
    forward: np.ndarray
    backward: np.ndarray
    method: np.ndarray
    matched: np.ndarray
    rms: np.ndarray
    max_distance: np.ndarray


def distinct(codes: np.ndarray) -> np.ndarray:
    """Return the distinct codes in order; `numpy.unique` is slow on numbers like these."""
    codes = np.sort(codes)
    first = np.ones(len(codes), bool)
    first[1:] = codes[1:] != codes[:-1]
    distinct: np.ndarray = codes[first]
    return distinct


def among(codes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Say which codes are among known ones, which are sorted."""
    if not len(known):
        return np.zeros(len(codes), bool)
    return np.asarray(known[np.minimum(known.searchsorted(codes), len(known) - 1)] == codes)


def distance(amd: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the largest difference between the rows of each pair, float64 (k,)."""
    out = np.empty(len(pairs))
    for at in range(0, len(pairs), 8192):
        a, b = pairs[at : at + 8192].T
        out[at : at + 8192] = np.abs(amd[a] - amd[b]).max(axis=1, initial=0.0)
    return out
