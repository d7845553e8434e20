"""Reading from a store what the figures on crystals show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from gandb.core.elements import ATOMIC_NUMBERS, MAX_Z
from gandb.core.formula import parse_formulas
from gandb.datasets.members import members_query, members_shared
from gandb.energies.hull import Hull
from gandb.jobs.records import Job
from gandb.reports.collect_crystals import current_recipes
from gandb.reports.collect_pictures import pictures
from gandb.reports.crystal_metrics import generator_label
from gandb.reports.crystal_records import (
    QUANTITIES,
    Crystals,
    HullCandidate,
    HullSystem,
    Subject,
)
from gandb.reports.records import Role, short_id
from gandb.schema import tables
from gandb.store import Store
from gandb.store.bulk import fetch
from gandb.tasks import data
from gandb.tasks.hull_phases import FORMATION, POTENTIAL, Phases, stated_phases
from gandb.tasks.judged_sets import samples_of
from gandb.tasks.relaxed_energies import relaxed_phases

MOST_POINTS = 2_000
"""Compositions of a subject in the map."""
BEST = 15
"""Candidates that are drawn."""
SYSTEMS = 3
"""Chemical systems whose hulls are drawn."""
_ON_HULL = 1e-6  # eV/atom


@dataclass(frozen=True)
class _Group:
    """Jobs whose candidates one colour stands for."""

    model: str
    role: Role
    version_id: UUID | None
    dataset: str
    checkpoints: tuple[UUID, ...]
    jobs: tuple[UUID, ...]


def collect_crystal_figures(store: Store, jobs: Sequence[Job]) -> Crystals | None:
    """Gather what is known of the crystals of generation jobs; None if they made none.

    Args:
        store: where they are.
        jobs: of generation, or imports of candidates.
    """
    groups = _groups(store, jobs)
    if not groups:
        return None
    with store.read() as connection:
        recipes = {n: i for n, i in current_recipes(connection).items() if n in QUANTITIES}
        subjects = tuple(_subject(connection, group, recipes) for group in groups)
        references = {
            group.dataset: _reference(connection, group, recipes)
            for group in groups
            if group.version_id is not None and members_shared(connection, group.version_id)
        }
        rows = _judged(connection, groups)
        hull_words = _hull_words(connection, rows)
        chosen, best_words = _best(connection, groups, rows)
        drawables = tuple(pictures(connection, chosen))
    return Crystals(
        subjects=subjects,
        references=references,
        hulls=_hulls(store, rows),
        hull_words=hull_words,
        best=drawables,
        best_words=best_words,
    )


def _groups(store: Store, jobs: Sequence[Job]) -> list[_Group]:
    checkpoints = {c.id: c for c in data.list_checkpoints(store)}
    held: dict[tuple[str, str, str], list[Job]] = {}
    for job in jobs:
        if job.checkpoint_id is None:
            continue
        own = checkpoints[job.checkpoint_id]
        held.setdefault((own.role, own.model, own.dataset or ""), []).append(job)
    groups = []
    for (role, model, dataset), mine in held.items():
        ids = tuple(dict.fromkeys(job.checkpoint_id for job in mine if job.checkpoint_id))
        groups.append(
            _Group(
                model,
                Role.BASELINE if role == Role.BASELINE.value else Role.MODEL,
                checkpoints[ids[0]].dataset_version_id,
                dataset,
                ids,
                tuple(job.id for job in mine),
            )
        )
    return sorted(groups, key=lambda g: (g.dataset, g.role is Role.BASELINE, g.model))


# --- numbers -----------------------------------------------------------------------------


def _drawn(group: _Group) -> sa.Subquery:
    """Return a group's crystals with how often each was sampled."""
    event, candidate = tables.generation_event.c, tables.candidate.c
    return (
        sa.select(
            candidate.structure_id,
            candidate.composition_id,
            sa.func.sum(event.times, type_=sa.BigInteger()).label("times"),
        )
        .join(tables.candidate, candidate.id == event.candidate_id)
        .where(event.job_id.in_(group.jobs), candidate.structure_id.is_not(None))
        .group_by(candidate.structure_id, candidate.composition_id)
        .subquery()
    )


def _subject(connection: sa.Connection, group: _Group, recipes: Mapping[str, UUID]) -> Subject:
    drawn = _drawn(group)
    compositions, n = _compositions(connection, sa.select(drawn.c.composition_id))
    above, relaxed = _energies(connection, group)
    return Subject(
        model=group.model,
        label=generator_label(group.model),
        role=group.role,
        dataset=group.dataset,
        n_samples=sum(samples_of(connection, own) for own in group.jobs),
        values={name: _values(connection, drawn, recipe_id) for name, recipe_id in recipes.items()},
        compositions=compositions,
        n_compositions=n,
        above_hull=above,
        n_relaxed=relaxed,
    )


def _reference(connection: sa.Connection, group: _Group, recipes: Mapping[str, UUID]) -> Subject:
    """Return the training split of a group's dataset, with what checks say of its structures."""
    assert group.version_id is not None
    members = members_query(group.version_id).subquery()
    entry = tables.entry.c
    drawn = (
        sa.select(
            entry.structure_id,
            entry.composition_id,
            sa.func.count(type_=sa.BigInteger()).label("times"),
        )
        .join(members, members.c.entry_id == entry.id)
        .where(members.c.split == "train", entry.structure_id.is_not(None))
        .group_by(entry.structure_id, entry.composition_id)
        .subquery()
    )
    compositions, n = _compositions(connection, sa.select(drawn.c.composition_id))
    n_structures = int(connection.scalar(sa.select(sa.func.sum(drawn.c.times))) or 0)
    values = {name: _values(connection, drawn, own) for name, own in recipes.items()}
    return Subject(
        "", f"training set {group.dataset}", None, group.dataset, n_structures, values,
        compositions, n, np.zeros(0),
    )  # fmt: skip


def _values(connection: sa.Connection, drawn: sa.Subquery, recipe_id: UUID) -> np.ndarray:
    """Return the numbers of a check, each as often as its structure came, float64 (m,)."""
    check = tables.structure_check.c
    query = (
        sa.select(check.value, drawn.c.times)
        .join(drawn, drawn.c.structure_id == check.structure_id)
        .where(check.recipe_id == recipe_id, check.value.is_not(None))
        .order_by(check.value, drawn.c.times)
    )
    rows = fetch(connection, query)
    values = rows.column("value").to_numpy(zero_copy_only=False).astype(np.float64)
    times = rows.column("times").to_numpy(zero_copy_only=False).astype(np.int64)
    return np.repeat(values, times) if len(values) else np.zeros(0)


def _compositions(connection: sa.Connection, ids: sa.Select[Any]) -> tuple[np.ndarray, int]:
    """Return shares of elements of distinct compositions, and how many there are.

    Of more than `MOST_POINTS` those with the smallest ids are taken; ids are hashes.
    """
    composition = tables.composition.c
    own = composition.id.in_(ids)
    n = int(connection.scalar(sa.select(sa.func.count()).where(own)) or 0)
    query = (sa.select(composition.reduced_formula).where(own).order_by(composition.id)).limit(
        MOST_POINTS
    )
    batch, _ = parse_formulas(fetch(connection, query).column(0)).batch.reduced()
    return element_shares(batch), n


def element_shares(batch: Any) -> np.ndarray:
    """Return the shares of elements in compositions, float64 (n, 119)."""
    found: np.ndarray = np.zeros((len(batch), MAX_Z + 1))
    rows = np.repeat(np.arange(len(batch)), np.diff(batch.offsets))
    found[rows, batch.atomic_numbers] = batch.counts
    found /= np.maximum(found.sum(axis=1, keepdims=True), 1)
    return found


# --- energies ----------------------------------------------------------------------------


def _latest(kind: str) -> sa.Subquery:
    judgement = sa.table(
        "latest_judgements",
        sa.column("checkpoint_id", sa.Uuid()),
        sa.column("kind", sa.Text()),
        sa.column("recipe_id", sa.Uuid()),
    ).c
    return (
        sa.select(judgement.checkpoint_id, judgement.recipe_id)
        .where(judgement.kind == kind)
        .subquery()
    )


def _energies(connection: sa.Connection, group: _Group) -> tuple[np.ndarray, int]:
    """Return energies above the hull of a group's structures, and how many were compared."""
    latest, own, candidate = _latest("stability"), tables.stability.c, tables.candidate.c
    drawn = _drawn(group)
    query = (
        sa.select(own.structure_id, sa.func.min(own.energy_above_hull).label("above"))
        .join(tables.candidate, candidate.structure_id == own.structure_id)
        .join(latest, sa.and_(
            latest.c.checkpoint_id == candidate.checkpoint_id, latest.c.recipe_id == own.recipe_id
        ))
        .join(drawn, drawn.c.structure_id == own.structure_id)
        .where(candidate.checkpoint_id.in_(group.checkpoints))
        .group_by(own.structure_id)
    )  # fmt: skip
    found = fetch(connection, query).column("above").to_numpy(zero_copy_only=False)
    numbers = found.astype(np.float64)
    return np.sort(numbers[~np.isnan(numbers)]), len(numbers)


def _judged(connection: sa.Connection, groups: Sequence[_Group]) -> list[dict[str, Any]]:
    """Return valid candidates with an energy above the hull, the lowest first."""
    names = (
        "structure_id", "reduced_formula", "chemical_system", "energy_above_hull",
        "formation_energy_per_atom", "structural_validity", "converged", "novelty",
        "is_representative", "stability_recipe_id", "checkpoint_id",
    )  # fmt: skip
    ids = ("structure_id", "stability_recipe_id", "checkpoint_id")
    view = sa.table(
        "generated_structures",
        *(sa.column(name, sa.Uuid() if name in ids else sa.types.NullType()) for name in names),
    ).c
    found: list[dict[str, Any]] = []
    for group in groups:
        query = sa.select(*(view[name] for name in names)).where(
            view.checkpoint_id.in_(group.checkpoints),
            view.structure_id.in_(sa.select(_drawn(group).c.structure_id)),
            view.energy_above_hull.is_not(None),
            view.structural_validity,
        )
        found += [
            {
                **row,
                "model": group.model,
                "role": group.role,
                "recipe_id": row["stability_recipe_id"],
            }
            for row in connection.execute(query).mappings()
        ]
    return sorted(
        found, key=lambda row: (row["energy_above_hull"], str(row["structure_id"]), row["model"])
    )


def _hull_words(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Say on what the energies above the hull rest, once for each recipe."""
    ids = sorted({row["recipe_id"] for row in rows}, key=str)
    recipe = tables.recipe.c
    found = []
    for own in ids:
        parameters = connection.scalar(sa.select(recipe.parameters).where(recipe.id == own))
        found.append(_words(own, parameters))
    return tuple(found)


def _words(recipe_id: UUID, parameters: Any) -> str:
    kinds = {
        FORMATION: "energies of formation as references state them",
        POTENTIAL: "energies of both by one potential",
    }
    kind = kinds.get(parameters["energies"], "total energies")
    n = parameters["references"]["phases"]
    return f"recipe {short_id(str(recipe_id))}: {kind}, {n:,} reference phases"


def _best(
    connection: sa.Connection, groups: Sequence[_Group], rows: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], str]:
    """Return the candidates of models to look at, and how they were chosen."""
    models = [group for group in groups if group.role is Role.MODEL]
    own = [
        row
        for row in rows
        if row["role"] is Role.MODEL
        and row["converged"]
        and row["novelty"] != "known"
        and row["is_representative"] is not False
    ]
    taken: dict[UUID, Mapping[str, Any]] = {}
    for row in own:
        taken.setdefault(row["structure_id"], row)
    if taken:
        listed = list(taken.values())[:BEST]
        return [
            {
                "structure_id": row["structure_id"],
                "model": generator_label(row["model"]),
                "eV/atom above the hull": f"{row['energy_above_hull']:.3f}",
            }
            for row in listed
        ], (
            f"The {len(listed)} of lowest energy above the hull, of {len(taken):,} candidates of "
            "models that pass structural_validity, converged and, where that was judged, are "
            "unique and new; shown as they were generated"
        )
    known = current_recipes(connection)
    if not models or "radius_distances" not in known:
        return [], ""
    listed_rows: list[dict[str, Any]] = []
    each = -(-BEST // len(models))
    for group in models:
        listed_rows += _first(connection, group, known["radius_distances"], each)
    return listed_rows, (
        f"The first {each} of each model that pass radius_distances, in the order of their ids, "
        "as no energies above the hull are known"
    )


def _first(
    connection: sa.Connection, group: _Group, recipe_id: UUID, n: int
) -> list[dict[str, Any]]:
    drawn, check = _drawn(group), tables.structure_check.c
    query = (
        sa.select(drawn.c.structure_id)
        .join(tables.structure_check, check.structure_id == drawn.c.structure_id)
        .where(check.recipe_id == recipe_id, check.passed)
        .distinct()
        .order_by(drawn.c.structure_id)
        .limit(n)
    )
    label = generator_label(group.model)
    return [{"structure_id": own, "model": label} for own in connection.scalars(query)]


# --- hulls -------------------------------------------------------------------------------


def _hulls(store: Store, rows: Sequence[Mapping[str, Any]]) -> tuple[HullSystem, ...]:
    """Return the systems of the best candidates, of two or three elements, with their hulls."""
    wanted: dict[tuple[UUID, str], list[Mapping[str, Any]]] = {}
    systems: dict[tuple[UUID, str], None] = {}
    for row in rows:
        key = (row["recipe_id"], row["chemical_system"])
        wanted.setdefault(key, []).append(row)
        if row["role"] is Role.MODEL and row["chemical_system"].count("-") in (1, 2):
            systems.setdefault(key)
    chosen = list(systems)[:SYSTEMS]
    phases: dict[UUID, tuple[Phases, str, bool]] = {}
    found = []
    for recipe_id, system in chosen:
        if recipe_id not in phases:
            phases[recipe_id] = _phases(store, recipe_id)
        found.append(_system(phases[recipe_id], recipe_id, system, wanted[recipe_id, system]))
    return tuple(own for own in found if own is not None)


def _phases(store: Store, recipe_id: UUID) -> tuple[Phases, str, bool]:
    """Return the references of a recipe, in words too, and whether they are of formation."""
    recipe = tables.recipe.c
    with store.read() as connection:
        parameters = connection.scalar(sa.select(recipe.parameters).where(recipe.id == recipe_id))
    assert parameters is not None
    of = parameters["energies"]
    if of == POTENTIAL:
        own = parameters["structures"]
        scheme = own["corrections"]["scheme"]
        held = relaxed_phases(store, parameters["against"], UUID(own["relaxation"]), scheme)
    else:
        scheme = parameters["references"]["corrections"]["scheme"]
        held = stated_phases(store, parameters["against"], of, scheme)
    return held, _words(recipe_id, parameters), of == FORMATION


def _system(
    references: tuple[Phases, str, bool],
    recipe_id: UUID,
    system: str,
    rows: Sequence[Mapping[str, Any]],
) -> HullSystem | None:
    phases, words, formation = references
    elements = tuple(system.split("-"))
    numbers = [ATOMIC_NUMBERS[symbol] for symbol in elements]
    batch = phases.compositions
    inside = np.isin(batch.atomic_numbers, numbers)
    held = np.flatnonzero(np.add.reduceat(~inside, batch.offsets[:-1]) == 0)
    if not len(held):
        return None
    own = batch.take(held)
    judged = Hull(own, phases.energies[held]).judge(own)
    if np.isnan(judged.hull).any():
        return None
    energies = phases.energies[held]
    made = energies if formation else energies - judged.elements
    listed = [
        HullCandidate(
            row["reduced_formula"],
            row["model"],
            _of_system(row["reduced_formula"], numbers),
            float(row["formation_energy_per_atom"]),
            float(row["energy_above_hull"]),
        )
        for row in rows
        if row["formation_energy_per_atom"] is not None
    ]
    return HullSystem(
        elements=elements,
        recipe=str(recipe_id),
        words=words,
        formulas=tuple(own.reduced_formulas().to_pylist()),
        shares=element_shares(own)[:, numbers],
        formation=made,
        stable=energies - judged.hull <= _ON_HULL,
        candidates=tuple(listed),
    )


def _of_system(formula: str, numbers: Sequence[int]) -> np.ndarray:
    batch = parse_formulas(pa.array([formula])).batch
    shares: np.ndarray = element_shares(batch)[0, list(numbers)]
    return shares
