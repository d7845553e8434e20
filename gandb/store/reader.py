"""A store as queries see it: nothing but reading, on one opening of the database for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gandb.core.config import Settings
from gandb.store import failures, revisions
from gandb.store.engines import existing


class StoreReader:
    """What `gandb.query` needs of a store. Opening a large DuckDB file takes 10 ms: once is enough.

    Args:
        settings: where, and how long to wait for others.

    Raises:
        StoreError: there is no store.
    """

    def __init__(self, settings: Settings) -> None:
        self._engine = existing(settings)
        self._timeout = settings.lock_timeout

    @property
    def kind(self) -> str:
        """``duckdb`` or ``postgres``."""
        return self._engine.kind

    @contextmanager
    def read_only(self) -> Iterator[Any]:
        """Yield the driver's connection (duckdb or psycopg) for one transaction of reading.

        Raises:
            StoreError: there is no store, it failed, or others held it for too long.
            RevisionError: its revision is not the one this gandb works with.
        """
        where = self._engine.describe()
        told = failures.told(where, writing=False, timeout=self._timeout)
        with told, self._engine.reading_raw() as connection:
            revisions.require_head_on(connection, where)
            yield connection
