"""S.U.N.: intervals against other formulas and simulation, counts against rows read plainly."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from gandb.core.config import Settings
from gandb.core.errors import NotFoundError
from gandb.reports.sun import SunTable, sun_table
from gandb.reports.sun_estimates import UNKNOWN, product, share
from gandb.store import Store
from gandb.tasks.candidates import candidates_job
from gandb.tasks.data import find_checkpoint
from gandb.tasks.judged_sets import find_set
from gandb.tasks.keys import keys_job
from gandb.tasks.stability import Choices, stability_job
from gandb.tasks.structure_checks import structure_checks_job
from gandb.tasks.structure_novelty import structure_novelty_job
from tests.crowds import BCC, CUBE, cell, fluorite, rocksalt, rutile, write, zincblende
from tests.hulls import Calculation, Relaxation, dataset, relax
from tests.tasks.labs import make_store, work

# --- estimates ---------------------------------------------------------------------------


@given(st.integers(0, 400), st.integers(1, 400))
def test_an_interval_of_a_share_is_wilsons(count: int, total: int) -> None:
    scipy = pytest.importorskip("scipy.stats")
    count = min(count, total)
    found = share(count, total)
    wanted = scipy.binomtest(count, total).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    assert found.low <= found.value == count / total <= found.high


def test_a_product_with_all_relaxed_is_about_the_share_of_all() -> None:
    """No correction for a finite population: k of N has the same interval, but for asymmetry."""
    for big, n, k in ((10_000, 4_000, 800), (2_000, 1_500, 700), (500, 300, 30)):
        found = product(share(n, big), share(k, n))
        wanted = share(k, big)
        assert found.value == pytest.approx(wanted.value)
        width = wanted.high - wanted.low
        assert found.high - found.low == pytest.approx(width, rel=0.05)
        assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=width / 10)


@pytest.mark.parametrize(("p", "q", "m"), [(0.4, 0.2, 300), (0.7, 0.02, 300), (0.1, 0.5, 60)])
def test_the_interval_of_a_product_holds_the_truth_as_often_as_it_says(
    p: float, q: float, m: int
) -> None:
    """Two thousand runs of the whole procedure: 10,000 samples, of which a sample is relaxed."""
    rng = np.random.default_rng(1)
    held = 0
    for n in rng.binomial(10_000, p, 2_000).tolist():
        estimate = product(share(n, 10_000), share(int(rng.binomial(m, q)), m))
        held += estimate.low <= p * q <= estimate.high
    assert 0.93 < held / 2_000 < 0.985


def test_estimates_of_nothing() -> None:
    assert share(0, 0) == UNKNOWN
    none = product(share(50, 100), share(0, 20))
    assert none.value == none.low == 0
    assert none.high == pytest.approx(0.5 * share(0, 20).high)
    assert product(share(0, 100), UNKNOWN).high == share(0, 100).high
    assert math.isnan(product(share(1, 100), UNKNOWN).value)
    with pytest.raises(ValueError, match="5 of 4"):
        share(5, 4)


# --- counts ------------------------------------------------------------------------------

MG = cell(3.6 * BCC, "Mg", [[0, 0, 0]])
O2 = cell(4.0 * CUBE, "O O", [[0, 0, 0], [0.3, 0, 0]])
MGO = rocksalt(4.2, "Mg", "O")
PHASES = [
    Calculation("mp-1", MG, -1.5, formation=0.0),
    Calculation("mp-2", O2, -4.9, formation=0.0),
    Calculation("mp-3", MGO, -5.5, formation=-2.3),
]
MADE = {
    "known": rocksalt(4.22, "Mg", "O"),
    "stable": zincblende(4.6, "Mg", "O"),
    "the same": zincblende(4.61, "Mg", "O"),
    "unstable": rutile(4.6, 3.0, 0.305, "Mg", "O"),
    "crushed": zincblende(0.6, "Mg", "O"),
    "unfinished": fluorite(5.0, "Mg", "O"),
    "failed": fluorite(5.1, "O", "Mg"),
    "no reference": rocksalt(4.9, "Zr", "O"),
    "not relaxed": rutile(4.1, 5.0, 0.35, "O", "Mg"),
}  # fmt: skip
ENERGIES = {
    "known": -5.5, "stable": -5.45, "the same": -5.45, "unstable": -4.6, "crushed": -5.5,
    "unfinished": -5.6, "no reference": -9.0,
}  # fmt: skip


def judged_store(address: str, folder: Path) -> Store:
    """A store with candidates, one of each kind, and one twice."""
    store = make_store(address, folder)
    dataset(store, folder, "mp", PHASES)
    cells = [*MADE.values(), MADE["unstable"]]
    work(store, candidates_job("gen", [write(folder, "new", cells)]))
    spec = keys_job(store)
    assert spec is not None
    work(store, spec)
    gen = find_checkpoint(store, "gen")
    work(store, structure_checks_job(find_set(store, "gen")))
    work(store, structure_novelty_job(store, gen, ["mp@1"]))
    done = [
        Relaxation(MADE[name].crystal(), energy, converged=name != "unfinished")
        for name, energy in ENERGIES.items()
    ]
    relax(store, [*done, Relaxation(MADE["failed"].crystal(), None)])
    work(store, stability_job(store, find_set(store, "gen"), ["mp@1"], Choices(energies="total")))
    return store


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sun")
    judged_store(str(folder / "store"), folder)
    return folder / "store"


@pytest.fixture
def store(begun: Path, tmp_path: Path) -> Store:
    shutil.copytree(begun, tmp_path / "store")
    return Store.open(Settings(str(tmp_path / "store")))


def counts(table: SunTable) -> dict[str, Any]:
    return {line.what: line.count for line in table.lines if line.count is not None}


def seen(store: Store) -> dict[str, dict[str, Any]]:
    """The view ``sun`` by structure."""
    with store.read() as connection:
        rows = connection.execute(sa.text("SELECT * FROM sun")).mappings()
        return {str(row["structure_id"]): dict(row) for row in rows}


def test_the_table_and_the_view_count_what_is_there(store_url: str, tmp_path: Path) -> None:
    store = judged_store(store_url, tmp_path)
    table = sun_table(store, find_checkpoint(store, "gen"))
    assert (table.samples, table.candidates) == (10, 9)
    found = counts(table)
    assert found["a crystal"] == 10
    assert found["valid"] == 9  # all but the crushed one
    assert found["unique"] == 8 - 1  # zinc blende three times, as its scale does not matter
    assert found["novel"] == 9
    assert found["valid and unique"] in (6, 7)  # which of the three stands for all is by id
    assert table.unjudged == {"failed": 1, "not converged": 1, "reference missing": 1}
    stable = [line for line in table.lines if line.what.startswith("S.U.N.")]
    n, m, k = table.passed, table.relaxed, found["stable (0.1), of those relaxed"]
    assert stable[1].estimate == product(share(n, 10), share(k, m))
    rows = seen(store)
    flags = {name: rows[str(made.crystal().id)] for name, made in MADE.items()}
    assert not flags["known"]["is_novel"]
    assert flags["stable"]["stable_01"]
    assert not flags["stable"]["stable_0"]
    assert not flags["crushed"]["valid"]
    for name in ("unfinished", "failed", "no reference", "unstable"):
        assert flags[name]["stable_01"] is False, name
        assert flags[name]["s_u_n_01"] is False, name
    assert flags["not relaxed"]["stable_01"] is None
    assert flags["not relaxed"]["s_u_n_01"] is None
    assert sum(bool(row["s_u_n_01"]) for row in rows.values()) == k
    three = [flags[name]["is_unique"] for name in ("stable", "the same", "crushed")]
    assert three.count(True) == 1
    assert flags["unstable"]["times_generated"] == 2


def test_another_tolerance_needs_no_more_than_another_reading(store: Store) -> None:
    gen = find_checkpoint(store, "gen")
    wide = counts(sun_table(store, gen, stable=[2.0]))
    narrow = counts(sun_table(store, gen, stable=[0.01]))
    assert wide["stable (2), of those relaxed"] > narrow["stable (0.01), of those relaxed"] == 0
    strict = sun_table(store, gen, valid=["structural_validity", "bond_valence_balance"])
    assert set(strict.recipes.checks) == {"structural_validity", "bond_valence_balance"}
    assert counts(strict)["valid"] <= 9


def test_another_hull_or_reference_is_named(store: Store, tmp_path: Path) -> None:
    gen = find_checkpoint(store, "gen")
    first = sun_table(store, gen)
    lower = [*PHASES, Calculation("x-1", fluorite(4.7, "O", "Mg"), -6.4)]
    dataset(store, tmp_path, "other", lower)
    judged = find_set(store, "gen")
    work(store, stability_job(store, judged, ["other@1"], Choices(energies="total")))
    second = sun_table(store, gen)
    assert second.recipes.stability != first.recipes.stability
    again = sun_table(store, gen, stability=str(first.recipes.stability)[:8])
    assert counts(again) == counts(first) != counts(second)
    with pytest.raises(NotFoundError, match="no recipe of stability"):
        sun_table(store, gen, stability="zzzz")
    with pytest.raises(NotFoundError, match="gandb novelty gen --against other@1"):
        sun_table(store, gen, against=["other@1"])
    spec = keys_job(store)
    if spec is not None:
        work(store, spec)
    work(store, structure_novelty_job(store, gen, ["other@1"]))
    named = sun_table(store, gen, against=["mp@1"])
    assert named.recipes.novelty == first.recipes.novelty != sun_table(store, gen).recipes.novelty
    assert "against mp" in named.recipes.words["novelty"]


def test_what_was_not_judged_is_asked_for(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    work(store, candidates_job("gen", [write(tmp_path, "new", [MADE["stable"], MGO])]))
    gen = find_checkpoint(store, "gen")
    with pytest.raises(NotFoundError, match="gandb check gen"):
        sun_table(store, gen)
    work(store, structure_checks_job(find_set(store, "gen")))
    with pytest.raises(NotFoundError, match="gandb novelty gen"):
        sun_table(store, gen)
    dataset(store, tmp_path, "mp", PHASES)
    spec = keys_job(store)
    assert spec is not None
    work(store, spec)
    work(store, structure_novelty_job(store, gen, ["mp@1"]))
    table = sun_table(store, gen)
    assert (table.passed, table.relaxed) == (1, 0)
    assert math.isnan(table.lines[-1].estimate.value)
