"""Reading what tasks work on: compositions and structures of a dataset version, checkpoints."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa

from gandb.core.compositions import CompositionBatch
from gandb.core.errors import IntegrityError, NotFoundError, UsageError, known_names
from gandb.core.formula import parse_formulas
from gandb.core.units import PROPERTIES
from gandb.datasets.versions import (
    find,
    member_compositions,
    members_query,
    reference_of,
    require_members,
)
from gandb.generators.base import TrainingData
from gandb.generators.structures import StructureData
from gandb.jobs.queue import chunk_results
from gandb.schema.tables import checkpoint, composition, entry, model, structure
from gandb.store import Store
from gandb.store.bulk import fetch, fetch_ids, ids_from_text
from gandb.tasks.structures import crystals

BUILDING = threading.Lock()
"""Held while a network is made: its first weights come from the one random stream of the process,
so two threads of a worker must not draw from it at once."""

EXTERNAL, BASELINE = "external", "baseline"
"""Roles of models whose candidates came as files."""

_SHORTEST_PREFIX = 4


def compositions_of(
    connection: sa.Connection, version_id: UUID, split: str | None = None
) -> tuple[np.ndarray, CompositionBatch]:
    """Return the distinct compositions of a version or a split of it, sorted by id.

    Returns:
        ids, uint8 (n, 16), and the n reduced compositions; equal on every engine.

    Raises:
        NotFoundError: the members of the version were not shared.
    """
    require_members(connection, version_id)
    wanted = member_compositions(version_id, split).subquery()
    query = sa.select(composition.c.id, composition.c.reduced_formula).join(
        wanted, wanted.c.composition_id == composition.c.id
    )
    rows = fetch(connection, query)
    ids = ids_from_text(rows.column("id"))
    batch = stored_compositions(rows.column("reduced_formula"))
    order = np.argsort(ids.view("S16").reshape(-1), kind="stable") if len(ids) else np.arange(0)
    return ids[order], batch.take(order)


def composition_ids(
    connection: sa.Connection, version_id: UUID, split: str | None = None
) -> np.ndarray:
    """Return the ids of the distinct compositions of a version or a split, uint8 (n, 16).

    Raises:
        NotFoundError: the members of the version were not shared.
    """
    require_members(connection, version_id)
    return fetch_ids(connection, member_compositions(version_id, split))


def training_data(store: Store, version_id: UUID, property_name: str | None = None) -> TrainingData:
    """Return the training split of a version.

    Without a property, each distinct composition counts once. With one, each entry that states it
    counts, so that polymorphs bring their own values.

    Raises:
        UsageError: the split is empty.
        NotFoundError: there is no such property, or the members of the version were not shared.
    """
    with store.read() as connection:
        if property_name is None:
            _, batch = compositions_of(connection, version_id, "train")
            data = TrainingData(batch)
        else:
            data = _conditioned(connection, version_id, property_name)
    if not len(data.compositions):
        raise UsageError(
            "the train split is empty; make a dataset version with more entries, or another split"
            + (f" (entries that state {property_name} count here)" if property_name else "")
        )
    return data


def structure_data(store: Store, version_id: UUID) -> StructureData:
    """Return the distinct structures of a version's training split.

    Raises:
        UsageError: no member of the split has a structure.
        NotFoundError: the members of the version were not shared.
    """
    with store.read() as connection:
        require_members(connection, version_id)
        members = members_query(version_id).subquery()
        own = (
            sa.select(entry.c.structure_id)
            .join(members, members.c.entry_id == entry.c.id)
            .where(members.c.split == "train")
        )
        found = [record for _, record in crystals(connection, structure.c.id.in_(own))]
    if not found:
        raise UsageError(
            "no entry of the train split has a structure; make a dataset version of entries with "
            "structures: --where 'structure_id IS NOT NULL'"
        )
    return StructureData.of(found)


def _conditioned(connection: sa.Connection, version_id: UUID, property_name: str) -> TrainingData:
    if property_name not in PROPERTIES:
        raise NotFoundError.naming("property", property_name, PROPERTIES)
    require_members(connection, version_id)
    members = members_query(version_id).subquery()
    value = entry.c[property_name]
    query = (
        sa.select(entry.c.id, composition.c.reduced_formula, value.label("value"))
        .join(members, members.c.entry_id == entry.c.id)
        .join(composition, composition.c.id == entry.c.composition_id)
        .where(members.c.split == "train", value.is_not(None))
    )
    rows = fetch(connection, query)
    ids = ids_from_text(rows.column("id"))
    order = np.argsort(ids.view("S16").reshape(-1), kind="stable") if len(ids) else np.arange(0)
    batch = stored_compositions(rows.column("reduced_formula")).take(order)
    return TrainingData(batch, rows.column("value").to_numpy()[order], property_name)


def stored_compositions(formulas: Any) -> CompositionBatch:
    """Read a column of reduced formulas of the store back; customary forms (O2) are reduced again.

    Raises:
        IntegrityError: one cannot be read.
    """
    parsed = parse_formulas(formulas)
    if parsed.rejects:
        row, reason = parsed.rejects[0]
        raise IntegrityError(f"the store holds the formula {formulas[row]}, unreadable: {reason}")
    return parsed.batch.reduced()[0]


# --- checkpoints -------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as the store has it; an external one has neither weights nor a dataset."""

    id: UUID
    model: str
    role: str
    dataset_version_id: UUID | None
    dataset: str | None
    seed: int
    iteration: int
    sha256: str
    job_id: UUID

    @property
    def external(self) -> bool:
        """Whether its candidates came as files."""
        return self.dataset_version_id is None

    @property
    def short_id(self) -> str:
        """The first eight digits: what people type."""
        return str(self.id)[:8]

    @property
    def reference(self) -> str:
        """What people call it: ``MODEL:DATASET@3``, of an external one its name."""
        return f"{self.model}:{self.dataset}" if self.dataset else self.model


def _checkpoints(connection: sa.Connection) -> list[Checkpoint]:
    query = (
        sa.select(
            checkpoint.c.id,
            model.c.name.label("model"),
            model.c.role,
            checkpoint.c.dataset_version_id,
            checkpoint.c.seed,
            checkpoint.c.iteration,
            checkpoint.c.sha256,
            checkpoint.c.job_id,
        )
        .join(model, model.c.id == checkpoint.c.model_id)
        .order_by(model.c.name, checkpoint.c.seed, checkpoint.c.iteration, checkpoint.c.id)
    )
    names: dict[UUID | None, str | None] = {None: None}
    found = []
    for row in connection.execute(query).mappings():
        version = row["dataset_version_id"]
        if version not in names:
            names[version] = reference_of(connection, version)
        found.append(Checkpoint(**row, dataset=names[version]))
    return found


def list_checkpoints(store: Store) -> list[Checkpoint]:
    """Return all checkpoints, by model and seed."""
    with store.read() as connection:
        return _checkpoints(connection)


def checkpoint_of_job(store: Store, job_id: UUID) -> Checkpoint:
    """Return the checkpoint that a training job ended with.

    Raises:
        NotFoundError: it has not ended yet, or is no training job.
    """
    with store.read() as connection:
        made = [r.get("checkpoint_id") for r in chunk_results(connection, job_id)]
        for found in _checkpoints(connection):
            if str(found.id) in made:
                return found
    raise NotFoundError(f"job {str(job_id)[:8]} has made no checkpoint (yet)")


def find_checkpoint(store: Store, reference: str) -> Checkpoint:
    """Find a checkpoint by the beginning of its id, as ``MODEL:DATASET@3``, or an external model.

    Raises:
        NotFoundError: there is none; names those that exist.
        UsageError: several fit.
    """
    found = list_checkpoints(store)
    name, colon, version_reference = reference.partition(":")
    if colon:
        version = find(store, version_reference)
        hits = [c for c in found if c.model == name and c.dataset_version_id == version.id]
    elif hits := [c for c in found if c.external and c.model == reference]:
        pass
    else:
        if len(reference) < _SHORTEST_PREFIX:
            raise UsageError(
                f"checkpoint {reference!r}: give at least {_SHORTEST_PREFIX} digits of its id, or "
                "MODEL:NAME@NUMBER; gandb models --trained shows both"
            )
        hits = [c for c in found if str(c.id).startswith(reference.lower())]
    if not hits:
        known = [f"{c.short_id} ({c.reference})" for c in found]
        raise NotFoundError(
            f"no checkpoint {reference!r}; {known_names('checkpoint', reference, known)}"
        )
    if len(hits) > 1:
        shown = ", ".join(f"{c.short_id} (seed {c.seed}, iteration {c.iteration})" for c in hits)
        raise UsageError(f"checkpoint {reference!r} is ambiguous; name one by its id: {shown}")
    return hits[0]
