"""Crystal structures as frozen records, quantised when they enter, with content ids.

A record holds what every format can carry: cell lengths (Å) and angles (degrees), and for each site
its species (with occupancies, and oxidation states where given), its fractional coordinates and its
properties. Lengths, angles and coordinates lie on a grid of 1e-8, coordinates are wrapped into
[0, 1) after rounding, and sites stand in canonical order. So a structure that is written out with
all its digits and read again has the same id, whatever the format: eight decimals do for lengths,
angles and fractional coordinates, twelve for lattice vectors and Cartesian coordinates.

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

from gandb.core.compositions import MAX_ATOMS
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
CARTESIAN_PROPERTIES = frozenset({"forces", "velocities", "magmom", "final_magmom"})
"""Site properties that turn with the lattice where they are vectors."""

_MAX_COORDINATE = 1e6
_MAX_DEPTH = 20  # of a site property


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

        Where no multiple of up to 9,999 atoms is exact, as with three digits of occupancy on many
        sites, it is the nearest of that size; ``species`` keeps the occupancies as they are.

        Raises:
            CrystalError: an ordered cell has a reduced formula of more than 9,999 atoms.
        """
        if self.ordered:
            atoms = {symbol: round(amount) for symbol, amount in self.amounts.items()}
            if sum(atoms.values()) > MAX_ATOMS * math.gcd(*atoms.values()):
                raise CrystalError(f"its reduced formula has more than {MAX_ATOMS:,} atoms")
            return atoms
        totals: dict[str, Fraction] = {}
        for site in self.occupants:
            for occupant in site:
                share = _share(occupant.occupancy)
                totals[occupant.element] = totals.get(occupant.element, Fraction(0)) + share
        multiple = math.lcm(*(total.denominator for total in totals.values()))
        counts = {symbol: int(total * multiple) for symbol, total in totals.items()}
        divisor = math.gcd(*counts.values())
        if sum(counts.values()) <= MAX_ATOMS * divisor:
            return {symbol: n // divisor for symbol, n in counts.items()}
        scale = (MAX_ATOMS - len(totals)) / float(sum(totals.values()))
        return {symbol: max(1, round(float(t) * scale)) for symbol, t in totals.items()}


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
    cell = _Cell.checked(
        _numbers(lengths, (3,), "cell lengths"), _numbers(angles, (3,), "cell angles")
    )
    coords = _numbers(frac_coords, (len(species), 3), "fractional coordinates")
    return _record(cell, species, coords, properties or {}, charge)


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
    if np.abs(matrix).max() > MAX_LENGTH:
        raise CrystalError(f"lattice vectors beyond {MAX_LENGTH:,g} Å")
    cell = _Cell.checked(*_parameters(matrix))
    inverse = np.linalg.inv(matrix)
    sign = math.copysign(1.0, float(np.linalg.det(matrix)))
    if cartesian:
        if len(found) and np.abs(found).max() > _MAX_COORDINATE * MAX_LENGTH:
            raise CrystalError("Cartesian coordinates beyond a million cells")
        found = found @ inverse
    if properties:
        properties = _turned(properties, sign * inverse @ cell.matrix)
    return _record(cell, species, sign * found, properties or {}, charge)


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


def _record(
    cell: _Cell,
    species: Sequence[str | Sequence[Occupant]],
    coords: np.ndarray,
    properties: Mapping[str, Sequence[Any]],
    charge: float | None,
) -> Crystal:
    if not len(species):
        raise CrystalError("it has no sites")
    if len(species) > MAX_SITES:
        raise CrystalError(f"{len(species):,} sites; at most {MAX_SITES:,} are allowed")
    if np.abs(coords).max() > _MAX_COORDINATE:
        raise CrystalError("fractional coordinates beyond a million cells: are they Cartesian?")
    texts = [_site_text(place, what) for place, what in enumerate(species, 1)]
    kept = dict(_plain_properties(properties, len(texts)))

    steps = _wrapped_steps(coords)
    coords = steps / GRID
    groups = _groups(coords, cell.matrix @ cell.matrix.T, SAME_PLACE)
    if len(groups):
        texts, chosen = _joined(texts, steps, kept, groups)
        steps, coords = steps[chosen], coords[chosen]
        kept = {name: [values[i] for i in chosen] for name, values in kept.items()}

    rank = {t: r for r, t in enumerate(sorted(set(texts), key=_text_order))}
    ranks = np.array([rank[t] for t in texts])
    order = np.lexsort((steps[:, 2], steps[:, 1], steps[:, 0], ranks))
    coords = coords[order]
    coords.setflags(write=False)
    listed = order.tolist()
    return Crystal(
        lengths=cell.lengths,
        angles=cell.angles,
        species=tuple(texts[i] for i in listed),
        frac_coords=coords,
        properties={k: tuple(kept[k][i] for i in listed) for k in sorted(kept)},
        charge=_charge(charge),
    )


# --- checks ------------------------------------------------------------------------------


def _numbers(values: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    try:
        found = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise CrystalError(f"{what} are not all numbers") from None
    if found.shape != shape and not (found.size == 0 and 0 in shape):
        raise CrystalError(f"{what} have shape {found.shape}, not {shape}")
    if not np.isfinite(found).all():
        raise CrystalError(f"{what} are not all finite")
    return found.reshape(shape)


@dataclass(frozen=True)
class _Cell:
    """Cell parameters on the grid, and their lattice."""

    lengths: np.ndarray
    angles: np.ndarray
    matrix: np.ndarray

    @staticmethod
    def checked(lengths: np.ndarray, angles: np.ndarray) -> _Cell:
        """Return the cell of parameters that make one.

        Raises:
            CrystalError: they span no volume, or are out of all bounds.
        """
        if lengths.max() > MAX_LENGTH:
            raise CrystalError(
                f"cell lengths {_listed(lengths)} Å; at most {MAX_LENGTH:,g} allowed"
            )
        if lengths.min() * GRID < 1:
            raise CrystalError(f"cell lengths {_listed(lengths)} are not all positive")
        if angles.min() * GRID < 1 or angles.max() > 180 - 1 / GRID:
            raise CrystalError(f"cell angles {_listed(angles)} are not between 0 and 180 degrees")
        lengths, angles = _on_grid(lengths), _on_grid(angles)
        x, y, z = _cosines(angles)
        flatness = math.sqrt(max(1 - x * x - y * y - z * z + 2 * x * y * z, 0.0))
        if flatness > MIN_FLATNESS:
            a, b, c = lengths.tolist()
            # Height of the cell over each of its faces.
            heights = [
                edge * flatness / math.sqrt(1 - cosine * cosine)
                for edge, cosine in ((a, x), (b, y), (c, z))
            ]
            if a * b * c * flatness >= MIN_VOLUME and min(heights) >= 2 * SAME_PLACE:
                return _Cell(lengths, angles, lattice_matrix(lengths, angles))
        raise CrystalError(
            f"the cell (lengths {_listed(lengths)}, angles {_listed(angles)}) has no volume"
        )


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{v:g}" for v in values)


def _site_text(place: int, what: str | Sequence[Occupant]) -> str:
    """Return the canonical text of what sits on a site."""
    try:
        text, total = _canonical(what if isinstance(what, str) else species_text(what))
    except InputError as error:
        raise CrystalError(f"site {place}: {error}") from None
    except (TypeError, AttributeError):
        raise CrystalError(f"site {place}: {str(what)[:40]} is no species") from None
    if total > FULL:
        raise CrystalError(f"site {place} ({text}) is occupied {total:g} times")
    return text


@lru_cache(maxsize=10_000)
def _canonical(text: str) -> tuple[str, float]:
    """Canonical text of a site, and how often it is occupied."""
    text = species_text(parse_species(text))
    return text, sum(occupant.occupancy for occupant in parse_species(text))


def _charge(charge: float | None) -> float | None:
    if charge is None:
        return None
    try:
        number = float(charge)
    except (TypeError, ValueError, OverflowError):
        raise CrystalError(f"its charge, {str(charge)[:20]}, is not a number") from None
    if not math.isfinite(number):
        raise CrystalError("its charge is not finite")
    return round(number, 8) or None


# --- cells and coordinates ---------------------------------------------------------------


def _cosines(angles: np.ndarray) -> tuple[float, float, float]:
    """Cosines, exactly 0 for right angles."""
    x, y, z = (0.0 if angle == 90.0 else math.cos(math.radians(angle)) for angle in angles)
    return x, y, z


def _parameters(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths and angles of lattice vectors; angles by atan2, which is exact near 0 and 180."""
    a, b, c = matrix.tolist()
    lengths = [math.sqrt(u[0] * u[0] + u[1] * u[1] + u[2] * u[2]) for u in (a, b, c)]
    return np.array(lengths), np.array([_angle(b, c), _angle(a, c), _angle(a, b)])


def _angle(u: Sequence[float], v: Sequence[float]) -> float:
    x = u[1] * v[2] - u[2] * v[1]
    y = u[2] * v[0] - u[0] * v[2]
    z = u[0] * v[1] - u[1] * v[0]
    dot = u[0] * v[0] + u[1] * v[1] + u[2] * v[2]
    return math.degrees(math.atan2(math.sqrt(x * x + y * y + z * z), dot))


def _steps(values: np.ndarray) -> np.ndarray:
    """Whole steps of the grid, int64."""
    steps: np.ndarray = np.rint(values * GRID).astype(np.int64)
    return steps


def _on_grid(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = _steps(values) / GRID
    found.setflags(write=False)
    return found


def _wrapped_steps(coords: np.ndarray) -> np.ndarray:
    wrapped: np.ndarray = np.mod(_steps(coords - np.floor(coords)), GRID)
    return wrapped


def _turned(properties: Mapping[str, Sequence[Any]], turn: np.ndarray) -> dict[str, list[Any]]:
    """Turn Cartesian vectors (3,) among the properties with the lattice."""
    found: dict[str, list[Any]] = {}
    for name, values in properties.items():
        found[name] = list(values)
        if name in CARTESIAN_PROPERTIES:
            for i, value in enumerate(found[name]):
                if _is_vector(value):
                    try:
                        vector = np.array(value, np.float64)
                    except (TypeError, ValueError, OverflowError):
                        raise CrystalError(f"{name} of site {i + 1} are not numbers") from None
                    with np.errstate(all="ignore"):  # infinite ones become None
                        found[name][i] = (vector @ turn).tolist()
    return found


def _is_vector(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return bool(value.shape == (3,))
    if not isinstance(value, list | tuple) or len(value) != 3:
        return False
    return not any(isinstance(item, Sequence | np.ndarray) for item in value)


@numba.njit(cache=True)
def _groups(coords: np.ndarray, metric: np.ndarray, within: float) -> np.ndarray:
    """Group sites that are nearer to each other than ``within``, directly or through others.

    Returns the first site of each one's group, int64 (n,); nothing, (0,), if all are apart.
    """
    n = len(coords)
    first = np.arange(n)
    any_found = False
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
                any_found = True
                one, other = i, j
                while first[one] != one:
                    one = first[one]
                while first[other] != other:
                    other = first[other]
                first[max(one, other)] = min(one, other)
    if not any_found:
        return first[:0]
    for i in range(n):
        first[i] = first[first[i]]
    return first


# --- sites -------------------------------------------------------------------------------


def _joined(
    texts: list[str], steps: np.ndarray, properties: dict[str, list[Any]], groups: np.ndarray
) -> tuple[list[str], list[int]]:
    """Join sites at one place, where partial occupancies share it.

    Returns what sits on the sites that are left, and which of the old ones have their places: of
    each group the one that comes first in canonical order.
    """
    members: dict[int, list[int]] = {}
    for i, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(i)
    found, chosen = [], []
    for group in members.values():
        if len(group) == 1:
            found.append(texts[group[0]])
            chosen.append(group[0])
            continue
        i, j = group[:2]
        if math.fsum(_canonical(texts[k])[1] for k in group) > FULL:
            raise CrystalError(
                f"sites {i + 1} ({texts[i]}) and {j + 1} ({texts[j]}) "
                f"are at one place, within {SAME_PLACE} Å"
            )
        for name, values in properties.items():
            if any(values[k] != values[i] for k in group):
                raise CrystalError(
                    f"sites {i + 1} and {j + 1} share one place and differ in {name}"
                )
        group.sort(key=lambda k: (_text_order(texts[k]), steps[k].tolist()))
        found.append(species_text(o for k in group for o in parse_species(texts[k])))
        chosen.append(group[0])
    return found, chosen


def _plain_properties(
    properties: Mapping[str, Sequence[Any]], n: int
) -> list[tuple[str, list[Any]]]:
    found = []
    for name, values in properties.items():
        if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
            raise CrystalError(f"{name} is one {type(values).__name__}, not one value per site")
        if len(values) != n:
            raise CrystalError(f"{len(values)} values of {name} for {n} sites")
        plain = [_plain(name, value) for value in values]
        if any(value is not None for value in plain):
            found.append((_plain(name, str(name)), plain))
    return found


def _plain(name: str, value: Any, depth: int = 0) -> Any:
    """Return a site property as JSON data; numbers rounded to the grid, NaN as None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return round(value, 8) + 0.0 if math.isfinite(value) else None
    if isinstance(value, int):
        if abs(value) >= 2**63:
            raise CrystalError(f"site property {name} holds a number beyond 64 bits")
        return value
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            raise CrystalError(f"site property {name} holds text that is not Unicode")
        return value
    if depth > _MAX_DEPTH:
        raise CrystalError(f"site property {name} is nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, list | tuple):
        return [_plain(name, item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        plain = {_plain(name, str(k)): _plain(name, v, depth + 1) for k, v in value.items()}
        return dict(sorted(plain.items()))
    raise CrystalError(f"site property {name} holds a {type(value).__name__}, which is not kept")


@lru_cache(maxsize=10_000)
def _text_order(text: str) -> tuple[int, str]:
    return ATOMIC_NUMBERS[parse_species(text)[0].element], text


@lru_cache(maxsize=10_000)
def _share(occupancy: float) -> Fraction:
    """Return an occupancy as a fraction: thirds, sixths ... where its digits mean them."""
    written = f"{occupancy:.8f}".rstrip("0")
    exact = Fraction(written)
    digits = len(written.partition(".")[2])
    if digits >= 3:
        simple = exact.limit_denominator(12)
        if abs(simple - exact) < Fraction(1, 10**digits):
            return simple
    return exact
