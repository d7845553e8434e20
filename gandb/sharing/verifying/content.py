"""Is what a bundle says what its ids say? Its content is worked out again and compared.

`gandb.sharing.bundles.bundle` has checked the form of the files. Here every id is taken from its
content again, every copy from what it copies, every reference must lead to a row of the bundle, and
every value must be one that gandb could have written. What nobody can work out again (a symmetry, a
comparison, a metric) is what its group states, and is kept as that.

Rows are read a row group at a time; where there are many, by several processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gandb.core.errors import InputError
from gandb.core.pool import Pool, default_processes
from gandb.query.values import printable
from gandb.sharing.bundles.bundle import TABLES, Bundle, BundleTable
from gandb.sharing.verifying.graph import verify_graph
from gandb.sharing.verifying.records import RECORD_CHECKS
from gandb.sharing.verifying.relations import verify_relations
from gandb.sharing.verifying.values import FlawError, check_order, check_values, first_and_last

FEW = 20_000
"""Up to so many rows, other processes are not worth their start."""

Progress = Callable[[int], None]
"""Is told how many more rows have been checked."""


def verify_content(bundle: Bundle, progress: Progress | None = None) -> None:
    """Check all rows of a bundle whose form has been checked.

    Args:
        bundle: as `gandb.sharing.bundles.bundle.open_bundle` yields it.
        progress: is told how many more rows have been checked.

    Raises:
        InputError: something in it is not what it says; names the file, the row and why.
    """
    _verify_pieces(bundle, progress or (lambda _: None))
    verify_graph(bundle)
    verify_relations(bundle)


def pieces(bundle: Bundle, name: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Yield a table of a bundle, a row group at a time.

    Raises:
        InputError: it cannot be read.
    """
    path, where = bundle.tables[name], location(bundle, name)
    with _readable(where), pq.ParquetFile(path) as file:
        groups = file.num_row_groups
    for group in range(groups):
        yield read_group(str(path), where, group, columns)


def table_of(bundle: Bundle, name: str, columns: list[str] | None = None) -> pa.Table:
    """Return a whole table of a bundle; for small ones."""
    found = list(pieces(bundle, name, columns))
    schema = next(t for t in TABLES if t.name == name).schema
    if columns is not None:
        schema = pa.schema([schema.field(c) for c in columns])
    return pa.concat_tables(found) if found else schema.empty_table()


def location(bundle: Bundle, name: str) -> str:
    """Say where a table is, for messages."""
    return f"{bundle.path}: tables/{name}.parquet"


def read_group(path: str, where: str, group: int, columns: list[str] | None = None) -> pa.Table:
    """Read one row group.

    Raises:
        InputError: it cannot be read.
    """
    with _readable(where), pq.ParquetFile(path) as file:
        table: pa.Table = file.read_row_group(group, columns=columns, use_threads=False)
        table.validate(full=True)
        return table


class _readable:  # noqa: N801 - reads as a statement
    """Turn what Arrow says of damaged data into what gandb's users are told."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, _: object) -> None:
        if isinstance(error, (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError)):
            raise InputError(
                f"{self._where} cannot be read: {printable(str(error).strip())}"
            ) from error


# --- rows, a row group at a time ---------------------------------------------------------


@dataclass(frozen=True)
class _Work:
    """Checks one row group of a table; it is sent to other processes.

    Attributes:
        places: path and location by table.
    """

    places: dict[str, tuple[str, str]]

    def __call__(self, item: tuple[str, int, int]) -> tuple[str, int, int, Any]:
        """Return the table, the first row and their number, and the first and last keys."""
        name, group, begin = item
        path, where = self.places[name]
        table = next(t for t in TABLES if t.name == name)
        rows = read_group(path, where, group)
        try:
            check_values(table, rows)
            check_order(table.key, rows)
            if (check := RECORD_CHECKS.get(name)) is not None:
                check(rows)
        except FlawError as flaw:
            raise InputError(flaw.told(where, begin)) from flaw
        return name, begin, rows.num_rows, first_and_last(table.key, rows)


def _verify_pieces(bundle: Bundle, progress: Progress) -> None:
    items: list[tuple[str, int, int]] = []
    for table in TABLES:
        begin = 0
        with (
            _readable(location(bundle, table.name)),
            pq.ParquetFile(bundle.tables[table.name]) as file,
        ):
            for group in range(file.num_row_groups):
                items.append((table.name, group, begin))
                begin += file.metadata.row_group(group).num_rows
    total = sum(bundle.rows(t.name) for t in TABLES)
    places = {t.name: (str(bundle.tables[t.name]), location(bundle, t.name)) for t in TABLES}
    last: dict[str, Any] = {}
    with Pool(_Work(places), default_processes() if total > FEW else 0) as pool:
        for name, begin, rows, (first, end) in pool.map(items):
            if name in last and not last[name] < first:
                raise InputError(
                    f"{location(bundle, name)}: row {begin + 1} does not come after the one before "
                    "it: rows are sorted by their key, and each is there once"
                )
            last[name] = end
            progress(rows)


def table_named(name: str) -> BundleTable:
    """Return what bundles hold under a name."""
    return next(t for t in TABLES if t.name == name)
