"""The 230 space groups: operations, what they leave free in a cell, and their Wyckoff positions.

Settings are those of `gandb.validation.symmetry`: the first of each group in the list of S. R.
Hall's symbols, as in spglib: unique axis b, origin choice 1, hexagonal axes for rhombohedral
groups. So all of it holds for the standardised cells that moyo makes
(https://github.com/spglib/moyo), from which operations and positions come too: the operations when
they are asked for, the positions once, in ``wyckoff_positions.csv``. moyo is distributed under the
MIT and Apache-2.0 licences; the facts are those of the International Tables for Crystallography,
Vol. A (2016), doi:10.1107/97809553602060000114.

An operation takes a point x, fractional, to ``rotation @ x + translation``.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from gandb.core.errors import InputError, MissingExtraError

N_SPACE_GROUPS = 230

_TABLE = "wyckoff_positions.csv"
_TERM = re.compile(r"([+-]?)(?:(\d*)([xyz])|(\d+(?:/\d+)?))")
_GENERIC = np.array([0.137_713, 0.271_937, 0.331_307])  # a point that no operation prefers
_ON_GRID = 1e-6


@dataclass(frozen=True, eq=False)
class WyckoffPosition:
    """One Wyckoff position, by the first of its points.

    Attributes:
        letter: ``a`` has the most symmetry; ``A`` follows ``z``.
        multiplicity: points in the conventional cell.
        site_symmetry: oriented symbol, such as ``m-3m`` or ``.m.``.
        coordinates: such as ``x,2x,1/4``.
        projection: float64 (3, 3). Point x goes to ``projection @ x + offset``, the nearest point
            that has this symmetry, in every cell that the group allows.
        offset: float64 (3,).
        n_free: coordinates left free, 0 to 3.
    """

    letter: str
    multiplicity: int
    site_symmetry: str
    coordinates: str
    projection: np.ndarray
    offset: np.ndarray
    n_free: int


@dataclass(frozen=True, eq=False)
class SpaceGroup:
    """One space group in its conventional cell.

    Attributes:
        number: 1 to 230.
        symbol: short Hermann-Mauguin symbol, such as ``Fm-3m``.
        crystal_system: ``triclinic`` ... ``cubic``.
        rotations: int8 (m, 3, 3), those of the centring included; the identity is first.
        translations: float64 (m, 3), in [0, 1).
        length_average: float64 (3, 3); takes lengths of a cell to lengths that the group allows.
        angles: float64 (3,), degrees; NaN where an angle is free.
        positions: from ``a`` on; the general position is last.
    """

    number: int
    symbol: str
    crystal_system: str
    rotations: np.ndarray
    translations: np.ndarray
    length_average: np.ndarray
    angles: np.ndarray
    positions: tuple[WyckoffPosition, ...]

    def __len__(self) -> int:
        return len(self.rotations)

    def affine(self, size: int | None = None) -> np.ndarray:
        """Return the operations as affine matrices, float64 (size, 4, 4), to act on (x, y, z, 1).

        Beyond the group's own they are zeros; PGCGM takes 192, as many as any group has.

        Raises:
            InputError: the group has more than ``size``.
        """
        count = len(self) if size is None else size
        if count < len(self):
            raise InputError(f"{self.symbol} has {len(self)} operations, more than {count}")
        found = np.zeros((count, 4, 4))
        found[: len(self), :3, :3] = self.rotations
        found[: len(self), :3, 3] = self.translations
        found[: len(self), 3, 3] = 1.0
        return found

    def position(self, letter: str) -> WyckoffPosition:
        """Return a position by its letter.

        Raises:
            InputError: the group has none of this letter.
        """
        for position in self.positions:
            if position.letter == letter:
                return position
        letters = "".join(position.letter for position in self.positions)
        raise InputError(f"{self.symbol} has no Wyckoff position {letter!r}; it has {letters}")


@dataclass(frozen=True, eq=False)
class Operations:
    """The operations of all groups, for compiled loops.

    Attributes:
        offsets: int64 (232,); group g has rows ``offsets[g]:offsets[g + 1]``, 0 has none.
        rotations: float64 (k, 3, 3).
        translations: float64 (k, 3).
    """

    offsets: np.ndarray
    rotations: np.ndarray
    translations: np.ndarray


@cache
def space_group(number: int) -> SpaceGroup:
    """Return a space group by its number.

    Raises:
        InputError: the number is not from 1 to 230.
        MissingExtraError: moyopy is not installed.
    """
    average, angles = cell_constraints(number)
    rotations, translations = _operations(number)
    kind = _moyopy().SpaceGroupType(number)
    positions = []
    for letter, multiplicity, site_symmetry, coordinates in _rows()[number]:
        projection, offset = _fixed(rotations, translations, _point(coordinates))
        positions.append(
            WyckoffPosition(
                letter,
                multiplicity,
                site_symmetry,
                coordinates,
                projection,
                offset,
                n_free=round(float(np.trace(projection))),
            )
        )
    return SpaceGroup(
        number,
        kind.hm_short.replace(" ", ""),
        crystal_system(number),
        rotations,
        translations,
        average,
        angles,
        tuple(positions),
    )


@cache
def operations() -> Operations:
    """Return the operations of all groups in one table.

    Raises:
        MissingExtraError: moyopy is not installed.
    """
    found = [_operations(number) for number in range(1, N_SPACE_GROUPS + 1)]
    sizes = [0, *(len(rotations) for rotations, _ in found)]
    return Operations(
        _frozen(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)),
        _frozen(np.concatenate([rotations for rotations, _ in found]).astype(np.float64)),
        _frozen(np.concatenate([translations for _, translations in found])),
    )


def crystal_system(number: int) -> str:
    """Return the crystal system of a group, ``triclinic`` to ``cubic``.

    Raises:
        InputError: the number is not from 1 to 230.
    """
    if not 1 <= number <= N_SPACE_GROUPS:
        raise InputError(f"there is no space group {number}; they are 1 to {N_SPACE_GROUPS}")
    return next(name for last, name in _SYSTEMS.items() if number <= last)


_SYSTEMS = {
    2: "triclinic",
    15: "monoclinic",
    74: "orthorhombic",
    142: "tetragonal",
    167: "trigonal",
    194: "hexagonal",
    230: "cubic",
}  # by the number of its last group


def cell_constraints(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what a group asks of its conventional cell.

    Returns:
        A matrix (3, 3) that takes any lengths to the nearest that it allows, and the angles (3,),
        degrees, with NaN where they are free.

    Raises:
        InputError: the number is not from 1 to 230.
    """
    system = crystal_system(number)
    average = np.eye(3)
    if system in ("tetragonal", "trigonal", "hexagonal"):
        average[:2, :2] = 0.5
    elif system == "cubic":
        average[:] = 1 / 3
    angles = np.full(3, 90.0)
    if system in ("trigonal", "hexagonal"):
        angles[2] = 120.0
    elif system == "monoclinic":
        angles[1] = np.nan
    elif system == "triclinic":
        angles[:] = np.nan
    return average, angles


def constrain_cells(
    space_groups: np.ndarray, lengths: np.ndarray, angles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give cells what their space groups ask of them: equal lengths and fixed angles.

    Args:
        space_groups: (n,), 1 to 230.
        lengths: (n, 3), Å.
        angles: (n, 3), degrees; those that the group fixes may be anything.

    Returns:
        Lengths and angles, float64 (n, 3) each.

    Raises:
        InputError: a number is not from 1 to 230.
    """
    averages, fixed = _constraints()
    groups = np.asarray(space_groups, np.int64)
    if len(groups) and not (groups.min() >= 1 and groups.max() <= N_SPACE_GROUPS):
        raise InputError(f"space groups are 1 to {N_SPACE_GROUPS}")
    kept = fixed[groups]
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite stays so
        new = np.einsum("nij,nj->ni", averages[groups], np.asarray(lengths, np.float64))
        # Averaging equal lengths again may change their last digit.
        same = np.abs(new - lengths) < 1e-12 * np.abs(new)
    return (
        np.where(same, lengths, new),
        np.where(np.isnan(kept), np.asarray(angles, np.float64), kept),
    )


@cache
def _constraints() -> tuple[np.ndarray, np.ndarray]:
    found = [cell_constraints(number) for number in range(1, N_SPACE_GROUPS + 1)]
    averages = np.stack([np.eye(3), *(average for average, _ in found)])
    angles = np.stack([np.full(3, np.nan), *(angle for _, angle in found)])
    return averages, angles


# --- tables ------------------------------------------------------------------------------


def _moyopy() -> Any:
    try:
        import moyopy
    except ImportError:
        raise MissingExtraError.for_package("moyopy", "structures") from None
    return moyopy


@cache
def _operations(number: int) -> tuple[np.ndarray, np.ndarray]:
    moyopy = _moyopy()
    found = moyopy.operations_from_number(number, setting=moyopy.Setting.spglib())
    rotations = np.array(found.rotations, np.int8)
    # All translations are twenty-fourths; written so, 1/3 is the same number everywhere.
    translations = np.mod(np.rint(np.array(found.translations, np.float64) * 24), 24) / 24
    return _frozen(rotations), _frozen(translations)


@cache
def _rows() -> dict[int, list[tuple[str, int, str, str]]]:
    """Letter, multiplicity, site symmetry and coordinates of each group's positions."""
    found: dict[int, list[tuple[str, int, str, str]]] = {}
    text = (resources.files("gandb.representations") / _TABLE).read_text()
    for row in csv.DictReader(text.splitlines()):
        found.setdefault(int(row["space_group_number"]), []).append(
            (row["letter"], int(row["multiplicity"]), row["site_symmetry"], row["coordinates"])
        )
    return found


def _point(coordinates: str) -> np.ndarray:
    """Return a point of a position that has no more symmetry than the position."""
    values = []
    for part in coordinates.split(","):
        value = 0.0
        for sign, factor, name, constant in _TERM.findall(part):
            size = float(Fraction(constant or factor or 1))
            if name:
                size *= float(_GENERIC["xyz".index(name)])
            value += -size if sign == "-" else size
        values.append(value)
    return np.array(values)


def _fixed(
    rotations: np.ndarray, translations: np.ndarray, point: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return projection and offset onto all points that have the symmetry of a point.

    The mean of all operations that leave it where it is takes every point there, and along the
    shortest way, as none of them changes distances.
    """
    moved = rotations @ point + translations - point
    kept = np.abs(moved - np.rint(moved)).max(axis=1) < _ON_GRID
    offset = (translations - np.rint(moved))[kept].mean(axis=0)
    return _frozen(rotations[kept].astype(np.float64).mean(axis=0)), _frozen(offset)


def _frozen(values: np.ndarray) -> np.ndarray:
    values.setflags(write=False)
    return values
