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
