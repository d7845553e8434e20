"""Materials are the same whatever came when, where and how often; the evidence is true."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import sqlalchemy as sa

from gandb.core.config import Settings
from gandb.core.crystals import Crystal
from gandb.core.errors import UsageError
from gandb.identity.cells import Cells, Reduced
from gandb.identity.matching import fit_pairs, measure_pairs
from gandb.identity.recipes import MatchRecipe
from gandb.jobs import queue
from gandb.jobs.records import State
from gandb.schema import tables
from gandb.store import Store
from gandb.tasks import identity, keys
from gandb.tasks.identity import STANDARD, identify_job, match_recipe
from gandb.tasks.keys import keys_job
from gandb.tasks.records import records_job
from gandb.tasks.verification import verify_store
from tests.content import differences, dump
from tests.crowds import BASES, components, crowd, partition, path, records, rocksalt, write
from tests.tasks.labs import make_store, work
from tests.tasks.test_death import Nursery
from tests.tasks.test_equal_content import race
from tests.variants import Cell, moved, noisy

STRICT = MatchRecipe(ltol=0.05, stol=0.05, angle_tol=1.0, comparator="element")


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return crowd(np.random.default_rng(7), real=2)


@pytest.fixture(scope="module")
def whole(cells: list[Cell], tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Everything in one batch."""
    folder = tmp_path_factory.mktemp("whole")
    store = make_store(str(folder / "store"), folder)
    add(store, folder, cells)
    return store


def add(store: Store, folder: Path, cells: Sequence[Cell]) -> dict[str, int]:
    """Import cells and identify them; return what was counted."""
    file = write(folder / "batches", f"{len(cells)}-{id(cells)}", cells)
    work(store, records_job("mine", [file]))
    return identified(store)


def identified(store: Store, recipe: MatchRecipe = STANDARD) -> dict[str, int]:
    """Do what `gandb identify` does; return what the chunks counted."""
    if (spec := keys_job(store)) is not None:
        work(store, spec)
    if (spec := identify_job(store, recipe)) is None:
        return {}
    (job,) = work(store, spec)
    results = [chunk["result"] for chunk in queue.chunks(store, job.id)]
    return {name: sum(result[name] for result in results) for name in results[0]}


def evidence(store: Store, recipe: MatchRecipe = STANDARD) -> list[dict[str, Any]]:
    own = tables.comparison
    query = sa.select(own).where(own.c.recipe_id == match_recipe(recipe)["id"])
    with store.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def reduced(store: Store) -> dict[str, tuple[Reduced, str, np.ndarray]]:
    """Return reduced cell, composition and AMD of every structure."""
    key = tables.structure_key.c
    with store.read() as connection:
        rows = connection.execute(
            sa.select(key.structure_id, key.cell, key.composition_id, key.amd)
        ).all()
    return {str(i): (Reduced.from_bytes(c), str(m), np.array(a)) for i, c, m, a in rows}


def problems(store: Store) -> list[dict[str, Any]]:
    return [found for found in verify_store(store) if found["problems"]]


# --- the partition -----------------------------------------------------------------------


def formula_blocks(compositions: dict[str, str]) -> list[list[str]]:
    blocks: dict[str, list[str]] = defaultdict(list)
    for own in sorted(compositions):
        blocks[compositions[own]].append(own)
    return [blocks[name] for name in sorted(blocks)]


def test_materials_are_the_components_of_all_matches(whole: Store) -> None:
    found = reduced(whole)
    assert len(found) > 300
    place = {own: i for i, own in enumerate(found)}
    cells = Cells.of([cell for cell, _, _ in found.values()], "element")
    pairs = [p for block in formula_blocks({i: c for i, (_, c, _) in found.items()})
             for p in combinations(block, 2)]  # fmt: skip
    numbers = np.array([(place[a], place[b]) for a, b in pairs])
    matched = fit_pairs(cells, numbers, STANDARD) | fit_pairs(cells, numbers[:, ::-1], STANDARD)
    edges = [pair for pair, same in zip(pairs, matched.tolist(), strict=True) if same]
    expected = components(sorted(found), edges)
    assert partition(whole) == expected
    sizes = np.unique(list(expected.values()), return_counts=True)[1]
    assert sizes.max() > 50
    assert (sizes == 1).sum() > 5
    assert len(edges) > 1_000


def test_materials_are_those_of_pymatgen(whole: Store) -> None:
    """All pairs of one formula, whatever the cell, by pymatgen's own reduction and verdict."""
    pytest.importorskip("pymatgen.analysis.structure_matcher")
    from pymatgen.analysis.structure_matcher import ElementComparator, StructureMatcher

    from gandb.representations.pymatgen_structures import to_structure

    known = records(whole)
    matcher = StructureMatcher(comparator=ElementComparator())
    blocks = formula_blocks({i: c for i, (_, c, _) in reduced(whole).items()})
    chosen = [block for block in blocks if 2 < len(block) < 45]
    chosen = [block for block in chosen if max(len(known[own]) for own in block) <= 24]
    assert sum(map(len, chosen)) > 100
    edges: list[tuple[str, str]] = []
    for block in chosen:
        cells = {i: matcher._get_reduced_structure(to_structure(known[i])) for i in block}
        label = {i: i for i in block}
        for a, b in combinations(block, 2):
            if label[a] != label[b] and (
                matcher.fit(cells[a], cells[b], skip_structure_reduction=True)
                or matcher.fit(cells[b], cells[a], skip_structure_reduction=True)
            ):
                edges.append((a, b))
                low, high = sorted((label[a], label[b]))
                label = {i: low if own == high else own for i, own in label.items()}
    ids = [own for block in chosen for own in block]
    found = partition(whole)
    assert {own: found[own] for own in ids} == components(ids, edges)


def test_batches_in_any_order_make_the_same_materials(
    store_url: str, cells: list[Cell], whole: Store, tmp_path: Path
) -> None:
    rng = np.random.default_rng(len(store_url))
    store = make_store(store_url, tmp_path)
    order = [cells[i] for i in rng.permutation(len(cells))]
    batches = 10 if "://" in store_url else 4  # more in a slow test
    inner = rng.choice(np.arange(1, len(order)), batches - 1, replace=False)
    cuts = [0, *sorted(inner.tolist()), len(order)]
    seen: dict[str, str] = {}
    for low, high in pairwise(cuts):
        add(store, tmp_path, order[low:high])
        found = partition(store)
        # Ids that were given out before still lead to the material.
        assert all(found[own] == found[material] for own, material in seen.items())
        seen = found
    assert seen == partition(whole)
    check_evidence(store)
    assert problems(store) == []


@pytest.mark.postgres
def test_both_engines_say_the_same(
    cells: list[Cell], whole: Store, postgres_database: str, tmp_path: Path
) -> None:
    other = make_store(postgres_database, tmp_path)
    add(other, tmp_path, cells)
    there, here = dump(other), dump(whole)
    for table in ("structure_key", "comparison", "material_member", "recipe"):
        assert differences({table: here[table]}, {table: there[table]}) == []


@pytest.mark.slow
def test_chunks_make_the_same_materials(
    cells: list[Cell], whole: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "CHUNK", 50)
    monkeypatch.setattr(identity, "CHUNK", 70)
    monkeypatch.setattr(identity, "_TOGETHER", 100)
    store = make_store(str(tmp_path / "store"), tmp_path)
    add(store, tmp_path, cells)
    assert max(job["n_chunks"] for job in queue.listing(store)) > 5
    here, there = dump(store), dump(whole)
    for table in ("structure_key", "comparison", "material_member"):
        assert differences({table: here[table]}, {table: there[table]}) == []


@pytest.mark.slow
@pytest.mark.postgres
def test_two_thousand_structures_make_the_same_materials_everywhere(
    tmp_path: Path, postgres_database: str
) -> None:
    rng = np.random.default_rng(11)
    cells = crowd(rng, real=70, near=250)
    one = make_store(str(tmp_path / "one"), tmp_path / "one-files")
    add(one, tmp_path, cells)
    expected = partition(one)
    for address in (str(tmp_path / "ten"), postgres_database):
        other = make_store(address, tmp_path / "other")
        for part in np.array_split(rng.permutation(len(cells)), 10):
            add(other, tmp_path, [cells[i] for i in part])
        assert partition(other) == expected
        assert problems(other) == []
    check_evidence(one)


# --- merges ------------------------------------------------------------------------------


def apart_and_between(count: int = 12) -> tuple[Cell, Cell, Cell]:
    """Return two crystals that do not match, and one that matches both."""
    steps = path(BASES[10], 1, np.array([0.11, 0.07, 0.03]), count)
    from gandb.identity.reduction import reduce_crystal

    cells = Cells.of([reduce_crystal(made.crystal()) for made in steps], "element")
    numbers = np.array(list(combinations(range(count), 2)))
    fits = fit_pairs(cells, numbers, STANDARD) | fit_pairs(cells, numbers[:, ::-1], STANDARD)
    same = {(int(a), int(b)) for (a, b), fit in zip(numbers, fits, strict=True) if fit}
    for low in range(count):
        for high in range(low + 2, count):
            for between in range(low + 1, high):
                if (low, high) not in same and {(low, between), (between, high)} <= same:
                    return steps[low], steps[between], steps[high]
    raise AssertionError("no chain of three")


def test_ids_of_materials_that_were_merged_lead_to_the_material(
    store_url: str, tmp_path: Path
) -> None:
    one, between, other = apart_and_between()
    rng = np.random.default_rng(0)
    store = make_store(store_url, tmp_path)
    add(store, tmp_path, [one, moved(one, rng), other, moved(other, rng)])
    before = partition(store)
    first, second = sorted(set(before.values()))
    add(store, tmp_path, [between])
    after = partition(store)
    assert len(after) == 5
    assert set(after.values()) == {min(after)}
    assert after[first] == after[second] == min(after)
    with store.read() as connection:
        shown = connection.execute(
            sa.text("SELECT n_structures, shape FROM materials WHERE standard")
        ).all()
    assert [tuple(row) for row in shown] == [(5, "chain")]
    assert problems(store) == []


@pytest.mark.slow
def test_recipes_stand_side_by_side(cells: list[Cell], tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    chosen = cells[:120]
    add(store, tmp_path, chosen)
    before = dump(store)
    identified(store, STRICT)
    wide, narrow = partition(store), partition(store, match_recipe(STRICT)["id"])
    assert set(wide) == set(narrow)
    assert len(set(narrow.values())) > len(set(wide.values()))
    assert all(wide[own] == wide[material] for own, material in narrow.items())
    check_evidence(store, STRICT)
    after = dump(store)
    for table in ("comparison", "material_member"):
        assert set(before[table]) < set(after[table])
    assert problems(store) == []


def test_cells_as_given_have_no_keys(whole: Store) -> None:
    with pytest.raises(UsageError, match="primitive"):
        identify_job(whole, MatchRecipe(primitive_cell=False))


# --- evidence ----------------------------------------------------------------------------


def check_evidence(store: Store, recipe: MatchRecipe = STANDARD) -> None:
    """Recompute every row: verdicts, distances; each pair once, within its block."""
    rows = evidence(store, recipe)
    found = reduced(store)
    names = sorted(found)
    place = {own: i for i, own in enumerate(names)}
    cells = Cells.of([found[own][0] for own in names], "element")
    pairs = np.array([(place[str(r["structure_a"])], place[str(r["structure_b"])]) for r in rows])
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == len(rows)
    for a, b in pairs.tolist():
        (one, composition, _), (other, composition_b, _) = found[names[a]], found[names[b]]
        assert (len(one), composition) == (len(other), composition_b)
    made = [(fit_pairs(cells, pairs, recipe), "forward"),
            (fit_pairs(cells, pairs[:, ::-1], recipe), "backward")]  # fmt: skip
    for verdicts, name in made:
        stated = [(row[name], bool(v)) for row, v in zip(rows, verdicts, strict=True)]
        assert all(said is None or said == v for said, v in stated)
    matched = made[0][0] | made[1][0]
    assert [row["matched"] for row in rows] == matched.tolist()
    forward = np.array([row["forward"] is True for row in rows])
    turned = np.where(forward[:, None], pairs, pairs[:, ::-1])
    rms, largest = measure_pairs(cells, turned, recipe)
    for i, row in enumerate(rows):
        if matched[i]:
            assert row["rms"] == rms[i]
            assert row["max_distance"] == largest[i]
            assert "compared" in row["method"]
        else:
            assert row["rms"] is None
            assert row["max_distance"] is None
        distance = np.abs(found[names[pairs[i, 0]]][2] - found[names[pairs[i, 1]]][2]).max()
        assert row["amd_distance"] == distance


def test_evidence_is_true(whole: Store) -> None:
    check_evidence(whole)
    rows = evidence(whole)
    assert {row["matched"] for row in rows} == {True, False}
    single = [r for r in rows if r["forward"] is not None and r["backward"] is not None]
    assert len(single) > 1_000


def test_small_blocks_are_compared_completely(whole: Store) -> None:
    found = reduced(whole)
    blocks: dict[tuple[str, int], list[str]] = defaultdict(list)
    for own in sorted(found):
        cell, composition, _ = found[own]
        blocks[composition, len(cell)].append(own)
    told = {(str(r["structure_a"]), str(r["structure_b"])): r for r in evidence(whole)}
    seen = 0
    for block in blocks.values():
        if len(block) <= 50:
            for pair in combinations(block, 2):
                assert None not in (told[pair]["forward"], told[pair]["backward"])
                seen += 1
    assert seen > 500


# --- again -------------------------------------------------------------------------------


class Watched(identity.KernelComparison):
    """Keeps what was asked, by ids in the order of the cells."""

    asked: list[np.ndarray]

    def fit(self, pairs: np.ndarray) -> np.ndarray:
        self.asked.append(np.array(pairs))
        return super().fit(pairs)


def test_nothing_is_compared_twice(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    store = make_store(store_url, tmp_path)
    old = [noisy(made, rng, 0.02) for made in BASES[:10] for _ in range(4)]
    counted = add(store, tmp_path, old)
    n = len(partition(store))
    assert counted["structures"] == counted["new"] == n == 40
    assert counted["comparisons"] == len(evidence(store))
    assert (keys_job(store), identify_job(store)) == (None, None)
    before = dump(store)
    assert identified(store) == {}
    assert dump(store) == before

    given: list[list[bytes]] = []
    plain = identity.Cells.from_bytes

    def watched_cells(items: Sequence[bytes], comparator: Any = "species") -> Cells:
        given.append(list(items))
        return plain(items, comparator)

    watched: list[list[np.ndarray]] = []

    def comparison(*args: Any) -> Watched:
        made = Watched(*args)
        made.asked = []
        watched.append(made.asked)
        return made

    monkeypatch.setattr(identity.Cells, "from_bytes", staticmethod(watched_cells))
    monkeypatch.setattr(identity, "KernelComparison", comparison)
    known = {cell.to_bytes() for cell, _, _ in reduced(store).values()}
    new = [noisy(made, rng, 0.02) for made in BASES[:3] for _ in range(2)]
    counted = add(store, tmp_path, new)
    assert counted["new"] == len(new)
    asked: list[tuple[bytes, bytes]] = []
    for cells, parts in zip(given, watched, strict=True):
        for part in parts:
            asked += [(cells[a], cells[b]) for a, b in part.tolist()]
    assert asked
    assert len(set(asked)) == len(asked)
    assert not [pair for pair in asked if set(pair) <= known]
    # BASES[:3] are one formula with cells of equally many sites: 4 known and 2 new of each.
    assert counted["comparisons"] == len(set(map(frozenset, asked))) == 6 * 12 + 15
    check_evidence(store)


def test_structures_without_a_cell_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = keys.structure_key

    def failing(crystal: Crystal, *args: Any) -> Any:
        if "K" in crystal.species:
            raise UsageError("no lattice")
        return plain(crystal, *args)

    monkeypatch.setattr(keys, "structure_key", failing)
    store = make_store(str(tmp_path / "store"), tmp_path)
    add(store, tmp_path, BASES[:4])
    key = tables.structure_key.c
    with store.read() as connection:
        rows = connection.execute(
            sa.select(key.structure_id, key.error).where(key.error.is_not(None))
        ).all()
        empty = connection.scalar(
            sa.select(sa.func.count()).where(key.n_reduced.is_(None), key.cell.is_(None))
        )
    assert [row.error for row in rows] == ["no lattice"]
    assert empty == 1
    found = partition(store)
    assert len(found) == 3
    assert str(rows[0].structure_id) not in found
    assert (keys_job(store), identify_job(store)) == (None, None)
    assert problems(store) == []


def test_an_empty_store_has_nothing_to_identify(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    assert (keys_job(store), identify_job(store)) == (None, None)
    add(store, tmp_path, [rocksalt(5.64, "Na", "Cl")])
    assert len(partition(store)) == 1
    assert evidence(store) == []


# --- deaths ------------------------------------------------------------------------------

PLACES = ("claimed", "completing", "merging", "executing", "committed")


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path_factory.mktemp("nursery"), "tests.tasks.nursery_identity")
    yield nursery
    nursery.close()


def deaths_leave_no_trace(
    nursery: Nursery, whole: Store, address: str, rng: np.random.Generator, times: int
) -> int:
    """Identify in a process that is killed so often; return how often it was."""
    store = Store.open(Settings(address))
    command = ("--store", address, "identify")
    died, usual = 0, 1.0
    for death in range(times):
        if death % 2:
            order: dict[str, Any] = {"kill_after": float(rng.uniform(0.02, 0.8 * usual))}
        else:
            place = str(rng.choice(PLACES))
            passes = int(rng.integers(1, 6 if place in ("merging", "executing") else 3))
            order = {"trap": (place, passes)}
        reply = nursery.run(*command, **order)
        died += reply["code"] == -9
        if reply["code"] == 0:  # too late, or the trap lies off its way
            usual = min(usual, reply["seconds"])
            break
    assert nursery.run(*command)["code"] == 0
    here, there = dump(whole), dump(store)
    for table in ("structure_key", "material_member", "comparison", "recipe"):
        assert differences({table: here[table]}, {table: there[table]}) == []
    assert problems(store) == []
    # What a death left half done was gone on with: no job stays open.
    assert {job["state"] for job in queue.listing(store)} == {State.DONE.value}
    assert (keys_job(store), identify_job(store)) == (None, None)
    return died


@pytest.fixture(scope="module")
def few(cells: list[Cell], tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("few")
    store = make_store(str(folder / "store"), folder)
    add(store, folder, cells[:150])
    return store


def test_deaths_leave_no_trace(
    nursery: Nursery, few: Store, cells: list[Cell], store_url: str, tmp_path: Path
) -> None:
    store = make_store(store_url, tmp_path)
    work(store, records_job("mine", [write(tmp_path, "few", cells[:150])]))
    rng = np.random.default_rng(len(store_url))
    assert deaths_leave_no_trace(nursery, few, store_url, rng, 6) > 0


@pytest.mark.slow
def test_many_deaths_leave_no_trace(
    nursery: Nursery, few: Store, cells: list[Cell], tmp_path: Path
) -> None:
    died = 0
    for life in range(5):
        if died >= 25:  # how many one life has depends on how busy things are
            break
        address = str(tmp_path / f"store{life}")
        store = make_store(address, tmp_path)
        work(store, records_job("mine", [write(tmp_path, "few", cells[:150])]))
        died += deaths_leave_no_trace(nursery, few, address, np.random.default_rng(life), 12)
    assert died >= 25


@pytest.mark.slow
def test_two_processes_share_the_work(
    few: Store, cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "CHUNK", 40)
    monkeypatch.setattr(identity, "CHUNK", 30)
    store = make_store(str(tmp_path / "store"), tmp_path)
    work(store, records_job("mine", [write(tmp_path, "few", cells[:150])]))
    for wanted in (keys_job, identify_job):
        spec = wanted(store)
        assert spec is not None
        assert spec.n_chunks > 2
        queue.submit(store, spec)
        again = wanted(store)
        assert again is not None
        assert again.id == spec.id, "what was asked for and is not done is not asked anew"
        race(store, 2, spec.n_chunks)
    here, there = dump(few), dump(store)
    for table in ("structure_key", "material_member", "comparison"):
        assert differences({table: here[table]}, {table: there[table]}) == []


def test_a_job_in_between_does_no_harm(tmp_path: Path) -> None:
    """New structures come while a job is open: it does its own, the next one the rest."""
    store = make_store(str(tmp_path / "store"), tmp_path)
    work(store, records_job("mine", [write(tmp_path, "a", BASES[:3])]))
    open_keys = keys_job(store)
    assert open_keys is not None
    queue.submit(store, open_keys)
    work(store, records_job("mine", [write(tmp_path, "b", BASES[3:5])]))
    again = keys_job(store)
    assert again is not None
    assert again.id == open_keys.id
    work(store, open_keys)
    assert keys_job(store) is None  # it took the new ones with it
    identified(store)
    assert len(partition(store)) == 5
    assert {UUID(own) for own in partition(store)} == {UUID(own) for own in records(store)}
