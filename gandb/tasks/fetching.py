"""Answers of a live source: fetched page by page into staging, read from there or from blobs."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import chain, islice
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.core.errors import UsageError
from gandb.jobs.records import Context
from gandb.schema import tables
from gandb.sources.base import Reject
from gandb.sources.formats import format_named
from gandb.sources.http import Session
from gandb.sources.live import LiveSource, Query, live_source
from gandb.sources.reading import read_member
from gandb.sources.records import Member, Record
from gandb.store import Store

_LIST = "pages.json"


def live_spec(
    name: str,
    *,
    endpoint: str | None = None,
    query: str | None = None,
    fields: tuple[str, ...] = (),
    page_size: int | None = None,
    limit: int | None = None,
    asked_at: dt.datetime,
) -> dict[str, Any]:
    """Return what a job asks a server for.

    Args:
        name: key of `gandb.sources.live.LIVE`.
        endpoint: another address than the source's own.
        query: filter in the server's language.
        fields: what to ask of each record; empty for all that gandb reads.
        page_size: records per answer; None for the source's own.
        limit: most records.
        asked_at: tells one fetch from the next.

    Raises:
        NotFoundError: there is no such source.
        UsageError: it has no address of its own, and none is given.
    """
    source = live_source(name)
    address = endpoint or source.endpoint
    if address is None:
        raise UsageError(f"{source.title}: name its address with --endpoint URL")
    return {
        "source": name,
        "endpoint": address,
        "filter": query,
        "fields": list(fields or source.fields),
        "page_size": page_size or source.page_size,
        "limit": limit,
        "asked_at": asked_at.isoformat(timespec="seconds"),
    }


def query_of(live: Mapping[str, Any]) -> Query:
    """Return the query of a job's specification."""
    return Query(
        endpoint=live["endpoint"],
        filter=live["filter"],
        fields=tuple(live["fields"]),
        page_size=live["page_size"],
        limit=live["limit"],
    )


def fetch(context: Context) -> None:
    """Fetch all pages into staging, from the first that is not there."""
    live = context.job.spec["live"]
    pages = Pages.staged(context)
    if pages.complete:
        return
    listed = list(pages.listed)
    start = listed[-1]["next"] if listed else None
    count = sum(page["records"] for page in listed)
    source = live_source(live["source"])
    seen = chain.from_iterable(source.ids(pages.load(number)) for number in range(len(listed)))
    session = Session(
        check=lambda: context.progress(count), tell=lambda line: context.log(line, "warning")
    )
    with session:
        for page in source.pages(query_of(live), session, start, len(listed), seen):
            context.stage(f"page-{page.number:06d}", page.data)
            listed.append(
                {
                    "name": page.url,
                    "sha256": hashlib.sha256(page.data).hexdigest(),
                    "size": len(page.data),
                    "records": page.records,
                    "expected": page.expected,
                    "next": page.next,
                }
            )
            count += page.records
            _save(context, listed, complete=page.next is None)
            context.progress(count)
    _save(context, listed, complete=True)
    _tell_missing(context, source, Pages.staged(context))


def _tell_missing(context: Context, source: LiveSource, pages: Pages) -> None:
    """Say in the job's log if the server counts more records than came."""
    expected = pages.listed[-1].get("expected") if pages.listed else None
    if expected is None or pages.live["limit"] is not None:
        return
    numbers = range(len(pages.listed))
    came = len(set(chain.from_iterable(source.ids(pages.load(n)) for n in numbers)))
    if came < expected:
        context.log(
            f"{pages.live['endpoint']} says that {expected:,} records fit, and {came:,} came, by "
            "several passes: ask for the rest with another filter, or again later",
            "warning",
        )


def _save(context: Context, listed: Sequence[Mapping[str, Any]], *, complete: bool) -> None:
    state = {"listed": list(listed), "complete": complete}
    context.stage(_LIST, json.dumps(state).encode())


@dataclass(frozen=True)
class Pages:
    """The answers of one fetch.

    Attributes:
        live: what was asked.
        listed: name (the address), sha256 and size of each.
        complete: whether there are no more.
        load: returns the body of a page by its number.
    """

    live: Mapping[str, Any]
    listed: tuple[Mapping[str, Any], ...]
    complete: bool
    load: Callable[[int], bytes]

    @classmethod
    def staged(cls, context: Context) -> Pages:
        """Return what has been fetched for a job so far."""
        live = context.job.spec["live"]
        data = context.staged(_LIST)
        if data is None:
            return cls(live, (), False, lambda _: b"")
        state = json.loads(data)

        def load(number: int) -> bytes:
            return context.staged(f"page-{number:06d}") or b""

        return cls(live, tuple(state["listed"]), state["complete"], load)

    @classmethod
    def kept(cls, store: Store, live: Mapping[str, Any], snapshot: UUID) -> Pages:
        """Return the pages that a snapshot has kept."""
        table = tables.snapshot_file
        with store.read() as connection:
            rows = connection.execute(
                sa.select(table).where(table.c.snapshot_id == snapshot).order_by(table.c.number)
            ).mappings()
            listed = tuple(dict(row) for row in rows)

        def load(number: int) -> bytes:
            return store.files.get_blob(listed[number]["sha256"])

        return cls(live, listed, True, load)

    def records(self) -> Iterator[Record | Reject]:
        """Read every page, up to the most records that were asked for."""
        return islice(self._records(), self.live["limit"])

    def _records(self) -> Iterator[Record | Reject]:
        form = format_named(live_source(self.live["source"]).format)
        for number in range(len(self.listed)):
            data = self.load(number)
            member = Member(f"page {number + 1}", len(data), partial(BytesIO, data))
            yield from read_member(member, form)

    def files(self, store: Store, *, keep: bool) -> list[dict[str, Any]]:
        """Return name, checksum and size of each page, kept as blobs if asked."""
        if keep:
            for number in range(len(self.listed)):
                store.files.put_blob(self.load(number))
        return [
            {"name": p["name"], "sha256": p["sha256"], "size": p["size"], "kept": keep}
            for p in self.listed
        ]
