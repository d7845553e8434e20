"""Filters find on both engines what a slow reading of the served JSON finds."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optimade.filterparser import LarkParser

from gandb.sharing.serving.properties import STRUCTURES, Origin, Type
from tests.sharing.filter_oracle import holds
from tests.sharing.serve_lab import Lab, Served

LARK = LarkParser(version=(1, 2, 0))


@pytest.fixture
def served(lab_served: tuple[Lab, Served]) -> Served:
    return lab_served[1]


class Entries(list[dict[str, Any]]):
    """All that is served; its text is short, for reports of failures."""

    def __repr__(self) -> str:
        return "entries"


ENTRIES: dict[str, Entries] = {}


def entries(served: Served) -> Entries:
    """Return all that is public, as served."""
    if served.base not in ENTRIES:
        ENTRIES[served.base] = Entries(served.all(page_limit=1000))
    return ENTRIES[served.base]


# --- random filters ----------------------------------------------------------------------

FILTERABLE = {p.name: p for p in STRUCTURES.properties.values() if p.origin is not Origin.DOCUMENT}
TEXTS = [n for n, p in FILTERABLE.items() if p.type is Type.STRING]
NUMBERS = [n for n, p in FILTERABLE.items() if p.type in (Type.INTEGER, Type.FLOAT)]
LISTS = [n for n, p in FILTERABLE.items() if p.type is Type.LIST and p.item is Type.STRING]
NUMBER_LISTS = ["elements_ratios", "dimension_types"]
OTHERS = ["_other_thing", "space_group_symbol_hall", "assemblies"]
ORDERS = ["=", "!=", "<", "<=", ">", ">="]


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def values_of(found: Entries, name: str) -> list[Any]:
    """Return the values that a property has anywhere."""
    seen: list[Any] = []
    for entry in found:
        value = entry.get(name, entry["attributes"].get(name))
        for one in value if isinstance(value, list) else [value]:
            if one is not None and one not in seen:
                seen.append(one)
    return seen


@st.composite
def comparisons(draw: st.DrawFn, found: Entries) -> str:
    kind = draw(st.integers(0, 9))
    if kind <= 2:
        name = draw(st.sampled_from(TEXTS))
        known = values_of(found, name) or ["x"]
        text = draw(st.sampled_from(known) | st.sampled_from(["", "%", "_", "a", "O", "\\", '"']))
        begin = draw(st.integers(0, 3))
        part = text[begin : begin + draw(st.integers(0, 40))]
        if draw(st.booleans()):
            operator = draw(st.sampled_from(["CONTAINS", "STARTS WITH", "STARTS", "ENDS WITH"]))
            return f"{name} {operator} {quoted(part)}"
        value, operator = quoted(draw(st.sampled_from([text, part]))), draw(st.sampled_from(ORDERS))
        return draw(st.sampled_from([f"{name}{operator}{value}", f"{value} {operator} {name}"]))
    if kind <= 4:
        name = draw(st.sampled_from(NUMBERS))
        known = values_of(found, name) or [0]
        value = draw(st.sampled_from(known) | st.sampled_from([0, 1.5, -2, 1e3]))
        operator = draw(st.sampled_from(ORDERS))
        return draw(st.sampled_from([f"{name}{operator}{value}", f"{value} {operator} {name}"]))
    if kind == 5:
        name = draw(st.sampled_from([*FILTERABLE, *OTHERS]))
        return f"{name} IS {draw(st.sampled_from(['KNOWN', 'UNKNOWN']))}"
    if kind == 6:
        name = draw(st.sampled_from([*LISTS, "elements_ratios", "references.id"]))
        return f"{name} LENGTH {draw(st.sampled_from(['', *ORDERS]))} {draw(st.integers(0, 4))}"
    if kind == 7:
        one, other = draw(st.sampled_from(NUMBERS)), draw(st.sampled_from(NUMBERS))
        return f"{one}{draw(st.sampled_from(ORDERS))}{other}"
    name = draw(st.sampled_from([*LISTS, *LISTS, *NUMBER_LISTS, "references.id"]))
    known = values_of(found, name) or ["x-1"]
    extra = ["Xx", "O", "%"] if isinstance(known[0], str) else [0.5, 1]
    items = draw(st.lists(st.sampled_from(known) | st.sampled_from(extra), min_size=1, max_size=4))
    texts = [quoted(i) if isinstance(i, str) else str(i) for i in items]
    quantity = draw(st.sampled_from(["", "ALL", "ANY", "ONLY"]))
    if not quantity:
        texts = texts[:1]
    if draw(st.integers(0, 3)) == 0:
        texts = [f"{draw(st.sampled_from(ORDERS))} {t}" for t in texts]
    return f"{name} HAS {quantity} {','.join(texts)}"


def filters(found: Entries) -> st.SearchStrategy[str]:
    return st.recursive(
        comparisons(found),
        lambda inner: st.one_of(
            inner.map(lambda x: f"NOT ({x})"),
            st.lists(inner, min_size=2, max_size=3).map(lambda xs: f"({' AND '.join(xs)})"),
            st.lists(inner, min_size=2, max_size=3).map(lambda xs: f"({' OR '.join(xs)})"),
        ),
        max_leaves=5,
    )


@given(st.data())
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
def test_random_filters_find_what_they_say(served: Served, data: st.DataObject) -> None:
    known = entries(served)
    text = data.draw(filters(known))
    tree = LARK.parse(text)
    expected = {e["id"] for e in known if holds(tree, e)}
    reply = served.structures(filter=text, page_limit=1000, response_fields="nsites")
    assert reply.status == 200, (text, reply.json)
    assert {e["id"] for e in reply.json["data"]} == expected, text
    assert reply.json["meta"].get("data_returned") in (None, len(expected)), text


# --- what the grammar of the tools cannot say --------------------------------------------


def test_booleans_are_compared_alone_and_with_constants(served: Served) -> None:
    known = entries(served)
    for name in [n for n, p in FILTERABLE.items() if p.type is Type.BOOLEAN]:
        true, false = (
            {e["id"] for e in known if e["attributes"][name] is value} for value in (True, False)
        )
        for text in (name, f"{name}=TRUE", f"TRUE = {name}", f"{name} != FALSE"):
            assert set(served.ids(filter=text)) == true, text
        for text in (f"NOT {name}", f"{name} = FALSE", f"FALSE={name}", f"NOT ({name}=TRUE)"):
            assert set(served.ids(filter=text)) == false, text
    assert {e["attributes"]["_gandb_cnen_strict"] for e in known} >= {True, False}


def test_items_are_compared_by_parts(served: Served) -> None:
    known = entries(served)
    for text, fits in (
        ('elements HAS STARTS WITH "L"', lambda e: any(x[0] == "L" for x in e)),
        ('elements HAS ONLY CONTAINS "e", "O"', lambda e: all("e" in x or x == "O" for x in e)),
        (
            'elements HAS ALL STARTS "F", ENDS "e"',
            lambda e: any(x[0] == "F" for x in e) and any(x[-1] == "e" for x in e),
        ),
    ):
        expected = {e["id"] for e in known if fits(e["attributes"]["elements"])}
        assert set(served.ids(filter=text)) == expected, text
    disordered = {e["id"] for e in known if e["attributes"]["structure_features"]}
    assert disordered
    assert set(served.ids(filter='structure_features HAS "disorder"')) == disordered
    assert set(served.ids(filter="structure_features LENGTH 1")) == disordered
    assert served.ids(filter='structure_features HAS "assemblies"') == []
    ordered = set(served.ids(filter='structure_features HAS ONLY "assemblies"'))
    assert ordered == {e["id"] for e in known} - disordered


def test_timestamps_are_compared_in_any_zone(served: Served) -> None:
    one = entries(served)[0]["attributes"]["last_modified"]
    hours = f"{(int(one[11:13]) + 2) % 24:02d}"
    shifted = f"{one[:11]}{hours}{one[13:19]}+02:00" if int(one[11:13]) < 22 else one
    equal = {e["id"] for e in entries(served) if e["attributes"]["last_modified"] == one}
    for text in (f'last_modified = "{one}"', f'"{shifted}" = last_modified',
                 f'last_modified >= "{one}" AND last_modified <= "{one[:-1]}.000Z"'):  # fmt: skip
        assert set(served.ids(filter=text)) == equal, text
    assert served.ids(filter='last_modified < "2020-01-01T00:00:00Z"') == []
    assert len(served.ids(filter='last_modified > "2020-01-01t00:00:60.5z"')) == len(
        entries(served)
    )


def test_constants_are_compared_with_each_other(served: Served) -> None:
    assert len(served.ids(filter="5 < 7")) == len(entries(served))
    assert served.ids(filter="5 > 7.5") == []


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("crazyfield = 2", 400),
        ("_gandb_crazy = 2", 400),
        ("crazyfield IS UNKNOWN", 400),
        ("nsites.x = 2", 501),
        ('references.description HAS "x"', 501),
        ('structures.id HAS "x"', 501),
        ("nope.x = 2", 400),
        ('last_modified > "yesterday"', 400),
        ('last_modified > "2020-13-01T00:00:00Z"', 400),
        ('last_modified > "2020-01-01T00:00:00"', 400),
        ("last_modified > 2020", 501),
        ('nsites = "3"', 501),
        ('nsites CONTAINS "3"', 501),
        ("chemical_formula_reduced = 3", 501),
        ("chemical_formula_reduced = TRUE", 501),
        ("chemical_formula_reduced", 501),
        ("elements = 3", 501),
        ('elements = "O"', 501),
        ("elements HAS 3", 501),
        ('nsites HAS "O"', 501),
        ("nsites LENGTH 3", 501),
        ('elements LENGTH "x"', 501),
        ("elements HAS nsites", 501),
        ('lattice_vectors HAS "x"', 501),
        ('species HAS "x"', 501),
        ("_gandb_site_properties = 1", 501),
        ('elements:elements_ratios HAS "O":>0.5', 501),
        ('elements:nope HAS "O":1', 400),
        ('"a" = "a"', 501),
        ('"a" < 1', 501),
        ("_gandb_novel < 3", 501),
        ("_gandb_novel < _gandb_cnen_strict", 501),
        ("nsites = chemical_formula_reduced", 501),
        ("nsites = 99999999999999999999", 501),
        ("nsites = 1e999", 501),
        ('id = "a\x00b"', 400),
        ("nsites = ", 400),
    ],
)
def test_filters_that_cannot_be_answered_say_why(served: Served, text: str, status: int) -> None:
    reply = served.structures(filter=text)
    assert reply.status == status, reply.body
    [error] = reply.json["errors"]
    assert error["status"] == str(status)
    assert len(error["detail"]) > 10
    assert "data" not in reply.json


def test_names_of_other_providers_are_unknown_and_warned_of(served: Served) -> None:
    everything = len(entries(served))
    for text, n in (
        ("_exmpl_x > 3", 0),
        ("NOT _exmpl_x > 3", 0),
        ("_exmpl_x IS UNKNOWN", everything),
        ('_exmpl_x:elements HAS 1:"O"', None),
        ("_exmpl_x HAS 3 OR nsites > 0", everything),
        ("_exmpl_a < _exmpl_b", 0),
        ("_exmpl_a.b LENGTH 2", 0),
    ):
        reply = served.structures(filter=text)
        if n is None:
            assert reply.status == 501
            continue
        assert reply.json["meta"]["data_returned"] == n, text
        [*warnings] = reply.json["meta"]["warnings"]
        assert all(w["type"] == "warning" and "_exmpl_" in w["detail"] for w in warnings)


def test_references_are_filtered_too(served: Served) -> None:
    known = served.ask("/v1/references").json["data"]
    assert {r["attributes"]["doi"] for r in known} == {
        "10.1000/own.1", "10.1000/diffuser"
    }  # fmt: skip
    for text in ('doi CONTAINS "own"', 'note ENDS WITH "/own.1"', 'NOT id STARTS "diff"',
                 'last_modified > "2020-01-01T00:00:00Z" AND title CONTAINS "own"'):  # fmt: skip
        reply = served.ask(f"/v1/references?filter={quote(text)}")
        assert [r["attributes"]["doi"] for r in reply.json["data"]] == ["10.1000/own.1"], text
    assert served.ask("/v1/references?filter=nope=1").status == 400
    assert json.dumps(known).count("CC BY 4.0") == 1
