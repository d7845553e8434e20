"""Tables of checks: recipes, verdicts on compositions and structures, metrics."""

from __future__ import annotations

import sqlalchemy as sa

from gandb.schema.columns import BULK, CONTENT, Json, column, metadata, own_id, reference

recipe = sa.Table(
    "recipe",
    metadata,
    own_id("Content id of check, version and parameters."),
    column("check_name", sa.Text(), "Check: cnen_strict, novelty ...", provenance="gandb"),
    column("version", sa.Text(), "Version of the check.", provenance="gandb"),
    column("parameters", Json, "All it depends on, data files by hash.", provenance="gandb"),
    info={**CONTENT, "meaning": "How exactly a check was done; any change makes a new recipe."},
)

check_result = sa.Table(
    "check_result",
    metadata,
    reference("recipe_id", "recipe.id", "How it was checked.", primary_key=True),
    column(
        "subject_id",
        sa.Uuid(),
        "The composition that was checked.",
        provenance="gandb",
        primary_key=True,
    ),
    column(
        "passed", sa.Boolean(), "The verdict; null if it could not be made.", provenance="gandb",
        nullable=True,
    ),
    column("reason", sa.Text(), "Why, in a few words.", provenance="gandb"),
    info={**BULK, "meaning": "One verdict per subject and recipe."},
)  # fmt: skip
sa.Index("ix_check_result_subject_id", check_result.c.subject_id)

structure_check = sa.Table(
    "structure_check",
    metadata,
    reference("recipe_id", "recipe.id", "How it was checked.", primary_key=True),
    reference("structure_id", "structure.id", "The structure.", primary_key=True),
    column(
        "passed",
        sa.Boolean(),
        "The verdict; null if it could not be made.",
        provenance="gandb",
        nullable=True,
    ),
    column(
        "value",
        sa.Double(),
        "The number behind the verdict, in the unit that the recipe names; null if there is none.",
        unit="of the check",
        provenance="gandb",
        nullable=True,
    ),
    column("reason", sa.Text(), "Why, in a few words.", provenance="gandb"),
    info={**BULK, "meaning": "One verdict per structure and recipe, with the number behind it."},
)
sa.Index("ix_structure_check_structure_id", structure_check.c.structure_id)

metric = sa.Table(
    "metric",
    metadata,
    reference("job_id", "job.id", "The job that it describes.", primary_key=True),
    column("name", sa.Text(), "What is measured.", provenance="gandb", primary_key=True),
    column(
        "step",
        sa.BigInteger(),
        "Training iteration, or number of samples N.",
        unit="iterations or samples",
        provenance="gandb",
        primary_key=True,
        autoincrement=False,
    ),
    column("value", sa.Double(), "The value; shares are of 1.", unit="1", provenance="gandb"),
    reference("recipe_id", "recipe.id", "How it was checked.", nullable=True),
    info={
        **CONTENT,
        "meaning": "Numbers about a job: training curves, shares, uniqueness and novelty at N.",
    },
)
