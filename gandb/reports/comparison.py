"""Runs merged over seeds and set beside each other: means, spreads, best values, differences.

Two values are compared only where the training set, the recipe and N are the same. The spread is
the sample standard deviation over seeds (divisor n - 1); a single seed has none.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from gandb.core.errors import IntegrityError
from gandb.reports.crystal_metrics import (
    AVERAGE_METRICS,
    HEADLINE,
    SHARE_METRICS,
    crystal_order,
    generator_label,
)
from gandb.reports.metrics import (
    Better,
    Metric,
    check_label,
    check_metric,
    measurements,
    percent,
    table_order,
)
from gandb.reports.novelty_comparison import novelty_headlines
from gandb.reports.records import DatasetSummary, Report, Role, Run, short_id

CRYSTALS_PASS = "with all distances above 0.75 of the covalent radii"
"""What the first sentence on crystals says of the share that passes."""

BASELINE_ORDER = ("uniform", "element_frequency", "count_given_element", "substitution")
"""Order of the known baselines; others follow as given."""


@dataclass(frozen=True)
class Estimate:
    """A value over seeds: mean, spread (None for one seed) and the number of seeds behind it."""

    mean: float
    spread: float | None
    n_seeds: int

    @classmethod
    def of(cls, values: list[float]) -> Estimate:
        """Merge the values of one or more seeds."""
        spread = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), spread, len(values))


@dataclass(frozen=True, eq=False)
class Row:
    """One generator: the runs that differ in nothing but the seed, and their merged values."""

    label: str
    runs: tuple[Run, ...]
    values: Mapping[Metric, Estimate]

    @property
    def model(self) -> str:
        """Registered name of the generator."""
        return self.runs[0].model

    @property
    def role(self) -> Role:
        """Model or baseline."""
        return self.runs[0].role

    @property
    def of_crystals(self) -> bool:
        """Whether it makes crystals, not compositions."""
        return self.runs[0].crystals is not None

    @property
    def dataset(self) -> str:
        """Training set and version."""
        return self.runs[0].dataset

    @property
    def config(self) -> str:
        """Name or short hash of the configuration."""
        return self.runs[0].config

    @property
    def n_samples(self) -> int:
        """N of each seed."""
        return self.runs[0].n_samples

    @property
    def seeds(self) -> tuple[str, ...]:
        """The seeds, as training/sampling where the two differ."""
        return tuple(run.seed_label for run in self.runs)

    def recipe(self, metric: Metric) -> str | None:
        """Return the id of the recipe behind one value."""
        held = (run.recipes[metric.recipe] for run in self.runs if metric.recipe in run.recipes)
        return next(held, None)


@dataclass(frozen=True)
class Difference:
    """How far a model is from the best comparable baseline: a difference of shares, or of bits.

    ``better`` is None where the values are equal.
    """

    baseline: str
    value: float
    better: bool | None


@dataclass(frozen=True)
class Cell:
    """One value in the table; ``estimate`` is None where there is none."""

    estimate: Estimate | None
    recipe: str | None = None
    best: bool = False
    difference: Difference | None = None


@dataclass(frozen=True, eq=False)
class Block:
    """The part of the table about one training set: rows, quantities, and a cell for each pair."""

    dataset: str
    summary: DatasetSummary | None
    rows: tuple[Row, ...]
    metrics: tuple[Metric, ...]
    cells: Mapping[tuple[int, str], Cell]

    @property
    def of_crystals(self) -> bool:
        """Whether its generators make crystals, not compositions."""
        return self.rows[0].of_crystals

    def cell(self, row: int, metric: Metric) -> Cell:
        """Return the cell of row number ``row``."""
        return self.cells[row, metric.key]

    def recipes(self, metric: Metric) -> tuple[str, ...]:
        """Return the recipes behind a line of the table: one, unless rows disagree."""
        found = (self.cell(i, metric).recipe for i in range(len(self.rows)))
        return tuple(dict.fromkeys(recipe for recipe in found if recipe))


def compare(report: Report) -> tuple[Block, ...]:
    """Merge the seeds of a report and set each model beside the baselines of its training set."""
    rows = merge(report.runs)
    kinds = dict.fromkeys((row.of_crystals, row.dataset) for row in rows)
    blocks = []
    for of_crystals, ref in sorted(kinds, key=lambda kind: kind[0]):
        mine = tuple(row for row in rows if (row.of_crystals, row.dataset) == (of_crystals, ref))
        found = {metric for row in mine for metric in row.values}
        metrics = tuple(sorted(found, key=crystal_order)) if of_crystals else table_order(found)
        cells = {
            (i, metric.key): _cell(row, mine, metric)
            for metric in metrics
            for i, row in enumerate(mine)
        }
        blocks.append(Block(ref, report.dataset(ref), mine, metrics, cells))
    return tuple(blocks)


def merge(runs: Iterable[Run]) -> tuple[Row, ...]:
    """Merge runs that differ only in their seed; models first, then baselines.

    Raises:
        IntegrityError: two of the runs are the same one, seed included.
    """
    groups: dict[tuple[object, ...], list[list[Run]]] = {}
    for run in runs:
        key = (run.crystals is None, run.dataset, run.model, run.role, run.config, run.n_samples)
        alternatives = groups.setdefault(key, [])
        for group in alternatives:
            if all(_same_recipes(run, other) for other in group):
                group.append(run)
                break
        else:
            alternatives.append([run])
    rows = [_row(group) for alternatives in groups.values() for group in alternatives]
    order = {name: i for i, name in enumerate(BASELINE_ORDER)}
    rows.sort(key=lambda row: (row.role is Role.BASELINE, order.get(row.model, len(order))))
    return tuple(_with_labels(rows))


def headlines(report: Report) -> tuple[str, ...]:
    """Say in one sentence per model and training set how it does against its baselines.

    What is known of novelty of structures follows, a sentence per model and reference.

    A difference of at most twice its own spread is called level. The spread is that of the seeds;
    for a single seed it is the binomial standard error of a share of N samples.
    """
    blocks = compare(report)
    metric = check_metric(report.headline_check, "samples")
    found = [
        sentence
        for block in blocks
        for sentence in _block_headlines(block, HEADLINE if block.of_crystals else metric)
    ]
    found += novelty_headlines(report)
    return tuple(found) or ("There is no run to report.",)


def seeds_phrase(row: Row) -> str:
    """Say how many seeds stand behind a row."""
    return "1 seed" if len(row.runs) == 1 else f"{len(row.runs)} seeds"


def _same_recipes(run: Run, other: Run) -> bool:
    """Tell whether the two took everything that both have by the same recipes."""
    shared = run.recipes.keys() & other.recipes.keys()
    return all(run.recipes[name] == other.recipes[name] for name in shared)


def _row(runs: list[Run]) -> Row:
    seen: dict[tuple[int | None, int], str] = {}
    for run in runs:
        key = (run.training_seed, run.seed)
        if key in seen:
            raise IntegrityError(
                f"jobs {short_id(seen[key])} and {short_id(run.job_id)} are the same run of "
                f"{run.model} on {run.dataset} (seed {run.seed_label}, N = {run.n_samples:,}): "
                "report only one of them, or the spread over seeds would be too small"
            )
        seen[key] = run.job_id
    runs = sorted(runs, key=lambda r: (-1 if r.training_seed is None else r.training_seed, r.seed))
    columns: dict[Metric, list[float]] = {}
    for run in runs:
        for metric, value in _measured(run).items():
            columns.setdefault(metric, []).append(value)
    label = generator_label(runs[0].model)
    return Row(label, tuple(runs), {metric: Estimate.of(v) for metric, v in columns.items()})


def _measured(run: Run) -> dict[Metric, float]:
    if run.crystals is None:
        return measurements(run)
    found = {SHARE_METRICS[name]: share for name, share in run.crystals.shares.items()}
    means = {AVERAGE_METRICS[name]: mean for name, mean in run.crystals.averages.items()}
    return {**found, **means}


def _with_labels(rows: list[Row]) -> list[Row]:
    """Add the configuration, N or recipes to the labels that would otherwise coincide."""
    plain = Counter((row.dataset, row.label) for row in rows)
    by_config = Counter((row.dataset, row.label, row.config) for row in rows)
    by_n = Counter((row.dataset, row.label, row.config, row.n_samples) for row in rows)
    labelled = []
    for row in rows:
        label = row.label
        if plain[row.dataset, row.label] > by_config[row.dataset, row.label, row.config]:
            label += f" ({row.config or 'default'})"
        same = by_config[row.dataset, row.label, row.config]
        if same > by_n[row.dataset, row.label, row.config, row.n_samples]:
            label += f", N = {row.n_samples:,}"
        if by_n[row.dataset, row.label, row.config, row.n_samples] > 1:
            label += f", job {short_id(row.runs[0].job_id)}"
        labelled.append(replace(row, label=label))
    return labelled


def _comparable(row: Row, other: Row, metric: Metric) -> bool:
    """Tell whether two rows' values of ``metric`` were taken alike."""
    return (
        metric in row.values
        and metric in other.values
        and row.recipe(metric) == other.recipe(metric)
        and (metric.at is not None or row.n_samples == other.n_samples)
    )


def _best(rows: list[Row], metric: Metric) -> Row | None:
    if metric.better is Better.NEITHER or not rows:
        return None
    sign = 1 if metric.better is Better.HIGHER else -1
    return max(rows, key=lambda row: sign * row.values[metric].mean)


def _cell(row: Row, rows: tuple[Row, ...], metric: Metric) -> Cell:
    estimate = row.values.get(metric)
    if estimate is None:
        return Cell(None)
    alike = [other for other in rows if _comparable(row, other, metric)]
    best = _best(alike, metric)
    levels = {other.values[metric].mean for other in alike}
    is_best = best is not None and len(levels) > 1 and estimate.mean == best.values[metric].mean
    return Cell(estimate, row.recipe(metric), is_best, _difference(row, alike, metric))


def _difference(row: Row, alike: list[Row], metric: Metric) -> Difference | None:
    baseline = _best([other for other in alike if other.role is Role.BASELINE], metric)
    if row.role is not Role.MODEL or baseline is None:
        return None
    raw = row.values[metric].mean - baseline.values[metric].mean
    better = None if raw == 0 else (raw > 0) == (metric.better is Better.HIGHER)
    return Difference(baseline.label, raw, better)


def _block_headlines(block: Block, metric: Metric) -> Iterable[str]:
    check = CRYSTALS_PASS if block.of_crystals else check_label(metric.recipe)
    models = [row for row in block.rows if row.role is Role.MODEL]
    if not models:
        baseline = _best([row for row in block.rows if metric in row.values], metric)
        if baseline is None:
            yield f"{block.dataset}: {check} has not been computed for any of the runs."
        else:
            yield (
                f"No model among the runs on {block.dataset}; the best baseline is "
                f"{_share(baseline, metric, check)}, {_conditions(baseline)}."
            )
    for row in models:
        if metric not in row.values:
            yield f"{row.label}: {check} has not been computed, {_conditions(row)}."
            continue
        alike = [other for other in block.rows if _comparable(row, other, metric)]
        baseline = _best([other for other in alike if other.role is Role.BASELINE], metric)
        subject = _share(row, metric, check)
        if baseline is None:
            yield (
                f"{subject}, {_conditions(row)}; no baseline was run on the same training set "
                "with the same N and recipe, so this number stands alone."
            )
            continue
        yield f"{subject}, {_verdict(row, baseline, metric)}, {_conditions(row)}."


def _verdict(row: Row, baseline: Row, metric: Metric) -> str:
    points = 100 * (row.values[metric].mean - baseline.values[metric].mean)
    noise = 200 * math.hypot(_noise(row, metric), _noise(baseline, metric))
    seeds = "" if len(baseline.runs) == len(row.runs) else f", {seeds_phrase(baseline)}"
    value = f"{percent(baseline.values[metric].mean)}%{seeds}"
    other = f"the best baseline ({baseline.label} {value})"
    if abs(points) <= noise or f"{abs(points):.1f}" == "0.0":
        return f"level with {other}: {points:+.1f} points, within the noise of ±{noise:.1f}"
    if points > 0:
        return f"{points:.1f} points above {other}"
    return f"{-points:.1f} points below {other}, so it does not beat its baselines"


def _noise(row: Row, metric: Metric) -> float:
    """Return one standard deviation of a share: over seeds, or else binomial at N samples."""
    estimate = row.values[metric]
    if estimate.spread is not None:
        return estimate.spread
    return math.sqrt(estimate.mean * (1 - estimate.mean) / row.n_samples)


def _share(row: Row, metric: Metric, check: str) -> str:
    estimate = row.values[metric]
    spread = "" if estimate.spread is None else f" ± {100 * estimate.spread:.1f}"
    return f"{row.label} {percent(estimate.mean)}{spread}% {check}"


def _conditions(row: Row) -> str:
    return f"trained on {row.dataset}, N = {row.n_samples:,}, {seeds_phrase(row)}"
