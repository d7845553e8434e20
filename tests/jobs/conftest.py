"""An empty store, once on each engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from gandb.core.config import Settings
from gandb.store import Store


@pytest.fixture
def store(store_url: str, tmp_path: Path) -> Store:
    blobs = str(tmp_path / "blobs") if "://" in store_url else None
    return Store.create(Settings(store_url, lock_timeout=30.0), blobs)


@pytest.fixture
def duckdb_store(tmp_path: Path) -> Store:
    return Store.create(Settings(str(tmp_path / "store"), lock_timeout=30.0))
