"""``gandb train``, ``gandb generate`` and ``gandb models``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gandb.cli.context import open_store, settings
from gandb.cli.output import emit, failures_reported, message

if TYPE_CHECKING:
    from gandb.tasks.data import Checkpoint

TRAIN_EPILOG = """Examples:

gandb train matgan balanced@1 --wait

gandb train matgan balanced@1 --set iterations=2000 --seed 1 --seed 2 --seed 3 --wait

gandb train matgan gaps@1 --condition band_gap=1,3 --wait (three classes: below 1, 1 to 3, above)

gandb train count_given_element balanced@1 --wait

gandb train pgcgm ternaries@1 --set iterations=2000 --wait (a model of crystals)"""

GENERATE_EPILOG = """Examples:

gandb generate matgan:balanced@1 -n 100000 --wait

gandb generate 3f2a81c0 -n 2000000 --seed 7 --device cuda --wait

gandb generate matgan:gaps@1 -n 10000 --condition band_gap=3.. --wait

gandb generate pgcgm:ternaries@1 -n 10000 --space-group 225 --space-group 221 --wait

gandb generate pgcgm:ternaries@1 -n 1000 --elements Li,Fe,O --wait

gandb generate composition_gan:oxides@1 -n 1000 --composition Mg2MnO4 --wait"""

MODELS_EPILOG = """Examples:

gandb models

gandb models --trained --json"""

_CHUNK, _CRYSTALS = 100_000, 1_000  # what is drawn where it is not said
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Do it now, or leave it to a worker.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]


def train(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A name from: gandb models")],
    dataset: Annotated[str, typer.Argument(metavar="NAME@NUMBER", help="The dataset version.")],
    seed: Annotated[
        list[int] | None, typer.Option(min=0, help="Seed; several train several. Default 0.")
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OPTION=VALUE", help="An option of the model."),
    ] = None,
    condition: Annotated[
        str | None,
        typer.Option(
            metavar="PROPERTY=EDGE[,EDGE...]", help="Train by classes of a property's value."
        ),
    ] = None,
    device: Device = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Threads for the network.")] = 1,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Train a model, or fit a baseline, on a dataset version's train split."""
    with failures_reported():
        from gandb.cli.running import ask, run_and_wait
        from gandb.datasets.versions import resolve
        from gandb.tasks.data import checkpoint_of_job
        from gandb.tasks.training import training_job

        store = open_store(ctx)
        version = resolve(store, dataset)
        chosen = dict(_option(text) for text in options or [])
        if condition is not None:
            chosen["condition"] = _classes(condition)
        wanted = [training_job(model, version, s, chosen, device, threads) for s in seed or [0]]
        jobs = [ask(store, spec) for spec in wanted]
        if not wait:
            _tell_queued(jobs, as_json)
            return
        labels = [f"training {model} (seed {spec.seed})" for spec in wanted]
        jobs = run_and_wait(store, settings(ctx), jobs, threads=1, labels=labels)
        made = [checkpoint_of_job(store, job.id) for job in jobs]
        emit([_checkpoint_row(c) for c in made], as_json=as_json)
        message(f"next: gandb generate {made[0].short_id} --wait")


def generate(
    ctx: typer.Context,
    checkpoint: Annotated[
        str,
        typer.Argument(metavar="CHECKPOINT", help="Beginning of its id, or MODEL:NAME@NUMBER."),
    ],
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--samples",
            min=1,
            help="Samples to draw; by default 100000 compositions or 1000 crystals.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed.")] = 0,
    condition: Annotated[
        str | None,
        typer.Option(metavar="PROPERTY=LOW..HIGH", help="Sample from classes in this range."),
    ] = None,
    elements: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Crystals of these elements, all of them."),
    ] = None,
    composition: Annotated[
        str | None, typer.Option(metavar="FORMULA", help="Crystals of this composition.")
    ] = None,
    space_groups: Annotated[
        list[int] | None,
        typer.Option("--space-group", min=1, max=230, help="Crystals of it; or of several."),
    ] = None,
    device: Device = "cpu",
    chunk_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Samples to a chunk, which is merged as a whole; by default 100000 compositions "
            "or 1000 crystals.",
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Chunks to work on at once.")] = 2,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Draw samples; they are reduced, deduplicated, checked and stored as candidates."""
    with failures_reported():
        from gandb.cli.running import ask, run_and_wait
        from gandb.core.errors import UsageError
        from gandb.generators import MODELS, STRUCTURES
        from gandb.tasks.data import find_checkpoint
        from gandb.tasks.generation import generation_job

        store = open_store(ctx)
        found = find_checkpoint(store, checkpoint)
        crystals = MODELS[found.model].makes == STRUCTURES if found.model in MODELS else False
        asked = None if condition is None else _range(condition)
        if crystals:
            asked = _request(asked, elements, composition, space_groups)
        elif elements or composition or space_groups:
            raise UsageError(
                f"{found.model} makes compositions: --elements, --composition and --space-group "
                "are for models of crystals, see gandb models"
            )
        size = chunk_size or (None if crystals else _CHUNK)
        n = n or (_CRYSTALS if crystals else _CHUNK)
        job = ask(store, generation_job(found, n, seed, device, asked, size))
        if not wait:
            _tell_queued([job], as_json)
            return
        label = f"{found.model}: {n:,} samples"
        (job,) = run_and_wait(store, settings(ctx), [job], threads=threads, labels=[label])
        from gandb.query.frames import query

        rows = query(
            store,
            "SELECT model, dataset, training_seed, generation_seed, n_samples, cnen_strict, "
            "cnen_default, uniqueness, novelty, recovery, job_id FROM leaderboard "
            f"WHERE job_id = '{job.id}'",
        ).to_pylist()
        emit(rows, as_json=as_json)
        if crystals:
            message(
                f"next: gandb check {found.short_id}; gandb identify; "
                f"gandb novelty {found.short_id} --against entries"
            )
        else:
            message(f"next: gandb report {job.short_id}")


def models(
    ctx: typer.Context,
    trained: Annotated[
        bool, typer.Option("--trained", help="List the checkpoints of the store instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the models that can be trained, or the checkpoints that were."""
    with failures_reported():
        if trained:
            from gandb.tasks.data import list_checkpoints

            emit([_checkpoint_row(c) for c in list_checkpoints(open_store(ctx))], as_json=as_json)
            return
        from gandb.generators import MODELS

        rows = [
            {
                "model": name,
                "role": "model" if m.trained else "baseline",
                "makes": m.makes,
                "about": m.about,
            }
            for name, m in MODELS.items()
        ]
        emit(rows, as_json=as_json)


def _tell_queued(jobs: Any, as_json: bool) -> None:
    rows = [{"job_id": j.short_id, "kind": j.kind, "state": j.state.value} for j in jobs]
    emit(rows, as_json=as_json)
    message("a worker does it: gandb worker")


def _checkpoint_row(found: Checkpoint) -> dict[str, Any]:
    return {
        "checkpoint_id": found.short_id,
        "model": found.model,
        "role": found.role,
        "dataset": found.dataset,
        "seed": found.seed,
        "iteration": found.iteration,
    }


def _option(text: str) -> tuple[str, Any]:
    from gandb.core.errors import UsageError

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"cannot read --set {text!r}: write OPTION=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _classes(text: str) -> dict[str, Any]:
    from gandb.core.errors import UsageError

    name, _, edges = text.partition("=")
    try:
        return {"property": name, "edges": [float(e) for e in edges.split(",")]}
    except ValueError:
        raise UsageError(
            f"cannot read --condition {text!r}: write PROPERTY=EDGE[,EDGE...], such as band_gap=1,3"
        ) from None


def _request(
    asked: dict[str, Any] | None,
    elements: str | None,
    composition: str | None,
    space_groups: list[int] | None,
) -> dict[str, Any] | None:
    """Return what is asked of crystals, as `gandb.generators.structures` takes it."""
    from gandb.core.errors import UsageError

    if asked:
        raise UsageError("--condition is for models of compositions")
    found: dict[str, Any] = {}
    if elements:
        found["elements"] = sorted(e.strip() for e in elements.replace("-", ",").split(","))
    if composition:
        found["composition"] = composition
    if space_groups:
        found["space_group"] = sorted(set(space_groups))
    return found or None


def _range(text: str) -> dict[str, Any]:
    from gandb.core.errors import UsageError

    name, _, bounds = text.partition("=")
    low, dots, high = bounds.partition("..")
    try:
        if not dots:
            raise ValueError(text)
        return {name: [float(low) if low else None, float(high) if high else None]}
    except ValueError:
        raise UsageError(
            f"cannot read --condition {text!r}: write PROPERTY=LOW..HIGH, such as band_gap=3.."
        ) from None
