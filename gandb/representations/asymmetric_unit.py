"""A crystal as a space group, a cell, and one site of each orbit; and back again.

This is what models take that work with symmetry operations: CubicGAN (Zhao et al., Adv. Sci. 8,
2100566 (2021), doi:10.1002/advs.202100566) and PGCGM (Zhao et al., npj Comput. Mater. 9, 38 (2023),
doi:10.1038/s41524-023-00987-9). Cells are moyo's standardised ones, settings those of
`gandb.representations.space_groups`.

`encode` and `expand` are each other's inverse for ordered crystals of plain elements: what comes
back is the crystal in its standardised cell. Site properties and charge are not held.

A model's coordinates are seldom on a special position to the last digit, so that operations put
several atoms where one is meant. `Merging` joins atoms of one element that are nearer than a share
of their radii, directly or through others, and puts one atom where their mean is, as PGCGM does
after generating. Here the mean is that of the atoms around one atom, wherever the cell ends, not of
coordinates modulo 1. All atoms that symmetry makes equal move alike, so that the group stays, and
it goes on until no two are too near; what never ends, as where atoms link up through the whole
crystal, is rejected.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from gandb.core.crystals import MAX_SITES, SAME_PLACE, Crystal, CrystalError, crystal
from gandb.core.elements import ATOMIC_NUMBERS, SYMBOLS
from gandb.core.errors import InputError, UsageError
from gandb.core.radii import RADII
from gandb.representations import orbit_kernels as kernels
from gandb.representations.space_groups import (
    N_SPACE_GROUPS,
    constrain_cells,
    operations,
    space_group,
)
from gandb.representations.standard_cells import SYMPREC, SymmetryError, standard_cell

REJECTIONS: tuple[str, ...] = (
    "accepted",
    "no_cell",
    "not_finite",
    "endless_merging",
    "unsettled_merging",
    "no_radius",
    "too_many_sites",
    "no_crystal",
    "disordered",
    "not_plain_elements",
    "no_symmetry",
    "inexact_symmetry",
    "too_many_base_sites",
)
"""Why a crystal has no asymmetric unit, or a unit no crystal, by code; 0 is accepted."""

_CODES = {name: code for code, name in enumerate(REJECTIONS)}
_EXACT = 1e-4  # Å; a standardised cell's sites are their own images at least to this
_ON_POSITION = 1e-6  # of the cell


@dataclass(frozen=True, eq=False)
class AsymmetricUnits:
    """n crystals by m base sites in all.

    Attributes:
        space_groups: int16 (n,), 1 to 230.
        lengths: float64 (n, 3), Å.
        angles: float64 (n, 3), degrees.
        offsets: int64 (n + 1,), base sites of crystal i are ``offsets[i]:offsets[i + 1]``.
        atomic_numbers: uint8 (m,).
        frac_coords: float64 (m, 3).

    Raises:
        InputError: shapes do not fit, or a number is out of bounds.
    """

    space_groups: np.ndarray
    lengths: np.ndarray
    angles: np.ndarray
    offsets: np.ndarray
    atomic_numbers: np.ndarray
    frac_coords: np.ndarray

    def __post_init__(self) -> None:
        n, m = len(self.space_groups), len(self.atomic_numbers)
        for name, shape in (
            ("lengths", (n, 3)),
            ("angles", (n, 3)),
            ("offsets", (n + 1,)),
            ("frac_coords", (m, 3)),
        ):
            if getattr(self, name).shape != shape:
                found = getattr(self, name).shape
                raise InputError(f"{name} of {n} units with {m} sites have shape {found}")
        if self.offsets[0] != 0 or self.offsets[-1] != m or (np.diff(self.offsets) < 0).any():
            raise InputError(f"offsets do not divide {m} sites among {n} units")
        if n and not (self.space_groups.min() >= 1 and self.space_groups.max() <= N_SPACE_GROUPS):
            raise InputError(f"space groups are 1 to {N_SPACE_GROUPS}")
        if m and not (self.atomic_numbers.min() >= 1 and self.atomic_numbers.max() <= 118):
            raise InputError("atomic numbers are 1 to 118")

    def __len__(self) -> int:
        return len(self.space_groups)

    @staticmethod
    def of_sites(
        space_groups: Sequence[int],
        lengths: np.ndarray,
        angles: np.ndarray,
        atomic_numbers: Sequence[Sequence[int]],
        frac_coords: Sequence[np.ndarray],
    ) -> AsymmetricUnits:
        """Make a batch of what each crystal has.

        Raises:
            InputError: as for the class.
        """
        sizes = [len(numbers) for numbers in atomic_numbers]
        coords = [np.asarray(c, np.float64).reshape(-1, 3) for c in frac_coords]
        return AsymmetricUnits(
            np.array(space_groups, np.int16),
            np.asarray(lengths, np.float64).reshape(-1, 3),
            np.asarray(angles, np.float64).reshape(-1, 3),
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            np.array([z for numbers in atomic_numbers for z in numbers], np.uint8),
            np.concatenate([np.empty((0, 3)), *coords]),
        )

    def take(self, rows: np.ndarray) -> AsymmetricUnits:
        """Return the units at some rows, int64 (k,) or bool (n,)."""
        chosen = np.arange(len(self))[rows]
        sites = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in chosen]
        picked = np.concatenate([np.empty(0, np.int64), *sites])
        return AsymmetricUnits(
            self.space_groups[chosen],
            self.lengths[chosen],
            self.angles[chosen],
            np.concatenate([[0], np.cumsum([len(s) for s in sites])]).astype(np.int64),
            self.atomic_numbers[picked],
            self.frac_coords[picked],
        )

    def wyckoff_letters(self) -> tuple[tuple[str, ...], ...]:
        """Return the Wyckoff letter of every base site, for each unit."""
        found = []
        for i in range(len(self)):
            number = int(self.space_groups[i])
            group, positions = _group(number), space_group(number).positions
            metric, _ = kernels.metric_of(self.lengths[i], self.angles[i])
            letters = []
            for site in self.frac_coords[self.offsets[i] : self.offsets[i + 1]]:
                _, images = kernels.orbit(group.turns, group.shifts, site, metric, _EXACT)
                letters.append(positions[_placed(group, images)[0]].letter)
            found.append(tuple(letters))
        return tuple(found)


@dataclass(frozen=True, eq=False)
class Encoded:
    """The crystals of a batch that have an asymmetric unit.

    Attributes:
        units: k of them.
        rows: int64 (k,), their places in the batch, ascending.
        rejections: uint8 (n,), a code into `REJECTIONS` for every crystal.
    """

    units: AsymmetricUnits
    rows: np.ndarray
    rejections: np.ndarray

    def rejected(self) -> dict[str, int]:
        """Count the crystals left out, by reason; reasons that do not occur are absent."""
        return count_rejections(self.rejections)


@dataclass(frozen=True)
class Merging:
    """Which atoms of one element are joined.

    Attributes:
        share: of the sum of their radii; those nearer than that are joined. PGCGM takes 0.6.
        radii: ``atomic`` or ``covalent``; see `gandb.core.radii`.

    Raises:
        UsageError: the share is not above 0, or there are no such radii.
    """

    share: float = 0.6
    radii: str = "atomic"

    def __post_init__(self) -> None:
        if not 0 < self.share < 10:
            raise UsageError(f"share is {self.share:g}; it must be above 0 and below 10")
        if self.radii not in RADII:
            raise UsageError(f"radii are {self.radii!r}; choose {' or '.join(RADII)}")

    def parameters(self) -> dict[str, Any]:
        """Return all of it as plain data, for a recipe."""
        return {"share_of_radii": self.share, "radii": self.radii, "linkage": "single"}

    def reaches(self) -> np.ndarray:
        """Return below what distance, Å, atoms of each element are joined, (119,); may be NaN."""
        found: np.ndarray = np.maximum(2.0 * self.share * RADII[self.radii], SAME_PLACE)
        return found


@dataclass(frozen=True, eq=False)
class Expanded:
    """All atoms of n crystals; those rejected have none.

    Attributes:
        lengths: float64 (n, 3), Å, as the space groups allow.
        angles: float64 (n, 3), degrees.
        offsets: int64 (n + 1,), atoms of crystal i are ``offsets[i]:offsets[i + 1]``.
        atomic_numbers: uint8 (a,).
        frac_coords: float64 (a, 3), in [0, 1).
        base_sites: int64 (a,), which of the units' base sites each atom is an image of.
        joined: int64 (n,), base sites that went into others of their element.
        rejections: uint8 (n,), codes into `REJECTIONS`.
    """

    lengths: np.ndarray
    angles: np.ndarray
    offsets: np.ndarray
    atomic_numbers: np.ndarray
    frac_coords: np.ndarray
    base_sites: np.ndarray
    joined: np.ndarray
    rejections: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def crystal(self, row: int) -> Crystal:
        """Return one crystal as a record.

        Raises:
            CrystalError: it was rejected, or is none: says why.
        """
        if code := int(self.rejections[row]):
            raise CrystalError(f"it has no atoms: {REJECTIONS[code]}")
        sites = slice(self.offsets[row], self.offsets[row + 1])
        return crystal(
            self.lengths[row],
            self.angles[row],
            [SYMBOLS[z] for z in self.atomic_numbers[sites].tolist()],
            self.frac_coords[sites],
        )

    def crystals(self) -> tuple[list[Crystal | None], np.ndarray]:
        """Return all crystals, None for those rejected, and a code for each, uint8 (n,).

        The codes are `rejections`, with ``no_crystal`` where a record is refused.
        """
        codes = self.rejections.copy()
        found: list[Crystal | None] = [None] * len(self)
        for row in np.flatnonzero(codes == 0).tolist():
            try:
                found[row] = self.crystal(row)
            except CrystalError:
                codes[row] = _CODES["no_crystal"]
        return found, codes

    def rejected(self) -> dict[str, int]:
        """Count the crystals without atoms, by reason; reasons that do not occur are absent."""
        return count_rejections(self.rejections)


def count_rejections(codes: np.ndarray) -> dict[str, int]:
    """Count codes into `REJECTIONS`, uint8 (n,), by reason, without the accepted ones."""
    times = np.bincount(codes, minlength=len(REJECTIONS))
    return {REJECTIONS[code]: int(n) for code, n in enumerate(times) if code and n}


def encode(
    crystals: Iterable[Crystal],
    symprec: float = SYMPREC,
    max_base_sites: int | None = None,
    max_sites: int | None = None,
) -> Encoded:
    """Find the asymmetric unit of crystals.

    The search for symmetry takes about 2 ms each and holds the interpreter's lock.

    Args:
        crystals: n records; ordered, of elements without oxidation states and isotopes.
        symprec: how far, Å, an operation may miss a site.
        max_base_sites: most base sites of a unit.
        max_sites: most sites of a conventional cell.

    Raises:
        MissingExtraError: moyopy is not installed.
    """
    codes, rows = [], []
    parts: list[_Unit] = []
    for row, record in enumerate(crystals):
        unit = _encoded(record, symprec, max_base_sites, max_sites)
        if isinstance(unit, str):
            codes.append(_CODES[unit])
            continue
        codes.append(0)
        rows.append(row)
        parts.append(unit)
    units = AsymmetricUnits.of_sites(
        [part.space_group for part in parts],
        np.array([part.lengths for part in parts]),
        np.array([part.angles for part in parts]),
        [part.numbers for part in parts],
        [part.coords for part in parts],
    )
    return Encoded(units, np.array(rows, np.int64), np.array(codes, np.uint8))


def expand(
    units: AsymmetricUnits, merging: Merging | None = None, max_sites: int = MAX_SITES
) -> Expanded:
    """Apply the operations of the space groups to the base sites of crystals.

    Cells are made those that the groups allow (`constrain_cells`). Images of one base site, or of
    several of one element, that lie at one place are one atom: within 0.01 Å, or what ``merging``
    says.

    Args:
        units: n crystals.
        merging: which atoms are joined.
        max_sites: most atoms of a crystal.

    Raises:
        MissingExtraError: moyopy is not installed.
    """
    table = operations()
    tables = (table.offsets, table.rotations, table.translations)
    lengths, angles = constrain_cells(units.space_groups, units.lengths, units.angles)
    reaches = np.full(119, SAME_PLACE) if merging is None else merging.reaches()
    groups = units.space_groups.astype(np.int64)
    unknown = np.isnan(reaches)
    coords, sizes, met, codes = kernels.settle(
        groups,
        lengths,
        angles,
        units.offsets,
        units.atomic_numbers,
        units.frac_coords,
        table.offsets,
        table.rotations,
        table.translations,
        np.where(unknown, SAME_PLACE, reaches),
    )
    owner = np.repeat(np.arange(len(units)), np.diff(units.offsets))
    no_radius = np.unique(owner[unknown[units.atomic_numbers]])
    codes[no_radius[codes[no_radius] == 0]] = _CODES["no_radius"]
    counts = np.bincount(owner, sizes, minlength=len(units)).astype(np.int64)
    codes[(codes == 0) & (counts > max_sites)] = _CODES["too_many_sites"]
    sizes[codes[owner] > 0] = 0
    counts[codes > 0] = 0
    found = kernels.expand(groups, lengths, angles, units.offsets, coords, sizes, *tables)
    absorbed = np.bincount(owner, (sizes == 0) & (met > 1), minlength=len(units))
    sites = np.repeat(np.arange(len(sizes)), sizes)
    return Expanded(
        lengths,
        angles,
        np.concatenate([[0], np.cumsum(counts)]),
        units.atomic_numbers[sites],
        found,
        sites,
        np.where(codes > 0, 0, absorbed).astype(np.int64),
        codes,
    )


# --- encoding ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Unit:
    space_group: int
    lengths: np.ndarray
    angles: np.ndarray
    numbers: list[int]
    coords: np.ndarray


def _encoded(
    record: Crystal, symprec: float, max_base_sites: int | None, max_sites: int | None
) -> _Unit | str:
    if not record.ordered:
        return "disordered"
    if any(text not in ATOMIC_NUMBERS for text in record.species):
        return "not_plain_elements"
    try:
        standard = standard_cell(record, symprec)
    except SymmetryError:
        return "no_symmetry"
    if max_sites is not None and len(standard.species) > max_sites:
        return "too_many_sites"
    number = standard.space_group_number
    group = _group(number)
    numbers, coords = [], []
    kinds = np.array([ATOMIC_NUMBERS[text] for text in standard.species])
    metric = standard.lattice @ standard.lattice.T
    left = np.ones(len(kinds), bool)
    for site, (kind, point) in enumerate(zip(kinds.tolist(), standard.frac_coords, strict=True)):
        if not left[site]:
            continue
        _, images = kernels.orbit(group.turns, group.shifts, point, metric, _EXACT)
        near = _gaps(images, standard.frac_coords, metric) < _EXACT
        near &= (kinds == kind) & left
        if not ((near.sum(axis=1) == 1).all() and (near.sum(axis=0) <= 1).all()):
            return "inexact_symmetry"
        left &= ~near.any(axis=0)
        numbers.append(kind)
        coords.append(_placed(group, images)[1])
        if max_base_sites is not None and len(numbers) > max_base_sites:
            return "too_many_base_sites"
    lengths = np.sqrt(np.diag(metric))
    cosines = np.array([metric[1, 2], metric[0, 2], metric[0, 1]]) * lengths / np.prod(lengths)
    cell, angles = constrain_cells(
        np.array([number]), lengths[None], np.degrees(np.arccos(cosines))[None]
    )
    if np.abs(cell[0] - lengths).max() > _EXACT:
        return "inexact_symmetry"
    order = sorted(range(len(numbers)), key=lambda k: (numbers[k], np.round(coords[k], 6).tolist()))
    return _Unit(
        number,
        cell[0],
        angles[0],
        [numbers[k] for k in order],
        np.array([coords[k] for k in order]),
    )


def _gaps(one: np.ndarray, two: np.ndarray, metric: np.ndarray) -> np.ndarray:
    """Return distances, Å, between points (k, 3) and (l, 3), where they are far below the cell."""
    steps = one[:, None] - two[None]
    steps -= np.rint(steps)
    found: np.ndarray = np.sqrt(np.einsum("ijk,kl,ijl->ij", steps, metric, steps))
    return found


@dataclass(frozen=True, eq=False)
class _Group:
    """A space group laid out for compiled loops."""

    turns: np.ndarray
    shifts: np.ndarray
    multiplicities: np.ndarray
    projections: np.ndarray
    offsets: np.ndarray


@cache
def _group(number: int) -> _Group:
    group = space_group(number)
    return _Group(
        group.rotations.astype(np.float64),
        np.array(group.translations),
        np.array([position.multiplicity for position in group.positions]),
        np.array([position.projection for position in group.positions]),
        np.array([position.offset for position in group.positions]),
    )


def _placed(group: _Group, images: np.ndarray) -> tuple[int, np.ndarray]:
    """Return the Wyckoff position of an orbit, and the image that stands for it."""
    position, point = kernels.place(
        images, group.multiplicities, group.projections, group.offsets, _ON_POSITION
    )
    if position < 0:
        raise AssertionError(f"an orbit of {len(images)} is on no position: {images[0].tolist()}")
    return position, point
