"""The figures of a report, as PNG: checks, uniqueness and novelty, training curves, elements.

Importing this module needs matplotlib (``pip install 'gandb[report]'``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gandb.reports import crystal_figures, element_maps, novelty_figures
from gandb.reports.canvas import (
    TRAINING_COLOUR,
    Axes,
    Figure,
    Line2D,
    MaxNLocator,
    Patch,
    Style,
    drawing,
    light_grid,
    sample_axis,
    styles,
    to_png,
)
from gandb.reports.comparison import Block, Estimate, Row, compare, seeds_phrase
from gandb.reports.metrics import CHECK_LABELS, Metric, check_label, check_metric, percent
from gandb.reports.records import Curve, Picture, Report, Role, Run

CURVE_LABELS = {
    "wasserstein": "Wasserstein estimate",
    "gradient_penalty": "Gradient penalty",
    "uniqueness": "Unique share of a batch",
    "n_elements": "Elements per formula, mean of a batch",
    "n_atoms": "Atoms per formula, mean of a batch",
}
"""Labels of the known training curves, in the order they are shown."""


def draw_all(report: Report) -> tuple[Picture, ...]:
    """Draw every figure that the report has data for: by training set, then on structures."""
    pictures: list[Picture | None] = []
    for block in compare(report):
        mine: list[Picture | None] = [
            check_bars(block),
            unique_and_novel(block),
            training_curves(block),
        ]
        if block.summary is not None:
            models = [row for row in block.rows if row.role is Role.MODEL] or list(block.rows)
            mine += [element_maps.draw(block.summary, row) for row in models]
        mine.append(element_counts(block))
        if block.of_crystals:
            mine = [own and replace(own, name=f"crystals-{own.name}") for own in mine]
        pictures += mine
    pictures += crystal_figures.draw_all(report)
    pictures += novelty_figures.draw_all(report)
    return tuple(picture for picture in pictures if picture is not None)


def check_bars(block: Block) -> Picture | None:
    """Draw the share that passes each check by generator, with the spread over seeds."""
    names = _checks(block)
    parts = [
        part
        for part in ("samples", "unique")
        if any(check_metric(name, part) in row.values for name in names for row in block.rows)
    ]
    if not parts:
        return None
    titles = {"samples": "all samples", "unique": "unique compositions"}
    with drawing(5.6 * len(parts) + 0.4, 4.6) as figure:
        for axes, part in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
            _check_panel(axes, block, names, part)
            axes.set_title(f"Share passing: {titles[part]}")
        _legend(figure, block)
        figure.suptitle(_conditions(block), fontsize=10)
        png = to_png(figure)
    first = {name: check_metric(name, parts[0]) for name in names}
    shares = "; ".join(
        f"{row.label} {', '.join(_spoken(row, metric, name) for name, metric in first.items())}"
        for row in block.rows
    )
    known = block.summary is not None and block.summary.checks
    training = "Dashed: the training set itself." if known else ""
    caption = (
        f"Share passing each charge-neutrality and electronegativity rule. {_conditions(block)}. "
        f"{_error_bars(block)}{training}".rstrip()
    )
    return Picture(f"checks-{block.dataset}", png, f"Bars of shares passing: {shares}.", caption)


def unique_and_novel(block: Block) -> Picture | None:
    """Draw uniqueness and novelty against the number of samples."""
    kinds = {"uniqueness": "Unique among N samples", "novelty": "Novel among the unique"}
    metrics = {kind: [m for m in block.metrics if m.key.startswith(f"{kind}@")] for kind in kinds}
    shown = [kind for kind in kinds if metrics[kind]]
    if not shown:
        return None
    with drawing(5.6 * len(shown) + 0.4, 4.4) as figure:
        for axes, kind in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            for row, style in zip(block.rows, styles(block.rows), strict=True):
                points = [(m.at or 0, row.values[m]) for m in metrics[kind] if m in row.values]
                if points:
                    _line(axes, [n for n, _ in points], [e for _, e in points], row, style)
            sample_axis(axes, [m.at or 0 for m in metrics[kind]])
            axes.set_ylim(
                _floor(
                    [
                        row.values[m].mean
                        for m in metrics[kind]
                        for row in block.rows
                        if m in row.values
                    ]
                ),
                103,
            )
            axes.set_ylabel("share (%)")
            axes.set_title(kinds[kind])
            light_grid(axes)
        _legend(figure, block, lines=True)
        figure.suptitle(_conditions(block), fontsize=10)
        png = to_png(figure)
    last = [metrics[kind][-1] for kind in shown]
    spoken = "; ".join(
        f"{row.label} {', '.join(_spoken(row, m, m.label) for m in last)}" for row in block.rows
    )
    references = dict.fromkeys(
        run.novelty_reference for row in block.rows for run in row.runs if run.novelty
    )
    against = f" Novel: not in {', '.join(references)}." if references else ""
    caption = (
        "Both shares depend on how many samples are drawn, so they are given by N."
        f"{against} {_conditions(block)}. {_error_bars(block)}".rstrip()
    )
    return Picture(f"uniqueness-{block.dataset}", png, f"Curves over N: {spoken}.", caption)


def training_curves(block: Block) -> Picture | None:
    """Draw every training curve of every run: one panel per quantity, one thin line per seed."""
    names = {name for row in block.rows for run in row.runs for name in run.curves}
    ordered = [n for n in CURVE_LABELS if n in names] + sorted(names - set(CURVE_LABELS))
    ordered = [n for n in ordered if any(len(c.values) for c in _curves(block, n))]
    if not ordered:
        return None
    columns = min(3, len(ordered))
    lines = -(-len(ordered) // columns)
    with drawing(4.2 * columns + 0.6, 3.1 * lines + 0.9) as figure:
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, name in zip(grid, ordered, strict=False):
            for row, style in zip(block.rows, styles(block.rows), strict=True):
                for run in row.runs:
                    if name in run.curves:
                        _curve(axes, run, name, style)
            axes.set_title(_curve_label(name))
            axes.set_xlabel("iteration")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            light_grid(axes)
        for axes in grid[len(ordered) :]:
            axes.set_visible(False)
        trained = tuple(row for row in block.rows if any(run.curves for run in row.runs))
        _legend(figure, block, lines=True, only=trained)
        who = ", ".join(f"{row.label} ({seeds_phrase(row)})" for row in trained)
        figure.suptitle(f"{who} on {block.dataset}{_size(block)}", fontsize=10)
        png = to_png(figure)
    what = ", ".join(map(_curve_label, ordered))
    caption = (
        f"Training of {who} on {block.dataset}{_size(block)}; one line per seed. "
        "Long curves: running mean over 2% of the run, the recorded values pale behind it."
    )
    return Picture(f"training-{block.dataset}", png, f"Training curves of {who}: {what}.", caption)


def element_counts(block: Block) -> Picture | None:
    """Draw how many elements a formula has: training set beside every generator."""
    groups: list[tuple[str, NDArray[np.float64], str, str]] = []
    if block.summary is not None and block.summary.n_elements is not None:
        shares = _shares(block.summary.n_elements)
        groups.append((f"training set {block.dataset}", shares, TRAINING_COLOUR, ""))
    for row, style in zip(block.rows, styles(block.rows), strict=True):
        given = [_shares(run.n_elements) for run in row.runs if run.n_elements is not None]
        if given:
            width = max(map(len, given))
            mean = np.mean([np.pad(g, (0, width - len(g))) for g in given], axis=0)
            groups.append((row.label, mean, style.colour, style.hatch))
    if not groups:
        return None
    top = max(int(np.flatnonzero(shares).max()) for _, shares, _, _ in groups)
    bottom = min(int(np.flatnonzero(shares).min()) for _, shares, _, _ in groups)
    counts = np.arange(bottom, top + 1)
    bar = 0.84 / len(groups)
    with drawing(9.6, 4.2) as figure:
        axes = figure.subplots()
        for i, (label, shares, colour, hatch) in enumerate(groups):
            heights = 100 * np.pad(shares, (0, max(0, top + 1 - len(shares))))[bottom : top + 1]
            place = counts + (i - (len(groups) - 1) / 2) * bar
            axes.bar(
                place, heights, 0.92 * bar, color=colour, label=label, hatch=hatch,
                edgecolor="white", linewidth=0,
            )  # fmt: skip
        axes.set_xticks(counts)
        axes.set_xlabel("number of different elements in the formula")
        axes.set_ylabel("share of formulas (%)")
        axes.set_title("Elements per formula")
        light_grid(axes)
        figure.legend(loc="outside lower center", ncols=3)
        figure.suptitle(_conditions(block), fontsize=10)
        png = to_png(figure)
    spoken = "; ".join(
        f"{label} mostly {int(np.argmax(shares))} ({percent(float(shares.max()))}%)"
        for label, shares, _, _ in groups
    )
    caption = f"Formulas by number of different elements. {_conditions(block)}."
    return Picture(
        f"element-counts-{block.dataset}", png, f"Bars of elements per formula: {spoken}.", caption
    )


def _checks(block: Block) -> list[str]:
    names = {m.recipe for m in block.metrics if m.key.endswith((".samples", ".unique"))}
    return [name for name in CHECK_LABELS if name in names] + sorted(names - set(CHECK_LABELS))


def _check_panel(axes: Axes, block: Block, names: Sequence[str], part: str) -> None:
    bar = 0.84 / len(block.rows)
    for i, (row, style) in enumerate(zip(block.rows, styles(block.rows), strict=True)):
        for group, name in enumerate(names):
            estimate = row.values.get(check_metric(name, part))
            if estimate is None:
                continue
            place = group + (i - (len(block.rows) - 1) / 2) * bar
            height, spread = 100 * estimate.mean, 100 * (estimate.spread or 0.0)
            axes.bar(
                place, height, 0.92 * bar, color=style.colour, hatch=style.hatch,
                edgecolor="white", linewidth=0,
            )  # fmt: skip
            if estimate.spread is not None:
                axes.errorbar(place, height, spread, color="black", capsize=2, linewidth=1)
            axes.annotate(
                f"{height:.0f}", (place, height + spread), xytext=(0, 2), ha="center",
                textcoords="offset points", fontsize=7.5,
            )  # fmt: skip
    if block.summary is not None:
        for group, name in enumerate(names):
            if name in block.summary.checks:
                level = 100 * block.summary.checks[name]
                axes.hlines(level, group - 0.46, group + 0.46, TRAINING_COLOUR, "dashed", lw=1)
    axes.set_xticks(range(len(names)), [check_label(name) for name in names])
    axes.set_ylim(0, 108)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("share that passes (%)")
    light_grid(axes)


def _line(
    axes: Axes, numbers: Sequence[int], estimates: Sequence[Estimate], row: Row, style: Style
) -> None:
    axes.errorbar(
        numbers,
        [100 * e.mean for e in estimates],
        [100 * (e.spread or 0.0) for e in estimates],
        color=style.colour,
        marker=style.marker,
        linestyle=style.dashes,
        capsize=3 if any(e.spread is not None for e in estimates) else 0,
        markersize=5.5,
        label=row.label,
    )


def _floor(shares: Sequence[float]) -> float:
    """Return where a percentage axis starts: 0, or a ten below the values if all are high."""
    lowest = 100 * min(shares)
    return 0.0 if lowest < 60 else 10.0 * math.floor((lowest - 10) / 10)


def _curve(axes: Axes, run: Run, name: str, style: Style) -> None:
    """Draw one curve; a long one as a running mean over its pale raw values."""
    x, y = run.curves[name].iterations, run.curves[name].values
    window = len(y) // 50
    if window >= 4:
        axes.plot(x, y, color=style.colour, linewidth=0.5, alpha=0.25)
        y = np.convolve(y, np.full(window, 1 / window), mode="valid")
        x = x[(window - 1) // 2 :][: len(y)]
    axes.plot(
        x,
        y,
        color=style.colour,
        linestyle=style.dashes,
        linewidth=1.3,
        marker=style.marker if len(y) <= 30 else "",
        markersize=3,
    )


def _curve_label(name: str) -> str:
    words = name.replace("_", " ")
    return CURVE_LABELS.get(name, words[:1].upper() + words[1:])


def _curves(block: Block, name: str) -> list[Curve]:
    runs = (run for row in block.rows for run in row.runs)
    return [run.curves[name] for run in runs if name in run.curves]


def _legend(
    figure: Figure, block: Block, lines: bool = False, only: Sequence[Row] | None = None
) -> None:
    """Put one legend for all panels under the figure: bars or lines, training set where drawn."""
    handles: list[Patch | Line2D] = []
    labels = []
    for row, style in zip(block.rows, styles(block.rows), strict=True):
        if only is not None and row not in only:
            continue
        if lines:
            handle: Patch | Line2D = Line2D(
                [], [], color=style.colour, marker=style.marker, markersize=5,
                linestyle=style.dashes,
            )  # fmt: skip
        else:
            handle = Patch(
                facecolor=style.colour, hatch=style.hatch, edgecolor="white", linewidth=0
            )
        handles.append(handle)
        labels.append(row.label)
    if not lines and block.summary is not None and block.summary.checks:
        handles.append(Line2D([], [], color=TRAINING_COLOUR, linestyle="dashed", linewidth=1))
        labels.append(f"training set {block.dataset}")
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)))


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(counts, np.float64) / float(np.sum(counts))


def _conditions(block: Block) -> str:
    """Say training set, N and seeds of a block in one line."""
    numbers = dict.fromkeys(row.n_samples for row in block.rows)
    n_samples = " or ".join(f"{n:,}" for n in sorted(numbers))
    seeds = sorted({len(row.runs) for row in block.rows})
    many = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    plural = "" if seeds == [1] else "s"
    return f"Trained on {block.dataset}{_size(block)}, N = {n_samples}, {many} seed{plural}"


def _size(block: Block) -> str:
    return "" if block.summary is None else f" ({block.summary.n_train:,} compositions)"


def _error_bars(block: Block) -> str:
    if any(len(row.runs) > 1 for row in block.rows):
        return "Error bars: sample standard deviation over seeds. "
    return ""


def _spoken(row: Row, metric: Metric, name: str) -> str:
    estimate = row.values.get(metric)
    value = "not known" if estimate is None else f"{percent(estimate.mean)}%"
    return f"{check_label(name) if name in CHECK_LABELS else name} {value}"
