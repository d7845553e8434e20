"""``gandb init`` and ``gandb db``: making stores and looking after them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gandb.cli.context import open_store, settings, with_store
from gandb.cli.output import emit, failures_reported, message

INIT_EPILOG = """Examples:

gandb init lab

gandb init postgresql://user@host/lab --blobs /groups/lab/blobs"""

app = typer.Typer(help="Look after a store.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def init(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="PATH|URL", help="A directory, or a URL.")],
    blobs: Annotated[
        str | None,
        typer.Option(help="Folder or fsspec URL for checkpoints; by default in the directory."),
    ] = None,
) -> None:
    """Make a new store: a directory, or a PostgreSQL database by URL."""
    with failures_reported():
        from gandb.store import Store

        store = Store.create(with_store(ctx, target), blobs)
        message(f"made a {store.kind} store at {store.location}, blobs in {store.files.root}")
        message("next: export GANDB_STORE to this place, then: gandb import --sample")


@app.command(epilog="Example:\n\ngandb --store lab db upgrade")
def upgrade(ctx: typer.Context) -> None:
    """Bring the store to the schema revision of this gandb; every row is kept."""
    with failures_reported():
        from gandb.schema.revision import HEAD
        from gandb.store import Store, revisions

        store = Store.open(settings(ctx), any_revision=True)
        with store.write() as tx:
            before = revisions.current(tx.connection)
            if before == HEAD:
                message(f"the store has revision {HEAD} already")
                return
            revisions.upgrade(tx.connection)
        message(f"upgraded {store.location} from revision {before} to {HEAD}")


@app.command(epilog="Example:\n\ngandb --store lab db check")
def check(ctx: typer.Context, as_json: Json = False) -> None:
    """Compare the database's tables with those that this gandb declares."""
    with failures_reported():
        from gandb.core.errors import RevisionError
        from gandb.store import revisions

        store = open_store(ctx)
        with store.write() as tx:
            found = revisions.differences(tx.connection)
        if as_json:
            emit([{"difference": text} for text in found], as_json=True)
        if found:
            raise RevisionError(
                f"{len(found)} differences from the declared schema:\n  " + "\n  ".join(found)
            )
        message("the database is as declared")


@app.command(epilog="Example:\n\ngandb --store lab db verify --json")
def verify(
    ctx: typer.Context,
    as_json: Json = False,
    clean: Annotated[
        bool, typer.Option(help="Remove files that nothing refers to any more.")
    ] = False,
) -> None:
    """Check keys, references, hashes and copies; ends with 5 if anything is wrong."""
    with failures_reported():
        from gandb.core.errors import IntegrityError
        from gandb.store.verify import remove_leftovers
        from gandb.tasks.verification import verify_store

        store = open_store(ctx)
        findings = verify_store(store)
        if clean:
            removed = remove_leftovers(store)
            message(f"removed {removed} files that nothing refers to")
        wrong = [f for f in findings if f["problems"]]
        emit(findings if as_json else wrong or findings, as_json=as_json)
        if wrong:
            raise IntegrityError(f"{len(wrong)} of {len(findings)} checks found problems")
        message(f"{len(findings)} checks, no problem")


@app.command(epilog="Example:\n\ngandb --store lab db backup lab-2026-11-22.gandb.tar")
def backup(
    ctx: typer.Context,
    target: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
) -> None:
    """Write the whole store, database and blobs, to one file; it fits either engine."""
    with failures_reported():
        from gandb.sharing.backup import write_backup

        counts = write_backup(open_store(ctx), target)
        message(f"wrote {counts['rows']:,} rows and {counts['blobs']} blobs to {target}")


@app.command(epilog="Example:\n\ngandb db restore lab-2026-11-22.gandb.tar lab-again")
def restore(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(help="A file that backup wrote.")],
    target: Annotated[str, typer.Argument(metavar="PATH|URL", help="Where to make the store.")],
    blobs: Annotated[str | None, typer.Option(help="Folder or fsspec URL for blobs.")] = None,
) -> None:
    """Make a new store of a backup, on the same engine or the other."""
    with failures_reported():
        from gandb.sharing.backup import restore_backup

        store, counts = restore_backup(source, with_store(ctx, target), blobs)
        message(f"restored {counts['rows']:,} rows and {counts['blobs']} blobs to {store.location}")
