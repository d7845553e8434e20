"""Runs gandb commands in forks of one process that has imported everything, so that none starts up.

A program and its face: it reads orders and writes replies, a line of JSON each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class Commands:
    """Starts commands, each in a process of its own, with its own folder and environment."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forking"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, arguments: list[str], folder: Path, environment: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run ``gandb ARGUMENTS`` to its end."""
        said, complained = self._scratch / "said.txt", self._scratch / "complained.txt"
        order = {"arguments": arguments, "folder": str(folder), "environment": environment,
                 "said": str(said), "complained": str(complained)}  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        code = json.loads(self._process.stdout.readline())
        return subprocess.CompletedProcess(
            arguments, code, said.read_text("utf-8"), complained.read_text("utf-8")
        )

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def _child(order: dict[str, Any]) -> None:
    for file, name in ((1, "said"), (2, "complained")):
        os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), file)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = ["gandb", *order["arguments"]]
    from gandb.cli.app import main as gandb

    gandb()


def fork(work: Callable[[], None]) -> int:
    """Begin something in a fork of this process, which ends with it; return the fork's number."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            work()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:  # noqa: BLE001 - the process ends here, whatever it is
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return pid


def _run(order: dict[str, Any]) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(fork(partial(_child, order)), 0)[1])


def main() -> None:
    """Do orders until there are no more."""
    from gandb.cli import app, demo  # noqa: F401 - loads what commands load
    from gandb.generators import matgan  # noqa: F401
    from gandb.query import frames  # noqa: F401
    from gandb.tasks import identity, structure_novelty  # noqa: F401
    from gandb.training import adversarial  # noqa: F401

    replies = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        replies.write(json.dumps(_run(json.loads(line))) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
