"""What counts as the same: tolerances of a comparison, as part of every result's recipe."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from gandb.core.errors import UsageError

Comparator = Literal["species", "element"]


@dataclass(frozen=True)
class MatchRecipe:
    """When two crystals are the same, in the terms of pymatgen's ``StructureMatcher``.

    The defaults are that class's own.

    Attributes:
        ltol: how far lengths of lattice vectors may differ, as a fraction.
        stol: how far sites may lie apart, in units of (volume / sites)^(1/3).
        angle_tol: how far angles between lattice vectors may differ, degrees.
        primitive_cell: reduce both to primitive cells first.
        scale: bring both to the same volume first.
        comparator: ``species`` tells oxidation states apart (Fe2+ is not Fe3+), ``element`` does
            not.

    Raises:
        UsageError: a tolerance is out of bounds.
    """

    ltol: float = 0.2
    stol: float = 0.3
    angle_tol: float = 5.0
    primitive_cell: bool = True
    scale: bool = True
    comparator: Comparator = "species"

    def __post_init__(self) -> None:
        for name, most in (("ltol", 1.0), ("stol", 2.0), ("angle_tol", 60.0)):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 < value <= most):
                raise UsageError(f"{name} is {value:g}; it must be above 0 and at most {most:g}")
        if self.comparator not in ("species", "element"):
            raise UsageError(f"comparator is {self.comparator!r}; choose species or element")

    def parameters(self) -> dict[str, Any]:
        """Return all of it as plain data, for a recipe row."""
        return asdict(self)
