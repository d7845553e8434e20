"""Tables whose rows hold a structure: CSV, TSV, Parquet, JSON and JSON Lines.

Known layouts: CDVAE's and DiffCSP's (``cif``, arXiv:2110.06197), Chemeleon's, matminer's (pymatgen
structures as Python literals, doi:10.1016/j.commatsci.2018.05.018), LeMat-Bulk's (OPTIMADE's fields
as columns, https://huggingface.co/datasets/LeMaterial/LeMat-Bulk), JARVIS's (``atoms``,
doi:10.1038/s41524-020-00440-1), and any table with a column of CIF or POSCAR texts or pymatgen
structures.

Columns become properties where the layouts above fix their unit, see `COLUMNS`; other columns are
kept as extra. A file of JARVIS's leaderboard (``id,target,prediction``) has two structures in a
row; `JARVIS_LEADERBOARD` reads the predictions and `JARVIS_TARGETS` the targets.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gandb.core.errors import InputError
from gandb.sources.base import Reject
from gandb.sources.delimited import RowError, header_of, rows
from gandb.sources.documents import Document, documents, kept, refuse_halves
from gandb.sources.json_items import READ_ERRORS
from gandb.sources.mp_ids import mp_ids
from gandb.sources.on_disk import path_of
from gandb.sources.own_records import KEY, restored
from gandb.sources.quantities import measured, properties_of
from gandb.sources.records import MAX_RAW, Encoded, Format, Member, Reader, Record, Sites, reject
from gandb.sources.structures import (
    is_atoms,
    is_optimade,
    is_structure,
    parse_json,
    sites_of_atoms,
    sites_of_optimade,
    sites_of_structure,
)

COLUMNS: Mapping[str, str] = {
    "formation_energy_per_atom": "formation_energy_per_atom:eV/atom",
    "formation_energy_peratom": "formation_energy_per_atom:eV/atom",  # JARVIS
    "energy_per_atom": "energy_per_atom:eV/atom",
    "optb88vdw_total_energy": "energy_per_atom:eV/atom",  # JARVIS
    "e_above_hull": "energy_above_hull:eV/atom",
    "energy_above_hull": "energy_above_hull:eV/atom",
    "ehull": "energy_above_hull:eV/atom",  # JARVIS
    "band_gap": "band_gap:eV",
    "optb88vdw_bandgap": "band_gap:eV",  # JARVIS
}
"""What columns mean in the layouts that are known, with their units."""
LEMAT_COLUMNS: Mapping[str, str] = {"total_magnetization": "total_magnetization:μB"}
"""What more they mean beside OPTIMADE's fields; ``energy`` is there in eV per cell."""
STRUCTURE_COLUMNS = (
    *("cif", "cif_string", "cif_text", "structure", "pymatgen_structure", "relaxed_structure"),
    *("atoms", "poscar", "contcar"),
)
"""Columns that hold a structure, in any case; the first that is there is taken."""
ID_COLUMNS = ("material_id", "immutable_id", "jid", "mp_id", "mpid", "structure_id", "id", "_id")
"""Columns that hold the id of a row, in any case; the first that says something is taken."""

MAX_TEXT = 16 * 2**20
"""Most characters of one structure; 10,000 sites in JSON, with properties, have about 5 million."""
MAX_LITERAL = 2**19
"""Most characters of a Python literal: its syntax tree takes five hundred times as much memory."""

_LEMAT = ("lattice_vectors", "species_at_sites", "cartesian_site_positions")
_LEMAT_SITES = {"forces": "forces", "magnetic_moments": "magmom", "charges": "charge"}
_LEMAT_FIELDS = frozenset({*_LEMAT, *_LEMAT_SITES, "species", "dimension_types", "assemblies"})
_LEADERBOARD = ["id", "target", "prediction"]
_BATCH = 256  # rows of Parquet that are decoded at a time
_DELIMITED = {"csv": ",", "tsv": "\t"}
_ENDING = re.compile(r"\.(csv|tsv)(?=\.|$)")
_JSON_STRUCTURE = re.compile(
    rb'"(cif|cif_string|cif_text|poscar|contcar)"\s*:\s*"|"lattice_mat"\s*:\s*\['
    rb'|"(structure|pymatgen_structure|relaxed_structure)"\s*:\s*(\{|")|"lattice_vectors"\s*:\s*\[\s*\['
)
_JSON_NAMES = {"None": "null", "True": "true", "False": "false", "nan": "NaN", "inf": "Infinity"}
_NAMES = re.compile(r"\b(?:None|True|False|nan|inf)\b")
_CIF = re.compile(r"^\s*data_|_cell_length_a", re.IGNORECASE | re.MULTILINE)


def _fits(name: str, head: bytes) -> bool:
    if head.startswith(b"PAR1"):
        return True
    ending = _ENDING.search(name)
    if ending:
        return _holds(header_of(head, _DELIMITED[ending[1]]))
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"[") or b'"attributes"' in head:
        return False
    return bool(_JSON_STRUCTURE.search(head))


def _read(member: Member) -> Iterator[Record | Reject]:
    ending = _ENDING.search(member.name.lower())
    try:
        if ending:
            yield from _read_delimited(member, _DELIMITED[ending[1]])
            return
        with member.open() as handle:
            parquet = handle.read(4) == b"PAR1"
        if parquet:
            yield from _read_parquet(member)
            return
        for found in documents(member):
            if isinstance(found, Document):
                yield _record(member, found.line, found.value)
            else:
                yield found
    except READ_ERRORS as error:
        yield reject(member, 1, f"cannot be read on: {error}")


STRUCTURE_TABLE = Format(
    "structure-table", "table with a column of structures (CSV, TSV, Parquet, JSON)", _fits, _read
)
"""Tables whose rows hold a structure."""


def _holds(columns: Iterable[str]) -> bool:
    names = {column.lower() for column in columns}
    return not names.isdisjoint(STRUCTURE_COLUMNS) or names.issuperset(_LEMAT)


# --- CSV and TSV -------------------------------------------------------------------------


def _read_delimited(member: Member, delimiter: str) -> Iterator[Record | Reject]:
    with member.open() as stream:
        for found in rows(stream, delimiter):
            if isinstance(found, RowError):
                yield reject(member, found.line, str(found), found.raw)
            else:
                yield _record(member, *found)


# --- Parquet -----------------------------------------------------------------------------


def _read_parquet(member: Member) -> Iterator[Record | Reject]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(path_of(member))
        try:
            # A text that many rows share is in the file once, and so it stays in memory, which
            # Arrow can do for plain columns. Facts about the pieces of a column are not asked for:
            # those of a damaged file end the whole process.
            with pq.ParquetFile(path) as whole:
                texts = [
                    column.path
                    for column in map(whole.schema.column, range(len(whole.schema)))
                    if column.physical_type == "BYTE_ARRAY" and "." not in column.path
                ]
            file = stack.enter_context(pq.ParquetFile(path, read_dictionary=texts))
            if not _holds(file.schema_arrow.names):
                yield reject(
                    member,
                    1,
                    f"none of its columns holds a structure: {', '.join(file.schema_arrow.names)}; "
                    f"name one of them {' or '.join(STRUCTURE_COLUMNS[:4])}",
                )
                return
            for batch in file.iter_batches(_BATCH, use_threads=False):
                for i in range(len(batch)):
                    number += 1
                    (row,) = batch.slice(i, 1).to_pylist()
                    yield _record(member, number, {k: _json_data(v) for k, v in row.items()})
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            yield reject(member, number + 1, f"the Parquet file cannot be read on: {error}")


def _json_data(value: Any) -> Any:
    """Return a value of Arrow as JSON data: dates and decimals as text, bytes left out."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list):
        return [_json_data(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _json_data(item) for key, item in value.items()}
    return None if isinstance(value, bytes) else str(value)


# --- rows --------------------------------------------------------------------------------


def _record(member: Member, line: int, row: Mapping[str, Any]) -> Record | Reject:
    try:
        return _checked_record(member, line, row)
    except InputError as error:
        return reject(member, line, str(error), _shown(row))


def _shown(row: Mapping[str, Any]) -> str:
    return json.dumps(
        {name: value[:MAX_RAW] if isinstance(value, str) else value for name, value in row.items()},
        default=str,
    )[: 2 * MAX_RAW]


def _checked_record(member: Member, line: int, row: Mapping[str, Any]) -> Record:
    """Build the record of a row.

    Raises:
        InputError: it has no structure, or a property is no number.
    """
    names = {name.lower(): name for name in reversed(list(row))}
    structure, used = _structure(row, names)
    columns = {names[name]: meaning for name, meaning in COLUMNS.items() if name in names}
    if _LEMAT[0] in used:
        columns |= {n: meaning for n, meaning in LEMAT_COLUMNS.items() if n in row}
    properties, measured_by = properties_of(row, columns)
    if _LEMAT[0] in used and isinstance(structure, Sites) and "energy_per_atom" not in properties:
        energy = measured(row.get("energy"), "energy")
        if energy is not None:
            properties["energy_per_atom"] = energy / len(structure.species)
            used.add("energy")
    external_id = None
    for wanted in ID_COLUMNS:
        value = row.get(names.get(wanted, ""))
        if isinstance(value, str | int) and str(value).strip():
            external_id = str(value).strip()
            used.add(names[wanted])
            break
    record = Record(
        file=member.name,
        line=line,
        external_id=external_id,
        aliases=mp_ids(external_id)[1] if external_id else (),
        structure=structure,
        properties=properties,
        extra=kept(row, used | measured_by | {KEY}),
    )
    return restored(record, row.get(KEY))


def _structure(
    row: Mapping[str, Any], names: Mapping[str, str]
) -> tuple[Sites | Encoded, set[str]]:
    """Return the structure of a row and the columns that it is of."""
    if is_atoms(row):
        return sites_of_atoms(row), {"lattice_mat", "coords", "elements", "cartesian", "props"}
    for wanted in STRUCTURE_COLUMNS:
        column = names.get(wanted)
        value = row.get(column) if column else None
        if column and value not in (None, "", "na"):
            try:
                return structure_of(value), {column}
            except InputError as error:
                raise InputError(f"{column}: {error}") from None
    if all(row.get(name) not in (None, "") for name in _LEMAT):
        fields = {name: _data(row.get(name)) for name in _LEMAT_FIELDS}
        sites = fields["species_at_sites"]
        properties = {
            called: fields[name]
            for name, called in _LEMAT_SITES.items()
            if isinstance(fields[name], list)
            and isinstance(sites, list)
            and len(fields[name]) == len(sites)
        }
        # What does not fit the sites is kept beside them.
        used = _LEMAT_FIELDS - {n for n, called in _LEMAT_SITES.items() if called not in properties}
        return sites_of_optimade(fields, properties), set(used)
    raise InputError(
        f"holds no structure: no {', '.join(STRUCTURE_COLUMNS)}, and no {', '.join(_LEMAT)}"
    )


def structure_of(value: Any) -> Sites | Encoded:
    """Read one cell.

    Args:
        value: a structure of pymatgen, JARVIS or OPTIMADE, as an object, JSON or Python literal; or
            the text of a CIF or POSCAR, whose line ends may be written out.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise InputError(f"{len(value):,} characters; at most {MAX_TEXT:,} are allowed")
        if not value.lstrip().startswith(("{", "[")):
            return _encoded(value)
        value = _data(value)
    if is_structure(value):
        return sites_of_structure(value)
    if is_atoms(value):
        return sites_of_atoms(value)
    if is_optimade(value):
        return sites_of_optimade(value)
    raise InputError("is no structure of pymatgen (lattice, sites), JARVIS or OPTIMADE")


def _encoded(text: str) -> Encoded:
    if "\n" not in text and "\\n" in text:
        text = text.replace("\\r", "").replace("\\n", "\n")
    text = text.rstrip()  # a POSCAR may begin with an empty line
    if _CIF.search(text):
        return Encoded("cif", text)
    if text.count("\n") < 6:
        raise InputError("is neither a CIF nor a POSCAR: it has fewer than seven lines")
    return Encoded("poscar", text + "\n")


def _data(value: Any) -> Any:
    """Return what a text of JSON, or of a Python literal, holds; anything else as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    if "'" in value and not ('"' in value or "\\" in value):
        # Nearly every literal of Python is JSON in other quotes, which is read ten times faster.
        parts = value.split("'")
        parts[::2] = [_NAMES.sub(lambda name: _JSON_NAMES[name[0]], part) for part in parts[::2]]
        with contextlib.suppress(InputError):
            return parse_json('"'.join(parts))
    try:
        found = parse_json(value)
        refuse_halves(found, value)
    except ValueError:
        raise InputError("holds half a surrogate pair, which is no text") from None
    except InputError as error:
        if len(value) > MAX_LITERAL:
            raise InputError(
                f"{error}; as a Python literal it has more than {MAX_LITERAL:,} characters"
            ) from None
        return _literal(value)
    return found


def _literal(text: str) -> Any:
    """Return the value of a Python literal; nothing is evaluated.

    Raises:
        InputError: it is none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ast.literal_eval(text.strip())
            refuse_halves(found, text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        what = str(error).partition("\n")[0][:100]
        raise InputError(f"is neither JSON nor a Python literal: {what}") from None
    return found


# --- JARVIS's leaderboard ----------------------------------------------------------------


def _fits_leaderboard(name: str, head: bytes) -> bool:
    if not _ENDING.search(name) or header_of(head, ",") != _LEADERBOARD:
        return False
    _, _, body = head.partition(b"\n")
    return body.partition(b"\n")[0].count(b"\\n") >= 7  # line ends of a POSCAR, written out


def _leaderboard_reader(side: str) -> Reader:
    """Return the reader of one of the two structures of a row: ``target`` or ``prediction``."""

    def read(member: Member) -> Iterator[Record | Reject]:
        try:
            with member.open() as stream:
                for found in rows(stream, ","):
                    if isinstance(found, RowError):
                        yield reject(member, found.line, str(found), found.raw)
                    else:
                        yield _side(member, *found, side)
        except READ_ERRORS as error:
            yield reject(member, 1, f"cannot be read on: {error}")

    return read


def _side(member: Member, line: int, row: Mapping[str, str], side: str) -> Record | Reject:
    if side not in row:
        return reject(member, line, f"there is no column {side!r} among {', '.join(row)}")
    target = row.get("id", "").strip()
    predicted = side == "prediction"
    try:
        return Record(
            file=member.name,
            line=line,
            external_id=None if predicted else target or None,
            structure=structure_of(row[side]),
            extra={"target_id": target} if predicted and target else {},
        )
    except InputError as error:
        return reject(member, line, f"{side}: {error}", _shown(row))


JARVIS_LEADERBOARD = Format(
    "jarvis-leaderboard",
    "predicted structures of JARVIS's leaderboard (id, target, prediction)",
    _fits_leaderboard,
    _leaderboard_reader("prediction"),
)
"""Predictions; the id of the target is kept as extra ``target_id``."""

JARVIS_TARGETS = Format(
    "jarvis-leaderboard-targets",
    "target structures of JARVIS's leaderboard (id, target, prediction)",
    lambda name, head: False,
    _leaderboard_reader("target"),
)
"""Targets of the same files, with their ids; chosen by name alone."""
