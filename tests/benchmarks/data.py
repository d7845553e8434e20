"""What the store's benchmarks share: commands measured from outside, and a store to start from."""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import postgres

ROOT = Path(__file__).resolve().parents[2]
REAL_ENTRIES = 341_700
"""Formulas that OQMD's four tables state once each."""

# Runs the command line, then writes the peak of this process's memory and its processor time.
# ru_maxrss would count the parent's memory too, so the peak is read from /proc where there is one.
_MEASURED = """
import atexit, os, re, resource, sys
def note(path=sys.argv.pop(1)):
    try:
        status = open("/proc/self/status").read()
        peak = int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open(path, "w") as out:
        print(peak, sum(os.times()[:2]), file=out)
atexit.register(note)
from gandb.cli.app import main
main()
"""
_KB = 1024
_GB = 1e9


@dataclass(frozen=True)
class Measured:
    """One run of a command.

    Attributes:
        seconds: wall time from its start to its end, so with the interpreter's start.
        cpu_seconds: processor time of the process, all its threads; what is left of ``seconds`` on
            a busy machine is waiting for a processor.
        rss_gb: largest resident memory of the process, 1e9 bytes.
        output: what it wrote to stdout.
    """

    seconds: float
    cpu_seconds: float
    rss_gb: float
    output: str


def gandb(store: str, *arguments: str | Path) -> Measured:
    """Run ``gandb --store STORE ARGUMENTS`` as a process of its own and measure it."""
    with tempfile.TemporaryDirectory(prefix="gandb-bench-") as folder:
        note = Path(folder) / "note"
        command = [sys.executable, "-c", _MEASURED, str(note), "--store", store]
        started = time.perf_counter()
        done = subprocess.run(
            [*command, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(f"gandb {' '.join(map(str, arguments))} failed:\n{done.stderr}")
        peak, cpu = note.read_text().split()
    return Measured(seconds, float(cpu), int(peak) * _KB / _GB, done.stdout)


def load() -> float:
    """Return how many processes wanted a processor in the last minute, per processor."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


# --- formulas ----------------------------------------------------------------------------


def oqmd_tables() -> list[Path]:
    """Return OQMD's four property tables; ends the run where there are none."""
    folder = Path(os.environ.get("GANDB_SHARED_DATA", ROOT.parent / "shared" / "data"))
    found = sorted((folder / "formulas").glob("oqmd.*.csv.gz"))
    if not found:
        raise SystemExit(f"these figures need the real formulas; no {folder}/formulas/oqmd.*")
    return found


def read_table(path: Path) -> list[list[str]]:
    """Return the rows of a packed table, its head first."""
    with gzip.open(path, "rt", newline="") as handle:
        return list(csv.reader(handle))


def write_table(path: Path, rows: list[list[str]]) -> None:
    """Write rows as a packed table."""
    with gzip.open(path, "wt", newline="", compresslevel=1) as handle:
        csv.writer(handle, lineterminator="\n").writerows(rows)


# --- stores ------------------------------------------------------------------------------


@contextlib.contextmanager
def server() -> Iterator[str | None]:
    """Yield the URL of a PostgreSQL server to make databases on; None if there is none."""
    if url := os.environ.get("GANDB_TEST_POSTGRES"):
        yield url
    elif binaries := postgres.server_binaries():
        with postgres.running_server(binaries) as url:
            yield url
    else:
        print("no PostgreSQL server on this machine: its figures are left out", file=sys.stderr)
        yield None


def cached_store(name: str, build: Callable[[str], None]) -> Path:
    """Return a store that ``build`` made, from an earlier run if the code is the same.

    Stores are kept under the system's folder for temporary files, the latest of each name.

    Args:
        name: what it holds.
        build: makes it at the path that it is given.
    """
    kept = Path(tempfile.gettempdir()) / f"gandb-bench-stores-{os.getuid()}"
    kept.mkdir(mode=0o700, exist_ok=True)
    place = kept / f"{name}-{_code_version()}"
    if not place.exists():
        for old in kept.glob(f"{name}-*"):
            shutil.rmtree(old)
        with tempfile.TemporaryDirectory(dir=kept, prefix=".making-") as folder:
            made = Path(folder) / "store"
            build(str(made))
            made.rename(place)
    return place


def _code_version() -> str:
    """Return a hash of all code that decides what a store holds, and of its shape."""
    digest = hashlib.sha256()
    for folder in ("gandb", "schema", "migrations"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".sql", ".json"} and path.is_file():
                digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def make_oqmd_store(store: str, iterations: int) -> None:
    """Make a store of all OQMD formulas, their dataset ``oqmd@1``, and MatGAN trained on it."""
    gandb(store, "init", store)
    gandb(store, "import", "oqmd", *oqmd_tables())
    gandb(store, "dataset", "create", "oqmd", "--where", "source = 'oqmd'")
    gandb(store, "train", "matgan", "oqmd@1", "--set", f"iterations={iterations}", "--wait")
