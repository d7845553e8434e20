"""Addresses: which may be asked, and how they are shown."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from gandb.core.errors import UsageError

_SECRETS = re.compile(r"api[-_]?key|token|secret|passw(or)?d|signature", re.IGNORECASE)


def require_url(url: str, *, bare: bool = True) -> str:
    """Return the address without a slash at its end.

    Args:
        url: of an endpoint.
        bare: whether it must have no query.

    Raises:
        UsageError: it is not https (or http to this machine), or holds a name, password or query.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or not url.isprintable() or " " in url:
        raise UsageError(f"{shown_url(url)!r} is no address such as https://example.org/optimade")
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{shown_url(url)}: names and passwords do not belong in an address")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise UsageError(f"{shown_url(url)}: only https is asked (http on this machine alone)")
    if bare and (parts.query or parts.fragment):
        raise UsageError(f"{shown_url(url)}: an endpoint has no '?' and no '#'; use the filter")
    return url.rstrip("/") if bare else url


def clean_url(url: str) -> str:
    """Return the address without user name, password and parameters that look like keys."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("?")[0]
    kept = parts.query
    if _SECRETS.search(kept):
        pairs = parse_qsl(kept, keep_blank_values=True)
        kept = urlencode([(name, value) for name, value in pairs if not _SECRETS.search(name)])
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, kept, ""))


def shown_url(url: str) -> str:
    """Return the address as messages show it: without secrets, cut if it is long."""
    cleaned = clean_url(url)
    return cleaned if len(cleaned) <= 300 else f"{cleaned[:299]}…"


def host_of(url: str) -> str:
    """Return the host in lower case; empty if there is none."""
    return (urlsplit(url).hostname or "").lower()


def origin_of(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port."""
    parts = urlsplit(url)
    return parts.scheme, host_of(url), parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def is_loopback(host: str) -> bool:
    """Say whether it is this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def redirect_of(url: str, location: str) -> str:
    """Return where a redirect leads.

    Raises:
        UsageError: it leads where nothing is asked: away from https, or from elsewhere to this
            machine.
    """
    target = urljoin(url, location)
    parts = urlsplit(target)
    if parts.scheme == "http" and not is_loopback(host_of(target)):
        target = urlunsplit(("https", *parts[1:]))
    require_url(target, bare=False)
    if is_loopback(host_of(target)) and not is_loopback(host_of(url)):
        raise UsageError("it leads to this machine")
    return target
