"""What dataset versions are called: NAME@3, NAME@TAG, ORIGIN/NAME@3, and NAME for the newest."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.core.errors import NotFoundError, UsageError
from gandb.datasets.members import require_members
from gandb.schema.tables import (
    dataset,
    dataset_base,
    dataset_number,
    dataset_parent,
    dataset_tag,
    dataset_version,
    setting,
)
from gandb.store import Store

OWN = ""
"""``dataset_tag.origin`` of this store's own tags."""

_WORD = r"[A-Za-z][A-Za-z0-9_.-]{0,63}"
_NAME = re.compile(rf"(?:[a-z0-9][a-z0-9-]{{0,31}}/)?{_WORD}")
_TAG = re.compile(_WORD)
_ORIGIN_SETTING = "origin"


@dataclass(frozen=True)
class Version:
    """A numbered version of a dataset.

    Attributes:
        name: ``NAME``, or ``ORIGIN/NAME`` of what another group shared.
        parent_id: the first of ``parents``.
        members_shared: the store holds its members; False for a stub, of which it knows counts and
            hash alone.
        parents: all versions that it was made from.
        selection: how its members were chosen, as plain data.
        created_at: when it got its number, UTC.
        removed_at: when the number was taken away; None while it stands.
    """

    name: str
    number: int
    id: UUID
    parent_id: UUID | None
    n_entries: int
    n_compositions: int
    split_recipe: Mapping[str, Any]
    message: str
    members_shared: bool = True
    parents: tuple[UUID, ...] = ()
    selection: Mapping[str, Any] = field(default_factory=dict)
    created_at: dt.datetime | None = field(default=None, compare=False)
    removed_at: dt.datetime | None = field(default=None, compare=False)

    @property
    def reference(self) -> str:
        """``NAME@NUMBER``."""
        return f"{self.name}@{self.number}"


@dataclass(frozen=True)
class Reference:
    """A name for a version, taken apart; without number and tag it means the newest."""

    name: str
    number: int | None = None
    tag: str | None = None


def parse_reference(text: str) -> Reference:
    """Take ``NAME@3``, ``NAME@TAG`` or ``NAME`` apart; ``ORIGIN/`` may stand before.

    Raises:
        UsageError: it is none of these.
    """
    name, at, rest = text.partition("@")
    if _NAME.fullmatch(name):
        if not at:
            return Reference(name)
        if rest.isascii() and rest.isdecimal():
            return Reference(name, number=int(rest))
        if _TAG.fullmatch(rest):
            return Reference(name, tag=rest)
    raise UsageError(
        f"{text!r} is not a dataset version: write NAME@NUMBER, such as mp@3, or NAME@TAG, and "
        "ORIGIN/ before it for what another group shared; a name or tag begins with a letter and "
        "has letters, digits, '_', '.' and '-' (at most 64)"
    )


def require_tag(text: str) -> str:
    """Return a text that can be a tag.

    Raises:
        UsageError: it cannot.
    """
    if not _TAG.fullmatch(text):
        raise UsageError(
            f"{text!r} cannot be a tag: it begins with a letter and has letters, digits, '_', '.' "
            "and '-' (at most 64)"
        )
    return text


def require_own_name(text: str) -> str:
    """Return a text that can name a dataset of this store's own.

    Raises:
        UsageError: it cannot.
    """
    reference = parse_reference(text)
    if reference.number is not None or reference.tag is not None:
        raise UsageError(f"{text!r}: give the name alone; the number is the next one")
    if "/" in reference.name:
        raise UsageError(
            f"{text!r} is another group's; make a dataset of your own of it: "
            f"gandb dataset change {text} --as {reference.name.split('/')[1]}"
        )
    return reference.name


# --- finding -----------------------------------------------------------------------------


def resolve(store: Store, reference: str) -> Version:
    """Find a version whose members can be read.

    Args:
        store: where.
        reference: ``NAME@3``, ``NAME@TAG``, or ``NAME`` for the newest; ``ORIGIN/`` may stand
            before it, this store's own too.

    Raises:
        NotFoundError: there is none, which names those that exist; or its number was removed; or
            its members were not shared.
    """
    version = find(store, reference)
    if not version.members_shared:
        with store.read() as connection:
            require_members(connection, version.id, version.reference)
    return version


def find(store: Store, reference: str) -> Version:
    """Find a version as `resolve` does, also one whose members were not shared.

    Raises:
        NotFoundError: there is none, or its number was removed.
    """
    with store.read() as connection:
        return find_in(connection, reference)


def find_in(connection: sa.Connection, text: str, *, removed: bool = False) -> Version:
    """Find a version inside a transaction.

    Args:
        connection: the transaction.
        text: as for `resolve`.
        removed: find removed numbers too, where a number or tag is given.
    """
    reference = parse_reference(text)
    name = _local(connection, reference.name)
    everything = versions_of(connection, name)
    if not everything:
        raise NotFoundError.naming("dataset", name, _names(connection))
    standing = [v for v in everything if v.removed_at is None]
    if reference.tag is not None:
        return _tagged(connection, name, reference.tag, everything, removed)
    if reference.number is None:
        if not standing:
            raise NotFoundError(
                f"all versions of {name} were removed; bring one back with: "
                f"gandb dataset restore {everything[-1].reference}"
            )
        return standing[-1]
    for version in everything:
        if version.number == reference.number:
            return version if removed else _standing(version)
    raise NotFoundError.naming("dataset version", text, [v.reference for v in standing])


def _standing(version: Version) -> Version:
    if version.removed_at is not None:
        raise NotFoundError(
            f"{version.reference} was removed on {version.removed_at:%Y-%m-%d}; bring it back "
            f"with: gandb dataset restore {version.reference}"
        )
    return version


def _local(connection: sa.Connection, name: str) -> str:
    """Take this store's own origin off a name."""
    origin, slash, rest = name.partition("/")
    if not slash:
        return name
    own = sa.select(setting.c.value).where(setting.c.key == _ORIGIN_SETTING)
    return rest if connection.scalar(own) == origin else name


def _names(connection: sa.Connection) -> list[str]:
    return list(connection.scalars(sa.select(dataset.c.name)))


def versions_of(connection: sa.Connection, name: str | None = None) -> list[Version]:
    """Return the numbered versions of a dataset, or of all, by name and number; removed ones too.

    Those of one name come in the order of their numbers.
    """
    shared = sa.exists().where(dataset_base.c.version_id == dataset_version.c.id)
    query = (
        sa.select(
            dataset_number,
            dataset_version,
            dataset.c.name.label("dataset_name"),
            shared.label("members_shared"),
        )
        .join(dataset, dataset.c.id == dataset_number.c.dataset_id)
        .join(dataset_version, dataset_version.c.id == dataset_number.c.version_id)
    )
    if name is not None:
        query = query.where(dataset.c.name == name)
    rows = connection.execute(query).mappings().all()
    parents = parents_of(connection, [row["version_id"] for row in rows])
    found = [
        Version(
            name=row["dataset_name"],
            number=row["number"],
            id=row["version_id"],
            parent_id=row["parent_id"],
            n_entries=row["n_entries"],
            n_compositions=row["n_compositions"],
            split_recipe=row["split_recipe"],
            message=row["message"],
            members_shared=bool(row["members_shared"]),
            parents=parents.get(row["version_id"], ()),
            selection=row["selection"],
            created_at=row["created_at"],
            removed_at=row["removed_at"],
        )
        for row in rows
    ]
    return sorted(found, key=lambda v: (v.name, v.number))


def parents_of(
    connection: sa.Connection, ids: Iterable[UUID] | None = None
) -> dict[UUID, tuple[UUID, ...]]:
    """Return the parents of versions, or of all, the first parent first.

    Those without any are left out.
    """
    wanted = None if ids is None else set(ids)
    query = sa.select(dataset_parent).order_by(
        dataset_parent.c.version_id, dataset_parent.c.position
    )
    parents: dict[UUID, tuple[UUID, ...]] = {}
    for row in connection.execute(query).mappings():
        if wanted is None or row["version_id"] in wanted:
            known = parents.get(row["version_id"], ())
            parents[row["version_id"]] = (*known, row["parent_id"])
    return parents


def reference_of(connection: sa.Connection, version_id: UUID) -> str:
    """Return a ``NAME@3`` that stands for a version: one that was not removed, if there is one."""
    query = (
        sa.select(dataset.c.name, dataset_number.c.number)
        .join(dataset, dataset.c.id == dataset_number.c.dataset_id)
        .where(dataset_number.c.version_id == version_id)
        .order_by(dataset_number.c.removed_at.is_not(None), dataset.c.name, dataset_number.c.number)
    )
    row = connection.execute(query).first()
    return f"{row[0]}@{row[1]}" if row else str(version_id)


# --- tags --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tag:
    """A name for a version, and who gave it.

    Attributes:
        name: the dataset.
        tag: the tag, as in ``NAME@TAG``.
        origin: the group that says so; empty for this store's own.
        version_id: what it stands for.
        message: why.
        created_at: when it was set, UTC.
        counts: ``NAME@TAG`` means this one; others of the same name say otherwise in vain.
    """

    name: str
    tag: str
    origin: str
    version_id: UUID
    message: str
    created_at: dt.datetime
    counts: bool


def tags_of(connection: sa.Connection, name: str | None = None) -> list[Tag]:
    """Return the tags of a dataset, or of all, by name and tag.

    Where groups mean different versions by one tag, this store's own counts, else the newest.
    """
    query = sa.select(dataset_tag, dataset.c.name).join(
        dataset, dataset.c.id == dataset_tag.c.dataset_id
    )
    if name is not None:
        query = query.where(dataset.c.name == name)
    rows = list(connection.execute(query).mappings())
    rows.sort(key=lambda r: (r["origin"], str(r["version_id"])))
    rows.sort(key=lambda r: r["created_at"], reverse=True)
    rows.sort(key=lambda r: (r["name"], r["tag"], r["origin"] != OWN))
    tags: list[Tag] = []
    for row in rows:
        first = not tags or (tags[-1].name, tags[-1].tag) != (row["name"], row["tag"])
        fields = ("name", "tag", "origin", "version_id", "message", "created_at")
        tags.append(Tag(**{f: row[f] for f in fields}, counts=first))
    return tags


def _tagged(
    connection: sa.Connection, name: str, tag: str, versions: Iterable[Version], removed: bool
) -> Version:
    tags = [t for t in tags_of(connection, name) if t.counts]
    for found in tags:
        if found.tag == tag:
            own = [v for v in versions if v.id == found.version_id]
            standing = [v for v in own if v.removed_at is None]
            if standing:
                return standing[-1]
            if own:
                return own[-1] if removed else _standing(own[-1])
            raise NotFoundError(
                f"{name}@{tag} stands for {found.version_id}, which has no number in this store"
            )
    known = [f"{t.name}@{t.tag}" for t in tags]
    newest = f"; versions are numbered, such as {name}@{max(v.number for v in versions)}"
    raise NotFoundError(
        str(NotFoundError.naming("dataset version", f"{name}@{tag}", known)) + newest
        if known
        else f"no dataset version named {f'{name}@{tag}'!r}: {name} has no tags{newest}"
    )
