"""Tables of work: jobs, chunks, attempts, events; and the settings of a store."""

from __future__ import annotations

import sqlalchemy as sa

from gandb.schema.columns import (
    CONTENT,
    LABEL,
    OPERATIONAL,
    Json,
    Moment,
    column,
    metadata,
    own_id,
    reference,
)

job = sa.Table(
    "job",
    metadata,
    own_id("Content id of kind, specification, inputs and seed."),
    column("kind", sa.Text(), "import, train, generate, identify and others.", provenance="user"),
    column("spec", Json, "All that the result depends on.", provenance="user"),
    reference("dataset_version_id", "dataset_version.id", "What it reads.", nullable=True),
    reference(
        "checkpoint_id",
        "checkpoint.id",
        "What it samples from.",
        nullable=True,
        provenance="user",
        use_alter=True,
    ),
    column("seed", sa.BigInteger(), "Seed.", unit=LABEL, provenance="user", nullable=True),
    column(
        "code_version",
        sa.Text(),
        "Version of gandb that started it.",
        provenance="gandb",
    ),
    column("n_chunks", sa.Integer(), "Number of chunks.", unit="chunks", provenance="gandb"),
    column(
        "state",
        sa.Text(),
        "queued, running, done, failed or cancelled.",
        provenance="worker",
    ),
    column("error", sa.Text(), "Why it failed.", provenance="worker", nullable=True),
    column(
        "created_at", Moment, "When it was asked for.", unit="UTC", provenance="gandb",
        volatile=True,
    ),
    column(
        "finished_at", Moment, "When it ended.", unit="UTC", provenance="worker",
        volatile=True, nullable=True,
    ),
    info={**CONTENT, "meaning": "A piece of work."},
)  # fmt: skip

job_chunk = sa.Table(
    "job_chunk",
    metadata,
    reference("job_id", "job.id", "The job.", primary_key=True),
    column(
        "chunk",
        sa.Integer(),
        "Number of the chunk, from 0; the last one closes the job.",
        unit=LABEL,
        provenance="gandb",
        primary_key=True,
        autoincrement=False,
    ),
    column("state", sa.Text(), "pending, running or done.", provenance="worker"),
    column("result", Json, "Counts of the chunk.", provenance="worker", nullable=True),
    column(
        "owner", sa.Text(), "Worker that holds the lease.", provenance="worker",
        volatile=True, nullable=True,
    ),
    column(
        "lease_until", Moment, "When the lease ends.", unit="UTC", provenance="worker",
        volatile=True, nullable=True,
    ),
    column(
        "attempts", sa.Integer(), "How often it was begun.", unit="attempts",
        provenance="worker", volatile=True,
    ),
    column(
        "progress", sa.BigInteger(), "Steps done.", unit="steps", provenance="worker",
        volatile=True,
    ),
    column("total", sa.BigInteger(), "Steps to do.", unit="steps", provenance="worker"),
    info={**CONTENT, "meaning": "A numbered part of a job, done once."},
)  # fmt: skip

job_attempt = sa.Table(
    "job_attempt",
    metadata,
    reference("job_id", "job.id", "The job.", primary_key=True),
    column(
        "chunk",
        sa.Integer(),
        "Chunk.",
        unit=LABEL,
        provenance="gandb",
        primary_key=True,
        autoincrement=False,
    ),
    column(
        "attempt",
        sa.Integer(),
        "Number of the attempt, from 1.",
        unit=LABEL,
        provenance="gandb",
        primary_key=True,
        autoincrement=False,
    ),
    column("worker", sa.Text(), "Host, process and thread.", provenance="worker", volatile=True),
    column("started_at", Moment, "Begin.", unit="UTC", provenance="worker", volatile=True),
    column(
        "ended_at", Moment, "End.", unit="UTC", provenance="worker", volatile=True, nullable=True
    ),
    column(
        "outcome",
        sa.Text(),
        "done, failed, cancelled, interrupted or lost; null while it runs.",
        provenance="worker",
        nullable=True,
    ),
    info={**OPERATIONAL, "meaning": "Who tried which chunk, when, and how it ended."},
)

job_event = sa.Table(
    "job_event",
    metadata,
    own_id("Random id.", provenance="worker"),
    reference("job_id", "job.id", "The job."),
    column("at", Moment, "When.", unit="UTC", provenance="worker", volatile=True),
    column("level", sa.Text(), "info, warning or error.", provenance="worker"),
    column("message", sa.Text(), "What happened.", provenance="worker"),
    info={**OPERATIONAL, "meaning": "The log of a job."},
)
sa.Index("ix_job_event_job_id", job_event.c.job_id)

setting = sa.Table(
    "setting",
    metadata,
    column("key", sa.Text(), "Name of the setting.", provenance="gandb", primary_key=True),
    column("value", sa.Text(), "Its value.", provenance="user"),
    info={
        **OPERATIONAL,
        "meaning": "What belongs to this store alone, such as where its blobs are.",
    },
)
