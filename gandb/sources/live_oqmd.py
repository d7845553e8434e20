"""OQMD's own REST interface: ``/oqmdapi/formationenergy``, by limit and offset.

The server sorts by nothing, so that records change places between pages, and says
``more_data_available`` on the last page too: the end shows in the missing link, and the number of
records in ``data_available``.

Reference: https://static.oqmd.org/static/docs/restful.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

from gandb.core.errors import UsageError
from gandb.sources.http import Session, json_of
from gandb.sources.paging import SHORT_TRIES, Cursor, Page, Place, Query, Sheet, identity, walk
from gandb.sources.urls import require_url

OUTSIDE = ("composition", "icsd", "noduplicate")
"""What the server takes as parameters of their own, not in its ``filter``."""
KEY_FIELD = "entry_id"
"""The field that is asked for always: it tells records from each other."""


def pages(
    query: Query,
    session: Session,
    start: str | None = None,
    number: int = 0,
    seen: Iterable[str] | None = None,
) -> Iterator[Page]:
    """Yield the pages of formation energies, see `gandb.sources.paging.walk`.

    Args:
        query: endpoint (``https://oqmd.org/oqmdapi``); filter as the server has it, such as
            ``element_set=(Fe-Mn),O AND stability<=0``, where ``composition=Fe-O``, ``icsd=True``
            and ``noduplicate=True`` may be terms too; fields.
        session: asks.
        start: cursor of the first page to fetch; None begins.
        number: of that page.
        seen: ids of the records that came before ``start``, as `ids` gives them.

    Raises:
        InputError: the server refuses or does not answer.
        UsageError: the endpoint is no address to ask, or ``start`` is no cursor.
    """
    base = require_url(query.endpoint)
    listing = base if base.endswith("/formationenergy") else f"{base}/formationenergy"
    asked = _asked(query)
    if start is not None and not Cursor.read(start).at.isdecimal():
        raise UsageError("this import did not page by offsets; begin again")

    def fetch(place: Place) -> Sheet:
        parameters = {**asked, "limit": str(query.size), "offset": place.at}
        url = f"{listing}?{urlencode(parameters, quote_via=quote)}"

        def parse(data: bytes) -> Sheet:
            document = json_of(data)
            names = [_identity(record) for record in _records(document)]
            expected = _expected(document, int(place.at), len(names))
            following = _next(document, int(place.at), len(names), expected, query.size)
            return Sheet(url, data, names, following, expected)

        for _ in range(SHORT_TRIES):
            sheet = session.get(url, parse).value
            if sheet.ids or sheet.next is None:
                break
        return sheet

    return walk(query, "0", fetch, start, number, seen)


def ids(data: bytes) -> list[str]:
    """Return what tells the records of a page from others."""
    return [_identity(record) for record in _records(json_of(data))]


def _identity(record: Any) -> str:
    return identity(record, "formationenergy_id", KEY_FIELD)


def _asked(query: Query) -> dict[str, str]:
    """Return the parameters that every page's address has."""
    asked: dict[str, str] = {}
    inside = []
    for term in (query.filter or "").split(" AND "):
        name, equals, value = term.strip().partition("=")
        if equals and name in OUTSIDE:
            asked[name] = value
        elif term.strip():
            inside.append(term.strip())
    if inside:
        asked["filter"] = " AND ".join(inside)
    if query.fields:
        asked["fields"] = ",".join(dict.fromkeys((*query.fields, KEY_FIELD)))
    return asked


def _records(document: Any) -> list[Any]:
    """Return the records of a page.

    Raises:
        ValueError: it is no page.
    """
    if isinstance(document, dict) and isinstance(document.get("data"), list):
        return list(document["data"])
    said = document.get("response_message") if isinstance(document, dict) else None
    raise ValueError(f"no list 'data' in it{f' ({said})' if said else ''}")


def _expected(document: Any, offset: int, count: int) -> int | None:
    """Return the number of records that fit; None where the server does not say, or not truly."""
    meta = document.get("meta")
    total = meta.get("data_available") if isinstance(meta, dict) else None
    return total if type(total) is int and total >= offset + count else None


def _next(document: Any, offset: int, count: int, expected: int | None, size: int) -> str | None:
    """Return the offset of the next page; None after the last."""
    links = document.get("links")
    linked = isinstance(links, dict) and bool(links.get("next"))
    more = linked or (expected is not None and offset + count < expected)
    return str(offset + (count or size)) if more else None
