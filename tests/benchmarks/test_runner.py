"""The benchmark runner: ratios, merging, and groups by prefix."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from tests.benchmarks.__main__ import GROUPS, Board, Figure, chosen


def test_ratio_is_ours_over_theirs() -> None:
    assert Figure.of("a", 3, "s", "peer", 2).ratio == 1.5
    assert Figure.of("a", 3, "s").ratio is None
    assert Figure.of("a", 3, "s", "peer", 0).ratio is None


@pytest.mark.parametrize(("value", "theirs"), [(math.nan, None), (1.0, math.inf)])
def test_a_figure_is_a_finite_number(value: float, theirs: float | None) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        Figure.of("a", value, "s", "peer", theirs)


def test_one_group_keeps_the_figures_of_others(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    first = Board(path, Console(quiet=True))
    first.report("cnen.rate", 10, "formulas/s", "smact", 5)
    first.report("sql.worst_ms", 7, "ms")
    first.save(merge=False)
    second = Board(path, Console(quiet=True))
    second.report("cnen.rate", 20, "formulas/s", "smact", 5)
    with pytest.raises(ValueError, match="twice"):
        second.report("cnen.rate", 30, "formulas/s")
    second.save(merge=True)
    rows = {row["name"]: row for row in json.loads(path.read_text())}
    assert rows["sql.worst_ms"]["value"] == 7
    assert rows["cnen.rate"] == {
        "name": "cnen.rate",
        "value": 20,
        "unit": "formulas/s",
        "peer": "smact",
        "peer_value": 5,
        "ratio": 4,
    }
    second.save(merge=False)
    assert [row["name"] for row in json.loads(path.read_text())] == ["cnen.rate"]


def test_groups_by_prefix() -> None:
    assert chosen("") == list(GROUPS)
    assert chosen("matgan") == ["matgan_2m", "matgan_quality"]
    assert chosen("sql,cli") == ["cli", "sql"]
    with pytest.raises(SystemExit, match="no benchmark group"):
        chosen("nothing")
