"""Small stores with entries to choose from, and what their members are by plain counting."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from gandb.core.compositions import CompositionBatch, uuid_array
from gandb.core.config import Settings
from gandb.core.ids import Domain
from gandb.core.kernels import hash_rows
from gandb.datasets.versions import Selection
from gandb.schema import tables
from gandb.store import Store

POLYMORPHS = 2
"""Entries per composition."""


def make_store(url: str, n_compositions: int, shuffle: int | None = None) -> Store:
    """Make a store of binary compositions with two entries each, inserted in some order."""
    store = Store.create(Settings(store=url))
    batch = compositions(n_compositions)
    ids = batch.ids()
    n = n_compositions * POLYMORPHS
    of = np.repeat(np.arange(n_compositions), POLYMORPHS)
    order = np.arange(n) if shuffle is None else np.random.default_rng(shuffle).permutation(n)
    owners = of[order]
    first = np.arange(n_compositions) if shuffle is None else np.unique(owners)[::-1]
    with store.write() as tx:
        tx.merge(
            tables.composition,
            pa.table(
                {
                    "id": uuid_array(ids[first]),
                    "reduced_formula": batch.reduced_formulas().take(first),
                    "chemical_system": batch.chemical_systems().take(first),
                    "anonymous_formula": batch.anonymous_formulas().take(first),
                    "elements": batch.element_lists().take(first),
                    "n_elements": pa.array(batch.n_elements[first].astype(np.int16)),
                    "n_atoms": pa.array(batch.n_atoms[first].astype(np.int32)),
                }
            ),
        )
        tx.merge(
            tables.entry,
            pa.table(
                {
                    "id": uuid_array(entry_ids(n)[order]),
                    "source": ["mp"] * n,
                    "external_id": [f"mp-{i}" for i in order],
                    "composition_id": uuid_array(ids[owners]),
                    "formula": batch.reduced_formulas().take(owners),
                    "formula_units": pa.array(np.ones(n, np.int32)),
                    "ordinal": pa.array(np.zeros(n, np.int32)),
                    "band_gap": pa.array(order.astype(float)),
                }
            ),
        )
    return store


def compositions(n: int) -> CompositionBatch:
    """Return n different reduced binary compositions."""
    z = np.tile(np.array([3, 8], np.uint8), (n, 1))
    z[:, 0] = 1 + np.arange(n) % 7
    z[:, 1] = 8 + (np.arange(n) // 7) % 80
    counts = np.ones((n, 2), np.uint16)
    counts[:, 1] = 1 + np.arange(n) // 560
    return CompositionBatch.from_slots(z, counts)


def entry_ids(n: int) -> np.ndarray:
    """Return n ids, uint8 (n, 16)."""
    return hash_rows(np.arange(n, dtype="<u8").view(np.uint8).reshape(n, 8), Domain.ENTRY)


def selection(rows: list[int] | np.ndarray, n_compositions: int) -> Selection:
    """Choose entries by their number."""
    chosen = np.asarray(rows, np.int64)
    ids = entry_ids(n_compositions * POLYMORPHS)
    return Selection(
        ids[chosen], compositions(n_compositions).ids()[chosen // POLYMORPHS], {"t": 1}
    )


def text(raw: np.ndarray) -> str:
    """Write one id, uint8 (16,), as a UUID."""
    return str(UUID(bytes=raw.tobytes()))


def members(store: Store, reference: str) -> dict[str, str]:
    """Return entry and split of every member, from the view."""
    query = sa.text("SELECT entry_id, split FROM dataset_members WHERE dataset = :name")
    with store.read() as connection:
        rows = [(str(r[0]), r[1]) for r in connection.execute(query, {"name": reference})]
    assert len(rows) == len(dict(rows)), "a member occurs twice"
    return dict(rows)


def stored_changes(store: Store) -> int:
    """Count the rows that hold all members of all versions."""
    with store.read() as connection:
        count = sa.select(sa.func.count()).select_from(tables.dataset_change)
        return int(connection.execute(count).scalar_one())


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path
