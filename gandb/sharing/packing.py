"""Packing a bundle: all that a selection comes to, at one moment, complete or not at all.

Everything is written to a folder beside the target, which takes its name when it is whole. Equal
content gives equal bytes, whichever engine holds it and in whatever order it came in: rows are
sorted, ids are hashes of content, and nothing says when or where it was done.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import sqlalchemy as sa

from gandb import __version__
from gandb.core.errors import StoreError
from gandb.core.ids import Domain, content_id
from gandb.schema.revision import HEAD
from gandb.schema.tables import dataset, dataset_number, dataset_tag
from gandb.sharing.bundle import (
    CROISSANT,
    FORMAT,
    LICENCES,
    MANIFEST,
    ROCRATE,
    TABLES,
    BundleTable,
)
from gandb.sharing.origin import require_origin
from gandb.sharing.portable import portable_schema, rows_of, write_parquet
from gandb.sharing.selection import Selection
from gandb.sharing.selection_rows import Closure
from gandb.store import Store

MEMORY = 700
"""MB that an embedded database may take while it sorts; the rest goes to disk."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PLAIN_FILE = 0o100644 << 16
_LOCK = "lock"

Told = Callable[[int], None]


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Attributes:
        path: the bundle.
        sha256: of its manifest.
        rows: of every table.
        blobs: how many.
    """

    path: Path
    sha256: str
    rows: Mapping[str, int]
    blobs: int


def pack(
    store: Store,
    selection: Selection,
    target: Path,
    *,
    on_rows: Told | None = None,
) -> Packed:
    """Write a bundle to ``target``: a folder, or a zip if the name ends so.

    Args:
        store: where from.
        selection: what, see `gandb.sharing.selection.select`.
        target: a path at which there is nothing yet.
        on_rows: is told how many more rows were written.

    Raises:
        UsageError: the store has no name among groups.
        StoreError: the target exists or cannot be written.
    """
    origin = require_origin(store)
    try:
        with _making(target) as folder:
            bundle = folder / "bundle"
            bundle.mkdir()
            (bundle / "tables").mkdir()
            (bundle / "blobs").mkdir()
            files = _write_tables(store, selection, origin, bundle, folder, on_rows)
            blobs = [name for name in files if name.startswith("blobs/")]
            for name in (LICENCES, CROISSANT, ROCRATE):
                (bundle / name).write_text("{}\n", "utf-8")
                files[name] = _facts(bundle / name)
            manifest = {
                "format": FORMAT,
                "gandb": __version__,
                "revision": HEAD,
                "origin": origin,
                "selection": dict(selection.asked),
                "licences": [],
                "files": files,
            }
            data = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False).encode()
            (bundle / MANIFEST).write_bytes(data)
            _place(bundle, target, folder)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}") from error
    rows = {t.name: files[t.path]["rows"] for t in TABLES}
    return Packed(target, hashlib.sha256(data).hexdigest(), rows, len(blobs))


# --- tables ------------------------------------------------------------------------------


def _write_tables(
    store: Store,
    selection: Selection,
    origin: str,
    bundle: Path,
    folder: Path,
    on_rows: Told | None,
) -> dict[str, dict[str, Any]]:
    """Write every table and blob; return what the manifest says of them."""
    files: dict[str, dict[str, Any]] = {}
    with store.read() as connection:
        if connection.dialect.name == "duckdb":
            spill = str(folder).replace("'", "''")
            connection.exec_driver_sql(f"SET temp_directory = '{spill}'")
            connection.exec_driver_sql(f"SET memory_limit = '{MEMORY}MB'")
        closure = Closure(connection, selection)
        small = _Names(connection, closure, origin, tags=selection.tags)
        for table in TABLES:
            path = bundle / table.path
            pieces = small.rows(table) or rows_of(
                connection, table.columns, closure.query(table.name), table.key, folder
            )
            rows = write_parquet(path, table.schema, pieces, on_rows)
            files[table.path] = {**_facts(path), "rows": rows}
        blobs = [
            r[0]
            for r in connection.exec_driver_sql(
                f"SELECT sha256 FROM ({closure.query('blob')}) AS q"
            )
        ]
    for sha256 in sorted(blobs):
        path = bundle / "blobs" / sha256
        path.write_bytes(store.files.get_blob(sha256))
        files[f"blobs/{sha256}"] = _facts(path)
    return files


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return {"sha256": digest, "size": path.stat().st_size}


class _Names:
    """The small tables that name versions, in which a store's own names get its origin."""

    def __init__(
        self, connection: sa.Connection, closure: Closure, origin: str, *, tags: bool
    ) -> None:
        self._connection = connection
        self._versions = set(closure.graph.versions)
        self._origin = origin
        self._rows: dict[str, list[dict[str, Any]]] = {
            "dataset_number": [],
            "dataset_tag": [],
            "statement": [],
        }
        self._names: dict[UUID, str] = {}
        self._rows["dataset_base"] = [
            {"version_id": version, "base_id": base}
            for version, bases in closure.bases.items()
            for base in bases
        ]
        self._number()
        if tags:
            self._tag()
        self._rows["dataset"] = [{"id": i, "name": name} for i, name in self._names.items()]

    def rows(self, table: BundleTable) -> list[pa.Table] | None:
        """Return the rows of a table, or None if they are not made here."""
        found = self._rows.get(table.name)
        if found is None:
            return None
        plain = sorted(
            ({k: _plain(v) for k, v in row.items()} for row in found),
            key=lambda row: tuple(_sortable(row[k]) for k in table.key),
        )
        return [pa.Table.from_pylist(plain, portable_schema(table.columns))]

    def _qualified(self, name: str) -> UUID:
        full = name if "/" in name else f"{self._origin}/{name}"
        own = content_id(Domain.DATASET, full.encode())
        self._names[own] = full
        return own

    def _number(self) -> None:
        query = (
            sa.select(dataset.c.name, dataset_number)
            .join(dataset, dataset.c.id == dataset_number.c.dataset_id)
            .where(dataset_number.c.removed_at.is_(None))
        )
        self._take("dataset_number", query, dataset_number)

    def _tag(self) -> None:
        query = sa.select(dataset.c.name, dataset_tag).join(
            dataset, dataset.c.id == dataset_tag.c.dataset_id
        )
        self._take("dataset_tag", query, dataset_tag)
        for row in self._rows["dataset_tag"]:
            row["origin"] = row["origin"] or self._origin

    def _take(self, name: str, query: sa.Select[Any], table: sa.Table) -> None:
        columns = [c.name for c in table.columns if not c.info["volatile"]]
        for row in self._connection.execute(query).mappings():
            if row["version_id"] in self._versions:
                own = self._qualified(row["name"])
                self._rows[name].append({k: row[k] for k in columns} | {"dataset_id": own})


def _plain(value: Any) -> Any:
    from gandb.sharing.portable import canonical_document

    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, (dict, list)):
        return canonical_document(json.dumps(value))
    return value


def _sortable(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


# --- complete or not at all --------------------------------------------------------------


@contextmanager
def _making(target: Path) -> Iterator[Path]:
    """Yield a folder beside the target that is gone afterwards, whatever happens.

    A lock tells the folders of those who still work from those that a killed process left.
    """
    import fcntl

    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.packing-"
    for left in target.parent.glob(f"{_escaped(prefix)}*"):
        _remove_if_left(left)
    if target.exists() or target.is_symlink():
        raise StoreError(f"{target} exists; a bundle never overwrites: name another place")
    folder = target.with_name(f"{prefix}{secrets.token_hex(8)}")
    folder.mkdir()
    try:
        with (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_if_left(folder: Path) -> None:
    import fcntl

    try:
        with (folder / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # another process works there
        return


def _escaped(text: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def _place(bundle: Path, target: Path, folder: Path) -> None:
    """Give the complete bundle its name."""
    made = bundle
    if target.suffix == ".zip":
        made = folder / "bundle.zip"
        _zip(bundle, made)
    if target.exists():
        raise StoreError(f"{target} exists by now; a bundle never overwrites: name another place")
    made.rename(target)


def _zip(bundle: Path, target: Path) -> None:
    """Write a folder as a zip without compression, times or owners: Parquet is packed already."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in _files(bundle):
            info = zipfile.ZipInfo(path.relative_to(bundle).as_posix(), _EPOCH)
            info.external_attr = _PLAIN_FILE
            info.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(info, "w") as out:
                shutil.copyfileobj(source, out, 1 << 20)


def _files(bundle: Path) -> Iterable[Path]:
    found = sorted((p for p in bundle.rglob("*") if p.is_file()), key=lambda p: p.as_posix())
    return sorted(found, key=lambda p: p.name != MANIFEST)
