"""Drawing a graph of versions as text: one lane per line of descent, children above parents."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)

_LEFT, _RIGHT, _UP, _DOWN = 1, 2, 4, 8
_STROKES = {
    0: " ",
    _UP | _DOWN: "│",
    _LEFT | _RIGHT: "─",
    _UP | _DOWN | _LEFT | _RIGHT: "┼",
    _UP | _DOWN | _RIGHT: "├",
    _UP | _DOWN | _LEFT: "┤",
    _LEFT | _DOWN: "╮",
    _RIGHT | _DOWN: "╭",
    _LEFT | _UP: "╯",
    _RIGHT | _UP: "╰",
    _LEFT | _RIGHT | _DOWN: "┬",
    _LEFT | _RIGHT | _UP: "┴",
}
_DOT = "●"
_PLAIN = str.maketrans("●│─┼├┤╮╭╯╰┬┴", "*|-+||\\//\\++")


def lanes(nodes: Sequence[tuple[Node, Sequence[Node]]]) -> list[tuple[str, str, list[str]]]:
    """Lay a graph out in lanes.

    Args:
        nodes: each with its parents; every child stands before its parents. Parents that are not
            among the nodes leave no line.

    Returns:
        for each node what stands before its own line, before further lines of its text, and the
        lines that join lanes below it.
    """
    known = {node for node, _ in nodes}
    columns: list[Node | None] = []
    drawn: list[tuple[str, str, list[str]]] = []
    for node, stated in nodes:
        own = _lane(columns, node)
        here = _row([_lane_stroke(c) for c in columns], dot=own)
        beside = [_lane_stroke(c) for c in columns]
        parents = [p for p in dict.fromkeys(stated) if p in known and p != node]
        joins = []
        for parent in parents[1:]:
            was_there = parent in columns
            joins.append((_lane(columns, parent), was_there))
        ends = not parents
        columns[own] = None
        if parents and parents[0] in columns:
            joins.append((columns.index(parents[0]), True))
            ends = True
        elif parents:
            columns[own] = parents[0]
        beside += [0] * (len(columns) - len(beside))
        beside[own] = _UP | _DOWN if parents else 0
        text, lines = _row(beside), []
        for k, (place, was_there) in enumerate(joins, 1):
            strokes = list(beside)
            strokes[own] = _UP if ends and k == len(joins) else _UP | _DOWN
            strokes[place] = _UP | _DOWN if was_there else _DOWN
            lines.append(_row(strokes, line=(own, place)))
            beside[place] = _UP | _DOWN
        if not parents and len(drawn) + 1 < len(nodes):
            lines.append(text)  # so that what stands below is not taken for a parent
        drawn.append((here, text, lines))
        while columns and columns[-1] is None:
            columns.pop()
    return drawn


def plain(text: str) -> str:
    """Write a drawing in ASCII."""
    return text.translate(_PLAIN)


def _lane(columns: list[Node | None], node: Node) -> int:
    """Return the lane that awaits a node; else it takes a free one, or a new one."""
    if node not in columns:
        if None not in columns:
            columns.append(None)
        columns[columns.index(None)] = node
    return columns.index(node)


def _lane_stroke(awaited: object) -> int:
    return 0 if awaited is None else _UP | _DOWN


def _row(
    strokes: Sequence[int], *, dot: int | None = None, line: tuple[int, int] | None = None
) -> str:
    """Write one line of lanes, with a dot in one, or a line from one to another."""
    cells = list(strokes)
    gaps = [0] * len(cells)
    if line is not None:
        low, high = sorted(line)
        for i in range(low, high):
            cells[i] |= _RIGHT
            cells[i + 1] |= _LEFT
            gaps[i] = _LEFT | _RIGHT
    written = [_DOT if i == dot else _STROKES[cell] for i, cell in enumerate(cells)]
    return "".join(c + _STROKES[g] for c, g in zip(written, gaps, strict=True)).rstrip()
