"""``gandb check``: what is any good among the structures and compositions of candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gandb.cli.context import open_store, settings
from gandb.cli.output import emit, failures_reported, message
from gandb.core.errors import UsageError

if TYPE_CHECKING:
    from gandb.jobs.records import Job, JobSpec
    from gandb.store import Store

EPILOG = """Examples:

gandb check pgcgm:ternary@1

gandb check mattergen

gandb check ternary@1:test

gandb check matgan:balanced@1 --against oqmd@1

Verdicts are in the views structure_checks and checks, with the numbers behind them, under recipes
of their own:

gandb sql "SELECT structure_id, value FROM structure_checks WHERE check_name = 'radius_distances' \
AND value > 0.8"

gandb sql "SELECT passed, count(*) FROM checks WHERE check_name = 'novelty' GROUP BY passed" """

_COLUMNS = (
    "check", "passed", "failed", "errors", "of_structures", "of_samples", "mean", "unit", "why",
)  # fmt: skip


def check(
    ctx: typer.Context,
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE",
            help="A checkpoint (beginning of its id, MODEL:NAME@NUMBER), an external model, or a "
            "dataset version NAME@NUMBER[:SPLIT].",
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAME@NUMBER",
            help="Dataset version to compare compositions with, in place of checks on structures.",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Do it now, or leave it to a worker.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Judge structures: distances, density, neighbours, charges by bond valence, space groups.

    All candidates with structures are judged, or the structures of a dataset version, to see how
    real ones fare. Shares of samples are of all that were drawn: what is no crystal fails. With
    --against, judge instead whether the compositions of candidates are new.
    """
    with failures_reported():
        store = open_store(ctx)
        if against is not None:
            _novelty(ctx, store, reference, against, wait=wait, as_json=as_json)
        else:
            _structures(ctx, store, reference, wait=wait, as_json=as_json)


def _structures(
    ctx: typer.Context, store: Store, reference: str, *, wait: bool, as_json: bool
) -> None:
    from gandb.jobs import queue
    from gandb.tasks.judged_sets import find_set
    from gandb.tasks.structure_checks import structure_checks_job

    judged = find_set(store, reference)
    job = _asked(ctx, store, structure_checks_job(judged), judged.name, wait=wait)
    row: dict[str, Any] = {"job_id": job.short_id, "checked": judged.name}
    if not wait:
        emit([row | {"structures": judged.n_structures}], as_json=as_json)
        return
    result = queue.chunks(store, job.id)[-1]["result"]
    if as_json:
        emit([row | result], as_json=True)
        return
    message(
        f"{judged.name}: {result['structures']:,} structures, {result['samples']:,} samples, "
        f"{result['with_structure']:,} of them with a structure"
    )
    shown = [
        found
        | {"of_structures": _percent(found["of_structures"])}
        | {"of_samples": _percent(found["of_samples"])}
        | {"mean": None if found["mean"] is None else f"{found['mean']:.3f}"}
        | {"why": ", ".join(f"{why} {n:,}" for why, n in found["reasons"].items())}
        for found in result["checks"]
    ]
    emit(shown, as_json=False, columns=_COLUMNS)


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def _novelty(
    ctx: typer.Context, store: Store, reference: str, against: str, *, wait: bool, as_json: bool
) -> None:
    from gandb.datasets.versions import resolve
    from gandb.jobs import queue
    from gandb.tasks.data import find_checkpoint
    from gandb.tasks.novelty import novelty_job

    if "@" in reference.partition(":")[0]:
        raise UsageError(
            f"{reference} is a dataset version: --against judges the candidates of a checkpoint; "
            "to compare versions: gandb dataset diff"
        )
    found, version = find_checkpoint(store, reference), resolve(store, against)
    wanted = novelty_job(store, found, version)
    label = f"{found.reference} against {version.reference}"
    job = _asked(ctx, store, wanted, label, wait=wait)
    row: dict[str, Any] = {
        "job_id": job.short_id,
        "model": found.model,
        "against": version.reference,
    }
    if wait:
        row |= queue.chunks(store, job.id)[0]["result"]
        row["novelty"] = row["novel"] / max(row["candidates"], 1)
    emit([row], as_json=as_json)


def _asked(ctx: typer.Context, store: Store, wanted: JobSpec, label: str, *, wait: bool) -> Job:
    """Ask for a job, and do it if that is wanted."""
    from gandb.cli.running import ask, run_and_wait

    job = ask(store, wanted)
    if wait:
        (job,) = run_and_wait(store, settings(ctx), [job], threads=1, labels=[label])
    return job
