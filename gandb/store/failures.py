"""Failures of the database itself, told as what they mean for the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from gandb.core.errors import MemoryLimitError, StoreError

_DRIVERS = frozenset({"duckdb", "_duckdb", "psycopg"})
_FAILURES = frozenset({"OperationalError", "InterfaceError", "FatalException"})
_LOCK_NOT_AVAILABLE = "55P03"
_MEMORY = ("out of memory", "memory limit")
"""One of them is in what DuckDB says, whether a statement or the commit ran out of memory."""


@contextmanager
def told(where: str, *, writing: bool, timeout: float) -> Iterator[None]:
    """Turn a full disk, a lost connection and the like into a `StoreError`.

    What the caller does wrong in the block, a malformed statement say, stays what it is.

    Args:
        where: the database, without secrets.
        writing: whether the block may have changed something.
        timeout: seconds that the block waits for locks.

    Raises:
        MemoryLimitError: DuckDB has not enough memory.
        StoreError: the database failed in another way.
    """
    try:
        yield
    except Exception as error:
        failure = _database_failure(error)
        if failure is None:
            raise
        if getattr(failure, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            raise StoreError(
                f"another process has used {where} for {timeout:g} s; "
                "wait for it, or set GANDB_LOCK_TIMEOUT to wait longer"
            ) from error
        after = (
            "; the transaction was taken back, so the store is as it was before" if writing else ""
        )
        text = str(failure).lower()
        kind = MemoryLimitError if any(words in text for words in _MEMORY) else StoreError
        raise kind(f"the database at {where} failed: {in_one_line(failure)}{after}") from error


def in_one_line(error: BaseException) -> str:
    """Return the message of a driver's error without its line breaks."""
    return " ".join(str(error).split())


def _database_failure(error: BaseException) -> BaseException | None:
    """Return the driver's error if the database failed, the first one if it went on failing."""
    found = None
    current: BaseException | None = error
    while current is not None:
        driver = current.orig if isinstance(current, sa.exc.DBAPIError) else current
        if _is_failure(driver):
            found = driver
        elif current is error:
            return None
        current = current.__context__
    return found


def _is_failure(error: BaseException | None) -> bool:
    return any(
        base.__name__ in _FAILURES and base.__module__.partition(".")[0] in _DRIVERS
        for base in type(error).__mro__
    )
