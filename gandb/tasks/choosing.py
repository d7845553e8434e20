"""Which structures a job is about: fixed when it is asked for, by a question and a sample."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.core.errors import NotFoundError, UsageError
from gandb.jobs import queue
from gandb.query.frames import query
from gandb.schema import tables
from gandb.store import Store
from gandb.store.bulk import fetch
from gandb.tasks import data
from gandb.tasks.judged_sets import find_set, structures_query
from gandb.tasks.references import GENERATING

_SAMPLED = "ids in the order of BLAKE2b-128 of 'SEED:ID'; the first SIZE"


@dataclass(frozen=True)
class Chosen:
    """Structures, and how they were chosen.

    Attributes:
        ids: ascending.
        how: plain data: of what, by which question, how many were eligible, which sample.
        checkpoint_id: of the model that made them, if they are candidates of one.
        dataset_version_id: that they are members of, if they are of one.
    """

    ids: list[UUID]
    how: Mapping[str, Any]
    checkpoint_id: UUID | None = None
    dataset_version_id: UUID | None = None


def choose(
    store: Store,
    reference: str | None = None,
    *,
    where: str | None = None,
    sql: str | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> Chosen:
    """Choose structures.

    Args:
        store: where they are.
        reference: whose: a checkpoint, an external model or a generation job (its candidates), or
            NAME@NUMBER[:SPLIT] (a dataset version's structures).
        where: condition on candidates, over the columns of the view ``generated``.
        sql: a query for a column ``structure_id``, in place of a reference.
        sample: how many to draw at random, of all that are eligible; None takes all.
        seed: of the sample. A smaller sample of one seed is part of a larger one.

    Raises:
        NotFoundError: there is no such thing.
        UsageError: the question cannot be asked so, or nothing is eligible.
        QueryError: the question fails.
    """
    if (reference is None) == (sql is None):
        raise UsageError("name what the structures are of, or give --sql 'SELECT structure_id ...'")
    if sample is not None and sample < 1:
        raise UsageError(f"--sample {sample}: give at least 1")
    if sql is not None:
        if where is not None:
            raise UsageError("--where is for candidates; put the condition into --sql")
        found = Chosen(_asked(store, sql), {"sql": sql})
    else:
        found = _of(store, str(reference), where)
    if not found.ids:
        raise UsageError("no structure fits: " + (sql or f"{reference}, {where or 'any'}"))
    how = {**found.how, "eligible": len(found.ids)}
    ids = found.ids
    if sample is not None:
        ids = sorted(sorted(ids, key=lambda own: _rank(seed, own))[:sample])
        how["sample"] = {"size": sample, "seed": seed, "by": _SAMPLED}
    return Chosen(ids, how, found.checkpoint_id, found.dataset_version_id)


def _rank(seed: int, own: UUID) -> bytes:
    return hashlib.blake2b(f"{seed}:{own}".encode(), digest_size=16).digest()


def _of(store: Store, reference: str, where: str | None) -> Chosen:
    if "@" in reference.partition(":")[0]:
        if where is not None:
            raise UsageError("--where is for candidates; ask for members with --sql")
        members = find_set(store, reference)
        with store.read() as connection:
            ids = _sorted(fetch(connection, structures_query(members.spec)).column(0).to_pylist())
        return Chosen(ids, {"of": members.spec}, dataset_version_id=members.version_id)
    checkpoint, job_id = _candidates_of(store, reference)
    conditions = [f"checkpoint_id = '{checkpoint}'", "structure_id IS NOT NULL"]
    how: dict[str, Any] = {"of": {"checkpoint": str(checkpoint)}, "where": where}
    if job_id is not None:
        conditions.append(
            "candidate_id IN (SELECT e.candidate_id FROM generation_event AS e "
            f"WHERE e.job_id = '{job_id}')"
        )
        how["of"]["job"] = str(job_id)
    if where is not None:
        conditions.append(f"({where}\n)")
    ids = _asked(store, f"SELECT structure_id FROM generated WHERE {' AND '.join(conditions)}")
    return Chosen(ids, how, checkpoint_id=checkpoint)


def _candidates_of(store: Store, reference: str) -> tuple[UUID, UUID | None]:
    """Return the checkpoint that a reference names, and the generation job if it names one."""
    try:
        return data.find_checkpoint(store, reference).id, None
    except NotFoundError as error:
        try:
            job = queue.find(store, reference)
        except (NotFoundError, UsageError):
            raise error from None
    if job.kind not in GENERATING or job.checkpoint_id is None:
        raise UsageError(f"job {job.short_id} ({job.kind}) made no candidates")
    return job.checkpoint_id, job.id


def _asked(store: Store, statement: str) -> list[UUID]:
    """Return the structures that a query names."""
    rows = query(store, statement)
    if "structure_id" not in rows.column_names:
        raise UsageError(
            f"the query gives {', '.join(rows.column_names)}: it must give structure_id"
        )
    found = _sorted(rows.column("structure_id").to_pylist())
    own = tables.structure.c.id
    with store.read() as connection:
        held = sa.select(sa.func.count()).select_from(tables.structure)
        known = 0
        for start in range(0, len(found), 10_000):
            part = found[start : start + 10_000]
            known += connection.scalar(held.where(own.in_(part))) or 0
    if known != len(found):
        raise UsageError(f"{len(found) - known:,} of the ids in structure_id are of no structure")
    return found


def _sorted(ids: Iterable[Any]) -> list[UUID]:
    try:
        return sorted({UUID(str(own)) for own in ids if own is not None})
    except ValueError as error:
        raise UsageError(f"structure_id holds something else than ids: {error}") from None
