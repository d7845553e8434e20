"""What a request asks for: its query parameters, read and checked."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from gandb.sharing.serving.failures import (
    VERSION_NOT_SUPPORTED,
    RequestError,
    bad_request,
)
from gandb.sharing.serving.filter_parser import parse_filter
from gandb.sharing.serving.filter_tree import Node
from gandb.sharing.serving.properties import PREFIX, EntryType, Origin, Property, Type
from gandb.sharing.serving.queries import Order

API_VERSION = "1.2.0"
"""Version of the specification that is served."""
VERSIONS = ("v1", "v1.2", "v1.2.0")
"""Path segments under which it is served, besides none."""
DEFAULT_LIMIT = 20
MAX_LIMIT = 1_000
MAX_SORT = 3
"""Most keys that an answer is sorted by."""

_KNOWN = frozenset(
    "filter page_limit page_offset page_number page_above page_cursor sort include response_format "
    "response_fields email_address api_hint".split()
)
_PAGING = ("page_offset", "page_number", "page_above", "page_cursor")
_WHOLE = re.compile(r"\d{1,9}", re.ASCII)
_HINT = re.compile(r"v(\d+)(?:\.(\d+))?(?:\.\d+)?", re.ASCII)
_MOST_OFFSET = 10_000_000


@dataclass(frozen=True)
class Asked:
    """A request for entries.

    Attributes:
        filter: what it asks for; None for everything.
        filter_text: as it was written.
        fields: properties of the answer.
        limit: most entries of a page.
        offset: entries to pass over.
        orders: keys to sort by, before the id.
        above: values of the keys and the id after which the page begins; None from the start.
        include: entry types whose related entries go with the answer.
        warnings: what the answer should say about the request.
    """

    filter: Node | None
    filter_text: str
    fields: tuple[Property, ...]
    limit: int = DEFAULT_LIMIT
    offset: int = 0
    orders: tuple[Order, ...] = ()
    above: tuple[Any, ...] | None = None
    include: frozenset[str] = frozenset({"references"})
    warnings: list[str] = field(default_factory=list)


def read_request(
    parameters: Sequence[tuple[str, str]], entry_type: EntryType, *, single: bool = False
) -> Asked:
    """Read the query parameters of a request.

    Args:
        parameters: names and values, decoded.
        entry_type: what is asked for.
        single: whether one entry is asked for by its id; then a page means nothing.

    Raises:
        RequestError: one of them cannot be used; says which and why.
    """
    warnings: list[str] = []
    given: dict[str, str] = {}
    for name, value in parameters:
        if name in given:
            raise bad_request(f"{name} is given twice", name)
        given[name] = value
        if name not in _KNOWN:
            warnings.append(f"the query parameter {name[:60]!r} is not known and does nothing")
    check_common(given)
    fields = _fields(given.get("response_fields"), entry_type, warnings)
    include = _include(given.get("include"), entry_type)
    if single:
        if given.get("filter"):
            raise bad_request("one entry is asked for by its id: a filter means nothing", "filter")
        return Asked(None, "", fields, include=include, warnings=warnings)
    if sum(name in given for name in _PAGING) > 1:
        raise bad_request(f"give one of {', '.join(_PAGING)}")
    limit = _number(given, "page_limit", DEFAULT_LIMIT)
    if limit > MAX_LIMIT:
        raise RequestError(403, f"page_limit may be at most {MAX_LIMIT}", "page_limit")
    if limit < 1:
        raise bad_request("page_limit must be at least 1", "page_limit")
    orders = _orders(given.get("sort"), entry_type)
    offset = _number(given, "page_offset", 0)
    if "page_number" in given:
        number = _number(given, "page_number", 1)
        if number < 1:
            raise bad_request("pages are counted from 1", "page_number")
        offset = (number - 1) * limit
    if offset > _MOST_OFFSET:
        raise bad_request(f"at most {_MOST_OFFSET:,} entries can be passed over: follow links.next")
    text = given.get("filter", "")
    return Asked(
        filter=parse_filter(text),
        filter_text=text,
        fields=fields,
        limit=limit,
        offset=offset,
        orders=orders,
        above=_above(given, orders, entry_type),
        include=include,
        warnings=warnings,
    )


def check_common(given: Mapping[str, str]) -> None:
    """Check the parameters that every endpoint takes.

    Raises:
        RequestError: the format or the version that is asked for is not there.
    """
    form = given.get("response_format") or "json"
    if form != "json":
        raise bad_request(f"answers come as json, not as {form[:40]!r}", "response_format")
    hint = given.get("api_hint")
    if not hint:
        return
    match = _HINT.fullmatch(hint)
    if match is None:
        raise bad_request("api_hint is written v1 or v1.2", "api_hint")
    if int(match[1]) != 1:
        raise RequestError(
            VERSION_NOT_SUPPORTED,
            f"version {hint} is not served; this is {API_VERSION}, at /v1",
            "api_hint",
        )


def _number(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name)
    if text is None:
        return default
    if not _WHOLE.fullmatch(text):
        raise bad_request(f"{name} is a whole number, not {text[:20]!r}", name)
    return int(text)


def _fields(text: str | None, entry_type: EntryType, warnings: list[str]) -> tuple[Property, ...]:
    if not text:
        return tuple(p for p in entry_type.properties.values() if p.default)
    found: dict[str, Property] = {}
    for name in (part.strip() for part in text.split(",")):
        if not name:
            continue
        known = entry_type.find(name)
        if known is None:
            if not name.startswith("_") or name.startswith(PREFIX):
                raise bad_request(
                    f"there is no property {name[:60]!r} of {entry_type.name}", "response_fields"
                )
            warnings.append(f"{name[:60]} is a property of another provider: it is null here")
            known = Property(name, Type.STRING, "Another provider's.", origin=Origin.NEVER)
        found[name] = known
    return tuple(found.values())


def _include(text: str | None, entry_type: EntryType) -> frozenset[str]:
    allowed = {"references"} if entry_type.name == "structures" else set()
    if text is None:
        return frozenset(allowed)
    asked = {part.strip() for part in text.split(",") if part.strip()}
    if unknown := asked - {"references"}:
        raise bad_request(
            f"there are no related entries called {min(unknown)[:40]!r}: references alone",
            "include",
        )
    return frozenset(asked & allowed)


def _orders(text: str | None, entry_type: EntryType) -> tuple[Order, ...]:
    if not text:
        return ()
    found: dict[str, Order] = {}
    for part in (p.strip() for p in text.split(",")):
        name = part.removeprefix("-")
        known = entry_type.properties.get(name)
        if known is None or not known.sortable:
            raise bad_request(
                f"answers cannot be sorted by {name[:60]!r}: see sortable in "
                f"/info/{entry_type.name}",
                "sort",
            )
        found.setdefault(name, Order(known, part.startswith("-")))
    if len(found) > MAX_SORT:
        raise bad_request(f"answers can be sorted by at most {MAX_SORT} properties", "sort")
    return tuple(found.values())


# --- places in an answer -----------------------------------------------------------------


def _above(
    given: Mapping[str, str], orders: Sequence[Order], entry_type: EntryType
) -> tuple[Any, ...] | None:
    if "page_above" in given:
        if orders:
            raise bad_request("page_above goes with no sort: follow links.next", "page_above")
        if entry_type.name != "structures":
            return (given["page_above"],)
        try:
            return (UUID(given["page_above"]),)
        except ValueError:
            raise bad_request("page_above is an id", "page_above") from None
    if "page_cursor" in given:
        return read_cursor(given["page_cursor"], orders)
    return None


def write_cursor(keys: Sequence[Any], own_id: UUID) -> str:
    """Write a place in a sorted answer."""
    plain = [_plain(k) for k in (*keys, own_id)]
    text = json.dumps(plain, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def read_cursor(text: str, orders: Sequence[Order]) -> tuple[Any, ...]:
    """Read what `write_cursor` wrote for the same order.

    Raises:
        RequestError: it was not written for that.
    """
    wrong = bad_request("page_cursor is none of this query: follow links.next", "page_cursor")
    try:
        padded = text + "=" * (-len(text) % 4)
        values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if not isinstance(values, list) or len(values) != len(orders) + 1:
            raise wrong
        keys = [_read(v, o.property) for v, o in zip(values[:-1], orders, strict=True)]
        return (*keys, UUID(values[-1]))
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
        raise wrong from None


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    return value.isoformat() if isinstance(value, datetime) else value


def _read(value: Any, of: Property) -> Any:
    if value is None:
        return None
    if of.name.endswith("id") and of.column is not None and of.column.type.python_type is UUID:
        return UUID(value)
    if of.type is Type.TIMESTAMP:
        return datetime.fromisoformat(value)
    wanted = {Type.STRING: str, Type.INTEGER: int, Type.FLOAT: (int, float)}[of.type]
    if not isinstance(value, wanted) or isinstance(value, bool):  # type: ignore[arg-type]
        raise ValueError(f"{of.name} is no {value!r}")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError("too large")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("NUL")
    return value
