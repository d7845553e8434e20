"""One writer or many readers of an embedded store, across processes and threads.

DuckDB lets one process write and shuts out every other, so nothing holds the database longer than
one transaction. Two lock files order who may open it: a *gate* that everyone passes, and the *room*
that a writer holds alone and readers share. A writer waits for the room while it holds the gate, so
a stream of readers cannot starve it. The operating system releases both when a process dies.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gandb.core.errors import StoreError

_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.02
_GATE = ".gate.lock"
_ROOM = ".room.lock"

_held = threading.local()
"""What this thread holds: ``modes``, a mapping of room to lock mode."""


class StoreLock:
    """The lock of one store directory.

    A thread that reads may read again inside; any other lock within a lock would wait for itself
    and is refused at once.

    Args:
        directory: where the lock files are.
        timeout: seconds to wait before giving up.
    """

    files = (_GATE, _ROOM)

    def __init__(self, directory: Path, timeout: float) -> None:
        self._gate = directory / _GATE
        self._room = directory / _ROOM
        self._timeout = timeout

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the room together with other readers."""
        if self._modes().get(self._room) == fcntl.LOCK_SH:
            yield
            return
        with self._hold(fcntl.LOCK_SH):
            yield

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the room alone."""
        with self._hold(fcntl.LOCK_EX):
            yield

    def awaited(self) -> bool:
        """Say whether somebody is at the gate: a writer stays there until all readers are gone."""
        handle = _open(self._gate)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def remove(self) -> None:
        """Remove the lock files; only who holds the room alone may do so."""
        self._room.unlink()
        self._gate.unlink()

    @staticmethod
    def _modes() -> dict[Path, int]:
        if not hasattr(_held, "modes"):
            _held.modes = {}
        modes: dict[Path, int] = _held.modes
        return modes

    @contextmanager
    def _hold(self, mode: int) -> Iterator[None]:
        modes = self._modes()
        if self._room in modes:
            raise RuntimeError(
                f"this thread has a transaction open on {self._room.parent}: end it before another "
                "begins (only reading inside reading is possible)"
            )
        deadline = time.monotonic() + self._timeout
        gate = self._acquire(self._gate, fcntl.LOCK_EX, deadline)
        try:
            room = self._acquire(self._room, mode, deadline)
        finally:
            os.close(gate)
        modes[self._room] = mode
        try:
            yield
        finally:
            del modes[self._room]
            os.close(room)

    def _acquire(self, path: Path, mode: int, deadline: float) -> int:
        """Open and lock a file; return its handle, whose closing ends the lock."""
        pause = _FIRST_PAUSE
        handle = _open(path)
        try:
            while True:
                try:
                    fcntl.flock(handle, mode | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StoreError(
                            f"another process has used {path.parent} for {self._timeout:g} s; "
                            "wait for it, or set GANDB_LOCK_TIMEOUT to wait longer"
                        ) from None
                    time.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                else:
                    if _is_at(handle, path):
                        return handle
                    os.close(handle)  # it was removed while we waited, and may be there anew
                    handle = -1
                    handle = _open(path)
        except BaseException:
            if handle >= 0:
                os.close(handle)
            raise


def _open(path: Path) -> int:
    try:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except PermissionError:  # another user's store: locking needs no right to write
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(f"cannot lock the store: {path}: {error.strerror}") from error


def _is_at(handle: int, path: Path) -> bool:
    """Say whether ``path`` is still the file that ``handle`` has open."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
