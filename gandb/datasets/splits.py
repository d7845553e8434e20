"""Which split an entry belongs to: a pure function of its composition and a seed.

All entries of a composition (polymorphs, other databases' records) fall into the same split, so no
composition is both trained on and tested on, and an entry keeps its split in every later version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gandb.core.errors import UsageError

SPLITS = ("train", "validation", "test")

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class SplitRecipe:
    """Fractions of train, validation and test, which add up to 1, and a seed."""

    fractions: tuple[float, float, float] = (0.9, 0.05, 0.05)
    seed: int = 0

    def __post_init__(self) -> None:
        usable = all(f >= 0 for f in self.fractions)  # which NaN is not
        if not usable or not abs(sum(self.fractions) - 1) <= _TOLERANCE:
            raise UsageError(
                f"split fractions {', '.join(f'{f:g}' for f in self.fractions)} must be three "
                "numbers of at least 0 that add up to 1, such as 0.9,0.05,0.05"
            )
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"split seed {self.seed} must be between 0 and 2^63 - 1")

    @classmethod
    def parse(cls, text: str, seed: int) -> SplitRecipe:
        """Read ``train,validation,test``.

        Raises:
            UsageError: it is not three numbers that add up to 1.
        """
        try:
            train, validation, test = (float(part) for part in text.split(","))
        except ValueError:
            raise UsageError(
                f"cannot read the split {text!r}: give train,validation,test, such as 0.8,0.1,0.1"
            ) from None
        return cls((train, validation, test), seed)

    def as_json(self) -> dict[str, Any]:
        """Return the recipe as plain data."""
        return {
            "by": "composition",
            "fractions": dict(zip(SPLITS, self.fractions, strict=True)),
            "method": "splitmix64-1",
            "seed": self.seed,
        }

    def assign(self, composition_ids: np.ndarray) -> np.ndarray:
        """Return the split of every composition.

        Args:
            composition_ids: uint8 (n, 16).

        Returns:
            uint8 (n,), indexes into `SPLITS`.
        """
        words = np.ascontiguousarray(composition_ids).view("<u8").reshape(-1, 2)
        with np.errstate(over="ignore"):
            mixed = _mix(words[:, 0] ^ _mix(words[:, 1] ^ _mix(np.uint64(self.seed) + _GOLDEN)))
        place = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53  # uniform in [0, 1)
        train, validation, _ = self.fractions
        bounds = np.array([train, train + validation])
        chosen = np.searchsorted(bounds, place, side="right")
        allowed = np.flatnonzero(np.array(self.fractions) > 0)
        splits: np.ndarray = np.minimum(chosen, allowed[-1]).astype(np.uint8)
        return splits


def _mix(x: Any) -> Any:
    """Scramble 64-bit words: the output function of SplitMix64, doi:10.1145/2714064.2660195."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
