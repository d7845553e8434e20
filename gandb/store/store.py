"""A store: its database, its files, and the transactions on them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from gandb.core.config import Settings
from gandb.core.errors import StoreError
from gandb.schema.tables import setting
from gandb.store import failures, revisions
from gandb.store.engines import Engine, chosen, existing
from gandb.store.files import Files
from gandb.store.transaction import Transaction

_BLOBS_SETTING = "blobs"


class Store:
    """A gandb store, opened by `Store.open` or made by `Store.create`.

    It holds nothing open between transactions, so it needs no closing and may be used by several
    threads; each transaction belongs to one.

    Attributes:
        engine: the database.
        files: blobs and work in progress.
    """

    def __init__(self, engine: Engine, files: Files, lock_timeout: float) -> None:
        self.engine = engine
        self._timeout = lock_timeout
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
        """Make a new store at ``settings.store``; if that fails, nothing is left of it.

        Args:
            settings: where, and how long to wait for others.
            blobs: folder or fsspec URL for blobs; by default the store directory itself, or for
                PostgreSQL a folder in the user's data home.

        Raises:
            StoreError: there is a store already, or the place cannot be used.
        """
        engine = chosen(settings)
        root = blobs or engine.own_root or _data_home(engine)
        if "://" not in root:
            root = str(Path(root).expanduser().resolve())
        store = cls(engine, Files(root), settings.lock_timeout)
        with store._told(writing=True), engine.creating() as connection:
            revisions.upgrade(connection)
            if root != engine.own_root:
                connection.execute(setting.insert(), {"key": _BLOBS_SETTING, "value": root})
        return store

    @classmethod
    def open(cls, settings: Settings, *, any_revision: bool = False) -> Store:
        """Open the store at ``settings.store``.

        Raises:
            StoreError: there is none.
            RevisionError: its revision is not the one this gandb works with.
        """
        engine = existing(settings)
        where = engine.describe()
        told = failures.told(where, writing=False, timeout=settings.lock_timeout)
        with told, engine.reading() as connection:
            if not any_revision:
                revisions.require_head(connection, where)
            elif revisions.current(connection) is None:
                raise StoreError(f"{where} holds no gandb store")
            row = connection.execute(
                sa.select(setting.c.value).where(setting.c.key == _BLOBS_SETTING)
            ).first()
        root = row[0] if row else engine.own_root or _data_home(engine)
        return cls(engine, Files(root), settings.lock_timeout)

    # --- transactions --------------------------------------------------------------------

    @contextmanager
    def write(self, *, alone: bool = True) -> Iterator[Transaction]:
        """Run one write transaction; it is committed at the end, or nothing of it remains.

        Args:
            alone: keep other merges out. Short bookkeeping on single rows does not need it.

        Raises:
            StoreError: the database failed, or others held it for too long.
        """
        with self._told(writing=True), self.engine.writing(alone=alone) as connection:
            yield Transaction(connection, alone=alone)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Run statements on one consistent, read-only state.

        Raises:
            StoreError: the database failed, or others held it for too long.
        """
        with self._told(writing=False), self.engine.reading() as connection:
            yield connection

    @contextmanager
    def read_only(self) -> Iterator[Any]:
        """Yield the driver's connection (duckdb or psycopg) for one transaction of reading."""
        with self._told(writing=False), self.engine.reading_raw() as connection:
            yield connection

    def _told(self, *, writing: bool) -> AbstractContextManager[None]:
        return failures.told(self.location, writing=writing, timeout=self._timeout)


def _data_home(engine: Engine) -> str:
    """Return a folder of the user's for the files of a store on a server."""
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return str(Path(home) / "gandb" / quote(engine.describe().split("@")[-1], safe="-._"))
