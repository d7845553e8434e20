"""``gandb source``: what was imported, from where, and what changed since."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gandb.cli.context import open_store, settings
from gandb.cli.output import emit, failures_reported, message

app = typer.Typer(help="See and repeat imports.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Snapshot = Annotated[
    str,
    typer.Argument(metavar="SNAPSHOT", help="Beginning of its id, or a source for its newest."),
]


@app.command("list", epilog="Example:\n\ngandb source list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List snapshots: one per import."""
    with failures_reported():
        from gandb.tasks.snapshots import snapshots

        rows = snapshots(open_store(ctx))
        for row in rows:
            row["snapshot"] = str(row["id"])[:8]
        columns = [
            "snapshot", "source", "release", "filter", "n_rows", "n_entries", "n_rejects",
            "n_repeats", "imported_at",
        ]  # fmt: skip
        emit(rows, as_json=as_json, columns=columns)


@app.command(epilog="Example:\n\ngandb source formats")
def formats(as_json: Json = False) -> None:
    """List the formats that gandb import reads and tells apart by itself."""
    with failures_reported():
        from gandb.sources.formats import FORMATS

        rows = [{"format": form.name, "what": form.title} for form in FORMATS.values()]
        rows.append({"format": "table", "what": "Formulas with properties: CSV, JSONL, Parquet"})
        emit(rows, as_json=as_json)


@app.command(epilog="Example:\n\ngandb source servers")
def servers(as_json: Json = False) -> None:
    """List the databases that gandb import --live can ask, with a filter in their language."""
    with failures_reported():
        from gandb.sources.live import LIVE

        rows = [
            {"source": s.name, "what": s.title, "address": s.endpoint, "filter": s.example}
            for s in LIVE.values()
        ]
        emit(rows, as_json=as_json)


@app.command(epilog="Example:\n\ngandb source show oqmd")
def show(ctx: typer.Context, snapshot: Snapshot, as_json: Json = False) -> None:
    """Show a snapshot: its files, terms and why rows were rejected."""
    with failures_reported():
        from gandb.tasks.snapshots import files, find_snapshot, reasons

        store = open_store(ctx)
        row = find_snapshot(store, snapshot)
        listed, rejected = files(store, row["id"]), reasons(store, row["id"])
        if as_json:
            emit([{**row, "raw_files": listed, "reasons": rejected}], as_json=True)
            return
        skipped = ("files",)
        emit([{"field": k, "value": v} for k, v in row.items() if k not in skipped], as_json=False)
        shown: list[dict[str, Any]] = listed or list(row["files"])
        emit(shown, as_json=False, columns=["name", "size", "sha256"], title="files")
        if rejected:
            emit(rejected, as_json=False, title="rejected rows")


@app.command(epilog="Example:\n\ngandb source reparse 3f2a77b1")
def reparse(
    ctx: typer.Context,
    snapshot: Snapshot,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Do it now, or leave it to a worker.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Read the raw files that a snapshot kept again, offline, with today's readers."""
    with failures_reported():
        from gandb.cli.running import ask, run_and_wait
        from gandb.core.errors import UsageError
        from gandb.jobs import queue
        from gandb.tasks.records import reparse_job
        from gandb.tasks.snapshots import files, find_snapshot

        store = open_store(ctx)
        row = find_snapshot(store, snapshot)
        kept = files(store, row["id"])
        if not kept or not all(file["kept"] for file in kept):
            raise UsageError(
                f"snapshot {str(row['id'])[:8]} did not keep its raw files: import them again "
                "with --keep-raw"
            )
        job = ask(store, reparse_job(row))
        if wait:
            labels = [f"reading {row['source']} again"]
            (job,) = run_and_wait(store, settings(ctx), [job], threads=1, labels=labels)
        result = {"job_id": job.short_id, "source": row["source"], "state": job.state.value}
        for chunk in queue.chunks(store, job.id):
            result |= chunk["result"] or {}
        emit([result], as_json=as_json)
        if wait and result.get("snapshot_id") == str(row["id"]):
            message("the readers have not changed since: it is the same snapshot")


@app.command(epilog="Example:\n\ngandb source diff 3f2a77b1 90cc1e04")
def diff(
    ctx: typer.Context,
    older: Snapshot,
    newer: Snapshot,
    limit: Annotated[int, typer.Option(min=0, help="Rows to show; 0 shows all.")] = 40,
    as_json: Json = False,
) -> None:
    """Say what changed between two snapshots of a source: new, gone and changed records."""
    with failures_reported():
        from gandb.tasks.snapshots import difference, find_snapshot

        store = open_store(ctx)
        one, other = find_snapshot(store, older), find_snapshot(store, newer)
        found = difference(store, one["id"], other["id"], limit or None)
        rows = [{**row, "columns": ", ".join(row["columns"])} for row in found.rows]
        emit(found.rows if as_json else rows, as_json=as_json)
        message(", ".join(f"{n:,} {status}" for status, n in found.counts.items()))
