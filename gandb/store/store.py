"""A store: its database, its files, and the transactions on them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from gandb.core.config import Settings
from gandb.core.errors import GandbError, StoreError
from gandb.schema.tables import setting
from gandb.store import revisions
from gandb.store.engines import DuckDBEngine, PostgresEngine, connect
from gandb.store.files import Files
from gandb.store.transaction import Transaction

_BLOBS_SETTING = "blobs"


class Store:
    """A gandb store, opened by `Store.open` or made by `Store.create`.

    Attributes:
        engine: the database.
        files: blobs and work in progress.
    """

    def __init__(self, engine: DuckDBEngine | PostgresEngine, files: Files) -> None:
        self.engine = engine
        self.files = files

    @property
    def kind(self) -> str:
        """``duckdb`` or ``postgres``."""
        return self.engine.kind

    @property
    def location(self) -> str:
        """Where the database is, without secrets."""
        return self.engine.describe()

    # --- making and opening --------------------------------------------------------------

    @classmethod
    def create(cls, settings: Settings, blobs: str | None = None) -> Store:
        """Make a new store at ``settings.store``.

        Args:
            settings: where, and how long to wait for others.
            blobs: folder or fsspec URL for blobs; by default the store directory itself, or for
                PostgreSQL a folder in the user's data home.

        Raises:
            StoreError: there is a store already, or the place cannot be used.
        """
        target = _target(settings)
        engine = connect(target, settings.lock_timeout)
        fresh = isinstance(engine, DuckDBEngine) and not engine.directory.exists()
        if isinstance(engine, DuckDBEngine):
            _make_directory(engine)
        root = blobs or _default_root(engine)
        if "://" not in root:
            root = str(Path(root).expanduser().resolve())
        try:
            with _translated(engine), engine.writing(alone=True) as connection:
                if revisions.current(connection) is not None:
                    raise StoreError(f"there is a store at {engine.describe()} already")
                revisions.upgrade(connection)
                if root != _own_root(engine):
                    connection.execute(setting.insert(), {"key": _BLOBS_SETTING, "value": root})
        except BaseException:
            if fresh and isinstance(engine, DuckDBEngine):
                shutil.rmtree(engine.directory, ignore_errors=True)
            raise
        return cls(engine, Files(root))

    @classmethod
    def open(cls, settings: Settings, *, any_revision: bool = False) -> Store:
        """Open the store at ``settings.store``.

        Raises:
            StoreError: there is none.
            RevisionError: its revision is not the one this gandb works with.
        """
        target = _target(settings)
        engine = connect(target, settings.lock_timeout)
        if not engine.exists():
            raise StoreError(
                f"there is no store at {engine.describe()}; create one with: gandb init {target}"
            )
        with _translated(engine), engine.reading() as connection:
            if not any_revision:
                revisions.require_head(connection, engine.describe())
            elif revisions.current(connection) is None:
                raise StoreError(f"{engine.describe()} holds no gandb store")
            row = connection.execute(
                sa.select(setting.c.value).where(setting.c.key == _BLOBS_SETTING)
            ).first()
        return cls(engine, Files(row[0] if row else _own_root(engine) or _default_root(engine)))

    # --- transactions --------------------------------------------------------------------

    @contextmanager
    def write(self, *, alone: bool = True) -> Iterator[Transaction]:
        """Run one write transaction; it is committed at the end, or nothing of it remains.

        Args:
            alone: keep other merges out. Short bookkeeping on single rows does not need it.
        """
        with _translated(self.engine), self.engine.writing(alone=alone) as connection:
            yield Transaction(connection)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Run statements on one consistent, read-only state."""
        with _translated(self.engine), self.engine.reading() as connection:
            yield connection

    @contextmanager
    def read_only(self) -> Iterator[Any]:
        """Yield the raw driver connection (duckdb or psycopg) for reading."""
        with self.read() as connection:
            driver: Any = connection.connection.driver_connection
            if isinstance(self.engine, DuckDBEngine):
                driver = driver.cursor()._CursorWrapper__c  # the connection under the wrapper
            yield driver


@contextmanager
def _translated(engine: DuckDBEngine | PostgresEngine) -> Iterator[None]:
    """Turn the driver's failures of the database itself into a `StoreError`."""
    try:
        yield
    except GandbError:
        raise
    except sa.exc.OperationalError as error:
        raise StoreError(_in_one_line(engine, error.orig)) from error
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated or _is_disk_failure(error.orig):
            raise StoreError(_in_one_line(engine, error.orig)) from error
        raise
    except Exception as error:
        if _is_disk_failure(error):
            raise StoreError(_in_one_line(engine, error)) from error
        raise


def _is_disk_failure(error: BaseException | None) -> bool:
    module = type(error).__module__
    return ("duckdb" in module and type(error).__name__ in {"IOException", "FatalException"}) or (
        isinstance(error, OSError) and error.filename is None and error.errno is not None
    )


def _in_one_line(engine: DuckDBEngine | PostgresEngine, error: BaseException | None) -> str:
    reason = " ".join(str(error).split())
    return (
        f"the database at {engine.describe()} failed: {reason}; "
        "the transaction was taken back, so the store is as it was before"
    )


def _target(settings: Settings) -> str:
    if not settings.store:
        raise StoreError("no store is named: give --store PATH|URL, or set GANDB_STORE")
    return settings.store


def _make_directory(engine: DuckDBEngine) -> None:
    directory = engine.directory
    if directory.exists() and not directory.is_dir():
        raise StoreError(f"{directory} is a file; a store is a directory")
    if directory.is_dir() and not engine.exists() and any(directory.iterdir()):
        raise StoreError(f"{directory} is not empty and holds no store; name a new directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make {directory}: {error.strerror}") from error


def _own_root(engine: DuckDBEngine | PostgresEngine) -> str | None:
    return str(engine.directory) if isinstance(engine, DuckDBEngine) else None


def _default_root(engine: DuckDBEngine | PostgresEngine) -> str:
    own = _own_root(engine)
    if own:
        return own
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return str(Path(home) / "gandb" / quote(engine.describe().split("@")[-1], safe="-._"))
