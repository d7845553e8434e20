"""The two database engines: how each is reached, locked and filled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from gandb.core.errors import MissingExtraError, StoreError
from gandb.store.lock import StoreLock

DUCKDB_FILE = "gandb.duckdb"
_MERGE_LOCK = 0x67616E6462  # "gandb": key of the advisory lock that orders merges
_RETRY_PAUSE = 0.02


class Engine(Protocol):
    """What a store needs of its database."""

    kind: str

    def describe(self) -> str:
        """Name the database without secrets."""
        ...

    def exists(self) -> bool:
        """Say whether the database is there to be opened."""
        ...

    def writing(self, *, alone: bool) -> AbstractContextManager[sa.Connection]:
        """Open one read-write transaction; ``alone`` keeps other merges out."""
        ...

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """Open one read-only transaction."""
        ...


class DuckDBEngine:
    """A DuckDB file in a store directory, opened for one transaction at a time."""

    kind = "duckdb"

    def __init__(self, directory: Path, lock_timeout: float) -> None:
        self.directory = directory
        self.path = directory / DUCKDB_FILE
        self.lock = StoreLock(directory, lock_timeout)
        self._timeout = lock_timeout
        # Fewer reordering buffers, and spill files stay inside the store.
        spill = {"preserve_insertion_order": "false", "temp_directory": str(directory / ".tmp")}
        self._writer = self._engine({"config": spill})
        self._reader = self._engine({"read_only": True})

    def _engine(self, connect_args: dict[str, Any]) -> sa.Engine:
        engine = sa.create_engine(
            f"duckdb:///{self.path}", poolclass=NullPool, connect_args=connect_args
        )
        sa.event.listen(engine, "connect", _be_quiet)
        return engine

    def describe(self) -> str:
        """Return the directory."""
        return str(self.directory)

    def exists(self) -> bool:
        """Say whether the database file is there."""
        return self.path.is_file()

    @contextmanager
    def writing(self, *, alone: bool) -> Iterator[sa.Connection]:
        """Hold the store alone, open the file, run one transaction, close the file."""
        del alone  # one writer at a time is all that DuckDB knows
        with self.lock.exclusive(), self._connect(self._writer) as connection, connection.begin():
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Share the store with other readers, open the file read-only, close it."""
        with self.lock.shared(), self._connect(self._reader) as connection:
            yield connection

    @contextmanager
    def _connect(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        """Open the file, waiting for foreign programs that have it open."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                connection = engine.connect()
            except sa.exc.DBAPIError as error:
                if "lock on file" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_PAUSE)
            else:
                break
        with connection:
            yield connection


def _be_quiet(connection: Any, _record: Any) -> None:
    """Keep DuckDB from printing a progress bar among the data on stdout."""
    connection.execute("SET enable_progress_bar = false")


class PostgresEngine:
    """A PostgreSQL database."""

    kind = "postgres"

    def __init__(self, url: str, lock_timeout: float) -> None:
        try:
            import psycopg  # noqa: F401
        except ImportError as error:
            raise MissingExtraError.for_package("psycopg", "postgres") from error
        self._url = sa.engine.make_url(url).set(drivername="postgresql+psycopg")
        self._timeout = lock_timeout
        self._engine = sa.create_engine(
            self._url, poolclass=NullPool, connect_args={"connect_timeout": 10}
        )

    def describe(self) -> str:
        """Return the URL without its password."""
        shown = self._url.set(drivername="postgresql")
        return str(shown.render_as_string(hide_password=True))

    def exists(self) -> bool:
        """Say whether the database answers.

        Raises:
            StoreError: it does not.
        """
        with self.reading():
            return True

    @contextmanager
    def writing(self, *, alone: bool) -> Iterator[sa.Connection]:
        """Run one transaction; merges queue on an advisory lock that ends with it."""
        with self._engine.connect() as connection, connection.begin():
            if alone:
                connection.execute(
                    sa.text(f"SET LOCAL lock_timeout = '{int(self._timeout * 1000)}ms'")
                )
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MERGE_LOCK)))
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Run one read-only transaction on a consistent snapshot."""
        with self._engine.connect() as plain:
            connection = plain.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            with connection.begin():
                yield connection


def connect(target: str, lock_timeout: float) -> DuckDBEngine | PostgresEngine:
    """Choose the engine for a path or URL.

    Raises:
        StoreError: the URL names another database.
    """
    scheme, separator, _ = target.partition("://")
    if not separator:
        return DuckDBEngine(Path(target).expanduser().resolve(), lock_timeout)
    if scheme.split("+")[0] in {"postgresql", "postgres"}:
        url = "postgresql" + target[len(scheme) :]
        return PostgresEngine(url, lock_timeout)
    raise StoreError(
        f"cannot use {scheme}://... as a store: give a directory path or a postgresql:// URL"
    )


__all__ = ["DUCKDB_FILE", "DuckDBEngine", "Engine", "PostgresEngine", "connect"]
