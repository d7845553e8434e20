"""The jobs table: asking for work, claiming it, and saying how it ended.

Every function is one short transaction. A chunk is held by a lease; a worker that falls silent, or
whose process is gone, loses it and another takes the chunk up again.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb import __version__
from gandb.core.errors import JobError, NotFoundError, UsageError, known_names
from gandb.jobs.owners import is_dead
from gandb.jobs.records import OPEN, Claim, Job, JobSpec, Outcome, State
from gandb.schema.tables import job, job_attempt, job_chunk, job_event
from gandb.store import Store, Transaction

MAX_LOST = 100
"""A chunk whose workers died that often without finishing fails its job."""

_SHORTEST_PREFIX = 4


def now() -> dt.datetime:
    """Return the present moment in UTC, without zone, as the store keeps it."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)


# --- asking ------------------------------------------------------------------------------


def submit(store: Store, wanted: JobSpec) -> Job:
    """Ask for a job; the same work asked for again is the job that is there already.

    A failed or cancelled one is not begun anew: that is what `retry` is for.
    """
    with store.write(alone=False) as tx:
        submit_in(tx, wanted)
    return get(store, wanted.id)


def submit_in(tx: Transaction, wanted: JobSpec) -> None:
    """Ask for a job inside the caller's transaction."""
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
        return
    totals = wanted.totals if len(wanted.totals) == wanted.n_chunks else (1,) * wanted.n_chunks
    chunks = [
        {
            "job_id": wanted.id,
            "chunk": k,
            "state": "pending",
            "result": None,
            "owner": None,
            "lease_until": None,
            "attempts": 0,
            "progress": 0,
            "total": totals[k],
        }
        for k in range(wanted.n_chunks)
    ]
    tx.execute(job_chunk.insert(), chunks)
    _event(tx, wanted.id, f"{wanted.kind} asked for")


# --- looking -----------------------------------------------------------------------------


def get(store: Store, job_id: UUID) -> Job:
    """Return a job by its full id."""
    with store.read() as connection:
        return _job(connection, job_id)


def find(store: Store, reference: str) -> Job:
    """Return the job whose id begins with ``reference`` (at least four digits).

    Raises:
        NotFoundError: there is none; names those that exist.
        UsageError: several begin so.
    """
    prefix = reference.lower()
    with store.read() as connection:
        ids = [str(r[0]) for r in connection.execute(sa.select(job.c.id))]
        hits = [i for i in ids if i.startswith(prefix)]
        if len(prefix) < _SHORTEST_PREFIX or not hits:
            raise NotFoundError(
                f"no job {reference!r}; " + known_names("job", prefix, [i[:8] for i in ids])
            )
        if len(hits) > 1:
            raise UsageError(f"job {reference!r} is ambiguous: {', '.join(sorted(hits))}")
        return _job(connection, UUID(hits[0]))


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
    with store.read() as connection:
        return [dict(r) for r in connection.execute(query).mappings()]


def chunks(store: Store, job_id: UUID) -> list[dict[str, Any]]:
    """Return the chunks of a job with their state."""
    query = sa.select(job_chunk).where(job_chunk.c.job_id == job_id).order_by(job_chunk.c.chunk)
    with store.read() as connection:
        return [dict(r) for r in connection.execute(query).mappings()]


def attempts(store: Store, job_id: UUID) -> list[dict[str, Any]]:
    """Return who tried which chunk of a job, oldest first."""
    query = (
        sa.select(job_attempt)
        .where(job_attempt.c.job_id == job_id)
        .order_by(job_attempt.c.started_at, job_attempt.c.chunk)
    )
    with store.read() as connection:
        return [dict(r) for r in connection.execute(query).mappings()]


def any_open(store: Store, kinds: Sequence[str]) -> bool:
    """Say whether there is a job of these kinds that has not ended."""
    query = sa.select(sa.literal(1)).where(job.c.state.in_(OPEN), job.c.kind.in_(list(kinds)))
    with store.read() as connection:
        return connection.execute(query.limit(1)).first() is not None


# --- working -----------------------------------------------------------------------------


def claim(
    store: Store,
    owner: str,
    lease_seconds: float,
    only: Sequence[UUID] | None = None,
    kinds: Sequence[str] | None = None,
) -> Claim | None:
    """Take a chunk that nobody holds: oldest job first, chunks in order.

    Args:
        store: where the jobs are.
        owner: this worker, see `gandb.jobs.owners`.
        lease_seconds: how long the claim holds without a sign of life.
        only: take from these jobs alone.
        kinds: take jobs of these kinds alone.

    Raises:
        JobError: the job was begun by another version of gandb.
    """
    moment = now()
    with store.write(alone=False) as tx:
        dead = [o for o in _owners(tx.connection) if is_dead(o)]
        free = sa.or_(
            job_chunk.c.owner.is_(None),
            job_chunk.c.lease_until < moment,
            job_chunk.c.owner.in_(dead),
        )
        other = job_chunk.alias("other")
        others_open = (
            sa.select(sa.literal(1))
            .where(
                other.c.job_id == job_chunk.c.job_id,
                other.c.chunk != job_chunk.c.chunk,
                other.c.state != "done",
            )
            .exists()
        )
        closes = sa.and_(job_chunk.c.chunk == job.c.n_chunks - 1, job.c.n_chunks > 1)
        query = (
            sa.select(job_chunk)
            .join(job, job.c.id == job_chunk.c.job_id)
            .where(
                job.c.state.in_(OPEN),
                job_chunk.c.state != "done",
                free,
                sa.or_(sa.not_(closes), sa.not_(others_open)),
            )
            .order_by(job.c.created_at, job.c.id, job_chunk.c.chunk)
            .limit(1)
        )
        if only is not None:
            query = query.where(job.c.id.in_(list(only)))
        if kinds is not None:
            query = query.where(job.c.kind.in_(list(kinds)))
        if store.kind == "postgres":
            query = query.with_for_update(skip_locked=True, of=job_chunk)
        row = tx.execute(query).mappings().first()
        if row is None:
            return None
        held = _job(tx.connection, row["job_id"])
        _refuse_other_code(held)
        if row["owner"] is not None:
            _end_attempt(tx, held.id, row["chunk"], row["attempts"], "lost")
            _event(tx, held.id, f"chunk {row['chunk']} taken over from a lost worker", "warning")
            if row["attempts"] >= MAX_LOST:
                message = f"chunk {row['chunk']} was lost {row['attempts']} times by its workers"
                _finish(tx, held.id, State.FAILED, message)
                return None
        attempt = row["attempts"] + 1
        _update_chunk(
            tx, held.id, row["chunk"],
            state="running", owner=owner, attempts=attempt,
            lease_until=moment + dt.timedelta(seconds=lease_seconds),
        )  # fmt: skip
        tx.execute(
            job_attempt.insert(),
            {
                "job_id": held.id,
                "chunk": row["chunk"],
                "attempt": attempt,
                "worker": owner,
                "started_at": moment,
                "ended_at": None,
                "outcome": None,
            },
        )
        if held.state is State.QUEUED:
            tx.execute(sa.update(job).where(job.c.id == held.id).values(state=State.RUNNING.value))
    return Claim(held, int(row["chunk"]), int(attempt), owner)


def renew(store: Store, held: Claim, lease_seconds: float, progress: int | None) -> None:
    """Show a sign of life.

    Raises:
        JobError: the job was cancelled, or another worker has the chunk now.
    """
    with store.write(alone=False) as tx:
        _require_lease(tx, held)
        values: dict[str, Any] = {"lease_until": now() + dt.timedelta(seconds=lease_seconds)}
        if progress is not None:
            values["progress"] = progress
        _update_chunk(tx, held.job.id, held.chunk, **values)


def complete(store: Store, held: Claim, outcome: Outcome) -> bool:
    """Merge a chunk's rows and mark it as done, in one transaction; return if the job is done.

    Raises:
        JobError: the job was cancelled, or another worker has the chunk now. Nothing is merged.
    """
    with store.write() as tx:
        _require_lease(tx, held)
        outcome.merge(tx)
        total = sa.select(job_chunk.c.total).where(
            job_chunk.c.job_id == held.job.id, job_chunk.c.chunk == held.chunk
        )
        _update_chunk(
            tx, held.job.id, held.chunk,
            state="done", result=dict(outcome.result), owner=None, lease_until=None,
            progress=tx.execute(total).scalar_one(),
        )  # fmt: skip
        _end_attempt(tx, held.job.id, held.chunk, held.attempt, "done")
        left = sa.select(sa.func.count()).where(
            job_chunk.c.job_id == held.job.id, job_chunk.c.state != "done"
        )
        finished = bool(tx.execute(left).scalar_one() == 0)
        if finished:
            _finish(tx, held.job.id, State.DONE)
    return finished


def fail(store: Store, held: Claim, message: str) -> None:
    """Give a chunk up and fail its job."""
    with store.write(alone=False) as tx:
        _release(tx, held, "failed")
        _finish(tx, held.job.id, State.FAILED, message)


def release(store: Store, held: Claim, outcome: str = "lost") -> None:
    """Hand a chunk back unfinished, so that another worker can take it at once."""
    with store.write(alone=False) as tx:
        _release(tx, held, outcome)


def cancel(store: Store, job_id: UUID) -> None:
    """Stop a job: workers drop its chunks at their next sign of life; what is merged stays.

    Raises:
        JobError: it has ended already.
    """
    with store.write(alone=False) as tx:
        held = _job(tx.connection, job_id)
        if held.state.value not in OPEN:
            raise JobError(f"job {held.short_id} is {held.state.value}; there is nothing to cancel")
        _finish(tx, job_id, State.CANCELLED)


def retry(store: Store, job_id: UUID) -> Job:
    """Queue a failed or cancelled job again; chunks that are done stay done.

    Raises:
        JobError: it is neither failed nor cancelled.
    """
    with store.write(alone=False) as tx:
        held = _job(tx.connection, job_id)
        if held.state not in (State.FAILED, State.CANCELLED):
            raise JobError(
                f"job {held.short_id} is {held.state.value}; "
                "only failed or cancelled jobs can be retried"
            )
        _refuse_other_code(held)
        tx.execute(
            sa.update(job)
            .where(job.c.id == job_id)
            .values(state=State.QUEUED.value, error=None, finished_at=None)
        )
        tx.execute(
            sa.update(job_chunk)
            .where(job_chunk.c.job_id == job_id, job_chunk.c.state != "done")
            .values(state="pending", owner=None, lease_until=None, attempts=0)
        )
        tx.execute(
            sa.delete(job_attempt).where(
                job_attempt.c.job_id == job_id, job_attempt.c.outcome.is_(None)
            )
        )
        _event(tx, job_id, "asked for again")
    return get(store, job_id)


def log(store: Store, job_id: UUID, message: str, level: str = "info") -> None:
    """Write a line to a job's log."""
    with store.write(alone=False) as tx:
        _event(tx, job_id, message, level)


# --- inside a transaction ----------------------------------------------------------------


def _job(connection: sa.Connection, job_id: UUID) -> Job:
    columns = [c for c in job.c if c.name not in {"created_at", "finished_at"}]
    row = connection.execute(sa.select(*columns).where(job.c.id == job_id)).mappings().first()
    if row is None:
        raise NotFoundError(f"no job {job_id}")
    return Job(**{**row, "state": State(row["state"])})


def _owners(connection: sa.Connection) -> list[str]:
    query = sa.select(job_chunk.c.owner).where(job_chunk.c.owner.is_not(None)).distinct()
    return [r[0] for r in connection.execute(query)]


def _refuse_other_code(held: Job) -> None:
    if held.code_version != __version__:
        raise JobError(
            f"job {held.short_id} was begun by gandb {held.code_version}, this is {__version__}: "
            "its chunks would not be alike; cancel it and ask for it anew, or install that version"
        )


def _require_lease(tx: Transaction, held: Claim) -> None:
    query = (
        sa.select(job.c.state, job_chunk.c.owner, job_chunk.c.attempts)
        .join(job_chunk, job_chunk.c.job_id == job.c.id)
        .where(job.c.id == held.job.id, job_chunk.c.chunk == held.chunk)
    )
    if tx.connection.dialect.name == "postgresql":
        query = query.with_for_update(of=job_chunk)
    row = tx.execute(query).mappings().one()
    if row["state"] == State.CANCELLED.value:
        raise CancelledError(f"job {held.job.short_id} was cancelled")
    mine = row["owner"] == held.owner and row["attempts"] == held.attempt
    if row["state"] not in OPEN or not mine:
        raise LeaseLostError(
            f"chunk {held.chunk} of job {held.job.short_id} has another worker now"
        )


def _update_chunk(tx: Transaction, job_id: UUID, chunk: int, **values: Any) -> None:
    tx.execute(
        sa.update(job_chunk)
        .where(job_chunk.c.job_id == job_id, job_chunk.c.chunk == chunk)
        .values(**values)
    )


def _release(tx: Transaction, held: Claim, outcome: str) -> None:
    tx.execute(
        sa.update(job_chunk)
        .where(
            job_chunk.c.job_id == held.job.id,
            job_chunk.c.chunk == held.chunk,
            job_chunk.c.owner == held.owner,
        )
        .values(state="pending", owner=None, lease_until=None)
    )
    _end_attempt(tx, held.job.id, held.chunk, held.attempt, outcome)


def _end_attempt(tx: Transaction, job_id: UUID, chunk: int, attempt: int, outcome: str) -> None:
    tx.execute(
        sa.update(job_attempt)
        .where(
            job_attempt.c.job_id == job_id,
            job_attempt.c.chunk == chunk,
            job_attempt.c.attempt == attempt,
        )
        .values(ended_at=now(), outcome=outcome)
    )


def _finish(tx: Transaction, job_id: UUID, state: State, error: str | None = None) -> None:
    tx.execute(
        sa.update(job)
        .where(job.c.id == job_id)
        .values(state=state.value, error=error, finished_at=now())
    )
    level = "error" if state is State.FAILED else "info"
    _event(tx, job_id, f"{state.value}: {error}" if error else state.value, level)


def _event(tx: Transaction, job_id: UUID, message: str, level: str = "info") -> None:
    row = {"id": uuid.uuid4(), "job_id": job_id, "at": now(), "level": level, "message": message}
    tx.execute(job_event.insert(), row)


class CancelledError(JobError):
    """The job was cancelled while a worker was at it."""


class LeaseLostError(JobError):
    """Another worker holds the chunk."""
