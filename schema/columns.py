"""How a column is declared: with its meaning, unit and provenance, or not at all."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
"""A JSON document."""

TextList = sa.ARRAY(sa.Text())
"""A list of texts; ``elements @> ARRAY['Li', 'O']`` works on both engines."""

Moment = sa.DateTime(timezone=False)
"""A moment in UTC."""

LABEL = "none"
"""Unit of a number that measures nothing: a seed, a place in an order."""


def column(
    name: str,
    type_: Any,
    meaning: str,
    *constraints: Any,
    unit: str = "",
    provenance: str,
    volatile: bool = False,
    nullable: bool = False,
    **options: Any,
) -> sa.Column[Any]:
    """Declare a column.

    Args:
        name: name in the database.
        type_: SQLAlchemy type.
        meaning: what a value says, one sentence.
        unit: its unit; ``"1"`` for a ratio, `LABEL` for a number that measures nothing, and empty
            for what is no number.
        provenance: who states the value: a source, gandb, a user, a worker.
        constraints: further column arguments of SQLAlchemy, such as a foreign key.
        nullable: whether a value may be missing.
        options: further keywords of ``sqlalchemy.Column``.
        volatile: the value depends on when or where the work ran (times, hosts, leases), so that
            it is left out when the content of two stores is compared.

    Raises:
        ValueError: it is not said what the column means, who states it, or what it is counted in.
    """
    if not meaning or not provenance:
        raise ValueError(f"column {name} needs a meaning and a provenance")
    if isinstance(type_, (sa.Numeric, sa.Float, sa.Integer)) and not unit:
        raise ValueError(f"column {name} is a number and needs a unit")
    return sa.Column(
        name,
        type_,
        *constraints,
        nullable=nullable,
        info={"meaning": meaning, "unit": unit, "provenance": provenance, "volatile": volatile},
        **options,
    )
