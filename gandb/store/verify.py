"""Checks that hold for any store: keys, references, blobs; and clearing what is left over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from gandb.core.errors import GandbError
from gandb.schema.tables import blob, checkpoint, job, metadata
from gandb.store.store import Store

_SHOWN = 3


def finding(what: str, problems: int, examples: list[str] | None = None) -> dict[str, Any]:
    """Return one line of a verification."""
    return {"check": what, "problems": problems, "examples": "; ".join((examples or [])[:_SHOWN])}


def query_finding(connection: sa.Connection, what: str, wrong: sa.Select[Any]) -> dict[str, Any]:
    """Return one line of a verification from a query for what is wrong, by its first column."""
    count = _count(connection, wrong.subquery())
    found = [str(row[0]) for row in connection.execute(wrong.limit(_SHOWN))] if count else []
    return finding(what, count, found)


def verify_keys(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    """Check that every declared key is unique."""
    for table in metadata.sorted_tables:
        keys = [list(table.primary_key.columns), *([c] for c in table.columns if c.unique)]
        for key in keys:
            doubles = sa.select(*key).group_by(*key).having(sa.func.count() > 1).subquery()
            names = ", ".join(c.name for c in key)
            yield finding(f"key {table.name}({names})", _count(connection, doubles))


def verify_references(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    """Check that every declared reference leads to a row."""
    for table in metadata.sorted_tables:
        for column in table.columns:
            for key in column.foreign_keys:
                target = key.column.table.alias("target")
                there = sa.exists().where(target.c[key.column.name] == column)
                loose = sa.select(column).where(column.is_not(None), ~there).subquery()
                yield finding(
                    f"reference {table.name}.{column.name} to {key.column.table.name}",
                    _count(connection, loose),
                )


def verify_blobs(store: Store) -> Iterator[dict[str, Any]]:
    """Check that every recorded blob is there and is what its name says."""
    with store.read() as connection:
        rows = connection.execute(sa.select(blob.c.sha256, blob.c.size)).all()
    wrong = []
    for sha256, size in rows:
        try:
            if len(store.files.get_blob(sha256)) != size:
                wrong.append(f"{sha256}: not {size} bytes")
        except GandbError as error:
            wrong.append(str(error))
    yield finding("blobs are there and undamaged", len(wrong), wrong)


def remove_leftovers(store: Store) -> int:
    """Remove blobs that no row names and staged work of jobs that are done; return how many."""
    removed = 0
    with store.write() as tx:  # keeps jobs from recording a blob meanwhile
        named = {r[0] for r in tx.execute(sa.select(checkpoint.c.sha256))}
        named |= {r[0] for r in tx.execute(sa.select(blob.c.sha256))}
        open_jobs = tx.execute(
            sa.select(sa.func.count()).where(job.c.state.in_(["queued", "running"]))
        ).scalar_one()
        ended = [str(r[0]) for r in tx.execute(sa.select(job.c.id).where(job.c.state == "done"))]
        if not open_jobs:  # a running job may have written a blob that it has not recorded yet
            for sha256 in [b for b in store.files.blobs() if b not in named]:
                store.files.drop_blob(sha256)
                removed += 1
        for job_id in ended:
            removed += store.files.unstage(job_id)
    return removed


def _count(connection: sa.Connection, rows: sa.Subquery) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(rows)).scalar_one())
