"""What a user calls a thing, and which thing that is: ids, references, names of sources."""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from gandb.core.errors import NotFoundError, UsageError
from gandb.datasets import versions
from gandb.schema import tables
from gandb.store import Store
from gandb.tasks.data import find_checkpoint

KINDS: dict[str, sa.Table] = {
    "candidate": tables.candidate,
    "checkpoint": tables.checkpoint,
    "composition": tables.composition,
    "dataset_version": tables.dataset_version,
    "entry": tables.entry,
    "job": tables.job,
    "model": tables.model,
    "recipe": tables.recipe,
    "source_snapshot": tables.source_snapshot,
    "structure": tables.structure,
}
"""Kinds of things that descend from each other, and where their ids are."""

_SHORTEST = 4
_SHOWN = 8
_BEGINNING = re.compile(r"[0-9a-f]+(-[0-9a-f]*)*\Z", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Key:
    """One thing.

    Attributes:
        kind: one of `KINDS`, or ``publication``.
        id: its id as text; of a publication its name.
    """

    kind: str
    id: str

    @property
    def uuid(self) -> UUID:
        """The id as such."""
        return UUID(self.id)

    @property
    def short(self) -> str:
        """The first eight digits: what people type."""
        return self.id[:8] if self.kind in KINDS else self.id


def find(store: Store, text: str) -> Key:
    """Return the thing that a user means.

    Args:
        store: where to look.
        text: an id or its beginning (4 digits at least); ``NAME@3`` or another reference to a
            dataset version; ``MODEL:NAME@3``, a checkpoint; ``source:external_id``, an entry; or
            alone an external id or alias, a dataset's or an external model's name.

    Raises:
        NotFoundError: there is no such thing.
        UsageError: several things are called so; names them.
    """
    wanted = text.strip()
    if not wanted:
        raise UsageError("name a thing: the beginning of an id, NAME@3, or source:external_id")
    with store.read() as connection:
        found = _by_id(connection, wanted) or _entries(connection, wanted)
    if not found:
        found = _by_reference(store, wanted)
    if len(found) > 1:
        shown = "; ".join(f"{key.kind} {key.id}" for key in sorted(found)[:_SHOWN])
        more = ", ..." if len(found) > _SHOWN else ""
        raise UsageError(f"{text!r} may be {shown}{more}: give more of the id")
    return found[0]


def _by_id(connection: sa.Connection, text: str) -> list[Key]:
    """Return the things whose ids begin so, a few at most; none where it is no beginning."""
    digits = text.replace("-", "").lower()
    if not _BEGINNING.match(text) or not _SHORTEST <= len(digits) <= 32:
        return []
    least, most = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    found = []
    for kind, table in KINDS.items():
        query = sa.select(table.c.id).where(table.c.id.between(least, most))
        found += [Key(kind, str(i)) for i in connection.scalars(query.distinct().limit(_SHOWN + 1))]
    return found


def _entries(connection: sa.Connection, text: str) -> list[Key]:
    """Return the entries of an external id or alias, in one source or in any."""
    entry, alias = tables.entry, tables.entry_alias
    source, colon, own = text.partition(":")
    choices = [entry.c.external_id == text]
    if colon:
        choices.append(sa.and_(entry.c.source == source, entry.c.external_id == own))
    ids = set(connection.scalars(sa.select(entry.c.id).where(sa.or_(*choices)).limit(_SHOWN + 1)))
    if not ids:
        named = sa.select(alias.c.entry_id).where(alias.c.alias == (own if colon else text))
        query = sa.select(entry.c.id).where(entry.c.id.in_(named))
        if colon:
            query = query.where(entry.c.source == source)
        ids = set(connection.scalars(query.limit(_SHOWN + 1)))
    return [Key("entry", str(i)) for i in sorted(ids)]


def _by_reference(store: Store, text: str) -> list[Key]:
    """Return the dataset version or checkpoint of a reference.

    Raises:
        NotFoundError: there is none.
    """
    unknown = NotFoundError(
        f"nothing is called {text!r}: give the beginning of an id (at least {_SHORTEST} digits), "
        "NAME@3 for a dataset version, MODEL:NAME@3 for a checkpoint, or source:external_id for an "
        "entry"
    )
    named = "@" in text
    if ":" in text and named:
        return [Key("checkpoint", str(find_checkpoint(store, text).id))]
    try:
        return [Key("dataset_version", str(versions.find(store, text).id))]
    except NotFoundError:
        if named:
            raise
    except UsageError:
        pass
    try:
        return [Key("checkpoint", str(find_checkpoint(store, text).id))]
    except (NotFoundError, UsageError) as error:
        if "ambiguous" in str(error):
            raise
        raise unknown from None
