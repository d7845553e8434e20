"""``gandb check``: further checks on candidates."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gandb.cli.context import open_store, settings
from gandb.cli.output import emit, failures_reported

EPILOG = """Examples:

gandb check matgan:balanced@1 --against oqmd@1

Results are in the view checks, under a recipe of their own:

gandb sql "SELECT passed, count(*) FROM checks WHERE check_name = 'novelty' GROUP BY passed" """


def check(
    ctx: typer.Context,
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Beginning of its id, MODEL:NAME@NUMBER, or an external model.",
        ),
    ],
    against: Annotated[
        str, typer.Option(metavar="NAME@NUMBER", help="Dataset version to compare with.")
    ],
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Do it now, or leave it to a worker.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Judge the novelty of a checkpoint's candidates against any dataset version."""
    with failures_reported():
        from gandb.cli.running import ask, run_and_wait
        from gandb.datasets.versions import resolve
        from gandb.jobs import queue
        from gandb.tasks.data import find_checkpoint
        from gandb.tasks.novelty import novelty_job

        store = open_store(ctx)
        found, version = find_checkpoint(store, checkpoint), resolve(store, against)
        job = ask(store, novelty_job(store, found, version))
        row: dict[str, Any] = {
            "job_id": job.short_id,
            "model": found.model,
            "against": version.reference,
        }
        if wait:
            label = f"{found.reference} against {version.reference}"
            (job,) = run_and_wait(store, settings(ctx), [job], threads=1, labels=[label])
            row |= queue.chunks(store, job.id)[0]["result"]
            row["novelty"] = row["novel"] / max(row["candidates"], 1)
        emit([row], as_json=as_json)
