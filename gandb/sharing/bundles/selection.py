"""What to pack: what the user names, and all that it refers to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa

from gandb.core.compositions import unique_ids
from gandb.core.errors import NotFoundError, UsageError
from gandb.datasets.versions import resolve
from gandb.query.frames import query
from gandb.schema.tables import checkpoint, dataset_base, dataset_parent, dataset_version, job
from gandb.store import Store
from gandb.store.bulk import ids_from_text
from gandb.tasks.data import find_checkpoint

DONE = "done"


@dataclass(frozen=True)
class Selection:
    """What was asked to be packed.

    Attributes:
        versions: dataset versions with their members.
        checkpoints: models with their weights and training.
        jobs: finished jobs with what they made.
        candidate_ids: uint8 (n, 16), candidates.
        everything: all that the store knows.
        entries: whether members of versions come along; if not, versions are stubs.
        history: whether the members of earlier versions come along.
        tags: whether tags of versions come along.
        asked: the same in the user's words, for the manifest.
    """

    versions: frozenset[UUID] = frozenset()
    checkpoints: frozenset[UUID] = frozenset()
    jobs: frozenset[UUID] = frozenset()
    candidate_ids: np.ndarray = field(default_factory=lambda: np.zeros((0, 16), np.uint8))
    everything: bool = False
    entries: bool = True
    history: bool = False
    tags: bool = True
    asked: Mapping[str, Any] = field(default_factory=dict)


def select(
    store: Store,
    *,
    datasets: Sequence[str] = (),
    models: Sequence[str] = (),
    candidates: str | None = None,
    jobs: Sequence[str] = (),
    everything: bool = False,
    entries: bool = True,
    history: bool = False,
    tags: bool = True,
) -> Selection:
    """Find what the user names.

    Args:
        store: where.
        datasets: ``NAME@3``, ``NAME`` for the newest.
        models: ``MODEL:NAME@3``, the name of an external model, or a checkpoint's id.
        candidates: SQL condition on the view ``generated``.
        jobs: ids of finished jobs, or how they begin.
        everything: pack all there is.
        entries: take the members of versions along.
        history: take the members of earlier versions along.
        tags: take tags along.

    Raises:
        UsageError: nothing is named, or not clearly.
        NotFoundError: there is no such thing.
        QueryError: the condition is not SQL.
    """
    from gandb.jobs.queue import find

    if not (datasets or models or jobs or everything) and candidates is None:
        raise UsageError(
            "say what to pack: --dataset NAME@3, --model MODEL:NAME@3, --candidates SQL, --job ID "
            "or --all"
        )
    versions = [resolve(store, reference) for reference in datasets]
    checkpoints = [find_checkpoint(store, reference) for reference in models]
    found = [find(store, reference) for reference in jobs]
    for one in found:
        if one.state.value != DONE:
            raise UsageError(
                f"job {one.short_id} is {one.state.value}: what is packed must be finished; wait "
                "for it, or leave it out"
            )
    ids = np.zeros((0, 16), np.uint8)
    if candidates is not None:
        rows = query(store, f"SELECT candidate_id FROM generated WHERE (\n{candidates}\n)")
        if not rows.num_rows:
            raise NotFoundError(f"no candidate fulfils the condition {candidates!r}")
        ids = unique_ids(ids_from_text(rows.column("candidate_id"))).ids
    asked: dict[str, Any] = {
        "datasets": sorted({v.reference for v in versions}),
        "models": sorted({c.reference for c in checkpoints}),
        "jobs": sorted({str(j.id) for j in found}),
        "candidates": candidates,
        "all": everything,
        "entries": entries,
        "history": history,
        "tags": tags,
    }
    return Selection(
        versions=frozenset(v.id for v in versions),
        checkpoints=frozenset(c.id for c in checkpoints),
        jobs=frozenset(j.id for j in found),
        candidate_ids=ids,
        everything=everything,
        entries=entries,
        history=history,
        tags=tags,
        asked=asked,
    )


# --- the small end of the graph ----------------------------------------------------------


@dataclass(frozen=True)
class Graph:
    """Which versions, checkpoints and jobs are packed.

    Attributes:
        versions: every version, parents before children.
        shared: those whose members are packed.
        parents: of every version, first parent first.
        checkpoints: ids.
        jobs: ids.
    """

    versions: tuple[UUID, ...]
    shared: frozenset[UUID]
    parents: Mapping[UUID, tuple[UUID, ...]]
    checkpoints: frozenset[UUID]
    jobs: frozenset[UUID]


def graph(
    connection: sa.Connection,
    selection: Selection,
    checkpoints: Iterable[UUID],
    jobs: Iterable[UUID],
) -> Graph:
    """Follow the references among versions, checkpoints and jobs.

    Args:
        connection: an open transaction.
        selection: what was asked.
        checkpoints: those of the candidates that are packed.
        jobs: those that generated them.
    """
    parents = _parents(connection)
    kept = {r[0] for r in connection.execute(sa.select(dataset_base.c.version_id).distinct())}
    made = {
        r.id: (r.job_id, r.dataset_version_id)
        for r in connection.execute(
            sa.select(checkpoint.c.id, checkpoint.c.job_id, checkpoint.c.dataset_version_id)
        )
    }
    read = {
        r.id: (r.checkpoint_id, r.dataset_version_id)
        for r in connection.execute(
            sa.select(job.c.id, job.c.checkpoint_id, job.c.dataset_version_id)
        )
    }
    own_checkpoints = {*selection.checkpoints, *checkpoints}
    own_jobs = {*selection.jobs, *jobs}
    if selection.everything:
        own_checkpoints |= set(made)
        done = sa.select(job.c.id).where(job.c.state == DONE)
        own_jobs |= {r[0] for r in connection.execute(done)}
    while True:
        more_jobs = {made[c][0] for c in own_checkpoints} - own_jobs
        own_jobs |= more_jobs
        more = {read[j][0] for j in own_jobs} - {None} - own_checkpoints
        own_checkpoints |= more
        if not more and not more_jobs:
            break
    used = {made[c][1] for c in own_checkpoints} | {read[j][1] for j in own_jobs}
    named = {*selection.versions, *(v for v in used if v is not None)}
    if selection.everything:
        named |= set(parents)
    ordered = _with_ancestors(named, parents)
    shared = set() if not selection.entries else set(ordered if selection.history else named)
    return Graph(
        tuple(ordered),
        frozenset(shared & kept),
        {v: parents[v] for v in ordered},
        frozenset(own_checkpoints),
        frozenset(own_jobs),
    )


def _parents(connection: sa.Connection) -> dict[UUID, tuple[UUID, ...]]:
    """Return the parents of every version, the first one first."""
    found: dict[UUID, list[UUID]] = {
        r[0]: [] for r in connection.execute(sa.select(dataset_version.c.id))
    }
    query_ = sa.select(dataset_parent.c.version_id, dataset_parent.c.parent_id).order_by(
        dataset_parent.c.version_id, dataset_parent.c.position
    )
    for version_id, parent_id in connection.execute(query_):
        found[version_id].append(parent_id)
    return {version: tuple(own) for version, own in found.items()}


def _with_ancestors(named: Iterable[UUID], parents: Mapping[UUID, tuple[UUID, ...]]) -> list[UUID]:
    """Return versions and all they were made from, parents first, otherwise by id."""
    ordered: dict[UUID, None] = {}
    stack = sorted(named, key=str, reverse=True)
    while stack:
        version = stack[-1]
        missing = [p for p in parents[version] if p not in ordered]
        if version in ordered or not missing:
            ordered.setdefault(stack.pop())
        else:
            stack += sorted(missing, key=str, reverse=True)
    return list(ordered)
