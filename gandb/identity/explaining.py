"""One comparison in full: the verdict both ways, how the cells lie on each other, and why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import gcd

import numpy as np

from gandb.core.crystals import Crystal
from gandb.identity import matching_kernels as kernels
from gandb.identity.cells import Cells, Reduced, kind_text
from gandb.identity.kernel_calls import sorted_cells, tolerances_of
from gandb.identity.matching_kernels import Tolerances
from gandb.identity.recipes import MatchRecipe
from gandb.identity.reduction import reduce_crystal
from gandb.identity.site_kernels import DONE, Room, larger_room, make_room

_WIDER = (1.5, 2.0, 3.0, 5.0, 10.0)  # times the tolerances: where to look for near misses


@dataclass(frozen=True, eq=False)
class Match:
    """What comparing two crystals found.

    The mapping lays the first reduced cell on the second, where their root mean square displacement
    is least. With M = ``lattice_mapping``, the rows of ``M @ first.lattice`` are the basis of the
    first that is near ``second.lattice``, and ``first.frac_coords[site_mapping] @ inv(M)`` is near
    ``second.frac_coords + translation``, up to whole numbers.

    Attributes:
        forward: whether the first matches the second, ``StructureMatcher.fit(first, second)``.
        backward: whether the second matches the first.
        reason: why the first does not match the second; None if it does.
        rms: root mean square of displacements, in units of (volume / sites)^(1/3); it and all below
            are None if it is not below ``stol``.
        max_distance: the largest displacement in that placing, in the same units. It may exceed
            ``stol`` even in a match, which some other placing made.
        rms_angstrom: as ``rms``, Å, on the lattice between the two; where the recipe scales, at the
            geometric mean of their volumes.
        max_distance_angstrom: as ``max_distance``, Å.
        lattice_mapping: int64 (3, 3), of determinant 1 or -1.
        translation: float64 (3,), fractions of the second cell, added to the sites of the second.
        site_mapping: int64 (n,), for each site of the second reduced cell that of the first.
        first: the first reduced cell.
        second: the second reduced cell.
    """

    forward: bool
    backward: bool
    reason: str | None
    rms: float | None
    max_distance: float | None
    rms_angstrom: float | None
    max_distance_angstrom: float | None
    lattice_mapping: np.ndarray | None
    translation: np.ndarray | None
    site_mapping: np.ndarray | None
    first: Reduced
    second: Reduced

    @property
    def same(self) -> bool:
        """Whether they match in one direction at least."""
        return self.forward or self.backward


def match(first: Crystal, second: Crystal, recipe: MatchRecipe | None = None) -> Match:
    """Compare two crystals, as pymatgen's ``StructureMatcher`` with the tolerances of a recipe.

    Args:
        first: a crystal.
        second: the one whose reduced basis the first is laid on; swapping the two may change the
            verdict, see ``backward``.
        recipe: what counts as the same; the defaults if None.

    Raises:
        ReductionError: one of them has no reduced cell.
    """
    recipe = recipe or MatchRecipe()
    one = reduce_crystal(first, recipe.primitive_cell)
    two = reduce_crystal(second, recipe.primitive_cell)
    return match_reduced(one, two, recipe)


def match_reduced(first: Reduced, second: Reduced, recipe: MatchRecipe) -> Match:
    """As `match`, with cells that are reduced already."""
    cells = Cells.of([first, second], recipe.comparator)
    tolerances = tolerances_of(recipe)
    there = _compared(cells, 0, 1, tolerances, kernels.FIT)
    forward = bool(there.result[0] < recipe.stol)
    backward = bool(_compared(cells, 1, 0, tolerances, kernels.FIT).result[0] < recipe.stol)
    reason = None
    if not forward:
        reason = _reason(first, second, cells, recipe, float(there.result[0]))
        if backward:
            reason = f"the second matches the first, but not the first the second: {reason}"
    found = Match(
        forward, backward, reason, None, None, None, None, None, None, None, first, second
    )
    best = _compared(cells, 0, 1, tolerances, kernels.RMS)
    rms, largest, unit = (float(best.result[i]) for i in (0, 1, 14))
    if not rms < recipe.stol:
        return found
    translation = best.result[2:5] - np.round(best.result[2:5])
    order = sorted_cells(cells).order
    n = len(second)
    sites = np.empty(n, np.int64)
    sites[order[n:]] = order[best.chosen[:n]]
    return replace(
        found,
        rms=rms,
        max_distance=largest,
        rms_angstrom=rms * unit,
        max_distance_angstrom=largest * unit,
        lattice_mapping=np.rint(best.result[5:14]).astype(np.int64).reshape(3, 3),
        translation=translation,
        site_mapping=sites,
    )


def _compared(cells: Cells, one: int, two: int, tolerances: Tolerances, goal: int) -> Room:
    n = max(1, int(np.diff(cells.starts).max()))
    room: Room = make_room(n, 512, 256, 8 * n)
    lack = kernels.compare(sorted_cells(cells), one, two, tolerances, goal, room)
    while lack != DONE:
        room = larger_room(room, n, lack)
        lack = kernels.compare(sorted_cells(cells), one, two, tolerances, goal, room)
    return room


# --- why not ---------------------------------------------------------------------------------


def _reason(
    first: Reduced, second: Reduced, cells: Cells, recipe: MatchRecipe, distance: float
) -> str:
    """Say why the first does not match the second; ``distance`` is the least found, or infinite."""
    mine = Counter(kind_text(text, recipe.comparator) for text in first.species)
    others = Counter(kind_text(text, recipe.comparator) for text in second.species)
    if _smallest(mine) != _smallest(others):
        return _other_sites(first, second, mine, others, recipe)
    if len(first) != len(second):
        return (
            f"their reduced cells have {len(first)} and {len(second)} sites; "
            "cells of different size never match"
        )
    lattices = _lattices(cells, recipe)
    if lattices is not None:
        return lattices
    if distance < np.inf:
        return _far(distance, recipe, cells, "in the best placing of sites")
    for wider in _WIDER:
        tolerances = tolerances_of(recipe)._replace(stol=wider * recipe.stol)
        result = _compared(cells, 0, 1, tolerances, kernels.RMS).result
        if result[1] < np.inf:
            return _far(float(result[1]), recipe, cells, "laid on each other as well as they go")
    return "their lattices agree, but however they are laid on each other, sites lie far apart"


def _other_sites(
    first: Reduced,
    second: Reduced,
    mine: Counter[str],
    others: Counter[str],
    recipe: MatchRecipe,
) -> str:
    text = f"what sits on their sites differs: {_listed(mine)} against {_listed(others)}"
    if recipe.comparator == "species":
        elements = [
            _smallest(Counter(kind_text(text, "element") for text in cell.species))
            for cell in (first, second)
        ]
        if elements[0] == elements[1]:
            text += "; only oxidation states differ, which the comparator `element` ignores"
    return text


def _smallest(counts: Counter[str]) -> dict[str, int]:
    divisor = gcd(*counts.values())
    return {kind: count // divisor for kind, count in counts.items()}


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(_smallest(counts).items()))


def _far(distance: float, recipe: MatchRecipe, cells: Cells, where: str) -> str:
    volumes = np.abs(np.linalg.det(cells.lattices))
    volume = float(np.sqrt(volumes.prod())) if recipe.scale else float(volumes.mean())
    unit = (volume / int(cells.starts[1])) ** (1 / 3)
    return (
        f"their sites differ: {where}, the farthest lies {distance:.3f} (volume / sites)^(1/3) "
        f"off, about {distance * unit:.2f} Å; less than {recipe.stol:g} is allowed"
    )


def _lattices(cells: Cells, recipe: MatchRecipe) -> str | None:
    """Say that no basis of the first lattice is near the second, and which comes nearest."""
    tolerances = tolerances_of(recipe)
    if len(_maps(cells, tolerances)[0]):
        return None
    text = (
        f"no basis of the first lattice has lengths within {recipe.ltol:.0%} and angles within "
        f"{recipe.angle_tol:g}° of the second"
    )
    for wider in _WIDER:
        rows, lengths, cosines = _maps(
            cells,
            tolerances._replace(
                ltol=wider * recipe.ltol, angle_tol=min(90.0, wider * recipe.angle_tol)
            ),
        )
        if not len(rows):
            continue
        angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
        found = np.degrees(np.arccos(np.clip(rows[:, 12:15], -1, 1)))
        excess = np.maximum(
            (np.abs(np.log(rows[:, 9:12] / lengths)) / np.log1p(recipe.ltol)).max(axis=1),
            (np.abs(found - angles) / recipe.angle_tol).max(axis=1),
        )
        best = int(excess.argmin())
        scaled = ", at one volume" if recipe.scale else ""
        return (
            f"{text}; the nearest is {_cell(rows[best, 9:12], found[best])} against "
            f"{_cell(lengths, angles)}{scaled}"
        )
    return text


def _maps(cells: Cells, tolerances: Tolerances) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lengths, cosines = np.empty(3), np.empty(3)
    room = make_room(1, 512, 256, 1)
    lack, count = kernels.find_maps(sorted_cells(cells), 0, 1, tolerances, lengths, cosines, room)
    while lack != DONE:
        room = larger_room(room, 1, lack)
        lack, count = kernels.find_maps(
            sorted_cells(cells), 0, 1, tolerances, lengths, cosines, room
        )
    return room.maps[:count].copy(), lengths, cosines


def _cell(lengths: Sequence[float] | np.ndarray, angles: Sequence[float] | np.ndarray) -> str:
    edges = " ".join(f"{length:.2f}" for length in lengths)
    return f"{edges} Å, {' '.join(f'{angle:.1f}' for angle in angles)}°"
