"""One writer or many readers of an embedded store, across processes and threads.

DuckDB lets one process write and shuts out every other, so nothing holds the database longer than
one transaction. Two lock files order who may open it: a *gate* that everyone passes, and the *room*
that a writer holds alone and readers share. A writer waits for the room while it holds the gate, so
a stream of readers cannot starve it. The operating system releases both when a process dies.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gandb.core.errors import StoreError

_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.02


class StoreLock:
    """The lock of one store directory.

    Args:
        directory: where the lock files are.
        timeout: seconds to wait before giving up.
    """

    def __init__(self, directory: Path, timeout: float) -> None:
        self._gate = directory / ".gate.lock"
        self._room = directory / ".room.lock"
        self._timeout = timeout

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the room together with other readers."""
        with self._hold(fcntl.LOCK_SH):
            yield

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the room alone."""
        with self._hold(fcntl.LOCK_EX):
            yield

    @contextmanager
    def _hold(self, mode: int) -> Iterator[None]:
        deadline = time.monotonic() + self._timeout
        gate = _open(self._gate)
        try:
            self._acquire(gate, fcntl.LOCK_EX, deadline)
            room = _open(self._room)
            try:
                self._acquire(room, mode, deadline)
                os.close(gate)
                gate = -1
                yield
            finally:
                os.close(room)
        finally:
            if gate >= 0:
                os.close(gate)

    def _acquire(self, handle: int, mode: int, deadline: float) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                fcntl.flock(handle, mode | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"another process has used {self._room.parent} for {self._timeout:g} s; "
                        "wait for it, or set GANDB_LOCK_TIMEOUT to wait longer"
                    ) from None
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
