"""Bringing a store to the current schema revision, and refusing what does not fit."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from gandb.core.errors import RevisionError, StoreError
from gandb.schema.revision import HEAD, HISTORY
from gandb.schema.views import create_views, drop_views
from gandb.store.failures import in_one_line

if TYPE_CHECKING:
    from alembic.config import Config


def current(connection: sa.Connection) -> str | None:
    """Return the revision of the database, None if it holds no store."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return None if revision is None else str(revision)


def require_head(connection: sa.Connection, where: str) -> None:
    """Refuse a database that is no store, or one of another revision.

    Raises:
        StoreError: there is no store.
        RevisionError: the store is older (upgrade it) or newer (upgrade gandb).
    """
    _require_head(current(connection), where)


def require_head_on(connection: Any, where: str) -> None:
    """Do the same on a driver's own connection (duckdb or psycopg), in one statement."""
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except Exception as error:
        if not any(base.__name__ == "ProgrammingError" for base in type(error).__mro__):
            raise
        row = None  # there is no such table
    _require_head(None if row is None else str(row[0]), where)


def _require_head(revision: str | None, where: str) -> None:
    if revision == HEAD:
        return
    if revision is None:
        raise StoreError(f"{where} holds no gandb store; create one with: gandb init {where}")
    if revision in HISTORY:
        raise RevisionError(
            f"the store at {where} has schema revision {revision}, this gandb needs {HEAD}; "
            f"back it up, then run: gandb --store {where} db upgrade"
        )
    raise RevisionError(
        f"the store at {where} has schema revision {revision}, which this gandb (up to {HEAD}) "
        "does not know: it was written by a newer gandb; install that version"
    )


def upgrade(connection: sa.Connection, target: str = HEAD) -> None:
    """Run the migrations up to ``target`` in the caller's transaction and rebuild the views.

    Raises:
        RevisionError: the store is newer, or the migration failed; the caller's transaction, which
            ends with the error, then leaves the store as it was.
    """
    from alembic import command

    revision = current(connection)
    if revision is not None and revision not in HISTORY:
        raise RevisionError(
            f"the store has schema revision {revision}, newer than {HEAD}: it cannot be taken back"
        )
    try:
        drop_views(connection)
        command.upgrade(_config(connection), target)
        if target == HEAD:
            create_views(connection)
    except (sa.exc.ProgrammingError, sa.exc.InternalError, sa.exc.NotSupportedError) as error:
        raise RevisionError(
            f"cannot bring the store from revision {revision or 'none'} to {target}: "
            f"{in_one_line(error.orig or error)}; nothing was changed (views and tables of your "
            "own that stand on gandb's must be dropped before)"
        ) from error


def differences(connection: sa.Connection) -> list[str]:
    """Compare the database with the declared tables; return what differs, in words."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from gandb.migrations.comparison import OPTIONS
    from gandb.schema.tables import metadata

    context = MigrationContext.configure(connection, opts=dict(OPTIONS[connection.dialect.name]))
    return [str(item) for item in compare_metadata(context, metadata)]


def _config(connection: sa.Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(resources.files("gandb.migrations")))
    config.attributes["connection"] = connection
    return config
