"""Rows of ASE's databases, decoded: blobs and JSON to arrays and plain data, without ASE.

Blobs are arrays of int32 and float64, little-endian; those of a big-endian machine are known by
their atomic numbers. JSON has arrays as ``{"__ndarray__": [shape, dtype, values]}``; from version 9
on, ``data`` is bytes: the place where its JSON begins, arrays, and JSON that says where they are.

Format: ``ase/db/core.py`` and ``ase/io/jsonio.py`` of https://gitlab.com/ase/ase.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gandb.core.errors import InputError
from gandb.sources.documents import MAX_EXTRA, refuse_halves
from gandb.sources.own_records import KEY, MAX_OWN
from gandb.sources.structures import parse_json

COLUMNS = (
    "id unique_id numbers positions cell pbc initial_magmoms initial_charges masses tags "
    "constraints calculator calculator_parameters energy free_energy forces stress dipole magmoms "
    "magmom charges key_value_pairs data"
).split()
"""What is read of a row."""
SITE_PROPERTIES = {
    "initial_magmoms": "magmom",
    "magmoms": "final_magmom",
    "initial_charges": "charge",
    "charges": "final_charge",
    "tags": "tags",
    "forces": "forces",
}
"""ASE's arrays and what pymatgen's adaptor calls them."""

_TOO_LONG = " " * (MAX_EXTRA + 1)  # `kept` lists it as left out


def decoded(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its blobs as arrays and its JSON as data.

    Raises:
        InputError: a value is not what it should be.
    """
    found = dict(row)
    numbers = _array(row["numbers"], "numbers", "<i4")
    if numbers is None:
        raise InputError("it has no atomic numbers")
    order = "<"
    if len(numbers) and numbers.max() > 0xFFFF:  # as a big-endian machine may have written them
        numbers, order = numbers.astype("<i4").byteswap(), ">"
    found["numbers"] = numbers
    for name in ("positions", "cell", "masses", "forces", "stress", "dipole"):
        found[name] = _array(row[name], name, order + "f8")
    for name in ("initial_magmoms", "magmoms", "initial_charges", "charges"):
        found[name] = _array(row[name], name, order + "f8")
    found["tags"] = _array(row["tags"], "tags", order + "i4")
    if isinstance(row["magmom"], bytes):  # of version 5
        value = _array(row["magmom"], "magmom", order + "f8")
        found["magmom"] = float(value[0]) if value is not None and len(value) == 1 else None
    if not isinstance(row["pbc"] or 0, int):
        raise InputError("pbc is not a whole number")
    found["pbc"] = [bool(row["pbc"] & bit) for bit in (1, 2, 4)] if row["pbc"] else [False] * 3
    found["key_value_pairs"] = _json(row["key_value_pairs"], "key_value_pairs") or {}
    for name in ("calculator_parameters", "constraints", "data"):
        most = 2 * MAX_OWN if name == "data" and _is_own(row[name]) else MAX_EXTRA
        if row[name] is None or len(row[name]) > most:
            found[name] = None if row[name] is None else _TOO_LONG
            continue
        try:
            found[name] = _json(row[name], name)
        except InputError:
            found[name] = None  # beside the structure, and never plain data to begin with
    return found


def _is_own(value: Any) -> bool:
    """Whether data were written by gandb."""
    return isinstance(value, bytes) and f'"{KEY}"'.encode() in value[:100]


def _array(blob: Any, name: str, kind: str) -> np.ndarray | None:
    if blob is None:
        return None
    size = np.dtype(kind).itemsize
    if not isinstance(blob, bytes) or len(blob) % size:
        raise InputError(f"{name} is not an array of {size}-byte numbers")
    return np.frombuffer(blob, kind)


def _json(value: Any, name: str) -> Any:
    """Decode JSON, or what ASE writes as bytes: an offset, arrays, and JSON from there on."""
    if value is None:
        return None
    if isinstance(value, str):
        return _text_checked(parse_json(value), value)
    if not isinstance(value, bytes) or len(value) < 8:
        raise InputError(f"{name} is not JSON")
    start = int.from_bytes(value[:8], "little")
    if not 8 <= start < len(value):
        raise InputError(f"{name} is damaged: its JSON would begin at byte {start:,}")
    text = value[start:]
    found = _text_checked(parse_json(text), text)
    return _with_arrays(found, value) if b"__ndarray__" in text else found


def _text_checked(value: Any, raw: str | bytes) -> Any:
    try:
        refuse_halves(value, raw)
    except ValueError:
        raise InputError("it holds text that is not UTF-8") from None
    return value


def _with_arrays(value: Any, blob: bytes) -> Any:
    """Put the arrays of a blob where the JSON names them, as nested lists; null if they cannot."""
    if isinstance(value, list):
        return [_with_arrays(item, blob) for item in value]
    if not isinstance(value, dict):
        return value
    place = value.get("__ndarray__")
    if place is None:
        return {key: _with_arrays(item, blob) for key, item in value.items()}
    try:
        shape, name, offset = place
        kind = np.dtype(name)
        count = math.prod(shape)
        if kind.kind not in "biuf" or min(shape, default=1) < 0 or offset < 8:
            return None
        flat = np.frombuffer(blob, kind.newbyteorder("<"), count, offset)
        return flat.reshape(shape).tolist()
    except (TypeError, ValueError):
        return None


def row_of_json(value: Any) -> dict[str, Any]:
    """Return a row of ``jsondb`` with its arrays.

    Raises:
        InputError: it is no row, or an array is damaged.
    """
    if not isinstance(value, dict) or value.get("numbers") is None:
        raise InputError("it has no atomic numbers")
    found = {name: _ndarrays(value.get(name)) for name in COLUMNS}
    cell = found["cell"]
    found["cell"] = cell.get("array") if isinstance(cell, dict) else cell
    for name in ("numbers", "tags", "positions", "cell", "masses", "forces", *SITE_PROPERTIES):
        if found[name] is None:
            continue
        try:
            found[name] = np.array(found[name], np.float64)
            if name in ("numbers", "tags"):
                found[name] = np.array([round(n) for n in found[name].tolist()], np.int64)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{name} is not an array of numbers") from None
    pbc = found["pbc"]
    found["pbc"] = [bool(p) for p in pbc] if isinstance(pbc, list) else [bool(pbc)] * 3
    return found


def _ndarrays(value: Any) -> Any:
    """Return JSON with ``{"__ndarray__": [shape, dtype, values]}`` as nested lists."""
    if isinstance(value, list):
        return [_ndarrays(item) for item in value]
    if not isinstance(value, dict):
        return value
    array = value.get("__ndarray__")
    if array is None:
        return {key: _ndarrays(item) for key, item in value.items()}
    try:
        shape, _, flat = array
        return np.array(flat).reshape(shape).tolist()
    except (TypeError, ValueError, OverflowError):
        return None
