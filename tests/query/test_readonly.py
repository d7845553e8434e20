"""Reading works, and nothing else does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pytest

from gandb.core.config import Settings
from gandb.core.errors import QueryError
from gandb.query import calls
from gandb.query.frames import query
from gandb.query.readonly import run
from gandb.query.result import Limits, unique_names
from gandb.store import Store
from tests.query.stores import ROWS, DuckDBStore, PostgresStore

AnyStore = DuckDBStore | PostgresStore

# Would take hours on either engine.
ENDLESS = (
    "SELECT count(*) FROM generate_series(1, 50000000) a(x), generate_series(1, 50000000) b(y) "
    "WHERE a.x + b.y = -1"
)


def test_rows_and_types_are_the_same_on_both_engines(store: AnyStore) -> None:
    table = query(store, "SELECT * FROM entry ORDER BY entry_id")
    assert table.schema == pa.schema(
        {
            "entry_id": pa.string(),
            "formula": pa.string(),
            "n_sites": pa.int64(),
            "energy": pa.float64(),
            "tags": pa.list_(table.schema.field("tags").type.value_field),
            "stable": pa.bool_(),
            "price": pa.decimal128(10, 2),
            "seen": pa.timestamp("us", "UTC"),
            "extra": pa.string(),
        }
    )
    assert table.schema.field("tags").type.value_type == pa.string()
    names = ["entry_id", "formula", "n_sites", "energy", "tags", "stable"]
    columns = table.select(names).to_pydict().values()
    assert list(zip(*columns, strict=True)) == ROWS
    assert {str(price) for price in table["price"].to_pylist()} == {"12.50"}
    assert {str(seen) for seen in table["seen"].to_pylist()} == {"2024-05-06 07:08:09+00:00"}
    assert set(table["extra"].to_pylist()) == {'{"a": 1}'}


@pytest.mark.parametrize(
    ("statement", "count"),
    [
        ("select formula from stable_entries", 3),
        ("WITH big AS (SELECT * FROM entry WHERE n_sites > 1) SELECT * FROM big;", 3),
        ("VALUES (1), (2)", 2),
        ("(SELECT 1) UNION ALL (SELECT 2) -- twice", 2),
        ("/* first */ TABLE entry", 5),
        ("SELECT '50%' AS percent, 7 % 4 AS rest, 'DROP TABLE entry; --' AS text", 1),
        ("SELECT formula, row_number() OVER (ORDER BY energy) FROM entry LIMIT 2", 2),
        ("SELECT round(avg(energy)) FROM entry WHERE energy < 1", 1),
        ("SELECT * FROM entry WHERE false", 0),
        ("SELECT table_name FROM information_schema.tables WHERE table_name = 'entry'", 1),
    ],
)
def test_reading_statements_run(store: AnyStore, statement: str, count: int) -> None:
    assert query(store, statement).num_rows == count


@pytest.mark.parametrize(
    "statement", ["SHOW TABLES", "DESCRIBE entry", "SUMMARIZE entry", "FROM entry"]
)
def test_duckdb_has_its_own_reading_statements(duckdb_store: DuckDBStore, statement: str) -> None:
    assert query(duckdb_store, statement).num_rows > 0


@pytest.mark.parametrize("options", ["", "ANALYZE ", "(FORMAT JSON) ", "(ANALYZE, FORMAT JSON)"])
def test_plans_are_shown(store: AnyStore, options: str) -> None:
    with run(store, f" explain {options}SELECT formula FROM entry WHERE n_sites > 2") as result:
        text = "".join(str(row) for batch in result.batches for row in batch.to_pylist())
    assert result.plan
    assert "entry" in text


def test_repeated_column_names_are_numbered(store: AnyStore) -> None:
    table = query(store, "SELECT 1 AS a, 2 AS b, 3 AS a, 4 AS a")
    assert table.to_pylist() == [{"a": 1, "b": 2, "a_1": 3, "a_2": 4}]
    assert unique_names(["a", "a_1", "a"]) == ["a", "a_1", "a_2"]


def test_other_types_arrive(store: AnyStore) -> None:
    row = query(
        store,
        "SELECT sum(n_sites) AS total, DATE '2024-02-29' AS day, TIME '10:11:12' AS clock, "
        "CAST('NaN' AS double precision) AS nan, NULL AS nothing, "
        "TIMESTAMP '2024-01-02 03:04:05.678901' AS moment FROM entry",
    ).to_pylist()[0]
    assert float(row["total"]) == 15
    assert str(row["day"]) == "2024-02-29"
    assert str(row["clock"]) == "10:11:12"
    assert row["nan"] != row["nan"]
    assert row["nothing"] is None
    assert str(row["moment"]) == "2024-01-02 03:04:05.678901"


# --- refusals ----------------------------------------------------------------------------

WRITES = [
    "DELETE FROM entry",
    "UPDATE entry SET formula = 'x'",
    "INSERT INTO entry (formula) VALUES ('x')",
    "INSERT INTO entry (formula) VALUES ('x') RETURNING formula",
    "TRUNCATE entry",
    "DROP TABLE entry",
    "DROP VIEW stable_entries",
    "ALTER TABLE entry ADD COLUMN x int",
    "CREATE TABLE x AS SELECT 1",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE VIEW x AS SELECT 1",
    "SELECT * INTO x FROM entry",
    "WITH gone AS (DELETE FROM entry RETURNING *) SELECT * FROM gone",
    "EXPLAIN DELETE FROM entry",
    "EXPLAIN ANALYZE DELETE FROM entry",
    "EXPLAIN (ANALYZE) DELETE FROM entry",
    "explain/**/analyze delete from entry",
    "EXPLAIN ANALYZE CREATE TEMP TABLE x AS SELECT 1",
    "SELECT 1; DELETE FROM entry",
    "SELECT 1; COMMIT; DELETE FROM entry",
    "EXPLAIN SELECT 1; DELETE FROM entry",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "SET TimeZone = 'UTC'",
    "RESET ALL",
    "VACUUM",
    "ANALYZE",
    "CHECKPOINT",
    "LOAD 'x'",
    "COPY entry TO '/tmp/gandb-attack.csv'",
    "COPY (SELECT 1) TO '/tmp/gandb-attack.csv'",
    "COPY entry FROM '/etc/passwd'",
    "",
    "  ;; ",
    "-- nothing",
    "SELECT $1",
    "SELECT 1\0",
    'SELECT U&"formula" FROM entry',
    "SELECT " + "x" * 1_000_001,
]

DUCKDB_ATTACKS = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_json('/etc/passwd')",
    "SELECT * FROM read_parquet('x.parquet')",
    "SELECT * FROM parquet_metadata('x.parquet')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM '/etc/passwd'",
    "FROM 'secret.csv'",
    "FROM 'https://example.com/x.parquet'",
    "FROM 's3://bucket/x.parquet'",
    "SELECT * FROM python_frame",
    "SELECT getenv('HOME')",
    "FROM read_duckdb('other.duckdb')",
    "FROM enable_logging(storage = 'file', storage_config = {'path': '/tmp/gandb-attack'})",
    "FROM enable_profiling()",
    'FROM "enable_logging" ()',
    "FROM enable_logging/* */()",
    "FROM enable_logging -- \n ()",
    "FROM enable_logging\u00a0()",
    "FROM enable_logging\u2003()",
    "FROM main.enable_logging()",
    "FROM checkpoint()",
    "FROM force_checkpoint()",
    "FROM query('SELECT 1')",
    "FROM query('FROM enable_' || 'logging()')",
    "FROM query_table('entry')",
    "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "PRAGMA json_execute_serialized_sql('{}')",
    "FROM duckdb_secrets()",
    "FROM which_secret('s3://x', 's3')",
    "SELECT write_log('x')",
    "SELECT nextval('x')",
    "ATTACH ':memory:' AS other",
    "ATTACH '/tmp/gandb-attack.duckdb'",
    "DETACH gandb",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "FORCE INSTALL httpfs FROM community",
    "EXPORT DATABASE '/tmp/gandb-attack'",
    "IMPORT DATABASE '/tmp/gandb-attack'",
    "COPY FROM DATABASE gandb TO other",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "PRAGMA memory_limit = '1TB'",
    "SET enable_external_access = true",
    "SET GLOBAL lock_configuration = false",
    "CALL enable_logging()",
    "CREATE SECRET (TYPE s3)",
    "CREATE MACRO f(x) AS x",
    "PIVOT entry ON formula",
    "EXPLAIN ANALYZE COPY entry TO '/tmp/gandb-attack.csv'",
    "EXPLAIN ANALYZE SELECT * FROM read_text('/etc/passwd')",
    "SELECT " + "(" * 50_000 + "1" + ")" * 50_000,
]

POSTGRES_ATTACKS = [
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_catalog.pg_read_file('/etc/passwd')",
    "SELECT \"pg_read_file\" ('/etc/passwd')",
    "SELECT PG_READ_FILE('/etc/passwd')",
    "SELECT pg_read_file/* */('/etc/passwd')",
    "SELECT pg_read_file -- \n ('/etc/passwd')",
    "SELECT U&\"pg\\005fread_file\"('/etc/passwd')",
    "SELECT pg_read_binary_file('/etc/passwd')",
    "SELECT * FROM pg_ls_dir('/')",
    "SELECT pg_stat_file('/etc/passwd')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/gandb-attack')",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT set_config('role', 'none', true)",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "SELECT current_setting('data_directory')",
    "SELECT pg_reload_conf()",
    "SELECT pg_rotate_logfile()",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
    "SELECT pg_cancel_backend(1)",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_lock(1)",
    "SELECT pg_notify('a', 'b')",
    "SELECT pg_switch_wal()",
    "SELECT pg_create_restore_point('x')",
    "SELECT pg_logical_emit_message(false, 'a', 'b')",
    "SELECT pg_export_snapshot()",
    "SELECT pg_stat_reset()",
    "SELECT pg_sleep(0.01)",
    "SELECT 1 LIMIT (SELECT 1 FROM pg_sleep(0.01))",
    "SELECT nextval('x')",
    "SELECT query_to_xml('SELECT pg_' || 'sleep(1)', true, true, '')",
    "SELECT table_to_xml(('pg_au' || 'thid')::regclass, true, true, '')",
    "SELECT database_to_xml(true, true, '')",
    "SELECT * FROM ts_stat('SELECT 1')",
    "SELECT leaky()",
    "SELECT * FROM pg_authid",
    "SELECT * FROM pg_catalog.pg_shadow",
    'SELECT * FROM "pg_authid"',
    "TABLE pg_authid",
    "SELECT * FROM pg_hba_file_rules",
    "SELECT * FROM pg_settings",
    "SELECT * FROM pg_stat_activity",
    "SELECT * FROM pg_user_mappings",
    "SELECT * FROM pg_largeobject",
    "SELECT * FROM information_schema.user_mapping_options",
    "SELECT * FROM faraway",
    "SELECT * FROM entry FOR UPDATE",
    "COPY (SELECT 1) TO PROGRAM 'touch /tmp/gandb-attack'",
    "DO $$ BEGIN PERFORM pg_sleep(1); END $$",
    "CALL x()",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "RESET ROLE",
    "LISTEN x",
    "LOCK TABLE entry",
    "DECLARE c CURSOR FOR SELECT 1",
    "FETCH ALL FROM gandb_query",
    "SHOW ALL",
    "EXPLAIN (ANALYZE) SELECT pg_read_file('/etc/passwd')",
    "EXPLAIN ANALYZE EXECUTE p",
    "SELECT",
    "SELECT " + "(" * 50_000 + "1" + ")" * 50_000,
]


def _refused(store: AnyStore, statement: str) -> None:
    before = store.content()
    with pytest.raises(QueryError) as caught:
        query(store, statement, timeout=20)
    assert "stopped after" not in str(caught.value)
    assert store.content() == before
    assert not list(Path("/tmp").glob("gandb-attack*"))
    assert query(store, "SELECT count(*) AS n FROM entry").to_pylist() == [{"n": len(ROWS)}]


@pytest.mark.parametrize("statement", WRITES, ids=lambda text: text[:50])
def test_only_one_reading_statement_runs(store: AnyStore, statement: str) -> None:
    _refused(store, statement)


@pytest.mark.parametrize("statement", DUCKDB_ATTACKS, ids=lambda text: text[:60])
def test_duckdb_attacks_are_refused(
    duckdb_store: DuckDBStore, statement: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    duckdb.connect(str(tmp_path / "other.duckdb")).close()
    monkeypatch.chdir(tmp_path)
    python_frame = pa.table({"a": [1]})
    _refused(duckdb_store, statement)
    assert python_frame.num_rows == 1


@pytest.mark.postgres
@pytest.mark.parametrize("statement", POSTGRES_ATTACKS, ids=lambda text: text[:60])
def test_postgres_attacks_are_refused(postgres_store: PostgresStore, statement: str) -> None:
    _refused(postgres_store, statement)


@pytest.mark.parametrize("call", ["pandas_scan(NULL)", "arrow_scan(NULL, NULL, NULL)"])
def test_functions_that_take_pointers_do_not_end_the_process(
    duckdb_store: DuckDBStore, call: str
) -> None:
    script = (
        "import sys, pathlib; from tests.query.stores import DuckDBStore\n"
        "from gandb.core.errors import QueryError; from gandb.query.frames import query\n"
        "try: query(DuckDBStore(pathlib.Path(sys.argv[1])), 'SELECT * FROM ' + sys.argv[2])\n"
        "except QueryError as error: print(error)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(duckdb_store.path), call],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": "."},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "refused" in ended.stdout


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "FROM 'secret.csv'",
        "FROM glob('/*')",
        "FROM query('FROM read_text(''/etc/passwd'')')",
        "EXPLAIN ANALYZE SELECT * FROM read_csv('/etc/passwd')",
    ],
)
def test_duckdb_itself_refuses_files(
    duckdb_store: DuckDBStore, statement: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(calls, "called", lambda statement: set())
    with pytest.raises(QueryError, match="out of reach"):
        query(duckdb_store, statement)


@pytest.mark.postgres
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT * FROM pg_ls_dir('/')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT * FROM pg_hba_file_rules",
    ],
)
def test_postgres_itself_refuses_files_even_to_a_superuser(
    postgres_store: PostgresStore, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "called", lambda statement: set())
    monkeypatch.setattr(calls, "words", lambda statement: set())
    with pytest.raises(QueryError, match="permission denied"):
        query(postgres_store, statement)


@pytest.mark.postgres
def test_a_plain_role_with_select_only_can_read(postgres_store: PostgresStore) -> None:
    with psycopg.connect(postgres_store.url) as connection:
        name = "reader_of_" + connection.info.dbname
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
        connection.execute(f"GRANT SELECT ON entry TO {name}")
    reader = PostgresStore(
        psycopg.conninfo.make_conninfo(postgres_store.url, user=name, password="x")
    )
    try:
        assert query(reader, "SELECT * FROM entry").num_rows == len(ROWS)
        with pytest.raises(QueryError, match="permission denied"):
            query(reader, "SELECT * FROM stable_entries")
    finally:
        with psycopg.connect(postgres_store.url) as connection:
            connection.execute(f"REVOKE ALL ON entry FROM {name}")
            connection.execute(f"DROP ROLE {name}")


@pytest.mark.postgres
def test_extensions_bring_pure_functions_but_no_way_out(postgres_database: str) -> None:
    wanted = ("dblink", "pg_trgm", "tablefunc", "xml2")
    with psycopg.connect(postgres_database) as connection:
        rows = connection.execute("SELECT name FROM pg_available_extensions").fetchall()
        if missing := set(wanted) - {row[0] for row in rows}:
            pytest.skip(f"this PostgreSQL lacks {missing}")
        for name in wanted:
            connection.execute(f"CREATE EXTENSION {name}")
        connection.execute("CREATE AGGREGATE public.max(text) (SFUNC = textcat, STYPE = text)")
    store = PostgresStore(postgres_database)
    for statement in (
        "SELECT * FROM dblink('dbname=x', 'SELECT 1') AS t(x int)",
        "SELECT dblink_connect('dbname=x')",
        "SELECT * FROM crosstab('SELECT 1, 2, 3') AS t(x int, y int)",
        "SELECT * FROM xpath_table('a', 'b', 'c', 'd', 'true') AS t(x int)",
        "SELECT max(1)",
    ):
        with pytest.raises(QueryError, match="refused"):
            query(store, statement)
    assert query(store, "SELECT similarity('Fe2O3', 'Fe2O3') AS x").to_pylist() == [{"x": 1.0}]


def test_the_common_functions_that_skip_the_check_are_harmless() -> None:
    from gandb.query import duckdb_reader

    skipped = duckdb_reader._COMMON | duckdb_reader._VOLATILE_FUNCTIONS
    rows = duckdb.execute(
        "SELECT DISTINCT function_name, function_type, stability FROM duckdb_functions() "
        "WHERE list_contains(?, function_name)",
        [sorted(skipped)],
    ).fetchall()
    assert {name for name, *_ in rows} >= duckdb_reader._VOLATILE_FUNCTIONS
    assert {kind for _, kind, _ in rows} <= {"scalar", "aggregate", "macro"}
    volatile = {name for name, _, stability in rows if stability == "VOLATILE"}
    assert volatile <= duckdb_reader._VOLATILE_FUNCTIONS


# --- errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "SELECT *\nFROM entries e",
            "no table or view named 'entries'; known: stable_entries, entry (line 2, column 6)\n"
            "  FROM entries e\n"
            "       ^",
        ),
        (
            "SELECT 'é', formla FROM entry",
            "no column named 'formla'; known: formula, energy, ",
        ),
        ("SELECT 'é', formla FROM entry", "(line 1, column 13)\n"),
        ("SELECT e.formla FROM entry e", "no column named 'formla'; known: formula, energy, "),
        (
            "SELECT energy FROM stable_entries",
            "no column named 'energy'; known: entry_id, formula (line 1, column 8)",
        ),
        ("SELECT * FROM entry WHERE (", "syntax error at end of input (line 1, column 28)"),
        ("SELEC 1", 'syntax error at or near "SELEC" (line 1, column 1)\n  SELEC 1\n  ^'),
        ("DROP TABLE entry", "DROP is refused, because queries only read: use SELECT, WITH"),
        ("SELECT CAST(formula AS int) FROM entry", "Fe2O3"),
        (
            "EXPLAIN SELECT * FROM entries",
            "'entries'; known: stable_entries, entry (line 1, column 23)",
        ),
    ],
)
def test_messages_say_what_where_and_what_exists(
    store: AnyStore, statement: str, message: str
) -> None:
    with pytest.raises(QueryError) as caught:
        query(store, statement)
    assert message in str(caught.value)


def test_a_failure_in_a_late_row_is_reported_too(store: AnyStore) -> None:
    statement = (
        "SELECT CASE WHEN x < 900000 THEN 1 ELSE CAST('bad' || x AS int) END "
        "FROM generate_series(1, 1000000) g(x)"
    )
    with pytest.raises(QueryError, match="bad900000"), run(store, statement) as result:
        assert sum(batch.num_rows for batch in result.batches)


# --- time --------------------------------------------------------------------------------


def test_a_query_stops_at_its_time_limit(store: AnyStore) -> None:
    start = time.monotonic()
    with pytest.raises(QueryError, match=r"stopped after 0\.5 s"):
        query(store, ENDLESS, timeout=0.5)
    assert time.monotonic() - start < 10
    assert query(store, "SELECT 1 AS one").num_rows == 1


def test_ctrl_c_cancels_the_query(store: AnyStore) -> None:
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.5, signal.pthread_kill, (main, signal.SIGINT))
    start = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        query(store, ENDLESS)
    timer.join()
    assert time.monotonic() - start < 10
    assert query(store, "SELECT 1 AS one").num_rows == 1


def test_many_threads_read_one_store(store: AnyStore) -> None:
    counts: list[int] = []

    def read() -> None:
        for _ in range(5):
            table = query(store, "SELECT sum(x) AS total FROM generate_series(1, 1000) g(x)")
            counts.append(int(table["total"][0].as_py()))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [500_500] * 20


def test_duckdb_spills_to_disk_and_cleans_up(
    duckdb_store: DuckDBStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spill = tmp_path / "it's spilled"
    spill.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spill))
    statement = "SELECT md5(x::varchar) AS a FROM range(2000000) g(x) ORDER BY a"
    with run(duckdb_store, statement, Limits(memory="100MB", threads=1)) as result:
        first = next(result.batches)
        assert any(spill.iterdir())
    assert first["a"][0].as_py() < first["a"][1].as_py()
    assert not list(spill.glob("gandb-sql-*"))
    with (
        pytest.raises(QueryError, match="is not a size"),
        run(duckdb_store, "SELECT 1", Limits(memory="1GB'; --")),
    ):
        pass


# --- the real store ----------------------------------------------------------------------


def test_the_real_store_is_read_and_stays_usable(
    store_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    store = Store.create(Settings(store=store_url))
    assert query(store, "SELECT count(*) AS n FROM entries").to_pylist() == [{"n": 0}]
    with pytest.raises(QueryError, match="known: entries"):
        query(store, "SELECT * FROM entires")
    with pytest.raises(QueryError):
        query(store, "DELETE FROM entry")
    with store.write() as connection:
        assert connection is not None
    assert query(store, "SELECT * FROM generated").num_rows == 0
    assert capfd.readouterr().err == ""
