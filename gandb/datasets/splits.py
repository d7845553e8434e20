"""Which split an entry belongs to: a pure function of what it shares with others, and a seed.

By default all entries of a composition (polymorphs, other databases' records) fall into the same
split, so no composition is both trained on and tested on, and an entry keeps its split in every
later version. No material is torn apart either: under the standard recipes two structures are the
same only if their compositions are. Coarser recipes keep whole chemical systems or all compounds of
one anonymous formula together, and with that every prototype, whose label begins with it.

Splits that came with the data are kept as they are: a `GivenSplit`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gandb.core.errors import UsageError

SPLITS = ("train", "validation", "test")
UNSPLIT = 255
"""Stands for an index into `SPLITS` where none was given."""

COMPOSITION = "composition"
GROUPS = (COMPOSITION, "chemical_system", "anonymous_formula")
"""What a recipe may keep together; columns of the table composition, but for the first."""

_GIVEN = "given"

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class SplitRecipe:
    """Fractions of train, validation and test, which add up to 1, and a seed.

    Attributes:
        by: what stays together, one of `GROUPS`.
    """

    fractions: tuple[float, float, float] = (0.9, 0.05, 0.05)
    seed: int = 0
    by: str = COMPOSITION

    def __post_init__(self) -> None:
        if self.by not in GROUPS:
            raise UsageError(f"cannot split by {self.by!r}: split by {', '.join(GROUPS)}")
        usable = all(f >= 0 for f in self.fractions)  # which NaN is not
        if not usable or not abs(sum(self.fractions) - 1) <= _TOLERANCE:
            raise UsageError(
                f"split fractions {', '.join(f'{f:g}' for f in self.fractions)} must be three "
                "numbers of at least 0 that add up to 1, such as 0.9,0.05,0.05"
            )
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"split seed {self.seed} must be between 0 and 2^63 - 1")

    @classmethod
    def parse(cls, text: str, seed: int, by: str = COMPOSITION) -> SplitRecipe:
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
        return cls((train, validation, test), seed, by)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SplitRecipe:
        """Read what `as_json` wrote."""
        train, validation, test = (float(value["fractions"][s]) for s in SPLITS)
        return cls((train, validation, test), int(value["seed"]), value["by"])

    def as_json(self) -> dict[str, Any]:
        """Return the recipe as plain data."""
        return {
            "by": self.by,
            "fractions": dict(zip(SPLITS, self.fractions, strict=True)),
            "method": "splitmix64-1",
            "seed": self.seed,
        }

    def assign(self, group_ids: np.ndarray) -> np.ndarray:
        """Return the split of every group.

        Args:
            group_ids: ids of compositions, or what `text_ids` makes of other groups' names; uint8
                (n, 16).

        Returns:
            uint8 (n,), indexes into `SPLITS`.
        """
        words = np.ascontiguousarray(group_ids).view("<u8").reshape(-1, 2)
        with np.errstate(over="ignore"):
            mixed = _mix(words[:, 0] ^ _mix(words[:, 1] ^ _mix(np.uint64(self.seed) + _GOLDEN)))
        place = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53  # uniform in [0, 1)
        train, validation, _ = self.fractions
        bounds = np.array([train, train + validation])
        chosen = np.searchsorted(bounds, place, side="right")
        allowed = np.flatnonzero(np.array(self.fractions) > 0)
        splits: np.ndarray = np.minimum(chosen, allowed[-1]).astype(np.uint8)
        return splits


@dataclass(frozen=True)
class GivenSplit:
    """Splits that came with the data, even where they leak.

    Attributes:
        rest: how to split entries that come later, or that were given none.
    """

    rest: SplitRecipe = SplitRecipe()

    def as_json(self) -> dict[str, Any]:
        """Return the recipe as plain data."""
        return {"by": _GIVEN, "rest": self.rest.as_json()}

    def complete(self, given: np.ndarray, group_ids: np.ndarray) -> np.ndarray:
        """Return the split of every entry: the given one, else that of its group, else by hash.

        Where a group was given several splits, entries without one follow train before validation
        before test, so that what is tested on stays as it was.

        Args:
            given: indexes into `SPLITS`, `UNSPLIT` where there is none; uint8 (n,).
            group_ids: uint8 (n, 16).

        Returns:
            uint8 (n,), indexes into `SPLITS`.
        """
        keys = np.ascontiguousarray(group_ids).view("S16").reshape(-1)
        groups, of = np.unique(keys, return_inverse=True)
        lowest = np.full(len(groups), UNSPLIT, np.uint8)
        np.minimum.at(lowest, of, given)  # `UNSPLIT` is above every index
        splits = np.where(given == UNSPLIT, lowest[of], given)
        return np.where(splits == UNSPLIT, self.rest.assign(group_ids), splits).astype(np.uint8)


AnySplit = SplitRecipe | GivenSplit


def split_from_json(value: Mapping[str, Any]) -> AnySplit:
    """Read ``dataset_version.split_recipe``."""
    if value["by"] == _GIVEN:
        return GivenSplit(SplitRecipe.from_json(value["rest"]))
    return SplitRecipe.from_json(value)


def grouped_by(split: AnySplit) -> str:
    """Return what a recipe keeps together, one of `GROUPS`."""
    return split.rest.by if isinstance(split, GivenSplit) else split.by


def text_ids(names: Sequence[str]) -> np.ndarray:
    """Return an id for each name of a group: BLAKE2b-128 of its UTF-8, uint8 (n, 16)."""
    digests = b"".join(hashlib.blake2b(n.encode(), digest_size=16).digest() for n in names)
    return np.frombuffer(digests, np.uint8).reshape(-1, 16)


def _mix(x: Any) -> Any:
    """Scramble 64-bit words: the output function of SplitMix64, doi:10.1145/2714064.2660195."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
