"""Choosing the members of a dataset version: by a SQL condition, or from a file of ids."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from gandb.core.errors import InputError
from gandb.datasets.given import Given, Lines, read_lines
from gandb.datasets.members import as_keys, members_query, require_members, split_codes
from gandb.datasets.splits import SPLITS, UNSPLIT
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
    lines = read_lines(path)
    held = _entries(store)
    found = _match(held, lines.texts, bare=False)
    _require_all(lines, found, "an id is an entry_id of the view entries, or source:external_id")
    picked = held.take(np.unique(found.rows))
    origin = {"from": path.name, "ids": len(lines.texts)}
    return Selection(*_ids_of(picked), origin)


def members_of(store: Store, version_id: UUID) -> Selection:
    """Choose the members of a version, with their splits.

    Raises:
        NotFoundError: they were not shared.
    """
    members = members_query(version_id).subquery()
    columns = (entry.c.id, entry.c.composition_id, members.c.split)
    with store.read() as connection:
        require_members(connection, version_id)
        rows = fetch(
            connection, sa.select(*columns).join(members, members.c.entry_id == entry.c.id)
        )
    return Selection(*_ids_of(rows), {}, split_codes(rows.column("split")))


def with_splits(store: Store, given: Given, chosen: Selection | None = None) -> Selection:
    """Give entries the splits that files state.

    An id is one that `from_file` knows, or an external id alone where one source has it.

    Args:
        store: where the entries are.
        given: what the files state.
        chosen: the entries; those that the files do not name keep the split that they have, if
            any, and what the files name beside them does not count. By default, all that the files
            name, which the store must have.

    Raises:
        InputError: an id names no entry, or entries of several sources, or an entry is given two
            splits.
    """
    held = _entries(store)
    if chosen is not None:
        keys = np.sort(as_keys(chosen.entry_ids))
        own = as_keys(ids_from_text(held.column("id")))
        place = np.minimum(np.searchsorted(keys, own), max(len(keys) - 1, 0))
        held = held.filter(pa.array(keys[place] == own))
    found = _match(held, given.lines.texts, bare=True)
    if chosen is None:
        _require_all(
            given.lines,
            found,
            "an id is an entry_id, source:external_id, or an external_id; to leave out what the "
            "store lacks, choose the members by --where SQL",
        )
    _require_one_source(held, given.lines, found)
    codes = np.asarray(given.splits, np.uint8)[found.texts]
    lowest = np.full(held.num_rows, UNSPLIT, np.uint8)
    np.minimum.at(lowest, found.rows, codes)
    differs = np.flatnonzero(lowest[found.rows] != codes)
    if len(differs):
        text = int(found.texts[differs[0]])
        one, other = SPLITS[lowest[found.rows[differs[0]]]], SPLITS[codes[differs[0]]]
        raise InputError(
            f"{given.lines.where(text)}: {given.lines.texts[text]} is put into {other} here and "
            f"into {one} elsewhere"
        )
    if chosen is None:
        rows = np.flatnonzero(lowest != UNSPLIT)
        picked = held.take(rows)
        return Selection(*_ids_of(picked), dict(given.origin), lowest[rows])
    ids = ids_from_text(held.column("id"))
    order = np.argsort(as_keys(ids), kind="stable")
    place = order[np.searchsorted(as_keys(ids), as_keys(chosen.entry_ids), sorter=order)]
    splits = lowest[place]
    if chosen.splits is not None:
        splits = np.where(splits == UNSPLIT, chosen.splits, splits)
    return replace(chosen, splits=splits, origin={**chosen.origin, **given.origin})


# --- matching ids ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """Which text names which row; pairs, sorted by neither.

    Attributes:
        texts: indexes of texts, (k,).
        rows: indexes of entries, (k,).
    """

    texts: np.ndarray
    rows: np.ndarray


def _entries(store: Store) -> pa.Table:
    columns = (entry.c.id, entry.c.composition_id, entry.c.source, entry.c.external_id)
    with store.read() as connection:
        return fetch(connection, sa.select(*columns))


def _ids_of(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    return ids_from_text(rows.column("id")), ids_from_text(rows.column("composition_id"))


def _match(held: pa.Table, texts: Sequence[str], *, bare: bool) -> _Found:
    """Find the entries that texts name: ids, ``source:external id``, or external ids alone."""
    wanted = pa.array([_canonical(t) for t in texts], pa.string())
    external = held.column("external_id")
    labelled = pc.binary_join_element_wise(held.column("source"), external, ":")
    pairs = []
    for label in (held.column("id"), labelled, *([external] if bare else [])):
        hit = pc.index_in(label, value_set=wanted, skip_nulls=True)
        rows = np.flatnonzero(pc.is_valid(hit).to_numpy())
        named = pc.fill_null(hit, 0).to_numpy()[rows]
        pairs.append((named, rows))
    return _Found(*(np.concatenate(part).astype(np.int64) for part in zip(*pairs, strict=True)))


def _canonical(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return text


def _require_all(lines: Lines, found: _Found, hint: str) -> None:
    known = np.zeros(len(lines.texts), np.bool_)
    known[found.texts] = True
    missing = np.flatnonzero(~known)
    if len(missing):
        shown = ", ".join(f"{lines.where(i)}: {lines.texts[i]}" for i in missing[:_SHOWN])
        raise InputError(
            f"{lines.name}: {len(missing)} of {len(known)} ids name no entry of this store ({shown}"
            + (", ..." if len(missing) > _SHOWN else "")
            + f"); {hint}"
        )


def _require_one_source(held: pa.Table, lines: Lines, found: _Found) -> None:
    sources = held.column("source").combine_chunks().dictionary_encode()
    codes = sources.indices.to_numpy()[found.rows]
    first = np.full(len(lines.texts), -1, np.int64)
    first[found.texts] = codes
    differs = np.flatnonzero(first[found.texts] != codes)
    if len(differs):
        text = int(found.texts[differs[0]])
        names = sources.dictionary.to_pylist()
        both = sorted({names[first[text]], names[int(codes[differs[0]])]})
        raise InputError(
            f"{lines.where(text)}: {lines.texts[text]} is an id in {' and '.join(both)}; "
            f"write {both[0]}:{lines.texts[text]}, or choose the members by --where SQL"
        )
