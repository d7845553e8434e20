"""What keeps a worker's claim alive, and what tells it to stop."""

from __future__ import annotations

import threading
import time

from gandb.core.errors import StoreError
from gandb.jobs import leases
from gandb.jobs.records import Claim
from gandb.store import Store

_BEATS_PER_LEASE = 4
_LOOK_EVERY = 2.0
"""Seconds at most until a worker sees that its job was cancelled."""


class InterruptedWorkError(Exception):
    """The worker was asked to stop; its chunk goes back."""


class StopSignal:
    """Asks workers to stop at their next step."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask."""
        self._event.set()

    def is_set(self) -> bool:
        """Say whether it was asked."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for it."""
        return self._event.wait(seconds)

    def require(self) -> None:
        """Raise `InterruptedWorkError` if it was asked."""
        if self._event.is_set():
            raise InterruptedWorkError


class Heart:
    """Renews a lease in the background while a chunk is worked on, and sees when it is lost.

    Attributes:
        steps: steps done, to be told with the next sign of life; None before the first report.
    """

    def __init__(self, store: Store, held: Claim, lease_seconds: float, stop: StopSignal) -> None:
        self.steps: int | None = None
        self._store = store
        self._held = held
        self._lease = lease_seconds
        self._stop = stop
        self._ended = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._beat, name="gandb-heart", daemon=True)

    def __enter__(self) -> Heart:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def require(self) -> None:
        """Raise what the last beat met, or `InterruptedWorkError` if the worker is to stop."""
        if self._failure is not None:
            raise self._failure
        self._stop.require()

    def _beat(self) -> None:
        between = self._lease / _BEATS_PER_LEASE
        renewed = time.monotonic()
        while not self._ended.wait(min(_LOOK_EVERY, between)):
            try:
                if time.monotonic() - renewed < between:
                    leases.check(self._store, self._held)
                else:
                    leases.renew(self._store, self._held, self._lease, self.steps)
                    renewed = time.monotonic()
            except StoreError:
                continue  # it may be back at the next beat; merging asks again whose the chunk is
            except Exception as error:  # noqa: BLE001 - raised where the work goes on
                self._failure = error
                return
