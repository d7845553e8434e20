"""Average minimum distances: how far, on average, the 1st, 2nd ... kth neighbour of a site is.

D. Widdowson, M. M. Mosca, A. Pulido, A. I. Cooper and V. Kurlin, MATCH Commun. Math. Comput. Chem.
87, 529 (2022), doi:10.46793/match.87-3.529W.

The vector belongs to the periodic set of points: all cells, supercells and settings of a crystal,
turned or mirrored, have the same one up to rounding. It does not see elements. It is continuous:

- Sites that each move by at most e change distances by at most 2 e, and so every entry.
- A lattice whose vectors are strained so that no length in space changes by more than a factor of
  1 + s changes no entry by more than that factor.

Equal vectors do not prove equal crystals.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gandb.core.errors import InputError, UsageError
from gandb.identity import amd_kernels as kernels

AMD_K = 40
"""How many neighbours stored vectors tell of."""


def amd(
    lattice: np.ndarray | Sequence[Sequence[float]],
    frac_coords: np.ndarray | Sequence[Sequence[float]],
    k: int = AMD_K,
) -> np.ndarray:
    """Return the average minimum distances of a crystal, exact for any cell; float64 (k,), Å.

    The work grows with the square of the number of sites: give it the primitive cell.

    Args:
        lattice: (3, 3), rows a, b, c, Å.
        frac_coords: (n, 3).
        k: how many neighbours.

    Raises:
        InputError: there are no sites, or the lattice has no volume.
        UsageError: k is below 1.
    """
    cell, coords = _checked(lattice, frac_coords, k)
    found: np.ndarray = kernels.average_distances(cell, coords, k)
    return found


def normalised_amd(
    lattice: np.ndarray | Sequence[Sequence[float]],
    frac_coords: np.ndarray | Sequence[Sequence[float]],
    k: int = AMD_K,
) -> np.ndarray:
    """Return `amd` in units of (volume / sites)^(1/3), which does not see the volume.

    Raises:
        InputError: as `amd`.
        UsageError: as `amd`.
    """
    cell, coords = _checked(lattice, frac_coords, k)
    unit = (abs(float(np.linalg.det(cell))) / len(coords)) ** (1 / 3)
    found: np.ndarray = kernels.average_distances(cell, coords, k) / unit
    return found


def _checked(
    lattice: np.ndarray | Sequence[Sequence[float]],
    frac_coords: np.ndarray | Sequence[Sequence[float]],
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    if k < 1:
        raise UsageError(f"k is {k}; average minimum distances tell of 1 neighbour or more")
    cell = np.ascontiguousarray(lattice, np.float64)
    coords = np.ascontiguousarray(frac_coords, np.float64)
    if cell.shape != (3, 3) or coords.ndim != 2 or coords.shape[1] != 3:
        raise InputError(
            f"a lattice of shape {cell.shape} and coordinates of {coords.shape}, not (3, 3), (n, 3)"
        )
    if not len(coords):
        raise InputError("there are no sites")
    if not (np.isfinite(cell).all() and np.isfinite(coords).all()):
        raise InputError("the lattice and coordinates are not all finite")
    if not abs(np.linalg.det(cell)) > 0.0:
        raise InputError("the lattice has no volume")
    return cell, coords
