"""The first schema: sources, datasets, models, candidates, checks and jobs.

On DuckDB no foreign key is physical and bulk tables have no keys at all; indexes are PostgreSQL's.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_TEXTS = sa.ARRAY(sa.Text())


def _keys(bulk: bool, own: list[Any], references: list[tuple[str, str]]) -> list[Any]:
    """Return the constraints that the engine carries physically."""
    if op.get_bind().dialect.name == "postgresql":
        return own + [sa.ForeignKeyConstraint([c], [target]) for c, target in references]
    return [] if bulk else own


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "blob",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        *_keys(
            False,
            [sa.PrimaryKeyConstraint("sha256")],
            [],
        ),
    )
    op.create_table(
        "composition",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("reduced_formula", sa.Text(), nullable=False),
        sa.Column("chemical_system", sa.Text(), nullable=False),
        sa.Column("anonymous_formula", sa.Text(), nullable=False),
        sa.Column("elements", _TEXTS, nullable=False),
        sa.Column("n_elements", sa.SmallInteger(), nullable=False),
        sa.Column("n_atoms", sa.Integer(), nullable=False),
        sa.Column("cnen_strict", sa.Boolean(), nullable=True),
        sa.Column("cnen_default", sa.Boolean(), nullable=True),
        sa.Column("cnen_matgan", sa.Boolean(), nullable=True),
        *_keys(
            True,
            [sa.PrimaryKeyConstraint("id")],
            [],
        ),
    )
    op.create_table(
        "dataset",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        *_keys(
            False,
            [sa.PrimaryKeyConstraint("id"), sa.UniqueConstraint("name", name="uq_dataset_name")],
            [],
        ),
    )
    op.create_table(
        "dataset_version",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("members_hash", sa.Text(), nullable=False),
        sa.Column("split_recipe", _JSON, nullable=False),
        sa.Column("n_entries", sa.BigInteger(), nullable=False),
        sa.Column("n_compositions", sa.BigInteger(), nullable=False),
        *_keys(
            False,
            [sa.PrimaryKeyConstraint("id")],
            [("parent_id", "dataset_version.id")],
        ),
    )
    op.create_table(
        "model",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("config", _JSON, nullable=False),
        *_keys(
            False,
            [sa.PrimaryKeyConstraint("id")],
            [],
        ),
    )
    op.create_table(
        "recipe",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("check_name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("parameters", _JSON, nullable=False),
        *_keys(
            False,
            [sa.PrimaryKeyConstraint("id")],
            [],
        ),
    )
    op.create_table(
        "setting",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        *_keys(
            False,
            [sa.PrimaryKeyConstraint("key")],
            [],
        ),
    )
    op.create_table(
        "source_snapshot",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("release", sa.Text(), nullable=True),
        sa.Column("filter", sa.Text(), nullable=True),
        sa.Column("files", _JSON, nullable=False),
        sa.Column("options", _JSON, nullable=False),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("attribution", sa.Text(), nullable=False),
        sa.Column("n_rows", sa.BigInteger(), nullable=False),
        sa.Column("n_entries", sa.BigInteger(), nullable=False),
        sa.Column("n_rejects", sa.BigInteger(), nullable=False),
        sa.Column("imported_at", sa.DateTime(), nullable=False),
        *_keys(
            False,
            [sa.PrimaryKeyConstraint("id")],
            [],
        ),
    )
    op.create_table(
        "check_result",
        sa.Column("recipe_id", sa.Uuid(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        *_keys(
            True,
            [sa.PrimaryKeyConstraint("recipe_id", "subject_id")],
            [("recipe_id", "recipe.id")],
        ),
    )
    op.create_table(
        "composition_element",
        sa.Column("composition_id", sa.Uuid(), nullable=False),
        sa.Column("element", sa.Text(), nullable=False),
        sa.Column("atomic_number", sa.SmallInteger(), nullable=False),
        sa.Column("n_atoms", sa.Integer(), nullable=False),
        sa.Column("fraction", sa.Double(), nullable=False),
        *_keys(
            True,
            [sa.PrimaryKeyConstraint("composition_id", "element")],
            [("composition_id", "composition.id")],
        ),
    )
    op.create_table(
        "dataset_base",
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("base_id", sa.Uuid(), nullable=False),
        *_keys(
            False,
            [sa.PrimaryKeyConstraint("version_id", "base_id")],
            [("version_id", "dataset_version.id"), ("base_id", "dataset_version.id")],
        ),
    )
    op.create_table(
        "dataset_number",
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("selection", _JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        *_keys(
            False,
            [sa.PrimaryKeyConstraint("dataset_id", "number")],
            [("dataset_id", "dataset.id"), ("version_id", "dataset_version.id")],
        ),
    )
    op.create_table(
        "entry",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("composition_id", sa.Uuid(), nullable=False),
        sa.Column("formula", sa.Text(), nullable=False),
        sa.Column("formula_units", sa.Integer(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("formation_energy_per_atom", sa.Double(), nullable=True),
        sa.Column("energy_per_atom", sa.Double(), nullable=True),
        sa.Column("energy_above_hull", sa.Double(), nullable=True),
        sa.Column("band_gap", sa.Double(), nullable=True),
        sa.Column("volume_per_atom", sa.Double(), nullable=True),
        sa.Column("bulk_modulus", sa.Double(), nullable=True),
        sa.Column("shear_modulus", sa.Double(), nullable=True),
        sa.Column("elastic_anisotropy", sa.Double(), nullable=True),
        sa.Column("debye_temperature", sa.Double(), nullable=True),
        sa.Column("thermal_conductivity", sa.Double(), nullable=True),
        sa.Column("thermal_expansion", sa.Double(), nullable=True),
        sa.Column("total_magnetization", sa.Double(), nullable=True),
        sa.Column("extra", _JSON, nullable=True),
        *_keys(
            True,
            [sa.PrimaryKeyConstraint("id")],
            [("composition_id", "composition.id")],
        ),
    )
    op.create_table(
        "job",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("spec", _JSON, nullable=False),
        sa.Column("dataset_version_id", sa.Uuid(), nullable=True),
        sa.Column("checkpoint_id", sa.Uuid(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("code_version", sa.Text(), nullable=False),
        sa.Column("n_chunks", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        *_keys(
            False,
            [sa.PrimaryKeyConstraint("id")],
            [("dataset_version_id", "dataset_version.id")],
        ),
    )
    op.create_table(
        "snapshot_reject",
        sa.Column("snapshot_id", sa.Uuid(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("raw", sa.Text(), nullable=False),
        *_keys(
            False,
            [sa.PrimaryKeyConstraint("snapshot_id", "file", "line", "reason")],
            [("snapshot_id", "source_snapshot.id")],
        ),
    )
    op.create_table(
        "checkpoint",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_version_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("iteration", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        *_keys(
            False,
            [sa.PrimaryKeyConstraint("id")],
            [
                ("model_id", "model.id"),
                ("dataset_version_id", "dataset_version.id"),
                ("job_id", "job.id"),
                ("sha256", "blob.sha256"),
            ],
        ),
    )
    op.create_table(
        "dataset_change",
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("change", sa.SmallInteger(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        *_keys(
            True,
            [sa.PrimaryKeyConstraint("version_id", "entry_id")],
            [("version_id", "dataset_version.id"), ("entry_id", "entry.id")],
        ),
    )
    op.create_table(
        "job_attempt",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("attempt", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        *_keys(
            False,
            [sa.PrimaryKeyConstraint("job_id", "chunk", "attempt")],
            [("job_id", "job.id")],
        ),
    )
    op.create_table(
        "job_chunk",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("result", _JSON, nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("progress", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        *_keys(
            False,
            [sa.PrimaryKeyConstraint("job_id", "chunk")],
            [("job_id", "job.id")],
        ),
    )
    op.create_table(
        "job_event",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        *_keys(
            False,
            [sa.PrimaryKeyConstraint("id")],
            [("job_id", "job.id")],
        ),
    )
    op.create_table(
        "metric",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("recipe_id", sa.Uuid(), nullable=True),
        *_keys(
            False,
            [sa.PrimaryKeyConstraint("job_id", "name", "step")],
            [("job_id", "job.id"), ("recipe_id", "recipe.id")],
        ),
    )
    op.create_table(
        "snapshot_entry",
        sa.Column("snapshot_id", sa.Uuid(), nullable=False),
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        *_keys(
            True,
            [sa.PrimaryKeyConstraint("snapshot_id", "entry_id")],
            [("snapshot_id", "source_snapshot.id"), ("entry_id", "entry.id")],
        ),
    )
    op.create_table(
        "candidate",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("checkpoint_id", sa.Uuid(), nullable=False),
        sa.Column("composition_id", sa.Uuid(), nullable=False),
        sa.Column("reduced_formula", sa.Text(), nullable=False),
        sa.Column("chemical_system", sa.Text(), nullable=False),
        sa.Column("anonymous_formula", sa.Text(), nullable=False),
        sa.Column("elements", _TEXTS, nullable=False),
        sa.Column("n_elements", sa.SmallInteger(), nullable=False),
        sa.Column("n_atoms", sa.Integer(), nullable=False),
        sa.Column("cnen_strict", sa.Boolean(), nullable=True),
        sa.Column("cnen_default", sa.Boolean(), nullable=True),
        sa.Column("cnen_matgan", sa.Boolean(), nullable=True),
        sa.Column("novel", sa.Boolean(), nullable=True),
        sa.Column("times_generated", sa.BigInteger(), nullable=False),
        *_keys(
            True,
            [sa.PrimaryKeyConstraint("id")],
            [("checkpoint_id", "checkpoint.id"), ("composition_id", "composition.id")],
        ),
    )
    op.create_table(
        "generation_event",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("candidate_id", sa.Uuid(), nullable=False),
        sa.Column("formula_units", sa.SmallInteger(), nullable=False, autoincrement=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("first_index", sa.BigInteger(), nullable=False),
        *_keys(
            True,
            [sa.PrimaryKeyConstraint("job_id", "chunk", "candidate_id", "formula_units")],
            [("job_id", "job.id"), ("candidate_id", "candidate.id")],
        ),
    )
    if op.get_bind().dialect.name != "postgresql":
        return
    op.create_foreign_key(
        "fk_checkpoint_id",
        "job",
        "checkpoint",
        ["checkpoint_id"],
        ["id"],
        deferrable=True,
        initially="DEFERRED",
    )
    op.create_index("ix_composition_chemical_system", "composition", ["chemical_system"])
    op.create_index("ix_composition_reduced_formula", "composition", ["reduced_formula"])
    op.create_index("ix_check_result_subject_id", "check_result", ["subject_id"])
    op.create_index(
        "ix_composition_element_element", "composition_element", ["element", "composition_id"]
    )
    op.create_index("ix_entry_composition_id", "entry", ["composition_id"])
    op.create_index("ix_entry_external_id", "entry", ["source", "external_id"])
    op.create_index("ix_job_event_job_id", "job_event", ["job_id"])
    op.create_index("ix_snapshot_entry_entry_id", "snapshot_entry", ["entry_id"])
    op.create_index("ix_candidate_checkpoint_id", "candidate", ["checkpoint_id"])
    op.create_index("ix_candidate_chemical_system", "candidate", ["chemical_system"])
    op.create_index("ix_candidate_composition_id", "candidate", ["composition_id"])
    op.create_index("ix_candidate_elements", "candidate", ["elements"], postgresql_using="gin")
    op.create_index("ix_candidate_reduced_formula", "candidate", ["reduced_formula"])
    op.create_index("ix_candidate_times_generated", "candidate", ["times_generated"])
    op.create_index("ix_generation_event_candidate_id", "generation_event", ["candidate_id"])
