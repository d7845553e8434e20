"""Blobs and staging: named by content, whole or absent, on a folder and elsewhere."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandb.core.errors import IntegrityError, NotFoundError, StoreError
from gandb.store.files import Files


@pytest.fixture(params=["folder", "file-url", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    roots = {
        "folder": str(tmp_path / "root"),
        "file-url": f"file://{tmp_path}/root",
        "memory": f"memory://{uuid.uuid4().hex}/root",
    }
    return Files(roots[request.param])


def _overwrite(files: Files, sha256: str, data: bytes) -> None:
    with fsspec.open(f"{files.root}/blobs/{sha256[:2]}/{sha256[2:]}", "wb") as handle:
        handle.write(data)


def test_a_blob_is_named_by_its_hash(files: Files) -> None:
    data = os.urandom(100_000)
    name = files.put_blob(data)
    assert name == hashlib.sha256(data).hexdigest()
    assert files.put_blob(data) == name
    assert files.has_blob(name)
    assert files.get_blob(name) == data
    assert list(files.blobs()) == [name]


def test_blobs_are_listed_and_dropped(files: Files) -> None:
    assert list(files.blobs()) == []
    names = {files.put_blob(bytes([i])) for i in range(20)}
    assert set(files.blobs()) == names
    gone = names.pop()
    files.drop_blob(gone)
    assert set(files.blobs()) == names
    assert not files.has_blob(gone)


@given(data=st.binary(max_size=50))
def test_any_bytes_come_back(data: bytes) -> None:
    files = Files("memory://any")
    assert files.get_blob(files.put_blob(data)) == data


def test_a_missing_blob_says_where(files: Files) -> None:
    with pytest.raises(NotFoundError, match=f"is missing from {files.root}/blobs"):
        files.get_blob("0" * 64)


@pytest.mark.parametrize("damage", [b"", b"other", b"weight"])
def test_a_damaged_blob_is_refused_and_mended_by_storing_it_again(
    files: Files, damage: bytes
) -> None:
    name = files.put_blob(b"weights")
    _overwrite(files, name, damage)
    with pytest.raises(IntegrityError, match=r"is damaged: its hash differs"):
        files.get_blob(name)
    files.put_blob(b"weights")
    assert files.get_blob(name) == b"weights"


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_only_hashes_name_blobs(files: Files, name: str) -> None:
    with pytest.raises(NotFoundError, match="64 hexadecimal digits"):
        files.get_blob(name)


def test_staged_work_is_replaced_and_removed(files: Files) -> None:
    assert files.staged("job", "a") is None
    files.stage("job", "a", b"1")
    files.stage("job", "b", b"2")
    files.stage("job", "a", b"3")
    assert (files.staged("job", "a"), files.staged("job", "b")) == (b"3", b"2")
    files.stage("other", "a", b"4")
    assert files.unstage("job") == 2
    assert files.unstage("job") == 0
    assert files.staged("job", "a") is files.staged("job", "b") is None
    assert files.staged("other", "a") == b"4"


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    versions = [bytes([i]) * 500_000 for i in range(20)]
    files.stage("job", "a", versions[0])
    stop = threading.Event()
    torn: list[int] = []

    def read() -> None:
        while not stop.is_set():
            data = files.staged("job", "a")
            if data not in versions:
                torn.append(len(data or b""))

    reader = threading.Thread(target=read)
    reader.start()
    for data in versions:
        files.stage("job", "a", data)
    stop.set()
    reader.join()
    assert not torn
    assert [p.name for p in (tmp_path / "staging" / "job").iterdir()] == ["a"]


def test_a_write_that_fails_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(str(tmp_path))
    files.stage("job", "a", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot write .*/a: No space left"):
        files.stage("job", "a", b"new")
    with pytest.raises(StoreError, match="No space left"):
        files.put_blob(b"new")
    assert files.staged("job", "a") == b"old"
    assert list(files.blobs()) == []
    assert [p.name for p in (tmp_path / "staging" / "job").iterdir()] == ["a"]


def test_a_place_that_is_no_folder_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file")
    files = Files(str(tmp_path / "root"))
    with pytest.raises(StoreError, match="Not a directory"):
        files.put_blob(b"x")


def test_an_unknown_file_system_is_a_store_error() -> None:
    with pytest.raises(StoreError, match="cannot use nowhere://x for blobs"):
        Files("nowhere://x")
