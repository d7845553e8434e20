"""The embedded engine: a DuckDB file in the store's directory."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import sqlalchemy as sa
from duckdb_sqlalchemy import ConnectionWrapper
from sqlalchemy.pool import NullPool

from gandb.core.errors import StoreError
from gandb.store.failures import in_one_line
from gandb.store.lock import StoreLock

DUCKDB_FILE = "gandb.duckdb"
_SPILL = ".tmp"
_MAKING = ".making-"
_RETRY_PAUSE = 0.02


class DuckDBEngine:
    """A DuckDB file, opened for one transaction at a time.

    Args:
        directory: the store's.
        lock_timeout: seconds to wait for other processes.
    """

    kind = "duckdb"

    def __init__(self, directory: Path, lock_timeout: float) -> None:
        self.directory = directory
        self.path = directory / DUCKDB_FILE
        self.lock = StoreLock(directory, lock_timeout)
        self._timeout = lock_timeout
        self._writer = self._engine(self.path, read_only=False)
        self._reader = self._engine(self.path, read_only=True)

    @property
    def own_root(self) -> str:
        """The directory: by default it holds the store's files too, and moves with them."""
        return str(self.directory)

    def describe(self) -> str:
        """Return the directory."""
        return str(self.directory)

    def exists(self) -> bool:
        """Say whether the database file is there."""
        return self.path.is_file()

    # --- transactions --------------------------------------------------------------------

    @contextmanager
    def writing(self, *, alone: bool) -> Iterator[sa.Connection]:
        """Hold the store alone, open the file, run one transaction, close the file."""
        del alone  # one writer at a time is all that DuckDB knows
        with self.lock.exclusive(), self._transaction(self._writer) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Share the store with other readers, open the file read-only, close it."""
        with self.lock.shared(), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def reading_raw(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Do the same without SQLAlchemy in between."""
        with self.lock.shared(), self._open(self.path, read_only=True) as connection:
            yield connection

    @contextmanager
    def creating(self) -> Iterator[sa.Connection]:
        """Make the database in a folder of its own and move it into place when it is whole."""
        made = self._make_directory()
        with self.lock.exclusive():
            if self.exists():
                raise StoreError(f"there is a store at {self.directory} already")
            making = self.directory / f"{_MAKING}{uuid.uuid4().hex}"
            try:
                making.mkdir()
                maker = self._engine(making / DUCKDB_FILE, read_only=False)
                with self._transaction(maker) as connection:
                    yield connection
                if left := [p.name for p in making.iterdir() if p.name != DUCKDB_FILE]:
                    raise StoreError(
                        f"cannot make a store in {self.directory}: DuckDB did not write all of it "
                        f"(it left {left[0]}); is the disk full?"
                    )
                (making / DUCKDB_FILE).rename(self.path)
                making.rmdir()
            except BaseException as error:
                shutil.rmtree(making, ignore_errors=True)
                shutil.rmtree(self.directory / _SPILL, ignore_errors=True)
                self.lock.remove()
                for directory in made:
                    with suppress(OSError):  # someone else uses it by now
                        directory.rmdir()
                if isinstance(error, OSError):
                    raise StoreError(f"cannot make a store: {error}") from error
                raise

    # --- how -----------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        with engine.connect() as connection, connection.begin():
            yield connection

    def _engine(self, path: Path, *, read_only: bool) -> sa.Engine:
        def connection() -> ConnectionWrapper:
            return ConnectionWrapper(self._open(path, read_only=read_only))

        return sa.create_engine("duckdb://", creator=connection, poolclass=NullPool)

    def _open(self, path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        """Open the file, waiting for foreign programs that have it open.

        Raises:
            StoreError: such a program does not let go of it, or runs in this very process.
        """
        # Fewer reordering buffers, and spill files stay inside the store.
        settings: dict[str, str | bool | int | float | list[str]] = {
            "preserve_insertion_order": "false",
            "temp_directory": str(self.directory / _SPILL),
        }
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                connection = duckdb.connect(
                    str(path), read_only=read_only, config={} if read_only else settings
                )
            except duckdb.ConnectionException as error:
                raise StoreError(
                    f"this process has {path} open already, past gandb: close that connection "
                    f"first ({in_one_line(error)})"
                ) from error
            except duckdb.IOException as error:
                if "lock on file" not in str(error):
                    raise
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"a program that is not gandb has had {path} open for {self._timeout:g} s: "
                        f"close it there ({in_one_line(error)})"
                    ) from error
                time.sleep(_RETRY_PAUSE)
            else:
                # DuckDB would print a progress bar among the data on stdout.
                connection.execute("SET enable_progress_bar = false")
                return connection

    def _make_directory(self) -> list[Path]:
        """Make the store's directory; return the directories that were made, innermost first."""
        directory = self.directory
        if directory.exists() and not directory.is_dir():
            raise StoreError(f"{directory} is a file; a store is a directory")
        made: list[Path] = []
        try:
            if directory.is_dir():
                if not self.exists() and any(map(_is_foreign, directory.iterdir())):
                    raise StoreError(
                        f"{directory} is not empty and holds no store; name a new directory"
                    )
                return []
            missing = [d for d in (directory, *directory.parents) if not d.exists()]
            for path in reversed(missing):
                path.mkdir(exist_ok=True)
                made.insert(0, path)
        except OSError as error:
            raise StoreError(f"cannot make {directory}: {error.strerror}") from error
        return made


def _is_foreign(path: Path) -> bool:
    """Say whether a file is anything but a leftover of a store that was not finished."""
    return path.name not in StoreLock.files and not path.name.startswith(_MAKING)
