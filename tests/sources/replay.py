"""A server on this machine that gives pages of records, and misbehaves by a script.

`Replay` holds the records of one table and serves them in the ways of the real sources; a `Script`
says, from a seed, what goes wrong with which request. Failures come in bounded number, so that a
patient client gets everything in the end.
"""

from __future__ import annotations

import email.utils
import gzip
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

TROUBLES = (
    "429 with seconds",
    "429 with a date",
    "500",
    "503",
    "hang",
    "cut off with a length",
    "cut off chunked",
    "cut off without a length",
    "closed before the answer",
    "reset half-way",
    "broken gzip",
    "HTML with status 200",
    "an error in JSON with status 200",
    "empty body",
    "invalid UTF-8",
)
"""What goes wrong with one request and is right when it is asked again."""

PARTLY = ("cut", "reset", "broken", "invalid")
"""How troubles begin that spoil an answer, rather than take its place."""

PRANKS = (
    "link by http",
    "link to another host",
    "relative link",
    "link as an object",
    "link without the filter",
    "link that jumps",
    "link that goes back",
    "no link",
    "short page",
    "empty page",
    "repeated entries",
    "gzip",
    "slow",
    "wrong content type",
)
"""What is odd about an answer that came whole."""

Records = Sequence[Mapping[str, Any]]
Style = Callable[["Replay", str, dict[str, str]], "Reply | None"]


@dataclass
class Reply:
    """An answer before anything goes wrong with it."""

    document: Any
    records: int = 0
    status: int = 200


@dataclass
class Script:
    """What goes wrong, drawn from a seed.

    Attributes:
        seed: of the draws.
        troubles: drawn from for a request, at most ``in_a_row`` times for one address.
        pranks: drawn from for an answer.
        most_pranks: of them in all.
        rate: how often one is drawn.
        in_a_row: most troubles with one address one after the other.
        reorder: number of answers after which the records change places, each time anew; 0 never.
        reorders: most times that they do.
    """

    seed: int = 0
    troubles: Sequence[str] = ()
    pranks: Sequence[str] = ()
    most_pranks: int = 10**9
    rate: float = 0.5
    in_a_row: int = 2
    reorder: int = 0
    reorders: int = 10**9
    _random: random.Random = field(init=False)
    _done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def trouble(self, address: str) -> str | None:
        """Draw what goes wrong with this request."""
        if not self.troubles or self._done[address] >= self.in_a_row:
            self._done[address] = 0
            return None
        if self._random.random() >= self.rate:
            return None
        self._done[address] += 1
        return self._random.choice(self.troubles)

    def prank(self) -> str | None:
        """Draw what is odd about this answer."""
        if not self.pranks or not self.most_pranks or self._random.random() >= self.rate:
            return None
        self.most_pranks -= 1
        return self._random.choice(self.pranks)

    def shuffled(self, records: Records, swaps: int) -> list[Mapping[str, Any]]:
        """Return the records with some in other places."""
        moved = list(records)
        for _ in range(swaps):
            if len(moved) > 1:
                i, j = self._random.sample(range(len(moved)), 2)
                moved[i], moved[j] = moved[j], moved[i]
        return moved


class Replay:
    """Records, the way they are served, and what was asked."""

    def __init__(
        self, records: Records, style: Style, script: Script | None = None, most: int = 10**9
    ) -> None:
        self.records = list(records)
        self.style = style
        self.script = script or Script()
        self.most = most
        self.prank: str | None = None
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.happened: Counter[str] = Counter()
        self.url = ""
        self.lock = threading.Lock()
        self._answers = 0

    @contextmanager
    def running(self) -> Iterator[Replay]:
        """Serve on a free port."""
        replay = self

        class Handler(_Handler):
            owner = replay

        server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def page(self, offset: int, limit: int) -> list[Mapping[str, Any]]:
        """Return the records there, as they lie now, short of what the prank of this answer is."""
        script = self.script
        self._answers += 1
        if script.reorder and self._answers % script.reorder == 0 and script.reorders:
            script.reorders -= 1
            self.records = script.shuffled(self.records, max(1, len(self.records) // 10))
        size = min(limit, self.most)
        found = list(self.records[offset : offset + size])
        if self.prank == "short page" and len(found) > 1:
            found = found[: len(found) // 2]
        elif self.prank == "empty page":
            found = []
        elif self.prank == "repeated entries" and offset and found:
            found[0] = self.records[offset - 1]
            found.append(found[-1])
        return found


# --- the ways of the sources ---------------------------------------------------------------


def optimade(
    prefix: str = "/optimade/v1",
    link: str = "offset",
    *,
    counted: bool = True,
    more: bool = True,
    heed: bool = True,
) -> Style:
    """Serve ``/structures`` as an OPTIMADE provider.

    Args:
        prefix: base path.
        link: ``offset``, ``number``, ``cursor``, ``none`` (never a link) or ``circle``.
        counted: whether the number of records is given.
        more: whether ``more_data_available`` is given.
        heed: whether an offset or number is heeded.
    """

    def serve(replay: Replay, path: str, asked: dict[str, str]) -> Reply | None:
        if path == f"{prefix}/info":
            return Reply({"data": {"type": "info"}})
        if path != f"{prefix}/structures":
            return None
        limit = int(asked.get("page_limit", "20"))
        offset = int(asked.get("page_offset", "0"))
        if link == "number":
            offset = (int(asked.get("page_number", "1")) - 1) * limit
            offset = int(asked.get("page_offset", offset))
        elif link in ("cursor", "circle"):
            offset = int(asked.get("page_cursor", "c0")[1:])
        if not heed:
            offset = 0
        total = len(replay.records)
        found = replay.page(offset, limit)
        came = offset + min(limit, replay.most)
        following: Any = None
        parameters = dict(asked)
        if came < total and link != "none":
            if link == "offset":
                parameters["page_offset"] = str(came)
            elif link == "number":
                parameters["page_number"] = str(int(asked.get("page_number", "1")) + 1)
            elif link == "cursor":
                parameters["page_cursor"] = f"c{came}"
            elif link == "circle":
                parameters["page_cursor"] = f"c{came if offset == 0 else 0}"
            following = _linked(replay, path, parameters, link)
        meta: dict[str, Any] = {"api_version": "1.1.0"}
        if counted:
            meta["data_returned"] = total
        if more:
            meta["more_data_available"] = came < total
        return Reply({"data": found, "links": {"next": following}, "meta": meta}, len(found))

    return serve


def _linked(replay: Replay, path: str, parameters: dict[str, str], link: str) -> Any:
    """Return the link, as odd as the prank of this answer has it."""
    prank = replay.prank
    if prank == "link without the filter":
        parameters.pop("filter", None)
        parameters.pop("response_fields", None)
    if prank == "link that jumps" and "page_offset" in parameters:
        parameters["page_offset"] = str(int(parameters["page_offset"]) + 7)
    if prank == "link that goes back" and link == "offset":
        parameters["page_offset"] = "0"
    address = f"{replay.url}{path}?{urlencode(parameters)}"
    if prank == "link by http":
        return address.replace("127.0.0.1", "localhost")
    if prank == "link to another host":
        return address.replace(replay.url, "http://backend.invalid:9000/internal")
    if prank == "relative link":
        return f"?{urlencode(parameters)}"
    if prank == "link as an object":
        return {"href": address, "meta": {}}
    if prank == "no link" and link == "offset":
        return None
    return address


def oqmd(replay: Replay, path: str, asked: dict[str, str]) -> Reply | None:
    """Serve ``/oqmdapi/formationenergy`` as OQMD does, ``more_data_available`` included."""
    if path != "/oqmdapi/formationenergy":
        return None
    limit, offset = int(asked.get("limit", "50")), int(asked.get("offset", "0"))
    found = replay.page(offset, limit)
    total = len(replay.records)
    came = offset + min(limit, replay.most)
    following = f"http://oqmd.invalid{path}?limit={limit}&offset={came}" if came < total else None
    meta = {
        "data_returned": len(found),
        "data_available": total,
        "more_data_available": following is not None or offset > 0,
    }
    return Reply({"links": {"next": following}, "data": found, "meta": meta}, len(found))


def aflux(*, numbered: bool = False) -> Style:
    """Serve AFLUX, as a list or (as it did) by names such as ``1 of 2394``."""

    def serve(replay: Replay, path: str, asked: dict[str, str]) -> Reply | None:
        if path.rstrip("/") != "/API/aflux":
            return None
        summons = unquote(replay.asked[-1][0].partition("?")[2])
        page, size = map(int, summons.partition("$paging(")[2].partition(")")[0].split(","))
        assert summons.startswith("auid,")
        assert summons.endswith(",format(json)")
        offset, total = (page - 1) * size, len(replay.records)
        found = replay.page(offset, size)
        if numbered:
            rows = {f"{offset + i + 1} of {total}": row for i, row in enumerate(found)}
            return Reply(rows, len(found))
        return Reply(found, len(found))

    return serve


def mp(key: str) -> Style:
    """Serve summary documents as the Materials Project does, to who has the key."""

    def serve(replay: Replay, path: str, asked: dict[str, str]) -> Reply | None:
        if path != "/materials/summary/":
            return None
        given = replay.asked[-1][1].get("X-API-KEY")
        if given != key:
            return Reply({"message": f"no such key: {given}"}, status=401)
        size = int(asked.get("_per_page") or asked["_limit"])
        found = replay.page((int(asked["_page"]) - 1) * size, size)
        return Reply({"data": found, "meta": {"total_doc": len(replay.records)}}, len(found))

    return serve


# --- HTTP ---------------------------------------------------------------------------------


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that the client gave up."""


class _Handler(BaseHTTPRequestHandler):
    owner: Replay
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        path, _, text = self.path.partition("?")
        asked = dict(parse_qsl(text, keep_blank_values=True))
        replay = self.owner
        with replay.lock:
            replay.asked.append((self.path, dict(self.headers)))
            trouble = replay.script.trouble(self.path)
            replay.prank = None if trouble else replay.script.prank()
            reply = None
            if trouble is None or trouble.startswith(PARTLY):
                reply = replay.style(replay, path, asked)
            prank = replay.prank
            replay.happened[trouble or prank or "nothing"] += 1
        if trouble is not None and (reply is not None or not trouble.startswith(PARTLY)):
            self._go_wrong(trouble, reply)
        elif reply is None:
            self._send(404, b'{"errors": [{"detail": "no such endpoint"}]}')
        else:
            body = json.dumps(reply.document).encode()
            if prank == "gzip":
                self._send(reply.status, gzip.compress(body), {"Content-Encoding": "gzip"})
            elif prank == "slow":
                self._drip(body)
            elif prank == "wrong content type":
                self._send(reply.status, body, {"Content-Type": "text/html"})
            else:
                self._send(reply.status, body)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        told = {"Content-Type": "application/vnd.api+json", "Content-Length": str(len(body))}
        for name, value in (told | dict(headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _drip(self, body: bytes) -> None:
        """Send chunked, in small pieces."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        step = max(1, len(body) // 7)
        for i in range(0, len(body), step):
            piece = body[i : i + step]
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.flush()
            time.sleep(0.001)
        self.wfile.write(b"0\r\n\r\n")

    def _go_wrong(self, trouble: str, reply: Reply | None) -> None:
        body = json.dumps(reply.document).encode() if reply else b""
        half = body[: len(body) // 2]
        self.close_connection = True
        if trouble == "429 with seconds":
            self._send(429, b'{"detail": "too many"}', {"Retry-After": "3"})
        elif trouble == "429 with a date":
            when = email.utils.formatdate(time.time() + 5, usegmt=True)
            self._send(429, b"", {"Retry-After": when})
        elif trouble in ("500", "503"):
            self._send(int(trouble), b"<html><body><h1>Server Error</h1></body></html>")
        elif trouble == "hang":
            time.sleep(0.6)
        elif trouble == "cut off with a length":
            self._send(200, half, {"Content-Length": str(len(body))})
        elif trouble == "cut off chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(f"{len(half):x}\r\n".encode() + half + b"\r\n")
        elif trouble == "cut off without a length":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(half)
        elif trouble == "reset half-way":
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(half)
            self.wfile.flush()
            hard = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, hard)
        elif trouble == "broken gzip":
            packed = bytearray(gzip.compress(body))
            packed[len(packed) // 2] ^= 0xFF
            packed[-6] ^= 0xFF
            self._send(200, bytes(packed), {"Content-Encoding": "gzip"})
        elif trouble == "HTML with status 200":
            self._send(
                200, b"<html><title>Maintenance</title></html>", {"Content-Type": "text/html"}
            )
        elif trouble == "an error in JSON with status 200":
            self._send(200, b'{"errors": [{"detail": "database is locked"}], "error": "locked"}')
        elif trouble == "empty body":
            self._send(200, b"")
        elif trouble == "invalid UTF-8":
            self._send(200, half + b'"\xff\xfe"' + body[len(half) :])
        # "closed before the answer": nothing is sent


def serve_raw(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve bytes as they are, one connection after the other; for what no HTTP server does."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def loop() -> None:
        while not ended.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                answer(connection)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ended.set()
        listener.close()


def query_of(url: str) -> dict[str, str]:
    """Return the parameters of an address."""
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
