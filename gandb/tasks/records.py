"""Importing a source's own formats: records with structures, from files or live.

One chunk. What is fetched and what is worked out is staged part by part, so that a broken import
goes on where it stopped; the last step merges all parts in one transaction, or nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from gandb.core.compositions import CompositionBatch
from gandb.core.errors import InputError, NotFoundError, UsageError
from gandb.core.ids import Domain, json_id
from gandb.jobs.queue import now
from gandb.jobs.records import Context, JobSpec, Outcome
from gandb.schema import tables
from gandb.sources import SOURCES
from gandb.sources.base import Reject, Source
from gandb.sources.formats import format_named
from gandb.sources.reading import read_files
from gandb.sources.records import Record
from gandb.store import Store, Transaction
from gandb.tasks.fetching import Pages, fetch
from gandb.tasks.parts import Parts, Span, raw_ids
from gandb.tasks.preparing import Preparation, composition_batch, symmetry_recipe
from gandb.tasks.rows import merge_all_compositions, repeat_id
from gandb.validation.symmetry import SYMPREC

KIND = "import_records"
PARSER = "1"
"""Version of the readers: raised when the same file gives other records."""
MEMORY = 150
"""MB that DuckDB should do with while it merges; a million entries take a third of it."""
_FILE = ("name", "sha256", "size")
_SHOWN = 5


def records_job(
    source: str,
    files: Sequence[Path] = (),
    *,
    form: str | None = None,
    release: str | None = None,
    query: str | None = None,
    live: Mapping[str, Any] | None = None,
    strict: bool = False,
    keep_raw: bool = False,
    symprec: float | None = None,
    licence: str | None = None,
    attribution: str | None = None,
) -> JobSpec:
    """Describe the job of importing records.

    Args:
        source: database or collection, lower case.
        files: files, folders and archives.
        form: name of the format; None tells it from each file.
        release: release of the database, as the user states it.
        query: what was asked of the database, as the user states it.
        live: what to ask a server for instead of reading files, see `gandb.tasks.fetching`.
        strict: refuse everything if a single record is malformed.
        keep_raw: keep the files as blobs, so that they can be parsed again.
        symprec: a further tolerance (Å) for the symmetry search.
        licence: of the data, if gandb does not know the source.
        attribution: whom to cite, likewise.

    Raises:
        NotFoundError: there is no such format.
        InputError: a file cannot be read.
        UsageError: a tolerance or name that cannot be.
    """
    if form is not None:
        format_named(form)
    if symprec is not None and not 0 < symprec <= 1:
        raise UsageError(f"a symmetry tolerance of {symprec:g} Å makes no sense: give 0.001 to 0.5")
    if not source.replace("-", "").replace("_", "").isalnum() or source != source.lower():
        raise UsageError(
            f"cannot name a source {source!r}: use lower-case letters, digits, - and _"
        )
    return JobSpec(
        kind=KIND,
        spec={
            "source": source,
            "files": [describe(path) for path in files],
            "format": form,
            "release": release,
            "filter": query,
            "live": dict(live) if live else None,
            "strict": strict,
            "keep_raw": keep_raw,
            "symprec": symprec,
            "licence": licence,
            "attribution": attribution,
            "parser": PARSER,
        },
        totals=(0,),
    )


def reparse_job(snapshot: Mapping[str, Any]) -> JobSpec:
    """Describe the job of reading the raw files of a snapshot again, with today's readers.

    Args:
        snapshot: its row.
    """
    options = dict(snapshot["options"])
    live = {k: v for k, v in options.items() if k not in ("format", "symprec")} or None
    return JobSpec(
        kind=KIND,
        spec={
            "source": snapshot["source"],
            "files": snapshot["files"],
            "format": options.get("format"),
            "release": snapshot["release"],
            "filter": snapshot["filter"],
            "live": live,
            "strict": False,
            "keep_raw": True,
            "symprec": options.get("symprec"),
            "licence": snapshot["licence"],
            "attribution": snapshot["attribution"],
            "parser": PARSER,
            "snapshot": str(snapshot["id"]),
        },
        totals=(0,),
    )


def describe(path: Path) -> dict[str, Any]:
    """Return name, checksum and size of a file, or of a folder with all that it holds.

    Raises:
        InputError: it cannot be read.
    """
    try:
        if path.is_dir():
            return _describe_folder(path)
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    return {"path": str(path.resolve()), "name": path.name, "sha256": digest, "size": size}


def _describe_folder(folder: Path) -> dict[str, Any]:
    """Return the checksum of a folder: of the sorted names and checksums of its files."""
    digest, size = hashlib.sha256(), 0
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as handle:
            own = hashlib.file_digest(handle, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder)}\x00{own}\n".encode(errors="surrogateescape"))
        size += path.stat().st_size
    return {
        "path": str(folder.resolve()),
        "name": folder.name or str(folder),
        "sha256": digest.hexdigest(),
        "size": size,
        "folder": True,
    }


def source_named(spec: Mapping[str, Any]) -> Source:
    """Return the source of a specification; one that gandb does not know states its own terms."""
    if spec["source"] in SOURCES:
        return SOURCES[spec["source"]]
    return Source(
        name=spec["source"],
        title=spec["source"],
        url="",
        licence=spec.get("licence") or "not stated",
        attribution=spec.get("attribution") or "not stated",
        citations=(),
        columns={},
    )


# --- the work ----------------------------------------------------------------------------


def import_records(context: Context) -> Outcome:
    """Fetch, read, work out and hand over the merge; each step goes on where it stopped."""
    spec = context.job.spec
    parts = prepare_all(context)
    pages = _pages(context, spec)
    merge = _Import.of(context.store, spec, parts, pages)
    return Outcome(merge, merge.result, MEMORY)


def prepare_all(context: Context) -> Parts:
    """Read everything that a job names and work out its rows, unless that is staged already.

    Raises:
        InputError: a file has changed since, or --strict and a record was rejected.
    """
    spec = context.job.spec
    if "snapshot" in spec:
        pass  # what it read is kept
    elif spec["live"]:
        fetch(context)
    else:
        for file in spec["files"]:
            if describe(Path(file["path"]))["sha256"] != file["sha256"]:
                raise InputError(
                    f"{file['path']} has changed since the import was asked for; import it again"
                )
    parts = Parts.of(context)
    if not parts.finished:
        work = Preparation(spec["source"], _symprecs(spec))
        parts.extend(_items(context, spec), work)
    if spec["strict"] and parts.counts["rejects"]:
        first = parts.read(["rejects"])["rejects"].slice(0, _SHOWN).to_pylist()
        shown = "; ".join(f"{r['file']} record {r['line']}: {r['reason']}" for r in first)
        raise InputError(
            f"{parts.counts['rejects']} records are malformed and --strict was asked for, so "
            f"nothing was imported ({shown})"
        )
    return parts


def _symprecs(spec: Mapping[str, Any]) -> tuple[float, ...]:
    more = spec["symprec"]
    return (SYMPREC,) if more in (None, SYMPREC) else (SYMPREC, float(more))


def _items(context: Context, spec: Mapping[str, Any]) -> Iterator[Record | Reject]:
    form = format_named(spec["format"]) if spec["format"] else None
    if pages := _pages(context, spec):
        yield from pages.records()
    elif "snapshot" in spec:
        with TemporaryDirectory(prefix="gandb-reparse-") as folder:
            for file in snapshot_files(context.store, UUID(spec["snapshot"])):
                path = Path(folder, file["name"])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(context.store.files.get_blob(file["sha256"]))
            names = sorted(p.name for p in Path(folder).iterdir())
            yield from read_files([Path(folder, name) for name in names], form)
    else:
        yield from read_files([Path(f["path"]) for f in spec["files"]], form)


def _pages(context: Context, spec: Mapping[str, Any]) -> Pages | None:
    """Return the answers that a live import, or the snapshot of one, has at hand."""
    if not spec["live"]:
        return None
    if "snapshot" in spec:
        return Pages.kept(context.store, spec["live"], UUID(spec["snapshot"]))
    return Pages.staged(context)


# --- merging -----------------------------------------------------------------------------


def merge_structures(tx: Transaction, span: Span, symprecs: Sequence[float]) -> None:
    """Take in the compositions, structures and symmetry of some parts."""

    def compositions() -> Iterator[tuple[np.ndarray, CompositionBatch]]:
        for piece in span.pieces("compositions"):
            yield raw_ids(piece.column("id")), composition_batch(piece.combine_chunks())

    merge_all_compositions(tx, compositions)
    for symprec in symprecs:
        tx.insert_new(tables.recipe, symmetry_recipe(symprec))
    tx.merge_all(tables.structure, partial(span.pieces, "structures"))
    tx.merge_all(tables.structure_symmetry, partial(span.pieces, "symmetry"))


@dataclass(frozen=True)
class _Import:
    """A whole import, ready to be merged."""

    store: Store
    spec: Mapping[str, Any]
    parts: Parts
    snapshot: dict[str, Any]
    files: list[dict[str, Any]]
    result: dict[str, Any]

    @classmethod
    def of(
        cls, store: Store, spec: Mapping[str, Any], parts: Parts, pages: Pages | None
    ) -> _Import:
        ids = parts.read(["entries"], ["id"])["entries"]
        own = np.unique(raw_ids(ids.column("id")), axis=0) if ids.num_rows else np.zeros((0, 16))
        entries = len(own)
        repeats = parts.counts["records"] - entries
        files = _files(store, spec, pages)
        digest = hashlib.sha256(own.tobytes()).hexdigest() if pages else None
        source = source_named(spec)
        snapshot = {
            "id": snapshot_id(spec, digest),
            "source": source.name,
            "release": spec["release"],
            "filter": spec["filter"],
            "files": [{k: f[k] for k in _FILE} for f in spec["files"]],
            "options": _options(spec),
            "licence": source.licence,
            "attribution": source.attribution,
            "n_rows": entries + parts.counts["rejects"],
            "n_entries": entries,
            "n_rejects": parts.counts["rejects"],
            "n_repeats": repeats,
            "parser": spec["parser"],
            "endpoint": (spec["live"] or {}).get("endpoint"),
            "imported_at": now(),
        }
        result = {
            "snapshot_id": str(snapshot["id"]),
            "rows_read": parts.counts["items"],
            "rows_rejected": parts.counts["rejects"],
            "repeats": repeats,
            "entries": entries,
        }
        return cls(store, spec, parts, snapshot, files, result)

    def __call__(self, tx: Transaction) -> None:
        own = self.snapshot["id"]
        tx.insert_new(tables.source_snapshot, self.snapshot)
        for number, file in enumerate(self.files):
            if file.get("kept"):
                tx.insert_new(
                    tables.blob,
                    {
                        "sha256": file["sha256"],
                        "size": file["size"],
                        "media_type": "application/octet-stream",
                    },
                )
            row = {k: file[k] for k in _FILE}
            kept = bool(file.get("kept"))
            tx.insert_new(
                tables.snapshot_file, {"snapshot_id": own, "number": number, "kept": kept, **row}
            )
        for span in self.parts.spans():
            merge_structures(tx, span, _symprecs(self.spec))
            tx.merge_all(tables.snapshot_reject, partial(self._rejects, span))
            tx.merge_all(tables.entry, partial(self._entries, span))
            tx.merge_all(tables.snapshot_entry, partial(self._members, span))
            tx.merge_all(tables.entry_alias, partial(span.pieces, "aliases"))

    def _rejects(self, span: Span) -> Iterator[pa.Table]:
        for piece in span.pieces("rejects"):
            own = repeat_id(self.snapshot["id"], len(piece))
            yield piece.append_column("snapshot_id", own)

    def _entries(self, span: Span) -> Iterator[pa.Table]:
        for piece in span.pieces("entries"):
            source = pa.repeat(pa.scalar(self.spec["source"]), len(piece))
            ordinals = pa.repeat(pa.scalar(0, pa.int32()), len(piece))
            rows = piece.drop_columns(["file", "line"])
            yield rows.append_column("source", source).append_column("ordinal", ordinals)

    def _members(self, span: Span) -> Iterator[pa.Table]:
        for piece in span.pieces("entries"):
            own = repeat_id(self.snapshot["id"], len(piece))
            yield pa.table({"snapshot_id": own, "entry_id": piece.column("id")})


def snapshot_id(spec: Mapping[str, Any], content: str | None) -> UUID:
    """Return the id of a snapshot: of its files, or live of what the answers hold."""
    return json_id(
        Domain.SNAPSHOT,
        {
            "source": spec["source"],
            "release": spec["release"],
            "filter": spec["filter"],
            "files": [{"name": f["name"], "sha256": f["sha256"]} for f in spec["files"]],
            "options": _options(spec),
            "parser": spec["parser"],
            "content": content,
        },
    )


def _options(spec: Mapping[str, Any]) -> dict[str, Any]:
    options = {"format": spec["format"], "symprec": spec["symprec"]}
    if spec["live"]:
        options |= {k: v for k, v in spec["live"].items() if k != "asked_at"}
    return options


def _files(store: Store, spec: Mapping[str, Any], pages: Pages | None) -> list[dict[str, Any]]:
    """Return what was read as it came, and keep it if that is asked for."""
    if "snapshot" in spec:
        return [{**f, "kept": True} for f in snapshot_files(store, UUID(spec["snapshot"]))]
    if pages:
        return pages.files(store, keep=spec["keep_raw"])
    if not spec["keep_raw"]:
        return [{**f, "kept": False} for f in spec["files"]]
    return [{**f, "kept": True} for f in _kept(store, spec["files"])]


def _kept(store: Store, files: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Keep files as blobs; of a folder, each file."""
    for file in files:
        path = Path(file["path"])
        found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for each in found:
            data = each.read_bytes()
            name = f"{path.name}/{each.relative_to(path)}" if path.is_dir() else each.name
            yield {"name": name, "sha256": store.files.put_blob(data), "size": len(data)}


def snapshot_files(store: Store, snapshot: UUID) -> list[dict[str, Any]]:
    """Return the raw files of a snapshot in order.

    Raises:
        NotFoundError: none is recorded.
    """
    table = tables.snapshot_file
    with store.read() as connection:
        rows = connection.execute(
            table.select().where(table.c.snapshot_id == snapshot).order_by(table.c.number)
        ).mappings()
        found = [dict(row) for row in rows]
    if not found:
        raise NotFoundError(f"snapshot {snapshot} has no raw files on record")
    return found
