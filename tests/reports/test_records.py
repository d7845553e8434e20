from __future__ import annotations

import numpy as np
import pytest

from gandb.core.errors import IntegrityError
from gandb.reports import Curve, DatasetSummary
from tests.reports import samples


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"holdout_recovery": 1.2}, "hold-out recovery is 1.2"),
        ({"one_element_share": float("nan")}, "one-element share is nan"),
        ({"recipes": {}}, "no recipe named 'cnen_strict'"),
        ({"uniqueness": {200_000: 0.5}}, "value at N = 200,000 of 100,000"),
        ({"novelty_reference": ""}, "no dataset version it is judged against"),
        ({"rejections": {"empty": 100_001}}, "rejects 100,001 samples of 100,000"),
        ({"n_samples": 0}, "N = 0"),
        ({"element_frequency": np.zeros(118)}, r"shape \(118,\), not \(119,\)"),
        ({"element_frequency": np.full(119, 2.0)}, "outside 0 to 1"),
        ({"n_elements": np.zeros(9)}, "counts no formula at all"),
    ],
)
def test_a_run_that_contradicts_itself_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        samples.with_run(samples.report(), 0, **changes)


def test_a_recipe_that_is_not_described_is_refused() -> None:
    report = samples.report()
    recipes = {**report.runs[0].recipes, "novelty": "no-such-recipe"}
    with pytest.raises(IntegrityError, match="takes novelty from the recipe no-such-recipe"):
        samples.with_run(report, 0, recipes=recipes)


def test_a_dataset_checks_its_shares() -> None:
    with pytest.raises(IntegrityError, match=r"dataset mp@1: cnen_strict is -0\.1"):
        DatasetSummary("mp@1", 10, checks={"cnen_strict": -0.1})


def test_a_curve_leaves_out_what_is_not_finite() -> None:
    curve = Curve.recorded([0, 1, 2, 3], [1.0, float("nan"), float("inf"), 4.0])
    assert curve.iterations.tolist() == [0, 3]
    assert curve.values.tolist() == [1, 4]


def test_a_curve_of_unequal_columns_is_refused() -> None:
    with pytest.raises(IntegrityError, match="as many values as iterations"):
        Curve.recorded([0, 1], [1.0])


def test_columns_become_curves_over_their_iterations() -> None:
    columns = {"iteration": np.arange(1, 4), "loss": np.array([3, 2, 1], np.float32)}
    curves = Curve.columns(columns)
    assert list(curves) == ["loss"]
    assert curves["loss"].iterations.tolist() == [1, 2, 3]
    assert curves["loss"].values.tolist() == [3, 2, 1]
