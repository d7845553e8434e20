"""What names stand for: tagging versions, taking numbers away, bringing versions back."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.core.errors import NotFoundError, UsageError
from gandb.core.ids import Domain, content_id
from gandb.datasets.members import read_members
from gandb.datasets.names import (
    OWN,
    Tag,
    Version,
    find_in,
    parse_reference,
    require_own_name,
    require_tag,
    tags_of,
    versions_of,
)
from gandb.datasets.storing import store_version
from gandb.datasets.versions import add_number
from gandb.jobs.queue import now
from gandb.schema.tables import (
    checkpoint,
    dataset_number,
    dataset_tag,
    dataset_version,
    job,
    model,
    publication,
)
from gandb.store import Store, Transaction

# --- tags --------------------------------------------------------------------------------


def tag(
    store: Store, reference: str, name: str, message: str = "", *, move: bool = False
) -> tuple[Tag, bool]:
    """Let ``NAME@TAG`` stand for a version.

    Args:
        store: where.
        reference: the version; another group's too, and one whose members were not shared.
        name: the tag: a letter, then letters, digits, '_', '.', '-'.
        message: why.
        move: let it stand for this version although it stands for another one now.

    Returns:
        the tag, and whether it is new or was moved.

    Raises:
        UsageError: the tag cannot be used, or stands for another version.
        NotFoundError: there is no such version.
    """
    require_tag(name)
    with store.write() as tx:
        version = find_in(tx.connection, reference)
        own = _own_tag(tx, version.name, name)
        if own is not None and own.version_id == version.id and (not message or not move):
            return own, False
        if own is not None and not move:
            meant = _called(tx, own)
            raise UsageError(
                f"{version.name}@{name} stands for {meant}; let it stand for {version.reference} "
                "with --move"
            )
        if own is not None:
            tx.execute(sa.delete(dataset_tag).where(*_same(own)))
        row = {
            "dataset_id": content_id(Domain.DATASET, version.name.encode()),
            "tag": name,
            "origin": OWN,
            "version_id": version.id,
            "message": message,
            "created_at": now(),
        }
        tx.execute(dataset_tag.insert(), row)
        made = _own_tag(tx, version.name, name)
        assert made is not None
        return made, True


def delete_tag(store: Store, reference: str, name: str) -> Tag:
    """Delete a tag of this store's own; return what it was.

    Args:
        store: where.
        reference: the dataset, or the version that the tag stands for.
        name: the tag.

    Raises:
        NotFoundError: there is no such tag.
        UsageError: it stands for another version than is named, or is another group's.
    """
    require_tag(name)
    with store.write() as tx:
        meant = find_in(tx.connection, reference, removed=True)
        own = _own_tag(tx, meant.name, name)
        if own is None:
            others = [t for t in tags_of(tx.connection, meant.name) if t.tag == name]
            if others:
                raise UsageError(
                    f"{meant.name}@{name} was set by {others[0].origin}, not by this store; a tag "
                    f"of your own counts before it: gandb dataset tag {meant.name}@NUMBER {name}"
                )
            known = [t.tag for t in tags_of(tx.connection, meant.name) if t.origin == OWN]
            raise NotFoundError.naming(f"tag of {meant.name}", name, known)
        parts = parse_reference(reference)
        named = parts.number is not None or parts.tag is not None
        if named and own.version_id != meant.id:
            raise UsageError(
                f"{meant.name}@{name} stands for {_called(tx, own)}, not for {meant.reference}"
            )
        tx.execute(sa.delete(dataset_tag).where(*_same(own)))
        return own


def _own_tag(tx: Transaction, dataset: str, name: str) -> Tag | None:
    for found in tags_of(tx.connection, dataset):
        if found.tag == name and found.origin == OWN:
            return found
    return None


def _same(found: Tag) -> list[Any]:
    return [
        dataset_tag.c.dataset_id == content_id(Domain.DATASET, found.name.encode()),
        dataset_tag.c.tag == found.tag,
        dataset_tag.c.origin == found.origin,
    ]


def _called(tx: Transaction, found: Tag) -> str:
    own = [v for v in versions_of(tx.connection, found.name) if v.id == found.version_id]
    return own[-1].reference if own else str(found.version_id)


# --- removing and restoring --------------------------------------------------------------


def remove(store: Store, reference: str, *, force: bool = False) -> Version:
    """Take a number away; the version, its members and what was made of it stay.

    Args:
        store: where.
        reference: ``NAME@NUMBER`` or ``NAME@TAG``.
        force: take it away although something rests on it.

    Returns:
        what it stood for.

    Raises:
        UsageError: no number is given, or something rests on the version and no other number
            stands for it; what does is named.
        NotFoundError: there is no such version.
    """
    parts = parse_reference(reference)
    if parts.number is None and parts.tag is None:
        raise UsageError(f"say which version of {reference} to remove: {reference}@NUMBER")
    with store.write() as tx:
        version = find_in(tx.connection, reference)
        if not force:
            resting = rests_on(tx.connection, version)
            if resting:
                raise UsageError(
                    f"{version.reference} is in use by {', '.join(resting)}; hide its number all "
                    "the same with --force"
                )
        _set_removed(tx, version, now())
    return version


def rests_on(connection: sa.Connection, version: Version) -> list[str]:
    """Name what would lose the number it knows a version by, such as ``job 0f3a ... (train)``.

    Jobs, checkpoints and publications do not, where another number stands for the same version.
    """
    same = [
        v
        for v in versions_of(connection)
        if v.id == version.id and v.removed_at is None and v.reference != version.reference
    ]
    found = []
    if not any(v.name == version.name for v in same):
        own = (t for t in tags_of(connection, version.name) if t.origin == OWN)
        found += [f"tag {t.name}@{t.tag}" for t in own if t.version_id == version.id]
    if same:
        return found
    stated = sa.cast(job.c.spec, sa.Text).contains(str(version.id))
    jobs = sa.select(job.c.id, job.c.kind).where(
        sa.or_(job.c.dataset_version_id == version.id, stated)
    )
    found += sorted(f"job {i} ({kind})" for i, kind in connection.execute(jobs))
    trained = (
        sa.select(model.c.name, checkpoint.c.id)
        .join(checkpoint, checkpoint.c.model_id == model.c.id)
        .where(checkpoint.c.dataset_version_id == version.id)
    )
    found += sorted(f"checkpoint {i} ({name})" for name, i in connection.execute(trained))
    shown = sa.select(publication.c.name).where(publication.c.dataset_version_id == version.id)
    return found + sorted(f"publication {name}" for (name,) in connection.execute(shown))


def restore(
    store: Store, reference: str, message: str = "", *, number_only: bool = False
) -> tuple[Version, bool]:
    """Make the members of a version the newest version of its dataset again.

    If its number was removed, the number comes back. If it is not the newest then, a next version
    with the same members and splits is made, whose parent is the newest.

    Args:
        store: where.
        reference: ``NAME@NUMBER`` or ``NAME@TAG``, of a removed number too.
        message: why; by default that it was restored.
        number_only: only bring a removed number back.

    Returns:
        the version that is the newest now (with ``number_only``, the one that came back), and
        whether anything changed.

    Raises:
        UsageError: no number or tag is given, or the dataset is another group's.
        NotFoundError: there is no such version, or its members were not shared.
    """
    parts = parse_reference(reference)
    if parts.number is None and parts.tag is None:
        raise UsageError(f"say which version of {reference} to restore: {reference}@NUMBER")
    with store.write() as tx:
        version = find_in(tx.connection, reference, removed=True)
        hidden = version.removed_at is not None
        if hidden:
            _set_removed(tx, version, None)
            version = find_in(tx.connection, version.reference)
        if number_only:
            return version, hidden
        newest = find_in(tx.connection, version.name)
        if newest.id == version.id or _equal(tx, newest.id, version.id):
            return newest, hidden
        require_own_name(version.name)
        members = read_members(tx.connection, version.id)
        made, _ = store_version(
            tx,
            members,
            version.split_recipe,
            [newest.id],
            n_compositions=version.n_compositions,
        )
        text = message or f"restored from {version.reference}"
        return add_number(tx, version.name, made, text, {"restore": version.reference}), True


def _set_removed(tx: Transaction, version: Version, moment: Any) -> None:
    own = content_id(Domain.DATASET, version.name.encode())
    tx.execute(
        sa.update(dataset_number)
        .where(dataset_number.c.dataset_id == own, dataset_number.c.number == version.number)
        .values(removed_at=moment)
    )


def _equal(tx: Transaction, one: UUID, other: UUID) -> bool:
    rows = tx.execute(
        sa.select(dataset_version.c.members_hash, dataset_version.c.split_recipe).where(
            dataset_version.c.id.in_([one, other])
        )
    ).all()
    return len(rows) == 2 and tuple(rows[0]) == tuple(rows[1])
