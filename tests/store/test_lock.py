"""Processes and threads that share one embedded store: in turn, none forgotten, none stuck."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pytest
import sqlalchemy as sa

from gandb.core.config import Settings
from gandb.core.errors import StoreError
from gandb.schema.tables import setting
from gandb.store import Store
from gandb.store.lock import StoreLock

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 8
WRITES = 4

CROWD = """
import json, sys, time
import sqlalchemy as sa
from gandb.core.config import Settings
from gandb.schema.tables import setting
from gandb.store import Store

path, own, writes = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = Store.open(Settings(store=path, lock_timeout=120))
waits, seen = [], 0
for i in range(writes):
    began = time.monotonic()
    with store.write() as tx:
        waits.append(time.monotonic() - began)
        tx.insert_new(setting, {"key": f"{own}-{i}", "value": "1"})
    with store.read() as connection:
        count = connection.execute(sa.select(sa.func.count()).select_from(setting)).scalar_one()
        assert count > seen, (count, seen)
        seen = count
        if i == int(own) % writes:
            time.sleep(0.3)
    with store.read_only() as driver:
        driver.execute("SELECT * FROM entries").fetchall()
print(json.dumps(max(waits)))
"""

HOLDER = """
import sys, time
from gandb.core.config import Settings
from gandb.schema.tables import setting
from gandb.store import Store

store = Store.open(Settings(store=sys.argv[1]))
mode = sys.argv[2]
with getattr(store, mode)() as held:
    if mode == "write":
        held.insert_new(setting, {"key": "never", "value": "1"})
    print("held", flush=True)
    time.sleep(600)
"""

FOREIGN = """
import sys, time, duckdb
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(Settings(store=str(tmp_path / "store"), lock_timeout=30))


def _run(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def _keys(store: Store) -> set[str]:
    with store.read() as connection:
        return {r[0] for r in connection.execute(sa.select(setting.c.key))}


def _put(store: Store, key: str) -> None:
    with store.write() as tx:
        tx.insert_new(setting, {"key": key, "value": "1"})


def _impatient(store: Store, timeout: float = 0.3) -> Store:
    return Store.open(Settings(store=store.location, lock_timeout=timeout))


def test_eight_processes_write_and_read_at_once(store: Store) -> None:
    crowd = [_run(CROWD, store.location, i, WRITES) for i in range(PROCESSES)]
    waits = []
    for process in crowd:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        waits.append(json.loads(out))
    assert _keys(store) == {f"{p}-{i}" for p in range(PROCESSES) for i in range(WRITES)}


def test_a_stream_of_readers_does_not_starve_a_writer(store: Store) -> None:
    stop = threading.Event()
    lock = StoreLock(Path(store.location), 30)

    def read() -> None:
        while not stop.is_set():
            with lock.shared():
                time.sleep(0.02)

    readers = [threading.Thread(target=read) for _ in range(6)]
    for reader in readers:
        reader.start()
    try:
        began = time.monotonic()
        for i in range(3):
            _put(store, str(i))
        assert time.monotonic() - began < 10
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert _keys(store) == {"0", "1", "2"}


@pytest.mark.parametrize("mode", ["write", "read"])
def test_a_killed_holder_frees_the_store_and_leaves_nothing(store: Store, mode: str) -> None:
    holder = _run(HOLDER, store.location, mode)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(StoreError, match=r"another process .*GANDB_LOCK_TIMEOUT"),
            _impatient(store).write(),
        ):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    _put(store, "after")
    assert _keys(store) == {"after"}


def test_readers_share(store: Store) -> None:
    holder = _run(HOLDER, store.location, "read")
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert _keys(_impatient(store, 5)) == set()
    finally:
        _end(holder)


def test_a_program_that_is_not_gandb_is_waited_for(store: Store) -> None:
    other = _run(FOREIGN, Path(store.location) / "gandb.duckdb", 2)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        impatient = Store(store.engine, store.files, 0.2)
        impatient.engine = type(store.engine)(Path(store.location), 0.2)  # type: ignore[call-arg]
        with (
            pytest.raises(StoreError, match=r"not gandb has had .* open .*PID"),
            impatient.read(),
        ):
            pass
        _put(store, "a")  # has the patience
    finally:
        _end(other)
    assert _keys(store) == {"a"}


def test_a_connection_of_this_process_past_gandb_is_named(store: Store) -> None:
    with (
        duckdb.connect(str(Path(store.location) / "gandb.duckdb")),
        pytest.raises(StoreError, match=r"this process has .* open already"),
        store.read(),
    ):
        pass
    assert _keys(store) == set()


def test_a_transaction_in_a_transaction_is_refused_at_once(store: Store) -> None:
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="transaction open"), store.write(), store.write():
        pass
    with pytest.raises(RuntimeError, match="transaction open"), store.read(), store.write():
        pass
    with pytest.raises(RuntimeError, match="transaction open"), store.write(), store.read():
        pass
    assert time.monotonic() - began < 10
    _put(store, "after")


def test_reading_inside_reading_is_no_deadlock_with_a_waiting_writer(store: Store) -> None:
    writer = threading.Thread(target=_put, args=(store, "a"))
    with store.read():
        writer.start()
        time.sleep(0.3)  # the writer has the gate by now and waits for us
        with store.read() as inner:
            assert inner.exec_driver_sql("SELECT count(*) FROM setting").scalar() == 0
    writer.join(30)
    assert _keys(store) == {"a"}


def test_lock_files_that_cannot_be_made_are_a_store_error(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match=r"cannot lock the store: .*No such file"),
        StoreLock(tmp_path / "missing", 1).shared(),
    ):
        pass


def test_lock_files_removed_meanwhile_are_noticed(tmp_path: Path) -> None:
    lock = StoreLock(tmp_path, 10)
    inside: list[str] = []

    def second() -> None:
        with StoreLock(tmp_path, 10).exclusive():
            inside.append("second")

    with lock.exclusive():
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        lock.remove()
    thread.join(10)
    assert inside == ["second"]
    assert (tmp_path / ".room.lock").exists()  # made anew, so that a third meets the second there
