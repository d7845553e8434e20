"""What filters mean, worked out slowly over the served JSON, with nothing of gandb's server.

The tree is that of optimade-python-tools' Lark grammar, an independent reader of the same language.
Truth has three values: None is unknown, which ``NOT`` leaves unknown.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from lark import Token, Tree

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
MIRROR = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}


def holds(tree: Tree[Token], entry: Mapping[str, Any]) -> bool:
    """Say whether an entry matches a parsed filter."""
    return truth(tree, {**entry["attributes"], "id": entry["id"], "type": entry["type"],
                        "references.id": _related(entry)}) is True  # fmt: skip


def _related(entry: Mapping[str, Any]) -> list[str]:
    relations = entry.get("relationships", {}).get("references", {}).get("data", [])
    return [r["id"] for r in relations]


def truth(tree: Tree[Token], of: Mapping[str, Any]) -> bool | None:
    children = tree.children
    name = str(tree.data)
    if name in ("filter", "comparison"):
        return truth(children[0], of)
    if name == "expression":
        return _or([truth(c, of) for c in children])
    if name == "expression_clause":
        return _and([truth(c, of) for c in children])
    if name == "expression_phrase":
        inner = truth(children[-1], of)
        return _not(inner) if len(children) == 2 else inner
    if name == "constant_first_comparison":
        value = _constant(children[0].children[0])
        return _compare(_property(children[2], of), MIRROR[str(children[1])], value)
    assert name == "property_first_comparison", name
    return _first(_property(children[0], of), children[1], of)


def _first(left: Any, rhs: Tree[Token], of: Mapping[str, Any]) -> bool | None:
    kind, parts = str(rhs.data), rhs.children
    if kind == "known_op_rhs":
        return (left is not None) == (str(parts[1]) == "KNOWN")
    if left is None:
        return None
    if kind == "value_op_rhs":
        right = parts[1].children[0]
        if isinstance(right, Tree) and right.data == "property":
            return _compare(left, str(parts[0]), _property(right, of))
        return _compare(left, str(parts[0]), _constant(right))
    if kind == "fuzzy_string_op_rhs":
        return _fuzzy(str(parts[0]), left, _constant(parts[-1].children[0]))
    if kind == "length_op_rhs":
        op = str(parts[1]) if len(parts) == 3 else "="
        return COMPARE[op](len(left), int(str(parts[-1].children[0])))
    assert kind == "set_op_rhs", kind
    return _has(left, parts)


def _has(items: list[Any], parts: list[Any]) -> bool:
    words = [str(p) for p in parts if isinstance(p, Token)]
    values = parts[-1]
    tests: list[Callable[[Any], bool]] = []
    pending = "="
    listed = values.children if str(values.data) == "value_list" else [
        *[p for p in parts[1:-1] if isinstance(p, Token) and str(p) in COMPARE], values
    ]  # fmt: skip
    for item in listed:
        if isinstance(item, Token):
            pending = str(item)
            continue
        constant = _constant(item.children[0])
        tests.append(lambda x, c=constant, o=pending: COMPARE[o](x, c))
        pending = "="
    if "ALL" in words:
        return all(any(t(i) for i in items) for t in tests)
    if "ONLY" in words:
        return all(any(t(i) for t in tests) for i in items)
    return any(t(i) for t in tests for i in items)


def _fuzzy(word: str, text: str, part: str) -> bool:
    if word == "CONTAINS":
        return part in text
    return text.startswith(part) if word == "STARTS" else text.endswith(part)


def _compare(left: Any, op: str, right: Any) -> bool | None:
    if left is None or right is None:
        return None
    if _is_moment(left) and isinstance(right, str):
        left, right = _moment(left), _moment(right)
    return COMPARE[op](left, right)


def _is_moment(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 20 and value[10] == "T" and value[-1] == "Z"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _property(tree: Tree[Token], of: Mapping[str, Any]) -> Any:
    if str(tree.data) == "non_string_value":
        return _property(tree.children[0], of)
    return of.get(".".join(str(c) for c in tree.children))


def _constant(tree: Any) -> Any:
    kind, token = str(tree.data), str(tree.children[0]) if tree.children else ""
    if kind == "string":
        return token[1:-1].replace("\\\\", "\0").replace('\\"', '"').replace("\0", "\\")
    if kind == "number":
        return int(token) if token.lstrip("+-").isdigit() else float(token)
    assert kind == "bool", kind
    return None  # the grammar drops which one it is


def _and(values: list[bool | None]) -> bool | None:
    if False in values:
        return False
    return None if None in values else True


def _or(values: list[bool | None]) -> bool | None:
    if True in values:
        return True
    return None if None in values else False


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value
