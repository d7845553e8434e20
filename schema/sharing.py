"""Tables of what goes between groups: bundles taken in, statements that differ, what is served."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from gandb.core.units import PROPERTIES
from gandb.schema.columns import (
    BULK,
    CONTENT,
    LABEL,
    OPERATIONAL,
    DoubleList,
    Json,
    Moment,
    TextList,
    cnen_columns,
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
        "n_structures", sa.BigInteger(), "What it serves.", unit="rows", provenance="gandb"
    ),
    column(
        "n_without",
        sa.BigInteger(),
        "Entries or candidates that are left out because they have no structure.",
        unit="rows",
        provenance="gandb",
    ),
    column(
        "overlapping",
        TextList,
        "Publications before it that share entries or candidates with it.",
        provenance="gandb",
    ),
    column(
        "sources",
        Json,
        "Attribution and licence of each source, as OPTIMADE references.",
        provenance="source",
    ),
    column(
        "created_at", Moment, "When it was published.", unit="UTC", provenance="user",
        volatile=True,
    ),
    info={**OPERATIONAL, "meaning": "What `gandb serve` shows."},
)  # fmt: skip


def _copied(name: str, type_: Any, meaning: str, **options: Any) -> sa.Column[Any]:
    provenance = options.pop("provenance", "gandb: copy, as it was when it was published")
    return column(name, type_, meaning, provenance=provenance, **options)


_FROM_COUNTS = "gandb: from the composition, as OPTIMADE writes it"

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
    _copied("source", sa.Text(), "Source of an entry.", nullable=True),
    _copied("external_id", sa.Text(), "Id of an entry in its source.", nullable=True),
    _copied("model", sa.Text(), "Model that generated a candidate.", nullable=True),
    _copied("formula", sa.Text(), "Reduced formula as pymatgen writes it."),
    column(
        "formula_reduced",
        sa.Text(),
        "Reduced formula, elements in alphabetical order.",
        provenance=_FROM_COUNTS,
    ),
    column(
        "formula_anonymous",
        sa.Text(),
        "Reduced formula with letters for elements, the most frequent first.",
        provenance=_FROM_COUNTS,
    ),
    column(
        "formula_hill",
        sa.Text(),
        "Customary formula unit in Hill order; null where occupancies add up to no whole numbers.",
        provenance=_FROM_COUNTS,
        nullable=True,
    ),
    _copied("elements", TextList, "Element symbols in alphabetical order."),
    column(
        "ratios",
        DoubleList,
        "Share of each element, in the same order.",
        unit="atoms/atoms",
        provenance=_FROM_COUNTS,
    ),
    column(
        "elements_low",
        sa.BigInteger(),
        "Bit Z - 1 is set for each element of atomic number Z up to 60.",
        unit=LABEL,
        provenance="gandb",
    ),
    column(
        "elements_high",
        sa.BigInteger(),
        "Bit Z - 61 is set for each element of atomic number Z from 61.",
        unit=LABEL,
        provenance="gandb",
    ),
    _copied("n_elements", sa.SmallInteger(), "Number of different elements.", unit="elements"),
    _copied("n_sites", sa.Integer(), "Sites in the cell.", unit="sites"),
    _copied("ordered", sa.Boolean(), "Every site is filled by one species."),
    _copied(
        "space_group_number",
        sa.SmallInteger(),
        "Space group, 1 to 230; null where the search failed.",
        unit=LABEL,
        nullable=True,
    ),
    _copied(
        "space_group_symbol",
        sa.Text(),
        "Hermann-Mauguin symbol, short, without underscores.",
        nullable=True,
    ),
    *(
        _copied(p.name, sa.Double(), p.description, unit=p.unit, nullable=True)
        for p in PROPERTIES.values()
    ),
    *(
        _copied(c.name, sa.Boolean(), c.info["meaning"], nullable=True)
        for c in cnen_columns("of the reduced formula")
    ),
    _copied(
        "novel",
        sa.Boolean(),
        "The composition of a candidate is not in the dataset version of its model.",
        nullable=True,
    ),
    column(
        "record",
        sa.LargeBinary(),
        "The row and its structure as one value, see gandb.sharing.serving.packed; null on "
        "PostgreSQL, which finds both as fast.",
        provenance="gandb",
        nullable=True,
    ),
    column(
        "reference_ids",
        TextList,
        "Which of the publication's sources state it.",
        provenance="gandb",
    ),
    column(
        "last_modified",
        Moment,
        "When it was first published; whole seconds.",
        unit="UTC",
        provenance="gandb",
        volatile=True,
    ),
    info={
        **BULK,
        "content": False,
        "meaning": "The entries and candidates of a publication that have a structure.",
    },
)
sa.Index("ix_published_id", published.c.id)
sa.Index("ix_published_elements", published.c.elements, postgresql_using="gin")
sa.Index("ix_published_masks", published.c.elements_low, published.c.elements_high)
sa.Index("ix_published_formula_reduced", published.c.formula_reduced)
sa.Index("ix_published_formula_anonymous", published.c.formula_anonymous)
sa.Index("ix_published_external_id", published.c.external_id)
sa.Index("ix_published_n_sites", published.c.n_sites)
sa.Index("ix_published_space_group_number", published.c.space_group_number)
sa.Index("ix_published_formation_energy", published.c.formation_energy_per_atom)
sa.Index("ix_published_energy_above_hull", published.c.energy_above_hull)
sa.Index("ix_published_band_gap", published.c.band_gap)

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
