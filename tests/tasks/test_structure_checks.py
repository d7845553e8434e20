"""Checks of structures as a job: rows, shares and means, against the pure checks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from gandb.core.compositions import CompositionBatch
from gandb.core.crystals import Crystal
from gandb.core.errors import NotFoundError, UsageError
from gandb.datasets import selection, versions
from gandb.datasets.splits import SPLITS
from gandb.jobs import queue
from gandb.jobs.worker import Worker
from gandb.schema import tables
from gandb.store import Store
from gandb.tasks import TASKS, structure_checks
from gandb.tasks.candidates import candidates_job
from gandb.tasks.judged_sets import find_set
from gandb.tasks.preparing import symmetry_recipe
from gandb.tasks.records import records_job
from gandb.tasks.structure_checks import SYMPREC, check_recipes, structure_checks_job
from gandb.tasks.structures import crystals
from gandb.tasks.verification import verify_store
from gandb.validation.charge import check_all
from gandb.validation.outcomes import REASONS
from gandb.validation.sites import Sites
from gandb.validation.standard_checks import STANDARD
from gandb.validation.symmetry import find_symmetry
from tests.crowds import CUBE, cell, perovskite, rocksalt, rutile, write
from tests.shared_data import SHARED, real
from tests.tasks.labs import make_store, work
from tests.variants import Cell

SALT = rocksalt(5.64, "Na", "Cl")
CELLS: list[Cell] = [
    SALT,
    SALT,
    SALT,
    rutile(4.594, 2.959, 0.305, "Ti", "O"),
    rocksalt(1.2, "Na", "Cl"),  # too near by radii, and too dense
    cell(0.47 * CUBE, "Fe", [[0, 0, 0]]),  # too near its own images
    cell(9.0 * CUBE, "Fe Fe", [[0, 0, 0], [0.5, 0.5, 0.5]]),  # no neighbours
    perovskite(3.905, "Sr", "Ti", "O"),
    cell(5.0 * CUBE, "Bk O", [[0, 0, 0], [0.5, 0.5, 0.5]]),  # an element without radius
]
MORE = [rocksalt(5.13, "Li", "Cl"), SALT, rocksalt(4.21, "Mg", "O")]
BAD = "data_bad\n_cell_length_a nothing\nloop_\n_atom_site_label\nX\n"


def bring(store: Store, folder: Path, name: str, cells: Sequence[Cell], model: str = "gen") -> None:
    """Import candidates, and a file that holds none."""
    (folder / f"{name}.cif").write_text(BAD)
    work(store, candidates_job(model, [write(folder, name, cells), folder / f"{name}.cif"]))


def checked(store: Store, reference: str) -> dict[str, Any]:
    """Check a set; return the result of the job."""
    (job,) = work(store, structure_checks_job(find_set(store, reference)))
    last = queue.chunks(store, job.id)[-1]["result"]
    assert isinstance(last, dict)
    with store.read() as connection:
        metric = tables.metric.c
        rows = connection.execute(
            sa.select(metric.name, metric.step, metric.value).where(metric.job_id == job.id)
        ).all()
    return last | {"metrics": {(name, step): value for name, step, value in rows}}


def held(store: Store) -> list[tuple[Any, ...]]:
    """Every row of the table, in order."""
    table = tables.structure_check.c
    query = sa.select(table.recipe_id, table.structure_id, table.passed, table.value, table.reason)
    with store.read() as connection:
        return sorted(tuple(map(str, row)) for row in connection.execute(query))


def expected(records: Mapping[Any, Crystal]) -> list[tuple[Any, ...]]:
    """The same rows by the pure checks."""
    sites = Sites.of(records.values())
    rows = []
    for name, judge in STANDARD.items():
        outcome = judge(list(records.values()), sites)
        for place, own in enumerate(records):
            value = float(outcome.value[place])
            rows.append(
                (
                    str(check_recipes()[name]["id"]),
                    str(own),
                    str(None if outcome.errors[place] else bool(outcome.passed[place])),
                    str(value if np.isfinite(value) else None),
                    REASONS[outcome.reason[place]],
                )
            )
    return sorted(rows)


def all_crystals(store: Store) -> dict[Any, Crystal]:
    with store.read() as connection:
        return dict(crystals(connection))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tuple[str, ...]]]:
    """How many structures were judged at once, and by which checks."""
    judge = structure_checks.judge_records
    calls: list[tuple[int, tuple[str, ...]]] = []

    def told(piece: Any) -> Any:
        calls.append((len(piece[0]), piece[1]))
        return judge(piece)

    monkeypatch.setattr(structure_checks, "judge_records", told)
    return calls


def test_candidates_are_judged_once_and_shares_are_of_all_samples(
    store_url: str, tmp_path: Path, counted: list[tuple[int, tuple[str, ...]]]
) -> None:
    store = make_store(store_url, tmp_path)
    bring(store, tmp_path, "first", CELLS)
    found = checked(store, "gen")
    records = all_crystals(store)
    assert held(store) == expected(records)
    assert sum(n for n, _ in counted) == len(records) == found["structures"] == 7
    assert (found["samples"], found["with_structure"]) == (10, 9)
    rows = {row["check"]: row for row in found["checks"]}
    assert [*rows] == [*STANDARD, "cnen_strict", "cnen_default", "cnen_matgan"]
    sites, listed = Sites.of(records.values()), list(records.values())
    times = np.ones(len(listed))
    times[[c.counts() == {"Na": 1, "Cl": 1} and c.volume > 20 for c in listed]] = 3
    for name, judge in STANDARD.items():
        outcome = judge(listed, sites)
        row = rows[name]
        assert row["passed"] == outcome.passed.sum()
        assert row["errors"] == outcome.errors.sum()
        assert row["passed"] + row["failed"] + row["errors"] == 7
        assert row["reasons"] == {k: v for k, v in outcome.tally().items() if k != "passed"}
        assert row["of_samples"] == pytest.approx(times[outcome.passed].sum() / 10)
        known = np.isfinite(outcome.value)
        mean = np.average(outcome.value[known], weights=times[known])
        assert row["mean"] == pytest.approx(mean)
        assert found["metrics"][name, 10] == row["of_samples"]
        assert found["metrics"][f"{name}.structures", 7] == pytest.approx(outcome.passed.mean())
        assert found["metrics"][f"{name}.mean", 10] == row["mean"]
    assert rows["structural_validity"]["reasons"] == {"atoms too near": 1}
    assert rows["structural_validity_published"]["failed"] == 0
    assert rows["cnen_strict"]["of_samples"] == pytest.approx(0.8)  # not berkelium's
    # The same again is the same job; with more candidates, only the new structures are judged.
    counted.clear()
    assert checked(store, "gen") == found
    assert not counted
    bring(store, tmp_path, "second", MORE)
    again = checked(store, "gen")
    assert (again["samples"], again["structures"]) == (14, 9)
    assert [n for n, _ in counted] == [2]
    assert held(store) == expected(all_crystals(store))
    assert not [row for row in verify_store(store) if row["problems"]]


def test_how_chunks_are_cut_changes_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    results = []
    for size in (10_000, 2):
        monkeypatch.setattr(structure_checks, "CHUNK", size)
        folder = tmp_path / str(size)
        folder.mkdir()
        store = make_store(str(folder / "store"), folder)
        bring(store, folder, "all", CELLS + MORE)
        results.append((checked(store, "gen"), held(store)))
    assert results[0] == results[1]


def test_what_was_judged_before_a_failure_is_kept(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(structure_checks, "CHUNK", 2)
    store = make_store(str(tmp_path / "store"), tmp_path)
    bring(store, tmp_path, "all", CELLS)
    judge, calls = structure_checks.judge_records, [0]

    def failing(piece: Any) -> Any:
        calls[0] += len(piece[0])
        if calls[0] > 3:
            raise RuntimeError("the machine is on fire")
        return judge(piece)

    monkeypatch.setattr(structure_checks, "judge_records", failing)
    spec = structure_checks_job(find_set(store, "gen"))
    job = queue.submit(store, spec)
    Worker(store, TASKS, 60.0, [job.id]).run()
    ended = queue.get(store, job.id)
    assert "on fire" in str(ended.error)
    done = len(held(store)) // len(STANDARD)
    assert 0 < done < 7
    calls[0] = -100
    queue.retry(store, job.id)
    Worker(store, TASKS, 60.0, [job.id]).run()
    assert queue.get(store, job.id).state.value == "done"
    assert calls[0] == -100 + 7 - done
    assert held(store) == expected(all_crystals(store))


def test_a_check_that_is_missing_is_made_up_for(
    tmp_path: Path, counted: list[tuple[int, tuple[str, ...]]]
) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    bring(store, tmp_path, "first", CELLS)
    first = checked(store, "gen")
    density = check_recipes()["density"]["id"]
    with store.write() as tx:
        tx.execute(
            tables.structure_check.delete().where(tables.structure_check.c.recipe_id == density)
        )
    counted.clear()
    bring(store, tmp_path, "second", [SALT])
    checked(store, "gen")
    assert counted == [(first["structures"], ("density",))]
    assert held(store) == expected(all_crystals(store))


def test_versions_and_their_splits_are_judged(store_url: str, tmp_path: Path) -> None:
    store = make_store(store_url, tmp_path)
    work(store, records_job("mine", [write(tmp_path, "known", CELLS)]))
    chosen = selection.by_condition(store, "source = 'mine'")
    version, _ = versions.create(store, "d", chosen, "all")
    found = checked(store, "d@1")
    assert held(store) == expected(all_crystals(store))
    assert found["samples"] == found["with_structure"] == version.n_entries
    parts = [f"d@1:{split}" for split in SPLITS if find_set(store, f"d@1:{split}").n_structures]
    assert sum(checked(store, part)["samples"] for part in parts) == version.n_entries
    with pytest.raises(UsageError, match="no split 'tset'"):
        find_set(store, "d@1:tset")
    with pytest.raises(NotFoundError, match="NAME@NUMBER"):
        find_set(store, "unknown")


def test_nothing_to_judge_is_told(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    rows = [{"material_id": f"mp-{i}", "formula_pretty": "NaCl", "band_gap": 1.0} for i in (1, 2)]
    (tmp_path / "formulas.json").write_text(json.dumps(rows))
    work(store, candidates_job("formulas", [tmp_path / "formulas.json"]))
    with pytest.raises(UsageError, match="no structures to check"):
        structure_checks_job(find_set(store, "formulas"))


def test_space_groups_that_were_asked_for(store_url: str, tmp_path: Path) -> None:
    """Half of the samples have what was asked for; the rejected one has not."""
    store = make_store(store_url, tmp_path)
    bring(store, tmp_path, "first", CELLS)
    with store.write() as tx:
        tx.execute(tables.generation_event.update().values(requested_space_group=225))
    found = checked(store, "gen")
    (row,) = [row for row in found["checks"] if row["check"] == "space_group_found"]
    symmetry, number = tables.structure_symmetry.c, {}
    with store.read() as connection:
        for own, group, error in connection.execute(
            sa.select(symmetry.structure_id, symmetry.space_group_number, symmetry.error).where(
                symmetry.recipe_id == symmetry_recipe(SYMPREC)["id"]
            )
        ):
            number[own] = group
            assert (group is None) == (error is not None)
    records = all_crystals(store)
    assert set(number) == set(records)
    for own, record in records.items():
        if number[own] is not None:
            assert number[own] == find_symmetry(record, SYMPREC).space_group_number
    right = [own for own in records if number[own] == 225]
    assert row["passed"] == len(right)
    assert row["errors"] == sum(group is None for group in number.values())
    assert row["passed"] + row["failed"] + row["errors"] == len(records)
    candidate = tables.candidate.c
    with store.read() as connection:
        times = connection.scalar(
            sa.select(sa.func.sum(candidate.times_generated)).where(
                candidate.structure_id.in_(right)
            )
        )
    assert row["of_samples"] == pytest.approx(int(times or 0) / 10)
    assert found["metrics"]["space_group_found", 10] == row["of_samples"]


@real
@pytest.mark.slow
def test_candidates_of_mattergen(tmp_path: Path) -> None:
    """Its verdicts are those of the pure checks, whatever was rejected."""
    store = make_store(str(tmp_path / "store"), tmp_path)
    work(store, candidates_job("mattergen", [SHARED / "generated" / "mattergen-cifs.zip"]))
    found = checked(store, "mattergen")
    records = all_crystals(store)
    assert held(store) == expected(records)
    rows = {row["check"]: row for row in found["checks"]}
    assert found["samples"] == 772
    assert rows["structural_validity"]["passed"] == len(records)
    batch, _ = CompositionBatch.from_dicts([c.counts() for c in records.values()]).reduced()
    for name, verdicts in check_all(batch).items():
        assert rows[name]["passed"] == verdicts.passed.sum()
