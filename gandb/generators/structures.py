"""What every generator of crystal structures shares: training data, samples, what can be asked for.

Such a generator is like one of compositions (`gandb.generators.base.Generator`), only that it draws
`StructureSamples`. What is asked of it, its condition, is plain JSON with any of these keys:

- ``elements``: symbols of the elements that a crystal shall have, all of them and no others;
- ``composition``: a formula, whose counts are those of the cell where a model can say that, else
  those of the reduced formula;
- ``space_group``: a number from 1 to 230, or a list of such numbers to draw from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gandb.core.crystals import Crystal, CrystalError, crystal
from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.errors import FormulaError, UsageError
from gandb.core.formula import parse_formula

ELEMENTS, COMPOSITION, SPACE_GROUP = "elements", "composition", "space_group"
CONDITIONS = (ELEMENTS, COMPOSITION, SPACE_GROUP)
"""Keys of a condition."""


@dataclass(frozen=True)
class StructureData:
    """The crystals that a model is fitted to.

    Attributes:
        crystals: n distinct records without site properties, charge and oxidation states, in the
            order of their ids.
    """

    crystals: tuple[Crystal, ...]

    def __len__(self) -> int:
        return len(self.crystals)

    @classmethod
    def of(cls, crystals: Sequence[Crystal]) -> StructureData:
        """Take records: make them plain, drop those that are equal then, and put them in order."""
        plain = {own.id: own for own in map(plain_crystal, crystals)}
        return cls(tuple(plain[key] for key in sorted(plain)))

    def digest(self) -> str:
        """Return a SHA-256 of everything the model sees, in hexadecimal."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        parts = hashlib.sha256(b"structures")
        for own in self.crystals:
            parts.update(own.id.bytes)
        return parts.hexdigest()


def plain_crystal(record: Crystal) -> Crystal:
    """Return a crystal without site properties, charge and oxidation states."""
    bare = not record.properties and record.charge is None
    if bare and all(text.isalpha() for text in record.species):
        return record
    species = [tuple(replace(o, oxidation_state=None) for o in site) for site in record.occupants]
    try:
        return crystal(record.lengths, record.angles, species, record.frac_coords)
    except CrystalError:  # two ions of one element on one site, say
        return record


@dataclass(frozen=True)
class StructureSamples:
    """n samples of crystals.

    Attributes:
        crystals: (n,) records; None where the sample is none.
        rejections: uint8 (n,), code into ``reasons`` of why it is none; 0 where it is one.
        reasons: what each code means; the first is ``accepted``.
        space_groups: int16 (n,), space group that was asked for, 0 where none was.
        formulas: (n,) what composition was asked for: a reduced formula as pymatgen writes it, or,
            where only elements were, their symbols in alphabetical order joined by hyphens; None
            where neither was.
    """

    crystals: Sequence[Crystal | None]
    rejections: np.ndarray
    reasons: tuple[str, ...]
    space_groups: np.ndarray
    formulas: Sequence[str | None]

    def __post_init__(self) -> None:
        n = len(self.crystals)
        if not n == len(self.rejections) == len(self.space_groups) == len(self.formulas):
            raise ValueError("the parts of samples differ in length")

    def __len__(self) -> int:
        return len(self.crystals)

    def rejected(self) -> dict[str, int]:
        """Count rejected samples by reason."""
        times = np.bincount(self.rejections, minlength=len(self.reasons))
        return {self.reasons[c]: int(k) for c, k in enumerate(times) if c and k}


@runtime_checkable
class StructureGenerator(Protocol):
    """A fitted model that draws crystals; see `gandb.generators.base.Generator`."""

    name: str
    config: Mapping[str, Any]

    def sample(
        self,
        n: int,
        seed: np.random.SeedSequence,
        condition: Mapping[str, Any] | None = None,
        device: str | None = None,
    ) -> StructureSamples:
        """Draw n samples; the same seed, n and device (None: where it is) give the same samples.

        Raises:
            UsageError: the model cannot do what the condition asks for.
        """
        ...

    def checkpoint(self) -> bytes:
        """Return canonical safetensors bytes from which `gandb.generators.load` makes it again."""
        ...


@dataclass(frozen=True)
class Request:
    """A condition that has been read.

    Attributes:
        elements: atomic numbers, ascending; () where elements are free.
        counts: atoms of each element of ``elements`` as written; () where they are free.
        space_groups: ascending; () where it is free.
    """

    elements: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    space_groups: tuple[int, ...] = ()


def read_condition(
    condition: Mapping[str, Any] | None, model: str, known: Sequence[str]
) -> Request:
    """Read a condition.

    Args:
        condition: as the module describes; None asks for nothing.
        model: its name, for messages.
        known: keys that this model takes.

    Raises:
        UsageError: a key is unknown or not for this model, or a value cannot be.
    """
    asked = dict(condition or {})
    for key in asked:
        if key not in known:
            takes = ", ".join(known) if known else "nothing"
            raise UsageError(f"{model} cannot be asked for {key!r}; it takes {takes}")
    if ELEMENTS in asked and COMPOSITION in asked:
        raise UsageError("ask for elements or for a composition, not for both")
    counts: dict[int, int] = {}
    if COMPOSITION in asked:
        counts = _counts(asked[COMPOSITION])
    elements = tuple(sorted(counts)) or _elements(asked.get(ELEMENTS))
    return Request(
        elements, tuple(counts[z] for z in sorted(counts)), _groups(asked.get(SPACE_GROUP))
    )


def _counts(formula: Any) -> dict[int, int]:
    try:
        found = parse_formula(str(formula))
    except FormulaError as error:
        raise UsageError(f"cannot read the composition {formula!r}: {error}") from error
    return {ATOMIC_NUMBERS[symbol]: n for symbol, n in found.items()}


def _elements(symbols: Any) -> tuple[int, ...]:
    if symbols is None:
        return ()
    if isinstance(symbols, str) or not isinstance(symbols, Sequence) or not symbols:
        raise UsageError(f'elements are {symbols!r}; give a list such as ["Li", "Fe", "O"]')
    for symbol in symbols:
        if symbol not in ATOMIC_NUMBERS:
            raise UsageError(f"{symbol!r} is no element")
    if len(set(symbols)) != len(symbols):
        raise UsageError(f"elements {list(symbols)} name one twice")
    return tuple(sorted(ATOMIC_NUMBERS[s] for s in symbols))


def _groups(numbers: Any) -> tuple[int, ...]:
    if numbers is None:
        return ()
    listed = [numbers] if isinstance(numbers, int) else numbers
    fit = isinstance(listed, Sequence) and not isinstance(listed, str) and bool(listed)
    if not fit or any(
        isinstance(g, bool) or not isinstance(g, int) or not 1 <= g <= 230 for g in listed
    ):
        raise UsageError(f"space_group is {numbers!r}; give a number from 1 to 230, or a list")
    return tuple(sorted(set(listed)))
