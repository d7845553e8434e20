"""The ASGI application: routes, headers, failures, and one line of log for each request."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from gandb.core.errors import MissingExtraError, RevisionError, StoreError
from gandb.sharing.serving.answers import MEDIA_TYPE, Answers, Provider, dumped
from gandb.sharing.serving.catalogue import SECONDS, Catalogue, Page, View
from gandb.sharing.serving.failures import VERSION_NOT_SUPPORTED, RequestError
from gandb.sharing.serving.properties import ENTRY_TYPES, EntryType
from gandb.sharing.serving.requests import (
    API_VERSION,
    VERSIONS,
    check_common,
    read_request,
)
from gandb.sharing.serving.sessions import TooSlowError, UnavailableError
from gandb.store import Store

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

LOGGER = "gandb.serve"
WORKERS = 8
"""Requests that are answered at once."""

_HOST = re.compile(r"[A-Za-z0-9.\-]{1,253}(?::\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::\d{1,5})?")
_VERSION = re.compile(r"v\d")
_BEARER = re.compile(r"[Bb]earer +([\x21-\x7e]{1,200}) *")
_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
"""What is answered here, if only by a refusal; Starlette refuses any other."""
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Accept, Content-Type",
    "Access-Control-Max-Age": "86400",
}
_RETRY = {"Retry-After": "5"}

Answer = Callable[[View, str, str], tuple[Page, bool]]


def make_app(
    store: Store,
    *,
    provider: Provider | None = None,
    base_url: str | None = None,
    seconds: float = SECONDS,
) -> Starlette:
    """Return the application that serves a store; it lets go of it when it shuts down.

    Args:
        store: whose publications.
        provider: who serves.
        base_url: under which clients reach it, if that is not what they ask for; for proxies.
        seconds: how long a query may take.

    Raises:
        MissingExtraError: Starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.routing import Route
    except ImportError as error:
        raise MissingExtraError.for_package("starlette", "serve") from error
    catalogue = Catalogue(store, seconds)
    server = _Server(catalogue, Answers(provider or Provider()), base_url)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        del app
        yield
        catalogue.close()

    return Starlette(
        routes=[Route("/{path:path}", server.answer, methods=list(_METHODS))], lifespan=lifespan
    )


class _Server:
    """Answers requests, each in a thread of its own."""

    def __init__(self, catalogue: Catalogue, answers: Answers, base_url: str | None) -> None:
        import anyio

        self._catalogue = catalogue
        self._answers = answers
        self._base = base_url.rstrip("/") if base_url else None
        self._log = logging.getLogger(LOGGER)
        self._threads = anyio.CapacityLimiter(WORKERS)

    async def answer(self, request: Request) -> Response:
        """Answer one request, whatever happens."""
        import anyio

        began = time.perf_counter()
        response = await anyio.to_thread.run_sync(
            partial(self._answer, request), limiter=self._threads
        )
        response.headers.update(_CORS)
        self._log.info(
            "%s %s %s %d %.0f ms",
            request.client.host if request.client else "-",
            request.method,
            _shown(request),
            response.status_code,
            (time.perf_counter() - began) * 1000,
        )
        return response

    def _answer(self, request: Request) -> Response:
        from starlette.responses import Response

        query = _shown(request)
        try:
            if request.method == "OPTIONS":
                return Response(status_code=204, headers={"Allow": "GET, HEAD, OPTIONS"})
            if request.method not in ("GET", "HEAD"):
                raise RequestError(405, f"{request.method} is not allowed: this server only reads")
            return self._routed(request)
        except RequestError as error:
            return self._failed(error, query)
        except (RevisionError, StoreError) as error:
            return self._failed(UnavailableError(str(error)), query)
        except TooSlowError as error:
            return self._failed(RequestError(504, f"the query was {error}"), query)
        except Exception:  # noqa: BLE001 - whoever asked gets an answer
            self._log.exception("defect while answering %s", query)
            return self._failed(RequestError(500, "the server failed; its log says more"), query)

    def _failed(self, error: RequestError, query: str) -> Response:
        if isinstance(error, UnavailableError):
            self._log.warning("503: %s", error.reason)
        headers = dict(_RETRY) if error.status == 503 else {}
        if error.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="gandb"'
        if error.status == 405:
            headers["Allow"] = "GET, HEAD, OPTIONS"
        return _json(self._answers.failure(error, query), error.status, headers)

    # --- routes --------------------------------------------------------------------------

    def _routed(self, request: Request) -> Response:
        from starlette.responses import HTMLResponse, PlainTextResponse

        parts = [p for p in request.path_params["path"].split("/") if p]
        root = self._root(request)
        base, versioned = root, False
        if parts and _VERSION.match(parts[0]):
            if parts[0] not in VERSIONS:
                raise RequestError(
                    VERSION_NOT_SUPPORTED,
                    f"version {parts[0][:20]} is not served; this is {API_VERSION}, at /v1",
                )
            base, versioned = f"{root}/{parts[0]}", True
            parts = parts[1:]
        given = request.query_params.multi_items()
        if not parts:
            return HTMLResponse(_landing(root))
        if parts == ["versions"] and not versioned:
            return PlainTextResponse("version\n1\n", media_type="text/csv; header=present")
        match parts:
            case ["info"]:
                return self._told(request, base, root, lambda v: self._answers.info(root, v))
            case ["info", name] if name in ENTRY_TYPES:
                entry_type = ENTRY_TYPES[name]
                return self._told(
                    request, base, root, lambda _: self._answers.entry_info(entry_type)
                )
            case ["links"]:
                return self._told(request, base, root, lambda _: self._answers.links(root))
            case [name] if name in ENTRY_TYPES:
                return self._listed(request, ENTRY_TYPES[name], given, base, root)
            case [name, own_id] if name in ENTRY_TYPES:
                return self._single(request, ENTRY_TYPES[name], own_id, given, base, root)
        raise RequestError(404, f"there is no endpoint /{'/'.join(parts)[:60]}")

    def _told(self, request: Request, base: str, root: str, data: Callable[[Any], Any]) -> Response:
        """Answer with what the server says of itself."""
        check_common(dict(request.query_params))
        with self._catalogue.session() as session:
            view = self._catalogue.view(session, _token(request))
        found = data(view.publications)
        meta = self._answers.meta(_shown(request))
        if isinstance(found, list):
            meta |= {"data_returned": len(found), "data_available": len(found)}
        del base
        return _json(self._answers.page(found, meta, root))

    def _listed(
        self,
        request: Request,
        entry_type: EntryType,
        given: list[tuple[str, str]],
        base: str,
        root: str,
    ) -> Response:
        asked = read_request(given, entry_type)
        find = getattr(self._catalogue, entry_type.name)
        with self._catalogue.session() as session:
            view = self._catalogue.view(session, _token(request))
            page: Page = find(view, asked, base)
        following = None
        if page.following:
            kept = {k: v for k, v in given if k in _CARRIED}
            kept.setdefault("page_limit", str(asked.limit))
            following = f"{base}/{entry_type.name}?{urlencode(kept | page.following)}"
        meta = self._answers.meta(
            _shown(request),
            more=following is not None,
            returned=page.returned,
            available=page.available,
            warnings=page.warnings,
        )
        return _json(self._answers.page(page.data, meta, root, following, page.included))

    def _single(
        self,
        request: Request,
        entry_type: EntryType,
        own_id: str,
        given: list[tuple[str, str]],
        base: str,
        root: str,
    ) -> Response:
        asked = read_request(given, entry_type, single=True)
        find = getattr(self._catalogue, entry_type.name.removesuffix("s"))
        with self._catalogue.session() as session:
            view = self._catalogue.view(session, _token(request))
            page: Page = find(view, own_id, asked, base)
        meta = self._answers.meta(_shown(request), returned=1, warnings=page.warnings)
        return _json(self._answers.page(page.data[0], meta, root, None, page.included))

    def _root(self, request: Request) -> str:
        """Return the unversioned base URL, as whoever asks knows it."""
        if self._base:
            return self._base
        host = request.headers.get("host", "")
        if not _HOST.fullmatch(host):
            raise RequestError(400, "the Host header names no host")
        return f"{request.url.scheme}://{host}"


_CARRIED = frozenset(
    "filter page_limit sort include response_format response_fields email_address api_hint".split()
)


def _json(
    document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    from starlette.responses import Response

    return Response(dumped(document), status, headers, media_type=MEDIA_TYPE)


def _token(request: Request) -> str | None:
    given = request.headers.get("authorization")
    if given is None:
        return None
    match = _BEARER.fullmatch(given)
    if match is None:
        raise RequestError(401, "authorize with: Authorization: Bearer TOKEN")
    return match[1]


def _shown(request: Request) -> str:
    """Return the path and query of a request, without a version and without line breaks."""
    path = request.url.path
    first = path.lstrip("/").split("/", 1)[0]
    if first in VERSIONS:
        path = path[path.index(first) + len(first) :] or "/"
    query = request.url.query
    text = f"{path}?{query}" if query else path
    return "".join(c if c.isprintable() else "?" for c in text)


def _landing(root: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>OPTIMADE</title></head>'
        "<body><h1>OPTIMADE</h1><p>This address serves crystal structures by the "
        '<a href="https://www.optimade.org">OPTIMADE</a> API, version '
        f"{API_VERSION}, and is meant for its clients.</p><ul>"
        f'<li><a href="{root}/v1/info">info</a></li>'
        f'<li><a href="{root}/v1/info/structures">info/structures</a></li>'
        f'<li><a href="{root}/v1/structures">structures</a></li>'
        f'<li><a href="{root}/v1/references">references</a></li></ul></body></html>'
    )
