"""Broken archives and packed files, bombs, pickles and other things under good names."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import sqlite3
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from tests.broken import INF, NAN, Broken, Numbers, numbers_of
from tests.good_files import WRITERS, Draft, ase_sqlite, cif, parquet, poscar, sql

NAMES = (
    "x.cif x.vasp POSCAR CONTCAR x.extxyz x.xyz x.json x.jsonl x.csv x.tsv x.db x.sql x.parquet "
    "aflowlib.out aflowlib.json x.yaml x.html x.zip x.tar x.tar.gz x.tgz x.gz x.json.gz x.cif.bz2 "
    "x.jsonl.xz x.tar.zst x.txt x"
).split()
UNSAFE = (
    "../evil.cif", "a/../../evil.cif", "../../../../../../tmp/gandb-evil.cif", "..\\evil.cif",
    "a/..", "/gandb-evil.cif", "/tmp/gandb-evil.cif", "//tmp/gandb-evil.cif", "C:\\evil.cif",
    "C:evil.cif", "\\\\server\\evil.cif", "a/b/../../../evil.cif", "evil\n.cif", "./../evil.cif",
)  # fmt: skip


def zipped(members: Sequence[tuple[str | zipfile.ZipInfo, bytes]], packing: int = 8) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", packing) as archive:
        for name, text in members:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            archive.writestr(info, text, packing)
    return data.getvalue()


def _gz(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gz": _gz,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


def tarred(members: Sequence[tuple[str | tarfile.TarInfo, bytes]], packing: str = "") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, text in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if info.isreg():
                info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
    return PACKERS[packing](data.getvalue())


def _between(new: Numbers) -> tuple[list[Draft], bytes, bytes]:
    """Two good files to put around a bad one."""
    drafts = new.take(2)
    return drafts, cif(drafts[0]).encode(), poscar(drafts[1]).encode()


# --- archives around broken files ----------------------------------------------------------


def around(new: Numbers, chance: random.Random, plain: Sequence[Broken]) -> Iterator[Broken]:
    """Files that are broken in themselves, in archives between good ones, and packed."""
    for kind in ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz") * 20:
        inner = chance.choice(plain)
        while inner.name == "dump.sql":
            inner = chance.choice(plain)
        drafts, one, two = _between(new)
        members = [("a/one.cif", one), (f"b/{inner.name}", inner.data), ("c/two.vasp", two)]
        if kind == "zip":
            data = zipped(members, chance.choice([0, 8, 12, 14]))
        else:
            data = tarred(members, kind.partition(".")[2])
        good = (*inner.good, *numbers_of(drafts))
        what = f"{inner.what}, in {kind}"
        yield Broken(what, f"x.{kind}", data, good, inner.perhaps, inner.says)
    for ending in ("gz", "bz2", "xz") * 15:
        inner = chance.choice(plain)
        if inner.name in ("dump.sql", "POSCAR"):
            continue
        data = PACKERS[ending](inner.data)
        name = f"{inner.name}.{ending}"
        yield Broken(f"{inner.what}, packed", name, data, inner.good, inner.perhaps, inner.says)


def damaged_packing(new: Numbers, chance: random.Random) -> Iterator[Broken]:
    """Good files, packed, and then cut or damaged."""
    for writer in WRITERS:
        drafts = new.take(writer.most)
        some = numbers_of(drafts)
        text = writer.file(drafts)
        packed = _gz(text)
        crc = packed[:-8] + bytes(255 - b for b in packed[-8:-4]) + packed[-4:]
        size = packed[:-4] + struct.pack("<I", len(text) + 1)
        cut = packed[: chance.randrange(12, len(packed) - 9)]
        head = b"\x1f\x8c" + packed[2:]
        for what, data in (("CRC", crc), ("size", size), ("cut", cut), ("head", head)):
            drafts = new.take(0)
            sure = () if what == "head" else some
            yield Broken(f"gz: {what}", f"{writer.name}.gz", data, (), sure)
        if writer.most == 1:
            continue
        for packing, data in (("bz2", bz2.compress(text)), ("xz", lzma.compress(text))):
            at = chance.randrange(20, len(data) - 20)
            yield Broken(f"{packing}: cut", f"{writer.name}.{packing}", data[:at], (), some)
        whole = lzma.compress(text)
        at = chance.randrange(30, len(whole) - 30)
        data = whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]
        yield Broken("xz: a byte", f"{writer.name}.xz", data, (), some)


# --- zip -----------------------------------------------------------------------------------


def zips(new: Numbers, chance: random.Random) -> Iterator[Broken]:
    for name in UNSAFE:
        drafts, one, two = _between(new)
        (evil,) = new.take(1)
        data = zipped([("one.cif", one), (name, cif(evil).encode()), ("two.vasp", two)])
        yield Broken("zip: a path", "x.zip", data, numbers_of(drafts), says="path|\\.\\.|control")
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK):
        drafts, one, two = _between(new)
        info = zipfile.ZipInfo("evil.cif")
        info.external_attr = (kind | 0o777) << 16
        info.create_system = 3
        data = zipped([("one.cif", one), (info, b"/etc/passwd"), ("two.vasp", two)])
        yield Broken("zip: a link", "x.zip", data, numbers_of(drafts), says="link|device")
    for _ in range(3):
        drafts, one, two = _between(new)
        locked = bytearray(zipped([("one.cif", one), ("evil.cif", one), ("two.vasp", two)], 0))
        _flag(locked, b"evil.cif")
        yield Broken("zip: encrypted", "x.zip", bytes(locked), numbers_of(drafts), says="encrypted")
        drafts, one, two = _between(new)
        (evil,) = new.take(1)
        again = cif(evil).encode()
        twice = _doubled([("one.cif", one), ("one.cif", again), ("two.vasp", two)])
        yield Broken("zip: a name twice", "x.zip", twice, numbers_of(drafts), says="before")
        drafts, one, two = _between(new)
        inner = zipped([("in.cif", cif(new.take(1)[0]).encode())])
        data = zipped([("one.cif", one), ("in.zip", inner), ("two.vasp", two)])
        yield Broken("zip: nested", "x.zip", data, numbers_of(drafts), says="within")
    for _ in range(12):
        drafts, one, two = _between(new)
        data = zipped([("one.cif", one), ("two.vasp", two)])
        at = chance.randrange(5, len(data) - 1)
        yield Broken("zip: cut", "x.zip", data[:at], says="cut off|zip")
    for _ in range(8):  # noise over packed bytes
        drafts, one, two = _between(new)
        damaged = bytearray(zipped([("one.cif", one), ("two.vasp", two)]))
        begin = damaged.index(b"one.cif") + 7
        damaged[begin : begin + 20] = chance.randbytes(20)
        yield Broken("zip: noise", "x.zip", bytes(damaged), numbers_of(drafts[1:]))
    for field, size, value in (  # offsets in the central directory
        (10, 2, 99), (16, 4, 0xDEADBEEF), (20, 4, 3), (24, 4, 1), (42, 4, 0x7FFFFFF0), (42, 4, 1),
        (28, 2, 0xFFFF), (6, 2, 99),
    ):  # fmt: skip
        drafts, one, two = _between(new)
        damaged = bytearray(zipped([("one.cif", one), ("two.vasp", two)]))
        at = damaged.index(b"PK\1\2") + field
        damaged[at : at + size] = value.to_bytes(size, "little")
        yield Broken("zip: its table lies", "x.zip", bytes(damaged), (), numbers_of(drafts))
    for place in (12, 16):  # size and place of the table
        drafts, one, two = _between(new)
        damaged = bytearray(zipped([("one.cif", one), ("two.vasp", two)]))
        at = damaged.rindex(b"PK\5\6") + place
        damaged[at : at + 4] = b"\xff\xff\xff\x7f"
        yield Broken("zip: its end lies", "x.zip", bytes(damaged), (), numbers_of(drafts))


def _flag(data: bytearray, name: bytes) -> None:
    """Mark a member as encrypted, in both places."""
    at = data.index(name) - 30
    data[at + 6] |= 1
    at = data.index(name, data.index(b"PK\1\2")) - 46
    data[at + 8] |= 1


def _doubled(members: Sequence[tuple[str | zipfile.ZipInfo, bytes]]) -> bytes:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return zipped(members)


# --- tar -----------------------------------------------------------------------------------


def tars(new: Numbers, chance: random.Random) -> Iterator[Broken]:
    for name in UNSAFE:
        drafts, one, two = _between(new)
        (evil,) = new.take(1)
        data = tarred([("one.cif", one), (name, cif(evil).encode()), ("two.vasp", two)])
        yield Broken("tar: a path", "x.tar", data, numbers_of(drafts), says="path|\\.\\.|control")
    for kind in (
        tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
    ):  # fmt: skip
        drafts, one, two = _between(new)
        info = tarfile.TarInfo("evil.cif")
        info.type = kind
        info.linkname = chance.choice(["one.cif", "/etc/passwd", "../../etc/passwd"])
        data = tarred([("one.cif", one), (info, b""), ("two.vasp", two)])
        yield Broken("tar: a link", "x.tar", data, numbers_of(drafts), says="link|device")
    for packing in ("", "gz", "xz"):
        drafts, one, two = _between(new)
        again = cif(new.take(1)[0]).encode()
        name = f"x.tar.{packing}".rstrip(".")
        data = tarred([("one.cif", one), ("one.cif", again), ("two.vasp", two)], packing)
        yield Broken("tar: a name twice", name, data, numbers_of(drafts), says="before")
        drafts, one, two = _between(new)
        inner = tarred([("a", again)])
        data = tarred([("one.cif", one), ("in.tar.gz", inner), ("b.vasp", two)], packing)
        yield Broken("tar: nested", name, data, numbers_of(drafts), says="within")
    for _ in range(12):
        drafts, one, two = _between(new)
        data = tarred([("one.cif", one), ("two.vasp", two)])
        second = data.index(b"two.vasp")
        if chance.random() < 0.5:  # within the text of the second
            at, good = chance.randrange(second + 513, second + 512 + len(two) - 5), drafts[:1]
        else:  # within its header
            at, good = chance.randrange(second + 1, second + 500), drafts[:1]
        yield Broken("tar: cut", "x.tar", data[:at], numbers_of(good))
    for _ in range(6):
        drafts, one, two = _between(new)
        damaged = bytearray(tarred([("one.cif", one), ("two.vasp", two)]))
        second = damaged.index(b"two.vasp")
        damaged[second + chance.randrange(100, 250)] ^= 0x15
        yield Broken("tar: a header", "x.tar", bytes(damaged), numbers_of(drafts[:1]))
    for size in (b"77777777777\0", b"\x80" + b"\xff" * 11, b"zzzzzzzzzzz\0", b"-0000000001\0"):
        drafts, one, two = _between(new)
        damaged = bytearray(tarred([("one.cif", one), ("two.vasp", two)]))
        second = damaged.index(b"two.vasp")
        damaged[second + 124 : second + 136] = size
        damaged[second + 148 : second + 156] = b" " * 8
        total = sum(damaged[second : second + 512])
        damaged[second + 148 : second + 156] = f"{total:06o}\0 ".encode()
        what = "tar: a size that lies"
        yield Broken(what, "x.tar", bytes(damaged), numbers_of(drafts[:1]))
    for _ in range(4):
        drafts, one, two = _between(new)
        data = tarred([("one.cif", one), ("two.vasp", two)], "gz")
        at = chance.randrange(30, len(data) - 9)
        yield Broken("tar.gz: cut", "x.tar.gz", data[:at], (), numbers_of(drafts))
        noise = data[:at] + chance.randbytes(8) + data[at + 8 :]
        yield Broken("tar.gz: noise", "x.tar.gz", noise, (), numbers_of(drafts))


# --- bombs ---------------------------------------------------------------------------------


def bombs(new: Numbers) -> Iterator[Broken]:
    """Files of some kilobytes that become hundreds of megabytes, and files that are too large."""
    size = 120 * 2**20
    zeros = _deflated(size)
    for name in ("x.cif", "x.vasp", "x.json", "x.jsonl", "x.csv", "x.extxyz", "x.db", "x.parquet"):
        drafts, one, two = _between(new)
        stored = zipped([("one.cif", one), ("two.vasp", two)])
        data = _with_member(stored, name, zeros, size, size)
        yield Broken("bomb: zip", "x.zip", data, numbers_of(drafts))
        if name in ("x.cif", "x.json"):  # sizes that lie
            drafts, one, two = _between(new)
            stored = zipped([("one.cif", one), ("two.vasp", two)])
            data = _with_member(stored, name, zeros, size, 1_000)
            yield Broken("bomb: a size that lies", "x.zip", data, numbers_of(drafts))
    gz = b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + zeros + struct.pack("<II", 0, size)
    for name in ("x.cif", "x.json", "x.csv", "x.jsonl", "x.extxyz", "x.vasp", "x.sql", "x.tar"):
        yield Broken("bomb: gz", f"{name}.gz", gz, says="bomb|tar|format|cut|CIF|bytes|no files")
    nested = zipped([("in.zip", zipped([("deep.cif", gz)]))])
    yield Broken("bomb: nested", "x.zip", nested, says="within")
    yield Broken("bomb: bz2", "x.cif.bz2", bz2.compress(bytes(size // 2), 1), says="bomb")
    yield Broken("bomb: xz", "x.cif.xz", lzma.compress(bytes(size), preset=0), says="bomb")
    zstd = pa.compress(bytes(size), codec="zstd", asbytes=True)
    yield Broken("bomb: zst", "x.cif.zst", zstd, says="bomb")
    yield Broken("bomb: tar.gz", "x.tar.gz", tarred([("x.cif", bytes(size))], "gz"), says="bomb")
    overlapping = _overlapping(zeros, size, 40)
    yield Broken("bomb: overlapping", "x.zip", overlapping, says="bomb|overlap|twice|file name")
    yield from large(new)


def large(new: Numbers) -> Iterator[Broken]:
    """Structures of too many sites, lines that are too long, nesting that is too deep."""
    rows = "\n".join(f"Fe {k % 10}.5 {k // 10 % 10}.5 {k // 100}.5" for k in range(1_000))
    rows = "\n".join([rows] * 1_000)
    text = f'1000000\nLattice="10 0 0 0 10 0 0 0 10" Properties=species:S:1:pos:R:3\n{rows}\n'
    yield Broken("a million sites", "x.extxyz", text.encode(), says="1,000,000 atoms")
    header = "x\n1.0\n10 0 0\n0 10 0\n0 0 10\nFe\n"
    places = "\n".join(f"0.{k:07d} 0.5 0.5" for k in range(100_000))
    text = f"{header}100000\nDirect\n{places}\n"
    yield Broken("many sites", "x.vasp", text.encode(), says="10,000")
    yield Broken(
        "a million sites", "POSCAR", (header + "1000000\nDirect\n0 0 0\n").encode(), says="10,000"
    )
    (of,) = new.take(1)
    many = [f"Fe{k} Fe 0.{k:06d} 0.5 0.5 1.0" for k in range(100_000)]
    text = (
        cif(of).partition("_atom_site_occupancy\n")[0] + "_atom_site_occupancy\n" + "\n".join(many)
    )
    yield Broken("many sites", "x.cif", text.encode(), says="100,000 atom sites")
    site = '{"species": [{"element": "Fe", "occu": 1}], "abc": [0.1, 0.2, 0.3]}'
    lattice = '"lattice": {"matrix": [[9, 0, 0], [0, 9, 0], [0, 0, 9]]}'
    text = f'{{{lattice}, "sites": [{", ".join([site] * 20_000)}]}}'
    yield Broken("many sites", "x.json", text.encode(), says="10,000")
    yield Broken("a long line", "x.cif", b"data_x\n_cell_length_a " + b"4" * 3_000_000)
    yield Broken("a long line", "x.extxyz", b"1\nLattice=" + b"4" * 3_000_000 + b"\nFe 0 0 0\n")
    yield Broken("a long line", "x.csv", b"id,cif\n1," + b"4" * 17_000_000 + b"\n", says="bytes")
    yield Broken("a long line", "POSCAR", b"x\n1.0\n" + b"4" * 17_000_000, says="bytes")
    yield Broken(
        "a long number",
        "x.jsonl",
        b'{"lattice": {"matrix": ' + b"4" * 100_000 + b'}, "sites": []}\n',
    )
    deep = b'{"lattice": {"matrix": ' + b"[" * 200_000
    yield Broken(
        "deep", "x.json", deep + b"]" * 200_000 + b'}, "sites": []}', says="nested|recursion"
    )
    yield Broken(
        "deep", "x.jsonl", deep + b"]" * 200_000 + b'}, "sites": []}\n', says="nested|recursion"
    )
    yield Broken("deep", "x.json", b"[" * 300_000)
    names = ", ".join(f'"k{k}": 0' for k in range(50_000)).encode()
    yield Broken(
        "many names", "x.json", b'{"lattice": {"matrix": []}, "sites": [], ' + names + b"}"
    )
    yield Broken("many blocks", "x.cif", b"data_\n_cell_length_a 1\n" * 300, says="no atom sites")
    yield Broken("open text", "x.cif", b"data_x\n_a\n;" + b"text\n" * 100_000)
    yield Broken("open quote", "x.csv", b'id,cif\n1,"' + b"data_x\n" * 60_000)


def _deflated(size: int) -> bytes:
    """So many zeros, deflated, without holding them."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    block = bytes(2**20)
    return b"".join([*(packer.compress(block) for _ in range(size >> 20)), packer.flush()])


def _entry(name: str, data: bytes, declared: int, crc: int, offset: int) -> tuple[bytes, bytes]:
    """Local header and central entry of a deflated member."""
    common = struct.pack("<HHHHHIII", 20, 0, 8, 0, 33, crc, len(data), declared)
    encoded = name.encode()
    local = b"PK\3\4" + common + struct.pack("<HH", len(encoded), 0) + encoded
    tail = struct.pack("<HHHHHII", len(encoded), 0, 0, 0, 0, 0, offset)
    return local, b"PK\1\2" + struct.pack("<H", 20) + common + tail + encoded


def _end(count: int, directory: bytes, offset: int) -> bytes:
    return b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), offset, 0)


def _with_member(archive: bytes, name: str, packed: bytes, size: int, declared: int) -> bytes:
    """A zip with one more member, deflated already; its size may lie."""
    end = archive.rindex(b"PK\5\6")
    count = int.from_bytes(archive[end + 8 : end + 10], "little")
    at = int.from_bytes(archive[end + 16 : end + 20], "little")
    local, entry = _entry(name, packed, declared, zlib.crc32(bytes(0)), at)
    directory = archive[at:end] + entry
    body = archive[:at] + local + packed
    return body + directory + _end(count + 1, directory, len(body))


def _overlapping(packed: bytes, size: int, n: int) -> bytes:
    """A zip of n members that all are the same bytes."""
    local, _ = _entry("x.cif", packed, size, 0, 0)
    entries = [_entry(f"x{k}.cif" if k else "x.cif", packed, size, 0, 0)[1] for k in range(n)]
    directory = b"".join(entries)
    body = local + packed
    return body + directory + _end(n, directory, len(body))


# --- other things --------------------------------------------------------------------------


_CALL = b"cbuiltins\nopen\n(S'/tmp/gandb-evil-pickle'\nS'w'\ntR."
PICKLES = (_CALL, b"\x80\x02" + _CALL, b"\x80\x05" + _CALL)
"""Pickles that would write a file if they were ever read."""


def others(new: Numbers, chance: random.Random) -> Iterator[Broken]:
    """Pickles, empty files and noise under every name; damaged databases, dumps and Parquet."""
    for name in NAMES:
        for data in PICKLES[::2]:
            yield Broken("a pickle", name, data)
        yield Broken("empty", name, b"")
        yield Broken("noise", name, chance.randbytes(chance.randrange(20, 3_000)))
        yield Broken("text", name, b"Call me Ishmael. Some years ago, never mind how long\n" * 20)
    for ending in "pkl pickle p pt pth ckpt joblib npz".split():
        yield Broken("a pickle", f"x.{ending}", PICKLES[1], says="pickle")
    array = io.BytesIO()
    np.save(array, np.array([{"a": 1}], object), allow_pickle=True)
    yield Broken("a pickle", "x.npy", array.getvalue(), says="pickle")
    yield Broken("foreign", "x.7z", b"7z\xbc\xaf\x27\x1c" + bytes(50), says="archives")
    for html in (
        b"<html><body>502 Bad Gateway</body></html>",
        b'{"error": "429 Too Many Requests"}',
    ):
        for name in ("x.cif", "x.json", "x.csv", "x.jsonl", "aflowlib.json", "x.vasp", "x.zip"):
            yield Broken("an error page", name, html)
    yield from _databases(new, chance)
    yield from _parquets(new, chance)
    yield from _dumps(new, chance)


def _databases(new: Numbers, chance: random.Random) -> Iterator[Broken]:
    for _ in range(10):
        drafts = new.take(3)
        data = ase_sqlite(drafts)
        at = chance.randrange(20, len(data) - 1)
        yield Broken("database: cut", "x.db", data[:at], (), numbers_of(drafts))
    for begin, end in ((16, 18), (18, 24), (44, 60), (100, 110), (108, 140)):
        damaged = bytearray(ase_sqlite(new.take(3)))
        damaged[begin:end] = bytes(b ^ 0x5A for b in damaged[begin:end])
        yield Broken("database: head", "x.db", bytes(damaged), (), numbers_of(new.take(0)))
    statements = (
        "DROP TABLE information", "UPDATE information SET value = 99", "DROP TABLE systems",
        "UPDATE systems SET numbers = 'x'", "UPDATE systems SET numbers = NULL",
        "UPDATE systems SET cell = x'00'", "UPDATE systems SET positions = zeroblob(8)",
        "UPDATE systems SET pbc = 3", "UPDATE systems SET pbc = 'x'",
        "UPDATE systems SET key_value_pairs = '{'", "UPDATE systems SET key_value_pairs = '[1]'",
        "UPDATE systems SET key_value_pairs = x'ff00'", "ALTER TABLE systems DROP COLUMN cell",
        "UPDATE systems SET numbers = zeroblob(16)", "UPDATE systems SET cell = zeroblob(72)",
        "UPDATE systems SET numbers = zeroblob(400000)", "UPDATE systems SET numbers = zeroblob(0)",
    )  # fmt: skip
    for statement in statements:
        with sqlite3.connect(":memory:") as connection:
            connection.deserialize(ase_sqlite(new.take(1)))
            connection.execute(statement)
            connection.commit()
            data = connection.serialize()
        connection.close()
        yield Broken("database: values", "x.db", data)


def _parquets(new: Numbers, chance: random.Random) -> Iterator[Broken]:
    for _ in range(6):
        data = parquet(new.take(2))
        yield Broken("Parquet: cut", "x.parquet", data[: chance.randrange(5, len(data) - 1)])
        size = int.from_bytes(data[-8:-4], "little")
        noise = chance.randbytes(size)
        yield Broken("Parquet: footer", "x.parquet", data[: -8 - size] + noise + data[-8:])
    for size in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF):
        data = parquet(new.take(2))
        damaged = data[:-8] + struct.pack("<I", size) + b"PAR1"
        yield Broken("Parquet: footer", "x.parquet", damaged)
    yield Broken(
        "Parquet: columns", "x.parquet", _table({"a": [1, 2], "b": ["x", "y"]}), says="column"
    )
    yield Broken("Parquet: values", "x.parquet", _table({"cif": [b"\xff\xfe", None]}))
    yield Broken("Parquet: values", "x.parquet", _table({"structure": [NAN, INF]}))
    yield Broken("Parquet: values", "x.parquet", _table({"structure": [[1.0], []]}))


def _table(columns: dict[str, list[object]]) -> bytes:
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def _dumps(new: Numbers, chance: random.Random) -> Iterator[Broken]:
    """Dumps that end within the statement of structures, or whose rows are broken."""
    for _ in range(4):
        drafts = new.take(2)
        data = sql(drafts)
        begin = data.index(b"INSERT INTO `structures`")
        at = chance.randrange(begin + 10, data.index(b";\n", begin))
        yield Broken("dump: cut", "x.sql", data[:at], (), numbers_of(drafts), "cut off")
    for old, fresh in ((b"',NULL", b"\\',NULL"), (b"),(", b"),)("), (b"VALUES (", b"VALUES ((")):
        drafts = new.take(2)
        data = sql(drafts)
        begin = data.index(b"INSERT INTO `entries`")
        damaged = data[:begin] + data[begin:].replace(old, fresh, 1)
        yield Broken("dump: a row", "x.sql", damaged, (), numbers_of(drafts))
    for name in ("one.sql", "two.sql"):
        damaged = sql(new.take(1)).replace(b"`entries`", b"`other`")
        yield Broken("dump: no entries", name, damaged, says="entries")


def files(new: Numbers, chance: random.Random, plain: Sequence[Broken]) -> list[Broken]:
    """All of them."""
    return [
        *around(new, chance, plain),
        *damaged_packing(new, chance),
        *zips(new, chance),
        *tars(new, chance),
        *bombs(new),
        *others(new, chance),
    ]
