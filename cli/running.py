"""Running jobs while the user watches: the same worker as ``gandb worker``, with bars."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gandb.cli.output import message
from gandb.core.errors import JobError

if TYPE_CHECKING:
    from gandb.core.config import Settings
    from gandb.jobs.records import Job, JobSpec
    from gandb.store import Store


_MANY = 20_000
"""Between lines of progress where nobody knows how many there will be."""
_COUNTED = {
    "check_structures": "structures",
    "fingerprints": "structures",
    "identify": "comparisons",
    "keys": "structures",
    "relax": "structures",
    "relaxed_novelty": "comparisons",
    "stability": "structures",
    "structure_novelty": "comparisons",
}
"""What jobs of a kind count; records where it is not said."""


def ask(store: Store, wanted: JobSpec) -> Job:
    """Ask for a job; one that failed or was cancelled before is queued again."""
    from gandb.jobs import queue
    from gandb.jobs.records import State

    job = queue.submit(store, wanted)
    if job.state in (State.FAILED, State.CANCELLED):
        message(f"job {job.short_id} had {job.state.value}; trying it again")
        job = queue.retry(store, job.id)
    return job


def run_and_wait(
    store: Store, settings: Settings, jobs: Sequence[Job], *, threads: int, labels: Sequence[str]
) -> list[Job]:
    """Do jobs in this process until all have ended; return them as they are then.

    Raises:
        JobError: one of them failed or was cancelled.
    """
    from gandb.jobs import queue
    from gandb.jobs.records import OPEN, State
    from gandb.jobs.worker import Worker
    from gandb.tasks import TASKS

    open_jobs = [job for job in jobs if job.state.value in OPEN]
    if open_jobs:
        only = [job.id for job in open_jobs]
        try:
            with Bars(store, open_jobs, dict(zip([j.id for j in jobs], labels, strict=True))) as b:
                Worker(store, TASKS, settings.lease_seconds, only, b.on_progress).run(threads)
        except KeyboardInterrupt:
            message("stopped; what is done so far is kept, and the same command goes on from there")
            raise
    ended = [queue.get(store, job.id) for job in jobs]
    for job in ended:
        if job.state is State.FAILED:
            raise JobError(
                f"job {job.short_id} failed: {job.error} (more: gandb job logs {job.short_id})"
            )
        if job.state is State.CANCELLED:
            raise JobError(
                f"job {job.short_id} was cancelled; to go on: gandb job retry {job.short_id}"
            )
    return ended


class Bars:
    """One bar per job on a terminal; elsewhere a line at each tenth of the way."""

    def __init__(self, store: Store, jobs: Sequence[Job], labels: dict[Any, str]) -> None:
        from gandb.jobs import queue

        self._lock = threading.Lock()
        self._done: dict[Any, dict[int, int]] = {}
        self._total: dict[Any, int] = {}
        self._labels = labels
        self._said: dict[Any, int] = {}
        self._counted = {job.id: _COUNTED.get(job.kind, "records") for job in jobs}
        for job in jobs:
            chunks = queue.chunks(store, job.id)
            self._total[job.id] = sum(c["total"] for c in chunks)
            self._done[job.id] = {
                c["chunk"]: c["total"] if c["state"] == "done" else c["progress"] for c in chunks
            }
            self._said[job.id] = 0
        self._bars: Any = None
        self._tasks: dict[Any, Any] = {}

    def __enter__(self) -> Bars:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
            from rich.progress import TimeRemainingColumn as Remaining

            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[amount]}"),
                TimeElapsedColumn(),
                Remaining(),
                console=Console(file=sys.stderr),
            )
            self._bars.start()
            for job_id, total in self._total.items():
                done = sum(self._done[job_id].values())
                label = self._labels[job_id]
                self._tasks[job_id] = self._bars.add_task(
                    label,
                    total=total or None,
                    completed=done,
                    amount=self._amount(job_id, done),
                )
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def on_progress(self, job: Job, chunk: int, done: int) -> None:
        """Take note of steps done."""
        with self._lock:
            steps = self._done[job.id]
            steps[chunk] = max(done, steps.get(chunk, 0))
            total, so_far = self._total[job.id], sum(steps.values())
            if self._bars is not None:
                amount = self._amount(job.id, so_far)
                self._bars.update(self._tasks[job.id], completed=so_far, amount=amount)
                return
            tenth = 10 * so_far // total if total else so_far // _MANY
            if tenth > self._said[job.id]:
                self._said[job.id] = tenth
                message(f"{self._labels[job.id]}: {self._amount(job.id, so_far).strip()}")

    def _amount(self, job_id: Any, done: int) -> str:
        """Write how far a job is; a total of 0 is not known."""
        total = self._total[job_id]
        return f"{done:>9,}/{total:,}" if total else f"{done:>9,} {self._counted[job_id]}"
