"""Workers: claim a chunk, do it, merge it; again until there is nothing left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from gandb.core.errors import GandbError
from gandb.jobs import queue
from gandb.jobs.owners import this_worker
from gandb.jobs.records import OPEN, Claim, Job, Task
from gandb.store import Store

Listener = Callable[[Job, int, int], None]
"""Told of progress: job, chunk, steps done in it."""

_BEATS_PER_LEASE = 4


@dataclass
class ChunkContext:
    """What a task works with; see `gandb.jobs.records.Context`."""

    store: Store
    job: Job
    chunk: int
    _heart: Heart
    _listener: Listener | None

    def progress(self, done: int) -> None:
        """Report steps done.

        Raises:
            JobError: the job was cancelled, or the lease is lost.
        """
        self._heart.steps = done
        if self._listener:
            self._listener(self.job, self.chunk, done)
        self._heart.require()

    def log(self, message: str, level: str = "info") -> None:
        """Write a line to the job's log."""
        queue.log(self.store, self.job.id, message, level)


class Heart:
    """Renews a lease in the background while a chunk is worked on."""

    def __init__(self, store: Store, held: Claim, lease_seconds: float, stop: StopSignal) -> None:
        self._store = store
        self._held = held
        self._lease = lease_seconds
        self._ended = threading.Event()
        self._stop = stop
        self._failure: GandbError | None = None
        self.steps = 0
        self._thread = threading.Thread(target=self._beat, name="gandb-heart", daemon=True)

    def __enter__(self) -> Heart:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def require(self) -> None:
        """Raise what the last beat met, or `InterruptedWorkError` if the worker is to stop."""
        if self._failure is not None:
            raise self._failure
        self._stop.require()

    def _beat(self) -> None:
        while not self._ended.wait(self._lease / _BEATS_PER_LEASE):
            try:
                queue.renew(self._store, self._held, self._lease, self.steps)
            except GandbError as error:
                self._failure = error
                return


class InterruptedWorkError(Exception):
    """The worker was asked to stop; its chunk goes back."""


class StopSignal:
    """Asks workers to stop at their next step."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask."""
        self._event.set()

    def is_set(self) -> bool:
        """Say whether it was asked."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for it."""
        return self._event.wait(seconds)

    def require(self) -> None:
        """Raise `InterruptedWorkError` if it was asked."""
        if self._event.is_set():
            raise InterruptedWorkError


@dataclass(frozen=True)
class Worker:
    """Does chunks of jobs until there are none.

    Attributes:
        tasks: the body of each job kind.
        lease_seconds: how long a claim holds without a sign of life.
        only: work on these jobs alone.
        listener: told of progress.
    """

    store: Store
    tasks: Mapping[str, Task]
    lease_seconds: float
    only: Sequence[UUID] | None = None
    listener: Listener | None = None

    def run(self, threads: int = 1, *, stop: StopSignal | None = None, poll: float = 0.0) -> int:
        """Work in ``threads`` threads; return the number of chunks done.

        Args:
            threads: chunks to work on at once.
            stop: asks for an early end.
            poll: look for new work every so many seconds for ever; 0 returns when there is none.
        """
        signal = stop or StopSignal()
        done: list[int] = []
        failures: list[BaseException] = []

        def loop() -> None:
            try:
                done.append(self._loop(signal, poll))
            except BaseException as error:  # noqa: BLE001 - handed on by the thread that waits
                failures.append(error)
                signal.set()

        pool = [threading.Thread(target=loop, name=f"gandb-worker-{i}") for i in range(threads)]
        for thread in pool:
            thread.start()
        try:
            for thread in pool:
                while thread.is_alive():
                    thread.join(0.2)
        except KeyboardInterrupt:
            signal.set()
            for thread in pool:
                thread.join()
            raise
        if failures:
            raise failures[0]
        return sum(done)

    def _loop(self, stop: StopSignal, poll: float) -> int:
        owner = this_worker()
        done = 0
        while not stop.is_set():
            if poll and not queue.any_open(self.store, list(self.tasks)):
                stop.wait(poll)  # reading shuts nobody out, claiming does
                continue
            held = queue.claim(self.store, owner, self.lease_seconds, self.only, list(self.tasks))
            if held is None:
                if poll:
                    stop.wait(poll)
                    continue
                if self._others_at_work():
                    time.sleep(_WAIT_FOR_OTHERS)
                    continue
                return done
            done += self._do(held, stop)
        return done

    def _others_at_work(self) -> bool:
        """Say whether other workers hold chunks of our jobs, which may come free or open more."""
        return self.only is not None and any(
            queue.get(self.store, j).state.value in OPEN for j in self.only
        )

    def _do(self, held: Claim, stop: StopSignal) -> bool:
        try:
            with Heart(self.store, held, self.lease_seconds, stop) as heart:
                context = ChunkContext(self.store, held.job, held.chunk, heart, self.listener)
                outcome = self.tasks[held.job.kind](context)
            queue.complete(self.store, held, outcome)
        except queue.LeaseLostError:
            return False
        except queue.CancelledError:
            queue.release(self.store, held, "cancelled")
            return False
        except InterruptedWorkError:
            queue.release(self.store, held, "interrupted")
            stop.set()
            return False
        except GandbError as error:
            queue.fail(self.store, held, str(error))
            return False
        except Exception as error:
            queue.fail(self.store, held, f"{type(error).__name__}: {error}")
            raise
        return True


_WAIT_FOR_OTHERS = 0.2
