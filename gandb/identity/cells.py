"""Reduced cells: what comparisons work on, alone, as bytes, and packed side by side."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from gandb.core.errors import InputError
from gandb.core.species import parse_species, species_text
from gandb.identity.recipes import Comparator

_HEAD = struct.Struct("<BHH")
_LAYOUT = 1


@dataclass(frozen=True, eq=False)
class Reduced:
    """The Niggli-reduced cell of a crystal, primitive if that was asked for.

    Attributes:
        lattice: float64 (3, 3), rows a, b, c, Å.
        frac_coords: float64 (n, 3).
        species: (n,) what sits on each site, as in `gandb.core.species`.
    """

    lattice: np.ndarray
    frac_coords: np.ndarray
    species: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.species)

    @property
    def volume(self) -> float:
        """Volume of the cell, Å³."""
        return float(abs(np.linalg.det(self.lattice)))

    def to_bytes(self) -> bytes:
        """Write the cell out exactly: counts, species, lattice, coordinates; little-endian."""
        texts = tuple(dict.fromkeys(self.species))
        place = {text: i for i, text in enumerate(texts)}
        names = "\n".join(texts).encode()
        kinds = np.array([place[text] for text in self.species], "<u2")
        return b"".join(
            (
                _HEAD.pack(_LAYOUT, len(self.species), len(names)),
                names,
                kinds.tobytes(),
                np.ascontiguousarray(self.lattice, "<f8").tobytes(),
                np.ascontiguousarray(self.frac_coords, "<f8").tobytes(),
            )
        )

    @staticmethod
    def from_bytes(data: bytes) -> Reduced:
        """Read what `to_bytes` wrote.

        Raises:
            InputError: these are no such bytes.
        """
        texts, kinds, numbers = _parts(data)
        return Reduced(
            lattice=numbers[:9].reshape(3, 3).copy(),
            frac_coords=numbers[9:].reshape(-1, 3).copy(),
            species=tuple(texts[k] for k in kinds),
        )


@dataclass(frozen=True, eq=False)
class Cells:
    """Reduced cells side by side, with species as numbers, for compiled loops.

    Attributes:
        lattices: float64 (m, 3, 3), Å.
        frac_coords: float64 (sites of all, 3).
        kinds: int32 (sites of all,), equal where the comparator takes species as equal.
        starts: int64 (m + 1,), where the sites of each cell begin.
        texts: what each kind stands for, in their own order, so that what is worked out about
            a pair does not hang on which other cells are packed with it.
    """

    lattices: np.ndarray
    frac_coords: np.ndarray
    kinds: np.ndarray
    starts: np.ndarray
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.lattices)

    @staticmethod
    def of(reduced: Sequence[Reduced], comparator: Comparator = "species") -> Cells:
        """Pack reduced cells."""
        return _packed(
            [(cell.species, None, cell.lattice, cell.frac_coords) for cell in reduced], comparator
        )

    @staticmethod
    def from_bytes(items: Sequence[bytes], comparator: Comparator = "species") -> Cells:
        """Pack cells written by `Reduced.to_bytes`.

        Raises:
            InputError: some are no such bytes.
        """
        rows = []
        for data in items:
            texts, kinds, numbers = _parts(data)
            rows.append((texts, kinds, numbers[:9].reshape(3, 3), numbers[9:].reshape(-1, 3)))
        return _packed(rows, comparator)


_Row = tuple[Sequence[str], np.ndarray | None, np.ndarray, np.ndarray]


def _packed(rows: Sequence[_Row], comparator: Comparator) -> Cells:
    given = {text: kind_text(text, comparator) for texts, *_ in rows for text in texts}
    names = tuple(sorted(set(given.values())))
    places = {name: place for place, name in enumerate(names)}
    counts = [len(coords) for _, _, _, coords in rows]
    starts = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    kinds = np.empty(starts[-1], np.int32)
    coords = np.empty((starts[-1], 3))
    lattices = np.empty((len(rows), 3, 3))
    for i, (texts, own, lattice, sites) in enumerate(rows):
        known = np.array([places[given[text]] for text in texts], np.int32)
        kinds[starts[i] : starts[i + 1]] = known if own is None else known[own]
        coords[starts[i] : starts[i + 1]] = sites
        lattices[i] = lattice
    return Cells(lattices, coords, kinds, starts, names)


@lru_cache(maxsize=10_000)
def kind_text(species: str, comparator: Comparator) -> str:
    """Return what two sites' species have in common if the comparator takes them as equal."""
    if comparator == "species":
        return species
    return species_text(replace(o, oxidation_state=None) for o in parse_species(species))


def _parts(data: bytes) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return distinct species, the index of each site's among them, and nine plus 3n numbers."""
    try:
        layout, n, length = _HEAD.unpack_from(data)
        if layout != _LAYOUT:
            raise InputError(f"a reduced cell in layout {layout}; this version reads {_LAYOUT}")
        at = _HEAD.size
        texts = data[at : at + length].decode().split("\n") if length else []
        kinds = np.frombuffer(data, "<u2", n, at + length)
        numbers = np.frombuffer(data, "<f8", 9 + 3 * n, at + length + 2 * n)
        if len(data) != at + length + 2 * n + 8 * len(numbers) or (n and kinds.max() >= len(texts)):
            raise ValueError("wrong size")
    except (struct.error, ValueError) as error:
        raise InputError(f"no reduced cell: {error}") from None
    return texts, kinds, numbers
