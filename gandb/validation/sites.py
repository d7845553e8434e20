"""Many crystals as arrays: what checks of geometry work on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from gandb.core.crystals import Crystal
from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.errors import InputError
from gandb.core.masses import ATOMIC_MASS

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
