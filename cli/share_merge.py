"""``gandb share merge``, ``conflicts`` and ``bundles``: taking in what other groups share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gandb.cli.context import open_store
from gandb.cli.output import emit, failures_reported, message

if TYPE_CHECKING:
    from gandb.sharing.merging.report import MergeReport
    from gandb.store import Store

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder or a zip.")]

_MERGE_EPILOG = """Examples:

gandb share merge results.zip --dry-run

gandb share merge results.zip

gandb share conflicts

The same thing from two groups becomes one. Datasets of another group are called ORIGIN/NAME@3; your
own come home without the origin. Where the bundle says something else of a thing that is here, the
row stays, and both are kept as statements. It is all taken in, or nothing."""

_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add these commands to ``gandb share``."""
    app.command(epilog=_MERGE_EPILOG)(merge)
    app.command(epilog="Example:\n\ngandb share conflicts --json")(conflicts)
    app.command(epilog="Example:\n\ngandb share bundles")(bundles)


def merge(
    ctx: typer.Context,
    bundle: BundlePath,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would bring, and change nothing.")
    ] = False,
    identify: Annotated[
        bool,
        typer.Option(
            "--identify/--no-identify", help="Find out afterwards which structures are the same."
        ),
    ] = True,
    as_json: Json = False,
) -> None:
    """Take a bundle in: all that is new in it, and what differs beside what is here."""
    with failures_reported():
        from gandb.cli.output import progress
        from gandb.sharing.bundles.bundle import TABLES, read_manifest
        from gandb.sharing.merging.merging import merge as take_in

        store = open_store(ctx)
        files = read_manifest(bundle)["files"]
        rows = sum(files[t.path]["rows"] for t in TABLES)

        def told(what: str) -> None:
            if what != "checking":
                message(f"{what} {bundle}")

        with progress("checking", rows, unit="rows") as advance:
            report = take_in(store, bundle, dry_run=dry_run, told=told, progress=advance)
        if as_json:
            emit([report.as_json() | {"dry_run": dry_run}], as_json=True)
        else:
            _show(report)
        if report.unidentified and not dry_run:
            _identify(ctx, store, report.unidentified, wanted=identify)


def conflicts(ctx: typer.Context, as_json: Json = False) -> None:
    """List what groups state differently of one thing."""
    with failures_reported():
        from gandb.query.values import json_text
        from gandb.sharing.merging.statements import conflicts as differing
        from gandb.sharing.origin import own_origin

        store = open_store(ctx)
        found = differing(store)
        if as_json:
            emit(found, as_json=True)
            return
        if not found:
            message("no statements differ")
        here = own_origin(store) or "here"
        emit(
            [
                {
                    "table": row["relation"],
                    "of": row["what"],
                    "attribute": row["attribute"],
                    "origin": stated["origin"] or here,
                    "states": json_text(stated["value"]),
                }
                for row in found
                for stated in row["statements"]
            ],
            as_json=False,
        )


def bundles(ctx: typer.Context, as_json: Json = False) -> None:
    """List the bundles that were taken in."""
    with failures_reported():
        from gandb.sharing.merging.merging import bundles as taken_in

        found = taken_in(open_store(ctx))
        if as_json:
            emit(found, as_json=True)
            return
        if not found:
            message("no bundle was taken in yet; begin with: gandb share merge BUNDLE --dry-run")
        emit(
            [
                {
                    "bundle": row["sha256"][:12],
                    "origin": row["origin"],
                    "merged_at": row["merged_at"],
                    "new_rows": sum(t["new"] for t in row["report"]["tables"]),
                    "conflicts": row["report"]["n_conflicts"],
                    "datasets": ", ".join(d["dataset"] for d in row["report"]["datasets"]),
                }
                for row in found
            ],
            as_json=False,
        )


def _identify(ctx: typer.Context, store: Store, n: int, *, wanted: bool) -> None:
    if not wanted:
        message(f"{n:,} structures have no material yet; find them with: gandb identify")
        return
    from gandb.cli.identity import _all_asked
    from gandb.tasks.identity import identify_job
    from gandb.tasks.keys import keys_job

    message(f"{n:,} structures have no material yet: comparing them (--no-identify leaves it out)")
    for label, job in (("keys", keys_job), ("identify", identify_job)):
        _all_asked(ctx, store, label, job, True)


def _show(report: MergeReport) -> None:
    """Print a report: tables, datasets, tags, what differs."""
    if report.before is not None:
        message(f"this bundle was taken in before, on {report.before:%Y-%m-%d %H:%M} UTC")
    emit([_counts(t) for t in report.tables], as_json=False)
    datasets = [{"dataset": d["dataset"], "is": d["state"]} for d in report.datasets]
    tags = [
        {
            "tag": t["tag"],
            "by": t["origin"],
            "is": t["state"],
            "also": ", ".join(o[:8] for o in t["others"]),
        }
        for t in report.tags
    ]
    differing: list[dict[str, Any]] = [
        {
            "differs": c.relation,
            "of": ", ".join(str(v)[:36] for v in c.subject.values()),
            "attribute": c.attribute,
            "here": str(c.ours)[:40],
            report.origin: str(c.theirs)[:40],
        }
        for c in report.conflicts[:_SHOWN]
    ]
    for rows in (datasets, tags, differing):
        if rows:
            print()
            emit(rows, as_json=False)
    if report.n_conflicts:
        kept = (
            "would be kept" if report.dry_run else "are kept; see them with: gandb share conflicts"
        )
        message(f"{report.n_conflicts:,} statements differ: both {kept}")
    if report.n_other_records:
        message(
            f"{report.n_other_records:,} entries of {report.origin} differ from entries of the "
            "same source and id here; both stay:"
        )
        for example in report.other_records:
            message(f"  {example}")
    if report.dry_run:
        message(f"nothing was changed; {report.new:,} rows would come in")


def _counts(table: Any) -> dict[str, Any]:
    return {
        "table": table.table,
        "rows": table.rows,
        "new": table.new,
        "known": table.known,
        "differing": table.differing,
    }
