"""Trainings that stop and go on, fail, or are the same one after all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gandb.core.errors import NotFoundError, UsageError
from gandb.datasets import selection, versions
from gandb.datasets.splits import SplitRecipe
from gandb.generators import load
from gandb.jobs import queue
from gandb.jobs.records import Job, JobSpec, State
from gandb.jobs.worker import Listener, StopSignal, Worker
from gandb.schema.tables import checkpoint, metric, model
from gandb.store import Store
from gandb.tasks import TASKS
from gandb.tasks.data import checkpoint_of_job, find_checkpoint, list_checkpoints, training_data
from gandb.tasks.generation import generation_job
from gandb.tasks.training import training_job
from tests.content import differences, dump
from tests.tasks.labs import TINY, Lab, import_and_split, make_store, work


def stop_at(iteration: int, stop: StopSignal) -> Listener:
    def listen(_job: Job, _chunk: int, done: int) -> None:
        if done >= iteration:
            stop.set()

    return listen


def train_in_parts(store: Store, spec: JobSpec, stops: list[int]) -> int:
    """Train, with a worker that is stopped after these iterations; return how many were used."""
    job = queue.submit(store, spec)
    for at in stops:
        stop = StopSignal()

        def listen(
            _job: Job, _chunk: int, done: int, stop: StopSignal = stop, at: int = at
        ) -> None:
            if done >= at:
                stop.set()

        Worker(store, TASKS, 60.0, [job.id], listen).run(stop=stop)
        assert queue.get(store, job.id).state is State.RUNNING
    work(store, spec)
    return len(queue.attempts(store, job.id))


def copy_of(lab: Lab, folder: Path, tables: list[Path]) -> tuple[Store, versions.Version]:
    store = make_store(str(folder), folder)
    return store, import_and_split(store, tables)


def test_a_training_in_parts_ends_with_the_same_checkpoint(
    lab: Lab, tables: list[Path], tmp_path: Path
) -> None:
    store, version = copy_of(lab, tmp_path / "parts", tables)
    spec = training_job("matgan", version, 0, TINY)
    assert train_in_parts(store, spec, [3, 4, 11]) == 4
    found = checkpoint_of_job(store, spec.id)
    assert found.id == lab.checkpoints["matgan"].id
    assert found.sha256 == lab.checkpoints["matgan"].sha256
    said = [e["message"] for e in queue.events(store, spec.id)]
    assert [m for m in said if "going on" in m] == [
        f"going on from iteration {at}" for at in (3, 4, 11)
    ]
    content, whole = dump(store), dump(lab.store)
    assert content["checkpoint"] == [row for row in whole["checkpoint"] if row[0] == str(found.id)]
    assert content["metric"] == [row for row in whole["metric"] if row[0] == str(spec.id)]
    assert store.files.unstage(str(spec.id)) == 0


def test_a_damaged_state_is_left_aside(own_lab: Lab) -> None:
    store = own_lab.store
    spec = training_job("matgan", own_lab.version, 9, TINY)
    job = queue.submit(store, spec)
    store.files.stage(f"{job.id}/000000", "state.safetensors", b"not a state")
    work(store, spec)
    levels = {e["level"]: e["message"] for e in queue.events(store, job.id)}
    assert "the staged state cannot be used" in levels["warning"]


def test_a_state_of_other_work_is_refused(own_lab: Lab, tmp_path: Path) -> None:
    """A state is data that somebody could put there; it must fit the job."""
    store = own_lab.store
    stop = StopSignal()
    first = queue.submit(store, training_job("matgan", own_lab.version, 8, TINY))
    Worker(store, TASKS, 60.0, [first.id], lambda *_: stop.set()).run(stop=stop)
    state = store.files.staged(f"{first.id}/000000", "state.safetensors")
    assert state is not None
    other = queue.submit(store, training_job("matgan", own_lab.version, 8, {**TINY, "width": 16}))
    store.files.stage(f"{other.id}/000000", "state.safetensors", state)
    Worker(store, TASKS, 60.0, [other.id]).run()
    assert "began with other options (width)" in str(queue.get(store, other.id).error)


def test_curves_are_kept(lab: Lab) -> None:
    job_id = lab.checkpoints["matgan"].job_id
    query = sa.select(metric.c.name, metric.c.step).where(metric.c.job_id == job_id)
    with lab.store.read() as connection:
        steps: dict[str, list[int]] = {}
        for name, step in connection.execute(query):
            steps.setdefault(name, []).append(step)
    assert set(steps) == {
        "train.wasserstein", "train.gradient_penalty", "train.uniqueness", "train.n_elements",
        "train.n_atoms",
    }  # fmt: skip
    assert sorted(steps["train.wasserstein"]) == list(range(1, TINY["iterations"] + 1))


def test_saying_a_default_asks_for_the_same(lab: Lab) -> None:
    plain = training_job("matgan", lab.version, 0, TINY)
    assert training_job("matgan", lab.version, 0, {**TINY, "preset": "compact"}) == plain
    assert training_job("matgan", lab.version, 0, {**TINY, "width": 9}).id != plain.id
    assert training_job("matgan", lab.version, 1, TINY).id != plain.id


def test_two_jobs_may_end_with_one_checkpoint(own_lab: Lab) -> None:
    version = own_lab.version
    one = training_job("count_given_element", version, 4)
    spec = {**one.spec, "threads": 2}  # as another gandb may ask
    two = JobSpec(one.kind, spec, one.totals, one.dataset_version_id, None, one.seed)
    work(own_lab.store, one, two)
    assert checkpoint_of_job(own_lab.store, one.id) == checkpoint_of_job(own_lab.store, two.id)


def test_trainings_side_by_side_do_not_disturb_each_other(
    lab: Lab, tables: list[Path], tmp_path: Path
) -> None:
    content = []
    for threads in (1, 3):
        store, version = copy_of(lab, tmp_path / str(threads), tables)
        work(store, *(training_job("matgan", version, s, TINY) for s in range(6)), threads=threads)
        content.append(dump(store))
    assert differences(*content) == []


def test_conditions_from_training_to_sampling(own_lab: Lab) -> None:
    store, version = own_lab.store, own_lab.version
    condition = {"property": "band_gap", "edges": [0.5, 2.0]}
    (job,) = work(store, training_job("matgan", version, 0, {**TINY, "condition": condition}))
    made = checkpoint_of_job(store, job.id)
    with store.read() as connection:
        query = (
            sa.select(model.c.config, checkpoint.c.sha256)
            .join(checkpoint, checkpoint.c.model_id == model.c.id)
            .where(checkpoint.c.id == made.id)
        )
        config, sha256 = connection.execute(query).one()
    assert config["condition"] == condition
    rows = training_data(store, version.id, "band_gap")
    assert rows.values is not None
    shares = [
        (rows.values < 0.5).mean(),
        ((rows.values >= 0.5) & (rows.values < 2.0)).mean(),
        (rows.values >= 2.0).mean(),
    ]
    generator: Any = load(store.files.get_blob(sha256))
    assert generator.class_shares == pytest.approx(shares, abs=0.05)  # some rows do not fit 85 x 8
    for wanted in (None, {"band_gap": [2.0, None]}, {"band_gap": [None, 0.5]}):
        work(store, generation_job(made, 200, 0, condition=wanted))
    spec = generation_job(made, 200, 0, condition={"band_gap": [7.0, 8.0]})
    queue.submit(store, spec)
    Worker(store, TASKS, 60.0, [spec.id]).run()
    assert "no class with training data lies within" in str(queue.get(store, spec.id).error)


def test_training_data_of_a_property_count_entries(lab: Lab) -> None:
    plain, gaps = training_data(lab.store, lab.version.id), None
    gaps = training_data(lab.store, lab.version.id, "band_gap")
    with lab.store.read() as connection:
        text = sa.text(
            "SELECT count(DISTINCT e.composition_id), count(e.band_gap) "
            "FROM dataset_members AS m JOIN entry AS e ON e.id = m.entry_id "
            "WHERE m.dataset = 'd@1' AND m.split = 'train'"
        )
        compositions, with_gap = connection.execute(text).one()
    assert (len(plain.compositions), len(gaps.compositions)) == (compositions, with_gap)
    with pytest.raises(NotFoundError, match="known: band_gap"):
        training_data(lab.store, lab.version.id, "bandgap")


def test_an_empty_split_fails_with_its_reason(own_lab: Lab) -> None:
    store = own_lab.store
    chosen = selection.by_condition(store, "source = 'mp'")
    version, _ = versions.create(store, "test_only", chosen, "", SplitRecipe((0.0, 0.0, 1.0)))
    spec = training_job("count_given_element", version, 0)
    queue.submit(store, spec)
    Worker(store, TASKS, 60.0, [spec.id]).run()
    assert "the train split is empty" in str(queue.get(store, spec.id).error)
    with pytest.raises(NotFoundError, match="has made no checkpoint"):
        checkpoint_of_job(store, spec.id)


def test_what_cannot_be_asked_for(lab: Lab) -> None:
    with pytest.raises(NotFoundError, match="known: matgan"):
        training_job("matgam", lab.version, 0)
    with pytest.raises(UsageError, match="takes no options, but got width"):
        training_job("uniform", lab.version, 0, {"width": 3})
    with pytest.raises(UsageError, match="has no option 'with'; known: width"):
        training_job("matgan", lab.version, 0, {"with": 3})


def test_checkpoints_by_name_and_id(lab: Lab) -> None:
    matgan = lab.checkpoints["matgan"]
    assert find_checkpoint(lab.store, "matgan:d@1") == matgan
    assert find_checkpoint(lab.store, "matgan:d") == matgan
    assert find_checkpoint(lab.store, str(matgan.id).upper()) == matgan
    with pytest.raises(NotFoundError, match=rf"known: .*{matgan.short_id} \(matgan:d@1\)"):
        find_checkpoint(lab.store, "uniform:d@1")
    with pytest.raises(NotFoundError, match="no dataset version named 'd@7'; known: d@1"):
        find_checkpoint(lab.store, "matgan:d@7")
    with pytest.raises(UsageError, match="at least 4 digits"):
        find_checkpoint(lab.store, "abc")
    assert {c.model for c in list_checkpoints(lab.store)} == {"matgan", "count_given_element"}


def test_several_checkpoints_of_one_name_are_told_apart(own_lab: Lab) -> None:
    work(own_lab.store, training_job("count_given_element", own_lab.version, 1))
    with pytest.raises(UsageError, match="is ambiguous; name one by its id") as caught:
        find_checkpoint(own_lab.store, "count_given_element:d@1")
    assert "(seed 1, iteration 1)" in str(caught.value)
