"""Sharing: the graph of dataset versions, tags, bundles, statements that differ, publications."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_TEXTS: sa.ARRAY[str] = sa.ARRAY(sa.Text())
_DOUBLES: sa.ARRAY[float] = sa.ARRAY(sa.Double())
_Key = tuple[list[str], dict[str, str]]
_PROPERTIES = (
    "formation_energy_per_atom",
    "energy_per_atom",
    "energy_above_hull",
    "band_gap",
    "volume_per_atom",
    "bulk_modulus",
    "shear_modulus",
    "elastic_anisotropy",
    "debye_temperature",
    "thermal_conductivity",
    "thermal_expansion",
    "total_magnetization",
)
_VERDICTS = ("cnen_strict", "cnen_default", "cnen_matgan", "novel")
_PUBLISHED_INDEXES = {
    "id": "id",
    "formula_reduced": "formula_reduced",
    "formula_anonymous": "formula_anonymous",
    "external_id": "external_id",
    "n_sites": "n_sites",
    "space_group_number": "space_group_number",
    "formation_energy": "formation_energy_per_atom",
    "energy_above_hull": "energy_above_hull",
    "band_gap": "band_gap",
}


def _create(name: str, bulk: bool, key: _Key, *columns: sa.Column[Any]) -> None:
    """Create a table; references, and keys of bulk tables, are physical on PostgreSQL alone."""
    postgres = op.get_bind().dialect.name == "postgresql"
    names, references = key
    constraints: list[Any] = [] if bulk and not postgres else [sa.PrimaryKeyConstraint(*names)]
    if postgres:
        constraints += [sa.ForeignKeyConstraint([c], [t]) for c, t in references.items()]
    op.create_table(name, *columns, *constraints)


def _uuid(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Uuid(), nullable=nullable)


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=False)


def _moment(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(), nullable=nullable)


def _index_published() -> None:
    """Index what filters ask for, on PostgreSQL; DuckDB scans faster than it would look up."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for name, column in _PUBLISHED_INDEXES.items():
        op.create_index(f"ix_published_{name}", "published", [column])
    op.create_index("ix_published_elements", "published", ["elements"], postgresql_using="gin")


def upgrade() -> None:
    """Add the tables; every version with a parent enters the graph."""
    op.add_column("dataset_number", sa.Column("removed_at", sa.DateTime(), nullable=True))
    version = "dataset_version.id"
    _create(
        "dataset_parent",
        False,
        (["version_id", "position"], {"version_id": version, "parent_id": version}),
        _uuid("version_id"),
        sa.Column("position", sa.SmallInteger(), nullable=False, autoincrement=False),
        _uuid("parent_id"),
    )
    op.execute(
        "INSERT INTO dataset_parent (version_id, position, parent_id) "
        "SELECT id, 0, parent_id FROM dataset_version WHERE parent_id IS NOT NULL"
    )
    _create(
        "dataset_tag",
        False,
        (
            ["dataset_id", "tag", "origin", "version_id"],
            {"dataset_id": "dataset.id", "version_id": version},
        ),
        _uuid("dataset_id"),
        _text("tag"),
        _text("origin"),
        _uuid("version_id"),
        _text("message"),
        _moment("created_at"),
    )
    _create(
        "bundle",
        False,
        (["sha256"], {}),
        _text("sha256"),
        _text("origin"),
        sa.Column("selection", _JSON, nullable=False),
        sa.Column("report", _JSON, nullable=False),
        _moment("merged_at"),
    )
    _create(
        "statement",
        False,
        (["relation", "subject", "attribute", "origin", "value"], {}),
        *(_text(name) for name in ("relation", "subject", "attribute", "origin", "value")),
    )
    _create(
        "publication",
        False,
        (["name"], {"dataset_version_id": version, "checkpoint_id": "checkpoint.id"}),
        _text("name"),
        _uuid("dataset_version_id", nullable=True),
        _uuid("checkpoint_id", nullable=True),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("n_structures", sa.BigInteger(), nullable=False),
        sa.Column("n_without", sa.BigInteger(), nullable=False),
        sa.Column("overlapping", _TEXTS, nullable=False),
        sa.Column("sources", _JSON, nullable=False),
        _moment("created_at"),
    )
    _create(
        "published",
        True,
        (
            ["publication", "id"],
            {
                "publication": "publication.name",
                "structure_id": "structure.id",
                "composition_id": "composition.id",
            },
        ),
        _text("publication"),
        _uuid("id"),
        _uuid("structure_id"),
        _uuid("composition_id"),
        *(sa.Column(n, sa.Text(), nullable=True) for n in ("source", "external_id", "model")),
        *(_text(name) for name in ("formula", "formula_reduced", "formula_anonymous")),
        sa.Column("formula_hill", sa.Text(), nullable=True),
        sa.Column("elements", _TEXTS, nullable=False),
        sa.Column("ratios", _DOUBLES, nullable=False),
        sa.Column("elements_low", sa.BigInteger(), nullable=False),
        sa.Column("elements_high", sa.BigInteger(), nullable=False),
        sa.Column("n_elements", sa.SmallInteger(), nullable=False),
        sa.Column("n_sites", sa.Integer(), nullable=False),
        sa.Column("ordered", sa.Boolean(), nullable=False),
        sa.Column("space_group_number", sa.SmallInteger(), nullable=True),
        sa.Column("space_group_symbol", sa.Text(), nullable=True),
        *(sa.Column(name, sa.Double(), nullable=True) for name in _PROPERTIES),
        *(sa.Column(name, sa.Boolean(), nullable=True) for name in _VERDICTS),
        sa.Column("record", sa.LargeBinary(), nullable=True),
        sa.Column("reference_ids", _TEXTS, nullable=False),
        _moment("last_modified"),
    )
    _index_published()
    _create(
        "access_token",
        False,
        (["sha256"], {}),
        _text("sha256"),
        _text("label"),
        sa.Column("publications", _TEXTS, nullable=True),
        _moment("created_at"),
        _moment("revoked_at", nullable=True),
    )
