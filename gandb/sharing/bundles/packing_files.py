"""Writing a bundle's files: complete, or not at all."""

from __future__ import annotations

import fcntl
import secrets
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gandb.core.errors import StoreError
from gandb.sharing.bundles.bundle import MANIFEST

_EPOCH = (1980, 1, 1, 0, 0, 0)
_PLAIN_FILE = 0o100644 << 16
_LOCK = "lock"
_PIECE = 1 << 20


@contextmanager
def making(target: Path) -> Iterator[Path]:
    """Yield a folder beside the target that is gone afterwards, whatever happens.

    A lock tells the folders of those who still work from those that a killed process left.
    """
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
    try:
        with (folder / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # another process works there
        return


def _escaped(text: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def place(bundle: Path, target: Path, folder: Path) -> None:
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
                shutil.copyfileobj(source, out, _PIECE)


def _files(bundle: Path) -> Iterable[Path]:
    found = sorted((p for p in bundle.rglob("*") if p.is_file()), key=lambda p: p.as_posix())
    return sorted(found, key=lambda p: p.name != MANIFEST)
