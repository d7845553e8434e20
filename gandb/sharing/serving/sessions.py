"""Short transactions of reading for many requests, each with a time limit.

DuckDB's file is opened once for many requests, since that takes longer than most of them. It is
let go of as soon as a writer waits, and when nobody has asked for a while; so other processes can
write as if nothing was held. On PostgreSQL connections are kept and used again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.pool import NullPool, QueuePool

from gandb.core.errors import GandbError, StoreError
from gandb.sharing.serving.failures import RequestError
from gandb.store import Store, failures, revisions
from gandb.store.embedded import DuckDBEngine
from gandb.store.server import PostgresEngine

Row = sa.RowMapping

_POLL = 0.02  # seconds between looks whether a writer waits
_IDLE = 5.0  # seconds after which the file is closed
_CANCELLED = frozenset({"InterruptException", "QueryCanceled"})


class TooSlowError(GandbError):
    """A query that was stopped at its time limit."""


class Session:
    """One consistent state of the store, for one request.

    Args:
        connection: a transaction of reading.
        seconds: how long each query may take.
    """

    def __init__(self, connection: sa.Connection, seconds: float) -> None:
        self.connection = connection
        self._seconds = seconds
        self._duckdb = connection.dialect.name == "duckdb"

    @property
    def kind(self) -> str:
        """``duckdb`` or ``postgres``."""
        return "duckdb" if self._duckdb else "postgres"

    def rows(self, query: sa.Select[Any], seconds: float | None = None) -> Sequence[Row]:
        """Return the rows of a query.

        Args:
            query: what to ask.
            seconds: how long it may take; after a failure on PostgreSQL the session is over.

        Raises:
            TooSlowError: it took longer.
        """
        with self._limited(self._seconds if seconds is None else seconds):
            return self.connection.execute(query).mappings().all()

    @contextmanager
    def _limited(self, seconds: float) -> Iterator[None]:
        stop = self._interrupted_after(seconds) if self._duckdb else self._timed_out(seconds)
        try:
            with stop:
                yield
        except sa.exc.DBAPIError as error:
            if type(error.orig).__name__ in _CANCELLED:
                raise TooSlowError(f"stopped after {seconds:g} s") from error
            raise

    @contextmanager
    def _interrupted_after(self, seconds: float) -> Iterator[None]:
        driver: Any = self.connection.connection.driver_connection
        lock = threading.Lock()
        done = False

        def interrupt() -> None:
            with lock:
                if not done:
                    driver.interrupt()

        timer = threading.Timer(seconds, interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            with lock:
                done = True
            timer.cancel()

    @contextmanager
    def _timed_out(self, seconds: float) -> Iterator[None]:
        milliseconds = max(1, int(seconds * 1000))
        self.connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")
        yield


class Sessions(Protocol):
    """Gives sessions on a store to any number of threads."""

    def session(self, seconds: float) -> Any:
        """Open a session whose queries may take so long each; a context manager."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


def sessions_of(store: Store) -> Sessions:
    """Return the sessions that fit a store's engine."""
    engine = store.engine
    if isinstance(engine, DuckDBEngine):
        return _OfFile(store, engine)
    if isinstance(engine, PostgresEngine):
        return _OfServer(store, engine)
    raise TypeError(f"no sessions on {type(engine).__name__}")


@contextmanager
def _told(store: Store) -> Iterator[None]:
    """Tell a database that cannot be used as the answer that asks to come again."""
    try:
        with failures.told(store.location, writing=False, timeout=0.0):
            yield
    except StoreError as error:
        raise UnavailableError(str(error)) from error


class UnavailableError(RequestError):
    """The store is locked, being upgraded, or gone.

    Args:
        reason: for the log; those who asked are told no paths.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(503, "the database cannot be used at this moment: try again in a while")
        self.reason = reason


# --- DuckDB ------------------------------------------------------------------------------


class _Opening:
    """One opening of the file, by a thread that holds the lock and closes it again."""

    def __init__(self, store: Store, engine: DuckDBEngine) -> None:
        self.leaving = False
        self.users = 0
        self.failure: BaseException | None = None
        self.raw: Any = None
        self.ready = threading.Event()
        self.gone = threading.Event()
        self.used = time.monotonic()
        self._store = store
        self._engine = engine

    def start(self, condition: threading.Condition) -> None:
        threading.Thread(
            target=self._hold, args=(condition,), name="gandb-serve-file", daemon=True
        ).start()

    def _hold(self, condition: threading.Condition) -> None:
        try:
            with _told(self._store), self._store.read_only() as raw:
                revisions.require_head_on(raw, self._store.location)
                self.raw = raw
                self.ready.set()
                self._wait(condition)
        except BaseException as error:  # noqa: BLE001 - raised to those who wait
            self.failure = error
        finally:
            with condition:
                self.leaving = True
            self.gone.set()
            self.ready.set()

    def _wait(self, condition: threading.Condition) -> None:
        while True:
            with condition:
                if self.leaving and not self.users:
                    return
                condition.wait(_POLL)
                if not self.users and time.monotonic() - self.used > _IDLE:
                    self.leaving = True
            if not self.leaving and self._engine.lock.awaited():
                with condition:
                    self.leaving = True


class _OfFile:
    """Sessions on a DuckDB file that is open only while it is used."""

    def __init__(self, store: Store, engine: DuckDBEngine) -> None:
        self._store = store
        self._engine = engine
        self._condition = threading.Condition()
        self._opening: _Opening | None = None
        self._closed = False

    @contextmanager
    def session(self, seconds: float) -> Iterator[Session]:
        opening = self._enter()
        try:
            cursors = sa.create_engine(
                "duckdb://", creator=lambda: _wrapped(opening.raw.cursor()), poolclass=NullPool
            )
            with _told(self._store), cursors.connect() as connection:
                yield Session(connection, seconds)
        finally:
            with self._condition:
                opening.users -= 1
                opening.used = time.monotonic()
                self._condition.notify_all()

    def close(self) -> None:
        with self._condition:
            self._closed = True
            opening = self._opening
            if opening is not None:
                opening.leaving = True
            self._condition.notify_all()
        if opening is not None:
            opening.gone.wait()

    def _enter(self) -> _Opening:
        while True:
            with self._condition:
                if self._closed:
                    raise UnavailableError("the server is shutting down")
                opening = self._opening
                if opening is None or opening.gone.is_set():
                    opening = self._opening = _Opening(self._store, self._engine)
                    opening.start(self._condition)
            opening.ready.wait()
            with self._condition:
                if opening.failure is not None:
                    raise opening.failure
                if not opening.leaving:
                    opening.users += 1
                    return opening
            opening.gone.wait()


def _wrapped(cursor: Any) -> Any:
    from duckdb_sqlalchemy import ConnectionWrapper

    return ConnectionWrapper(cursor)


# --- PostgreSQL --------------------------------------------------------------------------


class _OfServer:
    """Sessions on connections to a PostgreSQL server that are used again."""

    def __init__(self, store: Store, engine: PostgresEngine) -> None:
        self._store = store
        self._pool = engine.pooled(QueuePool)

    @contextmanager
    def session(self, seconds: float) -> Iterator[Session]:
        with _told(self._store), self._connected() as connection, connection.begin():
            milliseconds = max(1, int(seconds * 1000))
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")
            revisions.require_head_on(connection.connection.driver_connection, self._store.location)
            yield Session(connection, seconds)

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        plain = self._pool.connect()
        try:
            yield plain.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        finally:
            with suppress(sa.exc.SQLAlchemyError):
                plain.close()

    def close(self) -> None:
        self._pool.dispose()
