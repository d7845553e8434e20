"""The work behind a bundle: which jobs made its models and candidates."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.schema.tables import checkpoint, job


def jobs_of(connection: sa.Connection, jobs: Collection[UUID]) -> list[dict[str, Any]]:
    """Return the jobs that made a model or candidates of what is packed, by id.

    Args:
        connection: a transaction in which a `Closure` (`selection_rows`) was made.
        jobs: those that are packed.

    Returns:
        For each: id, kind, seed, code_version, dataset_version_id and checkpoint_id as text,
        ``weights`` (SHA-256 of blobs it made) and ``candidates`` (how many of them are packed).
    """
    weights: dict[UUID, list[str]] = {}
    for job_id, sha256 in connection.execute(sa.select(checkpoint.c.job_id, checkpoint.c.sha256)):
        weights.setdefault(job_id, []).append(sha256)
    counts = {
        str(job_id): int(count)
        for job_id, count in connection.exec_driver_sql(
            "SELECT CAST(job_id AS TEXT), count(DISTINCT candidate_id) FROM generation_event "
            "WHERE candidate_id IN (SELECT id FROM packed_candidate) GROUP BY job_id"
        )
    }
    found = []
    for row in connection.execute(sa.select(job)).mappings():
        own = str(row["id"])
        if row["id"] in jobs and (own in counts or row["id"] in weights):
            found.append(
                {
                    "id": own,
                    "kind": row["kind"],
                    "seed": row["seed"],
                    "code_version": row["code_version"],
                    "dataset_version_id": _text(row["dataset_version_id"]),
                    "checkpoint_id": _text(row["checkpoint_id"]),
                    "weights": sorted(weights.get(row["id"], [])),
                    "candidates": counts.get(own, 0),
                }
            )
    return sorted(found, key=lambda one: str(one["id"]))


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
