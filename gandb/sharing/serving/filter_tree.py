"""What a filter says, as data: the tree that `filter_parser` builds.

Specification: "API Filtering Format Specification" of https://specification.optimade.org
(doi:10.1038/s41597-021-00974-z), version 1.2.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Operator(StrEnum):
    """How two values are compared."""

    EQUAL = "="
    UNEQUAL = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    MORE = ">"
    MORE_OR_EQUAL = ">="
    CONTAINS = "CONTAINS"
    STARTS = "STARTS"
    ENDS = "ENDS"

    @property
    def mirrored(self) -> Operator:
        """The operator that says the same with its sides exchanged."""
        return _MIRRORED.get(self, self)


_MIRRORED = {
    Operator.LESS: Operator.MORE,
    Operator.MORE: Operator.LESS,
    Operator.LESS_OR_EQUAL: Operator.MORE_OR_EQUAL,
    Operator.MORE_OR_EQUAL: Operator.LESS_OR_EQUAL,
}
EQUALITIES = frozenset({Operator.EQUAL, Operator.UNEQUAL})
SUBSTRINGS = frozenset({Operator.CONTAINS, Operator.STARTS, Operator.ENDS})


class Quantity(StrEnum):
    """How many items of a list must fit."""

    ONE = "HAS"
    ALL = "HAS ALL"
    ANY = "HAS ANY"
    ONLY = "HAS ONLY"


@dataclass(frozen=True)
class Name:
    """A property: ``nsites``, or ``references.id`` with its parts."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.parts)


@dataclass(frozen=True)
class Text:
    """A string, without its escapes."""

    value: str


@dataclass(frozen=True)
class Number:
    """A number as it is written."""

    text: str

    @property
    def whole(self) -> bool:
        """Whether it is written as an integer."""
        return self.text.lstrip("+-").isdigit()


@dataclass(frozen=True)
class Truth:
    """TRUE or FALSE."""

    value: bool


Constant = Text | Number | Truth
Value = Constant | Name


@dataclass(frozen=True)
class Item:
    """A value in a list, with how the items are compared with it."""

    value: Value
    operator: Operator = Operator.EQUAL


@dataclass(frozen=True)
class Comparison:
    """``left operator right``; a constant may stand on either side."""

    left: Value
    operator: Operator
    right: Value


@dataclass(frozen=True)
class Bare:
    """A boolean property alone."""

    name: Name


@dataclass(frozen=True)
class Known:
    """``name IS KNOWN`` or ``IS UNKNOWN``."""

    name: Name
    known: bool


@dataclass(frozen=True)
class Has:
    """``name HAS ...``."""

    name: Name
    quantity: Quantity
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Zipped:
    """``name:name HAS ...``: each row has one item for each name."""

    names: tuple[Name, ...]
    quantity: Quantity
    rows: tuple[tuple[Item, ...], ...]


@dataclass(frozen=True)
class Length:
    """``name LENGTH operator value``."""

    name: Name
    operator: Operator
    value: Value


@dataclass(frozen=True)
class Not:
    """``NOT inner``."""

    inner: Node


@dataclass(frozen=True)
class Both:
    """``parts AND ...``; at least two."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Either:
    """``parts OR ...``; at least two."""

    parts: tuple[Node, ...]


Node = Comparison | Bare | Known | Has | Zipped | Length | Not | Both | Either
