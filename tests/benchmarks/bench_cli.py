"""How long a person waits for help: a whole process, from the shell's side."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

RUNS = 7
COMMANDS = {
    "cli.help.seconds": ["--help"],
    "cli.sql_help.seconds": ["sql", "--help"],
}


def _seconds(command: list[str]) -> float:
    """Median wall time of a command over `RUNS` runs, after one that fills the file caches."""
    times = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def run(report: Callable[..., None]) -> None:
    """Time the help of the whole command and of one noun."""
    gandb = str(Path(sys.executable).with_name("gandb"))
    bare = _seconds([sys.executable, "-c", "pass"])
    for name, arguments in COMMANDS.items():
        report(name, _seconds([gandb, *arguments]), "s", "python -c pass", bare)
