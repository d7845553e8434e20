"""Many structures out of few real ones: variants of them, and substitutions of their elements."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gandb.core.crystals import Crystal, CrystalError, crystal_of_matrix
from gandb.core.pool import Pool, default_processes
from gandb.schema import tables
from gandb.sources.records import Record
from gandb.store import Store, Transaction
from gandb.tasks import preparing
from gandb.tasks.parts import distinct, raw_ids
from gandb.tasks.preparing import Part, composition_batch, symmetry_recipe
from gandb.tasks.rows import Compositions, merge_compositions, repeat_id
from gandb.validation.symmetry import SYMPREC, Symmetry, SymmetryError, find_symmetry
from tests.variants import Cell, NotPossibleError, antisite, noisy, reset, strained

ELEMENTS = (
    "Li Be B C N O F Na Mg Al Si P S Cl K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Rb Sr Y "
    "Zr Nb Mo Ru Rh Pd Ag Cd In Sn Sb Te I Cs Ba La Ce Pr Nd Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta "
    "W Re Os Ir Pt Au Hg Tl Pb Bi Th U"
).split()


def substituted(cell: Cell, rng: np.random.Generator) -> Cell:
    """Give each species the name of another element; different ones stay different."""
    present = sorted(set(cell.species))
    names = rng.permutation(ELEMENTS)[: len(present)].tolist()
    renamed = dict(zip(present, names, strict=True))
    return Cell(cell.lattice, cell.frac_coords, tuple(renamed[s] for s in cell.species))


def varied(cell: Cell, turn: int, number: int) -> Cell:
    """Return what the base becomes in a turn: of five, four substituted, two varied, one both.

    A varied one is strained by 1 % and moved by 0.02 Å; in every tenth turn two sites of different
    species are exchanged. So bases of one substitution are alike in structure, as in reality.
    """
    rng = np.random.default_rng(number)
    if turn and turn % 5:
        cell = substituted(cell, rng)
    if turn and turn % 5 in (0, 4):
        cell = noisy(strained(cell, rng, 0.01), rng, 0.02)
    if turn and turn % 10 == 0:
        with contextlib.suppress(NotPossibleError):
            cell = antisite(cell, rng)
    return cell


def candidates(bases: Sequence[Crystal], n: int, seed: int) -> Iterator[Cell]:
    """Yield n cells as a generator may give them: known ones moved a little, others renamed."""
    rng = np.random.default_rng(seed)
    made = 0
    while made < n:
        cell = Cell.of(bases[int(rng.integers(len(bases)))])
        if rng.random() < 0.7:
            cell = substituted(cell, rng)
        cell = reset(noisy(strained(cell, rng, 0.01), rng, 0.05), rng)
        try:
            cell.crystal()
        except CrystalError:
            continue
        made += 1
        yield cell


def write(path: Path, cells: Iterator[Cell], prefix: str) -> None:
    """Write cells as Parquet in the columns of LeMat-Bulk (https://huggingface.co/LeMaterial)."""
    rows = list(cells)
    columns = {
        "immutable_id": [f"{prefix}-{i}" for i in range(len(rows))],
        "lattice_vectors": [c.lattice.tolist() for c in rows],
        "species_at_sites": [list(c.species) for c in rows],
        "cartesian_site_positions": [(c.frac_coords @ c.lattice).tolist() for c in rows],
    }
    pq.write_table(pa.table(columns), path)


# --- straight into a store -----------------------------------------------------------------


@dataclass(frozen=True)
class Base:
    """A real crystal with its symmetry."""

    crystal: Crystal
    symmetry: Symmetry


def bases_of(crystals: Sequence[Crystal]) -> list[Base]:
    """Return those crystals whose symmetry is found."""
    found = []
    with Pool(_search, default_processes()) as pool:
        pieces = [crystals[i : i + 500] for i in range(0, len(crystals), 500)]
        for piece, results in zip(pieces, pool.map(pieces), strict=True):
            found += [Base(c, s) for c, s in zip(piece, results, strict=True) if s is not None]
    return found


def _search(crystals: Sequence[Crystal]) -> list[Symmetry | None]:
    found: list[Symmetry | None] = []
    for crystal in crystals:
        try:
            found.append(find_symmetry(crystal))
        except SymmetryError:
            found.append(None)
    return found


def fill(store: Store, bases: Sequence[Base], n: int, begin: int = 0) -> int:
    """Put the derived structures number ``begin`` to ``begin + n`` in a store, with entries.

    As an import does, without the search for symmetry: substitution keeps it, and what was moved
    counts as P1. Returns how many distinct structures came in.
    """
    snapshot = {**_snapshot(n), "id": UUID(int=begin + 1)}
    pieces = [(k, min(k + 500, begin + n)) for k in range(begin, begin + n, 500)]
    new = 0
    with Pool(_Derive(tuple(bases)), default_processes()) as pool:
        held: list[Part] = []
        for k, part in enumerate(pool.map(pieces)):
            held.append(part)
            if len(held) == 200 or k == len(pieces) - 1:
                with store.write() as tx:
                    tx.insert_new(tables.source_snapshot, snapshot)
                    tx.insert_new(tables.recipe, symmetry_recipe(SYMPREC))
                    new += _take_in(tx, held, snapshot["id"])
                held = []
    return new


def put(store: Store, crystals: Sequence[Crystal], batch: int) -> None:
    """Put crystals in a store as entries of one snapshot, without a search for symmetry."""
    read = []
    for number, crystal in enumerate(crystals):
        record = Record(file="many", line=number, external_id=str(crystal.id))
        read.append(preparing.Checked(record, crystal, crystal.counts(), [p1(len(crystal))]))
    part = preparing.part_of("many", read, (SYMPREC,))
    snapshot = {**_snapshot(len(crystals)), "id": UUID(int=(1 << 64) + batch)}
    with store.write() as tx:
        tx.insert_new(tables.source_snapshot, snapshot)
        tx.insert_new(tables.recipe, symmetry_recipe(SYMPREC))
        _take_in(tx, [part], snapshot["id"])


def p1(n: int) -> Symmetry:
    """Return what stands for a symmetry that was not looked for."""
    return Symmetry(1, "P1", 1, "triclinic", "1", "aP1", ("a",) * n, ("1",) * n, (), n, SYMPREC)


def _snapshot(n: int) -> dict[str, Any]:
    return {
        "source": "many",
        "files": [],
        "options": {},
        "licence": "none",
        "attribution": "made up from OQMD and others",
        "n_rows": n,
        "n_entries": n,
        "n_rejects": 0,
        "imported_at": dt.datetime(2026, 1, 1),
        "release": None,
        "filter": None,
        "parser": None,
        "n_repeats": 0,
        "endpoint": None,
    }


def _take_in(tx: Transaction, held: Sequence[Part], snapshot_id: UUID) -> int:
    whole = {name: pa.concat_tables([part[name] for part in held]) for name in held[0]}
    listed = distinct(whole["compositions"], "id")
    batch = composition_batch(listed.combine_chunks())
    merge_compositions(tx, Compositions.of(raw_ids(listed.column("id")), batch))
    new = tx.merge(tables.structure, distinct(whole["structures"], "id"))
    tx.merge(tables.structure_symmetry, distinct(whole["symmetry"], "structure_id"))
    entries = distinct(whole["entries"], "id").drop_columns(["file", "line"])
    n = len(entries)
    entries = entries.append_column("source", pa.repeat(pa.scalar("many"), n))
    tx.merge(tables.entry, entries.append_column("ordinal", pa.repeat(pa.scalar(0, pa.int32()), n)))
    members = {"snapshot_id": repeat_id(snapshot_id, n), "entry_id": entries.column("id")}
    tx.merge(tables.snapshot_entry, pa.table(members))
    return new


@dataclass(frozen=True)
class _Derive:
    """Makes the derived structures of a range of numbers, as rows of tables."""

    bases: tuple[Base, ...]

    def __call__(self, span: tuple[int, int]) -> Part:
        read = []
        for number in range(*span):
            turn, place = divmod(number, len(self.bases))
            base = self.bases[place]
            cell, symmetry = varied(Cell.of(base.crystal), turn, number), base.symmetry
            if turn and turn % 5 in (0, 4):
                symmetry = p1(len(cell))
            sites = {"w": symmetry.wyckoff_letters, "s": symmetry.site_symmetries}
            marked = crystal_of_matrix(
                cell.lattice, cell.species, cell.frac_coords, properties=sites
            )
            symmetry = replace(
                symmetry,
                wyckoff_letters=marked.properties["w"],
                site_symmetries=marked.properties["s"],
            )
            crystal = replace(marked, properties={})
            record = Record(file="many", line=number, external_id=f"many-{number}")
            read.append(preparing.Checked(record, crystal, crystal.counts(), [symmetry]))
        return preparing.part_of("many", read, (SYMPREC,))
