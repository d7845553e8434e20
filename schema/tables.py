"""All tables of a store, in the field's terms.

Foreign keys are declared for reading everywhere and are physical on PostgreSQL. On DuckDB tables
marked ``bulk`` carry no physical keys or indexes: rows enter through the staged merge, which admits
a key once, and ``gandb db verify`` checks every declared key and reference. The reason is measured:
a unique index makes a bulk insert four times as slow.

``content`` tables say what is known and are equal in two stores that did the same work;
``operational`` tables say how and when the work was done.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from gandb.core.units import PROPERTIES
from gandb.schema.columns import LABEL, Json, Moment, TextList, column

metadata = sa.MetaData()

_LATER: dict[str, Any] = {"use_alter": True, "deferrable": True, "initially": "DEFERRED"}
"""A reference in a circle: added after the tables, checked when a transaction ends."""

BULK = {"bulk": True, "content": True}
CONTENT = {"bulk": False, "content": True}
OPERATIONAL = {"bulk": False, "content": False}


def _id(meaning: str, provenance: str = "gandb: BLAKE2b-128 of the content") -> sa.Column[Any]:
    return column("id", sa.Uuid(), meaning, provenance=provenance, primary_key=True)


def _ref(
    name: str, target: str, meaning: str, *, use_alter: bool = False, **options: Any
) -> sa.Column[Any]:
    options.setdefault("provenance", "gandb")
    key = sa.ForeignKey(target, **_LATER, name=f"fk_{name}") if use_alter else sa.ForeignKey(target)
    return column(name, sa.Uuid(), meaning, key, **options)


def _cnen_columns(where: str) -> list[sa.Column[Any]]:
    return [
        column(
            "cnen_strict",
            sa.Boolean(),
            "Charge-neutral and electronegativity-balanced; metals get no exemption.",
            provenance=f"gandb: copy of check_result under the standard recipe, {where}",
            nullable=True,
        ),
        column(
            "cnen_default",
            sa.Boolean(),
            "The same, but a composition of metals alone passes (smact_validity's default).",
            provenance=f"gandb: copy of check_result under the standard recipe, {where}",
            nullable=True,
        ),
        column(
            "cnen_matgan",
            sa.Boolean(),
            "MatGAN's own rule: smact 2.2's oxidation states, no exemption, formula not reducible.",
            provenance=f"gandb: copy of check_result under the standard recipe, {where}",
            nullable=True,
        ),
    ]


def _composition_facts() -> list[sa.Column[Any]]:
    from_counts = "gandb: from the reduced composition"
    return [
        column(
            "reduced_formula",
            sa.Text(),
            "Formula divided by its greatest common divisor, as pymatgen writes it.",
            provenance=from_counts,
        ),
        column(
            "chemical_system",
            sa.Text(),
            "Element symbols in alphabetical order joined by hyphens, such as Fe-O.",
            provenance=from_counts,
        ),
        column(
            "anonymous_formula",
            sa.Text(),
            "Stoichiometry without elements, counts ascending, such as AB2C4.",
            provenance=from_counts,
        ),
        column(
            "elements",
            TextList,
            "Element symbols in alphabetical order.",
            provenance=from_counts,
        ),
        column(
            "n_elements",
            sa.SmallInteger(),
            "Number of different elements.",
            unit="elements",
            provenance=from_counts,
        ),
        column(
            "n_atoms",
            sa.Integer(),
            "Number of atoms in the reduced formula.",
            unit="atoms",
            provenance=from_counts,
        ),
    ]


# --- materials ---------------------------------------------------------------------------

composition = sa.Table(
    "composition",
    metadata,
    _id("Content id of the gcd-reduced (atomic number, count) pairs."),
    *_composition_facts(),
    *_cnen_columns("of the reduced formula"),
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
    _ref("composition_id", "composition.id", "The composition.", primary_key=True),
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
    _id("Content id of source, release, filter, file checksums and reading options."),
    column("source", sa.Text(), "Database: oqmd, mp or aflow.", provenance="user"),
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
    info={**CONTENT, "meaning": "One row per import of a source: what exactly was read."},
)

entry = sa.Table(
    "entry",
    metadata,
    _id("Content id of source, external id, composition, properties and ordinal."),
    column("source", sa.Text(), "Database: oqmd, mp or aflow.", provenance="user"),
    column("external_id", sa.Text(), "Id in that database.", provenance="source", nullable=True),
    _ref("composition_id", "composition.id", "Its composition."),
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
    info={
        **BULK,
        "meaning": "One row per record of a source; polymorphs share a composition.",
    },
)
sa.Index("ix_entry_composition_id", entry.c.composition_id)
sa.Index("ix_entry_external_id", entry.c.source, entry.c.external_id)

snapshot_entry = sa.Table(
    "snapshot_entry",
    metadata,
    _ref("snapshot_id", "source_snapshot.id", "The snapshot.", primary_key=True),
    _ref("entry_id", "entry.id", "An entry that it holds.", primary_key=True),
    info={**BULK, "meaning": "Which entries a snapshot holds."},
)
sa.Index("ix_snapshot_entry_entry_id", snapshot_entry.c.entry_id)

snapshot_reject = sa.Table(
    "snapshot_reject",
    metadata,
    _ref("snapshot_id", "source_snapshot.id", "The snapshot.", primary_key=True),
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

# --- datasets ----------------------------------------------------------------------------

dataset = sa.Table(
    "dataset",
    metadata,
    _id("Content id of the name."),
    column("name", sa.Text(), "Name, as in NAME@3.", provenance="user", unique=True),
    info={**CONTENT, "meaning": "A named line of dataset versions."},
)

dataset_version = sa.Table(
    "dataset_version",
    metadata,
    _id("Content id of the members, their splits and the parent."),
    _ref("parent_id", "dataset_version.id", "The version it was made from.", nullable=True),
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
    _ref("dataset_id", "dataset.id", "The dataset.", primary_key=True),
    column(
        "number",
        sa.Integer(),
        "Number of the version, from 1.",
        unit=LABEL,
        provenance="gandb",
        primary_key=True,
        autoincrement=False,
    ),
    _ref("version_id", "dataset_version.id", "The version it names."),
    column("message", sa.Text(), "Why it was made.", provenance="user"),
    column("selection", Json, "The SQL condition or list that chose it.", provenance="user"),
    column(
        "created_at", Moment, "When it was made.", unit="UTC", provenance="gandb", volatile=True
    ),
    info={**CONTENT, "meaning": "NAME@number: which version a dataset's number stands for."},
)

dataset_change = sa.Table(
    "dataset_change",
    metadata,
    _ref("version_id", "dataset_version.id", "The version.", primary_key=True),
    _ref("entry_id", "entry.id", "An entry added or dropped.", primary_key=True),
    column("change", sa.SmallInteger(), "1 added, -1 dropped.", unit=LABEL, provenance="gandb"),
    column("split", sa.Text(), "train, validation or test.", provenance="gandb"),
    info={
        **BULK,
        "meaning": "What a version changes against its base; without a base, all its members.",
    },
)

dataset_base = sa.Table(
    "dataset_base",
    metadata,
    _ref("version_id", "dataset_version.id", "The version.", primary_key=True),
    _ref("base_id", "dataset_version.id", "A version whose changes count.", primary_key=True),
    info={
        **CONTENT,
        "meaning": "Whose changes add up to a version: itself and its chain of bases.",
    },
)

# --- models and what they make -----------------------------------------------------------

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
    _id("Content id of name, version and configuration."),
    column("name", sa.Text(), "Generator: matgan, uniform ...", provenance="gandb"),
    column("version", sa.Text(), "Version of its code.", provenance="gandb"),
    column("role", sa.Text(), "model or baseline.", provenance="gandb"),
    column("config", Json, "Every setting that shapes it.", provenance="user"),
    info={**CONTENT, "meaning": "A generator with its configuration, before training."},
)

checkpoint = sa.Table(
    "checkpoint",
    metadata,
    _id("Content id of model, dataset version, seed and weights."),
    _ref("model_id", "model.id", "The model."),
    _ref("dataset_version_id", "dataset_version.id", "What it was trained on (train split)."),
    _ref("job_id", "job.id", "The job that trained it."),
    column("seed", sa.BigInteger(), "Seed of the training.", unit=LABEL, provenance="user"),
    column(
        "iteration",
        sa.BigInteger(),
        "Training iterations done.",
        unit="iterations",
        provenance="worker",
    ),
    column("sha256", sa.Text(), "Its weights.", sa.ForeignKey("blob.sha256"), provenance="worker"),
    info={**CONTENT, "meaning": "Trained weights; what candidates are sampled from."},
)

candidate = sa.Table(
    "candidate",
    metadata,
    _id("Content id of checkpoint and composition."),
    _ref("checkpoint_id", "checkpoint.id", "The checkpoint that made it."),
    _ref("composition_id", "composition.id", "Its composition."),
    *_composition_facts(),
    *_cnen_columns("of the formula as generated"),
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
    info={
        **BULK,
        "meaning": "One row per distinct thing that a checkpoint generated, with its verdicts.",
    },
)
sa.Index("ix_candidate_checkpoint_id", candidate.c.checkpoint_id)
sa.Index("ix_candidate_composition_id", candidate.c.composition_id)
sa.Index("ix_candidate_chemical_system", candidate.c.chemical_system)
sa.Index("ix_candidate_reduced_formula", candidate.c.reduced_formula)
sa.Index("ix_candidate_elements", candidate.c.elements, postgresql_using="gin")
sa.Index("ix_candidate_times_generated", candidate.c.times_generated)

generation_event = sa.Table(
    "generation_event",
    metadata,
    _ref("job_id", "job.id", "The generation job.", primary_key=True),
    column(
        "chunk",
        sa.Integer(),
        "Chunk of the job.",
        unit=LABEL,
        provenance="worker",
        primary_key=True,
        autoincrement=False,
    ),
    _ref("candidate_id", "candidate.id", "What was generated.", primary_key=True),
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
    info={**BULK, "meaning": "Which job and chunk made a candidate, and how often."},
)
sa.Index("ix_generation_event_candidate_id", generation_event.c.candidate_id)

# --- checks ------------------------------------------------------------------------------

recipe = sa.Table(
    "recipe",
    metadata,
    _id("Content id of check, version and parameters."),
    column("check_name", sa.Text(), "Check: cnen_strict, novelty ...", provenance="gandb"),
    column("version", sa.Text(), "Version of the check.", provenance="gandb"),
    column("parameters", Json, "All it depends on, data files by hash.", provenance="gandb"),
    info={**CONTENT, "meaning": "How exactly a check was done; any change makes a new recipe."},
)

check_result = sa.Table(
    "check_result",
    metadata,
    _ref("recipe_id", "recipe.id", "How it was checked.", primary_key=True),
    column(
        "subject_id",
        sa.Uuid(),
        "The composition that was checked.",
        provenance="gandb",
        primary_key=True,
    ),
    column(
        "passed", sa.Boolean(), "The verdict; null if it could not be made.", provenance="gandb",
        nullable=True,
    ),
    column("reason", sa.Text(), "Why, in a few words.", provenance="gandb"),
    info={**BULK, "meaning": "One verdict per subject and recipe."},
)  # fmt: skip
sa.Index("ix_check_result_subject_id", check_result.c.subject_id)

metric = sa.Table(
    "metric",
    metadata,
    _ref("job_id", "job.id", "The job that it describes.", primary_key=True),
    column("name", sa.Text(), "What is measured.", provenance="gandb", primary_key=True),
    column(
        "step",
        sa.BigInteger(),
        "Training iteration, or number of samples N.",
        unit="iterations or samples",
        provenance="gandb",
        primary_key=True,
        autoincrement=False,
    ),
    column("value", sa.Double(), "The value; shares are of 1.", unit="1", provenance="gandb"),
    _ref("recipe_id", "recipe.id", "How it was checked.", nullable=True),
    info={
        **CONTENT,
        "meaning": "Numbers about a job: training curves, shares, uniqueness and novelty at N.",
    },
)

# --- jobs --------------------------------------------------------------------------------

job = sa.Table(
    "job",
    metadata,
    _id("Content id of kind, specification, inputs and seed."),
    column("kind", sa.Text(), "import, train or generate.", provenance="user"),
    column("spec", Json, "All that the result depends on.", provenance="user"),
    _ref("dataset_version_id", "dataset_version.id", "What it reads.", nullable=True),
    _ref(
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
    _ref("job_id", "job.id", "The job.", primary_key=True),
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
    _ref("job_id", "job.id", "The job.", primary_key=True),
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
        "done, failed, cancelled or lost; null while it runs.",
        provenance="worker",
        nullable=True,
    ),
    info={**OPERATIONAL, "meaning": "Who tried which chunk, when, and how it ended."},
)

job_event = sa.Table(
    "job_event",
    metadata,
    _id("Random id.", provenance="worker"),
    _ref("job_id", "job.id", "The job."),
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
