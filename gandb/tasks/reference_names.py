"""References of novelty in words: as a command line names them, and as people read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.datasets.versions import reference_of
from gandb.schema.tables import candidate, entry, generation_event, snapshot_entry, source_snapshot
from gandb.tasks import data
from gandb.tasks.references import reference_structures


class ReferenceNames:
    """What parts of a reference are called, by what the store holds now.

    Args:
        connection: an open transaction of a store.
        checkpoints: all of the store, by id.
    """

    def __init__(
        self, connection: sa.Connection, checkpoints: Mapping[UUID, data.Checkpoint]
    ) -> None:
        self._connection, self._checkpoints = connection, checkpoints

    @property
    def n_snapshots(self) -> int:
        """How many snapshots the store has now."""
        query = sa.select(sa.func.count()).select_from(source_snapshot)
        return int(self._connection.scalar(query) or 0)

    def argument(self, part: Mapping[str, Any]) -> str:
        """Return what ``--against`` calls a part of a reference."""
        if "snapshots" in part:
            return "entries"
        if "version" in part:
            name = reference_of(self._connection, UUID(part["version"]))
            return f"{name}:{part['split']}" if part["split"] else name
        made = self._by_model(part["jobs"])
        return next(iter(made)) if len(made) == 1 else "earlier"

    def words(self, against: Sequence[Mapping[str, Any]]) -> str:
        """Return all parts in words, such as ``icsd@1 (4,000)``, with how many structures."""
        return "; ".join(map(self._words, against))

    def _words(self, part: Mapping[str, Any]) -> str:
        if "snapshots" in part:
            return f"all entries of {_listed(self._by_source(part['snapshots']))}"
        if "version" in part:
            name = reference_of(self._connection, UUID(part["version"]))
            n = self._count(part)
            what = f"the {part['split']} split of {name}" if part["split"] else name
            return f"{what} ({n:,})"
        made = self._by_model(part["jobs"])
        return f"candidates of {_listed(made)}" if made else "no earlier candidates"

    def _count(self, part: Mapping[str, Any]) -> int:
        query = sa.select(sa.func.count()).select_from(reference_structures([part]).subquery())
        return int(self._connection.scalar(query) or 0)

    def _by_source(self, snapshots: Sequence[str]) -> dict[str, int]:
        query = (
            sa.select(source_snapshot.c.source, sa.func.count(entry.c.structure_id.distinct()))
            .join(snapshot_entry, snapshot_entry.c.snapshot_id == source_snapshot.c.id)
            .join(entry, entry.c.id == snapshot_entry.c.entry_id)
            .where(
                source_snapshot.c.id.in_(map(UUID, snapshots)), entry.c.structure_id.is_not(None)
            )
            .group_by(source_snapshot.c.source)
            .order_by(source_snapshot.c.source)
        )
        return {row[0]: int(row[1]) for row in self._connection.execute(query)}

    def _by_model(self, jobs: Sequence[str]) -> dict[str, int]:
        event = generation_event.c
        query = (
            sa.select(candidate.c.checkpoint_id, sa.func.count(candidate.c.structure_id.distinct()))
            .join(generation_event, event.candidate_id == candidate.c.id)
            .where(event.job_id.in_(map(UUID, jobs)), candidate.c.structure_id.is_not(None))
            .group_by(candidate.c.checkpoint_id)
        )
        made: Counter[str] = Counter()
        for checkpoint_id, n in self._connection.execute(query):
            made[self._checkpoints[checkpoint_id].reference] += int(n)
        return dict(sorted(made.items()))


def _listed(counts: Mapping[str, int]) -> str:
    """Write ``mp (1,245), oqmd (1,258) and aflow (1,223)``."""
    parts = [f"{name} ({n:,})" for name, n in counts.items()]
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
