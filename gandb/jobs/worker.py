"""Workers: claim a chunk, do it, merge it; again until there is nothing left."""

from __future__ import annotations

import datetime as dt
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from gandb.core.errors import GandbError, IntegrityError, StoreError
from gandb.jobs import leases, queue
from gandb.jobs.heart import Heart, InterruptedWorkError, StopSignal
from gandb.jobs.leases import CancelledError, LeaseLostError
from gandb.jobs.owners import this_worker
from gandb.jobs.records import OPEN, Claim, Job, Task
from gandb.jobs.rows import require_own_version
from gandb.store import Store

__all__ = ["ChunkContext", "Listener", "StopSignal", "Worker"]

Listener = Callable[[Job, int, int], None]
"""Told of progress: job, chunk, steps done in it."""

_TRIES = 3
"""A chunk that the store failed so often in one worker fails its job."""
_PAUSE = 0.5
"""Seconds between looks at what other workers do, and before the store is tried again."""
_SWEPT = dt.timedelta(days=1)
"""Jobs that ended within it are looked after; `gandb db verify --clean` looks after all."""


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
            try:
                self._listener(self.job, self.chunk, done)
            except Exception as error:
                # Whoever watches is gone: no fault of the job, which another worker can go on with.
                raise InterruptedWorkError from error
        self._heart.require()

    def log(self, message: str, level: str = "info") -> None:
        """Write a line to the job's log."""
        queue.log(self.store, self.job.id, message, level)

    def stage(self, name: str, data: bytes) -> None:
        """Keep work in progress for whoever takes the chunk over."""
        self.store.files.stage(_staging(self.job, self.chunk), name, data)

    def staged(self, name: str) -> bytes | None:
        """Return what was staged for this chunk, or None."""
        return self.store.files.staged(_staging(self.job, self.chunk), name)


def _staging(job: Job, chunk: int) -> str:
    return f"{job.id}/{chunk:06d}"


@dataclass(frozen=True)
class Worker:
    """Does chunks of jobs until there are none.

    Attributes:
        tasks: the body of each job kind.
        lease_seconds: how long a claim holds without a sign of life.
        only: work on these jobs alone.
        listener: told of progress.
        on_trouble: told when the store fails; with it, a worker that polls waits for the store
            to come back.
    """

    store: Store
    tasks: Mapping[str, Task]
    lease_seconds: float
    only: Sequence[UUID] | None = None
    listener: Listener | None = None
    on_trouble: Callable[[StoreError], None] | None = None

    def run(self, threads: int = 1, *, stop: StopSignal | None = None, poll: float = 0.0) -> int:
        """Work in ``threads`` threads; return the number of chunks done.

        Args:
            threads: chunks to work on at once.
            stop: asks for an early end.
            poll: look for new work every so many seconds for ever; 0 returns when there is none.

        Raises:
            JobError: one of the jobs ``only`` was begun by another version of gandb.
            StoreError: the store failed.
        """
        if self.only is not None:
            for held in queue.of_other_versions(self.store, self.only):
                require_own_version(held)
        self._sweep()
        signal = stop or StopSignal()
        done: list[int] = []
        failures: list[BaseException] = []

        # Not Thread.join: interrupted by Ctrl-C, it takes a thread that runs for one that ended.
        ended = threading.Semaphore(0)

        def loop() -> None:
            try:
                done.append(self._loop(signal, poll))
            except BaseException as error:  # noqa: BLE001 - handed on by the thread that waits
                failures.append(error)
                signal.set()
            finally:
                ended.release()

        # Nothing is lost with a thread that dies with the process: a second Ctrl-C ends at once.
        pool = [
            threading.Thread(target=loop, name=f"gandb-worker-{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in pool:
            thread.start()
        left = len(pool)
        try:
            while left:
                left -= ended.acquire(timeout=_PAUSE)
        except KeyboardInterrupt:
            signal.set()
            while left:
                left -= ended.acquire(timeout=_PAUSE)
            raise
        if failures:
            raise failures[0]
        return sum(done)

    def _sweep(self) -> None:
        """Remove what workers left in staging that died right after they had completed a job."""
        for job_id in queue.done_within(self.store, _SWEPT):
            self.store.files.unstage(str(job_id))

    def _loop(self, stop: StopSignal, poll: float) -> int:
        owner, kinds = this_worker(), list(self.tasks)
        failed: Counter[tuple[UUID, int]] = Counter()
        done, idle = 0, False
        while not stop.is_set():
            try:
                held = None
                if not idle or leases.any_free(self.store, owner, self.only, kinds):
                    held = leases.claim(self.store, owner, self.lease_seconds, self.only, kinds)
                idle = held is None
                if held is not None:
                    done += self._do(held, stop, failed)
                elif not poll and not self._others_at_work():
                    break
                else:
                    stop.wait(poll or _PAUSE)
            except StoreError as error:
                if not poll or self.on_trouble is None:
                    raise
                self.on_trouble(error)
                stop.wait(poll)
        return done

    def _others_at_work(self) -> bool:
        """Say whether other workers hold chunks of our jobs, which may come free or open more."""
        return self.only is not None and any(
            queue.get(self.store, j).state.value in OPEN for j in self.only
        )

    def _do(self, held: Claim, stop: StopSignal, failed: Counter[tuple[UUID, int]]) -> bool:
        """Do a chunk; return whether it is done."""
        key = (held.job.id, held.chunk)
        try:
            with Heart(self.store, held, self.lease_seconds, stop) as heart:
                context = ChunkContext(self.store, held.job, held.chunk, heart, self.listener)
                outcome = self.tasks[held.job.kind](context)
                finished = leases.complete(self.store, held, outcome)
        except LeaseLostError:
            return False
        except CancelledError:
            leases.release(self.store, held, "cancelled")
            return False
        except InterruptedWorkError as interruption:
            stop.set()
            leases.release(self.store, held, "interrupted")
            if interruption.__cause__ is not None:
                raise interruption.__cause__ from None
            return False
        except IntegrityError as error:
            self._fail(held, str(error))
            return False
        except StoreError as error:  # waiting may help: others use it, the disk is full, it is down
            failed[key] += 1
            if failed[key] >= _TRIES:
                self._fail(held, str(error))
                return False
            leases.release(self.store, held, "failed")
            queue.log(self.store, held.job.id, f"{held}: {error}; trying again", "warning")
            stop.wait(_PAUSE)
            return False
        except GandbError as error:
            self._fail(held, str(error))
            return False
        except Exception as error:  # noqa: BLE001 - a defect: told by the job, in full in its log
            details = "".join(traceback.format_exception(error))
            self._fail(held, f"{type(error).__name__}: {error}", details)
            return False
        except BaseException:
            leases.release(self.store, held, "interrupted")
            raise
        self.store.files.unstage(str(held.job.id) if finished else _staging(held.job, held.chunk))
        return True

    def _fail(self, held: Claim, reason: str, details: str = "") -> None:
        try:
            leases.fail(self.store, held, reason, details)
        except LeaseLostError:
            return  # whoever has the chunk now will meet the same, or not
        except CancelledError:
            leases.release(self.store, held, "cancelled")
