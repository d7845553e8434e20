"""Alembic's environment: gandb hands over a connection inside a transaction."""

from __future__ import annotations

from alembic import context

from gandb.migrations.comparison import OPTIONS
from gandb.schema.tables import metadata


def run() -> None:
    """Run the migrations on the connection that the caller opened."""
    connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transactional_ddl=True,
        **OPTIONS[connection.dialect.name],
    )
    context.run_migrations()


run()
