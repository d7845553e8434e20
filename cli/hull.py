"""``gandb hull``: how stable structures are against the phases of a dataset version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gandb.cli.context import open_store, settings
from gandb.cli.output import emit, failures_reported, message

if TYPE_CHECKING:
    from gandb.jobs.records import Job
    from gandb.store import Store

EPILOG = """Examples:

gandb hull pgcgm:ternary@1 --against mp@1

gandb hull pgcgm:ternary@1 --against mp@1 --relaxed sevennet --energies total

gandb hull mp@1 --against mp@1 --reference-corrections mp2020

gandb sql "SELECT structure_id, energy_above_hull, decomposition FROM stability \
WHERE energy_above_hull <= 0.1 ORDER BY energy_above_hull LIMIT 50" """

_COLUMNS = (
    "structures", "judged", "stable_0", "stable_0.025", "stable_0.1", "median_above_hull",
    "unconverged", "failed", "missing_references",
)  # fmt: skip


def hull(
    ctx: typer.Context,
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REF",
            help="What to judge: a checkpoint or external model (its relaxed candidates), or a "
            "dataset version NAME@NUMBER[:SPLIT] (by the energies that its entries state).",
        ),
    ],
    against: Annotated[
        list[str],
        typer.Option(metavar="NAME@NUMBER", help="Whose entries make up the hull; repeatable."),
    ],
    relaxed: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="Which relaxation: beginning of its recipe's id, or of its potential's name.",
        ),
    ] = None,
    energies: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="formation, total, or potential: the references relaxed likewise. By default what "
            "most references state.",
        ),
    ] = None,
    corrections: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEME",
            help="What to add to energies by the potential: none or mp2020. By default as what it "
            "was trained on needs.",
        ),
    ] = None,
    reference_corrections: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEME",
            help="Of total energies of references: stated, none, or mp2020 (worked out anew).",
        ),
    ] = None,
    elements: Annotated[
        str | None,
        typer.Option(
            metavar="NAME@NUMBER",
            help="Whose entries of elements formation energies refer to; by default --against.",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Do it now, or leave it to a worker.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Work out energies above the hull, energies of formation, and what structures would become.

    Results are in the table stability, under a recipe that states all they depend on. Other
    references or energies make another recipe, and need no new relaxation.
    """
    with failures_reported():
        from gandb.cli.running import ask, run_and_wait
        from gandb.jobs import queue
        from gandb.tasks.judged_sets import find_set
        from gandb.tasks.stability import Choices, stability_job

        store = open_store(ctx)
        judged = find_set(store, reference)
        choices = Choices(relaxed, energies, corrections, reference_corrections, elements)
        job = ask(store, stability_job(store, judged, against, choices))
        row: dict[str, Any] = {"job_id": job.short_id, "judged_of": judged.name}
        if not wait:
            emit([row], as_json=as_json)
            return
        label = f"{judged.name} against {', '.join(against)}"
        (job,) = run_and_wait(store, settings(ctx), [job], threads=1, labels=[label])
        result = queue.chunks(store, job.id)[0]["result"]
        lacking = _elements(job)
        if as_json:
            emit([row | result | {"elements_missing": lacking}], as_json=True)
            return
        _show(judged.name, against, result)
        _tell_elements(store, job, lacking, result["missing_by_element"])


def _show(name: str, against: list[str], result: dict[str, Any]) -> None:
    """Print counts, and say what was compared with what."""
    kinds = {
        "formation": "energies of formation, as the references state them",
        "total": "total energies of the references"
        + f" ({result['reference_corrections']} corrections)",
        "potential": "energies of both by the same potential",
    }
    by = result["potential"]
    told = f"; {by}'s corrected by: {result['corrections']}" if by else ""
    message(f"{name} against {', '.join(against)}: {kinds[result['energies']]}{told}")
    message(f"the hull is of {result['references']:,} entries")
    for reason, n in result["references_left_out"].items():
        message(f"  without {n:,} more: {reason}")
    shown = {key: result[key] for key in _COLUMNS}
    if shown["median_above_hull"] is not None:
        shown["median_above_hull"] = f"{shown['median_above_hull']:.4f}"
    emit([shown | {"recipe": result["recipe_id"][:8]}], as_json=False)


def _elements(job: Job) -> dict[str, str]:
    """Return why elements have no reference, of those that formation energies refer to."""
    stated = job.spec.get("elements")
    return dict(stated["missing"]) if stated else {}


def _tell_elements(
    store: Store, job: Job, lacking: dict[str, str], missing: dict[str, int]
) -> None:
    """Say which references structures lack, and how to come by them."""
    from uuid import UUID

    from gandb.tasks.relaxed_energies import relax_options

    if not missing:
        return
    print()
    rows = [
        {
            "element": symbol,
            "structures": n,
            "why": lacking.get(symbol, "no entry of it is among the references of elements"),
        }
        for symbol, n in missing.items()
    ]
    emit(rows, as_json=False)
    unrelaxed = (job.spec.get("elements") or {}).get("unrelaxed", {})
    ids = sorted({unrelaxed[symbol] for symbol in missing if symbol in unrelaxed})
    if ids:
        listed = ", ".join(f"'{own}'" for own in ids)
        options = relax_options(store, UUID(job.spec["relaxation"]["recipe"]))
        message(
            f"\n{len(ids)} of these wait to be relaxed, by the same potential and settings as the "
            "others; then ask again:\n"
            f'gandb relax {options or ""} --sql "SELECT structure_id FROM structures '
            f'WHERE structure_id IN ({listed})"'
        )
