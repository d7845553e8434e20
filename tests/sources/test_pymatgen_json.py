"""pymatgen's structures as JSON, against pymatgen."""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Structure

from gandb.core.errors import InputError
from gandb.representations.pymatgen_structures import from_structure, to_structure
from gandb.sources import json_items
from gandb.sources.base import Reject
from gandb.sources.pymatgen_json import PYMATGEN_JSON
from gandb.sources.records import Member, Record, Sites
from tests.crystals import crystals
from tests.shared_data import SHARED, real

SALT = Structure(
    [[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], ["Na+", "Cl-"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)
IRON = Structure([[2.9, 0, 0], [0, 2.9, 0], [0, 0, 2.9]], ["Fe"] * 2, [[0, 0, 0], [0.5, 0.5, 0.5]])
ID = from_structure(SALT).id
IRON_ID = from_structure(IRON).id


def member(text: str | bytes, name: str = "x.json") -> Member:
    data = text if isinstance(text, bytes) else text.encode()
    return Member(name, len(data), lambda: io.BytesIO(data))


def read(text: str | bytes, name: str = "x.json") -> list[Record | Reject]:
    return list(PYMATGEN_JSON.read(member(text, name)))


def ids(found: list[Record | Reject]) -> list[Any]:
    return [r.structure.crystal().id if isinstance(r, Record) else r.reason for r in found]  # type: ignore[union-attr]


def fits(text: str | bytes, name: str = "x.json") -> bool:
    data = text if isinstance(text, bytes) else text.encode()
    return PYMATGEN_JSON.fits(name, data[: 2**16])


@pytest.mark.parametrize("indent", [None, 1])
def test_one_structure(indent: int | None) -> None:
    text = json.dumps(SALT.as_dict(), indent=indent)
    assert fits(text)
    (record,) = read(text)
    assert isinstance(record, Record)
    assert record.external_id is None
    assert not record.extra
    assert ids([record]) == [ID]


@pytest.mark.parametrize("indent", [None, 1])
def test_lists_lines_and_structures_by_id(indent: int | None) -> None:
    both = [SALT.as_dict(), IRON.as_dict()]
    listed = json.dumps(both, indent=indent)
    lines = "\n".join(json.dumps(one) for one in both) + "\n"
    named = json.dumps({"a-1": both[0], "b-2": both[1]}, indent=indent)
    for text in (listed, lines, named, "\ufeff" + named):
        assert fits(text)
        assert ids(read(text)) == [ID, IRON_ID]
    assert [r.external_id for r in read(named) if isinstance(r, Record)] == ["a-1", "b-2"]
    assert [r.line for r in read(lines, "x.jsonl")] == [1, 2]


def test_long_lines_are_lines_whatever_the_name() -> None:
    text = json.dumps({**SALT.as_dict(), "note": "x" * 100_000})
    assert ids(read(f"{text}\n{text}\n")) == [ID, ID]


def test_structures_in_records_by_id() -> None:
    text = json.dumps({"mp-1": {"structure": SALT.as_dict(), "note": "good", "band_gap": None}})
    assert fits(text)
    (record,) = read(text)
    assert isinstance(record, Record)
    assert record.external_id == "mp-1"
    assert record.extra == {"note": "good"}
    rows = json.dumps([{"material_id": "mp-1", "structure": SALT.as_dict()}])
    assert not fits(rows)  # a table
    (record,) = read(rows)
    assert isinstance(record, Record)
    assert record.external_id == "mp-1"


def test_properties_of_the_whole_structure_are_extra() -> None:
    structure = SALT.copy()
    structure.properties = {"origin": "relaxed", "steps": 3}
    (record,) = read(json.dumps(structure.as_dict()))
    assert isinstance(record, Record)
    assert record.extra == {"properties": {"origin": "relaxed", "steps": 3}}


def test_one_bad_structure_costs_one() -> None:
    bad = SALT.as_dict()
    bad["sites"][1]["species"][0]["occu"] = "all"
    for text in (
        json.dumps([SALT.as_dict(), bad, IRON.as_dict()]),
        json.dumps({"a": SALT.as_dict(), "b": bad, "c": IRON.as_dict()}),
        "\n".join(json.dumps(one) for one in (SALT.as_dict(), bad, IRON.as_dict())),
    ):
        first, second, third = read(text)
        assert ids([first, third]) == [ID, IRON_ID]
        assert isinstance(second, Reject)
        assert "occupancy of site 2 is 'all'" in second.reason
        assert second.line == 2


def test_what_is_no_structure_is_said() -> None:
    named = json.dumps({"@module": "x", "a": SALT.as_dict(), "b": 3})
    first, second = read(named)
    assert isinstance(first, Record)
    assert isinstance(second, Reject)
    assert "'b' is no structure" in second.reason
    (refused,) = read('{"a": 1}')
    assert isinstance(refused, Reject)
    assert "holds no structure" in refused.reason


@given(st.lists(crystals(), min_size=1, max_size=3), st.booleans())
@settings(max_examples=20, deadline=None)
def test_records_come_back(some: list[Any], named: bool) -> None:
    with warnings.catch_warnings():  # of charges
        warnings.simplefilter("ignore")
        documents = [to_structure(one).as_dict() for one in some]
        kept = [from_structure(Structure.from_dict(document)) for document in documents]
    text = json.dumps({str(i): d for i, d in enumerate(documents)} if named else documents)
    assert ids(read(text)) == [one.id for one in kept]


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_damaged_files_end_as_rejects(data: st.DataObject) -> None:
    both = [SALT.as_dict(), IRON.as_dict()]
    whole = data.draw(
        st.sampled_from(
            [
                json.dumps(both),
                json.dumps({"a": both[0], "b": both[1]}),
                json.dumps(both[0], indent=1),
                "\n".join(map(json.dumps, both)),
            ]
        )
    ).encode()
    cut = bytearray(whole[: data.draw(st.integers(1, len(whole)))])
    for _ in range(data.draw(st.integers(0, 5))):
        cut[data.draw(st.integers(0, len(cut) - 1))] = data.draw(st.integers(0, 255))
    for found in read(bytes(cut)):
        assert isinstance(found, Record | Reject)
        if isinstance(found, Record):
            assert isinstance(found.structure, Sites)
            try:
                found.structure.crystal()
            except InputError:
                continue


# --- members of an object, one by one ----------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)


class Slow(io.BytesIO):
    """Gives a few bytes at a time."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(7, size) if size and size > 0 else 7)


@given(
    st.dictionaries(st.text(max_size=8), VALUES),
    st.sampled_from([None, 1]),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_pairs_are_what_json_says(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    assert dict(json_items.pairs(Slow(text))) == value
    assert dict(json_items.pairs(io.BytesIO(text))) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "before it is complete"),
        (b"[1]", "not {"),
        (b'{"a": 1', "before it is complete"),
        (b'{"a": 1,}', "not JSON"),
        (b'{"a": 1} x', "more follows"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": nul}', "not JSON"),
        (b'{"a"; 1}', "not :"),
        (b"{1: 1}", "not a string"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"1" * 5_000 + b"}", "cannot be read"),
    ],
)
def test_pairs_say_what_is_wrong(text: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        list(json_items.pairs(io.BytesIO(text)))


def test_a_member_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_items, "MAX_ITEM", 2**20)

    class Endless(io.RawIOBase):
        def __init__(self) -> None:
            self.given = 0

        def read(self, size: int = -1) -> bytes:
            self.given += size
            assert self.given < 2**24
            return b'{"a": "' if self.given == size else b"x" * size

    with pytest.raises(InputError, match="more than 1,048,576 characters"):
        list(json_items.pairs(Endless()))  # type: ignore[arg-type]


@real
def test_real_structures_against_pymatgen() -> None:
    csv.field_size_limit(2**25)
    path = SHARED / "structures" / "mp-flla-2015.csv.gz"
    with gzip.open(path, "rt", newline="") as lines:
        next(lines)
        documents = {
            row["material_id"]: ast.literal_eval(row["structure"])
            for number, row in enumerate(csv.DictReader(lines))
            if number % 20 == 0
        }
    text = json.dumps(documents)
    assert fits(text)
    found = read(text)
    assert len(found) == len(documents) > 190
    for record, (name, document) in zip(found, documents.items(), strict=True):
        assert isinstance(record, Record)
        assert isinstance(record.structure, Sites)
        assert record.external_id == name
        assert record.structure.crystal() == from_structure(Structure.from_dict(document))
