"""Walking through the pages of a live source, whatever its paging looks like.

A source pages by links, offsets or numbers while its records may change places, so that a page
repeats a record and another one is passed over. Repeats are left as they are; whoever stores them
tells them by their ids. What was passed over shows in the count: where the server says how many
records there are in all, and fewer *different* ones have come, the pages are walked through again
from the first one, until all have come, or a whole walk brings nothing new, or three are done.
A server that does not say how many there are is walked through once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

from gandb.core.errors import InputError, UsageError
from gandb.sources.urls import clean_url, shown_url

MAX_SWEEPS = 3
"""Most walks through all pages."""
MAX_STALE = 10
"""Most pages in a row without a record that is new in their walk: a server that pages in circles
shows the same ones for ever."""
SHORT_TRIES = 3
"""Times that a page is asked for that comes empty, or short, though there is more."""


@dataclass(frozen=True)
class Query:
    """What is asked of a live source; plain values, part of a job's specification.

    Attributes:
        endpoint: base URL; https, or http to this machine only.
        filter: in the source's own language; None for everything.
        fields: of each record; empty for what the source gives by itself.
        page_size: records per page; servers may give fewer.
        limit: pages end once so many different records have come; the last page may bring more.
    """

    endpoint: str
    filter: str | None
    fields: tuple[str, ...]
    page_size: int
    limit: int | None

    def __post_init__(self) -> None:
        if self.page_size < 1 or (self.limit is not None and self.limit < 1):
            raise UsageError("a page size and a limit are at least 1")

    @property
    def size(self) -> int:
        """Records to ask for per page."""
        return min(self.page_size, self.limit or self.page_size)


@dataclass(frozen=True)
class Page:
    """One answer of a live source.

    Attributes:
        number: of the page among all fetched, from 0.
        url: what was asked, without secrets.
        data: the answer's body as it came, unpacked.
        records: how many it holds.
        next: cursor of the next page; None after the last.
        expected: records in all, as the server said last.
    """

    number: int
    url: str
    data: bytes
    records: int
    next: str | None
    expected: int | None


@dataclass(frozen=True)
class Sheet:
    """One answer as a source's adapter understands it.

    Attributes:
        url: what was asked, without secrets.
        data: the answer's body.
        ids: one per record; equal ids are one record.
        next: where the next page is, in the adapter's own terms; None after the last.
        expected: records in all, as the server says.
    """

    url: str
    data: bytes
    ids: Sequence[str]
    next: str | None
    expected: int | None


@dataclass(frozen=True)
class Place:
    """Where a walk stands when it asks for a page.

    Attributes:
        at: where the page is, in the adapter's own terms.
        offset: records of the pages before it in this walk, repeats and all.
        visited: where this walk has been, this page included.
        is_new: says whether an id is new in this walk.
        full: most records that a page brought so far; 0 before the first.
    """

    at: str
    offset: int
    visited: Container[str]
    is_new: Callable[[str], bool]
    full: int


@dataclass(frozen=True)
class Cursor:
    """A place to go on from, written as text.

    Attributes:
        at: where the page is.
        sweep: which walk it is, from 1.
        offset: records of the pages before it in this walk.
        fresh: records that were new when this walk brought them, so far.
        expected: records in all, as the server said last.
    """

    at: str
    sweep: int = 1
    offset: int = 0
    fresh: int = 0
    expected: int | None = None

    def __str__(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def read(cls, text: str) -> Cursor:
        """Read back what `str` wrote.

        Raises:
            UsageError: it is no cursor.
        """
        raw: Any = None
        with suppress(ValueError, RecursionError):
            raw = json.loads(text)
        if (
            isinstance(raw, dict)
            and set(raw) == {"at", "sweep", "offset", "fresh", "expected"}
            and isinstance(raw["at"], str)
            and (raw["expected"] is None or type(raw["expected"]) is int)
            and all(type(raw[n]) is int and raw[n] >= 0 for n in ("sweep", "offset", "fresh"))
            and 1 <= raw["sweep"] <= MAX_SWEEPS
        ):
            return cls(**raw)
        raise UsageError(f"{text[:80]!r} is no place to go on from; begin again without it")


def walk(
    query: Query,
    first: str,
    fetch: Callable[[Place], Sheet],
    start: str | None,
    number: int,
    seen: Iterable[str] | None,
) -> Iterator[Page]:
    """Yield pages until every record has come, see the module's description.

    Args:
        query: what is asked.
        first: where the first page is.
        fetch: gets one page.
        start: cursor of the first page to fetch; None begins.
        number: of that page.
        seen: ids of the records that came before ``start``. Without them a walk that goes on
            cannot tell repeats from new records, and so ends with one more walk through all pages.

    Raises:
        InputError: the pages go round in circles.
        UsageError: ``start`` is no cursor.
    """
    cursor = Cursor(first) if start is None else Cursor.read(start)
    known = {_digest(i) for i in seen or ()}
    here: set[bytes] = set()
    visited: set[str] = set()
    stale = full = 0

    def is_new(name: str) -> bool:
        return _digest(name) not in here

    while True:
        visited.add(cursor.at)
        sheet = fetch(Place(cursor.at, cursor.offset, visited, is_new, full))
        full = max(full, len(sheet.ids))
        digests = {_digest(i) for i in sheet.ids}
        fresh = cursor.fresh + len(digests - known)
        stale = 0 if digests - here else stale + 1
        known |= digests
        here |= digests
        expected = cursor.expected if sheet.expected is None else sheet.expected
        missing = expected is not None and len(known) < expected
        enough = query.limit is not None and len(known) >= query.limit
        if cursor.sweep > 1 and expected is not None and not missing:
            enough = True  # what an earlier walk passed over has come
        following: Cursor | None = None
        if enough:
            pass
        elif sheet.next is not None:
            if stale >= MAX_STALE:
                raise InputError(
                    f"{shown_url(sheet.url)}: the last {stale} pages brought nothing that had not "
                    "come before: the server pages in circles; try another page size or filter"
                )
            offset = cursor.offset + len(sheet.ids)
            following = Cursor(sheet.next, cursor.sweep, offset, fresh, expected)
        elif missing and cursor.sweep < MAX_SWEEPS and (fresh or cursor.sweep == 1):
            following = Cursor(first, cursor.sweep + 1, expected=expected)
        yield Page(
            number,
            clean_url(sheet.url),
            sheet.data,
            len(sheet.ids),
            None if following is None else str(following),
            expected,
        )
        if following is None:
            return
        if following.sweep > cursor.sweep:
            here.clear()
            visited.clear()
            stale = 0
        cursor, number = following, number + 1


def identity(record: Any, *names: str) -> str:
    """Return what tells a record from others: the first field that it has, or all of it."""
    if isinstance(record, dict):
        for name in names:
            value = record.get(name)
            if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
                return f"{name}:{value}"
    return "record:" + json.dumps(record, sort_keys=True, separators=(",", ":"))


def _digest(name: str) -> bytes:
    """Return 8 bytes for an id: a million records take some 100 MB, two in 10^7 clash never."""
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
