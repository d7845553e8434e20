"""Running the application with uvicorn until it is interrupted."""

from __future__ import annotations

import logging
import sys

from gandb.core.errors import MissingExtraError, UsageError
from gandb.sharing.serving.answers import Provider
from gandb.sharing.serving.app import LOGGER, make_app
from gandb.store import Store

_GRACE = 10  # seconds that running requests have when the server is stopped
_AT_ONCE = 200  # connections; more are told to come again


def serve(
    store: Store,
    *,
    host: str,
    port: int,
    provider: Provider,
    base_url: str | None,
    seconds: float,
) -> None:
    """Serve until SIGINT or SIGTERM; the log goes to stderr.

    Raises:
        MissingExtraError: uvicorn is not installed.
        UsageError: the address cannot be used.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtraError.for_package("uvicorn", "serve") from error
    app = make_app(store, provider=provider, base_url=base_url, seconds=seconds)
    log_to_stderr()
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        limit_concurrency=_AT_ONCE,
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=15,
    )
    server = uvicorn.Server(config)
    try:
        server.run()
    except SystemExit:
        raise UsageError(
            f"cannot listen on {host}, port {port}: it is taken, or not yours to use"
        ) from None


def log_to_stderr() -> None:
    """Write one line per request, and warnings of the server itself."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    for name, level in ((LOGGER, logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
