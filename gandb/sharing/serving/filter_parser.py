"""Reading filters: a lexer and a recursive descent over the specification's grammar.

The grammar is that of the appendix "The Filter Language EBNF Grammar" of the OPTIMADE
specification 1.2.0, with all that is optional in it. Keywords are upper case and names lower case,
so that spaces between them mean nothing. Reading takes time in proportion to the length, and what a
filter may hold is bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gandb.sharing.serving.failures import RequestError, bad_request
from gandb.sharing.serving.filter_tree import (
    EQUALITIES,
    Bare,
    Both,
    Comparison,
    Constant,
    Either,
    Has,
    Item,
    Known,
    Length,
    Name,
    Node,
    Not,
    Number,
    Operator,
    Quantity,
    Text,
    Truth,
    Value,
    Zipped,
)

MAX_LENGTH = 30_000
"""Most characters of a filter."""
MAX_DEPTH = 50
"""Most levels of parentheses and NOT."""
MAX_VALUES = 2_000
"""Most constants and names of a filter."""

_SPACES = " \t\n\r\v\f"
_TOKEN = re.compile(
    r"""[ \t\n\r\v\f]*(?:
    (?P<keyword>AND|NOT|OR|IS|KNOWN|UNKNOWN|CONTAINS|STARTS|ENDS|WITH|LENGTH|HAS|ALL|ONLY|ANY
        |TRUE|FALSE)
    |(?P<operator><=|>=|!=|<|>|=)
    |(?P<number>[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)
    |(?P<name>[a-z_][a-z_0-9]*)
    |(?P<string>"(?:[^"\\]|\\["\\])*")
    |(?P<mark>[(),:.])
    |(?P<end>\Z))""",
    re.VERBOSE,
)
_UNESCAPED = re.compile(r"\\(.)", re.DOTALL)
_SUBSTRINGS = {"CONTAINS": Operator.CONTAINS, "STARTS": Operator.STARTS, "ENDS": Operator.ENDS}
_QUANTITIES = {"ALL": Quantity.ALL, "ANY": Quantity.ANY, "ONLY": Quantity.ONLY}


def parse_filter(text: str) -> Node | None:
    """Read a filter; None if there is nothing in it.

    Raises:
        RequestError: it is not in the grammar (400), says where; or too large.
    """
    if len(text) > MAX_LENGTH:
        raise bad_request(
            f"the filter has {len(text):,} characters; at most {MAX_LENGTH:,} are read", "filter"
        )
    if not text.strip(_SPACES):
        return None
    return _Parser(text, _tokens(text)).whole()


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    place: int


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    place = values = 0
    while True:
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            raise _unreadable(text, place)
        kind = match.lastgroup
        found.append(_Token(kind, match[kind], match.start(kind)))
        if kind == "end":
            return found
        values += kind in {"number", "name", "string"}
        if values > MAX_VALUES:
            raise bad_request(f"the filter has more than {MAX_VALUES:,} names and values", "filter")
        place = match.end()


def _unreadable(text: str, place: int) -> RequestError:
    while text[place] in _SPACES:
        place += 1
    if text[place] == '"':
        what = (
            'the string that begins there has no end, or a backslash before anything but " and \\'
        )
    else:
        what = f"{text[place]!r} is not part of any filter"
    return _refused(text, place, what)


def _refused(text: str, place: int, what: str) -> RequestError:
    shown = text[max(0, place - 20) : place + 20]
    return bad_request(
        f"cannot read the filter at character {place + 1} (in {shown!r}): {what}", "filter"
    )


class _Parser:
    """Goes through the tokens once; each method reads what its name says."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def whole(self) -> Node:
        found = self._expression()
        if self._token.kind != "end":
            raise self._expected("AND, OR or the end of the filter")
        return found

    # --- tokens --------------------------------------------------------------------------

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += 1
        return token

    def _is(self, *texts: str) -> bool:
        return self._token.kind in {"keyword", "mark"} and self._token.text in texts

    def _took(self, *texts: str) -> bool:
        if not self._is(*texts):
            return False
        self._next += 1
        return True

    def _expected(self, what: str) -> RequestError:
        token = self._token
        met = "the end" if token.kind == "end" else token.text[:40]
        return _refused(self._text, token.place, f"{what} is expected, not {met}")

    # --- expressions ---------------------------------------------------------------------

    def _expression(self) -> Node:
        parts = [self._clause()]
        while self._took("OR"):
            parts.append(self._clause())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _clause(self) -> Node:
        parts = [self._phrase()]
        while self._took("AND"):
            parts.append(self._phrase())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def _phrase(self) -> Node:
        negated = self._took("NOT")
        if self._is("("):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise _refused(
                    self._text, self._token.place, f"more than {MAX_DEPTH} levels of parentheses"
                )
            self._next += 1
            found = self._expression()
            if not self._took(")"):
                raise self._expected("AND, OR or )")
            self._depth -= 1
        else:
            found = self._comparison()
        return Not(found) if negated else found

    def _comparison(self) -> Node:
        if self._token.kind == "name":
            return self._of_property(self._name())
        constant = self._constant("a property name, a value, NOT or (")
        operator = self._operator(ordered=not isinstance(constant, Truth))
        return Comparison(constant, operator, self._right_side(operator))

    def _of_property(self, name: Name) -> Node:
        if self._token.kind == "operator":
            operator = self._operator()
            return Comparison(name, operator, self._right_side(operator))
        if self._token.kind == "keyword" and self._token.text in _SUBSTRINGS:
            return Comparison(name, self._substring(), self._value())
        if self._took("IS"):
            if not self._is("KNOWN", "UNKNOWN"):
                raise self._expected("KNOWN or UNKNOWN")
            return Known(name, self._take().text == "KNOWN")
        if self._took("LENGTH"):
            given = self._token.kind == "operator"
            operator = self._operator() if given else Operator.EQUAL
            return Length(name, operator, self._value())
        if self._took("HAS"):
            quantity, many = self._quantity()
            items = [self._item()]
            while many and self._took(","):
                items.append(self._item())
            return Has(name, quantity, tuple(items))
        if self._is(":"):
            return self._zipped(name)
        return Bare(name)

    def _zipped(self, first: Name) -> Zipped:
        names = [first]
        while self._took(":"):
            names.append(self._name())
        if not self._took("HAS"):
            raise self._expected("HAS")
        quantity, many = self._quantity()
        rows = [self._row()]
        while many and self._took(","):
            rows.append(self._row())
        for row in rows:
            if len(row) != len(names):
                raise bad_request(
                    f"{len(names)} lists are compared with {len(row)} values: "
                    f"{':'.join(map(str, names))} {quantity.value}",
                    "filter",
                )
        return Zipped(tuple(names), quantity, tuple(rows))

    def _row(self) -> tuple[Item, ...]:
        items = [self._item()]
        if not self._is(":"):
            raise self._expected(":")
        while self._took(":"):
            items.append(self._item())
        return tuple(items)

    # --- parts ---------------------------------------------------------------------------

    def _quantity(self) -> tuple[Quantity, bool]:
        if self._token.kind == "keyword" and self._token.text in _QUANTITIES:
            return _QUANTITIES[self._take().text], True
        return Quantity.ONE, False

    def _item(self) -> Item:
        if self._token.kind == "operator":
            operator = self._operator()
            return Item(self._right_side(operator), operator)
        if self._token.kind == "keyword" and self._token.text in _SUBSTRINGS:
            operator = self._substring()
            return Item(self._value(), operator)
        return Item(self._value())

    def _operator(self, *, ordered: bool = True) -> Operator:
        if self._token.kind != "operator":
            raise self._expected("an operator (=, !=, <, <=, >, >=)")
        operator = Operator(self._token.text)
        if not ordered and operator not in EQUALITIES:
            raise self._expected("= or !=")
        self._next += 1
        return operator

    def _substring(self) -> Operator:
        operator = _SUBSTRINGS[self._take().text]
        if operator is not Operator.CONTAINS:
            self._took("WITH")
        return operator

    def _right_side(self, operator: Operator) -> Value:
        if operator not in EQUALITIES and self._is("TRUE", "FALSE"):
            raise self._expected(f"after {operator.value}, a number, a string or a property")
        return self._value()

    def _value(self) -> Value:
        return self._name() if self._token.kind == "name" else self._constant("a value")

    def _constant(self, expected: str) -> Constant:
        token = self._token
        if token.kind == "string":
            self._next += 1
            return Text(_UNESCAPED.sub(r"\1", token.text[1:-1]))
        if token.kind == "number":
            self._next += 1
            return Number(token.text)
        if self._is("TRUE", "FALSE"):
            self._next += 1
            return Truth(token.text == "TRUE")
        raise self._expected(expected)

    def _name(self) -> Name:
        if self._token.kind != "name":
            raise self._expected("a property name")
        parts = [self._take().text]
        while self._took("."):
            if self._token.kind != "name":
                raise self._expected("a name after the period")
            parts.append(self._take().text)
        return Name(tuple(parts))
