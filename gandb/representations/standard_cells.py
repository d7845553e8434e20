"""The standardised conventional cell of a crystal, as moyo finds it.

moyo (K. Shinohara, https://github.com/spglib/moyo) follows the algorithm of A. Togo, K. Shinohara
and I. Tanaka, Sci. Technol. Adv. Mater. Meth. 4, 2384822 (2024), doi:10.1080/27660400.2024.2384822.
Settings are the first of each space group in the list of S. R. Hall's symbols, as in spglib: origin
choice 1, hexagonal axes for rhombohedral groups. Its cell is refined: lengths, angles and
coordinates have the symmetry to the last digits, and are moved for it by no more than the
tolerance, or little.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gandb.core.crystals import Crystal, crystal_of_matrix
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


@dataclass(frozen=True, eq=False)
class StandardCell:
    """A crystal in the conventional cell of its space group.

    Attributes:
        space_group_number: 1 to 230.
        lattice: float64 (3, 3), vectors as rows, Å; right-handed.
        species: (n,), what sits on each site.
        frac_coords: float64 (n, 3).
    """

    space_group_number: int
    lattice: np.ndarray
    species: tuple[str, ...]
    frac_coords: np.ndarray

    def crystal(self) -> Crystal:
        """Return the cell as a record.

        Raises:
            CrystalError: it is too large to be one.
        """
        return crystal_of_matrix(self.lattice, self.species, self.frac_coords)


def standard_cell(crystal: Crystal, symprec: float = SYMPREC) -> StandardCell:
    """Return a crystal in its standardised conventional cell; properties and charge stay behind.

    Raises:
        SymmetryError: no space group fits within the tolerance, or only P1 within a smaller one.
        MissingExtraError: moyopy is not installed.
    """
    found = find_dataset(crystal, symprec)
    texts = list(dict.fromkeys(crystal.species))
    cell = found.std_cell
    return StandardCell(
        found.number,
        np.array(cell.basis),
        tuple(texts[kind - 1] for kind in cell.numbers),
        np.array(cell.positions),
    )


def find_dataset(
    crystal: Crystal, symprec: float = SYMPREC, angle_tolerance: float | None = None
) -> MoyoDataset:
    """Return all that moyo finds out about a crystal's symmetry.

    The search holds the interpreter's lock; several at once take several processes.

    Args:
        crystal: the record; kind k of moyo's is its k-th different text of species, from 1 on.
        symprec: how far, Å, an operation may miss a site or lattice vector; at most a
            twentieth of the height of the cell, or of a primitive one.
        angle_tolerance: how far, degrees, it may turn angles of the lattice; None judges them by
            ``symprec``.

    Raises:
        SymmetryError: no space group fits within these tolerances, or only P1 within smaller ones.
        MissingExtraError: moyopy is not installed.
    """
    moyopy = load_moyopy()
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
        found: MoyoDataset = moyopy.MoyoDataset(
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
    return found


def load_moyopy() -> Any:
    """Return the package, quietened.

    Raises:
        MissingExtraError: it is not installed.
    """
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
