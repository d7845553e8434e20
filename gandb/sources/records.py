"""What reading a source's own formats gives: records with structures, one by one.

A *reader* takes a `Member` (one file, or one file of an archive) and yields a `Record` for every
record that it holds, or a `Reject` with the reason; never anything else, and never an exception
once it has begun to yield, as long as the next record can be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from gandb.core.crystals import Crystal, crystal, crystal_of_matrix
from gandb.core.species import Occupant
from gandb.sources.base import Reject

MAX_RAW = 1_000
"""Most characters kept of a rejected record."""


@dataclass(frozen=True)
class Sites:
    """A structure as a source gives it; nothing is checked yet.

    Attributes:
        species: (n,) what sits on each site, see `gandb.core.species`.
        coords: (n, 3), fractional, or Cartesian in Å.
        lattice: (3, 3) vectors as rows, Å; or None if parameters are given.
        parameters: (6,) a, b, c in Å, alpha, beta, gamma in degrees.
        cartesian: whether ``coords`` are Cartesian; only with ``lattice``.
        properties: name to (n,) plain values.
        charge: of the cell.
    """

    species: Sequence[str | Sequence[Occupant]]
    coords: np.ndarray | Sequence[Sequence[float]]
    lattice: np.ndarray | Sequence[Sequence[float]] | None = None
    parameters: Sequence[float] | None = None
    cartesian: bool = False
    properties: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    charge: float | None = None

    def crystal(self) -> Crystal:
        """Check and quantise.

        Raises:
            CrystalError: it is no crystal structure; says why.
        """
        if self.lattice is not None:
            return crystal_of_matrix(
                self.lattice,
                self.species,
                self.coords,
                cartesian=self.cartesian,
                properties=self.properties,
                charge=self.charge,
            )
        a, b, c, alpha, beta, gamma = self.parameters or (0.0,) * 6
        return crystal(
            (a, b, c),
            (alpha, beta, gamma),
            self.species,
            self.coords,
            properties=self.properties,
            charge=self.charge,
        )


@dataclass(frozen=True)
class Encoded:
    """A structure as text that is decoded later, where there are several processes for it.

    Attributes:
        format: key of `gandb.sources.formats.DECODERS`: ``cif`` or ``poscar``.
        text: in that format.
    """

    format: str
    text: str


@dataclass(frozen=True)
class Record:
    """One record of a source.

    Attributes:
        file: the member's name.
        line: line on which it begins, or its number in the file, from 1.
        external_id: its id in the source; None if it has none.
        aliases: other ids of the same record, as ``(kind, id)``: ``("mp-id", "mp-149")``.
        formula: as the source writes it; None takes the structure's.
        structure: None for a record without one.
        properties: name of `gandb.core.units.PROPERTIES` to value in its stored unit.
        extra: what else the source says, plain JSON data.
    """

    file: str
    line: int
    external_id: str | None = None
    aliases: tuple[tuple[str, str], ...] = ()
    formula: str | None = None
    structure: Sites | Encoded | None = None
    properties: Mapping[str, float] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Member:
    """One file to read: on disk, in an archive, or fetched.

    Attributes:
        name: path as it is shown, relative to what the user named: ``mp-cifs.zip/mp/mp-1.cif``.
        size: bytes after unpacking, as far as known.
        open: opens it for reading, unpacked; closed by whoever opens it.
        path: where it lies on disk unpacked, for formats that need a real file; else None.
    """

    name: str
    size: int | None
    open: Callable[[], BinaryIO]
    path: str | None = None

    def read(self, limit: int) -> bytes:
        """Return all of it.

        Raises:
            InputError: it holds more than ``limit`` bytes.
        """
        from gandb.core.errors import InputError

        with self.open() as handle:
            data = handle.read(limit + 1)
        if len(data) > limit:
            raise InputError(f"more than {limit:,} bytes; split it")
        return data


Reader = Callable[[Member], Iterator["Record | Reject"]]
"""Reads one member."""


@dataclass(frozen=True)
class Format:
    """A way in which records are written.

    Attributes:
        name: what ``--format`` calls it.
        title: one line for people.
        fits: says from the name (lower case) and the first 64 KiB whether a member is of it.
        read: its reader.
    """

    name: str
    title: str
    fits: Callable[[str, bytes], bool]
    read: Reader


def reject(member: Member, line: int, reason: str, raw: str = "") -> Reject:
    """Build a reject, with the record cut to what is kept of it."""
    shown = raw if len(raw) <= MAX_RAW else raw[: MAX_RAW - 1] + "…"
    return Reject(member.name, line, reason, shown)


def reject_of(record: Record, reason: str) -> Reject:
    """Turn a record away."""
    structure = record.structure
    raw = structure.text if isinstance(structure, Encoded) else record.formula or ""
    named = f"{record.external_id}: {raw}" if record.external_id else raw
    shown = named if len(named) <= MAX_RAW else named[: MAX_RAW - 1] + "…"
    return Reject(record.file, record.line, reason, shown)
