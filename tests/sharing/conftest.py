"""Two groups with full stores, their bundles, and copies that a test may change."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gandb.core.config import Settings
from gandb.store import Store
from tests import postgres
from tests.sharing import groups, serve_lab


@dataclass(frozen=True)
class Group:
    """A group's store and a bundle of all that it knows."""

    store: Store
    bundle: Path

    def copy(self, folder: Path) -> Store:
        """Return a copy of the store."""
        shutil.copytree(self.store.location, folder)
        return Store.open(Settings(str(folder)))


@pytest.fixture(scope="session")
def two_groups(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Group]:
    """Two groups that worked apart on data that overlap."""
    found = {}
    for origin in ("ada", "bose"):
        folder = tmp_path_factory.mktemp(origin)
        store = groups.make(str(folder / "store"), folder, origin)
        groups.fill(store, folder, origin)
        found[origin] = Group(store, groups.bundle(store, folder / "bundle"))
    return found


@pytest.fixture
def copy_of(two_groups: dict[str, Group], tmp_path: Path) -> Callable[[str], Store]:
    """Return copies of the stores by origin."""
    return lambda origin: two_groups[origin].copy(tmp_path / f"copy-of-{origin}")


@pytest.fixture(
    scope="session", params=["duckdb", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def lab_served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[serve_lab.Lab, serve_lab.Served]]:
    """A store with publications that is served, on each engine; for tests that change nothing."""
    folder = tmp_path_factory.mktemp("served")
    if request.param == "duckdb":
        lab = serve_lab.fill(str(folder / "store"), folder / "files", n=25)
        with serve_lab.serving(lab.store) as served:
            yield lab, served
        return
    with postgres.fresh_database(request.getfixturevalue("postgres_url")) as url:
        lab = serve_lab.fill(url, folder / "files", n=25)
        with serve_lab.serving(lab.store) as served:
            yield lab, served
