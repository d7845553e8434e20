"""The jobs table as its users see it: asking for work, looking at it, stopping it.

Every function is one short transaction; `gandb.jobs.leases` has the workers' side.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb import __version__
from gandb.core.errors import JobError, NotFoundError, UsageError, known_names
from gandb.jobs.owners import is_dead
from gandb.jobs.records import OPEN, Job, JobSpec, State
from gandb.jobs.rows import end_job, now, read_job, require_own_version, write_event
from gandb.schema.tables import job, job_attempt, job_chunk, job_event
from gandb.store import Store, Transaction

__all__ = [
    "attempts",
    "cancel",
    "chunk_results",
    "chunks",
    "done_within",
    "events",
    "find",
    "get",
    "listing",
    "log",
    "now",
    "of_other_versions",
    "retry",
    "submit",
    "unfinished",
]

_SHORTEST_PREFIX = 4


# --- asking ------------------------------------------------------------------------------


def submit(store: Store, wanted: JobSpec) -> Job:
    """Ask for a job; the same work asked for again is the job that is there already.

    A failed or cancelled one is not begun anew: that is what `retry` is for. A job that another
    version of gandb was asked for, but has not got anywhere with, becomes this version's.
    """
    try:
        with store.write(alone=False) as tx:
            if not _insert(tx, wanted):
                _adopt(store, tx, read_job(tx.connection, wanted.id))
    except sa.exc.IntegrityError:
        pass  # on PostgreSQL, somebody asked for the same in the same moment
    return get(store, wanted.id)


def _insert(tx: Transaction, wanted: JobSpec) -> bool:
    row = {
        "id": wanted.id,
        "kind": wanted.kind,
        "spec": dict(wanted.spec),
        "dataset_version_id": wanted.dataset_version_id,
        "checkpoint_id": wanted.checkpoint_id,
        "seed": wanted.seed,
        "code_version": __version__,
        "n_chunks": wanted.n_chunks,
        "state": State.QUEUED.value,
        "error": None,
        "created_at": now(),
        "finished_at": None,
    }
    if not tx.insert_new(job, row):
        return False
    rows = [
        {
            "job_id": wanted.id,
            "chunk": chunk,
            "state": "pending",
            "result": None,
            "owner": None,
            "lease_until": None,
            "attempts": 0,
            "progress": 0,
            "total": total,
        }
        for chunk, total in enumerate(wanted.totals)
    ]
    tx.execute(job_chunk.insert(), rows)
    write_event(tx, wanted.id, f"{wanted.kind} asked for")
    return True


def _adopt(store: Store, tx: Transaction, held: Job) -> bool:
    """Make a job of another version this one's if nothing of it is done or being done."""
    if held.code_version == __version__ or held.state is State.DONE:
        return held.code_version == __version__
    query = sa.select(job_chunk.c.state, job_chunk.c.owner).where(job_chunk.c.job_id == held.id)
    for row in tx.execute(query):
        if row.state == "done" or (row.owner is not None and not is_dead(row.owner)):
            return False
    store.files.unstage(str(held.id))  # how far the other version got means nothing to this one
    tx.execute(sa.update(job).where(job.c.id == held.id).values(code_version=__version__))
    write_event(tx, held.id, f"taken over from gandb {held.code_version}")
    return True


def cancel(store: Store, job_id: UUID) -> None:
    """Stop a job: workers drop its chunks within seconds; what is merged stays.

    Raises:
        JobError: it has ended already.
    """
    with store.write(alone=False) as tx:
        if not end_job(tx, job_id, State.CANCELLED):
            held = read_job(tx.connection, job_id)
            raise JobError(f"job {held.short_id} is {held.state.value}; there is nothing to cancel")


def retry(store: Store, job_id: UUID) -> Job:
    """Queue a failed or cancelled job again; chunks that are done stay done.

    Raises:
        JobError: it is neither failed nor cancelled, or another version of gandb did part of it.
    """
    with store.write(alone=False) as tx:
        held = read_job(tx.connection, job_id)
        if held.state not in (State.FAILED, State.CANCELLED):
            raise JobError(
                f"job {held.short_id} is {held.state.value}; "
                "only failed or cancelled jobs can be retried"
            )
        if not _adopt(store, tx, held):
            require_own_version(held)
        # Chunks first, as a worker that completes one does, so that neither waits for the other.
        tx.execute(
            sa.update(job_chunk)
            .where(job_chunk.c.job_id == job_id, job_chunk.c.state != "done")
            .values(state="pending", owner=None, lease_until=None)
        )
        tx.execute(
            sa.update(job_attempt)
            .where(job_attempt.c.job_id == job_id, job_attempt.c.outcome.is_(None))
            .values(outcome=held.state.value, ended_at=now())
        )
        tx.execute(
            sa.update(job)
            .where(job.c.id == job_id)
            .values(state=State.QUEUED.value, error=None, finished_at=None)
        )
        write_event(tx, job_id, "asked for again")
    return get(store, job_id)


def log(store: Store, job_id: UUID, message: str, level: str = "info") -> None:
    """Write a line to a job's log."""
    with store.write(alone=False) as tx:
        write_event(tx, job_id, message, level)


# --- looking -----------------------------------------------------------------------------


def get(store: Store, job_id: UUID) -> Job:
    """Return a job by its full id."""
    with store.read() as connection:
        return read_job(connection, job_id)


def find(store: Store, reference: str) -> Job:
    """Return the job whose id begins with ``reference``.

    Raises:
        NotFoundError: there is none; names those that exist.
        UsageError: it is too short, or several begin so.
    """
    prefix = reference.lower()
    if len(prefix) < _SHORTEST_PREFIX:
        raise UsageError(
            f"job {reference!r}: give at least {_SHORTEST_PREFIX} digits of its id; "
            "gandb job list shows them"
        )
    with store.read() as connection:
        query = sa.select(job.c.id).order_by(job.c.created_at.desc(), job.c.id)
        ids = [str(r[0]) for r in connection.execute(query)]
        hits = [i for i in ids if i.startswith(prefix)]
        if not hits:
            known = known_names("job", prefix, [i[:8] for i in ids])
            raise NotFoundError(f"no job {reference!r}; {known}")
        if len(hits) > 1:
            raise UsageError(f"job {reference!r} is ambiguous: {', '.join(sorted(hits))}")
        return read_job(connection, UUID(hits[0]))


def listing(
    store: Store, state: str | None = None, kind: str | None = None
) -> list[dict[str, Any]]:
    """Return jobs, newest first, with progress."""
    done = sa.func.sum(sa.case((job_chunk.c.state == "done", 1), else_=0))
    # A chunk that is done counts whole, whatever was reported on the way.
    steps = sa.func.sum(
        sa.case((job_chunk.c.state == "done", job_chunk.c.total), else_=job_chunk.c.progress)
    )
    query = (
        sa.select(
            job.c.id.label("job_id"),
            job.c.kind,
            job.c.state,
            done.label("chunks_done"),
            job.c.n_chunks,
            steps.label("steps_done"),
            sa.func.sum(job_chunk.c.total).label("steps"),
            sa.func.sum(job_chunk.c.attempts).label("attempts"),
            job.c.seed,
            job.c.created_at,
            job.c.finished_at,
            job.c.error,
        )
        .join(job_chunk, job_chunk.c.job_id == job.c.id)
        .group_by(*(c for c in job.c if c.name != "spec"))
        .order_by(job.c.created_at.desc(), job.c.id)
    )
    if state:
        query = query.where(job.c.state == state)
    if kind:
        query = query.where(job.c.kind == kind)
    with store.read() as connection:
        return [dict(r) for r in connection.execute(query).mappings()]


def of_other_versions(store: Store, only: Sequence[UUID] | None = None) -> list[Job]:
    """Return the open jobs that another version of gandb began: no worker of this one does them."""
    query = sa.select(job.c.id).where(job.c.state.in_(OPEN), job.c.code_version != __version__)
    if only is not None:
        query = query.where(job.c.id.in_(list(only)))
    with store.read() as connection:
        found = connection.execute(query.order_by(job.c.created_at, job.c.id)).all()
        return [read_job(connection, row[0]) for row in found]


def unfinished(store: Store, kind: str) -> list[Job]:
    """List the jobs of a kind that are not done, newest first."""
    query = (
        sa.select(job.c.id)
        .where(job.c.kind == kind, job.c.state != State.DONE.value)
        .order_by(job.c.created_at.desc())
    )
    with store.read() as connection:
        return [read_job(connection, found) for found in connection.scalars(query).all()]


def done_within(store: Store, span: dt.timedelta) -> list[UUID]:
    """Return the jobs that were done lately."""
    query = sa.select(job.c.id).where(
        job.c.state == State.DONE.value, job.c.finished_at > now() - span
    )
    with store.read() as connection:
        return [row[0] for row in connection.execute(query)]


def chunk_results(connection: sa.Connection, job_id: UUID) -> list[dict[str, Any]]:
    """Return the results of the chunks that are done, in order."""
    query = (
        sa.select(job_chunk.c.result)
        .where(job_chunk.c.job_id == job_id, job_chunk.c.state == "done")
        .order_by(job_chunk.c.chunk)
    )
    return [r[0] for r in connection.execute(query) if r[0]]


def events(store: Store, job_id: UUID) -> list[dict[str, Any]]:
    """Return a job's log, oldest first."""
    query = (
        sa.select(job_event.c.at, job_event.c.level, job_event.c.message)
        .where(job_event.c.job_id == job_id)
        .order_by(job_event.c.at)
    )
    return _rows(store, query)


def chunks(store: Store, job_id: UUID) -> list[dict[str, Any]]:
    """Return the chunks of a job with their state."""
    query = sa.select(job_chunk).where(job_chunk.c.job_id == job_id).order_by(job_chunk.c.chunk)
    return _rows(store, query)


def attempts(store: Store, job_id: UUID) -> list[dict[str, Any]]:
    """Return who tried which chunk of a job, oldest first."""
    query = (
        sa.select(job_attempt)
        .where(job_attempt.c.job_id == job_id)
        .order_by(job_attempt.c.started_at, job_attempt.c.chunk)
    )
    return _rows(store, query)


def _rows(store: Store, query: sa.Select[Any]) -> list[dict[str, Any]]:
    with store.read() as connection:
        return [dict(r) for r in connection.execute(query).mappings()]
