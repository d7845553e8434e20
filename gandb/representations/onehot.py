"""One-hot compositions: 85 elements by counts 1 to 8, the encoding of MatGAN.

Dan et al., npj Comput. Mater. 6, 84 (2020), doi:10.1038/s41524-020-00352-0: cell (e, n-1) of an
85 x 8 matrix is 1 if element e occurs n times, every other cell is 0. The vocabulary is hydrogen to
plutonium without the noble gases except xenon and without Po, At, Rn, Fr and Ra.

A composition has few elements, so the compact form lists its *cells*: uint16 ``(n, 8)``, each
``8 * e + count - 1`` with e the place in `ELEMENTS`, ascending, and `EMPTY` (680) behind them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gandb.core.compositions import CompositionBatch
from gandb.core.elements import ATOMIC_NUMBERS, MAX_Z, SYMBOLS
from gandb.core.errors import InputError
from gandb.representations import kernels

MAX_COUNT = 8
"""Most atoms of one element."""

MAX_ELEMENTS = 8
"""Most different elements."""

_LEFT_OUT = frozenset("He Ne Ar Kr Po At Rn Fr Ra".split())

ELEMENTS: np.ndarray = np.array(
    [z for z in range(1, ATOMIC_NUMBERS["Pu"] + 1) if SYMBOLS[z] not in _LEFT_OUT], np.uint8
)
"""Atomic number of each place, uint8 (85,), ascending."""
ELEMENTS.setflags(write=False)

VOCABULARY: tuple[str, ...] = tuple(SYMBOLS[z] for z in ELEMENTS)
"""Symbol of each place."""

INDEX: np.ndarray = np.full(MAX_Z + 1, -1, np.int16)
"""Place of each atomic number, int16 (119,); -1 outside the vocabulary."""
INDEX[ELEMENTS] = np.arange(len(ELEMENTS))
INDEX.setflags(write=False)

EMPTY = len(ELEMENTS) * MAX_COUNT
"""The cell of an unused slot (680)."""

REJECTIONS: tuple[str, ...] = (
    "accepted",
    "no_elements",
    "element_outside_vocabulary",
    "count_above_8",
    "more_than_8_elements",
)
"""Why a composition has no encoding, or a sample no composition, by code; 0 is accepted."""


@dataclass(frozen=True)
class Encoded:
    """The compositions of a batch that the encoding holds.

    Attributes:
        cells: uint16 (k, 8); see the module.
        rows: int64 (k,), their rows in the batch, ascending.
        rejections: uint8 (n,), a code into `REJECTIONS` for every row of the batch.
    """

    cells: np.ndarray
    rows: np.ndarray
    rejections: np.ndarray

    def rejected(self) -> dict[str, int]:
        """Count the rows left out, by reason; reasons that do not occur are absent."""
        return count_rejections(self.rejections)


def count_rejections(codes: np.ndarray) -> dict[str, int]:
    """Count codes into `REJECTIONS`, uint8 (n,), by reason, without the accepted ones."""
    times = np.bincount(codes, minlength=len(REJECTIONS))
    return {REJECTIONS[code]: int(n) for code, n in enumerate(times) if code and n}


def encode(batch: CompositionBatch) -> Encoded:
    """Encode compositions as written (they are not reduced)."""
    cells, codes = kernels.encode_cells(
        batch.offsets, batch.atomic_numbers, batch.counts, INDEX, MAX_COUNT, MAX_ELEMENTS, EMPTY
    )
    rows = np.flatnonzero(codes == 0)
    return Encoded(cells[rows], rows, codes)


def decode(cells: np.ndarray) -> CompositionBatch:
    """Decode cells, uint16 (n, 8); a row of `EMPTY` alone is a composition of no elements."""
    return CompositionBatch.from_slots(*slots(cells))


def slots(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return atomic numbers and counts of cells, both uint8 (n, 8), zero where empty."""
    numbers, counts = kernels.decode_cells(cells, ELEMENTS, MAX_COUNT, EMPTY)
    return numbers, counts


def dense(cells: np.ndarray) -> np.ndarray:
    """Write cells, uint16 (n, 8), as one-hot matrices, uint8 (n, 85, 8)."""
    flat = np.zeros((len(cells), EMPTY + 1), np.uint8)
    np.put_along_axis(flat, cells.astype(np.int64), 1, axis=1)
    return flat[:, :EMPTY].reshape(len(cells), len(ELEMENTS), MAX_COUNT)


def choose(values: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Read compositions from real-valued matrices, one choice per element.

    An element is absent if all its cells are below the threshold; else its count is that of the
    greatest cell. So no element gets two counts.

    Args:
        values: float32 (n, 85, 8).
        threshold: the least value of a present element; the paper's decoder uses 0.2.

    Returns:
        cells uint16 (n, 8), and codes uint8 (n,) into `REJECTIONS`: a row without an element, or
        with more than 8, is rejected and empty.

    Raises:
        InputError: the shape is another.
    """
    expected = (len(ELEMENTS), MAX_COUNT)
    if values.ndim != 3 or values.shape[1:] != expected:
        raise InputError(f"one-hot values have shape {values.shape}; expected (n, 85, 8)")
    cells, codes = kernels.threshold_cells(values, np.float32(threshold), MAX_ELEMENTS, EMPTY)
    return cells, codes
