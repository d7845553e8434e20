"""Crystals as clouds of points in slots: so many places for each element, some of them empty.

S. Kim, J. Noh, G. H. Gu, A. Aspuru-Guzik, Y. Jung, ACS Cent. Sci. 6, 1412 (2020),
doi:10.1021/acscentsci.0c00426, write Mg-Mn-O cells with up to 8, 8 and 12 atoms so. Here any
elements may have any number of slots.

The matrix of a crystal has 2 rows for its cell, then one for each slot:

- lengths a, b, c over `PointCloudForm.max_length`;
- angles alpha, beta, gamma over 180 degrees;
- of each atom, fractional f as ``(10 f + 2.5) / 15``, which lies between 1/6 and 5/6; an empty slot
  is all zeros. A row that adds up to more than 0.4 holds an atom.

Encoded and decoded, a record is the same record, with the same id, in float64.

The augmentations give the same crystal in other words: in another cell or with another origin. The
published ones permute the axes, which mirrors the crystal where the permutation is odd; here its
coordinates are then inverted, so that it keeps its hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from gandb.core.crystals import Crystal, CrystalError, crystal
from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.errors import InputError, UsageError

REJECTIONS: tuple[str, ...] = (
    "accepted",
    "disordered",
    "not_plain_elements",
    "element_outside_system",
    "element_missing",
    "too_many_of_element",
    "length_above_maximum",
    "not_finite",
    "no_atoms",
    "no_crystal",
)
"""Why a crystal has no matrix, or a matrix no crystal, by code; 0 is accepted."""

PRESENT = 0.4
"""Least sum of the row of a slot that holds an atom, as in the published code."""

_CODES = {name: code for code, name in enumerate(REJECTIONS)}
_MOST_SLOTS = 10_000
_LARGEST = 1e6  # Å or degrees; no cell has more
_CELL_ROWS = 2
_STRETCH, _SHIFT, _WIDTH = 10.0, 2.5, 15.0


@dataclass(frozen=True)
class PointCloudForm:
    """Which elements have how many slots.

    Attributes:
        elements: symbols, in the order of their slots.
        slots: of each element.
        max_length: what lengths are divided by, Å; longer cells are rejected.
        all_elements: whether a crystal must have every element.

    Raises:
        UsageError: an element is unknown or twice there, or a number is out of bounds.
    """

    elements: tuple[str, ...]
    slots: tuple[int, ...]
    max_length: float = 30.0
    all_elements: bool = False

    def __post_init__(self) -> None:
        if unknown := [symbol for symbol in self.elements if symbol not in ATOMIC_NUMBERS]:
            raise UsageError(f"{unknown[0]!r} is no element")
        if not self.elements or len(set(self.elements)) != len(self.elements):
            raise UsageError("a point cloud has one or more elements, each once")
        if len(self.slots) != len(self.elements) or min(self.slots) < 1:
            raise UsageError(f"{len(self.elements)} elements want as many numbers of slots, from 1")
        if sum(self.slots) > _MOST_SLOTS:
            raise UsageError(f"{sum(self.slots):,} slots; at most {_MOST_SLOTS:,}")
        if not self.max_length > 0:
            raise UsageError(f"max_length is {self.max_length:g}; it must be above 0")

    @staticmethod
    def for_crystals(crystals: Iterable[Crystal], max_length: float = 30.0) -> PointCloudForm:
        """Return the smallest form that holds the ordered ones of some crystals.

        Elements stand by atomic number.

        Raises:
            UsageError: none is ordered.
        """
        most: dict[str, int] = {}
        for record in crystals:
            if record.ordered:
                for symbol, amount in record.amounts.items():
                    most[symbol] = max(most.get(symbol, 0), round(amount))
        symbols = sorted(most, key=ATOMIC_NUMBERS.__getitem__)
        return PointCloudForm(tuple(symbols), tuple(most[s] for s in symbols), max_length)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a crystal's matrix."""
        return _CELL_ROWS + sum(self.slots), 3

    @cached_property
    def blocks(self) -> tuple[slice, ...]:
        """Slots of each element."""
        ends = np.cumsum(self.slots).tolist()
        return tuple(slice(end - n, end) for end, n in zip(ends, self.slots, strict=True))

    def parameters(self) -> dict[str, Any]:
        """Return all of it as plain data, for a recipe."""
        return {
            "elements": list(self.elements),
            "slots": list(self.slots),
            "max_length_angstrom": self.max_length,
            "all_elements": self.all_elements,
        }


MG_MN_O = PointCloudForm(("Mg", "Mn", "O"), (8, 8, 12), all_elements=True)
"""The form of the paper."""


@dataclass(frozen=True, eq=False)
class PointClouds:
    """n crystals in s slots each.

    Attributes:
        form: which element has which slots.
        lengths: float64 (n, 3), Å.
        angles: float64 (n, 3), degrees.
        frac_coords: float64 (n, s, 3), in [0, 1); 0 in empty slots.
        present: bool (n, s), which slots hold an atom.

    Raises:
        InputError: shapes do not fit.
    """

    form: PointCloudForm
    lengths: np.ndarray
    angles: np.ndarray
    frac_coords: np.ndarray
    present: np.ndarray

    def __post_init__(self) -> None:
        n, s = len(self.lengths), sum(self.form.slots)
        for name, shape in (
            ("lengths", (n, 3)),
            ("angles", (n, 3)),
            ("frac_coords", (n, s, 3)),
            ("present", (n, s)),
        ):
            if getattr(self, name).shape != shape:
                found = getattr(self, name).shape
                raise InputError(f"{name} of {n} clouds with {s} slots have shape {found}")

    def __len__(self) -> int:
        return len(self.lengths)

    @staticmethod
    def of_matrices(
        form: PointCloudForm, matrices: np.ndarray, present: np.ndarray | None = None
    ) -> PointClouds:
        """Read matrices, (n, 2 + s, 3), as a network makes them.

        Args:
            form: which element has which slots.
            matrices: see the module.
            present: bool (n, s), which slots hold an atom; without it, the rows say so.

        Raises:
            InputError: the shape is another.
        """
        values = np.asarray(matrices, np.float64)
        if values.ndim != 3 or values.shape[1:] != form.shape:
            raise InputError(f"matrices have shape {values.shape}; expected (n, *{form.shape})")
        rows = values[:, _CELL_ROWS:]
        with np.errstate(all="ignore"):  # what is not finite is rejected as such
            if present is None:
                held = (rows.sum(axis=2) > PRESENT) | ~np.isfinite(rows).all(axis=2)
            else:
                held = np.asarray(present, bool)
            coords = (rows * _WIDTH - _SHIFT) / _STRETCH
            coords = coords - np.floor(coords)
            lengths, angles = values[:, 0] * form.max_length, values[:, 1] * 180.0
        coords[coords >= 1.0] = 0.0
        return PointClouds(form, lengths, angles, np.where(held[..., None], coords, 0.0), held)

    def matrices(self, dtype: Any = np.float64) -> np.ndarray:
        """Return the matrices, (n, 2 + s, 3), between 0 and 1."""
        rows = np.where(
            self.present[..., None], (_STRETCH * self.frac_coords + _SHIFT) / _WIDTH, 0.0
        )
        cell = np.stack([self.lengths / self.form.max_length, self.angles / 180.0], axis=1)
        found: np.ndarray = np.concatenate([cell, rows], axis=1).astype(dtype)
        return found

    def counts(self) -> np.ndarray:
        """Return the atoms of each element, int64 (n, elements)."""
        return np.stack([self.present[:, block].sum(axis=1) for block in self.form.blocks], axis=1)

    def take(self, rows: np.ndarray) -> PointClouds:
        """Return the clouds at some rows, int64 (k,) or bool (n,)."""
        return replace(
            self,
            lengths=self.lengths[rows],
            angles=self.angles[rows],
            frac_coords=self.frac_coords[rows],
            present=self.present[rows],
        )

    def crystals(self) -> tuple[list[Crystal | None], np.ndarray]:
        """Return the records, None where there is none, and a code for each, uint8 (n,).

        An element whose slots are all empty is absent, which is no reason to reject unless the
        form asks for all elements.
        """
        codes = np.zeros(len(self), np.uint8)
        finite = np.isfinite(self.lengths).all(axis=1) & np.isfinite(self.angles).all(axis=1)
        finite &= np.isfinite(self.frac_coords).all(axis=(1, 2))
        codes[~self.present.any(axis=1)] = _CODES["no_atoms"]
        if self.form.all_elements:
            missing = (self.counts() == 0).any(axis=1)
            codes[(codes == 0) & missing] = _CODES["element_missing"]
        beyond = (np.abs(np.hstack([self.lengths, self.angles])) > _LARGEST).any(axis=1)
        codes[(codes == 0) & beyond] = _CODES["no_crystal"]
        codes[~finite] = _CODES["not_finite"]
        names = np.repeat(np.array(self.form.elements), self.form.slots)
        found: list[Crystal | None] = [None] * len(self)
        for row in np.flatnonzero(codes == 0).tolist():
            held = self.present[row]
            try:
                found[row] = crystal(
                    self.lengths[row],
                    self.angles[row],
                    names[held].tolist(),
                    self.frac_coords[row, held],
                )
            except CrystalError:
                codes[row] = _CODES["no_crystal"]
        return found, codes


@dataclass(frozen=True, eq=False)
class Encoded:
    """The crystals of a batch that a form holds.

    Attributes:
        clouds: k of them.
        rows: int64 (k,), their places in the batch, ascending.
        rejections: uint8 (n,), a code into `REJECTIONS` for every crystal.
    """

    clouds: PointClouds
    rows: np.ndarray
    rejections: np.ndarray

    def rejected(self) -> dict[str, int]:
        """Count the crystals left out, by reason; reasons that do not occur are absent."""
        return count_rejections(self.rejections)


def count_rejections(codes: np.ndarray) -> dict[str, int]:
    """Count codes into `REJECTIONS`, uint8 (n,), by reason, without the accepted ones."""
    times = np.bincount(codes, minlength=len(REJECTIONS))
    return {REJECTIONS[code]: int(n) for code, n in enumerate(times) if code and n}


def encode(crystals: Sequence[Crystal], form: PointCloudForm) -> Encoded:
    """Put crystals into slots, atoms of an element in the order of the record.

    Cells are taken as they are; site properties and charge are not held.
    """
    codes = np.array([_rejection(record, form) for record in crystals], np.uint8)
    rows = np.flatnonzero(codes == 0)
    chosen = [crystals[row] for row in rows.tolist()]
    slots = sum(form.slots)
    coords = np.zeros((len(chosen), slots, 3))
    present = np.zeros((len(chosen), slots), bool)
    for place, record in enumerate(chosen):
        texts = np.array(record.species)
        for symbol, block in zip(form.elements, form.blocks, strict=True):
            own = record.frac_coords[texts == symbol]
            coords[place, block.start : block.start + len(own)] = own
            present[place, block.start : block.start + len(own)] = True
    clouds = PointClouds(
        form,
        np.array([record.lengths for record in chosen]).reshape(-1, 3),
        np.array([record.angles for record in chosen]).reshape(-1, 3),
        coords,
        present,
    )
    return Encoded(clouds, rows, codes)


# --- augmentations -----------------------------------------------------------------------


def permute_axes(clouds: PointClouds, axes: np.ndarray) -> PointClouds:
    """Give the axes of each cell another order, lengths and angles alike.

    Args:
        clouds: n crystals.
        axes: int64 (n, 3), each row a permutation of 0, 1, 2: which old axis comes first ...

    Raises:
        InputError: a row is no permutation.
    """
    order = np.asarray(axes, np.int64)
    if order.shape != (len(clouds), 3) or (np.sort(order, axis=1) != np.arange(3)).any():
        raise InputError(f"{len(clouds)} clouds want as many permutations of 0, 1, 2")
    odd = (order[:, 1] - order[:, 0]) % 3 == 2
    coords = np.take_along_axis(clouds.frac_coords, order[:, None, :], axis=2)
    coords = _wrapped(np.where(odd[:, None, None], -coords, coords))
    return replace(
        clouds,
        lengths=np.take_along_axis(clouds.lengths, order, axis=1),
        angles=np.take_along_axis(clouds.angles, order, axis=1),
        frac_coords=np.where(clouds.present[..., None], coords, 0.0),
    )


def translate(clouds: PointClouds, shifts: np.ndarray) -> PointClouds:
    """Move all atoms of each crystal by a fractional shift, (n, 3).

    Raises:
        InputError: the shape is another.
    """
    moves = np.asarray(shifts, np.float64)
    if moves.shape != (len(clouds), 3):
        raise InputError(f"shifts of {len(clouds)} clouds have shape {moves.shape}")
    coords = _wrapped(clouds.frac_coords + moves[:, None])
    return replace(clouds, frac_coords=np.where(clouds.present[..., None], coords, 0.0))


def permute_within_elements(clouds: PointClouds, rng: np.random.Generator) -> PointClouds:
    """Put the atoms and empty slots of every element into a random order, each crystal its own."""
    order = np.empty(clouds.present.shape, np.int64)
    for block in clouds.form.blocks:
        drawn = rng.random((len(clouds), block.stop - block.start))
        order[:, block] = block.start + np.argsort(drawn, axis=1)
    return replace(
        clouds,
        frac_coords=np.take_along_axis(clouds.frac_coords, order[..., None], axis=1),
        present=np.take_along_axis(clouds.present, order, axis=1),
    )


def supercells(clouds: PointClouds, axis: int, times: int = 2) -> Encoded:
    """Repeat cells along one axis.

    Args:
        clouds: n crystals.
        axis: 0, 1 or 2.
        times: how often, from 2.

    Returns:
        The larger cells; those that have not the slots for it, or become too long, are rejected.

    Raises:
        UsageError: there is no such axis, or it is repeated less than twice.
    """
    if axis not in (0, 1, 2) or times < 2:
        raise UsageError(f"axis {axis} repeated {times} times; axes are 0 to 2, times from 2")
    form = clouds.form
    codes = np.zeros(len(clouds), np.uint8)
    codes[clouds.lengths[:, axis] * times > form.max_length] = _CODES["length_above_maximum"]
    too_many = (clouds.counts() * times > np.array(form.slots)).any(axis=1)
    codes[too_many] = _CODES["too_many_of_element"]
    rows = np.flatnonzero(codes == 0)
    chosen = clouds.take(rows)
    lengths = chosen.lengths.copy()
    lengths[:, axis] *= times
    coords = np.zeros_like(chosen.frac_coords)
    present = np.zeros_like(chosen.present)
    for block in form.blocks:
        # Atoms first, then empty slots; then room for every repeat behind the one before.
        own = chosen.present[:, block]
        order = np.argsort(~own, axis=1, kind="stable")
        sorted_coords = np.take_along_axis(chosen.frac_coords[:, block], order[..., None], axis=1)
        counts = own.sum(axis=1)
        for place in range(block.stop - block.start):
            held = place < counts * times
            step, source = np.divmod(place, np.maximum(counts, 1))
            points = sorted_coords[np.arange(len(chosen)), np.minimum(source, own.shape[1] - 1)]
            points[:, axis] = (points[:, axis] + step) / times
            coords[:, block.start + place] = np.where(held[:, None], points, 0.0)
            present[:, block.start + place] = held
    found = replace(chosen, lengths=lengths, frac_coords=coords, present=present)
    return Encoded(found, rows, codes)


# --- parts -------------------------------------------------------------------------------


def _wrapped(coords: np.ndarray) -> np.ndarray:
    found: np.ndarray = coords - np.floor(coords)
    found[found >= 1.0] = 0.0
    return found


def _rejection(record: Crystal, form: PointCloudForm) -> int:
    if not record.ordered:
        return _CODES["disordered"]
    if any(text not in ATOMIC_NUMBERS for text in record.species):
        return _CODES["not_plain_elements"]
    counts = record.amounts
    if not counts.keys() <= set(form.elements):
        return _CODES["element_outside_system"]
    if form.all_elements and len(counts) < len(form.elements):
        return _CODES["element_missing"]
    if any(counts.get(s, 0) > n for s, n in zip(form.elements, form.slots, strict=True)):
        return _CODES["too_many_of_element"]
    if record.lengths.max() > form.max_length:
        return _CODES["length_above_maximum"]
    return 0
