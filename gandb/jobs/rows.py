"""Rows of the jobs tables inside a transaction: what asking and working share."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb import __version__
from gandb.core.errors import JobError, NotFoundError
from gandb.jobs.records import OPEN, Job, State
from gandb.schema.tables import job, job_attempt, job_chunk, job_event
from gandb.store import Transaction


def now() -> dt.datetime:
    """Return the present moment in UTC, without zone, as the store keeps it."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)


def locked(connection: sa.Connection, query: sa.Select[Any], *of: Any) -> sa.Select[Any]:
    """Let a query lock its rows where transactions run side by side (on PostgreSQL)."""
    if connection.dialect.name != "postgresql":
        return query
    return query.with_for_update(of=of or None)


def read_job(connection: sa.Connection, job_id: UUID) -> Job:
    """Return a job.

    Raises:
        NotFoundError: there is none.
    """
    columns = [c for c in job.c if c.name not in {"created_at", "finished_at"}]
    row = connection.execute(sa.select(*columns).where(job.c.id == job_id)).mappings().first()
    if row is None:
        raise NotFoundError(f"no job {job_id}")
    return Job(**{**row, "state": State(row["state"])})


def end_job(tx: Transaction, job_id: UUID, state: State, error: str | None = None) -> bool:
    """End a job that is open; return False, and change nothing, if it has ended already."""
    query = locked(tx.connection, sa.select(job.c.state).where(job.c.id == job_id))
    if tx.execute(query).scalar_one() not in OPEN:
        return False
    values = {"state": state.value, "error": error, "finished_at": now()}
    tx.execute(sa.update(job).where(job.c.id == job_id).values(values))
    level = "error" if state is State.FAILED else "info"
    write_event(tx, job_id, f"{state.value}: {error}" if error else state.value, level)
    return True


def update_chunk(tx: Transaction, job_id: UUID, chunk: int, **values: Any) -> None:
    """Change the row of a chunk."""
    same = (job_chunk.c.job_id == job_id, job_chunk.c.chunk == chunk)
    tx.execute(sa.update(job_chunk).where(*same).values(**values))


def end_attempt(tx: Transaction, job_id: UUID, chunk: int, attempt: int, outcome: str) -> None:
    """Say how a worker's try at a chunk ended."""
    same = (
        job_attempt.c.job_id == job_id,
        job_attempt.c.chunk == chunk,
        job_attempt.c.attempt == attempt,
    )
    tx.execute(sa.update(job_attempt).where(*same).values(ended_at=now(), outcome=outcome))


def write_event(tx: Transaction, job_id: UUID, message: str, level: str = "info") -> None:
    """Write a line to a job's log."""
    row = {"id": uuid.uuid4(), "job_id": job_id, "at": now(), "level": level, "message": message}
    tx.execute(job_event.insert(), row)


def require_own_version(held: Job) -> None:
    """Refuse a job that another version of gandb began.

    Raises:
        JobError: it was; says what to do.
    """
    if held.code_version != __version__:
        raise JobError(
            f"job {held.short_id} was begun by gandb {held.code_version}, this is {__version__}: "
            f"its chunks would not be alike. Finish it with gandb {held.code_version}, or cancel "
            "it and ask for other work (another seed, another number of samples)"
        )
