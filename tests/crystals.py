"""Random crystals for property-based tests, ordered and disordered, and what they are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from gandb.core.crystals import Crystal, crystal
from gandb.core.elements import SYMBOLS

METALS = ("Li", "Na", "K", "Mg", "Ca", "Sr", "Al", "Ti", "V", "Mn", "Fe", "Co", "Ni", "La", "U")
IONS = ("Li+", "Mg2+", "Al3+", "Ti4+", "Fe2+", "Fe3+", "Fe2.5+", "O2-", "F-", "Cl-", "H+", "N3-")
ISOTOPES = ("D", "T")
MIXED = (
    "Fe:0.5 Ni:0.5",
    "Fe3+:0.25 Ni2+:0.5",
    "Li+:0.75",
    "Na:0.33333333",
    "Na:0.3333",
    "K:0.667",
    "Al:0.16666667 Si:0.83333333",
    "Ca2+:0.1 Sr2+:0.2 La3+:0.7",
    "O:0.997",
)
FULL = (*METALS, "H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Se")
"""Species that fill a site."""


@dataclass(frozen=True)
class Parts:
    """What a record is made of: the arguments of `gandb.core.crystals.crystal`."""

    lengths: tuple[float, float, float]
    angles: tuple[float, float, float]
    species: tuple[str, ...]
    coords: np.ndarray
    properties: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    charge: float | None = None

    def crystal(self) -> Crystal:
        return crystal(
            self.lengths,
            self.angles,
            self.species,
            self.coords,
            properties=self.properties,
            charge=self.charge,
        )

    def ordered_as(self, order: Sequence[int]) -> Parts:
        """Return the same sites in another order."""
        return replace(
            self,
            species=tuple(self.species[i] for i in order),
            coords=self.coords[list(order)],
            properties={k: [v[i] for i in order] for k, v in self.properties.items()},
        )


def parts_of(record: Crystal) -> Parts:
    """Return what a record would be made of again."""
    return Parts(
        lengths=tuple(record.lengths.tolist()),
        angles=tuple(record.angles.tolist()),
        species=record.species,
        coords=record.frac_coords,
        properties=record.properties,
        charge=record.charge,
    )


def numbers(low: float, high: float, digits: int = 8) -> st.SearchStrategy[float]:
    """Decimal numbers of so many digits."""
    scale = 10**digits
    return st.integers(round(low * scale), round(high * scale)).map(lambda n: n / scale)


def angles() -> st.SearchStrategy[tuple[float, float, float]]:
    """Cell angles in degrees that always span a cell; right angles and 120 among them."""
    free = st.one_of(st.just(90.0), numbers(65, 115), numbers(65, 115, 2))
    usual = st.sampled_from(
        [(90.0, 90.0, 90.0), (90.0, 90.0, 120.0), (60.0, 60.0, 60.0), (90.0, 104.5, 90.0)]
    )
    return st.one_of(usual, st.tuples(free, free, free))


def lengths() -> st.SearchStrategy[tuple[float, float, float]]:
    """Cell lengths in Å, equal ones among them."""
    one = st.one_of(numbers(2.5, 12), numbers(2.5, 12, 3))
    return st.one_of(one.map(lambda a: (a, a, a)), st.tuples(one, one, one))


@st.composite
def coordinates(draw: st.DrawFn, n: int) -> np.ndarray:
    """Fractional coordinates (n, 3) well apart from each other: on a lattice or off it a little."""
    steps = draw(st.sampled_from([k for k in (2, 3, 4) if k**3 >= n]))
    places = draw(st.lists(st.integers(0, steps**3 - 1), min_size=n, max_size=n, unique=True))
    found = np.array([(p // steps**2, p // steps % steps, p % steps) for p in places], float)
    if draw(st.booleans()):
        off = st.lists(numbers(-0.35, 0.35, 8), min_size=3, max_size=3)
        found += np.array(draw(st.lists(off, min_size=n, max_size=n)))
    return found / steps


def species(*, disordered: bool) -> st.SearchStrategy[str]:
    """What may sit on a site."""
    some = [
        st.sampled_from(FULL),
        st.sampled_from(IONS),
        st.sampled_from([*SYMBOLS[1:], *ISOTOPES]),
    ]
    if disordered:
        some.append(st.sampled_from(MIXED))
    return st.one_of(*some)


def site_properties(n: int) -> st.SearchStrategy[dict[str, list[Any]]]:
    """Properties of n sites: numbers, vectors, flags, texts; some sites without."""
    number = numbers(-9, 9)
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "magmom": st.one_of(st.none(), number),
        "forces": st.lists(number, min_size=3, max_size=3),
        "selective_dynamics": st.lists(st.booleans(), min_size=3, max_size=3),
        "label": st.one_of(st.none(), st.text(max_size=4)),
        "coordination_no": st.integers(0, 12),
    }
    return st.fixed_dictionaries(
        {}, optional={k: st.lists(v, min_size=n, max_size=n) for k, v in kinds.items()}
    )


@st.composite
def crystal_parts(
    draw: st.DrawFn,
    *,
    max_sites: int = 8,
    disordered: bool = True,
    properties: bool = True,
    oxidation_states: bool = True,
) -> Parts:
    """Arguments that make a record; at most 64 sites."""
    n = draw(st.integers(1, max_sites))
    what = species(disordered=disordered) if oxidation_states else st.sampled_from(FULL)
    return Parts(
        lengths=draw(lengths()),
        angles=draw(angles()),
        species=tuple(draw(st.lists(what, min_size=n, max_size=n))),
        coords=draw(coordinates(n)),
        properties=draw(site_properties(n)) if properties else {},
        charge=draw(st.one_of(st.none(), st.integers(-3, 3).map(float))) if properties else None,
    )


def crystals(
    *,
    max_sites: int = 8,
    disordered: bool = True,
    properties: bool = True,
    oxidation_states: bool = True,
) -> st.SearchStrategy[Crystal]:
    """Records; ``oxidation_states=False`` gives ordered crystals of plain elements."""
    return crystal_parts(
        max_sites=max_sites,
        disordered=disordered,
        properties=properties,
        oxidation_states=oxidation_states,
    ).map(Parts.crystal)
