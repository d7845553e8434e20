"""The figures on crystals: distances, sizes, energies above the hull, compositions, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gandb.core.elements import SYMBOLS
from gandb.reports import hull_figures
from gandb.reports.canvas import (
    MUTED,
    TRAINING_COLOUR,
    Axes,
    Figure,
    MaxNLocator,
    Style,
    drawing,
    light_grid,
    styles,
    to_png,
)
from gandb.reports.crystal_pictures import HOW, grid
from gandb.reports.crystal_records import Crystals, Subject
from gandb.reports.records import Picture, Report

_BINS = 40
_AXES = {
    "structural_validity": "shortest distance (Å)",
    "radius_distances": "shortest distance / sum of covalent radii",
    "density": "density (g/cm³)",
    "volume_per_atom": "volume (Å³/atom)",
}
_TITLES = {
    "structural_validity": "Shortest distance in a crystal",
    "radius_distances": "Shortest distance over radii",
    "density": "Density",
    "volume_per_atom": "Volume per atom",
}
_LIMIT = 0.5
"""Shortest distance, Å, below which published code calls a structure invalid."""
_WIDEST = 1.0
"""Energy above the hull, eV/atom, at which its histogram ends."""
_MAP_FROM = 10  # distinct compositions, below which a map says nothing


def draw_all(report: Report) -> list[Picture]:
    """Draw what is known of crystals, by training set; nothing where there are none."""
    found = report.crystals
    if found is None:
        return []
    pictures: list[Picture | None] = []
    for dataset in dict.fromkeys(own.dataset for own in found.subjects):
        mine = [own for own in found.subjects if own.dataset == dataset]
        reference = found.references.get(dataset)
        pictures += [
            histograms("distances", ("structural_validity", "radius_distances"), mine, reference),
            histograms("sizes", ("density", "volume_per_atom"), mine, reference),
            energies(found, mine),
            composition_map(mine, reference),
        ]
    pictures += [hull_figures.draw(own) for own in found.hulls]
    pictures.append(best(found))
    return [picture for picture in pictures if picture is not None]


def histograms(
    name: str, checks: Sequence[str], subjects: Sequence[Subject], reference: Subject | None
) -> Picture | None:
    """Draw how numbers of checks are distributed: generators, and the real structures."""
    everyone = [*subjects] if reference is None else [*subjects, reference]
    shown = [c for c in checks if any(len(own.values.get(c, ())) for own in subjects)]
    if not shown:
        return None
    dataset = subjects[0].dataset
    with drawing(5.4 * len(shown) + 0.4, 4.2) as figure:
        for axes, check in zip(
            figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True
        ):
            edges = bin_edges([own.values[check] for own in everyone if check in own.values])
            for own, style in zip(subjects, styles(list(subjects)), strict=True):
                _steps(axes, own.values.get(check), edges, own.label, style)
            if reference is not None:
                _steps(axes, reference.values.get(check), edges, reference.label, None)
            if check == "structural_validity" and edges[0] < _LIMIT < edges[-1]:
                axes.axvline(_LIMIT, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
                axes.annotate(
                    "0.5 Å", (_LIMIT, 1), xycoords=("data", "axes fraction"), xytext=(3, -10),
                    textcoords="offset points", fontsize=8, color=MUTED,
                )  # fmt: skip
            axes.set_xlim(edges[0], edges[-1])
            axes.set_ylim(bottom=0)
            axes.set_xlabel(_AXES[check])
            axes.set_ylabel("share of crystals per bin (%)")
            axes.set_title(_TITLES[check])
            light_grid(axes)
        _legend(figure)
        figure.suptitle(_heading(subjects), fontsize=10)
        png = to_png(figure)
    medians = "; ".join(
        f"{own.label} "
        + ", ".join(
            f"{_AXES[c]} {np.median(own.values[c]):.2f}"
            for c in shown
            if len(own.values.get(c, ()))
        )
        for own in everyone
        if any(len(own.values.get(c, ())) for c in shown)
    )
    caption = (
        f"Distributions over the samples that are crystals ({_numbers(everyone, shown[0])}), by "
        f"the newest recipes of {' and '.join(shown)}. What lies beyond the ends is counted in the "
        f"last bins. {_unjudged(everyone, shown)}"
    ).rstrip()
    return Picture(f"{name}-{_slug(dataset)}", png, f"Histograms. Medians: {medians}.", caption)


def bin_edges(values: Sequence[np.ndarray]) -> np.ndarray:
    """Return common edges of bins that hold all but the outermost of each distribution."""
    held = [own for own in values if len(own)]
    low = min(float(np.quantile(own, 0.002)) for own in held)
    high = max(float(np.quantile(own, 0.985)) for own in held)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, _BINS + 1)


def counted(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Count numbers by bins, int64; what lies outside goes into the first and the last."""
    counts: np.ndarray = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    return counts


def energies(found: Crystals, subjects: Sequence[Subject]) -> Picture | None:
    """Draw how far above the hull the candidates lie."""
    judged = [own for own in subjects if len(own.above_hull)]
    if not judged:
        return None
    low = min(-0.1, max(-0.5, min(float(own.above_hull[0]) for own in judged)))
    edges = np.arange(np.floor(low / 0.05) * 0.05, _WIDEST + 0.026, 0.05)
    with drawing(8.4, 1.4 + 1.35 * len(judged)) as figure:
        grid_of_axes = figure.subplots(len(judged), 1, sharex=True, squeeze=False)[:, 0]
        for axes, own, style in zip(grid_of_axes, judged, styles(judged), strict=True):
            counts = counted(own.above_hull, edges)
            axes.bar(
                edges[:-1], counts, np.diff(edges), align="edge", color=style.colour,
                hatch=style.hatch, edgecolor="white", linewidth=0.4,
            )  # fmt: skip
            for limit, dashes in ((0.0, "-"), (0.1, (0, (4, 2)))):
                axes.axvline(limit, color="black", linewidth=1.1, linestyle=dashes)
            n = len(own.above_hull)
            axes.set_title(
                f"{own.label}: {int((own.above_hull <= 0).sum())} of {n:,} at 0 or below, "
                f"{int((own.above_hull <= 0.1).sum())} up to 0.1 eV/atom", fontsize=9,
            )  # fmt: skip
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.set_ylabel("structures")
            light_grid(axes)
        grid_of_axes[-1].set_xlim(edges[0], edges[-1])
        grid_of_axes[-1].set_xlabel(
            "energy above the hull (eV/atom); last bin: that and more; lines: 0 and 0.1"
        )
        png = to_png(figure)
    spoken = "; ".join(
        f"{own.label} median {np.median(own.above_hull):.2f} eV/atom of {len(own.above_hull):,}"
        for own in judged
    )
    lacking = [
        f"{own.label} {own.n_relaxed - len(own.above_hull):,} of {own.n_relaxed:,}"
        for own in judged
        if own.n_relaxed > len(own.above_hull)
    ]
    caption = (
        "Energies above the hull of distinct structures that were relaxed and compared, converged "
        f"or not; {'; '.join(found.hull_words)}."
    )
    if lacking:
        caption += f" Failed, or without a reference, so not shown: {', '.join(lacking)}."
    name = f"energy-above-hull-{_slug(subjects[0].dataset)}"
    return Picture(name, png, f"Histograms of energies above the hull: {spoken}.", caption)


# --- map ---------------------------------------------------------------------------------


def principal_axes(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean, the first two principal axes and their shares of the variance.

    Args:
        shares: float64 (n, d).

    Returns:
        float64 (d,), (2, d) and (2,); the largest component of each axis is above 0.
    """
    mean = shares.mean(axis=0)
    _, singular, axes = np.linalg.svd(shares - mean, full_matrices=False)
    axes = axes[:2]
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
    return mean, axes, singular[:2] ** 2 / max(float((singular**2).sum()), 1e-12)


def composition_map(subjects: Sequence[Subject], reference: Subject | None) -> Picture | None:
    """Draw compositions in the plane in which those of the training set vary most."""
    shown = [own for own in subjects if len(own.compositions)]
    if reference is None or len(reference.compositions) < _MAP_FROM or not shown:
        return None
    mean, axes_of, variance = principal_axes(reference.compositions)
    if len(axes_of) < 2:
        return None
    behind = (reference.compositions - mean) @ axes_of.T
    columns = len(shown) if len(shown) <= 4 else 3
    rows = -(-len(shown) // columns)
    with drawing(3.6 * columns + 0.5, 3.5 * rows + 0.8) as figure:
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, own, style in zip(panels, shown, styles(shown), strict=False):
            axes.scatter(behind[:, 0], behind[:, 1], s=7, color="#cfcfcf", linewidths=0)
            points = (own.compositions - mean) @ axes_of.T
            axes.scatter(
                points[:, 0],
                points[:, 1],
                s=13,
                color=style.colour,
                marker=style.marker,
                alpha=0.65,
                linewidths=0,
            )
            axes.set_title(f"{own.label} ({len(points):,})", fontsize=10)
            axes.set_aspect("equal")
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        figure.supxlabel(f"{_axis_words(axes_of[0])}  ({100 * variance[0]:.0f}% of variance)",
                         fontsize=9)  # fmt: skip
        figure.supylabel(f"{_axis_words(axes_of[1])}  ({100 * variance[1]:.0f}%)", fontsize=9)
        figure.suptitle(f"Compositions; grey: {reference.label}", fontsize=10)
        png = to_png(figure)
    numbers = ", ".join(
        f"{own.label} {len(own.compositions):,} of {own.n_compositions:,}"
        for own in (*shown, reference)
    )
    caption = (
        "Distinct compositions, as shares of the elements, in the plane of the first two principal "
        f"components of the training set's. Drawn: {numbers}. Axes name the elements that weigh "
        "most, with the sign of their weight."
    )
    return Picture(
        f"composition-map-{_slug(subjects[0].dataset)}", png,
        f"Scatter of compositions in two dimensions: {numbers}.", caption,
    )  # fmt: skip


def _axis_words(axis: np.ndarray) -> str:
    """Name the three elements that weigh most in an axis, with their signs."""
    order = np.argsort(-np.abs(axis))[:3].tolist()
    return " ".join(
        f"{'+' if axis[z] > 0 else '−'}{SYMBOLS[z]}" for z in order if abs(axis[z]) > 0.05
    )


# --- pictures ----------------------------------------------------------------------------


def best(found: Crystals) -> Picture | None:
    """Draw the best candidates."""
    if not found.best:
        return None
    png = grid([own.picture for own in found.best], 5)
    names = ", ".join(own.picture.title for own in found.best)
    caption = (
        f"{found.best_words}. Conventional cells; {HOW}. Under each: space group and beginning of "
        "the structure's id."
    )
    return Picture("best-candidates", png, f"Pictures of crystals: {names}.", caption)


def _steps(
    axes: Axes, values: np.ndarray | None, edges: np.ndarray, label: str, style: Style | None
) -> None:
    if values is None or not len(values):
        return
    heights = 100 * counted(values, edges) / len(values)
    if style is None:
        axes.stairs(
            heights, edges, label=label, color=TRAINING_COLOUR, linewidth=0, fill=True, alpha=0.16
        )
        axes.stairs(heights, edges, color=TRAINING_COLOUR, linewidth=0.8)
        return
    axes.stairs(
        heights, edges, label=label, color=style.colour, linestyle=style.dashes, linewidth=1.7
    )


def _legend(figure: Figure) -> None:
    """Put one legend of all that is drawn under the figure."""
    named: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(map(str, labels), handles, strict=True))
    figure.legend(
        list(named.values()), list(named), loc="outside lower center", ncols=min(5, len(named))
    )


def _heading(subjects: Sequence[Subject]) -> str:
    dataset = subjects[0].dataset
    return f"Trained on {dataset}" if dataset else "Models from outside"


def _numbers(everyone: Sequence[Subject], check: str) -> str:
    return ", ".join(
        f"{own.label} {len(own.values.get(check, ())):,}"
        + (f" of N = {own.n_samples:,}" if own.role is not None else f" of {own.n_samples:,}")
        for own in everyone
    )


def _unjudged(everyone: Sequence[Subject], checks: Sequence[str]) -> str:
    lacking = [own.label for own in everyone if not any(len(own.values.get(c, ())) for c in checks)]
    if not lacking:
        return ""
    return f"Not checked yet, so not drawn: {', '.join(lacking)}."


def _slug(dataset: str) -> str:
    return dataset or "outside"
