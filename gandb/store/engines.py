"""What a store needs of its database engine, and which engine a path or URL names."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from gandb.core.config import Settings
from gandb.core.errors import StoreError
from gandb.store.embedded import DUCKDB_FILE, DuckDBEngine
from gandb.store.server import PostgresEngine


class Engine(Protocol):
    """A database, opened for one transaction at a time."""

    kind: str

    @property
    def own_root(self) -> str | None:
        """Folder that holds the database and may hold the store's files; None on a server."""
        ...

    def describe(self) -> str:
        """Name the database without secrets."""
        ...

    def exists(self) -> bool:
        """Say whether there is something to open; a server is asked when it is."""
        ...

    def creating(self) -> AbstractContextManager[sa.Connection]:
        """Open the one transaction that makes a store; if it fails, nothing is left behind."""
        ...

    def writing(self, *, alone: bool) -> AbstractContextManager[sa.Connection]:
        """Open one read-write transaction; ``alone`` keeps other merges out."""
        ...

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """Open one read-only transaction."""
        ...

    def reading_raw(self) -> AbstractContextManager[Any]:
        """Open one read-only transaction; yield the driver's own connection."""
        ...


def connect(target: str, lock_timeout: float) -> Engine:
    """Choose the engine for a path or URL.

    Raises:
        StoreError: the URL names another database, or is none.
        MissingExtraError: the driver is not installed.
    """
    scheme, separator, _ = target.partition("://")
    if not separator:
        return DuckDBEngine(Path(target).expanduser().resolve(), lock_timeout)
    if scheme.split("+")[0] in {"postgresql", "postgres"}:
        try:
            url = sa.engine.make_url("postgresql" + target[len(scheme) :])
        except (sa.exc.ArgumentError, ValueError) as error:
            raise StoreError(
                "cannot read the URL of the store: write postgresql://USER:PASSWORD@HOST:PORT/NAME"
                " (special characters of a password as %40 and so on)"
            ) from error
        return PostgresEngine(url, lock_timeout)
    raise StoreError(
        f"cannot use {scheme}://... as a store: give a directory path or a postgresql:// URL"
    )


def chosen(settings: Settings) -> Engine:
    """Return the engine that the settings name.

    Raises:
        StoreError: they name none.
    """
    if not settings.store:
        raise StoreError("no store is named: give --store PATH|URL, or set GANDB_STORE")
    return connect(settings.store, settings.lock_timeout)


def existing(settings: Settings) -> Engine:
    """Do the same for a store that must be there.

    Raises:
        StoreError: it is not; on a server, that shows when it is asked.
    """
    engine = chosen(settings)
    if not engine.exists():
        where = engine.describe()
        raise StoreError(f"there is no store at {where}; create one with: gandb init {where}")
    return engine


__all__ = [
    "DUCKDB_FILE",
    "DuckDBEngine",
    "Engine",
    "PostgresEngine",
    "chosen",
    "connect",
    "existing",
]
