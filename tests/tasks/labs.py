"""Small stores with real records, and jobs done in them."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gandb.core.config import Settings
from gandb.datasets import selection, versions
from gandb.jobs import queue
from gandb.jobs.records import Job, JobSpec
from gandb.jobs.worker import Worker
from gandb.sources.sample import sample_files
from gandb.store import Store
from gandb.tasks import TASKS
from gandb.tasks.data import Checkpoint, checkpoint_of_job
from gandb.tasks.generation import generation_job
from gandb.tasks.importing import import_job
from gandb.tasks.novelty import novelty_job
from gandb.tasks.training import training_job

TINY = {
    "iterations": 12,
    "width": 8,
    "critic_width": 8,
    "charges": 4,
    "batch_size": 16,
    "generator_batch": 16,
}
"""Options of a MatGAN that trains in a moment."""


def cut_tables(folder: Path, rows: int) -> list[Path]:
    """Write the first rows of the MP sample's two tables, polymorphs and all."""
    cut = []
    for path in sample_files()["mp"]:
        with gzip.open(path, "rt", encoding="utf-8") as handle:
            lines = [line for _, line in zip(range(rows + 1), handle, strict=False)]
        target = folder / path.name.removesuffix(".gz")
        target.write_text("".join(lines), encoding="utf-8")
        cut.append(target)
    return cut


def make_store(address: str, folder: Path) -> Store:
    """Make a store, its blobs in ``folder`` where it is a database."""
    blobs = str(folder / "blobs") if "://" in address else None
    return Store.create(Settings(address), blobs)


def work(store: Store, *wanted: JobSpec, threads: int = 1) -> list[Job]:
    """Have jobs done in this process; each must end well."""
    jobs = [queue.submit(store, spec) for spec in wanted]
    Worker(store, TASKS, 60.0, [job.id for job in jobs]).run(threads)
    ended = [queue.get(store, job.id) for job in jobs]
    assert [job.error for job in ended] == [None] * len(jobs)
    assert {job.state.value for job in ended} == {"done"}
    return ended


def import_and_split(store: Store, files: Sequence[Path], name: str = "d") -> versions.Version:
    """Import tables of MP and make a dataset version of all entries."""
    work(store, import_job("mp", files))
    chosen = selection.by_condition(store, "source = 'mp'")
    version, _ = versions.create(store, name, chosen, "all")
    return version


def train(store: Store, model: str, version: versions.Version, seed: int = 0) -> Checkpoint:
    """Train a model, MatGAN as `TINY`."""
    options = TINY if model == "matgan" else None
    (job,) = work(store, training_job(model, version, seed, options))
    return checkpoint_of_job(store, job.id)


@dataclass(frozen=True)
class Lab:
    """A store with a dataset version, two checkpoints, two generation jobs of each, and novelty."""

    store: Store
    version: versions.Version
    checkpoints: dict[str, Checkpoint]
    jobs: dict[tuple[str, int], Job]


MODELS = ("matgan", "count_given_element")
SAMPLES, CHUNK = 2_300, 900


def make_lab(
    address: str,
    folder: Path,
    files: Sequence[Path],
    *,
    threads: int = 1,
    seeds: Sequence[int] = (0, 1),
) -> Lab:
    """Do everything once."""
    store = make_store(address, folder)
    version = import_and_split(store, files)
    checkpoints = {model: train(store, model, version) for model in MODELS}
    jobs = {}
    for seed in seeds:
        wanted = [generation_job(c, SAMPLES, seed, chunk_size=CHUNK) for c in checkpoints.values()]
        for model, job in zip(checkpoints, work(store, *wanted, threads=threads), strict=True):
            jobs[model, seed] = job
    chosen = selection.by_condition(store, "band_gap > 0.1")
    other, _ = versions.create(store, "gapped", chosen, "with a gap")
    work(store, *(novelty_job(store, c, other) for c in checkpoints.values()), threads=threads)
    return Lab(store, version, checkpoints, jobs)
