"""Relaxations as jobs: what is chosen, what is stored, and nothing else after any death."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from gandb.cli.app import app
from gandb.core.config import Settings as StoreSettings
from gandb.core.crystals import Crystal
from gandb.core.errors import NotFoundError, UsageError
from gandb.datasets import selection, versions
from gandb.energies.fire import Settings
from gandb.energies.potentials import POTENTIALS
from gandb.energies.relaxing import Relaxation, relax
from gandb.jobs import queue
from gandb.jobs.records import JobSpec, State
from gandb.jobs.worker import Worker
from gandb.schema import tables
from gandb.store import Store
from gandb.tasks import TASKS, relaxation
from gandb.tasks.candidates import candidates_job
from gandb.tasks.choosing import choose
from gandb.tasks.records import records_job
from gandb.tasks.relaxation import relaxation_job
from gandb.tasks.structures import crystals
from gandb.tasks.verification import verify_store
from tests.content import differences, dump
from tests.energies import springs
from tests.energies.boxes import poscar, shaken
from tests.energies.springs import Springs
from tests.tasks.labs import make_store, work
from tests.tasks.test_death import Nursery

N = 16
QUICK = Settings(max_force=0.05, max_steps=40)


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POTENTIALS, springs.NAME, springs.KIND)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shaken")
    for i, record in enumerate(shaken(N)):
        (folder / f"{i:02d}.vasp").write_text(poscar(record))
    (folder / "far.vasp").write_text("far\n1.0\n20 0 0\n0 20 0\n0 0 20\nNa\n1\nDirect\n0 0 0\n")
    return folder


def filled(address: str, folder: Path, files: Path) -> Store:
    """A store with the crystals as candidates of a model, and half of them in a dataset."""
    store = make_store(address, folder)
    work(store, candidates_job("mine", [files]))
    work(store, records_job("lab", [files / f"{i:02d}.vasp" for i in range(0, N, 2)]))
    chosen = selection.by_condition(store, "source = 'lab'")
    versions.create(store, "half", chosen, "half of them")
    return store


@pytest.fixture
def store(store_url: str, tmp_path: Path, files: Path) -> Store:
    return filled(store_url, tmp_path, files)


@pytest.fixture
def embedded(tmp_path: Path, files: Path) -> Store:
    return filled(str(tmp_path / "store"), tmp_path, files)


def rows(store: Store) -> list[dict[str, Any]]:
    query = sa.select(tables.relaxation).order_by(tables.relaxation.c.structure_id)
    with store.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def records(store: Store, ids: Sequence[UUID]) -> dict[UUID, Crystal]:
    with store.read() as connection:
        return dict(crystals(connection, tables.structure.c.id.in_(ids)))


def failure(store: Store, wanted: JobSpec) -> str:
    """Have a job done that must fail; return why it did."""
    job = queue.submit(store, wanted)
    Worker(store, TASKS, 60.0, [job.id]).run()
    ended = queue.get(store, job.id)
    assert ended.state is State.FAILED
    assert ended.error is not None
    return ended.error


# --- what is stored ----------------------------------------------------------------------


def test_each_structure_gets_its_own_relaxation(store: Store) -> None:
    chosen = choose(store, "mine")
    assert len(chosen.ids) == N + 1
    (job,) = work(store, relaxation_job(chosen, "springs", QUICK, chunk_size=7), threads=2)
    found = rows(store)
    assert [row["structure_id"] for row in found] == sorted(chosen.ids)
    before = records(store, chosen.ids)
    after = records(store, [row["relaxed_id"] for row in found if row["relaxed_id"]])
    for row in found:
        record = before[row["structure_id"]]
        (alone,) = relax(Springs(), [record], QUICK)
        assert row["error"] == alone.error
        assert row["n_steps"] == (alone.n_steps if alone.error is None else 0)
        if alone.crystal is None or alone.forces is None:
            assert row["relaxed_id"] is None
            continue
        assert after[row["relaxed_id"]] == alone.crystal
        assert after[row["relaxed_id"]].species == record.species
        assert row["forces"] == alone.forces.ravel().tolist()
        for name in ("energy_per_atom", "initial_energy_per_atom", "max_force", "max_stress",
                     "rmsd", "volume_change", "converged"):  # fmt: skip
            assert row[name] == getattr(alone, name)
    assert sum(row["error"] is not None for row in found) == 1
    counted = queue.chunks(store, job.id)[-1]["result"]
    assert counted["structures"] == N + 1
    assert counted["relaxed"] == N
    assert counted["converged"] == sum(bool(row["converged"]) for row in found)
    assert counted["errors"] == {"an atom has no neighbour within 6 Å": 1}
    with store.read() as connection:
        metric = tables.metric.c
        query = sa.select(metric.name, metric.value).where(metric.job_id == job.id)
        shares = {row.name: row.value for row in connection.execute(query)}
    assert shares["relaxed"] == pytest.approx(N / (N + 1))
    assert [f for f in verify_store(store) if f["problems"]] == []


def test_nothing_is_relaxed_twice(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    few = choose(store, "mine", sample=9, seed=1)
    work(store, relaxation_job(few, "springs", QUICK, chunk_size=4))
    asked: list[int] = []
    plain = Springs.evaluate

    def counting(self: Springs, batch: Any) -> Any:
        asked.append(len(batch))
        return plain(self, batch)

    monkeypatch.setattr(Springs, "evaluate", counting)
    first = rows(store)
    again = relaxation_job(few, "springs", QUICK, chunk_size=4)
    work(store, again)
    assert asked == []
    work(store, relaxation_job(few, "springs", QUICK, chunk_size=5))
    assert asked == []
    more = choose(store, "mine", sample=12, seed=1)
    assert set(few.ids) < set(more.ids)
    work(store, relaxation_job(more, "springs", QUICK))
    assert max(asked) <= 3
    kept = {row["structure_id"]: row for row in rows(store)}
    assert all(kept[row["structure_id"]] == row for row in first)
    work(store, relaxation_job(few, "springs", replace(QUICK, max_force=0.2)))
    assert len(rows(store)) == 12 + 9


def test_a_wrong_parent_is_refused(embedded: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = relaxation._relaxed

    def mixed(*args: Any) -> Any:
        work = plain(*args)
        n = len(work.results)
        work.results = {i: work.results[(i + 1) % n] for i in range(n)}
        return work

    monkeypatch.setattr(relaxation, "_relaxed", mixed)
    wanted = relaxation_job(choose(embedded, "mine"), "springs", QUICK)
    assert "came back as" in failure(embedded, wanted)
    assert rows(embedded) == []


def test_another_potential_than_asked_for_is_refused(
    embedded: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = relaxation_job(choose(embedded, "mine"), "springs", QUICK)
    monkeypatch.setattr(Springs, "sha256", "1" * 64)
    assert "install the same, or ask again" in failure(embedded, wanted)


def test_what_is_staged_of_others_is_refused(embedded: Store) -> None:
    chosen = choose(embedded, "mine", sample=4)
    wanted = relaxation_job(chosen, "springs", QUICK)
    job = queue.submit(embedded, wanted)
    strange = Relaxation(shaken(4), QUICK).to_bytes("others")
    embedded.files.stage(f"{job.id}/000000", "relaxation", strange)
    assert "of other crystals" in failure(embedded, wanted)
    assert rows(embedded) == []


def test_damaged_staging_is_done_again(embedded: Store) -> None:
    wanted = relaxation_job(choose(embedded, "mine", sample=4), "springs", QUICK)
    job = queue.submit(embedded, wanted)
    embedded.files.stage(f"{job.id}/000000", "relaxation", b"PK\x03\x04 and no more")
    work(embedded, wanted)
    assert len(rows(embedded)) == 4


# --- what is chosen ----------------------------------------------------------------------


def test_questions_choose(embedded: Store) -> None:
    every = choose(embedded, "mine")
    with embedded.read() as connection:
        structure = tables.structure.c
        small = set(connection.scalars(sa.select(structure.id).where(structure.n_sites == 2)))
    assert set(choose(embedded, "mine", where="n_sites = 2").ids) == small
    assert set(choose(embedded, "mine", where="n_sites = 2 -- only").ids) == small
    asked = choose(embedded, sql="SELECT structure_id FROM generated WHERE n_sites = 2")
    assert set(asked.ids) == small
    half = choose(embedded, "half@1")
    assert len(half.ids) == N // 2
    assert half.dataset_version_id is not None
    assert half.checkpoint_id is None
    assert set(half.ids) < set(every.ids)
    train = choose(embedded, "half@1:train")
    assert 0 < len(train.ids) <= len(half.ids)
    job = next(j for j in queue.listing(embedded) if j["kind"] == "import_candidates")
    assert choose(embedded, str(job["job_id"])).ids == every.ids
    assert every.how["eligible"] == N + 1


def test_samples_can_be_drawn_again(embedded: Store) -> None:
    one = choose(embedded, "mine", sample=10, seed=3)
    assert one == choose(embedded, "mine", sample=10, seed=3)
    assert one.ids == sorted(one.ids)
    assert one.ids != choose(embedded, "mine", sample=10, seed=4).ids
    assert set(choose(embedded, "mine", sample=5, seed=3).ids) < set(one.ids)
    assert one.how["eligible"] == N + 1
    assert one.how["sample"]["size"] == 10
    assert choose(embedded, "mine", sample=1000).ids == choose(embedded, "mine").ids


def test_what_cannot_be_chosen_says_why(embedded: Store) -> None:
    with pytest.raises(UsageError, match="name what the structures are of"):
        choose(embedded)
    with pytest.raises(UsageError, match="put the condition into --sql"):
        choose(embedded, where="true", sql="SELECT 1 AS structure_id")
    with pytest.raises(UsageError, match="it must give structure_id"):
        choose(embedded, sql="SELECT id FROM structure")
    with pytest.raises(UsageError, match="something else than ids"):
        choose(embedded, sql="SELECT 'x' AS structure_id")
    with pytest.raises(UsageError, match="are of no structure"):
        choose(embedded, sql="SELECT composition_id AS structure_id FROM structure")
    with pytest.raises(UsageError, match="no structure fits"):
        choose(embedded, "mine", where="n_sites > 100")
    with pytest.raises(UsageError, match="ask for members with --sql"):
        choose(embedded, "half@1", where="true")
    with pytest.raises(UsageError, match="there is no split 'tests'"):
        choose(embedded, "half@1:tests")
    with pytest.raises(NotFoundError, match="no checkpoint 'theirs'"):
        choose(embedded, "theirs")
    with pytest.raises(NotFoundError, match="no potential named 'spring'"):
        relaxation_job(choose(embedded, "mine"), "spring")


def test_the_command_tells_what_became_of_them(embedded: Store, tmp_path: Path) -> None:
    command = ["--store", str(tmp_path / "store"), "relax", "mine", "--potential", "springs",
               "--max-steps", "60", "--where", "n_elements < 4", "--threads", "1"]  # fmt: skip
    told = CliRunner().invoke(app, [*command, "--json"])
    assert told.exit_code == 0, told.output
    (row,) = json.loads(told.stdout)
    assert row["structures"] == N + 1
    assert row["relaxed"] == N
    assert row["errors"] == {"an atom has no neighbour within 6 Å": 1}
    shown = CliRunner().invoke(app, command)
    assert "an atom has no neighbour within 6 Å" in shown.stdout
    queued = CliRunner().invoke(app, [*command, "--sample", "3", "--no-wait", "--json"])
    assert json.loads(queued.stdout)[0]["structures"] == 3
    wrong = CliRunner().invoke(app, [*command, "--max-force", "0"])
    assert wrong.exit_code == 2
    del embedded


# --- deaths ------------------------------------------------------------------------------

PLACES = ("claimed", "writing", "staged", "completing", "merging", "executing", "committed")
PASSES = {"writing": 12, "staged": 12, "merging": 3, "executing": 12, "claimed": 2}


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    found = Nursery(tmp_path_factory.mktemp("nursery"), "tests.tasks.nursery_relaxing")
    yield found
    found.close()


def command(address: str, potential: str) -> list[str]:
    return ["--store", address, "relax", "mine", "--potential", potential, "--max-steps", "25",
            "--chunk-size", "6", "--threads", "2"]  # fmt: skip


def deaths_leave_no_trace(
    nursery: Nursery,
    files: Path,
    folder: Path,
    address: str,
    deaths: int,
    potential: str = "springs",
) -> None:
    """Relax in processes that are killed so often; the rows are those of one that was not."""
    calm = str(folder / "calm")
    filled(calm, folder / "calm-blobs", files)
    usual = nursery.run(*command(calm, potential))["seconds"]
    store = filled(address, folder / "other", files)
    rng = np.random.default_rng(deaths)
    died = 0
    for death in range(4 * deaths):
        if died == deaths:
            break
        if death % 2:
            order: dict[str, Any] = {"kill_after": float(rng.uniform(0.05, 0.6 * usual))}
        else:
            place = str(rng.choice(PLACES))
            order = {"trap": (place, int(rng.integers(1, PASSES.get(place, 2) + 1)))}
        reply = nursery.run(*command(address, potential), **order)
        died += reply["code"] == -9
        if reply["code"] == 0:
            break
    assert nursery.run(*command(address, potential))["code"] == 0
    assert died >= 2
    whole = Store.open(StoreSettings(calm))
    assert differences(dump(whole), dump(store)) == []
    assert len(rows(store)) == N + 1
    assert [f for f in verify_store(store) if f["problems"]] == []
    assert {job["state"] for job in queue.listing(store)} == {State.DONE.value}


def test_deaths_leave_no_trace(
    nursery: Nursery, files: Path, tmp_path: Path, store_url: str
) -> None:
    deaths_leave_no_trace(nursery, files, tmp_path, store_url, 4)


@pytest.mark.slow
def test_many_deaths_leave_no_trace(nursery: Nursery, files: Path, tmp_path: Path) -> None:
    deaths_leave_no_trace(nursery, files, tmp_path, str(tmp_path / "store"), 25)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("chgnet") is None, reason="chgnet is not installed")
def test_deaths_leave_no_trace_of_chgnet(nursery: Nursery, files: Path, tmp_path: Path) -> None:
    deaths_leave_no_trace(nursery, files, tmp_path, str(tmp_path / "store"), 6, "chgnet")
