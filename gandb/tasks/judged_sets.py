"""Sets of structures to judge: what jobs generated from a checkpoint, or a dataset version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa

from gandb.core.errors import NotFoundError, UsageError
from gandb.datasets.splits import SPLITS
from gandb.datasets.versions import members_query, require_members, resolve
from gandb.jobs.queue import chunk_results
from gandb.schema import tables
from gandb.store import Store
from gandb.store.bulk import fetch, ids_from_text
from gandb.tasks import data
from gandb.tasks.keyed import id_keys
from gandb.tasks.references import generation_jobs, reference_structures


@dataclass(frozen=True)
class JudgedSet:
    """Structures to judge.

    Attributes:
        name: what people call it.
        spec: what it is, as plain data that stays the same as the store grows: ``jobs``, or
            ``version`` and ``split``.
        n_structures: distinct structures.
        checkpoint_id: whose candidates they are; None for a version.
        version_id: the dataset version; None for candidates.
    """

    name: str
    spec: Mapping[str, Any]
    n_structures: int
    checkpoint_id: UUID | None = None
    version_id: UUID | None = None


def find_set(store: Store, text: str) -> JudgedSet:
    """Find what to judge.

    The candidates of a checkpoint are those of the generation jobs that are done now.

    Args:
        store: where to look.
        text: a checkpoint (beginning of its id, ``MODEL:NAME@N``, an external model), or a dataset
            version, ``NAME@N`` or ``NAME@N:SPLIT``.

    Raises:
        NotFoundError: there is no such thing, nothing was generated yet, or the members of the
            version were not shared.
        UsageError: there is no such split, or several checkpoints fit.
    """
    head, colon, split = text.partition(":")
    if "@" not in head:
        try:
            checkpoint = data.find_checkpoint(store, text)
        except NotFoundError as error:
            raise NotFoundError(f"{error} (a dataset version is written NAME@NUMBER)") from None
        jobs = {"jobs": [str(i) for i in generation_jobs(store, checkpoint)]}
        return JudgedSet(
            checkpoint.reference, jobs, _count(store, jobs), checkpoint_id=checkpoint.id
        )
    if colon and split not in SPLITS:
        raise UsageError(f"there is no split {split!r}; there are {', '.join(SPLITS)}")
    version = resolve(store, head)
    with store.read() as connection:
        require_members(connection, version.id)
    members = {"version": str(version.id), "split": split or None}
    name = version.reference + (f":{split}" if split else "")
    return JudgedSet(name, members, _count(store, members), version_id=version.id)


def structures_query(spec: Mapping[str, Any]) -> sa.Select[Any]:
    """Return the query for the distinct ids of a set's structures."""
    return reference_structures([spec])


def _count(store: Store, spec: Mapping[str, Any]) -> int:
    query = sa.select(sa.func.count()).select_from(structures_query(spec).subquery())
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


@dataclass(frozen=True, eq=False)
class Weights:
    """How often each structure of a set came.

    Attributes:
        ids: S16 (n,), distinct structures, ascending.
        times: int64 (n,), samples, or entries of a version, that have each.
        total: samples in all: those that are no crystal count, as do those that have a composition
            alone. Of a version, its entries with a structure.
    """

    ids: np.ndarray
    times: np.ndarray
    total: int

    @classmethod
    def of(cls, connection: sa.Connection, spec: Mapping[str, Any]) -> Weights:
        """Read them for a set's ``spec``."""
        if "version" in spec:
            times = _entries(spec)
        else:
            candidate, event = tables.candidate.c, tables.generation_event.c
            times = (
                sa.select(
                    candidate.structure_id,
                    sa.func.sum(event.times, type_=sa.BigInteger()).label("times"),
                )
                .join(tables.generation_event, event.candidate_id == candidate.id)
                .where(
                    event.job_id.in_([UUID(i) for i in spec["jobs"]]),
                    candidate.structure_id.is_not(None),
                )
                .group_by(candidate.structure_id)
            )
        rows = fetch(connection, times)
        ids = id_keys(ids_from_text(rows.column("structure_id")))
        order = np.argsort(ids, kind="stable")
        counted = rows.column("times").to_numpy()[order]
        total = int(counted.sum())
        if "jobs" in spec:
            total = sum(samples_of(connection, UUID(i)) for i in spec["jobs"])
        return cls(ids[order], counted, total)


def _entries(spec: Mapping[str, Any]) -> sa.Select[Any]:
    entry = tables.entry.c
    members = members_query(UUID(spec["version"])).subquery()
    query = (
        sa.select(entry.structure_id, sa.func.count().label("times"))
        .join(members, members.c.entry_id == entry.id)
        .where(entry.structure_id.is_not(None))
        .group_by(entry.structure_id)
    )
    return query.where(members.c.split == spec["split"]) if spec["split"] else query


def samples_of(connection: sa.Connection, job_id: UUID) -> int:
    """Return how many samples a generation job drew, or how many records an import read.

    Rejected ones count. A job that came without its chunks has those of its events alone.
    """
    results = chunk_results(connection, job_id)
    stated = sum(int(r.get("samples", 0)) + int(r.get("rows_rejected", 0)) for r in results)
    event = tables.generation_event.c
    held = sa.select(sa.func.sum(event.times)).where(event.job_id == job_id)
    return max(stated, int(connection.scalar(held) or 0))
