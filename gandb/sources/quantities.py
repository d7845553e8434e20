"""Numbers that documents of sources state, and the properties that they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gandb.core.errors import InputError
from gandb.core.units import PROPERTIES, unit_factor

MAX_MEASURED = 1e9
"""A measured value of this size or more stands for a missing one, in any unit that is in use."""

_LEAST_NORMAL = 2.2250738585072014e-308  # smaller numbers than this are left over in memory


def reach(document: Mapping[str, Any], path: str) -> Any:
    """Return the value at a key, or at a dotted path of keys; None if there is none."""
    if path in document or "." not in path:
        return document.get(path)
    value: Any = document
    for key in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def measured(value: Any, what: str) -> float | None:
    """Return a number, also of a text that is one; None if it is missing.

    Missing are null, ``NaN``, empty text, ``na`` and what is too large or too small to be measured.

    Raises:
        InputError: it is something else.
    """
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in ("", "na", "nan", "none", "null", "n/a"):
            return None
        try:
            value = float(text)
        except ValueError:
            raise InputError(f"{what} is {value[:40]!r}, which is not a number") from None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{what} is of type {type(value).__name__}, not a number")
    try:
        found = float(value)
    except OverflowError:
        return None
    return None if is_sentinel(found) else found


def is_sentinel(value: float) -> bool:
    """Whether a number stands for a missing one: infinite, huge, or left over in memory."""
    size = abs(value)
    return not size < MAX_MEASURED or 0.0 < size < _LEAST_NORMAL


def properties_of(
    document: Mapping[str, Any], columns: Mapping[str, str]
) -> tuple[dict[str, float], set[str]]:
    """Return the properties of an object in their stored units, and the keys that they are of.

    Args:
        document: the object.
        columns: key or dotted path to ``PROPERTY:UNIT``, see `gandb.sources.base.Source`; where
            several mean one property, the first that says something is taken.

    Raises:
        InputError: a value is no number.
    """
    found: dict[str, float] = {}
    used: set[str] = set()
    for path, meaning in columns.items():
        name, _, unit = meaning.partition(":")
        if name not in PROPERTIES or name in found:
            continue
        value = measured(reach(document, path), path)
        if value is not None:
            factor = unit_factor(unit, PROPERTIES[name]) if unit else 1.0
            found[name] = value if factor == 1.0 else value * factor
            used.add(path)
    return found, used


def is_cut_short(words: Sequence[str]) -> bool:
    """Whether the last of some numbers was cut off within its digits.

    It was if all others have as many decimals, six at least, and it has fewer: so programs write
    coordinates. Worth asking only where a file ends with the number and without a line break.
    """
    decimals = [len(word.partition(".")[2]) for word in words]
    return len(decimals) > 1 and len(set(decimals[:-1])) == 1 and decimals[0] > max(5, decimals[-1])
