"""``gandb structure``: crystal structures out of the store."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gandb.cli.context import open_reader, open_store
from gandb.cli.output import failures_reported, message

app = typer.Typer(help="Get structures out of the store.", no_args_is_help=True)


class StructureFormat(StrEnum):
    """How structures are written."""

    CIF = "cif"
    POSCAR = "poscar"
    JSON = "json"


Form = Annotated[StructureFormat, typer.Option("--format", help="json is pymatgen's.")]


@app.command(epilog="Example:\n\ngandb structure show 7eafb567 --format poscar")
def show(
    ctx: typer.Context,
    structure: Annotated[str, typer.Argument(help="Beginning of its id.")],
    form: Form = StructureFormat.CIF,
) -> None:
    """Write one structure to stdout."""
    with failures_reported():
        from gandb.sharing.structure_files import WRITERS
        from gandb.tasks.structures import find_structure

        own, crystal = find_structure(open_store(ctx), structure)
        _, write = WRITERS[form.value]
        print(write(crystal, str(own)), end="")


@app.command(
    epilog='Example:\n\ngandb structure export "SELECT structure_id FROM generated '
    'WHERE novel" -o novel.zip'
)
def export(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(help="SQL with a column structure_id.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A new folder, or a zip file by its ending.")
    ],
    form: Form = StructureFormat.CIF,
) -> None:
    """Write the structures that a query selects, one file each."""
    with failures_reported():
        from gandb.sharing.structure_files import export_structures

        written = export_structures(open_store(ctx), open_reader(ctx), query, output, form.value)
        message(f"wrote {written:,} structures to {output}")
