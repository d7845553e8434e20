"""Many crystal structures at once, as flat arrays: their ids, and whether they are crystals.

It says of n structures with m sites in all what `gandb.core.crystals` says of each; tests compare
the two. Rows come as a store has them: on the grid, wrapped, sites in canonical order.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numba
import numpy as np

from gandb.core.compositions import CompositionBatch
from gandb.core.crystals import (
    FULL,
    GRID,
    MAX_LENGTH,
    MAX_SITES,
    MIN_FLATNESS,
    MIN_VOLUME,
    SAME_PLACE,
    Crystal,
    _canonical,
    _groups,
    _plain_properties,
    _text_order,
)
from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.errors import InputError
from gandb.core.ids import Domain, canonical_json
from gandb.core.species import parse_species

_PROBLEMS = (
    "",
    "it has no sites, or too many",
    "its cell is not one: lengths or angles are out of all bounds, or it has no volume",
    "its cell lies off the grid of 1e-8",
    "a coordinate is not in [0, 1), or lies off the grid of 1e-8",
    "its sites do not stand in canonical order",
    "two sites are at one place",
)


@dataclass(frozen=True, eq=False)
class CrystalBatch:
    """n structures with m sites in all.

    Attributes:
        cells: float64 (n, 6), a, b, c in Å, alpha, beta, gamma in degrees.
        offsets: int64 (n+1,), sites of structure i are ``offsets[i]:offsets[i+1]``.
        texts: the k different texts of what sits on a site.
        codes: int32 (m,), which of them sits on each.
        frac_coords: float64 (m, 3).
        properties: canonical JSON of each one's site properties, None without.
        charges: float64 (n,), NaN where none is given.
    """

    cells: np.ndarray
    offsets: np.ndarray
    texts: Sequence[str]
    codes: np.ndarray
    frac_coords: np.ndarray
    properties: Sequence[str | None]
    charges: np.ndarray

    def __len__(self) -> int:
        return len(self.cells)

    @cached_property
    def _steps(self) -> tuple[np.ndarray, np.ndarray]:
        """Cells, int64 (n, 6), and coordinates, int32 (m, 3), in steps of the grid."""
        with np.errstate(invalid="ignore", over="ignore"):
            cells = np.rint(self.cells * GRID)
            coords = np.rint(self.frac_coords * GRID)
        usable = np.abs(cells) < 2.0**62
        inside = (coords >= 0) & (coords < GRID)  # which NaN is not
        return (
            np.where(usable, cells, 0).astype(np.int64),
            np.where(inside, coords, 0).astype(np.int32),
        )

    def ids(self) -> np.ndarray:
        """Return the content ids, uint8 (n, 16): those of `Crystal.id`."""
        cells, coords = self._steps
        order = sorted(range(len(self.texts)), key=self.texts.__getitem__)
        ranks = np.empty(len(order), np.int32)
        ranks[order] = np.arange(len(order), dtype=np.int32)
        kinds, starts, data, places = _serialised(
            self.offsets, ranks[self.codes] if len(self.codes) else self.codes, cells, coords
        )
        by_rank = [self.texts[k] for k in order]
        names: dict[bytes, bytes] = {}
        view, person = memoryview(data), Domain.STRUCTURE.encode()
        out = bytearray()
        ends, kind_starts = places.tolist(), starts.tolist()
        charged = (~np.isnan(self.charges)).tolist()
        for i, stated in enumerate(self.properties):
            own = kinds[kind_starts[i] : kind_starts[i + 1]]
            key = own.tobytes()
            listed = names.get(key)
            if listed is None:
                listed = names[key] = canonical_json([by_rank[r] for r in own.tolist()])
            rest = b'"species":' + listed + b"}"
            if stated is not None:
                rest = b'"properties":' + stated.encode() + b"," + rest
            if charged[i]:
                rest = b'"charge":' + canonical_json(float(self.charges[i])) + b"," + rest
            digest = hashlib.blake2b(view[ends[i] : ends[i + 1]], digest_size=16, person=person)
            digest.update(b"{" + rest)
            out += digest.digest()
        return np.frombuffer(bytes(out), np.uint8).reshape(-1, 16)

    def first_problem(self) -> tuple[int, str] | None:
        """Return the first structure that is none, and why; None if all are structures."""
        texts, totals = [], []
        for text in self.texts:
            try:
                canonical, total = _canonical(text)
            except InputError as error:
                return self._first_with(text), str(error)
            texts.append(canonical)
            totals.append(total)
        for text, canonical, total in zip(self.texts, texts, totals, strict=True):
            if text != canonical:
                return self._first_with(text), f"a site says {text!r}, which is {canonical!r}"
            if total > FULL:
                return self._first_with(text), f"the site {text!r} is occupied {total:g} times"
        cells, coords = self._steps
        order = sorted(range(len(self.texts)), key=lambda k: _text_order(self.texts[k]))
        ranks = np.empty(len(order), np.int32)
        ranks[order] = np.arange(len(order), dtype=np.int32)
        found, _ = _judged(
            self.offsets,
            ranks[self.codes] if len(self.codes) else self.codes,
            self.cells,
            cells,
            self.frac_coords,
            coords,
        )
        wrong = np.flatnonzero(found)
        if len(wrong):
            return int(wrong[0]), _PROBLEMS[found[wrong[0]]]
        with np.errstate(invalid="ignore"):
            charges = np.isinf(self.charges) | (self.charges == 0)
            charges |= np.abs(np.round(self.charges, 8) - self.charges) > 0
        if charges.any():
            return int(np.flatnonzero(charges)[0]), "its charge is 0, infinite, or has more digits"
        for i, stated in enumerate(self.properties):
            if stated is not None and (reason := self._property_problem(i, stated)):
                return i, reason
        return None

    def _first_with(self, text: str) -> int:
        site = int(np.flatnonzero(self.codes == list(self.texts).index(text))[0])
        return int(np.searchsorted(self.offsets, site, side="right")) - 1

    def _property_problem(self, i: int, text: str) -> str | None:
        n = int(self.offsets[i + 1] - self.offsets[i])
        try:
            stated: Any = json.loads(text)
            if not isinstance(stated, dict) or not stated:
                return "its site properties are no lists by name"
            kept = dict(_plain_properties(stated, n))
        except (InputError, ValueError, RecursionError) as error:
            return f"its site properties: {error}"
        if kept.keys() != stated.keys() or canonical_json(kept).decode() != text:
            return "its site properties are not in canonical form"
        return None

    @cached_property
    def volumes(self) -> np.ndarray:
        """Volume of each cell, float64 (n,), Å³."""
        volumes: np.ndarray = _judged_volumes(self.cells)
        return volumes

    @cached_property
    def ordered(self) -> np.ndarray:
        """Whether every site is filled by one species, bool (n,)."""
        plain = np.array([_element_of(text) is not None for text in self.texts], bool)
        partial = np.concatenate([[0], np.cumsum(~plain[self.codes])]) if len(self.codes) else None
        if partial is None:
            return np.ones(len(self), bool)
        return np.asarray(partial[self.offsets[1:]] == partial[self.offsets[:-1]])

    def composition_ids(self) -> np.ndarray:
        """Return the ids of the compositions, uint8 (n, 16); call it on structures that are none.

        Raises:
            CrystalError: an ordered one's reduced formula is too large.
        """
        numbers = np.array([_element_of(text) or 0 for text in self.texts], np.uint8)
        offsets, z, counts = _counted(
            self.offsets, numbers[self.codes] if len(self.codes) else np.zeros(0, np.uint8)
        )
        batch, _ = CompositionBatch(offsets, z, counts).reduced()
        ids = batch.ids().copy()
        rest = np.flatnonzero(~self.ordered)
        if len(rest):
            rows = [self.crystal(int(i)).counts() for i in rest]
            own, _ = CompositionBatch.from_dicts(rows).reduced()
            ids[rest] = own.ids()
        return ids

    def crystal(self, i: int) -> Crystal:
        """Return structure i as a record."""
        own = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        text = self.properties[i]
        stated = json.loads(text) if text else {}
        charge = float(self.charges[i])
        return Crystal(
            lengths=self.cells[i, :3],
            angles=self.cells[i, 3:],
            species=tuple(self.texts[k] for k in self.codes[own].tolist()),
            frac_coords=self.frac_coords[own],
            properties={k: tuple(stated[k]) for k in sorted(stated)},
            charge=None if math.isnan(charge) else charge,
        )


@lru_cache(maxsize=10_000)
def _element_of(text: str) -> int | None:
    """Return the atomic number of what fills a site; None where several share it."""
    occupants = parse_species(text)
    if len(occupants) == 1 and occupants[0].occupancy == 1.0:
        return ATOMIC_NUMBERS[occupants[0].element]
    return None


# --- kernels -----------------------------------------------------------------------------


@numba.njit(cache=True, nogil=True)
def _serialised(offsets, ranks, cells, coords):  # type: ignore[no-untyped-def]
    """Write what an id is taken from, up to the JSON; and the kinds of species of each."""
    n, m = len(offsets) - 1, len(ranks)
    words = np.empty(n * 13 + 4 * m, np.uint32)
    places = np.empty(n + 1, np.int64)
    kinds = np.empty(m, np.int32)
    starts = np.empty(n + 1, np.int64)
    own = np.empty(max(m, 1), np.int32)
    at, used = 0, 0
    for i in range(n):
        places[i], starts[i] = at * 4, used
        begin, end = offsets[i], offsets[i + 1]
        size = end - begin
        words[at] = np.uint32(size)
        at += 1
        for k in range(6):
            value = np.uint64(cells[i, k])
            words[at] = np.uint32(value & np.uint64(0xFFFFFFFF))
            words[at + 1] = np.uint32(value >> np.uint64(32))
            at += 2
        count = 0
        for j in range(begin, end):  # sites of one kind stand together, so few are looked at
            known = False
            for k in range(count - 1, -1, -1):
                if own[k] == ranks[j]:
                    known = True
                    break
            if not known:
                own[count] = ranks[j]
                count += 1
        kinds[used : used + count] = np.sort(own[:count])
        for j in range(begin, end):
            words[at] = np.uint32(np.searchsorted(kinds[used : used + count], ranks[j]))
            at += 1
        for j in range(begin, end):
            for k in range(3):
                words[at] = np.uint32(coords[j, k])
                at += 1
        used += count
    places[n], starts[n] = at * 4, used
    return kinds[:used], starts, words[:at].view(np.uint8), places


@numba.njit(cache=True, nogil=True)
def _cosine(angle):  # type: ignore[no-untyped-def]
    return 0.0 if angle == 90.0 else math.cos(math.radians(angle))


@numba.njit(cache=True, nogil=True)
def _judged(offsets, ranks, cells, cell_steps, coords, steps):  # type: ignore[no-untyped-def]
    """Say what is wrong with each: a number into `_PROBLEMS`."""
    n = len(offsets) - 1
    found = np.zeros(n, np.int8)
    metric = np.empty((3, 3))
    for i in range(n):
        begin, end = offsets[i], offsets[i + 1]
        if end <= begin or end - begin > MAX_SITES:
            found[i] = 1
            continue
        a, b, c, alpha, beta, gamma = cells[i]
        fine = True
        for k in range(3):
            edge, angle = cells[i, k], cells[i, k + 3]
            if not (edge * GRID >= 1 and edge <= MAX_LENGTH):
                fine = False
            if not (angle * GRID >= 1 and angle <= 180 - 1 / GRID):
                fine = False
        if fine:
            x, y, z = _cosine(alpha), _cosine(beta), _cosine(gamma)
            flatness = math.sqrt(max(1 - x * x - y * y - z * z + 2 * x * y * z, 0.0))
            fine = flatness > MIN_FLATNESS
            if fine:
                low = min(
                    a * flatness / math.sqrt(1 - x * x),
                    b * flatness / math.sqrt(1 - y * y),
                    c * flatness / math.sqrt(1 - z * z),
                )
                fine = a * b * c * flatness >= MIN_VOLUME and low >= 2 * SAME_PLACE
        if not fine:
            found[i] = 2
            continue
        for k in range(6):
            if cell_steps[i, k] / GRID != cells[i, k]:
                found[i] = 3
        for j in range(begin, end):
            for k in range(3):
                if steps[j, k] / GRID != coords[j, k]:
                    found[i] = 4
        if found[i]:
            continue
        for j in range(begin + 1, end):
            before = ranks[j - 1] < ranks[j]
            if ranks[j - 1] == ranks[j]:
                for k in range(3):
                    if steps[j - 1, k] != steps[j, k]:
                        before = steps[j - 1, k] < steps[j, k]
                        break
            if not before:
                found[i] = 5
                break
        if found[i]:
            continue
        metric[0, 0], metric[1, 1], metric[2, 2] = a * a, b * b, c * c
        metric[0, 1] = metric[1, 0] = a * b * z
        metric[0, 2] = metric[2, 0] = a * c * y
        metric[1, 2] = metric[2, 1] = b * c * x
        # Sites that rounding put together are let pass: a record as it was read keeps them apart.
        if len(_groups(coords[begin:end], metric, SAME_PLACE * (1 - 1e-6))):
            found[i] = 6
    return found, n


@numba.njit(cache=True, nogil=True)
def _judged_volumes(cells):  # type: ignore[no-untyped-def]
    out = np.empty(len(cells))
    for i in range(len(cells)):
        x, y, z = _cosine(cells[i, 3]), _cosine(cells[i, 4]), _cosine(cells[i, 5])
        square = max(1 - x * x - y * y - z * z + 2 * x * y * z, 0.0)
        out[i] = cells[i, 0] * cells[i, 1] * cells[i, 2] * math.sqrt(square)
    return out


@numba.njit(cache=True, nogil=True)
def _counted(offsets, numbers):  # type: ignore[no-untyped-def]
    """Count the atoms of each element; site by site, each filled by one."""
    n, m = len(offsets) - 1, len(numbers)
    out = np.zeros(n + 1, np.int64)
    z = np.empty(m, np.uint8)
    counts = np.empty(m, np.uint16)
    own = np.zeros(256, np.int64)
    used = 0
    for i in range(n):
        own[:] = 0
        for j in range(offsets[i], offsets[i + 1]):
            own[numbers[j]] += 1
        for k in range(256):
            if own[k]:
                z[used], counts[used] = k, own[k]
                used += 1
        out[i + 1] = used
    return out, z[:used], counts[:used]
