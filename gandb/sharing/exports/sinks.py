"""Where exported structures go: one file each in a folder or zip, or all in one file."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol, TextIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from gandb.sharing.exports.ase import AseJson, AseSqlite
from gandb.sharing.exports.rows import Item
from gandb.sharing.exports.tables import HEADER, lemat_row, lemat_schema, optimade_resource
from gandb.sharing.exports.texts import (
    CannotHoldError,
    cif_text,
    json_of,
    own_record,
    poscar_lacks,
    poscar_text,
    xyz_text,
)

_STAMP = (1980, 1, 1, 0, 0, 0)  # equal content is an equal archive
_GROUP = 1_000  # rows of Parquet written at a time


class Sink(Protocol):
    """Takes structures one after the other; what it cannot hold it refuses, and goes on."""

    def write(self, item: Item) -> None:
        """Write one.

        Raises:
            CannotHoldError: the format has no place for what it has; nothing is written of it.
        """
        ...

    def finish(self) -> None:
        """Write what is left."""
        ...

    def close(self) -> None:
        """Let go of the files, finished or not."""
        ...


Text = Callable[[Item], str]


def cif_of(item: Item) -> str:
    """Write an item as CIF."""
    return cif_text(item.crystal, item.structure_id, own_record(item, species=False))


def poscar_of(item: Item) -> str:
    """Write an item as POSCAR.

    Raises:
        CannotHoldError: a POSCAR does not hold all of it.
    """
    if (lacks := poscar_lacks(item.crystal)) is not None:
        raise CannotHoldError(lacks)
    return poscar_text(item.crystal, item.structure_id)


ENDINGS: Mapping[str, tuple[str, Text]] = {
    "cif": (".cif", cif_of),
    "poscar": (".vasp", poscar_of),
    "json": (".json", json_of),
    "extxyz": (".extxyz", xyz_text),
}
"""Formats that can be one file each: the ending of their names, and what writes them."""


class FolderSink:
    """One file each, in a new folder."""

    def __init__(self, path: Path, form: str) -> None:
        self._ending, self._text = ENDINGS[form]
        self._path = path
        path.mkdir()

    def write(self, item: Item) -> None:
        """Write one."""
        text = self._text(item)
        (self._path / f"{item.name}{self._ending}").write_text(text, "utf-8")

    def finish(self) -> None:
        """Nothing is left."""

    def close(self) -> None:
        """Nothing is open."""


class ZipSink:
    """One file each, in a new zip."""

    def __init__(self, path: Path, form: str) -> None:
        self._ending, self._text = ENDINGS[form]
        self._archive = zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED)

    def write(self, item: Item) -> None:
        """Write one."""
        text = self._text(item)
        about = zipfile.ZipInfo(f"{item.name}{self._ending}", _STAMP)
        about.external_attr = 0o644 << 16
        self._archive.writestr(about, text, zipfile.ZIP_DEFLATED)

    def finish(self) -> None:
        """Write the table of contents."""
        self._archive.close()

    def close(self) -> None:
        """Let go of the file."""
        self._archive.close()


class TextSink:
    """All in one text file, packed if its name ends in .gz."""

    def __init__(self, path: Path, name: str, form: str) -> None:
        self._out = _opened(path, name)
        self._form = form
        self._in_lines = _without_packing(name).endswith((".jsonl", ".ndjson", ".jsonlines"))
        self._count = 0
        if form == "optimade":
            self._out.write(json.dumps(HEADER) + "\n")

    def write(self, item: Item) -> None:
        """Write one."""
        if self._form == "optimade":
            self._out.write(json.dumps(optimade_resource(item)) + "\n")
        elif self._form == "extxyz":
            self._out.write(xyz_text(item))
        elif self._in_lines:
            self._out.write(json_of(item))
        else:
            text = json_of(item).rstrip("\n")
            self._out.write(("[\n" if self._count == 0 else ",\n") + text)
        self._count += 1

    def finish(self) -> None:
        """Close the list."""
        if self._form == "json" and not self._in_lines:
            self._out.write("[]\n" if self._count == 0 else "\n]\n")

    def close(self) -> None:
        """Let go of the file."""
        self._out.close()


class LematSink:
    """A Parquet file in LeMat-Bulk's columns."""

    def __init__(self, path: Path, query: pa.Schema) -> None:
        self._schema = lemat_schema(query)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._held: list[dict[str, Any]] = []

    def write(self, item: Item) -> None:
        """Write one."""
        self._held.append(lemat_row(item, self._schema))
        if len(self._held) == _GROUP:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._held, self._schema))
        self._held.clear()

    def finish(self) -> None:
        """Write the rows that are left."""
        if self._held:
            self._flush()

    def close(self) -> None:
        """Let go of the file."""
        self._writer.close()


class MatterGenSink:
    """What ``mattergen-evaluate`` reads: one file of frames, and a zip of CIFs, in a folder.

    https://github.com/microsoft/mattergen, doi:10.1038/s41586-025-08628-5.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self._frames = TextSink(
            path / "generated_crystals.extxyz", "generated_crystals.extxyz", "extxyz"
        )
        self._cifs = ZipSink(path / "generated_crystals_cif.zip", "cif")

    def write(self, item: Item) -> None:
        """Write one."""
        self._frames.write(item)
        self._cifs.write(item)

    def finish(self) -> None:
        """Write what is left of both."""
        self._frames.finish()
        self._cifs.finish()

    def close(self) -> None:
        """Let go of both."""
        self._frames.close()
        self._cifs.close()


def _without_packing(name: str) -> str:
    return name.lower().removesuffix(".gz")


def _opened(path: Path, name: str) -> TextIO:
    if not name.lower().endswith(".gz"):
        return path.open("x", encoding="utf-8", newline="\n")
    raw = path.open("xb")
    packed = _Packed(raw)
    return io.TextIOWrapper(cast("IO[bytes]", packed), encoding="utf-8", newline="\n")


class _Packed(gzip.GzipFile):
    """A packed file without a name and time in it, which closes what it writes to."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._below = raw
        super().__init__(filename="", mode="wb", fileobj=raw, mtime=0)

    def close(self) -> None:
        super().close()
        self._below.close()


def sink_for(path: Path, name: str, form: str, query: pa.Schema) -> Sink:
    """Return what writes a format to a new file or folder.

    Args:
        path: where.
        name: what it will be called, whose ending says more.
        form: see `gandb.sharing.exports.structure_files.FORMATS`.
        query: columns of the query.
    """
    plain = _without_packing(name)
    if form == "mattergen":
        return MatterGenSink(path)
    if form == "lemat":
        return LematSink(path, query)
    if form == "ase":
        return AseJson(_opened(path, name)) if plain.endswith(".json") else AseSqlite(path)
    if form == "optimade":
        return TextSink(path, name, form)
    if plain.endswith(".zip"):
        return ZipSink(path, form)
    if form == "extxyz" and plain.endswith((".extxyz", ".xyz")):
        return TextSink(path, name, form)
    if form == "json" and plain.endswith((".json", ".jsonl", ".ndjson", ".jsonlines")):
        return TextSink(path, name, form)
    return FolderSink(path, form)
