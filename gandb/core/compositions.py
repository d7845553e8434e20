"""Many chemical compositions at once, as flat arrays, with their content ids and formulas.

A batch of n compositions holds m (atomic number, count) pairs:

- ``offsets`` int64 (n+1,): pairs of composition i are ``offsets[i]:offsets[i+1]``
- ``atomic_numbers`` uint8 (m,): ascending within a composition
- ``counts`` uint16 (m,): atoms of that element, at least 1

The *canonical bytes* of a composition are its pairs after division by their greatest common
divisor, each as one byte Z and two bytes count (little endian), sorted by Z. Its id is the
BLAKE2b-128 of those bytes in the composition domain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

import numpy as np
import pyarrow as pa

from gandb.core import kernels
from gandb.core.elements import ATOMIC_NUMBERS, SYMBOLS
from gandb.core.ids import Domain, content_id

MAX_ATOMS = 9_999
"""Most atoms that one formula may hold."""


@dataclass(frozen=True)
class CompositionBatch:
    """Compositions as flat arrays; see the module for shapes."""

    offsets: np.ndarray
    atomic_numbers: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> dict[str, int]:
        """Return composition i as ``{symbol: count}``."""
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        i %= len(self)
        part = slice(self.offsets[i], self.offsets[i + 1])
        pairs = zip(self.atomic_numbers[part], self.counts[part], strict=True)
        return {SYMBOLS[z]: int(n) for z, n in pairs}

    @classmethod
    def from_dicts(cls, rows: Sequence[Mapping[str, int]]) -> CompositionBatch:
        """Build a batch from ``{symbol: count}`` mappings."""
        pairs = [sorted((ATOMIC_NUMBERS[s], n) for s, n in row.items()) for row in rows]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(p) for p in pairs], out=offsets[1:])
        flat = [pair for row in pairs for pair in row]
        return cls(
            offsets,
            np.array([z for z, _ in flat], np.uint8),
            np.array([n for _, n in flat], np.uint16),
        )

    @classmethod
    def from_slots(cls, atomic_numbers: np.ndarray, counts: np.ndarray) -> CompositionBatch:
        """Build a batch from slots.

        Args:
            atomic_numbers: (n, k) uint8, each element at most once in a row, in any order; a slot
                whose count is 0 is empty.
            counts: (n, k) uint8 or uint16.
        """
        return cls(*kernels.from_slots(atomic_numbers, counts))

    @classmethod
    def empty(cls) -> CompositionBatch:
        """Return a batch of no compositions."""
        return cls(np.zeros(1, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.uint16))

    @classmethod
    def concatenate(cls, batches: Sequence[CompositionBatch]) -> CompositionBatch:
        """Join batches in order."""
        if not batches:
            return cls.empty()
        sizes = np.concatenate([np.diff(b.offsets) for b in batches])
        offsets = np.zeros(len(sizes) + 1, np.int64)
        np.cumsum(sizes, out=offsets[1:])
        return cls(
            offsets,
            np.concatenate([b.atomic_numbers for b in batches]),
            np.concatenate([b.counts for b in batches]),
        )

    def take(self, rows: np.ndarray) -> CompositionBatch:
        """Return the compositions at ``rows`` (int64 (k,)), in that order."""
        return CompositionBatch(
            *kernels.take(self.offsets, self.atomic_numbers, self.counts, rows.astype(np.int64))
        )

    def slots(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return atomic numbers and counts as (n, width) arrays, zero where empty.

        Raises:
            ValueError: a composition has more than ``width`` elements.
        """
        if len(self) and int(self.n_elements.max()) > width:
            raise ValueError(
                f"a composition has {self.n_elements.max()} elements, more than {width}"
            )
        slots: tuple[np.ndarray, np.ndarray] = kernels.to_slots(
            self.offsets, self.atomic_numbers, self.counts, width
        )
        return slots

    @cached_property
    def n_elements(self) -> np.ndarray:
        """Number of different elements, int64 (n,)."""
        return np.diff(self.offsets)

    @cached_property
    def n_atoms(self) -> np.ndarray:
        """Number of atoms as written, int64 (n,)."""
        sums: np.ndarray = kernels.row_sums(self.offsets, self.counts)
        return sums

    def reduced(self) -> tuple[CompositionBatch, np.ndarray]:
        """Divide every composition by its greatest common divisor.

        Returns:
            the reduced batch, and the divisors (the formula units as written), uint16 (n,).
        """
        counts, units = kernels.reduce_counts(self.offsets, self.counts)
        return CompositionBatch(self.offsets, self.atomic_numbers, counts), units

    def ids(self) -> np.ndarray:
        """Return the content ids of *reduced* compositions, uint8 (n, 16).

        Call it on a reduced batch: counts are hashed as they stand.
        """
        return kernels.composition_ids(self.offsets, self.atomic_numbers, self.counts)

    def reduced_formulas(self) -> pa.StringArray:
        """Return formulas as pymatgen's ``Composition.reduced_formula`` writes them.

        Elements by electronegativity, a trailing anion group in parentheses, and pymatgen's
        customary forms of elements and peroxides (``O2``, ``H2O2`` ...).
        """
        return kernels.formula_strings(self.offsets, self.atomic_numbers, self.counts)

    def chemical_systems(self) -> pa.StringArray:
        """Return chemical systems: symbols in alphabetical order joined by hyphens (``Fe-O``)."""
        return kernels.chemical_system_strings(self.offsets, self.atomic_numbers)

    def anonymous_formulas(self) -> pa.StringArray:
        """Return stoichiometries without elements, counts ascending, such as ``AB2C4``.

        Letters follow the alphabet; beyond 26 elements they go on in lower case.
        """
        return kernels.anonymous_formula_strings(self.offsets, self.counts)

    def element_lists(self) -> pa.ListArray:
        """Return the symbols of each composition in alphabetical order."""
        return kernels.element_lists(self.offsets, self.atomic_numbers)

    def unique(self) -> UniqueRows:
        """Group equal compositions of a reduced batch; see `UniqueRows`."""
        return unique_ids(self.ids())


@dataclass(frozen=True)
class UniqueRows:
    """The distinct ids among n, in order of first appearance.

    Attributes:
        ids: uint8 (u, 16).
        first: int64 (u,), row of first appearance, ascending.
        inverse: int64 (n,), which distinct id each row has.
        times: int64 (u,), how many rows have it.
    """

    ids: np.ndarray
    first: np.ndarray
    inverse: np.ndarray
    times: np.ndarray


def unique_ids(ids: np.ndarray) -> UniqueRows:
    """Group equal 16-byte ids, uint8 (n, 16), by hashing, in linear time."""
    first, inverse, times = kernels.group_ids(np.ascontiguousarray(ids).view(np.uint64))
    return UniqueRows(ids[first], first, inverse, times)


def composition_id(composition: Mapping[str, int]) -> UUID:
    """Return the id of one composition ``{symbol: count}``, reduced first.

    The plain reference for the batch kernel.
    """
    divisor = int(np.gcd.reduce(list(composition.values())))
    pairs = sorted((ATOMIC_NUMBERS[s], n // divisor) for s, n in composition.items())
    data = b"".join(bytes([z]) + n.to_bytes(2, "little") for z, n in pairs)
    return content_id(Domain.COMPOSITION, data)


def uuid_array(ids: np.ndarray) -> pa.ExtensionArray:
    """Wrap ids, uint8 (n, 16), as an Arrow UUID array without copying."""
    raw = np.ascontiguousarray(ids, np.uint8)
    storage = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(raw), [None, pa.py_buffer(raw)]
    )
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)
