"""One self-contained HTML page: headline, table, figures, recipes, how to reproduce.

It loads nothing: images are data URIs, styles are inline, there is no script. A content security
policy in the page says so to the browser. Every text that comes from outside is escaped.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape

from gandb.reports import judgement_tables, novelty_tables, tables
from gandb.reports.comparison import Block, Row, compare, headlines
from gandb.reports.metrics import Metric, check_label, percent
from gandb.reports.novelty_comparison import by_reference, meanings
from gandb.reports.records import DatasetSummary, Picture, Recipe, Report, Run, short_id

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --soft: #5b5b5b;
  --line: #d4d4d4; --tint: #eef4f9; --accent: #005a8f; --good: #00694b; --bad: #b03a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181a; --soft: #a9adb1;
  --line: #3a3f44; --tint: #1f2a33; --accent: #7cc4f2; --good: #5fd3a8; --bad: #ff9d66; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.5rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0.75rem; padding-bottom: 0.25rem;
  border-bottom: 1px solid var(--line); }
p.headline { font-size: 1.15rem; margin: 0.5rem 0; padding: 0.7rem 1rem; background: var(--tint);
  border-left: 4px solid var(--accent); overflow-wrap: anywhere; }
p.notes, figcaption, small, .recipe { color: var(--soft); }
p.notes, figcaption { font-size: 0.9rem; max-width: 70rem; }
.scroll { overflow-x: auto; }
.scroll:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0.3rem 0; }
th, td { padding: 0.28rem 0.7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { vertical-align: bottom; white-space: normal; min-width: 5.5rem; }
th small { display: block; white-space: nowrap; font-weight: 400; font-size: 0.8rem; }
tbody th, .left td, .left th { text-align: left; font-weight: 500; }
.left td { white-space: normal; overflow-wrap: anywhere; min-width: 6rem; font-weight: 400; }
tr.section th { padding-top: 1rem; color: var(--accent); font-weight: 600; }
table.comparison tbody th { position: sticky; left: 0; background: var(--paper); }
td.model, thead th.model { background: var(--tint); }
td.better { color: var(--good); } td.worse { color: var(--bad); }
.mark { color: var(--accent); }
code, pre { font: 0.88rem/1.5 ui-monospace, "SFMono-Regular", "DejaVu Sans Mono", monospace; }
pre { background: var(--tint); padding: 0.8rem 1rem; overflow-x: auto; }
figure { margin: 1.25rem 0 2rem; }
figure img { max-width: 100%; height: auto; display: block; background: #ffffff; padding: 0.4rem;
  border: 1px solid var(--line); }
figure.wide .scroll img { max-width: none; width: 100%; min-width: 52rem; }
dt { font-weight: 600; margin-top: 0.6rem; } dd { margin: 0 0 0 1.2rem; }
@media print { main { max-width: none; padding: 0; } figure, tr { break-inside: avoid; }
  .scroll { overflow: visible; } p.headline, td.model, th.model { print-color-adjust: exact; } }
"""


def render(report: Report, pictures: Sequence[Picture] = ()) -> str:
    """Return the page as HTML text, to be written as UTF-8."""
    blocks = compare(report)
    title = escape(report.title)
    body = [
        f"<h1>{title}</h1>",
        *(f'<p class="headline">{escape(line)}</p>' for line in headlines(report)),
        *_section("Comparison", (tables.html(own) for own in blocks if not own.of_crystals)),
        *_section("Crystals", (tables.html(own) for own in blocks if own.of_crystals)),
        *_section(novelty_tables.HEADING, novelty_tables.html(report)),
        *_section(judgement_tables.HEADING, judgement_tables.html(report)),
        *_section("Figures", map(_figure, pictures)),
        *_section("Training sets", _datasets(report.datasets)),
        *_section("References", _references(report)),
        *_section("Runs", _runs(blocks)),
        *_section("What the numbers mean", _meanings(report, blocks)),
        *_section("Recipes", _recipes(report.recipes)),
        *_section("How to reproduce", _reproduction(report)),
    ]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>",
            f"<style>{_STYLE}</style></head>",
            "<body><main>",
            *body,
            "</main></body></html>",
            "",
        ]
    )


def _section(heading: str, parts: Iterable[str]) -> list[str]:
    """Return a heading with its parts, or nothing where there are none."""
    content = list(parts)
    return [f"<h2>{escape(heading)}</h2>", *content] if content else []


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    alt = escape(picture.alt)
    return (
        '<figure class="wide"><div class="scroll" role="region" tabindex="0" '
        f'aria-label="{escape(picture.name)}">'
        f'<img alt="{alt}" src="data:image/png;base64,{data}"></div>'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _table(label: str, heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a plain table of text; every cell is escaped here."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    rows = []
    for first, *rest in lines:
        cells = "".join(f"<td>{escape(text)}</td>" for text in rest)
        rows.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">'
        f'<table class="left"><thead><tr>{head}</tr></thead><tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )


def _datasets(datasets: Sequence[DatasetSummary]) -> list[str]:
    if not datasets:
        return []
    heads = ("version", "training compositions", "held out", "pass the checks", "origin")
    lines = [
        (
            dataset.ref,
            f"{dataset.n_train:,}",
            tables.MISSING if dataset.n_test is None else f"{dataset.n_test:,}",
            ", ".join(f"{check_label(k)} {percent(v)}%" for k, v in dataset.checks.items())
            or tables.MISSING,
            dataset.attribution or tables.MISSING,
        )
        for dataset in datasets
    ]
    return [_table("Training sets", heads, lines)]


def _references(report: Report) -> list[str]:
    lines = [
        (
            reference.words,
            f"{reference.n_structures:,}",
            reference.tolerances,
            ", ".join(line.label for line in compared),
            reference.attribution or tables.MISSING,
        )
        for reference, compared in by_reference(report)
    ]
    heads = ("reference", "structures", "what is the same", "compared with it", "origin")
    return [_table("References", heads, lines)] if lines else []


def _runs(blocks: Sequence[Block]) -> list[str]:
    lines = [_run_line(row, run) for block in blocks for row in block.rows for run in row.runs]
    heads = ("job", "generator", "role", "configuration", "training set", "seed", "N", "rejected")
    return [_table("Runs", heads, lines)] if lines else []


def _run_line(row: Row, run: Run) -> tuple[str, ...]:
    if run.rejections is None:
        rejected = tables.MISSING
    elif not any(run.rejections.values()):
        rejected = "none"
    else:
        reasons = sorted(run.rejections.items(), key=lambda item: (-item[1], item[0]))
        rejected = ", ".join(f"{name} {count:,}" for name, count in reasons if count)
    return (
        short_id(run.job_id),
        run.model,
        row.role.value,
        run.config or tables.MISSING,
        run.dataset,
        run.seed_label,
        f"{run.n_samples:,}",
        rejected,
    )


def _meanings(report: Report, blocks: Sequence[Block]) -> list[str]:
    metrics: dict[str, Metric] = {m.key: m for block in blocks for m in block.metrics}
    terms = [(metric.label, metric.meaning) for metric in metrics.values()]
    lists = [terms, meanings(report)]
    return ["<dl>" + "".join(map(_term, own)) + "</dl>" for own in lists if own]


def _term(term: tuple[str, str]) -> str:
    return f"<dt>{escape(term[0])}</dt><dd>{escape(term[1])}</dd>"


def _recipes(recipes: Sequence[Recipe]) -> list[str]:
    if not recipes:
        return []
    heads = ("name", "version", "recipe", "parameters", "data files (SHA-256)", "what it decides")
    lines = [
        (
            recipe.name,
            recipe.version,
            recipe.id,
            _parameters(recipe),
            ", ".join(f"{name} {digest}" for name, digest in recipe.data_files.items())
            or tables.MISSING,
            recipe.description or tables.MISSING,
        )
        for recipe in recipes
    ]
    return [_table("Recipes", heads, lines)]


def _parameters(recipe: Recipe) -> str:
    pairs = (f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in recipe.parameters.items())
    return ", ".join(pairs) or tables.MISSING


def _reproduction(report: Report) -> list[str]:
    parts = []
    if report.commands:
        parts.append(f"<pre><code>{escape(chr(10).join(report.commands))}</code></pre>")
    if report.provenance:
        parts.append(_table("Provenance", ("fact", "value"), report.provenance))
    return parts
