"""A query's result as a stream of Arrow record batches, and the limits it runs under."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa


class ReadableStore(Protocol):
    """What this package needs of a store.

    Attributes:
        kind: ``"duckdb"`` or ``"postgres"``.
    """

    @property
    def kind(self) -> str:
        """Name the engine."""
        ...

    def read_only(self) -> AbstractContextManager[Any]:
        """Open a driver connection for one transaction of reading.

        It is a ``duckdb.DuckDBPyConnection`` or a ``psycopg.Connection``, closed on exit.
        """
        ...


@dataclass(frozen=True)
class Limits:
    """What one query may use.

    Attributes:
        timeout: seconds from the start to the last row; None for no limit.
        memory: DuckDB's memory, in its notation; what does not fit spills to disk.
        spill: disk space for that, in the same notation.
        threads: DuckDB's threads; None for one per core.
        batch_rows: rows per record batch.
    """

    timeout: float | None = None
    memory: str = "2GB"
    spill: str = "20GB"
    threads: int | None = None
    batch_rows: int = 20_000


@dataclass(frozen=True)
class Column:
    """A column of a result: its name, unique in the result, and its SQL type."""

    name: str
    type: str


@dataclass
class Result:
    """Rows on their way from the store; read them once, inside `gandb.query.readonly.run`.

    Attributes:
        columns: names and SQL types, in order.
        schema: the same as an Arrow schema; identifiers (UUID) are text.
        batches: the rows.
        plan: True for EXPLAIN, whose rows are lines of a plan.
    """

    columns: tuple[Column, ...]
    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    plan: bool = False

    def reader(self) -> pa.RecordBatchReader:
        """Return the rows in Arrow's own interface."""
        return pa.RecordBatchReader.from_batches(self.schema, self.batches)


def unique_names(names: Iterable[str]) -> list[str]:
    """Number repeated names, as in ``id, id_1``: files and data frames need them distinct."""
    seen: set[str] = set()
    unique = []
    for name in names:
        candidate, number = name, 0
        while candidate in seen:
            number += 1
            candidate = f"{name}_{number}"
        seen.add(candidate)
        unique.append(candidate)
    return unique
