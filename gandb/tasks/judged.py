"""What novelty is judged of: the candidates of jobs, and what a reference holds of their kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa

from gandb.core.errors import UsageError
from gandb.schema import tables
from gandb.store.bulk import fetch, ids_from_text
from gandb.tasks.keyed import Keyed, Places, id_keys, keyed_of
from gandb.tasks.keys import key_recipe
from gandb.tasks.references import candidate_structures


@dataclass(frozen=True, eq=False)
class Candidates:
    """Candidates with a structure, in the order in which they came.

    Attributes:
        ids, structures: S16 (n,); the structures that are judged.
        origins: S16 (n,), the structures as they were generated: the same, or before relaxation.
        compositions: S16 (n,).
        anonymous: anonymous formulas.
        labels: symmetry labels, None where unknown.
        first: int64 (n,), the sample at which it came first, counting those with a structure.
        times: int64 (n,), how often it came.
        keys: of the distinct structures.
        errors: by structure id, why it has no keys.
    """

    ids: np.ndarray
    structures: np.ndarray
    origins: np.ndarray
    compositions: np.ndarray
    anonymous: list[str]
    labels: dict[bytes, str | None]
    first: np.ndarray
    times: np.ndarray
    keys: Keyed
    errors: dict[bytes, str]

    @property
    def samples(self) -> int:
        """How many samples with a structure there are."""
        return int(self.times.sum())

    @classmethod
    def of(
        cls, connection: sa.Connection, jobs: Sequence[UUID], relaxation: UUID | None = None
    ) -> Candidates:
        """Read the candidates of jobs.

        Args:
            connection: an open transaction of a store.
            jobs: what made them.
            relaxation: recipe by which they were relaxed; then those with a relaxed structure, by
                that.

        Raises:
            UsageError: none has a structure, or one has no keys yet.
        """
        candidate, relaxed = tables.candidate.c, tables.relaxation.c
        own = candidate.structure_id if relaxation is None else relaxed.relaxed_id
        query = sa.select(
            candidate.id,
            own.label("judged_id"),
            candidate.structure_id,
            candidate.composition_id,
            candidate.anonymous_formula,
        ).where(own.is_not(None), candidate.id.in_(_candidates(jobs)))
        if relaxation is not None:
            query = query.join(
                tables.relaxation,
                sa.and_(
                    relaxed.structure_id == candidate.structure_id, relaxed.recipe_id == relaxation
                ),
            )
        rows = fetch(connection, query)
        if not len(rows):
            raise UsageError(
                "none of these candidates has a structure: compare compositions with gandb check"
            )
        ids, structures, origins, compositions = (
            id_keys(ids_from_text(rows.column(name)))
            for name in ("id", "judged_id", "structure_id", "composition_id")
        )
        first, times = _Drawn.of(connection, jobs).among(ids)
        order = np.argsort(first)
        labels, errors = _labels(connection, judged_structures(jobs, relaxation))
        missing = set(structures.tolist()) - set(labels)
        if missing:
            raise UsageError(
                f"{len(missing)} structures have no keys yet; begin with: gandb identify"
            )
        anonymous = rows.column("anonymous_formula").to_pylist()
        return cls(
            ids=ids[order],
            structures=structures[order],
            origins=origins[order],
            compositions=compositions[order],
            anonymous=[anonymous[i] for i in order.tolist()],
            labels=labels,
            first=first[order],
            times=times[order],
            keys=keyed_of(connection, np.unique(structures)),
            errors=errors,
        )


@dataclass(frozen=True, eq=False)
class _Drawn:
    """When candidates came up, the samples of one job after those of another.

    Attributes:
        ids: S16 (c,), candidates, with and without structures, ascending.
        first: int64 (c,), the sample at which each came up first, from 0.
        times: int64 (c,), how often each came up.
    """

    ids: np.ndarray
    first: np.ndarray
    times: np.ndarray

    @classmethod
    def of(cls, connection: sa.Connection, jobs: Sequence[UUID]) -> _Drawn:
        event, job = tables.generation_event.c, tables.job.c
        in_order = sa.select(job.id).where(job.id.in_(jobs)).order_by(job.created_at, job.id)
        ids, first, times = [], [], []
        before = 0
        for own in connection.scalars(in_order).all():
            query = (
                sa.select(
                    event.candidate_id,
                    sa.func.min(event.first_index).label("first"),
                    sa.func.sum(event.times, type_=sa.BigInteger()).label("times"),
                )
                .where(event.job_id == own)
                .group_by(event.candidate_id)
            )
            rows = fetch(connection, query)
            ids.append(id_keys(ids_from_text(rows.column("candidate_id"))))
            first.append(before + rows.column("first").to_numpy())
            times.append(rows.column("times").to_numpy())
            before += int(times[-1].sum())
        distinct, at, place = np.unique(np.concatenate(ids), return_index=True, return_inverse=True)
        counted = np.zeros(len(distinct), np.int64)
        np.add.at(counted, place, np.concatenate(times))
        return cls(distinct, np.concatenate(first)[at], counted)

    def among(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return when some came up first, counting their samples alone, and how often.

        Copies of the others are taken to have come together, as nobody knows when each came.
        """
        own = np.isin(self.ids, chosen)
        order = np.argsort(self.first[~own])
        passed = np.concatenate([[0], np.cumsum(self.times[~own][order])])
        ahead = passed[np.searchsorted(self.first[~own][order], self.first[own])]
        rank = np.argsort(np.argsort(self.first[own]))
        first = np.maximum(self.first[own] - ahead, rank)
        place = np.searchsorted(self.ids[own], chosen)
        return first[place], self.times[own][place]


def _candidates(jobs: Sequence[UUID]) -> sa.Select[Any]:
    event = tables.generation_event.c
    return sa.select(event.candidate_id).where(event.job_id.in_(jobs))


def judged_structures(jobs: Sequence[UUID], relaxation: UUID | None) -> sa.Select[Any]:
    """Return the query for the structures of jobs' candidates, or what a recipe made of them."""
    generated = candidate_structures(jobs)
    if relaxation is None:
        return generated
    relaxed = tables.relaxation.c
    return sa.select(relaxed.relaxed_id).where(
        relaxed.recipe_id == relaxation,
        relaxed.relaxed_id.is_not(None),
        relaxed.structure_id.in_(generated),
    )


def _labels(
    connection: sa.Connection, structures: sa.Select[Any]
) -> tuple[dict[bytes, str | None], dict[bytes, str]]:
    key = tables.structure_key.c
    query = sa.select(key.structure_id, key.symmetry_label, key.error).where(
        key.recipe_id == key_recipe()["id"], key.structure_id.in_(structures)
    )
    rows = fetch(connection, query)
    own = id_keys(ids_from_text(rows.column("structure_id"))).tolist()
    labels = dict(zip(own, rows.column("symmetry_label").to_pylist(), strict=True))
    errors = dict(zip(own, rows.column("error").to_pylist(), strict=True))
    return labels, {k: v for k, v in errors.items() if v is not None}


@dataclass(frozen=True, eq=False)
class Materials:
    """What is known of which material candidates are, under one recipe.

    Attributes:
        material: material by structure id, for those that have been identified.
        alone: materials whose structures are all among those that are judged.
    """

    material: dict[bytes, bytes]
    alone: set[bytes]

    @classmethod
    def of(
        cls,
        connection: sa.Connection,
        recipe_id: UUID,
        jobs: Sequence[UUID],
        relaxation: UUID | None = None,
    ) -> Materials:
        """Read the materials of jobs' candidates, as they are or relaxed by a recipe."""
        member = tables.material_member.c
        wanted = judged_structures(jobs, relaxation)
        (own_id,) = wanted.selected_columns
        wanted = wanted.where(own_id.is_not(None))
        own = sa.and_(member.recipe_id == recipe_id, member.structure_id.in_(wanted))
        rows = fetch(connection, sa.select(member.structure_id, member.material_id).where(own))
        structures, materials = (
            id_keys(ids_from_text(rows.column(name))).tolist()
            for name in ("structure_id", "material_id")
        )
        others = (
            sa.select(member.material_id)
            .where(
                member.recipe_id == recipe_id,
                member.material_id.in_(sa.select(member.material_id).where(own)),
                member.structure_id.not_in(wanted),
            )
            .distinct()
        )
        mixed = id_keys(ids_from_text(fetch(connection, others).column("material_id")))
        return cls(
            dict(zip(structures, materials, strict=True)), set(materials) - set(mixed.tolist())
        )

    def within(self, places: Places) -> Iterator[tuple[np.ndarray, bool]]:
        """Yield the rows of those that can match each other, and whether they surely are linked.

        Where some of a block have not been identified, all of it can.
        """
        material = np.array([self.material.get(i, b"") for i in places.ids.tolist()], "S16")
        for rows in places.by_block():
            own = material[rows]
            if (own == b"").any():
                yield rows, False
                continue
            order = np.argsort(own, kind="stable")
            cuts = np.flatnonzero(own[order][1:] != own[order][:-1]) + 1
            for part in np.split(rows[order], cuts):
                yield part, bytes(material[part[0]]) in self.alone


@dataclass(frozen=True, eq=False)
class Known:
    """Structures of the reference that have a composition of the candidates.

    Attributes:
        ids: S16 (r,).
        blocks: S20 (r,), empty where there is no reduced cell.
        labels: symmetry labels by composition.
        n_reference: how many structures the reference has.
    """

    ids: np.ndarray
    blocks: np.ndarray
    labels: dict[bytes, set[str]]
    n_reference: int

    @classmethod
    def of(
        cls, connection: sa.Connection, reference: sa.Select[Any], jobs: Sequence[UUID]
    ) -> Known:
        """Read what references hold of the compositions of jobs' candidates.

        Raises:
            UsageError: some structures of the reference have no keys yet.
        """
        key, candidate, event = (
            tables.structure_key.c, tables.candidate.c, tables.generation_event.c,
        )  # fmt: skip
        wanted = (
            sa.select(candidate.composition_id)
            .join(tables.generation_event, event.candidate_id == candidate.id)
            .where(event.job_id.in_(jobs), candidate.structure_id.is_not(None))
        )
        query = sa.select(
            key.structure_id, key.composition_id, key.n_reduced, key.symmetry_label
        ).where(
            key.recipe_id == key_recipe()["id"],
            key.composition_id.in_(wanted),
            key.structure_id.in_(reference),
        )
        rows = fetch(connection, query)
        compositions = ids_from_text(rows.column("composition_id"))
        blocks = np.zeros((len(rows), 20), np.uint8)
        blocks[:, :16] = compositions
        sites = rows.column("n_reduced").fill_null(0).to_numpy().astype(">u4")
        blocks[:, 16:] = np.ascontiguousarray(sites).view(np.uint8).reshape(-1, 4)
        labels: dict[bytes, set[str]] = {}
        stated = rows.column("symmetry_label").to_pylist()
        for own, label in zip(id_keys(compositions).tolist(), stated, strict=True):
            labels.setdefault(own, set()).add(label or "")
        every = reference.subquery()
        count = sa.select(sa.func.count()).select_from(every)
        n = connection.scalar(count) or 0
        keyed = connection.scalar(
            count.join(tables.structure_key, key.structure_id == every.c.structure_id).where(
                key.recipe_id == key_recipe()["id"]
            )
        )
        if keyed != n:
            raise UsageError(
                f"{n - (keyed or 0):,} structures of the reference have no keys yet; "
                "begin with: gandb identify"
            )
        ids = id_keys(ids_from_text(rows.column("structure_id")))
        order = np.argsort(ids, kind="stable")
        return cls(ids[order], blocks.view("S20").reshape(-1)[order], labels, n)
