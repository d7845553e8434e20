"""Where each element stands in the periodic table: 18 columns, lanthanides and actinides below."""

from __future__ import annotations

from gandb.core.elements import MAX_Z

COLUMNS = 18
LANTHANIDE_ROW = 8
ACTINIDE_ROW = 9

_NOBLE_GASES = (0, 2, 10, 18, 36, 54, 86, 118)
_LANTHANIDES = range(57, 72)
_ACTINIDES = range(89, 104)


def position(atomic_number: int) -> tuple[int, int]:
    """Return (row, column) of an element, both from 1.

    Rows 1 to 7 are the periods and columns the groups; La to Lu are row 8 and Ac to Lr row 9, in
    columns 3 to 17.
    """
    if not 1 <= atomic_number <= MAX_Z:
        raise ValueError(f"no element has atomic number {atomic_number}; expected 1 to {MAX_Z}")
    if atomic_number in _LANTHANIDES:
        return LANTHANIDE_ROW, atomic_number - _LANTHANIDES.start + 3
    if atomic_number in _ACTINIDES:
        return ACTINIDE_ROW, atomic_number - _ACTINIDES.start + 3
    period = next(i for i, gas in enumerate(_NOBLE_GASES) if atomic_number <= gas)
    first, last = _NOBLE_GASES[period - 1] + 1, _NOBLE_GASES[period]
    left = 1 if period == 1 else 2
    if atomic_number - first < left:
        return period, atomic_number - first + 1
    return period, COLUMNS - (last - atomic_number)
