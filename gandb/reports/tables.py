"""The comparison table, three ways: for a terminal, as plain data for JSON, and as HTML.

Columns are generators, models first with their difference from the best baseline beside them; lines
are quantities. N and seeds head every column and every line has its recipe.
"""

from __future__ import annotations

from html import escape
from textwrap import wrap
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from gandb.reports.comparison import Block, Cell, Row, compare, seeds_phrase
from gandb.reports.metrics import Metric, Unit, percent
from gandb.reports.records import Report, Role, short_id

MISSING = "\N{EM DASH}"
BEST = "*"
_CRYSTAL_UNITS = (
    "Values in % of all N samples, what is no crystal included; averages in the unit named, "
    "over the crystals. Only checks that judged all crystals of a run are given."
)


def write_value(cell: Cell, metric: Metric, plus_minus: str = " ± ") -> str:
    """Write mean and spread of a cell in % or thousandths of a bit; an em dash without a value."""
    if cell.estimate is None:
        return MISSING
    mean, spread = cell.estimate.mean, cell.estimate.spread
    digits = 2 if metric.unit is Unit.PLAIN else 1
    scale = metric.unit.scale
    text = percent(mean) if metric.unit is Unit.PERCENT else f"{scale * mean:.{digits}f}"
    return text if spread is None else f"{text}{plus_minus}{scale * spread:.{digits}f}"


def write_difference(cell: Cell, metric: Metric) -> str:
    """Write the signed difference from the best baseline in the same unit; or an em dash."""
    if cell.difference is None:
        return MISSING
    text = f"{metric.unit.scale * cell.difference.value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def notes(block: Block) -> tuple[str, ...]:
    """Return the sentences that belong under a block: units, marks, seeds, references."""
    lines = [
        _CRYSTAL_UNITS if block.of_crystals else "Values in %, JSD in thousandths of a bit.",
        f"{BEST} best of the line among equal N and recipe.",
    ]
    if any(len(row.runs) > 1 for row in block.rows):
        lines.append("± sample standard deviation over seeds.")
    if any(row.role is Role.MODEL for row in block.rows):
        lines.append("vs best: model minus best baseline, in percentage points.")
    references = dict.fromkeys(
        run.novelty_reference for row in block.rows for run in row.runs if run.novelty
    )
    if references:
        lines.append(f"Novel: not in {', '.join(references)}.")
    for i, row in enumerate(block.rows):
        for metric in block.metrics:
            estimate = block.cell(i, metric).estimate
            if estimate is not None and estimate.n_seeds < len(row.runs):
                lines.append(
                    f"{row.label}, {metric.label}: {estimate.n_seeds} of {len(row.runs)} seeds."
                )
    return tuple(lines)


def terminal(report: Report) -> Group:
    """Return the table for a terminal, one part per training set; printing is the caller's."""
    return Group(*(part for block in compare(report) for part in _terminal_block(block)))


def plain(report: Report) -> list[dict[str, Any]]:
    """Return one dict per generator, for ``--json``: shares from 0 to 1, None where missing."""
    return [
        {
            "dataset": block.dataset,
            "label": row.label,
            "model": row.model,
            "role": row.role.value,
            "config": row.config,
            "n_samples": row.n_samples,
            "seeds": list(row.seeds),
            "jobs": [run.job_id for run in row.runs],
            "metrics": {
                metric.key: _plain_cell(block.cell(i, metric), metric) for metric in block.metrics
            },
        }
        for block in compare(report)
        for i, row in enumerate(block.rows)
    ]


def html(block: Block) -> str:
    """Return one block as an HTML table in a frame that scrolls; all text is escaped."""
    lines = [
        '<div class="scroll" role="region" tabindex="0"'
        f' aria-label="Comparison on {escape(block.dataset)}"><table class="comparison">',
        f"<caption>Generators trained on {escape(block.dataset)}{_training_size(block)}</caption>",
        f'<thead><tr><th scope="col"></th>{_html_heads(block)}<th scope="col">recipe</th></tr>'
        "</thead>",
    ]
    section = ""
    for metric in block.metrics:
        if metric.section != section:
            section = metric.section
            if "<tbody>" in lines:
                lines.append("</tbody>")
            width = 2 + sum(1 + (row.role is Role.MODEL) for row in block.rows)
            lines += [
                "<tbody>",
                f'<tr class="section"><th scope="rowgroup" colspan="{width}">'
                f"{escape(section)}</th></tr>",
            ]
        lines.append(_html_line(block, metric))
    if section:
        lines.append("</tbody>")
    lines.append("</table></div>")
    lines.append(f'<p class="notes">{escape(" ".join(notes(block)))}</p>')
    return "\n".join(lines)


def _terminal_block(block: Block) -> list[Table | Text]:
    table = Table(
        title=f"Trained on {block.dataset}{_training_size(block)}",
        box=box.SIMPLE_HEAD,
        padding=0,
        title_justify="left",
        show_edge=False,
    )
    table.add_column("", min_width=13)
    for row in block.rows:
        name = "\n".join(wrap(row.label, 12, break_long_words=False))
        head = f"{name}\nN={row.n_samples:,}\n{seeds_phrase(row)}"
        style = "bold" if row.role is Role.MODEL else ""
        table.add_column(Text(head, style), justify="right")
        if row.role is Role.MODEL:
            table.add_column("vs\nbest", justify="right", no_wrap=True)
    section = ""
    for metric in block.metrics:
        if metric.section != section:
            section = metric.section
            table.add_row(Text(section, "italic"))
        cells: list[Text] = [Text(metric.label)]
        for i, row in enumerate(block.rows):
            cell = block.cell(i, metric)
            mark = BEST if cell.best else " "
            text = write_value(cell, metric, "±") + _recipe_mark(block, metric, cell)
            cells.append(Text(text + mark, "bold" if cell.best else ""))
            if row.role is Role.MODEL:
                style = {"better": "green", "worse": "red", "even": ""}[_kind(cell, metric)]
                cells.append(Text(write_difference(cell, metric), style))
        table.add_row(*cells)
    foot = f"{' '.join(notes(block))}\nSeeds: {_seeds(block)}.\nRecipes: {_recipe_list(block)}.\n"
    return [table, Text(foot, "dim")]


def _seeds(block: Block) -> str:
    """Say which seeds each generator had, once if they are the same."""
    if len({row.seeds for row in block.rows}) == 1:
        return ", ".join(block.rows[0].seeds)
    return "; ".join(f"{row.label} {', '.join(row.seeds)}" for row in block.rows)


def _kind(cell: Cell, metric: Metric) -> str:
    """Say whether the difference shown is for the better, for the worse, or none."""
    if cell.difference is None or write_difference(cell, metric) == "0.0":
        return "even"
    return "better" if cell.difference.better else "worse"


def _recipe_mark(block: Block, metric: Metric, cell: Cell) -> str:
    """Return the number of a cell's recipe where the line has several, else nothing."""
    recipes = block.recipes(metric)
    if cell.recipe is None or len(recipes) < 2:
        return ""
    return f" {_numbered(recipes.index(cell.recipe))}"


def _numbered(index: int) -> str:
    return f"({index + 1})"


def _recipe_names(block: Block, metric: Metric) -> str:
    recipes = block.recipes(metric)
    if len(recipes) < 2:
        return "".join(map(short_id, recipes)) or MISSING
    return ", ".join(f"{_numbered(i)} {short_id(recipe)}" for i, recipe in enumerate(recipes))


def _recipe_list(block: Block) -> str:
    """Name the recipes of a block once each, in the order of the table."""
    named = {m.recipe: _recipe_names(block, m) for m in block.metrics if m.recipe}
    return ", ".join(f"{name} {ids}" for name, ids in named.items())


def _training_size(block: Block) -> str:
    return "" if block.summary is None else f" ({block.summary.n_train:,} compositions)"


def _plain_cell(cell: Cell, metric: Metric) -> dict[str, Any] | None:
    if cell.estimate is None:
        return None
    difference = None
    if cell.difference is not None:
        difference = {
            "baseline": cell.difference.baseline,
            "value": cell.difference.value,
            "better": cell.difference.better,
        }
    return {
        "mean": cell.estimate.mean,
        "spread": cell.estimate.spread,
        "n_seeds": cell.estimate.n_seeds,
        "unit": "share" if metric.unit is Unit.PERCENT else "bit",
        "recipe": cell.recipe,
        "best": cell.best,
        "difference_from_best_baseline": difference,
    }


def _html_heads(block: Block) -> str:
    heads = []
    for row in block.rows:
        seeds = f"seed{'s' * (len(row.seeds) > 1)} {', '.join(row.seeds)}"
        facts = f"N = {row.n_samples:,}<br>{escape(seeds)}"
        label = f"{escape(row.label)}<small>{facts}</small>"
        heads.append(f'<th scope="col" class="{row.role.value}">{label}</th>')
        if row.role is Role.MODEL:
            heads.append('<th scope="col" class="model">vs best<small>baseline</small></th>')
    return "".join(heads)


def _html_line(block: Block, metric: Metric) -> str:
    cells = [f'<tr><th scope="row" title="{escape(metric.meaning)}">{escape(metric.label)}</th>']
    for i, row in enumerate(block.rows):
        cells.append(_html_cells(block, metric, row, block.cell(i, metric)))
    cells.append(f'<td class="recipe">{escape(_recipe_names(block, metric))}</td></tr>')
    return "".join(cells)


def _html_cells(block: Block, metric: Metric, row: Row, cell: Cell) -> str:
    text = escape(write_value(cell, metric) + _recipe_mark(block, metric, cell))
    if cell.best:
        text = f'<strong>{text}<span class="mark" title="best of the line">{BEST}</span></strong>'
    out = f'<td class="{row.role.value}">{text}</td>'
    if row.role is Role.MODEL:
        against = f' title="against {escape(cell.difference.baseline)}"' if cell.difference else ""
        difference = escape(write_difference(cell, metric))
        out += f'<td class="model {_kind(cell, metric)}"{against}>{difference}</td>'
    return out
