from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from gandb.reports import Report, tables
from tests.reports import samples


def printed(report: Report, width: int = 80) -> str:
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(tables.terminal(report))
    return capture.get()


def one_seed(report: Report) -> Report:
    return replace(report, runs=tuple(run for run in report.runs if run.seed in (0, 7)))


def test_eighty_columns_hold_a_model_and_four_baselines() -> None:
    lines = printed(samples.report()).splitlines()
    strict = next(line for line in lines if line.startswith("strict CNEN "))
    assert strict.split()[2:] == [
        "74.8±0.4*",
        "+8.1",
        "21.9±0.1",
        "54.2±0.1",
        "66.7±0.1",
        "64.1±0.1",
    ]
    assert max(map(len, lines)) <= 80
    assert sum("N=100,000" in line for line in lines) >= 2


def test_one_seed_has_no_spread() -> None:
    text = printed(one_seed(samples.report()))
    assert "±" not in text
    assert "1 seed" in text
    assert "74.4*" in text


@pytest.mark.parametrize("width", [80, 120])
def test_n_seeds_and_recipes_stand_under_every_table(width: int) -> None:
    text = printed(samples.report(), width)
    assert text.count("Seeds: ") == text.count("Recipes: ") == 2
    for recipe in samples.RECIPES.values():
        assert text.count(recipe[:8]) == 2


def test_a_loss_has_a_minus_sign() -> None:
    lines = [line.split() for line in printed(samples.report()).splitlines()]
    losing = [words for words in lines if words[:2] == ["strict", "CNEN"]][-1]
    assert losing[2:] == ["31.8", "\N{MINUS SIGN}5.8", "37.6*"]


def test_missing_values_are_a_dash() -> None:
    runs = tuple(
        replace(run, holdout_recovery=None) if run.model == "uniform" else run
        for run in samples.report().runs
    )
    report = replace(samples.report(), runs=runs)
    line = next(x for x in printed(report, 160).splitlines() if x.startswith("held-out"))
    assert line.split()[4] == tables.MISSING
    assert "20.0" in line


def test_two_recipes_in_a_line_are_numbered() -> None:
    report = samples.report()
    extra = replace(report.recipes[0], id="deadbeef-0000")
    report = replace(report, recipes=(*report.recipes, extra))
    recipes = {**report.runs[-1].recipes, "cnen_strict": extra.id}
    text = printed(samples.with_run(report, len(report.runs) - 1, recipes=recipes), 160)
    assert "cnen_strict (1) 1a2b3c40, (2) deadbeef" in text
    line = next(x for x in text.splitlines() if x.startswith("strict CNEN") and "31.8" in x)
    assert line.split()[2:] == ["31.8", "(1)", tables.MISSING, "37.6", "(2)"]
