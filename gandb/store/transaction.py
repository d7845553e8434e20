"""One write transaction: all of it goes in, or none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from gandb.store.merge import Merger, Pieces


class Transaction:
    """What a writer may do until the transaction ends.

    Attributes:
        connection: the SQLAlchemy connection, for small statements.
    """

    def __init__(self, connection: sa.Connection, *, alone: bool) -> None:
        self.connection = connection
        self._alone = alone
        self._merger = Merger(connection)

    def execute(self, statement: Any, parameters: Any = None) -> sa.CursorResult[Any]:
        """Execute one SQLAlchemy statement."""
        return self.connection.execute(statement, parameters)

    def merge(self, table: sa.Table, rows: pa.Table) -> int:
        """Take in the rows whose key is new; return how many (see `Merger.merge`)."""
        self._require_alone(table)
        return self._merger.merge(table, rows)

    def merge_all(self, table: sa.Table, pieces: Pieces) -> int:
        """Do the same with more rows than memory should hold (see `Merger.merge_all`)."""
        self._require_alone(table)
        return self._merger.merge_all(table, pieces)

    def fresh(self, table: sa.Table, pieces: Iterable[pa.Table]) -> np.ndarray:
        """Say of each row if it is the first with a new key, bool (n,) (see `Merger.fresh`)."""
        self._require_alone(table)
        return self._merger.fresh(table, pieces)

    def absent(self, table: sa.Table, rows: pa.Table) -> np.ndarray:
        """Say of each row whether its key is new, bool (n,) (see `Merger.absent`)."""
        self._require_alone(table)
        return self._merger.absent(table, rows)

    def append(self, table: sa.Table, rows: pa.Table) -> None:
        """Insert rows whose keys are known to be new (see `Merger.append`)."""
        self._require_alone(table)
        self._merger.append(table, rows)

    def append_all(self, table: sa.Table, n_rows: int, pieces: Iterable[pa.Table]) -> None:
        """Do the same piece by piece (see `Merger.append_all`)."""
        self._require_alone(table)
        self._merger.append_all(table, n_rows, pieces)

    def limit_memory(self, megabytes: int) -> None:
        """Keep the memory of this transaction's DuckDB below so many MB (1e6 bytes).

        What does not fit goes to disk, inside the store; what cannot, ends the transaction with a
        `MemoryLimitError`. A server looks after its own memory.
        """
        if self.connection.dialect.name == "duckdb":
            self.connection.exec_driver_sql(f"SET memory_limit = '{megabytes}MB'")
            # Each thread fills row groups of its own; with a single one, none is written early.
            self.connection.exec_driver_sql("SET threads = 2")

    def _require_alone(self, table: sa.Table) -> None:
        if not self._alone:
            raise RuntimeError(
                f"rows of {table.name} are merged in a transaction that others may merge beside: "
                "begin it with Store.write(alone=True)"
            )

    def stage(self, table: sa.Table, rows: pa.Table) -> str:
        """Make ``rows`` a temporary relation for statements of this transaction."""
        return self._merger.stage(table, rows)

    def unstage(self, name: str) -> None:
        """Drop a temporary relation."""
        self._merger.unstage(name)

    def insert_new(self, table: sa.Table, row: dict[str, Any]) -> bool:
        """Insert one row unless its key is there; return whether it was new.

        Where others write at the same time, the later of two equal rows waits for the earlier.
        """
        if self.connection.dialect.name == "postgresql":
            keys = list(table.primary_key.columns)
            statement = postgresql.insert(table).on_conflict_do_nothing(index_elements=keys)
            return self.execute(statement.returning(*keys), row).first() is not None
        same = [c == row[c.name] for c in table.primary_key.columns]
        if self.execute(sa.select(sa.literal(1)).select_from(table).where(*same)).first():
            return False
        self.execute(table.insert(), row)
        return True
