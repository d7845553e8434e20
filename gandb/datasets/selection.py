"""Choosing the members of a dataset version: by a SQL condition, or from a file of ids."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from gandb.core.errors import InputError
from gandb.datasets.versions import Selection
from gandb.query.frames import query
from gandb.schema.tables import entry
from gandb.store import Store
from gandb.store.bulk import fetch, ids_from_text

_SHOWN = 5


def by_condition(store: Store, condition: str) -> Selection:
    """Choose the entries for which a SQL condition on the view ``entries`` holds.

    Raises:
        QueryError: the condition is not SQL, or names a column that does not exist.
    """
    rows = query(store, f"SELECT entry_id, composition_id FROM entries WHERE (\n{condition}\n)")
    return Selection(
        ids_from_text(rows.column("entry_id")),
        ids_from_text(rows.column("composition_id")),
        {"where": condition},
    )


def from_file(store: Store, path: Path) -> Selection:
    """Choose the entries whose ids a text file lists, one to a line.

    A line is an entry id (UUID) or ``source:external id``, such as ``mp:mp-149``; blank lines and
    lines that begin with ``#`` do not count.

    Raises:
        InputError: the file cannot be read, or a line names no entry of the store.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    wanted: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            wanted.setdefault(_canonical(text), number)
    with store.read() as connection:
        columns = (entry.c.id, entry.c.composition_id, entry.c.source, entry.c.external_id)
        rows = fetch(connection, sa.select(*columns))
    position: dict[str, list[int]] = {}
    external = rows.column("external_id").to_pylist()
    for i, (entry_id, source) in enumerate(
        zip(rows.column("id").to_pylist(), rows.column("source").to_pylist(), strict=True)
    ):
        position[entry_id] = [i]
        if external[i] is not None:
            position.setdefault(f"{source}:{external[i]}", []).append(i)
    missing = [(number, text) for text, number in wanted.items() if text not in position]
    if missing:
        shown = ", ".join(f"line {number}: {text}" for number, text in missing[:_SHOWN])
        raise InputError(
            f"{path}: {len(missing)} of {len(wanted)} ids name no entry of this store ({shown}"
            + (", ..." if len(missing) > _SHOWN else "")
            + "); an id is an entry_id of the view entries, or source:external_id"
        )
    chosen = np.unique(np.array([i for text in wanted for i in position[text]], np.int64))
    picked = rows.take(chosen)
    return Selection(
        ids_from_text(picked.column("id")),
        ids_from_text(picked.column("composition_id")),
        {"from": path.name, "ids": len(wanted)},
    )


def _canonical(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return text
