"""What a check says of crystals: names of checks, reasons, verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

REASONS: tuple[str, ...] = (
    "passed",
    "atoms too near",
    "volume too small",
    "below the bounds",
    "above the bounds",
    "an atom without neighbours",
    "another space group",
    "charges do not balance",
    "no cell",
    "coordinates not finite",
    "no atoms",
    "disordered",
    "an element without a radius",
    "no space group found",
    "no space group asked for",
    "an element without bond valence parameters",
    "no bonds between ions",
    "too many inequivalent atoms",
)
"""Word for each reason code; 0 passes, and those from "no cell" on are errors.

"no cell" has no volume, or is a thousand times as long as it is high.
"""

CODES: Mapping[str, int] = {word: code for code, word in enumerate(REASONS)}
"""Code of each reason."""

_FIRST_ERROR = CODES["no cell"]
OF_KERNEL = np.array(
    [0, CODES["no cell"], CODES["coordinates not finite"], CODES["no atoms"]], np.uint8
)
"""Reason of each code of the kernels."""


@dataclass(frozen=True)
class Check:
    """One check: what recipes are made of.

    Attributes:
        name: what recipes and columns call it.
        version: raised whenever a verdict could change with the parameters unchanged.
        parameters: all that decides a verdict, as plain JSON.
        unit: of the value; empty for a number without one.
    """

    name: str
    version: str
    parameters: Mapping[str, Any]
    unit: str


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a check says of n crystals.

    Attributes:
        check: which.
        value: float64 (n,), NaN where there is none.
        passed: bool (n,).
        reason: uint8 (n,), codes into `REASONS`.
    """

    check: Check
    value: np.ndarray
    passed: np.ndarray
    reason: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """Which crystals could not be judged, bool (n,)."""
        found: np.ndarray = self.reason >= _FIRST_ERROR
        return found

    def tally(self) -> dict[str, int]:
        """Count the crystals per reason, in words; reasons that do not occur are left out."""
        times = np.bincount(self.reason, minlength=len(REASONS))
        return {word: int(times[code]) for word, code in CODES.items() if times[code]}
