"""Crystal structures, their symmetry, other ids of entries, raw files, external candidates."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_TEXTS = sa.ARRAY(sa.Text())
_NUMBERS: sa.ARRAY[float] = sa.ARRAY(sa.Double())


def _is_postgres() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _keys(bulk: bool, own: list[Any], references: list[tuple[str, str]]) -> list[Any]:
    """Return the constraints that the engine carries physically."""
    if _is_postgres():
        return own + [sa.ForeignKeyConstraint([c], [target]) for c, target in references]
    return [] if bulk else own


def _index(name: str, table: str, columns: list[str]) -> None:
    if _is_postgres():
        op.create_index(name, table, columns)


def upgrade() -> None:
    """Add the tables of structures and the columns that point to them."""
    op.create_table(
        "structure",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("composition_id", sa.Uuid(), nullable=False),
        sa.Column("n_sites", sa.Integer(), nullable=False),
        sa.Column("ordered", sa.Boolean(), nullable=False),
        *(
            sa.Column(name, sa.Double(), nullable=False)
            for name in ("a", "b", "c", "alpha", "beta", "gamma", "volume")
        ),
        sa.Column("charge", sa.Double(), nullable=True),
        sa.Column("space_group_number", sa.SmallInteger(), nullable=True),
        sa.Column("space_group_symbol", sa.Text(), nullable=True),
        sa.Column("species", _TEXTS, nullable=False),
        sa.Column("frac_coords", _NUMBERS, nullable=False),
        sa.Column("site_properties", _JSON, nullable=True),
        *_keys(
            True,
            [sa.PrimaryKeyConstraint("id")],
            [("composition_id", "composition.id")],
        ),
    )
    _index("ix_structure_composition_id", "structure", ["composition_id"])
    op.create_table(
        "structure_symmetry",
        sa.Column("structure_id", sa.Uuid(), nullable=False),
        sa.Column("recipe_id", sa.Uuid(), nullable=False),
        sa.Column("space_group_number", sa.SmallInteger(), nullable=True),
        sa.Column("space_group_symbol", sa.Text(), nullable=True),
        sa.Column("hall_number", sa.SmallInteger(), nullable=True),
        sa.Column("point_group", sa.Text(), nullable=True),
        sa.Column("crystal_system", sa.Text(), nullable=True),
        sa.Column("pearson_symbol", sa.Text(), nullable=True),
        sa.Column("wyckoff_letters", _TEXTS, nullable=True),
        sa.Column("site_symmetries", _TEXTS, nullable=True),
        sa.Column("symprec", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        *_keys(
            True,
            [sa.PrimaryKeyConstraint("structure_id", "recipe_id")],
            [("structure_id", "structure.id"), ("recipe_id", "recipe.id")],
        ),
    )
    op.create_table(
        "entry_alias",
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        *_keys(
            True,
            [sa.PrimaryKeyConstraint("entry_id", "kind", "alias")],
            [("entry_id", "entry.id")],
        ),
    )
    _index("ix_entry_alias_alias", "entry_alias", ["alias"])
    op.create_table(
        "snapshot_file",
        sa.Column("snapshot_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("kept", sa.Boolean(), nullable=False),
        *_keys(
            False,
            [sa.PrimaryKeyConstraint("snapshot_id", "number")],
            [("snapshot_id", "source_snapshot.id")],
        ),
    )
    op.create_table(
        "candidate_record",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("candidate_id", sa.Uuid(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("extra", _JSON, nullable=True),
        *_keys(
            True,
            [sa.PrimaryKeyConstraint("job_id", "candidate_id", "file", "line")],
            [("job_id", "job.id"), ("candidate_id", "candidate.id")],
        ),
    )
    _index("ix_candidate_record_candidate_id", "candidate_record", ["candidate_id"])
    for table in ("entry", "candidate"):
        op.add_column(table, sa.Column("structure_id", sa.Uuid(), nullable=True))
        op.add_column(table, sa.Column("n_sites", sa.Integer(), nullable=True))
        op.add_column(table, sa.Column("space_group_number", sa.SmallInteger(), nullable=True))
        if _is_postgres():
            op.create_foreign_key(None, table, "structure", ["structure_id"], ["id"])
        _index(f"ix_{table}_structure_id", table, ["structure_id"])
    op.add_column("source_snapshot", sa.Column("n_repeats", sa.BigInteger(), nullable=True))
    op.add_column("source_snapshot", sa.Column("parser", sa.Text(), nullable=True))
    op.add_column("source_snapshot", sa.Column("endpoint", sa.Text(), nullable=True))
    op.alter_column("checkpoint", "dataset_version_id", nullable=True)
