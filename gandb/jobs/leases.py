"""The jobs table as workers see it: claiming a chunk, keeping it, saying how it ended.

Every function is one short transaction. A chunk is held by a lease; a worker that falls silent, or
whose process is gone, loses it and another takes the chunk up again. The number of the attempt
tells them apart: who has an old one can write nothing any more.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb import __version__
from gandb.core.errors import JobError, MemoryLimitError
from gandb.jobs.owners import is_dead
from gandb.jobs.records import OPEN, Claim, Outcome, State
from gandb.jobs.rows import (
    end_attempt,
    end_job,
    locked,
    now,
    read_job,
    update_chunk,
    write_event,
)
from gandb.schema.tables import job, job_attempt, job_chunk
from gandb.store import Store, Transaction

MAX_LOST = 100
"""A chunk that so many workers in a row died of fails its job."""


class CancelledError(JobError):
    """The job was cancelled while a worker was at it."""


class LeaseLostError(JobError):
    """Another worker holds the chunk."""


# --- claiming ----------------------------------------------------------------------------


def any_free(
    store: Store, owner: str, only: Sequence[UUID] | None, kinds: Sequence[str] | None
) -> bool:
    """Say whether `claim` would find a chunk; looking shuts nobody out, claiming does."""
    with store.read() as connection:
        return connection.execute(_free_chunks(connection, owner, only, kinds)).first() is not None


def claim(
    store: Store,
    owner: str,
    lease_seconds: float,
    only: Sequence[UUID] | None = None,
    kinds: Sequence[str] | None = None,
) -> Claim | None:
    """Take a chunk that nobody holds: oldest job first, chunks in order.

    Jobs that another version of gandb began are left alone: its chunks would not be alike.

    Args:
        store: where the jobs are.
        owner: this worker, see `gandb.jobs.owners`; it works on one chunk at a time.
        lease_seconds: how long the claim holds without a sign of life.
        only: take from these jobs alone.
        kinds: take jobs of these kinds alone.
    """
    with store.write(alone=False) as tx:
        query = _free_chunks(tx.connection, owner, only, kinds)
        if tx.connection.dialect.name == "postgresql":
            query = query.with_for_update(skip_locked=True, of=job_chunk)
        while (row := tx.execute(query).mappings().first()) is not None:
            if row["owner"] is None or _take_over(tx, row):
                return _begin(tx, row, owner, lease_seconds)
    return None


def _free_chunks(
    connection: sa.Connection,
    owner: str,
    only: Sequence[UUID] | None,
    kinds: Sequence[str] | None,
) -> sa.Select[Any]:
    """Return the query for the first chunk that ``owner`` may take."""
    held_by = sa.select(job_chunk.c.owner).where(job_chunk.c.owner.is_not(None)).distinct()
    gone = [r[0] for r in connection.execute(held_by) if r[0] == owner or is_dead(r[0])]
    free = sa.or_(
        job_chunk.c.owner.is_(None),
        job_chunk.c.lease_until < now(),
        job_chunk.c.owner.in_(gone),
    )
    other = job_chunk.alias("other")
    others_open = sa.exists().where(
        other.c.job_id == job_chunk.c.job_id,
        other.c.chunk != job_chunk.c.chunk,
        other.c.state != "done",
    )
    closes = sa.and_(job_chunk.c.chunk == job.c.n_chunks - 1, job.c.n_chunks > 1)
    query = (
        sa.select(job_chunk)
        .join(job, job.c.id == job_chunk.c.job_id)
        .where(
            job.c.state.in_(OPEN),
            job.c.code_version == __version__,
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
    return query


def _take_over(tx: Transaction, row: sa.RowMapping) -> bool:
    """Take a chunk from a worker that is gone; False if it was one too many, and the job failed."""
    job_id, chunk, attempt = row["job_id"], row["chunk"], row["attempts"]
    ended_otherwise = sa.select(sa.func.max(job_attempt.c.attempt)).where(
        job_attempt.c.job_id == job_id,
        job_attempt.c.chunk == chunk,
        job_attempt.c.outcome != "lost",
    )
    in_a_row = attempt - (tx.execute(ended_otherwise).scalar() or 0)
    if in_a_row >= MAX_LOST:
        end_attempt(tx, job_id, chunk, attempt, "failed")
        update_chunk(tx, job_id, chunk, state="pending", owner=None, lease_until=None)
        reason = f"chunk {chunk} was lost {in_a_row} times in a row: its workers died of it"
        end_job(tx, job_id, State.FAILED, reason)
        return False
    end_attempt(tx, job_id, chunk, attempt, "lost")
    write_event(tx, job_id, f"chunk {chunk} taken over from a lost worker", "warning")
    return True


def _begin(tx: Transaction, row: sa.RowMapping, owner: str, lease_seconds: float) -> Claim:
    held = Claim(
        job=read_job(tx.connection, row["job_id"]),
        chunk=int(row["chunk"]),
        attempt=int(row["attempts"]) + 1,
        owner=owner,
    )
    moment = now()
    update_chunk(
        tx, held.job.id, held.chunk,
        state="running", owner=owner, attempts=held.attempt,
        lease_until=moment + dt.timedelta(seconds=lease_seconds),
    )  # fmt: skip
    tx.execute(
        job_attempt.insert(),
        {
            "job_id": held.job.id,
            "chunk": held.chunk,
            "attempt": held.attempt,
            "worker": owner,
            "started_at": moment,
            "ended_at": None,
            "outcome": None,
        },
    )
    if held.job.state is State.QUEUED:
        still = (job.c.id == held.job.id, job.c.state == State.QUEUED.value)
        tx.execute(sa.update(job).where(*still).values(state=State.RUNNING.value))
    return held


# --- keeping -----------------------------------------------------------------------------


def check(store: Store, held: Claim) -> None:
    """Look whether the chunk is still this worker's.

    Raises:
        JobError: the job was cancelled, or another worker has the chunk now.
    """
    with store.read() as connection:
        _require(held, connection.execute(_lease(held)).mappings().one())


def renew(store: Store, held: Claim, lease_seconds: float, progress: int | None = None) -> None:
    """Show a sign of life, and how many steps are done.

    Raises:
        JobError: the job was cancelled, or another worker has the chunk now.
    """
    with store.write(alone=False) as tx:
        _require_locked(tx, held)
        values: dict[str, Any] = {"lease_until": now() + dt.timedelta(seconds=lease_seconds)}
        if progress is not None:
            values["progress"] = progress
        update_chunk(tx, held.job.id, held.chunk, **values)


def _lease(held: Claim) -> sa.Select[Any]:
    return (
        sa.select(job.c.state, job_chunk.c.owner, job_chunk.c.attempts, job_chunk.c.total)
        .join(job_chunk, job_chunk.c.job_id == job.c.id)
        .where(job.c.id == held.job.id, job_chunk.c.chunk == held.chunk)
    )


def _require_locked(tx: Transaction, held: Claim) -> sa.RowMapping:
    """Return the row of a lease that nobody else can change until the transaction ends."""
    row = tx.execute(locked(tx.connection, _lease(held), job_chunk)).mappings().one()
    _require(held, row)
    return row


def _require(held: Claim, row: sa.RowMapping) -> None:
    if row["state"] == State.CANCELLED.value:
        raise CancelledError(f"job {held.job.short_id} was cancelled")
    if row["state"] not in OPEN:
        raise LeaseLostError(f"job {held.job.short_id} is {row['state']} by now")
    if row["owner"] != held.owner or row["attempts"] != held.attempt:
        raise LeaseLostError(f"{held} has another worker now")


# --- ending ------------------------------------------------------------------------------


def complete(store: Store, held: Claim, outcome: Outcome) -> bool:
    """Merge a chunk's rows and mark it as done, in one transaction; return if the job is done.

    Raises:
        JobError: the job was cancelled, or another worker has the chunk now. Nothing is merged.
    """
    try:
        return _complete(store, held, outcome, outcome.memory)
    except MemoryLimitError:
        if outcome.memory is None:
            raise
    return _complete(store, held, outcome, None)


def _complete(store: Store, held: Claim, outcome: Outcome, memory: int | None) -> bool:
    with store.write() as tx:
        if memory is not None:
            tx.limit_memory(memory)
        lease = _require_locked(tx, held)
        outcome.merge(tx)
        update_chunk(
            tx, held.job.id, held.chunk,
            state="done", result=dict(outcome.result), owner=None, lease_until=None,
            progress=lease["total"],
        )  # fmt: skip
        end_attempt(tx, held.job.id, held.chunk, held.attempt, "done")
        left = sa.select(sa.func.count()).where(
            job_chunk.c.job_id == held.job.id, job_chunk.c.state != "done"
        )
        finished = bool(tx.execute(left).scalar_one() == 0)
        if finished and not end_job(tx, held.job.id, State.DONE):
            raise CancelledError(f"job {held.job.short_id} was cancelled")
    return finished


def fail(store: Store, held: Claim, reason: str, details: str = "") -> None:
    """Give a chunk up and fail its job; ``details`` go to the job's log.

    Raises:
        JobError: the job was cancelled, or another worker has the chunk now. Nothing changes.
    """
    with store.write(alone=False) as tx:
        _require_locked(tx, held)
        _release(tx, held, "failed")
        if details:
            write_event(tx, held.job.id, details, "error")
        end_job(tx, held.job.id, State.FAILED, reason)


def release(store: Store, held: Claim, outcome: str) -> None:
    """Hand a chunk back unfinished, so that another worker can take it at once."""
    with store.write(alone=False) as tx:
        _release(tx, held, outcome)


def _release(tx: Transaction, held: Claim, outcome: str) -> None:
    mine = (
        job_chunk.c.job_id == held.job.id,
        job_chunk.c.chunk == held.chunk,
        job_chunk.c.owner == held.owner,
        job_chunk.c.attempts == held.attempt,
    )
    given_back = {"state": "pending", "owner": None, "lease_until": None}
    tx.execute(sa.update(job_chunk).where(*mine).values(given_back))
    end_attempt(tx, held.job.id, held.chunk, held.attempt, outcome)
