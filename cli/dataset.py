"""``gandb dataset``: numbered versions of training sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gandb.cli.context import open_store
from gandb.cli.output import emit, failures_reported, message

if TYPE_CHECKING:
    from gandb.datasets.versions import Version
    from gandb.store import Store

app = typer.Typer(help="Make and look at dataset versions.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_CREATE_EPILOG = """Examples:

gandb dataset create balanced --where "source = 'mp' AND cnen_strict" -m "strictly balanced"

gandb dataset create mine --from ids.txt --split 0.8,0.1,0.1 --split-seed 7

The condition is SQL on the view entries (see: gandb schema entries). A file lists entry ids or
source:external_id, one to a line. The first version is NAME@1, the next NAME@2."""


@app.command(epilog=_CREATE_EPILOG)
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the dataset.")],
    where: Annotated[str | None, typer.Option(help="SQL condition on the view entries.")] = None,
    from_file: Annotated[
        Path | None, typer.Option("--from", help="File of entry ids, one to a line.")
    ] = None,
    text: Annotated[str, typer.Option("--message", "-m", help="Why this version is made.")] = "",
    split: Annotated[
        str | None,
        typer.Option(help="Fractions train,validation,test; as before, else 0.9,0.05,0.05."),
    ] = None,
    split_seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    as_json: Json = False,
) -> None:
    """Make the next version of a dataset; it never changes afterwards."""
    with failures_reported():
        from gandb.core.errors import UsageError
        from gandb.datasets import selection, versions
        from gandb.datasets.splits import SplitRecipe

        if (where is None) == (from_file is None):
            raise UsageError("choose the members by --where SQL or by --from FILE")
        versions.parse_reference(name)
        recipe = None if split is None else SplitRecipe.parse(split, split_seed)
        if split is None and split_seed:
            raise UsageError("--split-seed needs --split")
        store = open_store(ctx)
        if from_file is not None:
            chosen = selection.from_file(store, from_file)
        else:
            chosen = selection.by_condition(store, str(where))
        version, new = versions.create(store, name, chosen, text, recipe)
        if not new:
            message(f"nothing changed since {version.reference}, so there is no new version")
        emit(_rows(store, version), as_json=as_json)


@app.command("list", epilog="Example:\n\ngandb dataset list --json")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List all dataset versions."""
    with failures_reported():
        from gandb.query.frames import query

        rows = query(
            open_store(ctx),
            "SELECT dataset, n_entries, n_compositions, message, created_at, version_id "
            "FROM datasets ORDER BY name, number",
        ).to_pylist()
        if not rows and not as_json:
            message("there is no dataset yet; make one with: gandb dataset create NAME --where SQL")
        emit(rows, as_json=as_json)


@app.command(epilog="Example:\n\ngandb dataset show balanced@1")
def show(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="NAME@NUMBER", help="The version.")],
    as_json: Json = False,
) -> None:
    """Show a dataset version with its splits."""
    with failures_reported():
        from gandb.datasets import versions

        store = open_store(ctx)
        emit(_rows(store, versions.resolve(store, reference)), as_json=as_json)


def _rows(store: Store, version: Version) -> list[dict[str, Any]]:
    from gandb.datasets.versions import split_sizes

    row: dict[str, Any] = {
        "dataset": version.reference,
        "entries": version.n_entries,
        "compositions": version.n_compositions,
    }
    for name, sizes in split_sizes(store, version.id).items():
        row[name] = sizes["entries"]
    row |= {"message": version.message, "version_id": version.id}
    return [row]
