"""What a query selects, as structures to be written, in a fixed order and bounded memory.

The rows are kept in a file while they are sorted by their ids; structures and entries are fetched a
few thousand at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from gandb.core.crystals import Crystal
from gandb.core.errors import NotFoundError, QueryError
from gandb.core.units import PROPERTIES
from gandb.query.readonly import run
from gandb.query.result import ReadableStore
from gandb.query.values import jsonable
from gandb.schema.tables import entry, entry_alias, structure
from gandb.store import Store
from gandb.store.bulk import fetch
from gandb.tasks.structures import crystals

STRUCTURE, ENTRY, CANDIDATE = "structure_id", "entry_id", "candidate_id"
_IDS = (STRUCTURE, ENTRY, CANDIDATE)
_AT_A_TIME = 2_000


@dataclass(frozen=True)
class Item:
    """One structure to be written.

    Attributes:
        name: id of the candidate, else of the entry, else of the structure; with a number where
            several items would be called so.
        crystal: the structure.
        structure_id: its id.
        values: what the query selects beside ``structure_id``, plain JSON data without nulls.
        entry: the entry of the row, if the query selects ``entry_id``: source, external_id,
            formula, properties, extra, aliases.
    """

    name: str
    structure_id: str
    crystal: Crystal
    values: Mapping[str, Any]
    entry: Mapping[str, Any] | None = None

    def value(self, name: str) -> Any:
        """Return a property or other value, of the query or else of the entry."""
        if name in self.values:
            return self.values[name]
        own = self.entry or {}
        return own.get("properties", {}).get(name, own.get(name))


@dataclass(frozen=True)
class Rows:
    """The rows of a query, kept in a file, sorted by their ids; see `keep_rows`."""

    table: pa.Table
    order: np.ndarray

    def __len__(self) -> int:
        return len(self.order)

    def items(self, store: Store) -> Iterator[Item]:
        """Yield what is to be written; equal rows once.

        Raises:
            NotFoundError: the query names a structure that the store does not hold.
        """
        used: dict[str, int] = {}
        start = 0
        while start < len(self.order):
            end = self._end(start)
            rows = self._rows(start, end)
            start = end
            found, entries = _fetched(store, rows)
            for row in rows:
                own = row[STRUCTURE]
                if own not in found:
                    raise NotFoundError(f"the query names structure {own}, which is not there")
                name = row.get(CANDIDATE) or row.get(ENTRY) or own
                used[name] = used.get(name, 0) + 1
                if used[name] > 1:
                    name = f"{name}-{used[name]}"
                about = entries.get(row.get(ENTRY) or "")
                if about is not None and about["structure_id"] != own:
                    about = None
                values = {k: v for k, v in row.items() if k != STRUCTURE and v is not None}
                yield Item(name, own, found[own], values, about)

    def _end(self, start: int) -> int:
        """Return where some rows end, so that rows of the same ids stay together."""
        end = min(start + _AT_A_TIME, len(self.order))
        while end < len(self.order) and self._ids(end) == self._ids(end - 1):
            end += 1
        return end

    def _ids(self, place: int) -> list[Any]:
        row = int(self.order[place])
        names = [name for name in _IDS if name in self.table.column_names]
        return [self.table.column(name)[row].as_py() for name in names]

    def _rows(self, start: int, end: int) -> list[dict[str, Any]]:
        """Return some rows as plain data, without repetitions."""
        chosen = self.table.take(pa.array(self.order[start:end]))
        rows = [{name: _plain(value) for name, value in row.items()} for row in chosen.to_pylist()]
        found: list[dict[str, Any]] = []
        for row in sorted(rows, key=_rank):
            if not found or row != found[-1]:
                found.append(row)
        return found


def _rank(row: Mapping[str, Any]) -> tuple[str, ...]:
    ids = [str(row.get(name) or "") for name in _IDS]
    return (*ids, json.dumps(row, sort_keys=True))


def keep_rows(reader: ReadableStore, statement: str, spool: Path) -> Rows:
    """Run a query and keep its rows.

    Args:
        reader: the store.
        statement: SQL with a column ``structure_id``; rows without one are passed over. With
            ``entry_id`` or ``candidate_id`` each of these is written, else each structure once.
        spool: a new file for the rows.

    Raises:
        QueryError: it has no such column, or is refused.
    """
    with run(reader, statement) as result:
        if STRUCTURE not in result.schema.names:
            raise QueryError(
                f"the query has no column {STRUCTURE}: select it from entries, generated or "
                "structures"
            )
        for field in result.schema:
            if field.name in PROPERTIES and not _is_number(field.type):
                raise QueryError(
                    f"column {field.name} of the query is no number, and has the name of a "
                    "property: call it something else (AS ...)"
                )
        with pa.OSFile(str(spool), "wb") as sink, pa.ipc.new_file(sink, result.schema) as out:
            for batch in result.batches:
                out.write_batch(batch)
    with pa.memory_map(str(spool)) as source:
        table = pa.ipc.open_file(source).read_all()
    texts = {n: table.column(n).cast(pa.string()) for n in _IDS if n in table.column_names}
    keys = pa.table(texts)
    order = pc.sort_indices(keys, [(name, "ascending") for name in texts])
    stated = pc.is_valid(texts[STRUCTURE].take(order))
    return Rows(table, order.filter(stated).to_numpy())


def _is_number(type_: pa.DataType) -> bool:
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    return any(is_kind(type_) for is_kind in kinds)


def _plain(value: Any) -> Any:
    """Return a value as JSON data; decimals are numbers."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return jsonable(value)


def _fetched(
    store: Store, rows: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Crystal], dict[str, dict[str, Any]]]:
    """Return the structures and entries of some rows by id."""
    try:
        wanted = sorted({UUID(str(row[STRUCTURE])) for row in rows})
        entries = sorted({UUID(str(i)) for row in rows if (i := row.get(ENTRY))})
    except ValueError as error:
        raise QueryError(f"{STRUCTURE} or {ENTRY} is no id: {error}") from None
    with store.read() as connection:
        found = {str(own): made for own, made in crystals(connection, structure.c.id.in_(wanted))}
        return found, _entries(connection, entries)


def _entries(connection: sa.Connection, ids: Sequence[UUID]) -> dict[str, dict[str, Any]]:
    if not ids:
        return {}
    names = ("id", "source", "external_id", "formula", "structure_id", "ordinal")
    query = sa.select(
        *(entry.c[name] for name in (*names, *PROPERTIES)),
        sa.cast(entry.c.extra, sa.Text()).label("extra"),
    ).where(entry.c.id.in_(ids))
    found: dict[str, dict[str, Any]] = {}
    for row in fetch(connection, query).to_pylist():
        about: dict[str, Any] = {k: row[k] for k in names}
        about["properties"] = {
            k: row[k] for k in PROPERTIES if row[k] is not None and row[k] == row[k]
        }
        about["extra"] = json.loads(row["extra"]) if row["extra"] else {}
        about["aliases"] = []
        found[row["id"]] = about
    other = sa.select(entry_alias.c.entry_id, entry_alias.c.kind, entry_alias.c.alias)
    listed = fetch(connection, other.where(entry_alias.c.entry_id.in_(ids))).to_pylist()
    for row in sorted(listed, key=lambda r: (r["kind"], r["alias"])):
        found[row["entry_id"]]["aliases"].append([row["kind"], row["alias"]])
    return found
