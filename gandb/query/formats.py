"""Write a result as CSV, JSON, JSON lines, Parquet or Markdown, a batch at a time."""

from __future__ import annotations

import contextlib
import gzip
import secrets
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import IO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from gandb.core.errors import GandbError, UsageError
from gandb.query import cells
from gandb.query.result import Result
from gandb.query.values import plain

_ROW_GROUP = 131_072  # rows gathered for one row group of a Parquet file


class ByteSink(Protocol):
    """What takes bytes: an open file, a pipe, a compressor."""

    def write(self, data: bytes, /) -> int:
        """Take them all."""
        ...


class FileFormat(StrEnum):
    """The formats of files and pipes."""

    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"
    MARKDOWN = "md"


def format_of(path: Path) -> FileFormat | None:
    """Guess the format from a file's name, ``.gz`` aside; None if it says nothing."""
    name = path.name.lower().removesuffix(".gz")
    ending = name.rpartition(".")[2] if "." in name else ""
    aliases = {"ndjson": "jsonl", "pq": "parquet", "markdown": "md"}
    ending = aliases.get(ending, ending)
    return FileFormat(ending) if ending in set(FileFormat) else None


def save(result: Result, path: Path, file_format: FileFormat) -> int:
    """Write all rows to a file that appears only when it is complete.

    A name that ends in ``.gz`` is compressed. A device or pipe is written to directly.

    Args:
        result: the rows.
        path: the file; one that exists is replaced.
        file_format: how to write them.

    Returns:
        The number of rows.

    Raises:
        GandbError: the file cannot be written.
        UsageError: Parquet with ``.gz``, which Parquet readers do not open.
    """
    compressed = path.name.lower().endswith(".gz")
    if compressed and file_format is FileFormat.PARQUET:
        raise UsageError(f"{path}: Parquet is compressed already; leave out .gz")
    try:
        with _replacing(path) as raw:
            if not compressed:
                return stream(result, raw, file_format)
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as out:
                return stream(result, out, file_format)
    except OSError as error:
        raise GandbError(f"cannot write {path}: {error.strerror or error}") from error


def stream(result: Result, out: ByteSink, file_format: FileFormat) -> int:
    """Write all rows to an open binary stream and return their number."""
    return _WRITERS[file_format](result, out)


def _write_csv(result: Result, out: ByteSink) -> int:
    out.write(cells.csv_header(result.schema.names).encode())
    rows = 0
    for batch in result.batches:
        out.write(cells.csv_lines(batch))
        rows += batch.num_rows
    return rows


def _write_jsonl(result: Result, out: ByteSink) -> int:
    rows = 0
    for batch in result.batches:
        out.write(cells.json_lines(batch))
        rows += batch.num_rows
    return rows


def _write_json(result: Result, out: ByteSink) -> int:
    rows = 0
    out.write(b"[")
    for batch in result.batches:
        text = cells.json_lines(batch, prefix=",\n", suffix="").to_pybytes()
        out.write(text if rows else text[1:])
        rows += batch.num_rows
    out.write(b"\n]\n")
    return rows


def _write_markdown(result: Result, out: ByteSink) -> int:
    names = [column.name for column in result.columns]
    out.write(_markdown_row(names) + _markdown_row(["---"] * len(names)))
    rows = 0
    for batch in result.batches:
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            out.write(_markdown_row([plain(value) for value in row]))
        rows += batch.num_rows
    return rows


def _markdown_row(fields: list[str]) -> bytes:
    escaped = (field.replace("\\", "\\\\").replace("|", "\\|") for field in fields)
    return f"| {' | '.join(escaped)} |\n".encode()


def _write_parquet(result: Result, out: ByteSink) -> int:
    rows = 0
    try:
        with pq.ParquetWriter(out, result.schema, compression="zstd") as writer:
            for table in _row_groups(result):
                writer.write_table(table)
                rows += table.num_rows
    except pa.ArrowNotImplementedError as error:
        raise UsageError(f"Parquet has no such type: {error}; cast the column to text") from error
    return rows


def _row_groups(result: Result) -> Iterator[pa.Table]:
    gathered: list[pa.RecordBatch] = []
    rows = 0
    for batch in result.batches:
        gathered.append(batch)
        rows += batch.num_rows
        if rows >= _ROW_GROUP:
            yield pa.Table.from_batches(gathered, schema=result.schema)
            gathered, rows = [], 0
    if gathered:
        yield pa.Table.from_batches(gathered, schema=result.schema)


_WRITERS: dict[FileFormat, Callable[[Result, ByteSink], int]] = {
    FileFormat.CSV: _write_csv,
    FileFormat.JSON: _write_json,
    FileFormat.JSONL: _write_jsonl,
    FileFormat.PARQUET: _write_parquet,
    FileFormat.MARKDOWN: _write_markdown,
}


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes its name only if all goes well."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        with path.open("wb") as out:
            yield out
        return
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as out:
            yield out
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
