"""Filters are read as optimade-python-tools reads them, and refused where it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lark.exceptions import LarkError
from optimade.exceptions import BadRequest
from optimade.filterparser import LarkParser

from gandb.sharing.serving.failures import RequestError
from gandb.sharing.serving.filter_parser import MAX_DEPTH, MAX_LENGTH, MAX_VALUES, parse_filter
from gandb.sharing.serving.filter_tree import (
    Bare,
    Both,
    Comparison,
    Either,
    Has,
    Item,
    Name,
    Not,
    Number,
    Operator,
    Quantity,
    Text,
    Truth,
)

LARK = LarkParser(version=(1, 2, 0))
TOKENS = (
    'a _b nsites elements.x "s" "q\\"x\\\\" "" 1 -2 +3.5e-1 .5 1. TRUE FALSE = != < <= > >= AND OR '
    "NOT ( ) HAS ALL ANY ONLY LENGTH IS KNOWN UNKNOWN CONTAINS STARTS ENDS WITH , :"
).split()


def _lark_reads(text: str) -> bool:
    try:
        tree = LARK.parse(text)
    except (BadRequest, LarkError):
        return False
    return len(tree.children) == 1  # it takes none, or several side by side


def _reads(text: str) -> bool:
    try:
        found = parse_filter(text)
    except RequestError as error:
        told = error
    else:
        return found is not None
    assert told.status == 400
    assert "character" in told.detail or "compared with" in told.detail
    return False


def _names(spaced: bool) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(TOKENS), min_size=1, max_size=9).map(
        lambda parts: (" " if spaced else "").join(parts)
    )


@given(_names(spaced=True) | _names(spaced=False))
@settings(max_examples=400)
def test_what_the_grammar_of_the_tools_takes_is_taken(text: str) -> None:
    if _lark_reads(text):
        assert _reads(text)


SIMPLE = st.sampled_from(
    [
        "a=1",
        'a != "x"',
        '"x"<a',
        "3 >= a.b",
        "a IS KNOWN",
        "a IS UNKNOWN",
        'a CONTAINS "x"',
        'a STARTS "x"',
        'a STARTS WITH "x"',
        'a ENDSWITH"x"',
        "a LENGTH 3",
        "a LENGTH >= 3",
        'a HAS "x"',
        "a HAS < 3",
        'a HAS ALL "x", != "y"',
        "a HAS ANY 1,2,3",
        "a HAS ONLY 1",
        'a:b HAS "x":1',
        'a:b:c HAS ALL "x":>1:<2, "y":1:2',
        "a<b",
    ]
)
FILTERS = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        inner.map(lambda x: f"NOT ({x})"),
        inner.map(lambda x: f"({x})"),
        st.tuples(inner, st.sampled_from([" AND ", " OR "]), inner).map("".join),
    ),
    max_leaves=8,
)


@given(FILTERS)
@settings(max_examples=150)
def test_filters_are_taken_by_both(text: str) -> None:
    assert _lark_reads(text)
    assert _reads(text)


@given(FILTERS, st.sampled_from(TOKENS), st.integers(0, 40))
@settings(max_examples=300)
def test_broken_filters_are_taken_by_both_or_none(text: str, extra: str, place: int) -> None:
    """Where they differ, the specification's grammar has more than the tools' (see below)."""
    broken = f"{text[:place]} {extra} {text[place:]}"
    if _lark_reads(broken):
        assert _reads(broken)
    elif _reads(broken):
        assert any(word in broken for word in ("TRUE", "FALSE", "CONTAINS", "LENGTH", "STARTS",
                                               "ENDS")) or _has_bare(broken)  # fmt: skip


def _has_bare(text: str) -> bool:
    def within(node: object) -> bool:
        match node:
            case Bare():
                return True
            case Not(inner):
                return within(inner)
            case Both(parts) | Either(parts):
                return any(map(within, parts))
        return False

    return within(parse_filter(text))


@pytest.mark.parametrize(
    "text",
    [
        "property",
        "_exmpl_has_inversion_symmetry AND NOT _exmpl_is_primitive",
        "TRUE = a",
        'list HAS CONTAINS "x"',
        'list HAS ANY STARTS WITH "x", ENDS "y"',
        "NOT(a)",
    ],
)
def test_what_only_the_specification_has_is_taken_too(text: str) -> None:
    assert _reads(text)


@pytest.mark.parametrize(
    "text",
    [
        "a = 1 b = 2",
        "a < TRUE",
        "TRUE < a",
        "(a = 1",
        "a = 1)",
        'a = "x',
        'a = "x\\n"',
        "A = 1",
        "a == 1",
        "a = 1 AND",
        "NOT NOT a = 1",
        "a.=1",
        "a HAS",
        "a:b HAS 1",
        "a HAS 1:2",
        "1.2.3 = a",
        "a = 'x'",
        "a IS NULL",
        "a; DROP TABLE entry",
    ],
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    assert not _reads(text)


def test_precedence_is_that_of_the_specification() -> None:
    a, b, c = (Comparison(Name((n,)), Operator.EQUAL, Number("1")) for n in "abc")
    assert parse_filter("NOT a=1 OR b=1 AND c=1") == Either((Not(a), Both((b, c))))
    assert parse_filter("a=1 AND NOT b=1 OR c=1") == Either((Both((a, Not(b))), c))


def test_values_are_read_as_they_are_meant() -> None:
    assert parse_filter(r'a HAS ANY "q\"\\", < -1.5e3, TRUE') == Has(
        Name(("a",)),
        Quantity.ANY,
        (Item(Text('q"\\')), Item(Number("-1.5e3"), Operator.LESS), Item(Truth(True))),
    )


def test_nothing_is_no_filter() -> None:
    assert parse_filter("") is None
    assert parse_filter(" \t\n") is None


@pytest.mark.parametrize(
    "text",
    [
        "a=" + "1" * MAX_LENGTH,
        "(" * (MAX_DEPTH + 1) + "a=1" + ")" * (MAX_DEPTH + 1),
        "a HAS ANY " + ",".join("1" * (MAX_VALUES + 1)),
    ],
)
def test_what_is_too_large_is_refused(text: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse_filter(text)
    assert refused.value.status == 400


def test_the_deepest_is_read() -> None:
    assert parse_filter("(" * MAX_DEPTH + "a=1" + ")" * MAX_DEPTH) is not None
