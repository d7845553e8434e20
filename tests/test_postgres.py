"""The tests' own PostgreSQL server."""

from __future__ import annotations

import psycopg
import pytest

from tests import postgres

pytestmark = pytest.mark.postgres


def test_each_database_is_fresh(postgres_url: str) -> None:
    with postgres.fresh_database(postgres_url) as first:
        with psycopg.connect(first) as connection:
            connection.execute("CREATE TABLE t (a int)")
        with postgres.fresh_database(postgres_url) as second:
            assert second != first
            with psycopg.connect(second) as connection:
                assert connection.execute("SELECT to_regclass('t')").fetchone() == (None,)


def test_a_database_is_dropped_with_connections_open(postgres_url: str) -> None:
    with postgres.fresh_database(postgres_url) as url:
        left_open = psycopg.connect(url)
    with pytest.raises(psycopg.OperationalError):
        left_open.execute("SELECT 1")
    left_open.close()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)


def test_store_url_is_of_each_engine(store_url: str, request: pytest.FixtureRequest) -> None:
    engine = request.node.callspec.params["store_url"]
    assert store_url.startswith("postgresql://") == (engine == "postgres")
