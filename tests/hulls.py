"""Small stores for hulls: computed entries as files, and relaxations as if a potential had run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import sqlalchemy as sa

from gandb.core.crystals import Crystal
from gandb.datasets import selection, versions
from gandb.schema import tables
from gandb.store import Store
from gandb.tasks.parts import raw_ids
from gandb.tasks.preparing import composition_batch, part_of_crystals, symmetry_recipe
from gandb.tasks.records import records_job
from gandb.tasks.rows import Compositions, merge_compositions, recipe_row
from gandb.validation.symmetry import SYMPREC
from tests.tasks.labs import work
from tests.variants import Cell


@dataclass(frozen=True)
class Calculation:
    """An entry to be: energies in eV/atom, the first as calculated."""

    name: str
    cell: Cell
    energy: float
    correction: float = 0.0
    parameters: Mapping[str, Any] | None = None
    formation: float | None = None


def structure_json(cell: Cell) -> dict[str, Any]:
    """Write a cell as pymatgen does."""
    sites = [
        {"species": [{"element": name, "occu": 1}], "abc": place.tolist(), "label": name}
        for name, place in zip(cell.species, cell.frac_coords, strict=True)
    ]
    return {"@class": "Structure", "lattice": {"matrix": cell.lattice.tolist()}, "sites": sites}


def write_entries(path: Path, calculations: Iterable[Calculation]) -> Path:
    """Write computed entries as the Materials Project does."""
    listed = [
        {
            "@module": "pymatgen.entries.computed_entries",
            "@class": "ComputedStructureEntry",
            "energy": c.energy * len(c.cell),
            "correction": c.correction * len(c.cell),
            "composition": {s: c.cell.species.count(s) for s in sorted(set(c.cell.species))},
            "entry_id": c.name,
            "parameters": c.parameters or {},
            "data": {} if c.formation is None else {"formation_energy_per_atom": c.formation},
            "structure": structure_json(c.cell),
        }
        for c in calculations
    ]
    path.write_text(json.dumps(listed))
    return path


def dataset(
    store: Store, folder: Path, name: str, calculations: Iterable[Calculation]
) -> versions.Version:
    """Import calculations and make a version of them."""
    work(store, records_job(name, [write_entries(folder / f"{name}.json", calculations)]))
    chosen = selection.by_condition(store, f"source = '{name}'")
    return versions.create(store, name, chosen, "all of them")[0]


@dataclass(frozen=True)
class Relaxation:
    """What a potential is to have made of a crystal; energies in eV/atom."""

    before: Crystal
    energy: float | None
    after: Crystal | None = None
    converged: bool = True


def relax(store: Store, done: Iterable[Relaxation], potential: str = "CHGNet-0.3.0") -> UUID:
    """Write relaxations, with the structures that came of them; return the recipe's id."""
    recipe = recipe_row("relaxation", "1", {"potential": {"name": potential}, "max_force": 0.05})
    listed = list(done)
    after = {(r.after or r.before).id: r.after or r.before for r in listed if r.energy is not None}
    part = part_of_crystals(list(after.values()), (SYMPREC,))
    compositions = part["compositions"]
    rows = [
        {
            "recipe_id": recipe["id"].bytes,
            "structure_id": r.before.id.bytes,
            "relaxed_id": None if r.energy is None else (r.after or r.before).id.bytes,
            "energy_per_atom": r.energy,
            "converged": None if r.energy is None else r.converged,
            "n_steps": 3,
            "error": "it came apart" if r.energy is None else None,
        }
        for r in listed
    ]
    columns = {
        name: [row[name] for row in rows]
        for name in ("energy_per_atom", "converged", "n_steps", "error")
    }
    types = [pa.float64(), pa.bool_(), pa.int32(), pa.string()]
    ids = {
        name: pa.ExtensionArray.from_storage(
            pa.uuid(), pa.array([row[name] for row in rows], pa.binary(16))
        )
        for name in ("recipe_id", "structure_id", "relaxed_id")
    }
    plain = {
        name: pa.array(values, kind)
        for (name, values), kind in zip(columns.items(), types, strict=True)
    }
    with store.write() as tx:
        tx.insert_new(tables.recipe, recipe)
        tx.insert_new(tables.recipe, symmetry_recipe(SYMPREC))
        merge_compositions(
            tx,
            Compositions.of(raw_ids(compositions.column("id")), composition_batch(compositions)),
        )
        tx.merge(tables.structure, part["structures"])
        tx.merge(tables.structure_symmetry, part["symmetry"])
        tx.merge(tables.relaxation, pa.table({**ids, **plain}))
    own: UUID = recipe["id"]
    return own


def stabilities(store: Store, recipe_id: str) -> dict[str, dict[str, Any]]:
    """Return the rows of ``stability`` of a recipe by structure."""
    own = tables.stability.c
    query = sa.select(tables.stability).where(own.recipe_id == UUID(recipe_id))
    with store.read() as connection:
        return {str(r["structure_id"]): dict(r) for r in connection.execute(query).mappings()}
