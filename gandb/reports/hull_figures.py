"""Hulls of chemical systems with the candidates: two elements as lines, three as triangles."""

from __future__ import annotations

import itertools

import numpy as np

from gandb.reports.canvas import (
    MUTED,
    Axes,
    Normalize,
    ScalarMappable,
    Style,
    colormaps,
    drawing,
    styles,
    to_png,
)
from gandb.reports.crystal_metrics import generator_label
from gandb.reports.crystal_pictures import subscripts
from gandb.reports.crystal_records import HullCandidate, HullSystem
from gandb.reports.records import Picture

_MOST_STABLE = 60  # phases on a hull whose facets are looked for
_FLAT = 1e-7  # eV/atom: so near to a facet is on it
_WORST = 0.5  # eV/atom above the hull where the colour scale ends
_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
_COLOURS = "viridis"


def draw(system: HullSystem) -> Picture | None:
    """Draw a system of two or three elements with its candidates."""
    name = "-".join(system.elements)
    if len(system.elements) == 2:
        png = _binary(system)
        what = "Energy of formation against composition; the line is the hull"
    elif len(system.elements) == 3:
        png = _ternary(system)
        what = "Phases on the hull, with lines between those that coexist"
    else:
        return None
    stable = ", ".join(_distinct(np.array(system.formulas)[system.stable].tolist()))
    made = "; ".join(
        f"{own.formula} {own.above:+.3f} eV/atom ({generator_label(own.model)})"
        for own in sorted(system.candidates, key=lambda c: (c.above, c.formula))[:12]
    )
    more = f", the lowest 12 of {len(system.candidates):,}" if len(system.candidates) > 12 else ""
    caption = (
        f"{name}: {what}. {len(system.formulas):,} reference phases, "
        f"{len(_distinct(np.array(system.formulas)[system.stable].tolist()))} of them on the hull; "
        f"{system.words}. Candidates, by energy above the hull{more}: {made}."
    )
    alt = f"Hull of {name}. On it: {stable}. Candidates: {made}."
    return Picture(f"hull-{name}-{system.recipe[:8]}", png, alt, caption)


def _binary(system: HullSystem) -> bytes:
    with drawing(8.2, 5.0) as figure:
        axes = figure.subplots()
        x = system.shares[:, 1]
        axes.axhline(0, color=MUTED, linewidth=0.8)
        above = ~system.stable
        shown = above & (system.formation < max(0.3, float(np.max(_heights(system))) + 0.2))
        axes.plot(
            x[shown], system.formation[shown], linestyle="none", marker="o", markersize=4,
            markerfacecolor="none", markeredgecolor="#9a9a9a", label="reference above the hull",
        )  # fmt: skip
        line = hull_line(system)
        axes.plot(*line.T, color="black", linewidth=1.4, marker="o", markersize=5,
                  label="on the hull")  # fmt: skip
        named: dict[str, int] = {}
        for row in np.flatnonzero(system.stable).tolist():
            named.setdefault(system.formulas[row], row)
        before, drop = -1.0, -13
        for row in sorted(named.values(), key=lambda row: float(x[row])):
            drop = -25 if x[row] - before < 0.07 and drop == -13 else -13
            before = float(x[row])
            axes.annotate(
                subscripts(system.formulas[row]), (x[row], system.formation[row]), xytext=(0, drop),
                textcoords="offset points", ha="center", fontsize=8,
            )  # fmt: skip
        for models, style in _by_model(system):
            axes.plot(
                [own.shares[1] for own in models], [own.formation for own in models],
                linestyle="none", marker=style.marker, color=style.colour, markersize=9,
                markeredgecolor="black", markeredgewidth=0.7,
                label=generator_label(models[0].model),
            )  # fmt: skip
        low = min(float(system.formation[system.stable].min(initial=0.0)), *_heights(system), 0.0)
        axes.set_ylim(low - 0.14 * max(0.3, -low))
        axes.set_xlim(-0.04, 1.04)
        axes.set_xlabel(f"share of {system.elements[1]} among the atoms")
        axes.set_ylabel("energy of formation (eV/atom)")
        axes.set_title("-".join(system.elements))
        figure.legend(loc="outside lower center", ncols=4)
        return to_png(figure)


def hull_line(system: HullSystem) -> np.ndarray:
    """Return the corners of a binary hull from left to right, float64 (k, 2)."""
    points = np.stack([system.shares[:, 1], system.formation], axis=1)[system.stable]
    ordered = points[np.lexsort((points[:, 1], points[:, 0]))]
    first = np.concatenate([[True], np.diff(ordered[:, 0]) > 1e-9])
    corners: np.ndarray = ordered[first]
    return corners


def _ternary(system: HullSystem) -> bytes:
    scale = Normalize(0.0, _WORST)
    colours = colormaps[_COLOURS]
    with drawing(7.6, 6.6) as figure:
        axes = figure.subplots()
        axes.set_aspect("equal")
        axes.set_axis_off()
        places = system.shares @ _CORNERS
        for first, second in tie_lines(system):
            axes.plot(*places[[first, second]].T, color="#8a8a8a", linewidth=0.9, zorder=1)
        axes.plot(*_CORNERS[[0, 1, 2, 0]].T, color="black", linewidth=1.3, zorder=1)
        rest = places[~system.stable]
        axes.plot(*rest.T, linestyle="none", marker=".", markersize=3, color="#b8b8b8", zorder=2,
                  label="reference above the hull")  # fmt: skip
        axes.plot(*places[system.stable].T, linestyle="none", marker="o", markersize=5.5,
                  color="black", markeredgecolor="white", markeredgewidth=0.7, zorder=6,
                  label="on the hull")  # fmt: skip
        seen: set[str] = set()
        for row in np.flatnonzero(system.stable).tolist():
            formula = system.formulas[row]
            if formula in seen:
                continue
            seen.add(formula)
            _name(axes, formula, places[row], bool(system.shares[row].max() > 1 - 1e-9))
        for models, style in _by_model(system):
            spots = np.array([own.shares for own in models]) @ _CORNERS
            axes.scatter(
                spots[:, 0], spots[:, 1], c=[own.above for own in models], cmap=colours,
                norm=scale, s=130, marker=style.marker, edgecolors="black", linewidths=0.8,
                zorder=4, label=generator_label(models[0].model),
            )  # fmt: skip
            for own, spot in zip(models, spots, strict=True):
                if own.formula not in seen:
                    seen.add(own.formula)
                    axes.annotate(
                        subscripts(own.formula), tuple(spot), xytext=(9, -13), fontsize=8,
                        textcoords="offset points", color="#0b3c5d", zorder=5,
                    )  # fmt: skip
        figure.colorbar(
            ScalarMappable(scale, colours), ax=axes, shrink=0.6, extend="both",
            label="candidates: energy above the hull (eV/atom)",
        )  # fmt: skip
        axes.set_title("-".join(system.elements))
        figure.legend(loc="outside lower center", ncols=4)
        return to_png(figure)


def tie_lines(system: HullSystem) -> list[tuple[int, int]]:
    """Return the pairs of phases that share an edge of a facet of a ternary hull.

    A triangle of phases is a facet if no phase lies below its plane. Facets in one plane cross; all
    of their edges are told. Of phases of one composition the first is taken.
    """
    rows = np.flatnonzero(system.stable)
    _, first = np.unique(np.round(system.shares[rows], 9), axis=0, return_index=True)
    rows = rows[np.sort(first)]
    if not 3 <= len(rows) <= _MOST_STABLE:
        return []
    shares, energies = system.shares[rows], system.formation[rows]
    found: set[tuple[int, int]] = set()
    for triple in itertools.combinations(range(len(rows)), 3):
        corner = shares[list(triple)]
        if abs(float(np.linalg.det(corner))) < 1e-9:
            continue
        plane = np.linalg.solve(corner, energies[list(triple)])
        if (energies >= shares @ plane - _FLAT).all():
            for pair in itertools.combinations(triple, 2):
                found.add((int(rows[pair[0]]), int(rows[pair[1]])))
    return sorted(found)


def _name(axes: Axes, formula: str, place: np.ndarray, element: bool) -> None:
    middle = _CORNERS.mean(axis=0)
    away = place - middle
    away = away / max(float(np.hypot(*away)), 1e-9)
    axes.annotate(
        subscripts(formula), (float(place[0]), float(place[1])),
        xytext=(float(13 * away[0]), float(12 * away[1])), textcoords="offset points",
        ha="center", va="center", fontsize=10 if element else 8,
        fontweight="bold" if element else "normal", zorder=5,
    )  # fmt: skip


def _heights(system: HullSystem) -> list[float]:
    return [own.formation for own in system.candidates] or [0.0]


def _by_model(system: HullSystem) -> list[tuple[list[HullCandidate], Style]]:
    held: dict[str, list[HullCandidate]] = {}
    for own in system.candidates:
        held.setdefault(own.model, []).append(own)
    groups = list(held.values())
    return list(zip(groups, styles([own[0] for own in groups]), strict=True))


def _distinct(formulas: list[str]) -> list[str]:
    return list(dict.fromkeys(formulas))
