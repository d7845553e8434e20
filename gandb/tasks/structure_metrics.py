"""What checks say of a whole set of structures: shares of samples and of structures, means.

Shares of samples are of all that were drawn. A sample that is no crystal passes nothing, and what
could not be judged has not passed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from gandb.jobs.records import Context, Outcome
from gandb.schema import tables
from gandb.store import Transaction
from gandb.store.bulk import fetch, ids_from_text
from gandb.tasks.judged_sets import Weights, samples_of, structures_query
from gandb.tasks.keyed import id_keys
from gandb.tasks.rows import cnen_recipes, recipe_row

SPACE_GROUP = "space_group_found"


@dataclass(frozen=True)
class Measured:
    """What a check says of a set.

    Attributes:
        check: its name.
        unit: of the mean; empty for a number without one.
        recipe: recipe row.
        passed, failed, errors: distinct structures.
        reasons: distinct structures by why they did not pass.
        of_samples: share of all samples that passed.
        mean: of the values, each as often as it was sampled; None where there is none.
        n_samples: what the share is of.
    """

    check: str
    unit: str
    recipe: Mapping[str, Any]
    passed: int
    failed: int
    errors: int
    reasons: Mapping[str, int]
    of_samples: float
    mean: float | None
    n_samples: int

    @property
    def n_structures(self) -> int:
        """Distinct structures, judged or not."""
        return self.passed + self.failed + self.errors

    @property
    def of_structures(self) -> float:
        """Share of distinct structures that passed."""
        return self.passed / max(self.n_structures, 1)

    def result(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "check": self.check,
            "passed": self.passed,
            "failed": self.failed,
            "errors": self.errors,
            "of_structures": self.of_structures,
            "of_samples": self.of_samples,
            "mean": self.mean,
            "unit": self.unit,
            "reasons": dict(self.reasons),
            "recipe_id": str(self.recipe["id"]),
        }

    def metrics(self) -> list[tuple[str, int, float]]:
        """Return name, number that it is of, value."""
        found = [
            (self.check, self.n_samples, self.of_samples),
            (f"{self.check}.structures", self.n_structures, self.of_structures),
        ]
        if self.mean is not None:
            found.append((f"{self.check}.mean", self.n_samples, self.mean))
        return found


def measure(
    context: Context, recipes: Mapping[str, Mapping[str, Any]], symmetry: Mapping[str, Any]
) -> Outcome:
    """Close a job of checks: count what is in the store of its set, and write metrics.

    Args:
        context: of the job, whose spec has ``of``.
        recipes: recipe rows of the checks, by name.
        symmetry: recipe row of the symmetry that requests are compared with.
    """
    spec = context.job.spec["of"]
    with context.store.read() as connection:
        weights = Weights.of(connection, spec)
        found = [
            _measured(weights, name, recipe, _verdicts(connection, recipe["id"], spec))
            for name, recipe in recipes.items()
        ]
        found += _charges(connection, weights, spec)
        if "jobs" in spec:
            found += _space_groups(connection, spec, symmetry)

    def merge(tx: Transaction) -> None:
        for own in found:
            tx.insert_new(tables.recipe, dict(own.recipe))
        rows = [
            {
                "job_id": context.job.id,
                "name": name,
                "step": step,
                "value": value,
                "recipe_id": own.recipe["id"],
            }
            for own in found
            for name, step, value in own.metrics()
        ]
        tx.execute(tables.metric.insert(), rows)

    return Outcome(
        merge,
        {
            "samples": weights.total,
            "with_structure": int(weights.times.sum()),
            "structures": len(weights.ids),
            "checks": [own.result() for own in found],
        },
    )


def _verdicts(connection: sa.Connection, recipe_id: UUID, spec: Mapping[str, Any]) -> pa.Table:
    check = tables.structure_check.c
    return fetch(
        connection,
        sa.select(check.structure_id, check.passed, check.value, check.reason).where(
            check.recipe_id == recipe_id, check.structure_id.in_(structures_query(spec))
        ),
    )


def _measured(weights: Weights, name: str, recipe: Mapping[str, Any], rows: pa.Table) -> Measured:
    """Count the verdicts of one check; ``rows`` has one for every structure of the set."""
    ids = id_keys(ids_from_text(rows.column("structure_id")))
    times = weights.times[np.searchsorted(weights.ids, ids)] if len(ids) else np.zeros(0, np.int64)
    errors = np.asarray(rows.column("passed").is_null())
    passed = np.asarray(rows.column("passed").fill_null(False))
    reasons = Counter(rows.filter(pa.array(~passed)).column("reason").to_pylist())
    values = rows.column("value").to_numpy(zero_copy_only=False)
    known = np.isfinite(values)
    n_known = int(times[known].sum())
    return Measured(
        check=name,
        unit=recipe["parameters"].get("unit", ""),
        recipe=recipe,
        passed=int(passed.sum()),
        failed=int((~passed & ~errors).sum()),
        errors=int(errors.sum()),
        reasons=dict(sorted(reasons.items())),
        of_samples=int(times[passed].sum()) / max(weights.total, 1),
        mean=math.fsum(values[known] * times[known]) / n_known if n_known else None,
        n_samples=weights.total,
    )


def _charges(
    connection: sa.Connection, weights: Weights, spec: Mapping[str, Any]
) -> list[Measured]:
    """Count what the charge checks say of the structures' compositions."""
    structure, composition = tables.structure.c, tables.composition.c
    recipes = cnen_recipes()
    rows = fetch(
        connection,
        sa.select(structure.id.label("structure_id"), *(composition[name] for name in recipes))
        .join(tables.composition, composition.id == structure.composition_id)
        .where(structure.id.in_(structures_query(spec))),
    )
    nothing = pa.nulls(len(rows), pa.float64())
    found = []
    for name, recipe in recipes.items():
        passed = rows.column(name)
        why = pa.array(np.where(np.asarray(passed), "balanced", "not balanced"), pa.string())
        table = pa.table(
            {
                "structure_id": rows.column("structure_id"),
                "passed": passed,
                "value": nothing,
                "reason": why,
            }
        )
        found.append(_measured(weights, name, recipe, table))
    return found


def _space_groups(
    connection: sa.Connection, spec: Mapping[str, Any], symmetry: Mapping[str, Any]
) -> list[Measured]:
    """Count the samples that have the space group that was asked for; none if none was."""
    event, candidate = tables.generation_event.c, tables.candidate.c
    searched = tables.structure_symmetry.c
    jobs = [UUID(i) for i in spec["jobs"]]
    rows = fetch(
        connection,
        sa.select(
            event.job_id,
            candidate.structure_id,
            event.requested_space_group.label("requested"),
            searched.space_group_number.label("found"),
            event.times,
        )
        .join(tables.candidate, candidate.id == event.candidate_id)
        .join(
            tables.structure_symmetry,
            sa.and_(
                searched.structure_id == candidate.structure_id,
                searched.recipe_id == symmetry["id"],
            ),
        )
        .where(event.job_id.in_(jobs), event.requested_space_group.is_not(None)),
    )
    asking = set(rows.column("job_id").to_pylist())
    asking |= {str(i) for i in jobs if _asks(connection, i)}
    total = sum(samples_of(connection, UUID(i)) for i in asking)
    if not total:
        return []
    requested = rows.column("requested").to_numpy()
    found = rows.column("found").to_numpy(zero_copy_only=False).astype(np.float64)
    passed, errors = found == requested, np.isnan(found)
    pairs = rows.select(["structure_id", "requested"])
    kinds = {
        (row["structure_id"], row["requested"]): kind
        for row, kind in zip(
            pairs.to_pylist(), np.where(errors, 2, np.where(passed, 0, 1)).tolist(), strict=True
        )
    }
    counts = Counter(kinds.values())
    words = {"another space group": counts[1], "no space group found": counts[2]}
    times = rows.column("times").to_numpy()
    recipe = recipe_row(
        SPACE_GROUP,
        "1",
        {
            "symmetry": str(symmetry["id"]),
            "symprec_angstrom": symmetry["parameters"]["symprec_angstrom"],
            "of": "samples that a space group was asked for; those that are no crystal fail",
        },
    )
    return [
        Measured(
            check=SPACE_GROUP,
            unit="",
            recipe=recipe,
            passed=counts[0],
            failed=counts[1],
            errors=counts[2],
            reasons={word: n for word, n in words.items() if n},
            of_samples=int(times[passed].sum()) / total,
            mean=None,
            n_samples=total,
        )
    ]


def _asks(connection: sa.Connection, job_id: UUID) -> bool:
    """Say whether a job was asked for space groups, even if none of its samples is a crystal."""
    spec = connection.scalar(sa.select(tables.job.c.spec).where(tables.job.c.id == job_id)) or {}
    return bool((spec.get("condition") or {}).get("space_group"))
