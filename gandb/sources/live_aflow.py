"""AFLOW's search interface AFLUX, by page numbers.

A request is one matchbook of keywords; those without an operator are fields to give. Answers have
no count and no link: the pages end with an empty one, which is asked for more than once, as are
pages that come short. Records are asked for in the order of their ``auid`` (the server sorts by
the first keyword), which does not change between pages.

Reference: 10.1016/j.commatsci.2017.04.036, https://aflow.org/API/aflux/?help
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from gandb.core.errors import UsageError
from gandb.sources.http import Session, json_of
from gandb.sources.paging import SHORT_TRIES, Cursor, Page, Place, Query, Sheet, identity, walk
from gandb.sources.urls import require_url

_DIRECTIVE = re.compile(r"(^|[,$])\s*\$?(paging|format|help|schema)\b", re.IGNORECASE)
_NUMBERED = re.compile(r"^\d+ of (\d+)$")
_SAFE = "(),:*!'$<>=._-~"


def pages(
    query: Query,
    session: Session,
    start: str | None = None,
    number: int = 0,
    seen: Iterable[str] | None = None,
) -> Iterator[Page]:
    """Yield the pages of a search, see `gandb.sources.paging.walk`.

    Args:
        query: endpoint (``https://aflow.org/API/aflux``); filter as a matchbook, such as
            ``species(Na:K,Cl),Egap(1*,*5),catalog(ICSD)``; fields are keywords to give.
        session: asks.
        start: cursor of the first page to fetch; None begins.
        number: of that page.
        seen: ids of the records that came before ``start``, as `ids` gives them.

    Raises:
        InputError: the server refuses or does not answer.
        UsageError: the endpoint is no address to ask, the filter pages by itself, or ``start`` is
            no cursor.
    """
    base = require_url(query.endpoint)
    matchbook = _matchbook(query)
    if start is not None and not Cursor.read(start).at.isdecimal():
        raise UsageError("this import did not page by numbers; begin again")

    def fetch(place: Place) -> Sheet:
        page = int(place.at)
        url = f"{base}/?{matchbook},$paging({page},{query.size}),format(json)"

        def parse(data: bytes) -> Sheet:
            records, expected = _records(json_of(data))
            names = [_identity(record) for record in records]
            return Sheet(url, data, names, str(page + 1) if names else None, expected)

        best = session.get(url, parse).value
        for _ in range(SHORT_TRIES - 1):  # the last page, one past it, or one that came short
            if len(best.ids) >= (place.full or query.size):
                break
            best = max(best, session.get(url, parse).value, key=lambda sheet: len(sheet.ids))
        return best

    return walk(query, "1", fetch, start, number, seen)


def ids(data: bytes) -> list[str]:
    """Return what tells the records of a page from others."""
    return [_identity(record) for record in _records(json_of(data))[0]]


def _identity(record: Any) -> str:
    return identity(record, "auid", "aurl")


def _matchbook(query: Query) -> str:
    """Return the keywords of the request, encoded."""
    wanted = (query.filter or "").strip().strip(",")
    if _DIRECTIVE.search(wanted):
        raise UsageError(
            f"the filter {wanted!r} has a directive of its own; paging and format are gandb's, "
            "use --limit and --page-size"
        )
    fields = [name for name in ("aurl", *query.fields) if name != "auid"]
    keywords = ["auid", *([wanted] if wanted else []), *dict.fromkeys(fields)]
    return quote(",".join(keywords), safe=_SAFE)


def _records(document: Any) -> tuple[list[Any], int | None]:
    """Return the rows of a page, and how many there are in all where the server says so.

    Rows come as a list, or by name: ``1 of 2394``.

    Raises:
        ValueError: it is no page.
    """
    if isinstance(document, list):
        if any(isinstance(row, str) for row in document):
            raise ValueError(f"words instead of rows: {' '.join(map(str, document))[:200]!r}")
        return document, None
    if isinstance(document, dict) and all(_NUMBERED.match(name) for name in document):
        totals = {int(name.split()[-1]) for name in document}
        return list(document.values()), max(totals, default=None)
    if document is None:
        return [], None
    raise ValueError(f"no rows in it: {str(document)[:200]!r}")
