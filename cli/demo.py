"""``gandb demo``: the main job, from an empty directory to a report, on real records."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gandb.cli.context import with_store
from gandb.cli.output import console, failures_reported, message

if TYPE_CHECKING:
    from gandb.core.config import Settings
    from gandb.jobs.records import Job, JobSpec
    from gandb.store import Store

EPILOG = """Examples:

gandb demo

gandb demo tryout --samples 20000 --iterations 200"""

DATASET = "mp-balanced"
CONDITION = "source = 'mp' AND cnen_strict"
BASELINES = ("uniform", "element_frequency", "count_given_element", "substitution")

QUESTIONS = (
    (
        "Which novel, charge-balanced nitrides does MatGAN propose most often?",
        """SELECT reduced_formula, chemical_system, times_generated
FROM generated
WHERE model = 'matgan' AND novel AND cnen_strict
  AND elements @> ARRAY['N'] AND n_elements >= 3
ORDER BY times_generated DESC, reduced_formula
LIMIT 8""",
    ),
    (
        "What does each generator give: how many distinct candidates, how many novel and balanced?",
        """SELECT model, count(*) AS distinct_candidates,
       count(CASE WHEN novel AND cnen_strict THEN 1 END) AS novel_and_balanced,
       sum(times_generated) AS samples
FROM generated
GROUP BY model
ORDER BY novel_and_balanced DESC""",
    ),
    (
        "Which of MatGAN's candidates that MP does not list do OQMD or AFLOW know?",
        """SELECT g.reduced_formula, e.source, e.formation_energy_per_atom, e.band_gap,
       g.times_generated
FROM generated AS g
JOIN entries AS e ON e.composition_id = g.composition_id
WHERE g.model = 'matgan' AND g.novel AND g.cnen_strict AND e.source <> 'mp'
ORDER BY e.formation_energy_per_atom NULLS LAST, g.reduced_formula
LIMIT 8""",
    ),
)


def demo(
    ctx: typer.Context,
    directory: Annotated[
        Path, typer.Argument(help="Where to make the store and the report.")
    ] = Path("demo"),
    samples: Annotated[int, typer.Option(min=1, help="Samples of each generator.")] = 100_000,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Training iterations of MatGAN.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of training and sampling.")] = 0,
) -> None:
    """Import a sample of three databases, train MatGAN, generate, check, compare, ask."""
    with failures_reported():
        started = time.monotonic()
        chosen = with_store(ctx, str(directory / "store"))
        store = _open_or_make(chosen)
        _say(f"1. Importing a sample of OQMD, the Materials Project and AFLOW into {chosen.store}")
        _import_sample(store, chosen)
        _say(f"2. A dataset version: entries WHERE {CONDITION}")
        reference = _make_dataset(store)
        _say("3. Training MatGAN on its train split; fitting four baselines to the same")
        checkpoints = _train(store, chosen, reference, seed, iterations)
        _say(f"4. {samples:,} samples of each: reduced, deduplicated, checked, stored")
        jobs = _generate(store, chosen, checkpoints, samples, seed)
        _say("5. The model beside its baselines")
        page = _report(store, jobs, directory)
        _say("6. Three questions in SQL")
        _ask(store)
        message("")
        message(f"done in {time.monotonic() - started:.0f} s; open {page} in a browser")
        message("what to type next:")
        message(f"  export GANDB_STORE={chosen.store}")
        message("  gandb sql                          # a prompt; \\d lists tables and views")
        message("  gandb schema generated             # what every column means")
        message(f"  gandb generate matgan:{reference} -n 2000000 --seed 1 --wait")
        message("  gandb job list")


def _say(text: str) -> None:
    message("")
    message(text)


def _open_or_make(chosen: Settings) -> Store:
    """Open the store of an earlier run, so that an interrupted demo goes on, or make one."""
    from gandb.store import Store
    from gandb.store.engines import DUCKDB_FILE

    path = Path(str(chosen.store))
    if (path / DUCKDB_FILE).exists():
        message(f"going on with the store at {path}")
        return Store.open(chosen)
    return Store.create(chosen)


def _run(
    store: Store, chosen: Settings, wanted: list[JobSpec], labels: list[str], threads: int
) -> list[Job]:
    from gandb.cli.running import ask, run_and_wait

    jobs = [ask(store, spec) for spec in wanted]
    return run_and_wait(store, chosen, jobs, threads=threads, labels=labels)


def _import_sample(store: Store, chosen: Settings) -> None:
    from gandb.sources.sample import sample_files
    from gandb.tasks.importing import import_job

    files = sample_files()
    wanted = [import_job(name, paths, release="sample") for name, paths in files.items()]
    _run(store, chosen, wanted, [f"importing {name}" for name in files], threads=1)
    _show(
        store,
        "SELECT source, count(*) AS entries, count(DISTINCT composition_id) AS compositions, "
        "count(formation_energy_per_atom) AS formation_energies, count(band_gap) AS band_gaps, "
        "count(CASE WHEN cnen_strict THEN 1 END) AS balanced "
        "FROM entries GROUP BY source ORDER BY source",
    )


def _make_dataset(store: Store) -> str:
    from gandb.datasets import selection, versions

    chosen = selection.by_condition(store, CONDITION)
    version, _ = versions.create(store, DATASET, chosen, "strictly balanced formulas of MP")
    sizes = versions.split_sizes(store, version.id)
    parts = ", ".join(f"{name} {size['compositions']:,}" for name, size in sizes.items())
    message(f"{version.reference}: {version.n_entries:,} entries; compositions: {parts}")
    return version.reference


def _train(
    store: Store, chosen: Settings, reference: str, seed: int, iterations: int | None
) -> list[Any]:
    from gandb.datasets.versions import resolve
    from gandb.tasks.data import checkpoint_of_job
    from gandb.tasks.training import training_job

    version = resolve(store, reference)
    options = {"iterations": iterations or DEMO_ITERATIONS}
    wanted = [training_job("matgan", version, seed, options)]
    wanted += [training_job(name, version, seed) for name in BASELINES]
    labels = ["training matgan", *(f"fitting {name}" for name in BASELINES)]
    jobs = _run(store, chosen, wanted, labels, threads=2)
    return [checkpoint_of_job(store, job.id) for job in jobs]


def _generate(
    store: Store, chosen: Settings, checkpoints: list[Any], samples: int, seed: int
) -> list[Job]:
    from gandb.tasks.generation import generation_job

    wanted = [generation_job(c, samples, seed) for c in checkpoints]
    return _run(store, chosen, wanted, [c.model for c in checkpoints], threads=2)


def _report(store: Store, jobs: list[Job], directory: Path) -> Path:
    from gandb.reports import headlines, tables
    from gandb.reports.collect import collect
    from gandb.reports.publish import publish

    gathered = collect(store, jobs, "MatGAN and its baselines on a sample of MP")
    page = directory / "report.html"
    for _ in publish(gathered, page, directory / "figures"):
        pass
    out = console()
    out.print(tables.terminal(gathered))
    for line in headlines(gathered):
        out.print(line, markup=False)
    return page


def _ask(store: Store) -> None:
    for question, statement in QUESTIONS:
        message("")
        message(f"-- {question}")
        for line in statement.splitlines():
            message(f"   {line}")
        _show(store, statement)


def _show(store: Store, statement: str) -> None:
    from gandb.cli.output import emit
    from gandb.query.frames import query

    emit(query(store, statement).to_pylist(), as_json=False)


DEMO_ITERATIONS = 500
"""Training iterations of the demo: enough to beat the baselines clearly, in well under a minute."""
