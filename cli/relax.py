"""``gandb relax``: relax structures by a universal potential."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gandb.cli.context import open_store, settings
from gandb.cli.output import emit, failures_reported, message

EPILOG = """Examples:

gandb relax pgcgm:ternary@1 --where "cnen_strict AND novelty <> 'known'" --sample 300

gandb relax mp@1:test --potential sevennet --max-force 0.02

gandb relax --sql "SELECT structure_id FROM structures WHERE n_sites < 10"

gandb sql "SELECT error, count(*) FROM relaxation GROUP BY error" """


def relax(
    ctx: typer.Context,
    reference: Annotated[
        str | None,
        typer.Argument(
            metavar="REF",
            help="Whose structures: a checkpoint, an external model or a generation job "
            "(candidates), or NAME@NUMBER[:SPLIT].",
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="Condition on candidates: columns of the view generated."),
    ] = None,
    sql: Annotated[
        str | None,
        typer.Option("--sql", metavar="SQL", help="A query for structure_id, instead of REF."),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Relax so many of them, drawn at random.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    potential: Annotated[
        str, typer.Option(metavar="NAME", help="chgnet, sevennet ...; a wrong name lists all.")
    ] = "chgnet",
    max_force: Annotated[
        float, typer.Option(metavar="EV_PER_A", help="Converged below it, eV/Å.")
    ] = 0.05,
    max_steps: Annotated[int, typer.Option(min=0, help="Steps at most; 0: energies alone.")] = 500,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    chunk_size: Annotated[
        int | None,
        typer.Option(min=1, help="Structures to a chunk; by default 25, on cuda 500."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Chunks to work on at once.")] = 2,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Do it now, or leave it to a worker.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Relax positions and cells; the results are in the table relaxation.

    Structures that were relaxed in the same way before are not relaxed again.
    """
    with failures_reported():
        from gandb.cli.running import ask, run_and_wait
        from gandb.energies.fire import Settings
        from gandb.jobs import queue
        from gandb.tasks.choosing import choose
        from gandb.tasks.relaxation import relaxation_job

        store = open_store(ctx)
        how = Settings(max_force=max_force, max_steps=max_steps)
        chosen = choose(store, reference, where=where, sql=sql, sample=sample, seed=seed)
        job = ask(store, relaxation_job(chosen, potential, how, device, chunk_size))
        eligible = chosen.how["eligible"]
        message(f"{len(chosen.ids):,} of {eligible:,} structures that fit; job {job.short_id}")
        row: dict[str, Any] = {"job_id": job.short_id, "potential": potential}
        if not wait:
            emit([{**row, "structures": len(chosen.ids)}], as_json=as_json)
            message("left to a worker: gandb worker")
            return
        label = f"relax by {potential}"
        (job,) = run_and_wait(store, settings(ctx), [job], threads=threads, labels=[label])
        counts = queue.chunks(store, job.id)[-1]["result"]
        errors = counts.pop("errors")
        if as_json:
            emit([row | counts | {"errors": errors}], as_json=True)
            return
        emit([row | counts | {"errors": sum(errors.values())}], as_json=False)
        if errors:
            print()
            emit([{"error": k, "structures": n} for k, n in errors.items()], as_json=False)
