"""Generating candidates from a checkpoint: sample, reduce, deduplicate, check, merge.

Chunk k's random stream derives from (seed of the job, k), so whoever runs it gets the same samples.
What a chunk found is staged as a file before it is merged; a worker that takes over a chunk merges
the staged file instead of sampling again. The last chunk closes the job with its metrics.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from gandb.core.compositions import CompositionBatch, IdSet, uuid_array
from gandb.core.ids import Domain, canonical_json
from gandb.core.kernels import hash_rows
from gandb.datasets.versions import member_compositions
from gandb.generators import load as load_generator
from gandb.jobs.queue import chunk_results
from gandb.jobs.records import Context, JobSpec, Outcome
from gandb.schema import tables
from gandb.store import Store, Transaction
from gandb.store.bulk import fetch
from gandb.tasks import data
from gandb.tasks.rows import (
    Compositions,
    cnen_recipes,
    merge_compositions,
    recipe_row,
    repeat_id,
)
from gandb.validation.charge import CNEN, check_all

KIND = "generate"
CHUNK = 100_000
"""Samples to a chunk."""

CANDIDATE_FACTS = (
    "reduced_formula", "chemical_system", "anonymous_formula", "elements", "n_elements", "n_atoms",
)  # fmt: skip
_NOVELTY_REASONS = pa.array(["new composition", "known composition"])
_RESULT = "result"
_STAGED = "samples.safetensors"


def generation_job(
    checkpoint: data.Checkpoint,
    n: int,
    seed: int,
    device: str = "cpu",
    condition: Mapping[str, Any] | None = None,
    chunk_size: int = CHUNK,
) -> JobSpec:
    """Describe the job of drawing ``n`` samples."""
    chunk_size = min(chunk_size, n)
    sizes = [min(chunk_size, n - start) for start in range(0, n, chunk_size)]
    return JobSpec(
        kind=KIND,
        spec={
            "n": n,
            "chunk_size": chunk_size,
            "condition": dict(condition) if condition else None,
            "device": device,
        },
        totals=(*sizes, 1),
        dataset_version_id=checkpoint.dataset_version_id,
        checkpoint_id=checkpoint.id,
        seed=seed,
    )


def novelty_recipe(version_id: UUID) -> dict[str, Any]:
    """Return the recipe row of novelty against a dataset version, all its splits."""
    return recipe_row("novelty", "1", {"against": str(version_id), "by": "reduced composition"})


def generate(context: Context) -> Outcome:
    """Do one chunk of a generation job."""
    if context.chunk == context.job.n_chunks - 1:
        return _close(context)
    staged = context.staged(_STAGED)
    batch = _Batch.unpack(staged) if staged else None
    if batch is None:
        batch = _sample(context)
        context.stage(_STAGED, batch.pack())
    context.progress(batch.result["samples"])
    prepared = _Prepared.of(context.store, context.job.checkpoint_id, batch)
    return Outcome(lambda tx: prepared.merge(tx, context.job.id, context.chunk), batch.result)


# --- sampling ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Batch:
    """What a chunk found.

    Attributes:
        compositions: u distinct reduced compositions, in order of first appearance.
        of: int64 (e,), composition of each event; an event is a composition in one multiple.
        units: uint16 (e,), formula units as generated.
        times: int32 (e,), how often.
        first: int64 (e,), first sample of the job, from 0.
        result: counts for the chunk's row.
    """

    compositions: CompositionBatch
    of: np.ndarray
    units: np.ndarray
    times: np.ndarray
    first: np.ndarray
    result: dict[str, Any]

    def pack(self) -> bytes:
        arrays = {
            "offsets": self.compositions.offsets,
            "atomic_numbers": self.compositions.atomic_numbers,
            "counts": self.compositions.counts,
            "of": self.of,
            "units": self.units,
            "times": self.times,
            "first": self.first,
            _RESULT: np.frombuffer(canonical_json(self.result), np.uint8),
        }
        return save_arrays(arrays)

    @classmethod
    def unpack(cls, payload: bytes) -> _Batch | None:
        """Read staged work; None if it is damaged, so that it is done again."""
        try:
            a = load_arrays(payload)
            batch = CompositionBatch(a["offsets"], a["atomic_numbers"], a["counts"])
            result = json.loads(a[_RESULT].tobytes())
            return cls(batch, a["of"], a["units"], a["times"], a["first"], result)
        except (SafetensorError, KeyError, ValueError):
            return None


def _sample(context: Context) -> _Batch:
    spec = context.job.spec
    start = context.chunk * spec["chunk_size"]
    n = min(spec["chunk_size"], spec["n"] - start)
    generator = _CACHE.generator(context.store, _require(context.job.checkpoint_id), spec["device"])
    seed = np.random.SeedSequence(context.job.seed, spawn_key=(context.chunk,))
    samples = generator.sample(n, seed, spec["condition"], spec["device"])
    drawn, rows = samples.compositions()
    reduced, units = drawn.reduced()
    unique = reduced.unique()
    compositions = reduced.take(unique.first)
    keys, first, times = np.unique(
        unique.inverse * 65_536 + units, return_index=True, return_counts=True
    )
    of, event_units = np.divmod(keys, 65_536)
    verdicts = check_all(compositions)
    passed = {name: v.passed[unique.inverse] for name, v in verdicts.items()}
    passed["cnen_matgan"] &= units == 1
    one_element = reduced.n_elements == 1
    result = {
        "samples": n,
        "decoded": len(rows),
        "rejected": samples.rejected(),
        "one_element": int(one_element.sum()),
        "reducible": int((units > 1).sum()),
        **{name: int(flags.sum()) for name, flags in passed.items()},
        "cnen_strict_multi": int((passed["cnen_strict"] & ~one_element).sum()),
    }
    return _Batch(
        compositions,
        of,
        event_units.astype(np.uint16),
        times.astype(np.int32),
        start + rows[first],
        result,
    )


def _require(checkpoint_id: UUID | None) -> UUID:
    if checkpoint_id is None:
        raise ValueError("a generation job without a checkpoint")
    return checkpoint_id


# --- merging -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Prepared:
    """A batch with its rows worked out, so that the transaction is short."""

    batch: _Batch
    compositions: Compositions
    candidates: pa.Table
    candidate_ids: np.ndarray
    known: np.ndarray
    recipe: dict[str, Any]

    @classmethod
    def of(cls, store: Store, checkpoint_id: UUID | None, batch: _Batch) -> _Prepared:
        checkpoint_id = _require(checkpoint_id)
        version_id = _CACHE.version_of(store, checkpoint_id)
        ids = batch.compositions.ids()
        compositions = Compositions.of(ids, batch.compositions)
        own = np.tile(np.frombuffer(checkpoint_id.bytes, np.uint8), (len(ids), 1))
        candidate_ids = hash_rows(np.hstack([own, ids]), Domain.CANDIDATE)
        known = _CACHE.reference(store, version_id).contains(ids)
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
        return cls(batch, compositions, rows, candidate_ids, known, novelty_recipe(version_id))

    def merge(self, tx: Transaction, job_id: UUID, chunk: int) -> None:
        """Write everything; the chunk's own row is marked in the same transaction."""
        merge_compositions(tx, self.compositions)
        tx.insert_new(tables.recipe, self.recipe)
        tx.merge(
            tables.check_result, novelty_rows(self.recipe["id"], self.compositions.ids, self.known)
        )
        self._merge_candidates(tx)
        events = pa.table(
            {
                "job_id": repeat_id(job_id, len(self.batch.of)),
                "chunk": pa.array(np.full(len(self.batch.of), chunk, np.int32)),
                "candidate_id": uuid_array(self.candidate_ids[self.batch.of]),
                "formula_units": pa.array(self.batch.units.astype(np.int16)),
                "times": pa.array(self.batch.times),
                "first_index": pa.array(self.batch.first),
            }
        )
        tx.merge(tables.generation_event, events)

    def _merge_candidates(self, tx: Transaction) -> None:
        """Add to the candidates that are there, and take in those that are not."""
        known = self.candidates.select(["id", "cnen_matgan", "times_generated"])
        stage = tx.stage(tables.candidate, known)
        tx.execute(
            sa.text(
                "UPDATE candidate SET times_generated = candidate.times_generated "
                "+ s.times_generated, cnen_matgan = candidate.cnen_matgan OR s.cnen_matgan "
                f"FROM {stage} AS s WHERE candidate.id = s.id"
            )
        )
        tx.unstage(stage)
        tx.merge(tables.candidate, self.candidates)


def novelty_rows(recipe_id: UUID, ids: np.ndarray, known: np.ndarray) -> pa.Table:
    """Return the rows of ``check_result`` for novelty."""
    return pa.table(
        {
            "recipe_id": repeat_id(recipe_id, len(ids)),
            "subject_id": uuid_array(ids),
            "passed": pa.array(~known),
            "reason": _NOVELTY_REASONS.take(pa.array(known.astype(np.int8))),
        }
    )


# --- closing -----------------------------------------------------------------------------


def _close(context: Context) -> Outcome:
    """Work out the job's metrics from what its chunks left in the store."""
    job = context.job
    checkpoint_id = _require(job.checkpoint_id)
    version_id = _CACHE.version_of(context.store, checkpoint_id)
    with context.store.read() as connection:
        counts: Counter[str] = Counter()
        for result in chunk_results(connection, job.id):
            counts.update({k: v for k, v in result.items() if isinstance(v, int)})
        first, flags = _first_appearances(connection, job.id)
        held_out = data.composition_ids(connection, version_id, "test")
        recovered = connection.execute(_recovered(job.id, version_id)).scalar_one()
    n = counts["samples"]
    multi = counts["decoded"] - counts["one_element"]
    recipes = metric_recipes(version_id)
    values: list[tuple[str, int, float, str]] = [
        ("cnen_strict_multi", n, counts["cnen_strict_multi"] / max(multi, 1), "cnen_strict"),
        ("rejected", n, 1 - counts["decoded"] / n, "statistics"),
        ("one_element", n, counts["one_element"] / n, "statistics"),
        ("reducible", n, counts["reducible"] / n, "statistics"),
    ]
    for name in CNEN:
        values.append((name, n, counts[name] / n, name))
        values.append((f"unique.{name}", n, _share(flags[name]), name))
    for at in _grid(n):
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


def metric_recipes(version_id: UUID) -> dict[str, dict[str, Any]]:
    """Return the recipe rows behind a generation job's metrics, by name."""
    against = str(version_id)
    return {
        **cnen_recipes(),
        "novelty": novelty_recipe(version_id),
        "uniqueness": recipe_row(
            "uniqueness", "1", {"by": "reduced composition", "of": "the first N samples drawn"}
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


def _grid(n: int) -> list[int]:
    """Return the sample numbers at which uniqueness is told: 1, 2, 5 times powers of ten, and n."""
    steps = [m * 10**e for e in range(3, 12) for m in (1, 2, 5)]
    return sorted({s for s in steps if s < n} | {n})


# --- what a worker keeps between chunks --------------------------------------------------


class _Cache:
    """Generators (one per thread), reference sets and versions of checkpoints."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._local = threading.local()
        self._references: dict[tuple[str, UUID], IdSet] = {}
        self._versions: dict[tuple[str, UUID], UUID] = {}

    def generator(self, store: Store, checkpoint_id: UUID, device: str) -> Any:
        key = (store.location, checkpoint_id, device)
        if getattr(self._local, "key", None) != key:
            with store.read() as connection:
                query = sa.select(tables.checkpoint.c.sha256).where(
                    tables.checkpoint.c.id == checkpoint_id
                )
                sha256 = connection.execute(query).scalar_one()
            weights = store.files.get_blob(sha256)
            with data.BUILDING:
                self._local.generator = load_generator(weights, device)
            self._local.key = key
        return self._local.generator

    def version_of(self, store: Store, checkpoint_id: UUID) -> UUID:
        key = (store.location, checkpoint_id)
        if key not in self._versions:
            query = sa.select(tables.checkpoint.c.dataset_version_id).where(
                tables.checkpoint.c.id == checkpoint_id
            )
            with store.read() as connection:
                self._versions[key] = connection.execute(query).scalar_one()
        return self._versions[key]

    def reference(self, store: Store, version_id: UUID) -> IdSet:
        key = (store.location, version_id)
        with self._lock:
            if key not in self._references:
                self._references.clear()  # one reference set at a time is what fits any machine
                with store.read() as connection:
                    self._references[key] = IdSet(data.composition_ids(connection, version_id))
            return self._references[key]


_CACHE = _Cache()
