"""``gandb structure``: crystal structures out of the store."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gandb.cli.context import open_reader, open_store
from gandb.cli.output import failures_reported, message, progress

app = typer.Typer(help="Get structures out of the store.", no_args_is_help=True)

_EXPORT_EPILOG = """Examples:

gandb structure export "SELECT structure_id FROM generated WHERE novel" -o novel.zip

gandb structure export "SELECT structure_id, entry_id, band_gap FROM entries" -o gaps.extxyz

gandb structure export "SELECT structure_id, entry_id FROM entries" -o all.parquet

Endings: .zip (cif), .extxyz, .db and .ase.json (ase), .json and .jsonl (pymatgen), .parquet
(lemat), .optimade.jsonl; a name without one is a folder of files. With entry_id in the query, what
is imported again under the name of its source has the same entry ids, except from POSCAR."""


_DRAW_EPILOG = """Examples:

gandb structure draw "SELECT structure_id, energy_above_hull FROM sun WHERE s_u_n_01 \
ORDER BY energy_above_hull LIMIT 50" -o best.png

gandb structure draw "SELECT structure_id FROM entries WHERE external_id = 'mp-149'" -o silicon.svg

gandb structure draw "SELECT structure_id FROM generated LIMIT 100" -o pictures (a folder)

The conventional cell is shown, with its atoms on faces, edges and corners at all their places, and
bonds up to 1.13 times the sum of the covalent radii; thin cells are repeated, which is written
beside them."""


class StructureFormat(StrEnum):
    """How one structure is written."""

    CIF = "cif"
    POSCAR = "poscar"
    JSON = "json"


class ExportFormat(StrEnum):
    """How many structures are written."""

    CIF = "cif"
    POSCAR = "poscar"
    JSON = "json"
    EXTXYZ = "extxyz"
    ASE = "ase"
    LEMAT = "lemat"
    OPTIMADE = "optimade"
    MATTERGEN = "mattergen"


@app.command(epilog="Example:\n\ngandb structure show 7eafb567 --format poscar")
def show(
    ctx: typer.Context,
    structure: Annotated[str, typer.Argument(help="Beginning of its id.")],
    form: Annotated[
        StructureFormat, typer.Option("--format", help="json is pymatgen's.")
    ] = StructureFormat.CIF,
) -> None:
    """Write one structure to stdout."""
    with failures_reported():
        from gandb.sharing.exports.structure_files import WRITERS
        from gandb.tasks.structures import find_structure

        own, crystal = find_structure(open_store(ctx), structure)
        print(WRITERS[form.value](crystal, str(own)), end="")


@app.command(epilog=_EXPORT_EPILOG)
def export(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(help="SQL with a column structure_id; others go along.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A new file or folder; never overwritten.")
    ],
    form: Annotated[
        ExportFormat | None, typer.Option("--format", help="Default: by the ending of --output.")
    ] = None,
    skip: Annotated[
        bool, typer.Option("--skip", help="Leave out and count what the format cannot hold.")
    ] = False,
) -> None:
    """Write the structures that a query selects, in a format that other programs read."""
    with failures_reported():
        from gandb.sharing.exports.structure_files import export_structures

        with progress("structures") as advance:
            last = 0

            def on_progress(done: int, total: int) -> None:
                nonlocal last
                del total
                advance(done - last)
                last = done

            done = export_structures(
                open_store(ctx),
                open_reader(ctx),
                query,
                output,
                form and form.value,
                skip=skip,
                on_progress=on_progress,
            )
        message(f"wrote {done.written:,} structures to {output}")
        for reason, n in done.skipped.items():
            message(f"left out {n:,}: {reason}")
        if len(done.sources) > 1:
            message(
                f"the entries are of {', '.join(done.sources)}: to have them with their ids "
                "elsewhere, export and import each source apart"
            )


@app.command(epilog=_DRAW_EPILOG)
def draw(
    ctx: typer.Context,
    query: Annotated[
        str,
        typer.Argument(help="SQL with a column structure_id; its other columns go into captions."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="FILE.png, .svg or .pdf for all, or a folder for one PNG each."
        ),
    ],
    columns: Annotated[int, typer.Option(min=1, help="Pictures beside each other in a file.")] = 5,
    relaxed: Annotated[
        bool, typer.Option("--relaxed", help="Draw what each was relaxed to.")
    ] = False,
    as_recorded: Annotated[
        bool, typer.Option("--as-recorded", help="Show the cell of the record.")
    ] = False,
) -> None:
    """Draw the structures that a query selects, in its order."""
    with failures_reported():
        from gandb.core.crystals import CrystalError
        from gandb.core.errors import UsageError
        from gandb.reports.collect_pictures import selected
        from gandb.reports.crystal_pictures import FORMS, grid
        from gandb.reports.crystal_pictures import draw as draw_one
        from gandb.reports.publish import write_file

        form = next((own for own in FORMS if output.suffix.lower() == f".{own}"), None)
        if form is None and output.suffix and not output.is_dir():
            raise UsageError(f"{output}: pictures end in .png, .svg or .pdf; else it is a folder")
        chosen = selected(open_store(ctx), open_reader(ctx), query, relaxed=relaxed)
        left_out = dict(chosen.left_out)
        drawn = 0
        if form is not None:
            all_of_them = [own.picture for own in chosen.found]
            write_file(output, grid(all_of_them, columns, form, as_recorded=as_recorded))
            drawn = len(all_of_them)
        elif not chosen.found:
            raise UsageError("there is no structure to draw")
        else:
            digits = len(str(len(chosen.found)))
            with progress("structures") as advance:
                for k, own in enumerate(chosen.found, 1):
                    try:
                        data = draw_one(own.picture, as_recorded=as_recorded)
                    except CrystalError as error:
                        left_out[str(error)] = left_out.get(str(error), 0) + 1
                    else:
                        write_file(output / f"{k:0{digits}d}-{own.name}.png", data)
                        drawn += 1
                    advance(1)
        message(f"wrote {drawn:,} {'picture' if drawn == 1 else 'pictures'} to {output}")
        for reason, n in left_out.items():
            message(f"left out {n:,}: {reason}")
