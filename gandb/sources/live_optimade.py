"""Any OPTIMADE provider: ``/structures``, page by page.

Of the ``next`` link only the query is taken and put to the endpoint that the user named, so that
links to http, to a host behind a proxy or to another base path stay where the data are, and the
filter and the fields stay as asked. Where a link is missing though there is more, the number of
records that came is the next offset. A link to a page that came before is not followed.

Specification: https://github.com/Materials-Consortia/OPTIMADE/blob/v1.2.0/optimade.rst, "JSON
response schema: common fields" and "Entry listing URL query parameters" (paper:
10.1038/s41597-021-00974-z).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

from gandb.core.errors import InputError, UsageError
from gandb.sources.http import RequestError, Session, json_of
from gandb.sources.paging import SHORT_TRIES, Cursor, Page, Place, Query, Sheet, identity, walk
from gandb.sources.urls import origin_of, require_url, shown_url

MAX_LINK = 16_384
"""Longest address of a page; servers take no longer ones."""

_VERSION = re.compile(r"/v\d+(\.\d+){0,2}$")


def pages(
    query: Query,
    session: Session,
    start: str | None = None,
    number: int = 0,
    seen: Iterable[str] | None = None,
) -> Iterator[Page]:
    """Yield the pages of ``/structures``, see `gandb.sources.paging.walk`.

    Args:
        query: endpoint (with or without ``/v1``), filter in OPTIMADE's language, response fields.
        session: asks.
        start: cursor of the first page to fetch; None begins.
        number: of that page.
        seen: ids of the records that came before ``start``, as `ids` gives them.

    Raises:
        InputError: the server refuses, does not answer, or pages in circles.
        UsageError: the endpoint is no address to ask, or ``start`` is not of this query.
    """
    base = require_url(query.endpoint)
    if start is None:
        first = _first(_listing(base, session), query)
    else:
        at = Cursor.read(start).at
        require_url(at, bare=False)
        if origin_of(at) != origin_of(base):
            raise UsageError(f"this import went to {shown_url(at)}, not to {base}; begin again")
        listed = urlsplit(at).path.endswith("/structures")
        first = _first(at if listed else _listing(base, session), query)
    return walk(query, first, lambda place: _fetch(query, session, place), start, number, seen)


def ids(data: bytes) -> list[str]:
    """Return what tells the records of a page from others."""
    return [_identity(record) for record in _records(json_of(data))]


def _listing(base: str, session: Session) -> str:
    """Return the address of the list of structures: with the version, or as some have it without.

    An address whose last part is ``structures``, ``v1``, ``v1.2`` ... is taken at its word.
    """
    if base.endswith("/structures"):
        return base
    if _VERSION.search(urlsplit(base).path):
        return f"{base}/structures"
    try:
        session.get(f"{base}/v1/info", _require_info)
    except RequestError as error:
        if error.status not in (200, 404, 410):
            raise
        return f"{base}/structures"
    return f"{base}/v1/structures"


def _require_info(data: bytes) -> None:
    """Raise a `ValueError` if this is not what ``/info`` gives."""
    document = json_of(data)
    if not isinstance(document, dict) or not document.get("data"):
        raise ValueError("no 'data' in it")


def _first(listing: str, query: Query) -> str:
    """Return the address of the first page."""
    parameters = {"page_limit": str(query.size), **_asked(query)}
    return _with_query(listing, parameters)


def _asked(query: Query) -> dict[str, str]:
    """Return the parameters that every page's address must have."""
    asked = {}
    if query.filter:
        asked["filter"] = query.filter
    if query.fields:
        asked["response_fields"] = ",".join(query.fields)
    return asked


def _fetch(query: Query, session: Session, place: Place) -> Sheet:
    """Get one page."""

    def parse(data: bytes) -> Sheet:
        document = json_of(data)
        names = [_identity(record) for record in _records(document)]
        following = _next(query, place, document, len(names))
        return Sheet(place.at, data, names, following, _expected(document, len(names)))

    sheet = session.get(place.at, parse).value
    for number in range(1, SHORT_TRIES):
        if not _came_short(place, sheet, number):
            break
        sheet = max(sheet, session.get(place.at, parse).value, key=lambda s: len(s.ids))
    parameters = dict(parse_qsl(urlsplit(place.at).query))
    if (
        sheet.next is not None
        and place.offset
        and parameters.get("page_offset") == str(place.offset)
        and sheet.ids
        and not any(place.is_new(i) for i in sheet.ids)
        and _link(json_of(sheet.data)) is None
    ):
        raise InputError(
            f"{shown_url(place.at)}: the server says that there is more, gives no link to it and "
            "heeds no page_offset; narrow the filter until one page holds everything"
        )
    return sheet


def _came_short(place: Place, sheet: Sheet, tries: int) -> bool:
    """Say whether a page is to be asked for again: an empty one that should not be, or a short one.

    A page that is shorter than others is asked for twice, unless the next one begins where it
    ended anyway.
    """
    count = len(sheet.ids)
    if sheet.expected is not None:
        due = sheet.expected > place.offset + count
    else:
        due = _more(json_of(sheet.data)) is True
    if count:
        return due and count < place.full and tries < 2 and "page_offset=" not in (sheet.next or "")
    return due


def _records(document: Any) -> list[Any]:
    """Return the entries of a page.

    Raises:
        ValueError: it is no page.
    """
    if isinstance(document, dict) and isinstance(document.get("data"), list):
        return list(document["data"])
    if isinstance(document, dict) and document.get("errors"):
        raise ValueError(f"errors: {str(document['errors'])[:200]}")
    raise ValueError("no list 'data' in it, which every OPTIMADE page has")


def _identity(record: Any) -> str:
    return identity(record, "id")


def _meta(document: Any, name: str) -> Any:
    meta = document.get("meta")
    return meta.get(name) if isinstance(meta, dict) else None


def _more(document: Any) -> bool | None:
    """Return ``more_data_available``; None where the server does not say."""
    more = _meta(document, "more_data_available")
    return more if isinstance(more, bool) else None


def _expected(document: Any, count: int) -> int | None:
    """Return the number of entries that fit the filter.

    Some servers give the number on the page there: where more are said to follow, that is no
    total.
    """
    total = _meta(document, "data_returned")
    if type(total) is not int or total < count or (total == count and _more(document)):
        return None
    return total


def _link(document: Any) -> str | None:
    """Return ``links.next``, given as text or as an object.

    Raises:
        ValueError: it is something else.
    """
    links = document.get("links")
    link = links.get("next") if isinstance(links, dict) else None
    if isinstance(link, dict):
        link = link.get("href")
    if link is not None and not isinstance(link, str):
        raise ValueError(f"a link to the next page that is none: {str(link)[:80]}")
    return link or None


def _next(query: Query, place: Place, document: Any, count: int) -> str | None:
    """Return the address of the next page; None after the last.

    Raises:
        ValueError: the link leads nowhere, or back.
    """
    link, more = _link(document), _more(document)
    expected, came = _expected(document, count), place.offset + count
    all_came = expected is None or came >= expected
    if link is None:
        if not count or more is False or (all_came and (more is None or expected is not None)):
            return None
        parameters = dict(parse_qsl(urlsplit(place.at).query, keep_blank_values=True))
        if parameters.get("page_number", "").isdigit():
            parameters["page_number"] = str(int(parameters["page_number"]) + 1)
        else:
            parameters["page_offset"] = str(came)
        following = _with_query(place.at, parameters)
    else:
        if (more is False and all_came) or (not count and not more):
            return None
        following = _follow(query, place, link, count)
    if len(following) > MAX_LINK:
        raise ValueError(f"a link of {len(following):,} characters: {shown_url(following)}")
    if following in place.visited:
        raise ValueError(f"a link to a page that came before: {shown_url(following)}")
    return following


def _follow(query: Query, place: Place, link: str, count: int) -> str:
    """Return where a link leads, on the endpoint that is asked.

    An offset is always the number of records that came (unless the link goes by something else
    too), and a page number the next one, so that pages that came short, and links that jump, leave
    nothing out.
    """
    target = urlsplit(urljoin(place.at, link))
    own = urlsplit(place.at)
    if not target.query:
        if target.hostname != own.hostname:
            raise ValueError(f"a link to another host: {shown_url(link)}")
        return urlunsplit((own.scheme, own.netloc, target.path, "", ""))
    parameters = dict(parse_qsl(target.query, keep_blank_values=True)) | _asked(query)
    others = {"page_number", "page_cursor", "page_above", "page_below"} & set(parameters)
    if count and "page_offset" in parameters and not others:
        parameters["page_offset"] = str(place.offset + count)
    page = dict(parse_qsl(own.query)).get("page_number", "")
    if page.isdigit() and parameters.get("page_number", "").isdigit():
        parameters["page_number"] = str(int(page) + 1)
    return _with_query(place.at, parameters)


def _with_query(url: str, parameters: dict[str, str]) -> str:
    """Return the address with these parameters, in one order."""
    parts = urlsplit(url)
    query = urlencode(sorted(parameters.items()), quote_via=quote)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))
