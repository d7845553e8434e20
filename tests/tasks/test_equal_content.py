"""One content, whatever the engine, the number of threads and processes, and how often."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gandb.datasets import selection, versions
from gandb.jobs import queue
from gandb.store import Store
from gandb.tasks.generation import generation_job
from gandb.tasks.importing import import_job
from gandb.tasks.novelty import novelty_job
from gandb.tasks.training import training_job
from tests.conftest import ROOT
from tests.content import differences, digest, dump
from tests.tasks.labs import (
    CHUNK,
    SAMPLES,
    TINY,
    Lab,
    import_and_split,
    make_lab,
    make_store,
    train,
)


@pytest.mark.postgres
def test_both_engines_say_the_same(
    lab: Lab, tables: list[Path], tmp_path: Path, postgres_database: str
) -> None:
    other = make_lab(postgres_database, tmp_path, tables)
    assert differences(dump(lab.store), dump(other.store)) == []
    assert digest(lab.store) == digest(other.store)
    assert other.version.id == lab.version.id
    assert other.checkpoints == lab.checkpoints
    assert sorted(other.store.files.blobs()) == sorted(lab.store.files.blobs())


def test_threads_and_a_second_run_change_nothing(
    lab: Lab, tables: list[Path], tmp_path: Path
) -> None:
    other = make_lab(str(tmp_path / "store"), tmp_path, tables, threads=3)
    assert differences(dump(lab.store), dump(other.store)) == []
    before, events = dump(other.store), len(queue.listing(other.store))
    import_and_split(other.store, tables)
    for model in other.checkpoints:
        train(other.store, model, other.version)
    for model, seed in other.jobs:
        spec = generation_job(other.checkpoints[model], SAMPLES, seed, chunk_size=CHUNK)
        assert queue.submit(other.store, spec) == other.jobs[model, seed]
    chosen = selection.by_condition(other.store, "band_gap > 0.1")
    version, new = versions.create(other.store, "gapped", chosen, "again")
    assert not new
    spec = novelty_job(other.store, other.checkpoints["matgan"], version)
    assert queue.submit(other.store, spec).state.value == "done"
    assert dump(other.store) == before
    assert len(queue.listing(other.store)) == events


def race(store: Store, workers: int, chunks: int) -> None:
    """Let so many worker processes do everything that is queued; it must come to so many chunks."""
    command = [sys.executable, "-c", "from gandb.cli.app import main; main()", "worker"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GANDB_STORE": store.location}
    processes = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(workers)
    ]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * workers, said
    done = [int(text.splitlines()[-1].removesuffix(" chunks done")) for text in said]
    assert sum(done) == chunks


def submit_generation(store: Store, lab: Lab) -> int:
    for (model, seed), job in lab.jobs.items():
        spec = generation_job(lab.checkpoints[model], SAMPLES, seed, chunk_size=CHUNK)
        assert queue.submit(store, spec).id == job.id
    return sum(job.n_chunks for job in lab.jobs.values())


def test_two_processes_generate_the_same(lab: Lab, tables: list[Path], tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    version = import_and_split(store, tables)
    for model in lab.checkpoints:
        train(store, model, version)
    race(store, 2, submit_generation(store, lab))
    content, whole = dump(store), dump(lab.store)
    for table in ("candidate", "generation_event", "metric", "composition"):
        assert content[table] == whole[table]


@pytest.mark.slow
def test_three_processes_race_for_everything(lab: Lab, tables: list[Path], tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    queue.submit(store, import_job("mp", tables))
    race(store, 3, 1)
    chosen = selection.by_condition(store, "source = 'mp'")
    version, _ = versions.create(store, "d", chosen, "all")
    for model in lab.checkpoints:
        queue.submit(store, training_job(model, version, 0, TINY if model == "matgan" else None))
    race(store, 3, 2)
    race(store, 3, submit_generation(store, lab))
    chosen = selection.by_condition(store, "band_gap > 0.1")
    other, _ = versions.create(store, "gapped", chosen, "with a gap")
    for found in lab.checkpoints.values():
        queue.submit(store, novelty_job(store, found, other))
    race(store, 3, 2)
    assert differences(dump(lab.store), dump(store)) == []
