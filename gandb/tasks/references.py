"""What candidates are compared with: datasets, all entries, other candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.core.errors import NotFoundError, UsageError
from gandb.datasets.splits import SPLITS
from gandb.datasets.versions import members_query, require_members, resolve
from gandb.jobs.records import State
from gandb.schema import tables
from gandb.store import Store
from gandb.tasks import candidates, data, generation

GENERATING = (generation.KIND, candidates.KIND)
ENTRIES, EARLIER, TRAINING = "entries", "earlier", "training"


def generation_jobs(store: Store, checkpoint: data.Checkpoint) -> list[UUID]:
    """Return the jobs that are done and made candidates of a checkpoint, in order of their ids.

    Raises:
        NotFoundError: there are none.
    """
    job = tables.job
    query = sa.select(job.c.id).where(
        job.c.checkpoint_id == checkpoint.id,
        job.c.kind.in_(GENERATING),
        job.c.state == State.DONE.value,
    )
    with store.read() as connection:
        found = sorted(connection.scalars(query).all())
    if not found:
        raise NotFoundError(
            f"nothing was generated yet with {checkpoint.reference}; "
            f"begin with: gandb generate {checkpoint.short_id} --wait"
        )
    return found


def reference_spec(store: Store, checkpoint: data.Checkpoint, text: str) -> dict[str, Any]:
    """Return what a reference names, as plain data that stays the same as the store grows.

    Args:
        store: where to look things up.
        checkpoint: whose candidates are compared.
        text: ``entries`` (all imported until now), ``training`` (the training split of the
            checkpoint), ``earlier`` (all that was generated before its jobs), NAME@NUMBER or
            NAME@NUMBER:SPLIT, or a checkpoint or external model with candidates.

    Raises:
        NotFoundError: there is no such thing, or the members of the version were not shared.
        UsageError: it has no such split, or it is the checkpoint itself.
    """
    name, colon, split = text.partition(":")
    if colon and name in (ENTRIES, TRAINING, EARLIER):
        raise UsageError(
            f"{name} has no split {split!r}: name a dataset version, NAME@NUMBER:SPLIT"
        )
    if colon and "@" in name and split not in SPLITS:
        raise UsageError(f"there is no split {split!r}; there are {', '.join(SPLITS)}")
    if text == ENTRIES:
        with store.read() as connection:
            found = connection.scalars(sa.select(tables.source_snapshot.c.id)).all()
        if not found:
            raise NotFoundError("nothing was imported yet; begin with: gandb import")
        return {"snapshots": sorted(map(str, found))}
    if text == TRAINING:
        if checkpoint.dataset_version_id is None:
            raise UsageError(
                f"{checkpoint.reference} is an external model: gandb does not know what it was "
                "trained on; import that as a dataset and name it with --against NAME@NUMBER"
            )
        with store.read() as connection:
            require_members(connection, checkpoint.dataset_version_id)
        return {"version": str(checkpoint.dataset_version_id), "split": "train"}
    if text == EARLIER:
        return {"jobs": _earlier(store, generation_jobs(store, checkpoint))}
    if "@" in name and colon:
        return {"version": str(resolve(store, name).id), "split": split}
    if "@" in text and ":" not in text:
        return {"version": str(resolve(store, text).id), "split": None}
    other = data.find_checkpoint(store, text)
    if other.id == checkpoint.id:
        raise UsageError(
            f"the candidates of {text} are all known against themselves; to leave out those made "
            "since, compare with: --against earlier"
        )
    return {"jobs": [str(i) for i in generation_jobs(store, other)]}


def _earlier(store: Store, own: Sequence[UUID]) -> list[str]:
    job = tables.job
    with store.read() as connection:
        first = connection.scalar(sa.select(sa.func.min(job.c.created_at)).where(job.c.id.in_(own)))
        found = connection.scalars(
            sa.select(job.c.id).where(
                job.c.kind.in_(GENERATING),
                job.c.state == State.DONE.value,
                job.c.created_at < first,
                job.c.id.not_in(own),
            )
        ).all()
    return sorted(map(str, found))


def reference_structures(against: Sequence[Mapping[str, Any]]) -> sa.Select[Any]:
    """Return the query for the distinct ids of all structures that references hold.

    Args:
        against: what `reference_spec` returned.
    """
    entry = tables.entry
    parts: list[sa.Select[Any]] = []
    for reference in against:
        if "version" in reference:
            members = members_query(UUID(reference["version"])).subquery()
            query = sa.select(entry.c.structure_id).join(members, members.c.entry_id == entry.c.id)
            if reference["split"]:
                query = query.where(members.c.split == reference["split"])
        elif "snapshots" in reference:
            held = tables.snapshot_entry
            query = sa.select(entry.c.structure_id).join(held, held.c.entry_id == entry.c.id)
            query = query.where(held.c.snapshot_id.in_(map(UUID, reference["snapshots"])))
        else:
            query = candidate_structures([UUID(i) for i in reference["jobs"]])
        (own,) = query.selected_columns
        parts.append(query.where(own.is_not(None)))
    return sa.select(sa.union_all(*parts).subquery().c.structure_id).distinct()


def candidate_structures(jobs: Sequence[UUID]) -> sa.Select[Any]:
    """Return the query for the structure ids of the candidates that jobs made."""
    candidate, event = tables.candidate, tables.generation_event
    return (
        sa.select(candidate.c.structure_id)
        .join(event, event.c.candidate_id == candidate.c.id)
        .where(event.c.job_id.in_(jobs))
    )
