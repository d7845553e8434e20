"""``gandb sun``: how many candidates are stable, unique and novel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gandb.cli.context import open_store
from gandb.cli.output import emit, failures_reported, message

if TYPE_CHECKING:
    from gandb.reports.sun import SunTable

EPILOG = """Examples:

gandb sun pgcgm:ternary@1 random_wyckoff:ternary@1

gandb sun pgcgm:ternary@1 --stable 0 --stable 0.05 --against mp@1

gandb sql "SELECT reduced_formula, energy_above_hull, structure_id FROM sun WHERE s_u_n_01 \
ORDER BY energy_above_hull LIMIT 50" """


def sun(
    ctx: typer.Context,
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT...",
            help="Beginning of its id, MODEL:NAME@NUMBER, or an external model.",
        ),
    ],
    stable: Annotated[
        list[float] | None,
        typer.Option(
            metavar="EV_PER_ATOM", help="Stable up to so far above the hull; repeatable [0, 0.1]."
        ),
    ] = None,
    valid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHECK",
            help="A check that valid structures pass; repeatable [structural_validity].",
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REFERENCE",
            help="References of novelty, as gandb novelty was given them [those of last time].",
        ),
    ] = None,
    hull: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE", help="Beginning of the id of gandb hull's recipe [that of last time]."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print shares of samples that are valid, unique, novel and stable, with 95 % intervals.

    Nothing is relaxed or compared anew: give another tolerance, reference or hull, and read again.
    """
    with failures_reported():
        from gandb.reports.sun import STABLE, VALID, sun_table
        from gandb.tasks.data import find_checkpoint

        store = open_store(ctx)
        found = [
            sun_table(
                store,
                find_checkpoint(store, text),
                stable=stable or STABLE,
                valid=valid or VALID,
                against=against or (),
                stability=hull,
            )
            for text in checkpoints
        ]
        if as_json:
            emit([_plain(table) for table in found], as_json=True)
            return
        for table in found:
            _show(table)
        message(_ESTIMATOR)


_ESTIMATOR = (
    "\nS.U.N. is (n / N) (k / m): of N samples n are valid, unique and novel; of these m were "
    "relaxed, taken to be a random sample, and k are stable. Not converged, failed, or without a "
    "reference counts as not stable. Intervals: 95 %, Wilson's; of the product by MOVER."
)


def _show(table: SunTable) -> None:
    """Print one table with what it rests on."""
    message(
        f"\n{table.checkpoint}: N = {table.samples:,} samples, {table.candidates:,} distinct "
        f"crystals; n = {table.passed:,}, m = {table.relaxed:,}"
    )
    for kind, words in table.recipes.words.items():
        message(f"  {kind}: {words}")
    lost = ", ".join(f"{n:,} {why}" for why, n in table.unjudged.items() if n)
    if lost:
        message(f"  of the {table.relaxed:,} relaxed, not stable as: {lost}")
    emit(
        [
            {
                "share": line.what,
                "count": line.count,
                "of": line.total,
                "percent": _percent(line.estimate.value),
                "low": _percent(line.estimate.low),
                "high": _percent(line.estimate.high),
            }
            for line in table.lines
        ],
        as_json=False,
    )


def _percent(value: float) -> str | None:
    return None if math.isnan(value) else f"{100 * value:.2f}"


def _plain(table: SunTable) -> dict[str, Any]:
    recipes = table.recipes
    named = {
        "novelty": recipes.novelty,
        "relaxed_novelty": recipes.relaxed_novelty,
        "relaxation": recipes.relaxation,
        "stability": recipes.stability,
        **recipes.checks,
    }
    return {
        "checkpoint": table.checkpoint,
        "samples": table.samples,
        "candidates": table.candidates,
        "passed": table.passed,
        "relaxed": table.relaxed,
        "unjudged": dict(table.unjudged),
        "recipes": {kind: None if own is None else str(own) for kind, own in named.items()},
        "shares": [
            {
                "share": line.what,
                "count": line.count,
                "of": line.total,
                "value": _number(line.estimate.value),
                "low": _number(line.estimate.low),
                "high": _number(line.estimate.high),
            }
            for line in table.lines
        ],
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
