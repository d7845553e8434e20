"""What lets comparisons be left out: cells close to one another, and a bound on all close ones.

*Close.* Cell x is within strain e and displacement d of cell a if, for some basis of x and some
pairing of equal sites, (1) no length in space changes by more than a factor of 1 + e, up or down,
from the lattice of a to that of x, both at one volume where the recipe brings volumes together; and
(2) after one shift of all sites, none is farther from its place in a than d (V/n)^(1/3), measured
in a. `near_pairs` says yes only where it has found such a basis and pairing.

*The bound.* Let x be close to a, y close to b, f = 1 + e, and let x match y. Then:

- The basis of y in that match is its Niggli basis, which need not be that of b. It consists of the
  shortest vectors, and strain changes no length by more than f; so its vectors in b are at most f^2
  times as long as the shortest there. All such bases of b are tried.
- Lengths of basis vectors in x and y agree within 1 + ltol, so those in a and b within
  f^2 (1 + ltol). A strain turns no direction by more than t = arcsin((f^2 - 1)/(f^2 + 1)), hence
  changes no angle by more than 2 t; so angles in a and b agree within angle_tol + 4 t.
- The lattice of mean lengths and angles of a and b differs from that of x and y by at most f in
  lengths and 2 t in angles. This changes squared lengths by a share c at most, worked out from its
  metric. So displacements less than stol (V/n)^(1/3) there are, with u = (V/n)^(1/3) here, less
  than s = stol u sqrt((1 + c)/(1 - c)).
- Let m be how far sites move at most from x to a and from y to b together, measured on the mean
  lattice of a and b. Under the same pairing, displacements from a to b with their mean taken off
  are less than r = s + 2 m, their root mean square less than q = s + m.
- Lay the site of a that is paired with a site of b upon it. That adds less than r to all
  displacements. So every site has one of its kind within 2 r, all can be paired so, and the pairing
  of least squares has a mean square below q^2 + r^2.

- Taking the displacement of that site off again is a shift shorter than r, which leaves every site
  less than r from the one it is paired with, one image of it, and all together a mean square below
  q^2. Boxes of shifts in which some site has no such partner, or all together too large a mean
  square, are left out, halved and halved again; with none left there is no such shift.

The bound holds unless some basis and some laying of site on site meets all that. The number of
sites, and those of each kind, must agree too. Both directions are tried. The volumes that a recipe
brings together stay out of all this, as everything is in units of (V/n)^(1/3).
"""

from __future__ import annotations

import math

import numpy as np

from gandb.core.errors import UsageError
from gandb.identity import bound_kernels, matching_kernels
from gandb.identity.cells import Cells
from gandb.identity.kernel_calls import in_parts, pair_array, sorted_cells, tolerances_of
from gandb.identity.matching_kernels import Tolerances
from gandb.identity.recipes import MatchRecipe


def bound_pairs(
    cells: Cells,
    pairs: np.ndarray,
    recipe: MatchRecipe,
    strain: float,
    displacement: float,
    threads: int = 1,
) -> np.ndarray:
    """Say of pairs of cells whether cells close to them may match, in either direction.

    False is certain: no cell close to the first and no cell close to the second match each other
    under the recipe, either way. True is not. Why is written at the top of this module.

    Args:
        cells: reduced cells, packed with the recipe's comparator.
        pairs: int64 (k, 2), indices of cells.
        recipe: the tolerances of a match.
        strain: how much longer or shorter any length may be in a close cell, as a fraction.
        displacement: how far its sites may be displaced, in units of (V/n)^(1/3).
        threads: how many threads share the work.

    Returns:
        bool (k,).
    """
    _check(strain, displacement)
    ordered = sorted_cells(cells)
    listed = pair_array(pairs)
    tolerances = tolerances_of(recipe)
    may = np.zeros(len(listed), bool)

    def work(part: slice) -> None:
        bound_kernels.may_match_pairs(
            ordered, listed[part], tolerances, float(strain), float(displacement), may[part]
        )

    in_parts(work, len(listed), threads)
    return may


def near_pairs(
    cells: Cells,
    pairs: np.ndarray,
    recipe: MatchRecipe,
    strain: float,
    displacement: float,
    threads: int = 1,
) -> np.ndarray:
    """Say of pairs of cells whether the second was found to be close to the first.

    Args:
        cells: reduced cells, packed with the recipe's comparator.
        pairs: int64 (k, 2), indices of cells.
        recipe: only whether volumes are brought together counts.
        strain: as in `bound_pairs`, above 0.
        displacement: as in `bound_pairs`, above 0.
        threads: how many threads share the work.

    Returns:
        bool (k,).
    """
    _check(strain, displacement)
    square = (1.0 + strain) ** 2
    turn = 2.0 * math.degrees(math.asin((square - 1.0) / (square + 1.0)))
    tolerances = Tolerances(float(strain), float(displacement), turn, bool(recipe.scale))
    ordered = sorted_cells(cells)
    listed = pair_array(pairs)
    values = np.empty((2, len(listed)))

    def work(part: slice) -> None:
        matching_kernels.compare_pairs(
            ordered, listed[part], tolerances, matching_kernels.NEAR, *values[:, part]
        )

    in_parts(work, len(listed), threads)
    near: np.ndarray = values[0] < displacement
    return near


def _check(strain: float, displacement: float) -> None:
    if not (0 <= strain <= 1 and 0 <= displacement <= 2):
        raise UsageError(
            f"a strain of {strain:g} and a displacement of {displacement:g}; "
            "at most 1 and 2 make sense"
        )
