"""Checks of crystals by their geometry: distances, density, coordination, space group.

Each check has a name, a version and parameters, and gives every crystal a value, a verdict and a
reason. What cannot be judged is an error with its reason, and never passes.

- ``structural_validity``: no two atoms nearer than 0.5 Å, and a volume of 0.1 Å³ or more; an atom
  and its own images in other cells count as two.
- ``structural_validity_published``: the same without those images, as in the published code of
  CDVAE (Xie et al., ICLR 2022, arXiv:2110.06197), DiffCSP and MatterGen, which mask the diagonal of
  the matrix of distances. So a cell of one atom passes however short its edges are.
- ``radius_distances``: no two atoms nearer than 0.75 of the sum of their covalent radii (Cordero
  2008). ``radius_distances_atomic``: of their atomic radii, as PGCGM has it
  (doi:10.1038/s41524-023-00987-9).
- ``density``, g/cm³, and ``volume_per_atom``, Å³: within bounds that hold for every solid known.
- ``coordination``: every atom has neighbours: others, or images, nearer than 1.5 times the sum of
  the covalent radii. The value is the least number of any atom.
- ``space_group_found``: the space group that was asked for is found again within a tolerance.

Distances are exact for every cell, however flat: over all images, not those of the next cells only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gandb.core.crystals import Crystal
from gandb.core.errors import UsageError
from gandb.core.masses import DALTONS_PER_CUBIC_ANGSTROM
from gandb.core.radii import RADII
from gandb.representations.orbit_kernels import LONGEST, SHORTEST
from gandb.representations.standard_cells import SymmetryError, find_dataset
from gandb.validation import geometry_kernels as kernels
from gandb.validation.outcomes import CODES, OF_KERNEL, REASONS, Check, Outcome
from gandb.validation.sites import Sites, in_parts

__all__ = [
    "CODES",
    "REASONS",
    "Check",
    "Outcome",
    "Sites",
    "closest_pairs",
    "coordination",
    "coordination_numbers",
    "density",
    "radius_distances",
    "space_group_found",
    "structural_validity",
    "volume_per_atom",
]


def structural_validity(
    sites: Sites,
    min_distance: float = 0.5,
    min_volume: float = 0.1,
    self_images: bool = True,
    threads: int = 1,
) -> Outcome:
    """Judge crystals by their shortest distance, Å, which is the value, and volume, Å³.

    Without ``self_images``, the value of a cell of one atom is NaN, and its volume alone decides.

    Raises:
        UsageError: a bound is negative.
    """
    _positive(min_distance=min_distance, min_volume=min_volume)
    check = Check(
        "structural_validity" if self_images else "structural_validity_published",
        "1",
        {
            "min_distance_angstrom": min_distance,
            "min_volume_cubic_angstrom": min_volume,
            "self_images": self_images,
        },
        "Å",
    )
    halves = np.full(len(sites.atomic_numbers), 0.5)
    found = _closest(sites, halves, self_images, threads)
    reason = OF_KERNEL[found[:, 4].astype(np.int64)]
    judged = reason == 0
    reason[judged & (found[:, 3] < min_volume)] = CODES["volume too small"]
    reason[judged & (found[:, 0] < min_distance)] = CODES["atoms too near"]
    return _outcome(check, np.where(np.isfinite(found[:, 0]), found[:, 0], np.nan), reason)


def radius_distances(
    sites: Sites, share: float = 0.75, radii: str = "covalent", threads: int = 1
) -> Outcome:
    """Judge crystals by their shortest distance as a share of the two radii, which is the value.

    Every pair must be farther apart than ``share``; an atom and its own images are pairs.

    Raises:
        UsageError: the share is negative, or there are no such radii.
    """
    _positive(share=share)
    name = "radius_distances" if radii == "covalent" else f"radius_distances_{radii}"
    check = Check(name, "1", {"share_of_radii": share, "radii": radii}, "")
    sizes, reason = _sizes(sites, radii)
    found = _closest(sites, sizes, True, threads)
    reason = np.where(found[:, 4] > 0, OF_KERNEL[found[:, 4].astype(np.int64)], reason)
    value = np.where((reason == 0) & np.isfinite(found[:, 0]), found[:, 0], np.nan)
    reason[(reason == 0) & ~(value > share)] = CODES["atoms too near"]
    return _outcome(check, value, reason)


def closest_pairs(
    sites: Sites, radii: str | None = None, self_images: bool = True, threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest pair of atoms of every crystal, to explain a verdict.

    Returns:
        The distance, Å, or where ``radii`` are named its share of their sum, float64 (n,), NaN for
        none; and the places of the two among the crystal's sites, int64 (n, 2), -1 for none. Both
        places are one where it is an atom and its own image.

    Raises:
        UsageError: there are no such radii.
    """
    if radii is None:
        sizes = np.full(len(sites.atomic_numbers), 0.5)
        reason = np.zeros(len(sites), np.uint8)
    else:
        sizes, reason = _sizes(sites, radii)
    found = _closest(sites, sizes, self_images, threads)
    kept = (reason == 0) & np.isfinite(found[:, 0])
    return (
        np.where(kept, found[:, 0], np.nan),
        np.where(kept[:, None], found[:, 1:3], -1).astype(np.int64),
    )


def density(sites: Sites, least: float = 0.01, most: float = 25.0) -> Outcome:
    """Judge crystals by their density, g/cm³.

    The densest element, osmium, has 22.6 g/cm³.

    Raises:
        UsageError: a bound is negative.
    """
    _positive(least=least, most=most)
    parameters = {"least_g_per_cubic_cm": least, "most_g_per_cubic_cm": most}
    volume, reason = _volumes(sites)
    with np.errstate(all="ignore"):
        value = _sums(sites, sites.masses) * DALTONS_PER_CUBIC_ANGSTROM / volume
    return _bounded(Check("density", "1", parameters, "g/cm³"), value, reason, least, most)


def volume_per_atom(sites: Sites, least: float = 2.0, most: float = 1000.0) -> Outcome:
    """Judge crystals by their volume per site, Å³.

    Raises:
        UsageError: a bound is negative.
    """
    _positive(least=least, most=most)
    parameters = {"least_cubic_angstrom": least, "most_cubic_angstrom": most}
    volume, reason = _volumes(sites)
    with np.errstate(all="ignore"):
        value = volume / np.diff(sites.offsets)
    return _bounded(Check("volume_per_atom", "1", parameters, "Å³"), value, reason, least, most)


def coordination(
    sites: Sites, reach: float = 1.5, radii: str = "covalent", threads: int = 1
) -> Outcome:
    """Judge crystals by the least number of neighbours of any atom; it must be 1 or more.

    Raises:
        UsageError: the reach is negative, or there are no such radii.
    """
    parameters = {"reach_of_radii": reach, "radii": radii, "least_neighbours": 1}
    counts, reason = coordination_numbers(sites, reach, radii, threads)
    value = np.full(len(sites), np.nan)
    filled = np.diff(sites.offsets) > 0
    value[filled] = np.minimum.reduceat(counts, sites.offsets[:-1][filled]) if len(counts) else 0
    value[reason > 0] = np.nan
    reason = reason.copy()
    reason[value < 1] = CODES["an atom without neighbours"]
    return _outcome(Check("coordination", "1", parameters, "neighbours"), value, reason)


def coordination_numbers(
    sites: Sites, reach: float = 1.5, radii: str = "covalent", threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Count the neighbours of every atom: those nearer than ``reach`` times the sum of the radii.

    Returns:
        Neighbours, int64 (m,), and for each crystal 0 or the code of why there are none, uint8
        (n,), into `REASONS`.

    Raises:
        UsageError: the reach is negative, or there are no such radii.
    """
    _positive(reach=reach)
    sizes, reason = _sizes(sites, radii)
    counts = np.zeros(len(sizes), np.int64)
    codes = np.zeros(len(sites), np.uint8)
    given = sites.lengths, sites.angles, sites.offsets, sites.frac_coords, sizes * reach
    in_parts(len(sites), threads, lambda i, j: kernels.neighbours(i, j, *given, counts, codes))
    reason = np.where(codes > 0, OF_KERNEL[codes], reason)
    counts[np.repeat(reason > 0, np.diff(sites.offsets))] = 0
    return counts, reason


def space_group_found(
    crystals: Sequence[Crystal | None], requested: Sequence[int], symprec: float = 0.1
) -> Outcome:
    """Judge crystals by whether they have the space group that was asked for.

    The value is the number found. A crystal with more symmetry has another group: whoever wants
    that to pass compares the values.

    Args:
        crystals: n records; None where there is none.
        requested: n numbers, 1 to 230; 0 where none was asked for, which is an error.
        symprec: how far, Å, an operation may miss a site.

    Raises:
        MissingExtraError: moyopy is not installed.
    """
    check = Check("space_group_found", "1", {"symprec_angstrom": symprec}, "")
    value = np.full(len(crystals), np.nan)
    reason = np.zeros(len(crystals), np.uint8)
    for row, (record, number) in enumerate(zip(crystals, requested, strict=True)):
        if record is None:
            reason[row] = CODES["no cell"]
            continue
        try:
            value[row] = find_dataset(record, symprec).number
        except SymmetryError:
            reason[row] = CODES["no space group found"]
            continue
        if not 1 <= number <= 230:
            reason[row] = CODES["no space group asked for"]
        elif value[row] != number:
            reason[row] = CODES["another space group"]
    return _outcome(check, value, reason)


# --- parts -------------------------------------------------------------------------------


def _outcome(check: Check, value: np.ndarray, reason: np.ndarray) -> Outcome:
    return Outcome(check, value, reason == 0, reason)


def _bounded(
    check: Check, value: np.ndarray, reason: np.ndarray, least: float, most: float
) -> Outcome:
    reason = reason.copy()
    value = np.where(reason > 0, np.nan, value)
    reason[value < least] = CODES["below the bounds"]
    reason[value > most] = CODES["above the bounds"]
    return _outcome(check, value, reason)


def _sums(sites: Sites, values: np.ndarray) -> np.ndarray:
    owner = np.repeat(np.arange(len(sites)), np.diff(sites.offsets))
    return np.bincount(owner, values, minlength=len(sites))


def _volumes(sites: Sites) -> tuple[np.ndarray, np.ndarray]:
    """Volume of each cell, Å³, and 0 or the code of what keeps it from being judged."""
    usable = ((sites.lengths > SHORTEST) & (sites.lengths < LONGEST)).all(axis=1)
    usable &= ((sites.angles > 0) & (sites.angles < 180)).all(axis=1)
    with np.errstate(all="ignore"):
        cosines = np.where(sites.angles == 90.0, 0.0, np.cos(np.radians(sites.angles)))
        flat = 1.0 - (cosines**2).sum(axis=1) + 2.0 * cosines.prod(axis=1)
        volume = sites.lengths.prod(axis=1) * np.sqrt(np.maximum(flat, 0.0))
    reason = np.where(usable & (volume > 0), 0, CODES["no cell"]).astype(np.uint8)
    reason[(reason == 0) & (np.diff(sites.offsets) == 0)] = CODES["no atoms"]
    return volume, reason


def _sizes(sites: Sites, radii: str) -> tuple[np.ndarray, np.ndarray]:
    """Radius of every atom, Å, and 0 or the code of why a crystal has not all of them."""
    if radii not in RADII:
        raise UsageError(f"radii are {radii!r}; choose {' or '.join(RADII)}")
    sizes = RADII[radii][sites.atomic_numbers]
    reason = np.zeros(len(sites), np.uint8)
    for missing, word in (
        (np.isnan(sizes), "an element without a radius"),
        (sites.atomic_numbers == 0, "disordered"),
    ):
        reason[_sums(sites, missing) > 0] = CODES[word]
    return np.where(np.isnan(sizes), 1.0, sizes), reason


def _closest(sites: Sites, sizes: np.ndarray, self_images: bool, threads: int) -> np.ndarray:
    found = np.empty((len(sites), 5))
    given = sites.lengths, sites.angles, sites.offsets, sites.frac_coords, sizes, self_images
    in_parts(len(sites), threads, lambda i, j: kernels.closest(i, j, *given, found))
    return found


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise UsageError(f"{name} is {value:g}; it must not be negative")
