"""The training crystals that a baseline keeps, as flat arrays in its checkpoint.

Numbers are whole steps of 1e-8, as records have them, so a crystal comes out of a checkpoint as it
went in, with the same id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gandb.core.compositions import CompositionBatch
from gandb.core.crystals import GRID, Crystal
from gandb.core.elements import ATOMIC_NUMBERS, MAX_Z, SYMBOLS
from gandb.core.errors import InputError, UsageError
from gandb.generators.structures import Request


@dataclass(frozen=True, eq=False)
class KeptCrystals:
    """n ordered crystals with m sites in all.

    Attributes:
        cells: int64 (n, 6), lengths and angles in steps of 1e-8 Å and degrees.
        offsets: int64 (n + 1,), sites of crystal i are ``offsets[i]:offsets[i + 1]``.
        atomic_numbers: uint8 (m,).
        sites: int32 (m, 3), fractional coordinates in steps of 1e-8.
    """

    cells: np.ndarray
    offsets: np.ndarray
    atomic_numbers: np.ndarray
    sites: np.ndarray

    def __len__(self) -> int:
        return len(self.cells)

    @classmethod
    def of(cls, crystals: Sequence[Crystal]) -> KeptCrystals:
        """Take ordered crystals of plain elements; see `usable`."""
        numbers = [[ATOMIC_NUMBERS[text] for text in own.species] for own in crystals]
        offsets = np.zeros(len(crystals) + 1, np.int64)
        np.cumsum([len(row) for row in numbers], out=offsets[1:])
        cells = np.array([[*own.lengths, *own.angles] for own in crystals]).reshape(-1, 6)
        sites = np.concatenate([own.frac_coords for own in crystals] or [np.zeros((0, 3))])
        return cls(
            np.rint(cells * GRID).astype(np.int64),
            offsets,
            np.array([z for row in numbers for z in row], np.uint8),
            np.rint(sites * GRID).astype(np.int32),
        )

    def lengths(self, i: int) -> np.ndarray:
        """Return the lengths of crystal i, float64 (3,), Å."""
        found: np.ndarray = self.cells[i, :3] / GRID
        return found

    def angles(self, i: int) -> np.ndarray:
        """Return the angles of crystal i, float64 (3,), degrees."""
        found: np.ndarray = self.cells[i, 3:] / GRID
        return found

    def numbers(self, i: int) -> np.ndarray:
        """Return the atomic numbers of crystal i, uint8 (sites,)."""
        return self.atomic_numbers[self.offsets[i] : self.offsets[i + 1]]

    def frac_coords(self, i: int) -> np.ndarray:
        """Return the fractional coordinates of crystal i, float64 (sites, 3)."""
        found: np.ndarray = self.sites[self.offsets[i] : self.offsets[i + 1]] / GRID
        return found

    @cached_property
    def counts(self) -> np.ndarray:
        """Atoms of each element in each cell, uint16 (n, 119)."""
        rows = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        width = MAX_Z + 1
        places = rows * width + self.atomic_numbers
        times = np.bincount(places, minlength=len(self) * width)
        return times.astype(np.uint16).reshape(len(self), width)

    @cached_property
    def reduced(self) -> np.ndarray:
        """The same, divided by their greatest common divisor, uint16 (n, 119)."""
        divisors = np.gcd.reduce(self.counts, axis=1, keepdims=True)
        found: np.ndarray = self.counts // divisors
        return found

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the arrays of a checkpoint."""
        return {
            "cells": self.cells,
            "offsets": self.offsets,
            "atomic_numbers": self.atomic_numbers,
            "sites": self.sites,
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, np.ndarray]) -> KeptCrystals:
        """Take the arrays of a checkpoint.

        Raises:
            InputError: they do not fit together.
        """
        kept = cls(*(tensors[name] for name in ("cells", "offsets", "atomic_numbers", "sites")))
        n, m = len(kept.cells), len(kept.atomic_numbers)
        fit = kept.cells.shape == (n, 6) and kept.sites.shape == (m, 3)
        fit = fit and kept.offsets.shape == (n + 1,) and n > 0 and kept.offsets[0] == 0
        if not fit or kept.offsets[-1] != m or (np.diff(kept.offsets) < 1).any():
            raise InputError("the checkpoint's crystals do not fit together; train it again")
        if kept.atomic_numbers.min() < 1 or kept.atomic_numbers.max() > MAX_Z:
            raise InputError("the checkpoint's crystals have atoms of no element; train it again")
        return kept


def usable(crystals: Sequence[Crystal], max_atoms: int) -> tuple[list[Crystal], dict[str, int]]:
    """Return the crystals that can be kept, and how many others there are, by reason.

    Args:
        crystals: records.
        max_atoms: the most atoms that a cell may have; 0 for any number.

    Raises:
        UsageError: ``max_atoms`` is negative.
        InputError: none can be kept.
    """
    if max_atoms < 0:
        raise UsageError(f"option 'max_atoms' is {max_atoms}; give a number of atoms, 0 for any")
    chosen: list[Crystal] = []
    rejected: dict[str, int] = {}
    for own in crystals:
        if not own.ordered:
            reason = "disordered"
        elif any(text not in ATOMIC_NUMBERS for text in own.species):
            reason = "not_plain_elements"
        elif max_atoms and len(own) > max_atoms:
            reason = "too_many_atoms"
        else:
            chosen.append(own)
            continue
        rejected[reason] = rejected.get(reason, 0) + 1
    if not chosen:
        raise InputError(
            f"none of the {len(crystals)} training crystals can be used: "
            f"{rejected or 'the dataset is empty'}"
        )
    return chosen, rejected


def formula_asked(request: Request) -> str | None:
    """Return what `gandb.generators.structures.StructureSamples.formulas` says of a request."""
    if not request.elements:
        return None
    if request.counts:
        counts = {SYMBOLS[z]: n for z, n in zip(request.elements, request.counts, strict=True)}
        reduced, _ = CompositionBatch.from_dicts([counts]).reduced()
        return str(reduced.reduced_formulas()[0].as_py())
    return "-".join(sorted(SYMBOLS[z] for z in request.elements))
