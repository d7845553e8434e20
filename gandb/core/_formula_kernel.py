"""The compiled reader of plain formulas; `gandb.core.formula` is its face.

Plain means: element symbols, whole counts without a leading zero, matched ``()``, ``[]`` and
``{}`` at most 16 deep, and spaces before a symbol or a bracket. Every other text gets a zero in
``plain`` and is left to the exact reader, which also finds the reason of a refusal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from gandb.core.elements import MAX_Z, SYMBOLS

MAX_TERMS = 256
MAX_DEPTH = 16

_SYMBOL_TABLE = np.zeros(26 * 27, np.uint8)
for _z, _symbol in enumerate(SYMBOLS):
    if _symbol:
        _second = ord(_symbol[1]) - 96 if len(_symbol) == 2 else 0
        _SYMBOL_TABLE[(ord(_symbol[0]) - 65) * 27 + _second] = _z


@njit(cache=True, inline="always")
def _read_count(data: Any, at: Any, end: Any, limit: Any) -> Any:
    """Read a whole count at ``at``; return (count or 0 if not plain, next position)."""
    if at == end or data[at] < 48 or data[at] > 57:
        return 1, at
    if data[at] == 48:
        return 0, at
    value = 0
    while at < end and 48 <= data[at] <= 57:
        value = value * 10 + data[at] - 48
        if value > limit:
            return 0, at
        at += 1
    return value, at


@njit(cache=True, nogil=True)
def parse_plain(text_offsets: Any, data: Any, max_atoms: Any, symbols: Any) -> Any:
    """Read the plain formulas among n texts.

    Args:
        text_offsets: int32 or int64 (n+1,), where each text begins in ``data``.
        data: uint8, UTF-8 bytes.
        max_atoms: most atoms of a plain formula.
        symbols: the table of symbols.

    Returns:
        plain bool (n,), offsets int64 (n+1,), atomic_numbers uint8 (m,), counts uint16 (m,) as in
        `CompositionBatch`; a text that is not plain has no pairs.
    """
    n = len(text_offsets) - 1
    plain = np.zeros(n, np.bool_)
    offsets = np.zeros(n + 1, np.int64)
    numbers = np.empty(text_offsets[n] - text_offsets[0], np.uint8)
    counts = np.empty(text_offsets[n] - text_offsets[0], np.uint16)
    term_z = np.empty(MAX_TERMS, np.uint8)
    term_count = np.empty(MAX_TERMS, np.int64)
    group_start = np.empty(MAX_DEPTH, np.int64)
    group_close = np.empty(MAX_DEPTH, np.uint8)
    total_of = np.zeros(MAX_Z + 1, np.int64)
    m = 0
    for i in range(n):
        at = np.int64(text_offsets[i])
        end = np.int64(text_offsets[i + 1])
        terms = 0
        depth = 0
        good = True
        while at < end:
            c = data[at]
            if 65 <= c <= 90:
                second = 0
                at += 1
                if at < end and 97 <= data[at] <= 122:
                    second = data[at] - 96
                    at += 1
                z = symbols[(c - 65) * 27 + second]
                count, at = _read_count(data, at, end, max_atoms)
                if z == 0 or count == 0 or terms == MAX_TERMS:
                    good = False
                    break
                term_z[terms] = z
                term_count[terms] = count
                terms += 1
            elif c == 40 or c == 91 or c == 123:
                if depth == MAX_DEPTH:
                    good = False
                    break
                group_start[depth] = terms
                group_close[depth] = 41 if c == 40 else c + 2
                depth += 1
                at += 1
            elif c == 41 or c == 93 or c == 125:
                if depth == 0 or group_close[depth - 1] != c or group_start[depth - 1] == terms:
                    good = False
                    break
                depth -= 1
                count, at = _read_count(data, at + 1, end, max_atoms)
                if count == 0:
                    good = False
                    break
                for j in range(group_start[depth], terms):
                    term_count[j] *= count
                    if term_count[j] > max_atoms:
                        good = False
                if not good:
                    break
            elif c == 32:
                at += 1
            else:
                good = False
                break
        good = good and terms > 0 and depth == 0
        if good:
            atoms = 0
            start = m
            for j in range(terms):
                z = term_z[j]
                atoms += term_count[j]
                if total_of[z] == 0:
                    p = m
                    while p > start and numbers[p - 1] > z:
                        numbers[p] = numbers[p - 1]
                        p -= 1
                    numbers[p] = z
                    m += 1
                total_of[z] += term_count[j]
            for p in range(start, m):
                z = numbers[p]
                counts[p] = total_of[z] if atoms <= max_atoms else 0
                total_of[z] = 0
            if atoms > max_atoms:
                good = False
                m = start
        plain[i] = good
        offsets[i + 1] = m
    return plain, offsets, numbers[:m].copy(), counts[:m].copy()


def read_plain(
    text_offsets: np.ndarray, data: np.ndarray, max_atoms: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read the plain formulas among texts; see `parse_plain`."""
    plain, offsets, numbers, counts = parse_plain(text_offsets, data, max_atoms, _SYMBOL_TABLE)
    return plain, offsets, numbers, counts
