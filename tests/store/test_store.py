"""Making and opening stores: what is there, what is refused, and that a failure leaves nothing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from gandb.core.config import Settings
from gandb.core.errors import GandbError, RevisionError, StoreError
from gandb.schema.tables import setting
from gandb.store import Store, StoreReader, engines, revisions
from gandb.store.server import PostgresEngine


def _create(target: Path | str, blobs: str | None = None, timeout: float = 20) -> Store:
    return Store.create(Settings(store=str(target), lock_timeout=timeout), blobs)


def _open(target: Path | str, timeout: float = 20) -> Store:
    return Store.open(Settings(store=str(target), lock_timeout=timeout))


def _put(store: Store, key: str) -> None:
    with store.write() as tx:
        assert tx.insert_new(setting, {"key": key, "value": "1"})


def _keys(store: Store) -> set[str]:
    with store.read() as connection:
        return {r[0] for r in connection.execute(sa.select(setting.c.key))} - {"blobs"}


def _fail_half_way(connection: sa.Connection, target: str = "") -> None:
    connection.exec_driver_sql("CREATE TABLE half (x integer)")
    raise StoreError("half way")


# --- new stores --------------------------------------------------------------------------


def test_a_store_is_made_and_opened_again(store_url: str, tmp_path: Path) -> None:
    made = _create(store_url, str(tmp_path / "blobs"))
    _put(made, "a")
    again = _open(store_url)
    assert _keys(again) == {"a"}
    assert again.kind == made.kind
    assert again.files.root == str(tmp_path / "blobs")


def test_a_second_init_is_refused_and_harms_nothing(store_url: str) -> None:
    store = _create(store_url)
    _put(store, "a")
    with pytest.raises(StoreError, match=r"there is a store at .* already"):
        _create(store_url)
    assert _keys(_open(store_url)) == {"a"}


def test_of_many_inits_at_once_one_wins(store_url: str) -> None:
    start = threading.Barrier(4)

    def one(_: int) -> str:
        start.wait()
        try:
            _create(store_url)
        except StoreError as error:
            return str(error)
        return "made"

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(one, range(4)))
    assert answers.count("made") == 1, answers
    assert sum("already" in answer for answer in answers) == 3, answers
    assert _keys(_open(store_url)) == set()


def test_a_failed_init_leaves_nothing(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(revisions, "upgrade", _fail_half_way)
        with pytest.raises(StoreError, match="half way"):
            _create(store_url)
    if "://" in store_url:
        with psycopg.connect(store_url) as connection:
            assert not connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            ).fetchall()
    else:
        assert not Path(store_url).exists()
    assert _keys(_create(store_url)) == set()


def test_a_failed_init_leaves_an_empty_directory_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.setattr(revisions, "upgrade", _fail_half_way)
    for target in ("there", "deep/below/it"):
        with pytest.raises(StoreError, match="half way"):
            _create(tmp_path / target)
    assert [p.name for p in tmp_path.iterdir()] == ["there"]
    assert not list((tmp_path / "there").iterdir())


def test_blobs_that_cannot_be_reached_leave_nothing(store_url: str) -> None:
    with pytest.raises(StoreError, match="cannot use nowhere://x for blobs"):
        _create(store_url, "nowhere://x")
    with pytest.raises(StoreError, match=r"no .*store"):
        _open(store_url)
    _create(store_url)


def test_an_empty_directory_becomes_a_store_in_place(tmp_path: Path) -> None:
    before = tmp_path.stat().st_ino
    _create(tmp_path)
    assert tmp_path.stat().st_ino == before
    assert {p.name for p in tmp_path.iterdir()} <= {"gandb.duckdb", ".gate.lock", ".room.lock"}


def test_what_a_killed_init_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".making-0123").mkdir()
    (tmp_path / ".making-0123" / "gandb.duckdb").write_bytes(b"half")
    (tmp_path / ".gate.lock").touch()
    _create(tmp_path)
    assert _keys(_open(tmp_path)) == set()


def test_a_directory_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(StoreError, match="is not empty and holds no store"):
        _create(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is a file; a store is a directory"):
        _create(tmp_path / "file")
    with pytest.raises(StoreError, match="cannot make"):
        _create(tmp_path / "file" / "below")


def test_a_database_with_other_things_is_refused(postgres_database: str) -> None:
    with psycopg.connect(postgres_database) as connection:
        connection.execute("CREATE TABLE thesis (x integer)")
        connection.execute("CREATE TABLE alembic_version (version_num text)")
        connection.execute("INSERT INTO alembic_version VALUES ('abc')")
    with pytest.raises(StoreError, match=r"is not empty and holds no store .*thesis"):
        _create(postgres_database)


def test_a_store_in_a_directory_can_be_moved(tmp_path: Path) -> None:
    store = _create(tmp_path / "here")
    name = store.files.put_blob(b"weights")
    (tmp_path / "here").rename(tmp_path / "there")
    assert _open(tmp_path / "there").files.get_blob(name) == b"weights"


# --- opening -----------------------------------------------------------------------------


def test_nothing_to_open_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no store at .*missing; .*gandb init"):
        _open(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


def test_an_empty_database_says_how_to_make_it(postgres_database: str) -> None:
    with pytest.raises(StoreError, match=r"holds no gandb store; .*gandb init"):
        _open(postgres_database)


def test_a_file_that_is_no_database_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "gandb.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match="not a valid DuckDB"):
        _open(tmp_path)


def test_no_store_named() -> None:
    with pytest.raises(StoreError, match=r"--store PATH.URL, or set GANDB_STORE"):
        Store.open(Settings())


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://host/x", "give a directory path or a postgresql:// URL"),
        ("postgresql://host:port/x", "cannot read the URL"),
        ("postgresql://u:very-secret@127.0.0.1:1/x", "cannot reach the database"),
    ],
)
def test_urls_that_cannot_be_used(url: str, words: str) -> None:
    for make in (_create, _open):
        with pytest.raises(StoreError, match=words) as caught:
            make(url)
        assert "very-secret" not in str(caught.value)


def test_a_password_is_never_shown(postgres_database: str) -> None:
    password = sa.engine.make_url(postgres_database).password
    assert password
    store = _create(postgres_database)
    assert "***" in store.location
    assert password not in store.location + store.files.root


# --- transactions ------------------------------------------------------------------------


def test_a_transaction_that_fails_leaves_nothing(store_url: str) -> None:
    store = _create(store_url)
    _put(store, "before")

    def fail() -> None:
        with store.write() as tx:
            tx.insert_new(setting, {"key": "a", "value": "1"})
            raise KeyError("a defect of the caller")

    with pytest.raises(KeyError, match="a defect of the caller"):
        fail()
    assert _keys(store) == {"before"}


def test_readers_cannot_write(store_url: str) -> None:
    store = _create(store_url)
    with pytest.raises((sa.exc.DBAPIError, GandbError), match=r"(?i)read.only"), store.read() as c:
        c.execute(setting.insert(), {"key": "a", "value": "1"})
    assert _keys(store) == set()


def test_a_mistake_in_sql_stays_one(store_url: str) -> None:
    store = _create(store_url)
    with pytest.raises(sa.exc.ProgrammingError), store.write() as tx:
        tx.connection.exec_driver_sql("SELECT no_such_column FROM setting")


def test_an_error_of_the_callers_files_stays_one(store_url: str) -> None:
    store = _create(store_url)
    with pytest.raises(BrokenPipeError), store.read():
        raise BrokenPipeError(32, "Broken pipe")


def test_the_drivers_connection_reads_and_does_not_write(store_url: str) -> None:
    store = _create(store_url)
    _put(store, "a")
    with store.read_only() as driver:
        assert driver.execute("SELECT count(*) FROM setting").fetchone()[0] >= 1
    with pytest.raises(Exception, match=r"(?i)read.only"), store.read_only() as driver:
        driver.execute("DELETE FROM setting")
    assert _keys(store) == {"a"}
    _put(store, "b")  # the file is free again


def test_one_row_is_inserted_once(store_url: str) -> None:
    store = _create(store_url)
    row = {"key": "a", "value": "1"}
    with store.write(alone=False) as tx:
        assert tx.insert_new(setting, row)
        assert not tx.insert_new(setting, {**row, "value": "2"})
    with store.write(alone=False) as tx:
        assert not tx.insert_new(setting, row)
        query = sa.select(setting.c.value).where(setting.c.key == "a")
        assert tx.execute(query).scalar_one() == "1"


def test_two_writers_of_one_row_both_succeed(store_url: str) -> None:
    store = _create(store_url)
    start = threading.Barrier(8)

    def insert(i: int) -> bool:
        start.wait()
        with store.write(alone=False) as tx:
            return tx.insert_new(setting, {"key": "shared", "value": str(i)})

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(insert, range(8))) == [False] * 7 + [True]


def test_waiting_for_the_merge_lock_ends(postgres_database: str) -> None:
    store = _create(postgres_database)
    impatient = _open(postgres_database, timeout=0.2)
    with store.write():
        with pytest.raises(StoreError, match=r"another process .* for 0.2 s"), impatient.write():
            pass
        with impatient.write(alone=False) as tx:  # bookkeeping need not wait
            tx.insert_new(setting, {"key": "beside", "value": "1"})
    assert _keys(store) == {"beside"}


def test_what_a_transaction_set_does_not_reach_the_next(postgres_database: str) -> None:
    store = _create(postgres_database)
    with store.read() as connection:
        connection.exec_driver_sql("SET search_path = nowhere")
    assert _keys(store) == set()
    assert isinstance(engines.connect(postgres_database, 1), PostgresEngine)


def test_a_reader_checks_the_revision_where_it_reads(store_url: str) -> None:
    settings = Settings(store_url)
    store = Store.create(settings)
    reader = StoreReader(settings)
    with reader.read_only() as connection:
        assert connection.execute("SELECT count(*) FROM source_snapshot").fetchall() == [(0,)]
    with store.write() as tx:
        tx.connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(RevisionError, match="written by a newer gandb"), reader.read_only():
        pass
    with store.write() as tx:
        tx.connection.execute(sa.text("DROP TABLE alembic_version"))
    with pytest.raises(StoreError, match="holds no gandb store"), reader.read_only():
        pass


def test_a_reader_of_no_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store at"):
        StoreReader(Settings(str(tmp_path / "none")))
