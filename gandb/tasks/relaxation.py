"""Relaxing structures by a potential: jobs that can be cut off anywhere.

A job's structures are fixed when it is asked for, and listed in its specification. Each chunk
relaxes its own together; everything about those under way is staged every few seconds in one
piece, which names its structures, so whoever takes the chunk over goes on from there, to the same
numbers on the same kind of machine. What a structure becomes is stored under the id of the
structure itself, and only if it has the same atoms.

What has been relaxed under a recipe is not relaxed again. The last chunk counts.
"""

from __future__ import annotations

import json
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from gandb.core.crystals import Crystal
from gandb.core.errors import IntegrityError, JobError, UsageError
from gandb.core.ids import canonical_json, sha256_hex
from gandb.energies.fire import Settings
from gandb.energies.potentials import Potential, load, potential_parameters
from gandb.energies.relaxing import DISPLACEMENT, Relaxation, Relaxed
from gandb.jobs.heart import InterruptedWorkError
from gandb.jobs.records import Context, JobSpec, Outcome
from gandb.schema import tables
from gandb.store import Store, Transaction
from gandb.store.bulk import fetch
from gandb.tasks.choosing import Chosen
from gandb.tasks.parts import raw_ids
from gandb.tasks.preparing import composition_batch, part_of_crystals, symmetry_recipe
from gandb.tasks.rows import Compositions, merge_compositions, recipe_row, repeat_id
from gandb.tasks.structures import crystals
from gandb.validation.symmetry import SYMPREC

KIND = "relax"
CHUNK = {"cpu": 25, "cuda": 500}
"""Structures to a chunk by default."""
ATOMS = {"cpu": 200, "cuda": 8_000}
"""Atoms under way at once in a chunk."""
STAGED_EVERY = 5.0
"""Seconds of work that are lost at most when a worker dies."""
SYMPRECS = (SYMPREC, 0.1)
"""Tolerances at which the symmetry of relaxed structures is looked for, Å."""
_STATE, _HEAD = "relaxation", "structures.json"
_FLOATS = (
    "initial_energy_per_atom", "energy_per_atom", "max_force", "max_stress", "rmsd",
    "volume_change",
)  # fmt: skip


def relaxation_job(
    chosen: Chosen,
    potential: str,
    settings: Settings | None = None,
    device: str = "cpu",
    chunk_size: int | None = None,
) -> JobSpec:
    """Describe the job of relaxing structures.

    Args:
        chosen: which, see `gandb.tasks.choosing.choose`.
        potential: key of `gandb.energies.potentials.POTENTIALS`.
        settings: how far, and by which steps.
        device: ``cpu`` or ``cuda``; it is no part of the recipe.
        chunk_size: structures to a chunk; by default as `CHUNK`.

    Raises:
        NotFoundError: there is no such potential.
        MissingExtraError: its package is not installed.
        UsageError: there is no such device, or a bound cannot be.
    """
    size = chunk_size or CHUNK.get(device, CHUNK["cpu"])
    if size < 1:
        raise UsageError(f"--chunk-size {size}: give at least 1")
    recipe = relaxation_recipe(POTENTIALS_HELD.get(potential, device), settings or Settings())
    n = len(chosen.ids)
    return JobSpec(
        kind=KIND,
        spec={
            "recipe": str(recipe["id"]),
            "parameters": recipe["parameters"],
            "potential": potential,
            "device": device,
            "chunk_size": size,
            "chosen": dict(chosen.how),
            "structures": [str(own) for own in chosen.ids],
        },
        totals=(*(min(size, n - begin) for begin in range(0, n, size)), 0),
        dataset_version_id=chosen.dataset_version_id,
        checkpoint_id=chosen.checkpoint_id,
    )


def relaxation_recipe(potential: Potential, settings: Settings) -> dict[str, Any]:
    """Return the recipe row of relaxing by a potential."""
    parameters = {
        "potential": potential_parameters(potential),
        **settings.parameters(),
        "rmsd": DISPLACEMENT.parameters(),
    }
    return recipe_row("relaxation", "1", parameters)


class _Potentials:
    """Potentials that a worker keeps between chunks, one of each kind and device."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], Potential] = {}
        self._free = threading.Lock()

    def get(self, name: str, device: str) -> Potential:
        """Return a potential, loading it the first time."""
        with self._free:
            if (name, device) not in self._held:
                self._held[name, device] = load(name, device)
            return self._held[name, device]


POTENTIALS_HELD = _Potentials()


# --- a chunk -----------------------------------------------------------------------------


def relax_structures(context: Context) -> Outcome:
    """Do one chunk: relax what has not been relaxed yet; the last one counts."""
    if context.chunk == context.job.n_chunks - 1:
        return _counted(context)
    spec = context.job.spec
    potential = POTENTIALS_HELD.get(spec["potential"], spec["device"])
    settings = _settings(spec["parameters"])
    recipe = relaxation_recipe(potential, settings)
    if str(recipe["id"]) != spec["recipe"]:
        own = recipe["parameters"]["potential"]
        asked = spec["parameters"]["potential"]
        raise JobError(
            f"the job was asked for with {asked['name']} of {asked['package']} (weights "
            f"{asked['weights_sha256'][:12]}), and here is {own['name']} of {own['package']} "
            f"(weights {own['weights_sha256'][:12]}); install the same, or ask again"
        )
    begin = context.chunk * spec["chunk_size"]
    ids = [UUID(own) for own in spec["structures"][begin : begin + spec["chunk_size"]]]
    pending = _pending(context, ids)
    context.progress(len(ids) - len(pending))
    records = _crystals(context.store, pending)
    before = [records[own] for own in pending]
    from gandb.energies.bond_potentials import torch_device  # these load PyTorch
    from gandb.generators.networks import repeatable

    with repeatable(1, torch_device(spec["device"])):
        work = _relaxed(context, potential, settings, pending, before, len(ids) - len(pending))
    results = [work.results[i] for i in range(len(pending))]
    for own, crystal, result in zip(pending, before, results, strict=True):
        _require_same_atoms(own, crystal, result)
    if pending:
        context.log(f"{len(pending)} structures relaxed in {work.n_steps:,} steps")
    return Outcome(_Merge(recipe, pending, results), {"structures": len(ids)})


def _settings(parameters: Mapping[str, Any]) -> Settings:
    return Settings(**{f.name: parameters[f.name] for f in fields(Settings)})


def _pending(context: Context, ids: Sequence[UUID]) -> list[UUID]:
    """Return which of a chunk's structures are to be relaxed, as the first attempt found it."""
    staged = context.staged(_HEAD)
    if staged is not None:
        chosen = set(json.loads(staged))
        return [own for own in ids if str(own) in chosen]
    done = tables.relaxation.c
    query = sa.select(done.structure_id).where(
        done.recipe_id == UUID(context.job.spec["recipe"]), done.structure_id.in_(ids)
    )
    with context.store.read() as connection:
        known = set(connection.scalars(query))
    pending = [own for own in ids if own not in known]
    context.stage(_HEAD, json.dumps([str(own) for own in pending]).encode())
    return pending


def _crystals(store: Store, ids: Sequence[UUID]) -> dict[UUID, Crystal]:
    with store.read() as connection:
        found = dict(crystals(connection, tables.structure.c.id.in_(ids)))
    if missing := [own for own in ids if own not in found]:
        raise IntegrityError(f"structure {missing[0]} is not in the store any more")
    for own, crystal in found.items():
        if crystal.id != own:
            raise IntegrityError(f"the record of structure {own} is not what its id says")
    return found


def _relaxed(
    context: Context,
    potential: Potential,
    settings: Settings,
    ids: Sequence[UUID],
    before: Sequence[Crystal],
    done: int,
) -> Relaxation:
    """Relax crystals to the end, from where an earlier attempt was cut off."""
    label = sha256_hex(canonical_json([context.job.spec["recipe"], *map(str, ids)]))
    work = Relaxation(before, settings, ATOMS[context.job.spec["device"]])
    if (staged := context.staged(_STATE)) is not None:
        try:
            work.restore(staged, label)
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
            context.log("what was staged cannot be read; beginning again", "warning")
            work = Relaxation(before, settings, work.max_atoms)
    last = time.monotonic()
    while not work.done:
        work.step(potential)
        now = time.monotonic()
        if now - last >= STAGED_EVERY:
            context.stage(_STATE, work.to_bytes(label))
            last = now
        try:
            context.progress(done + len(work.results))
        except InterruptedWorkError:
            context.stage(_STATE, work.to_bytes(label))
            raise
    return work


def _require_same_atoms(own: UUID, before: Crystal, result: Relaxed) -> None:
    """Refuse a relaxed crystal that cannot be of this structure."""
    if result.crystal is not None and result.crystal.species != before.species:
        raise IntegrityError(
            f"structure {own} ({before.amounts}) came back as {result.crystal.amounts}"
        )


# --- merging -----------------------------------------------------------------------------


class _Merge:
    """Writes relaxed structures and what became of each; worked out before the transaction."""

    def __init__(
        self, recipe: dict[str, Any], ids: Sequence[UUID], results: Sequence[Relaxed]
    ) -> None:
        self._recipe = recipe
        self._rows = _rows(recipe["id"], ids, results)
        distinct = {r.crystal.id: r.crystal for r in results if r.crystal is not None}
        self._part = part_of_crystals(list(distinct.values()), SYMPRECS) if distinct else None
        if self._part is not None:
            listed = self._part["compositions"]
            self._compositions = Compositions.of(
                raw_ids(listed.column("id")), composition_batch(listed)
            )

    def __call__(self, tx: Transaction) -> None:
        tx.insert_new(tables.recipe, self._recipe)
        if self._part is not None:
            for symprec in SYMPRECS:
                tx.insert_new(tables.recipe, symmetry_recipe(symprec))
            merge_compositions(tx, self._compositions)
            tx.merge(tables.structure, self._part["structures"])
            tx.merge(tables.structure_symmetry, self._part["symmetry"])
        if self._rows.num_rows:
            tx.merge(tables.relaxation, self._rows)


def _rows(recipe_id: UUID, ids: Sequence[UUID], results: Sequence[Relaxed]) -> pa.Table:
    """Return rows of ``relaxation``."""
    forces = [None if r.forces is None else r.forces.ravel() for r in results]
    return pa.table(
        {
            "recipe_id": repeat_id(recipe_id, len(ids)),
            "structure_id": _uuids(ids),
            "relaxed_id": _uuids([r.crystal.id if r.crystal else None for r in results]),
            **{k: pa.array([getattr(r, k) for r in results], pa.float64()) for k in _FLOATS},
            "n_steps": pa.array([r.n_steps for r in results], pa.int32()),
            "converged": pa.array([r.converged for r in results], pa.bool_()),
            "forces": pa.array(forces, pa.list_(pa.float64())),
            "error": pa.array([r.error for r in results], pa.string()),
        }
    )


def _uuids(ids: Sequence[UUID | None]) -> pa.ExtensionArray:
    storage = pa.array([None if i is None else i.bytes for i in ids], pa.binary(16))
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


# --- counting ----------------------------------------------------------------------------


def _counted(context: Context) -> Outcome:
    """Close the job: count what became of all its structures."""
    spec = context.job.spec
    wanted = {UUID(own) for own in spec["structures"]}
    row = tables.relaxation.c
    names = ("structure_id", "relaxed_id", "initial_energy_per_atom", "energy_per_atom",
             "n_steps", "converged", "rmsd", "error")  # fmt: skip
    query = sa.select(*(row[name] for name in names)).where(row.recipe_id == UUID(spec["recipe"]))
    with context.store.read() as connection:
        listed = fetch(connection, query).to_pylist()
    found = [r for r in listed if UUID(r["structure_id"]) in wanted]
    relaxed = [r for r in found if r["relaxed_id"] is not None]
    converged = [r for r in relaxed if r["converged"]]
    gained = [r["initial_energy_per_atom"] - r["energy_per_atom"] for r in relaxed]
    moved = [r["rmsd"] for r in relaxed if r["rmsd"] is not None]
    result = {
        "structures": len(wanted),
        "relaxed": len(relaxed),
        "converged": len(converged),
        "errors": dict(sorted(Counter(r["error"] for r in found if r["error"]).items())),
        "median_steps": _median([r["n_steps"] for r in relaxed]),
        "median_energy_per_atom": _median([r["energy_per_atom"] for r in relaxed]),
        "median_energy_gained": _median(gained),
        "median_rmsd": _median(moved),
        "recipe_id": spec["recipe"],
    }
    n = len(wanted)
    shares = {"relaxed": len(relaxed) / n, "relaxation_converged": len(converged) / n}

    def merge(tx: Transaction) -> None:
        own = {"job_id": context.job.id, "step": n, "recipe_id": UUID(spec["recipe"])}
        tx.execute(
            tables.metric.insert(),
            [{**own, "name": name, "value": value} for name, value in shares.items()],
        )

    return Outcome(merge, result)


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
