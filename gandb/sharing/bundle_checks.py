"""What a Parquet file of others must be before anything of it is read.

Footers are compared with the exact schema, with the number of rows that the manifest states, and
with bounds on row groups.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gandb.core.errors import InputError

LARGEST_GROUP = 1 << 30
"""Bytes of a row group, decompressed."""
MOST_GROUP_ROWS = 1 << 20
LARGEST_FOOTER = 64 << 20


def check_parquet(path: Path, where: str, schema: pa.Schema, rows: int) -> None:
    """Check a table's file without reading its rows.

    Args:
        path: the file.
        where: how to call it.
        schema: what it must have, exactly.
        rows: how many rows it must have.

    Raises:
        InputError: it is not so.
    """
    try:
        with pq.ParquetFile(
            path,
            thrift_string_size_limit=LARGEST_FOOTER,
            thrift_container_size_limit=1_000_000,
            memory_map=False,
        ) as file:
            found, metadata = file.schema_arrow, file.metadata
            if not found.equals(schema):
                raise InputError(
                    f"{where} has other columns than it should: {_first(found, schema)}"
                )
            if metadata.num_rows != rows:
                raise InputError(f"{where} has {metadata.num_rows} rows, the manifest says {rows}")
            groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
            if sum(g.num_rows for g in groups) != rows:
                raise InputError(f"{where}: its row groups do not add up to {rows} rows")
            for group in groups:
                if not 0 < group.num_rows <= MOST_GROUP_ROWS:
                    raise InputError(f"{where} has a row group of {group.num_rows} rows")
                if not 0 <= group.total_byte_size <= LARGEST_GROUP:
                    raise InputError(f"{where} has a row group of {group.total_byte_size} bytes")
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{where} is no Parquet file that can be read: {error}") from error


def _first(found: pa.Schema, wanted: pa.Schema) -> str:
    for have, need in zip(found, wanted, strict=False):
        if have != need:
            return f"{have} in place of {need}"
    return f"{len(found)} in place of {len(wanted)}"
