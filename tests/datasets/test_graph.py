"""Drawings of graphs: lanes that anyone can follow by eye, and that a walker follows by line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gandb.datasets.graph import lanes, plain

_UP, _DOWN = "│┼├┤╯╰┴", "│┼├┤╮╭┬"
_LEFT, _RIGHT = "─┼┤╮╯┬┴", "─┼├╭╰┬┴"


def _drawn(nodes: list[tuple[str, list[str]]]) -> list[str]:
    lines = []
    for (name, _), (head, beside, joins) in zip(nodes, lanes(nodes), strict=True):
        lines += [f"{head} {name}", beside, *joins]
    return [line.rstrip() for line in lines]


def test_a_line_a_branch_and_a_merge() -> None:
    nodes = [("e", ["d", "c"]), ("d", ["b"]), ("c", ["b"]), ("b", ["a"]), ("a", [])]
    assert _drawn(nodes) == [
        "● e", "│", "├─╮",
        "● │ d", "│ │",
        "│ ● c", "│ │", "├─╯",
        "● b", "│",
        "● a", "",
    ]  # fmt: skip
    assert plain("├─╮●│╯") == "|-\\*|/"


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[str, list[str]]]:
    n = draw(st.integers(1, 12))
    nodes = []
    for i in range(n):
        later = [str(j) for j in range(i + 1, n)]
        some = st.lists(st.sampled_from(later), max_size=3, unique=True) if later else st.just([])
        nodes.append((str(i), draw(some)))
    return nodes


@given(graphs())
def test_lines_lead_from_every_node_to_its_parents(nodes: list[tuple[str, list[str]]]) -> None:
    rows: list[str] = []
    places: dict[tuple[int, int], str] = {}
    starts: dict[str, tuple[int, int]] = {}
    for (name, _), (head, beside, joins) in zip(nodes, lanes(nodes), strict=True):
        starts[name] = (len(rows), head.index("●"))
        places[starts[name]] = name
        rows += [head, beside, *joins]
    for name, parents in nodes:
        assert _reached(rows, places, starts[name]) >= set(parents)
    for row, column in starts.values():
        assert rows[row].count("●") == 1
        assert column % 2 == 0


def _reached(
    rows: list[str], places: dict[tuple[int, int], str], start: tuple[int, int]
) -> set[str]:
    """Return the nodes that lines lead to from below a node, never through another and never up."""

    def at(row: int, column: int) -> str:
        return rows[row][column] if row < len(rows) and 0 <= column < len(rows[row]) else " "

    found: set[str] = set()
    seen: set[tuple[int, int]] = set()
    waiting = [(start[0] + 1, start[1])]
    while waiting:
        here = waiting.pop()
        if here in seen:
            continue
        seen.add(here)
        if here in places:
            found.add(places[here])
            continue
        sign = at(*here)
        row, column = here
        if sign in _DOWN:
            waiting.append((row + 1, column))
        if sign in _LEFT and at(row, column - 1) in _RIGHT:
            waiting.append((row, column - 1))
        if sign in _RIGHT and at(row, column + 1) in _LEFT:
            waiting.append((row, column + 1))
    return found
