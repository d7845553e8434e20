"""A backup is the whole store, fits either engine, and a damaged one makes no store."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from gandb.core.config import Settings
from gandb.core.errors import InputError, RevisionError, StoreError
from gandb.schema.tables import metadata
from gandb.sharing.backup import restore_backup, write_backup
from gandb.store import Store
from gandb.tasks.verification import verify_store
from tests.filled import Filled, fill


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    folder = tmp_path_factory.mktemp("filled")
    return fill(str(folder / "store"), folder)


@pytest.fixture(scope="module")
def backup(filled: Filled, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("backup") / "store.tar"
    write_backup(filled.store, target)
    return target


def rows_of(store: Store) -> dict[str, list[str]]:
    """Every row of every table as text that compares across engines."""
    found = {}
    with store.read() as connection:
        for table in metadata.sorted_tables:
            if table.name != "setting":
                rows = connection.execute(sa.select(table)).mappings()
                found[table.name] = sorted(
                    json.dumps(dict(r), default=str, sort_keys=True) for r in rows
                )
    return found


def test_restored_store_has_every_row(
    filled: Filled, backup: Path, store_url: str, tmp_path: Path
) -> None:
    blobs = str(tmp_path / "blobs") if "://" in store_url else None
    again, counts = restore_backup(backup, Settings(store=store_url), blobs)
    before, after = rows_of(filled.store), rows_of(again)
    assert after == before
    assert all(before[name] for name in ("candidate", "snapshot_reject", "metric", "job_event"))
    assert counts["rows"] == sum(len(rows) for rows in before.values())
    assert [f for f in verify_store(again) if f["problems"]] == []


def test_backup_of_a_restored_store_is_the_same_file(backup: Path, tmp_path: Path) -> None:
    again, _ = restore_backup(backup, Settings(store=str(tmp_path / "again")))
    write_backup(again, tmp_path / "second.tar")
    assert (tmp_path / "second.tar").read_bytes() == backup.read_bytes()


@pytest.mark.postgres
def test_backup_from_postgres_restores_to_duckdb(
    filled: Filled, backup: Path, postgres_database: str, tmp_path: Path
) -> None:
    blobs = str(tmp_path / "blobs")
    there, _ = restore_backup(backup, Settings(store=postgres_database), blobs)
    write_backup(there, tmp_path / "there.tar")
    back, _ = restore_backup(tmp_path / "there.tar", Settings(store=str(tmp_path / "back")))
    assert rows_of(back) == rows_of(filled.store)


def test_a_backup_never_overwrites(filled: Filled, backup: Path) -> None:
    with pytest.raises(StoreError, match="never overwrites"):
        write_backup(filled.store, backup)


def test_a_restore_never_overwrites(filled: Filled, backup: Path) -> None:
    before = rows_of(filled.store)
    with pytest.raises(StoreError, match="already"):
        restore_backup(backup, Settings(store=str(filled.store.engine.directory)))  # type: ignore[union-attr]
    assert rows_of(filled.store) == before


def test_a_backup_with_a_lost_blob_is_not_written(tmp_path: Path) -> None:
    own = fill(str(tmp_path / "store"), tmp_path / "tables")
    own.store.files.drop_blob(next(iter(own.store.files.blobs())))
    with pytest.raises(Exception, match="missing"):
        write_backup(own.store, tmp_path / "lost.tar")
    assert not (tmp_path / "lost.tar").exists()
    assert not list(tmp_path.glob(".*"))


Member = tuple[str, bytes]


def members(path: Path) -> list[Member]:
    with tarfile.open(path) as archive:
        return [(i.name, archive.extractfile(i).read()) for i in archive]  # type: ignore[union-attr]


def pack(path: Path, content: list[Member]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in content:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def change_manifest(content: list[Member], change: Callable[[dict], None]) -> list[Member]:  # type: ignore[type-arg]
    manifest = json.loads(content[0][1])
    change(manifest)
    return [(content[0][0], json.dumps(manifest).encode()), *content[1:]]


HOSTILE = {
    "flipped byte": lambda c: [*c[:3], (c[3][0], c[3][1][:-1] + bytes([c[3][1][-1] ^ 1])), *c[4:]],
    "missing member": lambda c: c[:-1],
    "extra member": lambda c: [*c, ("tables/intruder.parquet", b"x")],
    "escaping name": lambda c: [*c, ("../escape", b"x")],
    "absolute name": lambda c: [*c, ("/tmp/escape", b"x")],
    "no manifest": lambda c: c[1:],
    "empty": lambda _: [],
    "manifest is no JSON": lambda c: [(c[0][0], b"{"), *c[1:]],
    "manifest names a strange file": lambda c: change_manifest(
        c, lambda m: m["members"].update({"../x": {"size": 1, "sha256": "0"}})
    ),
    "longer than said": lambda c: [*c[:3], (c[3][0], c[3][1] + b"x"), *c[4:]],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_backup_makes_no_store(name: str, backup: Path, tmp_path: Path) -> None:
    bad = pack(tmp_path / "bad.tar", HOSTILE[name](members(backup)))
    with pytest.raises(InputError):
        restore_backup(bad, Settings(store=str(tmp_path / "store")))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.tar"]


def test_a_link_in_a_backup_is_refused(backup: Path, tmp_path: Path) -> None:
    content = members(backup)
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        for name, data in content[:-1]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo(content[-1][0])
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(InputError, match="not what the manifest says"):
        restore_backup(tmp_path / "bad.tar", Settings(store=str(tmp_path / "store")))


def test_a_truncated_backup_makes_no_store(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.tar").write_bytes(backup.read_bytes()[: backup.stat().st_size // 2])
    with pytest.raises(InputError):
        restore_backup(tmp_path / "cut.tar", Settings(store=str(tmp_path / "store")))
    assert not (tmp_path / "store").exists()


def test_a_backup_of_the_first_format_is_read(filled: Filled, backup: Path, tmp_path: Path) -> None:
    """There, lists were texts with commas and blobs were hexadecimal."""
    head, *rest = members(backup)
    manifest = json.loads(head[1])
    manifest["format"] = 1
    older = []
    for name, data in rest:
        if name.endswith(".parquet"):
            out = io.BytesIO()
            pq.write_table(_as_text(pq.read_table(io.BytesIO(data))), out)
            data = out.getvalue()
            manifest["members"][name] |= {
                "size": len(data), "sha256": hashlib.sha256(data).hexdigest()
            }  # fmt: skip
        older.append((name, data))
    content = [(head[0], json.dumps(manifest).encode()), *older]
    old = pack(tmp_path / "old.tar", content)
    again, _ = restore_backup(old, Settings(store=str(tmp_path / "store")))
    assert rows_of(again) == rows_of(filled.store)


def _as_text(table: pa.Table) -> pa.Table:
    for place, field in enumerate(table.schema):
        values = table.column(place).to_pylist()
        if pa.types.is_list(field.type):
            texts = [None if v is None else ",".join(map(str, v)) for v in values]
        elif pa.types.is_binary(field.type):
            texts = [None if v is None else v.hex() for v in values]
        else:
            continue
        table = table.set_column(place, field.name, pa.array(texts, pa.string()))
    return table


def test_a_newer_backup_is_refused(backup: Path, tmp_path: Path) -> None:
    newer = change_manifest(members(backup), lambda m: m.update(revision="9999"))
    with pytest.raises(RevisionError, match="9999"):
        restore_backup(pack(tmp_path / "new.tar", newer), Settings(store=str(tmp_path / "store")))
