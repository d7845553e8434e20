"""``gandb import``: tables of a database become entries."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gandb.cli.context import open_store, settings
from gandb.cli.output import emit, failures_reported, message

EPILOG = """Examples:

gandb import --sample

gandb import oqmd Formation_Enthalpy.csv.gz Bandgap.csv.gz

gandb import mp mine.csv --map energy=formation_energy_per_atom:kJ/mol --map name=formula

Files: CSV, TSV, JSONL, JSON, Parquet, also packed. Rows of several files that state one formula
once each are joined to one entry; a formula with several rows keeps each as its own entry."""


class JoinOption(StrEnum):
    """How rows of several files become entries."""

    FORMULA = "formula"
    NONE = "none"


def import_(
    ctx: typer.Context,
    source: Annotated[
        str | None, typer.Argument(metavar="oqmd|mp|aflow", help="The database.")
    ] = None,
    files: Annotated[list[Path] | None, typer.Argument(help="Its tables.")] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="Import the sample that comes with gandb.")
    ] = False,
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="COLUMN=MEANING",
            help="MEANING: formula, external_id, ignore or PROPERTY[:UNIT].",
        ),
    ] = None,
    join: Annotated[JoinOption, typer.Option(help="Join rows of several files.")] = (
        JoinOption.FORMULA
    ),
    release: Annotated[str | None, typer.Option(help="Release of the database.")] = None,
    query: Annotated[
        str | None, typer.Option("--filter", help="What was asked of the database.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse everything if one row is malformed.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Do it now, or leave it to a worker.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Import formula tables of OQMD, the Materials Project or AFLOW."""
    with failures_reported():
        from gandb.cli.running import ask, run_and_wait
        from gandb.core.errors import UsageError
        from gandb.jobs import queue
        from gandb.tasks.importing import import_job

        if sample == bool(source or files):
            raise UsageError("name a source and its files, or give --sample alone")
        store = open_store(ctx)
        options: dict[str, Any] = {
            "join": join.value,
            "release": release,
            "query": query,
            "strict": strict,
        }
        if sample:
            from gandb.sources.sample import sample_files

            wanted = [
                import_job(name, paths, **{**options, "release": release or "sample"})
                for name, paths in sample_files().items()
            ]
        else:
            if not files:
                raise UsageError(f"name the files to import from {source}")
            mapped = dict(_mapping(text) for text in mapping or [])
            wanted = [import_job(str(source), files, mapping=mapped, **options)]
        jobs = [ask(store, spec) for spec in wanted]
        before = {job.id: job.state.value for job in jobs}
        if wait:
            labels = [f"importing {spec.spec['source']}" for spec in wanted]
            jobs = run_and_wait(store, settings(ctx), jobs, threads=1, labels=labels)
        rows = []
        for job in jobs:
            row = {"job_id": job.short_id, "source": job.spec["source"], "state": job.state.value}
            for chunk in queue.chunks(store, job.id):
                row |= chunk["result"] or {}
            rows.append(row)
            if before[job.id] == "done":
                message(f"{job.spec['source']}: these files were imported before; nothing is new")
            elif row.get("rows_rejected"):
                message(
                    f"{job.spec['source']}: {row['rows_rejected']} rows were rejected; see: gandb "
                    f'sql "SELECT file, line, reason, raw FROM snapshot_reject WHERE '
                    f"snapshot_id = '{row['snapshot_id']}'\""
                )
        columns = [
            "source", "state", "rows_read", "rows_rejected", "entries", "entries_joined",
            "compositions", "job_id",
        ]  # fmt: skip
        emit(rows, as_json=as_json, columns=columns if wait else ["job_id", "source", "state"])


def _mapping(text: str) -> tuple[str, str]:
    from gandb.core.errors import UsageError

    column, equals, meaning = text.rpartition("=")
    if not equals or not column or not meaning:
        raise UsageError(f"cannot read --map {text!r}: write COLUMN=MEANING")
    return column, meaning
