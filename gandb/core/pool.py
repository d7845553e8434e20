"""Processes that compute beside this one, by pipes: no ``__main__`` is imported again.

A caller that is killed closes the pipes, and its processes end; Ctrl-C is the caller's business.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, TypeVar

from gandb.core.errors import GandbError

_AHEAD = 2  # pieces of work that wait for each process

Item = TypeVar("Item")


class PoolError(GandbError):
    """A process that computed beside this one is gone."""


class PoolTimeoutError(PoolError):
    """A piece of work took longer than it may; its process was ended."""


@dataclass(frozen=True)
class _Process:
    """A process beside this one, and the pipes to and from it."""

    process: subprocess.Popen[bytes]
    to: Connection
    back: Connection


class Pool:
    """Computes ``work(piece)`` for many pieces, in order, in processes.

    Args:
        work: a picklable function.
        processes: how many; 0 computes in this process.
        limit: seconds that one piece may take in a process beside this one.
        late: what to do with a piece that takes longer, given the piece and a function that
            computes smaller ones; without it, `PoolTimeoutError` ends the work.
    """

    def __init__(
        self,
        work: Callable[[Any], Any],
        processes: int,
        limit: float | None = None,
        late: Callable[[Any, Callable[[Any], Any]], Any] | None = None,
    ) -> None:
        self._work = work
        self._limit = limit
        self._late = late
        self._free: deque[_Process] = deque()
        self._threads = ThreadPoolExecutor(max(processes, 1), "gandb-pool")
        self._all: list[_Process] = []
        self._processes = processes

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: object, __: TracebackType | None
    ) -> None:
        if kind is not None:
            for beside in self._all:
                beside.process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for beside in self._all:
            beside.to.close()
            beside.process.wait()
            beside.back.close()

    def map(self, pieces: Iterable[Item]) -> Iterator[Any]:
        """Yield the results in the order of the pieces, reading only a few pieces ahead."""
        if self._processes == 0:
            yield from map(self._work, pieces)
            return
        waiting: deque[Future[Any]] = deque()
        for piece in pieces:
            waiting.append(self._threads.submit(self._ask, piece))
            if len(waiting) > self._processes * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _ask(self, piece: Any) -> Any:
        try:
            return self._compute(piece)
        except PoolTimeoutError:
            if self._late is None:
                raise
            return self._late(piece, self._ask)

    def _compute(self, piece: Any) -> Any:
        try:
            beside = self._free.pop()
        except IndexError:
            beside = self._start()
        try:
            beside.to.send(piece)
            if not beside.back.poll(self._limit):
                beside.process.kill()
                raise PoolTimeoutError(f"a piece of work took longer than {self._limit:g} s")
            answer = beside.back.recv()
        except (OSError, EOFError) as error:
            raise PoolError(
                f"a process that computed beside this one ended with {beside.process.wait()}: was "
                "the machine short of memory? What is done is kept; give the command again"
            ) from error
        self._free.append(beside)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _start(self) -> _Process:
        theirs, ours = os.pipe()
        mine, yours = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-m", "gandb.core.pool", str(theirs), str(yours)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs, yours),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        os.close(theirs)
        os.close(yours)
        beside = _Process(
            process, Connection(ours, readable=False), Connection(mine, writable=False)
        )
        self._all.append(beside)
        beside.to.send(self._work)
        return beside


def default_processes() -> int:
    """Return how many processes this machine has cores for, at most 16."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4, 16)


def main() -> None:
    """Compute what comes by one pipe, answer by the other, until the first is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source = Connection(int(sys.argv[1]), writable=False)
    sink = Connection(int(sys.argv[2]), readable=False)
    try:
        work = source.recv()
        while True:
            piece = source.recv()
            try:
                answer = work(piece)
            except Exception as error:  # noqa: BLE001 - handed to the caller
                answer = error
            sink.send(answer)
    except (EOFError, BrokenPipeError):
        return


if __name__ == "__main__":
    main()
