"""Extended XYZ: frames of a count, a comment of ``key=value`` and a line per atom.

https://github.com/libAtoms/extxyz; ASE writes it, and with it MatterGen and most potentials.
Energies are in eV, forces in eV/Å and moments in μB, as ASE's are.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from gandb.core.crystals import CARTESIAN_PROPERTIES, MAX_SITES
from gandb.core.elements import SYMBOLS
from gandb.core.errors import InputError
from gandb.sources.base import Reject
from gandb.sources.own_records import KEY, restored
from gandb.sources.quantities import is_cut_short
from gandb.sources.records import Format, Member, Record, Sites, reject

MAX_LINE_BYTES = 2**20
"""Longest line, bytes; comments with stresses and settings have a few thousand."""
MAX_FRAME_BYTES = 2**25
"""Most bytes of the lines of a frame (32 MiB); 10,000 atoms with forces have about 2 MiB."""
MAX_SKIPPED_ATOMS = 10**8
"""Most atoms that a frame may announce; such a frame is passed over."""

_HEADER = re.compile(
    r"""\s*(?:([^\s=,"'\[\]{}]+)|"((?:[^"\\]|\\.)*+)")      # key
    (?:\s*=\s*(?:"((?:[^"\\]|\\.)*+)"|'((?:[^'\\]|\\.)*+)'|\{([^{}]*)\}|(\[[^=]*?\](?=\s|\Z))|(\S*)))?""",
    re.VERBOSE,
)
_ESCAPED = re.compile(r"\\(.)")
_STRAY = re.compile(r"[\s=,\[\]{}]*")
_COUNT = re.compile(rb"\s*\d{1,12}\s*$")
_LATTICE = re.compile(rb"\b(?:lattice|properties)\s*=", re.IGNORECASE)
_ID_KEYS = ("material_id", "mp_id", "mp-id", "structure_id", "entry_id", "mat_id", "id", "uid")
_ENERGIES = ("formation_energy_per_atom", "energy_per_atom", "energy_above_hull")
_SITE_NAMES = {
    "forces": "forces", "force": "forces", "magmoms": "magmom", "magmom": "magmom",
    "initial_magmoms": "initial_magmom", "charges": "charge", "charge": "charge",
    "initial_charges": "initial_charge", "velocities": "velocities", "velo": "velocities",
    "tags": "tags",
}  # fmt: skip
"""Columns that are kept as site properties, by their names here; ``momenta`` and others are not."""
_TENSORS = frozenset(("stress", "virial", "virials", "dipole", "REF_stress", "REF_virial"))
"""Keys of values along Cartesian axes, which are kept as they are."""
_COLUMNS = {"S": str, "R": float, "I": int, "L": bool}


@dataclass
class _Frame:
    """One frame as it stands in the file."""

    line: int
    atoms: int
    comment: str
    rows: list[bytes] = field(default_factory=list)
    fault: str | None = None


class _Lines:
    """Lines of a stream with the next ones in view."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self._ahead: list[bytes] = []
        self.number = 0

    def peek(self, at: int = 0) -> bytes:
        while len(self._ahead) <= at:
            self._ahead.append(self._handle.readline(MAX_LINE_BYTES))
        return self._ahead[at]

    def next(self) -> bytes:
        line = self._ahead.pop(0) if self._ahead else self._handle.readline(MAX_LINE_BYTES)
        self.number += bool(line)
        return line

    def at_frame(self) -> bool:
        """Whether the next two lines begin a frame for sure."""
        return _COUNT.match(self.peek()) is not None and _LATTICE.search(self.peek(1)) is not None


def _read(member: Member) -> Iterator[Record | Reject]:
    frames = _frames(member)
    first, second = next(frames, None), next(frames, None)
    if first is None:
        yield reject(member, 1, "no frame of extended XYZ is in it")
        return
    given = chain([first] if second is None else [first, second], frames)
    for number, frame in enumerate(given, 1):
        yield _record(member, frame, number, alone=second is None)


def _frames(member: Member) -> Iterator[_Frame]:
    lines: _Lines | None = None
    try:
        with member.open() as handle:
            lines = _Lines(handle)
            while lines.peek():
                if lines.peek().strip():
                    yield _frame(lines)
                else:
                    lines.next()
    except (InputError, OSError) as error:
        yield _Frame(lines.number + 1 if lines else 1, 0, "", fault=str(error))


def _frame(lines: _Lines) -> _Frame:
    """Read one frame; after a bad one, go on where the next begins."""
    begin = lines.number + 1
    first = lines.next()
    if _COUNT.match(first) is None:
        shown = first[:200].decode(errors="backslashreplace").strip()
        _skip(lines)
        return _Frame(begin, 0, shown, fault=f"must be a number of atoms, not {shown[:60]!r}")
    atoms = int(first)
    comment = lines.next()
    frame = _Frame(begin, atoms, "")
    try:
        frame.comment = comment.decode().strip("\r\n")
    except UnicodeDecodeError as error:
        frame.fault = f"its comment is not UTF-8: byte 0x{comment[error.start]:02x}"
    if "\0" in frame.comment:
        frame.fault = "its comment is binary"
    if len(comment) >= MAX_LINE_BYTES:
        frame.fault = f"its comment has more than {MAX_LINE_BYTES:,} bytes"
    if not 0 < atoms <= MAX_SITES:
        frame.fault = f"{atoms:,} atoms; 1 to {MAX_SITES:,} are allowed"
    if not 0 < atoms <= MAX_SKIPPED_ATOMS:
        _skip(lines)
        return frame
    size = 0
    for at in range(atoms):
        line = lines.peek()
        if not line or (len(line.split(None, 1)) < 2 and (not line.strip() or lines.at_frame())):
            frame.fault = f"{atoms:,} atoms are announced and {at:,} are there: is it cut off?"
            return frame
        lines.next()
        size += len(line)
        if size > MAX_FRAME_BYTES:
            frame.fault = frame.fault or f"more than {MAX_FRAME_BYTES:,} bytes in one frame"
            frame.rows.clear()
        elif frame.fault is None:
            frame.rows.append(line)
    after = lines.peek()
    alike = bool(frame.rows) and len(after.split()) == len(frame.rows[-1].split())
    if alike and _COUNT.match(after) is None and _LATTICE.search(lines.peek(1)) is None:
        shown = after[:60].decode(errors="backslashreplace").strip()
        frame.fault = f"more than the {atoms:,} atoms that are announced: {shown!r}"
        _skip(lines)
    return frame


def _skip(lines: _Lines) -> None:
    """Go on to the next frame that begins for sure, or to the end."""
    while lines.peek() and not lines.at_frame():
        lines.next()


# --- one frame ---------------------------------------------------------------------------


def _record(member: Member, frame: _Frame, number: int, *, alone: bool) -> Record | Reject:
    raw = f"{frame.atoms}\n{frame.comment}\n" + b"".join(frame.rows[:20]).decode(
        errors="backslashreplace"
    )
    if frame.fault is not None:
        return reject(member, frame.line, frame.fault, raw)
    try:
        info = _comment(frame.comment)
        _check_periodic(info)
        lattice = _lattice(info)
        species, coords, sites = _columns(str(info.pop("Properties", "species:S:1:pos:R:3")), frame)
        own = info.pop(KEY, None)
        record = _checked(member, frame, number, info, lattice, alone=alone)
        structure = Sites(species, coords, lattice=lattice, cartesian=True, properties=sites)
        return restored(replace(record, structure=structure), own)
    except InputError as error:
        return reject(member, frame.line, str(error), raw)


def _checked(
    member: Member,
    frame: _Frame,
    number: int,
    info: dict[str, Any],
    lattice: np.ndarray,
    *,
    alone: bool,
) -> Record:
    """Build the record of what a comment says."""
    stem = PurePosixPath(member.name).name.removesuffix(PurePosixPath(member.name).suffix)
    if not _TENSORS.isdisjoint(info):
        info["lattice"] = lattice.tolist()  # the axes that they refer to
    own = next((str(info[k]) for k in _ID_KEYS if isinstance(info.get(k), str | int)), None)
    return Record(
        member.name,
        frame.line,
        own or (stem if alone else f"{stem}#{number}"),
        properties=_properties(info, frame.atoms),
        extra={name: value for name, value in info.items() if value is not None},
    )


def _check_periodic(info: dict[str, Any]) -> None:
    """Take ``pbc`` out of the comment.

    Raises:
        InputError: the frame is not periodic along all three vectors.
    """
    pbc = info.pop("pbc", None)
    if pbc is None:
        return
    flags = pbc if isinstance(pbc, list) else [pbc]
    if not all(flag is True or flag == 1 for flag in flags):
        raise InputError(f"not periodic in three directions: pbc={str(pbc)[:40]}")


def _lattice(info: dict[str, Any]) -> np.ndarray:
    """Take the lattice vectors (3, 3), rows, Å, out of the comment.

    Raises:
        InputError: there is none, or it is not nine numbers.
    """
    name = next((k for k in info if k.lower() == "lattice"), None)
    if name is None:
        raise InputError("no Lattice: a structure without a cell is no crystal")
    given = info.pop(name)
    try:
        found = np.array(given, np.float64).reshape(3, 3)
    except (TypeError, ValueError):
        raise InputError(f"Lattice must be nine numbers, not {str(given)[:80]!r}") from None
    if not np.isfinite(found).all():
        raise InputError("Lattice is not finite")
    return found


def _columns(
    described: str, frame: _Frame
) -> tuple[list[str], np.ndarray, dict[str, Sequence[Any]]]:
    """Return species, Cartesian coordinates (n, 3) in Å, and site properties."""
    parts = described.split(":")
    if len(parts) % 3 or any(not p.isdecimal() or not 0 < int(p[:6]) < 100 for p in parts[2::3]):
        raise InputError(f"Properties={described[:80]} is not a list of name:type:columns")
    places: dict[str, tuple[str, slice]] = {}
    at = 0
    for name, kind, columns in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if kind not in _COLUMNS or name in places:
            raise InputError(
                f"Properties={described[:80]}: {name[:40]}:{kind[:10]} is unknown or doubled"
            )
        places[name] = (kind, slice(at, at + int(columns)))
        at += int(columns)
    position = next((n for n in ("pos", "positions") if n in places), None)
    if position is None or places[position][1].stop - places[position][1].start != 3:
        raise InputError(f"Properties={described[:80]} has no positions (pos:R:3)")
    rows = []
    for number, line in enumerate(frame.rows):
        words = line.split()
        if len(words) != at:
            raise InputError(f"atom {number + 1} has {len(words)} columns where {at} are described")
        rows.append(words)
    coords = np.array([_values("R", row[places[position][1]], n) for n, row in enumerate(rows)])
    if not np.isfinite(coords).all():
        at = int(np.argmin(np.isfinite(coords).all(axis=1)))
        raise InputError(f"atom {at + 1}: its position is not finite")
    kind, where = list(places.values())[-1]
    last = [_text(word) for row in rows for word in row[where]] if kind == "R" else []
    if not frame.rows[-1].endswith(b"\n") and is_cut_short(last):
        raise InputError(f"atom {len(rows)}: its last number is cut off, and so is the file")
    sites: dict[str, Sequence[Any]] = {}
    for name, (kind, where) in places.items():
        if (kept := _SITE_NAMES.get(name)) is None:
            continue
        single = where.stop - where.start == 1
        if not single and kept not in CARTESIAN_PROPERTIES:
            continue  # nothing would turn it with the lattice
        values = [_values(kind, row[where], n) for n, row in enumerate(rows)]
        sites[kept] = [value[0] if single else value for value in values]
    return _symbols(places, rows), coords, sites


def _symbols(places: Mapping[str, tuple[str, slice]], rows: Sequence[Sequence[bytes]]) -> list[str]:
    name = next((n for n in ("species", "element", "elements", "symbols") if n in places), None)
    if name is not None:
        column = places[name][1].start
        return [_text(row[column])[:40] for row in rows]
    name = next((n for n in ("Z", "numbers", "atomic_numbers") if n in places), None)
    if name is None:
        raise InputError("Properties has neither species nor atomic numbers (Z)")
    column = places[name][1].start
    found = []
    for number, row in enumerate(rows):
        if not row[column].isdigit() or not 0 < int(row[column][:6]) < len(SYMBOLS):
            raise InputError(f"atom {number + 1}: {_text(row[column])[:40]} is no atomic number")
        found.append(SYMBOLS[int(row[column])])
    return found


def _values(kind: str, words: Sequence[bytes], number: int) -> list[Any]:
    try:
        if kind == "L":
            return [{b"T": True, b"F": False}[word[:1].upper()] for word in words]
        if kind == "S":
            return [word.decode() for word in words]
        if any(b"_" in word for word in words):
            raise ValueError
        return [float(word) if kind == "R" else int(word) for word in words]
    except (ValueError, KeyError):
        shown = " ".join(map(_text, words))[:60]
        raise InputError(f"atom {number + 1}: {shown!r} is not of type {kind}") from None


def _text(word: bytes) -> str:
    return word.decode(errors="backslashreplace")


def _properties(info: dict[str, Any], atoms: int) -> dict[str, float]:
    """Take the properties of certain meaning and unit out of the comment."""
    found = {}
    for name in _ENERGIES:
        value = info.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6:
            found[name] = float(info.pop(name))
    energy = info.get("energy")
    if not isinstance(energy, int | float) or isinstance(energy, bool):
        return found
    if "energy_per_atom" not in found and abs(energy) < 1e6 * atoms:
        found["energy_per_atom"] = info.pop("energy") / atoms
    return found


# --- comment -----------------------------------------------------------------------------


def _comment(comment: str) -> dict[str, Any]:
    """Read ``key=value`` pairs; a key alone is true.

    Raises:
        InputError: a quote is not closed.
    """
    found: dict[str, Any] = {}
    at = 0
    while at < len(comment):
        match = _HEADER.match(comment, at)
        if match is None:
            at = _STRAY.match(comment, at).end()  # type: ignore[union-attr]
            if comment[at : at + 1] in ("'", '"'):
                raise InputError("a quote in its comment is never closed")
            continue
        plain, quoted, *values = match.groups()
        key = plain if plain is not None else quoted
        given = next((value for value in values if value is not None), None)
        name = "Properties" if key.lower() == "properties" else key
        if name == "Properties":
            found[name] = given or ""
        elif name == KEY:
            found[name] = _ESCAPED.sub(r"\1", given or "").removeprefix("_JSON").strip()
        else:
            found[name] = True if given is None else _value(given)
        at = match.end()
    return found


def _value(given: str) -> Any:
    """Return a number, truth value, list of these, or text; what is not finite is None."""
    text = given.strip()
    if text.startswith("_JSON"):
        text = text.removeprefix("_JSON").strip()
    if text[:1] in "[{" and text:
        try:
            return _finite(json.loads(text))
        except (ValueError, RecursionError):
            text = text.strip("[]").replace(",", " ")
    words = text.split()
    values = [_word(word) for word in words]
    if not words or any(isinstance(value, str) for value in values):
        return text
    return values[0] if len(values) == 1 else values


def _word(word: str) -> Any:
    if word in ("T", "True", "true", "TRUE"):
        return True
    if word in ("F", "False", "false", "FALSE"):
        return False
    if "_" in word:
        return word
    try:
        return int(word) if len(word) < 19 else float(word)
    except ValueError:
        pass
    try:
        number = float(word)
    except ValueError:
        return word
    return number if math.isfinite(number) else None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value


def _fits(name: str, head: bytes) -> bool:
    if PurePosixPath(name).suffix in (".extxyz", ".xyz", ".exyz"):
        return True
    first, _, rest = head.partition(b"\n")
    second = rest.partition(b"\n")[0]
    return _COUNT.match(first) is not None and _LATTICE.search(second) is not None


EXTXYZ = Format("extxyz", "extended XYZ, one or many frames", _fits, _read)
