"""One partition of 30,000 structures: at once, in ten parts, shuffled, on PostgreSQL, after kills.

The structures are real ones and variants of them (`tests.variants`): supercells, other settings,
noise, exchanged sites. A material's id is that of its first structure, so partitions are equal if
every structure has the same material.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gandb.core.config import Settings
from gandb.core.crystals import Crystal
from gandb.store import Store
from tests import postgres
from tests.benchmarks import bench_identity, data, many_structures
from tests.variants import variants

STRUCTURES = int(os.environ.get("GANDB_BENCH_PARTITION", "30000"))
PARTS = 10
SEED = 20_261_122
MEMBERS = "SELECT structure_id, material_id FROM material_member ORDER BY structure_id"


def run(report: Callable[..., None]) -> None:
    """Make the stores, and compare what each says with the first."""
    rng = np.random.default_rng(SEED)
    crystals = _structures(rng)
    shuffled = [crystals[i] for i in rng.permutation(len(crystals))]
    with tempfile.TemporaryDirectory(prefix="gandb-bench-") as name, data.server() as url:
        folder = Path(name)
        started = time.perf_counter()
        first = _partition(str(folder / "once"), crystals, 1)
        report("partition.structures", len(first), "structures")
        report("partition.materials", len(set(first.values())), "materials")
        report(
            "partition.once.seconds", time.perf_counter() - started, "s, without an import's work"
        )
        others = {
            "ten_parts": lambda: _partition(str(folder / "ten"), crystals, PARTS),
            "shuffled_ten_parts": lambda: _partition(str(folder / "shuffled"), shuffled, PARTS),
            "killed_and_resumed": lambda: _killed(report, str(folder / "killed"), crystals),
        }
        if url:
            with postgres.fresh_database(url) as database:
                own = _partition(database, shuffled, 1, str(folder / "blobs"))
                report("partition.postgres.same", float(own == first), "1: the same partition")
        for which, work in others.items():
            report(f"partition.{which}.same", float(work() == first), "1: the same partition")


def _structures(rng: np.random.Generator) -> list[Crystal]:
    """Return distinct crystals, variants beside their bases."""
    found: dict[object, Crystal] = {}
    for base in bench_identity.real():
        if not base.ordered or len(base) > 30:
            continue
        for crystal in (base, *(cell.crystal() for _, cell in variants(base, rng))):
            found.setdefault(crystal.id, crystal)
        if len(found) >= STRUCTURES:
            break
    return list(found.values())[:STRUCTURES]


def _partition(
    url: str, crystals: Sequence[Crystal], parts: int, blobs: str | None = None
) -> dict[str, str]:
    """Identify crystals that come in parts; return the material of each structure."""
    store = Store.create(Settings(store=url), blobs)
    for batch, part in enumerate(np.array_split(np.arange(len(crystals)), parts)):
        many_structures.put(store, [crystals[i] for i in part.tolist()], batch)
        data.gandb(url, "identify")
    return _members(url)


def _killed(report: Callable[..., None], url: str, crystals: Sequence[Crystal]) -> dict[str, str]:
    """Identify crystals by commands that are killed, each a little later, until one ends."""
    store = Store.create(Settings(store=url))
    many_structures.put(store, crystals, 0)
    deaths, patience = 0, 2.0
    command = [sys.executable, "-c", "from gandb.cli.app import main; main()", "--store", url]
    while True:
        process = subprocess.Popen(
            [*command, "identify"], cwd=data.ROOT, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(patience)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            deaths += 1
            patience *= 1.3
    if process.returncode:
        raise SystemExit(f"identify ended with {process.returncode} after {deaths} deaths")
    report("partition.killed_and_resumed.deaths", deaths, "kills at any moment")
    return _members(url)


def _members(url: str) -> dict[str, str]:
    rows = json.loads(data.gandb(url, "sql", "--json", MEMBERS).output)
    return {row["structure_id"]: row["material_id"] for row in rows}
