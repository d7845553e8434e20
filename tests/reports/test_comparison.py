from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from gandb.core.errors import IntegrityError
from gandb.reports import CheckShare, Report, Role, Run, compare, headlines
from gandb.reports.comparison import Block, merge, percent
from gandb.reports.metrics import Metric
from gandb.reports.tables import plain
from tests.reports import samples


def metric(block: Block, key: str) -> Metric:
    return next(m for m in block.metrics if m.key == key)


def pair(model: list[float], baseline: list[float], n: int = 100_000) -> Report:
    """One model and one baseline with the given strict shares, a seed each."""
    runs = [samples.run("matgan", seed, share, n=n) for seed, share in enumerate(model)]
    runs += [samples.run("uniform", seed, share, n=n) for seed, share in enumerate(baseline)]
    return replace(samples.report(), runs=tuple(runs))


def test_means_and_spreads_are_numpys() -> None:
    report = samples.report()
    for row in plain(report):
        runs = [run for run in report.runs if run.job_id in row["jobs"]]
        assert len(runs) == len(row["seeds"])
        for key, values in {
            "cnen_strict.samples": [run.checks["cnen_strict"].samples for run in runs],
            "uniqueness@20000": [run.uniqueness[20_000] for run in runs],
            "novelty@100000": [run.novelty[100_000] for run in runs],
            "jsd.elements": [run.divergences["elements"] for run in runs],
            "rejected": [sum((run.rejections or {}).values()) / run.n_samples for run in runs],
        }.items():
            cell = row["metrics"][key]
            assert cell["mean"] == pytest.approx(np.mean(values), rel=1e-12)
            if len(values) == 1:
                assert cell["spread"] is None
            else:
                assert cell["spread"] == pytest.approx(np.std(values, ddof=1), rel=1e-9)


def test_models_come_first_and_baselines_in_their_order() -> None:
    rows = [row.model for row in merge(reversed(samples.report().runs)) if row.dataset == "mp@1"]
    assert rows == ["matgan", *samples.BASELINES]


def test_seeds_merge_and_nothing_else_does() -> None:
    base = samples.report().runs[:3]
    assert len(merge(base)) == 1
    other_recipe = {**base[2].recipes, "novelty": "another"}
    for changes in (
        {"dataset": "mp@2"},
        {"model": "cubicgan"},
        {"role": Role.BASELINE},
        {"config": "paper"},
        {"n_samples": 100_001},
        {"recipes": other_recipe},
    ):
        rows = merge((*base[:2], replace(base[2], **changes)))  # type: ignore[arg-type]
        assert sorted(len(row.runs) for row in rows) == [1, 2], changes
        if "dataset" not in changes:
            assert len({row.label for row in rows}) == 2, changes


def test_the_same_run_twice_is_refused() -> None:
    run = samples.report().runs[0]
    with pytest.raises(IntegrityError, match="are the same run of matgan on mp@1"):
        merge((run, replace(run, job_id="ffffffff-other")))


def test_training_and_sampling_seeds_are_both_told() -> None:
    run = samples.report().runs[0]
    (row,) = merge((run, replace(run, training_seed=5), replace(run, seed=3, training_seed=None)))
    assert row.seeds == ("3", "0", "5/0")


def test_a_number_missing_for_one_seed_is_a_mean_of_the_others() -> None:
    report = samples.with_run(samples.report(), 1, holdout_recovery=None)
    first = plain(report)[0]
    given = [report.runs[i].holdout_recovery for i in (0, 2)]
    assert first["metrics"]["holdout_recovery"]["n_seeds"] == 2
    assert first["metrics"]["holdout_recovery"]["mean"] == pytest.approx(np.mean(given))
    assert first["metrics"]["reduced"]["n_seeds"] == 3


def test_missing_is_null_and_never_zero() -> None:
    runs = tuple(
        replace(run, checks={}, rejections=None) if run.model == "uniform" else run
        for run in samples.report().runs
    )
    report = replace(samples.report(), runs=runs)
    uniform = next(row for row in plain(report) if row["model"] == "uniform")
    assert uniform["metrics"]["cnen_strict.samples"] is None
    assert uniform["metrics"]["rejected"] is None
    assert json.loads(json.dumps(plain(report), allow_nan=False)) == plain(report)


def test_best_and_difference_follow_the_direction_of_the_metric() -> None:
    (block,) = compare(pair([0.5, 0.52], [0.4, 0.42]))
    strict = metric(block, "cnen_strict.samples")
    assert block.cell(0, strict).best
    assert not block.cell(1, strict).best
    difference = block.cell(0, strict).difference
    assert difference is not None
    assert difference.baseline == "uniform"
    assert difference.value == pytest.approx(0.1)
    assert difference.better is True
    assert block.cell(1, strict).difference is None

    report = pair([0.5], [0.4])
    low = {**report.runs[1].divergences, "elements": 0.001}
    high = {**report.runs[0].divergences, "elements": 0.009}
    report = samples.with_run(samples.with_run(report, 1, divergences=low), 0, divergences=high)
    (block,) = compare(report)
    elements = metric(block, "jsd.elements")
    assert block.cell(1, elements).best
    difference = block.cell(0, elements).difference
    assert difference is not None
    assert difference.value == pytest.approx(0.008)
    assert difference.better is False


def test_what_has_no_better_is_neither_marked_nor_subtracted() -> None:
    for block in compare(samples.report()):
        for key in ("one_element", "reduced"):
            cells = [block.cell(i, metric(block, key)) for i in range(len(block.rows))]
            assert not any(cell.best or cell.difference for cell in cells)


def test_equal_values_are_not_marked_best() -> None:
    (block,) = compare(pair([0.5], [0.5]))
    strict = metric(block, "cnen_strict.samples")
    assert not block.cell(0, strict).best
    assert not block.cell(1, strict).best
    difference = block.cell(0, strict).difference
    assert difference is not None
    assert difference.better is None


@pytest.mark.parametrize("changes", [{"n_samples": 200_000}, {"recipes": None}])
def test_other_n_or_recipe_is_not_compared(changes: dict[str, object]) -> None:
    report = pair([0.5], [0.4])
    if "recipes" in changes:
        extra = replace(report.recipes[0], id="another-recipe")
        report = replace(report, recipes=(*report.recipes, extra))
        changes = {"recipes": {**report.runs[1].recipes, "cnen_strict": "another-recipe"}}
    (block,) = compare(samples.with_run(report, 1, **changes))
    strict = metric(block, "cnen_strict.samples")
    assert block.cell(0, strict).difference is None
    assert not block.cell(0, strict).best
    at = block.cell(0, metric(block, "uniqueness@20000"))
    assert at.difference is not None, "taken at the same N under the same recipe"
    assert "stands alone" in headlines(samples.with_run(report, 1, **changes))[0]


def test_headline_of_a_winner() -> None:
    assert headlines(samples.report())[0] == (
        "MatGAN 74.8 ± 0.4% strict CNEN, 8.1 points above the best baseline "
        "(count given element 66.7%), trained on mp@1, N = 100,000, 3 seeds."
    )


def test_headline_of_a_loser_says_so() -> None:
    assert headlines(samples.report())[1] == (
        "MatGAN 31.8% strict CNEN, 5.8 points below the best baseline (count given element 37.6%), "
        "so it does not beat its baselines, trained on oqmd@2, N = 100,000, 1 seed."
    )


def test_headline_within_the_noise_is_level() -> None:
    (spread,) = headlines(pair([0.50, 0.54], [0.49, 0.53]))
    assert "level with the best baseline (uniform 51.0%): +1.0 points, within" in spread
    assert "±8.0" in spread  # 2 * sqrt(2) * 2.83 points
    (few,) = headlines(pair([0.51], [0.50], n=10_000))
    assert "level" in few
    assert "±1.4" in few  # 2 * sqrt(2 * 0.25 / 10,000)
    (many,) = headlines(pair([0.51], [0.50], n=2_000_000))
    assert "1.0 points above" in many


def test_headline_without_model_baseline_check_or_run() -> None:
    report = samples.report()
    only_model = replace(report, runs=report.runs[:1])
    assert "no baseline was run" in headlines(only_model)[0]
    only_baseline = replace(report, runs=report.runs[3:4])
    assert headlines(only_baseline)[0].startswith("No model among the runs on mp@1; the best")
    other = replace(report, headline_check="geometry")
    assert "geometry has not been computed" in headlines(other)[0]
    assert headlines(replace(report, runs=())) == ("There is no run to report.",)


def test_headline_names_the_seeds_of_a_baseline_that_has_others() -> None:
    (line,) = headlines(pair([0.60, 0.61, 0.62], [0.3]))
    assert "(uniform 30.0%, 1 seed)" in line


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0.0"), (1.0, "100.0"), (1e-5, "<0.1"), (0.99999, ">99.9"), (0.7484, "74.8")],
)
def test_percent_never_invents_none_or_all(share: float, text: str) -> None:
    assert percent(share) == text


def test_an_unknown_check_is_shown_under_its_own_name() -> None:
    run: Run = samples.run("uniform", 0, 0.5)
    run = replace(
        run,
        checks={"min_distance": CheckShare(samples=0.25)},
        recipes={**run.recipes, "min_distance": samples.RECIPES["statistics"]},
    )
    (block,) = compare(replace(samples.report(), runs=(run,)))
    assert metric(block, "min_distance.samples").label == "min distance"
