"""JSON as a stream of documents, against the json module."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandb.core.errors import InputError
from gandb.sources import documents as module
from gandb.sources.base import Reject
from gandb.sources.documents import LEFT_OUT, Document, documents, kept
from gandb.sources.quantities import is_sentinel, measured, properties_of, reach
from gandb.sources.records import Member
from tests.sources.native import one_reject, text_member

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES, max_size=4)


def values(found: Iterator[Document | Reject]) -> list[Any]:
    listed = list(found)
    assert not [r for r in listed if isinstance(r, Reject)]
    return [d.value for d in listed if isinstance(d, Document)]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 3)


@given(st.lists(OBJECTS, max_size=5), st.sampled_from([None, 1]), st.booleans())
def test_arrays_are_what_json_reads(objects: list[Any], indent: int | None, plain: bool) -> None:
    text = json.dumps(objects, indent=indent, ensure_ascii=plain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", 3)
        assert values(documents(text_member(text))) == objects


@given(st.lists(OBJECTS, min_size=1, max_size=5), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_lines_are_what_json_reads(objects: list[Any], mark: bool, end: str) -> None:
    text = ("\ufeff" if mark else "") + end.join(map(json.dumps, objects)) + end
    listed = list(documents(text_member(text, "a.jsonl")))
    assert listed == [Document(i, o) for i, o in enumerate(objects, 1)]


@given(OBJECTS, st.lists(OBJECTS, max_size=3), st.sampled_from([None, 2]), st.booleans())
def test_an_array_inside_an_object(
    around: dict[str, Any], objects: list[Any], indent: int | None, last: bool
) -> None:
    around.pop("data", None)
    whole = {**around, "data": objects} if last else {"data": objects, **around}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", 3)
        assert (
            values(documents(text_member(json.dumps(whole, indent=indent)), ("data",))) == objects
        )
        assert values(documents(text_member(json.dumps(whole, indent=indent)))) == [whole]


@pytest.mark.usefixtures("small_chunks")
def test_a_broken_element_costs_itself() -> None:
    broken = ['{"a": nope, "b": ["]"]}', "5", '{"c": "\\ud800"}', '{"x": [1,}', "nope"]
    text = f'[{{"a": 1}}, {", ".join(broken[:3])}, {{"a": 2}}, {", ".join(broken[3:])}, {{"a": 3}}]'
    found = list(documents(text_member(text)))
    assert [d.value for d in found if isinstance(d, Document)] == [{"a": 1}, {"a": 2}, {"a": 3}]
    rejects = [r for r in found if isinstance(r, Reject)]
    assert [r.line for r in rejects] == [2, 3, 4, 6, 7]
    assert rejects[0].raw.startswith('{"a": nope')


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_broken_line_costs_itself(name: str) -> None:
    lines = [b'{"a": 1}', b'{"a": ', b"", b"[1]", b'{"a": "\xff"}', b'{"a": 2}']
    found = list(documents(text_member(b"\n".join(lines), name)))
    assert [d.line for d in found if isinstance(d, Document)] == [1, 6]
    assert [r.line for r in found if isinstance(r, Reject)] == [2, 4, 5]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_broken_first_line_costs_itself(name: str) -> None:
    lines = [b"", b'{"a": 1, oops}', b'{"a": 2}', b'{"a": 3}']
    found = list(documents(text_member(b"\n".join(lines), name)))
    assert [d.line for d in found if isinstance(d, Document)] == [3, 4]
    assert [r.line for r in found if isinstance(r, Reject)] == [2]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("cut", range(1, 30))
def test_a_file_that_is_cut_off_keeps_its_beginning(cut: int) -> None:
    text = '[{"a": 1}, {"a": 2}, {"a": 3}]'
    found = list(documents(text_member(text[:cut])))
    complete = text[:cut].count("}")
    assert [d.value for d in found[:-1] if isinstance(d, Document)] == [
        {"a": n + 1} for n in range(complete)
    ]
    assert isinstance(found[-1], Reject)
    assert ("cut off" in found[-1].reason) or ("ends in the middle" in found[-1].reason)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("<html></html>", "neither"),
        ("5", "neither"),
        ("[" * 200_000, "deep"),
        ('{"a": ' + "[" * 200_000, "deep"),
        ("[" + "1" * 5_000 + "]", "digits"),
        (json.dumps([{"a": 1}]).encode("utf-16"), "UTF-16"),
        ('[{"a": "\\ud800"}]', "surrogates"),
        (b'[{"a": "\xff"}]', "surrogates"),
        ("[5]", "type int"),
    ],
)
def test_refused(data: str | bytes, reason: str) -> None:
    assert reason in one_reject(documents(text_member(data))).reason


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": nope, "' + '\\"' * 100_000,
        '[{"a": nope, ' + '"' * 100_000,
        '[{"a": nope, ' + "{" * 100_000,
        "[" + "nope," * 1_000,
        "{" + " " * 100_000,
        '{"a":' * 100_000,
        "[{}" + "," * 100_000,
    ],
)
def test_broken_texts_take_no_longer_than_good_ones(text: str) -> None:
    for name in ("a.json", "a.jsonl"):
        found = list(documents(text_member(text, name)))
        assert isinstance(found[-1], Reject)


def test_large_objects_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OBJECT", 1_000)
    monkeypatch.setattr(module, "_CHUNK", 100)
    text = json.dumps([{"a": 1}, {"a": "x" * 5_000}, {"a": 2}], indent=1)
    *first, last = documents(text_member(text))
    assert first == [Document(1, {"a": 1})]
    assert isinstance(last, Reject)
    assert "1,000" in last.reason
    lines = "\n".join(['{"a": 1}', json.dumps({"a": "x" * 5_000}), '{"a": 2}'])
    found = list(documents(text_member(lines, "a.jsonl")))
    assert [getattr(f, "value", None) for f in found] == [{"a": 1}, None, {"a": 2}]


def test_memory_is_that_of_one_element() -> None:
    class Endless(io.RawIOBase):
        served = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            data = (b"[" if not self.served else b"") + b'{"a": [1.5, 2.5]},\n' * 3_000
            data = data[: len(buffer)] if len(buffer) < len(data) else data
            self.served += len(data)
            buffer[: len(data)] = data
            return len(data)

    stream = Endless()
    opened: BinaryIO = io.BufferedReader(stream, 2**17)  # type: ignore[assignment]
    found = documents(Member("a.json", None, lambda: opened))
    for _ in range(20_000):
        next(found)
    assert stream.served < 20_000 * 20 + 2**22
    found.close()


def test_damaged_archives_are_rejects() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("bad block")

    broken = Broken(b'[\n{"a": 1},')
    assert "bad block" in one_reject(documents(Member("a.json", None, lambda: broken))).reason


# --- extra and quantities ----------------------------------------------------------------


@given(OBJECTS)
def test_what_is_kept_is_what_was_said(value: dict[str, Any]) -> None:
    found = kept(value)
    assert found == {k: v for k, v in value.items() if v is not None and v not in ("", [], {})}
    json.dumps(found, allow_nan=False)


def test_what_is_kept_is_plain_and_bounded() -> None:
    said = {
        "inf": float("inf"),
        "low": [-float("inf"), float("nan")],
        "array": np.arange(3),
        "scalar": np.float64(1.5),
        "text": "\ud800",
        "odd": 1 + 2j,
        "large": "x" * 50_000,
        "not": 1,
    }
    found = kept(said, {"not"})
    assert found == {
        "inf": "Infinity",
        "low": ["-Infinity", None],
        "array": [0, 1, 2],
        "scalar": 1.5,
        "text": "\\ud800",
        "odd": "(1+2j)",
        LEFT_OUT: ["large"],
    }
    many = kept({str(i): "x" * 1_000 for i in range(5_000)})
    assert len(json.dumps(many)) < 150_000
    deep: Any = 1
    for _ in range(1_000):
        deep = [deep]
    json.dumps(kept({"deep": deep}))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        ("-1.5e-3", -0.0015),
        (" 2 ", 2.0),
        ("", None),
        ("NaN", None),
        ("na", None),
        (None, None),
        (1e12, None),
        (-1e9, None),
        ("inf", None),
        (10**400, None),
        (2e-319, None),
        (0.0, 0.0),
    ],
)
def test_measured(value: Any, number: float | None) -> None:
    assert measured(value, "x") == number


@pytest.mark.parametrize("value", ["low", True, [1], {"a": 1}, "1,5"])
def test_not_measured(value: Any) -> None:
    with pytest.raises(InputError, match="x is"):
        measured(value, "x")


def test_sentinels() -> None:
    assert is_sentinel(float("nan"))
    assert is_sentinel(5e-324)
    assert not is_sentinel(2.3e-308)
    assert not is_sentinel(-999_999_999.0)


def test_properties_by_path_and_unit() -> None:
    columns = {
        "a.b": "bulk_modulus:GPa",
        "gap": "band_gap:meV",
        "gap2": "band_gap:eV",
        "name": "formula",
        "none": "energy_per_atom:eV/atom",
    }
    found, used = properties_of({"a": {"b": 5}, "gap": "500", "gap2": 7, "none": None}, columns)
    assert found == {"bulk_modulus": 5.0, "band_gap": 0.5}
    assert used == {"a.b", "gap"}
    assert reach({"a": {"b": {"c": 1}}}, "a.b.c") == 1
    assert reach({"a": 5}, "a.b") is None
    assert reach({"a.b": 5}, "a.b") == 5
