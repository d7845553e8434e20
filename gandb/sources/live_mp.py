"""The Materials Project's summary documents, through its own client ``mp-api``.

The client checks the fields and writes the search as the server wants it; what goes over the wire
goes through gandb's `Session`, with its retries, bounds and pauses, and the answer is kept as it
came. The key is read from ``MP_API_KEY`` and put into a header there; the client never has it.

Documents are asked for in the order of their ids, page by page, so that a broken import goes on
from its page. (Without a search the client itself would fetch the whole collection from another
store, in one piece; pages do not.)

Reference: https://api.materialsproject.org/docs, https://materialsproject.github.io/api/
"""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from gandb.core.errors import MissingExtraError, UsageError
from gandb.sources.http import Answer, Key, Session, json_of
from gandb.sources.paging import SHORT_TRIES, Cursor, Page, Place, Query, Sheet, identity, walk
from gandb.sources.urls import require_url

KEY = Key(
    "MP_API_KEY",
    "X-API-KEY",
    "https://next-gen.materialsproject.org/api",
    ("materialsproject.org",),
)
MAX_PAGE = 1_000
"""Most documents that the server gives at once."""

_LISTS = frozenset(
    {"elements", "exclude_elements", "has_props", "material_ids", "possible_species"}
    | {"chemsys", "formula", "crystal_system", "spacegroup_number", "spacegroup_symbol"}
)
_OWN = frozenset({"all_fields", "chunk_size", "fields", "num_chunks"})
_NO_KEY = "0" * 32
"""Stands for the key in the client, which wants one of this form."""


def pages(
    query: Query,
    session: Session,
    start: str | None = None,
    number: int = 0,
    seen: Iterable[str] | None = None,
) -> Iterator[Page]:
    """Yield the pages of a summary search, see `gandb.sources.paging.walk`.

    Args:
        query: endpoint (``https://api.materialsproject.org``); filter as arguments of the
            client's ``materials.summary.search``, see `search_of`; fields of the documents.
        session: asks.
        start: cursor of the first page to fetch; None begins.
        number: of that page.
        seen: ids of the records that came before ``start``, as `ids` gives them.

    Raises:
        InputError: the server refuses or does not answer.
        UsageError: there is no key, the client does not know a field or a search term, or
            ``start`` is no cursor.
        MissingExtraError: mp-api is not installed.
    """
    base = require_url(query.endpoint)
    search = search_of(query.filter)
    if start is not None and not Cursor.read(start).at.isdecimal():
        raise UsageError("this import did not page by numbers; begin again")
    KEY.value(base)
    size = min(query.size, MAX_PAGE)
    line = _Line(session)
    rester = _rester(base, line)

    def fetch(place: Place) -> Sheet:
        line.page = int(place.at)
        before = (line.page - 1) * size
        for _ in range(SHORT_TRIES):
            _search(rester, search, query.fields, line.page, size)
            sheet = line.taken()
            if sheet.expected is None or len(sheet.ids) >= min(size, sheet.expected - before):
                break
        all_came = sheet.expected is not None and before + size >= sheet.expected
        return replace(sheet, next=None) if all_came else sheet

    return walk(query, "1", fetch, start, number, seen)


def ids(data: bytes) -> list[str]:
    """Return what tells the documents of a page from others."""
    return [_identity(record) for record in _records(json_of(data))]


def search_of(text: str | None) -> dict[str, Any]:
    """Return the arguments of a search.

    Args:
        text: terms such as ``elements=Li,O&num_elements=2..4&energy_above_hull=0..0.05&
            is_stable=true&material_ids=mp-149,mp-13``: lists by commas, ranges by two dots; or
            a JSON object of arguments.

    Raises:
        UsageError: it is neither.
    """
    if not text or not text.strip():
        return {}
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the filter {text!r} is no JSON object: {error}") from None
    else:
        found = {}
        for term in text.split("&"):
            name, equals, value = (part.strip() for part in term.partition("="))
            if not equals or not name.isidentifier() or not value or name in found:
                raise UsageError(
                    f"the filter's term {term!r} is not of the form name=value, once; for example "
                    "elements=Li,O&energy_above_hull=0..0.05"
                )
            found[name] = _value(name, value)
    if own := sorted(name for name in found if name in _OWN or name.startswith("_")):
        raise UsageError(f"{', '.join(own)} in a filter: fields, pages and order are gandb's")
    return dict(found)


def _value(name: str, text: str) -> Any:
    """Return a search term's value as the client takes it."""
    if name in _LISTS:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        values = [_plain(p) for p in parts] if name == "spacegroup_number" else list(parts)
        return values[0] if len(values) == 1 and name not in _ALWAYS_LISTS else values
    low, dots, high = text.partition("..")
    if dots:
        ends = [_plain(end) for end in (low, high)]
        if any(isinstance(end, str | bool) for end in ends):
            raise UsageError(f"the filter's term {name}={text} is no range such as 0..0.05")
        return tuple(ends)
    return _plain(text)


_ALWAYS_LISTS = frozenset({"elements", "exclude_elements", "has_props", "possible_species"})


def _plain(text: str) -> bool | int | float | str:
    """Return a truth value or a number where the text is one."""
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


# --- the client ---------------------------------------------------------------------------


class _Line:
    """What the client takes for its HTTP session: asks through gandb's, and keeps the answer."""

    def __init__(self, session: Session) -> None:
        self.headers: dict[str, str] = {}
        self.page = 1
        self._session = session
        self._answer: Answer[Sheet] | None = None

    def get(self, url: str, params: Mapping[str, Any] | None = None, **_: Any) -> _Reply:
        """Ask, and give what the client reads of an answer."""
        asked = {k: v for k, v in (params or {}).items() if v is not None}
        asked = {k: str(v).lower() if isinstance(v, bool) else v for k, v in asked.items()}
        address = f"{url}?{urlencode(asked)}" if asked else url

        def parse(data: bytes) -> Sheet:
            document = json_of(data)
            names = [_identity(record) for record in _records(document)]
            meta = document.get("meta")
            total = meta.get("total_doc") if isinstance(meta, dict) else None
            expected = total if type(total) is int and total >= len(names) else None
            following = str(self.page + 1) if names else None
            return Sheet(address, data, names, following, expected)

        self._answer = self._session.get(address, parse, KEY)
        return _Reply(address, self._answer.data)

    def taken(self) -> Sheet:
        """Return the answer that came."""
        if self._answer is None:
            raise UsageError("this version of mp-api does not ask through the session it is given")
        answer, self._answer = self._answer, None
        return answer.value

    def close(self) -> None:
        """Do nothing: the session is not the client's."""


class _Reply:
    """What the client reads of an answer."""

    status_code = 200

    def __init__(self, url: str, data: bytes) -> None:
        self.url = url
        self.text = data.decode("utf-8")


def _rester(base: str, line: _Line) -> Any:
    """Return the client for summary documents."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            module = importlib.import_module("mp_api.client.routes.materials.summary")
        except ImportError as error:
            raise MissingExtraError.for_package("mp-api", "mp") from error

        class Rester(module.SummaryRester):  # type: ignore[misc, name-defined]
            """The client without the sign of life that it asks for by a session of its own."""

            @staticmethod
            def _get_heartbeat_info(endpoint: str) -> tuple[str, list[str]]:
                return "", []

        return Rester(
            api_key=_NO_KEY,
            endpoint=f"{base}/",
            session=line,
            use_document_model=False,
            mute_progress_bars=True,
        )


def _search(
    rester: Any, search: Mapping[str, Any], fields: tuple[str, ...], page: int, size: int
) -> None:
    """Let the client ask for one page."""
    errors = importlib.import_module("mp_api.client.core.exceptions")
    wanted = list(dict.fromkeys(("material_id", *fields))) if fields else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            rester.search(
                **search,
                fields=wanted,
                all_fields=not fields,
                num_chunks=1,
                chunk_size=size,
                _page=page,
                _sort_fields="material_id",
            )
        except (errors.MPRestError, TypeError, ValueError) as error:
            raise UsageError(
                f"the Materials Project's client does not take this: {error}"
            ) from error


def _identity(record: Any) -> str:
    return identity(record, "material_id")


def _records(document: Any) -> list[Any]:
    """Return the documents of a page.

    Raises:
        ValueError: it is no page.
    """
    if isinstance(document, dict) and isinstance(document.get("data"), list):
        return list(document["data"])
    raise ValueError("no list 'data' in it, which every page has")
