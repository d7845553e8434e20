"""SQL that both engines run over the members of two versions; ids in it are the store's own."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from gandb.datasets.splits import SPLITS
from gandb.schema.tables import dataset_base

_CODE = " ".join(f"WHEN '{name}' THEN {code}" for code, name in enumerate(SPLITS))
_NAMES = "ARRAY[" + ", ".join(f"'{name}'" for name in SPLITS) + "]"


def literal(own: UUID) -> str:
    """Write an id as SQL."""
    return f"CAST('{own}' AS UUID)"


def state_of(connection: sa.Connection, before: UUID, after: UUID, only: str | None = None) -> str:
    """Return the common table expressions that end in ``state``: who is a member of which.

    A row of ``state`` is an entry that is a member of either: ``entry_id``, ``was`` and ``now`` (1
    or 0), ``split_before`` and ``split_after`` (null where it is no member). Where the two are
    stored as one chain, only entries that may differ are looked at, and all entries of the same
    compositions, so that what is said of a composition is true.

    Args:
        connection: an open transaction.
        before: a version with members.
        after: another one.
        only: a query for the ids of entries to look at, instead.
    """
    one, other = _bases(connection, before), _bases(connection, after)
    ctes = [
        f"""bases AS (
    SELECT b.base_id,
        max(CASE WHEN b.version_id = {literal(before)} THEN 1 ELSE 0 END) AS before,
        max(CASE WHEN b.version_id = {literal(after)} THEN 1 ELSE 0 END) AS after
    FROM dataset_base AS b
    WHERE b.version_id IN ({literal(before)}, {literal(after)})
    GROUP BY b.base_id
)""",
        """chain AS (
    SELECT s.base_id, s.before, s.after, l.length
    FROM bases AS s
    JOIN (SELECT version_id, count(*) AS length FROM dataset_base GROUP BY version_id) AS l
        ON l.version_id = s.base_id
)""",
    ]
    chosen = ""
    if only is None and before != after and one & other:
        ctes.append(
            """touched AS MATERIALIZED (
    SELECT n.id
    FROM entry AS n
    WHERE n.composition_id IN (
        SELECT e.composition_id
        FROM chain AS s
        JOIN dataset_change AS c ON c.version_id = s.base_id
        JOIN entry AS e ON e.id = c.entry_id
        WHERE s.before <> s.after
    )
)"""
        )
        only = "SELECT id FROM touched"
    if only is not None:
        chosen = f"\n    WHERE c.entry_id IN ({only})"
    code = f"s.length * {len(SPLITS)} + CASE c.split {_CODE} END"
    ctes.append(
        f"""sums AS (
    SELECT c.entry_id, sum(c.change * s.before) AS was, sum(c.change * s.after) AS now,
        max(CASE WHEN s.before = 1 THEN {code} END) AS split_before,
        max(CASE WHEN s.after = 1 THEN {code} END) AS split_after
    FROM chain AS s
    JOIN dataset_change AS c ON c.version_id = s.base_id{chosen}
    GROUP BY c.entry_id
)"""
    )
    ctes.append(
        f"""state AS MATERIALIZED (
    SELECT u.entry_id, u.was, u.now, {_named("was", "split_before")},
        {_named("now", "split_after")},
        e.source, e.external_id, e.formula, e.composition_id, e.structure_id
    FROM sums AS u
    JOIN entry AS e ON e.id = u.entry_id
    WHERE u.was = 1 OR u.now = 1
)"""
    )
    return "WITH " + ",\n".join(ctes)


def _named(flag: str, column: str) -> str:
    name = f"({_NAMES})[mod(u.{column}, {len(SPLITS)}) + 1]"
    return f"CASE WHEN u.{flag} = 1 THEN {name} END AS {column}"


def _bases(connection: sa.Connection, version: UUID) -> set[UUID]:
    query = sa.select(dataset_base.c.base_id).where(dataset_base.c.version_id == version)
    return set(connection.scalars(query))
