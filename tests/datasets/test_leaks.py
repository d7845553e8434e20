"""Splits against the partition into materials, and leaks against plain counting, on real jobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa

from gandb.datasets.diffs import diff
from gandb.datasets.leaks import LEVELS, leaks
from gandb.datasets.selection import by_condition
from gandb.datasets.splits import SPLITS, SplitRecipe
from gandb.datasets.versions import Selection, Version, create
from gandb.schema import tables
from gandb.store import Store
from gandb.store.bulk import ids_from_text
from gandb.tasks.identity import identify_job
from gandb.tasks.keys import keys_job
from gandb.tasks.records import records_job
from tests.crowds import crowd, write
from tests.postgres import fresh_database
from tests.tasks.labs import make_store, work

Keys = dict[str, dict[str, str]]
"""For each level the key of every entry that has one."""


@pytest.fixture(scope="module", params=["duckdb", pytest.param("pg", marks=pytest.mark.postgres)])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("leaks")
    with ExitStack() as stack:
        url = str(folder / "store")
        if request.param == "pg":
            server = request.getfixturevalue("postgres_url")
            url = stack.enter_context(fresh_database(server))
        made = make_store(url, folder)
        fill(made, folder)
        yield made


def fill(store: Store, folder: Path) -> None:
    """Import a crowd of variants of known structures, and tell which are the same."""
    cells = crowd(np.random.default_rng(7), near=15)
    work(store, records_job("mine", [write(folder, "all", cells)]))
    for spec in (keys_job, identify_job):
        wanted = spec(store)
        assert wanted is not None
        work(store, wanted)


@pytest.fixture(scope="module")
def keys(store: Store) -> Keys:
    """Read what entries have in common, row by row."""
    e, c, k, m = tables.entry, tables.composition, tables.structure_key, tables.material_member
    found: Keys = {level: {} for level in LEVELS}
    query = (
        sa.select(
            e.c.id, e.c.composition_id, e.c.structure_id, c.c.chemical_system,
            k.c.prototype_label, m.c.material_id,
        )
        .join(c, c.c.id == e.c.composition_id)
        .outerjoin(k, k.c.structure_id == e.c.structure_id)
        .outerjoin(m, sa.and_(m.c.structure_id == e.c.structure_id, m.c.standard))
    )  # fmt: skip
    with store.read() as connection:
        for own, *values in connection.execute(query):
            levels = ("composition", "structure", "chemical_system", "prototype", "material")
            for level, value in zip(levels, values, strict=True):
                if value is not None:
                    found[level][str(own)] = str(value)
    assert len(set(found["material"].values())) < len(set(found["structure"].values()))
    return found


def _members(store: Store, version: Version) -> dict[str, str]:
    query = sa.text("SELECT entry_id, split FROM dataset_members WHERE dataset = :name")
    with store.read() as connection:
        return {str(r[0]): r[1] for r in connection.execute(query, {"name": version.reference})}


def _counted(splits: dict[str, str], keys: dict[str, str], split: str) -> tuple[int, ...]:
    """Count groups, groups in train, members, members in train."""
    inside = [keys[own] for own, s in splits.items() if s == split and own in keys]
    train = {keys[own] for own, s in splits.items() if s == "train" and own in keys}
    return (
        len(set(inside)), len(set(inside) & train), len(inside), sum(k in train for k in inside),
    )  # fmt: skip


@pytest.mark.parametrize("by", ["composition", "chemical_system", "anonymous_formula"])
def test_no_material_is_torn_apart(by: str, store: Store, keys: Keys) -> None:
    everything = by_condition(store, "true")
    for seed in range(4):
        recipe = SplitRecipe((0.4, 0.3, 0.3), seed, by)
        version, _ = create(store, f"by_{by}", everything, "", recipe)
        splits = _members(store, version)
        materials = defaultdict(set)
        for own, material in keys["material"].items():
            materials[material].add(splits[own])
        assert all(len(found) == 1 for found in materials.values())
        told = {(r.split, r.level): r.leaked_members for r in leaks(store, version)}
        kept = {
            "composition": ("composition", "material", "structure"),
            "chemical_system": ("composition", "material", "structure", "chemical_system"),
            "anonymous_formula": ("composition", "material", "structure", "prototype"),
        }[by]
        assert not any(told[split, level] for split in SPLITS[1:] for level in kept)


def test_leaks_are_what_plain_counting_says(store: Store, keys: Keys) -> None:
    everything = by_condition(store, "true")
    order = np.argsort(everything.entry_ids.view("S16").reshape(-1))
    ids, owners = everything.entry_ids[order], everything.composition_ids[order]
    for seed in range(3):
        codes = np.random.default_rng(seed).integers(0, 3, len(ids)).astype(np.uint8)
        version, _ = create(store, "given", Selection(ids, owners, {}, codes), f"{seed}")
        splits = _members(store, version)
        leaked = 0
        for row in leaks(store, version):
            found = (row.groups, row.leaked_groups, row.members, row.leaked_members)
            assert found == _counted(splits, keys[row.level], row.split), row
            leaked += row.leaked_members
        assert leaked


def test_materials_and_structures_that_came_and_went(store: Store, keys: Keys) -> None:
    everything = by_condition(store, "true")
    texts = np.array(sorted(keys["material"]))
    owners = {o.tobytes(): c for o, c in
              zip(everything.entry_ids, everything.composition_ids, strict=True)}  # fmt: skip
    made = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        chosen = texts[rng.random(len(texts)) < 0.5]
        ids = ids_from_text(pa.chunked_array([pa.array(chosen.tolist())]))
        own = np.stack([owners[i.tobytes()] for i in ids])
        version, _ = create(store, "halves", Selection(ids, own, {}), f"{seed}")
        made.append((version, set(chosen.tolist())))
    for (one, before), (other, after) in pairwise(made):
        told = {row["of"]: row for row in diff(store, one, other).groups}
        for name in ("composition", "material", "structure"):
            was, now = ({keys[name][i] for i in side} for side in (before, after))
            row = told[f"{name}s"]
            assert (row["gained"], row["lost"]) == (len(now - was), len(was - now))
