"""A full disk or a lost database: the store is as it was before, and the error says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import numpy as np
import psycopg
import pyarrow as pa
import pytest
import sqlalchemy as sa

from gandb.core.compositions import uuid_array
from gandb.core.config import Settings
from gandb.core.errors import StoreError
from gandb.schema.tables import check_result, recipe, setting
from gandb.store import Store
from tests import postgres

ROOT = Path(__file__).resolve().parents[2]
ROWS = 30_000
MANY = 120_000
ROOMS = (0, 50_000, 300_000, 1_000_000, 2_500_000, 5_000_000, 40_000_000)
"""Bytes by which a file may outgrow the database."""

FILL = """
import json, resource, signal, sys
from pathlib import Path
from gandb.core.config import Settings
from gandb.core.errors import StoreError
from gandb.schema.tables import check_result
from gandb.store import Store
from tests.store.test_failures import MANY, verdicts

path, room, begin = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
store = Store.open(Settings(store=str(path)))
size = (path / "gandb.duckdb").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, size + room))
try:
    with store.write() as tx:
        tx.merge(check_result, verdicts(begin, MANY))
except StoreError as error:
    print(json.dumps(str(error)))
else:
    print(json.dumps(None))
"""


def verdicts(begin: int, n: int = ROWS) -> pa.Table:
    """Rows that no compression makes small."""
    rng = np.random.default_rng(begin)
    own = np.tile(np.frombuffer(bytes(15) + b"\1", np.uint8), (n, 1))
    return pa.table(
        {
            "recipe_id": uuid_array(own),
            "subject_id": uuid_array(rng.integers(0, 256, (n, 16), np.uint8)),
            "passed": pa.array(rng.random(n) < 0.5),
            "reason": pa.array([rng.bytes(12).hex() for _ in range(n)]),
        }
    )


def _store(url: str) -> Store:
    store = Store.create(Settings(store=url, lock_timeout=20))
    with store.write() as tx:
        tx.execute(
            recipe.insert(),
            {
                "id": UUID(int=1),
                "check_name": "x",
                "version": "1",
                "parameters": {},
            },
        )
        tx.merge(check_result, verdicts(0))
    return store


def _count(store: Store) -> int:
    with store.read() as connection:
        query = sa.select(sa.func.count()).select_from(check_result)
        return int(connection.execute(query).scalar_one())


# --- DuckDB ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_disk_takes_the_whole_transaction_back(tmp_path: Path) -> None:
    store = _store(str(tmp_path / "store"))
    outcomes = []
    expected = ROWS
    for k, room in enumerate(ROOMS, 1):
        answer = subprocess.run(
            [sys.executable, "-c", FILL, store.location, str(room), str(k)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert answer.returncode == 0, (room, answer.stderr)
        message = json.loads(answer.stdout)
        if message is None:
            expected += MANY
        else:
            assert "so the store is as it was before" in message
        outcomes.append(message is None)
        assert _count(store) == expected, (room, message)
        with store.read() as connection:
            doubles = "SELECT count(DISTINCT subject_id) FROM check_result"
            assert connection.exec_driver_sql(doubles).scalar() == expected
    assert outcomes[0] is False
    assert outcomes[-1] is True
    with store.write() as tx:  # and with room it goes on
        assert tx.merge(check_result, verdicts(99)) == ROWS


# --- PostgreSQL --------------------------------------------------------------------------


def _terminate(url: str, pid: int) -> None:
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


def _pid(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def _after(seconds: float, action: Callable[[], None]) -> threading.Thread:
    def wait() -> None:
        time.sleep(seconds)
        action()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_lost_connection_takes_the_whole_transaction_back(postgres_database: str) -> None:
    store = _store(postgres_database)

    def lose() -> None:
        with store.write() as tx:
            tx.merge(check_result, verdicts(1))
            _terminate(postgres_database, _pid(tx.connection))
            tx.insert_new(setting, {"key": "a", "value": "1"})

    with pytest.raises(StoreError, match=r"failed: terminating connection .* as it was before"):
        lose()
    assert _count(store) == ROWS


def test_a_connection_lost_during_copy_takes_it_back(postgres_database: str) -> None:
    store = _store(postgres_database)
    threads = []

    def lose() -> None:
        with store.write() as tx:
            tx.merge(check_result, verdicts(1, 10))
            pid = _pid(tx.connection)
            threads.append(_after(0.1, lambda: _terminate(postgres_database, pid)))
            for k in range(2, 100):
                tx.merge(check_result, verdicts(k))

    with pytest.raises(StoreError, match=r"\*\*\*.* failed: .* as it was before"):
        lose()
    threads[0].join()
    assert _count(store) == ROWS


def test_a_connection_lost_at_commit_is_told_as_such(postgres_database: str) -> None:
    store = _store(postgres_database)
    threads = []
    with store.write() as tx:
        for statement in (
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_sleep(5); RETURN NULL; END'",
            "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON setting DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION slow()",
        ):
            tx.connection.exec_driver_sql(statement)

    def lose() -> None:
        with store.write() as tx:
            tx.insert_new(setting, {"key": "a", "value": "1"})
            pid = _pid(tx.connection)
            threads.append(_after(0.5, lambda: _terminate(postgres_database, pid)))

    with pytest.raises(StoreError, match="was lost while it committed"):
        lose()
    threads[0].join()
    with store.read() as connection:
        assert connection.execute(sa.select(setting.c.key).where(setting.c.key == "a")).all() == []


def test_a_reader_that_loses_its_database_is_told(postgres_database: str) -> None:
    store = _store(postgres_database)

    def lose() -> None:
        with store.read() as reader:
            _terminate(postgres_database, _pid(reader))
            reader.execute(sa.select(setting))

    with pytest.raises(StoreError, match="failed: terminating") as caught:
        lose()
    assert "taken back" not in str(caught.value)


def test_a_server_that_stops_is_told_and_not_waited_for(postgres_url: str) -> None:
    assert postgres_url  # there is a server to be had
    binaries = postgres.server_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server that could be stopped")

    def lose(store: Store) -> None:
        with store.write() as tx:
            tx.merge(check_result, verdicts(1))
            backend = Path(f"/proc/{_pid(tx.connection)}/stat").read_text()
            os.kill(int(backend.rpartition(")")[2].split()[1]), signal.SIGQUIT)
            time.sleep(0.5)
            tx.insert_new(setting, {"key": "a", "value": "1"})

    with postgres.running_server(binaries) as url:
        store = _store(url)
        with pytest.raises(StoreError, match="as it was before"):
            lose(store)
        with pytest.raises(StoreError, match="cannot reach the database"):
            _count(store)
