"""The bodies of jobs."""

from __future__ import annotations

from gandb.jobs.records import Task
from gandb.tasks import (
    candidates,
    generation,
    importing,
    keys,
    novelty,
    records,
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
}
"""Every job kind with the function that does a chunk of it."""
