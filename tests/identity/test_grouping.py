"""Components of one block: equal to brute force in whatever order, with truthful evidence."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.core.errors import UsageError
from gandb.identity.grouping import (
    KINDS,
    METHODS,
    NOT_MADE,
    Effort,
    Evidence,
    Grouped,
    group_block,
    group_small_blocks,
)


@dataclass
class Points:
    """Points match within a distance that depends on the direction and the pair.

    Attributes:
        at: (n, d), where they are.
        threshold: no pair further apart matches.
        uneven: how far the threshold of a pair and direction may fall below, as a fraction.
        radii: of the balls of each level.
        certain: how often a bound that could be given is given.
        names: what tells the points apart, whatever their order.
    """

    at: np.ndarray
    threshold: float = 1.0
    uneven: float = 0.0
    radii: tuple[float, ...] = (0.3, 0.1)
    certain: float = 1.0
    names: np.ndarray | None = None
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    log: bool = False

    def __post_init__(self) -> None:
        self.reaches = self.radii

    def _gap(self, pairs: np.ndarray) -> np.ndarray:
        return np.linalg.norm(self.at[pairs[:, 0]] - self.at[pairs[:, 1]], axis=1)

    def _chance(self, pairs: np.ndarray, what: bytes) -> np.ndarray:
        names = np.arange(len(self.at)) if self.names is None else self.names
        keys = [what + names[pair].astype("<i8").tobytes() for pair in pairs]
        return np.array([zlib.crc32(key) / 2**32 for key in keys])

    def fit(self, pairs: np.ndarray) -> np.ndarray:
        assert (pairs[:, 0] != pairs[:, 1]).all()
        if self.log:
            self.asked += [("fit", a, b) for a, b in pairs.tolist()]
        limit = np.full(len(pairs), self.threshold)
        if self.uneven:
            limit *= 1 - self.uneven * self._chance(pairs, b"fit")
        return self._gap(pairs) <= limit

    def measure(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self.fit(pairs).all()
        gap = self._gap(pairs)
        return gap / 2, gap

    def near(self, pairs: np.ndarray, level: int) -> np.ndarray:
        return self._gap(pairs) <= self.radii[level]

    def apart(self, pairs: np.ndarray, level: int) -> np.ndarray:
        sure = self._gap(pairs) > self.threshold + 2 * self.radii[level]
        if self.certain < 1:
            sure &= self._chance(pairs, b"apart") < self.certain
        return sure


def brute_force(comparison: Points) -> tuple[np.ndarray, np.ndarray]:
    """All verdicts (n, n), and the smallest member of the component of each."""
    n = len(comparison.at)
    pairs = np.argwhere(~np.eye(n, dtype=bool))
    verdicts = np.zeros((n, n), bool)
    verdicts[pairs[:, 0], pairs[:, 1]] = comparison.fit(pairs)
    label = np.arange(n)
    edges = verdicts | verdicts.T | np.eye(n, dtype=bool)
    while True:
        lower = np.array([label[edges[i]].min() for i in range(n)])
        if (lower == label).all():
            return verdicts, label
        label = lower


def check_evidence(
    evidence: Evidence, verdicts: np.ndarray, amd: np.ndarray, known: np.ndarray
) -> None:
    a, b = evidence.a, evidence.b
    codes = a * len(known) + b
    assert (a < b).all()
    assert (np.diff(codes) > 0).all(), "each pair once, in order"
    assert ((known[a] < 0) | (known[b] < 0)).all(), "no pair of known members"
    made = evidence.forward != NOT_MADE
    assert made.all()
    assert (evidence.forward == verdicts[a, b]).all()
    made = evidence.backward != NOT_MADE
    assert (evidence.backward[made] == verdicts[b, a][made]).all()
    matched = (evidence.forward == 1) | (evidence.backward == 1)
    assert (made | matched).all(), "what does not match in one direction is asked in the other"
    assert (np.isfinite(evidence.rms) == matched).all()
    assert (evidence.max_distance[matched] == 2 * evidence.rms[matched]).all()
    assert np.array_equal(evidence.amd_distance, np.abs(amd[a] - amd[b]).max(axis=1, initial=0))
    assert not (matched & (evidence.method != METHODS.index("compared"))).any()


def in_batches(
    comparison: Points, amd: np.ndarray, cuts: list[int], effort: Effort
) -> tuple[np.ndarray, list[Grouped]]:
    """Group members as they arrive: those before the first cut, then those before the second ..."""
    known = np.empty(0, np.int64)
    steps = []
    for cut in [*cuts, len(amd)]:
        part = Points(**{**vars_of(comparison), "at": comparison.at[:cut]})
        if comparison.names is not None:
            part.names = comparison.names[:cut]
        known = np.concatenate([known, np.full(cut - len(known), -1)])
        grouped = group_block(part, amd[:cut], known, effort)
        check_evidence(grouped.evidence(), brute_force(part)[0], amd[:cut], known)
        check_components(grouped, brute_force(part)[0], known)
        known = grouped.component * 7 + 3
        steps.append(grouped)
    return grouped.component, steps


def vars_of(points: Points) -> dict[str, object]:
    names = ("at", "threshold", "uneven", "radii", "certain", "names")
    return {name: getattr(points, name) for name in names}


def check_components(grouped: Grouped, verdicts: np.ndarray, known: np.ndarray) -> None:
    evidence, parts = grouped.evidence(), grouped.components
    either = verdicts | verdicts.T
    assert np.array_equal(parts.first, np.unique(grouped.component))
    for row, first in enumerate(parts.first):
        members = np.flatnonzero(grouped.component == first)
        assert parts.size[row] == len(members)
        pairs = [(a, b) for a in members for b in members if a < b]
        new = [(a, b) for a, b in pairs if known[a] < 0 or known[b] < 0]
        assert parts.pairs[row] == len(new)
        held = grouped.component[evidence.a] == first
        inside = held & (grouped.component[evidence.b] == first)
        assert parts.compared[row] == inside.sum()
        matched = (evidence.forward == 1) | (evidence.backward == 1)
        assert parts.confirmed[row] == (held & matched).sum()
        assert parts.merged[row] == len(set(known[members]) - {-1})
        complete = all(either[a, b] for a, b in new) and parts.merged[row] <= 1
        kind = KINDS[parts.kind[row]]
        assert kind == "unknown" or (kind == "clique") == complete


coordinates = st.integers(0, 40).map(lambda step: step / 8)


@st.composite
def clouds(draw: st.DrawFn) -> Points:
    """Points in the plane on a grid, so that many coincide, some pairs on the threshold."""
    n = draw(st.integers(0, 40))
    at = np.array(draw(st.lists(st.tuples(coordinates, coordinates), min_size=n, max_size=n)))
    return Points(
        at=at.reshape(-1, 2),
        threshold=draw(st.sampled_from([0.25, 0.5, 1.0])),
        uneven=draw(st.sampled_from([0.0, 0.6])),
        radii=draw(st.sampled_from([(), (0.2,), (0.5, 0.2), (2.0, 0.3, 0.125)])),
        certain=draw(st.sampled_from([1.0, 0.5, 0.0])),
        names=np.arange(n),
    )


efforts = st.builds(
    Effort,
    full=st.sampled_from([0, 2, 6, 100]),
    tries=st.integers(1, 3),
    neighbours=st.integers(1, 3),
    worth=st.sampled_from([0, 2, 5]),
    probes=st.integers(0, 5),
    refuted=st.sampled_from([0, 20, 10_000]),
    batch=st.sampled_from([1, 3, 64]),
)


def rows_of(points: Points, kind: str) -> np.ndarray:
    """Stand-ins for AMD: the places, something of the places, or nothing to do with them."""
    if kind == "places":
        return points.at
    if kind == "sum":
        return points.at.sum(axis=1, keepdims=True)
    return points._chance(np.arange(2 * len(points.at)).reshape(-1, 2) // 2, b"x").reshape(-1, 1)


@settings(max_examples=300, deadline=None)
@given(clouds(), efforts, st.sampled_from(["places", "sum", "nothing"]), st.data())
def test_components_are_those_of_brute_force(
    points: Points, effort: Effort, kind: str, data: st.DataObject
) -> None:
    n = len(points.at)
    amd = rows_of(points, kind)
    _, expected = brute_force(points)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=3)))
    found, steps = in_batches(points, amd, cuts, effort)
    assert np.array_equal(found, expected)
    if effort.full == 100:
        assert sum(len(step) for step in steps) == n * (n - 1) // 2
        assert all((step.evidence().backward != NOT_MADE).all() for step in steps)


@settings(max_examples=100, deadline=None)
@given(clouds(), efforts, st.data())
def test_components_do_not_depend_on_the_order(
    points: Points, effort: Effort, data: st.DataObject
) -> None:
    n = len(points.at)
    _, expected = brute_force(points)
    order = np.array(data.draw(st.permutations(range(n))), np.int64)
    shuffled = Points(**{**vars_of(points), "at": points.at[order], "names": order})
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=2)))
    found, _ = in_batches(shuffled, shuffled.at, cuts, effort)
    sets = {frozenset(order[found == c].tolist()) for c in found}
    assert sets == {frozenset(np.flatnonzero(expected == c).tolist()) for c in expected}


def spread(places: np.ndarray) -> np.ndarray:
    """Many columns of which each is a sum of coordinates, as AMD tells of displacements."""
    mix = np.random.default_rng(3).normal(size=(places.shape[1], 40))
    return places @ (mix / np.linalg.norm(mix, axis=0))


def test_tight_clusters_are_settled_by_their_centres() -> None:
    n, clusters = 20_000, 200
    rng = np.random.default_rng(1)
    at = 3.0 * np.argwhere(np.ones((6, 6, 6)))[rng.integers(0, clusters, n)]
    at = at + rng.normal(0, 0.02, at.shape)
    points = Points(at)
    grouped = group_block(points, spread(at), np.full(n, -1))
    assert len(grouped.components) == len(np.unique(grouped.component)) == clusters
    assert grouped.made.total < 10 * n + clusters**2
    kinds = np.array(KINDS)[grouped.components.kind]
    assert set(kinds) == {"unknown"}, "they are too large to be compared completely"
    again = group_block(points, spread(at), grouped.component)
    assert np.array_equal(again.component, grouped.component)
    assert again.made.total == len(again) == 0
    late = np.where(np.arange(n) < n - 100, grouped.component, -1)
    late = group_block(points, spread(at), late)
    assert np.array_equal(late.component, grouped.component)
    assert late.made.total < 10 * n + clusters**2


def test_loose_clusters_cost_far_less_than_all_pairs() -> None:
    n, clusters = 5_000, 50
    rng = np.random.default_rng(1)
    at = 6.0 * np.argwhere(np.ones((4, 4, 4)))[rng.integers(0, clusters, n)]
    at = at + rng.normal(0, 0.2, at.shape)
    effort = Effort(worth=16)
    points = Points(at, radii=(0.6, 0.3, 0.1))
    grouped = group_block(points, spread(at), np.full(n, -1), effort)
    assert len(grouped.components) == clusters
    assert grouped.made.total < n * (n - 1) / 50


def test_a_cloud_is_linked_by_its_neighbours() -> None:
    n = 20_000
    at = np.random.default_rng(1).uniform(0, 60, (n, 2))
    grouped = group_block(Points(at), spread(at), np.full(n, -1))
    assert len(grouped.components) == 1
    assert grouped.made.total < 10 * n
    assert KINDS[grouped.components.kind[0]] == "chain", "its ends were compared"


def test_strangers_are_all_compared_and_kept_as_far_as_there_is_room() -> None:
    n = 400
    at = np.argwhere(np.ones((20, 20))) * 2.0
    grouped = group_block(Points(at), spread(at), np.full(n, -1), Effort(refuted=1_000))
    assert len(grouped.components) == n
    assert grouped.made.fit == n * (n - 1)
    assert grouped.made.apart == 0
    assert len(grouped) + grouped.dropped == n * (n - 1) // 2
    assert 1_000 <= len(grouped) <= 1_000 + 12 * n, "and what neighbours showed"


def test_many_small_blocks_are_compared_at_once() -> None:
    at = np.array([[0.0], [0.5], [9.0], [0.25], [0.5]])
    blocks = [np.array([0, 2, 3]), np.array([1]), np.array([4])]
    known = np.array([5, -1, 7, -1, -1])
    grouped = group_small_blocks(Points(at), at, known, blocks)
    assert grouped.component.tolist() == [0, 1, 2, 0, 4]
    evidence = grouped.evidence()
    assert list(zip(evidence.a, evidence.b, evidence.forward, strict=True)) == [
        (0, 3, 1),
        (2, 3, 0),
    ]


def test_merging_earlier_components_makes_a_chain() -> None:
    at = np.array([[0.0], [0.75], [1.5]])
    grouped = group_block(Points(at), at, np.array([4, -1, 2]))
    assert grouped.component.tolist() == [0, 0, 0]
    parts = grouped.components
    assert (parts.pairs[0], parts.compared[0], parts.confirmed[0], parts.merged[0]) == (2, 2, 2, 2)
    assert KINDS[parts.kind[0]] == "chain"


def test_progress_is_told_and_may_end_the_work() -> None:
    at = np.random.default_rng(0).uniform(0, 9, (200, 2))
    told: list[int] = []
    grouped = group_block(Points(at), at, np.full(200, -1), Effort(batch=50), told.append)
    assert told == sorted(told)
    assert told[-1] == grouped.made.total
    assert max(np.diff(told)) <= 50

    def stop(asked: int) -> None:
        if asked > 300:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        group_block(Points(at), at, np.full(200, -1), Effort(batch=50), stop)


@pytest.mark.parametrize(
    ("amd", "known"),
    [
        (np.zeros(3), np.full(3, -1)),
        (np.zeros((3, 2)), np.full(2, -1)),
        (np.full((2, 1), np.nan), np.full(2, -1)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(amd: np.ndarray, known: np.ndarray) -> None:
    with pytest.raises(UsageError, match="AMD"):
        group_block(Points(np.zeros((3, 1))), amd, known)


def test_evidence_comes_in_parts() -> None:
    at = np.random.default_rng(0).uniform(0, 3, (30, 2))
    grouped = group_block(Points(at), at, np.full(30, -1))
    whole, parts = grouped.evidence(), list(grouped.parts(100))
    assert [len(part) for part in parts] == [100, 100, 100, 100, 35]
    for name in ("a", "b", "forward", "backward", "rms", "max_distance", "amd_distance", "method"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        assert np.array_equal(
            joined, getattr(whole, name), equal_nan=name in ("rms", "max_distance")
        )
