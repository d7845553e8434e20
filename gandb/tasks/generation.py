"""Generating candidates from a checkpoint: sample, reduce, deduplicate, check, merge.

Chunk k's random stream derives from (seed of the job, k), so whoever runs it gets the same samples.
What a chunk found is staged as a file before it is merged; a worker that takes over a chunk merges
the staged file instead of sampling again. The last chunk closes the job with its metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from gandb.core.compositions import uuid_array
from gandb.core.errors import UsageError
from gandb.core.ids import Domain
from gandb.core.kernels import hash_rows
from gandb.datasets.versions import member_compositions
from gandb.generators import COMPOSITIONS, MODELS, STRUCTURES
from gandb.generators.structures import CONDITIONS, read_condition
from gandb.jobs.queue import chunk_results
from gandb.jobs.records import Context, JobSpec, Outcome
from gandb.schema import tables
from gandb.store import Transaction
from gandb.store.bulk import fetch
from gandb.tasks import data
from gandb.tasks.known_compositions import REFERENCES, novelty_recipe, novelty_rows
from gandb.tasks.rows import (
    Compositions,
    cnen_recipes,
    merge_compositions,
    recipe_row,
    repeat_id,
)
from gandb.tasks.sampling import Batch, draw, inputs
from gandb.tasks.structure_generation import generate_structures
from gandb.tasks.taking import CANDIDATE_FACTS, take_candidates
from gandb.validation.charge import CNEN

KIND = "generate"
CHUNKS = {COMPOSITIONS: 250_000, STRUCTURES: 1_000}
"""Samples to a chunk, by what is made."""

_STAGED = "samples.safetensors"


def generation_job(
    checkpoint: data.Checkpoint,
    n: int,
    seed: int,
    device: str = "cpu",
    condition: Mapping[str, Any] | None = None,
    chunk_size: int | None = None,
) -> JobSpec:
    """Describe the job of drawing ``n`` samples.

    Args:
        checkpoint: what to draw from.
        n: samples.
        seed: where their randomness comes from.
        device: where a network runs.
        condition: what is asked of the samples: see the model's ``sample``.
        chunk_size: samples to a chunk; None takes `CHUNKS`.

    Raises:
        UsageError: the model is external: there is nothing to draw from; or no model could take
            the condition.
    """
    if checkpoint.dataset_version_id is None:
        raise UsageError(
            f"{checkpoint.model} is an external model: its candidates came as files, and there are "
            "no weights to generate more with"
        )
    makes = MODELS[checkpoint.model].makes
    if makes == STRUCTURES and condition:
        read_condition(condition, checkpoint.model, CONDITIONS)
    chunk_size = min(chunk_size or CHUNKS[makes], n)
    sizes = [min(chunk_size, n - start) for start in range(0, n, chunk_size)]
    return JobSpec(
        kind=KIND,
        spec={
            "n": n,
            "chunk_size": chunk_size,
            "condition": dict(condition) if condition else None,
            "device": device,
            # Left out as it was before there were others.
            **({} if makes == COMPOSITIONS else {"makes": makes}),
        },
        totals=(*sizes, 1),
        dataset_version_id=checkpoint.dataset_version_id,
        checkpoint_id=checkpoint.id,
        seed=seed,
    )


def generate(context: Context) -> Outcome:
    """Do one chunk of a generation job."""
    if context.chunk == context.job.n_chunks - 1:
        return _close(context)
    if context.job.spec.get("makes") == STRUCTURES:
        return generate_structures(context)
    staged = context.staged(_STAGED)
    batch = Batch.unpack(staged) if staged else None
    if batch is None:
        batch = draw(context)
        context.stage(_STAGED, batch.pack())
    context.progress(batch.result["samples"])
    prepared = _Prepared.of(context, batch)
    return Outcome(prepared.merge, batch.result)


# --- merging -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Prepared:
    """A batch with its rows worked out, so that the transaction is short."""

    compositions: Compositions
    candidates: pa.Table
    events: pa.Table
    novelty: pa.Table
    recipe: dict[str, Any]

    @classmethod
    def of(cls, context: Context, batch: Batch) -> _Prepared:
        checkpoint_id, version_id = inputs(context.job)
        ids = batch.compositions.ids()
        compositions = Compositions.of(ids, batch.compositions)
        own = np.tile(np.frombuffer(checkpoint_id.bytes, np.uint8), (len(ids), 1))
        candidate_ids = hash_rows(np.hstack([own, ids]), Domain.CANDIDATE)
        known = REFERENCES.get(context.store, version_id).contains(ids)
        times = np.bincount(batch.of, weights=batch.times, minlength=len(ids)).astype(np.int64)
        as_reduced = np.zeros(len(ids), bool)
        as_reduced[batch.of[batch.units == 1]] = True
        verdicts = {name: v.passed for name, v in compositions.verdicts.items()}
        verdicts["cnen_matgan"] = verdicts["cnen_matgan"] & as_reduced
        rows = pa.table(
            {
                "id": uuid_array(candidate_ids),
                "checkpoint_id": repeat_id(checkpoint_id, len(ids)),
                "composition_id": uuid_array(ids),
                **{name: compositions.facts[name] for name in CANDIDATE_FACTS},
                **{name: pa.array(verdicts[name]) for name in CNEN},
                "novel": pa.array(~known),
                "times_generated": pa.array(times),
            }
        )
        # What people ask for lies together, so that a scan passes over the rest unread.
        wanted = verdicts["cnen_strict"] & ~known
        rows = rows.take(pa.array(np.lexsort((batch.compositions.n_elements, ~wanted))))
        events = pa.table(
            {
                "job_id": repeat_id(context.job.id, len(batch.of)),
                "chunk": pa.array(np.full(len(batch.of), context.chunk, np.int32)),
                "candidate_id": uuid_array(candidate_ids[batch.of]),
                "formula_units": pa.array(batch.units.astype(np.int16)),
                "times": pa.array(batch.times),
                "first_index": pa.array(batch.first),
            }
        )
        recipe = novelty_recipe(version_id)
        return cls(compositions, rows, events, novelty_rows(recipe["id"], ids, known), recipe)

    def merge(self, tx: Transaction) -> None:
        """Write everything; the chunk's own row is marked in the same transaction."""
        merge_compositions(tx, self.compositions)
        tx.insert_new(tables.recipe, self.recipe)
        tx.merge(tables.check_result, self.novelty)
        take_candidates(tx, self.candidates, self.events)


# --- closing -----------------------------------------------------------------------------


def _close(context: Context) -> Outcome:
    """Work out the job's metrics from what its chunks left in the store."""
    job = context.job
    _, version_id = inputs(job)
    with context.store.read() as connection:
        counts: Counter[str] = Counter()
        for result in chunk_results(connection, job.id):
            counts.update({k: v for k, v in result.items() if isinstance(v, int)})
        first, flags = _first_appearances(connection, job.id)
        held_out = data.composition_ids(connection, version_id, "test")
        recovered = connection.execute(_recovered(job.id, version_id)).scalar_one()
    n = counts["samples"]
    multi = counts["decoded"] - counts["one_element"]
    recipes = metric_recipes(version_id, job.spec.get("makes", COMPOSITIONS))
    values: list[tuple[str, int, float, str]] = [
        ("cnen_strict_multi", n, counts["cnen_strict_multi"] / max(multi, 1), "cnen_strict"),
        ("rejected", n, 1 - counts["decoded"] / n, "statistics"),
        ("one_element", n, counts["one_element"] / n, "statistics"),
        ("reducible", n, counts["reducible"] / n, "statistics"),
    ]
    for name in CNEN:
        values.append((name, n, counts[name] / n, name))
        values.append((f"unique.{name}", n, _share(flags[name]), name))
    for at in sample_grid(n):
        seen = first < at
        values.append(("uniqueness", at, float(seen.sum() / at), "uniqueness"))
        values.append(("novelty", at, _share(flags["novel"][seen]), "novelty"))
    if len(held_out):
        values.append(("recovery", n, recovered / len(held_out), "holdout_recovery"))

    def merge(tx: Transaction) -> None:
        for row in recipes.values():
            tx.insert_new(tables.recipe, row)
        rows = [
            {
                "job_id": job.id,
                "name": name,
                "step": step,
                "value": value,
                "recipe_id": recipes[recipe]["id"],
            }
            for name, step, value, recipe in values
        ]
        tx.execute(tables.metric.insert(), rows)

    return Outcome(merge, {"metrics": len(values)})


def metric_recipes(version_id: UUID, makes: str = COMPOSITIONS) -> dict[str, dict[str, Any]]:
    """Return the recipe rows behind a generation job's metrics, by name."""
    against = str(version_id)
    same = "reduced composition" if makes == COMPOSITIONS else "structure record"
    return {
        **cnen_recipes(),
        "novelty": novelty_recipe(version_id),
        "uniqueness": recipe_row(
            "uniqueness", "1", {"by": same, "of": "the first N samples drawn"}
        ),
        "holdout_recovery": recipe_row(
            "holdout_recovery",
            "1",
            {"against": against, "by": "reduced composition", "split": "test"},
        ),
        "statistics": recipe_row(
            "statistics",
            "1",
            {"against": against, "divergence": "Jensen-Shannon, bits", "split": "train"},
        ),
    }


def _first_appearances(
    connection: sa.Connection, job_id: UUID
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return each candidate's first sample, int64 (u,), and verdicts, bool (u,) each."""
    event, candidate = tables.generation_event, tables.candidate
    own = (
        sa.select(event.c.candidate_id, sa.func.min(event.c.first_index).label("first"),
                  sa.func.min(event.c.formula_units).label("units"))
        .where(event.c.job_id == job_id)
        .group_by(event.c.candidate_id)
        .subquery()
    )  # fmt: skip
    names = ["novel", *CNEN]
    query = sa.select(own.c.first, own.c.units, *(candidate.c[name] for name in names)).join(
        candidate, candidate.c.id == own.c.candidate_id
    )
    rows = fetch(connection, query)
    flags = {name: rows.column(name).to_numpy(zero_copy_only=False).astype(bool) for name in names}
    # A candidate's own flag is true if any job generated it irreducible; here this job counts.
    flags["cnen_matgan"] &= rows.column("units").to_numpy() == 1
    return rows.column("first").to_numpy(), flags


def _recovered(job_id: UUID, version_id: UUID) -> sa.Select[Any]:
    """Count the held-out test compositions among a job's candidates."""
    event, candidate = tables.generation_event, tables.candidate
    held_out = member_compositions(version_id, "test").subquery()
    return (
        sa.select(sa.func.count(candidate.c.composition_id.distinct()))
        .join(event, event.c.candidate_id == candidate.c.id)
        .join(held_out, held_out.c.composition_id == candidate.c.composition_id)
        .where(event.c.job_id == job_id)
    )


def _share(flags: np.ndarray) -> float:
    return float(flags.mean()) if len(flags) else 0.0


def sample_grid(n: int, first: int = 3) -> list[int]:
    """Return the sample numbers at which uniqueness is told: 1, 2, 5 times powers of ten, and n.

    Args:
        n: how many samples there are.
        first: the first power of ten.
    """
    steps = [m * 10**e for e in range(first, 12) for m in (1, 2, 5)]
    return sorted({s for s in steps if s < n} | {n})
