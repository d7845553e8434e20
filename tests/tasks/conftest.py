"""Real tables, and one store with everything in it that tests of a module only read."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from gandb.core.config import Settings
from gandb.store import Store
from tests.tasks.labs import Lab, cut_tables, make_lab


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return cut_tables(tmp_path_factory.mktemp("tables"), 400)


@pytest.fixture(scope="session")
def lab(tables: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("lab")
    return make_lab(str(folder / "store"), folder, tables)


@pytest.fixture
def own_lab(lab: Lab, tmp_path: Path) -> Lab:
    """A copy of the store that a test may change."""
    folder = tmp_path / "copy"
    shutil.copytree(lab.store.location, folder)
    return dataclasses.replace(lab, store=Store.open(Settings(str(folder))))
