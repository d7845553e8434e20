"""Tables of crystal structures: the records, and what a symmetry search said of them."""

from __future__ import annotations

import sqlalchemy as sa

from gandb.schema.columns import (
    BULK,
    LABEL,
    DoubleList,
    Json,
    TextList,
    column,
    metadata,
    own_id,
    reference,
)

_GRID = "gandb: rounded to 1e-8"


def _cell(name: str, meaning: str, unit: str) -> sa.Column[float]:
    return column(name, sa.Double(), meaning, unit=unit, provenance=_GRID)


def symmetry_copies(where: str) -> list[sa.Column[int]]:
    """Declare what filters on structures need beside an entry or candidate."""
    return [
        column(
            "n_sites",
            sa.Integer(),
            "Sites in the cell of its structure.",
            unit="sites",
            provenance=f"gandb: copy of structure.n_sites, {where}",
            nullable=True,
        ),
        column(
            "space_group_number",
            sa.SmallInteger(),
            "Space group of its structure, 1 to 230; null without one or where the search failed.",
            unit=LABEL,
            provenance=f"gandb: copy of structure.space_group_number, {where}",
            nullable=True,
        ),
    ]


structure = sa.Table(
    "structure",
    metadata,
    own_id("Content id of cell, species, coordinates, site properties and charge."),
    reference("composition_id", "composition.id", "Its composition."),
    column("n_sites", sa.Integer(), "Sites in the cell.", unit="sites", provenance="gandb"),
    column(
        "ordered", sa.Boolean(), "Every site is filled by one species.", provenance="gandb"
    ),
    _cell("a", "Length of the cell edge a.", "Å"),
    _cell("b", "Length of the cell edge b.", "Å"),
    _cell("c", "Length of the cell edge c.", "Å"),
    _cell("alpha", "Angle between b and c.", "degrees"),
    _cell("beta", "Angle between a and c.", "degrees"),
    _cell("gamma", "Angle between a and b.", "degrees"),
    column("volume", sa.Double(), "Volume of the cell.", unit="Å³", provenance="gandb"),
    column(
        "charge", sa.Double(), "Charge of the cell.", unit="e", provenance="source", nullable=True
    ),
    column(
        "space_group_number",
        sa.SmallInteger(),
        "Space group, 1 to 230; null where the search failed.",
        unit=LABEL,
        provenance="gandb: copy of structure_symmetry under the standard recipe",
        nullable=True,
    ),
    column(
        "space_group_symbol",
        sa.Text(),
        "Hermann-Mauguin symbol of the space group.",
        provenance="gandb: copy of structure_symmetry under the standard recipe",
        nullable=True,
    ),
    column(
        "species",
        TextList,
        "What sits on each site: Fe, Fe3+, or Fe3+:0.5 Ni2+:0.25 where the site is shared.",
        provenance="source",
    ),
    column(
        "frac_coords",
        DoubleList,
        "Fractional coordinates x, y, z of each site, one after the other.",
        unit="cell edges",
        provenance=_GRID,
    ),
    column(
        "site_properties",
        Json,
        "Lists of one value per site: magmom, forces ...; vectors turn with the lattice.",
        provenance="source",
        nullable=True,
    ),
    info={
        **BULK,
        "meaning": "One row per distinct crystal structure as recorded; sites in canonical order.",
    },
)  # fmt: skip
sa.Index("ix_structure_composition_id", structure.c.composition_id)

structure_symmetry = sa.Table(
    "structure_symmetry",
    metadata,
    reference("structure_id", "structure.id", "The structure.", primary_key=True),
    reference("recipe_id", "recipe.id", "Program, version, tolerances.", primary_key=True),
    column(
        "space_group_number",
        sa.SmallInteger(),
        "Space group, 1 to 230.",
        unit=LABEL,
        provenance="gandb: moyo",
        nullable=True,
    ),
    column(
        "space_group_symbol",
        sa.Text(),
        "Hermann-Mauguin symbol, short.",
        provenance="gandb: moyo",
        nullable=True,
    ),
    column(
        "hall_number",
        sa.SmallInteger(),
        "Hall number of the setting, 1 to 530.",
        unit=LABEL,
        provenance="gandb: moyo",
        nullable=True,
    ),
    column("point_group", sa.Text(), "Point group.", provenance="gandb: moyo", nullable=True),
    column("crystal_system", sa.Text(), "Crystal system.", provenance="gandb: moyo", nullable=True),
    column("pearson_symbol", sa.Text(), "Pearson symbol.", provenance="gandb: moyo", nullable=True),
    column(
        "wyckoff_letters",
        TextList,
        "Wyckoff letter of each site; they depend on the origin that was chosen.",
        provenance="gandb: moyo",
        nullable=True,
    ),
    column(
        "site_symmetries",
        TextList,
        "Site symmetry symbol of each site.",
        provenance="gandb: moyo",
        nullable=True,
    ),
    column(
        "symprec",
        sa.Double(),
        "Tolerance at which the group was found: moyo may take a smaller one than it is given.",
        unit="Å",
        provenance="gandb: moyo",
        nullable=True,
    ),
    column(
        "error",
        sa.Text(),
        "Why the search failed; null if it did not.",
        provenance="gandb",
        nullable=True,
    ),
    info={
        **BULK,
        "meaning": "One row per structure and symmetry recipe; a failed search keeps its error.",
    },
)
