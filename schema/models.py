"""Tables of models and what they make: checkpoints, candidates, generation events."""

from __future__ import annotations

import sqlalchemy as sa

from gandb.schema.columns import (
    BULK,
    CONTENT,
    LABEL,
    Json,
    cnen_columns,
    column,
    composition_facts,
    metadata,
    own_id,
    reference,
)
from gandb.schema.structures import symmetry_copies

blob = sa.Table(
    "blob",
    metadata,
    column("sha256", sa.Text(), "SHA-256 in hexadecimal.", provenance="gandb", primary_key=True),
    column("size", sa.BigInteger(), "Size.", unit="bytes", provenance="gandb"),
    column("media_type", sa.Text(), "What it holds.", provenance="gandb"),
    info={**CONTENT, "meaning": "Files kept beside the database, named by their hash."},
)

model = sa.Table(
    "model",
    metadata,
    own_id("Content id of name, version and configuration."),
    column("name", sa.Text(), "Generator: matgan, uniform ...", provenance="gandb"),
    column("version", sa.Text(), "Version of its code.", provenance="gandb"),
    column("role", sa.Text(), "model, baseline or external.", provenance="gandb"),
    column("config", Json, "Every setting that shapes it.", provenance="user"),
    info={**CONTENT, "meaning": "A generator with its configuration, before training."},
)

checkpoint = sa.Table(
    "checkpoint",
    metadata,
    own_id("Content id of model, dataset version, seed and weights."),
    reference("model_id", "model.id", "The model."),
    reference(
        "dataset_version_id",
        "dataset_version.id",
        "What it was trained on (train split); null for an external model.",
        nullable=True,
    ),
    reference("job_id", "job.id", "The job that trained it, or that brought its candidates."),
    column("seed", sa.BigInteger(), "Seed of the training.", unit=LABEL, provenance="user"),
    column(
        "iteration",
        sa.BigInteger(),
        "Training iterations done.",
        unit="iterations",
        provenance="worker",
    ),
    column(
        "sha256",
        sa.Text(),
        "Its weights; of an external model, what is known of its origin.",
        sa.ForeignKey("blob.sha256"),
        provenance="worker",
    ),
    info={**CONTENT, "meaning": "Trained weights; what candidates are sampled from."},
)

candidate = sa.Table(
    "candidate",
    metadata,
    own_id("Content id of checkpoint and composition, or structure if it has one."),
    reference("checkpoint_id", "checkpoint.id", "The checkpoint that made it."),
    reference("composition_id", "composition.id", "Its composition."),
    *composition_facts(),
    *cnen_columns("of the formula as generated"),
    column(
        "novel",
        sa.Boolean(),
        "Its composition is not in the dataset version that the checkpoint was trained on.",
        provenance="gandb: copy of check_result under the novelty recipe of that version",
        nullable=True,
    ),
    column(
        "times_generated",
        sa.BigInteger(),
        "How often all jobs together generated it.",
        unit="samples",
        provenance="gandb: sum over generation_event",
    ),
    reference("structure_id", "structure.id", "Its structure.", nullable=True),
    *symmetry_copies("as it was when the candidate came"),
    info={
        **BULK,
        "meaning": "One row per distinct thing that a checkpoint generated, with its verdicts.",
    },
)
sa.Index("ix_candidate_checkpoint_id", candidate.c.checkpoint_id)
sa.Index("ix_candidate_composition_id", candidate.c.composition_id)
sa.Index("ix_candidate_structure_id", candidate.c.structure_id)
sa.Index("ix_candidate_chemical_system", candidate.c.chemical_system)
sa.Index("ix_candidate_reduced_formula", candidate.c.reduced_formula)
sa.Index("ix_candidate_elements", candidate.c.elements, postgresql_using="gin")
sa.Index("ix_candidate_times_generated", candidate.c.times_generated)

generation_event = sa.Table(
    "generation_event",
    metadata,
    reference("job_id", "job.id", "The generation job.", primary_key=True),
    column(
        "chunk",
        sa.Integer(),
        "Chunk of the job.",
        unit=LABEL,
        provenance="worker",
        primary_key=True,
        autoincrement=False,
    ),
    reference("candidate_id", "candidate.id", "What was generated.", primary_key=True),
    column(
        "formula_units",
        sa.SmallInteger(),
        "Reduced formulas in the formula as generated.",
        unit="formula units",
        provenance="worker",
        primary_key=True,
        autoincrement=False,
    ),
    column("times", sa.Integer(), "How often.", unit="samples", provenance="worker"),
    column(
        "first_index",
        sa.BigInteger(),
        "Sample of the job, from 0, at which it came up first in this chunk.",
        unit=LABEL,
        provenance="worker",
    ),
    column(
        "requested_space_group",
        sa.SmallInteger(),
        "Space group that was asked for, 1 to 230, at the first of these samples; null if none.",
        unit=LABEL,
        provenance="worker",
        nullable=True,
    ),
    column(
        "requested_formula",
        sa.Text(),
        "What was asked for at the first of these samples: reduced formula, or elements as a "
        "chemical system; null if nothing.",
        provenance="worker",
        nullable=True,
    ),
    info={**BULK, "meaning": "Which job and chunk made a candidate, and how often."},
)
sa.Index("ix_generation_event_candidate_id", generation_event.c.candidate_id)

candidate_record = sa.Table(
    "candidate_record",
    metadata,
    reference("job_id", "job.id", "The job that brought it.", primary_key=True),
    reference("candidate_id", "candidate.id", "The candidate.", primary_key=True),
    column("file", sa.Text(), "Name of the file.", provenance="user", primary_key=True),
    column(
        "line",
        sa.BigInteger(),
        "Line or record of the file, from 1.",
        unit=LABEL,
        provenance="gandb",
        primary_key=True,
        autoincrement=False,
    ),
    column("external_id", sa.Text(), "Its name there.", provenance="source", nullable=True),
    column("extra", Json, "What else the file says.", provenance="source", nullable=True),
    info={
        **BULK,
        "meaning": "Where in another model's output a candidate stands, and what is said there.",
    },
)
sa.Index("ix_candidate_record_candidate_id", candidate_record.c.candidate_id)
