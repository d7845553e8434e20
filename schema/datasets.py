"""Tables of datasets: names, versions, members."""

from __future__ import annotations

import sqlalchemy as sa

from gandb.schema.columns import (
    BULK,
    CONTENT,
    LABEL,
    Json,
    Moment,
    column,
    metadata,
    own_id,
    reference,
)

dataset = sa.Table(
    "dataset",
    metadata,
    own_id("Content id of the name."),
    column(
        "name",
        sa.Text(),
        "Name, as in NAME@3; ORIGIN/NAME for what another group shared.",
        provenance="user",
        unique=True,
    ),
    info={**CONTENT, "meaning": "A named line of dataset versions."},
)

dataset_version = sa.Table(
    "dataset_version",
    metadata,
    own_id("Content id of the members, their splits and the parents."),
    reference(
        "parent_id",
        "dataset_version.id",
        "The first version it was made from; all are in dataset_parent.",
        nullable=True,
    ),
    column("members_hash", sa.Text(), "SHA-256 of sorted members and splits.", provenance="gandb"),
    column("split_recipe", Json, "Fractions and seed of the splits.", provenance="user"),
    column("n_entries", sa.BigInteger(), "Number of members.", unit="rows", provenance="gandb"),
    column(
        "n_compositions",
        sa.BigInteger(),
        "Number of distinct compositions.",
        unit="rows",
        provenance="gandb",
    ),
    info={**CONTENT, "meaning": "An immutable set of entries with splits; names point to it."},
)

dataset_number = sa.Table(
    "dataset_number",
    metadata,
    reference("dataset_id", "dataset.id", "The dataset.", primary_key=True),
    column(
        "number",
        sa.Integer(),
        "Number of the version, from 1.",
        unit=LABEL,
        provenance="gandb",
        primary_key=True,
        autoincrement=False,
    ),
    reference("version_id", "dataset_version.id", "The version it names."),
    column("message", sa.Text(), "Why it was made.", provenance="user"),
    column("selection", Json, "The SQL condition or list that chose it.", provenance="user"),
    column(
        "created_at", Moment, "When it was made.", unit="UTC", provenance="gandb", volatile=True
    ),
    column(
        "removed_at",
        Moment,
        "When the number was taken away; null while it stands.",
        unit="UTC",
        provenance="user",
        volatile=True,
        nullable=True,
    ),
    info={**CONTENT, "meaning": "NAME@number: which version a dataset's number stands for."},
)

dataset_change = sa.Table(
    "dataset_change",
    metadata,
    reference("version_id", "dataset_version.id", "The version.", primary_key=True),
    reference("entry_id", "entry.id", "An entry added or dropped.", primary_key=True),
    column(
        "change",
        sa.SmallInteger(),
        "1 added, -1 dropped, 0 moved to another split.",
        unit=LABEL,
        provenance="gandb",
    ),
    column("split", sa.Text(), "train, validation or test.", provenance="gandb"),
    info={
        **BULK,
        "meaning": "What a version changes against its base; without a base, all its members.",
    },
)

dataset_base = sa.Table(
    "dataset_base",
    metadata,
    reference("version_id", "dataset_version.id", "The version.", primary_key=True),
    reference("base_id", "dataset_version.id", "A version whose changes count.", primary_key=True),
    info={
        **CONTENT,
        "meaning": "Whose changes add up to a version: itself and its chain of bases.",
    },
)

dataset_parent = sa.Table(
    "dataset_parent",
    metadata,
    reference("version_id", "dataset_version.id", "The version.", primary_key=True),
    column(
        "position",
        sa.SmallInteger(),
        "0 for the first parent, 1 and up for those it was united with.",
        unit=LABEL,
        provenance="gandb",
        primary_key=True,
        autoincrement=False,
    ),
    reference("parent_id", "dataset_version.id", "A version it was made from."),
    info={**CONTENT, "meaning": "Which versions a version was made from: the graph of versions."},
)

dataset_tag = sa.Table(
    "dataset_tag",
    metadata,
    reference("dataset_id", "dataset.id", "The dataset.", primary_key=True),
    column("tag", sa.Text(), "The tag, as in NAME@TAG.", provenance="user", primary_key=True),
    column(
        "origin",
        sa.Text(),
        "The group that says so; empty for this store's own.",
        provenance="user",
        primary_key=True,
    ),
    reference("version_id", "dataset_version.id", "What it stands for.", primary_key=True),
    column("message", sa.Text(), "Why.", provenance="user"),
    column("created_at", Moment, "When it was set.", unit="UTC", provenance="user", volatile=True),
    info={
        **CONTENT,
        "meaning": "Names for versions; where two groups mean different versions, both stay.",
    },
)
