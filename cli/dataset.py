"""``gandb dataset``: numbered versions of training sets, what they hold and how they differ."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gandb.cli import dataset_history
from gandb.cli.context import open_store
from gandb.cli.output import emit, failures_reported, message

if TYPE_CHECKING:
    from gandb.datasets.splits import SplitRecipe
    from gandb.datasets.versions import Version
    from gandb.store import Store

app = typer.Typer(help="Make and look at dataset versions.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Text = Annotated[str, typer.Option("--message", "-m", help="Why this version is made.")]
Split = Annotated[
    str | None,
    typer.Option(help="Fractions train,validation,test; as before, else 0.9,0.05,0.05."),
]
SplitSeed = Annotated[int | None, typer.Option(min=0, help="Seed of the split.")]
SplitBy = Annotated[
    str | None,
    typer.Option(
        metavar="composition|chemical_system|anonymous_formula",
        help="What is never torn apart; as before, else composition.",
    ),
]
SplitFile = Annotated[
    Path | None,
    typer.Option(help="Splits to keep as given: lines of id and split, or a folder of train.csv, "
                 "val.csv and test.csv."),
]  # fmt: skip
Reference = Annotated[str, typer.Argument(metavar="NAME@NUMBER", help="The version.")]

_LISTED = (
    "change", "source", "external_id", "formula", "entry_id", "split_before", "split_after",
    "property", "before", "after", "unit",
)  # fmt: skip

_CREATE_EPILOG = """Examples:

gandb dataset create balanced --where "source = 'mp' AND cnen_strict" -m "strictly balanced"

gandb dataset create mine --from ids.txt --split 0.8,0.1,0.1 --split-seed 7

gandb dataset create mp20 --split-file mp_20/

The condition is SQL on the view entries (see: gandb schema entries). A file lists entry ids or
source:external_id, one to a line. The first version is NAME@1, the next NAME@2."""

_CHANGE_EPILOG = """Examples:

gandb dataset change mp --drop "n_elements > 5" -m "no high-entropy alloys"

gandb dataset change mp@2 --unite oqmd@1 --filter cnen_strict --as both

gandb dataset change mp --split-by chemical_system

First versions are united, then entries added, then only those kept for which --filter holds, then
entries dropped. The new version's parents are NAME@NUMBER (NAME alone is the newest) and those it
was united with."""


@app.command(epilog=_CREATE_EPILOG)
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the dataset.")],
    where: Annotated[str | None, typer.Option(help="SQL condition on the view entries.")] = None,
    from_file: Annotated[
        Path | None, typer.Option("--from", help="File of entry ids, one to a line.")
    ] = None,
    text: Text = "",
    split: Split = None,
    split_seed: SplitSeed = None,
    split_by: SplitBy = None,
    split_file: SplitFile = None,
    as_json: Json = False,
) -> None:
    """Make the next version of a dataset; it never changes afterwards."""
    with failures_reported():
        from gandb.core.errors import UsageError
        from gandb.datasets import selection, versions
        from gandb.datasets.given import read_splits
        from gandb.datasets.names import require_own_name

        if where is not None and from_file is not None:
            raise UsageError("choose the members by --where SQL or by --from FILE, not by both")
        if where is None and from_file is None and split_file is None:
            raise UsageError(
                "choose the members by --where SQL or by --from FILE, or by --split-file FILE"
            )
        require_own_name(name)
        store = open_store(ctx)
        newest = versions.newest(store, name)
        recipe = _recipe(split, split_seed, split_by, newest)
        given = None if split_file is None else read_splits(split_file)
        chosen = None
        if from_file is not None:
            chosen = selection.from_file(store, from_file)
        elif where is not None:
            chosen = selection.by_condition(store, where)
        if given is not None:
            chosen = selection.with_splits(store, given, chosen)
            _tell_given(chosen, len(given.splits))
        assert chosen is not None
        version, new = versions.create(store, name, chosen, text, recipe)
        _made(store, version, new, as_json)


@app.command(epilog=_CHANGE_EPILOG)
def change(
    ctx: typer.Context,
    reference: Annotated[
        str, typer.Argument(metavar="NAME[@NUMBER]", help="What to change; the newest by default.")
    ],
    add: Annotated[
        str | None, typer.Option(metavar="SQL", help="Add the entries for which this holds.")
    ] = None,
    add_from: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Add the entries that a file lists.")
    ] = None,
    drop: Annotated[
        str | None, typer.Option(metavar="SQL", help="Drop the entries for which this holds.")
    ] = None,
    drop_from: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Drop the entries that a file lists.")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--filter", metavar="SQL", help="Keep only those of which it holds."),
    ] = None,
    unite: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME@NUMBER", help="Add the members of another version; repeatable."),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Make it a version of this dataset instead."),
    ] = None,
    text: Text = "",
    split: Split = None,
    split_seed: SplitSeed = None,
    split_by: SplitBy = None,
    split_file: SplitFile = None,
    as_json: Json = False,
) -> None:
    """Make a version out of others: add, drop, filter, unite, or split otherwise."""
    with failures_reported():
        from gandb.datasets import changing, versions

        store = open_store(ctx)
        base = versions.resolve(store, reference)
        wanted = changing.Change(
            unite=tuple(versions.resolve(store, other) for other in unite or ()),
            add=add,
            add_from=add_from,
            keep=keep,
            drop=drop,
            drop_from=drop_from,
            split=_recipe(split, split_seed, split_by, base),
            split_file=split_file,
        )
        version, new = changing.change(store, base, wanted, text, into)
        _made(store, version, new, as_json)


@app.command("list", epilog="Example:\n\ngandb dataset list --json")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List all dataset versions."""
    with failures_reported():
        from gandb.query.frames import query

        rows = query(
            open_store(ctx),
            "SELECT d.dataset, d.n_entries, d.n_compositions, d.message, d.created_at,"
            " d.version_id FROM datasets AS d ORDER BY d.name, d.number",
        ).to_pylist()
        if not rows and not as_json:
            message("there is no dataset yet; make one with: gandb dataset create NAME --where SQL")
        emit(rows, as_json=as_json)


@app.command(epilog="Example:\n\ngandb dataset show balanced@1")
def show(ctx: typer.Context, reference: Reference, as_json: Json = False) -> None:
    """Show a version: members, splits and their leak, parents, tags, sources and licences."""
    with failures_reported():
        from gandb.datasets import versions
        from gandb.datasets.describing import describe

        store = open_store(ctx)
        version = versions.find(store, reference)
        told = describe(store, version)
        if as_json:
            emit([told], as_json=True)
            return
        from gandb.cli.dataset_tables import print_version

        print_version(told)


@app.command(epilog="Example:\n\ngandb dataset leak mp20@1")
def leak(ctx: typer.Context, reference: Reference, as_json: Json = False) -> None:
    """Count what of validation and test also occurs in train."""
    with failures_reported():
        from gandb.cli.dataset_tables import leak_rows
        from gandb.datasets import leaks, versions

        store = open_store(ctx)
        version = versions.resolve(store, reference)
        rows = [dataclasses.asdict(row) for row in leaks.leaks(store, version)]
        emit(rows if as_json else leak_rows(rows), as_json=as_json)


@app.command(
    epilog="Examples:\n\ngandb dataset diff mp@1 mp@2\n\ngandb dataset diff mp@1 mp@2 --list --json"
)
def diff(
    ctx: typer.Context,
    before: Annotated[str, typer.Argument(metavar="NAME@NUMBER", help="One version.")],
    after: Annotated[str, typer.Argument(metavar="NAME@NUMBER", help="Another.")],
    listed: Annotated[
        bool, typer.Option("--list", help="List every entry and property that differs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tell how two versions differ: entries, compositions, materials, properties, splits."""
    with failures_reported():
        from gandb.datasets import diffs, versions

        store = open_store(ctx)
        one, other = versions.resolve(store, before), versions.resolve(store, after)
        if listed:
            rows = diffs.changed_entries(store, one, other).to_pylist()
            rows += diffs.changed_properties(store, one, other).to_pylist()
            emit([{c: row.get(c) for c in _LISTED} for row in rows], as_json=as_json)
            return
        found = diffs.diff(store, one, other)
        if as_json:
            emit([found.as_json()], as_json=True)
            return
        from gandb.cli.dataset_tables import print_diff

        print_diff(found)


dataset_history.register(app)


def _recipe(
    split: str | None, seed: int | None, by: str | None, base: Version | None
) -> SplitRecipe | None:
    """Return the recipe that was asked for; what was not said is as in ``base``."""
    from gandb.datasets.splits import GivenSplit, SplitRecipe, split_from_json

    if split is None and seed is None and by is None:
        return None
    before = SplitRecipe() if base is None else split_from_json(base.split_recipe)
    if isinstance(before, GivenSplit):
        before = before.rest
    seed, by = before.seed if seed is None else seed, by or before.by
    if split is None:
        return SplitRecipe(before.fractions, seed, by)
    return SplitRecipe.parse(split, seed, by)


def _tell_given(chosen: Any, n_ids: int) -> None:
    from gandb.datasets.splits import UNSPLIT

    without = int((chosen.splits == UNSPLIT).sum())
    if without:
        message(
            f"{without:,} of {len(chosen):,} entries are not among the {n_ids:,} ids with a split; "
            "they go where their composition is, else by hash"
        )


def _made(store: Store, version: Version, new: bool, as_json: bool) -> None:
    from gandb.datasets.versions import split_sizes

    if not new:
        message(f"nothing changed since {version.reference}, so there is no new version")
    row: dict[str, Any] = {
        "dataset": version.reference,
        "entries": version.n_entries,
        "compositions": version.n_compositions,
    }
    for name, sizes in split_sizes(store, version.id).items():
        row[name] = sizes["entries"]
    row |= {"message": version.message, "version_id": version.id}
    emit([row], as_json=as_json)
