"""Cells that repeat themselves: what repeats, and the way back.

A crystal in a centred or multiple cell has translations, beyond those of its lattice, that leave it
as it is. Forces keep them, so it suffices to move the sites that repeat; the others follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gandb.core.crystals import Crystal


@dataclass(frozen=True, eq=False)
class Folded:
    """What repeats in a crystal of n sites.

    Attributes:
        lattice: float64 (3, 3), vectors of the smallest cell as rows, Å.
        sites: int64 (k,), those of the crystal that stand for all.
        multiples: float64 (3, 3), whole numbers; times ``lattice`` they give the crystal's.
        places: int64 (n,), which of ``sites`` each site follows.
        steps: float64 (n, 3), whole numbers of vectors of ``lattice`` between the two.
    """

    lattice: np.ndarray
    sites: np.ndarray
    multiples: np.ndarray
    places: np.ndarray
    steps: np.ndarray

    def unfold(self, lattice: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the whole cell (3, 3) and all positions (n, 3), Å.

        Args:
            lattice: of the smallest cell, (3, 3).
            positions: of ``sites``, (k, 3), Å.
        """
        return self.multiples @ lattice, positions[self.places] + self.steps @ lattice


def fold(crystal: Crystal, tolerance: float) -> Folded:
    """Find what repeats in a crystal.

    Args:
        crystal: any.
        tolerance: how far, Å, a translation may miss a site; 0 finds none.
    """
    n = len(crystal)
    shifts = _translations(crystal, tolerance) if tolerance > 0 else np.zeros((1, 3))
    m = len(shifts)
    basis = np.eye(3)
    if m > 1:
        rows = np.concatenate([np.rint(shifts * m), m * np.eye(3)]).astype(np.int64)
        basis = _reduced((_echelon(rows) / m) @ crystal.lattice) @ np.linalg.inv(crystal.lattice)
    lattice = basis @ crystal.lattice
    inverse = np.linalg.inv(basis)
    inside = crystal.frac_coords @ inverse
    places, steps = np.full(n, -1), np.zeros((n, 3))
    sites: list[int] = []
    for site in range(n):
        if places[site] >= 0:
            continue
        away = inside - inside[site]
        whole = np.rint(away)
        near = (((away - whole) @ lattice) ** 2).sum(axis=1) <= (2 * tolerance) ** 2
        near &= np.array([text == crystal.species[site] for text in crystal.species])
        near &= places < 0
        near[site] = True
        places[near], steps[near] = len(sites), whole[near]
        sites.append(site)
    if len(sites) * m != n:  # translations that hold only just
        return fold(crystal, 0.0)
    return Folded(lattice, np.array(sites), np.rint(inverse), places, steps)


def _translations(crystal: Crystal, tolerance: float) -> np.ndarray:
    """Return the fractional translations that leave a crystal as it is, (m, 3); 0 comes first.

    Only those are kept that are multiples of 1/m, as those of a group of m must be.
    """
    kinds = np.unique(np.array(crystal.species), return_inverse=True)[1]
    groups = [crystal.frac_coords[kinds == k] for k in range(kinds.max() + 1)]
    rarest = min(groups, key=len)
    shifts = np.array(
        [
            shift - np.floor(shift + 1e-6)
            for shift in rarest - rarest[0]
            if all(_maps(group, shift, crystal.lattice, tolerance) for group in groups)
        ]
    )
    away = (shifts - np.rint(shifts * len(shifts)) / len(shifts)) @ crystal.lattice
    if ((away**2).sum(axis=1) > tolerance**2).any():
        return np.zeros((1, 3))
    return shifts


def _maps(coords: np.ndarray, shift: np.ndarray, lattice: np.ndarray, tolerance: float) -> bool:
    """Say whether every site, moved, lies on another of its kind."""
    away = (coords + shift)[:, None] - coords[None]
    away -= np.rint(away)
    squares = ((away @ lattice) ** 2).sum(axis=2)
    return bool((squares.min(axis=1) <= tolerance**2).all())


def _echelon(rows: np.ndarray) -> np.ndarray:
    """Return a basis (3, 3) of the whole combinations of rows, int64 (r, 3)."""
    rows = rows.copy()
    basis = []
    for column in range(3):
        while (nonzero := np.flatnonzero(rows[:, column])).size > 1:
            least = nonzero[np.abs(rows[nonzero, column]).argmin()]
            for row in nonzero.tolist():
                if row != least:
                    rows[row] -= rows[row, column] // rows[least, column] * rows[least]
        basis.append(rows[nonzero[0]].copy())
        rows[nonzero[0]] = 0
    return np.array(basis)


def _reduced(lattice: np.ndarray) -> np.ndarray:
    """Return a basis of the same lattice with short vectors, right-handed as the first was."""
    basis = lattice.copy()
    for _ in range(100):
        before = basis.copy()
        for i in range(3):
            for j in range(3):
                if i != j:
                    times = np.rint(basis[i] @ basis[j] / (basis[j] @ basis[j]))
                    shorter = basis[i] - times * basis[j]
                    if shorter @ shorter < basis[i] @ basis[i] * (1 - 1e-9):
                        basis[i] = shorter
        if np.array_equal(before, basis):
            break
    return basis
