"""Periodic-table maps: how often each element occurs in the training set and in the samples."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gandb.core.elements import MAX_Z, SYMBOLS
from gandb.reports.canvas import (
    MUTED,
    Axes,
    Figure,
    FixedLocator,
    FuncFormatter,
    LogNorm,
    Normalize,
    NullLocator,
    Rectangle,
    ScalarMappable,
    colormaps,
    drawing,
    to_png,
    to_rgb,
)
from gandb.reports.comparison import Row
from gandb.reports.periodic_table import ACTINIDE_ROW, COLUMNS, LANTHANIDE_ROW, position
from gandb.reports.records import DatasetSummary, Picture

Fill: TypeAlias = str | tuple[float, float, float, float]

RATIO_LIMIT = 3.0
"""The ratio map saturates at a factor of 2**3 = 8 either way."""

ABSENT = "#e3e3e3"
EDGE = "#8c8c8c"
_FREQUENCY_MAP = "YlGnBu"
_RATIO_MAP = "RdBu_r"
_CHANGED = 14
_WIDTH, _HEIGHT = 14.0, 9.4


def draw(summary: DatasetSummary, row: Row) -> Picture | None:
    """Draw training set, samples, their ratio and the largest changes; None if data lack."""
    given = [run.element_frequency for run in row.runs if run.element_frequency is not None]
    if summary.element_frequency is None or not given:
        return None
    training, samples = summary.element_frequency, np.mean(given, axis=0)
    many = f", mean of {len(given)} seeds" if len(given) > 1 else ""
    with drawing(_WIDTH, _HEIGHT) as figure:
        figure.set_layout_engine("none")
        left, right = _axes(figure, 0.15, 5.5, 6.65, 3.5), _axes(figure, 7.2, 5.5, 6.65, 3.5)
        _frequency_maps(figure, left, right, _axes(figure, 4.0, 5.15, 6.0, 0.17), training, samples)
        left.set_title(f"Training set {summary.ref} ({summary.n_train:,} compositions)")
        right.set_title(f"{row.label}, N = {row.n_samples:,}{many}")
        ratio = _axes(figure, 0.15, 0.95, 6.65, 3.5)
        _ratio_map(figure, ratio, _axes(figure, 1.0, 0.55, 4.95, 0.17), training, samples)
        ratio.set_title(f"Ratio of {row.label} to {summary.ref}")
        changes = _axes(figure, 7.65, 0.6, 6.15, 3.8)
        _changes(changes, training, samples)
        changes.set_title(f"Largest changes, {row.label} minus {summary.ref}")
        png = to_png(figure)
    ranked = sorted(range(1, MAX_Z + 1), key=lambda z: samples[z] - training[z])
    more = ", ".join(SYMBOLS[z] for z in ranked[::-1][:3] if samples[z] > training[z])
    fewer = ", ".join(SYMBOLS[z] for z in ranked[:3] if samples[z] < training[z])
    alt = (
        f"Periodic tables of element frequency in {summary.ref} and in samples of {row.label}, "
        f"their ratio, and the largest changes. Gained most: {more or 'none'}; "
        f"lost most: {fewer or 'none'}."
    )
    caption = (
        f"Share of formulas that contain each element: {summary.ref} beside N = "
        f"{row.n_samples:,} samples of {row.label}{many}, and the binary logarithm of the ratio "
        "(+1: twice as often). Grey: in neither. Hatched: in only one of the two. Ratios of rare "
        "elements rest on few formulas."
    )
    return Picture(f"elements-{row.label}-{summary.ref}", png, alt, caption)


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes at a place given in inches."""
    return figure.add_axes((left / _WIDTH, bottom / _HEIGHT, width / _WIDTH, height / _HEIGHT))


def _frequency_maps(
    figure: Figure,
    left: Axes,
    right: Axes,
    key: Axes,
    training: NDArray[np.float64],
    samples: NDArray[np.float64],
) -> None:
    """Draw both frequency maps on one logarithmic scale, whose colour bar goes into ``key``."""
    both = np.concatenate([training[1:], samples[1:]])
    positive = both[both > 0]
    top = float(positive.max()) if len(positive) else 1.0
    norm = LogNorm(min(1e-4, top / 10), top)
    colours = colormaps[_FREQUENCY_MAP]
    for axes, values in ((left, training), (right, samples)):
        fills: dict[int, Fill] = {}
        for z in range(1, MAX_Z + 1):
            if values[z] > 0:
                fills[z] = colours(float(norm(max(values[z], norm.vmin or 0.0))))
            else:
                fills[z] = ABSENT if training[z] == samples[z] == 0 else "white"
        hatched = {z for z, fill in fills.items() if fill == "white"}
        _table(axes, fills, hatched)
    bar = figure.colorbar(
        ScalarMappable(norm, colours), cax=key, orientation="horizontal", extend="min"
    )
    ticks = [t for t in (1e-4, 1e-3, 1e-2, 0.1, 0.2, 0.5, 1.0) if (norm.vmin or 0) <= t <= top]
    bar.ax.xaxis.set_major_locator(FixedLocator(ticks))
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
    bar.set_label("share of formulas with the element (%)")


def _ratio_map(
    figure: Figure,
    axes: Axes,
    key: Axes,
    training: NDArray[np.float64],
    samples: NDArray[np.float64],
) -> None:
    """Draw the binary logarithm of the ratio, centred at 0; its colour bar goes into ``key``."""
    norm = Normalize(-RATIO_LIMIT, RATIO_LIMIT)
    colours = colormaps[_RATIO_MAP]
    fills: dict[int, Fill] = {}
    hatched = set()
    for z in range(1, MAX_Z + 1):
        if training[z] == samples[z] == 0:
            fills[z] = ABSENT
            continue
        if training[z] > 0 and samples[z] > 0:
            ratio = math.log2(samples[z] / training[z])
        else:
            ratio = math.copysign(RATIO_LIMIT, samples[z] - training[z])
            hatched.add(z)
        fills[z] = colours(float(np.clip(norm(ratio), 0.0, 1.0)))
    _table(axes, fills, hatched)
    bar = figure.colorbar(
        ScalarMappable(norm, colours), cax=key, orientation="horizontal", extend="both"
    )
    bar.set_label("log2(share in samples / share in training set)")


def _table(axes: Axes, fills: dict[int, Fill], hatched: set[int]) -> None:
    """Draw one periodic table: a cell per element in its fill colour."""
    for z, fill in fills.items():
        x, y = cell_corner(z)
        hatch = "////" if z in hatched else None
        axes.add_patch(
            Rectangle((x, y), 1, 1, facecolor=fill, edgecolor=EDGE, linewidth=0.5, hatch=hatch)
        )
        absent = fill == ABSENT
        colour = MUTED if absent else _ink(fill)
        axes.text(x + 0.5, y + 0.5, SYMBOLS[z], ha="center", va="center", fontsize=10, color=colour)
    for row, label in ((6, "57–71"), (7, "89–103")):
        axes.text(2.5, row - 0.5, label, ha="center", va="center", fontsize=6, color=MUTED)
    axes.set_xlim(-0.1, COLUMNS + 0.1)
    axes.set_ylim(cell_corner(89)[1] + 1.1, -0.1)
    axes.set_aspect("equal")
    axes.set_axis_off()


def cell_corner(atomic_number: int) -> tuple[float, float]:
    """Return the upper left corner of an element's cell of size 1; y points down."""
    row, column = position(atomic_number)
    gap = 0.4 if row in (LANTHANIDE_ROW, ACTINIDE_ROW) else 0.0
    return column - 1.0, row - 1.0 + gap


def _ink(fill: Fill) -> str:
    """Return black or white, whichever reads better on ``fill`` (relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(fill)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if luminance > 0.18 else "white"


def _changes(axes: Axes, training: NDArray[np.float64], samples: NDArray[np.float64]) -> None:
    """Draw the elements whose share changed most, as bars in percentage points."""
    change = 100 * (samples - training)
    ranked = sorted(range(1, MAX_Z + 1), key=lambda z: (-abs(change[z]), z))
    shown = sorted((z for z in ranked[:_CHANGED] if change[z] != 0), key=lambda z: change[z])
    colours = colormaps[_RATIO_MAP]
    fills = [colours(0.85 if change[z] > 0 else 0.15) for z in shown]
    axes.barh([SYMBOLS[z] for z in shown], [change[z] for z in shown], color=fills)
    for i, z in enumerate(shown):
        before, after = 100 * training[z], 100 * samples[z]
        axes.annotate(
            f"{before:.1f} → {after:.1f}",
            (change[z], i),
            xytext=(4 if change[z] > 0 else -4, 0),
            textcoords="offset points",
            va="center",
            ha="left" if change[z] > 0 else "right",
            fontsize=8,
        )
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.margins(x=0.25)
    axes.set_xlabel("change of share (percentage points; labels: share before → after, %)")
    if not shown:
        axes.text(0.5, 0.5, "no change", transform=axes.transAxes, ha="center")
