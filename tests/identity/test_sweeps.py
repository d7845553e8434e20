"""All pairs, each once, the close ones first; and balls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandb.identity.balls import Balls, collapse
from gandb.identity.sweeps import across, leading_columns, neighbours, products, within

scores = st.lists(st.integers(0, 9), max_size=12).map(lambda s: np.array(s, np.float64))


def pairs_of(arrays: list[np.ndarray]) -> list[tuple[int, int]]:
    return [(min(pair), max(pair)) for array in arrays for pair in array.tolist()]


@given(scores, st.integers(1, 40))
def test_within_gives_each_pair_once(score: np.ndarray, size: int) -> None:
    items = np.arange(len(score))
    found = pairs_of(list(within(items, score, size, lambda pairs: pairs)))
    assert sorted(found) == [(a, b) for a in items for b in items if a < b]


@given(scores, st.integers(1, 40), st.integers(0, 12))
def test_across_gives_each_pair_once(score: np.ndarray, size: int, cut: int) -> None:
    left, right = np.arange(min(cut, len(score))), np.arange(min(cut, len(score)), len(score))
    found = pairs_of(list(across(left, right, score, size, lambda pairs: pairs)))
    assert sorted(found) == [(a, b) for a in left for b in right]


def test_close_scores_come_first_and_a_sweep_can_end() -> None:
    score = np.random.default_rng(0).permutation(100).astype(np.float64)
    first = next(within(np.arange(100), score, 99, lambda pairs: pairs))
    assert (np.abs(np.diff(score[first], axis=1)) == 1).all()
    assert list(within(np.arange(100), score, 99, lambda pairs: None)) == []


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(1, 30), st.data())
def test_products_give_what_is_inside(sizes: list[int], size: int, data: st.DataObject) -> None:
    starts = np.concatenate([[0], np.cumsum(sizes)])
    inner = 100 + np.arange(starts[-1])
    place = st.integers(0, len(sizes) - 1)
    pairs = np.array(data.draw(st.lists(st.tuples(place, place), max_size=8)), np.int64)
    found = [tuple(p) for a in products(pairs.reshape(-1, 2), inner, starts, size) for p in a]
    expected = [
        (a, b)
        for one, other in pairs.reshape(-1, 2)
        for a in inner[starts[one] : starts[one + 1]]
        for b in inner[starts[other] : starts[other + 1]]
    ]
    assert found == expected


def test_neighbours_are_close_in_the_plane() -> None:
    at = np.random.default_rng(0).uniform(0, 30, (2_000, 2))
    pairs = np.concatenate(list(neighbours(np.arange(2_000), at, 12)))
    gap = np.linalg.norm(at[pairs[:, 0]] - at[pairs[:, 1]], axis=1)
    assert gap.max() < 15
    assert np.quantile(gap, 0.9) < 3
    assert len(np.unique(pairs)) == 2_000


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 3), (7, 2), (50, 40)])
def test_leading_columns_differ_no_more_than_rows(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(0).normal(size=shape)
    columns = leading_columns(rows)
    assert len(columns) == shape[0]
    if rows.size:
        far = np.abs(rows[:, None] - rows).max(axis=2)
        assert (np.abs(columns[:, None] - columns).max(axis=2) <= far + 1e-12).all()


@given(st.lists(st.integers(0, 20), max_size=25), st.integers(1, 3), st.sampled_from([1.0, 4.0]))
def test_members_of_a_ball_were_taken_by_its_centre(
    places: list[int], tries: int, reach: float
) -> None:
    at = np.array(places, np.float32).reshape(-1, 1)
    groups = [np.arange(0, len(at), 2), np.arange(1, len(at), 2)]

    def join(pairs: np.ndarray) -> np.ndarray:
        assert (pairs[:, 0] % 2 == pairs[:, 1] % 2).all()
        close: np.ndarray = np.abs(at[pairs[:, 0]] - at[pairs[:, 1]])[:, 0] <= 2
        return close

    centres = collapse(groups, at, reach, join, tries)
    assert (centres[centres] == centres).all()
    assert (np.abs(at - at[centres]) <= 2).all()
    balls = Balls(np.stack([centres, np.arange(len(at))]))
    inner, starts = balls.inside(0, 1)
    for centre in range(len(at)):
        held = inner[starts[centre] : starts[centre + 1]]
        assert held.tolist() == np.flatnonzero(centres == centre).tolist()
        assert balls.sizes[0][centre] == len(held)
