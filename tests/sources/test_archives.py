"""Walking files, folders and archives, against what was put into them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import re
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gandb.core.errors import InputError
from gandb.sources import archives, unpacking
from gandb.sources.archives import members
from gandb.sources.base import Reject
from gandb.sources.records import Member

TEXTS = {f"dir/{k % 3}/x{k}.cif": f"data_{k}\n".encode() * (k + 1) for k in range(20)}


def walk(*paths: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """Read every member as it comes: contents and reasons of rejects, by name."""
    read: dict[str, bytes] = {}
    reasons: dict[str, str] = {}
    for found in members(paths):
        if isinstance(found, Member):
            assert found.name not in read
            try:
                with found.open() as handle:
                    handle.read(5)  # as who looks for the format
                read[found.name] = found.read(2**30)
                assert found.size is None or found.size == len(read[found.name])
            except InputError as error:
                reasons[found.name] = str(error)
        else:
            reasons[found.file] = found.reason
    return read, reasons


def make_tar(path: Path, texts: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, text in texts.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    return path


def make_zip(path: Path, texts: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    return path


# --- what is read -------------------------------------------------------------------------


def test_every_packing_gives_the_same_members(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    for name, text in TEXTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text)
    made = [make_zip(tmp_path / "a.zip", TEXTS), make_tar(tmp_path / "b.tar", TEXTS)]
    made += [make_tar(tmp_path / f"c.tar.{p}", TEXTS, f"w:{p}") for p in ("gz", "bz2", "xz")]
    made.append(make_tar(tmp_path / "d.tgz", TEXTS, "w:gz"))
    packed = pa.compress(made[1].read_bytes(), codec="zstd", asbytes=True)
    (tmp_path / "e.tar.zst").write_bytes(packed)
    made.append(tmp_path / "e.tar.zst")
    for path in [folder, *made]:
        read, reasons = walk(path)
        assert reasons == {}
        assert read == {f"{path.name}/{name}": text for name, text in TEXTS.items()}
        if not path.name.endswith(("tar", "gz", "bz2", "xz", "zst")):
            assert list(read) == sorted(read)


def test_single_packed_files_have_their_inner_names(tmp_path: Path) -> None:
    text = b"data_x\n" * 100_000
    (tmp_path / "x.cif.gz").write_bytes(gzip.compress(text[:7]) + gzip.compress(text[7:]))
    (tmp_path / "x.cif.bz2").write_bytes(bz2.compress(text))
    (tmp_path / "x.cif.xz").write_bytes(lzma.compress(text[:7]) + lzma.compress(text[7:]))
    (tmp_path / "x.cif.zst").write_bytes(pa.compress(text, codec="zstd", asbytes=True))
    read, reasons = walk(tmp_path)
    assert reasons == {}
    assert set(read) == {f"{tmp_path.name}/x.cif.{p}/x.cif" for p in ("gz", "bz2", "xz", "zst")}
    assert set(read.values()) == {text}


def test_names_with_backslashes_are_paths(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", {"dir\\x.cif": b"data_x", "dir\\.hidden": b"x"})
    assert walk(tmp_path / "a.zip") == ({"a.zip/dir/x.cif": b"data_x"}, {})


def test_only_plain_files_have_a_path(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"SQLite format 3\0")
    make_zip(tmp_path / "b.zip", {"c.db": b"x"})
    paths = {m.name: m.path for m in members([tmp_path]) if isinstance(m, Member)}
    assert paths == {
        f"{tmp_path.name}/a.db": str(tmp_path / "a.db"),
        f"{tmp_path.name}/b.zip/c.db": None,
    }


def test_order_does_not_depend_on_how_paths_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b/x.cif", "a/x.cif", "c.cif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"data_x")
    monkeypatch.chdir(tmp_path)
    paths = [Path("b/x.cif"), Path("a/x.cif"), Path("c.cif"), Path("a/../c.cif"), Path("c.cif")]
    names = [m.name for m in members(paths) if isinstance(m, Member)]
    assert names == [m.name for m in members(paths[::-1]) if isinstance(m, Member)]
    assert sorted(names) == sorted({"a/x.cif", "b/x.cif", *names})
    inside = {m.name for m in members([Path(".")]) if isinstance(m, Member)}  # noqa: PTH201
    assert inside == {f"{tmp_path.name}/{n}" for n in ("a/x.cif", "b/x.cif", "c.cif")}


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    hidden = {
        ".DS_Store": b"x",
        "__MACOSX/._a.cif": b"x",
        "d/.git/config": b"x",
        "a.cif": b"data_a",
    }
    make_zip(tmp_path / "a.zip", hidden)
    make_tar(tmp_path / "b.tar", hidden)
    folder = tmp_path / "c"
    for name, text in hidden.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text)
    read, reasons = walk(tmp_path)
    assert reasons == {}
    assert {name.removeprefix(f"{tmp_path.name}/") for name in read} == {
        "a.zip/a.cif", "b.tar/a.cif", "c/a.cif",
    }  # fmt: skip


def test_a_large_member_of_a_tar_is_opened_again_after_a_look(tmp_path: Path) -> None:
    texts = {"a.txt": random.Random(0).randbytes(3 * 2**20), "b.txt": b"b"}
    make_tar(tmp_path / "x.tar", texts)
    assert walk(tmp_path / "x.tar")[0] == {f"x.tar/{k}": v for k, v in texts.items()}
    walking = iter(members([tmp_path / "x.tar"]))
    first = next(walking)
    assert isinstance(first, Member)
    first.read(2**30)
    with pytest.raises(InputError, match="read only once"):
        first.read(2**30)


def test_members_are_opened_one_after_another(tmp_path: Path) -> None:
    make_tar(tmp_path / "x.tar", {"a": b"a" * 3_000, "b": b"b" * 3_000})
    first, second = list(members([tmp_path / "x.tar"]))
    assert isinstance(first, Member)
    with pytest.raises(InputError, match="one after another"):
        first.read(10_000)
    make_zip(tmp_path / "x.zip", {"a": b"a"})
    [late] = list(members([tmp_path / "x.zip"]))
    assert isinstance(late, Member)
    with pytest.raises(InputError, match="cannot be unpacked"):
        late.read(10)
    assert isinstance(second, Member)


# --- what is refused ----------------------------------------------------------------------


UNSAFE = {
    "/etc/passwd": "absolute",
    "C:/x.cif": "absolute",
    "..\\x.cif": r"'\.\.'",
    "a/../../x.cif": r"'\.\.'",
    "a\nb.cif": "control",
    "x.pkl": "pickles run code",
    "x.pt": "pickles run code",
    "x.joblib": "pickles run code",
    "x.zip": "within an archive",
    "x.tar.gz": "within an archive",
    "x.cif.gz": "within an archive",
    "x.7z": "7z",
}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_unsafe_names_are_refused_and_the_rest_is_read(tmp_path: Path, kind: str) -> None:
    texts = dict.fromkeys(UNSAFE, b"data_x") | {"good.cif": b"data_good"}
    path = tmp_path / f"x.{kind}"
    (make_zip if kind == "zip" else make_tar)(path, texts)
    read, reasons = walk(path)
    assert read == {f"x.{kind}/good.cif": b"data_good"}
    assert len(reasons) == len(UNSAFE)
    for name, reason in UNSAFE.items():
        shown = name.replace("\\", "/") if kind == "zip" else name
        assert re.search(reason, reasons[f"x.{kind}/{shown}"])
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]  # nothing was written


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"type{kind.decode()}.cif")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    read, reasons = walk(tmp_path / "x.tar")
    assert read == {}
    assert sorted("link" in r for r in reasons.values()) == [False, False, True, True]
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info_zip = zipfile.ZipInfo("link.cif")
        info_zip.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info_zip, "/etc/passwd")
    assert "link" in walk(tmp_path / "x.zip")[1]["x.zip/link.cif"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_first_of_one_name_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.cif", "first")
        archive.writestr("a.cif", "second")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, text in (("a.cif", b"first"), ("./a.cif", b"second")):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    for path in (tmp_path / "x.zip", tmp_path / "x.tar"):
        found = list(members([path]))
        assert [type(f) for f in found] == [Member, Reject]
    for path in (tmp_path / "x.zip", tmp_path / "x.tar"):
        walking = iter(members([path]))
        first = next(walking)
        assert isinstance(first, Member)
        assert first.read(10) == b"first"


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.cif": b"data_a"})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert walk(path) == ({}, {"x.zip/a.cif": "encrypted: decrypt it first"})


def test_pickles_are_refused_with_the_way_round(tmp_path: Path) -> None:
    names = ["a.pkl", "b.pickle.gz", "c.pt", "d.pth", "e.joblib", "f.npz"]
    for name in names:
        (tmp_path / name).write_bytes(gzip.compress(b"x") if name.endswith("gz") else b"x")
    np.save(tmp_path / "g.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "h.npy", np.zeros(3))
    read, reasons = walk(tmp_path)
    assert [name.rpartition("/")[2] for name in read] == ["h.npy"]
    assert len(reasons) == 7
    assert all("convert it to CIF, extxyz or pymatgen JSON" in r for r in reasons.values())


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz", "zst", "zip", "tar.gz"])
def test_bombs_are_refused_while_they_unpack(tmp_path: Path, packing: str) -> None:
    zeros = bytes(2**20)
    path = tmp_path / f"x.{packing}"
    if packing == "zip":
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("a.cif", "w") as member,
        ):
            for _ in range(100):
                member.write(zeros)
    elif packing == "tar.gz":
        make_tar(path, {"a.cif": zeros * 100, "b.cif": b"b"}, "w:gz")
    else:
        data = zeros * 100
        path.write_bytes(
            {
                "gz": gzip.compress,
                "bz2": bz2.compress,
                "xz": lzma.compress,
                "zst": lambda d: pa.compress(d, codec="zstd", asbytes=True),
            }[packing](data)
        )
    taken = 0
    reasons = []
    for found in members([path]):
        if isinstance(found, Reject):
            reasons.append(found.reason)
            continue
        try:
            with found.open() as handle:
                while block := handle.read(2**20):
                    taken += len(block)
        except InputError as error:
            reasons.append(str(error))
    assert reasons
    assert all("zip bomb" in reason for reason in reasons)
    assert taken <= unpacking.FREE_BYTES + path.stat().st_size * unpacking.MAX_RATIO + 2**20


def test_sizes_that_headers_declare_are_not_believed(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.cif": b"data_a\n" * 1_000})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    for size in (10, 2**31):
        struct.pack_into("<L", data, at + 24, size)
        path.write_bytes(data)
        read, reasons = walk_loosely(path)
        assert sum(map(len, read.values())) <= 7_000
        assert reasons or sum(map(len, read.values())) == 7_000


def walk_loosely(path: Path) -> tuple[dict[str, bytes], list[str]]:
    read, reasons = {}, []
    for found in members([path]):
        try:
            if isinstance(found, Reject):
                reasons.append(found.reason)
            else:
                read[found.name] = found.read(2**24)
        except InputError as error:
            reasons.append(str(error))
    return read, reasons


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 10)
    assert "split it" in walk(make_zip(tmp_path / "x.zip", TEXTS))[1]["x.zip"]
    read, reasons = walk(make_tar(tmp_path / "x.tar", TEXTS))
    assert len(read) == 10
    assert "more than 10 members" in reasons["x.tar"]


def test_headers_of_tars_are_bounded(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**33
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))
    assert "header of" in walk(tmp_path / "x.tar")[1]["x.tar"]


# --- what is broken -----------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.xz"])
def test_what_precedes_the_cut_is_read(tmp_path: Path, ending: str) -> None:
    path = make_tar(tmp_path / f"x.{ending}", TEXTS, "w:" + ending.partition(".")[2])
    data = path.read_bytes().rstrip(b"\0")
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        read, reasons = walk(path)
        assert path.name in reasons
        expected = {f"{path.name}/{name}": text for name, text in TEXTS.items()}
        assert read.items() <= expected.items()
    end = make_tar(tmp_path / "y.tar", TEXTS).read_bytes().rstrip(b"\0")
    (tmp_path / "y.tar").write_bytes(end + bytes(-len(end) % 512))  # whole, but for the end mark
    read, reasons = walk(tmp_path / "y.tar")
    assert len(read) == len(TEXTS)
    assert "end mark" in reasons["y.tar"] or "empty header" in reasons["y.tar"]


def test_a_cut_file_says_so_where_it_is_read(tmp_path: Path) -> None:
    text = random.Random(0).randbytes(200_000)
    for name, pack in (
        ("x.gz", gzip.compress),
        ("x.bz2", bz2.compress),
        ("x.xz", lzma.compress),
        ("x.zst", lambda d: pa.compress(d, codec="zstd", asbytes=True)),
    ):
        (tmp_path / name).write_bytes(pack(text)[:100_000])
        read, reasons = walk(tmp_path / name)
        assert read == {}, name
        assert all("cannot be unpacked to its end" in reason for reason in reasons.values())


def test_broken_archives_are_rejects_and_never_crash(tmp_path: Path) -> None:
    random_bytes = random.Random(1)
    sources = [
        make_zip(tmp_path / "x.zip", TEXTS),
        make_tar(tmp_path / "x.tar", TEXTS),
        make_tar(tmp_path / "y.tar.gz", TEXTS, "w:gz"),
    ]
    (tmp_path / "z.cif.gz").write_bytes(gzip.compress(b"data_z\n" * 1_000))
    (tmp_path / "z.cif.xz").write_bytes(lzma.compress(b"data_z\n" * 1_000))
    (tmp_path / "z.cif.zst").write_bytes(pa.compress(b"z\n" * 1_000, codec="zstd", asbytes=True))
    sources += [tmp_path / f"z.cif.{p}" for p in ("gz", "xz", "zst")]
    for path in sources:
        data = path.read_bytes()
        for _ in range(100):
            broken = bytearray(data)
            for _ in range(random_bytes.randint(1, 20)):
                broken[random_bytes.randrange(len(broken))] = random_bytes.randrange(256)
            del broken[random_bytes.randrange(len(broken)) :]
            path.write_bytes(broken)
            walk_loosely(path)
    for name in ("g.zip", "g.tar", "g.tgz", "g.tar.xz", "g.gz", "g.zst"):
        for content in (b"", b"hello", random_bytes.randbytes(5_000)):
            (tmp_path / name).write_bytes(content)
            read, reasons = walk_loosely(tmp_path / name)
            assert reasons or (content == b"" and not any(read.values())), name


def test_what_cannot_be_read_is_a_reject(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    os.mkfifo(folder / "fifo.cif")
    (folder / "broken.cif").symlink_to(tmp_path / "nothing")
    (folder / "loop").symlink_to(folder)
    (folder / "good.cif").write_bytes(b"data_good")
    read, reasons = walk(folder, tmp_path / "gone.cif")
    assert read == {"d/good.cif": b"data_good"}
    assert set(reasons) == {"d/fifo.cif", "d/broken.cif", "d/loop", "gone.cif"}
    assert "No such file" in reasons["gone.cif"]

    (folder / "late.cif").write_bytes(b"x")
    [late] = [m for m in members([folder / "late.cif"]) if isinstance(m, Member)]
    (folder / "late.cif").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        late.open()


def test_names_that_are_not_utf8_are_shown(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.cif")).write_bytes(b"data_x")
    make_tar(tmp_path / "x.tar", {os.fsdecode(b"caf\xe9.cif"): b"data_x"})
    for path in (folder, tmp_path / "x.tar"):
        [found] = members([path])
        assert isinstance(found, Member)
        assert found.name == f"{path.name}/caf\\xe9.cif"
        found.name.encode()


def test_folders_nest_deeply(tmp_path: Path) -> None:
    at = tmp_path
    for _ in range(500):
        at = at / "d"
        at.mkdir()
    (at / "x.cif").write_bytes(b"data_x")
    assert len(walk(tmp_path)[0]) == 1


@pytest.mark.parametrize("size", [b"\x80" + b"\xff" * 11, b"\x80" + bytes(5) + b"\xff" * 6])
def test_a_size_without_end_does_not_keep_a_tar_busy(tmp_path: Path, size: bytes) -> None:
    data = bytearray(
        make_tar(tmp_path / "x.tar", {"a.cif": b"data_a\n", "b.cif": b""}).read_bytes()
    )
    at = data.index(b"b.cif")
    data[at + 124 : at + 136] = size
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = f"{sum(data[at : at + 512]):06o}\0 ".encode()
    (tmp_path / "x.tar").write_bytes(data)
    read, reasons = walk(tmp_path / "x.tar")
    assert list(read) == ["x.tar/a.cif"]
    assert "is it whole?" in reasons["x.tar"]


def test_archives_without_files_say_so(tmp_path: Path) -> None:
    paths = [make_zip(tmp_path / "a.zip", {}), make_tar(tmp_path / "b.tar", {})]
    read, reasons = walk(*paths)
    assert read == {}
    assert reasons == dict.fromkeys(["a.zip", "b.tar"], "it holds no files")
