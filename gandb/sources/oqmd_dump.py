"""OQMD's whole database as its MySQL dump (https://oqmd.org/download), read without a server.

One record per row of ``entries``. The structure of an entry is, of those that the dump holds, the
first of

1. the output of the calculation that its formation energy (fit ``standard``) was taken from;
2. the output of its best converged calculation, ``static`` before ``standard``, ``relaxation``,
   ``fine_relax`` and ``coarse_relax``;
3. its initial structure, ``input`` or ``initialize``;
4. any other, in the order of 2.

Extra tells which it was (``structure_label``, ``structure_id``) and what calculation the energies
are of. Magnetic moments are of the cell, and thus extra.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gandb.core.errors import StoreError
from gandb.sources.base import Reject
from gandb.sources.oqmd_join import Chunk, join_dump
from gandb.sources.oqmd_tables import FIT, LATTICE, MAX_ATOMS
from gandb.sources.quantities import is_sentinel
from gandb.sources.records import Format, Member, Record, Sites, reject

ICSD = "icsd"
"""Kind of alias of an entry's collection code in the ICSD."""

_EXTRA = {
    "label": "label",
    "path": "path",
    "duplicate_of_id": "duplicate_entry_id",
    "prototype_id": "prototype",
    "ntypes": "ntypes",
    "natoms": "natoms",
    "energy_id": "formationenergy_id",
    "calculation_id": "calculation_id",
    "calculation_label": "calculation_label",
    "calculation_magmom": "magmom",
    "calculation_magmom_pa": "magmom_per_atom",
    "structure_id": "structure_id",
    "structure_label": "structure_label",
    "structure_spacegroup_id": "space_group_number",
}
"""Columns that are kept, and what they are called in extra, which is as in the REST interface."""
_FLAGS = {"structure_measured": "measured", "calculation_converged": "converged"}
_PROPERTIES = {
    "formation_energy_per_atom": ("energy_delta_e", "delta_e"),
    "energy_above_hull": ("energy_stability", "stability"),
    "energy_per_atom": ("calculation_energy_pa",),
    "band_gap": ("calculation_band_gap",),
    "volume_per_atom": ("structure_volume_pa",),
}
"""Properties and the columns that they are taken from, the first that says something."""
_TABLES = re.compile(
    rb"(?:CREATE TABLE (?:IF NOT EXISTS )?|INSERT INTO )`?(?:accounts|allocations|atoms"
    rb"|calculations|entries|formation_energies|structures)`? "
)
_ICSD = re.compile(r"(?:^|/)icsd[-/](\d+)/?\Z")


def read_oqmd_dump(member: Member, folder: Path | None = None) -> Iterator[Record | Reject]:
    """Read the entries of a dump, in its order.

    Every row of ``entries`` is a record, or a reject whose reason begins with ``entry``.

    Args:
        member: the dump.
        folder: where temporary files go, at most as large as the unpacked dump; None for the
            system's folder for temporary files. They are removed at the end.

    Raises:
        StoreError: DuckDB has no room for the temporary files.
        OSError: the dump cannot be read, or there is no room.
    """
    import duckdb

    with tempfile.TemporaryDirectory(prefix="gandb-oqmd-", dir=folder) as name:
        try:
            for found in join_dump(member, Path(name)):
                if isinstance(found, Reject):
                    yield found
                else:
                    yield from _records(member, found)
        except duckdb.Error as error:
            raise StoreError(
                f"the tables of {member.name} could not be joined in {name}: {error}; if there is "
                "too little room, set TMPDIR to a folder with more, then give the command again"
            ) from error


def _fits(name: str, head: bytes) -> bool:
    begin = head.lstrip()
    sql = name.endswith(".sql") or begin.startswith((b"--", b"/*", b"CREATE "))
    ours = any(name in head for name in (b"structure_id", b"composition_id", b"allocations"))
    return sql and ours and _TABLES.search(head) is not None


OQMD_DUMP = Format(
    name="oqmd-dump",
    title="OQMD's database as a MySQL dump",
    fits=_fits,
    read=read_oqmd_dump,
)


def _records(member: Member, chunk: Chunk) -> Iterator[Record | Reject]:
    entries, atoms = chunk.entries, chunk.atoms
    numbers = entries["n"].to_numpy()
    of_atoms = atoms["n"].to_numpy()
    begins = np.searchsorted(of_atoms, numbers, "left").tolist()
    ends = np.searchsorted(of_atoms, numbers, "right").tolist()
    coords = np.stack([atoms[axis].to_numpy() for axis in "xyz"], axis=1)
    lattices = np.stack(
        [_floats(entries[f"structure_{name}"]) for name in LATTICE], axis=1
    ).reshape(-1, 3, 3)
    species = atoms["species"].to_pylist()

    extras = _extras(entries)
    properties = _properties(entries)
    columns = ("line", "id", "path", "label", "composition_id", "structure_id")
    rows = zip(*(entries[name].to_pylist() for name in columns), strict=True)
    sizes = zip(entries["atoms"].to_pylist(), entries["structure_natoms"].to_pylist(), strict=True)
    for k, ((line, entry_id, path, label, formula, structure_id), (size, stated)) in enumerate(
        zip(rows, sizes, strict=True)
    ):
        structure = None
        if structure_id is not None:
            if reason := _amiss(structure_id, size or 0, stated):
                yield reject(member, line, f"entry {entry_id}: {reason}", path or "")
                continue
            begin, end = begins[k], ends[k]
            structure = Sites(species[begin:end], coords[begin:end], lattices[k])
        elif formula is None:
            reason = "it has neither a structure nor a composition"
            yield reject(member, line, f"entry {entry_id}: {reason}", path or "")
            continue
        yield Record(
            member.name,
            line,
            str(entry_id),
            _aliases(label, path),
            formula,
            structure,
            properties[k],
            extras[k],
        )


def _amiss(structure_id: int, size: int, stated: int | None) -> str:
    """Say what is wrong with the number of atoms of a structure, nothing if it is right."""
    if size > MAX_ATOMS:
        return f"its structure {structure_id} has {size:,} atoms; at most {MAX_ATOMS:,} are read"
    if stated is not None and size != stated:
        return (
            f"the dump has {size} atoms of its structure {structure_id}, which should have "
            f"{stated}: it is not whole"
        )
    return "" if size else f"the dump has no atoms of its structure {structure_id}"


def _aliases(label: str | None, path: str | None) -> tuple[tuple[str, str], ...]:
    for text in (label, path):
        if text and ICSD in text and (match := _ICSD.search(text)):
            return ((ICSD, match[1]),)
    return ()


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column as float64, NaN where it is null."""
    values: np.ndarray = column.to_numpy()
    return values.astype(np.float64, copy=False)


def _extras(entries: pa.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{} for _ in range(len(entries))]
    for column, name in _EXTRA.items():
        for extra, value in zip(found, entries[column].to_pylist(), strict=True):
            if value is not None and value != "":
                extra[name] = value
    for column, name in _FLAGS.items():
        for extra, value in zip(found, entries[column].to_pylist(), strict=True):
            if value is not None:
                extra[name] = bool(value)
    for extra, value in zip(found, entries["reference"].to_pylist(), strict=True):
        if value is not None:
            extra["reference"] = {k: v for k, v in value.items() if v not in (None, "", [])}
        if "formationenergy_id" in extra:
            extra["fit"] = FIT
    return found


def _properties(entries: pa.Table) -> list[dict[str, float]]:
    found: list[dict[str, float]] = [{} for _ in range(len(entries))]
    for name, columns in _PROPERTIES.items():
        for column in columns:
            for properties, value in zip(found, entries[column].to_pylist(), strict=True):
                if value is not None and name not in properties and not is_sentinel(value):
                    properties[name] = value
    return found
