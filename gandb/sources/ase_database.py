"""Databases of the Atomic Simulation Environment: SQLite (``.db``) and JSON, without ASE.

SQLite files of versions 5 to 9 are read row by row with `sqlite3`, in constant memory; nothing is
written and nothing unpickled. A record's external id is the row's ``unique_id``, its line the row's
``id``. Lengths are Å, energies eV per cell, as everywhere in ASE.

Key-value pairs become properties where gandb knows the name and the unit is certain: stated in the
database's ``key_descriptions``, or ASE's own for a band gap and for names that end in
``_per_atom``. The others are kept as extra. Rows that OQMD's own library wrote (``directory`` is
``/home/oqmd/libraries/...`` and ``name`` is like ``1-1603-LaF3``, the number in the middle being
the entry id) have the entry id as alias, and OQMD's units.

Format: ``ase/db/sqlite.py`` of https://gitlab.com/ase/ase (doi:10.1088/1361-648X/aa680e).
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import sqlite3
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from gandb.core.crystals import MAX_SITES
from gandb.core.elements import MAX_Z, SYMBOLS
from gandb.core.errors import InputError, NotFoundError, UnitError
from gandb.core.units import PROPERTIES, UNITS, Property, find_property, unit_factor
from gandb.representations.ase_atoms import isotopes
from gandb.sources.ase_rows import COLUMNS, SITE_PROPERTIES, decoded, row_of_json
from gandb.sources.base import Reject
from gandb.sources.documents import kept
from gandb.sources.json_items import READ_ERRORS, pairs
from gandb.sources.mp_ids import mp_ids
from gandb.sources.on_disk import path_of
from gandb.sources.own_records import KEY, restored
from gandb.sources.quantities import is_sentinel
from gandb.sources.records import Format, Member, Record, Sites, reject
from gandb.sources.structures import parse_json

MAX_VALUE = 64 * 2**20
"""Most bytes of one value of a row."""

_VERSIONS = range(5, 10)
_MAGIC = b"SQLite format 3\0"
_EXTRA = ("calculator", "calculator_parameters", "constraints", "free_energy", "stress", "dipole")
_MP_ID_KEYS = ("mp_id", "mpid", "material_id")
_OQMD_LIBRARY = "/home/oqmd/libraries/"
_OQMD_NAME = re.compile(r"\d+-(\d+)-[A-Z][A-Za-z0-9.]*\Z")
_OQMD_KEYS = {
    "energy_pa": "energy_per_atom",
    "delta_e": "formation_energy_per_atom",
    "stability": "energy_above_hull",
    "bandgap": "band_gap",
}
_JSON_START = re.compile(rb'\s*\{\s*"\d+"\s*:\s*\{\s*"(?!@)[a-z_]+"\s*:')


def _fits(name: str, head: bytes) -> bool:
    if head.startswith(_MAGIC):
        return name.endswith((".db", ".sqlite", ".sqlite3")) or b"CREATE TABLE systems" in head
    if name.endswith(".aselmdb"):
        return True
    return _JSON_START.match(head) is not None and (
        b'"numbers"' in head or (b'"ctime"' in head and b'"cell"' in head)
    )


def _read(member: Member) -> Iterator[Record | Reject]:
    try:
        with member.open() as handle:
            head = handle.read(len(_MAGIC))
        if head == _MAGIC:
            yield from _read_sqlite(member)
        elif member.name.lower().endswith(".aselmdb"):
            yield reject(
                member,
                1,
                "an ASE LMDB database is not read: write it as SQLite, "
                "with 'ase db FILE.aselmdb --insert-into FILE.db'",
            )
        else:
            yield from _read_json(member)
    except READ_ERRORS as error:
        yield reject(member, 1, f"cannot be read as an ASE database: {error}")


ASE_DATABASE = Format("ase-db", "ASE database (SQLite or JSON)", _fits, _read)
"""Databases of the Atomic Simulation Environment."""


# --- SQLite ------------------------------------------------------------------------------


def _read_sqlite(member: Member) -> Iterator[Record | Reject]:
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(path_of(member))
        for ending in ("-journal", "-wal"):
            beside = Path(path + ending)
            if member.path is not None and beside.is_file() and beside.stat().st_size:
                raise InputError(
                    f"{beside.name} lies beside it: it is being written, or was left unfinished; "
                    "end the program that writes it, or open it with sqlite3 once to recover it"
                )
        last = 0
        try:
            connection = sqlite3.connect(f"file:{quote(path)}?mode=ro&immutable=1", uri=True)
            stack.callback(connection.close)
            units = _prepared(connection)
            rows = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM systems ORDER BY id")
            for values in rows:
                row = dict(zip(COLUMNS, values, strict=True))
                if not isinstance(row["id"], int) or row["id"] <= last:
                    yield reject(member, last, "the database is damaged: ids do not rise")
                    return
                last = row["id"]
                try:
                    yield _record(member, last, decoded(row), units)
                except InputError as error:
                    yield reject(member, last, str(error), str(row["key_value_pairs"]))
        except UnicodeDecodeError:  # of sqlite3's own message about damaged names
            yield reject(member, last + 1, "the database is damaged: a name in it is not UTF-8")
        except sqlite3.Error as error:
            yield reject(member, last + 1, f"the database cannot be read further: {error}")


def _prepared(connection: sqlite3.Connection) -> dict[str, str]:
    """Check that this is such a database and return the units that it states, by key.

    Raises:
        InputError: it is another database, or of a version that is not read.
    """
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
    connection.execute("PRAGMA trusted_schema = OFF")
    # Text that is not UTF-8 costs its row alone: a lone surrogate is found when it is decoded.
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    schema = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    for table in ("systems", "information"):
        if table not in schema:
            raise InputError(
                f"this SQLite file has no table {table!r}: it is no ASE database, or one older "
                "than version 5, which 'python -m ase.db.convert FILE.db' brings up to date"
            )
        if not str(schema[table]).upper().startswith("CREATE TABLE"):
            raise InputError(f"{table!r} is a virtual table: it is not read")
        columns = connection.execute(f"PRAGMA table_xinfo({table})").fetchall()
        if any(column[6] for column in columns):
            raise InputError(f"table {table!r} has computed columns: it is not read")
        missing = {*COLUMNS} - {column[1] for column in columns} if table == "systems" else ()
        if missing:
            raise InputError(f"table 'systems' has no column {', '.join(sorted(missing))}")
    facts = dict(connection.execute("SELECT name, value FROM information LIMIT 1000"))
    version = str(facts.get("version"))
    if not version.isdecimal() or int(version) not in _VERSIONS:
        raise InputError(
            f"ASE database of version {version}; versions {_VERSIONS[0]} to {_VERSIONS[-1]} are "
            "read, and 'python -m ase.db.convert FILE.db' brings an older one up to date"
        )
    try:
        return _units(parse_json(facts.get("metadata") or "{}"))
    except InputError:
        return {}


# --- JSON --------------------------------------------------------------------------------


def _read_json(member: Member) -> Iterator[Record | Reject]:
    """Read rows one by one; units are stated at the end, so a first pass looks for them alone."""
    units: dict[str, str] = {}
    with contextlib.suppress(*READ_ERRORS), member.open() as stream:
        for key, value in pairs(stream):
            if key == "metadata":
                units = _units(value)
    last = 0
    try:
        with member.open() as stream:
            for key, value in pairs(stream):
                if not key.isdecimal() or len(key) > 18:
                    continue
                last = int(key)
                try:
                    yield _record(member, last, row_of_json(value), units)
                except InputError as error:
                    yield reject(member, last, str(error), json.dumps(value)[:2_000])
    except READ_ERRORS as error:
        yield reject(member, last + 1, f"the rest cannot be read: {error}")


# --- rows --------------------------------------------------------------------------------


def _record(member: Member, line: int, row: dict[str, Any], units: Mapping[str, str]) -> Record:
    """Build a record of a row.

    Raises:
        InputError: it is no periodic structure; says why.
    """
    sites = _sites(row)
    given = row["key_value_pairs"] or {}
    if not isinstance(given, dict):
        raise InputError("its key_value_pairs are not a JSON object")
    properties: dict[str, float] = {}
    energy = _measured(row["energy"])
    if energy is not None:
        properties["energy_per_atom"] = energy / len(sites.species)
    magmom = _measured(row["magmom"])
    if magmom is not None:
        properties["total_magnetization"] = magmom
    oqmd = _oqmd_entry(given)
    extra: dict[str, Any] = {}
    for key, value in given.items():
        known = _property(key, units, oqmd is not None)
        number = _measured(value)
        if known is not None and number is not None and known[0].name not in properties:
            properties[known[0].name] = number * known[1]
        elif value == value:  # not NaN
            extra[key] = value
    extra |= {name: _plain(row[name]) for name in (*_EXTRA, "data") if row[name] is not None}
    unique = row["unique_id"]
    record = Record(
        file=member.name,
        line=line,
        external_id=unique if isinstance(unique, str) and unique.isprintable() and unique else None,
        aliases=_aliases(given, oqmd),
        structure=sites,
        properties=properties,
        extra=kept(extra),
    )
    data = row["data"]
    return restored(record, data.get(KEY) if isinstance(data, dict) else None)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _sites(row: dict[str, Any]) -> Sites:
    numbers = row["numbers"]
    n = len(numbers)
    if n == 0:
        raise InputError("it has no atoms")
    if n > MAX_SITES:
        raise InputError(f"{n:,} atoms; at most {MAX_SITES:,} are allowed")
    if row["pbc"] != [True] * 3:
        axes = " and ".join(axis for axis, on in zip("abc", row["pbc"], strict=False) if on)
        raise InputError(f"is periodic along {axes or 'no axis'}, not in three directions")
    if numbers.min() < 1 or numbers.max() > MAX_Z:
        place = int(np.argmax((numbers < 1) | (numbers > MAX_Z)))
        what = int(numbers[place])
        raise InputError(f"atom {place + 1} has atomic number {what}: it is no element")
    cell = _shaped(row["cell"], "cell", (3, 3))
    positions = _shaped(row["positions"], "positions", (n, 3))
    species = [SYMBOLS[z] for z in numbers.tolist()]
    properties: dict[str, list[Any]] = {}
    if row["masses"] is not None:
        species = isotopes(species, _shaped(row["masses"], "masses", (n,)).tolist())
    for name, called in SITE_PROPERTIES.items():
        values = row[name]
        if values is not None and values.size:
            vectors = values.size == 3 * n and name != "tags"
            properties[called] = _shaped(values, name, (n, 3) if vectors else (n,)).tolist()
    return Sites(species, positions, lattice=cell, cartesian=True, properties=properties)


def _shaped(values: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if values is None:
        raise InputError(f"it has no {name}")
    if values.size != math.prod(shape):
        raise InputError(f"{name} holds {values.size:,} numbers, not {math.prod(shape):,}")
    shaped: np.ndarray = values.reshape(shape)
    return shaped


def _measured(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    with contextlib.suppress(OverflowError):
        if not is_sentinel(float(value)):
            return float(value)
    return None


# --- meanings ----------------------------------------------------------------------------


def _units(metadata: Any) -> dict[str, str]:
    """Return the unit of every key that ``key_descriptions`` gives one: short, long, unit."""
    described = metadata.get("key_descriptions") if isinstance(metadata, dict) else None
    if not isinstance(described, dict):
        return {}
    return {
        key: texts[2].strip()
        for key, texts in described.items()
        if isinstance(texts, list) and len(texts) == 3 and isinstance(texts[2], str)
    }


def _property(key: str, units: Mapping[str, str], oqmd: bool) -> tuple[Property, float] | None:
    """Return the property that a key certainly means, and the factor to its stored unit."""
    if oqmd and key in _OQMD_KEYS:
        return PROPERTIES[_OQMD_KEYS[key]], 1.0
    known = _known(key)
    if known is None:
        return None
    per_atom = next(iter(UNITS[known.dimension])).endswith("/atom")
    named = key.lower().endswith("_per_atom")
    unit = units.get(key, "")
    if not unit and (known.name == "band_gap" or (named and "energy" in key.lower())):
        unit = known.unit
    if not unit or (per_atom and not named and "atom" not in unit):
        return None
    try:
        return known, unit_factor(unit, known)
    except UnitError:
        return None


@lru_cache(maxsize=10_000)
def _known(key: str) -> Property | None:
    try:
        return find_property(key)
    except NotFoundError:
        return None


def _oqmd_entry(pairs: Mapping[str, Any]) -> str | None:
    """Return the OQMD entry id of a row that OQMD's library wrote."""
    directory, name = pairs.get("directory"), pairs.get("name")
    if not isinstance(directory, str) or not directory.startswith(_OQMD_LIBRARY):
        return None
    match = _OQMD_NAME.match(name) if isinstance(name, str) else None
    return match[1] if match else None


def _aliases(pairs: Mapping[str, Any], oqmd: str | None) -> tuple[tuple[str, str], ...]:
    found: dict[tuple[str, str], None] = {} if oqmd is None else {("oqmd", oqmd): None}
    for key in _MP_ID_KEYS:
        value = pairs.get(key)
        if isinstance(value, str):
            found |= dict.fromkeys(mp_ids(value)[1])
    return tuple(found)
