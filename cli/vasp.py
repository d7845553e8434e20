"""``gandb vasp``: structures handed to VASP, and results read back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gandb.cli.context import open_store, settings
from gandb.cli.output import emit, failures_reported, message, progress

app = typer.Typer(
    help="Hand structures to VASP, and read results back.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

WRITE_EPILOG = """Examples:

gandb vasp write --sql "SELECT structure_id FROM sun WHERE s_u_n_01 ORDER BY energy_above_hull \
LIMIT 50" --to best --set MPRelaxSet --relaxed

gandb vasp write pgcgm:ternary@1 --sample 20 --to few --set MPStaticSet --incar ENCUT=600"""

READ_EPILOG = """Examples:

gandb vasp read best --source dft

gandb dataset create dft --where "source = 'dft'"

gandb hull pgcgm:ternary@1 --against dft@1 --against mp@1 --energies total"""


@app.command(epilog=WRITE_EPILOG)
def write(
    ctx: typer.Context,
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder.")],
    reference: Annotated[
        str | None,
        typer.Argument(
            metavar="REF",
            help="Whose structures: a checkpoint, an external model or a generation job "
            "(candidates), or NAME@NUMBER[:SPLIT].",
        ),
    ] = None,
    sql: Annotated[
        str | None,
        typer.Option("--sql", metavar="SQL", help="A query for structure_id, instead of REF."),
    ] = None,
    input_set: Annotated[
        str,
        typer.Option("--set", metavar="NAME", help="Input set of pymatgen; a wrong one lists all."),
    ] = "MPRelaxSet",
    relaxed: Annotated[
        bool,
        typer.Option("--relaxed/--as-they-are", help="Write what gandb relax made of them."),
    ] = False,
    relaxation: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="With --relaxed, by which: beginning of the recipe's id or the potential's name.",
        ),
    ] = None,
    incar: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A setting over those of the set; repeatable."),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Write so many of them, drawn at random.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a folder of VASP inputs for each structure, with a gandb.json that names it.

    POTCAR is written where pymatgen knows your licensed files (PMG_VASP_PSP_DIR), else POTCAR.spec.
    """
    with failures_reported():
        from gandb.core.errors import UsageError
        from gandb.schema.tables import structure
        from gandb.sharing.vasp import incar_settings, write_inputs
        from gandb.tasks.choosing import choose
        from gandb.tasks.relaxed_energies import find_relaxation

        if relaxation is not None and not relaxed:
            raise UsageError("--relaxation says which relaxed structures: add --relaxed")
        store = open_store(ctx)
        chosen = choose(store, reference, sql=sql, sample=sample, seed=seed)
        recipe = None
        if relaxed:
            import sqlalchemy as sa

            own = sa.select(structure.c.id).where(structure.c.id.in_(chosen.ids))
            recipe = find_relaxation(store, own, relaxation).id
        with progress("inputs", len(chosen.ids), unit="structures") as advance:
            said = 0

            def tell(done: int) -> None:
                nonlocal said
                advance(done - said)
                said = done

            written = write_inputs(
                store,
                chosen.ids,
                to,
                input_set,
                relaxation=recipe,
                incar=incar_settings(incar or []),
                progress=tell,
            )
        row: dict[str, Any] = {
            "folder": str(to),
            "structures": written.folders,
            "input_set": input_set,
            "potcar": "POTCAR" if written.potcar else "POTCAR.spec",
        }
        emit([row], as_json=as_json)
        for why, n in written.left_out.items():
            message(f"{n:,} left out: {why}")
        if not written.potcar:
            message(
                "POTCARs are licensed: POTCAR.spec names them; with PMG_VASP_PSP_DIR set for "
                "pymatgen they are written"
            )


@app.command(epilog=READ_EPILOG)
def read(
    ctx: typer.Context,
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="What gandb vasp write made.")
    ],
    source: Annotated[str, typer.Option(metavar="NAME", help="What to call the results' source.")],
    licence: Annotated[str | None, typer.Option(help="Of the results.")] = None,
    attribution: Annotated[str | None, typer.Option(help="Whom to cite for them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read vasprun.xml of each folder back as entries, with the structures they came from.

    Read again when more are done: what is there does not come twice.
    """
    with failures_reported():
        from gandb.cli.running import ask, run_and_wait
        from gandb.jobs import queue
        from gandb.sharing.vasp_results import collect_results
        from gandb.tasks.records import records_job

        store = open_store(ctx)
        with progress("results", unit="folders") as advance:
            found = collect_results(folder, lambda _: advance(1))
        for name, why in found.left_out.items():
            message(f"{name}: {why}")
        wanted = records_job(
            source,
            [found.path],
            form="computed-entries",
            licence=licence,
            attribution=attribution,
        )
        (job,) = run_and_wait(
            store, settings(ctx), [ask(store, wanted)], threads=1, labels=["import"]
        )
        result = queue.chunks(store, job.id)[0]["result"]
        row = {"job_id": job.short_id, "source": source, "results": found.n}
        emit([row | {"left_out": len(found.left_out)} | dict(result)], as_json=as_json)
