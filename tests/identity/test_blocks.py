"""Grouping many blocks at once is grouping each for itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gandb.identity.blocks import group_blocks
from gandb.identity.grouping import Effort
from tests.identity.test_grouping import Points, brute_force, check_evidence


@st.composite
def blocks(draw: st.DrawFn) -> tuple[np.ndarray, list[np.ndarray], Effort]:
    """Points in blocks, of which the sizes are on both sides of what is compared completely."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    full = draw(st.integers(2, 8))
    sizes = draw(st.lists(st.integers(1, 3 * full), min_size=1, max_size=8))
    order = rng.permutation(sum(sizes))
    found = [np.sort(part) for part in np.split(order, np.cumsum(sizes)[:-1])]
    return rng.normal(size=(len(order), 2)) * 2, found, Effort(full=full)


@given(blocks(), st.floats(0, 1), st.floats(0, 0.6))
def test_each_block_is_grouped_for_itself(
    case: tuple[np.ndarray, list[np.ndarray], Effort], share_known: float, uneven: float
) -> None:
    at, parts, effort = case
    n = len(at)
    comparison = Points(at, uneven=uneven, log=True)
    verdicts, _ = brute_force(Points(at, uneven=uneven))
    block = np.empty(n, np.int64)
    for number, part in enumerate(parts):
        block[part] = number
    # Some came before, and their materials are known.
    old = np.random.default_rng(n).random(n) < share_known
    known = np.full(n, -1, np.int64)
    edges = (verdicts | verdicts.T) & (block[:, None] == block[None, :])
    known[old] = labels(edges & old[:, None] & old[None, :])[old]
    expected = labels(edges)
    told: list[int] = []
    seen = []
    found = np.full(n, -1, np.int64)
    for rows, grouped in group_blocks(comparison, at, known, parts, effort, told.append):
        assert (np.diff(rows) > 0).all()
        found[rows] = rows[grouped.component]
        seen.append(rows)
        check_evidence(grouped.evidence(), verdicts[np.ix_(rows, rows)], at[rows], known[rows])
        evidence = grouped.evidence()
        assert (block[rows[evidence.a]] == block[rows[evidence.b]]).all()
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(n))
    assert np.array_equal(found, expected)
    assert all(block[a] == block[b] for _, a, b in comparison.asked)


def labels(edges: np.ndarray) -> np.ndarray:
    """Return the smallest member that each is linked to."""
    label = np.arange(len(edges))
    linked = edges | np.eye(len(edges), dtype=bool)
    while True:
        lower = np.array([label[row].min() for row in linked])
        if (lower == label).all():
            return label
        label = lower


def test_no_blocks_give_nothing() -> None:
    nothing = Points(np.zeros((0, 2)))
    assert list(group_blocks(nothing, np.zeros((0, 2)), np.zeros(0, np.int64), [])) == []
