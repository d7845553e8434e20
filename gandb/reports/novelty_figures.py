"""The figures on structures: uniqueness over N, and novelty by grades."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Any

from gandb.reports.canvas import (
    MUTED,
    Axes,
    Patch,
    drawing,
    light_grid,
    sample_axis,
    styles,
    to_png,
)
from gandb.reports.metrics import percent
from gandb.reports.novelty_comparison import by_reference
from gandb.reports.records import Novelty, Picture, Report, Role

GRADE_COLOURS = {
    "known": "#bdbdbd",
    "structure": "#f6e8a6",
    "prototype": "#8fd0b2",
    "substitution": "#3c8fb5",
    "composition": "#27367f",
    "not judged": "#ffffff",
}
"""From pale to dark as more is new, so that they are told apart in grey as well."""
_DARK = ("substitution", "composition")
_NARROW = 0.055  # a part of a bar that is narrower has no number
_GREEDY: dict[str, Any] = {
    "marker": "_", "markersize": 14, "markeredgewidth": 1.5, "linestyle": "none",
}  # fmt: skip
_BAR, _HEAD = 0.36, 0.24  # inches that a bar and a line of heading take


def draw_all(report: Report) -> list[Picture]:
    """Draw both figures, or none where no structures were judged."""
    if not report.novelties:
        return []
    return [uniqueness(report), grades(report)]


def uniqueness(report: Report) -> Picture:
    """Draw uniqueness against the number of samples, one line per model and way of matching."""
    curves = _curves(report)
    shares = [v for own in curves.values() for v in own.uniqueness.values()]
    ncols = _legend_columns(curves)
    with drawing(7.6, 3.9 + 0.2 * -(-(len(curves) + 1) // ncols)) as figure:
        axes = figure.subplots()
        for (label, own), style in zip(curves.items(), styles(list(curves.values())), strict=True):
            axes.plot(
                list(own.uniqueness),
                [100 * v for v in own.uniqueness.values()],
                color=style.colour,
                marker=style.marker,
                linestyle=style.dashes,
                markersize=5.5,
                label=label,
            )
            axes.plot(own.n_samples, 100 * own.greedy, color=style.colour, **_GREEDY)
        numbers = [n for own in curves.values() for n in own.uniqueness]
        sample_axis(axes, numbers, _round_numbers(min(numbers) / 1.5, max(numbers) * 1.5))
        axes.set_ylim(0 if min(shares) < 0.6 else 100 * min(shares) - 10, 103)
        axes.set_ylabel("materials per sample (%)")
        axes.set_title("Unique structures among N samples")
        light_grid(axes)
        axes.plot([], [], **_GREEDY, color=MUTED, label="greedy grouping")
        figure.legend(loc="outside lower center", ncols=ncols)
        png = to_png(figure)
    spoken = "; ".join(
        f"{label} {percent(own.unique)}% of {own.n_samples:,}" for label, own in curves.items()
    )
    caption = (
        "Materials among the first N samples, per sample. Greedy grouping: the same count as in "
        "published code, where a sample joins the first group whose first member it matches."
    )
    for how, number in _matchings(report).items():
        if number > 1:
            caption += f" Matching {number}: {how}."
    return Picture("structure-uniqueness", png, f"Curves over N: {spoken}.", caption)


def grades(report: Report) -> Picture:
    """Draw the share of samples by grade of novelty, a bar per model, under each reference."""
    groups = [
        (wrap(f"Against {reference.words}", 80), lines) for reference, lines in by_reference(report)
    ]
    names = [name for name in GRADE_COLOURS if name != "not judged" or _some_not_judged(report)]
    height = sum(_HEAD * (len(words) + 0.6) + _BAR * len(lines) for words, lines in groups)
    with drawing(8.6, height + 1.3) as figure:
        axes = figure.subplots()
        place, ticks, labels = -_HEAD / 2, [], []
        for words, lines in groups:
            place += _HEAD * (len(words) + 0.6)
            axes.annotate(
                "\n".join(words), (0, place - _HEAD * 0.25), fontsize=9, fontweight="bold",
                va="bottom", annotation_clip=False,
            )  # fmt: skip
            for line in lines:
                _bar(axes, line, place + _BAR / 2, names)
                ticks.append(place + _BAR / 2)
                labels.append(f"{_name(line)}  N = {line.n_samples:,}")
                place += _BAR
        axes.set_yticks(ticks, labels)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(place + 0.1, 0)
        axes.set_xlim(0, 100)
        axes.set_xlabel("share of samples (%)")
        axes.spines["left"].set_visible(False)
        handles = [
            Patch(facecolor=GRADE_COLOURS[name], edgecolor=MUTED, linewidth=0.5) for name in names
        ]
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        figure.suptitle("Samples by what is new in their structures", fontsize=10)
        png = to_png(figure)
    spoken = "; ".join(
        f"{line.label} " + ", ".join(f"{name} {percent(v)}%" for name, v in line.grades.items())
        for _, lines in groups
        for line in lines
    )
    caption = (
        "Samples by what is new in them, the paler the less: known, a new structure of known "
        "composition and symmetry, a new prototype of a known composition, a known structure with "
        "other elements, a new composition. Grades depend on how large the reference is."
    )
    return Picture("structure-novelty", png, f"Bars of grades: {spoken}.", caption)


def _curves(report: Report) -> dict[str, Novelty]:
    """Return one novelty per model and way of matching: uniqueness asks for no reference."""
    held: dict[tuple[str, str], Novelty] = {}
    for own in report.novelties:
        key = (own.label, own.reference.tolerances)
        if key not in held or held[key].n_samples < own.n_samples:
            held[key] = own
    numbers = _matchings(report)
    order = sorted(
        held.items(),
        key=lambda item: (item[1].role is Role.BASELINE, item[0][0], numbers[item[0][1]]),
    )
    return {
        label if numbers[how] == 1 else f"{label}, matching {numbers[how]}": own
        for (label, how), own in order
    }


def _matchings(report: Report) -> dict[str, int]:
    """Number the ways of matching."""
    ways = dict.fromkeys(own.reference.tolerances for own in report.novelties)
    return {how: i for i, how in enumerate(ways, start=1)}


def _legend_columns(labels: Iterable[str]) -> int:
    """Return how many columns of a legend fit under the figure."""
    return max(1, min(4, 72 // (max(map(len, labels)) + 8)))


def _bar(axes: Axes, line: Novelty, place: float, names: Sequence[str]) -> None:
    left = 0.0
    for name in names:
        width = line.not_judged if name == "not judged" else line.grades[name]
        if width <= 0:
            continue
        axes.barh(
            place, 100 * width, 0.78 * _BAR, 100 * left, color=GRADE_COLOURS[name],
            edgecolor=MUTED, linewidth=0.4,
        )  # fmt: skip
        if width >= _NARROW:
            axes.annotate(
                f"{100 * width:.0f}", (100 * (left + width / 2), place), ha="center", va="center",
                fontsize=8, color="white" if name in _DARK else "black",
            )  # fmt: skip
        left += width


def _round_numbers(low: float, high: float) -> list[int]:
    """Return 1, 2, 5 times powers of ten between two bounds; of a wide range powers alone."""
    firsts = (1, 2, 5) if high / low < 1e5 else (1,)
    return [m * 10**e for e in range(12) for m in firsts if low <= m * 10**e <= high]


def _some_not_judged(report: Report) -> bool:
    return any(own.not_judged > 1e-9 for own in report.novelties)


def _name(line: Novelty) -> str:
    return f"{line.label} (baseline)" if line.role is Role.BASELINE else line.label
