"""The staged merge: how rows enter a table in bulk.

Of an Arrow batch, those rows go in whose key the table does not hold yet. Redoing it changes
nothing. The keys alone are joined with the table, to learn which are new. On DuckDB both steps read
Arrow's memory; on PostgreSQL the keys are staged and the new rows go in by one COPY, sorted by key,
so that neighbours meet the same pages of index and parent.

Many rows come in pieces, of which one is held at a time. On DuckDB all of them go in by one
statement: it writes row groups of 122,880 rows to the file as they fill up, but what several
smaller statements insert stays in memory, each in segments of its own, until the commit.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from gandb.core.errors import InputError
from gandb.store.bulk import copy_in, copy_out
from gandb.store.loading import loading

_ORDINAL = "ordinal_"

Pieces = Callable[[], Iterable[pa.Table]]
"""Gives rows piece by piece, the same ones whenever it is called."""


class Merger:
    """Merges Arrow tables into a store's tables inside one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._duckdb = connection.dialect.name == "duckdb"
        self._quote = connection.dialect.identifier_preparer.quote

    def merge(self, table: sa.Table, rows: pa.Table) -> int:
        """Insert the rows whose primary key is new; return how many.

        Args:
            table: where they go.
            rows: one column per table column (absent ones become null); ids as Arrow UUIDs. A key
                occurs once in ``rows``; PostgreSQL refuses doubles, DuckDB does not look.

        Raises:
            InputError: a text holds a NUL character, which PostgreSQL cannot keep.
        """
        new = self.absent(table, rows)
        if not new.all():
            rows = rows.filter(pa.array(new))
        self.append(table, rows)
        return int(rows.num_rows)

    def merge_all(self, table: sa.Table, pieces: Pieces) -> int:
        """Do the same with more rows than memory should hold; return how many were new.

        Args:
            table: where they go.
            pieces: the rows; their keys are read first, and then, once more, all of them. A key
                may occur again: its first row goes in.

        Raises:
            InputError: a text holds a NUL character, which PostgreSQL cannot keep.
        """
        new = self.fresh(table, pieces())
        self.append_all(table, int(new.sum()), chosen(pieces(), new))
        return int(new.sum())

    def fresh(self, table: sa.Table, pieces: Iterable[pa.Table]) -> np.ndarray:
        """Say of each row whether it is the first with a key that the table lacks; bool (n,).

        Args:
            table: where to look.
            pieces: its key columns, and maybe others; n rows in all.
        """
        names = [c.name for c in table.primary_key.columns]
        found = [piece.select(names) for piece in pieces if piece.num_rows]
        if not found:
            return np.zeros(0, np.bool_)
        keys = pa.concat_tables(found)
        new = self.absent(table, keys)
        plain = pa.table({k: _storage(keys.column(k)) for k in names})
        ordinals = plain.append_column(_ORDINAL, pa.array(np.arange(keys.num_rows)))
        firsts = ordinals.group_by(names, use_threads=False).aggregate([(_ORDINAL, "min")])
        first = np.zeros(keys.num_rows, np.bool_)
        first[firsts.column(f"{_ORDINAL}_min").to_numpy()] = True
        return new & first

    def absent(self, table: sa.Table, rows: pa.Table) -> np.ndarray:
        """Say of each row whether the table lacks its primary key; bool (n,).

        Args:
            table: where to look.
            rows: its key columns, and maybe others.
        """
        name = self._quote(table.name)
        if not rows.num_rows or not self._filled(table):
            return np.ones(rows.num_rows, np.bool_)
        keys = [c.name for c in table.primary_key.columns]
        staged = rows.select(keys).append_column(_ORDINAL, pa.array(np.arange(rows.num_rows)))
        same = " AND ".join(f"t.{k} = s.{k}" for k in map(self._quote, keys))
        query = (
            f"SELECT s.{_ORDINAL} FROM {{stage}} AS s "
            f"WHERE NOT EXISTS (SELECT 1 FROM {name} AS t WHERE {same})"
        )
        if self._duckdb:
            driver: Any = self._connection.connection.driver_connection
            with self._registered(staged.schema, [staged]) as arrow:
                found = driver.execute(query.format(stage=arrow)).fetchnumpy()[_ORDINAL]
        else:
            types = {c: table.c[c].type for c in keys} | {_ORDINAL: sa.BigInteger()}
            stage = self._stage(staged, types)
            schema = pa.schema([(_ORDINAL, pa.int64())])
            rows_found = copy_out(self._connection, query.format(stage=stage), schema)
            found = rows_found.column(0).to_numpy()
            self.unstage(stage)
        new = np.zeros(rows.num_rows, np.bool_)
        new[found] = True
        return new

    def append(self, table: sa.Table, rows: pa.Table) -> None:
        """Insert rows whose primary keys the table is known to lack.

        Args:
            table: where they go.
            rows: as for `merge`.

        Raises:
            InputError: a text holds a NUL character, which PostgreSQL cannot keep.
        """
        self.append_all(table, rows.num_rows, [rows])

    def append_all(self, table: sa.Table, n_rows: int, pieces: Iterable[pa.Table]) -> None:
        """Do the same with rows that come piece by piece.

        Args:
            table: where they go.
            n_rows: about how many there are.
            pieces: the rows, all with the same columns.

        Raises:
            InputError: a text holds a NUL character, which PostgreSQL cannot keep.
        """
        rest = (_without_nul(table, piece) for piece in pieces if piece.num_rows)
        first = next(rest, None)
        if first is None:
            return
        name, checked = self._quote(table.name), chain([first], rest)
        if self._duckdb:
            columns = ", ".join(map(self._quote, first.column_names))
            with self._registered(first.schema, checked) as arrow:
                self._connection.exec_driver_sql(
                    f"INSERT INTO {name} ({columns}) "
                    f"SELECT {self._typed(table, first)} FROM {arrow} AS s"
                )
            return
        del first
        filled = self._filled(table)
        with nullcontext() if filled else loading(self._connection, table.name, n_rows):
            for piece in checked:
                copy_in(self._connection, name, _sorted_by_key(table, piece))

    def _filled(self, table: sa.Table) -> bool:
        query = f"SELECT EXISTS (SELECT 1 FROM {self._quote(table.name)})"
        return bool(self._connection.exec_driver_sql(query).scalar())

    def stage(self, table: sa.Table, rows: pa.Table) -> str:
        """Make ``rows`` a temporary relation with ``table``'s column types; return its name."""
        if self._duckdb:
            return self._stage_duckdb(table, rows)
        return self._stage(rows, {c: table.c[c].type for c in rows.column_names})

    def unstage(self, name: str) -> None:
        """Drop a temporary relation."""
        self._connection.exec_driver_sql(f"DROP TABLE {name}")

    # --- DuckDB --------------------------------------------------------------------------

    def _stage_duckdb(self, table: sa.Table, rows: pa.Table) -> str:
        # A copy: joins push filters on their keys into a scan, and Arrow's takes none on UUIDs.
        name = _new_name()
        with self._registered(rows.schema, [rows]) as arrow:
            self._connection.exec_driver_sql(
                f"CREATE TEMP TABLE {name} AS SELECT {self._typed(table, rows)} FROM {arrow} AS s"
            )
        return name

    @contextmanager
    def _registered(self, schema: pa.Schema, pieces: Iterable[pa.Table]) -> Iterator[str]:
        """Let DuckDB see Arrow's memory under a name, to be read once.

        DuckDB keeps what was registered until the transaction ends, so it is given a reader, which
        lets go of the rows when it has been read, and not the rows.
        """
        driver: Any = self._connection.connection.driver_connection
        name = _new_name()
        failed: list[Exception] = []

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                for piece in pieces:
                    yield from piece.to_batches()
            except Exception as error:
                failed.append(error)  # DuckDB would make a text of it
                raise

        driver.register(name, pa.RecordBatchReader.from_batches(schema, batches()))
        try:
            yield name
        except Exception as error:
            if failed and error is not failed[0]:
                raise failed[0] from error
            raise
        finally:
            driver.unregister(name)

    def _typed(self, table: sa.Table, rows: pa.Table) -> str:
        return ", ".join(
            f"s.{self._quote(c)}"
            + (f"::JSON AS {self._quote(c)}" if isinstance(table.c[c].type, sa.JSON) else "")
            for c in rows.column_names
        )

    # --- PostgreSQL ----------------------------------------------------------------------

    def _stage(self, rows: pa.Table, types: dict[str, Any]) -> str:
        name = _new_name()
        dialect = self._connection.dialect
        columns = ", ".join(f"{self._quote(c)} {t.compile(dialect)}" for c, t in types.items())
        self._connection.exec_driver_sql(f"CREATE TEMP TABLE {name} ({columns}) ON COMMIT DROP")
        copy_in(self._connection, name, rows)
        return name


def _new_name() -> str:
    return f"stage_{uuid.uuid4().hex}"


def _sorted_by_key(table: sa.Table, rows: pa.Table) -> pa.Table:
    keys = [c.name for c in table.primary_key.columns]
    plain = {k: _storage(rows.column(k)) for k in keys}
    order = pc.sort_indices(pa.table(plain), [(k, "ascending") for k in keys])
    return rows.take(order)


def _storage(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return UUIDs as 16 bytes, other columns as they are."""
    if not isinstance(column.type, pa.UuidType):
        return column
    return pa.chunked_array([chunk.storage for chunk in column.chunks], pa.binary(16))


def chosen(pieces: Iterable[pa.Table], mask: np.ndarray) -> Iterator[pa.Table]:
    """Yield the rows of pieces for which ``mask``, bool (n,), is set; n rows in all."""
    begin = 0
    for piece in pieces:
        own = mask[begin : begin + piece.num_rows]
        begin += piece.num_rows
        yield piece if own.all() else piece.filter(pa.array(own))


def _without_nul(table: sa.Table, rows: pa.Table) -> pa.Table:
    for name in rows.column_names:
        column = rows.column(name)
        if not pa.types.is_string(column.type):
            continue
        nul = "\\u0000" if isinstance(table.c[name].type, sa.JSON) else "\x00"
        if pc.any(pc.match_substring(column, nul)).as_py():
            row = pc.index(pc.match_substring(column, nul), True).as_py()
            raise InputError(
                f"{table.name}.{name}: {column[row].as_py()[:80]!r} holds a NUL character, which "
                "PostgreSQL cannot keep; remove it"
            )
    return rows
