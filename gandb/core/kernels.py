"""Compiled loops over composition arrays; `gandb.core.compositions` is their face."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit

from gandb.core.elements import (
    ALPHABETICAL_RANK,
    ATOMIC_NUMBERS,
    ELECTRONEGATIVITY,
    FORMULA_RANK,
    SYMBOLS,
)
from gandb.core.ids import Domain

_LETTERS = np.zeros((len(SYMBOLS), 2), np.uint8)
for _z, _symbol in enumerate(SYMBOLS):
    _LETTERS[_z, : len(_symbol)] = list(_symbol.encode())

POLYANION_LIMIT = 1.65
"""Largest electronegativity difference within a trailing group written in parentheses."""

_IV = np.array(
    [
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
    ],
    np.uint64,
)  # fmt: skip
"""BLAKE2b initialisation vector, RFC 7693 section 2.6."""

_SIGMA = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
    ],
    np.int64,
)
"""BLAKE2b message schedule, RFC 7693 section 2.7."""

_PERSON = np.frombuffer(Domain.COMPOSITION.encode().ljust(16, b"\0"), np.uint64).copy()


@njit(cache=True, inline="always")
def _mix(v, a, b, c, d, x, y):
    v[a] = v[a] + v[b] + x
    t = v[d] ^ v[a]
    v[d] = (t >> np.uint64(32)) | (t << np.uint64(32))
    v[c] = v[c] + v[d]
    t = v[b] ^ v[c]
    v[b] = (t >> np.uint64(24)) | (t << np.uint64(40))
    v[a] = v[a] + v[b] + y
    t = v[d] ^ v[a]
    v[d] = (t >> np.uint64(16)) | (t << np.uint64(48))
    v[c] = v[c] + v[d]
    t = v[b] ^ v[c]
    v[b] = (t >> np.uint64(63)) | (t << np.uint64(1))


@njit(cache=True)
def _compress(h, m, v, length, last):
    for i in range(8):
        v[i] = h[i]
        v[i + 8] = _IV[i]
    v[12] ^= np.uint64(length)
    if last:
        v[14] = ~v[14]
    for r in range(12):
        s = _SIGMA[r % 10]
        _mix(v, 0, 4, 8, 12, m[s[0]], m[s[1]])
        _mix(v, 1, 5, 9, 13, m[s[2]], m[s[3]])
        _mix(v, 2, 6, 10, 14, m[s[4]], m[s[5]])
        _mix(v, 3, 7, 11, 15, m[s[6]], m[s[7]])
        _mix(v, 0, 5, 10, 15, m[s[8]], m[s[9]])
        _mix(v, 1, 6, 11, 12, m[s[10]], m[s[11]])
        _mix(v, 2, 7, 8, 13, m[s[12]], m[s[13]])
        _mix(v, 3, 4, 9, 14, m[s[14]], m[s[15]])
    for i in range(8):
        h[i] ^= v[i] ^ v[i + 8]


@njit(cache=True, nogil=True)
def _composition_ids(offsets, numbers, counts, person):
    n = len(offsets) - 1
    out = np.empty((n, 2), np.uint64)
    h = np.empty(8, np.uint64)
    v = np.empty(16, np.uint64)
    block = np.zeros(128, np.uint8)
    words = block.view(np.uint64)
    for i in range(n):
        for j in range(8):
            h[j] = _IV[j]
        h[0] ^= np.uint64(0x01010000 ^ 16)  # digest of 16 bytes, no key, fanout 1, depth 1
        h[6] ^= person[0]
        h[7] ^= person[1]
        block[:] = 0
        used = 0
        total = 0
        for k in range(offsets[i], offsets[i + 1]):
            for part in range(3):
                if used == 128:
                    total += 128
                    _compress(h, words, v, total, False)
                    block[:] = 0
                    used = 0
                if part == 0:
                    block[used] = numbers[k]
                elif part == 1:
                    block[used] = counts[k] & 255
                else:
                    block[used] = counts[k] >> 8
                used += 1
        _compress(h, words, v, total + used, True)
        out[i, 0] = h[0]
        out[i, 1] = h[1]
    return out


def composition_ids(offsets: np.ndarray, numbers: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """BLAKE2b-128 of the canonical bytes of every composition, uint8 (n, 16)."""
    return _composition_ids(offsets, numbers, counts, _PERSON).view(np.uint8).reshape(-1, 16)


@njit(cache=True, nogil=True)
def _hash_rows(rows, person):
    n, width = rows.shape
    out = np.empty((n, 2), np.uint64)
    h = np.empty(8, np.uint64)
    v = np.empty(16, np.uint64)
    block = np.zeros(128, np.uint8)
    words = block.view(np.uint64)
    for i in range(n):
        for j in range(8):
            h[j] = _IV[j]
        h[0] ^= np.uint64(0x01010000 ^ 16)
        h[6] ^= person[0]
        h[7] ^= person[1]
        for j in range(width):
            block[j] = rows[i, j]
        _compress(h, words, v, width, True)
        out[i, 0] = h[0]
        out[i, 1] = h[1]
    return out


def hash_rows(rows: np.ndarray, domain: Domain) -> np.ndarray:
    """BLAKE2b-128 of every row of ``rows``, uint8 (n, w) with w <= 128; uint8 (n, 16)."""
    if rows.shape[1] > 128:
        raise ValueError(f"rows have {rows.shape[1]} bytes, more than one block of 128")
    person = np.frombuffer(domain.encode().ljust(16, b"\0"), np.uint64).copy()
    return _hash_rows(np.ascontiguousarray(rows, np.uint8), person).view(np.uint8).reshape(-1, 16)


@njit(cache=True, nogil=True)
def build_table(ids):
    """Hash ``ids`` (uint64 (n, 2), distinct) into an open-addressing table of row numbers."""
    size = 16
    while size < 2 * len(ids):
        size *= 2
    table = np.full(size, -1, np.int64)
    for i in range(len(ids)):
        slot = np.int64(ids[i, 0] & np.uint64(size - 1))
        while table[slot] >= 0:
            slot = (slot + 1) & (size - 1)
        table[slot] = i
    return table


@njit(cache=True, nogil=True)
def look_up(table, ids, wanted):
    """Return the row of each ``wanted`` id in ``ids``, -1 where absent."""
    out = np.full(len(wanted), -1, np.int64)
    mask = len(table) - 1
    for i in range(len(wanted)):
        slot = np.int64(wanted[i, 0] & np.uint64(mask))
        while table[slot] >= 0:
            r = table[slot]
            if ids[r, 0] == wanted[i, 0] and ids[r, 1] == wanted[i, 1]:
                out[i] = r
                break
            slot = (slot + 1) & mask
    return out


@njit(cache=True, nogil=True)
def group_ids(ids):
    """Group equal rows of ``ids`` (uint64 (n, 2)): first row, group of each row, group sizes."""
    n = len(ids)
    size = 16
    while size < 2 * n:
        size *= 2
    table = np.full(size, -1, np.int64)
    first = np.empty(n, np.int64)
    inverse = np.empty(n, np.int64)
    times = np.zeros(n, np.int64)
    groups = 0
    mask = size - 1
    for i in range(n):
        a, b = ids[i, 0], ids[i, 1]
        slot = np.int64(a & np.uint64(mask))
        while True:
            g = table[slot]
            if g < 0:
                table[slot] = groups
                first[groups] = i
                inverse[i] = groups
                times[groups] = 1
                groups += 1
                break
            if ids[first[g], 0] == a and ids[first[g], 1] == b:
                inverse[i] = g
                times[g] += 1
                break
            slot = (slot + 1) & mask
    return first[:groups].copy(), inverse, times[:groups].copy()


@njit(cache=True, nogil=True)
def from_slots(numbers, counts):
    """Turn (n, k) slots into flat arrays sorted by atomic number; empty slots have count 0."""
    n, k = numbers.shape
    offsets = np.zeros(n + 1, np.int64)
    flat_z = np.empty(n * k, np.uint8)
    flat_c = np.empty(n * k, np.uint16)
    m = 0
    for i in range(n):
        start = m
        for j in range(k):
            c = counts[i, j]
            if c == 0:
                continue
            z = numbers[i, j]
            p = m
            while p > start and flat_z[p - 1] > z:
                flat_z[p] = flat_z[p - 1]
                flat_c[p] = flat_c[p - 1]
                p -= 1
            flat_z[p] = z
            flat_c[p] = c
            m += 1
        offsets[i + 1] = m
    return offsets, flat_z[:m].copy(), flat_c[:m].copy()


@njit(cache=True, nogil=True)
def to_slots(offsets, numbers, counts, width):
    """Turn flat arrays into (n, width) slots, zero where empty."""
    n = len(offsets) - 1
    z = np.zeros((n, width), np.uint8)
    c = np.zeros((n, width), np.uint16)
    for i in range(n):
        for j in range(offsets[i + 1] - offsets[i]):
            z[i, j] = numbers[offsets[i] + j]
            c[i, j] = counts[offsets[i] + j]
    return z, c


@njit(cache=True, nogil=True)
def take(offsets, numbers, counts, rows):
    """Gather the compositions at ``rows``."""
    n = len(rows)
    out = np.zeros(n + 1, np.int64)
    for i in range(n):
        out[i + 1] = out[i] + offsets[rows[i] + 1] - offsets[rows[i]]
    z = np.empty(out[n], np.uint8)
    c = np.empty(out[n], np.uint16)
    for i in range(n):
        a = offsets[rows[i]]
        for j in range(out[i + 1] - out[i]):
            z[out[i] + j] = numbers[a + j]
            c[out[i] + j] = counts[a + j]
    return out, z, c


@njit(cache=True, nogil=True)
def row_sums(offsets, values):
    """Sum ``values`` over each row, int64 (n,)."""
    n = len(offsets) - 1
    out = np.zeros(n, np.int64)
    for i in range(n):
        for j in range(offsets[i], offsets[i + 1]):
            out[i] += values[j]
    return out


@njit(cache=True, nogil=True)
def reduce_counts(offsets, counts):
    """Divide each row of counts by its greatest common divisor; return counts and divisors."""
    n = len(offsets) - 1
    out = np.empty(len(counts), np.uint16)
    units = np.ones(n, np.uint16)
    for i in range(n):
        g = 0
        for j in range(offsets[i], offsets[i + 1]):
            a, b = g, np.int64(counts[j])
            while b:
                a, b = b, a % b
            g = a
        if g == 0:
            g = 1
        for j in range(offsets[i], offsets[i + 1]):
            out[j] = counts[j] // g
        units[i] = g
    return out, units


@njit(cache=True, inline="always")
def _put_symbol(buffer, at, letters, z):
    buffer[at] = letters[z, 0]
    at += 1
    if letters[z, 1]:
        buffer[at] = letters[z, 1]
        at += 1
    return at


@njit(cache=True, inline="always")
def _put_count(buffer, at, count):
    if count == 1:
        return at
    power = 1
    while power * 10 <= count:
        power *= 10
    while power:
        buffer[at] = 48 + (count // power) % 10
        at += 1
        power //= 10
    return at


@njit(cache=True)
def _gcd(a, b):
    while b:
        a, b = b, a % b
    return a


@njit(cache=True, inline="always")
def _order_row(order, numbers, rank, start, size):
    """Put the places of a row's elements into ``order``, by the rank of their elements."""
    for j in range(size):
        p = j
        while p > 0 and rank[numbers[order[p - 1]]] > rank[numbers[start + j]]:
            order[p] = order[p - 1]
            p -= 1
        order[p] = start + j


@njit(cache=True, nogil=True)
def _formula_bytes(offsets, numbers, counts, letters, rank, negativity, peroxides, diatomics):
    n = len(offsets) - 1
    buffer = np.empty(7 * len(numbers) + 8 * n + 8, np.uint8)
    ends = np.zeros(n + 1, np.int64)
    order = np.empty(256, np.int64)
    at = 0
    for i in range(n):
        a = offsets[i]
        k = offsets[i + 1] - a
        _order_row(order, numbers, rank, a, k)
        scale = 1
        if k == 1 and counts[a] == 1 and diatomics[numbers[a]]:
            scale = 2
        elif k == 2 and counts[a] == 1 and counts[a + 1] == 1:
            first, last = numbers[order[0]], numbers[order[1]]
            if last == 8 and peroxides[first]:
                scale = 2
        group = 1
        if k >= 3:
            x = order[k - 2]
            y = order[k - 1]
            if negativity[numbers[y]] - negativity[numbers[x]] < POLYANION_LIMIT:
                group = _gcd(np.int64(counts[x]), np.int64(counts[y]))
        plain = k - 2 if group > 1 else k
        for j in range(plain):
            at = _put_symbol(buffer, at, letters, numbers[order[j]])
            at = _put_count(buffer, at, np.int64(counts[order[j]]) * scale)
        if group > 1:
            buffer[at] = 40
            at += 1
            for j in range(plain, k):
                at = _put_symbol(buffer, at, letters, numbers[order[j]])
                at = _put_count(buffer, at, np.int64(counts[order[j]]) // group)
            buffer[at] = 41
            at = _put_count(buffer, at + 1, group)
        ends[i + 1] = at
    return ends, buffer[:at].copy()


@njit(cache=True, nogil=True)
def _system_bytes(offsets, numbers, letters, rank):
    n = len(offsets) - 1
    buffer = np.empty(3 * len(numbers) + 1, np.uint8)
    ends = np.zeros(n + 1, np.int64)
    order = np.empty(256, np.int64)
    at = 0
    for i in range(n):
        a = offsets[i]
        k = offsets[i + 1] - a
        _order_row(order, numbers, rank, a, k)
        for j in range(k):
            if j:
                buffer[at] = 45
                at += 1
            at = _put_symbol(buffer, at, letters, numbers[order[j]])
        ends[i + 1] = at
    return ends, buffer[:at].copy()


@njit(cache=True, nogil=True)
def _anonymous_bytes(offsets, counts):
    n = len(offsets) - 1
    buffer = np.empty(6 * len(counts) + 1, np.uint8)
    ends = np.zeros(n + 1, np.int64)
    sizes = np.empty(256, np.int64)
    at = 0
    for i in range(n):
        a = offsets[i]
        k = offsets[i + 1] - a
        for j in range(k):
            p = j
            while p > 0 and sizes[p - 1] > counts[a + j]:
                sizes[p] = sizes[p - 1]
                p -= 1
            sizes[p] = counts[a + j]
        for j in range(k):
            buffer[at] = 65 + j if j < 26 else 97 + (j - 26) % 26
            at = _put_count(buffer, at + 1, sizes[j])
        ends[i + 1] = at
    return ends, buffer[:at].copy()


@njit(cache=True, nogil=True)
def _element_bytes(offsets, numbers, letters, rank):
    ends = np.zeros(len(numbers) + 1, np.int64)
    buffer = np.empty(2 * len(numbers) + 1, np.uint8)
    order = np.empty(256, np.int64)
    at = 0
    for i in range(len(offsets) - 1):
        a = offsets[i]
        k = offsets[i + 1] - a
        _order_row(order, numbers, rank, a, k)
        for j in range(k):
            at = _put_symbol(buffer, at, letters, numbers[order[j]])
            ends[a + j + 1] = at
    return ends, buffer[:at].copy()


def _flags(symbols: str) -> np.ndarray:
    flags = np.zeros(len(SYMBOLS), np.bool_)
    flags[[ATOMIC_NUMBERS[s] for s in symbols.split()]] = True
    return flags


_PEROXIDES = _flags("H Li Na K Rb Cs")
_DIATOMICS = _flags("H N O F Cl")


def _strings(ends: np.ndarray, data: np.ndarray) -> pa.StringArray:
    array = pa.LargeStringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(data))
    return array.cast(pa.string())


def formula_strings(offsets: np.ndarray, numbers: np.ndarray, counts: np.ndarray) -> pa.StringArray:
    """Write reduced formulas; see `CompositionBatch.reduced_formulas`."""
    return _strings(
        *_formula_bytes(
            offsets,
            numbers,
            counts,
            _LETTERS,
            FORMULA_RANK,
            ELECTRONEGATIVITY,
            _PEROXIDES,
            _DIATOMICS,
        )
    )


def chemical_system_strings(offsets: np.ndarray, numbers: np.ndarray) -> pa.StringArray:
    """Write chemical systems; see `CompositionBatch.chemical_systems`."""
    return _strings(*_system_bytes(offsets, numbers, _LETTERS, ALPHABETICAL_RANK))


def anonymous_formula_strings(offsets: np.ndarray, counts: np.ndarray) -> pa.StringArray:
    """Write anonymous formulas; see `CompositionBatch.anonymous_formulas`."""
    return _strings(*_anonymous_bytes(offsets, counts))


def element_lists(offsets: np.ndarray, numbers: np.ndarray) -> pa.ListArray:
    """Write lists of symbols in alphabetical order; see `CompositionBatch.element_lists`."""
    symbols = _strings(*_element_bytes(offsets, numbers, _LETTERS, ALPHABETICAL_RANK))
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), symbols)
