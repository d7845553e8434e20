"""Structures as a database of the Atomic Simulation Environment, without it: SQLite or JSON.

Format: ``ase/db/sqlite.py`` (version 9) and ``ase/db/jsondb.py`` of https://gitlab.com/ase/ase
(doi:10.1088/1361-648X/aa680e). What the query selects are key-value pairs, where ASE takes them as
such; the rest is in a row's data. Times are 0, so that equal content is an equal file.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from gandb.core.elements import ATOMIC_NUMBERS, SYMBOLS
from gandb.sharing.exports.rows import Item
from gandb.sharing.exports.texts import CannotHoldError, own_record, says_more, xyz_lacks
from gandb.sources.own_records import KEY

VERSION = 9
"""Version of the layout."""

_SYSTEMS = (
    "id unique_id ctime mtime username numbers positions cell pbc initial_magmoms initial_charges "
    "masses tags momenta constraints calculator calculator_parameters energy free_energy forces "
    "stress dipole magmoms magmom charges key_value_pairs data natoms fmax smax volume mass charge"
).split()
_TYPES = {
    "id": "INTEGER PRIMARY KEY AUTOINCREMENT", "unique_id": "TEXT UNIQUE", "ctime": "REAL",
    "mtime": "REAL", "username": "TEXT", "pbc": "INTEGER", "constraints": "TEXT",
    "calculator": "TEXT", "calculator_parameters": "TEXT", "energy": "REAL", "free_energy": "REAL",
    "magmom": "REAL", "key_value_pairs": "TEXT", "natoms": "INTEGER", "fmax": "REAL",
    "smax": "REAL", "volume": "REAL", "mass": "REAL", "charge": "REAL",
}  # fmt: skip
_INDEXES = {
    "unique_id_index": "systems(unique_id)", "ctime_index": "systems(ctime)",
    "username_index": "systems(username)", "calculator_index": "systems(calculator)",
    "species_index": "species(Z)", "key_index": "keys(key)", "text_index": "text_key_values(key)",
    "number_index": "number_key_values(key)",
}  # fmt: skip
_LINKED = "id INTEGER, FOREIGN KEY (id) REFERENCES systems(id)"
_TABLES = (
    f"CREATE TABLE systems ({', '.join(n + ' ' + _TYPES.get(n, 'BLOB') for n in _SYSTEMS)})",
    f"CREATE TABLE species (Z INTEGER, n INTEGER, {_LINKED})",
    f"CREATE TABLE keys (key TEXT, {_LINKED})",
    f"CREATE TABLE text_key_values (key TEXT, value TEXT, {_LINKED})",
    f"CREATE TABLE number_key_values (key TEXT, value REAL, {_LINKED})",
    "CREATE TABLE information (name TEXT, value TEXT)",
)
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_TAKEN = frozenset(
    {*_SYSTEMS, "age", "formula", "user", "calc", "cell", "symbols", "smax", "fmax", "natoms",
     "number", "constrained_forces", "rmsd", *SYMBOLS}
)  # fmt: skip
_COMMIT_EVERY = 5_000
_WORDS = frozenset({"true", "false"})


class AseSqlite:
    """A new SQLite file of ASE's."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path)
        self._connection.execute("PRAGMA journal_mode = OFF")  # the file is new, or nothing
        self._connection.execute("PRAGMA synchronous = OFF")
        for statement in _TABLES:
            self._connection.execute(statement)
        for name, on in _INDEXES.items():
            self._connection.execute(f"CREATE INDEX {name} ON {on}")
        self._execute("INSERT INTO information VALUES ('version', ?)", str(VERSION))
        self._number = 0

    def write(self, item: Item) -> None:
        """Add a row.

        Raises:
            CannotHoldError: see `ase_row`.
        """
        row = ase_row(item)
        pairs, data = row["key_value_pairs"], row["data"]
        self._number += 1
        values = {
            name: _blob(value) if isinstance(value, np.ndarray) else value
            for name, value in row.items()
        }
        values |= {"id": self._number, "pbc": 7, "key_value_pairs": json.dumps(pairs)}
        values["data"] = _packed(data) if data else "null"
        values["constraints"] = None
        marks = ", ".join("?" * len(_SYSTEMS))
        self._execute(
            f"INSERT INTO systems VALUES ({marks})", *(values.get(name) for name in _SYSTEMS)
        )
        for z, n in sorted(Counter(row["numbers"].tolist()).items()):
            self._execute("INSERT INTO species VALUES (?, ?, ?)", z, n, self._number)
        for key, value in pairs.items():
            self._execute("INSERT INTO keys VALUES (?, ?)", key, self._number)
            table = "text" if isinstance(value, str) else "number"
            own = value if isinstance(value, str) else float(value)
            statement = f"INSERT INTO {table}_key_values VALUES (?, ?, ?)"
            self._execute(statement, key, own, self._number)
        if self._number % _COMMIT_EVERY == 0:
            self._connection.commit()

    def _execute(self, statement: str, *values: Any) -> None:
        self._connection.execute(statement, values)

    def finish(self) -> None:
        """Write what is left."""
        self._connection.commit()

    def close(self) -> None:
        """Close the file, finished or not."""
        self._connection.close()


class AseJson:
    """A new JSON file of ASE's."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._number = 0
        out.write("{")

    def write(self, item: Item) -> None:
        """Add a row.

        Raises:
            CannotHoldError: see `ase_row`.
        """
        row = ase_row(item)
        row = {
            name: _ndarray(value) if isinstance(value, np.ndarray) else value
            for name, value in row.items()
            if value is not None and not (isinstance(value, dict) and not value)
        }
        row["cell"] = {"array": row["cell"], "__ase_objtype__": "cell"}
        row["pbc"] = {"__ndarray__": [[3], "bool", [True, True, True]]}
        row["user"] = row.pop("username")
        for name in ("natoms", "volume"):
            row.pop(name)
        begin = "\n" if self._number == 0 else ",\n"
        self._number += 1
        self._out.write(f'{begin}"{self._number}": {json.dumps(row)}')

    def finish(self) -> None:
        """Write the list of rows that ends the file."""
        ids = list(range(1, self._number + 1))
        begin = "" if self._number == 0 else ","
        self._out.write(f'{begin}\n"ids": {json.dumps(ids)},\n"nextid": {self._number + 1}}}\n')

    def close(self) -> None:
        """Close the file, finished or not."""
        self._out.close()


def ase_row(item: Item) -> dict[str, Any]:
    """Return a row by column: arrays, plain values, and two objects.

    Raises:
        CannotHoldError: it is disordered, or says too much of its sites.
    """
    crystal = item.crystal
    if (lacks := xyz_lacks(crystal)) is not None:
        raise CannotHoldError(lacks)
    first = [site[0] for site in crystal.occupants]
    row: dict[str, Any] = {
        "unique_id": item.name.replace("-", ""),
        "ctime": 0.0,
        "mtime": 0.0,
        "username": "gandb",
        "numbers": np.array([ATOMIC_NUMBERS[o.element] for o in first], "<i4"),
        "positions": np.ascontiguousarray(crystal.cart_coords, "<f8"),
        "cell": np.ascontiguousarray(crystal.lattice, "<f8"),
        "natoms": len(crystal),
        "volume": crystal.volume,
    }
    magmoms, forces = _floats(crystal.properties.get("magmom")), crystal.properties.get("forces")
    if magmoms is not None:
        row["initial_magmoms"] = magmoms
    energy = item.value("energy_per_atom")
    if isinstance(energy, int | float) and not isinstance(energy, bool):
        row["energy"] = energy * len(crystal)
    vectors = _floats(forces, 3)
    if vectors is not None:
        row["forces"] = vectors
    if len(row.keys() & {"energy", "forces"}):
        row["calculator"] = "unknown"
        row["calculator_parameters"] = "{}"
    pairs, rest = _pairs({"structure_id": item.structure_id, **_beside(item)})
    own = own_record(item)
    data: dict[str, Any] = {KEY: own} if says_more(own) else {}
    if rest:
        data["values"] = rest
    return row | {"key_value_pairs": pairs, "data": data}


def _beside(item: Item) -> dict[str, Any]:
    """Return what is worth a key: what the query selects, and what the entry states."""
    about = item.entry or {}
    own = {k: about[k] for k in ("source", "external_id") if about.get(k)}
    return {**own, **about.get("properties", {}), **item.values}


def _pairs(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part values into those that ASE takes as key-value pairs, and others."""
    pairs: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for name, value in values.items():
        plain = isinstance(value, str | int | float) and abs(_size(value)) < 2**63
        fits = plain and _KEY.match(name) and name not in _TAKEN and not _misread(value)
        (pairs if fits else rest)[name] = value
    return pairs, rest


def _size(value: Any) -> float:
    return 0 if isinstance(value, str) else value


def _misread(value: Any) -> bool:
    """Whether ASE would take a text for a number or a truth value, which it refuses to write."""
    if not isinstance(value, str):
        return False
    if value.lower() in _WORDS:
        return True
    try:
        float(value)
    except ValueError:
        return False
    return True


def _floats(values: Any, width: int = 1) -> np.ndarray | None:
    if not values:
        return None
    try:
        found = np.array(values, "<f8")
    except (TypeError, ValueError):
        return None
    shape = (len(values),) if width == 1 else (len(values), width)
    return found if found.shape == shape and np.isfinite(found).all() else None


def _blob(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def _ndarray(array: np.ndarray) -> dict[str, Any]:
    kind = "int64" if array.dtype.kind == "i" else "float64"
    return {"__ndarray__": [list(array.shape), kind, array.ravel().tolist()]}


def _packed(data: dict[str, Any]) -> bytes:
    """Write data as ASE's version 9 does: where its JSON begins, and the JSON."""
    return (8).to_bytes(8, "little") + json.dumps(data).encode()
