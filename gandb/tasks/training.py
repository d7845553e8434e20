"""Training a generator on a dataset version's train split, as a job that resumes.

The state is staged every few seconds and whenever the worker is asked to stop; a worker that takes
over goes on from it bit for bit. Curves travel with the state and enter the store at the end,
together with the checkpoint, in one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from gandb.core.errors import InputError, NotFoundError
from gandb.core.ids import Domain, json_id
from gandb.core.units import PROPERTIES
from gandb.datasets.versions import Version
from gandb.generators import COMPOSITIONS, MODELS, STRUCTURES
from gandb.generators import get as get_model
from gandb.generators.base import Data, config_json, read_description, read_options
from gandb.jobs.leases import LeaseLostError
from gandb.jobs.records import Context, JobSpec, Outcome
from gandb.schema import tables
from gandb.store import Store, Transaction
from gandb.tasks import data
from gandb.tasks.rows import repeat_id
from gandb.training import Training, resume, start

KIND = "train"
_STATE = "state.safetensors"
_SAVE_EVERY = 15.0
"""Seconds between staged states; results do not depend on it."""


def training_job(
    model: str,
    version: Version,
    seed: int,
    options: Mapping[str, Any] | None = None,
    device: str = "cpu",
    threads: int = 1,
) -> JobSpec:
    """Describe the job of training ``model`` on a dataset version.

    Raises:
        NotFoundError: the model or the property of a condition is unknown; names what exists.
        UsageError: an option cannot be.
    """
    known = get_model(model)
    chosen: dict[str, Any] = {}
    total = 1
    if known.trained:
        config = getattr(known.load_module(), known.config).of(options or {})
        chosen, total = config_json(config), int(config.iterations)
        condition = chosen.get("condition") if known.makes == COMPOSITIONS else None
        if condition is not None and condition["property"] not in PROPERTIES:
            raise NotFoundError.naming("property", condition["property"], PROPERTIES)
    else:
        config_class = getattr(known.load_module(), known.config)
        chosen = config_json(read_options(config_class, options or {}, model))
    return JobSpec(
        kind=KIND,
        spec={
            "model": model,
            "options": chosen,  # defaults included: saying one is asking for the same
            "device": device if known.trained else "cpu",
            "threads": threads if known.trained else 1,
        },
        totals=(total,),
        dataset_version_id=version.id,
        seed=seed,
    )


def train(context: Context) -> Outcome:
    """Train from the beginning or from the staged state, and hand over the checkpoint."""
    job = context.job
    if job.dataset_version_id is None or job.seed is None:
        raise ValueError("a training job without dataset version or seed")
    training = _begin(context, _rows(context.store, job.dataset_version_id, job.spec))
    _run(context, training)
    weights = training.checkpoint()
    description = read_description(weights)
    model_row = {
        "name": job.spec["model"],
        "version": str(description["format"]),
        "role": "model" if MODELS[job.spec["model"]].trained else "baseline",
        "config": description["config"],
    }
    model_id = json_id(Domain.MODEL, {k: model_row[k] for k in ("name", "version", "config")})
    sha256 = context.store.files.put_blob(weights)
    checkpoint_id = json_id(
        Domain.CHECKPOINT,
        {
            "model": str(model_id),
            "dataset_version": str(job.dataset_version_id),
            "seed": job.seed,
            "weights": sha256,
        },
    )
    curves = _curve_rows(job.id, training.curves())

    def merge(tx: Transaction) -> None:
        tx.insert_new(
            tables.blob,
            {"sha256": sha256, "size": len(weights), "media_type": "application/safetensors"},
        )
        tx.insert_new(tables.model, {"id": model_id, **model_row})
        row = {
            "id": checkpoint_id,
            "model_id": model_id,
            "dataset_version_id": job.dataset_version_id,
            "job_id": job.id,
            "seed": job.seed,
            "iteration": training.iteration,
            "sha256": sha256,
        }
        tx.insert_new(tables.checkpoint, row)
        tx.merge(tables.metric, curves)

    result = {
        "checkpoint_id": str(checkpoint_id),
        "iterations": training.iteration,
        "rows": training.rows,
        "rejected": dict(training.rejected),
    }
    return Outcome(merge, result)


def _rows(store: Store, version_id: UUID, spec: Mapping[str, Any]) -> Data:
    """Return what the model is fitted to."""
    if MODELS[spec["model"]].makes == STRUCTURES:
        return data.structure_data(store, version_id)
    condition = spec["options"].get("condition")
    return data.training_data(store, version_id, condition["property"] if condition else None)


def _begin(context: Context, rows: Data) -> Training:
    spec = context.job.spec
    staged = context.staged(_STATE)
    if staged is not None:
        try:
            with data.BUILDING:
                training = resume(staged, rows, spec["device"], spec["threads"], spec["options"])
        except InputError as error:
            context.log(f"the staged state cannot be used ({error}); starting anew", "warning")
        else:
            context.log(f"going on from iteration {training.iteration}")
            return training
    seed = np.random.SeedSequence(context.job.seed)
    with data.BUILDING:
        return start(spec["model"], spec["options"], rows, seed, spec["device"], spec["threads"])


def _run(context: Context, training: Training) -> None:
    saved = time.monotonic()
    while training.iteration < training.total:
        training.run(1)
        try:
            context.progress(training.iteration)
        except LeaseLostError:
            raise  # whoever goes on with it is ahead by now
        except BaseException:
            context.stage(_STATE, training.state())
            raise
        if time.monotonic() - saved > _SAVE_EVERY:
            context.stage(_STATE, training.state())
            saved = time.monotonic()


def _curve_rows(job_id: UUID, curves: Mapping[str, np.ndarray]) -> pa.Table:
    """Return the rows of ``metric`` for training curves, where they have a value."""
    steps = np.asarray(curves["iteration"], np.int64)
    names = [name for name in curves if name != "iteration"]
    values = np.array([curves[name] for name in names], np.float64).reshape(len(names), len(steps))
    which, at = np.nonzero(np.isfinite(values))
    return pa.table(
        {
            "job_id": repeat_id(job_id, len(at)),
            "name": pa.array([f"train.{name}" for name in names], pa.string()).take(
                pa.array(which)
            ),
            "step": pa.array(steps[at]),
            "value": pa.array(values[which, at]),
        }
    )
