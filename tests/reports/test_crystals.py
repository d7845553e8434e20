"""Crystals in a report: numbers against rows read plainly, hulls against pymatgen, the page."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import sqlalchemy as sa

pytest.importorskip("moyopy")

from gandb.cli.report import choose_jobs
from gandb.core.config import Settings
from gandb.core.elements import ATOMIC_NUMBERS
from gandb.datasets.versions import resolve
from gandb.reports import Report, Role, compare, headlines, judgement_tables, page, tables
from gandb.reports.collect import collect
from gandb.reports.crystal_records import Crystals, HullCandidate, HullSystem
from gandb.reports.sun import sun_table
from gandb.store import Store
from gandb.tasks.data import checkpoint_of_job, find_checkpoint
from gandb.tasks.generation import generation_job
from gandb.tasks.judged_sets import find_set
from gandb.tasks.structure_checks import structure_checks_job
from gandb.tasks.training import training_job
from tests.reports.test_page import Page
from tests.reports.test_sun import ENERGIES, MADE, judged_store
from tests.tasks.labs import work

N = 40
SEEDS = (0, 1)


def lab(address: str, folder: Path) -> Store:
    """A judged model from outside, a model's own training set, and two baselines on it."""
    store = judged_store(address, folder)
    version = resolve(store, "mp@1")
    for name in ("random_coordinates", "random_wyckoff"):
        (trained,) = work(store, training_job(name, version, seed=0))
        checkpoint = checkpoint_of_job(store, trained.id)
        for seed in SEEDS:
            work(store, generation_job(checkpoint, N, seed=seed, chunk_size=25))
    for judged in ("random_coordinates:mp@1", "mp@1"):
        work(store, structure_checks_job(find_set(store, judged)))
    return store


def everything(store: Store) -> Report:
    return collect(store, choose_jobs(store, [], None))


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crystals")
    lab(str(folder / "store"), folder)
    return folder / "store"


@pytest.fixture
def store(begun: Path, tmp_path: Path) -> Store:
    shutil.copytree(begun, tmp_path / "store")
    return Store.open(Settings(str(tmp_path / "store")))


def rows(store: Store, query: str, **values: Any) -> list[dict[str, Any]]:
    with store.read() as connection:
        return [dict(row) for row in connection.execute(sa.text(query), values).mappings()]


def drawn(store: Store, job_id: str) -> list[dict[str, Any]]:
    """Every crystal of a job, a row per chunk that made it."""
    return rows(
        store,
        "SELECT g.structure_id, g.cnen_strict, e.times "
        "FROM generation_event e JOIN candidate g ON g.id = e.candidate_id "
        "WHERE CAST(e.job_id AS TEXT) = :job",
        job=job_id,
    )


def verdicts(store: Store, check: str) -> dict[Any, dict[str, Any]]:
    found = rows(store, "SELECT * FROM structure_checks WHERE check_name = :name", name=check)
    return {row["structure_id"]: row for row in found}


@pytest.mark.slow
def test_the_table_counts_what_is_in_the_store(store_url: str, tmp_path: Path) -> None:
    store = lab(store_url, tmp_path)
    report = everything(store)
    assert {run.model for run in report.runs} == {"random_coordinates", "random_wyckoff"}
    for run in report.runs:
        assert run.crystals is not None
        shares = run.crystals.shares
        own = drawn(store, run.job_id)
        held = sum(row["times"] for row in own)
        assert shares["rejected"] == pytest.approx((N - held) / N)
        assert sum((run.rejections or {}).values()) == N - held
        strict = sum(row["times"] for row in own if row["cnen_strict"])
        assert shares["cnen_strict"] == pytest.approx(strict / N)
        assert "composition_obtained" not in shares  # nothing was asked for
        for check in ("structural_validity", "radius_distances", "bond_valence_balance"):
            known = verdicts(store, check)
            if run.model == "random_wyckoff":
                assert check not in shares  # it was not checked
                continue
            passed = sum(row["times"] for row in own if known[row["structure_id"]]["passed"])
            assert shares[check] == pytest.approx(passed / N)
        if run.model == "random_coordinates":
            near = verdicts(store, "density")
            total = sum(row["times"] * near[row["structure_id"]]["value"] for row in own)
            assert run.crystals.averages["density"] == pytest.approx(total / held)
    (block,) = compare(report)
    assert block.of_crystals
    assert [len(row.runs) for row in block.rows] == [2, 2]
    values = {metric.key: estimate for metric, estimate in block.rows[0].values.items()}
    each = [r.crystals.shares["rejected"] for r in block.rows[0].runs if r.crystals]
    assert values["crystal.rejected"].mean == pytest.approx(np.mean(each))
    assert values["crystal.rejected"].spread == pytest.approx(np.std(each, ddof=1))
    figures_hold_what_the_store_holds(store, report)


def figures_hold_what_the_store_holds(store: Store, report: Report) -> None:
    found = report.crystals
    assert found is not None
    subjects = {own.model: own for own in found.subjects}
    assert subjects.keys() == {"gen", "random_coordinates", "random_wyckoff"}
    assert subjects["random_coordinates"].n_samples == 2 * N
    for check in ("structural_validity", "density"):
        known = verdicts(store, check)
        wanted = sorted(
            known[row["structure_id"]]["value"]
            for run in report.runs
            if run.model == "random_coordinates"
            for row in drawn(store, run.job_id)
            for _ in range(row["times"])
        )
        got = subjects["random_coordinates"].values[check]
        np.testing.assert_allclose(np.sort(got), wanted)
        assert len(subjects["random_wyckoff"].values[check]) == 0
    above = rows(store, "SELECT energy_above_hull FROM stability")
    known_energies = sorted(
        row["energy_above_hull"] for row in above if row["energy_above_hull"] is not None
    )
    np.testing.assert_allclose(subjects["gen"].above_hull, known_energies)
    assert subjects["gen"].n_relaxed == len(above) == len(ENERGIES) + 1
    train = rows(
        store,
        "SELECT count(*) AS n FROM dataset_members WHERE dataset = 'mp@1' AND split = 'train'",
    )
    assert found.references["mp@1"].n_samples == train[0]["n"]
    shares = subjects["random_coordinates"].compositions
    np.testing.assert_allclose(shares.sum(axis=1), 1)


@pytest.mark.slow
def test_best_candidates_come_first(store: Store) -> None:
    found = everything(store).crystals
    assert found is not None
    known = {str(made.crystal().id): name for name, made in MADE.items()}
    names = [known[str(own.picture.crystal.id)] for own in found.best]
    lost = {"crushed", "no reference", "unfinished", "failed", "not relaxed", "known"}
    assert names
    assert not lost & set(names)  # not valid, no energy, not converged, not new
    ranks = [ENERGIES[name] for name in names]
    assert ranks == sorted(ranks)
    numbers = rows(store, "SELECT structure_id FROM sun WHERE is_unique AND is_novel AND valid")
    assert {str(own.picture.crystal.id) for own in found.best} <= {
        str(row["structure_id"]) for row in numbers
    }
    assert "energy above the hull" in found.best_words


def test_the_hull_is_that_of_the_phases(store: Store) -> None:
    found = everything(store).crystals
    assert found is not None
    (system,) = found.hulls
    assert system.elements == ("Mg", "O")
    stable = {f for f, on in zip(system.formulas, system.stable, strict=True) if on}
    assert stable == {"Mg", "O2", "MgO"}
    energies = dict(zip(system.formulas, system.formation, strict=True))
    assert energies["Mg"] == pytest.approx(0, abs=1e-9)
    assert energies["MgO"] == pytest.approx(-5.5 - (-1.5 - 4.9) / 2)
    for own in system.candidates:
        if own.formula == "MgO":
            assert own.above == pytest.approx(own.formation - energies["MgO"])


def test_sun_is_what_gandb_sun_prints(store: Store) -> None:
    report = everything(store)
    assert report.judgements is not None
    (own,) = report.judgements.stable
    table = sun_table(store, find_checkpoint(store, "gen"))
    assert [line.estimate for line in own.table.lines] == [line.estimate for line in table.lines]
    (grid,) = judgement_tables.grids(report.judgements)
    label, role, cells = grid.lines[0]
    assert (label, role) == ("gen", Role.MODEL)
    assert cells[:3] == ("10", str(table.passed), str(table.relaxed))
    lost = {"failed", "not converged", "reference missing"}
    assert {grid.heads[k] for k in (3, 4, 5)} == lost
    assert cells[3:6] == ("1", "1", "1")
    (plain,) = judgement_tables.plain(report)
    assert plain["n_relaxed"] == table.relaxed


def test_the_page_and_its_figures(store: Store) -> None:
    pytest.importorskip("matplotlib")
    from gandb.reports import figures

    report = everything(store)
    pictures = figures.draw_all(report)
    names = [picture.name for picture in pictures]
    assert len(set(names)) == len(names)
    for start in ("distances-mp@1", "sizes-outside", "energy-above-hull-outside", "hull-Mg-O",
                  "best-candidates", "crystals-element-counts-mp@1"):  # fmt: skip
        assert any(name.startswith(start) for name in names), start
    for picture in pictures:
        assert picture.png.startswith(b"\x89PNG")
        assert len(picture.png) > 3_000
        assert picture.alt.endswith(".")
        assert picture.caption
    text = page.render(report, pictures)
    parsed = Page(text)
    assert [tag for tag, _ in parsed.tags].count("img") == len(pictures)
    assert "<h2>Crystals</h2>" in text
    assert "<h2>Comparison</h2>" not in text
    assert "<h2>Stable, unique and new; coverage</h2>" in text
    assert "<script" not in text
    (energies,) = (p for p in pictures if p.name.startswith("energy-above-hull"))
    assert "without a reference" in energies.caption


def test_json_and_sentences(store: Store) -> None:
    report = everything(store)
    first = tables.plain(report)[0]
    assert first["metrics"]["crystal.rejected"]["n_seeds"] == 2
    said = headlines(report)
    assert any("all distances above 0.75" in line for line in said)


def test_nothing_is_said_of_crystals_where_there_are_none() -> None:
    empty = Report("nothing", ())
    assert empty.crystals is None
    assert judgement_tables.grids(empty.judgements) == []
    assert judgement_tables.plain(empty) == []
    pytest.importorskip("matplotlib")
    from gandb.reports import crystal_figures

    assert crystal_figures.draw_all(empty) == []
    assert crystal_figures.draw_all(Report("", (), crystals=Crystals(()))) == []


# --- figures' own arithmetic ---------------------------------------------------------------


def some_system(rng: np.random.Generator, elements: tuple[str, ...], n: int) -> HullSystem:
    """Elements at 0 and phases at random."""
    from gandb.core.compositions import CompositionBatch
    from gandb.energies.hull import Hull

    amounts = [{name: 1} for name in elements]
    while len(amounts) < n:
        counts = rng.integers(0, 4, len(elements))
        if (counts > 0).sum() > 1:
            amounts.append({e: int(c) for e, c in zip(elements, counts, strict=True) if c})
    batch, _ = CompositionBatch.from_dicts(amounts).reduced()
    energies = np.where(np.arange(n) < len(elements), 0.0, rng.normal(-0.5, 0.5, n))
    shares = np.array([[a.get(e, 0) / sum(a.values()) for e in elements] for a in amounts], float)
    judged = Hull(batch, energies).judge(batch)
    return HullSystem(
        elements, str(UUID(int=0)), "", tuple(batch.reduced_formulas().to_pylist()), shares,
        energies, energies - judged.hull < 1e-8,
        (HullCandidate("X", "pgcgm", np.full(len(elements), 1 / len(elements)), -0.1, 0.2),),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_tie_lines_are_pymatgens(seed: int) -> None:
    pytest.importorskip("matplotlib")
    diagrams = pytest.importorskip("pymatgen.analysis.phase_diagram")
    from pymatgen.core.composition import Composition

    from gandb.reports import hull_figures

    system = some_system(np.random.default_rng(seed), ("Fe", "Li", "O"), 14)
    entries = [
        diagrams.PDEntry(
            Composition({e: float(x) for e, x in zip(system.elements, own, strict=True) if x}),
            float(energy),
        )
        for own, energy in zip(system.shares, system.formation, strict=True)
    ]
    known = diagrams.PhaseDiagram(entries)
    wanted = {
        frozenset(known.qhull_entries[v].composition.fractional_composition.formula for v in pair)
        for facet in known.facets
        for pair in ((facet[0], facet[1]), (facet[0], facet[2]), (facet[1], facet[2]))
    }
    found = {
        frozenset(entries[row].composition.fractional_composition.formula for row in pair)
        for pair in hull_figures.tie_lines(system)
    }
    assert found == wanted
    picture = hull_figures.draw(system)
    assert picture is not None
    assert picture.name.startswith("hull-Fe-Li-O")


def test_a_binary_hull_bends_upwards() -> None:
    pytest.importorskip("matplotlib")
    from gandb.reports import hull_figures

    for seed in range(5):
        system = some_system(np.random.default_rng(seed), ("Mn", "O"), 12)
        line = hull_figures.hull_line(system)
        slopes = np.diff(line[:, 1]) / np.diff(line[:, 0])
        assert (np.diff(slopes) > -1e-7).all()
        on_it = np.interp(system.shares[:, 1], line[:, 0], line[:, 1])
        assert (system.formation >= on_it - 1e-7).all()
        assert hull_figures.draw(system) is not None


def test_bins_hold_everything_once() -> None:
    pytest.importorskip("matplotlib")
    from gandb.reports.crystal_figures import bin_edges, counted

    rng = np.random.default_rng(0)
    values = [rng.normal(2, 1, 500), rng.normal(5, 0.1, 20), np.zeros(0)]
    edges = bin_edges(values)
    assert [int(counted(own, edges).sum()) for own in values] == [500, 20, 0]
    same = bin_edges([np.full(3, 2.0)])
    assert counted(np.full(3, 2.0), same).sum() == 3


def test_the_map_lies_in_the_plane_of_most_variance() -> None:
    """Against the covariance matrix' own vectors."""
    pytest.importorskip("matplotlib")
    from gandb.reports.crystal_figures import principal_axes

    rng = np.random.default_rng(3)
    points = (
        rng.normal(size=(300, 6))
        * [5, 0.1, 3, 0.5, 1, 0.2]
        @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    )
    mean, axes, variance = principal_axes(points)
    values, vectors = np.linalg.eigh(np.cov(points.T))
    np.testing.assert_allclose(mean, points.mean(axis=0))
    np.testing.assert_allclose(np.abs(np.sum(axes * vectors[:, [-1, -2]].T, axis=1)), 1)
    np.testing.assert_allclose(variance, values[[-1, -2]] / values.sum())


def test_shares_of_elements() -> None:
    from gandb.core.compositions import CompositionBatch
    from gandb.reports.collect_crystal_figures import element_shares

    found = element_shares(CompositionBatch.from_dicts([{"Fe": 2, "O": 3}, {"Mg": 1}]))
    assert found[0, ATOMIC_NUMBERS["O"]] == pytest.approx(0.6)
    assert found[1, ATOMIC_NUMBERS["Mg"]] == 1
    np.testing.assert_allclose(found.sum(axis=1), 1)
