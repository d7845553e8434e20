"""Unique, novel and graded novelty of structures: for a terminal, as plain data, as HTML.

A table is about one reference and one way of matching; its lines are generators, models first.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from gandb.reports.metrics import percent
from gandb.reports.novelty_comparison import MEANINGS, by_reference, columns, notes, share
from gandb.reports.records import Novelty, Reference, Report, Role, short_id

HEADING = "Structures: unique, novel and graded novelty"


def terminal(report: Report) -> Group:
    """Return one table per reference for a terminal."""
    return Group(*(part for pair in by_reference(report) for part in _terminal_part(*pair)))


def plain(report: Report) -> list[dict[str, Any]]:
    """Return one dict per generator and reference, for ``--json``: shares from 0 to 1."""
    return [
        {
            "against": reference.words,
            "label": line.label,
            "model": line.model,
            "role": line.role.value,
            "n_samples": line.n_samples,
            "n_candidates": line.n_candidates,
            "n_reference": reference.n_structures,
            "jobs": [line.job_id],
            "recipe": reference.recipe,
            "matching": reference.tolerances,
            "metrics": {
                **{f"structure_uniqueness@{n}": v for n, v in line.uniqueness.items()},
                "structure_uniqueness_greedy": line.greedy,
                "unique_and_novel": line.unique_and_novel,
                "structure_novelty": line.novel,
                **{f"novelty_{grade}": v for grade, v in line.grades.items()},
            },
        }
        for reference, lines in by_reference(report)
        for line in lines
    ]


def html(report: Report) -> list[str]:
    """Return one HTML table per reference; all text is escaped."""
    parts = []
    for reference, lines in by_reference(report):
        heads = columns(lines)
        cells = "".join(_html_head(head) for head in heads)
        rows = "\n".join(_html_line(line, heads) for line in lines)
        name = escape(f"Against {reference.words}")
        parts.append(
            f'<div class="scroll" role="region" tabindex="0" aria-label="{name}">'
            f'<table class="comparison"><caption>{name}</caption>'
            '<thead><tr><th scope="col"></th><th scope="col">N</th>'
            f'{cells}<th scope="col">recipe</th></tr></thead>\n'
            f"<tbody>{rows}</tbody></table></div>"
            f'<p class="notes">{escape(" ".join(notes(reference, lines)))}</p>'
        )
    return parts


def _terminal_part(reference: Reference, lines: Sequence[Novelty]) -> list[Table | Text]:
    heads = columns(lines)
    table = Table(
        title=f"Against {reference.words}",
        box=box.SIMPLE_HEAD,
        padding=0,
        title_justify="left",
        show_edge=False,
    )
    table.add_column("")
    table.add_column("N", justify="right")
    for head in heads:
        table.add_column(_broken(head), justify="right")
    for line in lines:
        cells = [percent(share(line, head)) for head in heads]
        style = "bold" if line.role is Role.MODEL else ""
        table.add_row(Text(_name(line), style), f"{line.n_samples:,}", *cells)
    foot = f"{' '.join(notes(reference, lines))}\nRecipe: {short_id(reference.recipe)}.\n"
    return [table, Text(foot, "dim")]


def _broken(head: str) -> str:
    """Break a head into lines, so that the table stays narrow."""
    long = {"prototype": "proto-\ntype", "substitution": "substi-\ntution",
            "composition": "compo-\nsition", "structure": "struc-\nture"}  # fmt: skip
    return long.get(head, head.replace(" ", "\n"))


def _name(line: Novelty) -> str:
    return line.label if line.role is Role.MODEL else f"{line.label} (baseline)"


def _html_head(head: str) -> str:
    meaning = MEANINGS.get(head, "The same among the first samples.")
    return f'<th scope="col" title="{escape(meaning)}">{escape(head)}</th>'


def _html_line(line: Novelty, heads: Sequence[str]) -> str:
    kind = line.role.value
    cells = "".join(f'<td class="{kind}">{percent(share(line, head))}</td>' for head in heads)
    return (
        f'<tr><th scope="row">{escape(_name(line))}</th>'
        f'<td class="{kind}">{line.n_samples:,}</td>{cells}'
        f'<td class="recipe">{escape(short_id(line.reference.recipe))}</td></tr>'
    )
