"""``gandb report``: a model beside its baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gandb.cli.context import open_store
from gandb.cli.output import console, emit, failures_reported, message

if TYPE_CHECKING:
    from gandb.jobs.records import Job
    from gandb.store import Store

EPILOG = """Examples:

gandb report (all that was generated, and judged by gandb novelty)

gandb report 3f2a81c0 99ab04de -o report.html --figures figures

gandb report --dataset balanced@1 --json"""


def report(
    ctx: typer.Context,
    jobs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="JOB...",
            help="Jobs of generate, import candidates or novelty; by default all that are done.",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME@NUMBER", help="All jobs of models trained on this version."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write one self-contained HTML page.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Write the figures as PNG files to this folder.")
    ] = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Generators compared",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare what was generated: tables, curves, maps, distances, hulls, pictures of crystals.

    Of crystals it tells what gandb check, novelty, relax, hull and check --coverage have found.
    """
    with failures_reported():
        from gandb.core.errors import UsageError
        from gandb.reports import headlines, judgement_tables, novelty_tables, tables
        from gandb.reports.collect import collect

        if jobs and dataset:
            raise UsageError("name jobs or --dataset, not both")
        store = open_store(ctx)
        gathered = collect(store, choose_jobs(store, jobs or [], dataset), title)
        if output is not None or figures is not None:
            from gandb.reports.publish import publish

            for path in publish(gathered, output, figures):
                message(f"wrote {path}")
        if as_json:
            listed = tables.plain(gathered) + novelty_tables.plain(gathered)
            emit(listed + judgement_tables.plain(gathered), as_json=True)
            return
        out = console()
        out.print(tables.terminal(gathered))
        out.print(novelty_tables.terminal(gathered))
        out.print(judgement_tables.terminal(gathered))
        for line in headlines(gathered):
            out.print(line, markup=False)


def choose_jobs(store: Store, references: list[str], dataset: str | None) -> list[Job]:
    """Find the jobs by id, by dataset version, or all that are done.

    With a job that made candidates come those that judged the novelty of their structures.
    """
    from gandb.core.errors import NotFoundError
    from gandb.datasets.versions import resolve
    from gandb.jobs import queue
    from gandb.reports.collect_novelty import latest_jobs
    from gandb.tasks.candidates import KIND as EXTERNAL

    if references:
        named = [queue.find(store, reference) for reference in references]
        judged = latest_jobs(store, [job.id for job in named])
        imported = [job for job in named if job.kind == EXTERNAL]
        for job in imported:
            if not any(str(job.id) in other.spec["jobs"] for other in judged):
                raise NotFoundError(
                    f"the structures of job {job.short_id} were not judged yet; begin with: "
                    f"gandb novelty {job.spec['model']} --against entries"
                )
        return [job for job in named if job not in imported] + judged
    rows = queue.listing(store, "done", "generate")
    found = [queue.get(store, row["job_id"]) for row in reversed(rows)]
    judged = latest_jobs(store)
    if dataset is not None:
        version = resolve(store, dataset)
        found = [job for job in found if job.dataset_version_id == version.id]
        judged = latest_jobs(store, [job.id for job in found])
    if not (found or judged):
        raise NotFoundError(
            "there is no finished generation job to report on; make one with: "
            "gandb generate CHECKPOINT --wait"
        )
    return found + judged
