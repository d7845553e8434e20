"""Keys of structures: some are worked out again, as all would take as long as `identify`."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np

from gandb.core.errors import GandbError, InputError
from gandb.identity.cells import Reduced
from gandb.identity.keys import structure_key
from gandb.sharing.bundles.bundle import Bundle
from gandb.tasks.keys import key_recipe
from gandb.tasks.structures import crystal_of_row

SAMPLE = 64
"""Keys that are worked out again; all of them where there are no more."""
_AMD = 2e-3
_CLOSE = 1e-4
_RECORD = "a, b, c, alpha, beta, gamma, charge, species, frac_coords"


def verify_some_keys(connection: duckdb.DuckDBPyConnection, bundle: Bundle) -> None:
    """Compare keys with those of their structures, as this machine works them out.

    Other processors round otherwise, so numbers need not agree in their last digits.

    Args:
        connection: knows the tables of the bundle.
        bundle: the bundle.

    Raises:
        InputError: one is of something else than its structure.
    """
    recipe = str(key_recipe()["id"])
    count = "SELECT count(*) FROM structure_key WHERE recipe_id = ?"
    (n,) = connection.execute(count, [recipe]).fetchone() or (0,)
    if not n:
        return
    # Ids are hashes, so that every k-th in their order is as good as any.
    step = -(-n // SAMPLE)
    rows = connection.execute(
        "WITH numbered AS (SELECT *, row_number() OVER (ORDER BY structure_id) AS place "
        "FROM structure_key WHERE recipe_id = ?) "
        f"SELECT k.structure_id, k.n_reduced, k.volume_per_site, k.amd, k.cell, k.error, {_RECORD} "
        "FROM numbered AS k JOIN structure AS s ON s.id = k.structure_id "
        "WHERE (k.place - 1) % ? = 0 ORDER BY k.structure_id",
        [recipe, step],
    ).to_arrow_table()
    for row in rows.to_pylist():
        if (reason := _problem(row)) is not None:
            raise InputError(
                f"{bundle.path}: tables/structure_key.parquet: the key of structure "
                f"{row['structure_id']} is not its own: {reason}"
            )


def _problem(row: dict[str, Any]) -> str | None:
    try:
        own = structure_key(crystal_of_row({**row, "site_properties": None}), None, None)
    except GandbError as error:
        return None if row["cell"] is None else f"it has none ({error})"
    if row["cell"] is None:
        return f"it has one, where the key says {row['error'][:80]!r}"
    if own.n_reduced != row["n_reduced"]:
        return f"its reduced cell has {own.n_reduced} sites"
    if abs(own.volume_per_site - row["volume_per_site"]) > _CLOSE * own.volume_per_site:
        return f"its volume per site is {own.volume_per_site:.6g} Å³"
    stated, amd = np.array(row["amd"]), np.array(own.amd)
    if stated.shape != amd.shape or np.abs(stated - amd).max() > _AMD:
        return "its average minimum distances are others"
    if own.cell != row["cell"]:
        here, there = Reduced.from_bytes(own.cell), Reduced.from_bytes(row["cell"])
        alike = sorted(here.species) == sorted(there.species)
        if not alike or not np.allclose(here.lattice, there.lattice, atol=_CLOSE):
            return "its reduced cell is another"
    return None
