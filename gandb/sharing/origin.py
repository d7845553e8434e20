"""What a store is called among groups: the name under which its datasets live elsewhere."""

from __future__ import annotations

import sqlalchemy as sa

from gandb.core.errors import UsageError
from gandb.schema.tables import setting
from gandb.sharing.bundle import ORIGIN
from gandb.store import Store

_SETTING = "origin"


def own_origin(store: Store) -> str | None:
    """Return the origin of a store, or None if it has not been named yet."""
    with store.read() as connection:
        return origin_on(connection)


def origin_on(connection: sa.Connection) -> str | None:
    """Return the origin of the store of an open transaction, or None."""
    query = sa.select(setting.c.value).where(setting.c.key == _SETTING)
    value = connection.execute(query).scalar_one_or_none()
    return None if value is None else str(value)


def require_origin(store: Store) -> str:
    """Return the origin of a store.

    Raises:
        UsageError: it has not been named yet; says how.
    """
    found = own_origin(store)
    if found is None:
        raise UsageError(
            "this store has no name among groups yet: give it one with gandb share origin NAME, "
            "such as that of your group"
        )
    return found


def set_origin(store: Store, name: str) -> None:
    """Name a store.

    Raises:
        UsageError: the name cannot be one, or the store has another already that it has used.
    """
    if not ORIGIN.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a group: write small letters, digits and '-', at most 32, with "
            "a letter or digit first"
        )
    with store.write(alone=False) as tx:
        tx.execute(setting.delete().where(setting.c.key == _SETTING))
        tx.execute(setting.insert(), {"key": _SETTING, "value": name})
