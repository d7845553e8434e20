"""Keys: those of each structure, once, however they are worked out."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from gandb.core.crystals import Crystal
from gandb.core.errors import InputError
from gandb.identity.cells import Reduced
from gandb.identity.keys import structure_key
from gandb.jobs import queue
from gandb.schema import tables
from gandb.store import Store
from gandb.tasks import keys
from gandb.tasks.keys import id_range, key_recipe, keys_job
from gandb.tasks.records import records_job
from gandb.tasks.rows import recipe_row
from gandb.tasks.structures import crystals
from tests.content import differences, dump
from tests.crowds import BASES, crowd, records, write
from tests.tasks.labs import make_store, work
from tests.variants import SAME, Cell, variants


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return crowd(np.random.default_rng(1), near=0)[:150]


@pytest.fixture(scope="module")
def whole(cells: list[Cell], tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("whole")
    return with_keys(str(folder / "store"), folder, cells)


def with_keys(address: str, folder: Path, cells: list[Cell]) -> Store:
    store = make_store(address, folder)
    work(store, records_job("mine", [write(folder, "all", cells)]))
    spec = keys_job(store)
    assert spec is not None
    work(store, spec)
    return store


def rows_of(store: Store) -> dict[str, dict[str, Any]]:
    key = tables.structure_key
    with store.read() as connection:
        rows = connection.execute(sa.select(key)).mappings().all()
    assert {row["recipe_id"] for row in rows} == {key_recipe()["id"]}
    found = {str(row["structure_id"]): dict(row) for row in rows}
    assert len(found) == len(rows)
    return found


def symmetries(store: Store) -> dict[str, tuple[int, list[str]]]:
    own = tables.structure_symmetry.c
    with store.read() as connection:
        rows = connection.execute(
            sa.select(own.structure_id, own.space_group_number, own.site_symmetries)
        ).all()
    return {str(i): (number, sites) for i, number, sites in rows if number is not None}


def test_every_structure_has_the_keys_of_its_record(whole: Store) -> None:
    found, known = rows_of(whole), symmetries(whole)
    with whole.read() as connection:
        listed = list(crystals(connection))
        query = sa.select(tables.structure.c.id, tables.structure.c.composition_id)
        compositions = {row.id: row.composition_id for row in connection.execute(query)}
    assert len(listed) == len(found) > 100
    for own, crystal in listed:
        row = found[str(own)]
        key = structure_key(crystal, *known.get(str(own), (None, None)))
        assert row["cell"] == key.cell
        assert row["amd"] == key.amd.tolist()
        assert row["composition_id"] == compositions[own]
        for name in ("n_reduced", "volume_per_site", "symmetry_label", "prototype_label"):
            assert row[name] == getattr(key, name), name
        assert row["error"] is None
        assert row["symmetry_label"] is not None


def test_cells_are_those_of_pymatgen(whole: Store) -> None:
    pytest.importorskip("pymatgen.analysis.structure_matcher")
    from pymatgen.analysis.structure_matcher import StructureMatcher

    from gandb.representations.pymatgen_structures import to_structure

    matcher = StructureMatcher()
    known = records(whole)
    for own, row in list(rows_of(whole).items())[::3]:
        reduced = matcher._get_reduced_structure(to_structure(known[own]))
        assert row["n_reduced"] == len(reduced)
        assert row["volume_per_site"] == pytest.approx(reduced.volume / len(reduced), rel=1e-6)
        assert len(Reduced.from_bytes(row["cell"])) == len(reduced)


def test_keys_see_through_cells_and_settings(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    store = make_store(str(tmp_path / "store"), tmp_path)
    bases = (BASES[4], BASES[6], BASES[8], BASES[11])
    made = [[base, *(c for _, c in variants(base.crystal(), rng, sorted(SAME)))] for base in bases]
    work(store, records_job("mine", [write(tmp_path, "all", [c for own in made for c in own])]))
    spec = keys_job(store)
    assert spec is not None
    work(store, spec)
    by_formula: dict[UUID, list[dict[str, Any]]] = {}
    for row in rows_of(store).values():
        by_formula.setdefault(row["composition_id"], []).append(row)
    assert len(by_formula) == len(bases)
    for rows in by_formula.values():
        assert len(rows) > 4
        for name in ("n_reduced", "symmetry_label", "prototype_label"):
            assert len({row[name] for row in rows}) == 1, name
        amd = np.array([row["amd"] for row in rows])
        assert np.abs(amd - amd[0]).max() < 3e-4
        assert np.ptp([row["volume_per_site"] for row in rows]) < 1e-4


@pytest.mark.postgres
def test_both_engines_hold_the_same(
    cells: list[Cell], whole: Store, postgres_database: str, tmp_path: Path
) -> None:
    other = with_keys(postgres_database, tmp_path, cells)
    here, there = dump(whole), dump(other)
    for table in ("structure_key", "recipe"):
        assert differences({table: here[table]}, {table: there[table]}) == []


def test_chunks_and_pieces_change_nothing(
    cells: list[Cell], whole: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "CHUNK", 30)
    monkeypatch.setattr(keys, "PIECE", 7)
    store = with_keys(str(tmp_path / "store"), tmp_path, cells)
    (job,) = [job for job in queue.listing(store) if job["kind"] == "keys"]
    assert job["n_chunks"] == -(-len(rows_of(store)) // 30)
    done = [chunk["result"]["structures"] for chunk in queue.chunks(store, job["job_id"])]
    assert sum(done) == len(rows_of(store))
    assert min(done) > 0
    assert rows_of(store) == rows_of(whole)


@pytest.mark.slow
def test_processes_change_nothing(
    cells: list[Cell], whole: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "FEW", 10)
    monkeypatch.setattr(keys, "PIECE", 20)
    monkeypatch.setattr(keys, "default_processes", lambda: 2)
    store = with_keys(str(tmp_path / "store"), tmp_path, cells)
    assert rows_of(store) == rows_of(whole)


def test_new_structures_alone_are_worked_out(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = with_keys(store_url, tmp_path, list(BASES[:5]))
    before = rows_of(store)
    asked: list[Crystal] = []
    plain = keys.structure_key

    def watched(crystal: Crystal, *args: Any) -> Any:
        asked.append(crystal)
        return plain(crystal, *args)

    monkeypatch.setattr(keys, "structure_key", watched)
    work(store, records_job("mine", [write(tmp_path, "more", BASES[3:8])]))
    spec = keys_job(store)
    assert spec is not None
    assert (spec.spec["structures"], spec.spec["missing"], spec.totals) == (8, 3, (3,))
    work(store, spec)
    assert len(asked) == 3
    after = rows_of(store)
    assert len(after) == 8
    assert before.items() <= after.items()
    assert keys_job(store) is None


def test_one_that_fails_is_told_and_the_others_go_on(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = keys.structure_key

    def failing(crystal: Crystal, *args: Any) -> Any:
        if "As" in crystal.species:
            raise InputError("no basis of this lattice was found")
        return plain(crystal, *args)

    monkeypatch.setattr(keys, "structure_key", failing)
    store = with_keys(store_url, tmp_path, list(BASES[:6]))
    (job,) = [job for job in queue.listing(store) if job["kind"] == "keys"]
    (chunk,) = queue.chunks(store, job["job_id"])
    assert chunk["result"] == {"structures": 6, "errors": 1}
    (wrong,) = [row for row in rows_of(store).values() if row["error"] is not None]
    assert wrong["error"] == "no basis of this lattice was found"
    for name in ("n_reduced", "volume_per_site", "amd", "cell", "symmetry_label"):
        assert wrong[name] is None
    assert keys_job(store) is None


def test_symmetry_is_the_standard_one_and_counts_once(store_url: str, tmp_path: Path) -> None:
    """Symmetry under another tolerance or by another version of the program is there as well."""
    store = make_store(store_url, tmp_path)
    files = [write(tmp_path, "all", BASES[:8])]
    work(store, records_job("mine", files, symprec=0.1))
    own, recipe = tables.structure_symmetry, tables.recipe
    with store.write() as tx:
        (standard,) = [
            row
            for row in tx.execute(sa.select(recipe).where(recipe.c.check_name == "symmetry"))
            if row.parameters["symprec_angstrom"] == 0.01
        ]
        later = recipe_row("symmetry", standard.version + "9", standard.parameters)
        tx.insert_new(recipe, later)
        columns = [c for c in own.c if c.name != "recipe_id"]
        copied = sa.select(sa.literal(later["id"], sa.Uuid()), *columns).where(
            own.c.recipe_id == standard.id
        )
        names = ["recipe_id", *(c.name for c in columns)]
        tx.execute(own.insert().from_select(names, copied))
        tx.execute(
            own.update()
            .where(own.c.recipe_id != standard.id)
            .values(space_group_number=1, site_symmetries=None)
        )
    spec = keys_job(store)
    assert spec is not None
    work(store, spec)
    found = rows_of(store)
    assert len(found) == 8
    for row in found.values():
        assert row["symmetry_label"] is not None
        assert not row["symmetry_label"].startswith("1 ")


@given(st.integers(1, 300), st.binary(min_size=16, max_size=16))
def test_ranges_of_ids_hold_each_id_once(n_chunks: int, raw: bytes) -> None:
    ranges = [id_range(chunk, n_chunks) for chunk in range(n_chunks)]
    assert ranges[0][0] == UUID(int=0)
    assert ranges[-1][1] is None
    for (_, high), (low, _) in pairwise(ranges):
        assert high == low
    own = UUID(bytes=raw)
    inside = [low <= own and (high is None or own < high) for low, high in ranges]
    assert sum(inside) == 1
