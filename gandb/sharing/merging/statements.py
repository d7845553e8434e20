"""What groups state differently of one thing: listed for people, and packed for others."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.schema import tables
from gandb.store import Store

_STRUCTURE = (
    "structure_id",
    "SELECT c.reduced_formula || ', structure ' || substr(CAST(s.id AS TEXT), 1, 8) "
    "FROM structure AS s JOIN composition AS c ON c.id = s.composition_id WHERE s.id = :id",
)
_NAMES: Mapping[str, tuple[str, str]] = {
    "source_snapshot": (
        "id", "SELECT source || coalesce(' ' || release, '') FROM source_snapshot WHERE id = :id"
    ),
    "entry": (
        "id",
        "SELECT source || ':' || coalesce(external_id, formula) FROM entry WHERE id = :id",
    ),
    **dict.fromkeys(
        ("structure_symmetry", "structure_check", "relaxation", "stability"), _STRUCTURE
    ),
    "check_result": ("subject_id", "SELECT reduced_formula FROM composition WHERE id = :id"),
    "candidate_novelty": ("candidate_id", "SELECT reduced_formula FROM candidate WHERE id = :id"),
    "candidate_record": ("candidate_id", "SELECT reduced_formula FROM candidate WHERE id = :id"),
    "generation_event": ("candidate_id", "SELECT reduced_formula FROM candidate WHERE id = :id"),
    "checkpoint": (
        "id",
        "SELECT m.name || ' trained with seed ' || CAST(k.seed AS TEXT) FROM checkpoint AS k "
        "JOIN model AS m ON m.id = k.model_id WHERE k.id = :id",
    ),
    "model": ("id", "SELECT name FROM model WHERE id = :id"),
    "job": ("id", "SELECT kind FROM job WHERE id = :id"),
    "job_chunk": ("job_id", "SELECT kind FROM job WHERE id = :id"),
    "metric": ("job_id", "SELECT kind FROM job WHERE id = :id"),
}  # fmt: skip
"""How the row of a statement is called: the column of its key, and the query for a name."""


def conflicts(store: Store) -> list[dict[str, Any]]:
    """List what groups state differently, one row for each thing and attribute.

    Returns:
        ``relation``, ``what`` (a name that people know), ``attribute``, ``subject`` (the key) and
        ``statements``: of each origin what it states, this store's own under an empty name.
    """
    own = tables.statement
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    with store.read() as connection:
        query = sa.select(own).order_by(
            own.c.relation, own.c.subject, own.c.attribute, own.c.origin, own.c.value
        )
        for row in connection.execute(query).mappings():
            key = (row["relation"], row["subject"], row["attribute"])
            if key not in found:
                subject = json.loads(row["subject"])
                found[key] = {
                    "relation": row["relation"],
                    "what": _name(connection, row["relation"], subject),
                    "attribute": row["attribute"],
                    "subject": subject,
                    "statements": [],
                }
            stated = {"origin": row["origin"], "value": json.loads(row["value"])}
            found[key]["statements"].append(stated)
    return list(found.values())


def _name(connection: sa.Connection, relation: str, subject: Mapping[str, Any]) -> str:
    """Return what people call the row of a statement."""
    if "dataset" in subject:
        return f"{subject['dataset']}@{subject['number']}"
    rest = [str(v) for k, v in subject.items() if not k.endswith("id")]
    recipe = subject.get("recipe_id")
    if recipe is not None:
        query = sa.select(tables.recipe.c.check_name).where(tables.recipe.c.id == UUID(recipe))
        rest.insert(0, str(connection.scalar(query) or recipe))
    if relation in _NAMES:
        column, sql = _NAMES[relation]
        parameter = sa.bindparam("id", UUID(str(subject[column])), sa.Uuid())
        name = connection.scalar(sa.text(sql).bindparams(parameter))
        if name is not None:
            return " ".join([str(name), *rest])
    return " ".join(rest) or str(next(iter(subject.values()), ""))


def packed_statements(
    connection: sa.Connection, query: Callable[[str], str], origin: str
) -> list[dict[str, Any]]:
    """Return the statements on rows that a bundle has, in the words of the group that packs it.

    Args:
        connection: a transaction in which ``query`` holds.
        query: gives the SQL of a bundle's rows of a table, by its name.
        origin: the group that packs: it makes its own statements under this name, and its own
            datasets are told by it.
    """
    own = tables.statement
    kept = []
    for row in connection.execute(sa.select(own)).mappings():
        subject = json.loads(row["subject"])
        if "dataset" in subject:  # a name: versions that it may stand for are few
            name = subject["dataset"]
            subject["dataset"] = name if "/" in name else f"{origin}/{name}"
        elif not _is_packed(connection, query, row["relation"], subject):
            continue
        kept.append(
            {
                **row,
                "subject": json.dumps(
                    subject, sort_keys=True, separators=(",", ":"), ensure_ascii=False
                ),
                "origin": row["origin"] or origin,
            }
        )
    return kept


def _is_packed(
    connection: sa.Connection,
    query: Callable[[str], str],
    relation: str,
    subject: Mapping[str, Any],
) -> bool:
    table = tables.metadata.tables[relation]
    quote = connection.dialect.identifier_preparer.quote
    same = " AND ".join(f"q.{quote(name)} = :{name}" for name in subject)
    values = {
        name: sa.bindparam(
            name,
            UUID(value) if isinstance(table.c[name].type, sa.Uuid) else value,
            table.c[name].type,
        )
        for name, value in subject.items()
    }
    rows = query(relation).replace(":", "\\:")
    text = sa.text(f"SELECT 1 FROM ({rows}) AS q WHERE {same} LIMIT 1")
    return connection.execute(text.bindparams(*values.values())).first() is not None
