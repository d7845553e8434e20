"""Ways to break a bundle: its files, its manifest, its zip, and, with true hashes, its content."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from gandb.sharing.bundles.bundle import TABLES, BundleTable

Break = Callable[["Broken"], None]
TABLE = {t.name: t for t in TABLES}


@dataclass
class Broken:
    """A copy of a good bundle that is being broken.

    Attributes:
        folder: the copy.
        path: what is to be taken in, the folder or a zip beside it.
    """

    folder: Path
    path: Path

    @classmethod
    def of(cls, good: Path, folder: Path) -> Broken:
        shutil.copytree(good, folder)
        return cls(folder, folder)

    # --- files ---------------------------------------------------------------------------

    @property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text())
        return found

    def write_manifest(self, manifest: Any) -> None:
        (self.folder / "manifest.json").write_text(json.dumps(manifest))

    def describe(self, name: str, rows: int | None = None) -> None:
        """Let the manifest say what a file is by now."""
        data = (self.folder / name).read_bytes()
        manifest = self.manifest
        facts = dict(manifest["files"].get(name, {}))
        facts |= {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        if rows is not None:
            facts["rows"] = rows
        manifest["files"][name] = facts
        self.write_manifest(manifest)

    def put(self, name: str, data: bytes, rows: int | None = None) -> None:
        (self.folder / name).write_bytes(data)
        self.describe(name, rows)

    # --- tables --------------------------------------------------------------------------

    def rows(self, name: str) -> list[dict[str, Any]]:
        return list(pq.ParquetFile(self.folder / TABLE[name].path).read().to_pylist())

    def write(self, name: str, rows: list[dict[str, Any]], *, sort: bool = True) -> None:
        table = TABLE[name]
        if sort:
            rows = sorted(rows, key=lambda r: tuple(_sortable(r[k]) for k in table.key))
        self.write_table(name, pa.Table.from_pylist(rows, table.schema))

    def write_table(self, name: str, rows: pa.Table, **options: Any) -> None:
        path = self.folder / TABLE[name].path
        pq.write_table(rows, path, store_schema=False, **{"compression": "zstd", **options})
        self.describe(TABLE[name].path, rows.num_rows)

    def change(self, name: str, row: int, values: dict[str, Any]) -> None:
        rows = self.rows(name)
        rows[row] |= values
        self.write(name, rows, sort=not set(values) & set(TABLE[name].key))

    # --- zip -----------------------------------------------------------------------------

    def zip(self, change: Callable[[zipfile.ZipFile], None] | None = None, **options: Any) -> None:
        """Turn the folder into a zip beside it."""
        self.path = self.folder.with_suffix(".zip")
        with zipfile.ZipFile(self.path, "w", **options) as archive:
            for path in sorted(p for p in self.folder.rglob("*") if p.is_file()):
                archive.write(path, path.relative_to(self.folder).as_posix())
            if change is not None:
                change(archive)


def _sortable(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


# --- by the type of a column -------------------------------------------------------------


def value_breaks(name: str) -> Iterator[tuple[str, Break]]:
    """Yield what cannot be in the columns of a table, each with a name."""
    table = TABLE[name]
    for column in table.columns:
        for what, value in _impossible(column):
            yield f"{name}.{column.name} {what}", _set(name, column.name, value)


def _set(name: str, column: str, value: Any) -> Break:
    def change(broken: Broken) -> None:
        rows = broken.rows(name)
        place = len(rows) // 2
        if value is _INSIDE_NUL:
            rows[place][column] = [*(rows[place][column] or []), "A\x00b"]
        elif value is _INSIDE_NAN:
            rows[place][column] = [float("nan")]
        else:
            rows[place][column] = value
        broken.write(name, rows, sort=column not in TABLE[name].key)

    return change


_INSIDE_NUL, _INSIDE_NAN = object(), object()
_DEEP = "[" * 100_000 + "]" * 100_000
_SQL = "'); DROP TABLE entry; --"


def _impossible(column: sa.Column[Any]) -> Iterator[tuple[str, Any]]:
    type_ = column.type
    if isinstance(type_, sa.Uuid):
        yield "is SQL", _SQL
        yield "in capitals", "ABCDEFAB-0000-0000-0000-0123456789AB"
        yield "leads nowhere", "0badc0de-0000-0000-0000-0123456789ab"
    elif isinstance(type_, sa.JSON):
        yield "is no JSON", "{'a': 1}"
        yield "is not canonical", '{"b": 1,  "a": 2}'
        yield "holds NaN", '{"a":NaN}'
        yield "is deep", _DEEP
        yield "holds NUL", '{"a":"\\u0000"}'
    elif isinstance(type_, sa.ARRAY):
        yield (
            "holds what it must not",
            (_INSIDE_NAN if isinstance(type_.item_type, sa.Float) else _INSIDE_NUL),
        )
    elif isinstance(type_, sa.Float):
        yield "is NaN", float("nan")
        yield "is infinite", float("-inf")
    elif isinstance(type_, (sa.Text, sa.String)):
        yield "holds NUL", "a\x00b"
        yield "is too long", "x" * 3_000_000
    elif isinstance(type_, sa.Integer) and not isinstance(type_, sa.Boolean):
        yield "is negative", -7


# --- by the shape of a table -------------------------------------------------------------


def shape_breaks(name: str) -> Iterator[tuple[str, Break]]:
    """Yield tables of another schema, order or encoding."""
    table = TABLE[name]
    yield f"{name} lacks a column", _reshaped(name, lambda t: t.drop_columns([t.column_names[-1]]))
    yield (
        f"{name} has a column more",
        _reshaped(name, lambda t: t.append_column("more", pa.array([""] * len(t)))),
    )
    yield (
        f"{name} has its columns turned round",
        _reshaped(name, lambda t: t.select(t.column_names[::-1])),
    )
    yield f"{name} has another type", _reshaped(name, lambda t: _retyped(t))
    yield f"{name} lets all be null", _reshaped(name, lambda t: _nullable(t, table))
    yield f"{name} is truncated", _truncated(name)
    yield f"{name} is not Parquet", lambda broken: broken.put(table.path, b"PAR1" * 9, 0)
    yield f"{name} counts more rows", _miscounted(name)


def row_breaks(name: str) -> Iterator[tuple[str, Break]]:
    """Yield tables whose rows are twice there or in another order."""

    def doubled(broken: Broken) -> None:
        rows = broken.rows(name)
        broken.write(name, [*rows[:1], *rows])

    def turned(broken: Broken) -> None:
        broken.write(name, broken.rows(name)[::-1], sort=False)

    yield f"{name} has a row twice", doubled
    yield f"{name} is turned round", turned


def _reshaped(name: str, change: Callable[[pa.Table], pa.Table]) -> Break:
    def apply(broken: Broken) -> None:
        rows = pq.ParquetFile(broken.folder / TABLE[name].path).read()
        broken.write_table(name, change(rows))

    return apply


def _retyped(rows: pa.Table) -> pa.Table:
    name = rows.column_names[0]
    column = rows.column(0)
    other = pa.large_binary() if pa.types.is_string(column.type) else pa.string()
    return rows.set_column(0, pa.field(name, other, nullable=False), column.cast(other))


def _nullable(rows: pa.Table, table: BundleTable) -> pa.Table:
    del table
    return rows.cast(pa.schema([f.with_nullable(True) for f in rows.schema]))


def _truncated(name: str) -> Break:
    def apply(broken: Broken) -> None:
        path = TABLE[name].path
        broken.put(path, (broken.folder / path).read_bytes()[:-20])

    return apply


def _miscounted(name: str) -> Break:
    def apply(broken: Broken) -> None:
        manifest = broken.manifest
        manifest["files"][TABLE[name].path]["rows"] += 1
        broken.write_manifest(manifest)

    return apply


# --- files -------------------------------------------------------------------------------


def file_breaks(name: str) -> Iterator[tuple[str, Break]]:
    """Yield what may be wrong with one file of a bundle."""

    def flipped(broken: Broken) -> None:
        data = bytearray((broken.folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (broken.folder / name).write_bytes(bytes(data))

    def longer(broken: Broken) -> None:
        with (broken.folder / name).open("ab") as handle:
            handle.write(b"\x00")

    def linked(broken: Broken) -> None:
        elsewhere = broken.folder.with_name(f"{broken.folder.name}-elsewhere")
        shutil.move(broken.folder / name, elsewhere)
        (broken.folder / name).symlink_to(elsewhere)

    yield f"{name} is damaged", flipped
    yield f"{name} is longer", longer
    yield f"{name} is missing", lambda broken: (broken.folder / name).unlink()
    yield f"{name} is a link", linked


def safetensors(header: dict[str, Any], data: bytes = b"") -> bytes:
    """Write a file of weights by hand."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, 2026])
