"""How a column is declared: with its meaning, unit and provenance, or not at all."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
"""A JSON document."""

TextList = sa.ARRAY(sa.Text())
"""A list of texts; ``elements @> ARRAY['Li', 'O']`` works on both engines."""

DoubleList: sa.ARRAY[float] = sa.ARRAY(sa.Double())
"""A list of numbers."""

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
    numbers = (sa.Numeric, sa.Float, sa.Integer)
    if isinstance(getattr(type_, "item_type", type_), numbers) and not unit:
        raise ValueError(f"column {name} is a number and needs a unit")
    return sa.Column(
        name,
        type_,
        *constraints,
        nullable=nullable,
        info={"meaning": meaning, "unit": unit, "provenance": provenance, "volatile": volatile},
        **options,
    )


metadata = sa.MetaData()
"""All tables; `gandb.schema.tables` makes it complete."""

_LATER: dict[str, Any] = {"use_alter": True, "deferrable": True, "initially": "DEFERRED"}
"""A reference in a circle: added after the tables, checked when a transaction ends."""

BULK = {"bulk": True, "content": True}
CONTENT = {"bulk": False, "content": True}
OPERATIONAL = {"bulk": False, "content": False}


def own_id(meaning: str, provenance: str = "gandb: BLAKE2b-128 of the content") -> sa.Column[Any]:
    """Declare the id of a table's rows."""
    return column("id", sa.Uuid(), meaning, provenance=provenance, primary_key=True)


def reference(
    name: str, target: str, meaning: str, *, use_alter: bool = False, **options: Any
) -> sa.Column[Any]:
    """Declare a reference to a row of another table; ``use_alter`` if the tables form a circle."""
    options.setdefault("provenance", "gandb")
    key = sa.ForeignKey(target, **_LATER, name=f"fk_{name}") if use_alter else sa.ForeignKey(target)
    return column(name, sa.Uuid(), meaning, key, **options)


def cnen_columns(where: str) -> list[sa.Column[Any]]:
    """Declare the copies of the standard charge checks' verdicts."""
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


def composition_facts() -> list[sa.Column[Any]]:
    """Declare what follows from a reduced composition alone."""
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
