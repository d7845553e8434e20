"""Judging a checkpoint's candidates against another dataset version."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import sqlalchemy as sa

from gandb.core.errors import NotFoundError
from gandb.datasets.versions import Version
from gandb.identity.novelty import ReferenceSet
from gandb.jobs.records import Context, JobSpec, Outcome
from gandb.schema import tables
from gandb.store import Store, Transaction
from gandb.store.bulk import fetch_ids
from gandb.tasks import candidates, data, generation
from gandb.tasks.known_compositions import novelty_recipe, novelty_rows

KIND = "novelty"
_GENERATING = (generation.KIND, candidates.KIND)


def novelty_job(store: Store, checkpoint: data.Checkpoint, against: Version) -> JobSpec:
    """Describe the job of comparing all candidates of a checkpoint with a dataset version.

    The candidates are those of the generation jobs that are done now; further ones make it another
    job.

    Raises:
        NotFoundError: no generation job of the checkpoint is done.
    """
    job = tables.job
    query = sa.select(job.c.id).where(
        job.c.checkpoint_id == checkpoint.id, job.c.kind.in_(_GENERATING), job.c.state == "done"
    )
    with store.read() as connection:
        jobs = sorted(str(row[0]) for row in connection.execute(query))
    if not jobs:
        raise NotFoundError(
            f"nothing was generated yet with {checkpoint.reference}; "
            f"begin with: gandb generate {checkpoint.short_id} --wait"
        )
    return JobSpec(
        kind=KIND,
        spec={"against": str(against.id), "jobs": jobs},
        checkpoint_id=checkpoint.id,
    )


def judge_novelty(context: Context) -> Outcome:
    """Compare every candidate's composition with those of the dataset version, all splits."""
    version_id = UUID(context.job.spec["against"])
    candidate, event = tables.candidate, tables.generation_event
    query = (
        sa.select(candidate.c.composition_id)
        .join(event, event.c.candidate_id == candidate.c.id)
        .where(event.c.job_id.in_([UUID(text) for text in context.job.spec["jobs"]]))
        .distinct()
    )
    with context.store.read() as connection:
        ids = fetch_ids(connection, query)
        reference = ReferenceSet(data.composition_ids(connection, version_id))
    known = reference.contains(ids) if len(ids) else np.zeros(0, bool)
    recipe = novelty_recipe(version_id)

    def merge(tx: Transaction) -> None:
        tx.insert_new(tables.recipe, recipe)
        tx.merge(tables.check_result, novelty_rows(recipe["id"], ids, known))

    result = {
        "candidates": len(ids),
        "novel": int((~known).sum()),
        "reference": len(reference),
        "recipe_id": str(recipe["id"]),
    }
    return Outcome(merge, result)
