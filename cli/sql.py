"""``gandb sql``: ask the store in SQL, once or at a prompt."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gandb.cli.output import failures_reported

if TYPE_CHECKING:
    from gandb.query.result import ReadableStore

EPILOG = """Examples:

gandb sql "SELECT reduced_formula, times_generated FROM generated WHERE novel LIMIT 10"

gandb sql --format csv --output nitrides.csv.gz < nitrides.sql

gandb sql --bundle results.zip "SELECT * FROM generated WHERE novel LIMIT 10"

gandb sql (a prompt, with history and completion)"""


class OutputFormat(StrEnum):
    """How results are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"
    MD = "md"


def sql(
    ctx: typer.Context,
    query: Annotated[
        str | None,
        typer.Argument(help="One SELECT statement; - reads it from stdin. None: a prompt."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="Read the statement from a file."),
    ] = None,
    output_format: Annotated[
        OutputFormat | None,
        typer.Option("--format", help="Default: by the ending of --output, else a table."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to a file, complete or not at all. .gz works."),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=0, help="Rows a table on a terminal shows; 0 shows all.")
    ] = 40,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.001, help="Cancel a query after so many seconds."),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Ask a bundle of gandb share pack, not the store; nothing is taken in."),
    ] = None,
) -> None:
    """Ask the store in SQL, read-only. Without a query on a terminal: a prompt."""
    with failures_reported():
        from gandb.cli import results
        from gandb.core.errors import UsageError
        from gandb.query.result import Limits

        if as_json and output_format not in (None, OutputFormat.JSON):
            raise UsageError(f"--json and --format {output_format} contradict each other")
        chosen = OutputFormat.JSON.value if as_json else output_format and output_format.value
        statement = _statement(query, file)
        limits = Limits(timeout=timeout)
        if statement is None and output is not None:
            raise UsageError("--output needs a query")
        with _reader(ctx, bundle) as reader:
            if statement is None:
                from gandb.cli.prompt import Prompt

                Prompt(reader, limits=limits, rows=limit, output_format=chosen).loop()
                return
            results.deliver(
                reader, statement, limits=limits, output=output, name=chosen, rows=limit
            )


@contextmanager
def _reader(ctx: typer.Context, bundle: Path | None) -> Iterator[ReadableStore]:
    """Open the store, or a bundle, for queries."""
    if bundle is None:
        from gandb.cli.context import open_reader

        yield open_reader(ctx)
        return
    from gandb.sharing.bundles.bundle import open_bundle
    from gandb.sharing.bundles.in_place import reading

    with open_bundle(bundle) as opened, reading(opened) as reader:
        yield reader


def _statement(query: str | None, file: Path | None) -> str | None:
    """Find the statement: argument, file, stdin; None asks for a prompt."""
    from gandb.core.errors import InputError, UsageError

    if file is not None:
        if query is not None:
            raise UsageError("give a query or --file, not both")
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {file}: {error}") from error
    if query == "-" or (query is None and not sys.stdin.isatty()):
        return sys.stdin.read()
    return query
