"""``gandb schema``: the data dictionary."""

from __future__ import annotations

from typing import Annotated

import typer

from gandb.cli.output import emit, failures_reported

EPILOG = """Examples:

gandb schema

gandb schema generated

gandb schema entry --json"""


def schema(
    name: Annotated[str | None, typer.Argument(metavar="TABLE|VIEW", help="One of them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the data dictionary: meaning, unit and provenance of every column."""
    with failures_reported():
        from gandb.schema.dictionary import describe, relations

        if name is None:
            emit(relations(), as_json=as_json)
            return
        emit(describe(name), as_json=as_json)
