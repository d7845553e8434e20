"""AFLOW's records: AFLUX answers, ``aflowlib.json``, ``aflowlib.out``, index pages and hulls.

- AFLUX: lists or ``{"1 of 27": {...}}``, doi:10.1016/j.commatsci.2017.04.036
- ``aflowlib.json``, ``aflowlib.out`` (``keyword=value | keyword=value``) and the index page of an
  entry's folder: the keywords of the REST API, doi:10.1016/j.commatsci.2014.05.014
- AFLOW-CHULL's hulls: enthalpies in meV/atom, no structures, doi:10.1021/acs.jcim.8b00393

What is text becomes what it is in JSON: numbers, and lists of what ``;`` and ``,`` separate. A
value of the cell is divided by the number of atoms where the one per atom is not there. The
external id is the auid; the aurl is an alias, and so is the number of the ICSD that a prototype or
an aurl names. 1e+12, 1e+09 and numbers that are left over in memory (2e-319) stand for missing
ones. The total magnetization is that of the cell, of which ``compound`` is the formula.

An entry's ``aflow.in`` is the input of a calculation, and ``edata.*.out`` describes the symmetry of
a cell without saying what its atoms are: neither is a record, and together they have no energy.
"""

from __future__ import annotations

import html
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gandb.core.errors import InputError
from gandb.sources.aflow import AFLOW
from gandb.sources.base import Reject
from gandb.sources.documents import FAULTS, READ_ERRORS, documents, kept, reason_of
from gandb.sources.quantities import is_sentinel, measured, properties_of
from gandb.sources.records import MAX_RAW, Format, Member, Record, Sites, reject

MAX_LINE = 4 * 2**20
"""Most bytes of one record of ``aflowlib.out``; a cell of 10,000 atoms has about 2 million."""
MAX_PAGE = 16 * 2**20
"""Most bytes of an index page."""

_NUMBERED = re.compile(r"[0-9]+ of [0-9]+\Z")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")
_ICSD = re.compile(r"ICSD_([0-9]{1,7})(?![0-9])")
_ARRAYS = ("composition", "geometry", "positions_cartesian", "positions_fractional", "species")
_LISTS = frozenset(
    "composition forces geometry loop nbondxx positions_cartesian positions_fractional species "
    "species_pp species_pp_ZVAL species_pp_version spinD stoichiometry stress_tensor".split()
)
_LAST = "aflowlib_date"
_TEXTS = frozenset(("auid", "aurl", "compound", "prototype"))
_PER_CELL = {
    "energy_cell": "energy_per_atom",
    "enthalpy_formation_cell": "formation_energy_per_atom",
    "volume_cell": "volume_per_atom",
}
# Of the REST API's page itself, not of the entry.
_NOISE = ("keywords", "files", "aflux")


def read_aflux(member: Member) -> Iterator[Record | Reject]:
    """Read AFLUX answers: an array, an object of numbered records, or JSON Lines of either."""
    number = 0
    for found in documents(member, ("data",)):
        if isinstance(found, Reject):
            yield found
            continue
        numbered = [(k, v) for k, v in found.value.items() if _NUMBERED.match(k)]
        if not numbered:
            number = found.line
            yield record_of_keywords(found.value, member.name, number)
            continue
        for _, value in sorted(numbered, key=lambda pair: int(pair[0].partition(" ")[0])):
            number += 1
            if isinstance(value, Mapping):
                yield record_of_keywords(value, member.name, number)
            else:
                yield reject(member, number, "is not a JSON object", repr(value)[:MAX_RAW])


def record_of_keywords(
    said: Mapping[str, Any],
    file: str,
    line: int,
    columns: Mapping[str, str] = AFLOW.columns,
) -> Record | Reject:
    """Return the record of an entry's keywords, as JSON or as text.

    Args:
        said: keyword to value.
        file: where it is from.
        line: where in it, from 1.
        columns: what keywords mean, see `gandb.sources.base.Source`.
    """
    try:
        values = {name: _value(name, value) for name, value in said.items()}
        auid, aurl = (_text(values.get(name), name) for name in ("auid", "aurl"))
        compound = _text(values.get("compound"), "compound")
        structure = _structure(values)
        if structure is None and compound is None:
            error = said.get("error") or said.get("message")
            told = f"; it says: {str(error)[:200]}" if error else ""
            raise InputError(f"has neither a compound nor a structure{told}")
        properties, used = properties_of(values, columns)
        _add_per_atom(properties, values)
    except FAULTS as error:
        return Reject(file, line, reason_of(error), repr(said)[:MAX_RAW])
    numbers = _ICSD.findall(f"{values.get('prototype')} {aurl}")
    aliases = [("aurl", aurl)] if aurl else []
    aliases += [("icsd", number) for number in sorted(set(numbers), key=int)]
    without = {*used, "auid", "aurl", "compound", *_NOISE}
    if structure is not None:
        without.update(_ARRAYS)
    return Record(
        file,
        line,
        external_id=auid,
        aliases=tuple(aliases),
        formula=compound,
        structure=structure,
        properties=properties,
        extra=kept(values, without),
    )


def _value(name: str, value: Any) -> Any:
    """Return a value without what stands for a missing one; texts of lists as lists."""
    if isinstance(value, str):
        return _listed(value.strip()) if name in _LISTS else value.strip()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return None if is_sentinel(float(value) if abs(value) < 1e300 else math.inf) else value
    return value


def _typed(name: str, text: str) -> Any:
    """Return what a text of ``aflowlib.out`` is in ``aflowlib.json``."""
    value = _value(name, text)
    return value if name in _TEXTS else _numbers(value)


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, str) and _NUMBER.match(value.strip()):
        whole = re.fullmatch(r"\s*[+-]?[0-9]{1,15}\s*", value)
        return int(value) if whole else float(value)
    return value


def _add_per_atom(properties: dict[str, float], values: Mapping[str, Any]) -> None:
    """Add properties of which only the value of the cell is given."""
    atoms = measured(values.get("natoms"), "natoms")
    composition = values.get("composition")
    if atoms is None and isinstance(composition, list) and composition:
        atoms = sum(_number(n, "composition") for n in composition)
    for name, of in _PER_CELL.items():
        value = measured(values.get(name), name)
        if of not in properties and value is not None and atoms:
            properties[of] = value / atoms


def _listed(text: str) -> list[Any]:
    """Split ``Al,Cu`` or ``0,0,0;0.5,0.5,0.5``."""
    if not text:
        return []
    if ";" in text:
        return [part.split(",") for part in text.rstrip(";").split(";")]
    return text.split(",")


def _text(value: Any, name: str) -> str | None:
    if value in (None, ""):
        return None
    if not isinstance(value, str):
        raise InputError(f"{name} is of type {type(value).__name__}, not a text")
    return value


def _structure(values: Mapping[str, Any]) -> Sites | None:
    """Return the relaxed structure, None if what makes one is not all there.

    Raises:
        InputError: it is there and does not agree.
    """
    parts = [values.get(name) for name in ("geometry", "species", "composition")]
    positions = values.get("positions_fractional")
    if positions in (None, []) or any(part in (None, []) for part in parts):
        return None
    geometry, species, composition = (_list(part) for part in parts)
    positions = _list(positions)
    if len(geometry) != 6:
        raise InputError(f"geometry has {len(geometry)} numbers, not 6 (a,b,c,alpha,beta,gamma)")
    if len(species) != len(composition):
        raise InputError(f"{len(species)} species, but {len(composition)} numbers in composition")
    if len(positions) == 3 and not any(isinstance(p, list) for p in positions):
        positions = [positions]  # one atom, written without a list around it
    counts = [_number(n, "composition") for n in composition]
    if any(n < 0 or n != int(n) for n in counts):
        raise InputError(f"composition {composition} is not all whole numbers")
    if sum(counts) != len(positions):
        raise InputError(
            f"composition has {sum(counts):g} atoms, positions_fractional {len(positions)}"
        )
    names = [[str(name).strip()] * int(n) for name, n in zip(species, counts, strict=True)]
    return Sites(
        species=list(itertools.chain.from_iterable(names)),
        coords=[[_number(x, "positions_fractional") for x in _list(row)] for row in positions],
        parameters=[_number(x, "geometry") for x in geometry],
    )


def _list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    raise InputError(f"a list is needed where {str(value)[:40]!r} is")


def _number(value: Any, name: str) -> float:
    found = measured(value, name)
    if found is None:
        raise InputError(f"{name} has a number that is missing or out of all bounds: {value!r}")
    return found


# --- hulls -------------------------------------------------------------------------------

_HULL = AFLOW.layouts[0]
_HULL_COLUMNS = {**AFLOW.columns, **_HULL.columns}


def read_hull(member: Member) -> Iterator[Record | Reject]:
    """Read the entries of an AFLOW-CHULL hull; AFLOW's own flags are kept."""
    for found in documents(member, ("data", "points", "entries")):
        if isinstance(found, Reject):
            yield found
        else:
            yield record_of_keywords(found.value, member.name, found.line, _HULL_COLUMNS)


# --- text --------------------------------------------------------------------------------


def read_out(member: Member) -> Iterator[Record | Reject]:
    """Read ``aflowlib.out``: one line of ``keyword=value`` with bars between; or several."""
    with member.open() as handle:
        for line in itertools.count(1):
            try:
                data = handle.readline(MAX_LINE + 1)
            except READ_ERRORS as error:
                yield reject(member, line, f"cannot be read to its end: {error}")
                return
            if len(data) > MAX_LINE:
                yield reject(member, line, f"a line of more than {MAX_LINE:,} bytes")
                return
            if not data:
                return
            if not data.strip():
                continue
            try:
                said = _keywords(data.decode().strip())
                if not data.endswith(b"\n") and _LAST not in said:
                    raise InputError(
                        f"it ends without a line break and without {_LAST}, with which AFLOW ends "
                        "an entry: is it cut off?"
                    )
            except (InputError, UnicodeDecodeError) as error:
                yield reject(member, line, str(error), data.decode(errors="backslashreplace"))
            else:
                typed = {name: _typed(name, value) for name, value in said.items()}
                yield record_of_keywords(typed, member.name, line)


def _keywords(text: str) -> dict[str, str]:
    """Split ``keyword=value | keyword=value``.

    Raises:
        InputError: it is nothing like it.
    """
    found: dict[str, str] = {}
    for part in map(str.strip, text.split("|")):
        if not part:
            continue
        name, equals, value = part.partition("=")
        if not equals or not re.fullmatch(r"\w+", name.strip()):
            raise InputError(f"{part[:80]!r} is not of the form keyword=value")
        if value and not value.isspace():
            found.setdefault(name.strip(), value)
    return found


# --- pages -------------------------------------------------------------------------------


# html.parser takes minutes for a hundred kilobytes of open tags, so the page is split by its links.
_LINK = re.compile(r"""<a\s[^<>]{0,2000}\?(\w{1,100})["']?\s*>\s*(\w{1,100})\s*</a>\s*=""")
_BREAK = re.compile(r"<br\b", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")


def read_page(member: Member) -> Iterator[Record | Reject]:
    """Read the index page of an entry's folder."""
    try:
        text = member.read(MAX_PAGE).decode()
    except (*READ_ERRORS, UnicodeDecodeError) as error:
        yield reject(member, 1, f"cannot be read as an index page of AFLOW: {error}")
        return
    found = _linked(text)
    if not found:
        yield reject(member, 1, "the page lists no keywords of an entry", text[:MAX_RAW])
        return
    said = {name: _typed(name, value) for name, value in found.items()}
    yield record_of_keywords(said, member.name, 1)


def _linked(page: str) -> dict[str, str]:
    """Return the values of ``<a href="...?keyword">keyword</a>=value``, to the line break."""
    found: dict[str, str] = {}
    links = [link for link in _LINK.finditer(page) if link[1] == link[2]]
    for link, following in itertools.zip_longest(links, links[1:]):
        end = following.start() if following else len(page)
        stop = _BREAK.search(page, link.end(), end)
        value = page[link.end() : stop.start() if stop else end]
        value = html.unescape(_TAG.sub("", value)).strip()
        if value:
            found.setdefault(link[1], value)
    return found


def read_folder_file(member: Member) -> Iterator[Record | Reject]:
    """Reject a file of an entry's folder that is no record, and say where the record is."""
    what = (
        "the input of a calculation, not its result"
        if member.name.lower().endswith("aflow.in")
        else "the symmetry of a cell whose atoms it does not name"
    )
    yield reject(
        member,
        1,
        f"is not a record by itself: {what}; import the entry's aflowlib.json, aflowlib.out or "
        "index page, or its CIF or CONTCAR for the structure alone",
    )


# --- telling them apart ------------------------------------------------------------------

_KEY = re.compile(rb'"(?:auid|aurl)"\s*:\s*"(?:aflow:|aflowlib)')
_OUT = re.compile(rb"\s*(?:aurl=aflowlib|auid=aflow:)[^\n]*\|")
_INDEX = re.compile(rb'href="?[^">]*\?(?:auid|aurl)"?\s*>')
_HULL_KEY = f'"{_HULL.marker}"'.encode()


def _begins(head: bytes) -> bytes:
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]


def _fits_hull(name: str, head: bytes) -> bool:
    del name
    return _begins(head) in (b"{", b"[") and _HULL_KEY in head


def _fits_library(name: str, head: bytes) -> bool:
    return _is_library(name) and _states_entries(name, head)


def _fits_aflux(name: str, head: bytes) -> bool:
    return not _is_library(name) and _states_entries(name, head)


def _is_library(name: str) -> bool:
    return name.rpartition("/")[2].startswith("aflowlib")


def _states_entries(name: str, head: bytes) -> bool:
    if _begins(head) not in (b"{", b"[") or _fits_hull(name, head):
        return False
    return _KEY.search(head) is not None or re.match(rb'\s*\{\s*"1 of \d+"\s*:', head) is not None


def _fits_out(name: str, head: bytes) -> bool:
    del name
    return _OUT.match(head) is not None


def _fits_page(name: str, head: bytes) -> bool:
    del name
    return _begins(head) == b"<" and _INDEX.search(head) is not None


def _fits_folder_file(name: str, head: bytes) -> bool:
    return (
        name.endswith("aflow.in")
        or re.search(r"(?:^|/)edata\.[a-z]+\.out\Z", name) is not None
        or (head.startswith(b"AFLOW VERSION") and b"REAL LATTICE" in head)
    )


AFLUX = Format("aflux", "answers of AFLOW's AFLUX (JSON)", _fits_aflux, read_aflux)
AFLOWLIB_JSON = Format("aflowlib-json", "AFLOW's aflowlib.json", _fits_library, read_aflux)
AFLOWLIB_OUT = Format("aflowlib-out", "AFLOW's aflowlib.out", _fits_out, read_out)
AFLOW_INDEX = Format("aflow-index", "index page of an AFLOW entry (HTML)", _fits_page, read_page)
AFLOW_HULL = Format("aflow-hull", "hull of AFLOW-CHULL (JSON)", _fits_hull, read_hull)
AFLOW_FOLDER = Format(
    "aflow-folder",
    "files of an AFLOW entry that are no records (aflow.in, edata.*.out)",
    _fits_folder_file,
    read_folder_file,
)
