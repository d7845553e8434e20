"""A query's rows as one Arrow table, for Python programs."""

from __future__ import annotations

import pyarrow as pa

from gandb.query.readonly import run
from gandb.query.result import Limits, ReadableStore


def query(store: ReadableStore, statement: str, *, timeout: float | None = None) -> pa.Table:
    """Return all rows of one read-only statement; ``.to_pandas()`` makes a data frame of them.

    Args:
        store: where to read.
        statement: as `gandb.query.readonly.run` takes it.
        timeout: seconds after which it is cancelled.

    Raises:
        QueryError: the statement is refused, fails, or takes too long.
    """
    with run(store, statement, Limits(timeout=timeout)) as result:
        return pa.Table.from_batches(list(result.batches), schema=result.schema)
