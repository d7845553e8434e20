"""Pictures of crystals: one cell each, alone or many in one figure.

Atoms are balls in the customary colours of their elements, as large as their covalent radii are to
each other; a site that several elements share is a ball in sectors, white where it is empty. What
is farther from the viewer is drawn first. What is shown, and which bonds, is `crystal_scene`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from gandb.core.crystals import Crystal
from gandb.core.errors import UsageError
from gandb.reports.canvas import (
    MUTED,
    Axes,
    Figure,
    PolyCollection,
    drawing,
    to_bytes,
    to_rgb,
)
from gandb.reports.crystal_scene import (
    BOND_REACH,
    SPHERE,
    CrystalPicture,
    Scene,
    conventional,
    enough_cells,
    scene,
)
from gandb.reports.element_colours import element_colour

Form = Literal["png", "svg", "pdf"]
FORMS: tuple[Form, ...] = ("png", "svg", "pdf")
MOST = 400
"""Crystals in one figure."""
HOW = (
    f"balls: {SPHERE:g} of the covalent radius; bonds: up to {BOND_REACH:g} times the sum of the "
    "covalent radii, not between two metals where there are other elements"
)
"""What pictures show, for captions."""

_CORNERS = 40  # of a ball's outline
_SHADES = 12
_LIGHT = np.array([-0.36, 0.42])  # where the highlight is, in radii
_BOND = 0.09  # radius of a stick, Å
_EDGE = "#4d4d4d"
_PIECES = 24  # that an edge of the cell is cut into
_SIDE, _TEXT_LINE = 2.6, 0.17  # inches that a picture and a line of text take
_ALONE = 1.55  # a picture alone is larger by this factor

Colour = tuple[float, float, float]


def draw(picture: CrystalPicture, form: Form = "png", *, as_recorded: bool = False) -> bytes:
    """Return the picture of one crystal.

    Args:
        picture: what to draw.
        form: ``png``, ``svg`` or ``pdf``.
        as_recorded: show the cell as it is recorded, in place of the conventional cell.

    Raises:
        CrystalError: it has too many atoms for a picture.
        MissingExtraError: matplotlib or moyopy is not installed.
    """
    return grid([picture], 1, form, as_recorded=as_recorded)


def grid(
    pictures: Sequence[CrystalPicture],
    columns: int = 5,
    form: Form = "png",
    *,
    as_recorded: bool = False,
) -> bytes:
    """Return the pictures of many crystals in one figure, from left to right and down.

    Args:
        pictures: what to draw.
        columns: pictures beside each other.
        form: ``png``, ``svg`` or ``pdf``.
        as_recorded: show cells as they are recorded, in place of conventional cells.

    Raises:
        UsageError: there is nothing to draw, or too much.
        CrystalError: one has too many atoms for a picture.
        MissingExtraError: matplotlib or moyopy is not installed.
    """
    if not pictures:
        raise UsageError("there is no structure to draw")
    if len(pictures) > MOST:
        raise UsageError(
            f"{len(pictures):,} structures are too many for one figure, which holds {MOST}; name "
            "a folder for one file each, or add LIMIT to the query"
        )
    if columns < 1:
        raise UsageError(f"{columns} columns hold no pictures")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    size = _ALONE if len(pictures) == 1 else 1.0
    seen = [_seen(own.crystal, as_recorded) for own in pictures]
    n_lines = [1 + len(_lines(own, cell)) for own, (_, cell) in zip(pictures, seen, strict=True)]
    heads = [max(n_lines[row * columns : (row + 1) * columns]) for row in range(rows)]
    tall = [
        _SIDE * size * _tallness([view for view, _ in seen[row * columns : (row + 1) * columns]])
        for row in range(rows)
    ]
    heights = [side + _TEXT_LINE * (head + 2.9) for side, head in zip(tall, heads, strict=True)]
    with drawing(_SIDE * size * columns + 0.1, sum(heights) + 0.1) as figure:
        figure.set_layout_engine("none")
        total = sum(heights) + 0.1
        for k, (own, (view, cell)) in enumerate(zip(pictures, seen, strict=True)):
            row, column = divmod(k, columns)
            top = total - 0.05 - sum(heights[:row])
            left = (0.05 + column * _SIDE * size) / (_SIDE * size * columns + 0.1)
            wide = _SIDE * size / (_SIDE * size * columns + 0.1)
            foot = top - _TEXT_LINE * (heads[row] + 0.4) - tall[row]
            _write(figure, own, cell, left + wide / 2, top, total)
            axes = figure.add_axes(
                (left + 0.03 * wide, foot / total, 0.94 * wide, tall[row] / total)
            )
            draw_scene(axes, view)
            _legend(figure, view, left + wide / 2, foot, total, wide)
        return to_bytes(figure, form)


def draw_scene(axes: Axes, view: Scene) -> None:
    """Draw a cell into axes, at equal scale in both directions."""
    shapes: list[tuple[float, np.ndarray, Colour]] = []
    shapes += _edges(view)
    shapes += _sticks(view)
    shapes += _balls(view)
    shapes.sort(key=lambda shape: shape[0])
    axes.add_collection(
        PolyCollection(
            [outline for _, outline, _ in shapes],
            facecolors=[colour for *_, colour in shapes],
            linewidths=0,
            antialiaseds=True,
        )
    )
    low, high = _bounds(view)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_aspect("equal")
    axes.set_axis_off()
    for name, place in zip("abc", _label_places(view), strict=True):
        axes.text(
            float(place[0]),
            float(place[1]),
            name,
            color=_EDGE,
            fontsize=8,
            fontstyle="italic",
            ha="center",
            va="center",
        )


def _label_places(view: Scene) -> list[np.ndarray]:
    """Return where the names of the axes stand, (2,) each: past the ends of the edges from 0."""
    gap = 0.035 * float(np.ptp(view.outline.reshape(-1, 3)[:, :2], axis=0).max())
    found = []
    for start, end in view.edges[:3]:
        along = end[:2] - start[:2]
        along /= max(float(np.hypot(*along)), 1e-9)
        distances = np.sqrt(((view.atoms.places - end) ** 2).sum(axis=1))
        ball = float(view.atoms.radii[distances < 0.2].max(initial=0.0))
        found.append(end[:2] + (gap + ball) * along)
    return found


# --- layout ------------------------------------------------------------------------------


def _seen(crystal: Crystal, as_recorded: bool) -> tuple[Scene, str]:
    """Return what is seen of a crystal, and which cell it is where that must be said."""
    standard = None if as_recorded else conventional(crystal)
    shown = crystal if standard is None else standard
    repeats = enough_cells(shown)
    words = []
    if standard is None:
        words.append("cell as recorded" + ("" if as_recorded else ": no symmetry was found"))
    if repeats != (1, 1, 1):
        words.append(" × ".join(map(str, repeats)) + " cells")
    return scene(shown, repeats), ", ".join(words)


def _lines(own: CrystalPicture, cell: str) -> tuple[str, ...]:
    return (*own.lines, cell) if cell else own.lines


def _bounds(view: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of what is seen, (2,) each, Å, with a margin."""
    places, radii = view.atoms.places[:, :2], view.atoms.radii[:, None]
    corners = np.vstack([view.outline.reshape(-1, 3)[:, :2], _label_places(view)])
    low = np.minimum((places - radii).min(axis=0), corners.min(axis=0))
    high = np.maximum((places + radii).max(axis=0), corners.max(axis=0))
    margin = 0.05 * float((high - low).max())
    return low - margin, high + margin


def _tallness(views: Iterable[Scene]) -> float:
    """Return how much higher than wide a row of pictures is made, within reason."""
    ratios = []
    for view in views:
        low, high = _bounds(view)
        ratios.append(float((high[1] - low[1]) / (high[0] - low[0])))
    return min(max(max(ratios), 0.7), 1.35)


def _write(
    figure: Figure, own: CrystalPicture, cell: str, x: float, top: float, total: float
) -> None:
    figure.text(
        x, (top - 0.02) / total, subscripts(own.title), ha="center", va="top", fontsize=11,
        fontweight="bold",
    )  # fmt: skip
    for k, line in enumerate(_lines(own, cell)):
        place = (top - 0.06 - _TEXT_LINE * (k + 1)) / total
        figure.text(x, place, line, ha="center", va="top", fontsize=8, color=MUTED)


def _legend(figure: Figure, view: Scene, x: float, foot: float, total: float, wide: float) -> None:
    """Name the elements under a picture, each beside a ball of its colour."""
    inches = figure.get_figwidth()
    names = view.elements
    step = min(0.5, 0.94 * wide * inches / len(names))
    left = x * inches - step * len(names) / 2
    base = foot - 0.16
    axes = figure.add_axes((0, 0, 1, 1), zorder=-1)
    axes.set_xlim(0, inches)
    axes.set_ylim(0, total)
    axes.set_axis_off()
    shapes = []
    for k, name in enumerate(names):
        centre = np.array([left + step * (k + 0.5) - 0.1, base])
        shapes += _ball(centre, 0.07, ((name, 1.0),))
        axes.text(float(centre[0]) + 0.11, base - 0.005, name, va="center_baseline", fontsize=9)
    axes.add_collection(
        PolyCollection(
            [outline for outline, _ in shapes], facecolors=[c for _, c in shapes], linewidths=0
        )
    )


def subscripts(formula: str) -> str:
    """Write the numbers of a formula as subscripts: Fe₂O₃."""
    found = []
    for k, sign in enumerate(formula):
        inside = sign.isdigit() and k > 0 and (formula[k - 1].isalnum() or formula[k - 1] in ").")
        found.append("₀₁₂₃₄₅₆₇₈₉"[int(sign)] if inside else sign)
    return "".join(found)


# --- shapes ------------------------------------------------------------------------------


def _edges(view: Scene) -> list[tuple[float, np.ndarray, Colour]]:
    """Return the cell's edges in pieces; those behind the cell are broken lines."""
    low, high = _bounds(view)
    half = 0.0026 * float((high - low).max())
    dark, pale = to_rgb(_EDGE), to_rgb("#a6a6a6")
    shapes = []
    if view.repeats != (1, 1, 1):
        for start, end in view.outline:
            shapes += _line(view, start, end, 0.6 * half, 1.0, pale)
    for (start, end), hidden in zip(view.edges, view.hidden, strict=True):
        shapes += _line(view, start, end, half, 0.55 if hidden else 1.0, pale if hidden else dark)
    return shapes


def _line(
    view: Scene, start: np.ndarray, end: np.ndarray, half: float, filled: float, colour: Colour
) -> list[tuple[float, np.ndarray, Colour]]:
    """Return a line in pieces, each with its depth; what is inside a ball is left out."""
    across = _normal(end[:2] - start[:2])
    if across is None:
        return []
    shapes = []
    for piece in range(_PIECES):
        near = start + (end - start) * piece / _PIECES
        far = start + (end - start) * (piece + filled) / _PIECES
        middle = (near + far) / 2
        distances = np.sqrt(((view.atoms.places - middle) ** 2).sum(axis=1))
        if not (distances < view.atoms.radii).any():
            shapes.append((float(middle[2]), _bar(near[:2], far[:2], half * across), colour))
    return shapes


def _sticks(view: Scene) -> list[tuple[float, np.ndarray, Colour]]:
    """Return bonds, each half in the colour of its atom, from the ball's surface on."""
    places, radii, shares = view.atoms.places, view.atoms.radii, view.atoms.shares
    shapes = []
    for pair in view.bonds.tolist():
        for own, other in (pair, pair[::-1]):
            start, end = places[own], places[other]
            length = float(np.linalg.norm(end - start))
            across = _normal(end[:2] - start[:2])
            inside = math.sqrt(max(radii[own] ** 2 - _BOND**2, 0.0))
            if across is None or inside >= length / 2:
                continue
            near = start + (end - start) * inside / length
            far = (start + end) / 2
            colour = _mixed(shares[own])
            for part, brightness in ((1.0, 0.55), (0.72, 0.85), (0.34, 1.12)):
                outline = _bar(near[:2], far[:2], part * _BOND * across)
                depth = float(near[2] + far[2]) / 2
                shapes.append((depth, outline, _shaded(colour, brightness)))
    return shapes


def _balls(view: Scene) -> list[tuple[float, np.ndarray, Colour]]:
    atoms = view.atoms
    return [
        (float(place[2]), outline, colour)
        for place, radius, shares in zip(atoms.places, atoms.radii, atoms.shares, strict=True)
        for outline, colour in _ball(place[:2], float(radius), shares)
    ]


def _ball(
    centre: np.ndarray, radius: float, shares: Sequence[tuple[str, float]]
) -> list[tuple[np.ndarray, Colour]]:
    """Return a ball as discs that grow lighter towards the light; sectors where it is shared."""
    angles = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = [(centre + radius * circle, (0.16, 0.16, 0.16))]
    inner = 0.955 * radius
    if len(shares) == 1 and shares[0][1] >= 1 - 1e-6:
        colour = to_rgb(element_colour(shares[0][0]))
        for k in range(_SHADES):
            part = 1 - k / _SHADES
            middle = centre + inner * (1 - part) * _LIGHT
            found.append((middle + inner * part * circle, _lit(colour, k / (_SHADES - 1))))
        return found
    found.append((centre + inner * circle, (1.0, 1.0, 1.0)))
    start = math.pi / 2
    for element, share in shares:
        turn = np.linspace(start, start - 2 * math.pi * share, max(3, round(_CORNERS * share) + 2))
        arc = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        colour = to_rgb(element_colour(element))
        found.append((centre + inner * np.vstack([[0.0, 0.0], arc]), _shaded(colour, 0.92)))
        start -= 2 * math.pi * share
    return found


def _lit(colour: Colour, light: float) -> Colour:
    """Return a colour from the rim (0) to the highlight (1) of a ball."""
    shaded = _shaded(colour, 0.68 + 0.32 * min(1.0, light * 2.0))
    glow = 0.0 if light < 0.5 else ((light - 0.5) / 0.5) ** 2 * 0.75
    return _towards(shaded, 1.0, glow)


def _shaded(colour: Colour, brightness: float) -> Colour:
    if brightness <= 1:
        return (colour[0] * brightness, colour[1] * brightness, colour[2] * brightness)
    return _towards(colour, 1.0, brightness - 1)


def _towards(colour: Colour, goal: float, share: float) -> Colour:
    red, green, blue = (own + (goal - own) * share for own in colour)
    return (red, green, blue)


def _mixed(shares: Sequence[tuple[str, float]]) -> Colour:
    """Return the colour of the element that a site mostly is."""
    return to_rgb(element_colour(max(shares, key=lambda own: own[1])[0]))


def _normal(along: np.ndarray) -> np.ndarray | None:
    """Return the unit vector across a direction in the plane; None where it has no length."""
    length = float(np.hypot(*along))
    return None if length < 1e-6 else np.array([-along[1], along[0]]) / length


def _bar(start: np.ndarray, end: np.ndarray, across: np.ndarray) -> np.ndarray:
    return np.array([start + across, end + across, end - across, start - across])
