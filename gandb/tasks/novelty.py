"""Judging a checkpoint's candidates against another dataset version."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import sqlalchemy as sa

from gandb.core.compositions import IdSet
from gandb.datasets.versions import Version
from gandb.jobs.records import Context, JobSpec, Outcome
from gandb.schema import tables
from gandb.store import Transaction
from gandb.store.bulk import fetch_ids
from gandb.tasks import data
from gandb.tasks.generation import novelty_recipe, novelty_rows

KIND = "novelty"


def novelty_job(checkpoint: data.Checkpoint, against: Version, n_candidates: int) -> JobSpec:
    """Describe the job of comparing all candidates of a checkpoint with a dataset version.

    Args:
        checkpoint: whose candidates.
        against: the reference.
        n_candidates: how many there are now; more of them make a further job.
    """
    return JobSpec(
        kind=KIND,
        spec={"against": str(against.id), "candidates": n_candidates},
        checkpoint_id=checkpoint.id,
    )


def count_candidates(connection: sa.Connection, checkpoint_id: UUID) -> int:
    """Count the distinct candidates of a checkpoint."""
    candidate = tables.candidate
    query = sa.select(sa.func.count()).where(candidate.c.checkpoint_id == checkpoint_id)
    return int(connection.execute(query).scalar_one())


def judge_novelty(context: Context) -> Outcome:
    """Compare every candidate's composition with those of the dataset version, all splits."""
    version_id = UUID(context.job.spec["against"])
    candidate = tables.candidate
    query = sa.select(candidate.c.composition_id).where(
        candidate.c.checkpoint_id == context.job.checkpoint_id
    )
    with context.store.read() as connection:
        ids = fetch_ids(connection, query)
        reference = IdSet(data.composition_ids(connection, version_id))
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
