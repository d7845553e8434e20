"""Random histories of three groups: whoever takes in whom, in whatever order, all end alike."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gandb.core.compositions import CompositionBatch, uuid_array
from gandb.core.config import Settings
from gandb.datasets import selection, versions
from gandb.schema import tables
from gandb.sharing.merging.merging import merge
from gandb.sharing.origin import set_origin
from gandb.store import Store
from gandb.tasks.rows import Compositions, entry_ids, merge_compositions
from gandb.tasks.verification import verify_store
from tests.content import differences, dump
from tests.sharing import groups
from tests.sharing.shared_content import shared_content
from tests.sharing.test_merging import tag

ORIGINS = ("ada", "bose", "cora")
ROWS = [{"Na": 1, "Cl": 1}, {"K": 1, "Cl": 1}, {"Ti": 1, "O": 2}, {"Fe": 2, "O": 3}, {"Si": 1}]

steps = st.lists(
    st.one_of(
        st.tuples(st.just("import"), st.sets(st.integers(0, 14), min_size=1, max_size=8)),
        st.tuples(st.just("version"), st.sampled_from(["d", "e"]), st.integers(0, 4)),
        st.tuples(st.just("tag"), st.sampled_from(["d", "e"]), st.sampled_from(["best", "old"])),
        st.tuples(st.just("alter"), st.integers(0, 14)),
    ),
    min_size=1,
    max_size=6,
)
History = dict[str, list[tuple[object, ...]]]
histories = st.fixed_dictionaries(dict.fromkeys(ORIGINS, steps))


def imported(store: Store, numbers: set[int], origin: str) -> None:
    """Take in entries by number: three of each composition, the same ones in every store."""
    listed = sorted(numbers)
    batch = CompositionBatch.from_dicts([ROWS[i % len(ROWS)] for i in listed])
    unique = batch.unique()
    own = batch.ids()
    gaps = np.array([0.5 * (i // len(ROWS)) for i in listed])
    external = [f"x-{i % 7}" for i in listed]
    n = len(listed)
    ids = entry_ids("mp", own, np.zeros(n, np.int32), {"band_gap": gaps}, external_ids=external)
    with store.write() as tx:
        merge_compositions(tx, Compositions.of(unique.ids, batch.take(unique.first)))
        tx.merge(
            tables.entry,
            pa.table(
                {
                    "id": uuid_array(ids),
                    "source": ["mp"] * n,
                    "external_id": external,
                    "composition_id": uuid_array(own),
                    "formula": batch.reduced_formulas(),
                    "formula_units": pa.array(np.ones(n, np.int32)),
                    "ordinal": pa.array(np.zeros(n, np.int32)),
                    "band_gap": pa.array(gaps),
                }
            ),
        )
    del origin


def live(store: Store, origin: str, history: list[tuple[object, ...]]) -> None:
    """Do what a history says, as far as it can be done."""
    imported(store, {0, 1}, origin)
    for kind, *rest in history:
        if kind == "import":
            imported(store, rest[0], origin)  # type: ignore[arg-type]
        elif kind == "version":
            name, least = rest
            chosen = selection.by_condition(store, f"n_atoms > {least}")
            if len(chosen.entry_ids):
                versions.create(store, str(name), chosen, f"of {origin}")
        elif kind == "tag":
            name, what = rest
            with store.read() as connection:
                there = connection.scalar(
                    sa.select(tables.dataset.c.id).where(tables.dataset.c.name == name)
                )
            if there is not None and (name, what) not in tags(store):
                tag(store, f"{name}@1", str(what))
        else:
            with store.write() as tx:  # the same record, written otherwise
                number = int(rest[0])  # type: ignore[call-overload]
                formula = {"NaCl": "ClNa", "KCl": "ClK", "TiO2": "O2Ti"}
                for old, new in list(formula.items())[: 1 + number % 3]:
                    tx.connection.exec_driver_sql(
                        f"UPDATE entry SET formula = '{new}' WHERE formula = '{old}' "
                        f"AND external_id = 'x-{number % 7}'"
                    )


def tags(store: Store) -> set[tuple[str, str]]:
    query = sa.select(tables.dataset.c.name, tables.dataset_tag.c.tag).join(
        tables.dataset_tag, tables.dataset_tag.c.dataset_id == tables.dataset.c.id
    )
    with store.read() as connection:
        return {(r[0], r[1]) for r in connection.execute(query)}


worlds = given(histories, st.permutations(ORIGINS), st.permutations(ORIGINS), st.booleans())


@pytest.mark.slow
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@worlds
def test_all_orders_end_alike(
    history: History, one: list[str], other: list[str], zipped: bool
) -> None:
    ends_alike(history, one, other, zipped=zipped)


def ends_alike(history: History, one: list[str], other: list[str], *, zipped: bool) -> None:
    """Let three groups live, and take each other in, in two orders and by way of another."""
    folder = Path(tempfile.mkdtemp(prefix="histories-"))
    try:
        bundles, stores = {}, {}
        for origin in ORIGINS:
            stores[origin] = Store.create(Settings(str(folder / origin)))
            set_origin(stores[origin], origin)
            live(stores[origin], origin, history[origin])
            name = f"{origin}.zip" if zipped else f"{origin}-bundle"
            bundles[origin] = groups.bundle(stores[origin], folder / name)
        # Two that take each other in say the same, and who says what.
        a, b = one[:2]
        pair = {}
        for here, there in ((a, b), (b, a)):
            pair[here] = copied(stores[here], folder / f"{here}-{there}")
            merge(pair[here], bundles[there])
        assert differences(shared_content(pair[a]), shared_content(pair[b])) == []
        # A fourth takes in all, in two orders, one of them in two steps.
        ends = []
        for place, order in enumerate((one, other)):
            end = Store.create(Settings(str(folder / f"end{place}")))
            set_origin(end, "dirac")
            for origin in order:
                merge(end, bundles[origin])
            held = dump(end)
            assert merge(end, bundles[order[0]]).new == 0
            assert differences(held, dump(end)) == []
            ends.append(end)
        both = groups.bundle(pair[a], folder / "both")
        joined = Store.create(Settings(str(folder / "joined")))
        set_origin(joined, "dirac")
        merge(joined, bundles[one[2]])
        merge(joined, both)
        ends.append(joined)
        found = [shared_content(s, attributed=False) for s in ends]
        assert differences(found[0], found[1]) == []
        assert differences(found[0], found[2]) == []
        assert [f for s in ends for f in verify_store(s) if f["problems"]] == []
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copied(store: Store, folder: Path) -> Store:
    shutil.copytree(store.location, folder)
    return Store.open(Settings(str(folder)))
