"""``gandb export``: a query's rows as a file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gandb.cli.output import failures_reported

EPILOG = """Examples:

gandb export "SELECT * FROM generated WHERE novel AND cnen_strict" -o novel.parquet

gandb export "SELECT reduced_formula FROM entries" --format csv | head"""


class ExportFormat(StrEnum):
    """The formats of an export."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


def export(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(help="One SELECT statement; - reads it from stdin.")],
    output_format: Annotated[
        ExportFormat | None,
        typer.Option("--format", help="Default: by the ending of --output."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file, written completely or not at all."),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.001, help="Give up after so many seconds."),
    ] = None,
) -> None:
    """Write a query's rows to a file or to stdout: CSV, JSON lines or Parquet, of any length."""
    with failures_reported():
        import sys

        from gandb.cli import results
        from gandb.cli.context import open_reader
        from gandb.core.errors import UsageError
        from gandb.query.formats import format_of
        from gandb.query.result import Limits

        chosen = output_format and output_format.value
        if chosen is None:
            guessed = None if output is None else format_of(output)
            if guessed is None or guessed.value not in set(ExportFormat):
                raise UsageError("say which format: --format csv, jsonl or parquet")
            chosen = guessed.value
        statement = sys.stdin.read() if query == "-" else query
        results.deliver(
            open_reader(ctx), statement, limits=Limits(timeout=timeout), output=output, name=chosen
        )
