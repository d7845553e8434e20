"""Statistics of sets equal those counted one composition at a time; distances behave as such."""

from __future__ import annotations

import time
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pymatgen.core import Composition
from scipy.spatial.distance import jensenshannon

from gandb.core.compositions import CompositionBatch
from gandb.core.elements import ATOMIC_NUMBERS, MAX_Z
from gandb.validation.statistics import (
    anonymous_formula,
    describe,
    distances,
    jensen_shannon,
    share,
    uniqueness,
)
from tests.validation.formulas import random_formulas


def some(seed: int, n: int = 800) -> CompositionBatch:
    return random_formulas(np.random.default_rng(seed), n, 6, 9, MAX_Z).reduced()[0]


@pytest.mark.parametrize("weighted", [False, True])
def test_a_set_is_described_as_its_members_are_counted_one_by_one(weighted: bool) -> None:
    batch = some(1)
    times = np.random.default_rng(2).integers(0, 5, len(batch)) if weighted else None
    elements: Counter[int] = Counter()
    n_elements: Counter[int] = Counter()
    counts: Counter[int] = Counter()
    pairs: Counter[tuple[int, int]] = Counter()
    kinds: Counter[str] = Counter()
    for i in range(len(batch)):
        weight = 1 if times is None else int(times[i])
        composition = batch[i]
        numbers = sorted(ATOMIC_NUMBERS[s] for s in composition)
        elements.update(dict.fromkeys(numbers, weight))
        n_elements[len(numbers)] += weight
        for n in composition.values():
            counts[n] += weight
        pairs.update(dict.fromkeys(combinations(numbers, 2), weight))
        kinds[Composition(composition).anonymized_formula] += weight
    found = describe(batch, times)
    assert found.total == (len(batch) if times is None else times.sum())
    assert found.elements.shape == (119,)
    assert dict(enumerate(found.elements)) == {z: elements[z] for z in range(119)}
    assert found.n_elements.tolist() == [n_elements[k] for k in range(7)]
    assert found.counts.tolist() == [counts[k] for k in range(int(batch.counts.max()) + 1)]
    assert {(a, b): found.pairs[a, b] for a, b in np.argwhere(found.pairs).tolist()} == +pairs
    assert found.stoichiometries == +kinds


def test_the_order_of_a_set_does_not_matter() -> None:
    batch = some(3)
    times = np.arange(len(batch))
    rows = np.random.default_rng(4).permutation(len(batch))
    a, b = describe(batch, times), describe(batch.take(rows), times[rows])
    assert a.stoichiometries == b.stoichiometries
    for name in ("elements", "n_elements", "counts", "pairs"):
        assert np.array_equal(getattr(a, name), getattr(b, name))
    assert distances(a, b) == dict.fromkeys(distances(a, b), 0.0)


def test_repeats_weigh_like_rows() -> None:
    batch = some(5, 50)
    twice = describe(CompositionBatch.concatenate([batch, batch]))
    assert twice.elements.tolist() == describe(batch, np.full(50, 2)).elements.tolist()
    assert twice.stoichiometries == describe(batch, np.full(50, 2)).stoichiometries


def test_sets_without_a_common_member_are_one_bit_apart() -> None:
    a = describe(CompositionBatch.from_dicts([{"Na": 1, "Cl": 1}, {"K": 1, "Cl": 1}]))
    b = describe(CompositionBatch.from_dicts([{"Fe": 2, "O": 3, "S": 1}]))
    assert distances(a, b) == pytest.approx(
        {"elements": 1.0, "n_elements": 1.0, "stoichiometries": 1.0, "pairs": 1.0}
    )


def test_distances_see_each_respect_alone() -> None:
    a = describe(CompositionBatch.from_dicts([{"Na": 1, "Cl": 1}, {"Fe": 2, "O": 3}]))
    crossed = describe(CompositionBatch.from_dicts([{"Na": 2, "O": 3}, {"Fe": 1, "Cl": 1}]))
    found = distances(a, crossed)
    assert found == pytest.approx(
        {"elements": 0.0, "n_elements": 0.0, "stoichiometries": 0.0, "pairs": 1.0}
    )


def test_sets_with_nothing_of_a_kind_have_no_distance_in_it() -> None:
    single = describe(CompositionBatch.from_dicts([{"Fe": 1}]))
    nothing = describe(CompositionBatch.empty())
    assert distances(single, single) == {
        "elements": 0.0, "n_elements": 0.0, "stoichiometries": 0.0, "pairs": None,
    }  # fmt: skip
    assert nothing.total == 0
    assert set(distances(single, nothing).values()) == {None}


@pytest.mark.parametrize(
    ("times", "said"),
    [(np.ones(2, np.int64), r"shape \(2,\), expected \(1,\)"), (np.array([-1]), "negative")],
)
def test_unusable_weights_are_refused(times: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        describe(CompositionBatch.from_dicts([{"Fe": 1}]), times)


@pytest.mark.parametrize("formula", ["Fe2O3", "BaTiO3", "NaCl", "Fe", "KAl(SO4)2", "Li10Ge"])
def test_anonymous_formulas_are_pymatgens(formula: str) -> None:
    composition = Composition(formula)
    counts = [int(n) for n in composition.reduced_composition.values()]
    assert anonymous_formula(counts) == composition.anonymized_formula


def test_anonymous_formulas_of_very_many_elements_are_distinct() -> None:
    assert anonymous_formula([1] * 28).endswith("YZAaAb")
    assert len({anonymous_formula([1] * k) for k in range(1, 119)}) == 118


# --- divergence ----------------------------------------------------------------------------

histograms = arrays(np.int64, 12, elements=st.integers(0, 10**6)).filter(lambda h: h.sum() > 0)


@given(histograms, histograms)
def test_divergence_is_scipys_symmetric_and_bounded(p: np.ndarray, q: np.ndarray) -> None:
    ours = jensen_shannon(p, q)
    assert 0.0 <= ours <= 1.0
    assert ours == pytest.approx(jensen_shannon(q, p), abs=1e-12)
    assert ours == pytest.approx(jensen_shannon(p * 7, q), abs=1e-12)
    assert ours == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-9)


@pytest.mark.parametrize(
    ("p", "q", "said"),
    [
        ([1, 2], [1, 2, 3], "different bins"),
        ([0, 0], [1, 2], "positive value"),
        ([1, 2], [3, -1], "no negative"),
        ([], [], "positive value"),
    ],
)
def test_what_is_not_a_histogram_is_refused(p: list[int], q: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        jensen_shannon(np.array(p), np.array(q))


# --- shares --------------------------------------------------------------------------------


def test_share() -> None:
    flags = np.array([True, False, False, True])
    assert share(flags) == 0.5
    assert share(flags, np.array([7, 1, 1, 1])) == 0.8
    for nothing in (np.zeros(0, np.bool_), flags[:1]):
        with pytest.raises(ValueError, match="no shares"):
            share(nothing, np.zeros(len(nothing), np.int64))


def test_uniqueness_is_counted_over_the_first_samples() -> None:
    rows = np.random.default_rng(6).integers(0, 300, 1_000)
    batch = CompositionBatch.from_slots(
        np.full((1_000, 1), 26, np.uint8), (rows[:, None] + 1).astype(np.uint16)
    )
    first = batch.unique().first
    for n in (1, 20, 999, 1_000):
        assert uniqueness(first, n, 1_000) == len(set(rows[:n].tolist())) / n
    for n in (0, 1_001):
        with pytest.raises(ValueError, match="there are 1000"):
            uniqueness(first, n, 1_000)


@pytest.mark.slow
def test_two_million_compositions_take_seconds() -> None:
    batch = CompositionBatch.concatenate([some(7, 20_000)] * 100)
    describe(batch.take(np.arange(10)))
    started = time.process_time()
    assert describe(batch).total == 2_000_000
    assert time.process_time() - started < 30
