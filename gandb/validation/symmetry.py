"""Space groups, Wyckoff letters and site symmetries of crystals, by moyo.

moyo (K. Shinohara, https://github.com/spglib/moyo) follows the algorithm of A. Togo, K. Shinohara
and I. Tanaka, Sci. Technol. Adv. Mater. Meth. 4, 2384822 (2024), doi:10.1080/27660400.2024.2384822.
Settings are the first of each space group in the list of S. R. Hall's symbols, as in spglib: origin
choice 1, hexagonal axes for rhombohedral groups.

Two sites are alike if the whole text of their species is: elements, isotopes, oxidation states and
occupancies. So Fe2+ and Fe3+ differ, as do ``Fe:0.5 Ni:0.5`` and ``Fe:0.4 Ni:0.6``. Magnetic
moments and other site properties do not count.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gandb.core.crystals import Crystal
from gandb.core.errors import GandbError, MissingExtraError

if TYPE_CHECKING:
    from moyopy import MoyoDataset

SYMPREC = 0.01
"""How far, Å, a symmetry operation may miss a site that it should map to."""
THINNEST = 20.0
"""Least height of a cell, and least distance over which it repeats itself, in tolerances. moyo
0.21 can search on for ever below that (seen up to 17.5, never beyond 20 in 87,000 random cells)."""
_PROBES = 50  # sites that show whether a cell repeats itself


class SymmetryError(GandbError):
    """A symmetry search that found nothing, with the reason. It is no sign of P1."""


@dataclass(frozen=True)
class Symmetry:
    """Symmetry of a crystal of n sites.

    Attributes:
        space_group_number: 1 to 230, as in the International Tables for Crystallography, Vol. A.
        space_group_symbol: short Hermann-Mauguin symbol, such as ``Fm-3m`` or ``P2_1/c``.
        hall_number: 1 to 530, of the setting that Wyckoff letters and site symmetries refer to.
        crystal_system: ``triclinic`` ... ``cubic``.
        point_group: such as ``m-3m``.
        pearson_symbol: such as ``cF8``; sites count, however they are occupied.
        wyckoff_letters: (n,) of each site; ``A`` follows ``z``. Equal crystals in other cells may
            get others, up to the group's normaliser (a and b of rock salt); site symmetries stay.
        site_symmetries: (n,) oriented symbols, such as ``m-3m`` or ``.m.``.
        orbits: (n,) index of the first site that is equivalent to each.
        n_primitive: sites in a primitive cell.
        symprec: the tolerance, Å, at which this was found. Where that asked for leads to no
            group, the search takes smaller ones; so this may be a part of the symmetry only.
    """

    space_group_number: int
    space_group_symbol: str
    hall_number: int
    crystal_system: str
    point_group: str
    pearson_symbol: str
    wyckoff_letters: tuple[str, ...]
    site_symmetries: tuple[str, ...]
    orbits: tuple[int, ...]
    n_primitive: int
    symprec: float


def find_symmetry(
    crystal: Crystal, symprec: float = SYMPREC, angle_tolerance: float | None = None
) -> Symmetry:
    """Find the symmetry of a crystal.

    The search holds the interpreter's lock; several at once take several processes.

    Args:
        crystal: the record.
        symprec: how far, Å, an operation may miss a site or lattice vector; at most a
            twentieth of the height of the cell, or of a primitive one.
        angle_tolerance: how far, degrees, it may turn angles of the lattice; None judges them by
            ``symprec``.

    Raises:
        SymmetryError: no space group fits within these tolerances, or only P1 within smaller ones.
        MissingExtraError: moyopy is not installed.
    """
    moyopy = _moyopy()
    if not (math.isfinite(symprec) and symprec > 0):
        raise SymmetryError(f"a tolerance of {symprec:g} Å finds no symmetry; it must be above 0")
    if (height := _height(crystal)) < THINNEST * symprec:
        raise SymmetryError(
            f"the cell is {height:.3g} Å high: at most {height / THINNEST:.2g} Å of tolerance can "
            f"tell its symmetry, not {symprec:g}"
        )
    kinds = {text: kind for kind, text in enumerate(dict.fromkeys(crystal.species), 1)}
    numbers = [kinds[text] for text in crystal.species]
    if repeat := _repeat(crystal, np.array(numbers), symprec):
        raise SymmetryError(
            f"its sites repeat every {repeat:.2g} Å: at most {repeat / THINNEST:.2g} Å of "
            f"tolerance can tell its symmetry, not {symprec:g}"
        )
    cell = moyopy.Cell(crystal.lattice.tolist(), crystal.frac_coords.tolist(), numbers)
    try:
        found = moyopy.MoyoDataset(
            cell,
            symprec=symprec,
            angle_tolerance=None if angle_tolerance is None else math.radians(angle_tolerance),
            setting=moyopy.Setting.spglib(),
        )
    except ValueError as error:
        raise SymmetryError(f"no space group within {symprec:g} Å: {error}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust; it is no Exception
            raise
        raise SymmetryError(f"the symmetry search within {symprec:g} Å broke: {error}") from None
    if found.symprec > symprec or (found.symprec < symprec and found.number == 1):
        raise SymmetryError(
            f"no space group within {symprec:g} Å, only number {found.number} "
            f"within {found.symprec:.3g} Å"
        )
    return _symmetry(moyopy, found)


def symmetry_recipe_parameters(
    symprec: float = SYMPREC, angle_tolerance: float | None = None
) -> dict[str, Any]:
    """Return what decides the result, for the recipe of a check: program, version, tolerances.

    Raises:
        MissingExtraError: moyopy is not installed.
    """
    return {
        "program": "moyopy",
        "version": _moyopy().__version__,
        "setting": "spglib",
        "symprec_angstrom": symprec,
        "angle_tolerance_degrees": angle_tolerance,
        "sites_alike": "species with oxidation state and occupancy",
    }


def _moyopy() -> Any:
    try:
        import moyopy
    except ImportError:
        raise MissingExtraError.for_package("moyopy", "structures") from None
    # It logs, and Python prints the warnings of a logger that no one handles.
    logger = logging.getLogger("moyo")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return moyopy


def _height(crystal: Crystal) -> float:
    """Return the least distance between opposite faces of the cell, Å."""
    return 1.0 / math.sqrt(float((np.linalg.inv(crystal.lattice) ** 2).sum(axis=0).max()))


def _repeat(crystal: Crystal, numbers: np.ndarray, symprec: float) -> float | None:
    """Return a length, Å, below the least allowed, after which all sites come again; or None."""
    coords, lattice = crystal.frac_coords, crystal.lattice
    rarest = np.flatnonzero(numbers == np.bincount(numbers)[1:].argmin() + 1)
    steps = coords[rarest[1:]] - coords[rarest[0]]
    steps -= np.rint(steps)
    lengths = np.sqrt(((steps @ lattice) ** 2).sum(axis=1))
    for i in np.flatnonzero(lengths < THINNEST * symprec).tolist():
        for site in range(min(len(numbers), _PROBES)):
            gaps = coords[numbers == numbers[site]] - coords[site] - steps[i]
            gaps -= np.rint(gaps)
            if ((gaps @ lattice) ** 2).sum(axis=1).min() > (2 * symprec) ** 2:
                break
        else:
            return float(lengths[i])
    return None


def _symmetry(moyopy: Any, found: MoyoDataset) -> Symmetry:
    group = moyopy.SpaceGroupType(found.number)
    return Symmetry(
        space_group_number=found.number,
        space_group_symbol=group.hm_short.replace(" ", ""),
        hall_number=found.hall_number,
        crystal_system=group.crystal_system.lower(),
        point_group=group.geometric_crystal_class,
        pearson_symbol=found.pearson_symbol,
        wyckoff_letters=tuple(found.wyckoffs),
        site_symmetries=tuple(found.site_symmetry_symbols),
        orbits=tuple(found.orbits),
        n_primitive=found.prim_std_cell.num_atoms,
        symprec=found.symprec,
    )
