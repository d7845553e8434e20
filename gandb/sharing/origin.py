"""What a store is called among groups: the name under which its datasets live elsewhere."""

from __future__ import annotations

import re

import sqlalchemy as sa

from gandb.core.errors import UsageError
from gandb.schema.tables import setting
from gandb.sharing.bundles.bundle import ORIGIN
from gandb.store import Store

_SETTING = "origin"
_URL_SETTING = "origin_url"
_URL = re.compile(r"https?://[^\s<>\"{}|\\^`]{1,2000}")


def own_origin(store: Store) -> str | None:
    """Return the origin of a store, or None if it has not been named yet."""
    with store.read() as connection:
        return origin_on(connection)


def origin_on(connection: sa.Connection) -> str | None:
    """Return the origin of the store of an open transaction, or None."""
    return _value(connection, _SETTING)


def own_url(store: Store) -> str | None:
    """Return the web address of the group whose store it is, or None if it was not stated."""
    with store.read() as connection:
        return _value(connection, _URL_SETTING)


def _value(connection: sa.Connection, key: str) -> str | None:
    query = sa.select(setting.c.value).where(setting.c.key == key)
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


def set_origin(store: Store, name: str, url: str | None = None) -> None:
    """Name a store.

    Args:
        store: which.
        name: what it is called among groups.
        url: web address of the group, which bundles state; None leaves the one there is.

    Raises:
        UsageError: the name cannot be one, or the address is none.
    """
    if not ORIGIN.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a group: write small letters, digits and '-', at most 32, with "
            "a letter or digit first"
        )
    if url is not None and not _URL.fullmatch(url):
        raise UsageError(f"{url!r} is no web address: write it with https://")
    with store.write(alone=False) as tx:
        for key, value in ((_SETTING, name), (_URL_SETTING, url)):
            if value is not None:
                tx.execute(setting.delete().where(setting.c.key == key))
                tx.execute(setting.insert(), {"key": key, "value": value})
