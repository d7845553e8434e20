"""``gandb publish`` and ``gandb token``: what `gandb serve` shows, and to whom."""

from __future__ import annotations

from typing import Annotated

import typer

from gandb.cli.context import open_store
from gandb.cli.output import emit, failures_reported, message

token_app = typer.Typer(help="Let others read what is not public.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

PUBLISH_EPILOG = """Examples:

gandb publish mp@3

gandb publish matgan:mp@3 --private (candidates, for who has a token)

gandb publish --list

Only what has a structure is served. Publishing again takes in what has come since."""


def publish(
    ctx: typer.Context,
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME@3|MODEL:NAME@3", help="A dataset version, or a model's candidates."
        ),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Only for who has a token (gandb token create).")
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-licence",
            metavar="TEXT",
            help="I may show everyone data under this licence, by its exact text; repeatable.",
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List what is published.")] = False,
    remove: Annotated[
        str | None, typer.Option("--remove", metavar="NAME", help="Take a publication back.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Publish a dataset version or candidates for gandb serve."""
    with failures_reported():
        from gandb.core.errors import UsageError
        from gandb.sharing.serving import publishing

        if (what is not None) + listed + (remove is not None) != 1:
            raise UsageError("name what to publish, or give --list, or --remove NAME")
        if private and what is None:
            raise UsageError("--private goes with what is to be published")
        store = open_store(ctx)
        if listed:
            with store.read() as connection:
                found = publishing.list_publications(connection)
            if not found and not as_json:
                message("nothing is published; publish with: gandb publish NAME@NUMBER")
        elif remove is not None:
            gone = publishing.remove(store, remove)
            message(f"{gone.name} is no longer served")
            return
        else:
            made = publishing.publish(store, str(what), public=not private, allowed=allow or ())
            found = [made]
            for said in made.sources.values():
                message(f"{said['source']}: {said['licence']}")
            if made.n_without:
                message(f"{made.n_without:,} have no structure and are left out")
        rows = [
            {
                "publication": p.name,
                "kind": p.kind,
                "structures": p.n_structures,
                "public": p.public,
                "published": p.created_at,
            }
            for p in found
        ]
        emit(rows, as_json=as_json)


@token_app.command(epilog="Example:\n\ngandb token create 'group B' --for mp@3")
def create(
    ctx: typer.Context,
    label: Annotated[str, typer.Argument(help="Whom it is for.")],
    publications: Annotated[
        list[str] | None,
        typer.Option("--for", metavar="NAME", help="What it opens; by default everything."),
    ] = None,
) -> None:
    """Make a token and print it, once."""
    with failures_reported():
        from gandb.sharing.serving.tokens import create_token

        text, token = create_token(open_store(ctx), label, publications)
        opened = "everything" if token.publications is None else ", ".join(token.publications)
        message(f"token {token.short} opens {opened}; it is not shown again:")
        print(text)


@token_app.command("list", epilog="Example:\n\ngandb token list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List tokens by label and the beginning of their hash."""
    with failures_reported():
        from gandb.sharing.serving.tokens import list_tokens

        with open_store(ctx).read() as connection:
            found = list_tokens(connection)
        if not found and not as_json:
            message("there is no token; make one with: gandb token create LABEL")
        rows = [
            {
                "label": t.label,
                "token": t.short,
                "opens": "everything" if t.publications is None else ", ".join(t.publications),
                "created_at": t.created_at,
                "revoked_at": t.revoked_at,
            }
            for t in found
        ]
        emit(rows, as_json=as_json)


@token_app.command(epilog="Example:\n\ngandb token revoke 'group B'")
def revoke(
    ctx: typer.Context,
    label: Annotated[str, typer.Argument(help="Its label, or the beginning of its hash.")],
) -> None:
    """Take a token back; it opens nothing from the next request on."""
    with failures_reported():
        from gandb.sharing.serving.tokens import revoke_token

        gone = revoke_token(open_store(ctx), label)
        message(f"token {gone.short} of {gone.label} is no longer valid")
