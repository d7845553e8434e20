"""Crystal structures as frozen records, quantised when they enter, with content ids.

A record holds what every format can carry: cell lengths (Å) and angles (degrees), and for each site
its species (with occupancies, and oxidation states where given), its fractional coordinates and its
properties. Lengths, angles and coordinates lie on a grid of 1e-8, coordinates are wrapped into
[0, 1) after rounding, and sites stand in canonical order. So a structure that is written out with
eight decimals or more and read again has the same id, whatever the format.

There is no orientation: the lattice is always that of ``pymatgen.core.Lattice.from_parameters``
(rows a, b, c; c along z, a in the xz plane). Cartesian vectors among the site properties turn with
it. A left-handed cell is inverted through the origin (coordinates change sign), which keeps the
crystal's own hand.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any
from uuid import UUID

import numba
import numpy as np

from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.errors import InputError
from gandb.core.ids import Domain, canonical_json
from gandb.core.species import Occupant, parse_species, species_text

GRID = 100_000_000
"""Steps per Å, per degree and per lattice vector."""
MAX_SITES = 10_000
MAX_LENGTH = 1_000.0
"""Longest cell edge, Å."""
MIN_VOLUME = 0.01
"""Smallest cell volume, Å³."""
MIN_FLATNESS = 1e-5
"""Least volume of the cell relative to a box of its edges."""
SAME_PLACE = 0.01
"""Sites nearer to each other than this, Å, are at one place."""
FULL = 1.0 + 1e-6
"""Most that the occupancies of one place may add up to."""
MAX_COUNT = 65_535
CARTESIAN_PROPERTIES = frozenset({"forces", "velocities", "magmom", "final_magmom"})
"""Site properties that turn with the lattice where they are vectors."""

_MAX_COORDINATE = 1e6


class CrystalError(InputError):
    """A structure that is refused, with the reason."""


@dataclass(frozen=True, eq=False)
class Crystal:
    """One structure of n sites; make it with `crystal` or `crystal_of_matrix`.

    Attributes:
        lengths: float64 (3,), a, b, c in Å.
        angles: float64 (3,), alpha, beta, gamma in degrees.
        species: (n,) canonical texts such as ``Fe``, ``Fe3+`` or ``Fe3+:0.5 Ni2+:0.25``.
        frac_coords: float64 (n, 3), in [0, 1).
        properties: name to (n,) plain JSON values; names sorted, None where a site has none.
        charge: of the cell in elementary charges, None if it is not given or 0.
    """

    lengths: np.ndarray
    angles: np.ndarray
    species: tuple[str, ...]
    frac_coords: np.ndarray
    properties: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    charge: float | None = None

    def __len__(self) -> int:
        return len(self.species)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Crystal) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    @cached_property
    def id(self) -> UUID:
        """The content id: BLAKE2b-128 of the canonical bytes."""
        names = sorted(set(self.species))
        places = {name: i for i, name in enumerate(names)}
        rest: dict[str, Any] = {"species": names}
        if self.properties:
            rest["properties"] = {k: list(v) for k, v in self.properties.items()}
        if self.charge is not None:
            rest["charge"] = self.charge
        digest = hashlib.blake2b(digest_size=16, person=Domain.STRUCTURE.encode())
        digest.update(struct.pack("<I", len(self)))
        digest.update(_steps(np.concatenate([self.lengths, self.angles])).astype("<i8").tobytes())
        digest.update(np.array([places[s] for s in self.species], "<u4").tobytes())
        digest.update(_steps(self.frac_coords).astype("<i4").tobytes())
        digest.update(canonical_json(rest))
        return UUID(bytes=digest.digest())

    @cached_property
    def lattice(self) -> np.ndarray:
        """Lattice vectors a, b, c as rows, float64 (3, 3), Å."""
        return lattice_matrix(self.lengths, self.angles)

    @cached_property
    def volume(self) -> float:
        """Volume of the cell, Å³."""
        return abs(float(np.linalg.det(self.lattice)))

    @cached_property
    def occupants(self) -> tuple[tuple[Occupant, ...], ...]:
        """What sits on each site."""
        return tuple(parse_species(text) for text in self.species)

    @cached_property
    def ordered(self) -> bool:
        """Whether every site is fully occupied by one species."""
        return all(len(s) == 1 and s[0].occupancy == 1.0 for s in self.occupants)

    @property
    def cart_coords(self) -> np.ndarray:
        """Cartesian coordinates, float64 (n, 3), Å."""
        coords: np.ndarray = self.frac_coords @ self.lattice
        return coords

    @cached_property
    def amounts(self) -> dict[str, float]:
        """Atoms of each element in the cell, by symbol; fractions where there is disorder."""
        found: dict[str, float] = {}
        for site in self.occupants:
            for occupant in site:
                found[occupant.element] = found.get(occupant.element, 0.0) + occupant.occupancy
        return found

    def counts(self) -> dict[str, int]:
        """Return the cell's atoms of each element; with disorder, of the smallest whole multiple.

        Raises:
            CrystalError: whole numbers up to 65,535 do not do.
        """
        if self.ordered:
            return {symbol: round(amount) for symbol, amount in self.amounts.items()}
        totals: dict[str, Fraction] = {}
        for site in self.occupants:
            for occupant in site:
                share = _share(occupant.occupancy)
                totals[occupant.element] = totals.get(occupant.element, Fraction(0)) + share
        multiple = math.lcm(*(total.denominator for total in totals.values()))
        counts = {symbol: int(total * multiple) for symbol, total in totals.items()}
        divisor = math.gcd(*counts.values())
        if max(counts.values()) // divisor > MAX_COUNT:
            shown = " ".join(f"{symbol}{float(t):g}" for symbol, t in totals.items())
            raise CrystalError(
                f"its composition, {shown}, has no whole numbers up to {MAX_COUNT:,}: "
                "round the occupancies"
            )
        # Smaller numbers of the same meaning, if the cell holds several formula units of them.
        return (
            counts
            if max(counts.values()) <= MAX_COUNT
            else {symbol: n // divisor for symbol, n in counts.items()}
        )


def crystal(
    lengths: Sequence[float] | np.ndarray,
    angles: Sequence[float] | np.ndarray,
    species: Sequence[str | Sequence[Occupant]],
    frac_coords: Sequence[Sequence[float]] | np.ndarray,
    *,
    properties: Mapping[str, Sequence[Any]] | None = None,
    charge: float | None = None,
) -> Crystal:
    """Make a record of cell lengths (Å), angles (degrees) and fractional coordinates (n, 3).

    Sites at one place become one if together they fill it at most once.

    Raises:
        CrystalError: it is no crystal structure, or too large to be one; says why.
    """
    lengths, angles = _numbers(lengths, (3,), "cell lengths"), _numbers(angles, (3,), "cell angles")
    coords = _numbers(frac_coords, (len(species), 3), "fractional coordinates")
    matrix = _checked_lattice(lengths, angles)
    if not len(species):
        raise CrystalError("it has no sites")
    if len(species) > MAX_SITES:
        raise CrystalError(f"{len(species):,} sites; at most {MAX_SITES:,} are allowed")
    if np.abs(coords).max() > _MAX_COORDINATE:
        raise CrystalError("fractional coordinates beyond a million cells: are they Cartesian?")
    sites = [_occupants(place, what) for place, what in enumerate(species, 1)]
    kept = dict(_plain_properties(properties or {}, len(sites)))

    coords = _wrapped(coords)
    pairs = _same_places(coords, matrix @ matrix.T, SAME_PLACE)
    if len(pairs):
        sites, coords, kept = _joined(sites, coords, kept, pairs)
    texts = [species_text(site) for site in sites]
    for place, site in enumerate(sites, 1):
        if (total := sum(o.occupancy for o in site)) > FULL:
            raise CrystalError(f"site {place} ({texts[place - 1]}) is occupied {total:g} times")

    rank = {t: r for r, t in enumerate(sorted(set(texts), key=lambda t: (_first_z(t), t)))}
    steps = _steps(coords)
    ranks = np.array([rank[t] for t in texts])
    order = np.lexsort((steps[:, 2], steps[:, 1], steps[:, 0], ranks))
    coords = coords[order]
    coords.setflags(write=False)
    listed = order.tolist()
    return Crystal(
        lengths=_on_grid(lengths),
        angles=_on_grid(angles),
        species=tuple(texts[i] for i in listed),
        frac_coords=coords,
        properties={k: tuple(kept[k][i] for i in listed) for k in sorted(kept)},
        charge=_charge(charge),
    )


def crystal_of_matrix(
    lattice: Sequence[Sequence[float]] | np.ndarray,
    species: Sequence[str | Sequence[Occupant]],
    coords: Sequence[Sequence[float]] | np.ndarray,
    *,
    cartesian: bool = False,
    properties: Mapping[str, Sequence[Any]] | None = None,
    charge: float | None = None,
) -> Crystal:
    """Make a record of lattice vectors (rows of (3, 3), Å) and coordinates (n, 3).

    Args:
        lattice: vectors a, b, c.
        species: what sits on each site.
        coords: fractional, or Cartesian in Å.
        cartesian: which of the two.
        properties: name to one value per site.
        charge: of the cell.

    Raises:
        CrystalError: as `crystal`.
    """
    matrix = _numbers(lattice, (3, 3), "lattice vectors")
    found = _numbers(coords, (len(species), 3), "coordinates")
    lengths, angles = _parameters(matrix)
    turned = _checked_lattice(lengths, angles)
    inverse = np.linalg.inv(matrix)
    sign = math.copysign(1.0, float(np.linalg.det(matrix)))
    fractional = sign * (found @ inverse if cartesian else found)
    if properties:
        properties = _turned(properties, sign * inverse @ turned)
    return crystal(lengths, angles, species, fractional, properties=properties, charge=charge)


def lattice_matrix(lengths: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Return lattice vectors as rows (3, 3), Å: c along z, a in the xz plane."""
    a, b, c = lengths
    cos_a, cos_b, cos_g = _cosines(angles)
    sin_a, sin_b = (math.sin(math.radians(angle)) for angle in angles[:2])
    star = max(-1.0, min(1.0, (cos_a * cos_b - cos_g) / (sin_a * sin_b)))  # cosine of gamma*
    return np.array(
        [
            [a * sin_b, 0.0, a * cos_b],
            [-b * sin_a * star, b * sin_a * math.sqrt(1.0 - star * star), b * cos_a],
            [0.0, 0.0, c],
        ]
    )


# --- checks ------------------------------------------------------------------------------


def _numbers(values: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    try:
        found = np.array(values, np.float64)
    except (TypeError, ValueError):
        raise CrystalError(f"{what} are not all numbers") from None
    if found.shape != shape and not (found.size == 0 and 0 in shape):
        raise CrystalError(f"{what} have shape {found.shape}, not {shape}")
    if not np.isfinite(found).all():
        raise CrystalError(f"{what} are not all finite")
    return found.reshape(shape)


def _checked_lattice(lengths: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Return the lattice of parameters that make one.

    Raises:
        CrystalError: they span no volume, or are out of all bounds.
    """
    if lengths.min() <= 0:
        raise CrystalError(f"cell lengths {_listed(lengths)} are not all positive")
    if lengths.max() > MAX_LENGTH:
        raise CrystalError(f"cell lengths {_listed(lengths)} Å; at most {MAX_LENGTH:,g} allowed")
    if angles.min() <= 0 or angles.max() >= 180:
        raise CrystalError(f"cell angles {_listed(angles)} are not between 0 and 180 degrees")
    x, y, z = _cosines(angles)
    square = 1 - x * x - y * y - z * z + 2 * x * y * z
    volume = float(np.prod(lengths)) * math.sqrt(max(square, 0.0))
    if square <= MIN_FLATNESS**2 or volume < MIN_VOLUME:
        raise CrystalError(
            f"the cell (lengths {_listed(lengths)}, angles {_listed(angles)}) has no volume"
        )
    return lattice_matrix(lengths, angles)


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{v:g}" for v in values)


def _occupants(place: int, what: str | Sequence[Occupant]) -> tuple[Occupant, ...]:
    try:
        return parse_species(what) if isinstance(what, str) else parse_species(species_text(what))
    except InputError as error:
        raise CrystalError(f"site {place}: {error}") from None


def _charge(charge: float | None) -> float | None:
    if charge is None:
        return None
    if not math.isfinite(charge):
        raise CrystalError("its charge is not finite")
    return round(float(charge), 8) or None


# --- cells and coordinates ---------------------------------------------------------------


def _cosines(angles: np.ndarray) -> tuple[float, float, float]:
    """Cosines, exactly 0 for right angles."""
    x, y, z = (0.0 if angle == 90.0 else math.cos(math.radians(angle)) for angle in angles)
    return x, y, z


def _parameters(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths and angles of lattice vectors; angles by atan2, which is exact near 0 and 180."""
    a, b, c = matrix
    angles = [
        math.degrees(math.atan2(float(np.linalg.norm(np.cross(u, v))), float(u @ v)))
        for u, v in ((b, c), (a, c), (a, b))
    ]
    return np.sqrt((matrix * matrix).sum(axis=1)), np.array(angles)


def _steps(values: np.ndarray) -> np.ndarray:
    """Whole steps of the grid, int64."""
    return np.rint(values * GRID).astype(np.int64)


def _on_grid(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = _steps(values) / GRID
    found.setflags(write=False)
    return found


def _wrapped(coords: np.ndarray) -> np.ndarray:
    wrapped: np.ndarray = np.mod(_steps(coords - np.floor(coords)), GRID) / GRID
    return wrapped


def _turned(properties: Mapping[str, Sequence[Any]], turn: np.ndarray) -> dict[str, list[Any]]:
    """Turn Cartesian vectors (3,) among the properties with the lattice."""
    found: dict[str, list[Any]] = {}
    for name, values in properties.items():
        found[name] = list(values)
        if name in CARTESIAN_PROPERTIES:
            for i, value in enumerate(found[name]):
                if isinstance(value, Sequence | np.ndarray) and len(value) == 3:
                    found[name][i] = (np.array(value, np.float64) @ turn).tolist()
    return found


@numba.njit(cache=True)
def _same_places(coords: np.ndarray, metric: np.ndarray, within: float) -> np.ndarray:
    """Pairs of sites nearer to each other than ``within``, int64 (k, 2)."""
    n = len(coords)
    found = []
    for i in range(n):
        for j in range(i + 1, n):
            x = coords[i, 0] - coords[j, 0]
            y = coords[i, 1] - coords[j, 1]
            z = coords[i, 2] - coords[j, 2]
            x -= np.rint(x)
            y -= np.rint(y)
            z -= np.rint(z)
            square = (
                x * x * metric[0, 0]
                + y * y * metric[1, 1]
                + z * z * metric[2, 2]
                + 2.0 * (x * y * metric[0, 1] + x * z * metric[0, 2] + y * z * metric[1, 2])
            )
            if square < within * within:
                found.append((i, j))
    pairs = np.empty((len(found), 2), np.int64)
    for k in range(len(found)):
        pairs[k, 0], pairs[k, 1] = found[k]
    return pairs


# --- sites -------------------------------------------------------------------------------


def _joined(
    sites: list[tuple[Occupant, ...]],
    coords: np.ndarray,
    properties: dict[str, list[Any]],
    pairs: np.ndarray,
) -> tuple[list[tuple[Occupant, ...]], np.ndarray, dict[str, list[Any]]]:
    """Join sites at one place, where partial occupancies share it."""
    into = list(range(len(sites)))
    for i, j in pairs.tolist():
        into[j] = min(into[j], into[i])
    joined = list(sites)
    for j, i in enumerate(into):
        if i == j:
            continue
        both = (*joined[i], *sites[j])
        if sum(o.occupancy for o in both) > FULL:
            raise CrystalError(
                f"sites {i + 1} ({species_text(sites[i])}) and {j + 1} ({species_text(sites[j])}) "
                f"are at one place, within {SAME_PLACE} Å"
            )
        for name, values in properties.items():
            if values[i] != values[j]:
                raise CrystalError(
                    f"sites {i + 1} and {j + 1} share one place and differ in {name}"
                )
        joined[i] = parse_species(species_text(both))
    kept = [i for i, target in enumerate(into) if i == target]
    return (
        [joined[i] for i in kept],
        coords[kept],
        {name: [values[i] for i in kept] for name, values in properties.items()},
    )


def _plain_properties(
    properties: Mapping[str, Sequence[Any]], n: int
) -> list[tuple[str, list[Any]]]:
    found = []
    for name, values in properties.items():
        if len(values) != n:
            raise CrystalError(f"{len(values)} values of {name} for {n} sites")
        plain = [_plain(name, value) for value in values]
        if any(value is not None for value in plain):
            found.append((str(name), plain))
    return found


def _plain(name: str, value: Any) -> Any:
    """Return a site property as JSON data; numbers rounded to the grid, NaN as None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return round(value, 8) + 0.0
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(name, v) for k, v in sorted(value.items())}
    raise CrystalError(f"site property {name} holds a {type(value).__name__}, which is not kept")


@lru_cache(maxsize=10_000)
def _first_z(text: str) -> int:
    return ATOMIC_NUMBERS[parse_species(text)[0].element]


@lru_cache(maxsize=10_000)
def _share(occupancy: float) -> Fraction:
    """Return an occupancy as a fraction: thirds, sixths ... where its digits mean them."""
    exact = Fraction(str(occupancy))
    digits = len(str(occupancy).partition(".")[2])
    if digits >= 3:
        simple = exact.limit_denominator(12)
        if abs(simple - exact) <= Fraction(1, 10**digits):
            return simple
    return exact
