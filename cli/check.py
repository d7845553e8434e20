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
    from gandb.tasks.coverage import CoverageOptions
    from gandb.validation.coverage import Cutoffs

EPILOG = """Examples:

gandb check pgcgm:ternary@1

gandb check mattergen

gandb check ternary@1:test

gandb check pgcgm:ternary@1 --coverage ternary@1:test

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
    coverage: Annotated[
        str | None,
        typer.Option(
            metavar="NAME@NUMBER[:SPLIT]",
            help="Real structures that the candidates should cover (COV, Wasserstein distances).",
        ),
    ] = None,
    cutoffs: Annotated[
        str,
        typer.Option(
            metavar="SET|STRUCTURE,COMPOSITION",
            help="With --coverage: how near is near; mp20 (0.4,10), perov5 or carbon24 (0.2,4).",
        ),
    ] = "mp20",
    samples: Annotated[
        int, typer.Option(help="With --coverage: valid samples for Wasserstein distances.")
    ] = 1_000,
    most: Annotated[
        int, typer.Option(help="With --coverage: structures of either set to compare, at most.")
    ] = 10_000,
    energies: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE", help="With --coverage: compare energies of this relaxation recipe."
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
    --against, judge instead whether the compositions of candidates are new; with --coverage, how
    well they cover real structures, by fingerprints (about 0.2 s for each structure).
    """
    with failures_reported():
        if against is not None and coverage is not None:
            raise UsageError("ask for --against or for --coverage, one at a time")
        store = open_store(ctx)
        if coverage is not None:
            from gandb.tasks.coverage import CoverageOptions, find_energies

            options = CoverageOptions(
                cutoffs=_cutoffs(cutoffs),
                samples=samples,
                energies=None if energies is None else find_energies(store, energies),
            )
            _coverage(ctx, store, reference, coverage, options, most, wait=wait, as_json=as_json)
        elif against is not None:
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


def _cutoffs(text: str) -> Cutoffs:
    from gandb.validation.coverage import CUTOFFS, Cutoffs

    if text in CUTOFFS:
        return CUTOFFS[text]
    try:
        structure, composition = map(float, text.split(","))
    except ValueError:
        raise UsageError(
            f"cut-offs are {text!r}; give one of {', '.join(CUTOFFS)}, or two numbers as in 0.4,10"
        ) from None
    return Cutoffs(structure, composition)


def _coverage(
    ctx: typer.Context,
    store: Store,
    reference: str,
    against: str,
    options: CoverageOptions,
    most: int,
    *,
    wait: bool,
    as_json: bool,
) -> None:
    from gandb.jobs import queue
    from gandb.jobs.records import State
    from gandb.tasks.coverage import coverage_job
    from gandb.tasks.fingerprinting import fingerprints_job
    from gandb.tasks.judged_sets import find_set

    sets = find_set(store, reference), find_set(store, against)
    prints = [
        _asked(ctx, store, fingerprints_job(own, most), f"fingerprints of {own.name}", wait=wait)
        for own in sets
    ]
    rows: list[dict[str, Any]] = [{"job_id": job.short_id, "kind": job.kind} for job in prints]
    if any(job.state is not State.DONE for job in prints):
        message("when the fingerprints are done, give the command again for the comparison")
        emit(rows, as_json=as_json)
        return
    wanted = coverage_job(*sets, (prints[0].id, prints[1].id), options)
    label = f"{sets[0].name} against {sets[1].name}"
    job = _asked(ctx, store, wanted, label, wait=wait)
    row: dict[str, Any] = {"job_id": job.short_id, "checked": sets[0].name, "against": sets[1].name}
    if not wait:
        emit([row], as_json=as_json)
        return
    result = queue.chunks(store, job.id)[0]["result"]
    if as_json:
        emit([row | result], as_json=True)
        return
    message(
        f"{label}: {result['compared']:,} of {result['samples']:,} samples, {result['valid']:,} of "
        f"them valid, with {result['reference']:,} real structures"
    )
    for name in ("failures", "reference_failures"):
        for why, n in result[name].items():
            message(f"{name.replace('_', ' ')}: {n:,} without fingerprint: {why}")
    shown = [{"metric": k, "value": round(v, 4)} for k, v in result["metrics"].items()]
    emit(shown, as_json=False)


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
