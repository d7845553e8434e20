"""Stores with known crystals and candidates, and what was judged of these."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from gandb.core.errors import UsageError
from gandb.identity.recipes import MatchRecipe
from gandb.jobs import queue
from gandb.jobs.records import Job, JobSpec
from gandb.jobs.worker import Worker
from gandb.schema import tables
from gandb.store import Store
from gandb.tasks import TASKS
from gandb.tasks.candidates import candidates_job
from gandb.tasks.data import find_checkpoint
from gandb.tasks.identity import STANDARD
from gandb.tasks.keys import keys_job
from gandb.tasks.records import records_job
from gandb.tasks.references import generation_jobs
from gandb.tasks.structure_novelty import structure_novelty_job
from tests.crowds import (
    BASES,
    CUBE,
    caesium_chloride,
    cell,
    fluorite,
    perovskite,
    rocksalt,
    rutile,
    write,
    zincblende,
)
from tests.tasks.labs import work
from tests.variants import Cell, antisite, diagonal_supercell, moved, noisy

RNG = np.random.default_rng(3)

KNOWN = [
    rocksalt(5.64, "Na", "Cl"),
    rutile(4.594, 2.959, 0.305, "Ti", "O"),
    fluorite(5.46, "Ca", "F"),
    perovskite(3.905, "Sr", "Ti", "O"),
]

GRADED: dict[str, tuple[Cell, str]] = {
    "the same record": (KNOWN[0], "known"),
    "a supercell in another setting": (
        moved(noisy(diagonal_supercell(KNOWN[3], RNG), RNG, 0.01), RNG), "known",
    ),
    "more volume": (rutile(4.7, 3.03, 0.306, "Ti", "O"), "known"),
    # Two titania with the sites and the space group of rutile, and nothing else in common.
    "the same symmetry": (rutile(4.0, 6.5, 0.305, "Ti", "O"), "structure"),
    "antisite, of no symmetry that is known": (antisite(KNOWN[3], RNG), "prototype"),
    "another lattice": (zincblende(5.2, "Na", "Cl"), "prototype"),
    "another lattice and other cell": (fluorite(4.87, "Ti", "O"), "prototype"),
    "another salt": (rocksalt(6.6, "K", "Br"), "substitution"),
    "another salt, moved": (moved(noisy(rocksalt(5.1, "Mg", "S"), RNG, 0.01), RNG), "substitution"),
    "another perovskite": (perovskite(4.0, "Ba", "Zr", "O"), "substitution"),
    "another lattice of another salt": (caesium_chloride(4.1, "Cs", "Cl"), "composition"),
    "a formula of no other": (BASES[14], "composition"),
    "an element": (cell(3.0 * CUBE, "Po", [[0, 0, 0]]), "composition"),
}  # fmt: skip


def candidates(store: Store, folder: Path, name: str, cells: Sequence[Cell], model: str) -> Job:
    (job,) = work(store, candidates_job(model, [write(folder, name, cells)]))
    if (spec := keys_job(store)) is not None:
        work(store, spec)
    return job


def known(store: Store, folder: Path, cells: Sequence[Cell], source: str = "mine") -> None:
    work(store, records_job(source, [write(folder, f"known-{source}", cells)]))
    if (spec := keys_job(store)) is not None:
        work(store, spec)


def write_formulas(folder: Path, *formulas: str) -> Path:
    """Write documents of MP that hold no structure."""
    rows = [
        {"material_id": f"mp-{i}", "formula_pretty": formula, "band_gap": 1.0}
        for i, formula in enumerate(formulas, 1)
    ]
    target = folder / "formulas.json"
    target.write_text(json.dumps(rows))
    return target


def judge(
    store: Store, model: str, *against: str, recipe: MatchRecipe = STANDARD
) -> tuple[dict[str, Any], dict[tuple[str, int], float]]:
    """Judge the candidates of a model; return what the job counted, and its metrics."""
    spec = structure_novelty_job(store, find_checkpoint(store, model), against, recipe)
    (job,) = work(store, spec)
    metric = tables.metric.c
    with store.read() as connection:
        rows = connection.execute(
            sa.select(metric.name, metric.step, metric.value).where(metric.job_id == job.id)
        ).all()
    return queue.chunks(store, job.id)[0]["result"], {(n, step): v for n, step, v in rows}


def judged(store: Store, recipe_id: str | None = None) -> dict[str, dict[str, Any]]:
    """Return the rows of novelty by structure."""
    where = "" if recipe_id is None else f"WHERE CAST(recipe_id AS TEXT) = '{recipe_id}'"
    with store.read() as connection:
        rows = connection.execute(sa.text(f"SELECT * FROM novelty {where}")).mappings()
        return {str(row["structure_id"]): dict(row) for row in rows}


def jobs_of(store: Store) -> list[Any]:
    return generation_jobs(store, find_checkpoint(store, "gen"))


def work_failing(store: Store, spec: JobSpec) -> None:
    """Do a job that fails, and raise what it says."""
    job = queue.submit(store, spec)
    Worker(store, TASKS, 60.0, [job.id]).run()
    raise UsageError(queue.get(store, job.id).error)
