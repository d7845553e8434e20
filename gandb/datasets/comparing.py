"""SQL that both engines run over the members of two versions; ids in it are the store's own."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from gandb.datasets.splits import SPLITS
from gandb.schema.tables import dataset_base, dataset_change

_CODE = " ".join(f"WHEN '{name}' THEN {code}" for code, name in enumerate(SPLITS))
_NAMES = " ".join(f"WHEN {code} THEN '{name}'" for code, name in enumerate(SPLITS))
_FEW = 0.05


def literal(own: UUID) -> str:
    """Write an id as SQL."""
    return f"CAST('{own}' AS UUID)"


def state_of(connection: sa.Connection, before: UUID, after: UUID) -> str:
    """Return the common table expressions that end in ``state``: who is a member of which.

    A row of ``state`` is an entry that is a member of either: ``entry_id``, ``was`` and ``now`` (1
    or 0), ``split_before`` and ``split_after`` (null where it is no member), ``composition_id`` and
    ``structure_id``. Where the two share most of their chains, only entries that may differ are
    looked at, and all entries of the same compositions, so that what is said of those is true.

    Args:
        connection: an open transaction.
        before: a version with members.
        after: another one.
    """
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
    if before != after and _few_differ(connection, before, after):
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
        chosen = "\n    WHERE c.entry_id IN (SELECT id FROM touched)"
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
        e.composition_id, e.structure_id
    FROM sums AS u
    JOIN entry AS e ON e.id = u.entry_id
    WHERE u.was = 1 OR u.now = 1
)"""
    )
    return "WITH " + ",\n".join(ctes)


def _named(flag: str, column: str) -> str:
    name = f"CASE mod(u.{column}, {len(SPLITS)}) {_NAMES} END"
    return f"CASE WHEN u.{flag} = 1 THEN {name} END AS {column}"


def _few_differ(connection: sa.Connection, before: UUID, after: UUID) -> bool:
    """Say whether most of what the chains of two versions hold, they share."""
    one, other = (
        set(
            connection.scalars(
                sa.select(dataset_base.c.base_id).where(dataset_base.c.version_id == version)
            )
        )
        for version in (before, after)
    )
    if not one & other:
        return False
    held = dict.fromkeys(one | other, 0)
    query = (
        sa.select(dataset_change.c.version_id, sa.func.count())
        .where(dataset_change.c.version_id.in_(held))
        .group_by(dataset_change.c.version_id)
    )
    for version, n in connection.execute(query):
        held[version] = n
    return sum(held[v] for v in one ^ other) <= _FEW * sum(held.values())
