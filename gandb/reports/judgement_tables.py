"""Tables of S.U.N. and of coverage: for a terminal, as plain data, as HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from gandb.reports.judgement_records import Coverage, Judgements, Stable
from gandb.reports.records import Report, Role, short_id
from gandb.reports.sun_estimates import Estimate

HEADING = "Stable, unique and new; coverage"
MISSING = "\N{EM DASH}"
_ESTIMATOR = (
    "Shares in %, with intervals at 95%. n: valid, unique and novel of the N samples; m: those of "
    "them that were relaxed and compared with the hull, taken to be a random sample of the n. "
    "S.U.N. = (n / N) (k / m) with k the stable ones of the m: intervals are Wilson's, of the "
    "product by MOVER. Not converged, failed or without a reference counts as not stable."
)
_COVERAGE = (
    "COV-R: share of real structures with a generated one within the cut-offs of both prints; "
    "COV-P: share of all samples with a real one. W: Wasserstein distance between valid samples "
    "and the real structures."
)


@dataclass(frozen=True)
class Grid:
    """A table as text.

    Attributes:
        title: above it.
        heads: of the columns after the first, which has the labels.
        lines: label, role, cells.
        notes: under it.
    """

    title: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, Role, tuple[str, ...]], ...]
    notes: str


def grids(judgements: Judgements | None) -> list[Grid]:
    """Return the tables that there is something for."""
    if judgements is None:
        return []
    found = [_stable(judgements.stable)] if judgements.stable else []
    sets = dict.fromkeys(own.against for own in judgements.coverage)
    found += [_coverage([own for own in judgements.coverage if own.against == s]) for s in sets]
    return found


def terminal(report: Report) -> Group:
    """Return the tables for a terminal."""
    parts: list[Table | Text] = []
    for grid in grids(report.judgements):
        table = Table(
            title=grid.title, box=box.SIMPLE_HEAD, padding=0, title_justify="left", show_edge=False
        )
        table.add_column("")
        for head in grid.heads:
            table.add_column(head.replace(" ", "\n"), justify="right")
        for label, role, cells in grid.lines:
            style = "bold" if role is Role.MODEL else ""
            table.add_row(Text(_name(label, role), style), *(c.replace(" [", "\n[") for c in cells))
        parts += [table, Text(f"{grid.notes}\n", "dim")]
    return Group(*parts)


def html(report: Report) -> list[str]:
    """Return the tables as HTML; all text is escaped."""
    found = []
    for grid in grids(report.judgements):
        heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in grid.heads)
        rows = "\n".join(
            f'<tr><th scope="row">{escape(_name(label, role))}</th>'
            + "".join(f'<td class="{role.value}">{escape(cell)}</td>' for cell in cells)
            + "</tr>"
            for label, role, cells in grid.lines
        )
        found.append(
            f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(grid.title)}">'
            f'<table class="comparison"><caption>{escape(grid.title)}</caption>'
            f'<thead><tr><th scope="col"></th>{heads}</tr></thead>\n<tbody>{rows}</tbody></table>'
            f'</div><p class="notes">{escape(grid.notes)}</p>'
        )
    return found


def plain(report: Report) -> list[dict[str, Any]]:
    """Return one dict per checkpoint and table, for ``--json``: shares from 0 to 1."""
    if report.judgements is None:
        return []
    found: list[dict[str, Any]] = [
        {
            "label": own.label,
            "role": own.role.value,
            "n_samples": own.table.samples,
            "n_crystals": own.table.candidates,
            "n_passed": own.table.passed,
            "n_relaxed": own.table.relaxed,
            "recipes": dict(own.table.recipes.words),
            "sun": {
                line.what: {
                    "count": line.count,
                    "of": line.total,
                    "value": _number(line.estimate.value),
                    "low": _number(line.estimate.low),
                    "high": _number(line.estimate.high),
                }
                for line in own.table.lines
            },
        }
        for own in report.judgements.stable
    ]
    found += [
        {
            "label": own.label,
            "role": own.role.value,
            "against": own.against,
            "n_samples": own.n_samples,
            "n_compared": own.n_compared,
            "n_reference": own.n_reference,
            "recipe": own.recipe,
            "coverage": dict(own.values),
        }
        for own in report.judgements.coverage
    ]
    return found


def _stable(listed: Sequence[Stable]) -> Grid:
    kinds = ["valid, unique and novel"]
    kinds += [
        line.what
        for line in listed[0].table.lines
        if line.what.startswith("S.U.N.") or line.what.endswith("), of those relaxed")
    ]
    lost = [why for why in listed[0].table.unjudged if any(o.table.unjudged[why] for o in listed)]
    lines = []
    for own in listed:
        known = {line.what: line.estimate for line in own.table.lines}
        cells = (
            f"{own.table.samples:,}",
            f"{own.table.passed:,}",
            f"{own.table.relaxed:,}",
            *(f"{own.table.unjudged[why]:,}" for why in lost),
            *(_estimate(known.get(kind)) for kind in kinds),
        )
        lines.append((own.label, own.role, cells))
    words: dict[str, None] = {}
    for own in listed:
        for kind, text in own.table.recipes.words.items():
            words.setdefault(f"{kind}: {text}")
    notes = f"{_ESTIMATOR} By {'; '.join(words)}."
    return Grid("Stable, unique and new", ("N", "n", "m", *lost, *kinds), tuple(lines), notes)


def _coverage(listed: Sequence[Coverage]) -> Grid:
    shares = {"coverage_recall": "COV-R", "coverage_precision": "COV-P"}
    distances = {
        name: f"W {name.removeprefix('wasserstein_').replace('_', ' ')}"
        for own in listed
        for name in sorted(own.values)
        if name.startswith("wasserstein_")
    }
    lines = []
    for own in listed:
        cells = [f"{own.n_samples:,}", f"{own.n_compared:,}", f"{own.n_reference:,}"]
        for name in shares:
            value = own.values.get(name)
            cells.append(MISSING if value is None else f"{100 * value:.1f}")
        for name in distances:
            value = own.values.get(name)
            cells.append(MISSING if value is None else f"{value:.3f}")
        lines.append((own.label, own.role, tuple(cells)))
    heads = ("N", "compared", "real", *(f"{own} (%)" for own in shares.values()),
             *distances.values())  # fmt: skip
    recipes = ", ".join(dict.fromkeys(short_id(own.recipe) for own in listed))
    notes = f"{_COVERAGE} Recipe: {recipes}."
    return Grid(f"Coverage of {listed[0].against}", heads, tuple(lines), notes)


def _estimate(found: Estimate | None) -> str:
    if found is None or math.isnan(found.value):
        return MISSING
    return f"{100 * found.value:.2f} [{100 * found.low:.2f}, {100 * found.high:.2f}]"


def _name(label: str, role: Role) -> str:
    return label if role is Role.MODEL else f"{label} (baseline)"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
