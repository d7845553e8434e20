"""``gandb serve``: the OPTIMADE API over what is published."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from gandb.cli.context import settings
from gandb.cli.output import failures_reported, message

EPILOG = """Examples:

gandb serve

gandb serve --host 0.0.0.0 --port 80 --base-url https://data.example.org/optimade

It only reads; gandb may work on the store beside it. Ctrl-C ends it."""

_LOCK_TIMEOUT = 10.0  # seconds after which a client is told to come again


def serve(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
    base_url: Annotated[
        str | None,
        typer.Option(help="URL under which clients reach it, where a proxy stands between."),
    ] = None,
    provider_name: Annotated[str, typer.Option(help="Who provides the data.")] = "gandb",
    provider_description: Annotated[
        str, typer.Option(help="What the data are.")
    ] = "Structures published from a gandb store.",
    provider_homepage: Annotated[str | None, typer.Option(help="URL of the provider.")] = None,
    provider_email: Annotated[
        str | None, typer.Option(help="E-mail address of who maintains the server.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Longest that a query may take.")] = 20.0,
) -> None:
    """Serve what is published to OPTIMADE clients."""
    with failures_reported():
        from gandb.core.errors import UsageError
        from gandb.sharing.serving.answers import Provider
        from gandb.sharing.serving.publishing import list_publications
        from gandb.sharing.serving.server import serve as run
        from gandb.store import Store

        for given in (base_url, provider_homepage):
            if given is not None and not given.startswith(("http://", "https://")):
                raise UsageError(f"{given!r} is no URL: write http:// or https:// before it")
        own = settings(ctx)
        store = Store.open(
            dataclasses.replace(own, lock_timeout=min(own.lock_timeout, _LOCK_TIMEOUT))
        )
        with store.read() as connection:
            known = list_publications(connection)
        public = sum(p.public for p in known)
        shown = f"[{host}]" if ":" in host else host
        message(f"serving {len(known)} publications, {public} of them public")
        message(f"at {base_url or f'http://{shown}:{port}'}/v1")
        run(
            store,
            host=host,
            port=port,
            provider=Provider(
                provider_name, provider_description, provider_homepage, provider_email
            ),
            base_url=base_url,
            seconds=seconds,
        )
