"""Checks of crystals by their geometry: distances, density, coordination, space group.

Each check has a name, a version and parameters, and gives every crystal a value, a verdict and a
reason. What cannot be judged is an error with its reason, and never passes.

- ``structural_validity``: no two atoms nearer than 0.5 Å, and a volume of 0.1 Å³ or more; an atom
  and its own images in other cells count as two.
- ``structural_validity_published``: the same without those images, as in the published code of
  CDVAE (Xie et al., ICLR 2022, arXiv:2110.06197), DiffCSP and MatterGen, which mask the diagonal of
  the matrix of distances. So a cell of one atom passes however short its edges are.
- ``radius_distances``: no two atoms nearer than 0.75 of the sum of their radii. Covalent ones
  (Cordero 2008) by default; PGCGM (doi:10.1038/s41524-023-00987-9) takes atomic ones.
- ``density``, g/cm³, and ``volume_per_atom``, Å³: within bounds that hold for every solid known.
- ``coordination``: every atom has neighbours: others, or images, nearer than 1.5 times the sum of
  the covalent radii. The value is the least number of any atom.
- ``space_group_found``: the space group that was asked for is found again within a tolerance.

Distances are exact for every cell, however flat: over all images, not those of the next cells only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from gandb.core.crystals import Crystal
from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.errors import InputError, UsageError
from gandb.core.masses import ATOMIC_MASS, DALTONS_PER_CUBIC_ANGSTROM
from gandb.core.radii import RADII
from gandb.representations.orbit_kernels import LONGEST, SHORTEST
from gandb.representations.standard_cells import SymmetryError, find_dataset
from gandb.validation import geometry_kernels as kernels

REASONS: tuple[str, ...] = (
    "passed",
    "atoms too near",
    "volume too small",
    "below the bounds",
    "above the bounds",
    "an atom without neighbours",
    "another space group",
    "charges do not balance",
    "no cell",
    "coordinates not finite",
    "no atoms",
    "disordered",
    "an element without a radius",
    "no space group found",
    "no space group asked for",
    "an element without bond valence parameters",
    "no bonds between ions",
)
"""Word for each reason code; 0 passes, and those from "no cell" on are errors.

"no cell" has no volume, or is a thousand times as long as it is high.
"""

CODES: Mapping[str, int] = {word: code for code, word in enumerate(REASONS)}
"""Code of each reason."""

_FIRST_ERROR = CODES["no cell"]
OF_KERNEL = np.array(
    [0, CODES["no cell"], CODES["coordinates not finite"], CODES["no atoms"]], np.uint8
)
"""Reason of each code of the kernels."""
_PART = 256  # crystals that a thread takes at once


@dataclass(frozen=True, eq=False)
class Sites:
    """Cells and atoms of n crystals with m sites in all.

    Attributes:
        lengths: float64 (n, 3), Å.
        angles: float64 (n, 3), degrees.
        offsets: int64 (n + 1,), sites of crystal i are ``offsets[i]:offsets[i + 1]``.
        atomic_numbers: uint8 (m,); 0 for a site that several species share, or that is not full.
        frac_coords: float64 (m, 3).
        masses: float64 (m,), Da, by occupancy.

    Raises:
        InputError: shapes do not fit.
    """

    lengths: np.ndarray
    angles: np.ndarray
    offsets: np.ndarray
    atomic_numbers: np.ndarray
    frac_coords: np.ndarray
    masses: np.ndarray

    def __post_init__(self) -> None:
        n, m = len(self.lengths), len(self.atomic_numbers)
        for name, shape in (
            ("lengths", (n, 3)),
            ("angles", (n, 3)),
            ("offsets", (n + 1,)),
            ("frac_coords", (m, 3)),
            ("masses", (m,)),
        ):
            if getattr(self, name).shape != shape:
                found = getattr(self, name).shape
                raise InputError(f"{name} of {n} crystals with {m} sites have shape {found}")
        if self.offsets[0] != 0 or self.offsets[-1] != m or (np.diff(self.offsets) < 0).any():
            raise InputError(f"offsets do not divide {m} sites among {n} crystals")

    def __len__(self) -> int:
        return len(self.lengths)

    @staticmethod
    def of_atoms(
        lengths: np.ndarray,
        angles: np.ndarray,
        offsets: np.ndarray,
        atomic_numbers: np.ndarray,
        frac_coords: np.ndarray,
    ) -> Sites:
        """Take ordered crystals as arrays, such as those of `asymmetric_unit.Expanded`.

        Raises:
            InputError: as for the class.
        """
        numbers = np.asarray(atomic_numbers, np.uint8)
        return Sites(
            np.ascontiguousarray(lengths, np.float64),
            np.ascontiguousarray(angles, np.float64),
            np.ascontiguousarray(offsets, np.int64),
            numbers,
            np.ascontiguousarray(frac_coords, np.float64),
            ATOMIC_MASS[numbers],
        )

    @staticmethod
    def of(crystals: Iterable[Crystal]) -> Sites:
        """Take records."""
        listed = list(crystals)
        kinds: dict[str, tuple[int, float]] = {}
        for record in listed:
            for text, occupants in zip(record.species, record.occupants, strict=True):
                if text not in kinds:
                    mass = sum(
                        float(ATOMIC_MASS[ATOMIC_NUMBERS[o.element]]) * o.occupancy
                        for o in occupants
                    )
                    full = len(occupants) == 1 and occupants[0].occupancy == 1.0
                    z = ATOMIC_NUMBERS[occupants[0].element] if full else 0
                    kinds[text] = (z, mass)
        texts = [text for record in listed for text in record.species]
        return Sites(
            np.array([c.lengths for c in listed]).reshape(-1, 3),
            np.array([c.angles for c in listed]).reshape(-1, 3),
            np.concatenate([[0], np.cumsum([len(c) for c in listed])]).astype(np.int64),
            np.array([kinds[text][0] for text in texts], np.uint8),
            np.concatenate([np.empty((0, 3)), *(c.frac_coords for c in listed)]),
            np.array([kinds[text][1] for text in texts], np.float64),
        )


@dataclass(frozen=True)
class Check:
    """One check: what recipes are made of.

    Attributes:
        name: what recipes and columns call it.
        version: raised whenever a verdict could change with the parameters unchanged.
        parameters: all that decides a verdict, as plain JSON.
        unit: of the value; empty for a number without one.
    """

    name: str
    version: str
    parameters: Mapping[str, Any]
    unit: str


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a check says of n crystals.

    Attributes:
        check: which.
        value: float64 (n,), NaN where there is none.
        passed: bool (n,).
        reason: uint8 (n,), codes into `REASONS`.
    """

    check: Check
    value: np.ndarray
    passed: np.ndarray
    reason: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """Which crystals could not be judged, bool (n,)."""
        found: np.ndarray = self.reason >= _FIRST_ERROR
        return found

    def tally(self) -> dict[str, int]:
        """Count the crystals per reason, in words; reasons that do not occur are left out."""
        times = np.bincount(self.reason, minlength=len(REASONS))
        return {word: int(times[code]) for word, code in CODES.items() if times[code]}


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
    check = Check("radius_distances", "1", {"share_of_radii": share, "radii": radii}, "")
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
    with np.errstate(invalid="ignore", divide="ignore"):
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
    with np.errstate(invalid="ignore", divide="ignore"):
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


def in_parts(n: int, threads: int, work: Callable[[int, int], None]) -> None:
    """Work on ranges of crystals, several at once; 0 threads are as many as there are cores."""
    threads = threads or len(os.sched_getaffinity(0))
    parts = [(i, min(i + _PART, n)) for i in range(0, n, _PART)]
    if threads == 1 or len(parts) == 1:
        work(0, n)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, *part) for part in parts]:
            done.result()


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise UsageError(f"{name} is {value:g}; it must not be negative")
