"""Relaxations by CHGNet: as a job, against the package's own relaxer called in a loop.

The structures are MatterGen's candidates in the shared data, up to 24 sites; both relax them until
no force is above 0.05 eV/Å, in 200 steps at most. ``GANDB_BENCH_SAMPLE=N`` takes N of them (24).
The job has two workers of one thread each and ends with everything in a store; the package has
PyTorch use two threads.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
import torch

from gandb.core.config import Settings as StoreSettings
from gandb.core.crystals import Crystal
from gandb.energies.fire import Settings
from gandb.energies.potentials import Batch, Potential, load
from gandb.jobs import queue
from gandb.jobs.worker import Worker
from gandb.representations.pymatgen_structures import to_structure
from gandb.schema import tables
from gandb.store import Store
from gandb.tasks import TASKS
from gandb.tasks.candidates import candidates_job
from gandb.tasks.choosing import choose
from gandb.tasks.relaxation import relaxation_job
from gandb.tasks.structures import crystals

PEER = "StructOptimizer.relax in a loop"
SETTINGS = Settings(max_force=0.05, max_steps=200)
MOST_SITES = 24
WORKERS = 2


def _file() -> Path:
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("GANDB_SHARED_DATA", root.parent / "shared" / "data"))
    if not (file := folder / "generated" / "mattergen-cifs.zip").is_file():
        raise SystemExit(f"the relaxation figures need real candidates; no {file}")
    return file


def run(report: Callable[..., None]) -> None:
    """Relax the same structures both ways and compare times and energies."""
    count = int(os.environ.get("GANDB_BENCH_SAMPLE", "24"))
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(StoreSettings(str(Path(folder, "store"))))
        _do(store, candidates_job("mattergen", [_file()]))
        condition = f"n_sites <= {MOST_SITES}"
        chosen = choose(store, "mattergen", where=condition, sample=count)
        with store.read() as connection:
            found = dict(crystals(connection, tables.structure.c.id.in_(chosen.ids)))
        records = {own: record for own, record in found.items() if record.ordered}
        potential = load("chgnet")
        potential.evaluate(Batch.of([next(iter(records.values()))]))  # compiles
        started, processor = time.perf_counter(), time.process_time()
        size = max(1, -(-count // (2 * WORKERS)))
        _do(store, relaxation_job(chosen, "chgnet", SETTINGS, chunk_size=size), WORKERS)
        seconds = time.perf_counter() - started
        processor = time.process_time() - processor
        with store.read() as connection:
            rows = connection.execute(sa.select(tables.relaxation)).mappings().all()
        ours = {row["structure_id"]: row for row in rows}
    theirs, their_seconds, their_processor = _by_package(records)
    n = len(records)
    steps = sum(ours[own]["n_steps"] or 0 for own in records)
    their_steps = sum(r["n_steps"] for r in theirs.values())
    report("relaxation.rate", 3600 * n / seconds, "structures/h", PEER, 3600 * n / their_seconds)
    report("relaxation.steps", steps / seconds, "steps/s", PEER, their_steps / their_seconds)
    report("relaxation.processor", processor / n, "s/structure", PEER, their_processor / n)
    both = [
        own
        for own, r in theirs.items()
        if ours[own]["converged"] and r["n_steps"] < SETTINGS.max_steps
    ]
    apart = [1000 * abs(ours[own]["energy_per_atom"] - theirs[own]["energy"]) for own in both]
    report("relaxation.compared", len(both), "structures converged both ways")
    report("relaxation.energy_median", float(np.median(apart)), "meV/atom apart")
    report("relaxation.energy_most", max(apart), "meV/atom apart")
    same = sum(ours[own]["n_steps"] == theirs[own]["n_steps"] for own in both)
    report("relaxation.same_steps", same, "structures in equally many steps")
    _evaluations(report, potential, list(records.values()))


def _do(store: Store, wanted: Any, threads: int = 1) -> None:
    job = queue.submit(store, wanted)
    Worker(store, TASKS, 60.0, [job.id]).run(threads)
    ended = queue.get(store, job.id)
    if ended.error is not None:
        raise SystemExit(ended.error)


@contextlib.contextmanager
def _quietly() -> Any:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _by_package(records: dict[Any, Crystal]) -> tuple[dict[Any, dict[str, Any]], float, float]:
    """Relax one after the other as the package does; return ends, seconds, processor seconds."""
    found = {}
    with _quietly():
        from chgnet.model.dynamics import StructOptimizer

        relaxer = StructOptimizer(use_device="cpu", on_isolated_atoms="ignore")
        torch.set_num_threads(WORKERS)
        started, processor = time.perf_counter(), time.process_time()
        for own, record in records.items():
            ended = relaxer.relax(
                to_structure(record),
                fmax=SETTINGS.max_force,
                steps=SETTINGS.max_steps,
                verbose=False,
            )
            energies = ended["trajectory"].energies
            # The start is told twice and the end twice, see ase.optimize and TrajectoryObserver.
            found[own] = {"energy": energies[-1] / len(record), "n_steps": len(energies) - 2}
        seconds = time.perf_counter() - started
        processor = time.process_time() - processor
        torch.set_num_threads(1)
    return found, seconds, processor


def _evaluations(report: Callable[..., None], potential: Potential, records: list[Crystal]) -> None:
    """Time one evaluation of all structures on one core."""
    with _quietly():
        from chgnet.model.model import CHGNet

        package: Any = CHGNet.load(use_device="cpu", verbose=False)
    package.graph_converter.set_isolated_atom_response("ignore")
    structures, batch = [to_structure(c) for c in records], Batch.of(records)
    atoms, ours, theirs = len(batch.numbers), [], []
    torch.set_num_threads(1)
    for _ in range(3):
        started = time.perf_counter()
        potential.evaluate(batch)
        ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        with _quietly():
            for structure in structures:
                package.predict_structure(structure, task="efs")
        theirs.append(time.perf_counter() - started)
    report(
        "relaxation.evaluation",
        1000 * min(ours) / atoms,
        "ms/atom on one core",
        "CHGNet.predict_structure, one by one",
        1000 * min(theirs) / atoms,
    )
