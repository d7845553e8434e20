"""One patient HTTP client for every live source.

Requests go out one at a time. What is likely to pass (429, 5xx, time-outs, lost connections,
answers cut off or not what they should be) is asked again after a growing pause with some chance
in it, or when the server says (``Retry-After``), within bounds on tries and on waiting. What will
not pass ends at once with an error that names the address and what to do.

Keys come from the environment alone and travel in headers alone, to one host.
"""

from __future__ import annotations

import html
import json
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gandb import __version__
from gandb.core.errors import InputError, MissingExtraError, UsageError
from gandb.sources.urls import (
    clean_url,
    host_of,
    is_loopback,
    origin_of,
    redirect_of,
    require_url,
    shown_url,
)

T = TypeVar("T")

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
"""Statuses that are asked again; 520 to 524 are a proxy's words for a server that is away."""
MAX_REDIRECTS = 5
_PIECE = 1 << 16
"""Most bytes read at once; the bounds on size and time are looked at after each."""
_SLICE = 0.5
"""Seconds of waiting after which is asked whether to go on."""

RESUME = "the same command goes on from where it stopped"


class RequestError(InputError):
    """A server that does not give what it was asked for.

    Attributes:
        status: its last answer's status; None if there was no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Patience:
    """How long to try; times in seconds.

    Attributes:
        tries: most tries of one request.
        unfit_tries: most tries while answers come whole but are not what they should be.
        first_wait: pause after the first failure; each next one is twice as long.
        longest_wait: longest pause that is not the server's own wish.
        total_wait: most waiting for one request, whoever wishes it.
        connect_timeout: to reach the server.
        read_timeout: between two bytes. OQMD has taken two minutes to begin a page of 200.
        total_timeout: for one try to its last byte; looked at with each piece of the body.
        pause: between two requests that went well.
        max_bytes: largest answer after unpacking; parsed, it takes ten times that in memory. 1,000
            structures have some 10 MB.
    """

    tries: int = 8
    unfit_tries: int = 5
    first_wait: float = 1.0
    longest_wait: float = 60.0
    total_wait: float = 900.0
    connect_timeout: float = 10.0
    read_timeout: float = 240.0
    total_timeout: float = 600.0
    pause: float = 0.2
    max_bytes: int = 1 << 26


@dataclass(frozen=True)
class Key:
    """Where a secret key is found and how it travels; the key itself is held nowhere.

    Attributes:
        variable: the environment variable.
        header: the HTTP header.
        help: where a user gets one.
        hosts: the only ones (and those under them) that it is sent to, beside this machine.
    """

    variable: str
    header: str
    help: str
    hosts: tuple[str, ...]

    def value(self, url: str) -> str:
        """Read the key, to be sent to ``url``.

        Raises:
            UsageError: the variable is not set, or is no key, or is not for this host.
        """
        host = host_of(url)
        if not is_loopback(host) and not any(f".{host}".endswith(f".{h}") for h in self.hosts):
            raise UsageError(f"{self.variable} goes to {', '.join(self.hosts)} only, not to {host}")
        value = os.environ.get(self.variable, "").strip()
        if not value:
            raise UsageError(f"set {self.variable} to your key in the environment: {self.help}")
        if not value.isascii() or not value.isprintable() or " " in value:
            raise UsageError(f"{self.variable} holds characters that no key has: {self.help}")
        return value


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What came.

    Attributes:
        url: what was asked, without secrets.
        data: the body, unpacked.
        value: what the caller's ``parse`` made of it.
    """

    url: str
    data: bytes
    value: T


class _TryAgain(Exception):  # noqa: N818 - no error yet
    """A failure that may pass: what it was, the wait asked for, the status."""

    def __init__(self, what: str, wait: float = 0.0, status: int | None = None) -> None:
        super().__init__(what)
        self.wait = wait
        self.status = status


class _Unfit(_TryAgain):
    """An answer that came whole, but is not what it should be."""


class Session:
    """Asks for one thing after the other.

    Args:
        patience: how long to try.
        check: called before each try, while waiting and while reading; what it raises (anything but
            an `OSError`) ends the work.
        tell: told in one line of each failure that is waited out.
        sleep: waits so many seconds.
        clock: monotonic seconds.
        chance: spreads the pauses, so that many clients do not come back at one moment.
    """

    def __init__(
        self,
        patience: Patience | None = None,
        *,
        check: Callable[[], None] = lambda: None,
        tell: Callable[[str], None] = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        self.patience = patience or Patience()
        self._check = check
        self._tell = tell
        self._sleep = sleep
        self._clock = clock
        self._chance = chance or random.Random()
        self._clients: dict[bool, Any] = {}
        self._asked = False

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what connections are open."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def get(self, url: str, parse: Callable[[bytes], T], key: Key | None = None) -> Answer[T]:
        """Ask for ``url`` until the answer is one that ``parse`` takes.

        Args:
            url: https, or http to this machine.
            parse: makes something of the body; a `ValueError` says that it is not what it should
                be, and it is asked for again.
            key: sent along, to this host only.

        Raises:
            RequestError: it was refused, or it did not come in the tries and the time there are.
            UsageError: the key is not set, or the address is not one to ask.
            MissingExtraError: requests is not installed.
        """
        require_url(url, bare=False)
        secret = key.value(url) if key else None
        waited, unfit = 0.0, 0
        if self._asked:
            self._wait(self.patience.pause)
        self._asked = True
        for number in range(1, self.patience.tries + 1):
            self._check()
            try:
                data = self._try(url, key, secret)
                try:
                    return Answer(clean_url(url), data, parse(data))
                except (ValueError, RecursionError) as error:
                    what = f"an answer that is not as it should be: {error}"
                    raise _Unfit(what, status=200) from error
            except _TryAgain as failure:
                what = _without(str(failure), secret)
                unfit += isinstance(failure, _Unfit)
                wait = max(failure.wait, self._back_off(number))
                last = number == self.patience.tries or unfit >= self.patience.unfit_tries
                if last or waited + wait > self.patience.total_wait:
                    raise self._given_up(url, what, number, waited, failure) from None
            self._tell(f"{host_of(url)}: {what}; again in {wait:.0f} s")
            self._wait(wait)
            waited += wait
        raise AssertionError("the last try returns or raises")

    def _given_up(
        self, url: str, what: str, tries: int, waited: float, failure: _TryAgain
    ) -> RequestError:
        """Build the error of a request that was tried to the end."""
        asked = failure.wait
        if waited + asked > self.patience.total_wait:
            advice = f"it asks to wait {asked:,.0f} s; come back then: {RESUME}"
        elif isinstance(failure, _Unfit):
            advice = f"check the address; try later or with smaller pages: {RESUME}"
        else:
            advice = f"try later or with smaller pages: {RESUME}"
        times = "1 try" if tries == 1 else f"{tries} tries"
        return RequestError(
            f"{shown_url(url)}: {what} ({times}, {waited:.0f} s waited); {advice}", failure.status
        )

    def _back_off(self, failures: int) -> float:
        """Return the pause after so many failures: doubled each time, then 50 to 100 % of it."""
        longest = min(self.patience.first_wait * 2.0 ** (failures - 1), self.patience.longest_wait)
        return longest * self._chance.uniform(0.5, 1.0)

    def _wait(self, seconds: float) -> None:
        """Wait, asking now and then whether to go on."""
        while seconds > 0:
            self._check()
            self._sleep(min(seconds, _SLICE))
            seconds -= _SLICE

    def _try(self, url: str, key: Key | None, secret: str | None) -> bytes:
        """Ask once, following redirects, and return the body of an answer with status 200."""
        requests = _requests()
        from urllib3 import exceptions as transport  # requests brings it

        deadline = self._clock() + self.patience.total_timeout
        timeouts = (self.patience.connect_timeout, self.patience.read_timeout)
        asked = url
        try:
            for _ in range(MAX_REDIRECTS + 1):
                own = origin_of(url) == origin_of(asked)
                headers = {key.header: secret} if own and key and secret else {}
                with self._client(url).get(
                    url, headers=headers, stream=True, allow_redirects=False, timeout=timeouts
                ) as response:
                    if response.is_redirect:
                        url = self._redirect(url, response.headers.get("Location", ""))
                        continue
                    if response.status_code != 200:
                        raise self._refusal(asked, response, key, secret)
                    return self._body(response, deadline)
        except requests.exceptions.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise RequestError(
                    f"{shown_url(asked)}: the server's certificate cannot be verified; if a proxy "
                    "of yours signs for it, name its certificates in REQUESTS_CA_BUNDLE"
                ) from None
            raise _TryAgain(_plain(error)) from error
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise RequestError(f"{shown_url(asked)}: no address: {_plain(error)}") from None
        except (requests.exceptions.Timeout, transport.TimeoutError, TimeoutError) as error:
            raise _TryAgain("no answer in time") from error
        except (requests.exceptions.RequestException, transport.HTTPError, OSError) as error:
            raise _TryAgain(_plain(error)) from error
        raise RequestError(f"{shown_url(asked)}: more than {MAX_REDIRECTS} redirects")

    def _redirect(self, url: str, location: str) -> str:
        """Return where a redirect leads, if that is a place to go."""
        try:
            return redirect_of(url, location)
        except (UsageError, ValueError) as error:
            raise RequestError(f"{shown_url(url)}: a redirect not followed: {error}") from None

    def _client(self, url: str) -> Any:
        """Return what talks to this host: to this machine without proxies."""
        local = is_loopback(host_of(url))
        if local not in self._clients:
            client = _requests().Session()
            client.trust_env = not local
            client.auth = _unchanged  # no passwords from ~/.netrc
            client.headers.update(
                {
                    "User-Agent": f"gandb/{__version__} (materials data import)",
                    "Accept": "application/vnd.api+json, application/json",
                    "Accept-Encoding": "gzip",
                }
            )
            self._clients[local] = client
        return self._clients[local]

    def _body(self, response: Any, deadline: float) -> bytes:
        """Read the body within the bounds on size and time."""
        body = bytearray()
        while piece := response.raw.read1(_PIECE, decode_content=True):
            body += piece
            self._check()
            if len(body) > self.patience.max_bytes:
                raise RequestError(
                    f"{shown_url(response.url)}: an answer of more than "
                    f"{self.patience.max_bytes:,} bytes; ask for smaller pages or fewer fields"
                )
            if self._clock() > deadline:
                raise _TryAgain(
                    f"{len(body):,} bytes in {self.patience.total_timeout:.0f} s, and no end"
                )
        return bytes(body)

    def _refusal(self, url: str, response: Any, key: Key | None, secret: str | None) -> Exception:
        """Build what an answer with another status than 200 comes to."""
        status = int(response.status_code)
        said = _without(_said(response.raw.read1(_PIECE, decode_content=True)), secret)
        what = f"status {status}" + (f" ({said})" if said else "")
        if status in TRANSIENT:
            return _TryAgain(what, _retry_after(response.headers.get("Retry-After")), status)
        if status in (401, 403) and key:
            advice = f"check the key in {key.variable}: {key.help}"
        elif status in (404, 410):
            advice = "check the address of the endpoint"
        else:
            advice = "check the filter, the fields and the page size"
        return RequestError(f"{shown_url(url)}: {what}; {advice}", status)


# --- what servers say ---------------------------------------------------------------------


def json_of(data: bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: it is none; says how the text begins and ends, which tells a page of HTML from
            an answer that was cut off.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        text = data.decode("utf-8", "replace")
        begins, ends = " ".join(text[:60].split()), " ".join(text[-30:].split())
        raise ValueError(
            f"{len(data):,} bytes, not JSON ({type(error).__name__}): {begins!r} ... {ends!r}"
        ) from None


def _said(body: bytes) -> str:
    """Return what an answer says in words: the messages of JSON, the text of HTML, one line."""
    text = body.decode("utf-8", "replace")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        errors = found.get("errors")
        first = errors[0] if isinstance(errors, list) and errors else found
        if isinstance(first, dict):
            words = [first.get(name) for name in ("detail", "message", "error", "title")]
            first = next((w for w in words if w), text)
        text = first if isinstance(first, str) else json.dumps(first)
    text = re.sub(r"(?is)<(script|style)\b.*?</\1\s*>|<[^>]*>", " ", text)
    text = " ".join("".join(c if c.isprintable() else " " for c in html.unescape(text)).split())
    return text if len(text) <= 200 else text[:199] + "…"


def _retry_after(value: str | None) -> float:
    """Return the seconds that a ``Retry-After`` header (seconds or a date) asks for; 0 for none."""
    if not value:
        return 0.0
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        return float(Retry().parse_retry_after(value))
    except (InvalidHeader, ValueError, OverflowError, TypeError):
        return 0.0


def _plain(error: BaseException) -> str:
    """Say in one line what went wrong on the way, without addresses of objects."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        error = reason
    first = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    text = re.sub(r"<[^>]*>:? ?|\(?HTTPS?Connection(Pool)?\([^)]*\):? ?", "", first)
    said = " ".join(text.split())[:200]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _without(text: str, secret: str | None) -> str:
    return text.replace(secret, "***") if secret else text


def _unchanged(request: Any) -> Any:
    return request


def _requests() -> Any:
    """Return the package requests."""
    try:
        import requests
    except ImportError as error:
        raise MissingExtraError.for_package("requests", "live") from error
    return requests
