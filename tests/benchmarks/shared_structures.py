"""A store of entries with structures, to be handed on.

The structures are textbook prototypes with other elements and other cells, as a store would have
them; what their symmetry is was not searched for, but stated.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from gandb.core.compositions import CompositionBatch, uuid_array
from gandb.core.config import Settings
from gandb.core.crystal_batches import CrystalBatch
from gandb.core.elements import SYMBOLS
from gandb.datasets import selection, versions
from gandb.jobs.queue import now
from gandb.schema import tables
from gandb.sharing.origin import set_origin
from gandb.store import Store
from gandb.tasks.importing import snapshot_id
from gandb.tasks.preparing import symmetry_recipe
from gandb.tasks.rows import (
    Compositions,
    entry_ids,
    merge_compositions,
    repeat_id,
)
from gandb.validation.symmetry import SYMPREC
from tests.crowds import fluorite, perovskite, rocksalt, rutile

PIECE = 50_000
LICENCE = "CC-BY-4.0"
PROTOTYPES = (
    (rocksalt(5.0, "Na", "Cl"), 225),
    (fluorite(5.2, "Na", "Cl"), 225),
    (rutile(4.6, 3.0, 0.305, "Na", "Cl"), 136),
    (perovskite(4.0, "Na", "Cl", "Ca"), 221),
)
_METALS = [z for z in range(3, 90) if z not in (2, 10, 18, 36, 54, 86)]


def make_store(place: str, n: int) -> None:
    """Make a store of n entries with a structure each, and a dataset version of them all."""
    store = Store.create(Settings(store=place))
    set_origin(store, "bench")
    spec = {
        "source": "bench", "release": None, "filter": None, "files": [], "mapping": {},
        "join": "none",
    }  # fmt: skip
    own = snapshot_id(spec)
    row = {
        "id": own, "source": "bench", "release": None, "filter": None, "files": [],
        "options": {"mapping": {}, "join": "none"}, "licence": LICENCE, "attribution": "nobody",
        "n_rows": n, "n_entries": n, "n_rejects": 0, "imported_at": now(),
    }  # fmt: skip
    recipe = symmetry_recipe(SYMPREC)
    with store.write() as tx:
        tx.insert_new(tables.source_snapshot, row)
        tx.insert_new(tables.recipe, recipe)
    begin = 0
    for crystals, numbers, group in _crystals(n):
        with store.write() as tx:
            batch = CompositionBatch.from_slots(*numbers).reduced()[0]
            unique = batch.unique()
            compositions = unique.ids[unique.inverse]
            merge_compositions(tx, Compositions.of(unique.ids, batch.take(unique.first)))
            structures = _structures(crystals, compositions, group)
            tx.merge(tables.structure, structures)
            symmetry = _symmetry(structures, recipe, group)
            tx.merge(tables.structure_symmetry, symmetry)
            entries = _entries(structures, batch, compositions, begin, group)
            tx.append(tables.entry, entries)
            tx.append(
                tables.snapshot_entry,
                pa.table(
                    {
                        "snapshot_id": repeat_id(own, len(entries)),
                        "entry_id": entries.column("id"),
                    }
                ),
            )
            begin += len(entries)
    versions.create(store, "all", selection.by_condition(store, "source = 'bench'"), "everything")


def _crystals(
    n: int,
) -> Iterator[tuple[CrystalBatch, tuple[np.ndarray, np.ndarray], int]]:
    """Yield n crystals in pieces, with their elements in slots and their space group."""
    rng = np.random.default_rng(0)
    made = 0
    while made < n:
        for cell, group in PROTOTYPES:
            size = min(PIECE, n - made)
            if size:
                yield _piece(cell.crystal(), group, size, rng)
                made += size


def _piece(
    crystal: object, group: int, n: int, rng: np.random.Generator
) -> tuple[CrystalBatch, tuple[np.ndarray, np.ndarray], int]:
    species, coords = crystal.species, crystal.frac_coords  # type: ignore[attr-defined]
    kinds = list(dict.fromkeys(species))
    chosen = np.sort(
        np.array([rng.choice(_METALS, len(kinds), replace=False) for _ in range(n)]), axis=1
    )
    of = np.array([kinds.index(s) for s in species])
    scale = rng.uniform(0.8, 1.3, (n, 1))
    lengths = crystal.lengths * scale  # type: ignore[attr-defined]
    angles = np.tile(crystal.angles, (n, 1))  # type: ignore[attr-defined]
    cells = np.rint(np.hstack([lengths, angles]) * 1e8) / 1e8
    counts = np.tile(np.bincount(of).astype(np.uint16), (n, 1))
    batch = CrystalBatch(
        cells=cells,
        offsets=np.arange(n + 1, dtype=np.int64) * len(species),
        texts=list(SYMBOLS),
        codes=chosen[:, of].reshape(-1).astype(np.int32),
        frac_coords=np.tile(coords, (n, 1)),
        properties=[None] * n,
        charges=np.full(n, np.nan),
    )
    return batch, (chosen.astype(np.uint8), counts), group


def _lists(flat: pa.Array, size: int) -> pa.ListArray:
    offsets = np.arange(0, len(flat) + 1, size, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), flat)


def _structures(crystals: CrystalBatch, compositions: np.ndarray, group: int) -> pa.Table:
    n = len(crystals)
    sites = int(crystals.offsets[1])
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    texts = pa.array(crystals.texts).take(pa.array(crystals.codes))
    return pa.table(
        {
            "id": uuid_array(crystals.ids()),
            "composition_id": uuid_array(compositions),
            "n_sites": pa.array(np.full(n, sites, np.int32)),
            "ordered": pa.array(np.ones(n, bool)),
            **{name: pa.array(crystals.cells[:, i]) for i, name in enumerate(names)},
            "volume": pa.array(crystals.volumes),
            "space_group_number": pa.array(np.full(n, group, np.int16)),
            "space_group_symbol": pa.array(["Fm-3m"] * n),
            "species": _lists(texts, sites),
            "frac_coords": _lists(pa.array(crystals.frac_coords.reshape(-1)), 3 * sites),
        }
    )


def _symmetry(structures: pa.Table, recipe: dict[str, object], group: int) -> pa.Table:
    n = len(structures)
    sites = structures.column("n_sites")[0].as_py()
    letters = list(itertools.islice(itertools.cycle("abc"), n * sites))
    return pa.table(
        {
            "structure_id": structures.column("id"),
            "recipe_id": repeat_id(recipe["id"], n),  # type: ignore[arg-type]
            "space_group_number": pa.array(np.full(n, group, np.int16)),
            "space_group_symbol": structures.column("space_group_symbol"),
            "hall_number": pa.array(np.full(n, 1, np.int16)),
            "wyckoff_letters": _lists(pa.array(letters), sites),
            "site_symmetries": _lists(pa.array(["m-3m"] * (n * sites)), sites),
            "symprec": pa.array(np.full(n, SYMPREC)),
        }
    )


def _entries(
    structures: pa.Table,
    batch: CompositionBatch,
    compositions: np.ndarray,
    begin: int,
    group: int,
) -> pa.Table:
    n = len(structures)
    external = [f"bench-{begin + i}" for i in range(n)]
    energy = np.random.default_rng(begin).normal(-1, 1, n)
    zeros = np.zeros(n, np.int32)
    raw = np.frombuffer(
        structures.column("id").combine_chunks().storage.buffers()[1], np.uint8
    ).reshape(-1, 16)
    ids = entry_ids(
        "bench",
        compositions,
        zeros,
        {"formation_energy_per_atom": energy},
        external_ids=external,
        structures=(raw[:n], np.ones(n, bool)),
    )
    return pa.table(
        {
            "id": uuid_array(ids),
            "source": ["bench"] * n,
            "external_id": external,
            "composition_id": uuid_array(compositions),
            "formula": batch.reduced_formulas(),
            "formula_units": pa.array(np.ones(n, np.int32)),
            "ordinal": pa.array(zeros),
            "formation_energy_per_atom": pa.array(energy),
            "structure_id": structures.column("id"),
            "n_sites": structures.column("n_sites"),
            "space_group_number": pa.array(np.full(n, group, np.int16)),
        }
    )
