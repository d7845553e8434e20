"""A whole store in one file, and back, on the same engine or the other.

The file is a plain tar: ``manifest.json`` first (format, schema revision, and for every other
member its size, SHA-256 and number of rows), then ``tables/NAME.parquet`` and ``blobs/SHA256``, the
tables as `gandb.sharing.portable` writes them. Everything is checked against the manifest before a
store is made.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from gandb import __version__
from gandb.core.config import Settings
from gandb.core.errors import InputError, RevisionError, StoreError
from gandb.schema.revision import HEAD
from gandb.schema.tables import metadata, setting
from gandb.sharing.portable import importable, portable_schema, rows_of, write_parquet
from gandb.store import Store

FORMAT = 2
READABLE = (1, 2)
"""Formats that can be read; in the first, lists and blobs were text."""
_MANIFEST = "manifest.json"
_LARGEST_MANIFEST = 64 << 20
_TABLE = re.compile(r"tables/([a-z_]+)\.parquet")
_BLOB = re.compile(r"blobs/([0-9a-f]{64})")
_LIST_SEPARATOR = ","
_ROWS = 100_000
_TABLES = [t for t in metadata.sorted_tables if t is not setting]
"""What a backup holds; settings belong to the place of a store, not to its content."""


# --- writing -----------------------------------------------------------------------------


def write_backup(store: Store, target: Path) -> dict[str, int]:
    """Write a store to ``target``, a new file that appears only when it is complete.

    Returns:
        how many rows and blobs were written.

    Raises:
        StoreError: the file exists or cannot be written.
    """
    if target.exists():
        raise StoreError(f"{target} exists; a backup never overwrites: name another file")
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as folder:
            members = _gather(store, Path(folder))
            manifest = {
                "format": FORMAT,
                "revision": HEAD,
                "gandb": __version__,
                "members": {name: facts for name, (_, facts) in members.items()},
            }
            with tarfile.open(part, "w") as archive:
                head = Path(folder) / _MANIFEST
                head.write_text(json.dumps(manifest, indent=1, sort_keys=True), "utf-8")
                archive.add(head, _MANIFEST, filter=_anonymous)
                for name, (path, _) in members.items():
                    archive.add(path, name, filter=_anonymous)
        part.replace(target)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    facts = [f for _, f in members.values()]
    return {
        "rows": sum(f.get("rows", 0) for f in facts),
        "blobs": sum(1 for name in members if _BLOB.fullmatch(name)),
    }


def _gather(store: Store, folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Write every table and blob to ``folder``; all tables are of one moment."""
    members: dict[str, tuple[Path, dict[str, Any]]] = {}
    with store.read() as connection:
        for table in _TABLES:
            path = folder / f"{table.name}.parquet"
            columns, keys = list(table.columns), [c.name for c in table.primary_key.columns]
            pieces = rows_of(connection, columns, f"SELECT * FROM {table.name}", keys, folder)
            rows = write_parquet(path, portable_schema(columns), pieces)
            members[f"tables/{table.name}.parquet"] = (path, {**_facts(path), "rows": rows})
        blobs = [r[0] for r in connection.execute(sa.text("SELECT sha256 FROM blob"))]
    for sha256 in sorted(blobs):
        path = folder / sha256
        path.write_bytes(store.files.get_blob(sha256))
        members[f"blobs/{sha256}"] = (path, _facts(path))
    return members


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return {"sha256": digest, "size": path.stat().st_size}


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave owner and time out, so that equal content is an equal file."""
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    info.mode = 0o644
    return info


# --- reading -----------------------------------------------------------------------------


def restore_backup(
    source: Path, settings: Settings, blobs: str | None = None
) -> tuple[Store, dict[str, int]]:
    """Make a new store of a backup.

    Args:
        source: a file that `write_backup` wrote.
        settings: names where to make the store; there must be none yet.
        blobs: as in `Store.create`.

    Raises:
        InputError: the file is no backup, is damaged, or holds what a backup does not.
        RevisionError: it was written by a gandb of another schema revision.
    """
    with tempfile.TemporaryDirectory(prefix="gandb-restore-") as name:
        folder = Path(name)
        manifest = _unpack(source, folder)
        store = Store.create(settings, blobs)
        rows = 0
        n_blobs = 0
        for member in manifest["members"]:
            if _BLOB.fullmatch(member):
                store.files.put_blob((folder / member.replace("/", "-")).read_bytes())
                n_blobs += 1
        with store.write() as tx:
            for table in _TABLES:
                path = folder / f"tables-{table.name}.parquet"
                for batch in pq.ParquetFile(path).iter_batches(_ROWS):
                    portable = _portable(table, pa.Table.from_batches([batch]))
                    rows += tx.merge(table, importable(table.columns, portable))
    return store, {"rows": rows, "blobs": n_blobs}


def _unpack(source: Path, folder: Path) -> dict[str, Any]:
    """Check the archive against its manifest and unpack it into ``folder``."""
    try:
        with tarfile.open(source, "r:") as archive:
            first = archive.next()
            if first is None or first.name != _MANIFEST or first.size > _LARGEST_MANIFEST:
                raise InputError(f"{source} is no gandb backup: it has no manifest")
            manifest = _read_manifest(source, archive.extractfile(first))
            wanted = dict(manifest["members"])
            for info in archive:
                if info is first or info.name == _MANIFEST:
                    continue
                facts = wanted.pop(info.name, None)
                if facts is None or not info.isfile() or info.size != facts["size"]:
                    raise InputError(f"{source}: {info.name} is not what the manifest says")
                path = folder / info.name.replace("/", "-")
                _extract(archive, info, path)
                if _facts(path)["sha256"] != facts["sha256"]:
                    raise InputError(f"{source}: {info.name} is damaged (its SHA-256 differs)")
            if wanted:
                raise InputError(f"{source}: {', '.join(sorted(wanted)[:3])} are missing from it")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"cannot read {source}: {error}") from error
    return manifest


def _read_manifest(source: Path, handle: Any) -> dict[str, Any]:
    try:
        manifest = json.loads(handle.read())
        members = {str(k): dict(v) for k, v in manifest["members"].items()}
        revision, form = str(manifest["revision"]), manifest["format"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{source} is no gandb backup: its manifest is damaged") from error
    if form not in READABLE or revision != HEAD:
        raise RevisionError(
            f"{source} has backup format {form} and schema revision {revision}; this gandb reads "
            f"format {FORMAT} and revision {HEAD}: restore it with the gandb that wrote it "
            f"({manifest.get('gandb')}), upgrade that store, and back it up again"
        )
    tables = {m[1] for m in map(_TABLE.fullmatch, members) if m}
    strange = [k for k in members if not _TABLE.fullmatch(k) and not _BLOB.fullmatch(k)]
    if strange or tables != {t.name for t in _TABLES}:
        raise InputError(f"{source}: its manifest does not name the tables of a backup")
    return {**manifest, "members": members}


def _extract(archive: tarfile.TarFile, info: tarfile.TarInfo, path: Path) -> None:
    handle = archive.extractfile(info)
    if handle is None:
        raise InputError(f"{info.name} in the backup is not a file")
    with path.open("wb") as out:
        while chunk := handle.read(1 << 20):
            out.write(chunk)


def _portable(table: sa.Table, rows: pa.Table) -> pa.Table:
    """Read lists and blobs of the first format, in which they were text."""
    for place, column in enumerate(table.columns):
        values = rows.column(column.name)
        if not pa.types.is_string(values.type):
            continue
        if isinstance(column.type, sa.LargeBinary):
            blobs = [None if v is None else bytes.fromhex(v) for v in values.to_pylist()]
            rows = rows.set_column(place, column.name, pa.array(blobs, pa.binary()))
        elif isinstance(column.type, sa.ARRAY):
            lists = pc.split_pattern(values, _LIST_SEPARATOR)
            if isinstance(column.type.item_type, sa.Float):
                lists = lists.cast(pa.list_(pa.float64()))
            rows = rows.set_column(place, column.name, lists)
    return rows
