"""What every test may ask for: real data, and a store address on each engine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

from tests import postgres

# Compiling a kernel takes its time once; how long an example takes says nothing on shared machines.
hypothesis.settings.register_profile("gandb", deadline=None)
hypothesis.settings.load_profile("gandb")

# What is started in the background ignores SIGINT, and so does all it starts; some tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that have slow tests.

    So no process is left alone with one of them at the end. A module stays together, as its tests
    share what is made once for it.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def _missing(reason: str, *, required: bool) -> NoReturn:
    """Skip, or fail where the thing that is missing was promised."""
    if required:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real records: ``GANDB_SHARED_DATA``, or ``../shared/data`` beside the repository.

    Skips without it; fails if the variable names a folder that is not there.
    """
    named = os.environ.get("GANDB_SHARED_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        _missing(f"no folder of real records at {folder}", required=bool(named))
    return folder


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a PostgreSQL server whose user may create databases.

    ``GANDB_TEST_POSTGRES`` if it is set, else a throw-away server, one per test process. Skips
    without server binaries; fails there in continuous integration (``CI`` is set).
    """
    if url := os.environ.get("GANDB_TEST_POSTGRES"):
        yield url
        return
    binaries = postgres.server_binaries()
    if binaries is None:
        _missing(
            "no PostgreSQL server: install one (apt-get install postgresql) "
            "or set GANDB_TEST_POSTGRES to the URL of a running one",
            required=bool(os.environ.get("CI")),
        )
    with postgres.running_server(binaries) as url:
        yield url


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """URL of a fresh, empty PostgreSQL database."""
    with postgres.fresh_database(postgres_url) as url:
        yield url


@pytest.fixture(params=["duckdb", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new store may be made, once on each engine: a path, or a PostgreSQL URL."""
    if request.param == "duckdb":
        return str(tmp_path / "store")
    url: str = request.getfixturevalue("postgres_database")
    return url
