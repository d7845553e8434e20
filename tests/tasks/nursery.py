"""Runs gandb commands in processes of their own, and kills them on order.

A program, not a test: it imports everything once and forks a process per command, so that a death
costs no start-up. It reads orders and writes replies, a line of JSON each:

    {"args": [...], "kill_after": seconds or null, "trap": [name, n] or null, "log": path}
    {"pid": ..., "code": ..., "seconds": ...}

With ``kill_after`` the process gets SIGKILL after so many seconds. A trap makes it send itself
SIGKILL at the n-th pass of a place in the code, see `TRAPS`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from gandb.cli.app import main as gandb
from gandb.cli.demo import demo  # noqa: F401 - loads what commands load
from gandb.generators import matgan  # noqa: F401
from gandb.jobs import leases
from gandb.query import frames  # noqa: F401
from gandb.store.files import Files
from gandb.store.transaction import Transaction
from gandb.tasks import training
from gandb.training import adversarial  # noqa: F401
from tests.forking import fork

TRAPS: dict[str, tuple[Any, str, bool]] = {
    "claimed": (leases, "claim", True),  # a chunk is claimed, work has not begun
    "writing": (os, "fsync", False),  # a file is written, but has not got its name yet
    "staged": (Files, "stage", True),  # between staging and merging
    "completing": (leases, "complete", False),  # the work is done, the transaction not begun
    "merging": (Transaction, "merge", True),  # within the merge
    "executing": (Transaction, "execute", True),  # within any transaction
    "committed": (leases, "complete", True),  # right after the commit
}
"""Where a process may kill itself: owner and name of a function, and whether after it returned."""


def set_trap(name: str, count: int) -> None:
    owner, function, afterwards = TRAPS[name]
    plain: Callable[..., Any] = getattr(owner, function)
    left = count

    def trapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        result = plain(*args, **kwargs) if afterwards else None
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result if afterwards else plain(*args, **kwargs)

    setattr(owner, function, trapped)


def child(order: dict[str, Any]) -> None:
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    training._SAVE_EVERY = 0.0  # every iteration's state is staged, so that deaths hit that too
    if order["trap"]:
        set_trap(*order["trap"])
    sys.argv = ["gandb", *order["args"]]
    gandb()


def run(order: dict[str, Any]) -> dict[str, Any]:
    begun = time.monotonic()
    pid = fork(partial(child, order))
    deadline = None if order["kill_after"] is None else begun + order["kill_after"]
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG if deadline is not None else 0)
        if ended:
            break
        if deadline is not None and time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            deadline = None
        else:
            time.sleep(0.002)
    code = os.waitstatus_to_exitcode(status)
    return {"pid": pid, "code": code, "seconds": time.monotonic() - begun}


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        replies.write(json.dumps(run(json.loads(line))) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
