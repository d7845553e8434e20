"""Files beside the database: blobs named by their hash, and work in progress.

Both live under one root, a local folder or any fsspec URL (a shared folder, ``s3://...``)::

    blobs/ab/cdef...      immutable, named by SHA-256
    staging/<job>/...     chunks on their way in, training states; gone when the job is done
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec

from gandb.core.errors import IntegrityError, NotFoundError, StoreError

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Files:
    """Blobs and staging under ``root`` (a path or an fsspec URL)."""

    def __init__(self, root: str) -> None:
        self.root = root
        try:
            self._fs, self._base = fsspec.core.url_to_fs(root)
        except (ImportError, ValueError) as error:
            raise StoreError(f"cannot use {root} for blobs: {error}") from error
        self._local = "file" in _protocols(self._fs)

    # --- blobs ---------------------------------------------------------------------------

    def put_blob(self, data: bytes) -> str:
        """Store ``data`` and return its SHA-256; storing it again repairs it if it was damaged."""
        sha256 = hashlib.sha256(data).hexdigest()
        if self._read(self._blob(sha256)) != data:
            self._write(self._blob(sha256), data)
        return sha256

    def get_blob(self, sha256: str) -> bytes:
        """Return a blob.

        Raises:
            NotFoundError: it is not there.
            IntegrityError: its content is not what its name says.
        """
        data = self._read(self._blob(sha256))
        if data is None:
            raise NotFoundError(f"blob {sha256} is missing from {self.root}/blobs")
        if hashlib.sha256(data).hexdigest() != sha256:
            raise IntegrityError(f"blob {sha256} in {self.root}/blobs is damaged: its hash differs")
        return data

    def has_blob(self, sha256: str) -> bool:
        """Say whether a blob is there."""
        return self._exists(self._blob(sha256))

    def blobs(self) -> Iterator[str]:
        """Yield the SHA-256 of every blob."""
        base = f"{self._base}/blobs"
        if not self._exists(base):
            return
        for path in self._fs.find(base):
            name = str(path).rsplit("/", 2)
            if not name[2].startswith("."):
                yield name[1] + name[2]

    def drop_blob(self, sha256: str) -> None:
        """Remove a blob that nothing refers to."""
        self._fs.rm_file(self._blob(sha256))

    # --- staging -------------------------------------------------------------------------

    def stage(self, job: str, name: str, data: bytes) -> None:
        """Write work in progress; a reader sees the old content or the new, never a part."""
        self._write(f"{self._base}/staging/{job}/{name}", data)

    def staged(self, job: str, name: str) -> bytes | None:
        """Return staged work, or None."""
        return self._read(f"{self._base}/staging/{job}/{name}")

    def unstage(self, job: str) -> int:
        """Remove all staged work of a job; return how many files there were."""
        folder = f"{self._base}/staging/{job}"
        try:
            files = len(self._fs.find(folder))
            self._fs.rm(folder, recursive=True)
        except FileNotFoundError:
            return 0
        return files

    # --- how -----------------------------------------------------------------------------

    def _blob(self, sha256: str) -> str:
        if not _SHA256.fullmatch(sha256):
            raise NotFoundError(f"no blob {sha256!r}: its name is a SHA-256, 64 hexadecimal digits")
        return f"{self._base}/blobs/{sha256[:2]}/{sha256[2:]}"

    def _exists(self, path: str) -> bool:
        return bool(self._fs.exists(path))

    def _read(self, path: str) -> bytes | None:
        try:
            return bytes(self._fs.cat_file(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror or error}") from error

    def _write(self, path: str, data: bytes) -> None:
        folder, name = path.rsplit("/", 1)
        try:
            if self._local:
                _replace(Path(folder), name, data)
            else:
                self._fs.makedirs(folder, exist_ok=True)
                self._fs.pipe_file(path, data)  # object stores replace an object as a whole
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def _replace(folder: Path, name: str, data: bytes) -> None:
    """Write a file under another name, on the disk for good, and move it into place."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name}.{uuid.uuid4().hex}"
    try:
        with part.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        part.replace(folder / name)
        _sync(folder)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
