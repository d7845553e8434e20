"""Packing a bundle: all that a selection comes to, at one moment, complete or not at all.

Everything is written to a folder beside the target, which takes its name when it is whole. Equal
content gives equal bytes, whichever engine holds it and in whatever order it came in: rows are
sorted, ids are hashes of content, and nothing says when or where it was done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from gandb import __version__
from gandb.core.errors import StoreError
from gandb.schema.revision import HEAD
from gandb.sharing.bundles.bundle import CROISSANT, FORMAT, LICENCES, MANIFEST, ROCRATE, TABLES
from gandb.sharing.bundles.croissant import croissant
from gandb.sharing.bundles.description import UNDATED, Description
from gandb.sharing.bundles.packing_files import making, place
from gandb.sharing.bundles.packing_jobs import jobs_of
from gandb.sharing.bundles.packing_names import Names
from gandb.sharing.bundles.rocrate import rocrate
from gandb.sharing.bundles.selection import Selection
from gandb.sharing.bundles.selection_rows import Closure
from gandb.sharing.licences import (
    Notice,
    as_markdown,
    model_notices,
    notices,
    require_allowed,
)
from gandb.sharing.origin import own_url, require_origin
from gandb.sharing.portable import rows_of, write_parquet
from gandb.store import Store

MEMORY = 500
"""MB that an embedded database may take while it sorts; the rest goes to disk."""

_OTHERWISE = (
    "Leave these entries out of what you pack; or pack without the members of dataset versions "
    "(--without-entries), which still shares models, candidates and checks"
)

Told = Callable[[int], None]


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Attributes:
        path: the bundle.
        sha256: of its manifest.
        rows: of every table.
        blobs: how many.
        notices: terms and attributions of what is in it.
    """

    path: Path
    sha256: str
    rows: Mapping[str, int]
    blobs: int
    notices: tuple[Notice, ...]


def pack(
    store: Store,
    selection: Selection,
    target: Path,
    *,
    licence: str | None = None,
    allowed: Collection[str] = (),
    published: str = UNDATED,
    on_rows: Told | None = None,
) -> Packed:
    """Write a bundle to ``target``: a folder, or a zip if the name ends so.

    Args:
        store: where from.
        selection: what, see `gandb.sharing.bundles.selection.select`.
        target: a path at which there is nothing yet.
        licence: terms of what the group made itself.
        allowed: exact texts of licences that gandb does not know, but under which the user may
            hand data on.
        published: the date that the bundle states, ``YYYY-MM-DD``.
        on_rows: is told how many more rows were written.

    Raises:
        UsageError: the store has no name among groups, or a licence forbids it.
        StoreError: the target exists or cannot be written.
    """
    origin = require_origin(store)
    try:
        with making(target) as folder:
            bundle = folder / "bundle"
            for name in ("tables", "blobs"):
                (bundle / name).mkdir(parents=True)
            about = _write_tables(
                store, selection, bundle, folder, on_rows,
                _About(origin, own_url(store), licence, frozenset(allowed), published),
            )  # fmt: skip
            files = {
                name: {k: v for k, v in facts.items() if k != "media_type"}
                for name, facts in about.files.items()
            }
            documents = {
                LICENCES: as_markdown(about.notices, origin, licence),
                CROISSANT: _document(croissant(about)),
                ROCRATE: _document(rocrate(about, __version__)),
            }
            for name, text in documents.items():
                (bundle / name).write_text(text, "utf-8")
                files[name] = _facts(bundle / name)
            manifest = {
                "format": FORMAT,
                "gandb": __version__,
                "revision": HEAD,
                "origin": origin,
                "selection": dict(selection.asked),
                "licence": licence,
                "licences": [notice.as_json() for notice in about.notices],
                "published": published,
                "files": files,
            }
            (bundle / MANIFEST).write_text(_document(manifest), "utf-8")
            sha256 = _facts(bundle / MANIFEST)["sha256"]
            place(bundle, target, folder)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}") from error
    return Packed(
        target,
        sha256,
        {t.name: about.rows(t) for t in TABLES},
        sum(1 for name in files if name.startswith("blobs/")),
        tuple(about.notices),
    )


@dataclass(frozen=True)
class _About:
    """What is known of a bundle before its tables are written."""

    origin: str
    url: str | None
    licence: str | None
    allowed: frozenset[str]
    published: str


def _write_tables(
    store: Store,
    selection: Selection,
    bundle: Path,
    folder: Path,
    on_rows: Told | None,
    about: _About,
) -> Description:
    """Write every table and blob, all of one moment; return what there is to say of them."""
    files: dict[str, dict[str, Any]] = {}
    with store.read() as connection:
        _bound_memory(connection, folder)
        closure = Closure(connection, selection)
        found = [
            *notices(connection, "SELECT id FROM packed_entry", about.allowed),
            *model_notices(connection, "SELECT id FROM packed_candidate", about.allowed),
        ]
        require_allowed(found, "not packed", _OTHERWISE)
        names = Names(connection, closure, about.origin, tags=selection.tags)
        for table in TABLES:
            path = bundle / table.path
            pieces = names.rows(table) or rows_of(
                connection, table.columns, closure.query(table.name), table.key, folder
            )
            rows = write_parquet(path, table.schema, pieces, on_rows)
            files[table.path] = {**_facts(path), "rows": rows}
        blobs = connection.exec_driver_sql(
            f"SELECT sha256, media_type FROM ({closure.query('blob')}) AS q"
        ).fetchall()
        jobs = jobs_of(connection, closure.graph.jobs)
    for sha256, media_type in sorted(tuple(row) for row in blobs):
        path = bundle / "blobs" / sha256
        path.write_bytes(store.files.get_blob(sha256))
        files[f"blobs/{sha256}"] = {**_facts(path), "media_type": media_type}
    return Description(
        origin=about.origin,
        origin_url=about.url,
        selection=selection.asked,
        files=files,
        notices=found,
        own_licence=about.licence,
        published=about.published,
        datasets=names.references(),
        jobs=jobs,
    )


def _bound_memory(connection: sa.Connection, folder: Path) -> None:
    """Let DuckDB sort on disk, inside the folder that is gone afterwards."""
    if connection.dialect.name == "duckdb":
        spill = str(folder / "spill").replace("'", "''")
        connection.exec_driver_sql(f"SET temp_directory = '{spill}'")
        connection.exec_driver_sql(f"SET memory_limit = '{MEMORY}MB'")


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return {"sha256": digest, "size": path.stat().st_size}


def _document(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
