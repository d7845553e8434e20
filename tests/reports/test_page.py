from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from gandb.reports import Picture, Report, page, tables
from tests.reports import samples

PNG = b"\x89PNG\r\n\x1a\nnot really"
PICTURE = Picture("checks-mp@1", PNG, "Bars: MatGAN 74.8%", "Shares passing.")
VOID = {"meta", "br", "img"}
LOADING = {"src", "href", "srcset", "action", "data", "poster", "background", "xlink:href"}


class Page(HTMLParser):
    """Parses a page, refusing what does not nest, and collects what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data)
            if {"td", "th"} & set(self.open):
                self.rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def parse(report: Report) -> Page:
    return Page(page.render(report, [PICTURE]))


def test_the_page_has_its_parts_in_order() -> None:
    parsed = parse(samples.report())
    assert parsed.texts["h1"] == ["MatGAN beside its baselines"]
    assert parsed.texts["title"] == parsed.texts["h1"]
    assert parsed.texts["h2"] == [
        "Comparison",
        "Figures",
        "Training sets",
        "Runs",
        "What the numbers mean",
        "Recipes",
        "How to reproduce",
    ]
    assert parsed.texts["p"][0].startswith("MatGAN 74.8 ± 0.4% strict CNEN, 8.1 points above")
    assert "does not beat its baselines" in parsed.texts["p"][1]


def test_the_page_loads_nothing() -> None:
    text = page.render(samples.report(), [PICTURE])
    parsed = Page(text)
    for tag, attrs in parsed.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        for name, value in attrs.items():
            assert not name.startswith("on")
            if name in LOADING:
                assert (value or "").startswith("data:image/png;base64,")
    assert not re.search(r"https?:|url\(|@import", text)
    (policy,) = [m["content"] for m in parsed.all("meta") if "http-equiv" in m]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_images_are_the_pictures_and_have_alternatives() -> None:
    parsed = parse(samples.report())
    (image,) = parsed.all("img")
    assert image["alt"] == PICTURE.alt
    assert base64.b64decode((image["src"] or "").split(",")[1]) == PNG
    assert parsed.texts["figcaption"] == [PICTURE.caption]


def test_every_line_has_a_cell_per_column() -> None:
    rows = parse(samples.report()).rows
    head = next(i for i, row in enumerate(rows) if row[-1] == "recipe")
    assert rows[head] == [
        "",
        "MatGANN = 100,000seeds 0, 1, 2",
        "vs bestbaseline",
        "uniformN = 100,000seeds 0, 1, 2",
        "element frequencyN = 100,000seeds 0, 1, 2",
        "count given elementN = 100,000seeds 0, 1, 2",
        "substitutionN = 100,000seeds 0, 1, 2",
        "recipe",
    ]
    assert rows[head + 1] == ["validity"]
    assert rows[head + 2] == [
        "strict CNEN",
        "74.8 ± 0.4*",
        "+8.1",
        "21.9 ± 0.1",
        "54.2 ± 0.1",
        "66.7 ± 0.1",
        "64.1 ± 0.1",
        "1a2b3c40",
    ]
    for row in rows[head + 1 : head + 21]:
        assert len(row) in {1, 8}


def test_recipes_are_given_in_full() -> None:
    rows = parse(samples.report()).rows
    for name, recipe_id in samples.RECIPES.items():
        (row,) = [row for row in rows if row[0] == name]
        assert row[1:3] == ["1", recipe_id]
        assert row[3] == "alloys = false, reduce = true"
        if name.startswith("cnen"):
            assert row[4] == "icsd24_filtered.csv " + "ab" * 32


def test_runs_name_job_seed_and_rejections() -> None:
    rows = parse(samples.report()).rows
    (row,) = [row for row in rows if row[0] == "0600cafe" and row[4:5] == ["mp@1"]]
    assert row[1:] == [
        "matgan",
        "model",
        "compact",
        "mp@1",
        "0",
        "100,000",
        "empty 12, more than 8 elements 3",
    ]
    assert next(row for row in rows if row[0] == "0700cafe")[-1] == "none"


def test_commands_are_shown_as_given() -> None:
    parsed = parse(samples.report())
    assert parsed.texts["code"] == ["\n".join(samples.report().commands)]


@pytest.mark.parametrize(
    "evil", ["<script>alert(1)</script>", "\"><img src=x onerror='x'>", "&lt;"]
)
def test_every_text_is_escaped(evil: str) -> None:
    base = samples.report()
    runs = tuple(
        replace(
            run,
            dataset=evil,
            model=evil,
            config=evil,
            job_id=evil,
            seed=i,
            training_seed=None,
            novelty_reference=evil,
            rejections={evil: 1},
            divergences={evil: 0.1},
            checks={**run.checks, evil: run.checks["cnen_strict"]},
            recipes={**run.recipes, evil: run.recipes["cnen_strict"]},
        )
        for i, run in enumerate(base.runs)
    )
    recipes = (
        *base.recipes,
        replace(
            base.recipes[0],
            id=evil,
            name=evil,
            version=evil,
            description=evil,
            parameters={evil: evil},
            data_files={evil: evil},
        ),
    )
    report = Report(
        title=evil,
        runs=runs,
        datasets=(replace(base.datasets[0], ref=evil, attribution=evil, checks={evil: 0.5}),),
        recipes=recipes,
        commands=(evil,),
        provenance=((evil, evil),),
        headline_check=evil,
    )
    text = page.render(report, [Picture(evil, PNG, evil, evil)])
    parsed = Page(text)
    assert {tag for tag, _ in parsed.tags} == {
        tag for tag, _ in Page(page.render(base, [PICTURE])).tags
    }
    assert len(parsed.all("img")) == 1
    assert parsed.all("img")[0]["alt"] == evil
    assert parsed.texts["h1"] == [evil]
    assert parsed.texts["code"] == [evil]


def test_missing_values_are_dashes() -> None:
    base = samples.report()
    runs = tuple(
        replace(r, holdout_recovery=None) if r.model == "uniform" else r for r in base.runs
    )
    rows = parse(replace(base, runs=runs)).rows
    recovered = next(row for row in rows if row[0] == "held-out recovered")
    assert recovered[3] == tables.MISSING
    assert recovered[4].startswith("20.0")


def test_a_report_of_nothing_is_still_a_page() -> None:
    parsed = Page(page.render(Report("Empty", ())))
    assert parsed.texts["p"] == ["There is no run to report."]
    assert parsed.all("table") == []


def test_the_same_report_is_the_same_page() -> None:
    assert page.render(samples.report(), [PICTURE]) == page.render(samples.report(), [PICTURE])
