"""Run a driver's blocking calls so that Ctrl-C and a time limit can stop them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")

_CANCEL_EVERY = 0.2  # seconds between requests to a query that has not stopped yet


class QueryTimeoutError(Exception):
    """The time limit was reached and the query cancelled."""


class Supervisor:
    """Hands calls to one worker thread and waits for them.

    A driver that computes inside C does not see signals; the waiting thread does, and asks the
    engine to cancel. The request is repeated until the call has ended, because an engine ignores
    one that arrives before the query starts.
    """

    def __init__(self, cancel: Callable[[], None], timeout: float | None = None) -> None:
        """Start the clock.

        Args:
            cancel: asks the engine, from another thread, to stop the running query.
            timeout: seconds for all calls together, and for the time between them.
        """
        self._cancel = cancel
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="gandb-query")

    def __enter__(self) -> Supervisor:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the worker thread."""
        self._worker.shutdown(wait=True)

    def call(self, work: Callable[[], T]) -> T:
        """Return ``work()``, or cancel it.

        Raises:
            QueryTimeoutError: the limit was reached.
            KeyboardInterrupt: Ctrl-C was pressed; the query is cancelled by then.
        """
        future = self._worker.submit(work)
        remaining = None if self._deadline is None else self._deadline - time.monotonic()
        try:
            done, _ = wait([future], timeout=remaining)
        except KeyboardInterrupt:
            self._stop(future)
            raise
        if not done or (remaining is not None and remaining < 0):
            self._stop(future)
            raise QueryTimeoutError(f"stopped after {self._timeout:g} s, the time limit")
        return future.result()

    def _stop(self, future: Future[T]) -> None:
        while not future.done():
            self._cancel()
            wait([future], timeout=_CANCEL_EVERY)
