"""Run one SQL statement of a user's, read-only and sandboxed, and stream its rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import pyarrow as pa

from gandb.core.errors import QueryError
from gandb.query.calls import checked
from gandb.query.result import Column, Limits, ReadableStore, Result
from gandb.query.supervisor import QueryTimeoutError, Supervisor

_DEFAULT_LIMITS = Limits()


class _Reader(Protocol):
    """One engine's way to run a statement; every method but `cancel` runs in one thread."""

    @property
    def failures(self) -> tuple[type[Exception], ...]: ...

    def cancel(self) -> None: ...

    def start(self, statement: str) -> tuple[tuple[Column, ...], pa.Schema, bool]: ...

    def next_batch(self) -> pa.RecordBatch | None: ...

    def explain(self, error: Exception, statement: str) -> QueryError: ...

    def close(self) -> None: ...


@contextmanager
def run(store: ReadableStore, statement: str, limits: Limits = _DEFAULT_LIMITS) -> Iterator[Result]:
    """Execute one statement and yield its result; rows are fetched as they are read.

    The store stays open for reading until the block ends, so leave it soon. Ctrl-C inside the
    block cancels the query and is raised as KeyboardInterrupt.

    Args:
        store: where to read.
        statement: SELECT, WITH, VALUES or EXPLAIN; on DuckDB also FROM, DESCRIBE, SHOW, SUMMARIZE.
        limits: time, memory, threads.

    Raises:
        QueryError: the statement is refused, fails, or takes longer than allowed.
    """
    statement = checked(statement)
    with store.read_only() as connection:
        reader = _reader(connection, store.kind, limits)
        try:
            with Supervisor(reader.cancel, limits.timeout) as supervisor:
                with _diagnosed(reader, statement):
                    columns, schema, plan = supervisor.call(lambda: reader.start(statement))
                yield Result(columns, schema, _batches(reader, supervisor, statement), plan)
        finally:
            reader.close()


def _reader(connection: Any, kind: str, limits: Limits) -> _Reader:
    """Choose the engine; a store on one engine does not load the other's driver."""
    if kind == "duckdb":
        from gandb.query.duckdb_reader import DuckDBReader

        return DuckDBReader(connection, limits)
    from gandb.query.postgres_reader import PostgresReader

    return PostgresReader(connection, limits)


def _batches(reader: _Reader, supervisor: Supervisor, statement: str) -> Iterator[pa.RecordBatch]:
    while True:
        with _diagnosed(reader, statement):
            batch = supervisor.call(reader.next_batch)
        if batch is None:
            return
        if batch.num_rows:
            yield batch


@contextmanager
def _diagnosed(reader: _Reader, statement: str) -> Iterator[None]:
    """Turn an engine's failure into a QueryError."""
    try:
        yield
    except QueryTimeoutError as error:
        raise QueryError(
            f"the query was {error}: narrow it down or give it more (--timeout)"
        ) from error
    except reader.failures as error:
        raise reader.explain(error, statement) from error
