"""What a store serves: who may see what, pages of it, and how many there are."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.sharing.serving.conditions import Condition, Conditions
from gandb.sharing.serving.documents import reference_resources, resources
from gandb.sharing.serving.failures import RequestError
from gandb.sharing.serving.properties import REFERENCES, STRUCTURES, Property
from gandb.sharing.serving.publishing import Publication, list_publications
from gandb.sharing.serving.queries import Rows, Span, spans
from gandb.sharing.serving.requests import Asked, write_cursor
from gandb.sharing.serving.sessions import Row, Session, Sessions, TooSlowError, sessions_of
from gandb.sharing.serving.timestamps import parse_timestamp
from gandb.sharing.serving.tokens import find_token
from gandb.store import Store

SECONDS = 20.0
"""How long a query may take by default."""

_LARGE = 100_000  # structures, from which DuckDB looks through them part by part
_COUNTING = 0.04  # seconds that an answer waits for its count
_LIVE = 60.0  # seconds for which a count holds that looked at what may change
_KEPT = 2_000  # counts


@dataclass(frozen=True)
class Page:
    """A part of an answer.

    Attributes:
        data: resource objects.
        following: query parameters of the next page; None on the last.
        returned: how many entries fit; None where that is not known yet.
        available: how many there are.
        included: related resources; None where they were not asked for.
        warnings: what to say.
    """

    data: list[dict[str, Any]]
    following: dict[str, str] | None = None
    returned: int | None = None
    available: int | None = None
    included: list[dict[str, Any]] | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class View:
    """What one request may see: a session, and publications."""

    session: Session
    publications: tuple[Publication, ...]
    everything: bool

    def rows(self) -> Rows:
        """Return a fresh builder of queries."""
        return Rows(self.publications, self.everything, self.session.kind)

    @property
    def state(self) -> tuple[Any, ...]:
        """What counts depend on."""
        return tuple((p.name, p.created_at, p.n_structures) for p in self.publications)


class Catalogue:
    """Serves a store; any number of threads may ask.

    Args:
        store: whose publications.
        seconds: how long a query may take.
    """

    def __init__(self, store: Store, seconds: float = SECONDS) -> None:
        self._sessions: Sessions = sessions_of(store)
        self._seconds = seconds
        self._counts = _Counts()

    def close(self) -> None:
        """Let go of the store."""
        self._sessions.close()

    def session(self) -> AbstractContextManager[Session]:
        """Open a session for one request."""
        found: AbstractContextManager[Session] = self._sessions.session(self._seconds)
        return found

    def view(self, session: Session, token: str | None) -> View:
        """Return what the bearer of a token may see; without one, what is public.

        Raises:
            RequestError: the token is not valid (401).
        """
        known = list_publications(session.connection)
        opened = None
        if token is not None:
            opened = find_token(session.connection, token)
            if opened is None:
                raise RequestError(401, "the token is not valid: it may have been revoked")
        seen = tuple(p for p in known if p.public or (opened is not None and opened.opens(p.name)))
        return View(session, seen, len(seen) == len(known))

    # --- structures ----------------------------------------------------------------------

    def structures(self, view: View, asked: Asked, base: str) -> Page:
        """Return a page of structures.

        Raises:
            RequestError: the filter cannot be answered, or takes too long.
        """
        rows = view.rows()
        conditions = Conditions(STRUCTURES, rows.locate, view.session.kind)
        condition = None if asked.filter is None else conditions.of(asked.filter)
        try:
            found = self._found(view, rows, condition, asked)
            shown, more = found[: asked.limit], len(found) > asked.limit
            ids = [row["id"] for row in shown]
            data = resources(view.session, rows, view.publications, ids, asked.fields, base)
        except TooSlowError as error:
            raise RequestError(
                504, f"the query was {error}: ask for less at a time, or filter by elements first"
            ) from error
        included = self._included(view, data, base) if "references" in asked.include else None
        following = None
        if more:
            last = shown[-1]
            keys = [last[f"key_{i}"] for i in range(len(asked.orders))]
            following = (
                {"page_cursor": write_cursor(keys, last["id"])}
                if asked.orders
                else {"page_above": str(last["id"])}
            )
        returned = available = None
        try:  # the last queries of the session: one that is stopped ends it on PostgreSQL
            available = self._count(view, "", view.rows(), None)
            if asked.above is None and not asked.offset and not more:
                returned = len(found)
            else:
                returned = self._count(view, asked.filter_text, rows, condition)
        except _UncountedError:
            pass
        return Page(
            data, following, returned, available, included, asked.warnings + conditions.warnings
        )

    def _found(
        self, view: View, rows: Rows, condition: Condition | None, asked: Asked
    ) -> list[Row]:
        """Return one entry more than the page shows, if there are as many."""
        wanted = asked.limit + 1
        if not view.publications:
            return []
        parts: Iterable[Span | None] = [None]
        large = sum(p.n_structures for p in view.publications) > _LARGE
        if large and view.session.kind == "duckdb" and not asked.orders and not asked.offset:
            parts = spans(asked.above[-1] if asked.above else None)
        found: dict[UUID, Row] = {}
        for span in parts:
            query = rows.page(
                condition, asked.orders, asked.above, wanted - len(found), asked.offset, span
            )
            found |= {row["id"]: row for row in view.session.rows(query)}
            if len(found) >= wanted:
                break
        return list(found.values())

    def structure(self, view: View, own_id: str, asked: Asked, base: str) -> Page:
        """Return one structure; 404 for what is not there, or may not be seen."""
        try:
            wanted = UUID(own_id)
        except ValueError:
            wanted = None
        data = []
        if wanted is not None and view.publications and str(wanted) == own_id:
            rows = view.rows()
            data = resources(view.session, rows, view.publications, [wanted], asked.fields, base)
        if not data:
            raise RequestError(404, f"there is no structure {own_id[:60]!r} here")
        included = self._included(view, data, base) if "references" in asked.include else None
        return Page(data, None, 1, None, included, asked.warnings)

    def _included(
        self, view: View, data: Sequence[dict[str, Any]], base: str
    ) -> list[dict[str, Any]]:
        named = {
            r["id"]
            for d in data
            for r in d.get("relationships", {}).get("references", {}).get("data", ())
        }
        return [r for r in reference_resources(view.publications, base) if r["id"] in named]

    # --- counting ------------------------------------------------------------------------

    def _count(self, view: View, text: str, rows: Rows, condition: Condition | None) -> int | None:
        """Return how many entries fit; None if that takes too long to wait for it."""
        if not view.publications:
            return 0
        if condition is None and rows.copies == 1:
            return sum(p.n_structures for p in view.publications)
        key = (text if condition is not None else None, view.state)
        known = self._counts.get(key)
        if known is not None or self._counts.busy(key):
            return known
        query = rows.count(condition)
        lasting = None if not rows.live else _LIVE
        try:
            n = int(view.session.rows(query, _COUNTING)[0]["n"])
        except TooSlowError:
            self._counts.later(key, lambda: self._counted(query), lasting)
            raise _UncountedError from None
        self._counts.put(key, n, lasting)
        return n

    def _counted(self, query: sa.Select[Any]) -> int:
        with self.session() as session:
            return int(session.rows(query)[0]["n"])

    # --- references ----------------------------------------------------------------------

    def references(self, view: View, asked: Asked, base: str) -> Page:
        """Return a page of references: there are few, which the database is given to filter."""
        known = reference_resources(view.publications, base)
        table, columns = _reference_table(known)

        def locate(found: Property) -> Any:
            if found.name == "type":
                return sa.cast(sa.literal(REFERENCES.name), sa.Text)
            return columns[found.name]

        conditions = Conditions(REFERENCES, locate, view.session.kind)
        fitting = {r["id"] for r in known}
        if asked.filter is not None:
            condition = conditions.of(asked.filter)
            if known:
                query = sa.select(columns["id"].label("id")).select_from(table).where(condition)
                fitting = {row["id"] for row in view.session.rows(query)}
        chosen = [r for r in known if r["id"] in fitting]
        if asked.orders and asked.orders[0].descending:
            chosen.reverse()
        returned = len(chosen)
        if asked.above is not None:
            after = str(asked.above[0])
            chosen = [r for r in chosen if r["id"] > after]
        chosen = chosen[asked.offset :]
        shown = chosen[: asked.limit]
        following = None
        if len(chosen) > asked.limit:
            following = {"page_offset": str(asked.offset + asked.limit)}
        data = [_trimmed(r, asked.fields) for r in shown]
        warnings = asked.warnings + conditions.warnings
        return Page(data, following, returned, len(known), None, warnings)

    def reference(self, view: View, own_id: str, asked: Asked, base: str) -> Page:
        """Return one reference; 404 for what is not there, or may not be seen."""
        for found in reference_resources(view.publications, base):
            if found["id"] == own_id:
                return Page([_trimmed(found, asked.fields)], None, 1, None, None, asked.warnings)
        raise RequestError(404, f"there is no reference {own_id[:60]!r} here")


class _UncountedError(Exception):
    """A count takes longer than an answer waits for it."""


class _Counts:
    """Counts that are known, and those being worked out in the background, one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[Any, tuple[int | None, float | None]] = OrderedDict()
        self._busy: set[Any] = set()

    def get(self, key: Any) -> int | None:
        with self._lock:
            found = self._known.get(key)
            if found is None:
                return None
            n, until = found
            if until is not None and time.monotonic() > until:
                del self._known[key]
                return None
            self._known.move_to_end(key)
            return n

    def busy(self, key: Any) -> bool:
        """Say whether it is being counted, or was tried and took too long."""
        with self._lock:
            return key in self._busy or key in self._known

    def put(self, key: Any, n: int | None, lasting: float | None) -> None:
        with self._lock:
            self._known[key] = (n, None if lasting is None else time.monotonic() + lasting)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)

    def later(self, key: Any, count: Any, lasting: float | None) -> None:
        with self._lock:
            if key in self._busy or self._busy:  # one at a time: answers go first
                return
            self._busy.add(key)

        def work() -> None:
            n = None
            try:
                n = count()
            except (TooSlowError, RequestError):
                pass
            finally:
                self.put(key, n, lasting if n is not None else _LIVE)
                with self._lock:
                    self._busy.discard(key)

        threading.Thread(target=work, name="gandb-serve-count", daemon=True).start()


def _reference_table(known: Sequence[dict[str, Any]]) -> tuple[Any, dict[str, Any]]:
    """Return references as a table of values, and its columns by property."""
    names = [n for n in REFERENCES.properties if n != "type"]
    types = {n: sa.DateTime() if n == "last_modified" else sa.Text() for n in names}
    columns = [sa.column(f"c{i}", types[n]) for i, n in enumerate(names)]
    rows = []
    for reference in known:
        said = {"id": reference["id"], **reference["attributes"]}
        rows.append(tuple(_cell(said.get(n), types[n]) for n in names))
    table = sa.values(*columns, name="known").data(rows) if rows else sa.table("known", *columns)
    located = {n: sa.cast(table.c[f"c{i}"], types[n]) for i, n in enumerate(names)}
    return table, located


def _cell(value: str | None, type_: Any) -> Any:
    if value is None or not isinstance(type_, sa.DateTime):
        return value
    return parse_timestamp(value)


def _trimmed(found: dict[str, Any], fields: Sequence[Property]) -> dict[str, Any]:
    said = found["attributes"]
    attributes = {p.name: said.get(p.name) for p in fields if p.name not in ("id", "type")}
    return {**found, "attributes": attributes}
