"""``gandb identify``, ``gandb match`` and ``gandb novelty``: what is the same, and what is new."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gandb.cli.context import open_store, settings
from gandb.cli.output import emit, failures_reported, message
from gandb.core.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from gandb.core.crystals import Crystal
    from gandb.identity.explaining import Match
    from gandb.identity.recipes import MatchRecipe
    from gandb.jobs.records import Job, JobSpec
    from gandb.store import Store
    from gandb.tasks.data import Checkpoint
    from gandb.tasks.relaxed_energies import Recipe

IDENTIFY_EPILOG = """Examples:

gandb identify

gandb sql "SELECT * FROM materials WHERE n_structures > 1 ORDER BY n_structures DESC LIMIT 10"

gandb sql "SELECT * FROM match_evidence WHERE matched AND NOT (forward AND backward)" """

MATCH_EPILOG = """Examples:

gandb match quartz.cif other/POSCAR

gandb match mp-7000 0b7c1f3a --stol 0.2 --json"""

NOVELTY_EPILOG = """Examples:

gandb novelty mattergen --against entries

gandb novelty cubicgan:ternary@2 --against training --against earlier

gandb novelty cubicgan:ternary@2 --against training --relaxed

gandb sql "SELECT reduced_formula, grade, rms FROM novelty WHERE structure_id = representative_id \
AND grade <> 'known'" """


class ComparatorOption(StrEnum):
    """What is alike on two sites."""

    ELEMENT = "element"
    SPECIES = "species"


Tolerances = dict[str, Any]
"""Options of a `gandb.identity.recipes.MatchRecipe`, by name."""
TOLERANCES: dict[str, tuple[Any, Any]] = {
    "ltol": (
        Annotated[float, typer.Option(help="How far lattice vectors may differ, as a fraction.")],
        0.2,
    ),
    "stol": (
        Annotated[
            float, typer.Option(help="How far sites may lie apart, in (volume / sites)^(1/3).")
        ],
        0.3,
    ),
    "angle_tol": (Annotated[float, typer.Option(help="How far angles may differ, degrees.")], 5.0),
    "comparator": (
        Annotated[
            ComparatorOption,
            typer.Option(help="species: tell oxidation states apart, as pymatgen does."),
        ],
        ComparatorOption.ELEMENT,
    ),
}
"""What a command that compares takes: type with help, and default."""
Primitive = Annotated[bool, typer.Option("--primitive/--as-given", help="Reduce cells first.")]
Scale = Annotated[bool, typer.Option("--scale/--no-scale", help="Bring both to one volume.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Do it now, or leave it to a worker.")]


def takes_tolerances(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options `TOLERANCES`, in place of its first parameter."""
    own = inspect.signature(command, eval_str=True)
    options = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
        )
        for name, (annotation, default) in TOLERANCES.items()
    ]

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in TOLERANCES}
        command(chosen | {"comparator": chosen["comparator"].value}, **given)

    rest = [p.replace(kind=p.KEYWORD_ONLY) for p in list(own.parameters.values())[1:]]
    plain = [p for p in rest if p.default is p.empty]
    optional = [p for p in rest if p.default is not p.empty]
    with_options.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[*plain, *options, *optional]
    )
    return with_options


@takes_tolerances
def identify(
    tolerances: Tolerances,
    ctx: typer.Context,
    wait: Wait = True,
    as_json: Json = False,
) -> None:
    """Find out which structures of the store are the same material.

    New ones are compared with all others; what was found before stays. The defaults are the
    tolerances of pymatgen's StructureMatcher.
    """
    with failures_reported():
        from gandb.identity.recipes import MatchRecipe
        from gandb.jobs import queue
        from gandb.tasks.identity import identify_job
        from gandb.tasks.keys import keys_job
        from gandb.tasks.structures import has_structures

        recipe = MatchRecipe(**tolerances)
        store = open_store(ctx)
        rows: list[dict[str, Any]] = []
        for label, wanted in (("keys", keys_job), ("identify", lambda s: identify_job(s, recipe))):
            jobs = _all_asked(ctx, store, label, wanted, wait)
            if not jobs:
                continue
            job = jobs[-1]
            row: dict[str, Any] = {"job_id": job.short_id, "kind": job.kind}
            if wait:
                results = [chunk["result"] or {} for chunk in queue.chunks(store, job.id)]
                row |= {k: sum(r.get(k, 0) for r in results) for k in results[0]}
            elif job.kind == "keys":
                message("when the keys are done, give the command again for the comparisons")
                rows.append(row)
                break
            rows.append(row)
        if not rows:
            message(
                "nothing is new: every structure has its material"
                if has_structures(store)
                else "no structure is in the store yet; begin with: gandb import"
            )
        if rows or as_json:
            emit(rows[-1:], as_json=as_json)


def _all_asked(
    ctx: typer.Context,
    store: Store,
    label: str,
    wanted: Callable[[Store], JobSpec | None],
    wait: bool,
) -> list[Job]:
    """Ask for what there is to do, first what was begun before; if that is wanted, do it all."""
    jobs: list[Job] = []
    while (spec := wanted(store)) is not None and spec.id not in {job.id for job in jobs}:
        jobs.append(_asked(ctx, store, label, spec, wait))
        if not wait:
            break
    return jobs


def _asked(ctx: typer.Context, store: Store, label: str, wanted: JobSpec, wait: bool) -> Job:
    """Ask for a job, and do it if that is wanted."""
    from gandb.cli.running import ask, run_and_wait

    job = ask(store, wanted)
    if wait:
        (job,) = run_and_wait(store, settings(ctx), [job], threads=1, labels=[label])
    return job


@takes_tolerances
def novelty(
    tolerances: Tolerances,
    ctx: typer.Context,
    candidates: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Beginning of its id, MODEL:NAME@NUMBER, or an external model.",
        ),
    ],
    against: Annotated[
        list[str],
        typer.Option(
            metavar="REFERENCE",
            help="NAME@NUMBER[:SPLIT], entries (all), training, earlier, or a model; repeatable.",
        ),
    ],
    relaxed: Annotated[
        bool,
        typer.Option(
            "--relaxed/--as-generated",
            help="Judge what gandb relax made of them, of those that it relaxed.",
        ),
    ] = False,
    relaxation: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="With --relaxed, by which: beginning of the recipe's id or the potential's name.",
        ),
    ] = None,
    wait: Wait = True,
    as_json: Json = False,
) -> None:
    """Say how many candidates with structures are unique, and what is new in them.

    known: a structure of the reference matches. structure: the composition is known. prototype: it
    is, but none of its structures has this symmetry. substitution: it is new, but a known structure
    matches once elements are renamed. composition: all is new.
    """
    with failures_reported():
        from gandb.identity.recipes import MatchRecipe
        from gandb.jobs import queue
        from gandb.tasks.data import find_checkpoint
        from gandb.tasks.keys import keys_job
        from gandb.tasks.structure_novelty import structure_novelty_job

        recipe = MatchRecipe(**tolerances)
        store = open_store(ctx)
        found = find_checkpoint(store, candidates)
        if relaxation is not None and not relaxed:
            raise UsageError("--relaxation says which relaxed structures are judged: add --relaxed")
        by = _relaxation(store, found, relaxation) if relaxed else None
        wanted = structure_novelty_job(store, found, against, recipe, by)
        if (jobs := _all_asked(ctx, store, "keys", keys_job, wait)) and not wait:
            message("when the keys are done, give the command again for the comparisons")
            emit([{"job_id": job.short_id, "kind": job.kind} for job in jobs], as_json=as_json)
            return
        what = f"{found.reference}{', relaxed,' if by else ''} against {', '.join(against)}"
        job = _asked(ctx, store, what, wanted, wait)
        row: dict[str, Any] = {"job_id": job.short_id, "model": found.model}
        if wait:
            row |= queue.chunks(store, job.id)[0]["result"]
        emit([row], as_json=as_json)


def _relaxation(store: Store, checkpoint: Checkpoint, text: str | None) -> Recipe:
    """Find the recipe by which a checkpoint's candidates were relaxed."""
    from gandb.tasks.references import candidate_structures, generation_jobs
    from gandb.tasks.relaxed_energies import find_relaxation

    structures = candidate_structures(generation_jobs(store, checkpoint))
    return find_relaxation(store, structures, text)


@takes_tolerances
def match(
    tolerances: Tolerances,
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(help="A file of one structure, or an id in the store.")],
    b: Annotated[str, typer.Argument(help="Another.")],
    primitive: Primitive = True,
    scale: Scale = True,
    as_json: Json = False,
) -> None:
    """Compare two structures: are they the same, how far apart, by which mapping, and why (not).

    The verdict is that of pymatgen's StructureMatcher.
    """
    with failures_reported():
        from gandb.identity.explaining import match as compare
        from gandb.identity.recipes import MatchRecipe

        recipe = MatchRecipe(**tolerances, primitive_cell=primitive, scale=scale)
        found = compare(_structure(ctx, a), _structure(ctx, b), recipe)
        _show(found, recipe, as_json=as_json)


def _structure(ctx: typer.Context, text: str) -> Crystal:
    if text.strip() and Path(text).exists():
        from gandb.sources.reading import read_crystal

        return read_crystal(Path(text))
    if not settings(ctx).store:
        raise NotFoundError(f"there is no file {text!r}, and no store is named to look it up in")
    from gandb.tasks.structures import find_structure

    try:
        return find_structure(open_store(ctx), text)[1]
    except NotFoundError as error:
        raise NotFoundError(f"there is no file {text!r}, and {error}") from None


def _show(found: Match, recipe: MatchRecipe, *, as_json: bool) -> None:
    """Print what was found: facts, then how the one lies on the other."""
    facts: dict[str, Any] = {
        "match": found.forward or found.backward,
        "forward": found.forward,
        "backward": found.backward,
        "why": found.reason,
        "rms": found.rms,
        "rms_angstrom": found.rms_angstrom,
        "max_distance": found.max_distance,
        "max_distance_angstrom": found.max_distance_angstrom,
    }
    lattice = [] if found.lattice_mapping is None else found.lattice_mapping.tolist()
    shift = [] if found.translation is None else _rounded(found.translation, 6)
    sites = [] if found.site_mapping is None else found.site_mapping.tolist()
    pairs = [
        {
            "a": place,
            "b": number,
            "species": found.second.species[number],
            "a_coords": _rounded(found.first.frac_coords[place], 4),
            "b_coords": _rounded(found.second.frac_coords[number], 4),
        }
        for number, place in enumerate(sites)
    ]
    if as_json:
        mapping = {"lattice_mapping": lattice, "translation": shift, "sites": pairs}
        cells = {"a_cell": found.first.lattice.tolist(), "b_cell": found.second.lattice.tolist()}
        emit([facts | mapping | cells | {"recipe": recipe.parameters()}], as_json=True)
        return
    emit([{"what": k, "value": _said(v)} for k, v in facts.items() if v is not None], as_json=False)
    if pairs:
        print(
            f"\ncell of b from that of a: {lattice}, shift of b: {shift}; sites of reduced cells:"
        )
        emit(pairs, as_json=False)


def _rounded(values: Any, digits: int) -> list[float]:
    return [round(x, digits) + 0.0 for x in values.tolist()]  # no -0.0


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6f}" if isinstance(value, float) else str(value)
