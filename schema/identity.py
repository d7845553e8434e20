"""Tables of identity: keys of structures, comparisons, materials, novelty of candidates."""

from __future__ import annotations

import sqlalchemy as sa

from gandb.schema.columns import BULK, LABEL, DoubleList, column, metadata, reference

_PAIR = "gandb: under the recipe"

structure_key = sa.Table(
    "structure_key",
    metadata,
    reference("structure_id", "structure.id", "The structure.", primary_key=True),
    reference("recipe_id", "recipe.id", "How keys are worked out.", primary_key=True),
    reference("composition_id", "composition.id", "Its composition."),
    column(
        "n_reduced",
        sa.Integer(),
        "Sites in the reduced cell; only structures of one composition that agree here can match.",
        unit="sites",
        provenance="gandb",
        nullable=True,
    ),
    column(
        "volume_per_site",
        sa.Double(),
        "Volume of the reduced cell divided by its sites.",
        unit="Å³",
        provenance="gandb",
        nullable=True,
    ),
    column(
        "symmetry_label",
        sa.Text(),
        "Space group, and sites of each element by site symmetry; the same in every setting.",
        provenance="gandb: from structure_symmetry",
        nullable=True,
    ),
    column(
        "prototype_label",
        sa.Text(),
        "The symmetry label with elements as A, B ...: what element substitution keeps.",
        provenance="gandb: from structure_symmetry",
        nullable=True,
    ),
    column(
        "amd",
        DoubleList,
        "Average minimum distances to the k-th neighbour, for a cell of 1 Å³ per site; 4 decimals.",
        unit="1",
        provenance="gandb: doi:10.46793/match.87-3.529W",
        nullable=True,
    ),
    column(
        "cell",
        sa.LargeBinary(),
        "The reduced cell, exact: see gandb.identity.cells.",
        provenance="gandb",
        nullable=True,
    ),
    column(
        "error",
        sa.Text(),
        "Why there is no reduced cell; null if there is one.",
        provenance="gandb",
        nullable=True,
    ),
    info={**BULK, "meaning": "What finds the structures that may be the same; one per recipe."},
)
sa.Index("ix_structure_key_block", structure_key.c.composition_id, structure_key.c.n_reduced)
sa.Index("ix_structure_key_prototype_label", structure_key.c.prototype_label)

comparison = sa.Table(
    "comparison",
    metadata,
    reference("recipe_id", "recipe.id", "Tolerances and program.", primary_key=True),
    reference("structure_a", "structure.id", "The one with the smaller id.", primary_key=True),
    reference("structure_b", "structure.id", "The other.", primary_key=True),
    column("matched", sa.Boolean(), "They are the same, one way or the other.", provenance=_PAIR),
    column(
        "forward",
        sa.Boolean(),
        "a matches b, StructureMatcher.fit(a, b); null if not looked at.",
        provenance=_PAIR,
        nullable=True,
    ),
    column(
        "backward",
        sa.Boolean(),
        "b matches a; null if not looked at.",
        provenance=_PAIR,
        nullable=True,
    ),
    column(
        "rms",
        sa.Double(),
        "Root mean square distance of matched sites in units of (volume / sites)^(1/3).",
        unit="1",
        provenance=_PAIR,
        nullable=True,
    ),
    column(
        "max_distance",
        sa.Double(),
        "Largest distance of matched sites in units of (volume / sites)^(1/3).",
        unit="1",
        provenance=_PAIR,
        nullable=True,
    ),
    column(
        "amd_distance",
        sa.Double(),
        "Largest difference of the average minimum distances.",
        unit="1",
        provenance="gandb",
    ),
    column(
        "method",
        sa.Text(),
        "compared; or bound: nothing near a can match anything near b; or both.",
        provenance="gandb",
    ),
    info={**BULK, "meaning": "One row per pair of structures that was compared under a recipe."},
)
sa.Index("ix_comparison_structure_a", comparison.c.structure_a)
sa.Index("ix_comparison_structure_b", comparison.c.structure_b)

material_member = sa.Table(
    "material_member",
    metadata,
    reference("recipe_id", "recipe.id", "What counts as the same.", primary_key=True),
    reference("structure_id", "structure.id", "The structure.", primary_key=True),
    reference(
        "material_id",
        "structure.id",
        "The material: the smallest id among structures linked to it by matches.",
    ),
    column(
        "standard",
        sa.Boolean(),
        "The recipe is the standard one: StructureMatcher's tolerances, by element.",
        provenance="gandb",
    ),
    info={**BULK, "meaning": "Which structures are one material under a recipe."},
)
sa.Index("ix_material_member_material_id", material_member.c.material_id)
sa.Index("ix_material_member_structure_id", material_member.c.structure_id)

candidate_novelty = sa.Table(
    "candidate_novelty",
    metadata,
    reference("recipe_id", "recipe.id", "Matching and reference.", primary_key=True),
    reference("candidate_id", "candidate.id", "The candidate.", primary_key=True),
    column(
        "level",
        sa.SmallInteger(),
        "0 known, 1 structure, 2 prototype, 3 substitution, 4 composition; null with an error.",
        unit=LABEL,
        provenance="gandb",
        nullable=True,
    ),
    column(
        "n_compared",
        sa.Integer(),
        "Structures of the reference that it was compared with.",
        unit="structures",
        provenance="gandb",
    ),
    reference(
        "reference_structure_id",
        "structure.id",
        "The structure that it matches, or of which it is a substitution.",
        nullable=True,
    ),
    reference(
        "representative_id",
        "structure.id",
        "The smallest structure id among candidates of the job that are the same as it.",
        nullable=True,
    ),
    column(
        "rms",
        sa.Double(),
        "How far it lies from that, in units of (volume / sites)^(1/3).",
        unit="1",
        provenance="gandb",
        nullable=True,
    ),
    column(
        "error",
        sa.Text(),
        "Why it could not be judged; null if it was.",
        provenance="gandb",
        nullable=True,
    ),
    info={**BULK, "meaning": "How new a candidate is against a reference."},
)
sa.Index("ix_candidate_novelty_candidate_id", candidate_novelty.c.candidate_id)
