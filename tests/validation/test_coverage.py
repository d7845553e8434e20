"""Coverage and Wasserstein distances, against scipy and the definition taken literally."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gandb.core.errors import InputError
from gandb.validation import coverage as module
from gandb.validation.coverage import CUTOFFS, Cutoffs, coverage, wasserstein

distance = pytest.importorskip("scipy.spatial.distance")
stats = pytest.importorskip("scipy.stats")

CUT = Cutoffs(0.9, 1.6)


def samples(seed: int, n: int = 60, m: int = 45) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n, 3)), rng.normal(size=(n, 5)),
        rng.normal(0.5, 1, (m, 3)), rng.normal(0.2, 1.2, (m, 5)),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("block", [1, 500, 10**6])
def test_coverage_is_what_the_published_code_counts(
    seed: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps of https://github.com/txie-93/cdvae, compute_metrics.py, by scipy."""
    monkeypatch.setattr(module, "_BLOCK", block)
    structures, compositions, real_s, real_c = samples(seed)
    structures[::7] = np.nan
    compositions[3] = np.nan
    found = coverage(structures, compositions, real_s, real_c, CUT)
    kept = ~(np.isnan(structures).any(axis=1) | np.isnan(compositions).any(axis=1))
    by_structure = distance.cdist(structures[kept], real_s)
    by_composition = distance.cdist(compositions[kept], real_c)
    recall = (by_structure.min(axis=0) <= CUT.structure) & (
        by_composition.min(axis=0) <= CUT.composition
    )
    precision = (by_structure.min(axis=1) <= CUT.structure) & (
        by_composition.min(axis=1) <= CUT.composition
    )
    assert 0 < found.recall < 1
    assert found.recall == recall.mean()
    assert found.precision == precision.sum() / len(structures)
    assert found.n_fingerprinted == kept.sum() < found.n_generated == len(structures)
    assert found.mean_structure_to_reference == pytest.approx(by_structure.min(axis=1).mean())
    assert found.mean_structure_to_generated == pytest.approx(by_structure.min(axis=0).mean())
    assert found.mean_composition_to_reference == pytest.approx(by_composition.min(axis=1).mean())
    assert found.mean_composition_to_generated == pytest.approx(by_composition.min(axis=0).mean())
    both = coverage(structures, compositions, real_s, real_c, CUT, joint=True)
    near = (by_structure <= CUT.structure) & (by_composition <= CUT.composition)
    assert (both.n_precise, both.n_recalled) == (near.any(axis=1).sum(), near.any(axis=0).sum())
    assert both.n_precise <= found.n_precise
    assert both.n_recalled <= found.n_recalled


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_times_are_repeated_rows(seed: int, joint: bool) -> None:
    structures, compositions, real_s, real_c = samples(seed, 12, 9)
    structures[5] = np.nan
    rng = np.random.default_rng(seed)
    times, real_times = rng.integers(0, 4, 12), rng.integers(1, 4, 9)
    times[0] = 1
    rows, real_rows = np.repeat(np.arange(12), times), np.repeat(np.arange(9), real_times)
    kept = times > 0
    found = coverage(
        structures[kept], compositions[kept], real_s, real_c, CUT, joint, times[kept], real_times
    )
    again = coverage(
        structures[rows], compositions[rows], real_s[real_rows], real_c[real_rows], CUT, joint
    )
    for name, value in dataclasses.asdict(again).items():
        assert getattr(found, name) == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize("wrong", [np.ones(3), -np.ones(60)])
def test_times_fit(wrong: np.ndarray) -> None:
    with pytest.raises(InputError, match="times of 60"):
        coverage(*samples(0), CUT, times=wrong)


def test_one_crystal_need_not_be_near_in_both() -> None:
    own_s, own_c = np.array([[0.0], [9.0]]), np.array([[9.0], [0.0]])
    real = np.array([[0.0]])
    assert coverage(own_s, own_c, real, real, CUT).recall == 1
    assert coverage(own_s, own_c, real, real, CUT, joint=True).recall == 0


def test_a_set_covers_itself() -> None:
    structures, compositions, _, _ = samples(0)
    found = coverage(structures, compositions, structures, compositions, Cutoffs(1e-6, 1e-6))
    assert (found.precision, found.recall) == (1, 1)
    assert found.mean_structure_to_reference < 1e-6


def test_nothing_with_a_fingerprint_covers_nothing() -> None:
    _, _, real_s, real_c = samples(0)
    found = coverage(np.full((4, 3), np.nan), np.zeros((4, 5)), real_s, real_c, CUT)
    assert (found.precision, found.recall) == (0, 0)
    assert np.isnan(found.mean_structure_to_reference)
    assert found.mean_structure_to_generated == np.inf


def test_published_cutoffs() -> None:
    assert CUTOFFS["mp20"] == Cutoffs(0.4, 10)
    assert CUTOFFS["perov5"] == CUTOFFS["carbon24"] == Cutoffs(0.2, 4)


def test_what_is_no_sample_is_refused() -> None:
    structures, compositions, real_s, real_c = samples(0)
    broken = real_s.copy()
    broken[0, 0] = np.nan
    for arguments, reason in (
        ((structures[0], compositions, real_s, real_c), "not \\(crystals"),
        ((structures[1:], compositions, real_s, real_c), "as many"),
        ((structures, compositions, real_s[:, 1:], real_c), "length"),
        ((structures[:0], compositions[:0], real_s, real_c), "at least"),
        ((structures, compositions, broken, real_c), "leave it out"),
    ):
        with pytest.raises(InputError, match=reason):
            coverage(*arguments, CUT)
    for values in (np.empty(0), np.array([np.nan])):
        with pytest.raises(InputError, match="finite"):
            wasserstein(values, np.ones(2))


NUMBERS = arrays.arrays(
    np.float64, st.integers(1, 30), elements=st.floats(-1e6, 1e6, allow_subnormal=False)
)


@settings(max_examples=100, deadline=None)
@given(NUMBERS, NUMBERS)
def test_wasserstein_is_that_of_scipy(one: np.ndarray, two: np.ndarray) -> None:
    expected = float(stats.wasserstein_distance(one, two))
    assert wasserstein(one, two) == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert wasserstein(one, one) == 0
    assert wasserstein(one, one + 3.0) == pytest.approx(3.0, rel=1e-6)
