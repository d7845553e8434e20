"""Looking for the nearest match: as brute force, and no query hangs on others."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandb.identity.searching import ROUND, Search, search


@dataclass
class Points:
    """Points that match within a distance which depends on the pair and its direction."""

    at: np.ndarray
    threshold: float
    asked: list[tuple[int, int]] = field(default_factory=list)

    def fit(self, pairs: np.ndarray) -> np.ndarray:
        assert (pairs[:, 0] != pairs[:, 1]).all()
        self.asked += [(a, b) for a, b in pairs.tolist()]
        return self._fit(pairs)

    def _fit(self, pairs: np.ndarray) -> np.ndarray:
        chance = [zlib.crc32(self.at[pair].tobytes()) / 2**32 for pair in pairs]
        return self._gap(pairs) <= self.threshold * (0.5 + 0.5 * np.array(chance))

    def measure(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self._fit(pairs).all()
        return self._gap(pairs) / 2, self._gap(pairs)

    def _gap(self, pairs: np.ndarray) -> np.ndarray:
        step = np.abs(self.at[pairs[:, 0]] - self.at[pairs[:, 1]])
        return step[:, 0] + step[:, 1]


@dataclass
class Case:
    at: np.ndarray
    amd: np.ndarray
    queries: np.ndarray
    lists: list[np.ndarray]
    threshold: float

    def run(self, chosen: list[int] | None = None) -> tuple[Search, Points]:
        rows = list(range(len(self.queries))) if chosen is None else chosen
        lists = [self.lists[row] for row in rows]
        starts = np.concatenate([[0], np.cumsum([len(own) for own in lists])]).astype(np.int64)
        joined = np.concatenate([np.zeros(0, np.int64), *lists])
        judge = Points(self.at, self.threshold)
        return search(judge, self.amd, self.queries[rows], starts, joined), judge


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 60))
    q = draw(st.integers(0, min(n, 12)))
    at = rng.normal(size=(n, 2)).round(draw(st.sampled_from([0, 1, 8])))
    guide = draw(st.sampled_from([0.0, 0.3, 5.0]))  # how little AMD says of distances
    amd = np.round(at + guide * rng.normal(size=at.shape), draw(st.sampled_from([0, 4])))
    queries = np.arange(q)
    others = np.arange(q, n)
    lists = [rng.permutation(others)[: rng.integers(0, len(others) + 1)] for _ in queries]
    return Case(at, amd, queries, lists, draw(st.sampled_from([0.05, 0.5, 2.0])))


def verdicts(case: Case, query: int, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both directions of a query's comparisons."""
    judge = Points(case.at, case.threshold)
    pairs = np.stack([np.full(len(others), query), others], axis=1).reshape(-1, 2)
    return judge._fit(pairs), judge._fit(pairs[:, ::-1])


@given(cases())
def test_a_match_is_found_if_and_only_if_there_is_one(case: Case) -> None:
    found, judge = case.run()
    assert len(set(judge.asked)) == len(judge.asked), "nothing is asked twice"
    for row, query in enumerate(case.queries.tolist()):
        others = case.lists[row]
        forward, backward = verdicts(case, query, others)
        matched = forward | backward
        assert (found.reference[row] >= 0) == matched.any()
        distance = np.abs(case.amd[others] - case.amd[query]).max(axis=1, initial=0)
        order = others[np.lexsort((others, distance))]
        both = dict(zip(others.tolist(), matched.tolist(), strict=True))
        if not matched.any():
            assert found.n_compared[row] == len(others)
            assert np.isnan(found.rms[row])
            continue
        # Rounds of the nearest, up to the first with a match; of that one, the closest match.
        rounds = [order[at : at + ROUND] for at in range(0, len(order), ROUND)]
        last = next(i for i, part in enumerate(rounds) if any(both[j] for j in part.tolist()))
        assert found.n_compared[row] == sum(map(len, rounds[: last + 1]))
        pairs = np.stack([np.full(len(rounds[last]), query), rounds[last]], axis=1)
        distances = Points(case.at, case.threshold)._gap(pairs) / 2
        turned = Points(case.at, case.threshold)._gap(pairs[:, ::-1]) / 2
        assert (distances == turned).all()
        gaps = dict(zip(rounds[last].tolist(), distances.tolist(), strict=True))
        least = min(gaps[j] for j in gaps if both[j])
        assert found.rms[row] == least
        assert found.reference[row] == min(j for j in gaps if both[j] and gaps[j] == least)


@given(cases())
def test_all_that_was_compared_is_told_truly(case: Case) -> None:
    found, judge = case.run()
    told = [(int(a), int(b)) for part in found.parts
            for a, b in zip(part.query, part.reference, strict=True)]  # fmt: skip
    assert len(set(told)) == len(told) == found.n_compared.sum()
    assert set(told) <= {tuple(pair) for pair in judge.asked}
    for part in found.parts:
        pairs = np.stack([part.query, part.reference], axis=1)
        plain = Points(case.at, case.threshold)
        forward, backward = plain._fit(pairs), plain._fit(pairs[:, ::-1])
        assert (part.forward == forward).all()
        assert (part.backward == backward).all()
        assert (part.matched == (forward | backward)).all()
        gap = plain._gap(pairs)
        assert np.array_equal(part.rms, np.where(part.matched, gap / 2, np.nan), equal_nan=True)
        assert np.array_equal(
            part.max_distance, np.where(part.matched, gap, np.nan), equal_nan=True
        )
        distance = np.abs(case.amd[part.query] - case.amd[part.reference]).max(axis=1, initial=0)
        assert np.array_equal(part.amd_distance, distance)


@given(cases(), st.data())
def test_a_query_does_not_hang_on_the_others(case: Case, data: st.DataObject) -> None:
    everything, _ = case.run()
    rows = list(range(len(case.queries)))
    chosen = data.draw(st.lists(st.sampled_from(rows), unique=True)) if rows else []
    some, _ = case.run(chosen)
    for name in ("reference", "rms", "n_compared"):
        assert np.array_equal(
            getattr(some, name), getattr(everything, name)[chosen], equal_nan=True
        )


def test_progress_is_told_and_may_end_the_work() -> None:
    rng = np.random.default_rng(0)
    at = rng.normal(size=(3 * ROUND + 2, 2))
    case = Case(at, at, np.arange(2), [np.arange(2, len(at))] * 2, 0.0)
    judge = Points(case.at, 0.0)
    starts = np.array([0, len(at) - 2, 2 * (len(at) - 2)])
    told: list[int] = []
    search(judge, at, case.queries, starts, np.concatenate(case.lists), told.append)
    assert told == [2 * ROUND, 4 * ROUND, 2 * (len(at) - 2)]

    def stop(_: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        search(judge, at, case.queries, starts, np.concatenate(case.lists), stop)
