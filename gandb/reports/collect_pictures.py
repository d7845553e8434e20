"""Reading from a store what pictures of crystals show: structures that a query selects."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.core.errors import NotFoundError, QueryError, UsageError
from gandb.query.readonly import run
from gandb.query.result import ReadableStore
from gandb.query.values import jsonable
from gandb.reports.crystal_scene import CrystalPicture
from gandb.reports.records import short_id
from gandb.schema import tables
from gandb.store import Store
from gandb.tasks.structures import crystals

STRUCTURE, RELAXED = "structure_id", "relaxed_id"
MOST_ROWS = 10_000
_UNTOLD = frozenset({STRUCTURE, RELAXED, "reduced_formula", "formula"})
_LINES, _WIDTH = 6, 34  # of a caption


@dataclass(frozen=True)
class Drawable:
    """A structure to be drawn.

    Attributes:
        name: for a file: formula and beginning of the id.
        picture: what to draw.
    """

    name: str
    picture: CrystalPicture


@dataclass(frozen=True)
class Selected:
    """What a query selects.

    Attributes:
        found: in the order of the query.
        left_out: why rows were passed over, and how many.
    """

    found: tuple[Drawable, ...]
    left_out: Mapping[str, int]


def selected(
    store: Store, reader: ReadableStore, statement: str, *, relaxed: bool = False
) -> Selected:
    """Return the structures that a query selects, in its order.

    Args:
        store: where they are.
        reader: the same store, for the query.
        statement: SQL with a column ``structure_id``; what else it selects goes into captions.
        relaxed: take the relaxed structures: the query's ``relaxed_id``, or else what the only
            relaxation of each came to.

    Raises:
        QueryError: it has no such column, is refused, or selects too much.
        UsageError: structures were relaxed in several ways, and the query does not say which.
        NotFoundError: it names a structure that the store does not hold.
    """
    rows = _rows(reader, statement)
    left_out: dict[str, int] = {}
    nothing = sum(row.get(STRUCTURE) is None for row in rows)
    if nothing:
        left_out["without a structure"] = nothing
    rows = [row for row in rows if row.get(STRUCTURE) is not None]
    if relaxed:
        asked = len(rows)
        rows = _relaxed(store, rows)
        if len(rows) < asked:
            left_out["not relaxed"] = asked - len(rows)
    with store.read() as connection:
        found = pictures(connection, rows)
    return Selected(tuple(found), left_out)


def pictures(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> list[Drawable]:
    """Return what to draw for rows with a ``structure_id``; their other values go into captions.

    Raises:
        NotFoundError: a structure is not there.
    """
    ids = [_id(row[STRUCTURE]) for row in rows]
    structure, composition = tables.structure.c, tables.composition.c
    known = {
        own.id: own
        for own in connection.execute(
            sa.select(
                structure.id,
                composition.reduced_formula,
                structure.space_group_symbol,
                structure.space_group_number,
            )
            .join(tables.composition, composition.id == structure.composition_id)
            .where(structure.id.in_(set(ids)))
        )
    }
    records = dict(crystals(connection, structure.id.in_(set(ids))))
    found = []
    for own, row in zip(ids, rows, strict=True):
        if own not in known:
            raise NotFoundError(f"the query names structure {own}, which is not there")
        about = known[own]
        group = (
            "space group not found"
            if about.space_group_number is None
            else f"{_symbol(about.space_group_symbol)} ({about.space_group_number})"
        )
        told = [_told(name, value) for name, value in row.items() if name not in _UNTOLD]
        lines = [f"{group}, {short_id(str(own))}", *(line for line in told if line)][:_LINES]
        picture = CrystalPicture(records[own], about.reduced_formula, tuple(lines))
        found.append(Drawable(f"{about.reduced_formula}-{short_id(str(own))}", picture))
    return found


def _rows(reader: ReadableStore, statement: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with run(reader, statement) as result:
        if STRUCTURE not in result.schema.names:
            raise QueryError(
                f"the query has no column {STRUCTURE}: select it from entries, generated, sun or "
                "structures"
            )
        for batch in result.batches:
            found += batch.to_pylist()
            if len(found) > MOST_ROWS:
                raise QueryError(
                    f"the query selects more than {MOST_ROWS:,} rows: add LIMIT, or draw a part"
                )
    return found


def _relaxed(store: Store, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with the relaxed structure in place of the one that they name."""
    if not rows:
        return []
    if RELAXED in rows[0]:
        return [{**row, STRUCTURE: row[RELAXED]} for row in rows if row[RELAXED] is not None]
    relaxation = tables.relaxation.c
    query = sa.select(relaxation.structure_id, relaxation.recipe_id, relaxation.relaxed_id).where(
        relaxation.structure_id.in_({_id(row[STRUCTURE]) for row in rows}),
        relaxation.relaxed_id.is_not(None),
    )
    with store.read() as connection:
        done = list(connection.execute(query))
    recipes = {own.recipe_id for own in done}
    if len(recipes) > 1:
        raise UsageError(
            f"the structures were relaxed in {len(recipes)} ways: select {RELAXED} in the query, "
            "from the table relaxation or the view generated_structures"
        )
    into = {own.structure_id: own.relaxed_id for own in done}
    return [{**row, STRUCTURE: into[own]} for row in rows if (own := _id(row[STRUCTURE])) in into]


def _id(value: Any) -> UUID:
    try:
        return value if isinstance(value, UUID) else UUID(str(value))
    except ValueError:
        raise QueryError(f"{STRUCTURE} is no id: {str(value)[:40]!r}") from None


def _symbol(text: str) -> str:
    """Write the screw axes of a space group's symbol as such: P6₃/mmc."""
    return re.sub(r"_(\d)", lambda found: "₀₁₂₃₄₅₆₇₈₉"[int(found[1])], text)


def _told(name: str, value: Any) -> str:
    """Write a value of the query as a line; nothing for one that is missing."""
    value = jsonable(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return name.replace("_", " ") if value else f"not {name.replace('_', ' ')}"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text):
        text = short_id(text)
    line = f"{name.replace('_', ' ')} {text}"
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"
