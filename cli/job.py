"""``gandb job``: what is being done, and what became of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gandb.cli.context import open_store
from gandb.cli.output import emit, failures_reported, message

app = typer.Typer(help="Look at jobs, cancel and retry them.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reference = Annotated[str, typer.Argument(metavar="JOB", help="Beginning of the job's id.")]


@app.command("list", epilog="Example:\n\ngandb job list --state running")
def list_(
    ctx: typer.Context,
    state: Annotated[
        str | None, typer.Option(help="queued, running, done, failed or cancelled.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="import, train, generate or novelty.")] = None,
    as_json: Json = False,
) -> None:
    """List jobs, newest first."""
    with failures_reported():
        from gandb.core.errors import NotFoundError
        from gandb.jobs import queue
        from gandb.jobs.records import State
        from gandb.tasks import TASKS

        if state is not None and state not in set(State):
            raise NotFoundError.naming("job state", state, State)
        if kind is not None and kind not in TASKS:
            raise NotFoundError.naming("job kind", kind, TASKS)
        rows = queue.listing(open_store(ctx), state, kind)
        if not as_json:
            rows = [_short(row) for row in rows]
        emit(rows, as_json=as_json)


@app.command(epilog="Example:\n\ngandb job show 3f2a81c0 --json")
def show(ctx: typer.Context, job: Reference, as_json: Json = False) -> None:
    """Show a job: what was asked for, its chunks and attempts."""
    with failures_reported():
        from gandb.jobs import queue

        store = open_store(ctx)
        found = queue.find(store, job)
        (summary,) = [r for r in queue.listing(store) if r["job_id"] == found.id]
        chunks, attempts = queue.chunks(store, found.id), queue.attempts(store, found.id)
        if as_json:
            row = {**summary, "spec": found.spec, "code_version": found.code_version}
            row |= {"dataset_version_id": found.dataset_version_id}
            row |= {"checkpoint_id": found.checkpoint_id, "chunks": chunks, "tries": attempts}
            emit([row], as_json=True)
            return
        values = {**_short(summary), **found.spec, "code_version": found.code_version}
        emit([{"field": k, "value": _text(v)} for k, v in values.items()], as_json=False)
        message("")
        shown = ["chunk", "state", "progress", "total", "attempts", "owner", "result"]
        emit([{k: _text(c[k]) for k in shown} for c in chunks], as_json=False)


@app.command(epilog="Example:\n\ngandb job logs 3f2a81c0")
def logs(ctx: typer.Context, job: Reference, as_json: Json = False) -> None:
    """Print a job's log, oldest line first."""
    with failures_reported():
        from gandb.jobs import queue

        store = open_store(ctx)
        emit(queue.events(store, queue.find(store, job).id), as_json=as_json)


@app.command(epilog="Example:\n\ngandb job cancel 3f2a81c0")
def cancel(ctx: typer.Context, job: Reference) -> None:
    """Stop a job; chunks that are done stay, and retry goes on from there."""
    with failures_reported():
        from gandb.jobs import queue

        store = open_store(ctx)
        found = queue.find(store, job)
        queue.cancel(store, found.id)
        message(f"cancelled {found.short_id}")


@app.command(epilog="Example:\n\ngandb job retry 3f2a81c0")
def retry(ctx: typer.Context, job: Reference) -> None:
    """Queue a failed or cancelled job again."""
    with failures_reported():
        from gandb.jobs import queue

        store = open_store(ctx)
        found = queue.retry(store, queue.find(store, job).id)
        message(f"queued {found.short_id}; a worker does it: gandb worker")


def _short(row: dict[str, Any]) -> dict[str, Any]:
    done = f"{row['steps_done'] or 0:,}/{row['steps'] or 0:,}"
    chunks = f"{row['chunks_done']}/{row['n_chunks']}"
    kept = ("kind", "state")
    return {
        "job_id": str(row["job_id"])[:8],
        **{k: row[k] for k in kept},
        "progress": done,
        "chunks": chunks,
        **{k: row[k] for k in ("attempts", "seed", "created_at", "error")},
    }


def _text(value: Any) -> Any:
    import json

    return json.dumps(value, default=str) if isinstance(value, (dict, list)) else value
