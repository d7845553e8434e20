"""A reference set answers as a Python set does."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gandb.identity.novelty import ReferenceSet

# Few values in the low bytes, so that ids share slots of the table and halves of one another.
IDS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40)


def as_ids(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs, np.uint64).reshape(-1, 2).view(np.uint8).reshape(-1, 16)


@given(known=IDS, asked=IDS)
def test_contains_as_a_set_does(known: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    distinct = sorted(set(known))
    reference = ReferenceSet(as_ids(distinct))
    assert len(reference) == len(distinct)
    assert reference.contains(as_ids(asked)).tolist() == [pair in distinct for pair in asked]


def test_a_large_set() -> None:
    ids = np.random.default_rng(0).integers(0, 256, (50_000, 16), np.uint8)
    reference = ReferenceSet(ids[:25_000])
    assert reference.contains(ids).tolist() == [True] * 25_000 + [False] * 25_000
