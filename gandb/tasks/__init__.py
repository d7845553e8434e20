"""The bodies of jobs."""

from __future__ import annotations

from gandb.jobs.records import Task
from gandb.tasks import (
    candidates,
    coverage,
    fingerprinting,
    generation,
    identity,
    importing,
    keys,
    novelty,
    records,
    relaxation,
    stability,
    structure_checks,
    structure_novelty,
    training,
)

__all__ = ["TASKS"]

TASKS: dict[str, Task] = {
    importing.KIND: importing.import_tables,
    records.KIND: records.import_records,
    candidates.KIND: candidates.import_candidates,
    training.KIND: training.train,
    generation.KIND: generation.generate,
    novelty.KIND: novelty.judge_novelty,
    keys.KIND: keys.work_out_keys,
    identity.KIND: identity.identify,
    relaxation.KIND: relaxation.relax_structures,
    stability.KIND: stability.judge_stability,
    structure_checks.KIND: structure_checks.check_structures,
    fingerprinting.KIND: fingerprinting.work_out_fingerprints,
    coverage.KIND: coverage.judge_coverage,
    structure_novelty.KIND: structure_novelty.judge_structures,
    structure_novelty.RELAXED_KIND: structure_novelty.judge_structures,
}
"""Every job kind with the function that does a chunk of it."""
