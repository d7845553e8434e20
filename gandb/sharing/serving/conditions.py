"""Filters as SQL conditions: parameters for every value, the specification's rules for the rest.

- A comparison with what is not known is neither true nor false. So every condition is SQL's NULL
  where its property is, and ``NOT`` leaves it so: such entries never match, except by ``IS``.
- Types must agree, else 501; names of gandb or of the specification that do not exist are 400;
  names of other providers are properties that nothing here has, which is said in a warning.
- Texts are compared by code point. Substrings are found by functions, not by LIKE, so that ``%``
  and ``_`` mean themselves.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import reduce
from itertools import combinations
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.schema.tables import published
from gandb.sharing.serving.failures import RequestError, bad_request, not_implemented
from gandb.sharing.serving.filter_tree import (
    EQUALITIES,
    SUBSTRINGS,
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
from gandb.sharing.serving.formulas import element_masks
from gandb.sharing.serving.properties import PREFIX, EntryType, Origin, Property, Type
from gandb.sharing.serving.timestamps import parse_timestamp

Condition = sa.ColumnElement[bool]
_UNKNOWN: Condition = sa.cast(sa.null(), sa.Boolean)
_LARGEST = 2**63 - 1
_BY_OPERATOR: dict[Operator, Callable[[Any, Any], Any]] = {
    Operator.EQUAL: lambda a, b: a == b,
    Operator.UNEQUAL: lambda a, b: a != b,
    Operator.LESS: lambda a, b: a < b,
    Operator.LESS_OR_EQUAL: lambda a, b: a <= b,
    Operator.MORE: lambda a, b: a > b,
    Operator.MORE_OR_EQUAL: lambda a, b: a >= b,
}
_NUMERIC = frozenset({Type.INTEGER, Type.FLOAT})
_RELATED = ("references", "id")
_RELATIONS = frozenset({"references", "structures", "calculations"})
_REFERENCE_IDS = Property(
    "references.id",
    Type.LIST,
    "Ids of the references.",
    item=Type.STRING,
    column=published.c.reference_ids,
)
_SQL_TYPES: dict[Type, Any] = {
    Type.STRING: sa.Text(),
    Type.INTEGER: sa.BigInteger(),
    Type.FLOAT: sa.Double(),
    Type.BOOLEAN: sa.Boolean(),
    Type.TIMESTAMP: sa.DateTime(),
}

_LOST_PLUS = re.compile(r" (?=:|$)")
"""A plus sign of a species (``Fe3+``) that a client left unescaped, which URLs read as a space."""

Locate = Callable[[Property], Any]
"""Gives the SQL expression of a property; what it needs besides the rows, it notes down."""


class Conditions:
    """Turns the filters of one entry type into conditions.

    Args:
        entry_type: whose properties they name.
        locate: gives the expression of a property.
        kind: of the engine, ``duckdb`` or ``postgres``.

    Attributes:
        warnings: what the answer should say about the filter.
    """

    def __init__(self, entry_type: EntryType, locate: Locate, kind: str) -> None:
        self._type = entry_type
        self._locate = locate
        self._duckdb = kind == "duckdb"
        self.warnings: list[str] = []

    def of(self, node: Node) -> Condition:
        """Return the condition of a filter.

        Raises:
            RequestError: it names what does not exist, mixes types, or uses what is not supported.
        """
        match node:
            case Not(inner):
                return sa.not_(self.of(inner).self_group())
            case Both(parts):
                return sa.and_(*(self.of(part) for part in parts))
            case Either(parts):
                return self._either(parts)
            case Known(name, known):
                return self._known(name, known=known)
            case Bare(name):
                return self._compared(name, Operator.EQUAL, Truth(True))
            case Comparison(left, operator, right):
                return self._comparison(left, operator, right)
            case Length(name, operator, value):
                return self._length(name, operator, value)
            case Has(name, quantity, items):
                return self._has(name, quantity, items)
            case Zipped(names, quantity, rows):
                return self._zipped(names, quantity, rows)

    # --- names ---------------------------------------------------------------------------

    def _find(self, name: Name) -> Property | None:
        """Return a property; None for one of another provider."""
        first = name.parts[0]
        if len(name.parts) > 1:
            if name.parts == _RELATED and self._type.name == "structures":
                return _REFERENCE_IDS
            if first in _RELATIONS or self._type.find(first) is not None:
                raise not_implemented(
                    f"filters on {name}: of names with a period, which are optional, references.id "
                    "alone is supported, on structures"
                )
        found = self._type.find(first)
        if found is not None and len(name.parts) == 1:
            return found
        if first.startswith("_") and not first.startswith(PREFIX):
            said = f"{name} is a property of another provider: it is not known of anything here"
            if said not in self.warnings:
                self.warnings.append(said)
            return None
        raise bad_request(f"there is no property {name} of {self._type.name}", "filter")

    def _expression(self, found: Property) -> Any:
        if found.origin is Origin.DOCUMENT:
            raise not_implemented(f"filters on {found.name}, which are optional, are not supported")
        return self._locate(found)

    def _known(self, name: Name, *, known: bool) -> Condition:
        found = self._find(name)
        if found is None or found.origin is Origin.NEVER:
            return sa.false() if known else sa.true()
        if found.origin is Origin.FIXED or found.name in _ALWAYS:
            return sa.true() if known else sa.false()
        value = self._expression(found)
        return _condition(value.is_not(None) if known else value.is_(None))

    # --- single values -------------------------------------------------------------------

    def _either(self, parts: Sequence[Node]) -> Condition:
        """Join alternatives; many values of one text property become one list."""
        texts: dict[Name, list[str]] = {}
        rest: list[Condition] = []
        for part in parts:
            match part:
                case Comparison(Name() as name, Operator.EQUAL, Text(value)):
                    texts.setdefault(name, []).append(value)
                case _:
                    rest.append(self.of(part))
        for name, values in texts.items():
            if len(values) == 1:
                rest.append(self._compared(name, Operator.EQUAL, Text(values[0])))
            else:
                rest.append(self._among(name, values))
        return sa.or_(*rest)

    def _among(self, name: Name, values: Sequence[str]) -> Condition:
        found = self._find(name)
        if found is None or found.type is not Type.STRING or found.origin is Origin.NEVER:
            return sa.or_(*(self._compared(name, Operator.EQUAL, Text(v)) for v in values))
        column = self._expression(found)
        if isinstance(column.type, sa.Uuid):
            ids = [u for v in values if (u := _uuid(v)) is not None]
            return column.in_(ids) if ids else _false_if_known(column)
        checked: list[str] = [self._constant(found.type, Text(v), found.name) for v in values]
        return sa.cast(column, sa.Text).in_(checked)

    def _comparison(self, left: Value, operator: Operator, right: Value) -> Condition:
        if isinstance(left, Name):
            if isinstance(right, Name):
                return self._two_names(left, operator, right)
            return self._compared(left, operator, right)
        if isinstance(right, Name):
            return self._compared(right, operator.mirrored, left)
        if isinstance(left, Number) and isinstance(right, Number):
            same = _BY_OPERATOR[operator](_number(left), _number(right))
            return sa.true() if same else sa.false()
        raise not_implemented("comparisons of two constants that are not numbers")

    def _compared(self, name: Name, operator: Operator, constant: Constant) -> Condition:
        found = self._find(name)
        if found is None:
            return _UNKNOWN
        if found.type in (Type.LIST, Type.DICTIONARY):
            raise _mismatch(f"{name} is a {found.type.value}: use HAS or LENGTH for lists")
        value = self._constant(found.type, constant, str(name))
        if operator in SUBSTRINGS and found.type is not Type.STRING:
            raise _mismatch(f"{name} is a {found.type.value}: {operator.value} is for strings")
        if found.type is Type.BOOLEAN and operator not in EQUALITIES:
            raise _mismatch(f"{name} is a boolean: it has no order")
        if found.origin is Origin.NEVER:
            return _UNKNOWN
        return self._applied(self._expression(found), found.type, operator, value)

    def _applied(self, column: Any, type_: Type, operator: Operator, value: Any) -> Condition:
        """Compare an expression with a checked value."""
        if isinstance(column.type, sa.Uuid):
            if operator in EQUALITIES:
                own = _uuid(value)
                same = _false_if_known(column) if own is None else column == own
                return same if operator is Operator.EQUAL else sa.not_(same)
            column = sa.cast(column, sa.Text)
        kind = _SQL_TYPES[type_]
        if type_ in _NUMERIC:
            kind = _SQL_TYPES[Type.INTEGER if isinstance(value, int) else Type.FLOAT]
        bound = sa.cast(sa.literal(value, kind), kind)
        if type_ is not Type.STRING:
            return _condition(_BY_OPERATOR[operator](column, bound))
        if operator is Operator.CONTAINS:
            return _condition(sa.func.strpos(column, bound) > 0)
        if operator is Operator.STARTS:
            return _condition(sa.func.starts_with(column, bound))
        if operator is Operator.ENDS:
            return _condition(sa.func.right(column, len(value)) == bound)
        if operator not in EQUALITIES and not self._duckdb:
            column = sa.collate(column, "C")
        return _condition(_BY_OPERATOR[operator](column, bound))

    def _two_names(self, left: Name, operator: Operator, right: Name) -> Condition:
        one, other = self._find(left), self._find(right)
        if one is None or other is None:
            return _UNKNOWN
        types = {one.type, other.type}
        if types & {Type.LIST, Type.DICTIONARY}:
            raise not_implemented(f"comparisons of {left} with {right}")
        if len(types) > 1 and not types <= _NUMERIC:
            raise _mismatch(f"{left} is a {one.type.value}, {right} a {other.type.value}")
        if one.type is Type.BOOLEAN and operator not in EQUALITIES:
            raise _mismatch(f"{left} is a boolean: it has no order")
        if operator in SUBSTRINGS:
            raise not_implemented(
                f"{operator.value} with a property on its right, which is optional"
            )
        if Origin.NEVER in (one.origin, other.origin):
            return _UNKNOWN
        a, b = self._expression(one), self._expression(other)
        if one.type is Type.STRING:
            a, b = sa.cast(a, sa.Text), sa.cast(b, sa.Text)
            if operator not in EQUALITIES and not self._duckdb:
                a = sa.collate(a, "C")
        return _condition(_BY_OPERATOR[operator](a, b))

    def _constant(self, type_: Type, constant: Value, name: str) -> Any:
        """Return the plain value of a constant that is compared with a type.

        Raises:
            RequestError: it is of another type (501), or no timestamp (400).
        """
        match constant:
            case Name():
                raise not_implemented(f"the property {constant} as a value, which is optional")
            case Text(value) if type_ is Type.STRING:
                if "\0" in value:
                    raise bad_request("no text here holds a NUL character", "filter")
                return value
            case Text(value) if type_ is Type.TIMESTAMP:
                return _timestamp(value, name)
            case Number() if type_ in _NUMERIC:
                number = _number(constant)
                return float(number) if type_ is Type.FLOAT else number
            case Truth(value) if type_ is Type.BOOLEAN:
                return value
        given = {Text: "string", Number: "number", Truth: "boolean"}[type(constant)]
        raise _mismatch(f"{name} is compared with {type_.value} values, and a {given} is given")

    # --- lists ---------------------------------------------------------------------------

    def _list(self, name: Name) -> Property | None:
        found = self._find(name)
        if found is not None and found.type is not Type.LIST:
            raise _mismatch(f"{name} is a {found.type.value}, and no list")
        return found

    def _length(self, name: Name, operator: Operator, value: Value) -> Condition:
        found = self._list(name)
        wanted = self._constant(Type.INTEGER, value, f"the length of {name}")
        if found is None or found.origin is Origin.NEVER:
            return _UNKNOWN
        length = self._size(found)
        return self._applied(length, Type.INTEGER, operator, wanted)

    def _size(self, found: Property) -> Any:
        if found.name in ("elements", "elements_ratios"):
            return published.c.n_elements
        if found.name in ("cartesian_site_positions", "species_at_sites"):
            return published.c.n_sites
        if found.name == "lattice_vectors":
            return sa.literal(3)
        if found.name == "structure_features":
            return sa.case((published.c.ordered, 0), else_=1)
        column = self._expression(found)
        size = sa.func.len if self._duckdb else sa.func.cardinality
        return size(column, type_=sa.Integer())

    def _has(self, name: Name, quantity: Quantity, items: Sequence[Item]) -> Condition:
        found = self._list(name)
        if found is None:
            return _UNKNOWN
        if found.name == "structure_features":
            return self._features(quantity, items)
        if found.item not in _SQL_TYPES:
            raise not_implemented(f"filters on the items of {name}, which are optional")
        values = [(i.operator, self._item(found, i)) for i in items]
        if found.origin is Origin.NEVER:
            return _UNKNOWN
        if all(operator is Operator.EQUAL for operator, _ in values):
            return self._has_equal(found, quantity, [value for _, value in values])
        tests = [self._some(found, [pair], quantity) for pair in values]
        if quantity is Quantity.ONLY:
            return sa.not_(self._some(found, values, quantity))
        return reduce(sa.and_ if quantity is Quantity.ALL else sa.or_, tests)

    def _item(self, found: Property, item: Item) -> Any:
        type_ = found.item or Type.STRING
        if item.operator in SUBSTRINGS and type_ is not Type.STRING:
            raise _mismatch(
                f"{item.operator.value} is for strings, {found.name} has {type_.value}s"
            )
        value = self._constant(type_, item.value, found.name)
        if found.name == "species_at_sites" and item.operator is Operator.EQUAL:
            return _LOST_PLUS.sub("+", value)
        return value

    def _has_equal(self, found: Property, quantity: Quantity, values: list[Any]) -> Condition:
        if found.name == "elements" and self._duckdb:
            return _elements(quantity, values)
        if found.name == "elements" and quantity is Quantity.ONLY and len(set(values)) <= _LISTED:
            return _one_of_the_subsets(values)
        column = self._expression(found)
        type_ = sa.ARRAY(_SQL_TYPES[found.item or Type.STRING])
        if found.item is Type.INTEGER and any(isinstance(v, float) for v in values):
            type_ = sa.ARRAY(_SQL_TYPES[Type.FLOAT])  # 1, 0.5: compared as numbers
            column, values = sa.cast(column, type_), [float(v) for v in values]
        wanted = sa.cast(sa.literal(values, type_), type_)
        operators = {Quantity.ONLY: "<@", Quantity.ANY: "&&"}
        operator = operators.get(quantity, "@>")
        return _condition(column.op(operator, is_comparison=True, return_type=sa.Boolean())(wanted))

    def _some(
        self, found: Property, tests: Sequence[tuple[Operator, Any]], quantity: Quantity
    ) -> Condition:
        """Say whether some item fits some test; for ONLY, whether some item fits none of them."""
        column = self._expression(found)
        type_ = found.item or Type.STRING
        items = (
            sa.func.unnest(column)
            .table_valued(sa.column("item", _SQL_TYPES[type_]), name="items")
            .render_derived()
        )
        fits = sa.or_(*(self._applied(items.c.item, type_, o, v) for o, v in tests))
        wanted = sa.not_(fits) if quantity is Quantity.ONLY else fits
        exists = sa.exists(sa.select(sa.literal(1)).select_from(items).where(wanted))
        return sa.case((column.is_(None), _UNKNOWN), else_=exists)

    def _features(self, quantity: Quantity, items: Sequence[Item]) -> Condition:
        """``structure_features`` holds ``disorder`` or nothing."""
        disorder = sa.not_(published.c.ordered)
        fits = [
            _fits(
                "disorder", i.operator, self._constant(Type.STRING, i.value, "structure_features")
            )
            for i in items
        ]
        if quantity is Quantity.ONLY:
            return sa.true() if any(fits) else published.c.ordered
        chosen = all(fits) if quantity is Quantity.ALL else any(fits)
        return disorder if chosen else sa.false()

    def _zipped(
        self, names: Sequence[Name], quantity: Quantity, rows: Sequence[tuple[Item, ...]]
    ) -> Condition:
        for name in names:
            self._list(name)
        raise not_implemented(
            f"{':'.join(map(str, names))} {quantity.value}: filters on correlated lists are "
            f"optional ({len(rows)} given)"
        )


_LISTED = 6  # elements whose subsets are looked up one by one
_ALWAYS = frozenset(
    "id immutable_id lattice_vectors cartesian_site_positions species structure_features".split()
)
"""Properties of structures that are never null, so that ``IS`` needs no look at them."""


def _condition(value: Any) -> Condition:
    found: Condition = value
    return found


def _false_if_known(column: Any) -> Condition:
    """False, but NULL where the column is."""
    return sa.and_(column.is_(None), _UNKNOWN)


def _one_of_the_subsets(symbols: Sequence[str]) -> Condition:
    """Compare elements with each set of some, by bits, which PostgreSQL looks up in an index."""
    known = sorted(set(symbols))
    sets = (c for n in range(1, len(known) + 1) for c in combinations(known, n))
    masks = sorted({element_masks(chosen) for chosen in sets} - {(0, 0)})
    if not masks:
        return sa.false()
    return sa.tuple_(published.c.elements_low, published.c.elements_high).in_(masks)


def _elements(quantity: Quantity, symbols: Sequence[str]) -> Condition:
    """Compare elements by their bits, which DuckDB scans far faster than lists of texts."""
    low, high = element_masks(symbols)
    row = published.c
    ones = [element_masks([symbol]) for symbol in symbols]
    if quantity is Quantity.ONLY:
        rest = (row.elements_low.op("|")(low) == low, row.elements_high.op("|")(high) == high)
        return sa.and_(*rest)
    if quantity is Quantity.ANY:
        if not low | high:
            return sa.false()
        return sa.or_(row.elements_low.op("&")(low) != 0, row.elements_high.op("&")(high) != 0)
    if any(not a | b for a, b in ones):
        return sa.false()
    parts = []
    if low:
        parts.append(row.elements_low.op("&")(low) == low)
    if high:
        parts.append(row.elements_high.op("&")(high) == high)
    return sa.and_(*parts)


def _fits(item: str, operator: Operator, value: str) -> bool:
    if operator is Operator.CONTAINS:
        return value in item
    if operator is Operator.STARTS:
        return item.startswith(value)
    if operator is Operator.ENDS:
        return item.endswith(value)
    return bool(_BY_OPERATOR[operator](item, value))


def _mismatch(detail: str) -> RequestError:
    return not_implemented(f"types do not agree: {detail}")


def _number(constant: Number) -> int | float:
    if constant.whole:
        text = constant.text.lstrip("+-").lstrip("0")
        number = int(constant.text) if len(text) < 20 else _LARGEST + 1
        if abs(number) > _LARGEST:
            raise not_implemented(
                f"the number {constant.text[:40]}: integers go from -{_LARGEST} to {_LARGEST}"
            )
        return number
    value = float(constant.text)
    if not math.isfinite(value):
        raise not_implemented(f"the number {constant.text[:40]}: numbers go to 1.7e308")
    return value


def _timestamp(text: str, name: str) -> datetime:
    found = parse_timestamp(text)
    if found is None:
        raise bad_request(
            f"{name} is a timestamp, and {text[:40]!r} is none of RFC 3339: write "
            "2026-01-31T12:00:00Z",
            "filter",
        )
    return found


def _uuid(text: str) -> UUID | None:
    """Return the id that a text is in its one usual form; None for any other text."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text else None
