"""Structures in a report: what is read from a store, the tables, the sentences."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gandb.cli.report import choose_jobs
from gandb.core.errors import IntegrityError, NotFoundError, UsageError
from gandb.datasets import selection, versions
from gandb.identity.recipes import MatchRecipe
from gandb.jobs.records import Job
from gandb.reports import Report, Role, headlines, novelty_tables, page
from gandb.reports.collect import collect
from gandb.reports.collect_novelty import latest_jobs
from gandb.reports.novelty_comparison import by_reference, columns, common_number, notes
from gandb.store import Store
from gandb.tasks.candidates import candidates_job
from gandb.tasks.data import find_checkpoint
from gandb.tasks.identity import STANDARD
from gandb.tasks.keys import keys_job
from gandb.tasks.records import records_job
from gandb.tasks.structure_novelty import structure_novelty_job
from tests.reports import samples
from tests.reports.test_page import Page
from tests.tasks.labs import make_store, work

CUBE = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5))
FACES = ((0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5))


def poscar(edge: float, kinds: Sequence[str], places: Sequence[Sequence[float]] = CUBE) -> str:
    """Write a cubic POSCAR; sites of one kind stand together."""
    counts = {kind: list(kinds).count(kind) for kind in dict.fromkeys(kinds)}
    rows = "\n".join(" ".join(map(str, place)) for place in places)
    return (
        f"cube\n1.0\n{edge} 0 0\n0 {edge} 0\n0 0 {edge}\n{' '.join(counts)}\n"
        f"{' '.join(map(str, counts.values()))}\nDirect\n{rows}\n"
    )


def perovskite(edge: float, a: str, b: str, x: str) -> str:
    return poscar(edge, [a, b, x, x, x], (*CUBE, *FACES))


def written(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.vasp").write_text(text)
    return folder


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[Job]]:
    """A store with two sources, two external models and jobs on the novelty of their structures."""
    folder = tmp_path_factory.mktemp("lab")
    store = make_store(str(folder / "store"), folder)
    known = {"CsCl": poscar(4.12, ["Cs", "Cl"]), "SrTiO3": perovskite(3.9, "Sr", "Ti", "O")}
    others = {"CsBr": poscar(4.29, ["Cs", "Br"])}
    made = {
        "a-known": poscar(4.13, ["Cs", "Cl"]),
        "b-same": poscar(4.14, ["Cs", "Cl"]),
        "c-renamed": perovskite(4.0, "Ba", "Zr", "O"),
        "d-new": poscar(4.0, ["Cs", "Cl", "Cl"], ((0, 0, 0), (0.5, 0.5, 0.0), (0.5, 0.5, 0.3))),
    }
    work(store, records_job("mp", [written(folder / "mp", known)]))
    work(store, records_job("oqmd", [written(folder / "oqmd", others)]))
    work(store, candidates_job("crystalgen", [written(folder / "made", made)]))
    first = {"a": poscar(4.2, ["Cs", "I"])}
    work(store, candidates_job("othergen", [written(folder / "other", first)]))
    chosen = selection.by_condition(store, "source = 'mp'")
    versions.create(store, "salts", chosen, "salts")
    keys = keys_job(store)
    assert keys is not None
    work(store, keys)
    jobs = [
        judge(store, "crystalgen", ["entries"]),
        judge(store, "othergen", ["entries"]),
        judge(store, "crystalgen", ["salts@1", "othergen"]),
        judge(store, "crystalgen", ["entries"], MatchRecipe(stol=0.1, comparator="element")),
    ]
    return store, jobs


def judge(store: Store, model: str, against: Sequence[str], recipe: MatchRecipe = STANDARD) -> Job:
    (job,) = work(
        store, structure_novelty_job(store, find_checkpoint(store, model), against, recipe)
    )
    return job


@pytest.fixture(scope="module")
def report(lab: tuple[Store, list[Job]]) -> Report:
    return collect(*lab)


def text_of(report: Report, width: int = 100) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(novelty_tables.terminal(report))
    return console.export_text()


def test_what_a_store_says_of_structures(report: Report, lab: tuple[Store, list[Job]]) -> None:
    first = report.novelties[0]
    assert (first.label, first.role, first.n_samples) == ("crystalgen", Role.MODEL, 4)
    assert first.unique == first.greedy == 0.75
    assert first.unique_and_novel == 0.5
    assert first.novel == 0.5
    assert first.grades == {
        "known": 0.5, "structure": 0, "prototype": 0, "substitution": 0.25, "composition": 0.25,
    }  # fmt: skip
    assert first.job_id == str(lab[1][0].id)
    assert first.reference.words == "all entries of mp (2) and oqmd (1)"
    assert first.reference.n_structures == 3
    assert "ltol 0.2, stol 0.3, angle_tol 5°" in first.reference.tolerances
    assert "Materials Project" in first.reference.attribution
    assert "OQMD" in first.reference.attribution
    assert report.runs == ()


def test_a_reference_of_parts_is_named_with_all_of_them(report: Report) -> None:
    words = report.novelties[2].reference.words
    assert "OQMD" not in report.novelties[2].reference.attribution
    assert set(words.split("; ")) == {"salts@1 (2)", "candidates of othergen (1)"}


def test_every_reference_and_tolerance_is_a_table_of_its_own(report: Report) -> None:
    groups = by_reference(report)
    assert [[line.label for line in lines] for _, lines in groups] == [
        ["crystalgen", "othergen"], ["crystalgen"], ["crystalgen"],
    ]  # fmt: skip
    assert "stol 0.1" in groups[2][0].tolerances
    assert {recipe.name for recipe in report.recipes} == {"structure_novelty", "identity"}


def test_commands_repeat_the_report(report: Report) -> None:
    assert report.commands[:4] == (
        "gandb novelty crystalgen --against entries",
        "gandb novelty othergen --against entries",
        *(command for command in report.commands if "salts@1" in command),
        "gandb novelty crystalgen --against entries --stol 0.1",
    )
    assert "--against othergen" in report.commands[2]
    assert report.commands[4].startswith("gandb report ")


def test_the_last_job_of_a_checkpoint_and_recipe_counts(
    lab: tuple[Store, list[Job]], tmp_path: Path
) -> None:
    store, jobs = lab
    assert [job.id for job in latest_jobs(store)] == [job.id for job in jobs]
    (imported,) = jobs[1].spec["jobs"]
    assert [job.id for job in latest_jobs(store, [imported])] == [jobs[1].id]


def test_a_job_of_another_kind_is_refused(lab: tuple[Store, list[Job]], tmp_path: Path) -> None:
    store, _ = lab
    (job,) = work(
        store, records_job("mp", [written(tmp_path / "x", {"a": poscar(3, ["Li", "F"])})])
    )
    with pytest.raises(UsageError, match="reports are about jobs of gandb generate"):
        collect(store, [job])
    novelty = find_checkpoint(store, "crystalgen")
    later = collect(store, [judge(store, novelty.model, ["salts@1"])])
    assert later.novelties[0].reference.n_structures == 2
    old = collect(store, latest_jobs(store)[:1])
    assert old.commands[0].endswith("# entries of that time: more were imported since")


def test_tables_hold_the_same_numbers(report: Report) -> None:
    terminal = text_of(report)
    assert "Against all entries of mp (2) and oqmd (1)" in terminal
    row = next(line for line in terminal.splitlines() if line.startswith("crystalgen"))
    numbers = ["4", "75.0", "75.0", "50.0", "50.0", "0.0", "0.0", "25.0", "25.0"]
    assert row.split()[1:] == numbers
    parsed = Page(page.render(report))
    assert novelty_tables.HEADING in parsed.texts["h2"]
    assert "Comparison" not in parsed.texts["h2"]
    assert ["crystalgen", *numbers, report.novelties[0].reference.recipe[:8]] in parsed.rows
    assert any(row[0] == report.novelties[0].reference.words for row in parsed.rows)
    (first, *_) = rows = novelty_tables.plain(report)
    assert len(rows) == 4
    assert first["metrics"]["structure_uniqueness@4"] == 0.75
    assert first["metrics"]["novelty_substitution"] == 0.25
    assert json.loads(json.dumps(rows)) == rows


def test_a_wide_table_fits_a_terminal_of_80(report: Report) -> None:
    assert max(map(len, text_of(report, 80).splitlines())) <= 80


def test_models_of_different_n_are_set_beside_each_other_at_one(report: Report) -> None:
    ours, theirs = report.novelties[:2]
    few = replace(ours, n_samples=100, uniqueness={10: 1.0, 50: 0.9, 100: 0.8})
    many = replace(theirs, n_samples=1_000, uniqueness={10: 1.0, 50: 0.7, 1_000: 0.2})
    assert common_number([few, many]) == 50
    assert columns([few, many])[:2] == ["unique", "unique at 50"]
    assert common_number([few, replace(few, label="x")]) is None
    text = text_of(replace(report, novelties=(few, many)))
    assert "90.0" in text
    assert "compare at one N" in " ".join(notes(few.reference, [few, many]))


def with_baseline(report: Report, share: float) -> Report:
    model = replace(report.novelties[0], n_samples=1_000, uniqueness={1_000: 0.75})
    baseline = replace(
        model, label="shuffle", model="shuffle", role=Role.BASELINE, unique_and_novel=share
    )
    return replace(report, novelties=(baseline, model))


def test_a_number_stands_beside_its_baselines(report: Report) -> None:
    (alone,) = headlines(replace(report, novelties=report.novelties[:1]))
    assert alone == (
        "Unique and novel structures, per sample, against all entries of mp (2) and oqmd (1): "
        "crystalgen 50.0% of 4. No baseline stands beside them."
    )
    (below,) = headlines(with_baseline(report, 0.6))
    assert "10.0 points below the best baseline (shuffle 60.0%), so it does not beat" in below
    (above,) = headlines(with_baseline(report, 0.3))
    assert "20.0 points above the best baseline (shuffle 30.0%)" in above
    (level,) = headlines(with_baseline(report, 0.49))
    assert "level with the best baseline (shuffle 49.0%) within the noise of ±4.5 points" in level
    text = text_of(with_baseline(report, 0.6))
    assert text.index("crystalgen") < text.index("shuffle (baseline)")
    assert "stand alone" not in text


def test_what_could_not_be_judged_is_told(report: Report) -> None:
    own = report.novelties[0]
    assert "not judged" not in columns([own])
    part = replace(own, grades={**own.grades, "composition": 0.15})
    assert columns([part])[-1] == "not judged"
    assert "10.0" in text_of(replace(report, novelties=(part,)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_samples": 5}, "no uniqueness at its N = 5"),
        ({"greedy": 1.2}, "greedy uniqueness is 1.2"),
        ({"grades": {"known": 0.7, "structure": 0.7}}, "all grades"),
    ],
)
def test_what_cannot_be_is_refused(report: Report, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        replace(report.novelties[0], **changes)


def test_a_number_without_its_recipe_is_refused(report: Report) -> None:
    with pytest.raises(IntegrityError, match="which is not described"):
        replace(report, recipes=())


def test_a_report_of_both_has_both(report: Report) -> None:
    base = samples.report()
    both = replace(base, novelties=report.novelties, recipes=base.recipes + report.recipes)
    lines = headlines(both)
    assert lines[0].startswith("MatGAN")
    assert lines[-1].startswith("Unique and novel structures")
    assert Page(page.render(both)).texts["h2"][:2] == ["Comparison", novelty_tables.HEADING]


def test_figures_show_curves_and_grades(report: Report) -> None:
    pytest.importorskip("matplotlib")
    from gandb.reports import figures, novelty_figures

    curve, bars = figures.draw_all(report)
    assert (curve.name, bars.name) == ("structure-uniqueness", "structure-novelty")
    assert "crystalgen 75.0% of 4" in curve.alt
    assert "crystalgen, matching 2" in curve.alt
    assert "stol 0.1" in curve.caption
    assert "known 50.0%, structure 0.0%" in bars.alt
    assert all(picture.png.startswith(b"\x89PNG") for picture in (curve, bars))
    assert novelty_figures.draw_all(samples.report()) == []
    with_curve = replace(
        report.novelties[0],
        n_samples=1_000,
        uniqueness={10: 1.0, 100: 0.95, 1_000: 0.7},
        grades={"known": 0.4, "structure": 0.1, "prototype": 0.1, "substitution": 0.2,
                "composition": 0.1},
    )  # fmt: skip
    (_, told) = novelty_figures.draw_all(replace(report, novelties=(with_curve,)))
    assert told.png != bars.png


def test_the_command_takes_what_was_generated_or_judged(
    lab: tuple[Store, list[Job]], tmp_path: Path
) -> None:
    store, jobs = lab
    ids = [job.id for job in jobs]
    assert [job.id for job in choose_jobs(store, [], None)][: len(ids)] == ids
    (imported,) = jobs[1].spec["jobs"]
    assert [job.id for job in choose_jobs(store, [imported], None)] == [jobs[1].id]
    assert [job.id for job in choose_jobs(store, [jobs[3].short_id], None)] == [jobs[3].id]
    with pytest.raises(NotFoundError, match="no finished generation job"):
        choose_jobs(store, [], "salts@1")
    folder = written(tmp_path / "late", {"a": poscar(4.2, ["Cs", "I"])})
    (late,) = work(store, candidates_job("late", [folder]))
    with pytest.raises(NotFoundError, match="gandb novelty late --against entries"):
        choose_jobs(store, [late.short_id], None)
