"""``gandb import``: what a database, a server or another model gave, into the store."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gandb.cli.context import open_store, settings
from gandb.cli.output import emit, failures_reported, message

if TYPE_CHECKING:
    from gandb.jobs.records import JobSpec
    from gandb.store import Store

EPILOG = """Examples:

gandb import --sample

gandb import --sample-crystals

gandb import oqmd Formation_Enthalpy.csv.gz Bandgap.csv.gz (formula tables)

gandb import mp mine.csv --map energy=formation_energy_per_atom:kJ/mol --map name=formula

gandb import icsd cifs.zip more/ --licence "ICSD, not to be passed on" (structures)

gandb import oqmd oqmd.sql.gz (a MySQL dump)

gandb import oqmd --live --filter "elements HAS 'N' AND nelements=2"

gandb import candidates out.zip --model mattergen --origin dataset=alex-mp-20

gandb import candidates random.zip --model random-search --role baseline

The format is told from each file: CIF, POSCAR, extxyz, ASE and pymatgen files, OPTIMADE pages,
the databases' own answers and dumps, tables with a structure column or a formula column; folders,
zip and tar archives of them. See: gandb source list"""

CANDIDATES = "candidates"
_FOLDERS = 8  # that are named one by one


class RoleOption(StrEnum):
    """What candidates are compared as."""

    EXTERNAL = "external"
    BASELINE = "baseline"


class JoinOption(StrEnum):
    """How rows of several files become entries."""

    FORMULA = "formula"
    NONE = "none"


def import_(
    ctx: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="oqmd, mp, aflow, any other name, or: candidates (of another model).",
        ),
    ] = None,
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files, folders, zip and tar archives.")
    ] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="Import the sample that comes with gandb.")
    ] = False,
    sample_crystals: Annotated[
        bool,
        typer.Option("--sample-crystals", help="Import the crystals that come with gandb."),
    ] = False,
    form: Annotated[
        str | None, typer.Option("--format", help="Insist on a format; table: formulas.")
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="COLUMN=MEANING",
            help="Formula tables. MEANING: formula, external_id, ignore or PROPERTY[:UNIT].",
        ),
    ] = None,
    join: Annotated[JoinOption, typer.Option(help="Join rows of several formula tables.")] = (
        JoinOption.FORMULA
    ),
    release: Annotated[str | None, typer.Option(help="Release of the database.")] = None,
    query: Annotated[
        str | None,
        typer.Option("--filter", help="What was asked of the database; live: what to ask."),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Ask the database's server.")] = False,
    endpoint: Annotated[str | None, typer.Option(help="Live: another address.")] = None,
    fields: Annotated[
        str | None, typer.Option(help="Live: fields to ask for, separated by commas.")
    ] = None,
    page_size: Annotated[int | None, typer.Option(min=1, help="Live: records per answer.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Live: most records.")] = None,
    keep_raw: Annotated[
        bool | None,
        typer.Option(
            "--keep-raw/--no-keep-raw",
            help="Keep what was read, to parse it again; on for --live, off for files.",
        ),
    ] = None,
    symprec: Annotated[
        float | None,
        typer.Option(help="Search the symmetry with this tolerance (Å) as well as 0.01."),
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Terms of the data.")] = None,
    attribution: Annotated[str | None, typer.Option(help="Whom to cite for the data.")] = None,
    model: Annotated[
        str | None, typer.Option(help="candidates: the model that generated them.")
    ] = None,
    model_version: Annotated[str | None, typer.Option(help="candidates: its version.")] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="candidates: what is known of their origin."),
    ] = None,
    role: Annotated[
        RoleOption, typer.Option(help="candidates: of a model, or of a baseline for models.")
    ] = RoleOption.EXTERNAL,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse everything if one row is malformed.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Do it now, or leave it to a worker.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Import entries of a database, or candidates of another model."""
    with failures_reported():
        from gandb.cli.running import ask
        from gandb.core.errors import UsageError

        own = sample or sample_crystals
        if sum([sample, sample_crystals, live, bool(files)]) != 1 or own == bool(source):
            raise UsageError(
                "name a source with its files, a source with --live, or --sample or "
                "--sample-crystals"
            )
        store = open_store(ctx)
        common: dict[str, Any] = {"release": release, "query": query, "strict": strict}
        raw: dict[str, Any] = {
            "licence": licence,
            "attribution": attribution,
            "symprec": symprec,
            "keep_raw": live if keep_raw is None else keep_raw,
        }
        wanted: list[JobSpec]
        if sample:
            wanted = _sample({**common, "join": join.value})
        elif sample_crystals:
            wanted = [_sample_crystals(common | raw)]
        elif source == CANDIDATES:
            wanted = [
                _candidates(
                    files or [], model, model_version, origin, role=role.value, form=form,
                    strict=strict, keep_raw=bool(keep_raw),
                )
            ]  # fmt: skip
        elif live:
            asked = {
                "endpoint": endpoint,
                "query": query,
                "fields": tuple(f.strip() for f in (fields or "").split(",") if f.strip()),
                "page_size": page_size,
                "limit": limit,
            }
            wanted = [_live(store, str(source), asked, common | raw)]
        elif _is_table(str(source), files or [], form, mapping):
            from gandb.tasks.importing import import_job

            mapped = dict(_mapping(text) for text in mapping or [])
            options = {**common, "join": join.value}
            wanted = [import_job(str(source), files or [], mapping=mapped, **options)]
        else:
            from gandb.tasks.records import records_job

            wanted = [records_job(str(source), files or [], form=form, **common, **raw)]
        jobs = [ask(store, spec) for spec in wanted]
        _deliver(ctx, store, wanted, jobs, wait=wait, as_json=as_json)


def _sample(options: dict[str, Any]) -> list[JobSpec]:
    from gandb.sources.sample import sample_files
    from gandb.tasks.importing import import_job

    options = {**options, "release": options["release"] or "sample"}
    return [import_job(name, paths, **options) for name, paths in sample_files().items()]


def _sample_crystals(options: dict[str, Any]) -> JobSpec:
    from gandb.sources.sample import sample_crystals
    from gandb.tasks.records import records_job

    source, path = sample_crystals()
    return records_job(source, [path], **{**options, "release": options["release"] or "sample"})


def _candidates(
    files: list[Path],
    model: str | None,
    version: str | None,
    origin: list[str] | None,
    **options: Any,
) -> JobSpec:
    from gandb.core.errors import UsageError
    from gandb.tasks.candidates import candidates_job

    if not model:
        raise UsageError("name the model that generated the candidates: --model NAME")
    known = {}
    for text in origin or []:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"cannot read --origin {text!r}: write KEY=VALUE")
        known[key] = value
    return candidates_job(model, files, version=version, origin=known, **options)


def _live(store: Store, source: str, asked: dict[str, Any], options: dict[str, Any]) -> JobSpec:
    """Describe a fetch; one that was broken off is gone on with rather than begun anew."""
    from gandb.jobs import queue
    from gandb.sources.live import LIVE
    from gandb.tasks.fetching import live_spec
    from gandb.tasks.records import KIND, records_job

    # Any other name with an address is an OPTIMADE provider of the user's.
    server = "optimade" if asked["endpoint"] and source not in LIVE else source
    source = source.removesuffix("-optimade")  # another door to the same database
    spec = records_job(source, live=live_spec(server, **asked, asked_at=queue.now()), **options)

    def plain(data: Any) -> Any:
        live = {k: v for k, v in (data["live"] or {}).items() if k != "asked_at"}
        return {**data, "live": live}

    for job in queue.unfinished(store, KIND):
        if plain(job.spec) == plain(spec.spec):
            message(
                f"going on with job {job.short_id}, asked for at {job.spec['live']['asked_at']}"
            )
            return records_job(source, live=job.spec["live"], **options)
    return spec


def _is_table(source: str, files: list[Path], form: str | None, mapping: list[str] | None) -> bool:
    """Say whether files are formula tables, which have no structures.

    Raises:
        UsageError: some are and some are not.
    """
    from gandb.core.errors import UsageError
    from gandb.sources.reading import is_formula_table

    if form is not None:
        return form == "table"
    found = {path: is_formula_table(path) for path in files}
    if mapping or all(found.values()):
        return True
    if any(found.values()):
        tables = ", ".join(path.name for path, is_one in found.items() if is_one)
        raise UsageError(
            f"{tables}: formula tables, the other files hold structures or records: import them "
            "by a command of their own"
        )
    return False


def _deliver(
    ctx: typer.Context,
    store: Store,
    wanted: list[JobSpec],
    jobs: list[Any],
    *,
    wait: bool,
    as_json: bool,
) -> None:
    """Do the jobs, or leave them; say what came of them."""
    from gandb.cli.running import run_and_wait
    from gandb.jobs import queue

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
            message(f"{job.spec['source']}: this was imported before; nothing is new")
        elif row.get("rows_rejected") and "snapshot_id" in row:
            message(
                f"{job.spec['source']}: {row['rows_rejected']} rows were rejected; see: gandb "
                f'sql "SELECT file, line, reason, raw FROM snapshot_reject WHERE '
                f"snapshot_id = '{row['snapshot_id']}'\""
            )
        elif "samples" in row:
            _say_what_was_taken(row)
    shown = (
        "source", "state", "rows_read", "rows_rejected", "repeats", "entries", "entries_joined",
        "samples", "candidates", "compositions", "job_id",
    )  # fmt: skip
    columns = [name for name in shown if any(name in row for row in rows)]
    emit(rows, as_json=as_json, columns=columns)


def _say_what_was_taken(row: dict[str, Any]) -> None:
    """Say of candidates what was rejected, and which folders they came from if there are several.

    Folders of a release are often of several models, and files lie packed and unpacked side by
    side: whoever names the wrong level should see it.
    """
    if row["rows_rejected"]:
        message(
            f"{row['source']}: {row['rows_rejected']:,} of {row['rows_read']:,} records were "
            f"rejected; see: gandb job logs {row['job_id']}"
        )
    if "folders" not in row:
        return
    listed = [f"{n:,} from {folder}" for folder, n in row["folders"].items()]
    more = f" and {len(listed) - _FOLDERS} more folders" if len(listed) > _FOLDERS else ""
    message(
        f"{row['source']}: took {', '.join(listed[:_FOLDERS])}{more}. All of it counts as this "
        "model: import what others made (baselines, other models) under names of its own"
    )
    if row["in_several"]:
        message(
            f"{row['source']}: {row['in_several']:,} candidates lie in more than one of these, and "
            "count as drawn again: is something there twice, packed and unpacked?"
        )


def _mapping(text: str) -> tuple[str, str]:
    from gandb.core.errors import UsageError

    column, equals, meaning = text.rpartition("=")
    if not equals or not column or not meaning:
        raise UsageError(f"cannot read --map {text!r}: write COLUMN=MEANING")
    return column, meaning
