"""The staged merge against a dictionary, for every kind of column, on both engines."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gandb.core.compositions import uuid_array
from gandb.core.config import Settings
from gandb.core.errors import InputError, MemoryLimitError, NotFoundError
from gandb.schema import tables
from gandb.schema.columns import DoubleList, Json, Moment, TextList
from gandb.store import Store, Transaction, loading
from gandb.store.bulk import fetch, fetch_ids

Row = dict[str, Any]
Key = tuple[UUID, str, int]

THING = sa.Table(
    "thing",
    sa.MetaData(),
    sa.Column("id", sa.Uuid(), primary_key=True),
    sa.Column("name", sa.Text(), primary_key=True),
    sa.Column("order", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("ref", sa.Uuid()),
    sa.Column("note", sa.Text()),
    sa.Column("flag", sa.Boolean()),
    sa.Column("small", sa.SmallInteger()),
    sa.Column("big", sa.BigInteger()),
    sa.Column("value", sa.Double()),
    sa.Column("at", Moment),
    sa.Column("texts", TextList),
    sa.Column("numbers", DoubleList),
    sa.Column("data", Json),
    sa.Column("blob", sa.LargeBinary()),
)
ARROW = {
    "name": pa.string(),
    "order": pa.int32(),
    "note": pa.string(),
    "flag": pa.bool_(),
    "small": pa.int16(),
    "big": pa.int64(),
    "value": pa.float64(),
    "at": pa.timestamp("us"),
    "texts": pa.list_(pa.string()),
    "numbers": pa.list_(pa.float64()),
    "data": pa.string(),
    "blob": pa.binary(),
}
PLAIN = [c for c in THING.columns if not isinstance(c.type, (sa.ARRAY, sa.JSON, sa.DateTime))]
LISTS = [c for c in THING.columns if isinstance(c.type, sa.ARRAY)]

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
AWKWARD = st.sampled_from(
    ["", " ", "null", "NULL", "\\N", "\\.", '"', '""', ",", "a,b", "{", "{}", "\n", "\r\n", "\\",
     "%s", "%%", "é😀", "'", "nan", "t"]
)  # fmt: skip
TEXTS = TEXT | AWKWARD
FLOATS = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1])
JSONS = st.recursive(
    st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: (
        st.lists(inner | st.none(), max_size=3)
        | st.dictionaries(TEXTS, inner | st.none(), max_size=3)
    ),
    max_leaves=5,
)
ROWS = st.fixed_dictionaries(
    {
        "id": st.integers(0, 3).map(lambda i: UUID(int=i << 126 | i)),
        "name": st.sampled_from(["", "a", "a,b", '"', "é"]),
        "order": st.integers(-1, 1),
        "ref": st.none() | st.uuids(),
        "note": st.none() | TEXTS,
        "flag": st.none() | st.booleans(),
        "small": st.none() | st.integers(-(2**15), 2**15 - 1),
        "big": st.none() | st.integers(-(2**63), 2**63 - 1),
        "value": st.none() | FLOATS,
        "at": st.none() | st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1)),
        "texts": st.none() | st.lists(TEXTS | st.none(), max_size=3),
        "numbers": st.none() | st.lists(FLOATS | st.none(), max_size=3),
        "data": st.none() | JSONS,
        "blob": st.none() | st.binary(max_size=5),
    }
)


def _key(row: Row) -> Key:
    return row["id"], row["name"], row["order"]


BATCHES = st.lists(st.lists(ROWS, max_size=6, unique_by=_key), max_size=4)


def _ids(values: list[UUID | None]) -> pa.ExtensionArray:
    storage = pa.array([None if v is None else v.bytes for v in values], pa.binary(16))
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


def _arrow(rows: list[Row]) -> pa.Table:
    columns = {"id": _ids([r["id"] for r in rows]), "ref": _ids([r["ref"] for r in rows])}
    for name, type_ in ARROW.items():
        values = [r[name] for r in rows]
        if name == "data":
            values = [None if v is None else json.dumps(v) for v in values]
        columns[name] = pa.array(values, type_, from_pandas=False)
    return pa.table(columns)


def _plain(value: Any) -> Any:
    """Return what can be compared: NaN equals NaN."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _as_stored(row: Row) -> Row:
    """Return a row as both engines hold it: JSON has one kind of number."""
    return {name: _plain(_numbers(v) if name == "data" else v) for name, v in row.items()}


def _numbers(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    if isinstance(value, dict):
        return {k: _numbers(v) for k, v in value.items()}
    return value


def _content(tx: Transaction, table: sa.Table = THING) -> dict[Key, Row]:
    rows = [dict(r) for r in tx.execute(sa.select(table)).mappings()]
    content = {_key(r): _as_stored(r) for r in rows}
    assert len(content) == len(rows), "a key occurs twice"
    return content


@contextmanager
def _table(url: str) -> Iterator[Transaction]:
    """Yield a transaction of a store with the table, without keys on DuckDB as bulk tables are."""
    store = Store.create(Settings(store=url))
    with store.write() as tx:
        made = THING
        if store.kind == "duckdb":
            bare = [sa.Column(c.name, c.type) for c in THING.columns]
            made = sa.Table("thing", sa.MetaData(), *bare)
        made.create(tx.connection)
    with store.write() as tx:
        yield tx


def test_any_batches_merge_as_into_a_dictionary(store_url: str) -> None:
    with _table(store_url) as tx:

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(batches=BATCHES)
        @example(batches=[[]])
        def check(batches: list[list[Row]]) -> None:
            tx.execute(sa.delete(THING))
            model: dict[Key, Row] = {}
            for rows in batches:
                new = {_key(r): r for r in rows if _key(r) not in model}
                assert tx.merge(THING, _arrow(rows)) == len(new)
                model.update(new)
            for rows in batches:
                assert tx.merge(THING, _arrow(rows)) == 0
            expected = {k: _as_stored(row) for k, row in model.items()}
            assert _content(tx) == expected
            _check_fetch(tx, model)

        check()


def test_pieces_merge_as_into_a_dictionary(store_url: str) -> None:
    """Of a key that is not there yet, the first row goes in, wherever it comes again."""
    batches = st.lists(st.lists(ROWS, max_size=6), max_size=4)
    with _table(store_url) as tx:

        @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(there=st.lists(ROWS, max_size=4, unique_by=_key), batches=batches)
        @example(there=[], batches=[])
        @example(there=[], batches=[[], []])
        def check(there: list[Row], batches: list[list[Row]]) -> None:
            tx.execute(sa.delete(THING))
            assert tx.merge(THING, _arrow(there)) == len(there)
            model = {_key(row): row for row in there}
            for row in (row for rows in batches for row in rows):
                model.setdefault(_key(row), row)
            new = len(model) - len(there)
            assert tx.merge_all(THING, lambda: map(_arrow, batches)) == new
            assert tx.merge_all(THING, lambda: map(_arrow, batches)) == 0
            assert _content(tx) == {k: _as_stored(row) for k, row in model.items()}

        check()


def test_what_goes_wrong_between_pieces_is_told_as_it_is(store_url: str) -> None:
    good = {**dict.fromkeys(ARROW), "ref": None, "order": 1}
    rows = [_arrow([{**good, "id": UUID(int=i), "name": "a"}]) for i in (1, 2)]

    def broken() -> Iterator[pa.Table]:
        yield rows[0]
        raise NotFoundError("the second piece is gone")

    def with_nul() -> Iterator[pa.Table]:
        yield rows[0]
        yield rows[1].set_column(rows[1].schema.get_field_index("note"), "note", pa.array(["\0"]))

    with _table(store_url):
        pass
    store = Store.open(Settings(store=store_url))
    for pieces, error in ((broken, NotFoundError), (with_nul, InputError)):
        with pytest.raises(error, match=r"gone|NUL"), store.write() as tx:
            tx.append_all(THING, 2, pieces())
    with store.write() as tx:
        assert _content(tx) == {}


def _check_fetch(tx: Transaction, model: dict[Key, Row]) -> None:
    found = fetch(tx.connection, sa.select(*PLAIN)).to_pylist()
    rows = {(UUID(r["id"]), r["name"], r["order"]): r for r in found}
    assert len(rows) == len(found) == len(model)
    for key, row in model.items():
        for column in PLAIN:
            value = str(row[column.name]) if column.name in {"id", "ref"} else row[column.name]
            value = None if row[column.name] is None else value
            assert _plain(rows[key][column.name]) == _plain(value), (column.name, row)
    lists = fetch(tx.connection, sa.select(THING.c.id, THING.c.name, THING.c.order, *LISTS))
    for row in lists.to_pylist():
        stored = model[UUID(row["id"]), row["name"], row["order"]]
        for column in LISTS:
            wanted = stored[column.name]
            if wanted is None or not any(v in (None, "") or "\x1f" in str(v) for v in wanted):
                assert _plain(row[column.name]) == _plain(wanted), (column.name, stored)
    for name in ("note", "value", "flag"):  # a line of CSV may be empty
        one = fetch(tx.connection, sa.select(THING.c[name])).column(0).to_pylist()
        assert sorted(map(repr, one)) == sorted(repr(row[name]) for row in model.values())


def test_absent_columns_become_null(store_url: str) -> None:
    with _table(store_url) as tx:
        rows = pa.table(
            {"order": pa.array([1], pa.int32()), "id": _ids([UUID(int=1)]), "name": ["a"]}
        )
        assert tx.merge(THING, rows) == 1
        (row,) = _content(tx).values()
        assert {k for k, v in row.items() if v is not None} == {"id", "name", "order"}


def test_slices_and_chunks_are_read_as_they_stand(store_url: str) -> None:
    rows: list[Row] = [
        {**dict.fromkeys(ARROW), "id": UUID(int=i), "ref": UUID(int=7 * i) if i % 3 else None,
         "name": str(i), "order": i, "texts": [str(i), "x"] if i % 2 else None}
        for i in range(100)
    ]  # fmt: skip
    whole = _arrow(rows)
    pieces = pa.concat_tables([whole.slice(60, 40), whole.slice(3, 7), whole.slice(30, 30)])
    with _table(store_url) as tx:
        assert tx.merge(THING, pieces) == 77
        assert _content(tx) == {_key(r): r for r in [*rows[60:], *rows[3:10], *rows[30:60]]}


def test_merging_is_for_who_is_alone(store_url: str) -> None:
    store = Store.create(Settings(store=store_url))
    with pytest.raises(RuntimeError, match="alone=True"), store.write(alone=False) as tx:
        tx.merge(tables.composition, pa.table({}))


@pytest.mark.parametrize(("column", "text"), [("note", "a\x00b"), ("data", '"a\\u0000b"')])
def test_nul_is_refused_on_both_engines(store_url: str, column: str, text: str) -> None:
    with _table(store_url) as tx:
        good: Row = {
            **dict.fromkeys(ARROW),
            "id": UUID(int=1),
            "ref": None,
            "name": "a",
            "order": 1,
        }
        rows = _arrow([good])
        at = rows.schema.get_field_index(column)
        with pytest.raises(InputError, match=rf"thing\.{column}: .*NUL"):
            tx.merge(THING, rows.set_column(at, column, pa.array([text])))
        assert tx.merge(THING, rows) == 1


def test_a_staged_relation_serves_a_statement_and_goes(store_url: str) -> None:
    with _table(store_url) as tx:
        rows: list[Row] = [
            {**dict.fromkeys(ARROW), "id": UUID(int=i), "ref": None, "name": "a", "order": i}
            for i in range(5)
        ]
        tx.merge(THING, _arrow(rows))
        stage = tx.stage(THING, _arrow(rows[:3]).select(["id", "order"]))
        change = f"UPDATE thing SET note = 'x' FROM {stage} AS s WHERE thing.id = s.id"
        tx.execute(sa.text(change))
        tx.unstage(stage)
        assert [r["note"] for r in _content(tx).values()].count("x") == 3
        ids = fetch_ids(tx.connection, sa.select(THING.c.id).where(THING.c.note == "x"))
        assert sorted(ids.tolist()) == [list(UUID(int=i).bytes) for i in range(3)]


def test_text_in_a_query_is_taken_literally(store_url: str) -> None:
    with _table(store_url) as tx:
        for i, name in enumerate(["100%", "100%%", "'", "a"]):
            row: Row = {**dict.fromkeys(ARROW), "id": UUID(int=i), "ref": None, "order": i}
            tx.merge(THING, _arrow([{**row, "name": name}]))
            found = fetch(tx.connection, sa.select(THING.c.order).where(THING.c.name == name))
            assert found.column(0).to_pylist() == [i]


# --- filling an empty PostgreSQL table ---------------------------------------------------


def _recipe_and_results(n: int, begin: int = 0) -> pa.Table:
    subjects = np.zeros((n, 16), np.uint8)
    subjects[:, :4] = np.arange(begin, begin + n, dtype=">u4").view(np.uint8).reshape(-1, 4)
    return pa.table(
        {
            "recipe_id": uuid_array(np.tile(np.frombuffer(UUID(int=1).bytes, np.uint8), (n, 1))),
            "subject_id": uuid_array(subjects),
            "passed": pa.array([True] * n),
            "reason": pa.array(["x"] * n),
        }
    )


def _constraints(tx: Transaction) -> list[Any]:
    query = (
        "SELECT conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace UNION ALL "
        "SELECT indexname, indexdef, true FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2"
    )
    return [tuple(r) for r in tx.connection.exec_driver_sql(query)]


RECIPE = {"id": UUID(int=1), "check_name": "x", "version": "1", "parameters": {}}
MANY = loading._WORTHWHILE


def test_a_first_load_leaves_keys_and_indexes_as_they_were(postgres_database: str) -> None:
    store = Store.create(Settings(store=postgres_database))
    with store.write() as tx:
        before = _constraints(tx)
        tx.insert_new(tables.recipe, RECIPE)
        assert tx.merge(tables.check_result, _recipe_and_results(MANY)) == MANY
        assert _constraints(tx) == before
    with store.write() as tx:
        assert tx.merge(tables.check_result, _recipe_and_results(MANY + 5)) == 5
        assert _constraints(tx) == before


@pytest.mark.parametrize("n", [10, MANY])
def test_a_row_without_its_parent_is_refused_however_many(postgres_database: str, n: int) -> None:
    store = Store.create(Settings(store=postgres_database))
    with pytest.raises(Exception, match="violates foreign key constraint"), store.write() as tx:
        tx.merge(tables.check_result, _recipe_and_results(n))
    with store.read() as connection:
        count = sa.select(sa.func.count()).select_from(tables.check_result)
        assert connection.execute(count).scalar_one() == 0


def test_a_table_that_others_use_is_filled_row_by_row(postgres_database: str) -> None:
    store = Store.create(Settings(store=postgres_database))
    with store.write() as tx:
        tx.insert_new(tables.recipe, RECIPE)
    with store.read() as reader:
        reader.execute(sa.select(tables.check_result)).all()  # holds its lock until the end
        with store.write() as tx:
            assert tx.merge(tables.check_result, _recipe_and_results(MANY)) == MANY
        assert reader.execute(sa.select(tables.check_result)).all() == []
    with store.read() as reader:
        assert len(reader.execute(sa.select(tables.check_result)).all()) == MANY


def test_what_was_merged_is_let_go_before_the_transaction_ends(tmp_path: Path) -> None:
    """DuckDB keeps what is registered with it until then: a long import would hold all its rows."""
    store = Store.create(Settings(store=str(tmp_path / "store")))
    with store.write() as tx:
        before = pa.total_allocated_bytes()
        for i in range(20):
            keys = [f"{i}-{k}-" + "x" * 1_000 for k in range(2_000)]
            rows = pa.table({"key": keys, "value": ["v"] * len(keys)})
            assert tx.merge(tables.setting, rows) == len(keys)
            assert tx.merge(tables.setting, rows) == 0
            del rows, keys
        assert pa.total_allocated_bytes() - before < 8_000_000  # of 40 MB that went in


def _held_in_memory(tx: Transaction) -> float:
    """Return the MB of rows that DuckDB has not written to its file, spilled or not."""
    query = (
        "SELECT sum(memory_usage_bytes + temporary_storage_bytes) / 1e6 FROM duckdb_memory() "
        "WHERE tag = 'IN_MEMORY_TABLE'"
    )
    return float(tx.connection.exec_driver_sql(query).scalar_one())


def test_pieces_are_written_before_the_transaction_ends(tmp_path: Path) -> None:
    """One by one, the same rows would all be held until then."""
    store = Store.create(Settings(store=str(tmp_path / "store")))
    n, size = 100, 5_000
    with store.write() as tx:
        tx.limit_memory(30)
        tx.insert_new(tables.recipe, RECIPE)
        pieces = (_recipe_and_results(size, i * size) for i in range(n))
        tx.append_all(tables.check_result, n * size, pieces)
        together = _held_in_memory(tx)
    with store.write() as tx:
        for i in range(n, n + 10):
            tx.append(tables.check_result, _recipe_and_results(size, i * size))
        one_by_one = _held_in_memory(tx) * n / 10
    assert together < one_by_one / 3
    with store.read() as connection:
        count = sa.select(
            sa.func.count(), sa.func.count(tables.check_result.c.subject_id.distinct())
        )
        assert tuple(connection.execute(count).one()) == ((n + 10) * size, (n + 10) * size)


@pytest.mark.parametrize("late", [False, True])
def test_too_little_memory_is_told_apart_and_changes_nothing(tmp_path: Path, late: bool) -> None:
    store = Store.create(Settings(store=str(tmp_path / "store")))

    def fill(tx: Transaction) -> None:
        if not late:
            tx.limit_memory(1)
        tx.append(tables.check_result, _recipe_and_results(100_000))
        if late:
            tx.limit_memory(1)  # the commit runs out of it

    with pytest.raises(MemoryLimitError, match="taken back"), store.write() as tx:
        fill(tx)
    count = sa.select(sa.func.count(tables.check_result.c.subject_id))
    with store.write() as tx:
        assert tx.execute(count).scalar() == 0
        tx.append(tables.check_result, _recipe_and_results(10))
