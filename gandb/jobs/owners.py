"""Who holds a lease, and whether that worker still lives."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path


def this_worker() -> str:
    """Name this worker: ``host:pid:start:thread``.

    The start time of the process keeps a later process with the same number apart.
    """
    pid = os.getpid()
    _, start = _status_of(pid) or ("", _UNKNOWN)
    return f"{socket.gethostname()}:{pid}:{start}:{threading.get_ident()}"


def is_dead(owner: str) -> bool:
    """Say whether ``owner`` ran on this host and has ended; False if that cannot be known."""
    host, pid, start, _thread = owner.rsplit(":", 3)
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it lives, under another user
    found = _status_of(int(pid))
    if found is None or start == _UNKNOWN:
        return False
    state, began = found
    return state in _ENDED or began != start


def _status_of(pid: int) -> tuple[str, str] | None:
    """Return state and start time (clock ticks) of a process, None where /proc does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return fields[0], fields[19]


_UNKNOWN = "0"
_ENDED = "ZX"
"""States of a process that has ended and waits for its parent to take note."""
