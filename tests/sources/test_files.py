"""Files into rows: every row keeps its line, and one bad row costs one row."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.core.errors import InputError
from gandb.core.ids import canonical_json
from gandb.sources import files
from gandb.sources.files import RecordTable, TextTable, read_file


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(table: TextTable | RecordTable) -> list[tuple[int, ...]]:
    columns = [table.texts(name).to_pylist() for name in table.columns]
    return list(zip(table.lines.tolist(), *columns, strict=True))


def rejected(table: TextTable | RecordTable) -> list[tuple[int, str, str]]:
    return [(r.line, r.reason, r.raw) for r in table.rejects]


# --- CSV and TSV ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("formula,value\nFe,1\nO2,2\n", [2, 3]),
        ("formula,value\nFe,1\nO2,2", [2, 3]),
        ("formula,value\r\nFe,1\r\nO2,2\r\n", [2, 3]),
        ("\ufeffformula,value\nFe,1\nO2,2\n", [2, 3]),
        ("\n\nformula,value\n\nFe,1\n  \nO2,2\n\n", [5, 7]),
        ("# ref: a paper\n# another\nformula,value\nFe,1\nO2,2\n", [4, 5]),
        (' formula ,"value"\n"Fe",1\nO2,"2"\n', [2, 3]),
    ],
)
def test_csv_in_all_its_dress(tmp_path: Path, content: str, lines: list[int]) -> None:
    table = read_file(write(tmp_path, "t.csv", content))
    assert table.columns == ["formula", "value"]
    assert rows(table) == [(lines[0], "Fe", "1"), (lines[1], "O2", "2")]
    assert table.rejects == []


def test_words_that_mean_missing_elsewhere_stay_text(tmp_path: Path) -> None:
    words = ["NaN", "NA", "None", "null", "NULL", "nan", "N/A", "true", "inf", "1e5", "#N/A"]
    plain = read_file(
        write(tmp_path, "t.csv", "formula,x\n" + "".join(f"{w},{w}\n" for w in words))
    )
    quoted = read_file(
        write(tmp_path, "q.csv", "formula,x\n" + "".join(f'"{w}",{w}\n' for w in words))
    )
    for table in (plain, quoted):
        assert [row[1:] for row in rows(table)] == [(w, w) for w in words]


def test_malformed_lines_are_rejected_and_the_rest_goes_in(tmp_path: Path) -> None:
    content = b'formula,value\nFe,1\nO2\nFe,1,2\n"Na"Cl,1\nCaf\xe9,3\n"Li,4\nK,5\n'
    table = read_file(write(tmp_path, "t.csv", content))
    assert rows(table) == [(2, "Fe", "1"), (8, "K", "5")]
    assert [(line, raw) for line, _, raw in rejected(table)] == [
        (3, "O2"),
        (4, "Fe,1,2"),
        (5, '"Na"Cl,1'),
        (6, "Caf\\xe9,3"),
        (7, '"Li,4'),
    ]
    reasons = [reason for _, reason, _ in rejected(table)]
    assert reasons[0] == "1 fields where 2 are named"
    assert reasons[1] == "3 fields where 2 are named"
    assert reasons[3] == "not UTF-8: byte 0xe9"
    assert all(r.file == str(tmp_path / "t.csv") for r in table.rejects)


def test_quoted_cells_may_span_lines(tmp_path: Path) -> None:
    content = 'formula,cif\nFe,"data_Fe\n_cell 1, 2\n"\nO2,"a ""quoted"" word"\n'
    table = read_file(write(tmp_path, "t.csv", content))
    assert rows(table) == [(2, "Fe", "data_Fe\n_cell 1, 2"), (5, "O2", 'a "quoted" word')]
    assert table.raw(0) == 'Fe,"data_Fe\n_cell 1, 2\n"'
    assert table.raw(1) == 'O2,"a ""quoted"" word"'


def test_a_stray_quote_costs_one_line_and_not_the_rest(tmp_path: Path) -> None:
    good = "".join(f"Fe{k},1\n" for k in range(1, 500))
    table = read_file(write(tmp_path, "t.csv", 'formula,value\n"Fe,1\n' + good))
    assert [line for line, _, _ in rejected(table)] == [2]
    assert len(table.lines) == 499
    assert table.lines[0] == 3


def test_raw_text_is_cut(tmp_path: Path) -> None:
    table = read_file(write(tmp_path, "t.csv", "formula,value\n" + "x" * 5_000 + "\nFe,1\n"))
    assert len(table.rejects[0].raw) == files.MAX_RAW


def test_tab_separated(tmp_path: Path) -> None:
    table = read_file(write(tmp_path, "t.tsv", "formula\tvalue\nFe\t1,5\n"))
    assert rows(table) == [(2, "Fe", "1,5")]


CELL = st.text(alphabet="FeO2 ,\"'\té.", max_size=5)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=6))
def test_what_the_csv_module_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, table: list[tuple[str, str, str]]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, quoting=csv.QUOTE_ALL)
        writer.writerow(["a", "b", "c"])
        writer.writerows(table)
    read = read_file(path)
    assert read.rejects == []
    cells = [read.column(name).to_pylist() for name in "abc"]
    assert list(zip(*cells, strict=True)) == table


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(["Fe,1", "O2", "Fe,1,2", "", " ", '"Fe",1', '"', "é,2", ",", "\r"]))
)
def test_the_fast_reader_and_the_line_reader_agree(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    body = "\n".join(lines)
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    names = ["formula", "value"]
    slow = files._read_lines(path, files._lines(body), ",", names, 2)
    fast = files._read_plain(path, body, ",", names, 2)
    assert len(slow.lines) + len(slow.rejects) <= len(lines)
    if fast is not None:
        assert slow.rejects == []
        assert rows(fast) == rows(slow)
        assert [fast.raw(k) for k in range(len(fast.lines))] == [
            slow.raw(k) for k in range(len(slow.lines))
        ]


def test_plain_files_take_the_fast_reader() -> None:
    assert files._read_plain(Path("t.csv"), "Fe,1\nO2,2\n", ",", ["formula", "value"], 2)


# --- packed files --------------------------------------------------------------------------


def test_packed_files(tmp_path: Path) -> None:
    content = b"formula,value\nFe,1\n"
    packed = {
        "t.csv.gz": gzip.compress(content),
        "u.csv.gz": gzip.compress(content[:5]) + gzip.compress(content[5:]),
        "t.csv.bz2": bz2.compress(content),
        "t.csv.zst": pa.compress(content, codec="zstd", asbytes=True),
        "T.CSV.GZ": gzip.compress(content),
    }
    for name, data in packed.items():
        assert rows(read_file(write(tmp_path, name, data))) == [(2, "Fe", "1")], name


@pytest.mark.parametrize("ending", ["csv.gz", "csv.bz2", "csv.zst", "jsonl.gz", "parquet"])
def test_broken_files_are_refused_by_name(tmp_path: Path, ending: str) -> None:
    content = b"formula,value\n" + b"Fe,1\n" * 10_000
    data = {
        "csv.gz": gzip.compress(content)[:-20],
        "csv.bz2": bz2.compress(content)[:-20],
        "csv.zst": pa.compress(content, codec="zstd", asbytes=True)[:-3],
        "jsonl.gz": b"this is not gzip",
        "parquet": b"PAR1 this is not Parquet PAR1",
    }[ending]
    path = write(tmp_path, f"broken.{ending}", data)
    with pytest.raises(InputError) as caught:
        read_file(path)
    assert str(caught.value).startswith(f"{path}: cannot be read")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.csv", b"", "is empty; its first line must name the columns"),
        ("t.csv", b"\n \n# only a comment", "is empty; its first line must name the columns"),
        ("t.csv", b"\xff\xfef\x00o\x00", "is UTF-16; save it as UTF-8"),
        ("t.csv", b"formula,a,a\nFe,1,2\n", "line 1: column 'a' is there twice"),
        ("t.csv", b"formul\xe9,a\nFe,1\n", "line 1: column names are not UTF-8: 'formul\\\\xe9,a'"),
        ("t.csv", b'formula,"a\nFe,1\n', "line 1: no column names"),
        ("t.xlsx", b"", "unknown kind of file; the name must end in .csv, .tsv, .jsonl"),
        ("t.gz", b"", "unknown kind of file"),
        ("t", b"", "unknown kind of file"),
        ("t.json", b"[1, 2", "cannot be read as JSON"),
        ("t.json", b'{"a": 1}', "must hold a JSON array of objects, alone or as 'data'"),
        ("t.json", b'["\xe9"]', "cannot be read as JSON: it is not UTF-8"),
    ],
)
def test_unreadable_files_say_why(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(InputError) as caught:
        read_file(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_file(tmp_path / "absent.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_file(tmp_path / "folder.csv")


def test_a_file_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 1_000)
    path = write(tmp_path, "t.csv.gz", gzip.compress(b"formula,value\n" + b"Fe,1\n" * 1_000))
    with pytest.raises(InputError, match="more than 1,000 bytes after unpacking"):
        read_file(path)


# --- JSON ----------------------------------------------------------------------------------


def test_json_lines(tmp_path: Path) -> None:
    lines = [
        '{"formula": "Fe", "gap": 1.5, "modulus": {"vrh": 2}}',
        "",
        "{broken",
        "[1, 2]",
        '{"formula": "NaN", "gap": NaN, "id": 7}',
        '{"formula": "\\ud800"}',
        '"NaN"',
    ]
    table = read_file(write(tmp_path, "t.jsonl", "\n".join(lines)))
    assert table.lines.tolist() == [1, 5]
    assert table.texts("formula").to_pylist() == ["Fe", "NaN"]
    assert table.column("gap") == [1.5, None]
    assert table.column("modulus.vrh") == [2, None]
    assert table.texts("id").to_pylist() == [None, "7"]
    assert table.has("modulus.vrh")
    assert not table.has("modulus.voigt")
    assert [(line, raw) for line, _, raw in rejected(table)] == [
        (3, "{broken"),
        (4, "[1, 2]"),
        (6, '{"formula": "\\ud800"}'),
        (7, '"NaN"'),
    ]
    assert rejected(table)[1][1] == "no JSON object: it is of type list"
    assert table.raw(1) == lines[4]


def test_json_lines_with_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    table = read_file(write(tmp_path, "t.jsonl", b'{"formula": "Fe"}\n{"formula": "\xe9"}\n'))
    assert table.lines.tolist() == [1]
    assert rejected(table) == [(2, "no JSON object: not UTF-8: byte 0xe9", '{"formula": "\\xe9"}')]


@pytest.mark.parametrize("wrap", [False, True])
def test_json_arrays(tmp_path: Path, wrap: bool) -> None:
    content = [{"formula": "Fe"}, 3, {"formula": "O2"}]
    text = json.dumps({"data": content, "meta": {}} if wrap else content)
    table = read_file(write(tmp_path, "t.json", text))
    assert rows(table) == [(1, "Fe"), (3, "O2")]
    assert rejected(table) == [(2, "no JSON object: it is of type int", "3")]


# --- Parquet and extra columns -------------------------------------------------------------


@pytest.mark.parametrize("name", ["t.parquet", "t.parquet.gz"])
def test_parquet(tmp_path: Path, name: str) -> None:
    table = pa.table(
        {
            "formula": pa.array(["NaN", "Fe", None]).dictionary_encode(),
            "gap": pa.array([0.1, float("nan"), None], pa.float32()),
            "id": pa.array([1, 2, None]),
            "tags": pa.array([["a"], None, []]),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress((tmp_path / "t.parquet").read_bytes()))
    read = read_file(path)
    assert isinstance(read, TextTable)
    assert read.lines.tolist() == [1, 2, 3]
    assert read.texts("formula").to_pylist() == ["NaN", "Fe", None]
    assert read.column("gap").to_pylist() == [pytest.approx(0.1), None, None]
    assert read.texts("id").to_pylist() == ["1", "2", None]
    assert read.extra(["tags", "id"]) == [
        '{"id":1,"tags":"[\\"a\\"]"}',
        '{"id":2}',
        '{"tags":"[]"}',
    ]


@given(
    st.dictionaries(
        st.text(max_size=4),
        st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        max_size=4,
    )
)
def test_extra_columns_are_canonical_json(values: dict[str, float]) -> None:
    expected = canonical_json(values).decode() if values else None
    assert files._extra(values) == expected


def test_extra_columns_of_text_and_records(tmp_path: Path) -> None:
    text = read_file(write(tmp_path, "t.csv", "formula,b,a\nFe,2,\nO2,,\nK,1,x\n"))
    assert text.extra(["b", "a"]) == ['{"b":"2"}', None, '{"a":"x","b":"1"}']
    lines = '{"b": {"c": [1, NaN]}, "a": null}\n{"a": 1e999, "d": 0}\n{}\n'
    records = read_file(write(tmp_path, "t.jsonl", lines))
    assert records.extra(["a", "b"]) == ['{"b":{"c":[1,null]}}', '{"a":"Infinity"}', None]
