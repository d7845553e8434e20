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
    return f"{socket.gethostname()}:{pid}:{_start_of(pid) or 0}:{threading.get_ident()}"


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
    began = _start_of(int(pid))
    return began is not None and start != "0" and began != start


def _start_of(pid: int) -> str | None:
    """Return the start time of a process in clock ticks, None where /proc does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
