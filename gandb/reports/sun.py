"""How many candidates are valid, unique, novel and stable: counts of what the store holds.

Nothing is worked out anew: verdicts come from ``structure_check``, ``candidate_novelty``,
``relaxation`` and ``stability`` under recipes that are told, so another tolerance, another
reference or another hull is another reading. How S.U.N. is estimated: `sun_estimates`.

What counts against a candidate: a check that could not be made; a relaxation that failed or did
not converge; a hull that lacks a reference for one of its elements. And if novelty was judged on
relaxed structures, one that is known then, or the same as another, is not new or not unique.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa

from gandb.core.errors import NotFoundError, UsageError
from gandb.identity.recipes import MatchRecipe
from gandb.reports.sun_estimates import Estimate, product, share
from gandb.schema import tables
from gandb.store import Store
from gandb.store.bulk import fetch
from gandb.tasks import data
from gandb.tasks.judged_sets import samples_of
from gandb.tasks.references import generation_jobs
from gandb.tasks.relaxed_energies import potential_of
from gandb.tasks.structure_novelty import (
    RELAXED_KIND,
    novelty_recipe,
    structure_novelty_job,
)

VALID = ("structural_validity",)
"""Checks that a valid structure passes, unless others are named."""
STABLE = (0.0, 0.1)
"""Energies above the hull, eV/atom, up to which a structure is stable, unless another is named."""
FLAGS = ("valid", "unique", "novel")


@dataclass(frozen=True)
class Recipes:
    """By what candidates were judged.

    Attributes:
        checks: recipe by check.
        novelty: of the structures as generated.
        relaxed_novelty: of the relaxed ones; None if that was not judged.
        relaxation, stability: None if nothing was relaxed, or judged.
        words: the same for people, by kind.
    """

    checks: Mapping[str, UUID]
    novelty: UUID
    relaxed_novelty: UUID | None
    relaxation: UUID | None
    stability: UUID | None
    words: Mapping[str, str]


@dataclass(frozen=True)
class Line:
    """A line of the table: a share of samples, or of a sample of them that was relaxed.

    Attributes:
        what: valid, unique and novel, stable at 0.1 ...
        count, total: what the share is of; None for an estimate from a sample.
    """

    what: str
    count: int | None
    total: int | None
    estimate: Estimate


@dataclass(frozen=True)
class SunTable:
    """What is known of the candidates of a checkpoint.

    Attributes:
        checkpoint: what people call it.
        samples: N, rejected ones included.
        candidates: distinct structures among them.
        passed: n, those that are valid, unique and novel.
        relaxed: m, how many of these were relaxed and judged against the hull.
        unjudged: of these m, how many lack a reference, failed, or did not converge.
        lines: the table.
    """

    checkpoint: str
    samples: int
    candidates: int
    passed: int
    relaxed: int
    unjudged: Mapping[str, int]
    recipes: Recipes
    lines: Sequence[Line]


def sun_table(
    store: Store,
    checkpoint: data.Checkpoint,
    *,
    stable: Sequence[float] = STABLE,
    valid: Sequence[str] = VALID,
    against: Sequence[str] = (),
    stability: str | None = None,
) -> SunTable:
    """Count the candidates of a checkpoint.

    Args:
        store: where they are.
        checkpoint: whose.
        stable: energies above the hull up to which a structure is stable, eV/atom.
        valid: checks that a valid structure passes.
        against: references of novelty, as they were named for it; by default those of last time.
        stability: beginning of the id of a recipe of stability; by default that of last time.

    Raises:
        NotFoundError: something has not been judged yet; says how to.
        UsageError: several recipes fit.
    """
    jobs = generation_jobs(store, checkpoint)
    recipes = _recipes(store, checkpoint, valid, against, stability)
    with store.read() as connection:
        samples = sum(samples_of(connection, own) for own in jobs)
        found = _Candidates.of(connection, jobs, recipes)
    passed = found.flags["valid"] & found.flags["unique"] & found.flags["novel"]
    drawn = passed & found.judged
    after = ~found.lost
    settled = drawn & found.converged & ~np.isnan(found.above)
    lines = _shares(found, samples)
    n, m = int(passed.sum()), int(drawn.sum())
    everything = bool(found.judged.all()) and len(found.judged) > 0
    for limit in stable:
        own = settled & (found.above <= limit + 1e-12)
        if everything:
            inside = found.converged & (found.above <= limit + 1e-12)
            count = int(found.times[inside].sum())
            lines.append(Line(f"stable ({limit:g})", count, samples, share(count, samples)))
        k = int(own.sum())
        lines.append(Line(f"stable ({limit:g}), of those relaxed", k, m, share(k, m)))
        final = int((own & after).sum())
        if found.relaxed_novelty_judged:
            what = f"stable ({limit:g}) and new when relaxed, of those relaxed"
            lines.append(Line(what, final, m, share(final, m)))
        estimate = product(share(n, samples), share(final, m))
        lines.append(Line(f"S.U.N. ({limit:g})", None, None, estimate))
    return SunTable(
        checkpoint=checkpoint.reference,
        samples=samples,
        candidates=len(found.times),
        passed=n,
        relaxed=m,
        unjudged={
            "failed": int((drawn & found.failed).sum()),
            "not converged": int((drawn & ~found.failed & ~found.converged).sum()),
            "reference missing": int(
                (drawn & ~found.failed & found.converged & np.isnan(found.above)).sum()
            ),
        },
        recipes=recipes,
        lines=lines,
    )


def _shares(found: _Candidates, samples: int) -> list[Line]:
    """Return the shares of samples that hold by what is known of all candidates.

    Only one of those that are the same is unique; of other flags each counts as often as it came.
    """
    n = int(found.times.sum())
    lines = [Line("a crystal", n, samples, share(n, samples))]
    for size in range(1, len(FLAGS) + 1):
        for names in combinations(FLAGS, size):
            mask = np.logical_and.reduce([found.flags[name] for name in names])
            count = int(mask.sum() if "unique" in names else found.times[mask].sum())
            what = ", ".join(names[:-1]) + (" and " if size > 1 else "") + names[-1]
            lines.append(Line(what, count, samples, share(count, samples)))
    return lines


# --- which recipes -----------------------------------------------------------------------


def _recipes(
    store: Store,
    checkpoint: data.Checkpoint,
    valid: Sequence[str],
    against: Sequence[str],
    stability: str | None,
) -> Recipes:
    judgement = sa.table(
        "latest_judgements",
        sa.column("checkpoint_id", sa.Uuid()),
        sa.column("kind", sa.Text()),
        sa.column("recipe_id", sa.Uuid()),
    ).c
    current = sa.table(
        "current_recipes", sa.column("check_name", sa.Text()), sa.column("recipe_id", sa.Uuid())
    ).c
    with store.read() as connection:
        latest = _pairs(
            connection,
            sa.select(judgement.kind, judgement.recipe_id).where(
                judgement.checkpoint_id == checkpoint.id
            ),
        )
        known = _pairs(connection, sa.select(current.check_name, current.recipe_id))
    name = checkpoint.reference
    if lacking := [check for check in valid if check not in known]:
        raise NotFoundError(
            f"nothing was judged by {lacking[0]} yet; begin with: gandb check {name}"
        )
    novelty = latest.get("novelty")
    relaxed_novelty = latest.get("relaxed_novelty")
    if against:
        novelty = _novelty_against(store, checkpoint, against)
        relaxed_novelty = _relaxed_alike(store, checkpoint, novelty)
    if novelty is None:
        raise NotFoundError(
            f"it is not known which candidates of {name} are new; begin with: "
            f"gandb novelty {name} --against entries"
        )
    chosen = latest.get("stability")
    if stability is not None:
        chosen = _stability(store, stability)
    relaxation = latest.get("relaxation")
    words = {"valid": ", ".join(valid)}
    with store.read() as connection:
        stated = _parameters(connection, [novelty, chosen, relaxed_novelty])
        if chosen is not None:
            own = stated[chosen]["structures"]["relaxation"]
            relaxation = UUID(own) if own else relaxation
            words["stability"] = f"{stated[chosen]['energies']} energies, recipe {str(chosen)[:8]}"
        if relaxation is not None:
            parameters = _parameters(connection, [relaxation])[relaxation]
            words["relaxation"] = f"{potential_of(parameters)}, recipe {str(relaxation)[:8]}"
        if relaxed_novelty is not None:
            own = stated[relaxed_novelty]["relaxation"]
            relaxed_novelty = relaxed_novelty if UUID(own) == relaxation else None
        words["novelty"] = f"recipe {str(novelty)[:8]}" + _reference_words(connection, novelty)
        if relaxed_novelty is not None:
            words["relaxed novelty"] = f"recipe {str(relaxed_novelty)[:8]}"
    return Recipes(
        {check: known[check] for check in valid},
        novelty,
        relaxed_novelty,
        relaxation,
        chosen,
        words,
    )


def _pairs(connection: sa.Connection, query: sa.Select[Any]) -> dict[Any, Any]:
    return {row[0]: row[1] for row in connection.execute(query)}


def _parameters(
    connection: sa.Connection, ids: Sequence[UUID | None]
) -> dict[UUID, Mapping[str, Any]]:
    recipe = tables.recipe.c
    query = sa.select(recipe.id, recipe.parameters).where(recipe.id.in_([i for i in ids if i]))
    return _pairs(connection, query)


def _reference_words(connection: sa.Connection, recipe_id: UUID) -> str:
    named = sa.table(
        "novelty_references", sa.column("recipe_id", sa.Uuid()), sa.column("reference", sa.Text())
    ).c
    query = sa.select(named.reference).where(named.recipe_id == recipe_id)
    found = connection.scalar(query)
    return f", against {found}" if found else ""


def _novelty_against(store: Store, checkpoint: data.Checkpoint, against: Sequence[str]) -> UUID:
    spec = structure_novelty_job(store, checkpoint, against).spec
    recipe_id: UUID = novelty_recipe(MatchRecipe(**spec["recipe"]), spec["against"])["id"]
    own = tables.candidate_novelty.c
    query = sa.select(own.candidate_id).where(own.recipe_id == recipe_id).limit(1)
    with store.read() as connection:
        if connection.execute(query).first() is None:
            words = " ".join(f"--against {text}" for text in against)
            raise NotFoundError(
                "its candidates were not compared with that; begin with: "
                f"gandb novelty {checkpoint.reference} {words}"
            )
    return recipe_id


def _relaxed_alike(store: Store, checkpoint: data.Checkpoint, novelty: UUID) -> UUID | None:
    """Return the newest novelty of relaxed structures against the same references."""
    job, chunk, recipe = tables.job.c, tables.job_chunk.c, tables.recipe.c
    query = (
        sa.select(job.spec, chunk.result)
        .join(tables.job_chunk, chunk.job_id == job.id)
        .where(
            job.kind == RELAXED_KIND,
            job.checkpoint_id == checkpoint.id,
            job.state == "done",
        )
        .order_by(job.finished_at.desc())
    )
    with store.read() as connection:
        wanted = connection.scalar(sa.select(recipe.parameters).where(recipe.id == novelty))
        for spec, result in connection.execute(query):
            if wanted and spec["against"] == wanted["against"]:
                return UUID(result["recipe_id"])
    return None


def _stability(store: Store, text: str) -> UUID:
    recipe = tables.recipe.c
    query = sa.select(recipe.id).where(
        recipe.check_name == "stability",
        sa.cast(recipe.id, sa.Text()).startswith(text.lower(), autoescape=True),
    )
    with store.read() as connection:
        found = list(connection.scalars(query))
    if len(found) != 1:
        problem = "several recipes" if found else "no recipe"
        error = UsageError if found else NotFoundError
        raise error(f"{problem} of stability with an id that begins with {text!r}")
    own: UUID = found[0]
    return own


# --- reading -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Candidates with a structure; n of them.

    Attributes:
        times: int64 (n,), samples that came to each.
        flags: `FLAGS`, bool (n,) each.
        judged: bool (n,), relaxed and compared with the hull.
        failed, converged: bool (n,), of the relaxation.
        above: float64 (n,), energy above the hull, eV/atom.
        lost: bool (n,), no longer new or unique once relaxed.
        relaxed_novelty_judged: whether that was asked.
    """

    times: np.ndarray
    flags: Mapping[str, np.ndarray]
    judged: np.ndarray
    failed: np.ndarray
    converged: np.ndarray
    above: np.ndarray
    lost: np.ndarray
    relaxed_novelty_judged: bool

    @classmethod
    def of(cls, connection: sa.Connection, jobs: Sequence[UUID], recipes: Recipes) -> _Candidates:
        candidate, event = tables.candidate.c, tables.generation_event.c
        drawn = (
            sa.select(
                event.candidate_id, sa.func.sum(event.times, type_=sa.BigInteger()).label("times")
            )
            .where(event.job_id.in_(jobs))
            .group_by(event.candidate_id)
            .subquery()
        )
        novelty = tables.candidate_novelty.alias("n")
        relaxed = tables.candidate_novelty.alias("z")
        relaxation, stability = tables.relaxation.alias("x"), tables.stability.alias("s")
        checks = [tables.structure_check.alias(f"c{k}") for k in range(len(recipes.checks))]
        own = candidate.structure_id
        source = sa.join(tables.candidate, drawn, drawn.c.candidate_id == candidate.id)
        for check, recipe_id in zip(checks, recipes.checks.values(), strict=True):
            source = source.outerjoin(
                check, sa.and_(check.c.structure_id == own, check.c.recipe_id == recipe_id)
            )
        nobody = UUID(int=0)
        for table, recipe_id_, key in (
            (novelty, recipes.novelty, candidate.id),
            (relaxed, recipes.relaxed_novelty, candidate.id),
            (relaxation, recipes.relaxation, own),
            (stability, recipes.stability, own),
        ):
            place = table.c["candidate_id" if key is candidate.id else "structure_id"]
            source = source.outerjoin(
                table, sa.and_(place == key, table.c.recipe_id == (recipe_id_ or nobody))
            )
        query = (
            sa.select(
                drawn.c.times,
                *(check.c.passed.label(f"passed{k}") for k, check in enumerate(checks)),
                novelty.c.level,
                (novelty.c.representative_id == own).label("first"),
                relaxed.c.level.label("relaxed_level"),
                (relaxed.c.representative_id == own).label("relaxed_first"),
                stability.c.structure_id.is_not(None).label("judged"),
                relaxation.c.converged,
                relaxation.c.error.is_not(None).label("failed"),
                stability.c.energy_above_hull,
            )
            .select_from(source)
            .where(own.is_not(None))
        )
        rows = fetch(connection, query)

        def true(name: str) -> np.ndarray:
            return np.array([bool(v) for v in rows.column(name).to_pylist()], bool)

        def numbers(name: str) -> np.ndarray:
            found: np.ndarray = rows.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
            return found

        n = len(rows)
        valid = np.ones(n, bool)
        for k in range(len(checks)):
            valid &= true(f"passed{k}")
        level, again = numbers("level"), numbers("relaxed_level")
        return cls(
            times=numbers("times").astype(np.int64),
            flags={"valid": valid, "unique": true("first"), "novel": level > 0},
            judged=true("judged"),
            failed=true("failed"),
            converged=true("converged"),
            above=numbers("energy_above_hull"),
            lost=~np.isnan(again) & ((again == 0) | ~true("relaxed_first")),
            relaxed_novelty_judged=recipes.relaxed_novelty is not None,
        )
