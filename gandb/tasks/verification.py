"""``gandb db verify``: does the store say the same thing wherever it says it twice?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from gandb.core.formula import parse_formulas
from gandb.core.ids import Domain, json_id
from gandb.datasets.names import parents_of
from gandb.datasets.versions import members_shared, read_members
from gandb.datasets.versions import version_id as id_of_version
from gandb.schema.tables import (
    candidate,
    check_result,
    checkpoint,
    composition,
    composition_element,
    dataset_version,
    entry,
    generation_event,
    recipe,
    structure,
)
from gandb.store import Store
from gandb.store.bulk import fetch, ids_from_text
from gandb.store.verify import (
    finding,
    query_finding,
    verify_blobs,
    verify_keys,
    verify_references,
)
from gandb.tasks.identity_checks import verify_identity
from gandb.tasks.known_compositions import novelty_recipe
from gandb.tasks.rows import cnen_recipes, fact_columns
from gandb.tasks.structures import crystals
from gandb.tasks.taking import CANDIDATE_FACTS
from gandb.validation.charge import CNEN, check_all

_CHECKED_FACTS = [name for name in CANDIDATE_FACTS if name != "elements"]


def verify_store(store: Store) -> list[dict[str, Any]]:
    """Run every check; a row with ``problems`` above 0 names what is wrong."""
    with store.read() as connection:
        findings = [*verify_keys(connection), *verify_references(connection)]
        findings += _verify_compositions(connection)
        findings += _verify_candidates(connection)
        findings += _verify_structures(connection)
        findings += _verify_versions(connection)
        findings += _verify_recipes(connection)
        findings += verify_identity(connection)
    return [*findings, *verify_blobs(store)]


def _verify_compositions(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    names = [*_CHECKED_FACTS, *CNEN]
    rows = fetch(connection, sa.select(composition.c.id, *(composition.c[n] for n in names)))
    parsed = parse_formulas(rows.column("reduced_formula"))
    unreadable = [f"row {i}: {reason}" for i, reason in parsed.rejects]
    yield finding("composition.reduced_formula can be read", len(unreadable), unreadable)
    if unreadable:
        return
    batch, _ = parsed.batch.reduced()
    formulas = rows.column("reduced_formula")
    wrong_id = (ids_from_text(rows.column("id")) != batch.ids()).any(axis=1)
    yield _from_flags("composition.id is the hash of its content", wrong_id, formulas)
    facts = fact_columns(batch)
    for name in _CHECKED_FACTS:
        differs = pc.not_equal(rows.column(name), facts[name].cast(rows.column(name).type))
        yield _from_flags(f"composition.{name} follows from the formula", differs, formulas)
    for name, verdicts in check_all(batch).items():
        differs = pc.not_equal(rows.column(name), pa.array(verdicts.passed))
        yield _from_flags(f"composition.{name} is what the check says", differs, formulas)
        yield _verify_copies(connection, name)
    yield _verify_elements(connection)


def _verify_copies(connection: sa.Connection, name: str) -> dict[str, Any]:
    """Compare a spread verdict with its row in check_result; a missing row is a problem too."""
    own = sa.and_(
        check_result.c.subject_id == composition.c.id,
        check_result.c.recipe_id == cnen_recipes()[name]["id"],
    )
    query = (
        sa.select(composition.c.reduced_formula)
        .outerjoin(check_result, own)
        .where(
            sa.or_(check_result.c.passed.is_(None), check_result.c.passed != composition.c[name])
        )
    )
    return query_finding(connection, f"composition.{name} equals its check_result", query)


def _verify_elements(connection: sa.Connection) -> dict[str, Any]:
    own = (
        sa.select(
            composition_element.c.composition_id,
            sa.func.count().label("n_elements"),
            sa.func.sum(composition_element.c.n_atoms).label("n_atoms"),
        )
        .group_by(composition_element.c.composition_id)
        .subquery()
    )
    query = (
        sa.select(composition.c.reduced_formula)
        .outerjoin(own, own.c.composition_id == composition.c.id)
        .where(
            sa.or_(
                own.c.n_elements.is_(None),
                own.c.n_elements != composition.c.n_elements,
                own.c.n_atoms != composition.c.n_atoms,
            )
        )
    )
    return query_finding(connection, "composition_element adds up to its composition", query)


def _verify_candidates(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    for name in CANDIDATE_FACTS:
        query = (
            sa.select(candidate.c.reduced_formula)
            .join(composition, composition.c.id == candidate.c.composition_id)
            .where(candidate.c[name] != composition.c[name])
        )
        yield query_finding(connection, f"candidate.{name} equals its composition's", query)
    own = (
        sa.select(
            generation_event.c.candidate_id,
            sa.func.sum(generation_event.c.times).label("times"),
            sa.func.min(generation_event.c.formula_units).label("units"),
        )
        .group_by(generation_event.c.candidate_id)
        .subquery()
    )
    joined = candidate.outerjoin(own, own.c.candidate_id == candidate.c.id)
    wrong = sa.or_(own.c.times.is_(None), own.c.times != candidate.c.times_generated)
    query = sa.select(candidate.c.reduced_formula).select_from(joined).where(wrong)
    yield query_finding(connection, "candidate.times_generated is the sum of its events", query)
    joined = joined.join(composition, composition.c.id == candidate.c.composition_id)
    for name in CNEN:
        expected: Any = composition.c[name]
        if name == "cnen_matgan":
            expected = sa.and_(expected, own.c.units == 1)
        query = (
            sa.select(candidate.c.reduced_formula)
            .select_from(joined)
            .where(candidate.c[name] != expected)
        )
        yield query_finding(connection, f"candidate.{name} follows from its composition's", query)
    for (version_id,) in connection.execute(sa.select(dataset_version.c.id)).all():
        yield _verify_novelty(connection, version_id)


def _verify_novelty(connection: sa.Connection, version_id: Any) -> dict[str, Any]:
    own = sa.and_(
        check_result.c.subject_id == candidate.c.composition_id,
        check_result.c.recipe_id == novelty_recipe(version_id)["id"],
    )
    query = (
        sa.select(candidate.c.reduced_formula)
        .join(checkpoint, checkpoint.c.id == candidate.c.checkpoint_id)
        .outerjoin(check_result, own)
        .where(
            checkpoint.c.dataset_version_id == version_id,
            sa.or_(check_result.c.passed.is_(None), check_result.c.passed != candidate.c.novel),
        )
    )
    return query_finding(
        connection, f"candidate.novel equals its check_result ({version_id})", query
    )


def _verify_structures(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    wrong = [str(own) for own, crystal in crystals(connection) if crystal.id != own]
    yield finding("structure.id is the hash of its content", len(wrong), wrong)
    for table in (entry, candidate):
        joined = table.join(structure, structure.c.id == table.c.structure_id)
        query = (
            sa.select(table.c.id)
            .select_from(joined)
            .where(
                sa.or_(
                    table.c.n_sites.is_distinct_from(structure.c.n_sites),
                    table.c.space_group_number.is_distinct_from(structure.c.space_group_number),
                    table.c.composition_id != structure.c.composition_id,
                )
            )
        )
        yield query_finding(connection, f"{table.name} says of its structure what it is", query)


def _verify_versions(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    """Compare versions with their members, where these were shared, and with their parents."""
    members, ids, parents = [], [], []
    graph = parents_of(connection)
    for row in connection.execute(sa.select(dataset_version)).mappings().all():
        own = graph.get(row["id"], ())
        if id_of_version(row["members_hash"], row["split_recipe"], own) != row["id"]:
            ids.append(str(row["id"]))
        if row["parent_id"] != (own[0] if own else None):
            parents.append(str(row["id"]))
        if members_shared(connection, row["id"]):
            held = read_members(connection, row["id"])
            if held.hash() != row["members_hash"] or len(held) != row["n_entries"]:
                members.append(f"{row['id']} has {len(held)} members of {row['n_entries']}")
    yield finding("dataset versions have the members they were made with", len(members), members)
    yield finding("dataset_version.id is the hash of its content", len(ids), ids)
    yield finding("dataset_version.parent_id is the first parent", len(parents), parents)


def _verify_recipes(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    wrong = []
    for row in connection.execute(sa.select(recipe)).mappings():
        content = {
            "check": row["check_name"],
            "version": row["version"],
            "parameters": row["parameters"],
        }
        if json_id(Domain.RECIPE, content) != row["id"]:
            wrong.append(f"{row['id']} ({row['check_name']})")
    yield finding("recipe.id is the hash of its content", len(wrong), wrong)


def _from_flags(what: str, flags: Any, names: pa.ChunkedArray) -> dict[str, Any]:
    wrong = np.flatnonzero(np.asarray(flags))
    return finding(what, len(wrong), [str(names[int(i)]) for i in wrong[:5]])
