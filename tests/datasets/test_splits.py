"""Splits: equal everywhere, for ever, of the fractions asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandb.core.errors import UsageError
from gandb.datasets.splits import SPLITS, SplitRecipe
from tests.datasets.labs import entry_ids

MASK = 2**64 - 1
GOLDEN = "002210011002221000200002220111"


def _mixed(x: int) -> int:
    """The output function of SplitMix64, in plain integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def _reference(raw: bytes, recipe: SplitRecipe) -> int:
    low, high = (int.from_bytes(raw[i : i + 8], "little") for i in (0, 8))
    word = _mixed(low ^ _mixed(high ^ _mixed((recipe.seed + 0x9E3779B97F4A7C15) & MASK)))
    place = (word >> 11) / 2**53
    train, validation, _ = recipe.fractions
    return 0 if place < train else 1 if place < train + validation else 2


@given(
    ids=st.lists(st.binary(min_size=16, max_size=16), max_size=20), seed=st.integers(0, 2**63 - 1)
)
def test_the_assignment_is_the_documented_function(ids: list[bytes], seed: int) -> None:
    recipe = SplitRecipe((0.5, 0.25, 0.25), seed)
    raw = np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16)
    assert recipe.assign(raw).tolist() == [_reference(i, recipe) for i in ids]


def test_published_values_of_splitmix64() -> None:
    # First outputs for seed 1234567, as the generator's reference program prints them.
    state, outputs = 1234567, []
    for _ in range(3):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        outputs.append(_mixed(state))
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_the_assignment_never_changes() -> None:
    assigned = SplitRecipe((0.6, 0.2, 0.2), 42).assign(entry_ids(30))
    assert "".join(map(str, assigned)) == GOLDEN


@pytest.mark.parametrize(
    "fractions", [(0.9, 0.05, 0.05), (0.8, 0.1, 0.1), (1.0, 0.0, 0.0), (0.0, 0.5, 0.5),
                  (0.5, 0.0, 0.5), (0.5, 0.5, 0.0), (0.0, 0.0, 1.0), (0.1, 0.2, 0.7)]
)  # fmt: skip
def test_fractions_are_met(fractions: tuple[float, float, float]) -> None:
    n = 40_000
    sizes = np.bincount(SplitRecipe(fractions, 7).assign(entry_ids(n)), minlength=3) / n
    for size, fraction in zip(sizes, fractions, strict=True):
        spread = np.sqrt(fraction * (1 - fraction) / n)
        assert abs(size - fraction) <= 5 * spread  # and exactly 0 or 1 where that was asked


def test_another_seed_is_another_split() -> None:
    ids = entry_ids(1000)
    one, other = (SplitRecipe((0.5, 0.25, 0.25), seed).assign(ids) for seed in (0, 1))
    assert 0.2 < (one == other).mean() < 0.6


@pytest.mark.parametrize(
    "fractions",
    [(0.5, 0.5, 0.5), (-0.1, 0.6, 0.5), (0.0, 0.0, 0.0), (float("nan"),) * 3,
     (float("inf"), 0.0, 0.0), (0.5, float("nan"), 0.5)],
)  # fmt: skip
def test_fractions_that_cannot_be(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match="add up to 1"):
        SplitRecipe(fractions)


@pytest.mark.parametrize(
    "text", ["", "0.9", "0.9,0.1", "a,b,c", "0.9,0.05,0.05,0", "0.9;0.05;0.05"]
)
def test_texts_that_are_no_split(text: str) -> None:
    with pytest.raises(UsageError, match=r"cannot read the split .* such as 0\.8,0\.1,0\.1"):
        SplitRecipe.parse(text, 0)


def test_a_split_is_read_and_told() -> None:
    recipe = SplitRecipe.parse(" 0.8, 0.1,0.1", 3)
    assert recipe == SplitRecipe((0.8, 0.1, 0.1), 3)
    assert recipe.as_json()["fractions"] == dict(zip(SPLITS, (0.8, 0.1, 0.1), strict=True))
    for seed in (-1, 2**63):
        with pytest.raises(UsageError, match="split seed"):
            SplitRecipe.parse("0.8,0.1,0.1", seed)
