"""Identity: keys of structures, comparisons, materials, novelty of candidates."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NUMBERS: sa.ARRAY[float] = sa.ARRAY(sa.Double())


def _create(
    name: str,
    key: list[str],
    references: dict[str, str],
    columns: dict[str, Any],
    required: set[str],
) -> None:
    """Create a bulk table; keys, references and indexes are physical on PostgreSQL alone."""
    postgres = op.get_bind().dialect.name == "postgresql"
    constraints: list[Any] = []
    if postgres:
        constraints = [sa.PrimaryKeyConstraint(*key)]
        constraints += [sa.ForeignKeyConstraint([c], [t]) for c, t in references.items()]
    needed = {*key, *required}
    op.create_table(
        name,
        *(sa.Column(c, t, nullable=c not in needed) for c, t in columns.items()),
        *constraints,
    )


def _index(table: str, columns: list[str], name: str | None = None) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.create_index(f"ix_{table}_{name or columns[0]}", table, columns)


def upgrade() -> None:
    """Add the tables."""
    _create(
        "structure_key",
        ["structure_id", "recipe_id"],
        {
            "structure_id": "structure.id",
            "recipe_id": "recipe.id",
            "composition_id": "composition.id",
        },
        {
            "structure_id": sa.Uuid(),
            "recipe_id": sa.Uuid(),
            "composition_id": sa.Uuid(),
            "n_reduced": sa.Integer(),
            "volume_per_site": sa.Double(),
            "symmetry_label": sa.Text(),
            "prototype_label": sa.Text(),
            "amd": _NUMBERS,
            "cell": sa.LargeBinary(),
            "error": sa.Text(),
        },
        {"composition_id"},
    )
    _index("structure_key", ["composition_id", "n_reduced"], "block")
    _index("structure_key", ["prototype_label"])
    _create(
        "comparison",
        ["recipe_id", "structure_a", "structure_b"],
        {"recipe_id": "recipe.id", "structure_a": "structure.id", "structure_b": "structure.id"},
        {
            "recipe_id": sa.Uuid(),
            "structure_a": sa.Uuid(),
            "structure_b": sa.Uuid(),
            "matched": sa.Boolean(),
            "forward": sa.Boolean(),
            "backward": sa.Boolean(),
            "rms": sa.Double(),
            "max_distance": sa.Double(),
            "amd_distance": sa.Double(),
            "method": sa.Text(),
        },
        {"matched", "amd_distance", "method"},
    )
    _index("comparison", ["structure_a"])
    _index("comparison", ["structure_b"])
    _create(
        "material_member",
        ["recipe_id", "structure_id"],
        {"recipe_id": "recipe.id", "structure_id": "structure.id", "material_id": "structure.id"},
        {
            "recipe_id": sa.Uuid(),
            "structure_id": sa.Uuid(),
            "material_id": sa.Uuid(),
            "standard": sa.Boolean(),
        },
        {"material_id", "standard"},
    )
    _index("material_member", ["material_id"])
    _index("material_member", ["structure_id"])
    _create(
        "candidate_novelty",
        ["recipe_id", "candidate_id"],
        {
            "recipe_id": "recipe.id",
            "candidate_id": "candidate.id",
            "reference_structure_id": "structure.id",
            "representative_id": "structure.id",
        },
        {
            "recipe_id": sa.Uuid(),
            "candidate_id": sa.Uuid(),
            "level": sa.SmallInteger(),
            "n_compared": sa.Integer(),
            "reference_structure_id": sa.Uuid(),
            "representative_id": sa.Uuid(),
            "rms": sa.Double(),
            "error": sa.Text(),
        },
        {"n_compared"},
    )
    _index("candidate_novelty", ["candidate_id"])
