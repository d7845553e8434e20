from __future__ import annotations

import io
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.sources import mysql_dump
from gandb.sources.mysql_dump import Fault, Rows, Table, read_dump
from tests.sources.slow_mysql import slow_tables

SHARED = Path(
    os.environ.get("GANDB_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
).resolve()
SAMPLE = SHARED / "native" / "oqmd" / "mysqldump.sql"
real = pytest.mark.skipif(not SAMPLE.is_file(), reason="the real dump is not here")

COLUMNS = ("id", "name", "value", "data")
SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("value", pa.float64()),
                    ("data", pa.binary())])  # fmt: skip
CREATE = (
    b"CREATE TABLE `t` (\n  `id` int NOT NULL,\n  `name` varchar(20) DEFAULT ',x',\n"
    b"  `value` double COMMENT 'a, b; (c',\n  `data` blob,\n  PRIMARY KEY (`id`),\n"
    b"  KEY `k` (`name`,`value`)\n) ENGINE=InnoDB;\n"
)

Row = tuple[Any, ...]


class Trickle:
    """A stream that gives a few bytes at a time, and has no readinto."""

    def __init__(self, data: bytes, step: int) -> None:
        self._inner = io.BytesIO(data)
        self._step = step

    def read(self, size: int = -1) -> bytes:
        return self._inner.read(min(size, self._step))


def parse(
    data: bytes | BinaryIO, schema: pa.Schema = SCHEMA, block: int = mysql_dump.BLOCK
) -> tuple[list[Row], list[Fault]]:
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    rows: list[Row] = []
    faults: list[Fault] = []
    for found in read_dump(stream, {"t": schema}, block):
        if isinstance(found, Rows):
            assert len(found.lines) == found.batch.num_rows
            found.batch.validate(full=True)
            rows += zip(*(column.to_pylist() for column in found.batch.columns), strict=True)
        elif isinstance(found, Fault):
            faults.append(found)
    return rows, faults


def insert(values: bytes) -> bytes:
    return CREATE + b"INSERT INTO `t` VALUES " + values + b";\n"


# --- what values are ---------------------------------------------------------------------


def test_values_of_every_kind_are_read() -> None:
    values = (
        rb"(1,'O\'Neil \"x\" \\ \0\n\r\t\b\Z \% \_ \q''',-1.5e-3,NULL),"
        rb"(-2,'',.5,_binary 'a\0b'),(+3,null,0,x'00ff'),( 4 , _utf8mb4'x' , 1e3 ,0xDEADbeef),"
        rb"""(5,"say ""hi"" ''",2,b'0000000101000001')"""
    )
    rows, faults = parse(insert(values))
    assert not faults
    assert rows == [
        (1, "O'Neil \"x\" \\ \0\n\r\t\b\x1a \\% \\_ q'", -1.5e-3, None),
        (-2, "", 0.5, b"a\0b"),
        (3, None, 0.0, b"\x00\xff"),
        (4, "x", 1000.0, b"\xde\xad\xbe\xef"),
        (5, "say \"hi\" ''", 2.0, b"\x01\x41"),
    ]


def test_hexadecimal_and_bits_are_numbers_where_numbers_are_due() -> None:
    rows, faults = parse(insert(b"(0x10,'a',b'101',NULL),(x'ff',0x6162,0b11,'c')"))
    assert not faults
    assert rows == [(16, "a", 5.0, None), (255, "ab", 3.0, b"c")]


def test_numbers_are_read_exactly() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**64, 20_000, dtype=np.uint64).view(np.float64)
    numbers = [float(v) for v in bits if np.isfinite(v)]
    numbers += [0.500001203963955, 5e-324, 1.7976931348623157e308, 0.1, 1e23, 8.98846567431158e307]
    text = ",".join(f"({i},'',{v!r},NULL)" for i, v in enumerate(numbers))
    rows, faults = parse(insert(text.encode()))
    assert not faults
    assert [row[2] for row in rows] == numbers


def test_bytes_that_are_not_utf8_are_windows_1252() -> None:
    rows, _ = parse(insert("(1,'Schrö',1,NULL),".encode() + b"(2,'Schr\xf6 \x80\x81',1,NULL)"))
    assert [row[1] for row in rows] == ["Schrö", "Schrö €\x81"]


# --- statements --------------------------------------------------------------------------


def test_statements_of_other_kinds_are_passed_over() -> None:
    data = (
        b"\xef\xbb\xbf-- it's a comment; 'quoted\n# it's another\n/*!40101 SET NAMES utf8 */;\n"
        b"/*!50003 CREATE TRIGGER x BEGIN SET @a = ';'; END */;;\nDELIMITER ;\n"
        b"CREATE TABLE `u` (`a` text);\n"
        b"INSERT INTO `u` VALUES ('x;\nINSERT INTO `t` VALUES (9,\\'no\\',9,NULL);\n'),"
        b"('it''s;');\n"
        + insert(b"(1,'a',1,NULL)").replace(b"INSERT", b"LOCK TABLES `t` WRITE;\nINSERT")
        + b"/*!40000 ALTER TABLE `t` ENABLE KEYS */;UNLOCK TABLES;INSERT INTO u VALUES ('a');"
        b"insert ignore into db.`T` (`name`, `ID`) values\n(2,1),\n('b',2)\n;\n"
        b"REPLACE INTO t VALUES (3,'c',3,NULL) ON DUPLICATE KEY UPDATE id = ';';\n"
        b"INSERT INTO `t` (value) VALUES (4);INSERT INTO `t` VALUES (5,'e',5,NULL);"
    )
    rows, faults = parse(data)
    assert not faults or [f.reason for f in faults] == []
    assert rows == [
        (1, "a", 1.0, None),
        (1, "2", None, None),
        (2, "b", None, None),
        (3, "c", 3.0, None),
        (None, None, 4.0, None),
        (5, "e", 5.0, None),
    ]


def test_what_is_wanted_may_be_missing_and_tables_tell_their_columns() -> None:
    schema = pa.schema([("nothing", pa.string()), ("value", pa.float32())])
    found = list(read_dump(io.BytesIO(insert(b"(1,'a',1.5,NULL)")), {"T": schema, "u": schema}))
    assert isinstance(found[0], Table)
    assert found[0].columns == COLUMNS
    assert found[0].name == "T"
    assert isinstance(found[1], Rows)
    assert found[1].batch.to_pylist() == [{"nothing": None, "value": 1.5}]


def test_unquoted_names_and_definitions_with_comments() -> None:
    data = (
        b"CREATE TEMPORARY TABLE IF NOT EXISTS t (\n id int /* , not_a_column */,\n"
        b'"name" text CHECK (id > 0), value decimal(10,2) /*!80023 INVISIBLE */,\n'
        b" UNIQUE KEY id (id), data blob, CONSTRAINT c FOREIGN KEY (id) REFERENCES u (id));\n"
        b"INSERT INTO t VALUES (1,'a',10.25,'b');"
    )
    assert parse(data) == ([(1, "a", 10.25, b"b")], [])


def test_lines_are_those_of_the_rows() -> None:
    data = insert(b"(1,'a\nb',1,NULL),\n(2,'c',1,NULL),(3,'d',1,NULL),\n\n(4,'e',1,NULL)")
    for block in (64, 100, 4096, mysql_dump.BLOCK):
        found = read_dump(io.BytesIO(data * 3), {"t": SCHEMA}, block)
        lines = [n for rows in found if isinstance(rows, Rows) for n in rows.lines.tolist()]
        first = 1 + CREATE.count(b"\n")
        per = data.count(b"\n")
        assert lines == [
            k * per + n for k in range(3) for n in (first, first + 2, first + 2, first + 4)
        ]


# --- faults ------------------------------------------------------------------------------


def test_a_bad_row_costs_itself_alone() -> None:
    values = (
        b"(1,'a',1,NULL),(2,'b'),(3,'c',x,NULL),(4,'d',4,NULL,5),('y','e',5,NULL),"
        b"(6 6,'f',6,NULL),(7,,7,NULL),(99999999999999999999,'h',8,NULL),(9,'i',1e999,NULL),"
        b"(10,'j','nan',NULL),(11,'k',1_0,NULL),(12,'l',12,NULL)"
    )
    rows, faults = parse(insert(values))
    assert [row[0] for row in rows] == [1, 12]
    assert len(faults) == 10
    assert all(f.row and f.table == "t" for f in faults)
    assert "4 values" in faults[0].reason
    assert faults[0].raw.startswith("(2,'b')")
    assert "value is 'x', which is no double" in faults[1].reason


@pytest.mark.parametrize("block", [64, 1000, mysql_dump.BLOCK])
def test_broken_statements_cost_their_rest(block: int) -> None:
    good = b"INSERT INTO `t` VALUES (7,'g',7,NULL);\n"
    for broken in (
        b"INSERT INTO `t` VALUES (1,'a',1,NULL),oops,(2,'b',2,NULL);\n",
        b"INSERT INTO `t` VALUES (1,'a',1,NULL)(2,'b',2,NULL);\n",
        b"INSERT INTO `t` SET id = 3;\n",
        b"INSERT INTO `t` SELECT 1 FROM u;\n",
    ):
        rows, faults = parse(CREATE + broken + good, block=block)
        assert [row[0] for row in rows][-1:] == [7]
        assert len(faults) == 1
        assert not faults[0].row
        assert faults[0].line == 1 + CREATE.count(b"\n")


def test_rows_without_a_definition_are_a_fault() -> None:
    rows, faults = parse(b"INSERT INTO `t` VALUES (1,'a',1,NULL);\nINSERT INTO t(id) VALUES (2);")
    assert rows == [(2, None, None, None)]
    assert "no CREATE TABLE" in faults[0].reason


def test_a_row_that_is_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql_dump, "MAX_ROW", 10_000)
    long = b"x" * 50_000
    data = insert(b"(1,'a',1,NULL),(2,'" + long + b"',2,NULL)") + insert(b"(3,'c',3,NULL)")
    rows, faults = parse(data, block=256)
    assert [row[0] for row in rows] == [1, 3]
    assert "more than 10,000 bytes" in faults[0].reason


def test_a_definition_that_is_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql_dump, "MAX_HEAD", 10_000)
    data = CREATE.replace(b"'a, b; (c'", b"'" + b"x" * 50_000 + b"'") + insert(b"(3,'c',3,NULL)")
    rows, faults = parse(data, block=256)
    assert [row[0] for row in rows] == [3]
    assert len(faults) == 1


def test_wherever_a_dump_is_cut_off_what_came_before_counts() -> None:
    data = insert(b"(1,'a;b',1,NULL),(2,'it\\'s',2,'x'),(3,'c',3,NULL)") + insert(b"(4,'d',4,'')")
    everything, none = parse(data)
    assert not none
    for end in range(len(data)):
        rows, faults = parse(data[:end], block=64)
        assert rows == everything[: len(rows)]
        cut = [f for f in faults if "cut off" in f.reason]
        assert len(cut) == len(faults) <= 1
        last = data[:end].rstrip().rsplit(b"\n", 1)[-1]
        if end and not last.endswith(b";"):
            assert cut


def test_a_dump_that_does_not_say_that_it_is_complete_was_cut_off() -> None:
    for program in (b"MySQL", b"MariaDB"):
        data = b"-- " + program + b" dump 10.13\n" + insert(b"(1,'a',1,NULL)")
        rows, faults = parse(data)
        assert len(rows) == 1
        assert len(faults) == 1
        assert "cut off" in faults[0].reason
        assert not parse(data + b"\n-- Dump completed on 2024-10-16 10:37:20\n")[1]
        assert len(parse(data[:-5])[1]) == 1


class Failing(io.BytesIO):
    def readinto(self, room: Any) -> int:
        got = super().readinto(room)
        if not got:
            raise EOFError("Compressed file ended before the end-of-stream marker was reached")
        return got


def test_a_damaged_archive_is_a_dump_that_is_cut_off() -> None:
    rows, faults = parse(Failing(insert(b"(1,'a',1,NULL),(2,'b',2,NULL)")[:-10]))
    assert [row[0] for row in rows] == [1]
    assert "end-of-stream" in faults[0].reason


# --- other readers -----------------------------------------------------------------------

texts = st.one_of(
    st.text(max_size=30),
    st.text("'\"\\`;,()\n\r\0\x1a -#/*%_ax", max_size=40),
    st.sampled_from(["');\nINSERT INTO `t` VALUES (1,'", "\\", "\\'", "''", ");", "*/", "NULL"]),
)
rows_of_dumps = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        st.one_of(st.none(), texts.filter(lambda t: t.encode(errors="replace").decode() == t)),
        st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
        st.one_of(st.none(), st.binary(max_size=20)),
    ),
    max_size=12,
)


def escaped(text: bytes, style: int) -> bytes:
    if style % 3 == 0:  # as mysqldump does
        for plain, letter in zip(b"\\\0\n\r\"'\x1a", b"\\0nr\"'Z", strict=True):
            text = text.replace(bytes([plain]), b"\\" + bytes([letter]))
        return b"'" + text + b"'"
    text = text.replace(b"\\", b"\\\\")
    if style % 3 == 1:
        return b"'" + text.replace(b"'", b"''") + b"'"
    return b'"' + text.replace(b'"', b'""') + b'"'


def written(row: Sequence[Any], style: int) -> bytes:
    cells = []
    for value in row:
        if value is None:
            cells.append(b"NULL")
        elif isinstance(value, str):
            cells.append(escaped(value.encode(), style))
        elif isinstance(value, bytes) and style % 2 and value:
            cells.append(b"0x" + value.hex().encode())
        elif isinstance(value, bytes):
            cells.append(b"_binary " + escaped(value, style))
        else:
            cells.append(repr(value).encode())
    return b"(" + b",".join(cells) + b")"


@settings(max_examples=300, deadline=None)
@given(rows_of_dumps, st.integers(0, 5), st.integers(1, 4), st.sampled_from([64, 200, 5000]))
def test_dumps_with_nasty_text_are_read_as_the_slow_reader_does(
    rows: list[Row], style: int, together: int, block: int
) -> None:
    data = CREATE
    other = b"CREATE TABLE `u` (`a` text);\n"
    for begin in range(0, len(rows), together):
        values = [written(row, style) for row in rows[begin : begin + together]]
        other += b"INSERT INTO `u` VALUES " + b"".join(
            escaped(str(row[1]).encode(), style).join((b"(", b");\n")) for row in rows[:1]
        )
        data += b"INSERT INTO `t` VALUES " + (b",\n" if style == 4 else b",").join(values) + b";\n"
    data += b"-- Dump completed\n"
    if rows:
        data = other + data
    stream: Any = Trickle(data, 7) if style == 5 else io.BytesIO(data)
    got, faults = parse(stream, block=block)
    assert not faults
    assert got == rows
    _, slow = slow_tables(data)["t"]
    assert [row[1] for row in slow] == [None if r[1] is None else r[1].encode() for r in rows]
    assert [row[3] for row in slow] == [row[3] for row in rows]


@settings(max_examples=60, deadline=None)
@given(rows_of_dumps)
def test_dumps_without_backslashes_are_read_as_sqlite_does(rows: list[Row]) -> None:
    rows = [(a, b and b.replace("\\", "/").replace("\0", ""), c, None) for a, b, c, _ in rows]
    data = b"".join(b"INSERT INTO t VALUES " + written(row, 1) + b";\n" for row in rows)
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE t (id integer, name text, value real, data blob)")
        database.executescript(data.decode())
        theirs = database.execute("SELECT * FROM t ORDER BY rowid").fetchall()
    database.close()
    ours, faults = parse(CREATE + data)
    assert not faults
    assert ours == theirs


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 150), st.sampled_from([64, 4096]))
def test_garbage_ends(garbage: bytes, place: int, block: int) -> None:
    data = insert(b"(1,'a',1,NULL),(2,'b',2,NULL)")
    rows, _ = parse(data + garbage + data, block=block)
    assert rows[:2] == [(1, "a", 1.0, None), (2, "b", 2.0, None)]
    parse(data[:place] + garbage + data[place:], block=block)


@real
@pytest.mark.parametrize("block", [1000, mysql_dump.BLOCK])
def test_every_table_of_the_real_dump(block: int) -> None:
    data = SAMPLE.read_bytes()
    slow = slow_tables(data)
    assert len(slow) == 72
    wanted = {
        name: pa.schema([(column, pa.string()) for column in columns])
        for name, (columns, _) in slow.items()
    }
    ours: dict[str, list[list[str | None]]] = {name: [] for name in slow}
    seen = set()
    for found in read_dump(io.BytesIO(data), wanted, block):
        if isinstance(found, Rows):
            columns = [column.to_pylist() for column in found.batch.columns]
            ours[found.table] += map(list, zip(*columns, strict=True))
        else:
            assert isinstance(found, Table)
            seen.add(found.name)
            assert found.columns == tuple(slow[found.name][0])
    assert seen == set(slow)
    for name, (_, rows) in slow.items():
        assert ours[name] == [[None if c is None else c.decode() for c in row] for row in rows]
