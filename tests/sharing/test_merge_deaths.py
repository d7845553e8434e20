"""Merges are killed at any moment: the store is as before or as it should be, and goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gandb.core.config import Settings
from gandb.sharing.merging.merging import merge
from gandb.store import Store
from gandb.store.verify import remove_leftovers
from gandb.tasks.verification import verify_store
from tests.content import digest
from tests.sharing import groups
from tests.sharing.conftest import Group
from tests.tasks.test_death import Nursery

PASSES = {
    "verified": 1, "blob": 1, "compared": 24, "appended": 22, "version": 2, "stated": 1,
    "recorded": 12, "executing": 60, "merged": 1,
}  # fmt: skip
"""Places where a merge may die, and how often it passes there, about."""


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    found = Nursery(tmp_path_factory.mktemp("nursery"), "tests.sharing.nursery")
    yield found
    found.close()


class Deaths:
    """Lets merges into a store die, again and again, until one lives.

    Attributes:
        hits: how often each kind of death came before the end.
    """

    def __init__(self, nursery: Nursery, address: str, bundle: Path) -> None:
        self.nursery = nursery
        self.args = ("--store", address, "share", "merge", str(bundle), "--no-identify")
        self.store = Store.open(Settings(address))
        self.hits: Counter[str] = Counter()
        self.states: Counter[str] = Counter()

    def run(self, after: str, rng: np.random.Generator, usual: float, deaths: int) -> None:
        before = digest(self.store)
        assert before != after
        for death in range(deaths):
            place = str(rng.choice(list(PASSES)))
            if death % 3 == 0:
                place = "any moment"
                reply = self.nursery.run(*self.args, kill_after=rng.uniform(0.05, usual))
            else:
                passes = int(rng.integers(1, PASSES[place] + 1))
                reply = self.nursery.run(*self.args, trap=(place, passes))
            found = digest(self.store)
            assert found in (before, after), f"killed at {place}"
            if reply["code"] == -9:
                self.hits[place] += 1
                self.states["before" if found == before else "after"] += 1
            if found == after:
                return
        assert self.nursery.run(*self.args)["code"] == 0
        assert digest(self.store) == after


def expected(two_groups: dict[str, Group], folder: Path) -> str:
    store = two_groups["ada"].copy(folder)
    merge(store, two_groups["bose"].bundle)
    return digest(store)


def _live(
    nursery: Nursery,
    two_groups: dict[str, Group],
    tmp_path: Path,
    seed: int,
    wanted: int,
) -> tuple[int, Counter[str]]:
    after = expected(two_groups, tmp_path / "calm")
    rng = np.random.default_rng(seed)
    total, states = 0, Counter[str]()
    usual = 3.0
    for life in range(4 * wanted):
        store = two_groups["ada"].copy(tmp_path / f"life{life}")
        for sha256 in list(store.files.blobs()):  # so that blobs have to come
            if life % 2:
                store.files.drop_blob(sha256)
        lives = Deaths(nursery, store.location, two_groups["bose"].bundle)
        lives.run(after, rng, usual, wanted)
        assert lives.nursery.run(*lives.args)["code"] == 0
        assert digest(store) == after
        if not life % 2:
            assert [f for f in verify_store(store) if f["problems"]] == []
        remove_leftovers(store)
        total += sum(lives.hits.values())
        states += lives.states
        if total >= wanted:
            break
    return total, states


@pytest.mark.slow
def test_twenty_five_deaths_leave_no_trace(
    nursery: Nursery, two_groups: dict[str, Group], tmp_path: Path
) -> None:
    total, states = _live(nursery, two_groups, tmp_path, 2, 25)
    assert total >= 25
    assert states["before"] > 10
    assert states["after"] > 0


@pytest.mark.postgres
def test_deaths_leave_no_trace_on_postgres(
    nursery: Nursery, two_groups: dict[str, Group], tmp_path: Path, postgres_database: str
) -> None:
    calm = groups.make(str(tmp_path / "calm"), tmp_path / "calm-files", "cora")
    merge(calm, two_groups["bose"].bundle)
    groups.make(postgres_database, tmp_path / "files", "cora")
    lives = Deaths(nursery, postgres_database, two_groups["bose"].bundle)
    lives.run(digest(calm), np.random.default_rng(3), 3.0, 5)
    assert lives.nursery.run(*lives.args)["code"] == 0
    assert digest(lives.store) == digest(calm)


def test_a_refused_merge_takes_its_blobs_back(
    two_groups: dict[str, Group], copy_of: Callable[[str], Store]
) -> None:
    store = copy_of("ada")
    blobs = sorted(store.files.blobs())
    for sha256 in blobs:
        store.files.drop_blob(sha256)
    with store.write() as tx:
        tx.connection.exec_driver_sql("DELETE FROM blob")
        tx.connection.exec_driver_sql("UPDATE job SET state = 'failed' WHERE kind = 'generate'")
    with pytest.raises(Exception, match="finish it first"):
        merge(store, two_groups["bose"].bundle)
    assert list(store.files.blobs()) == []
