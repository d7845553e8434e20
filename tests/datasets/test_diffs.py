"""Properties that another release states otherwise."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from gandb.core.compositions import uuid_array
from gandb.core.ids import Domain
from gandb.core.kernels import hash_rows
from gandb.datasets.changing import Change, change
from gandb.datasets.diffs import changed_entries, changed_properties, diff
from gandb.datasets.versions import create
from gandb.schema import tables
from gandb.store import Store
from tests.datasets import labs

N = 20


@pytest.fixture
def store(store_url: str) -> Store:
    """A store of a release, and of the next, which states other gaps for mp-3 to mp-8."""
    store = labs.make_store(store_url, N)
    numbers = np.arange(3, 9)
    raw = (1000 + numbers).astype("<u8").view(np.uint8).reshape(-1, 8)
    batch = labs.compositions(N)
    with store.write() as tx:
        rows = {
            "id": uuid_array(hash_rows(raw, Domain.ENTRY)),
            "source": ["mp"] * 6,
            "external_id": [f"mp-{n}" for n in numbers],
            "composition_id": uuid_array(batch.ids()[numbers // labs.POLYMORPHS]),
            "formula": batch.reduced_formulas().take(numbers // labs.POLYMORPHS),
            "formula_units": pa.array(np.ones(6, np.int32)),
            "ordinal": pa.array(np.zeros(6, np.int32)),
            "band_gap": pa.array([3.0, 4.5, 5.0, None, 7.0, 8.25]),
            "volume_per_atom": pa.array([None, 10.0, None, None, None, None], pa.float64()),
        }
        tx.merge(tables.entry, pa.table(rows))
    return store


def test_what_another_release_says_otherwise_is_told(store: Store) -> None:
    first, _ = create(store, "mp", labs.selection(range(12), N), "one release")
    old = "external_id IN ('mp-3', 'mp-4', 'mp-5', 'mp-6', 'mp-7', 'mp-8', 'mp-11')"
    new = "entry_id IN (SELECT entry_id FROM entries ORDER BY entry_id)"
    ids = {labs.text(i) for i in labs.entry_ids(N * labs.POLYMORPHS)}
    quoted = ", ".join(f"'{i}'" for i in sorted(ids))
    renewed = f"entry_id NOT IN ({quoted}) AND {new}"
    dropped, _ = change(store, first, Change(drop=old), "without", "none")
    second, _ = change(store, dropped, Change(add=renewed), "the next release", "next")
    found = diff(store, first, second)
    assert found.sources == [
        {"source": "mp", "added": 6, "dropped": 7, "moved": 0, "changed": 6},
    ]
    assert found.properties == [
        {"property": "band_gap", "changed": 3, "largest": 0.5, "unit": "eV"},
        {"property": "volume_per_atom", "changed": 1, "largest": None, "unit": "Å³/atom"},
    ]
    rows = changed_properties(store, first, second).to_pylist()
    assert [(r["external_id"], r["property"], r["before"], r["after"]) for r in rows] == [
        ("mp-4", "band_gap", 4.0, 4.5),
        ("mp-4", "volume_per_atom", None, 10.0),
        ("mp-6", "band_gap", 6.0, None),
        ("mp-8", "band_gap", 8.0, 8.25),
    ]
    gaps = [r for r in found.examples["changed"] if r["property"] == "band_gap"]
    assert [(r["before"], r["after"]) for r in gaps] == [(4.0, 4.5), (6.0, None), (8.0, 8.25)]
    assert {row["of"]: (row["gained"], row["lost"]) for row in found.groups}["compositions"] == (
        0,
        0,
    )
    back = diff(store, second, first)
    assert (back.n_added, back.n_dropped) == (7, 6)
    assert [r["changed"] for r in back.properties] == [3, 1]
    assert changed_entries(store, first, second).num_rows == 13
    assert not diff(store, first, first)


def test_several_entries_of_one_id_are_not_paired(store: Store) -> None:
    first, _ = create(store, "mp", labs.selection(range(12), N), "one release")
    with store.write() as tx:
        tx.execute(tables.entry.update().where(tables.entry.c.external_id == "mp-5").values(
            external_id="mp-4"))  # fmt: skip
    second, _ = create(store, "other", labs.selection([0, 1], N), "")
    third, _ = change(store, second, Change(add="true", drop="band_gap IN (4, 5)"), "")
    found = diff(store, first, third)
    # mp-4 went twice and came twice: which became which, nobody knows.
    assert found.sources[0]["changed"] == 0
    assert found.properties == []
