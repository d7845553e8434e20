"""``gandb worker``: does queued jobs."""

from __future__ import annotations

from typing import Annotated

import typer

from gandb.cli.context import open_store, settings
from gandb.cli.output import failures_reported, message

EPILOG = """Examples:

gandb worker (until nothing is left)

gandb worker --poll 5 --threads 2 (for ever)

Several workers may share a store, on one machine or, with PostgreSQL, on many."""


def worker(
    ctx: typer.Context,
    threads: Annotated[int, typer.Option(min=1, help="Chunks to work on at once.")] = 1,
    poll: Annotated[
        float, typer.Option(min=0.0, help="Look for new jobs every so many seconds; 0: end.")
    ] = 0.0,
    job: Annotated[
        list[str] | None, typer.Option(help="Work on this job alone (beginning of its id).")
    ] = None,
) -> None:
    """Do queued jobs, until none is left or for ever."""
    with failures_reported():
        import signal

        from gandb.core.errors import StoreError
        from gandb.jobs import queue
        from gandb.jobs.records import Job
        from gandb.jobs.worker import StopSignal, Worker
        from gandb.tasks import TASKS

        store = open_store(ctx)
        only = [queue.find(store, j).id for j in job] if job else None
        said: dict[tuple[str, int], int] = {}

        def tell(found: Job, chunk: int, done: int) -> None:
            key = (found.short_id, chunk)
            if key not in said:
                message(f"{found.kind} {found.short_id} chunk {chunk}")
            said[key] = done

        def tell_trouble(error: StoreError) -> None:
            message(f"{error}; looking again in {poll:g} s")

        for foreign in queue.of_other_versions(store):
            message(
                f"left alone: {foreign.kind} {foreign.short_id}, begun by "
                f"gandb {foreign.code_version}"
            )
        stop = StopSignal()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        lease = settings(ctx).lease_seconds
        done = Worker(store, TASKS, lease, only, tell, tell_trouble).run(
            threads, stop=stop, poll=poll
        )
        message(f"{done} chunks done")
