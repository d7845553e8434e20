"""The HTTP client: what it retries, what it refuses, what it bounds and what it keeps to itself."""

from __future__ import annotations

import email.utils
import gzip
import json
import random
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandb import __version__
from gandb.core.errors import InputError, UsageError
from gandb.sources.http import Key, Patience, RequestError, Session, json_of
from gandb.sources.paging import Cursor, Query, identity
from gandb.sources.urls import clean_url, redirect_of, require_url
from tests.sources.replay import serve_raw

SECRET = "s3cret-key-of-32-characters-long"
KEY = Key("GANDB_TEST_KEY", "X-API-KEY", "https://example.org/keys", ("example.org",))

Answer = tuple[int, dict[str, str], bytes]


class Asked(list[dict[str, str]]):
    """Headers of every request, with its path under ``path``."""


@contextmanager
def server(
    *answers: Answer | Callable[[BaseHTTPRequestHandler], None],
) -> Iterator[tuple[str, Asked]]:
    """Give these answers one after the other, the last one for ever."""
    asked = Asked()
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

        def do_GET(self) -> None:
            asked.append({**dict(self.headers), "path": self.path})
            answer = left.pop(0) if len(left) > 1 else left[0]
            if callable(answer):
                answer(self)
                return
            status, headers, body = answer
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}", asked
        running.shutdown()
        thread.join()


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    @property
    def waited(self) -> float:
        return sum(self.slept)


def session(clock: Clock | None = None, **changes: Any) -> Session:
    patience = Patience(**{"read_timeout": 0.3, "connect_timeout": 1.0, "pause": 0.0} | changes)
    clock = clock or Clock()
    return Session(patience, sleep=clock.sleep, clock=clock, chance=random.Random(0))


OK: Answer = (200, {}, b'{"data": []}')


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    return code, {name.replace("_", "-"): value for name, value in headers.items()}, body


# --- what is tried again --------------------------------------------------------------------


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504, 524])
def test_what_may_pass_is_tried_again(code: int) -> None:
    clock = Clock()
    with server(status(code), status(code), OK) as (url, asked), session(clock) as client:
        answer = client.get(url, json_of)
        assert answer.value == {"data": []}
        assert answer.data == OK[2]
        assert len(asked) == 3
        assert 1.5 <= clock.waited <= 3.0  # 50 to 100 % of 1 s and 2 s
        assert asked[0]["User-Agent"].startswith(f"gandb/{__version__}")


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 410, 414, 422, 501])
def test_what_will_not_pass_ends_at_once(code: int) -> None:
    body = json.dumps({"errors": [{"detail": "no such\n filter <b>here</b>"}]}).encode()
    with server(status(code, body)) as (url, asked), session() as client:
        with pytest.raises(RequestError, match=f"status {code} .no such filter here.;") as caught:
            client.get(f"{url}/x?filter=a", json_of)
        assert caught.value.status == code
        assert url in str(caught.value)
        assert len(asked) == 1


def test_retry_after_in_seconds_is_kept_to() -> None:
    clock = Clock()
    with server(status(429, Retry_After="37"), OK) as (url, _), session(clock) as client:
        client.get(url, json_of)
        assert clock.waited == pytest.approx(37)
        assert max(clock.slept) <= 0.5  # to be interrupted


def test_retry_after_as_a_date_is_kept_to() -> None:
    clock = Clock()
    when = email.utils.formatdate(time.time() + 30, usegmt=True)
    with server(status(503, Retry_After=when), OK) as (url, _), session(clock) as client:
        client.get(url, json_of)
        assert 20 < clock.waited <= 30.5


@pytest.mark.parametrize(
    "value",
    ["", "soon", "-5", "1e9", "0", "Wed, 99 Foo", "Mon, 01 Jan 1990 00:00:00 GMT", "9" * 5000],
)
def test_senseless_retry_after_is_no_reason_to_fail(value: str) -> None:
    clock = Clock()
    with server(status(429, Retry_After=value), OK) as (url, _), session(clock) as client:
        client.get(url, json_of)
        assert 0.5 <= clock.waited <= 1.0


@pytest.mark.parametrize("value", ["86400", "999999999999"])
def test_a_wait_beyond_the_bound_ends_at_once(value: str) -> None:
    clock = Clock()
    with server(status(429, Retry_After=value)) as (url, asked), session(clock) as client:
        with pytest.raises(RequestError, match=r"asks to wait [\d,]+ s; come back then") as caught:
            client.get(url, json_of)
        assert "goes on from where it stopped" in str(caught.value)
        assert caught.value.status == 429
        assert (clock.waited, len(asked)) == (0, 1)


def test_tries_and_waiting_are_bounded() -> None:
    clock = Clock()
    with server(status(500, b"<h1>oops</h1>")) as (url, asked), session(clock, tries=6) as client:
        with pytest.raises(
            RequestError, match=r"status 500 \(oops\) \(6 tries, \d+ s waited\)"
        ) as e:
            client.get(url, json_of)
        assert "the same command goes on" in str(e.value)
        assert len(asked) == 6
        assert 15.5 <= clock.waited <= 31
    clock = Clock()
    with server(status(500)) as (url, _), session(clock, tries=1000, total_wait=200) as client:
        with pytest.raises(RequestError):
            client.get(url, json_of)
        assert 100 < clock.waited <= 200
        assert 30 <= max(clock.now / len(clock.slept), 30) <= 60


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>maintenance</html>", b'{"data": [', b'{"data": []}x', b"\xff", b"[" * 100_000],
    ids=["empty", "html", "cut", "more", "bytes", "deep"],
)
def test_what_is_no_json_is_tried_again_and_shown(body: bytes) -> None:
    with server((200, {}, body), OK) as (url, _), session() as client:
        assert client.get(url, json_of).value == {"data": []}
    with server((200, {}, body)) as (url, asked), session() as client:
        with pytest.raises(RequestError, match=r"not as it should be.*smaller pages") as caught:
            client.get(url, json_of)
        assert len(asked) == Patience().unfit_tries
        assert len(str(caught.value)) < 700


def broken_off(headers: str, body: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(f"HTTP/1.1 200 OK\r\n{headers}\r\n".encode() + body)
        handler.close_connection = True

    return answer


def hang(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(0.6)
    handler.close_connection = True


PACKED = gzip.compress(json.dumps({"data": list(range(1000))}).encode())


@pytest.mark.parametrize(
    "trouble",
    [
        broken_off("", b""),
        broken_off("Content-Length: 100\r\n", b'{"data": '),
        broken_off("Content-Length: 12\r\n", b'{"data":'),
        broken_off("Transfer-Encoding: chunked\r\n", b'5\r\n{"dat\r\n'),
        broken_off("Transfer-Encoding: chunked\r\n", b"zzz\r\n"),
        broken_off("Connection: close\r\n", b'{"data": [1'),
        broken_off("Content-Encoding: gzip\r\nConnection: close\r\n", PACKED[:50]),
        broken_off("Content-Encoding: gzip\r\nConnection: close\r\n", b"not gzip at all"),
        broken_off(f"Content-Encoding: gzip\r\nContent-Length: {len(PACKED)}\r\n", PACKED[:99]),
        hang,
    ],
    ids=[
        "nothing",
        "short of its length",
        "short by little",
        "chunk cut off",
        "no chunk",
        "no length",
        "gzip cut off",
        "no gzip",
        "gzip short of its length",
        "time-out",
    ],
)
def test_broken_answers_are_tried_again(trouble: Callable[[BaseHTTPRequestHandler], None]) -> None:
    with server(trouble, trouble, OK) as (url, asked), session() as client:
        assert client.get(url, json_of).value == {"data": []}
        assert len(asked) == 3
    with server(trouble) as (url, asked), session(tries=3, unfit_tries=3) as client:
        with pytest.raises(RequestError, match="3 tries") as caught:
            client.get(url, json_of)
        assert not re.search(r" object at |0x[0-9a-f]{6}", str(caught.value))


def test_no_http_at_all() -> None:
    for url in serve_raw(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.0\r\n")):
        with session(tries=2) as client, pytest.raises(RequestError, match="2 tries"):
            client.get(url, json_of)


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with session(tries=2) as client, pytest.raises(RequestError, match=r"refused.*try later"):
        client.get(f"http://127.0.0.1:{port}/x", json_of)


def test_gzip_is_unpacked() -> None:
    with server((200, {"Content-Encoding": "gzip"}, PACKED)) as (url, asked), session() as client:
        answer = client.get(url, json_of)
        assert answer.value == {"data": list(range(1000))}
        assert answer.data == gzip.decompress(PACKED)
        assert asked[0]["Accept-Encoding"] == "gzip"


# --- bounds ---------------------------------------------------------------------------------


def test_the_size_is_bounded_as_it_is_unpacked() -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    assert len(bomb) < 100_000
    with (
        server((200, {"Content-Encoding": "gzip"}, bomb)) as (url, asked),
        session(max_bytes=100_000) as client,
    ):
        with pytest.raises(RequestError, match="more than 100,000 bytes; ask for smaller pages"):
            client.get(url, json_of)
        assert len(asked) == 1


def test_the_size_is_bounded_where_no_end_comes() -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            handler.wfile.write(b" " * 65_536)

    with (
        server(endless) as (url, _),
        session(max_bytes=1_000_000) as client,
        pytest.raises(RequestError, match="more than 1,000,000 bytes"),
    ):
        client.get(url, json_of)


def test_one_try_is_bounded_in_time_though_bytes_keep_coming() -> None:
    clock = Clock()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            handler.wfile.write(b" ")
            clock.now += 1.0
            time.sleep(0.002)

    with server(drip, OK) as (url, asked), session(clock, total_timeout=20.0) as client:
        client.get(url, json_of)
        assert len(asked) == 2


@pytest.mark.parametrize("moment", range(1, 6))
def test_work_ends_where_the_caller_says(moment: int) -> None:
    """Before a try, in a wait, while reading: wherever it is asked for the n-th time."""

    class StopWorkError(Exception):
        pass

    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == moment:
            raise StopWorkError

    clock = Clock()
    client = Session(Patience(), check=check, sleep=clock.sleep, clock=clock)
    with server(status(500), OK) as (url, _), client, pytest.raises(StopWorkError):
        client.get(url, json_of)
    assert calls == moment


def test_requests_are_paced_and_failures_told() -> None:
    clock, told = Clock(), []
    client = Session(
        Patience(pause=0.25),
        tell=told.append,
        sleep=clock.sleep,
        clock=clock,
        chance=random.Random(1),
    )
    with server(OK, OK, status(503, b"busy"), OK) as (url, _), client:
        client.get(url, json_of)
        assert clock.waited == 0
        client.get(url, json_of)
        assert clock.waited == 0.25
        client.get(url, json_of)
        assert len(told) == 1
        assert re.fullmatch(r"127\.0\.0\.1: status 503 \(busy\); again in \d s", told[0])


# --- addresses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org",
        "ftp://example.org",
        "file:///etc/passwd",
        "example.org",
        "https://",
        "https://user:pass@example.org",
        "https://example.org?api_key=1",
        "https://example.org/#x",
        "https://exa mple.org",
        "https://example.org/\n",
        "https://[::1",
        "https://example.org:99999",
        "http://127.0.0.1.example.org",
        "",
    ],
)
def test_addresses_that_are_not_asked(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        require_url(url)
    assert "pass@" not in str(caught.value)
    assert "api_key" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://example.org/a", "http://127.0.0.1:80", "http://localhost/x", "http://[::1]:5/"]
)
def test_addresses_that_are_asked(url: str) -> None:
    assert require_url(url) == url.rstrip("/")


def test_secrets_are_not_shown() -> None:
    url = "https://me:pw@example.org/x?filter=a%20b&api_key=K1&access_token=K2&Signature=K3&n=1#f"
    assert clean_url(url) == "https://example.org/x?filter=a+b&n=1"
    plain = "https://aflow.org/API/aflux/?auid,$paging(1,2),format(json)"
    assert clean_url(plain) == plain


@given(st.text(max_size=60))
def test_any_text_is_shown_or_refused(text: str) -> None:
    clean_url(text)
    try:
        require_url(text)
    except UsageError:
        return
    assert text.startswith(("https:", "http:", "HTTP"))


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        ("https://a.org/x", "/y", "https://a.org/y"),
        ("https://a.org/x", "http://a.org/y", "https://a.org/y"),
        ("https://a.org/x", "https://b.org/y?c", "https://b.org/y?c"),
        ("http://127.0.0.1:5/x", "http://localhost:6/", "http://localhost:6/"),
        ("https://a.org/x", "http://127.0.0.1/y", None),
        ("https://a.org/x", "https://localhost/y", None),
        ("https://a.org/x", "ftp://a.org/y", None),
        ("https://a.org/x", "https://u:p@a.org/y", None),
        ("https://a.org/x", "https://[::1", None),
    ],
)
def test_where_redirects_lead(url: str, location: str, target: str | None) -> None:
    if target is None:
        with pytest.raises((UsageError, ValueError)):
            redirect_of(url, location)
    else:
        assert redirect_of(url, location) == target


def test_redirects_are_followed_a_few_times() -> None:
    answers = status(302, Location="/b"), status(308, Location="c?d=1"), OK
    with server(*answers) as (url, asked), session() as client:
        assert client.get(f"{url}/a", json_of).url == f"{url}/a"
        assert [a["path"] for a in asked] == ["/a", "/b", "/c?d=1"]


@pytest.mark.parametrize(
    ("location", "message"),
    [("/again", "more than 5 redirects"), ("ftp://x/", "a redirect not followed")],
)
def test_redirects_that_lead_nowhere(location: str, message: str) -> None:
    with (
        server(status(301, Location=location)) as (url, _),
        session() as client,
        pytest.raises(RequestError, match=message),
    ):
        client.get(url, json_of)


def test_certificates_are_verified(tmp_path: Path) -> None:
    if not (openssl := shutil.which("openssl")):
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost"
    )
    command = [openssl, *words.split(), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def greet(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.recv(1)

    for url in serve_raw(greet):
        secure = url.replace("http://127.0.0.1", "https://localhost")
        with session() as client, pytest.raises(RequestError, match="cannot be verified"):
            client.get(secure, json_of)


# --- keys -----------------------------------------------------------------------------------


def test_the_key_goes_in_a_header_to_its_host_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANDB_TEST_KEY", SECRET)
    with (
        server(OK) as (other, there),
        server(status(302, Location=f"{other}/b")) as (url, here),
        session() as client,
    ):
        answer = client.get(f"{url}/a", json_of, KEY)
    assert here[0]["X-API-KEY"] == SECRET
    assert "X-API-KEY" not in there[0]
    assert SECRET not in repr((answer, client.__dict__, KEY))


def test_the_key_is_in_no_error_and_no_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GANDB_TEST_KEY", SECRET)
    caplog.set_level(0)
    told: list[str] = []
    echo = json.dumps({"detail": f"key {SECRET} is over its quota"}).encode()
    client = Session(Patience(tries=3), tell=told.append, sleep=lambda _: None)
    for code in (401, 403, 429, 500):
        with server(status(code, echo)) as (url, _), pytest.raises(RequestError) as caught:
            client.get(url, json_of, KEY)
        assert SECRET not in str(caught.value)
        assert "key *** is over" in str(caught.value)
        assert ("check the key in GANDB_TEST_KEY" in str(caught.value)) == (code in (401, 403))
        assert caught.value.__cause__ is None
    with server((200, {}, echo + b"x")) as (url, _), pytest.raises(RequestError) as caught:
        client.get(url, json_of, KEY)
    assert SECRET not in str(caught.value) + "".join(told) + caplog.text


@pytest.mark.parametrize("value", ["", "  ", "a b", "é", "a\nb"])
def test_what_is_no_key_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANDB_TEST_KEY", value)
    with session() as client, pytest.raises(UsageError, match="GANDB_TEST_KEY"):
        client.get("http://127.0.0.1:9", json_of, KEY)


@pytest.mark.parametrize("host", ["evil.org", "example.org.evil.org", "notexample.org"])
def test_a_key_goes_to_no_strange_host(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANDB_TEST_KEY", SECRET)
    with session() as client, pytest.raises(UsageError, match=r"goes to example\.org only"):
        client.get(f"https://{host}/", json_of, KEY)
    assert KEY.value("https://api.example.org/x") == SECRET
    assert KEY.value("https://example.org/x") == SECRET


def test_passwords_of_netrc_stay_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password pw\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with server(OK) as (url, asked), session() as client:
        client.get(url, json_of)
        assert "Authorization" not in asked[0]


# --- cursors and ids ------------------------------------------------------------------------


@given(
    st.text(max_size=50),
    st.integers(1, 3),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.none() | st.integers(0, 10**9),
)
def test_cursors_are_read_back(
    at: str, sweep: int, offset: int, fresh: int, expected: int | None
) -> None:
    cursor = Cursor(at, sweep, offset, fresh, expected)
    assert Cursor.read(str(cursor)) == cursor


@given(st.text(max_size=80) | st.recursive(st.none() | st.integers(), st.lists).map(json.dumps))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no place to go on from"):
        Cursor.read(text)


def test_records_are_told_apart() -> None:
    assert identity({"id": "a", "x": 1}, "id") == identity({"id": "a", "x": 2}, "id")
    assert identity({"id": 1}, "id") != identity({"id": 2}, "id")
    assert identity({"x": 1, "y": 2}, "id") == identity({"y": 2, "x": 1}, "id")
    assert identity({"x": 1}, "id") != identity({"x": 2}, "id")
    assert identity(None, "id") != identity([], "id")


@pytest.mark.parametrize("numbers", [(0, None), (-1, None), (1, 0), (1, -5)])
def test_pages_and_limits_are_at_least_one(numbers: tuple[int, int | None]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Query("https://example.org", None, (), *numbers)


def test_a_request_error_is_an_input_error() -> None:
    assert issubclass(RequestError, InputError)
