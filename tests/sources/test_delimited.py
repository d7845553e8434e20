"""Rows of CSV and TSV, against Python's own reader."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.core.errors import InputError
from gandb.sources import delimited
from gandb.sources.delimited import RowError, header_of, rows

CELLS = st.text(st.sampled_from("ab1 ,\t\"'#\\éø\n"), max_size=8)


def read(text: str | bytes, delimiter: str = ",") -> list[Any]:
    data = text if isinstance(text, bytes) else text.encode()
    return list(rows(io.BytesIO(data), delimiter))


@given(
    st.integers(1, 4).flatmap(
        lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=0, max_size=6)
    ),
    st.sampled_from([",", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
)
@settings(max_examples=150, deadline=None)
def test_what_python_writes_is_read(table: list[list[str]], delimiter: str, end: str) -> None:
    width = len(table[0]) if table else 1
    names = [f"c{i}" for i in range(width)]
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([names, *table])
    found = read(out.getvalue(), delimiter)
    assert [list(row.values()) for _, row in found] == table
    theirs = csv.reader(io.StringIO(out.getvalue(), newline=""), delimiter=delimiter)
    starts = []
    while True:
        line = theirs.line_num + 1
        if next(theirs, None) is None:
            break
        starts.append(line)
    assert [line for line, _ in found] == starts[1:]


def test_comments_blank_lines_and_marks() -> None:
    text = '\ufeff# ref: someone\n\n # more\na,b\n\n1,2\n"x\ny",3\r\n#4,5\n'
    assert read(text) == [
        (6, {"a": "1", "b": "2"}),
        (7, {"a": "x\ny", "b": "3"}),
        (9, {"a": "#4", "b": "5"}),
    ]
    assert header_of(text.encode(), ",") == ["a", "b"]


def test_a_broken_row_costs_its_line() -> None:
    text = 'a,b\n1,2,3\n"open,5\n"x"y,6\n7,8\n"9\n9",10\n'
    found = read(text)
    assert [one for one in found if not isinstance(one, RowError)] == [
        (5, {"a": "7", "b": "8"}),
        (6, {"a": "9\n9", "b": "10"}),
    ]
    # Line 4 may be the rest of what line 3 begins.
    assert [one.line for one in found if isinstance(one, RowError)] == [2, 3]


def test_a_broken_row_of_many_lines_costs_one_row() -> None:
    cif = "data_x\nloop_\n _a\n 1 2 3\n"
    rows_of_text = [f'm-{i},"{cif}",{i}.5\n' for i in range(5)]
    good = read("id,cif,gap\n" + "".join(rows_of_text))
    assert len(good) == 5
    for broken in (
        rows_of_text[2].replace('"', "", 1),
        rows_of_text[2].replace('\n",', "\n,"),
        rows_of_text[2].replace("loop_", 'lo"op_'),
        rows_of_text[2].replace("loop_", 'lo"op_ "x'),
    ):
        found = read("id,cif,gap\n" + "".join([*rows_of_text[:2], broken, *rows_of_text[3:]]))
        kept = [one[1] for one in found if not isinstance(one, RowError)]
        assert kept == [one[1] for i, one in enumerate(good) if i != 2]
        assert len(found) == 5


def test_short_rows_are_rows() -> None:
    found = read("a,b,c\n1,2\n3,4\n5,6,7\n8\n9,10,11\n")
    assert [one.line if isinstance(one, RowError) else 0 for one in found] == [2, 3, 0, 5, 0]


def test_bytes_in_a_row_of_many_lines_cost_one_row() -> None:
    found = read(b'a,b\n1,"x\n\xff\ny"\n3,4\n')
    assert isinstance(found[0], RowError)
    assert found[1:] == [(5, {"a": "3", "b": "4"})]


def test_bytes_that_are_not_utf8_cost_their_row() -> None:
    first, second = read(b"a,b\n1,\xff\n3,4\n")
    assert isinstance(first, RowError)
    assert "not UTF-8" in str(first)
    assert first.raw == "1,\\xff"
    assert second == (3, {"a": "3", "b": "4"})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("# only\n", "is empty"),
        ("a,a\n1,2\n", "'a' is there twice"),
        ("a,b\n".encode("utf-16"), "UTF-16"),
        ('"a\n1\n', "not closed"),
    ],
)
def test_files_without_columns_are_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read(text)


def test_lines_and_rows_have_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "MAX_LINE", 1_000)
    monkeypatch.setattr(delimited, "MAX_ROW_LINES", 50)
    found = read("a,b\n" + "x" * 5_000 + ',1\n"open,2\n' + "3,4\n" * 200)
    assert [type(one) for one in found[:2]] == [RowError, RowError]
    assert "more than 1,000 bytes" in str(found[0])
    assert len(found) == 202
    assert found[-1] == (203, {"a": "3", "b": "4"})


def test_many_open_quotes_take_no_long_time() -> None:
    found = read("a\n" + '"x\n' * 20_001)
    assert all(isinstance(one, RowError | tuple) for one in found)
