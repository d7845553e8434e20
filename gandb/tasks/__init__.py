"""The bodies of jobs."""

from __future__ import annotations

from gandb.jobs.records import Task
from gandb.tasks import generation, importing, novelty, training

__all__ = ["TASKS"]

TASKS: dict[str, Task] = {
    importing.KIND: importing.import_tables,
    training.KIND: training.train,
    generation.KIND: generation.generate,
    novelty.KIND: novelty.judge_novelty,
}
"""Every job kind with the function that does a chunk of it."""
