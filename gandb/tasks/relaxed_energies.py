"""What a relaxation recipe made of structures: their energies, on the scale of a scheme."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from gandb.core.compositions import CompositionBatch
from gandb.core.errors import NotFoundError, UsageError
from gandb.core.pool import Pool, default_processes
from gandb.energies.corrections import NONE, correct_crystal
from gandb.energies.elements import Relaxed
from gandb.schema import tables
from gandb.store import Store
from gandb.store.bulk import fetch
from gandb.tasks.data import stored_compositions
from gandb.tasks.hull_phases import Phases, entries_of
from gandb.tasks.structures import crystals_of

_PIECE = 200
_FEW = 2_000  # up to so many, other processes are not worth their start


@dataclass(frozen=True)
class Recipe:
    """A relaxation recipe that structures were relaxed by.

    Attributes:
        potential: name of its potential.
        n: how many of the structures that were asked about have a row.
    """

    id: UUID
    potential: str
    n: int


def find_relaxation(store: Store, structures: sa.Select[Any], text: str | None) -> Recipe:
    """Find the recipe by which structures were relaxed.

    Args:
        store: where to look.
        structures: query for their ids.
        text: beginning of the recipe's id, or the name of its potential; None for the only one.

    Raises:
        NotFoundError: none of the structures was relaxed, or not by such a recipe.
        UsageError: several recipes fit.
    """
    relaxation, recipe = tables.relaxation.c, tables.recipe.c
    query = (
        sa.select(recipe.id, sa.func.count().label("n"))
        .join(tables.relaxation, relaxation.recipe_id == recipe.id)
        .where(relaxation.structure_id.in_(structures))
        .group_by(recipe.id)
    )
    with store.read() as connection:
        counts = {row.id: int(row.n) for row in connection.execute(query)}
        stated = connection.execute(
            sa.select(recipe.id, recipe.parameters).where(recipe.id.in_(counts))
        )
        found = sorted(
            (Recipe(row.id, potential_of(row.parameters), counts[row.id]) for row in stated),
            key=lambda r: str(r.id),
        )
    if not found:
        raise NotFoundError("none of these structures was relaxed; begin with: gandb relax")
    wanted = (text or "").lower()
    fits = [r for r in found if str(r.id).startswith(wanted)] or [
        r for r in found if r.potential.lower().startswith(wanted)
    ]
    told = "; ".join(f"{str(r.id)[:8]} ({r.potential}, {r.n:,} structures)" for r in found)
    if not fits:
        raise NotFoundError(f"they were not relaxed by {text!r}, but by: {told}")
    if len(fits) > 1:
        raise UsageError(f"they were relaxed by several recipes; name one of them: {told}")
    return fits[0]


def relax_options(store: Store, recipe_id: UUID) -> str | None:
    """Return the options of ``gandb relax`` that ask for a recipe; None if no job here has it."""
    job = tables.job.c
    query = sa.select(job.spec).where(job.kind == "relax").order_by(job.created_at, job.id)
    with store.read() as connection:
        for spec in connection.scalars(query):
            if spec["recipe"] == str(recipe_id):
                own = spec["parameters"]
                return (
                    f"--potential {spec['potential']} --max-force {own['max_force']:g} "
                    f"--max-steps {own['max_steps']}"
                )
    return None


def potential_of(parameters: Mapping[str, Any]) -> str:
    """Return the name of the potential of a relaxation recipe."""
    potential = parameters.get("potential")
    if isinstance(potential, Mapping):
        potential = potential.get("name")
    return str(potential or "unknown")


@dataclass(frozen=True, eq=False)
class RelaxedSet:
    """Structures that were relaxed by a recipe; n of them, sorted by id.

    Attributes:
        ids: structure ids as texts, as they were before.
        compositions: reduced.
        energies: float64 (n,), with corrections, eV/atom; NaN with an error.
        corrections: float64 (n,), what of these are corrections, eV/atom; NaN likewise.
        converged: bool (n,).
        errors: why there is no energy; None where there is one.
    """

    ids: list[str]
    compositions: CompositionBatch
    energies: np.ndarray
    corrections: np.ndarray
    converged: np.ndarray
    errors: list[str | None]

    def __len__(self) -> int:
        return len(self.ids)


def relaxed_set(
    store: Store, recipe_id: UUID, structures: sa.Select[Any], scheme: str
) -> RelaxedSet:
    """Read what a recipe made of structures, and correct the energies by a scheme.

    Raises:
        MissingExtraError: the scheme needs pymatgen.
    """
    relaxation, structure = tables.relaxation.c, tables.structure.c
    query = (
        sa.select(
            relaxation.structure_id,
            relaxation.relaxed_id,
            tables.composition.c.reduced_formula,
            relaxation.energy_per_atom,
            relaxation.converged,
            relaxation.error,
        )
        .join(tables.structure, structure.id == relaxation.structure_id)
        .join(tables.composition, tables.composition.c.id == structure.composition_id)
        .where(relaxation.recipe_id == recipe_id, relaxation.structure_id.in_(structures))
        .order_by(relaxation.structure_id)
    )
    with store.read() as connection:
        rows = fetch(connection, query)
    errors = [
        None if error is None else f"the relaxation failed: {error}"
        for error in rows.column("error").to_pylist()
    ]
    energies = rows.column("energy_per_atom").to_numpy(zero_copy_only=False).astype(np.float64)
    corrections = np.zeros(len(rows))
    if scheme != NONE:
        _correct(store, rows, scheme, corrections, errors)
    corrections[np.isnan(energies) | np.array([e is not None for e in errors], bool)] = np.nan
    return RelaxedSet(
        ids=rows.column("structure_id").to_pylist(),
        compositions=stored_compositions(rows.column("reduced_formula")),
        energies=energies + corrections,
        corrections=corrections,
        converged=np.array([bool(c) for c in rows.column("converged").to_pylist()], bool),
        errors=errors,
    )


def _correct(
    store: Store,
    rows: pa.Table,
    scheme: str,
    corrections: np.ndarray,
    errors: list[str | None],
) -> None:
    relaxed = rows.column("relaxed_id").to_pylist()
    places = [row for row, own in enumerate(relaxed) if own is not None and errors[row] is None]

    def pieces() -> Any:
        for start in range(0, len(places), _PIECE):
            part = [relaxed[row] for row in places[start : start + _PIECE]]
            known = crystals_of(store, part)
            yield scheme, [known[own] for own in part]

    processes = default_processes() if len(places) > _FEW else 0
    done = 0
    with Pool(_correct_piece, processes) as pool:
        for found in pool.map(pieces()):
            for result in found:
                row = places[done]
                done += 1
                if isinstance(result, str):
                    errors[row] = f"cannot be corrected: {result}"
                else:
                    corrections[row] = result


def _correct_piece(piece: tuple[str, list[Any]]) -> list[float | str]:
    scheme, listed = piece
    found: list[float | str] = []
    for crystal in listed:
        try:
            found.append(correct_crystal(crystal, scheme))
        except ValueError as error:
            found.append(str(error))
    return found


def relaxed_phases(store: Store, versions: Sequence[str], recipe_id: UUID, scheme: str) -> Phases:
    """Return the entries of dataset versions whose structures a recipe relaxed, by its energies.

    Entries that share a structure count once. What was not relaxed, or did not converge, is left
    out and counted.
    """
    entry, own = tables.entry.c, entries_of(versions)
    structures = (
        sa.select(entry.structure_id)
        .join(own, own.c.entry_id == entry.id)
        .where(entry.structure_id.is_not(None))
    )
    found = relaxed_set(store, recipe_id, structures, scheme)
    counting = sa.select(
        sa.func.count().label("entries"),
        sa.func.count(entry.structure_id).label("with_structure"),
        sa.func.count(sa.distinct(entry.structure_id)).label("structures"),
    ).join(own, own.c.entry_id == entry.id)
    with store.read() as connection:
        counts = connection.execute(counting).one()
    failed = np.array([e is not None for e in found.errors], bool)
    held = np.flatnonzero(~failed & found.converged)
    left_out = Counter(
        {
            "the entry has no structure": counts.entries - counts.with_structure,
            "its structure has not been relaxed": counts.structures - len(found),
            "the relaxation failed": int(failed.sum()),
            "the relaxation did not converge": int((~failed & ~found.converged).sum()),
        }
    )
    return Phases(
        found.compositions.take(held),
        found.energies[held],
        found.corrections[held],
        [found.ids[row] for row in held.tolist()],
        {reason: n for reason, n in left_out.items() if n},
    )


def relaxed_by_id(
    connection: sa.Connection, recipe_id: UUID, ids: Sequence[str]
) -> dict[str, Relaxed]:
    """Return what a recipe made of structures with these ids, without corrections."""
    relaxation = tables.relaxation.c
    query = sa.select(
        relaxation.structure_id, relaxation.energy_per_atom, relaxation.converged, relaxation.error
    ).where(relaxation.recipe_id == recipe_id, relaxation.structure_id.in_(map(UUID, ids)))
    found = {}
    for own, energy, converged, error in connection.execute(query):
        if error is not None:
            found[str(own)] = Relaxed(None, f"the relaxation failed: {error}")
        elif not converged:
            found[str(own)] = Relaxed(None, "the relaxation did not converge")
        else:
            found[str(own)] = Relaxed(float(energy))
    return found
