"""What a job is, as plain records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from gandb.core.ids import Domain, json_id
from gandb.store import Store, Transaction


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = (State.QUEUED.value, State.RUNNING.value)
"""States in which a worker may take chunks."""


@dataclass(frozen=True)
class JobSpec:
    """A job to be asked for; everything that its result depends on, and nothing else.

    Attributes:
        kind: name of the task that does it.
        spec: plain JSON data.
        totals: steps of each chunk, for progress. Chunks can be done apart; if there is more than
            one, the last one closes the job and runs after all others.
    """

    kind: str
    spec: Mapping[str, Any]
    totals: tuple[int, ...] = (1,)
    dataset_version_id: UUID | None = None
    checkpoint_id: UUID | None = None
    seed: int | None = None

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return len(self.totals)

    @property
    def id(self) -> UUID:
        """The job's content id: asking twice for the same work is asking once."""
        return json_id(
            Domain.JOB,
            {
                "kind": self.kind,
                "spec": dict(self.spec),
                "n_chunks": self.n_chunks,
                "dataset_version": str(self.dataset_version_id or ""),
                "checkpoint": str(self.checkpoint_id or ""),
                "seed": self.seed,
            },
        )


@dataclass(frozen=True)
class Job:
    """A job as the store has it."""

    id: UUID
    kind: str
    spec: Mapping[str, Any]
    n_chunks: int
    state: State
    dataset_version_id: UUID | None
    checkpoint_id: UUID | None
    seed: int | None
    code_version: str
    error: str | None

    @property
    def short_id(self) -> str:
        """The first eight digits: what people type."""
        return str(self.id)[:8]


@dataclass(frozen=True)
class Claim:
    """One chunk of a job that this worker holds by a lease.

    Attributes:
        attempt: number of this try, from 1. Whoever takes the chunk over gets the next number, so
            that a worker that was only slow can no longer write.
    """

    job: Job
    chunk: int
    attempt: int
    owner: str

    def __str__(self) -> str:
        return f"chunk {self.chunk} of job {self.job.short_id}"


@dataclass(frozen=True)
class Outcome:
    """What a chunk's work ends with.

    Attributes:
        merge: writes the chunk's rows; it runs in the transaction that marks the chunk as done, so
            both happen or neither.
        result: counts to keep with the chunk; equal on every run.
        memory: MB that an embedded database should do with; if it cannot, the rows are merged again
            with as much as it wants.
    """

    merge: Callable[[Transaction], None]
    result: Mapping[str, Any] = field(default_factory=dict)
    memory: int | None = None


class Context(Protocol):
    """What a task is given to work with."""

    store: Store
    job: Job
    chunk: int

    def progress(self, done: int) -> None:
        """Report steps done; raises if the job was cancelled or the lease lost."""
        ...

    def log(self, message: str, level: str = "info") -> None:
        """Write a line to the job's log."""
        ...

    def stage(self, name: str, data: bytes) -> None:
        """Keep work in progress for whoever takes the chunk over; it goes when it is merged."""
        ...

    def staged(self, name: str) -> bytes | None:
        """Return what was staged for this chunk, or None."""
        ...


Task = Callable[[Context], Outcome]
"""The body of a job kind: does one chunk."""
