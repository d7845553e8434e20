"""The compiled loops of `gandb.sources.mysql_dump`: over the bytes of INSERT statements.

Strings and their escapes are as in https://dev.mysql.com/doc/refman/8.4/en/string-literals.html.
"""

from __future__ import annotations

import numba
import numpy as np

NULL, BARE, TEXT, ESCAPED, HEX, BITS = range(6)
"""How a cell is written: ``NULL``, a number, a string, one with escapes, ``0x41``, ``b'01'``."""

MORE, FULL, DONE, CUT, TAIL, BROKEN = range(6)
"""Why a scan stopped: it needs bytes; it has no more room; the statement ended; the data ended
after a row; something follows the rows; something is there instead of a row."""

SOUND, SYNTAX, WIDTH = range(3)
"""What is wrong with a row: nothing; a value that is none; too few or too many values."""

_QUOTE, _DOUBLE, _GRAVE, _BACKSLASH = 39, 34, 96, 92
_COMMA, _SEMICOLON, _OPEN, _CLOSE, _UNDERSCORE = 44, 59, 40, 41, 95
_STAR, _SLASH = 42, 47

_MATTERS = np.zeros(256, np.bool_)
_MATTERS[[_QUOTE, _DOUBLE, _GRAVE, _SEMICOLON, _STAR, _SLASH]] = True


@numba.njit(cache=True, nogil=True, inline="always")
def _is_space(c: int) -> bool:
    return c == 32 or 9 <= c <= 13


@numba.njit(cache=True, nogil=True)
def skip_statement(data: np.ndarray, at: int, end: int, state: int) -> tuple[int, int]:
    """Look for the semicolon that ends a statement, outside strings, names and comments.

    Args:
        data: uint8, bytes.
        at: where to begin.
        end: where the data ends.
        state: 0, or what an earlier call returned: the open quote, 42 in a comment, plus 256 times
            the byte before ``at`` that the next one depends on.

    Returns:
        The place after the semicolon and -1, or ``end`` and the state to go on with.
    """
    inside = state & 255
    last = state >> 8
    while at < end:
        if inside == 0:
            if last == 0:
                while at < end and not _MATTERS[data[at]]:
                    at += 1
                if at == end:
                    break
            c = data[at]
            at += 1
            if c == _SEMICOLON:
                return at, -1
            if c in (_QUOTE, _DOUBLE, _GRAVE):
                inside = c
                last = 0
            elif c == _STAR and last == _SLASH:
                inside = _STAR
                last = 0
            else:
                last = c if c == _SLASH else 0
        elif inside == _STAR:
            c = data[at]
            at += 1
            if c == _SLASH and last == _STAR:
                inside = 0
                last = 0
            else:
                last = c if c == _STAR else 0
        elif last == _BACKSLASH:
            last = 0
            at += 1
        else:
            while at < end and data[at] != inside and data[at] != _BACKSLASH:
                at += 1
            if at == end:
                break
            c = data[at]
            at += 1
            if c == inside:  # a doubled quote opens it again
                inside = 0
            elif inside != _GRAVE:
                last = c
    return at, inside | last << 8


@numba.njit(cache=True, nogil=True)
def skip_alike(data: np.ndarray, at: int, end: int, head: np.ndarray) -> int:
    """Return where the last of the statements ends that begin with the same words.

    Args:
        data: uint8, bytes.
        at: where the first begins.
        end: where the data ends.
        head: uint8, the words.

    Returns:
        ``at`` if not even the first ends in the data.
    """
    while True:
        after, state = skip_statement(data, at, end, 0)
        if state >= 0:
            return at
        at = after
        i = at
        while i < end and _is_space(data[i]):
            i += 1
        if i + len(head) > end:
            return at
        for k in range(len(head)):
            if data[i + k] != head[k]:
                return at


@numba.njit(cache=True, nogil=True)
def _string_end(data: np.ndarray, at: int, end: int, quote: int) -> tuple[int, bool]:
    """Return where a string's closing quote is (-1: not in the data), and if it has escapes."""
    escaped = False
    while True:
        while at < end and data[at] != quote and data[at] != _BACKSLASH:
            at += 1
        if at + 1 >= end:
            return -1, escaped
        if data[at] == quote and data[at + 1] != quote:
            return at, escaped
        escaped = True
        at += 2


@numba.njit(cache=True, nogil=True)
def scan_rows(
    data: np.ndarray,
    at: int,
    end: int,
    final: bool,
    slots: np.ndarray,
    head: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    kinds: np.ndarray,
    rows: np.ndarray,
    faults: np.ndarray,
) -> tuple[int, int, int]:
    """Find the wanted cells of rows ``(1,'a',NULL),(2,...`` up to the end of the statement.

    Args:
        data: uint8, bytes.
        at: where a row is due.
        end: where the data ends, less than 2³¹.
        final: whether nothing follows the data.
        slots: (columns,) for each value of a row its place among the wanted ones, or -1.
        head: uint8, the words before the rows; a statement that begins with the same goes on.
        starts: int32 (wanted, m), room for where each cell begins.
        stops: int32 (wanted, m), for where it ends.
        kinds: uint8 (wanted, m), for how it is written.
        rows: int32 (m,), for where each row begins.
        faults: uint8 (m,), for what is wrong with it.

    Returns:
        Why it stopped, the number of rows, and where to go on: with `MORE` and `FULL` a row is due
        there.
    """
    n = 0
    width = len(slots)
    while n < len(rows):
        i = at
        while i < end and _is_space(data[i]):
            i += 1
        if i == end:
            return MORE, n, at
        if data[i] != _OPEN:
            return BROKEN, n, i
        first = i
        i += 1
        column = 0
        fault = SOUND
        while True:
            while i < end and _is_space(data[i]):
                i += 1
            if i == end:
                return MORE, n, at
            c = data[i]
            kind = BARE
            start = i
            if c != _QUOTE and c != _DOUBLE:
                while i < end:
                    c = data[i]
                    if c <= 41 and (c in (_CLOSE, _QUOTE, _DOUBLE) or c == 32 or 9 <= c <= 13):
                        break
                    if c == _COMMA:
                        break
                    i += 1
                if i == end:
                    return MORE, n, at
                length = i - start
                lead = data[start] | 32
                if data[start] == _UNDERSCORE and _is_space(c):  # _binary 'abc'
                    while i < end and _is_space(data[i]):
                        i += 1
                    if i == end:
                        return MORE, n, at
                    c = data[i]
                if c in (_QUOTE, _DOUBLE):
                    if length == 1 and lead == 120:
                        kind = HEX
                    elif length == 1 and lead == 98:
                        kind = BITS
                    elif not ((length == 1 and lead == 110) or data[start] == _UNDERSCORE):
                        fault = SYNTAX
                elif length == 0:
                    fault = SYNTAX
                elif (
                    length == 4
                    and lead == 110
                    and data[start + 1] | 32 == 117
                    and data[start + 2] | 32 == 108
                    and data[start + 3] | 32 == 108
                ):
                    kind = NULL
                elif length > 2 and data[start] == 48 and data[start + 1] | 32 == 120:
                    kind = HEX
                    start += 2
                elif length > 2 and data[start] == 48 and data[start + 1] | 32 == 98:
                    kind = BITS
                    start += 2
            stop = i
            if c in (_QUOTE, _DOUBLE):
                start = i + 1
                stop, escaped = _string_end(data, start, end, c)
                if stop < 0:
                    return MORE, n, at
                if kind == BARE:
                    kind = ESCAPED if escaped else TEXT
                i = stop + 1
            while i < end and _is_space(data[i]):
                i += 1
            if i == end:
                return MORE, n, at
            if column < width and slots[column] >= 0:
                slot = slots[column]
                starts[slot, n] = start
                stops[slot, n] = stop
                kinds[slot, n] = kind
            c = data[i]
            if c == _COMMA:
                column += 1
                i += 1
            elif c == _CLOSE:
                column += 1
                i += 1
                break
            else:  # another value where a comma is due
                fault = SYNTAX
        if fault == SOUND and column != width:
            fault = WIDTH
        while i < end and _is_space(data[i]):
            i += 1
        if i == end and not final:
            return MORE, n, at
        rows[n] = first
        faults[n] = fault
        n += 1
        if i == end:
            return CUT, n, i
        if data[i] == _COMMA:
            at = i + 1
            continue
        if data[i] != _SEMICOLON:
            return TAIL, n, i
        after = i + 1
        i = after
        while i < end and _is_space(data[i]):
            i += 1
        if i + len(head) > end:
            return DONE, n, after
        for k in range(len(head)):
            if data[i + k] != head[k]:
                return DONE, n, after
        at = i + len(head)
    return FULL, n, at


@numba.njit(cache=True, nogil=True)
def gather(
    data: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    kinds: np.ndarray,
    offsets: np.ndarray,
    out: np.ndarray,
) -> int:
    """Copy m cells one after another, with escapes undone; NULL is empty.

    Args:
        data: uint8, bytes.
        starts: int32 (m,), where each cell begins.
        stops: int32 (m,), where it ends.
        kinds: uint8 (m,), how it is written; hexadecimal digits and bits are copied as they are.
        offsets: int32 (m + 1,), for where each cell begins in ``out``.
        out: uint8, with room for all.

    Returns:
        The number of bytes copied.
    """
    to = 0
    offsets[0] = 0
    for k in range(len(starts)):
        i = starts[k]
        stop = stops[k]
        if kinds[k] == ESCAPED:
            while i < stop:
                c = data[i]
                if c == _BACKSLASH:
                    i += 1
                    c = data[i]
                    if c == 48:
                        c = 0
                    elif c == 98:
                        c = 8
                    elif c == 110:
                        c = 10
                    elif c == 114:
                        c = 13
                    elif c == 116:
                        c = 9
                    elif c == 90:
                        c = 26
                    elif c == 37 or c == _UNDERSCORE:  # \% and \_ mean themselves
                        out[to] = _BACKSLASH
                        to += 1
                elif c == data[stop]:  # a doubled quote
                    i += 1
                out[to] = c
                to += 1
                i += 1
        elif kinds[k] != NULL:
            while i < stop:
                out[to] = data[i]
                to += 1
                i += 1
        offsets[k + 1] = to
    return to
