"""Reading a report's numbers from a store."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa

from gandb import __version__
from gandb.core.errors import JobError, UsageError
from gandb.core.formula import parse_formulas
from gandb.datasets.members import members_query, members_shared
from gandb.datasets.versions import reference_of
from gandb.generators import COMPOSITIONS, STRUCTURES
from gandb.jobs import queue
from gandb.jobs.queue import chunk_results
from gandb.jobs.records import Job, State
from gandb.reports import collect_crystals, collect_novelty
from gandb.reports.collect_crystal_figures import collect_crystal_figures
from gandb.reports.collect_judgements import collect_judgements
from gandb.reports.records import (
    CheckShare,
    CrystalShares,
    Curve,
    DatasetSummary,
    Recipe,
    Report,
    Role,
    Run,
    short_id,
)
from gandb.schema.tables import (
    candidate,
    checkpoint,
    entry,
    generation_event,
    metric,
    model,
    recipe,
    snapshot_entry,
    source_snapshot,
)
from gandb.store import Store
from gandb.store.bulk import fetch
from gandb.tasks import data
from gandb.tasks.generation import KIND, metric_recipes
from gandb.tasks.structure_novelty import KIND as NOVELTY_KIND
from gandb.validation.charge import CNEN, check_all
from gandb.validation.statistics import SetStatistics, describe, distances

_CURVE = "train."
_DESCRIPTIONS = {
    "cnen_strict": "Charge-neutral and electronegativity-balanced; metals get no exemption.",
    "cnen_default": "The same, but formulas of metals alone pass: smact_validity's default.",
    "cnen_matgan": "MatGAN's own rule: smact 2.2's oxidation states, formula not reducible.",
    "uniqueness": "Distinct reduced compositions, or records of crystals, among the first N.",
    "structural_validity": "No two atoms too near, and a volume.",
    "radius_distances": "No two atoms closer than a share of the sum of their radii.",
    "coordination": "Every atom has neighbours.",
    "bond_valence_balance": "Charges by bond valences balance.",
    "space_group_found": "The space group that was asked for is found again.",
    "novelty": "Distinct compositions that are not in the dataset version, whatever their split.",
    "holdout_recovery": "Compositions of the test split that were generated.",
    "structure_novelty": "Grades of novelty of structures against what is compared with.",
    "identity": "Which structures are the same, as StructureMatcher judges it.",
    "statistics": "Elements and stoichiometries of the samples against the train split.",
}


def collect(store: Store, jobs: Sequence[Job], title: str = "Generators compared") -> Report:
    """Gather everything about finished jobs of generation, and on novelty of structures.

    Raises:
        UsageError: a job is neither.
        JobError: a job is not done.
    """
    jobs = list({job.id: job for job in jobs}.values())
    for job in jobs:
        if job.kind not in (KIND, NOVELTY_KIND):
            raise UsageError(
                f"job {job.short_id} is a {job.kind} job; reports are about jobs of gandb generate "
                "and gandb novelty"
            )
        if job.state is not State.DONE:
            raise JobError(f"job {job.short_id} is {job.state.value}; a report needs it done")
    generated = [job for job in jobs if job.kind == KIND]
    made = [job for job in generated if job.spec.get("makes") == STRUCTURES]
    judged = [job for job in jobs if job.kind == NOVELTY_KIND]
    novelties = collect_novelty.novelties(store, judged)
    made += _judged_jobs(store, judged)
    with store.read() as connection:
        sets: dict[UUID, _Training] = {}
        runs = []
        used: dict[UUID, dict[str, Any]] = {}
        for job in generated:
            version_id = _require(job.dataset_version_id)
            if version_id not in sets:
                sets[version_id] = _training(connection, version_id)
            rows = metric_recipes(version_id, job.spec.get("makes", COMPOSITIONS))
            used |= {row["id"]: row for row in rows.values()}
            runs.append(_run(connection, job, rows, sets[version_id]))
        known = {r[0] for r in connection.execute(sa.select(recipe.c.id))}
        used |= {row["id"]: row for row in collect_novelty.recipe_rows(connection, novelties)}
        used |= {row["id"]: row for row in _judging_recipes(connection, runs)}
    commands = [f"gandb report {' '.join(job.short_id for job in jobs)}"]
    return Report(
        title=title,
        runs=tuple(runs),
        datasets=tuple(t.summary for t in sets.values() if t.summary is not None),
        recipes=tuple(_recipe(row) for i, row in used.items() if i in known),
        commands=(
            *map(_command, runs),
            *(collect_novelty.command(store, job) for job in judged),
            *commands,
        ),
        provenance=(("gandb", __version__), ("store", store.kind)),
        novelties=novelties,
        crystals=collect_crystal_figures(store, made),
        judgements=collect_judgements(store, [j.checkpoint_id for j in made if j.checkpoint_id]),
    )


def _judged_jobs(store: Store, judged: Sequence[Job]) -> list[Job]:
    """Return the imports of candidates that jobs on novelty judged."""
    ids = dict.fromkeys(UUID(i) for job in judged for i in job.spec["jobs"])
    found = [queue.get(store, own) for own in ids]
    return [job for job in found if job.kind != KIND]


def _judging_recipes(connection: sa.Connection, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the rows of recipes by which crystals were judged."""
    ids = {UUID(i) for run in runs if run.crystals is not None for i in run.recipes.values()}
    query = sa.select(recipe).where(recipe.c.id.in_(ids)).order_by(recipe.c.check_name, recipe.c.id)
    return [dict(row) for row in connection.execute(query).mappings()]


def _require(version_id: UUID | None) -> UUID:
    if version_id is None:
        raise ValueError("a generation job without a dataset version")
    return version_id


def _recipe(row: dict[str, Any]) -> Recipe:
    parameters = dict(row["parameters"])
    files = {
        str(parameters["oxidation_table"]): str(parameters.pop(key))
        for key in ["oxidation_table_sha256"]
        if key in parameters
    }
    name = row["check_name"]
    return Recipe(
        id=str(row["id"]),
        name=name,
        version=row["version"],
        parameters=parameters,
        data_files=files,
        description=_DESCRIPTIONS.get(name, ""),
    )


def _command(run: Run) -> str:
    return (
        f"gandb generate {shlex.quote(f'{run.model}:{run.dataset}')} "
        f"-n {run.n_samples} --seed {run.seed} --wait"
    )


@dataclass(frozen=True)
class _Training:
    """What runs are compared with; of members that were not shared, the name alone."""

    ref: str
    summary: DatasetSummary | None = None
    statistics: SetStatistics | None = None


def _training(connection: sa.Connection, version_id: UUID) -> _Training:
    ref = reference_of(connection, version_id)
    if not members_shared(connection, version_id):
        return _Training(ref)
    _, train = data.compositions_of(connection, version_id, "train")
    statistics = describe(train)
    verdicts = check_all(train)
    n_test = len(data.composition_ids(connection, version_id, "test"))
    summary = DatasetSummary(
        ref=ref,
        n_train=len(train),
        n_test=n_test or None,
        element_frequency=statistics.elements / max(statistics.total, 1),
        n_elements=statistics.n_elements.astype(float),
        checks={name: float(v.passed.mean()) for name, v in verdicts.items()},
        attribution=" ".join(_attributions(connection, version_id)),
    )
    return _Training(ref, summary, statistics)


def _attributions(connection: sa.Connection, version_id: UUID) -> list[str]:
    members = members_query(version_id).subquery()
    query = (
        sa.select(source_snapshot.c.attribution, source_snapshot.c.licence)
        .join(snapshot_entry, snapshot_entry.c.snapshot_id == source_snapshot.c.id)
        .join(entry, entry.c.id == snapshot_entry.c.entry_id)
        .join(members, members.c.entry_id == entry.c.id)
        .distinct()
    )
    return sorted(f"{row[0]} Licence: {row[1]}." for row in connection.execute(query))


def _run(
    connection: sa.Connection,
    job: Job,
    recipes: dict[str, dict[str, Any]],
    training: _Training,
) -> Run:
    origin = _origin(connection, job)
    values: dict[str, dict[int, float]] = {}
    query = sa.select(metric.c.name, metric.c.step, metric.c.value).where(metric.c.job_id == job.id)
    for name, step, value in connection.execute(query):
        values.setdefault(name, {})[step] = value
    n = int(job.spec["n"])
    rejected: Counter[str] = Counter()
    for result in chunk_results(connection, job.id):
        rejected.update(result.get("rejected", {}))
    samples = _sample_statistics(connection, job.id)
    baseline = origin["role"] == Role.BASELINE
    run = Run(
        job_id=str(job.id),
        model=origin["name"],
        role=Role(origin["role"]),
        dataset=training.ref,
        seed=int(job.seed or 0),
        n_samples=n,
        recipes={name: str(row["id"]) for name, row in recipes.items()},
        training_seed=None if baseline else int(origin["seed"]),
        config="" if baseline else _config_label(origin, job),
        rejections=dict(rejected),
        curves=_curves(connection, origin["job_id"]),
        element_frequency=samples.elements / max(samples.total, 1),
        n_elements=samples.n_elements.astype(float),
    )
    if job.spec.get("makes") == STRUCTURES:
        return _with_crystals(connection, run, values)
    return replace(
        run,
        checks={name: CheckShare(values[name][n], values[f"unique.{name}"][n]) for name in CNEN},
        uniqueness=values["uniqueness"],
        novelty=values["novelty"],
        novelty_reference=training.ref,
        holdout_recovery=values["recovery"][n] if "recovery" in values else None,
        one_element_share=values["one_element"][n],
        reduced_share=values["reducible"][n],
        divergences=distances(samples, training.statistics) if training.statistics else {},
    )


def _with_crystals(connection: sa.Connection, run: Run, values: dict[str, dict[int, float]]) -> Run:
    """Add what is known of the crystals of a run."""
    n = run.n_samples
    found = collect_crystals.crystal_numbers(connection, UUID(run.job_id), n)
    shares = dict(found.shares)
    shares |= {name: values[name][n] for name in ("uniqueness", "novelty")}
    own = {name: run.recipes[name] for name in ("uniqueness", "novelty")}
    recipes = own | {name: str(i) for name, i in found.recipes.items()}
    return replace(run, recipes=recipes, crystals=CrystalShares(shares, found.averages))


def _origin(connection: sa.Connection, job: Job) -> dict[str, Any]:
    query = (
        sa.select(
            model.c.name, model.c.role, model.c.config, model.c.id.label("model_id"),
            checkpoint.c.seed, checkpoint.c.job_id,
        )
        .join(model, model.c.id == checkpoint.c.model_id)
        .where(checkpoint.c.id == job.checkpoint_id)
    )  # fmt: skip
    return dict(connection.execute(query).mappings().one())


def _config_label(origin: dict[str, Any], job: Job) -> str:
    """Name a configuration: its preset and the beginning of its id, and the condition asked for."""
    preset = origin["config"].get("preset", "")
    label = f"{preset} {short_id(str(origin['model_id']))}".strip()
    condition = job.spec.get("condition")
    return f"{label} {condition}" if condition else label


def _sample_statistics(connection: sa.Connection, job_id: UUID) -> SetStatistics:
    own = (
        sa.select(generation_event.c.candidate_id, sa.func.sum(generation_event.c.times).label("n"))
        .where(generation_event.c.job_id == job_id)
        .group_by(generation_event.c.candidate_id)
        .subquery()
    )
    query = sa.select(
        candidate.c.reduced_formula, sa.cast(own.c.n, sa.BigInteger).label("times")
    ).join(own, own.c.candidate_id == candidate.c.id)
    rows = fetch(connection, query)
    batch, _ = parse_formulas(rows.column("reduced_formula")).batch.reduced()
    return describe(batch, rows.column("times").to_numpy())


def _curves(connection: sa.Connection, training_job_id: UUID) -> dict[str, Curve]:
    query = (
        sa.select(metric.c.name, metric.c.step, metric.c.value)
        .where(metric.c.job_id == training_job_id, metric.c.name.startswith(_CURVE))
        .order_by(metric.c.name, metric.c.step)
    )
    points: dict[str, list[tuple[int, float]]] = {}
    for name, step, value in connection.execute(query):
        points.setdefault(name.removeprefix(_CURVE), []).append((step, value))
    return {name: Curve.recorded(*np.array(p).T) for name, p in points.items()}
