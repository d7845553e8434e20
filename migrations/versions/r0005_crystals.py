"""Generated crystals: what was asked for, checks of structures, relaxations, stability."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_TEXTS: sa.ARRAY[str] = sa.ARRAY(sa.Text())
_DOUBLES: sa.ARRAY[float] = sa.ARRAY(sa.Double())


def _create(
    name: str, more: list[str], columns: dict[str, Any], required: tuple[str, ...] = ()
) -> None:
    """Create a bulk table of one row per recipe and structure.

    Keys, references and indexes are physical on PostgreSQL alone.
    """
    postgres = op.get_bind().dialect.name == "postgresql"
    key = ["recipe_id", "structure_id"]
    constraints: list[Any] = []
    if postgres:
        constraints = [
            sa.PrimaryKeyConstraint(*key),
            sa.ForeignKeyConstraint(["recipe_id"], ["recipe.id"]),
            *(sa.ForeignKeyConstraint([c], ["structure.id"]) for c in ("structure_id", *more)),
        ]
    op.create_table(
        name,
        *(sa.Column(c, sa.Uuid(), nullable=False) for c in key),
        *(sa.Column(c, sa.Uuid(), nullable=True) for c in more),
        *(sa.Column(c, t, nullable=c not in required) for c, t in columns.items()),
        *constraints,
    )
    if postgres:
        for column in ("structure_id", *more):
            op.create_index(f"ix_{name}_{column}", name, [column])


def upgrade() -> None:
    """Add the tables, what was asked for beside what was generated, and an index for filters."""
    if op.get_bind().dialect.name == "postgresql":
        op.create_index("ix_published_masks", "published", ["elements_low", "elements_high"])
    for name, kind in (("space_group", sa.SmallInteger()), ("formula", sa.Text())):
        op.add_column("generation_event", sa.Column(f"requested_{name}", kind, nullable=True))
    _create(
        "structure_check",
        [],
        {"passed": sa.Boolean(), "value": sa.Double(), "reason": sa.Text()},
        ("reason",),
    )
    _create(
        "relaxation",
        ["relaxed_id"],
        {
            "initial_energy_per_atom": sa.Double(),
            "energy_per_atom": sa.Double(),
            "max_force": sa.Double(),
            "max_stress": sa.Double(),
            "n_steps": sa.Integer(),
            "converged": sa.Boolean(),
            "rmsd": sa.Double(),
            "volume_change": sa.Double(),
            "forces": _DOUBLES,
            "error": sa.Text(),
        },
    )
    _create(
        "stability",
        [],
        {
            "energy_per_atom": sa.Double(),
            "correction_per_atom": sa.Double(),
            "formation_energy_per_atom": sa.Double(),
            "energy_above_hull": sa.Double(),
            "decomposition": _JSON,
            "missing": _TEXTS,
            "error": sa.Text(),
        },
    )
