"""Tables of what sources say: compositions, snapshots, entries."""

from __future__ import annotations

import sqlalchemy as sa

from gandb.core.units import PROPERTIES
from gandb.schema.columns import (
    BULK,
    CONTENT,
    LABEL,
    OPERATIONAL,
    Json,
    Moment,
    cnen_columns,
    column,
    composition_facts,
    metadata,
    own_id,
    reference,
)
from gandb.schema.structures import symmetry_copies

composition = sa.Table(
    "composition",
    metadata,
    own_id("Content id of the gcd-reduced (atomic number, count) pairs."),
    *composition_facts(),
    *cnen_columns("of the reduced formula"),
    info={
        **BULK,
        "meaning": "One row per distinct reduced composition, shared by entries and candidates.",
    },
)
sa.Index("ix_composition_chemical_system", composition.c.chemical_system)
sa.Index("ix_composition_reduced_formula", composition.c.reduced_formula)

composition_element = sa.Table(
    "composition_element",
    metadata,
    reference("composition_id", "composition.id", "The composition.", primary_key=True),
    column(
        "element",
        sa.Text(),
        "Element symbol.",
        provenance="gandb: from the reduced composition",
        primary_key=True,
    ),
    column(
        "atomic_number",
        sa.SmallInteger(),
        "Atomic number of the element.",
        unit=LABEL,
        provenance="gandb: from the reduced composition",
    ),
    column(
        "n_atoms",
        sa.Integer(),
        "Atoms of this element in the reduced formula.",
        unit="atoms",
        provenance="gandb: from the reduced composition",
    ),
    column(
        "fraction",
        sa.Double(),
        "Atoms of this element divided by all atoms.",
        unit="atoms/atoms",
        provenance="gandb: from the reduced composition",
    ),
    info={**BULK, "meaning": "One row per element of a composition."},
)
sa.Index(
    "ix_composition_element_element",
    composition_element.c.element,
    composition_element.c.composition_id,
)

source_snapshot = sa.Table(
    "source_snapshot",
    metadata,
    own_id("Content id of source, release, filter, file checksums and reading options."),
    column("source", sa.Text(), "Database or collection: oqmd, mp ...", provenance="user"),
    column("release", sa.Text(), "Release of the database.", provenance="user", nullable=True),
    column("filter", sa.Text(), "Selection that was asked for.", provenance="user", nullable=True),
    column("files", Json, "Name, SHA-256 and size of every file.", provenance="gandb"),
    column("options", Json, "Column mapping, units and joining rule.", provenance="user"),
    column("licence", sa.Text(), "Licence of the data.", provenance="source"),
    column("attribution", sa.Text(), "Whom to cite for the data.", provenance="source"),
    column("n_rows", sa.BigInteger(), "Rows read.", unit="rows", provenance="gandb"),
    column("n_entries", sa.BigInteger(), "Entries made of them.", unit="rows", provenance="gandb"),
    column("n_rejects", sa.BigInteger(), "Rows rejected.", unit="rows", provenance="gandb"),
    column(
        "imported_at",
        Moment,
        "When it was imported.",
        unit="UTC",
        provenance="worker",
        volatile=True,
    ),
    column(
        "n_repeats",
        sa.BigInteger(),
        "Further rows that say the same as an earlier one; not among n_rows.",
        unit="rows",
        provenance="gandb",
        volatile=True,
        nullable=True,
    ),
    column(
        "parser",
        sa.Text(),
        "Version of the readers; null for formula tables.",
        provenance="gandb",
        nullable=True,
    ),
    column(
        "endpoint",
        sa.Text(),
        "Address that was asked; null for files.",
        provenance="user",
        nullable=True,
    ),
    info={**CONTENT, "meaning": "One row per import of a source: what exactly was read."},
)

entry = sa.Table(
    "entry",
    metadata,
    own_id("Content id of source, external id, composition, structure, properties and ordinal."),
    column("source", sa.Text(), "Database or collection: oqmd, mp ...", provenance="user"),
    column("external_id", sa.Text(), "Id in that database.", provenance="source", nullable=True),
    reference("composition_id", "composition.id", "Its composition."),
    column("formula", sa.Text(), "Formula as the source writes it.", provenance="source"),
    column(
        "formula_units",
        sa.Integer(),
        "Reduced formulas in the formula as written.",
        unit="formula units",
        provenance="gandb",
    ),
    column(
        "ordinal",
        sa.Integer(),
        "0, 1, 2 ... among records of one file that are equal in everything.",
        unit=LABEL,
        provenance="gandb",
    ),
    *(
        column(p.name, sa.Double(), p.description, unit=p.unit, provenance="source", nullable=True)
        for p in PROPERTIES.values()
    ),
    column("extra", Json, "What else the source says.", provenance="source", nullable=True),
    reference("structure_id", "structure.id", "Its structure.", nullable=True),
    *symmetry_copies("as it was when the entry came"),
    info={
        **BULK,
        "meaning": "One row per record of a source; polymorphs share a composition.",
    },
)
sa.Index("ix_entry_composition_id", entry.c.composition_id)
sa.Index("ix_entry_structure_id", entry.c.structure_id)
sa.Index("ix_entry_external_id", entry.c.source, entry.c.external_id)

entry_alias = sa.Table(
    "entry_alias",
    metadata,
    reference("entry_id", "entry.id", "The entry.", primary_key=True),
    column("kind", sa.Text(), "Whose id: icsd, aurl, optimade ...", provenance="source",
           primary_key=True),
    column("alias", sa.Text(), "Another id of the entry.", provenance="source", primary_key=True),
    info={**BULK, "meaning": "Other ids under which a record is known, one per row."},
)  # fmt: skip
sa.Index("ix_entry_alias_alias", entry_alias.c.alias)

snapshot_file = sa.Table(
    "snapshot_file",
    metadata,
    reference("snapshot_id", "source_snapshot.id", "The snapshot.", primary_key=True),
    column(
        "number",
        sa.Integer(),
        "Place of the file or page among those read, from 0.",
        unit=LABEL,
        provenance="gandb",
        primary_key=True,
        autoincrement=False,
    ),
    column("name", sa.Text(), "Name of the file, or address of the page.", provenance="user"),
    column("sha256", sa.Text(), "Its SHA-256 in hexadecimal.", provenance="gandb"),
    column("size", sa.BigInteger(), "Its size.", unit="bytes", provenance="gandb"),
    column("kept", sa.Boolean(), "Whether it is kept as a blob.", provenance="user"),
    info={
        **OPERATIONAL,
        "meaning": "What was read as it came: pages of one database differ from day to day.",
    },
)

snapshot_entry = sa.Table(
    "snapshot_entry",
    metadata,
    reference("snapshot_id", "source_snapshot.id", "The snapshot.", primary_key=True),
    reference("entry_id", "entry.id", "An entry that it holds.", primary_key=True),
    info={**BULK, "meaning": "Which entries a snapshot holds."},
)
sa.Index("ix_snapshot_entry_entry_id", snapshot_entry.c.entry_id)

snapshot_reject = sa.Table(
    "snapshot_reject",
    metadata,
    reference("snapshot_id", "source_snapshot.id", "The snapshot.", primary_key=True),
    column("file", sa.Text(), "Name of the file.", provenance="user", primary_key=True),
    column(
        "line",
        sa.BigInteger(),
        "Line or row, from 1.",
        unit=LABEL,
        provenance="gandb",
        primary_key=True,
    ),
    column("reason", sa.Text(), "Why the row was rejected.", provenance="gandb", primary_key=True),
    column("raw", sa.Text(), "The row, at most 1,000 characters.", provenance="source"),
    info={**CONTENT, "meaning": "Rows that were not taken in, with the reason."},
)
