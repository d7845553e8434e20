"""Perovskites, Heusler and half-Heusler crystals, made of radii: training sets for tests."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np

from gandb.core.crystals import Crystal
from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.radii import COVALENT_RADIUS
from gandb.representations.asymmetric_unit import AsymmetricUnits, expand

LARGE, SMALL = ("K", "Rb", "Cs", "Ba", "Sr"), ("Ti", "Zr", "Nb", "Mg", "Zn")
ANIONS = ("O", "F", "S")
FIRST, SECOND, THIRD = ("Li", "Mg", "Sc", "Y"), ("Ni", "Pd", "Cu", "Au"), ("Sn", "Sb", "Al", "Bi")


def placed(number: int, length: float, sites: dict[str, tuple[float, float, float]]) -> Crystal:
    """Return a cubic crystal by its base sites."""
    units = AsymmetricUnits.of_sites(
        [number],
        np.full((1, 3), length),
        np.full((1, 3), 90.0),
        [[ATOMIC_NUMBERS[symbol] for symbol in sites]],
        [np.array(list(sites.values()))],
    )
    return expand(units).crystal(0)


def edge(times: dict[str, int]) -> float:
    """Return a cube's edge, Å, for atoms that fill it."""
    cubes = sum(n * COVALENT_RADIUS[ATOMIC_NUMBERS[symbol]] ** 3 for symbol, n in times.items())
    return float((9.0 * cubes) ** (1 / 3))


@cache
def cubic_ternaries() -> tuple[Crystal, ...]:
    """75 perovskites (221), 64 half-Heusler (216) and 64 Heusler crystals (225)."""
    corner, centre, quarter, face = (0, 0, 0), (0.5,) * 3, (0.25,) * 3, (0.5, 0.5, 0)
    found = [
        placed(221, edge({a: 1, b: 1, x: 3}), {a: corner, b: centre, x: face})
        for a, b, x in product(LARGE, SMALL, ANIONS)
    ]
    for a, b, c in product(FIRST, SECOND, THIRD):
        found.append(placed(216, edge({a: 4, b: 4, c: 4}), {a: centre, b: quarter, c: corner}))
        found.append(placed(225, edge({a: 4, b: 8, c: 4}), {a: centre, b: quarter, c: corner}))
    return tuple(found)


@cache
def cubic_quaternaries() -> tuple[Crystal, ...]:
    """Double perovskites (225) of four elements."""
    found = []
    for a, (b, c), x in product(LARGE, (("Ti", "Mg"), ("Zr", "Zn"), ("Nb", "Mg")), ANIONS):
        sites = {a: (0.25,) * 3, b: (0, 0, 0), c: (0.5,) * 3, x: (0.25, 0, 0)}
        found.append(placed(225, edge({a: 8, b: 4, c: 4, x: 24}), sites))
    return tuple(found)
