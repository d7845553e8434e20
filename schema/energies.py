"""Tables of energies: relaxations by potentials, and stability against hulls."""

from __future__ import annotations

import sqlalchemy as sa

from gandb.schema.columns import BULK, DoubleList, Json, TextList, column, metadata, reference

_POTENTIAL = "gandb: by the potential of the recipe"
_HULL = "gandb: against the hull of the recipe"

relaxation = sa.Table(
    "relaxation",
    metadata,
    reference("recipe_id", "recipe.id", "Potential and settings.", primary_key=True),
    reference("structure_id", "structure.id", "The structure as it was.", primary_key=True),
    reference(
        "relaxed_id", "structure.id", "The relaxed structure; null with an error.", nullable=True
    ),
    column(
        "initial_energy_per_atom",
        sa.Double(),
        "Energy of the structure as it was.",
        unit="eV/atom",
        provenance=_POTENTIAL,
        nullable=True,
    ),
    column(
        "energy_per_atom",
        sa.Double(),
        "Energy of the relaxed structure, without corrections.",
        unit="eV/atom",
        provenance=_POTENTIAL,
        nullable=True,
    ),
    column(
        "max_force",
        sa.Double(),
        "Largest force on an atom of the relaxed structure.",
        unit="eV/Å",
        provenance=_POTENTIAL,
        nullable=True,
    ),
    column(
        "max_stress",
        sa.Double(),
        "Largest component of the relaxed structure's stress, by amount.",
        unit="GPa",
        provenance=_POTENTIAL,
        nullable=True,
    ),
    column(
        "n_steps",
        sa.Integer(),
        "Steps of the optimiser.",
        unit="steps",
        provenance="gandb",
        nullable=True,
    ),
    column(
        "converged",
        sa.Boolean(),
        "The forces fell below the bound of the recipe; null with an error.",
        provenance="gandb",
        nullable=True,
    ),
    column(
        "rmsd",
        sa.Double(),
        "Root mean square distance of atoms before and after, as StructureMatcher finds it with "
        "ltol 0.5, stol 0.5, angle_tol 10 and without scaling; null where they do not match.",
        unit="Å",
        provenance="gandb",
        nullable=True,
    ),
    column(
        "volume_change",
        sa.Double(),
        "Volume of the relaxed cell over that before, less 1.",
        unit="1",
        provenance="gandb",
        nullable=True,
    ),
    column(
        "forces",
        DoubleList,
        "Forces on the sites of the relaxed structure, x, y, z of each in its order; axes as in "
        "gandb.core.crystals.",
        unit="eV/Å",
        provenance=_POTENTIAL,
        nullable=True,
    ),
    column(
        "error",
        sa.Text(),
        "Why there is no relaxed structure; null if there is one.",
        provenance="gandb",
        nullable=True,
    ),
    info={**BULK, "meaning": "One row per structure and relaxation recipe; failures are kept."},
)
sa.Index("ix_relaxation_structure_id", relaxation.c.structure_id)
sa.Index("ix_relaxation_relaxed_id", relaxation.c.relaxed_id)

stability = sa.Table(
    "stability",
    metadata,
    reference("recipe_id", "recipe.id", "Energies, references, corrections.", primary_key=True),
    reference("structure_id", "structure.id", "The structure as it was.", primary_key=True),
    column(
        "energy_per_atom",
        sa.Double(),
        "Energy with the corrections of the recipe.",
        unit="eV/atom",
        provenance=_HULL,
        nullable=True,
    ),
    column(
        "correction_per_atom",
        sa.Double(),
        "What the corrections add.",
        unit="eV/atom",
        provenance=_HULL,
        nullable=True,
    ),
    column(
        "formation_energy_per_atom",
        sa.Double(),
        "Energy less that of the elements in their references; null if one is missing.",
        unit="eV/atom",
        provenance=_HULL,
        nullable=True,
    ),
    column(
        "energy_above_hull",
        sa.Double(),
        "Energy above the hull of the references, below 0 for what lies under it; null if an "
        "element has no reference.",
        unit="eV/atom",
        provenance=_HULL,
        nullable=True,
    ),
    column(
        "decomposition",
        Json,
        "Phases on the hull that it would become: formula to share of the atoms.",
        provenance=_HULL,
        nullable=True,
    ),
    column(
        "missing",
        TextList,
        "Elements without a reference phase; null if there are none.",
        provenance=_HULL,
        nullable=True,
    ),
    column(
        "error",
        sa.Text(),
        "Why it could not be judged; null if it was.",
        provenance="gandb",
        nullable=True,
    ),
    info={**BULK, "meaning": "How stable a structure is against a hull of reference phases."},
)
sa.Index("ix_stability_structure_id", stability.c.structure_id)
