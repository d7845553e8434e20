"""A bundle: what one group hands to another, as a folder or the same in one uncompressed zip.

``manifest.json`` says who packed what and names every other file with its size and SHA-256. Then
there are ``tables/NAME.parquet``, ``blobs/SHA256``, ``croissant.json``, ``ro-crate-metadata.json``
and ``LICENCES.md``: all of them and nothing else.

Two tables are not as a store has them. ``dataset_member`` holds what each version changes against
its bases, as ``dataset_change`` does, but bases are chosen by what is in the bundle
(`gandb.sharing.bundles.packing`), not by how a store came to keep them. A version without a row in
``dataset_base`` is a stub: its members were not shared.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import sqlalchemy as sa

from gandb.core.errors import InputError, RevisionError
from gandb.schema import tables
from gandb.schema.revision import HEAD
from gandb.sharing.bundles.checks import check_parquet
from gandb.sharing.portable import portable_schema

FORMAT = 1
MANIFEST = "manifest.json"
CROISSANT = "croissant.json"
ROCRATE = "ro-crate-metadata.json"
LICENCES = "LICENCES.md"
DOCUMENTS = (LICENCES, CROISSANT, ROCRATE)
LARGEST_DOCUMENT = 64 << 20
_PIECE = 1 << 20
_FILE = re.compile(r"tables/[a-z_]+\.parquet|blobs/[0-9a-f]{64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHOWN = 3


# --- tables ------------------------------------------------------------------------------


@dataclass(frozen=True)
class BundleTable:
    """A table as bundles hold it.

    Attributes:
        name: of the file, ``tables/NAME.parquet``.
        table: the table of a store that has these columns.
        columns: those that do not depend on when and where work was done.
    """

    name: str
    table: sa.Table

    @property
    def columns(self) -> tuple[sa.Column[Any], ...]:
        """The columns, in order."""
        return tuple(c for c in self.table.columns if not c.info["volatile"])

    @property
    def key(self) -> tuple[str, ...]:
        """The columns by which rows are sorted, and of which no two rows agree."""
        return tuple(c.name for c in self.table.primary_key.columns)

    @property
    def schema(self) -> pa.Schema:
        """The exact schema of the file."""
        return portable_schema(self.columns)

    @property
    def path(self) -> str:
        """Where it is in a bundle."""
        return f"tables/{self.name}.parquet"


TABLES: tuple[BundleTable, ...] = (
    BundleTable("recipe", tables.recipe),
    BundleTable("composition", tables.composition),
    BundleTable("composition_element", tables.composition_element),
    BundleTable("check_result", tables.check_result),
    BundleTable("structure", tables.structure),
    BundleTable("structure_symmetry", tables.structure_symmetry),
    BundleTable("structure_key", tables.structure_key),
    BundleTable("structure_check", tables.structure_check),
    BundleTable("relaxation", tables.relaxation),
    BundleTable("stability", tables.stability),
    BundleTable("comparison", tables.comparison),
    BundleTable("material_member", tables.material_member),
    BundleTable("source_snapshot", tables.source_snapshot),
    BundleTable("entry", tables.entry),
    BundleTable("entry_alias", tables.entry_alias),
    BundleTable("snapshot_entry", tables.snapshot_entry),
    BundleTable("dataset", tables.dataset),
    BundleTable("dataset_version", tables.dataset_version),
    BundleTable("dataset_parent", tables.dataset_parent),
    BundleTable("dataset_base", tables.dataset_base),
    BundleTable("dataset_member", tables.dataset_change),
    BundleTable("dataset_number", tables.dataset_number),
    BundleTable("dataset_tag", tables.dataset_tag),
    BundleTable("blob", tables.blob),
    BundleTable("model", tables.model),
    BundleTable("job", tables.job),
    BundleTable("job_chunk", tables.job_chunk),
    BundleTable("checkpoint", tables.checkpoint),
    BundleTable("metric", tables.metric),
    BundleTable("candidate", tables.candidate),
    BundleTable("generation_event", tables.generation_event),
    BundleTable("candidate_record", tables.candidate_record),
    BundleTable("candidate_novelty", tables.candidate_novelty),
    BundleTable("statement", tables.statement),
)
"""What a bundle holds, in the order in which references go; jobs and checkpoints form a circle."""


# --- opening -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Bundle:
    """A bundle whose form has been checked.

    Attributes:
        path: where it was opened.
        sha256: of its manifest, which names every other file: what identifies it.
        manifest: as written.
        tables: every table of `TABLES`, by name.
        blobs: by SHA-256.
        documents: `DOCUMENTS`, by name.
    """

    path: Path
    sha256: str
    manifest: Mapping[str, Any]
    tables: Mapping[str, Path]
    blobs: Mapping[str, Path]
    documents: Mapping[str, Path]

    @property
    def origin(self) -> str:
        """The group that packed it."""
        return str(self.manifest["origin"])

    def rows(self, name: str) -> int:
        """Return the number of rows of a table."""
        return int(self.manifest["files"][f"tables/{name}.parquet"]["rows"])


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """Check the form of a bundle and give access to its files.

    Nothing of it is used before names, sizes and hashes are checked, and no table before its footer
    and pages are. What a zip holds lies in a private folder until the block ends; a folder is read
    where it is.

    Args:
        path: a folder or a zip.

    Raises:
        InputError: it is no bundle, or not what its manifest says; says what is wrong.
        RevisionError: it was packed by a gandb of another schema revision.
    """
    with tempfile.TemporaryDirectory(prefix="gandb-bundle-") as folder:
        yield _checked(path, Path(folder))


def _checked(path: Path, folder: Path) -> Bundle:
    """Check a bundle; what a zip holds is laid into ``folder``."""
    with bundle_files(path) as files:
        manifest, digest = _read_manifest(files)
        described = manifest["files"]
        _compare_names(path, set(files.sizes), {MANIFEST, *described})
        for name, facts in described.items():
            if files.sizes[name] != facts["size"]:
                raise InputError(
                    f"{path}: {name} has {files.sizes[name]} bytes, its manifest says "
                    f"{facts['size']}"
                )
        found = {n: files.checked(n, f["sha256"], folder) for n, f in described.items()}
        for table in TABLES:
            where = f"{path}: {table.path}"
            check_parquet(found[table.path], where, table.schema, described[table.path]["rows"])
    return Bundle(
        path=path,
        sha256=digest,
        manifest=manifest,
        tables={t.name: found[t.path] for t in TABLES},
        blobs={n[len("blobs/") :]: p for n, p in found.items() if n.startswith("blobs/")},
        documents={n: found[n] for n in DOCUMENTS},
    )


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of a bundle without looking at anything else.

    Raises:
        InputError: there is none, or it is damaged.
        RevisionError: it was packed by a gandb of another schema revision.
    """
    with bundle_files(path) as files:
        return _read_manifest(files)[0]


def _read_manifest(files: BundleFiles) -> tuple[dict[str, Any], str]:
    where = f"{files.path} is no bundle of gandb"
    if files.sizes.get(MANIFEST, LARGEST_DOCUMENT + 1) > LARGEST_DOCUMENT:
        raise InputError(f"{where}: it has no {MANIFEST}, or one of more than 64 MB")
    with files.open(MANIFEST) as handle:
        data = handle.read(LARGEST_DOCUMENT + 1)
    try:
        manifest = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: its {MANIFEST} is not JSON ({error})") from error
    if problem := _wrong_manifest(manifest):
        raise InputError(f"{where}: its {MANIFEST} {problem}")
    if (manifest["format"], manifest["revision"]) != (FORMAT, HEAD):
        raise RevisionError(
            f"{files.path} has bundle format {manifest['format']} and schema revision "
            f"{manifest['revision']}; this gandb reads {FORMAT} and {HEAD}: it was packed by gandb "
            f"{manifest['gandb']}. Use that version, or ask for it to be packed again"
        )
    strange = [n for n in manifest["files"] if not _FILE.fullmatch(n) and n not in DOCUMENTS]
    _compare_names(
        files.path,
        {n for n in manifest["files"] if not n.startswith("blobs/")},
        {*DOCUMENTS, *(t.path for t in TABLES)},
        MANIFEST,
    )
    if strange:
        raise InputError(f"{where}: its {MANIFEST} names {strange[0]!r}")
    return manifest, hashlib.sha256(data).hexdigest()


def _wrong_manifest(manifest: Any) -> str | None:
    """Say what is wrong with the shape of a manifest."""
    if not isinstance(manifest, dict):
        return "is not an object"
    kinds = {"format": int, "revision": str, "gandb": str, "origin": str, "selection": dict}
    kinds |= {"files": dict, "licences": list}
    for key, kind in kinds.items():
        if not isinstance(manifest.get(key), kind) or isinstance(manifest.get(key), bool):
            return f"has no {key}, or not as it should be"
    if (manifest["format"], manifest["revision"]) != (FORMAT, HEAD):
        return None
    if not ORIGIN.fullmatch(manifest["origin"]):
        return f"names the origin {manifest['origin'][:80]!r}, which cannot be one"
    for name, facts in manifest["files"].items():
        wanted = {"sha256", "size"} | ({"rows"} if name.startswith("tables/") else set())
        if not isinstance(facts, dict) or set(facts) != wanted:
            return f"does not say {', '.join(sorted(wanted))} of {name[:80]!r}"
        numbers = [facts[k] for k in wanted - {"sha256"}]
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
            return f"has a size of {name[:80]!r} that cannot be"
        if not isinstance(facts["sha256"], str) or not _SHA256.fullmatch(facts["sha256"]):
            return f"has a SHA-256 of {name[:80]!r} that cannot be"
        if name.startswith("blobs/") and name != f"blobs/{facts['sha256']}":
            return f"names the blob {name[:80]!r} by another hash than its own"
        if name in DOCUMENTS and facts["size"] > LARGEST_DOCUMENT:
            return f"says that {name} has more than 64 MB"
    return None


ORIGIN = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
"""What a group may call itself."""


def _compare_names(
    path: Path, found: set[str], wanted: set[str], where: str = "the bundle"
) -> None:
    if extra := sorted(found - wanted):
        shown = ", ".join(ascii(n)[:80] for n in extra[:_SHOWN])
        raise InputError(f"{path}: {where} has what does not belong there: {shown}")
    if missing := sorted(wanted - found):
        raise InputError(f"{path}: {', '.join(missing[:_SHOWN])} missing from {where}")


# --- files -------------------------------------------------------------------------------


@contextmanager
def bundle_files(path: Path) -> Iterator[BundleFiles]:
    """Look into a folder or a zip.

    Raises:
        InputError: it is neither, or holds what no bundle does.
    """
    try:
        if path.is_dir():
            yield _Folder(path)
        elif path.is_file():
            with zipfile.ZipFile(path) as archive:
                yield _Zip(path, archive)
        else:
            raise InputError(f"there is no bundle at {path}")
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        # zipfile says "not implemented" of compressions and versions that it does not know
        raise InputError(f"cannot read {path} as a bundle: {error}") from error


class BundleFiles(ABC):
    """The files of a bundle: their names and sizes, and what is in them.

    Attributes:
        path: of the bundle.
        sizes: bytes, by name.
    """

    path: Path
    sizes: dict[str, int]

    @abstractmethod
    def open(self, name: str) -> IO[bytes]:
        """Open a file of the bundle."""

    @abstractmethod
    def checked(self, name: str, sha256: str, folder: Path) -> Path:
        """Check the hash of a file and return where it can be read.

        Raises:
            InputError: it is damaged.
        """

    def _copy(self, name: str, sha256: str, out: IO[bytes] | None) -> None:
        digest = hashlib.sha256()
        left = self.sizes[name]
        with self.open(name) as handle:
            while piece := handle.read(min(_PIECE, left + 1)):
                left -= len(piece)
                if left < 0:
                    break
                digest.update(piece)
                if out is not None:
                    out.write(piece)
        if left or digest.hexdigest() != sha256:
            raise InputError(f"{self.path}: {name} is damaged (its SHA-256 differs)")


class _Folder(BundleFiles):
    def __init__(self, path: Path) -> None:
        self.path = path
        self.sizes = {}
        for item in sorted(path.iterdir()):
            if item.name in ("tables", "blobs") and stat.S_ISDIR(item.lstat().st_mode):
                for inner in sorted(item.iterdir()):
                    self._take(f"{item.name}/{inner.name}", inner)
            else:
                self._take(item.name, item)

    def _take(self, name: str, item: Path) -> None:
        facts = item.lstat()
        if not stat.S_ISREG(facts.st_mode):
            raise InputError(f"{self.path}: {name!a} is a link, a folder or no plain file")
        self.sizes[name] = facts.st_size

    def open(self, name: str) -> IO[bytes]:
        return (self.path / name).open("rb")

    def checked(self, name: str, sha256: str, folder: Path) -> Path:
        self._copy(name, sha256, None)
        return self.path / name


class _Zip(BundleFiles):
    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self.archive = archive
        self.sizes = {}
        for info in archive.infolist():
            mode = info.external_attr >> 16
            plain = not mode or stat.S_ISREG(mode) or not stat.S_IFMT(mode)
            stored = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
            if info.filename in self.sizes:
                raise InputError(f"{path}: {info.filename!a} is there twice")
            if not plain or info.is_dir():
                raise InputError(f"{path}: {info.filename!a} is a link, a folder or no plain file")
            if not stored or info.file_size != info.compress_size:
                raise InputError(
                    f"{path}: {info.filename!a} is compressed or encrypted; in a bundle it is not"
                )
            self.sizes[info.filename] = info.file_size
        if sum(self.sizes.values()) > path.stat().st_size:
            raise InputError(f"{path}: its files say that they are larger than the whole")

    def open(self, name: str) -> IO[bytes]:
        return self.archive.open(name)

    def checked(self, name: str, sha256: str, folder: Path) -> Path:
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        with target.open("wb") as out:
            self._copy(name, sha256, out)
        return target
