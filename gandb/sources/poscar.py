"""POSCAR and CONTCAR of VASP, with the species lines of version 5 and without those of version 4.

Format: https://www.vasp.at/wiki/index.php/POSCAR. In version 4 the symbols are taken from the ends
of the coordinate lines or from the comment, where these say all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from gandb.core.crystals import MAX_SITES
from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.errors import InputError
from gandb.core.species import ISOTOPES
from gandb.sources.base import Reject
from gandb.sources.quantities import is_cut_short
from gandb.sources.records import Encoded, Format, Member, Record, Sites, reject

MAX_BYTES = 2**23
"""Most bytes of one file (8 MiB); 10,000 sites with velocities have about 2 MiB."""
MAX_SPECIES = 1_000
"""Most entries of the line of counts."""

_KINDS = ("poscar", "contcar")
_NAME = re.compile(r"^(?:poscar|contcar)[._-]?|[._-]?(?:poscar|contcar|vasp)$", re.IGNORECASE)
_STAGES = frozenset(("relax", "relax1", "relax2", "orig", "static", "bands", "final", "out", "in"))
_POTENTIAL = re.compile(r"([A-Z][a-z]?)(?:[_/:.].*)?\Z")
_POTENTIALS = re.compile(r"([A-Z][a-z]?)((?:_[a-z0-9]+)*)")
_PART = re.compile(r"([A-Z][a-z]?)(\d*)")


def decode_poscar(text: str) -> Sites:
    """Read a POSCAR.

    Returns:
        Its sites; lattice vectors in Å; selective dynamics, where given, as the site property
        ``selective_dynamics`` of three booleans. Velocities are left out.

    Raises:
        InputError: it is none, with the line and what is wrong there.
    """
    if len(text) > MAX_BYTES:
        raise InputError(f"more than {MAX_BYTES:,} characters in one POSCAR")
    lines = text.removeprefix("\ufeff").splitlines()
    if len(lines) < 7:
        raise InputError(f"no POSCAR: {len(lines)} lines; at least 8 are needed")
    scales = _scales(lines)
    lattice = np.array([_floats(lines, at, 3) for at in (2, 3, 4)])
    lattice, factors = _scaled(lattice, scales)
    names, counts, at = _counts(lines)
    total = sum(counts)
    selective = lines[at].strip()[:1].upper() == "S" if at < len(lines) else False
    at += selective
    if at >= len(lines):
        raise InputError("it ends before its coordinates: is it cut off?")
    mode = lines[at].strip()
    if not mode[:1].isalpha():
        raise InputError(f"line {at + 1}: must say Direct or Cartesian, not {mode[:40]!r}")
    cartesian = mode[0] in "CcKk"
    begin = at + 1
    coords, rest = _coordinates(lines, begin, total)
    _check_end(lines, begin + total, total)
    if len(lines) == begin + total and not text.endswith(("\n", "\r")) and not any(rest):
        _check_last(lines, begin)
    flags = _flags(rest, begin) if selective else []
    labels = _labels(rest, 3 if selective else 0)
    if not labels and not text.endswith("\n") and _labels(rest[:-1], 3 if selective else 0):
        raise InputError("only its last site has no symbol at the end: is it cut off?")
    species = _species(names, counts, labels, lines[0])
    return Sites(
        species,
        coords * factors if cartesian else coords,
        lattice=lattice,
        cartesian=cartesian,
        properties={"selective_dynamics": flags} if flags else {},
    )


# --- header ------------------------------------------------------------------------------


def _scales(lines: Sequence[str]) -> list[float]:
    words = lines[1].split()
    numbers = []
    for word in words[:3]:
        try:
            numbers.append(_float(word))
        except ValueError:
            break
    scales = numbers if len(numbers) == 3 else numbers[:1]
    bad = not scales or not all(math.isfinite(s) and s != 0 for s in scales)
    if bad or (len(scales) == 3 and min(scales) <= 0):
        raise InputError(
            "line 2: must be a scale factor, the negative of a volume, or three positive factors, "
            f"not {lines[1].strip()[:40]!r}"
        )
    return scales


def _scaled(lattice: np.ndarray, scales: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the scaled lattice (3, 3) and the factors (3,) of Cartesian x, y, z."""
    if len(scales) == 1 and scales[0] < 0:
        volume = abs(float(np.linalg.det(lattice)))
        if not volume > 0:
            raise InputError("lines 3 to 5: the lattice vectors span no volume")
        scales = [(-scales[0] / volume) ** (1 / 3)]
    factors = np.array(scales * 3 if len(scales) == 1 else scales)
    return lattice * factors, factors


def _counts(lines: Sequence[str]) -> tuple[list[str], list[int], int]:
    """Return names of the species (none in version 4), their counts and the next line."""
    words = _words(lines[5])
    if not words:
        raise InputError("line 6: must name the species, or count them; it is empty")
    names: list[str] = []
    at = 5
    if not words[0].isdecimal():
        names, at = words, 6
        words = _words(lines[6])
    counts = []
    for word in words:
        if not word.isdecimal() or len(word) > 9:
            if names:  # nothing but whole numbers may stand here
                raise InputError(
                    f"line {at + 1}: must count the sites of each species: {word[:40]!r}"
                )
            break
        counts.append(int(word))
    if names and len(names) != len(counts):
        raise InputError(
            f"lines 6 and 7: {len(names)} species ({' '.join(names)[:60]}) and {len(counts)} counts"
        )
    if not counts or len(counts) > MAX_SPECIES or not 0 < sum(counts) <= MAX_SITES:
        raise InputError(
            f"line {at + 1}: counts {lines[at].strip()[:60]!r} make no structure of 1 to "
            f"{MAX_SITES:,} sites"
        )
    return names, counts, at + 1


def _words(line: str) -> list[str]:
    return re.split(r"[!#]", line, maxsplit=1)[0].split()


# --- sites -------------------------------------------------------------------------------


def _coordinates(
    lines: Sequence[str], begin: int, total: int
) -> tuple[np.ndarray, list[list[str]]]:
    """Return coordinates (n, 3) and what else stands on their lines."""
    given = lines[begin : begin + total]
    split = [line.split() for line in given]
    for at, words in enumerate(split):
        if len(words) < 3:
            what = "is empty" if not words else f"{given[at].strip()[:40]!r} is no coordinates"
            raise InputError(
                f"line {begin + at + 1}: {what}; {total} sites are announced and {at} are there"
            )
    if len(split) < total:
        raise InputError(
            f"{total} sites are announced and {len(split)} are there: is it cut off, or are the "
            "counts wrong?"
        )
    try:
        if any("_" in line or not line.isascii() for line in given):
            raise ValueError  # float takes digits and underscores that are none here
        coords = np.array([[float(x) for x in words[:3]] for words in split])
    except ValueError:
        coords = np.array([_floats(lines, begin + at, 3) for at in range(total)])
    if not np.isfinite(coords).all():
        at = int(np.argmin(np.isfinite(coords).all(axis=1)))
        raise InputError(f"line {begin + at + 1}: {given[at].strip()[:60]!r} is not finite")
    return coords, [words[3:] for words in split]


def _check_end(lines: Sequence[str], at: int, total: int) -> None:
    """Refuse more coordinates than sites; velocities follow an empty or a worded line."""
    words = lines[at].split() if at < len(lines) else []
    if len(words) >= 3:
        try:
            for word in words[:3]:
                _float(word)
        except ValueError:
            return
        raise InputError(
            f"line {at + 1}: coordinates beyond the {total} sites that are announced: the counts "
            "are wrong"
        )


def _check_last(lines: Sequence[str], begin: int) -> None:
    if is_cut_short([word for line in lines[begin:] for word in line.split()]):
        raise InputError(f"line {len(lines)}: its last number is cut off, and so is the file")


def _flags(rest: Sequence[Sequence[str]], begin: int) -> list[list[bool]]:
    flags = []
    for at, words in enumerate(rest):
        marks = [word.strip(".").upper()[:1] for word in words[:3]]
        if len(marks) != 3 or not set(marks) <= {"T", "F"}:
            raise InputError(f"line {begin + at + 1}: selective dynamics needs three of T and F")
        flags.append([mark == "T" for mark in marks])
    return flags


def _labels(rest: Sequence[Sequence[str]], skipped: int) -> list[str]:
    """Return the species at the ends of the lines, if all lines have one."""
    labels = []
    for words in rest:
        if len(words) <= skipped:
            return []
        symbol = _element(words[skipped])
        if symbol is None:
            return []
        labels.append(symbol)
    return labels


def _species(names: list[str], counts: list[int], labels: list[str], comment: str) -> list[str]:
    if not names:
        return _species_of_version_4(counts, labels, comment)
    found = []
    for name, count in zip(names, counts, strict=True):
        symbol = _element(name)
        if symbol is None:
            raise InputError(f"line 6: {name[:40]!r} is no element")
        found += [symbol] * count
    if labels and labels != found:
        at = next(i for i, (a, b) in enumerate(zip(labels, found, strict=True)) if a != b)
        raise InputError(
            f"site {at + 1} is {found[at]} by the header and {labels[at]} by its own line"
        )
    return found


def _species_of_version_4(counts: list[int], labels: list[str], comment: str) -> list[str]:
    if labels:
        begin = 0
        for count in counts:
            if len(set(labels[begin : begin + count])) > 1:
                raise InputError("the symbols at the ends of the lines contradict the counts")
            begin += count
        return labels
    names = _names_in(comment, counts)
    if names is None:
        raise InputError(
            f"its {len(counts)} species are not named (VASP 4), neither on the lines of "
            f"coordinates nor in the comment {comment.strip()[:60]!r}: add a line of symbols "
            "before the counts"
        )
    return [name for name, count in zip(names, counts, strict=True) for _ in range(count)]


def _names_in(comment: str, counts: list[int]) -> list[str] | None:
    """Return the species that a comment names: ``Al Cu Mn``, ``Al2 Cu1``, AFLOW's ``AlCu_pvMn_pv``.

    Counts that it gives must be those of the structure, in their order.
    """
    words = comment.replace(",", " ").split()
    parts = [_PART.fullmatch(word) for word in words[: len(counts)]]
    if len(parts) == len(counts) and all(p and p[1] in ATOMIC_NUMBERS for p in parts):
        following = _PART.fullmatch(words[len(counts)]) if len(words) > len(counts) else None
        if following is None or following[1] not in ATOMIC_NUMBERS:
            pairs = [(p[1], p[2]) for p in parts if p]
            return _counted(pairs, counts)
    if not words:
        return None
    first = words[0].partition("/")[0].partition(":")[0]
    named = _POTENTIALS.findall(first)
    if "".join(a + b for a, b in named) == first and len(named) == len(counts):
        symbols = [symbol for symbol, _ in named]
        return symbols if set(symbols) <= set(ATOMIC_NUMBERS) else None
    formula = _PART.findall(first)
    if "".join(a + b for a, b in formula) == first and len(formula) == len(counts):
        return _counted(formula, counts) if {a for a, _ in formula} <= set(ATOMIC_NUMBERS) else None
    return None


def _counted(pairs: Sequence[tuple[str, str]], counts: list[int]) -> list[str] | None:
    """Return the symbols if the numbers beside them, where there are any, are as the counts."""
    if any(number for _, number in pairs):
        numbers = [int(number or 1) for _, number in pairs]
        if any(
            n * counts[0] != count * numbers[0] for n, count in zip(numbers, counts, strict=True)
        ):
            return None
    return [symbol for symbol, _ in pairs]


@lru_cache(maxsize=10_000)
def _element(name: str) -> str | None:
    """Return the element of a name such as ``Cu_pv``, ``Cu/2f1c`` or ``Cu``; None if it is none."""
    match = _POTENTIAL.match(name)
    if match is None or re.match(r"[A-Z][a-z]?\.\d", name):  # H.5 is a fraction of a proton
        return None
    symbol = match[1]
    return symbol if symbol in ATOMIC_NUMBERS or symbol in ISOTOPES else None


def _floats(lines: Sequence[str], at: int, n: int) -> list[float]:
    words = lines[at].split()[:n]
    try:
        found = [_float(word) for word in words]
    except ValueError:
        found = []
    if len(found) != n or not all(map(math.isfinite, found)):
        raise InputError(f"line {at + 1}: must be {n} numbers, not {lines[at].strip()[:60]!r}")
    return found


def _float(word: str) -> float:
    """Read a number, with Fortran's exponents too.

    Raises:
        ValueError: it is none.
    """
    if "_" in word or not word.isascii():
        raise ValueError(word)
    return float(word.upper().replace("D", "E")) if word[:1] not in "nNiI" else math.nan


# --- reader ------------------------------------------------------------------------------


_OTHERS = (".cif", ".csv", ".db", ".extxyz", ".json", ".jsonl", ".parquet", ".sql", ".tsv", ".xyz")
"""Endings of files that are none, whatever else they are called."""


def _fits(name: str, head: bytes) -> bool:
    last = PurePosixPath(name).name
    if last.startswith(_KINDS) or last.endswith((".vasp", ".poscar", ".contcar")):
        return PurePosixPath(last).suffix not in _OTHERS
    if PurePosixPath(last).suffix not in ("", ".txt", ".dat") or b"\0" in head:
        return False
    lines = head[:4_096].decode(errors="replace").splitlines()
    if len(lines) < 8:
        return False
    try:
        _scales(lines)
        for at in (2, 3, 4):
            _floats(lines, at, 3)
        _counts(lines)
    except InputError:
        return False
    return True


def _read(member: Member) -> Iterator[Record | Reject]:
    try:
        data = member.read(MAX_BYTES)
    except (InputError, OSError) as error:
        yield reject(member, 1, str(error))
        return
    shown = data[:2_000].decode(errors="backslashreplace")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        yield reject(
            member, line, f"not UTF-8: byte 0x{data[error.start]:02x}; convert it first", shown
        )
        return
    if "\0" in text or not text.strip():
        what = "it is binary, or UTF-16" if text.strip() else "it is empty"
        yield reject(member, 1, f"no POSCAR: {what}", shown)
        return
    comment = text.lstrip("\ufeff").partition("\n")[0].strip()
    extra: dict[str, Any] = {"comment": comment[:1_000]} if comment else {}
    structure = Encoded("poscar", text)
    yield Record(member.name, 1, _id_of(member.name), structure=structure, extra=extra)


def _id_of(name: str) -> str | None:
    """Return what a file's name, or that of its folder, says beside POSCAR."""
    path = PurePosixPath(name)
    last = path.name
    while (shorter := _NAME.sub("", last)) != last:
        last = shorter
    if last and last.lower() not in _STAGES:
        return last
    return path.parent.name or None


POSCAR = Format("poscar", "POSCAR and CONTCAR of VASP", _fits, _read)
