"""Structures of other elements that candidates could be substitutions of.

They are of the same kind: anonymous formula, and number of sites in the reduced cell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from gandb.identity.cells import Cells
from gandb.identity.matching import fit_anonymous_pairs
from gandb.identity.recipes import MatchRecipe
from gandb.schema import tables
from gandb.store.bulk import fetch, ids_from_text
from gandb.tasks.keyed import id_keys
from gandb.tasks.keys import key_recipe

_STRUCTURES = 300_000  # of the reference whose AMD are held at a time

Kind = tuple[str, int]
"""Anonymous formula and number of sites in the reduced cell."""


class Renaming:
    """Whether pairs match once elements of the one are renamed; see `fit_anonymous_pairs`."""

    def __init__(self, cells: Cells, recipe: MatchRecipe, threads: int) -> None:
        del threads
        self._cells, self._recipe = cells, recipe

    def fit(self, pairs: np.ndarray) -> np.ndarray:
        """Say whether the first matches the second; bool (k,)."""
        return fit_anonymous_pairs(self._cells, pairs, self._recipe)

    def measure(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return no distances: they depend on the renaming."""
        none = np.full(len(pairs), np.nan)
        return none, none


def smallest(values: np.ndarray, ids: np.ndarray, n: int) -> np.ndarray:
    """Return the places of the n smallest values; of equal ones, those with the smaller ids."""
    places = np.arange(len(values))
    if len(values) > n:
        places = np.flatnonzero(values <= np.partition(values, n - 1)[n - 1])
    order = np.lexsort((ids[places], values[places]))
    return np.asarray(places[order][:n])


def kind_sizes(
    connection: sa.Connection, reference: sa.Select[Any], kinds: Collection[Kind]
) -> dict[Kind, int]:
    """Return how many structures of each kind the reference has, for those that it has."""
    key, formula = tables.structure_key.c, tables.composition.c.anonymous_formula
    query = (
        sa.select(formula, key.n_reduced, sa.func.count().label("n"))
        .join(tables.structure_key, tables.composition.c.id == key.composition_id)
        .where(
            formula.in_(sorted({formula for formula, _ in kinds})),
            key.recipe_id == key_recipe()["id"],
            key.structure_id.in_(reference),
        )
        .group_by(formula, key.n_reduced)
    )
    rows = fetch(connection, query).to_pylist()
    found = {(row["anonymous_formula"], row["n_reduced"]): row["n"] for row in rows}
    return {kind: found[kind] for kind in sorted(kinds) if kind in found}


def kind_batches(sizes: Mapping[Kind, int]) -> Iterator[list[Kind]]:
    """Put kinds together so that memory holds their structures."""
    held: list[Kind] = []
    n = 0
    for kind, size in sizes.items():
        held.append(kind)
        n += size
        if n > _STRUCTURES:
            yield held
            held, n = [], 0
    if held:
        yield held


def structures_of_kinds(
    connection: sa.Connection, reference: sa.Select[Any], kinds: Sequence[Kind]
) -> Iterator[tuple[Kind, np.ndarray, np.ndarray]]:
    """Yield the reference's structures of each kind: ids, S16 (n,), and AMD, float32 (n, k)."""
    key, composition = tables.structure_key.c, tables.composition.c
    query = (
        sa.select(key.structure_id, composition.anonymous_formula, key.n_reduced, key.amd)
        .join(tables.composition, composition.id == key.composition_id)
        .where(
            composition.anonymous_formula.in_(sorted({formula for formula, _ in kinds})),
            key.n_reduced.in_(sorted({n for _, n in kinds})),
            key.recipe_id == key_recipe()["id"],
            key.structure_id.in_(reference),
        )
    )
    rows = fetch(connection, query)
    ids = id_keys(ids_from_text(rows.column("structure_id")))
    flat = rows.column("amd").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    amd = flat.astype(np.float32).reshape(len(rows), -1)
    formulas = np.array(rows.column("anonymous_formula").to_pylist())
    sites = rows.column("n_reduced").to_numpy()
    for kind in kinds:
        own = (formulas == kind[0]) & (sites == kind[1])
        yield kind, ids[own], amd[own]
