"""``gandb share``: handing data, models and results to other groups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gandb.cli import share_merge
from gandb.cli.context import open_store
from gandb.cli.output import emit, failures_reported, message

if TYPE_CHECKING:
    from gandb.sharing.bundles.inspecting import Inspection
    from gandb.sharing.bundles.packing import Packed

app = typer.Typer(
    help="Share datasets, models and results with other groups.", no_args_is_help=True
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder or a zip.")]

_PACK_EPILOG = """Examples:

gandb share pack balanced-2026 --dataset balanced@3

gandb share pack results.zip --candidates "novel AND cnen_strict" --dataset balanced@3

gandb share pack model.zip --model matgan:icsd@1 --without-entries

A bundle has what is named and all that it refers to: candidates bring their checkpoint, its
training job and the dataset version that it was trained on. OUT is a folder, or a zip if the name
ends in .zip. The same content gives the same bytes."""

_ORIGIN_EPILOG = """Examples:

gandb share origin

gandb share origin ada --url https://ada.example.org"""


@app.command(epilog=_ORIGIN_EPILOG)
def origin(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Name of the group; none: show it.")] = None,
    url: Annotated[
        str | None, typer.Option(help="Web address of the group, for what it shares.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show or set what this store is called among groups."""
    with failures_reported():
        from gandb.core.errors import UsageError
        from gandb.sharing.origin import own_origin, own_url, set_origin

        if url is not None and name is None:
            raise UsageError("--url needs the name of the group")
        store = open_store(ctx)
        if name is not None:
            set_origin(store, name, url)
        found = own_origin(store)
        if found is None and not as_json:
            message("this store has no name among groups yet; give it one: gandb share origin NAME")
            return
        emit([{"origin": found, "url": own_url(store)}], as_json=as_json)


@app.command(epilog=_PACK_EPILOG)
def pack(
    ctx: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder, or FILE.zip.")],
    dataset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME@3", help="A dataset version; may be given again."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL:NAME@3", help="A trained or external model; again for more."),
    ] = None,
    candidates: Annotated[
        str | None, typer.Option(metavar="SQL", help="SQL condition on the view generated.")
    ] = None,
    job: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A finished job with what it made; again for more."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that the store knows.")] = False,
    without_entries: Annotated[
        bool,
        typer.Option(
            "--without-entries",
            help="Leave out the members of dataset versions, such as where a licence forbids it.",
        ),
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Take the members of earlier versions along too.")
    ] = False,
    tags: Annotated[bool, typer.Option("--tags/--no-tags", help="Take tags along.")] = True,
    licence: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Terms of what your group made itself."),
    ] = None,
    allow_licence: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="You may hand data on under these terms, by their exact text."
        ),
    ] = None,
    published: Annotated[
        str | None, typer.Option(metavar="DATE", help="Date that the bundle states, YYYY-MM-DD.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a bundle: what you name, and all that it refers to."""
    with failures_reported():
        from gandb.cli.output import progress
        from gandb.sharing.bundles.description import UNDATED
        from gandb.sharing.bundles.packing import pack as write
        from gandb.sharing.bundles.selection import select

        date = UNDATED if published is None else _date(published)
        store = open_store(ctx)
        selection = select(
            store,
            datasets=dataset or (),
            models=model or (),
            candidates=candidates,
            jobs=job or (),
            everything=everything,
            entries=not without_entries,
            history=history,
            tags=tags,
        )
        with progress("packing", unit="rows") as advance:
            packed = write(
                store,
                selection,
                out,
                licence=licence,
                allowed=allow_licence or (),
                published=date,
                on_rows=advance,
            )
        for notice in packed.notices:
            if notice.terms.value == "non-commercial":
                message(f"note: {notice.source} is not for commercial use ({notice.licence})")
        emit([_packed_row(packed)], as_json=as_json)


@app.command(epilog="Example:\n\ngandb share inspect results.zip")
def inspect(bundle: BundlePath, as_json: Json = False) -> None:
    """Tell what a bundle is: from whom, how much, on which terms; also of a broken one."""
    with failures_reported():
        from gandb.sharing.bundles.inspecting import inspect as look

        found = look(bundle)
        if as_json:
            emit([found.as_json()], as_json=True)
        else:
            _show(found)
        if found.problem is not None:
            raise found.problem


@app.command(epilog="Example:\n\ngandb share verify results.zip")
def verify(bundle: BundlePath, as_json: Json = False) -> None:
    """Check a bundle without taking it in: its files, and that its content is what its ids say."""
    with failures_reported():
        from gandb.cli.output import progress
        from gandb.sharing.bundles.bundle import TABLES, open_bundle
        from gandb.sharing.verifying.content import verify_content

        with open_bundle(bundle) as opened:
            rows = sum(opened.rows(t.name) for t in TABLES)
            with progress("verifying", rows, unit="rows") as advance:
                verify_content(opened, advance)
            row = {
                "bundle": str(bundle),
                "origin": opened.origin,
                "rows": rows,
                "blobs": len(opened.blobs),
                "sound": True,
                "sha256": opened.sha256,
            }
        emit([row], as_json=as_json)


def _date(text: str) -> str:
    import datetime as dt

    from gandb.core.errors import UsageError

    try:
        return dt.date.fromisoformat(text).isoformat()
    except ValueError:
        raise UsageError(f"{text!r} is not a date: write it like 2026-11-30") from None


def _packed_row(packed: Packed) -> dict[str, Any]:
    shown = ("entry", "structure", "dataset_version", "checkpoint", "candidate")
    return {
        "bundle": str(packed.path),
        **{name: packed.rows[name] for name in shown},
        "rows": sum(packed.rows.values()),
        "blobs": packed.blobs,
        "sha256": packed.sha256,
    }


def _show(found: Inspection) -> None:
    emit([{"what": k, "is": v} for k, v in found.facts.items() if v is not None], as_json=False)
    asked = [{"asked for": k, "is": _words(v)} for k, v in found.selection.items() if v]
    tables = [{"table": name, "rows": n} for name, n in found.rows.items()]
    licences = [
        {
            "source": n.get("source"),
            "count": n.get("entries", n.get("candidates")),
            "terms": n.get("terms"),
            "licence": n.get("licence"),
            "attribution": n.get("attribution"),
        }
        for n in found.licences
    ]
    for rows in (asked, tables, found.datasets, licences):
        if rows:
            print()
            emit(rows, as_json=False)


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "yes" if value is True else str(value)


share_merge.register(app)
