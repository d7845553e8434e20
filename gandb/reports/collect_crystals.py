"""Reading from a store what is known of the crystals that a generation job made.

Shares are of all samples of a job, by the newest recipe of each check: what is no crystal
passes nothing. A check that has not judged all of the job's crystals is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.reports.crystal_metrics import AVERAGES, CHARGES, COMPOSITION, SHARES, SPACE_GROUP
from gandb.schema import tables

_CURRENT = sa.table(
    "current_recipes", sa.column("check_name", sa.Text()), sa.column("recipe_id", sa.Uuid())
)


@dataclass(frozen=True)
class CrystalNumbers:
    """Numbers about the crystals of one job; what is not known is missing.

    Attributes:
        shares: of all samples, 0 to 1, by name.
        averages: over the crystals, each as often as it was sampled, by name.
        recipes: id of the recipe behind each number, by name; none for a plain count.
    """

    shares: Mapping[str, float]
    averages: Mapping[str, float]
    recipes: Mapping[str, UUID]


def current_recipes(connection: sa.Connection) -> dict[str, UUID]:
    """Return the newest recipe of each check."""
    query = sa.select(_CURRENT.c.check_name, _CURRENT.c.recipe_id)
    return {row[0]: row[1] for row in connection.execute(query)}


def crystal_numbers(connection: sa.Connection, job_id: UUID, n_samples: int) -> CrystalNumbers:
    """Count what is known of a job's crystals.

    Args:
        connection: an open transaction of a store.
        job_id: the generation job.
        n_samples: N, rejected samples included.
    """
    known = current_recipes(connection)
    event, candidate = tables.generation_event.c, tables.candidate.c
    drawn = (
        sa.select(
            candidate.structure_id,
            candidate.reduced_formula,
            event.requested_formula,
            event.requested_space_group,
            event.times,
            *(candidate[name] for name in CHARGES),
        )
        .join(tables.candidate, candidate.id == event.candidate_id)
        .where(event.job_id == job_id, candidate.structure_id.is_not(None))
        .subquery("drawn")
        .c
    )
    counts = connection.execute(
        sa.select(
            _sum(drawn.times),
            _sum(_where(drawn.requested_formula.is_not(None), drawn.times)),
            _sum(_where(drawn.requested_formula == drawn.reduced_formula, drawn.times)),
            _sum(_where(drawn.requested_space_group.is_not(None), drawn.times)),
            *(_sum(_where(drawn[name], drawn.times)) for name in CHARGES),
        )
    ).one()
    held, asked, obtained, grouped, *charges = (int(n or 0) for n in counts)
    shares: dict[str, float] = {"rejected": (n_samples - held) / n_samples}
    averages: dict[str, float] = {}
    recipes: dict[str, UUID] = {}
    for name, count in zip(CHARGES, charges, strict=True):
        if name in known:
            shares[name], recipes[name] = count / n_samples, known[name]
    if asked:
        shares[COMPOSITION] = obtained / n_samples
    check = tables.structure_check.c
    judged = (
        sa.select(
            check.recipe_id,
            _sum(drawn.times).label("judged"),
            _sum(_where(check.passed, drawn.times)).label("passed"),
            _sum(_where(check.value.is_not(None), drawn.times)).label("valued"),
            sa.func.sum(check.value * drawn.times).label("total"),
        )
        .join_from(
            drawn.times.table, tables.structure_check, check.structure_id == drawn.structure_id
        )
        .where(check.recipe_id.in_([known[n] for n in (*SHARES, *AVERAGES) if n in known]))
        .group_by(check.recipe_id)
    )
    names = {recipe_id: name for name, recipe_id in known.items()}
    for row in connection.execute(judged):
        name = names[row.recipe_id]
        if int(row.judged) != held:
            continue
        recipes[name] = row.recipe_id
        if name in SHARES:
            shares[name] = int(row.passed or 0) / n_samples
        if name in AVERAGES and row.valued:
            averages[name] = float(row.total) / int(row.valued)
    if grouped and SPACE_GROUP in known and "symmetry" in known:
        found = structure_found(connection, drawn, known["symmetry"])
        shares[SPACE_GROUP], recipes[SPACE_GROUP] = found / n_samples, known[SPACE_GROUP]
    return CrystalNumbers(shares, averages, recipes)


def structure_found(connection: sa.Connection, drawn: Any, symmetry: UUID) -> int:
    """Return how many samples have the space group that they were asked for."""
    searched = tables.structure_symmetry.c
    query = (
        sa.select(_sum(drawn.times))
        .join_from(
            drawn.times.table,
            tables.structure_symmetry,
            sa.and_(searched.structure_id == drawn.structure_id, searched.recipe_id == symmetry),
        )
        .where(searched.space_group_number == drawn.requested_space_group)
    )
    return int(connection.scalar(query) or 0)


def _sum(number: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.sum(number, type_=sa.BigInteger())


def _where(condition: Any, number: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.case((condition, number), else_=0)
