"""A small store with a bit of everything, made through the same tasks that users run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gandb.core.config import Settings
from gandb.datasets import selection, versions
from gandb.jobs import queue
from gandb.jobs.records import Job, JobSpec, State
from gandb.jobs.worker import Worker
from gandb.sources.sample import sample_files
from gandb.store import Store
from gandb.tasks import TASKS
from gandb.tasks.data import checkpoint_of_job
from gandb.tasks.generation import generation_job
from gandb.tasks.importing import import_job
from gandb.tasks.training import training_job

BASELINES = ("count_given_element", "uniform")
ROWS = 400
SAMPLES = 2_000


@dataclass(frozen=True)
class Filled:
    """The store and the generation jobs that were done in it."""

    store: Store
    jobs: list[Job]
    dataset: versions.Version


def run(store: Store, spec: JobSpec) -> Job:
    """Do one job and return it as it ended."""
    job = queue.submit(store, spec)
    Worker(store, TASKS, 60.0, only=[job.id]).run()
    ended = queue.get(store, job.id)
    assert ended.state is State.DONE, ended.error
    return ended


def head(source: Path, target: Path, rows: int) -> Path:
    """Copy the first rows of a packed table into a plain one."""
    import gzip

    with gzip.open(source, "rt", encoding="utf-8") as lines:
        target.write_text("".join(line for line, _ in zip(lines, range(rows + 1), strict=False)))
    return target


def fill(url: str, folder: Path, blobs: str | None = None) -> Filled:
    """Make a store at ``url`` with records of two databases, a dataset and candidates.

    Args:
        url: where; a path or a PostgreSQL URL.
        folder: for the tables to import, and for blobs of a PostgreSQL store.
        blobs: where blobs go; beside the tables by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = Store.create(
        Settings(store=url), blobs or (str(folder / "blobs") if "://" in url else None)
    )
    for source in ("mp", "oqmd"):
        tables = [
            head(p, folder / p.name.removesuffix(".gz"), ROWS) for p in sample_files()[source]
        ]
        (folder / "bad.csv").write_text("formula,value\nXx2,1\nFe2O3,many\n")
        extra = [folder / "bad.csv"] if source == "oqmd" else []
        mapping = {"value": "band_gap"} if extra else None
        run(store, import_job(source, tables, release="sample"))
        if extra:
            run(store, import_job(source, extra, mapping=mapping, release="bad"))
    chosen = selection.by_condition(store, "cnen_strict")
    dataset, _ = versions.create(store, "balanced", chosen, "a 'quoted', message\nof two lines")
    jobs = []
    for name in BASELINES:
        trained = run(store, training_job(name, dataset, seed=0))
        checkpoint = checkpoint_of_job(store, trained.id)
        jobs.append(run(store, generation_job(checkpoint, SAMPLES, seed=0, chunk_size=800)))
    return Filled(store, jobs, dataset)
