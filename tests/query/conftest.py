"""A small store on each engine; one for all tests of a module, which only read it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import postgres
from tests.query.stores import DuckDBStore, PostgresStore, make_duckdb, make_postgres


@pytest.fixture(scope="module")
def duckdb_store(tmp_path_factory: pytest.TempPathFactory) -> DuckDBStore:
    return make_duckdb(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def postgres_store(postgres_url: str) -> Iterator[PostgresStore]:
    with postgres.fresh_database(postgres_url) as url:
        yield make_postgres(url)


@pytest.fixture(params=["duckdb", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest) -> DuckDBStore | PostgresStore:
    made: DuckDBStore | PostgresStore = request.getfixturevalue(f"{request.param}_store")
    return made
