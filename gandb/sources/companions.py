"""Tables beside structure files: one row per file, with its id and properties.

Collections of CIFs often come as a folder or zip with a ``metadata.csv`` or ``id_prop.csv`` that
names each file's id. A row belongs to a file of its folder whose name without ending is the id or
ends in ``_ID``, or whose name stands in a column of file names.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from gandb.core.errors import InputError
from gandb.sources.base import Reject
from gandb.sources.records import Member, Record, reject

MAX_BYTES = 256 << 20
"""Largest table that is held in memory."""
_ID_COLUMNS = ("material_id", "jid", "id", "entry_id", "cif_id", "icsd_id", "cod_id", "name")
_FILE_COLUMNS = ("cif_filename", "filename", "file_name", "file", "cif_file", "path")
_PROPERTIES = {
    "formation_energy_per_atom": "formation_energy_per_atom",
    "e_above_hull": "energy_above_hull",
    "energy_above_hull": "energy_above_hull",
    "energy_per_atom": "energy_per_atom",
    "band_gap": "band_gap",
}
"""Columns whose meaning and unit (eV/atom, eV) no source uses otherwise."""
_OTHERS = ("jid",)
"""Ids of a source that passes other databases' structures on with numbers of its own."""
_AUID = re.compile(r"(?:auid-|aflow:)([0-9a-f]{16})")

Row = Mapping[str, str]


@dataclass
class Companion:
    """A table of a folder.

    Attributes:
        member: the table.
        rows: its rows by id, and by file name where a column has them.
        id_column: which column has the ids.
        n_rows: rows in all.
        used: ids of rows that a file was found for.
    """

    member: Member
    rows: dict[str, Row]
    id_column: str
    n_rows: int
    used: set[str] = field(default_factory=set)

    def row_of(self, name: str) -> Row | None:
        """Return the row of a file."""
        path = PurePosixPath(name)
        rest = path.stem
        keys = [path.name, rest]
        while "_" in rest:
            rest = rest.partition("_")[2]
            keys.append(rest)
        for key in keys:
            if key in self.rows:
                return self.rows[key]
        return None

    def told(self, record: Record) -> Record:
        """Return a record with what the table says of its file."""
        row = self.row_of(record.file)
        if row is None:
            return record
        own = row[self.id_column]
        self.used.add(own)
        aliases = list(record.aliases)
        if record.external_id and record.external_id != own:
            aliases.append(("file", record.external_id))
        matches = filter(None, map(_AUID.fullmatch, row.values()))
        aliases += [("auid", f"aflow:{match[1]}") for match in matches]
        known = {} if self.id_column in _OTHERS else _PROPERTIES
        found = [(p, _number(row.get(c, ""))) for c, p in known.items()]
        properties = {p: v for p, v in found if v is not None and math.isfinite(v)}
        shown = {k: v for k, v in row.items() if v and k not in known}
        return replace(
            record,
            external_id=own,
            aliases=tuple(aliases),
            properties={**properties, **record.properties},
            extra={**record.extra, "metadata": shown},
        )

    def unused(self) -> Iterator[Reject]:
        """Say, as one reject, how many rows belong to no file."""
        left = len({row[self.id_column] for row in self.rows.values()} - self.used)
        if left:
            yield reject(
                self.member,
                1,
                f"a table beside the files, {self.n_rows:,} rows: {len(self.used):,} ids belong to "
                f"files that are here, {left:,} to none",
            )


def companions(
    members: Iterable[Member | Reject], claimed: Callable[[str, bytes], bool]
) -> dict[str, Companion]:
    """Find the tables beside structure files, by folder.

    Args:
        members: of folders and zip archives.
        claimed: says of a name and first bytes whether a format reads the table itself.
    """
    found: dict[str, Companion] = {}
    for member in members:
        if isinstance(member, Reject) or not member.name.lower().endswith(".csv"):
            continue
        try:
            data = member.read(MAX_BYTES)
        except (InputError, OSError, EOFError, ValueError):
            continue
        folder = str(PurePosixPath(member.name).parent)
        if folder in found or claimed(member.name, data[:65_536]):
            continue
        if table := _companion(member, data):
            found[folder] = table
    return found


def _companion(member: Member, data: bytes) -> Companion | None:
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        columns = {c.strip().lower(): c for c in reader.fieldnames or ()}
        own = next((columns[c] for c in _ID_COLUMNS if c in columns), None)
        if own is None:
            return None
        file_column = next((columns[c] for c in _FILE_COLUMNS if c in columns), None)
        rows: dict[str, Row] = {}
        n = 0
        for line in reader:
            n += 1
            row = {str(k): _cell(v) for k, v in line.items()}
            if not row[own]:
                continue
            rows.setdefault(row[own], row)
            if file_column and row[file_column]:
                rows.setdefault(PurePosixPath(row[file_column]).name, row)
    except (UnicodeDecodeError, csv.Error):
        return None
    return Companion(member, rows, own, n) if n else None


def _cell(value: Any) -> str:
    if isinstance(value, list):  # more cells than columns
        return ",".join(map(str, value))
    return (value or "").strip()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def may_have_companions(path: Path) -> bool:
    """Say whether a path is a folder or zip, whose files can be looked through twice."""
    return path.is_dir() or path.suffix.lower() == ".zip"
