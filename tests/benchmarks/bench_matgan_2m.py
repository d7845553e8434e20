"""Two million MatGAN samples, from noise to committed: the time, the memory, and what took it.

The command samples, decodes, reduces, deduplicates, judges charge balance, tells what is new
against 341,700 formulas, and commits. Training is not counted. Times are of a whole process.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pymatgen.core import Composition
from smact.screening import smact_validity

from gandb.core.config import Settings
from gandb.core.elements import SYMBOLS
from gandb.generators import load as load_generator
from gandb.jobs import queue
from gandb.jobs.records import Context, Outcome
from gandb.jobs.worker import Worker
from gandb.store import Store, Transaction
from gandb.tasks.data import find_checkpoint
from gandb.tasks.generation import KIND, generate, generation_job
from tests.benchmarks import data

N = 2_000_000
ITERATIONS = 300
REPEATS = 2
CHECKPOINT = "matgan:oqmd@1"
PEER_N = 4_000
PEER = f"the same sampler, pymatgen + smact in a loop, sets (of {PEER_N:,}, scaled up)"
_COUNTS = "SELECT count(*) AS candidates, sum(times_generated) AS samples FROM generated"


def trained_store() -> Path:
    """Return a store of all OQMD formulas with MatGAN trained on them; do not write to it."""
    return data.cached_store("matgan", lambda store: data.make_oqmd_store(store, ITERATIONS))


def _open(path: Path) -> Store:
    return Store.open(Settings(str(path), lock_timeout=60.0, lease_seconds=60.0))


def _generate(base: Path, folder: Path, n: int) -> tuple[data.Measured, dict[str, int]]:
    """Generate into a copy of a store; return the run, and what is in the store then."""
    store = folder / "store"
    shutil.copytree(base, store)
    done = data.gandb(str(store), "generate", CHECKPOINT, "-n", str(n), "--wait")
    (counts,) = json.loads(data.gandb(str(store), "sql", "--json", _COUNTS).output)
    shutil.rmtree(store)
    return done, counts


class _Stopwatch:
    """Seconds by what they were spent on, while one worker does a job."""

    def __init__(self) -> None:
        self.task = self.merge = 0.0

    def __call__(self, context: Context) -> Outcome:
        """Do a chunk as the task does, and have its merge timed too."""
        started = time.perf_counter()
        outcome = generate(context)
        self.task += time.perf_counter() - started

        def merge(tx: Transaction) -> None:
            began = time.perf_counter()
            outcome.merge(tx)
            self.merge += time.perf_counter() - began

        return Outcome(merge, outcome.result)


def _shares(base: Path, folder: Path) -> dict[str, float]:
    """Do the job in one thread; return seconds by step."""
    place = folder / "alone"
    shutil.copytree(base, place)
    store, watch = _open(place), _Stopwatch()
    found = find_checkpoint(store, CHECKPOINT)
    job = queue.submit(store, generation_job(found, N, seed=1))
    started = time.perf_counter()
    Worker(store, {KIND: watch}, 60.0, only=[job.id]).run(1)
    total = time.perf_counter() - started
    shutil.rmtree(place)
    return {"work": watch.task, "merge": watch.merge, "commit": total - watch.task - watch.merge}


def _sampling(base: Path) -> float:
    """Seconds that sampling alone takes in one thread."""
    store = _open(base)
    generator = load_generator(store.files.get_blob(find_checkpoint(store, CHECKPOINT).sha256))
    size = 100_000
    times = []
    for k in range(4):
        started = time.perf_counter()
        generator.sample(size, np.random.SeedSequence(0, spawn_key=(k,)))
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:]) * N / size


def _by_hand(base: Path) -> float:
    """Seconds of the way that a script goes, scaled up.

    It is given gandb's own sampler and a ready set of the known formulas, and stores nothing.
    """
    store = _open(base)
    generator = load_generator(store.files.get_blob(find_checkpoint(store, CHECKPOINT).sha256))
    known = {formula for formula, _ in data.read_table(data.oqmd_tables()[0])[1:]}
    generator.sample(PEER_N, np.random.SeedSequence(1))
    smact_validity("NaCl")  # loads its tables
    started = time.perf_counter()
    samples = generator.sample(PEER_N, np.random.SeedSequence(0))
    seen: dict[str, tuple[bool, bool]] = {}
    for numbers, counts in zip(samples.atomic_numbers, samples.counts, strict=True):
        atoms = {SYMBOLS[z]: int(n) for z, n in zip(numbers, counts, strict=True) if n}
        if not atoms:
            continue
        formula = Composition(atoms).reduced_formula
        if formula not in seen:
            balanced = smact_validity(formula, include_alloys=False)
            seen[formula] = balanced, formula not in known
    return (time.perf_counter() - started) * N / PEER_N


def run(report: Callable[..., None]) -> None:
    """Generate into copies of one store."""
    base = trained_store()
    with tempfile.TemporaryDirectory(prefix="gandb-bench-") as name:
        folder = Path(name)
        _generate(base, folder, 20_000)  # compiles what is not compiled yet
        runs = [_generate(base, folder, N) for _ in range(REPEATS)]
        report("matgan.2m.load", data.load(), "processes/core")
        seconds = statistics.median(m.seconds for m, _ in runs)
        report("matgan.2m.seconds", seconds, "s", PEER, _by_hand(base))
        report("matgan.2m.cpu_seconds", statistics.median(m.cpu_seconds for m, _ in runs), "s")
        report("matgan.2m.rss_gb", max(m.rss_gb for m, _ in runs), "GB")
        report("matgan.2m.candidates", runs[0][1]["candidates"], "distinct formulas")
        report("matgan.2m.decoded", runs[0][1]["samples"], "samples")
        alone, sampling = _shares(base, folder), _sampling(base)
        total = sum(alone.values())
        report("matgan.2m.one_thread.seconds", total, "s")
        report("matgan.2m.share.sampling", sampling / total, "of one thread's time")
        report("matgan.2m.share.checks", (alone["work"] - sampling) / total, "of one thread's time")
        report("matgan.2m.share.merge", alone["merge"] / total, "of one thread's time")
        report("matgan.2m.share.commit", alone["commit"] / total, "of one thread's time")
