"""What sits on a site: elements with occupancies and oxidation states, and how that is written.

A full site of one species is written as pymatgen writes a species: ``Fe``, ``Fe3+``, ``Na+``,
``O2-``, ``Ti0+``; but oxidation states that are no whole numbers keep their digits, where pymatgen
writes two: ``Fe2.5+``. Anything else lists what shares the site with its occupancies, by
atomic number and oxidation state: ``Fe3+:0.5 Ni2+:0.25``. Deuterium and tritium are
``D`` and ``T``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real

from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.errors import InputError

ISOTOPES = {"D": "H", "T": "H"}
"""Symbols of isotopes and the element that they are."""

_SPECIES = re.compile(r"([A-Z][a-z]?)(?:(\d+(?:\.\d+)?)?([+-]))?\Z")
_MOST = 20  # oxidation states beyond this are slips
_LONGEST = 2_000  # characters of what sits on one site


class SpeciesError(InputError):
    """A species that is refused, with the reason."""


@dataclass(frozen=True)
class Occupant:
    """One species on a site.

    Attributes:
        symbol: of the element, or ``D`` or ``T``.
        occupancy: share of the site, above 0; eight decimals.
        oxidation_state: None if it is not known.
    """

    symbol: str
    occupancy: float = 1.0
    oxidation_state: float | None = None

    @property
    def element(self) -> str:
        """Symbol of the element, H for its isotopes."""
        return ISOTOPES.get(self.symbol, self.symbol)

    def __str__(self) -> str:
        """Write the species without its occupancy."""
        state = self.oxidation_state
        if state is None:
            return self.symbol
        number = "" if abs(state) == 1 else f"{abs(state):.8f}".rstrip("0").rstrip(".")
        return f"{self.symbol}{number}{'-' if state < 0 else '+'}"


def species_text(occupants: Iterable[Occupant]) -> str:
    """Write what sits on a site in its one canonical form; equal species are added up.

    Raises:
        SpeciesError: an element is unknown, or an occupancy or oxidation state is out of bounds.
    """
    total: dict[tuple[str, float | None], float] = {}
    for occupant in occupants:
        _check(occupant)
        state = occupant.oxidation_state
        key = (occupant.symbol, None if state is None else round(float(state), 8) + 0.0)
        total[key] = total.get(key, 0.0) + float(occupant.occupancy)
    listed = [
        Occupant(symbol, round(share, 8), state)
        for (symbol, state), share in total.items()
        if round(share, 8) > 0
    ]
    if not listed:
        raise SpeciesError("nothing sits on it: every occupancy is 0")
    listed.sort(key=_order)
    if len(listed) == 1 and listed[0].occupancy == 1.0:
        return str(listed[0])
    return " ".join(f"{o}:{o.occupancy:.8f}".rstrip("0").rstrip(".") for o in listed)


@lru_cache(maxsize=10_000)
def parse_species(text: str) -> tuple[Occupant, ...]:
    """Read what `species_text` writes, in any order.

    Raises:
        SpeciesError: it is no such text.
    """
    if len(text) > _LONGEST:
        raise SpeciesError(f"{len(text):,} characters are too many for what sits on one site")
    found = []
    for part in text.replace(",", " ").split():
        name, colon, share = part.partition(":")
        match = _SPECIES.match(name)
        if match is None:
            raise SpeciesError(
                f"{name!r} is not an element, such as Fe, or a species, such as Fe3+"
            )
        symbol, number, sign = match.groups()
        state = None if sign is None else float(f"{sign}{number or 1}")
        try:
            occupancy = float(share) if colon else 1.0
        except ValueError:
            raise SpeciesError(f"occupancy {share!r} is not a number") from None
        occupant = Occupant(symbol, occupancy, state)
        _check(occupant)
        found.append(occupant)
    if not found:
        raise SpeciesError("no species is named")
    return tuple(sorted(found, key=_order))


def _check(occupant: Occupant) -> None:
    if not _is_number(occupant.occupancy):
        raise SpeciesError(f"occupancy {occupant.occupancy!r} is not a number")
    if occupant.oxidation_state is not None and not _is_number(occupant.oxidation_state):
        raise SpeciesError(f"oxidation state {occupant.oxidation_state!r} is not a number")
    if occupant.element not in ATOMIC_NUMBERS:
        raise SpeciesError(f"there is no element {occupant.symbol!r}")
    if not 0 <= occupant.occupancy <= 1e6:  # also refuses NaN
        raise SpeciesError(f"occupancy {occupant.occupancy:g} of {occupant.symbol} is impossible")
    state = occupant.oxidation_state
    if state is not None and not -_MOST <= state <= _MOST:
        raise SpeciesError(f"oxidation state {state:g} of {occupant.symbol} is impossible")


def _is_number(value: object) -> bool:
    return isinstance(value, Real)


def _order(occupant: Occupant) -> tuple[int, str, float]:
    state = occupant.oxidation_state
    return (
        ATOMIC_NUMBERS[occupant.element],
        occupant.symbol,
        float("-inf") if state is None else state,
    )
