"""Energies of a dataset version's entries for hulls: which count, on which scale, which do not."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa

from gandb.core.compositions import CompositionBatch
from gandb.core.crystals import Crystal
from gandb.datasets.versions import members_query
from gandb.energies.corrections import NONE, correct_calculation
from gandb.energies.elements import ElementEntry
from gandb.schema import tables
from gandb.store import Store
from gandb.store.bulk import fetch
from gandb.tasks.data import stored_compositions
from gandb.tasks.structures import crystals_of

TOTAL, FORMATION, POTENTIAL = "total", "formation", "potential"
ENERGIES = (FORMATION, TOTAL, POTENTIAL)
"""What energies a hull can be of: of formation or total as entries state them, or total ones by the
potential of a relaxation recipe."""
STATED = "stated"
"""Scheme of energies as their source states them, with whatever corrections these have."""
_LISTED = 2_000  # structures that a query names one by one


@dataclass(frozen=True, eq=False)
class Phases:
    """Entries with an energy; n of them, sorted by entry id.

    Attributes:
        compositions: reduced.
        energies: float64 (n,), eV/atom.
        corrections: float64 (n,), what of these are corrections, eV/atom; NaN where not known.
        structures: structure ids as texts, None where there is none.
        left_out: how many entries have no energy that counts, by reason.
    """

    compositions: CompositionBatch
    energies: np.ndarray
    corrections: np.ndarray
    structures: list[str | None]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.energies)

    @property
    def digest(self) -> str:
        """A hash of all compositions with their energies, in whatever order they came."""
        ids = self.compositions.ids()
        values = np.ascontiguousarray(self.energies + 0.0, "<f8").view(np.uint8).reshape(-1, 8)
        rows = np.ascontiguousarray(np.hstack([ids, values])).view("S24").reshape(-1)
        ordered = np.sort(rows)
        data = np.ascontiguousarray(ordered).view(np.uint8).tobytes()
        return hashlib.blake2b(data, digest_size=16).hexdigest()


def entries_of(versions: Sequence[str], split: str | None = None) -> sa.Subquery:
    """Return the distinct ids of all entries of dataset versions, or of one split of them."""
    parts = []
    for version in versions:
        members = members_query(UUID(version)).subquery()
        query = sa.select(members.c.entry_id)
        parts.append(query if split is None else query.where(members.c.split == split))
    return sa.union(*parts).subquery()


def stated_counts(connection: sa.Connection, versions: Sequence[str]) -> dict[str, int]:
    """Return how many entries of dataset versions state energies of each kind."""
    entry, own = tables.entry.c, entries_of(versions)
    query = sa.select(
        sa.func.count().label("entries"),
        sa.func.count(entry.energy_per_atom).label(TOTAL),
        sa.func.count(entry.formation_energy_per_atom).label(FORMATION),
    ).join(own, own.c.entry_id == entry.id)
    return dict(connection.execute(query).mappings().one())


def element_entries(connection: sa.Connection, versions: Sequence[str]) -> list[ElementEntry]:
    """Return what entries of dataset versions state of the elements' own phases."""
    entry, own = tables.entry.c, entries_of(versions)
    query = (
        sa.select(
            tables.composition.c.chemical_system,
            entry.source,
            entry.structure_id,
            entry.energy_above_hull,
            entry.formation_energy_per_atom,
            entry.energy_per_atom,
        )
        .join(own, own.c.entry_id == entry.id)
        .join(tables.composition, tables.composition.c.id == entry.composition_id)
        .where(tables.composition.c.n_elements == 1)
    )
    return [
        ElementEntry(
            symbol,
            source,
            None if structure is None else str(structure),
            formation if above is None else above,
            total,
        )
        for symbol, source, structure, above, formation, total in connection.execute(query)
    ]


def stated_phases(
    store: Store,
    versions: Sequence[str],
    energies: str,
    scheme: str,
    split: str | None = None,
) -> Phases:
    """Return the entries of dataset versions with the energies that they state.

    Args:
        store: where they are.
        versions: dataset version ids.
        energies: ``formation``, or ``total``.
        scheme: of total energies: ``stated``; or a scheme of `gandb.energies.corrections`, which
            then is applied to the uncorrected energies that computed entries state.
        split: of one split alone.
    """
    entry, composition, own = tables.entry.c, tables.composition.c, entries_of(versions, split)
    value = entry.formation_energy_per_atom if energies == FORMATION else entry.energy_per_atom
    columns: list[Any] = [
        entry.id,
        entry.structure_id,
        composition.reduced_formula,
        (composition.n_atoms * entry.formula_units).label("atoms"),
        value.label("value"),
    ]
    anew = energies == TOTAL and scheme != STATED
    if anew:
        columns.append(sa.cast(entry.extra, sa.Text()).label("extra"))
    query = (
        sa.select(*columns)
        .join(own, own.c.entry_id == entry.id)
        .join(tables.composition, composition.id == entry.composition_id)
        .order_by(entry.id)
    )
    with store.read() as connection:
        rows = fetch(connection, query)
    batch = stored_compositions(rows.column("reduced_formula"))
    values = rows.column("value").to_numpy(zero_copy_only=False).astype(np.float64)
    corrections = np.full(len(values), np.nan)
    left_out: Counter[str] = Counter()
    none = int(np.isnan(values).sum())
    if none:
        left_out[f"no {'formation' if energies == FORMATION else 'total'} energy is stated"] = none
    if anew:
        for row, found in _anew(store, rows.to_pylist(), batch, scheme):
            if isinstance(found, str):
                left_out[found] += 1
                values[row] = np.nan
            else:
                values[row], corrections[row] = found
    held = np.flatnonzero(~np.isnan(values))
    structures = rows.column("structure_id").to_pylist()
    return Phases(
        batch.take(held),
        values[held],
        corrections[held],
        [structures[row] for row in held.tolist()],
        dict(left_out),
    )


def _anew(
    store: Store, rows: list[dict[str, Any]], batch: CompositionBatch, scheme: str
) -> Iterator[tuple[int, tuple[float, float] | str]]:
    """Yield the entries with an energy, each with that and the correction, or why it has none."""
    stated = [row for row in range(len(rows)) if rows[row]["value"] is not None]
    for start in range(0, len(stated), _LISTED):
        part = stated[start : start + _LISTED]
        wanted = [] if scheme == NONE else [rows[row]["structure_id"] for row in part]
        known = crystals_of(store, [own for own in wanted if own is not None])
        for row in part:
            crystal = known.get(rows[row]["structure_id"])
            yield row, _corrected(rows[row], batch[row], crystal, scheme)


def _corrected(
    row: Mapping[str, Any], amounts: Mapping[str, int], crystal: Crystal | None, scheme: str
) -> tuple[float, float] | str:
    extra = json.loads(row["extra"]) if row["extra"] else {}
    energy = extra.get("uncorrected_energy")
    if energy is None:
        return "no energy without corrections is stated"
    plain = float(energy) / row["atoms"]
    before = float(extra.get("correction") or 0.0) / row["atoms"]
    if abs(plain + before - row["value"]) > 1e-6:
        return "energy, correction and number of atoms do not fit"
    try:
        added = correct_calculation(
            amounts, extra.get("parameters") or {}, extra.get("data") or {}, crystal, scheme
        )
    except ValueError as error:
        return f"cannot be corrected: {_general(str(error))}"
    return plain + added, added


def _general(reason: str) -> str:
    """Return a reason without what is particular to one entry, so that reasons can be counted."""
    for words in ("Invalid U value", "Incompatible POTCAR", "invalid run type", "does not say how"):
        if words in reason:
            return words
    return reason[:80]
