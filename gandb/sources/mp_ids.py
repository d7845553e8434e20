"""The Materials Project's ids: one material, written ``mp-149`` and ``mp-aaaaaaft``.

Since its database version 2026-04-13 the Materials Project writes a number in base 26 with the
letters a to z, filled up with a (= 0) to eight. Ids up to ``mp-3347529`` keep their decimal form,
later ones have letters alone. Source: https://docs.materialsproject.org/data-production/identifiers
"""

from __future__ import annotations

import re

LAST_DECIMAL = 3_347_529
"""The largest number that the Materials Project itself writes in decimal."""
LETTERS = 8
"""Letters that a number is filled up to."""
ALIAS = "mp-id"
"""Kind of alias under which every form of an id is found."""

_ID = re.compile(r"(mp|mvc)-(?:([0-9]{1,15})|([a-z]{1,10}))([-_][A-Za-z0-9].*)?\Z", re.DOTALL)
_A = ord("a")


def mp_ids(text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the canonical form of an id and all its forms as aliases.

    Canonical is the form that the Materials Project shows: ``mp-149``, and ``mp-aaahilze`` for
    3,347,530. A suffix, as in ``mp-1211097-GGA+U``, stays on the canonical form; the aliases are of
    the material. What is no such id, a bare number included, is returned as it is, without aliases.
    """
    text = text.strip()
    match = _ID.match(text)
    if match is None:
        return text, ()
    prefix, digits, letters, suffix = match.groups()
    number = int(digits) if digits else number_of(letters)
    short = letters_of(number)
    forms = [f"{prefix}-{number}", f"{prefix}-{short.rjust(LETTERS, 'a')}", f"{prefix}-{short}"]
    canonical = forms[0] if number <= LAST_DECIMAL else forms[1]
    aliases = tuple((ALIAS, form) for form in dict.fromkeys(forms))
    return canonical + (suffix or ""), aliases


def number_of(letters: str) -> int:
    """Return the number that letters a to z write in base 26."""
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - _A
    return number


def letters_of(number: int) -> str:
    """Return a number, 0 or more, in base 26 with the letters a to z."""
    letters = ""
    while True:
        number, rest = divmod(number, 26)
        letters = chr(_A + rest) + letters
        if not number:
            return letters
