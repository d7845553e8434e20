"""What a store says, as plain values: equal for equal content, whatever the engine or the day."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.schema.tables import metadata
from gandb.store import Store

Dump = dict[str, list[tuple[Any, ...]]]


def dump(store: Store) -> Dump:
    """Return the rows of every content table, sorted, without volatile columns."""
    content: Dump = {}
    with store.read() as connection:
        for table in metadata.sorted_tables:
            if table.info["content"]:
                columns = [c for c in table.columns if not c.info["volatile"]]
                rows = connection.execute(sa.select(*columns))
                content[table.name] = sorted((tuple(map(_plain, row)) for row in rows), key=repr)
    return content


def digest(store: Store) -> str:
    """Return a SHA-256 of the content."""
    return hashlib.sha256(repr(dump(store)).encode()).hexdigest()


def differences(one: Dump, other: Dump) -> list[str]:
    """Say where two dumps differ, a few rows for each table; empty if they are equal."""
    found = []
    for table in one:
        here, there = set(one[table]), set(other[table])
        if here != there or len(one[table]) != len(other[table]):
            found.append(
                f"{table}: {len(one[table])} and {len(other[table])} rows; only in the first: "
                f"{sorted(here - there, key=repr)[:3]}; only in the second: "
                f"{sorted(there - here, key=repr)[:3]}"
            )
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, sort_keys=True)
    return value
