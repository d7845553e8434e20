"""What commands share: the settings of this run and the store they work on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import typer

from gandb.core.config import Settings

if TYPE_CHECKING:
    from gandb.store import Store, StoreReader


def settings(ctx: typer.Context) -> Settings:
    """Return the settings that the main command built."""
    found = ctx.find_object(Settings)
    return found if found is not None else Settings.from_environment()


def with_store(ctx: typer.Context, target: str) -> Settings:
    """Return the settings with another store."""
    return dataclasses.replace(settings(ctx), store=target)


def open_store(ctx: typer.Context) -> Store:
    """Open the store named by ``--store`` or ``GANDB_STORE``."""
    from gandb.store import Store

    return Store.open(settings(ctx))


def open_reader(ctx: typer.Context) -> StoreReader:
    """Open the same store for queries alone, which is faster."""
    from gandb.store import StoreReader

    return StoreReader(settings(ctx))
