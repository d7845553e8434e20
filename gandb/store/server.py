"""The server engine: a PostgreSQL database by URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from gandb.core.errors import MissingExtraError, StoreError
from gandb.store.failures import in_one_line

_MERGE_LOCK = 0x67616E6462  # "gandb": key of the advisory lock that orders merges

_CONNECTION = {
    "application_name": "gandb",
    "connect_timeout": "10",
    # A server that is gone is noticed after a minute, not after hours.
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}


def _prepare(connection: Any, _: object) -> None:
    """Set what each of gandb's connections wants.

    Compiling its queries, long ones over few tables, takes the server longer than running them:
    2.5 of 4.6 s for the difference of two versions of a million entries.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET jit = off")
    connection.commit()


class PostgresEngine:
    """A PostgreSQL database, connected to for one transaction at a time.

    Connections are not kept: nothing is stale after a restart of the server or a fork, and what a
    transaction had set cannot reach the next.

    Args:
        url: of the database.
        lock_timeout: seconds to wait for other processes.

    Raises:
        MissingExtraError: psycopg is not installed.
    """

    kind = "postgres"
    own_root = None

    def __init__(self, url: sa.URL, lock_timeout: float) -> None:
        try:
            import psycopg  # noqa: F401
        except ImportError as error:
            raise MissingExtraError.for_package("psycopg", "postgres") from error
        self._url = url.set(drivername="postgresql+psycopg")
        self._timeout = lock_timeout
        self._engine = self._made(poolclass=NullPool)

    def _made(self, **options: Any) -> sa.Engine:
        given = {k: v for k, v in _CONNECTION.items() if k not in self._url.query}
        engine = sa.create_engine(self._url, connect_args=given, **options)
        sa.event.listen(engine, "connect", _prepare)
        return engine

    def describe(self) -> str:
        """Return the URL without its password."""
        shown = self._url.set(drivername="postgresql")
        return str(shown.render_as_string(hide_password=True))

    def exists(self) -> bool:
        """Return True; connecting will show."""
        return True

    def pooled(self, pool: type[sa.Pool], size: int = 8) -> sa.Engine:
        """Return connections that are kept and looked at before they are used again.

        For a server that answers many short questions; whoever asks for it closes it.
        """
        return self._made(
            poolclass=pool,
            pool_size=size,
            max_overflow=0,
            pool_pre_ping=True,
            pool_recycle=600,
            pool_timeout=self._timeout,
        )

    # --- transactions --------------------------------------------------------------------

    @contextmanager
    def writing(self, *, alone: bool) -> Iterator[sa.Connection]:
        """Run one transaction; merges queue on an advisory lock that ends with it."""
        with self._connected() as connection:
            transaction = connection.begin()
            try:
                wait = f"SET LOCAL lock_timeout = '{int(self._timeout * 1000)}ms'"
                connection.exec_driver_sql(wait)
                if alone:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MERGE_LOCK)))
                yield connection
            except BaseException:
                transaction.rollback()
                raise
            self._commit(transaction)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Run one read-only transaction on a consistent snapshot."""
        with self._connected() as plain:
            connection = plain.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            with connection.begin():
                yield connection

    @contextmanager
    def reading_raw(self) -> Iterator[Any]:
        """Do the same on psycopg's connection."""
        with self.reading() as connection:
            yield connection.connection.driver_connection

    @contextmanager
    def creating(self) -> Iterator[sa.Connection]:
        """Open the transaction that makes the tables; PostgreSQL takes back DDL too."""
        with self.writing(alone=True) as connection:
            inspector = sa.inspect(connection)
            if inspector.has_table("alembic_version") and inspector.has_table("source_snapshot"):
                raise StoreError(f"there is a store at {self.describe()} already")
            if taken := [*inspector.get_table_names(), *inspector.get_view_names()]:
                raise StoreError(
                    f"the database at {self.describe()} is not empty and holds no store (it has "
                    f"{', '.join(sorted(taken)[:3])}): name a new database"
                )
            yield connection

    # --- how -----------------------------------------------------------------------------

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        try:
            connection = self._engine.connect()
        except sa.exc.OperationalError as error:
            reason = in_one_line(error.orig) if error.orig else str(error)
            raise StoreError(f"cannot reach the database at {self.describe()}: {reason}") from error
        with connection:
            yield connection

    def _commit(self, transaction: sa.RootTransaction) -> None:
        try:
            transaction.commit()
        except sa.exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise
            raise StoreError(
                f"the database at {self.describe()} was lost while it committed: the transaction "
                "is either wholly in or not at all; repeat the command, which adds nothing twice"
            ) from error
