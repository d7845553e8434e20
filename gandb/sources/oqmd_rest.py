"""OQMD's REST interface: answers of ``/oqmdapi/formationenergy``, as pages or as their records.

Documentation: https://static.oqmd.org/static/docs/restful.html. The server writes coordinates with
three digits, and a stability of 0 for whatever is stable. Sites that several species share come
without occupancies; such a record has no structure, and extra says why (``structure_missing``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gandb.core.errors import InputError
from gandb.sources.base import Reject
from gandb.sources.documents import documents, kept
from gandb.sources.oqmd import OQMD
from gandb.sources.quantities import measured, properties_of
from gandb.sources.records import MAX_RAW, Format, Member, Record, Sites

ICSD = "icsd"
"""Kind of alias of an entry's collection code in the ICSD."""
MAX_SITES = 10_000
"""Most sites that are read; no more make a crystal."""

_SITE = re.compile(r"\s*(\(.*\)|\S+)\s+@\s+(\S+)\s+(\S+)\s+(\S+)\s*\Z")
_COLUMNS = {k: v for k, v in OQMD.columns.items() if ":" in v}
_OWN = re.compile(
    rb'"(?:delta_e|formationenergy_id|duplicate_entry_id|calculation_label|composition_generic'
    rb'|unit_cell|icsd_id)"\s*:'
)


def read_oqmd_rest(member: Member) -> Iterator[Record | Reject]:
    """Read pages or records, alone, in an array or as JSON Lines."""
    number = 0
    for found in documents(member, holders=("data",)):
        if isinstance(found, Reject):
            yield found
        elif isinstance(found.value.get("data"), list):  # a page in an array of pages
            for record in records_of_page(found.value, member.name, number + 1):
                number += 1
                yield record
        elif "entry_id" not in found.value and "response_message" in found.value:
            said = found.value["response_message"]
            yield Reject(member.name, found.line, f"an answer without data: {said!r}"[:MAX_RAW], "")
        else:
            yield _record(found.value, member.name, found.line)


def records_of_page(
    page: Mapping[str, Any], file: str, first_line: int
) -> Iterator[Record | Reject]:
    """Yield the records of one answer of the server.

    Args:
        page: the answer, ``{"data": [...], ...}``.
        file: what the records are said to come from.
        first_line: number of the first record; those that follow count on.
    """
    data = page.get("data")
    for number, value in enumerate(data if isinstance(data, list) else (), first_line):
        if isinstance(value, Mapping):
            yield _record(value, file, number)
        else:
            yield Reject(file, number, "a record is not a JSON object", repr(value)[:MAX_RAW])


def _fits(name: str, head: bytes) -> bool:
    if b'"attributes"' in head or head.lstrip()[:1] not in (b"[", b"{"):  # OPTIMADE's, or no JSON
        return False
    if b"oqmdapi" in head:
        return True
    ours = b'"entry_id"' in head and _OWN.search(head) is not None
    return ours and b'"@module"' not in head and b'"@class"' not in head


OQMD_REST = Format(
    name="oqmd-rest",
    title="OQMD's REST answers (formationenergy)",
    fits=_fits,
    read=read_oqmd_rest,
)


def _record(value: Mapping[str, Any], file: str, line: int) -> Record | Reject:
    try:
        external_id = _id(value, "entry_id")
        icsd = _id(value, "icsd_id")
        properties, used = properties_of(value, _COLUMNS)
        structure, problem = _structure(value)
        atoms = len(structure.species) if structure else measured(value.get("natoms"), "natoms")
        volume = measured(value.get("volume"), "volume")
        if volume is not None and atoms and "volume_per_atom" not in properties:
            properties["volume_per_atom"] = volume / atoms
            used.add("volume")
        formula, said = _formula(value)
        if formula is None and structure is None:
            raise InputError(
                "it has neither a composition nor a structure: ask for 'composition' or for "
                "'unit_cell' and 'sites' among the fields"
            )
    except (InputError, ValueError, OverflowError) as error:
        return Reject(file, line, str(error), repr(dict(value))[:MAX_RAW])
    without = {"entry_id", "icsd_id", said, *used}
    if structure is not None:
        without |= {"unit_cell", "sites"}
    extra = kept(value, without)
    if problem:
        extra["structure_missing"] = problem
    return Record(
        file,
        line,
        external_id,
        ((ICSD, icsd),) if icsd else (),
        formula,
        structure,
        properties,
        extra,
    )


def _id(value: Mapping[str, Any], name: str) -> str | None:
    """Return an id as text.

    Raises:
        InputError: it is neither a whole number nor text.
    """
    found = value.get(name)
    if found is None or found == "":
        return None
    if isinstance(found, bool) or not isinstance(found, int | str):
        raise InputError(f"{name} is {found!r}, which is no id")
    return str(found).strip() or None


def _formula(value: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return the formula and the field that it is from."""
    for name in ("composition", "name"):
        text = value.get(name)
        if isinstance(text, str) and text.strip():
            return text.strip(), name
        if text not in (None, ""):
            raise InputError(f"{name} is of type {type(text).__name__}, not text")
    return None, ""


def _structure(value: Mapping[str, Any]) -> tuple[Sites | None, str]:
    """Return the structure, or None and why there is none where sites are given.

    Raises:
        InputError: unit_cell or sites are not what they should be.
    """
    cell, sites = value.get("unit_cell"), value.get("sites")
    if cell is None and not sites:
        return None, ""
    if cell is None or not sites:
        return None, "unit_cell is missing" if cell is None else "sites are missing"
    if not isinstance(cell, list) or [len(row) for row in cell if isinstance(row, list)] != [3] * 3:
        raise InputError(f"unit_cell is not three rows of three numbers: {cell!r}"[:200])
    lattice = [[_number(x, "unit_cell") for x in row] for row in cell]
    if not isinstance(sites, list):
        raise InputError(f"sites is of type {type(sites).__name__}, not a list")
    if len(sites) > MAX_SITES:
        raise InputError(f"{len(sites):,} sites; at most {MAX_SITES:,} are read")
    species: list[str] = []
    coords: list[list[float]] = []
    for number, text in enumerate(sites, 1):
        match = _SITE.match(text) if isinstance(text, str) else None
        if match is None:
            raise InputError(f"site {number} is {text!r}, not like 'Fe @ 0 0.5 0.25'"[:200])
        name, *place = match.groups()
        where = [_number(x, f"site {number}") for x in place]
        if name.startswith("("):
            return None, f"site {number} is shared without occupancies: {text}"[:200]
        if name == "Vac":
            continue  # a site without atoms
        species.append(name)
        coords.append(where)
    return Sites(species, coords, lattice), ""


def _number(value: Any, what: str) -> float:
    """Return a finite number, also of a text.

    Raises:
        InputError: it is none.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        found = float(value)
    except (ValueError, OverflowError):
        raise InputError(f"{what} has {value!r}, which is no number"[:200]) from None
    if not math.isfinite(found):
        raise InputError(f"{what} has {value!r}, which is not finite")
    return found
