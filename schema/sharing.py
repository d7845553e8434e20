"""Tables of what goes between groups: bundles taken in, statements that differ, what is served."""

from __future__ import annotations

import sqlalchemy as sa

from gandb.schema.columns import (
    BULK,
    CONTENT,
    OPERATIONAL,
    Json,
    Moment,
    TextList,
    column,
    metadata,
    reference,
)

bundle = sa.Table(
    "bundle",
    metadata,
    column(
        "sha256",
        sa.Text(),
        "SHA-256 of its manifest, which names the SHA-256 of every file in it.",
        provenance="gandb",
        primary_key=True,
    ),
    column("origin", sa.Text(), "The group that packed it.", provenance="source"),
    column("selection", Json, "What was asked to be packed.", provenance="source"),
    column("report", Json, "What came in, what was there, what differs.", provenance="gandb"),
    column(
        "merged_at", Moment, "When it was taken in.", unit="UTC", provenance="gandb", volatile=True
    ),
    info={**OPERATIONAL, "meaning": "Bundles of other groups that this store has taken in."},
)

statement = sa.Table(
    "statement",
    metadata,
    column(
        "relation", sa.Text(), "Table of the row in question.", provenance="gandb",
        primary_key=True,
    ),
    column(
        "subject",
        sa.Text(),
        "Key of the row, as JSON.",
        provenance="gandb",
        primary_key=True,
    ),
    column(
        "attribute", sa.Text(), "Column in question.", provenance="gandb", primary_key=True
    ),
    column(
        "origin",
        sa.Text(),
        "The group that states it; empty for this store's own.",
        provenance="source",
        primary_key=True,
    ),
    column("value", sa.Text(), "What it states, as JSON.", provenance="source", primary_key=True),
    info={
        **CONTENT,
        "meaning": "What groups state of one thing where they differ; the row itself keeps what "
        "this store stated first.",
    },
)  # fmt: skip

publication = sa.Table(
    "publication",
    metadata,
    column(
        "name",
        sa.Text(),
        "NAME@NUMBER of a dataset version, or MODEL:NAME@NUMBER of candidates.",
        provenance="user",
        primary_key=True,
    ),
    reference(
        "dataset_version_id", "dataset_version.id", "The version served.", nullable=True
    ),
    reference("checkpoint_id", "checkpoint.id", "Whose candidates are served.", nullable=True),
    column(
        "public",
        sa.Boolean(),
        "Everyone may read it; otherwise who has a token for it.",
        provenance="user",
    ),
    column(
        "created_at", Moment, "When it was published.", unit="UTC", provenance="user",
        volatile=True,
    ),
    info={**OPERATIONAL, "meaning": "What `gandb serve` shows."},
)  # fmt: skip

published = sa.Table(
    "published",
    metadata,
    column(
        "publication",
        sa.Text(),
        "The publication.",
        sa.ForeignKey("publication.name"),
        provenance="user",
        primary_key=True,
    ),
    column("id", sa.Uuid(), "The entry or candidate.", provenance="gandb", primary_key=True),
    reference("structure_id", "structure.id", "Its structure."),
    reference("composition_id", "composition.id", "Its composition."),
    info={**BULK, "meaning": "The entries and candidates of a publication."},
)

access_token = sa.Table(
    "access_token",
    metadata,
    column(
        "sha256",
        sa.Text(),
        "SHA-256 of the token, which is kept nowhere.",
        provenance="gandb",
        primary_key=True,
    ),
    column("label", sa.Text(), "Whom it was given to.", provenance="user"),
    column(
        "publications", TextList, "What it opens; null for all.", provenance="user", nullable=True
    ),
    column("created_at", Moment, "When it was made.", unit="UTC", provenance="user", volatile=True),
    column(
        "revoked_at",
        Moment,
        "When it ceased to be valid.",
        unit="UTC",
        provenance="user",
        volatile=True,
        nullable=True,
    ),
    info={**OPERATIONAL, "meaning": "Who may read what is not public."},
)
