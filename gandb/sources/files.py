"""Files of records, read as text columns that remember the line of every row.

CSV and TSV without quotes, blank lines and faults go through Arrow; any other file is read line by
line, so that one bad row costs one row. ``.gz``, ``.bz2`` and ``.zst`` are unpacked on the way.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from gandb.core.errors import InputError
from gandb.sources.base import Reject
from gandb.sources.quantities import reach

MAX_BYTES = 2**31 - 1
"""Most bytes of one file after unpacking."""
MAX_RAW = 1_000
"""Most characters kept of a rejected row."""
MAX_RECORD_LINES = 10_000
"""Most lines that one quoted CSV record may span."""

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class TextTable:
    """n rows of a CSV, TSV or Parquet file.

    Attributes:
        path: the file.
        cells: column name to (n,) strings, or numbers where Parquet has numbers.
        lines: int64 (n,), line of each row.
        rejects: rows that could not be split into these columns.
        raw: gives a row as the file has it.
    """

    path: Path
    cells: dict[str, pa.Array]
    lines: np.ndarray
    rejects: list[Reject]
    raw: Callable[[int], str]

    @property
    def columns(self) -> list[str]:
        """Column names in order."""
        return list(self.cells)

    def has(self, name: str) -> bool:
        """Whether there is a column of this name."""
        return name in self.cells

    def column(self, name: str) -> pa.Array:
        """Return the column (n,)."""
        return self.cells[name]

    def texts(self, name: str) -> pa.StringArray:
        """Return the column (n,) as trimmed strings; empty is null."""
        trimmed = pc.utf8_trim_whitespace(self.cells[name].cast(pa.string()))
        return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)

    def extra(self, names: Sequence[str]) -> list[str | None]:
        """Return the given columns of every row as one JSON object, None where all are empty."""
        columns = [self.cells[name].to_pylist() for name in names]
        rows = zip(*columns, strict=True)
        return [_extra(dict(zip(names, row, strict=True))) for row in rows]


@dataclass(frozen=True)
class RecordTable:
    """n JSON objects.

    Attributes:
        path: the file.
        records: the objects.
        lines: int64 (n,), line of each, or its number from 1 in a JSON array.
        rejects: lines that hold no object.
        raw: gives a record as the file has it.
    """

    path: Path
    records: list[dict[str, Any]]
    lines: np.ndarray
    rejects: list[Reject]
    raw: Callable[[int], str]

    @cached_property
    def columns(self) -> list[str]:
        """Keys of the objects, in order of first appearance."""
        return list(dict.fromkeys(key for record in self.records for key in record))

    def has(self, name: str) -> bool:
        """Whether a record has this key, or a value at this dotted path."""
        if name in self.columns:
            return True
        path = "." in name and name.partition(".")[0] in self.columns
        return path and any(reach(record, name) is not None for record in self.records)

    def column(self, name: str) -> list[Any]:
        """Return the value at a key or dotted path of every record, None where there is none."""
        return [reach(record, name) for record in self.records]

    def texts(self, name: str) -> pa.StringArray:
        """Return the values (n,) as trimmed strings; empty is null."""
        texts = [None if v is None else str(v).strip() or None for v in self.column(name)]
        return pa.array(texts, pa.string())

    def extra(self, names: Sequence[str]) -> list[str | None]:
        """Return the given keys of every record as one JSON object, None where all are empty."""
        chosen = set(names)
        return [_extra({k: v for k, v in r.items() if k in chosen}) for r in self.records]


def read_file(path: Path) -> TextTable | RecordTable:
    """Read a file by the ending of its name.

    Raises:
        InputError: the file cannot be read as what its name says, naming the file.
    """
    suffixes = [s.lower() for s in path.suffixes]
    compression = COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    kind = "".join(suffixes[-2:-1] if compression else suffixes[-1:])
    reader = READERS.get(kind)
    if reader is None:
        raise InputError(
            f"{path}: unknown kind of file; the name must end in {', '.join(READERS)}, "
            f"or one of these and {', '.join(COMPRESSIONS)}"
        )
    return reader(path, _load(path, compression))


# --- bytes -------------------------------------------------------------------------------


def _load(path: Path, compression: str | None) -> bytes:
    try:
        with pa.input_stream(str(path), compression=compression) as stream:
            data = bytes(stream.read(MAX_BYTES + 1))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: more than {MAX_BYTES:,} bytes after unpacking; split it")
    return data


def _clip(text: str) -> str:
    return text if len(text) <= MAX_RAW else text[: MAX_RAW - 1] + "…"


def _decode(path: Path, data: bytes) -> tuple[str, bool]:
    """Return the text and whether all of it is UTF-8; bytes that are not become surrogates."""
    if data.startswith(_UTF16_MARKS):
        raise InputError(f"{path}: is UTF-16; save it as UTF-8")
    data = data.removeprefix(_UTF8_MARK)
    try:
        return data.decode(), True
    except UnicodeDecodeError:
        return data.decode(errors="surrogateescape"), False


def _lines(text: str) -> list[str]:
    """Split at line feeds, leaving out a carriage return before one."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines] if "\r" in text else lines


def _visible(text: str) -> str:
    """Write bytes that were not UTF-8 as hexadecimal escapes."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


# --- CSV and TSV -------------------------------------------------------------------------


def _read_csv(path: Path, data: bytes) -> TextTable:
    return _read_delimited(path, data, ",")


def _read_tsv(path: Path, data: bytes) -> TextTable:
    return _read_delimited(path, data, "\t")


def _read_delimited(path: Path, data: bytes, delimiter: str) -> TextTable:
    """Read a table whose first line, after blank ones and ``#`` comments, names the columns."""
    text, clean = _decode(path, data)
    head = 0
    begin = 0
    while begin < len(text):
        end = text.find("\n", begin)
        end = len(text) if end < 0 else end
        first = text[begin:end].strip()
        if first and not first.startswith("#"):
            break
        begin = end + 1
        head += 1
    if begin >= len(text):
        raise InputError(f"{path}: is empty; its first line must name the columns")
    names = _header(path, text[begin:end].removesuffix("\r"), delimiter, head + 1)
    body = text[end + 1 :]
    table = _read_plain(path, body, delimiter, names, head + 2) if clean else None
    return table or _read_lines(path, _lines(body), delimiter, names, head + 2)


def _header(path: Path, line: str, delimiter: str, number: int) -> list[str]:
    try:
        names = [
            name.strip() for name in next(csv.reader([line], delimiter=delimiter, strict=True))
        ]
    except csv.Error as error:
        raise InputError(f"{path}, line {number}: no column names: {error}") from None
    if _visible(line) != line:
        raise InputError(f"{path}, line {number}: column names are not UTF-8: {_visible(line)!r}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path}, line {number}: column {twice[0]!r} is there twice")
    return names


def _read_plain(
    path: Path, body: str, delimiter: str, names: list[str], first: int
) -> TextTable | None:
    """Read a table in which every line is one good row; None if this is not one."""
    if len(names) == 1 or not body or '"' in body or body.count("\r") != body.count("\r\n"):
        return None
    if body[0] in "\r\n" or "\n\n" in body or "\n\r\n" in body:
        return None
    data = body.encode()
    try:
        table = pacsv.read_csv(
            pa.BufferReader(data),
            read_options=pacsv.ReadOptions(
                column_names=names, use_threads=False, block_size=len(data) + 1
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter, quote_char=False, ignore_empty_lines=False
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    cells = {name: _single(table[name]) for name in names}

    def raw(row: int) -> str:
        return _clip(delimiter.join(cells[name][row].as_py() for name in names))

    return TextTable(path, cells, np.arange(first, first + table.num_rows), [], raw)


def _single(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _read_lines(
    path: Path, lines: list[str], delimiter: str, names: list[str], first: int
) -> TextTable:
    """Read a table row by row; a row that does not fit is a reject, and the next line goes on."""
    rows: list[list[str]] = []
    spans: list[tuple[int, int]] = []
    rejects: list[Reject] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if not line.strip():
            at += 1
            continue
        try:
            fields, used = _record(lines, at, delimiter)
            if len(fields) != len(names):
                raise csv.Error(f"{len(fields)} fields where {len(names)} are named")
            _refuse_bytes(lines[at : at + used])
        except csv.Error as error:
            rejects.append(Reject(str(path), first + at, str(error), _clip(_visible(line))))
            at += 1
            continue
        rows.append(fields)
        spans.append((at, used))
        at += used
    columns = zip(*rows, strict=True) if rows else [[] for _ in names]
    cells = {n: pa.array(c, pa.string()) for n, c in zip(names, columns, strict=True)}

    def raw(row: int) -> str:
        begin, used = spans[row]
        return _clip("\n".join(lines[begin : begin + used]))

    return TextTable(path, cells, np.array([first + at for at, _ in spans], np.int64), rejects, raw)


def _record(lines: list[str], at: int, delimiter: str) -> tuple[list[str], int]:
    """Return the fields of the record at a line and how many lines it takes.

    Raises:
        csv.Error: quotes are not closed or misplaced.
    """
    if '"' not in lines[at]:
        return lines[at].split(delimiter), 1
    last = min(len(lines), at + MAX_RECORD_LINES)
    following = (lines[k] + "\n" for k in range(at, last))
    reader = csv.reader(following, delimiter=delimiter, strict=True)
    fields = next(reader)
    return fields, reader.line_num


def _refuse_bytes(lines: Sequence[str]) -> None:
    """Refuse lines with bytes that are not UTF-8.

    Raises:
        csv.Error: with the first such byte.
    """
    for line in lines:
        if not line.isascii():
            for character in line:
                if "\udc80" <= character <= "\udcff":
                    raise csv.Error(f"not UTF-8: byte 0x{ord(character) - 0xDC00:02x}")


# --- JSON --------------------------------------------------------------------------------


def _read_jsonl(path: Path, data: bytes) -> RecordTable:
    """Read one JSON object per line; blank lines are passed over."""
    text, _ = _decode(path, data)
    lines = _lines(text)
    records: list[dict[str, Any]] = []
    numbers: list[int] = []
    rejects: list[Reject] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            _refuse_bytes([line])
            record = _DECODER.decode(line)
            if not isinstance(record, dict) or "\\u" in line:
                _refuse_record(record)
        except (ValueError, RecursionError, csv.Error) as error:
            reason = f"no JSON object: {error}"
            rejects.append(Reject(str(path), number, reason, _clip(_visible(line))))
        else:
            records.append(record)
            numbers.append(number)
    return RecordTable(
        path,
        records,
        np.array(numbers, np.int64),
        rejects,
        lambda row: _clip(lines[numbers[row] - 1]),
    )


def _read_json(path: Path, data: bytes) -> RecordTable:
    """Read a JSON array of objects, or an object that holds one as ``data``."""
    text, clean = _decode(path, data)
    try:
        if not clean:
            raise ValueError("it is not UTF-8")
        content = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from None
    if isinstance(content, dict):
        content = content.get("data")
    if not isinstance(content, list):
        raise InputError(f"{path}: must hold a JSON array of objects, alone or as 'data'")
    records: list[dict[str, Any]] = []
    numbers: list[int] = []
    rejects: list[Reject] = []
    for number, record in enumerate(content, 1):
        try:
            _refuse_record(record)
        except ValueError as error:
            reason = f"no JSON object: {error}"
            rejects.append(Reject(str(path), number, reason, _clip(json.dumps(record))))
        else:
            records.append(record)
            numbers.append(number)
    lines = np.array(numbers, np.int64)
    return RecordTable(path, records, lines, rejects, lambda row: _clip(json.dumps(records[row])))


def _refuse_record(record: Any) -> None:
    """Refuse what is not an object, or has text that no file can hold (half a surrogate pair).

    Raises:
        ValueError: with the reason.
    """
    if not isinstance(record, dict):
        raise ValueError(f"it is of type {type(record).__name__}")
    json.dumps(record, ensure_ascii=False).encode()


def _constant(name: str) -> str | None:
    """Read ``NaN`` as missing and keep ``Infinity`` as a text that no number is made of."""
    return None if name == "NaN" else name


_DECODER = json.JSONDecoder(parse_constant=_constant)
_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)
"""Writes what `gandb.core.ids.canonical_json` writes; made once since rows are many."""


def _extra(values: dict[str, Any]) -> str | None:
    kept = {k: v for k, v in values.items() if v is not None and v != ""}
    if not kept:
        return None
    try:
        return _ENCODER.encode(kept)
    except ValueError:  # infinite numbers: keep them as text
        return _ENCODER.encode(_DECODER.decode(json.dumps(kept)))


# --- Parquet -----------------------------------------------------------------------------


def _read_parquet(path: Path, data: bytes) -> TextTable:
    """Read a Parquet file; columns that hold neither text nor numbers become JSON text."""
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from None
    names = table.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path}: column {twice[0]!r} is there twice")
    cells = {name: _parquet_cells(table[name]) for name in names}

    def raw(row: int) -> str:
        return _clip(json.dumps({name: cells[name][row].as_py() for name in names}))

    return TextTable(path, cells, np.arange(1, table.num_rows + 1), [], raw)


def _parquet_cells(column: pa.ChunkedArray) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _parquet_cells(column.cast(kind.value_type))
    if pa.types.is_floating(kind):
        values = column.cast(pa.float64())
        missing = pa.scalar(None, pa.float64())
        return _single(pc.if_else(pc.is_nan(values), missing, values))
    if pa.types.is_integer(kind):
        return _single(column)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _single(column.cast(pa.string()))
    return pa.array(list(_json_texts(column.to_pylist())), pa.string())


def _json_texts(values: Sequence[Any]) -> Iterator[str | None]:
    for value in values:
        yield None if value is None else json.dumps(value, default=str, sort_keys=True)


READERS: dict[str, Callable[[Path, bytes], TextTable | RecordTable]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
}
"""Reader of each kind of file by the ending of its name."""
