"""Reading from a store how unique and how new the structures of candidates are."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.core.errors import IntegrityError
from gandb.datasets.versions import members_query
from gandb.identity.recipes import MatchRecipe
from gandb.jobs import queue
from gandb.jobs.records import Job, State
from gandb.reports.records import Novelty, Reference, Role
from gandb.schema.tables import (
    metric,
    recipe,
    snapshot_entry,
    source_snapshot,
)
from gandb.store import Store
from gandb.tasks import data
from gandb.tasks.identity import STANDARD
from gandb.tasks.reference_names import ReferenceNames
from gandb.tasks.structure_novelty import GRADES
from gandb.tasks.structure_novelty import KIND as NOVELTY_KIND

_UNIQUENESS = "structure_uniqueness"


def latest_jobs(store: Store, generation: Iterable[UUID] | None = None) -> list[Job]:
    """Return the finished jobs on novelty of structures, oldest first.

    Of several on one checkpoint with one recipe, the last counts: it judged the most candidates.

    Args:
        store: where they are.
        generation: only those that judged candidates of one of these jobs; all by default.
    """
    wanted = None if generation is None else {str(i) for i in generation}
    found: dict[tuple[UUID | None, str], Job] = {}
    for row in queue.listing(store, State.DONE.value, NOVELTY_KIND):
        job = queue.get(store, row["job_id"])
        if wanted is None or wanted & set(job.spec["jobs"]):
            alike = repr((job.spec["against"], sorted(job.spec["recipe"].items())))
            found.setdefault((job.checkpoint_id, alike), job)
    return list(reversed(found.values()))


def novelties(store: Store, jobs: Sequence[Job]) -> tuple[Novelty, ...]:
    """Gather what finished jobs on novelty of structures found."""
    checkpoints = {c.id: c for c in data.list_checkpoints(store)} if jobs else {}
    with store.read() as connection:
        references = _References(connection, checkpoints)
        found = [
            _novelty(connection, job, checkpoints[_checkpoint_id(job)], references) for job in jobs
        ]
    return _with_labels(found, [checkpoints[_checkpoint_id(job)] for job in jobs])


def command(store: Store, job: Job) -> str:
    """Return the command line that asks for a job on novelty of structures."""
    checkpoints = {c.id: c for c in data.list_checkpoints(store)}
    own = checkpoints[_checkpoint_id(job)]
    alike = [c for c in checkpoints.values() if c.reference == own.reference]
    words = ["gandb", "novelty", own.reference if len(alike) == 1 else own.short_id]
    comment = ""
    with store.read() as connection:
        names = ReferenceNames(connection, checkpoints)
        for part in job.spec["against"]:
            words += ["--against", names.argument(part)]
            if "snapshots" in part and len(part["snapshots"]) < names.n_snapshots:
                comment = "  # entries of that time: more were imported since"
    for name, value in job.spec["recipe"].items():
        if value != getattr(STANDARD, name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words) + comment


def recipe_rows(connection: sa.Connection, found: Iterable[Novelty]) -> list[dict[str, Any]]:
    """Return the rows of the recipes behind novelties."""
    ids = {UUID(i) for n in found for i in (n.reference.recipe, n.reference.matching)}
    query = sa.select(recipe).where(recipe.c.id.in_(ids)).order_by(recipe.c.check_name, recipe.c.id)
    return [dict(row) for row in connection.execute(query).mappings()]


def _checkpoint_id(job: Job) -> UUID:
    if job.checkpoint_id is None:
        raise IntegrityError(f"job {job.short_id} on novelty of structures has no checkpoint")
    return job.checkpoint_id


def _novelty(
    connection: sa.Connection, job: Job, checkpoint: data.Checkpoint, references: _References
) -> Novelty:
    (result,) = queue.chunk_results(connection, job.id)
    values: dict[str, dict[int, float]] = {}
    query = sa.select(metric.c.name, metric.c.step, metric.c.value).where(metric.c.job_id == job.id)
    for name, step, value in connection.execute(query):
        values.setdefault(name, {})[step] = value
    n = int(result["samples"])
    return Novelty(
        job_id=str(job.id),
        model=checkpoint.model,
        label=checkpoint.reference,
        role=Role.BASELINE if checkpoint.role == Role.BASELINE.value else Role.MODEL,
        reference=references.get(job.spec, result),
        n_samples=n,
        n_candidates=int(result["candidates"]),
        uniqueness=dict(sorted(values[_UNIQUENESS].items())),
        greedy=values[f"{_UNIQUENESS}_greedy"][n],
        unique_and_novel=values["unique_and_novel"][n],
        novel=values["structure_novelty"][n],
        grades={grade: values[f"novelty_{grade}"][n] for grade in GRADES},
    )


def _with_labels(
    found: Sequence[Novelty], checkpoints: Sequence[data.Checkpoint]
) -> tuple[Novelty, ...]:
    """Add the checkpoint's id to labels that several checkpoints share."""
    shared = Counter(label for label, _ in {(c.reference, c.id) for c in checkpoints})
    return tuple(
        replace(own, label=f"{own.label} ({checkpoint.short_id})") if shared[own.label] > 1 else own
        for own, checkpoint in zip(found, checkpoints, strict=True)
    )


class _References:
    """References in words, each worked out once."""

    def __init__(
        self, connection: sa.Connection, checkpoints: Mapping[UUID, data.Checkpoint]
    ) -> None:
        self._connection = connection
        self.names = ReferenceNames(connection, checkpoints)
        self._held: dict[str, Reference] = {}

    def get(self, spec: Mapping[str, Any], result: Mapping[str, Any]) -> Reference:
        """Return what a job compared with."""
        own = str(result["recipe_id"])
        if own not in self._held:
            parameters = self._connection.scalar(
                sa.select(recipe.c.parameters).where(recipe.c.id == UUID(own))
            )
            if parameters is None:
                raise IntegrityError(f"there is no recipe {own}; run gandb db verify")
            self._held[own] = Reference(
                recipe=own,
                words=self.names.words(spec["against"]),
                n_structures=int(result["reference"]),
                tolerances=tolerances(MatchRecipe(**spec["recipe"])),
                matching=str(parameters["matching"]),
                attribution=" ".join(self._attributions(spec["against"])),
            )
        return self._held[own]

    def _attributions(self, against: Sequence[Mapping[str, Any]]) -> list[str]:
        found: set[str] = set()
        for part in against:
            query = sa.select(source_snapshot.c.attribution, source_snapshot.c.licence).distinct()
            if "snapshots" in part:
                query = query.where(source_snapshot.c.id.in_(map(UUID, part["snapshots"])))
            elif "version" in part:
                members = members_query(UUID(part["version"])).subquery()
                query = query.join(
                    snapshot_entry, snapshot_entry.c.snapshot_id == source_snapshot.c.id
                ).join(members, members.c.entry_id == snapshot_entry.c.entry_id)
            else:
                continue
            found |= {f"{row[0]} Licence: {row[1]}." for row in self._connection.execute(query)}
        return sorted(found)


def tolerances(recipe: MatchRecipe) -> str:
    """Say in words what counts as the same."""
    what = {"element": "sites by element", "species": "sites by element and oxidation state"}
    return (
        f"StructureMatcher's verdict with ltol {recipe.ltol:g}, stol {recipe.stol:g}, angle_tol "
        f"{recipe.angle_tol:g}°, {'primitive cells' if recipe.primitive_cell else 'cells as given'}"
        f", {'one volume' if recipe.scale else 'volumes as given'}, {what[recipe.comparator]}"
    )
