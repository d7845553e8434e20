"""Files hold what the query gave, are whole or absent, and cost constant memory."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.core.errors import GandbError, QueryError, UsageError
from gandb.query import cells
from gandb.query.formats import FileFormat, format_of, save, stream
from gandb.query.readonly import run
from gandb.query.result import Column, Limits, Result
from tests.query.stores import ROWS, DuckDBStore, PostgresStore

AnyStore = DuckDBStore | PostgresStore

ALL = "SELECT * FROM entry ORDER BY entry_id"


def _written(store: AnyStore, path: Path, statement: str = ALL, batch_rows: int = 2) -> int:
    file_format = format_of(path)
    assert file_format is not None
    with run(store, statement, Limits(batch_rows=batch_rows)) as result:
        return save(result, path, file_format)


def test_json_holds_every_value(store: AnyStore, tmp_path: Path) -> None:
    assert _written(store, tmp_path / "a.json") == len(ROWS)
    assert _written(store, tmp_path / "a.jsonl") == len(ROWS)
    array = json.loads((tmp_path / "a.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert array == lines
    assert [tuple(row.values())[:6] for row in array] == ROWS
    assert {row["price"] for row in array} == {12.5}
    assert {row["seen"] for row in array} == {"2024-05-06T07:08:09.000000Z"}
    assert {row["extra"] for row in array} == {'{"a": 1}'}


def test_csv_reads_back_equal(store: AnyStore, tmp_path: Path) -> None:
    assert _written(store, tmp_path / "a.csv") == len(ROWS)
    types = {"entry_id": pa.string(), "formula": pa.string(), "n_sites": pa.int64()}
    table = pa.csv.read_csv(
        tmp_path / "a.csv",
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )
    names = ["entry_id", "formula", "n_sites", "energy"]
    columns = table.select(names).to_pydict().values()
    assert list(zip(*columns, strict=True)) == [row[:4] for row in ROWS]
    assert table["tags"][0].as_py() == '["oxide", "red, rust"]'
    assert table["stable"].to_pylist() == [row[5] for row in ROWS]
    assert table["seen"].type == pa.timestamp("ns", "UTC")


def test_parquet_reads_back_equal(store: AnyStore, tmp_path: Path) -> None:
    assert _written(store, tmp_path / "a.parquet") == len(ROWS)
    with run(store, ALL) as result:
        expected = pa.Table.from_batches(list(result.batches), schema=result.schema)
    assert pq.read_table(tmp_path / "a.parquet").equals(expected)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json"])
def test_gz_compresses_the_same_bytes(store: AnyStore, tmp_path: Path, ending: str) -> None:
    _written(store, tmp_path / f"a.{ending}")
    _written(store, tmp_path / f"a.{ending}.gz")
    again = (tmp_path / f"a.{ending}.gz").read_bytes()
    assert gzip.decompress(again) == (tmp_path / f"a.{ending}").read_bytes()
    _written(store, tmp_path / f"a.{ending}.gz")
    assert (tmp_path / f"a.{ending}.gz").read_bytes() == again


def test_markdown_escapes_bars(duckdb_store: DuckDBStore, tmp_path: Path) -> None:
    _written(duckdb_store, tmp_path / "a.md", "SELECT 'a|b' AS x, 1.5::double AS y, NULL AS z")
    assert (
        tmp_path / "a.md"
    ).read_text() == "| x | y | z |\n| --- | --- | --- |\n| a\\|b | 1.5 |  |\n"


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl", "a.parquet", "a.md"])
def test_no_rows_still_make_a_valid_file(store: AnyStore, tmp_path: Path, name: str) -> None:
    assert _written(store, tmp_path / name, "SELECT formula FROM entry WHERE false") == 0
    text = (tmp_path / name).read_bytes()
    if name == "a.parquet":
        assert pq.read_table(tmp_path / name).schema.names == ["formula"]
    elif name == "a.json":
        assert json.loads(text) == []
    elif name == "a.csv":
        assert text == b"formula\n"
    elif name == "a.jsonl":
        assert text == b""


def test_a_failing_query_leaves_no_file(store: AnyStore, tmp_path: Path) -> None:
    (tmp_path / "kept.csv").write_text("before")
    statement = (
        "SELECT CASE WHEN x < 900000 THEN 1 ELSE CAST('bad' || x AS int) END "
        "FROM generate_series(1, 1000000) g(x)"
    )
    with pytest.raises(QueryError):
        _written(store, tmp_path / "kept.csv", statement, batch_rows=20_000)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.csv"]
    assert (tmp_path / "kept.csv").read_text() == "before"


def test_what_cannot_be_written_says_so(duckdb_store: DuckDBStore, tmp_path: Path) -> None:
    with pytest.raises(GandbError, match=r"cannot write .*No such file or directory"):
        _written(duckdb_store, tmp_path / "missing" / "a.csv")
    with pytest.raises(UsageError, match="compressed already"):
        _written(duckdb_store, tmp_path / "a.parquet.gz")
    with pytest.raises(UsageError, match="cast the column to text"):
        _written(duckdb_store, tmp_path / "a.parquet", "SELECT INTERVAL 1 DAY AS wait")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_says_so_and_leaves_nothing(duckdb_store: DuckDBStore) -> None:
    with (
        pytest.raises(GandbError, match="cannot write /dev/full: No space left"),
        run(duckdb_store, "SELECT * FROM range(1000000)") as result,
    ):
        save(result, Path("/dev/full"), FileFormat.CSV)


def test_a_link_keeps_pointing_and_a_file_keeps_its_umask(
    duckdb_store: DuckDBStore, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "a.csv").symlink_to(tmp_path / "real" / "b.csv")
    _written(duckdb_store, tmp_path / "a.csv", "SELECT 1 AS one")
    assert (tmp_path / "a.csv").is_symlink()
    assert (tmp_path / "real" / "b.csv").read_text() == "one\n1\n"
    mask = os.umask(0o022)
    os.umask(mask)
    assert (tmp_path / "real" / "b.csv").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", FileFormat.CSV),
        ("a.CSV.GZ", FileFormat.CSV),
        ("a.ndjson", FileFormat.JSONL),
        ("a.b.parquet", FileFormat.PARQUET),
        ("a.txt", None),
        ("csv", None),
    ],
)
def test_endings_name_formats(name: str, expected: FileFormat | None) -> None:
    assert format_of(Path(name)) is expected


# --- cells -------------------------------------------------------------------------------

TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBER = st.none() | st.floats()


def _result(table: pa.Table) -> Result:
    columns = tuple(Column(field.name, str(field.type)) for field in table.schema)
    return Result(columns, table.schema, iter(table.to_batches(max_chunksize=3)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(TEXT, NUMBER, st.none() | st.integers(-(2**63), 2**63 - 1), TEXT)))
def test_any_text_and_number_survives(rows: list[tuple[Any, ...]]) -> None:
    schema = pa.schema([("a, b", "string"), ("x", "float64"), ('n"', "int64"), ("z", "string")])
    columns = [[row[i] for row in rows] for i in range(4)]
    arrays = [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=schema)

    out = io.BytesIO()
    assert stream(_result(table), out, FileFormat.JSONL) == len(rows)
    parsed = [json.loads(line) for line in out.getvalue().decode().split("\n") if line]
    finite = [(a, x if x is not None and math.isfinite(x) else None, n, z) for a, x, n, z in rows]
    assert [tuple(row.values()) for row in parsed] == finite
    assert all(list(row) == schema.names for row in parsed)

    out = io.BytesIO()
    stream(_result(table), out, FileFormat.CSV)
    read = list(csv.reader(io.StringIO(out.getvalue().decode(), newline="")))
    assert read[0] == schema.names
    for line, (a, x, n, z) in zip(read[1:], rows, strict=True):
        assert line[0] == (a or "")
        assert line[3] == (z or "")
        assert line[2] == ("" if n is None else str(n))
        if x is None:
            assert line[1] == ""
        else:
            assert float(line[1]) == x or math.isnan(x)


def test_csv_tells_null_from_empty() -> None:
    batch = pa.record_batch({"a": ["", None, "x"], "b": [None, None, 1]})
    assert cells.csv_lines(batch).to_pybytes() == b'"",\n,\nx,1\n'


def test_sliced_and_coded_columns_are_written_right() -> None:
    coded = pa.array(["b", "a", None, "b"]).dictionary_encode()
    batch = pa.record_batch({"a": coded, "b": [1, 2, 3, 4]}).slice(1, 3)
    assert cells.csv_lines(batch).to_pybytes() == b"a,2\n,3\nb,4\n"
    assert cells.json_lines(batch).to_pybytes() == (
        b'{"a": "a", "b": 2}\n{"a": null, "b": 3}\n{"a": "b", "b": 4}\n'
    )


# --- memory ------------------------------------------------------------------------------

EXPORT = """
import pathlib, resource, sys
from gandb.query.formats import format_of, save
from gandb.query.readonly import run
from tests.query.stores import DuckDBStore, PostgresStore
kind, where, folder = sys.argv[1:]
store = DuckDBStore(pathlib.Path(where)) if kind == "duckdb" else PostgresStore(where)
peaks = []
for rows in (20_000, 1_000_000):
    for ending in ("csv.gz", "jsonl", "parquet"):
        if kind == "postgres" and ending == "csv.gz" and rows > 20_000:
            continue
        path = pathlib.Path(folder) / f"{rows}.{ending}"
        text = (
            "SELECT x, 'formula number ' || x AS formula, x / 7.0 AS energy, "
            "CAST('00000000-0000-4000-8000-000000000001' AS uuid) AS id "
            f"FROM generate_series(1, {rows}) g(x)"
        )
        with run(store, text) as result:
            assert save(result, path, format_of(path)) == rows
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(peaks[1] - peaks[0])
"""


@pytest.mark.slow
def test_a_million_rows_cost_no_more_memory_than_a_few(store: AnyStore, tmp_path: Path) -> None:
    where = str(store.path) if isinstance(store, DuckDBStore) else store.url
    ended = subprocess.run(
        [sys.executable, "-c", EXPORT, store.kind, where, str(tmp_path)],
        capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": "."},
    )  # fmt: skip
    assert (tmp_path / "1000000.jsonl").stat().st_size > 100_000_000
    assert pq.read_metadata(tmp_path / "1000000.parquet").num_rows == 1_000_000
    assert float(ended.stdout) < 100  # MiB
