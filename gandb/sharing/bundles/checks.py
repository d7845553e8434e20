"""What a Parquet file of others must be before its rows are read.

A few kilobytes of Parquet can stand for terabytes: pages compress, dictionaries repeat long values,
row groups share bytes, and what a footer states need not be so. So the footer is compared with the
exact schema and with bounds; then every page's own header is read, and must agree with the footer
in sizes and counts; and what dictionaries repeat is added up before it is written out. Only what
gandb writes is let through: PLAIN and dictionary encoding, ZSTD or none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gandb.core.errors import InputError
from gandb.query.values import printable
from gandb.sharing.bundles.page_headers import DATA_PAGE, DICTIONARY_PAGE, PageError, page_headers
from gandb.sharing.portable import GROUP_ROWS, LEAST_GROUP_ROWS

LARGEST_GROUP = 512 << 20
"""Bytes of a row group, written out."""
LARGEST_TEXT = 64 << 20
MOST_VALUES = 1 << 26
"""Values of a list column in one row group."""
_LARGEST_FOOTER = 64 << 20
_ENCODINGS = frozenset({"PLAIN", "RLE", "RLE_DICTIONARY", "PLAIN_DICTIONARY"})
_DICTIONARIES = frozenset({"RLE_DICTIONARY", "PLAIN_DICTIONARY"})
_CODECS = frozenset({"ZSTD", "UNCOMPRESSED"})


def check_parquet(path: Path, where: str, schema: pa.Schema, rows: int) -> None:
    """Check a table's file without writing its rows out.

    Args:
        path: the file.
        where: how to call it.
        schema: what it must have, exactly.
        rows: how many rows it must have.

    Raises:
        InputError: it is not so; says what is wrong.
    """
    try:
        with _opened(path) as file:
            _check_footer(file, path.stat().st_size, where, schema, rows)
            _check_pages(path, file.metadata, where)
        _check_dictionaries(path, where)
    except (pa.ArrowException, OSError, PageError, ValueError) as error:
        raise InputError(
            f"{where} cannot be read as Parquet: {printable(str(error).strip())}"
        ) from error


def _opened(path: Path, dictionaries: list[str] | None = None) -> pq.ParquetFile:
    return pq.ParquetFile(
        path,
        read_dictionary=dictionaries,
        thrift_string_size_limit=_LARGEST_FOOTER,
        thrift_container_size_limit=1_000_000,
        arrow_extensions_enabled=False,
    )


def _check_footer(
    file: pq.ParquetFile, size: int, where: str, schema: pa.Schema, rows: int
) -> None:
    metadata = file.metadata
    if not file.schema_arrow.equals(schema):
        raise InputError(
            f"{where} has other columns than it should: {_first(file.schema_arrow, schema)}"
        )
    if metadata.metadata:
        raise InputError(f"{where} has metadata of its own, which a bundle's tables have not")
    if metadata.num_rows != rows:
        raise InputError(f"{where} has {metadata.num_rows:,} rows, the manifest says {rows:,}")
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    counts = [group.num_rows for group in groups]
    small = any(n < LEAST_GROUP_ROWS for n in counts[:-1]) or any(n < 1 for n in counts)
    if sum(counts) != rows or small or any(n > GROUP_ROWS for n in counts):
        raise InputError(
            f"{where} has row groups of {counts[:5]} rows; they add up to {rows:,}, and have "
            f"{LEAST_GROUP_ROWS:,} to {GROUP_ROWS:,} rows, the last one fewer"
        )
    compressed = 0
    for group in groups:
        chunks = [group.column(i) for i in range(group.num_columns)]
        compressed += sum(c.total_compressed_size for c in chunks)
        if not 0 <= sum(c.total_uncompressed_size for c in chunks) <= LARGEST_GROUP:
            raise InputError(f"{where} has a row group of more than {LARGEST_GROUP:,} bytes")
        for chunk in chunks:
            _check_chunk(chunk, group.num_rows, where)
    if compressed > size:
        raise InputError(f"{where}: its columns say that they are larger than the file")


def _check_chunk(chunk: Any, rows: int, where: str) -> None:
    name = chunk.path_in_schema
    if chunk.file_path:
        raise InputError(f"{where}: column {name} is said to lie in another file")
    if chunk.compression not in _CODECS or not set(chunk.encodings) <= _ENCODINGS:
        raise InputError(
            f"{where}: column {name} is written as {', '.join(chunk.encodings)} with "
            f"{chunk.compression}; a bundle's are PLAIN or dictionaries with ZSTD"
        )
    if min(chunk.total_compressed_size, chunk.total_uncompressed_size, chunk.num_values) < 0:
        raise InputError(f"{where}: column {name} has a size below zero")
    listed = "." in name
    if chunk.num_values > MOST_VALUES if listed else chunk.num_values != rows:
        raise InputError(
            f"{where}: column {name} has {chunk.num_values:,} values in a row group of {rows:,}"
        )


def _check_pages(path: Path, metadata: Any, where: str) -> None:
    """Compare the headers of all pages with what the footer says of their columns."""
    with path.open("rb") as handle:
        for i in range(metadata.num_row_groups):
            group = metadata.row_group(i)
            for j in range(group.num_columns):
                chunk = group.column(j)
                begin = chunk.data_page_offset
                if chunk.has_dictionary_page and chunk.dictionary_page_offset:
                    begin = min(begin, chunk.dictionary_page_offset)
                values = size = dictionaries = 0
                for page in page_headers(handle, begin, chunk.total_compressed_size):
                    size += page.header_size + page.uncompressed_size
                    if page.kind == DATA_PAGE:
                        values += page.n_values
                    elif page.kind == DICTIONARY_PAGE and not dictionaries and not values:
                        dictionaries += 1
                    else:
                        raise InputError(
                            f"{where}: column {chunk.path_in_schema} has a page of kind "
                            f"{page.kind} where none belongs"
                        )
                if (values, size) != (chunk.num_values, chunk.total_uncompressed_size):
                    raise InputError(
                        f"{where}: the pages of column {chunk.path_in_schema} have {values:,} "
                        f"values in {size:,} bytes; the footer says {chunk.num_values:,} in "
                        f"{chunk.total_uncompressed_size:,}"
                    )


def _check_dictionaries(path: Path, where: str) -> None:
    """Add up what texts of dictionaries come to when they are written out."""
    with _opened(path) as file:
        metadata = file.metadata
        texts = {
            metadata.row_group(i).column(j).path_in_schema
            for i in range(metadata.num_row_groups)
            for j in range(metadata.num_columns)
            if metadata.row_group(i).column(j).physical_type == "BYTE_ARRAY"
            and _DICTIONARIES & set(metadata.row_group(i).column(j).encodings)
        }
    if not texts:
        return
    names = sorted(texts)
    with _opened(path, names) as file:
        for i in range(file.metadata.num_row_groups):
            written = 0
            for name in names:
                column = file.read_row_group(i, columns=[name]).column(0).combine_chunks()
                written += _written_size(column, f"{where}: column {name}")
            if written > LARGEST_GROUP:
                raise InputError(
                    f"{where} has a row group whose texts come to {written:,} bytes, more than "
                    f"{LARGEST_GROUP:,}"
                )


def _written_size(column: pa.Array, where: str) -> int:
    if isinstance(column, pa.ChunkedArray):
        return sum(_written_size(chunk, where) for chunk in column.chunks)
    if pa.types.is_list(column.type):
        column = column.flatten()
    if not pa.types.is_dictionary(column.type):
        return int(pc.sum(pc.binary_length(column)).as_py() or 0)
    lengths = pc.binary_length(column.dictionary)
    if len(lengths) and (pc.max(lengths).as_py() or 0) > LARGEST_TEXT:
        raise InputError(f"{where} has a text of more than {LARGEST_TEXT:,} bytes")
    taken = lengths.cast(pa.int64()).take(column.indices)
    return int(pc.sum(taken).as_py() or 0)


def _first(found: pa.Schema, wanted: pa.Schema) -> str:
    """Say where two schemas differ first."""
    for have, need in zip(found, wanted, strict=False):
        if not have.equals(need):
            return f"{_told(have)} in place of {_told(need)}"
    return f"{len(found)} in place of {len(wanted)}"


def _told(column: pa.Field) -> str:
    return f"{column.name[:80]!a} {str(column.type)[:80]}" + (
        "" if column.nullable else " not null"
    )
