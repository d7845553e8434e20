"""``gandb dataset log``, ``tag``, ``rm``, ``restore``: the history of datasets."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gandb.cli.context import open_store
from gandb.cli.output import console, emit, failures_reported, message

if TYPE_CHECKING:
    from gandb.datasets.history import Commit

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_SHORT = 8


def register(app: typer.Typer) -> None:
    """Add the commands to those of ``gandb dataset``."""
    app.command(epilog="Examples:\n\ngandb dataset log\n\ngandb dataset log mp --json")(log)
    app.command(
        epilog="Examples:\n\ngandb dataset tag mp@3 best\n\ngandb dataset tag mp@4 best --move\n\n"
        "gandb dataset tag mp best --delete\n\ngandb dataset tag"
    )(tag)
    app.command(epilog="Example:\n\ngandb dataset rm mp@3")(rm)
    app.command(epilog="Example:\n\ngandb dataset restore mp@3")(restore)


def log(
    ctx: typer.Context,
    reference: Annotated[
        str | None,
        typer.Argument(metavar="[NAME[@NUMBER]]", help="A dataset or version; all by default."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("-n", min=1, help="Show this many, the newest.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show versions with their parents, newest first, and what each changed."""
    with failures_reported():
        from gandb.datasets import history

        commits = history.log(open_store(ctx), reference)
        shown = commits[:limit]
        if as_json:
            emit([_row(commit, commits) for commit in shown], as_json=True)
            return
        if not commits:
            message("there is no dataset yet; make one with: gandb dataset create NAME --where SQL")
        _draw(shown)
        if len(shown) < len(commits):
            message(f"{len(commits) - len(shown):,} older ones are left out")


def tag(
    ctx: typer.Context,
    reference: Annotated[
        str | None,
        typer.Argument(metavar="[NAME[@NUMBER]]", help="The version; with --delete its dataset."),
    ] = None,
    name: Annotated[
        str | None, typer.Argument(metavar="[TAG]", help="The tag; without one, tags are listed.")
    ] = None,
    text: Annotated[str, typer.Option("--message", "-m", help="Why.")] = "",
    move: Annotated[
        bool, typer.Option("--move", help="Let it stand for this version from now on.")
    ] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the tag.")] = False,
    as_json: Json = False,
) -> None:
    """Let NAME@TAG stand for a version; or list or delete tags."""
    with failures_reported():
        from gandb.core.errors import UsageError
        from gandb.datasets import numbers, versions
        from gandb.datasets.describing import tag_rows

        store = open_store(ctx)
        if reference is None or name is None:
            if move or delete or text:
                raise UsageError("give the version and the tag, such as mp@3 best")
            dataset = None if reference is None else versions.find(store, reference).name
            rows = tag_rows(store, dataset)
            if not rows and not as_json:
                message("there is no tag; set one with: gandb dataset tag NAME@NUMBER TAG")
            emit(rows, as_json=as_json)
            return
        if delete:
            if move:
                raise UsageError("--move and --delete exclude each other")
            gone = numbers.delete_tag(store, reference, name)
            message(f"{gone.name}@{gone.tag} is gone; the version stays")
            emit(tag_rows(store, gone.name), as_json=as_json)
            return
        made, new = numbers.tag(store, reference, name, text, move=move)
        if not new:
            message(f"{made.name}@{made.tag} stands for it already")
        rows = [r for r in tag_rows(store, made.name) if r["tag"] == f"{made.name}@{made.tag}"]
        emit(rows, as_json=as_json)


def rm(
    ctx: typer.Context,
    references: Annotated[
        list[str], typer.Argument(metavar="NAME@NUMBER ...", help="The versions.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Even if jobs, checkpoints or publications rest on it.")
    ] = False,
) -> None:
    """Take a version's number away; restore brings it back."""
    with failures_reported():
        from gandb.datasets import numbers

        store = open_store(ctx)
        for reference in references:
            gone = numbers.remove(store, reference, force=force)
            message(
                f"{gone.reference} is removed; bring it back with: "
                f"gandb dataset restore {gone.reference}"
            )


def restore(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="NAME@NUMBER", help="The version.")],
    text: Annotated[str, typer.Option("--message", "-m", help="Why.")] = "",
    number_only: Annotated[
        bool, typer.Option("--number-only", help="Only bring a removed number back.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a version's members the newest version again; a removed number comes back."""
    with failures_reported():
        from gandb.datasets import numbers

        version, changed = numbers.restore(
            open_store(ctx), reference, text, number_only=number_only
        )
        if not changed:
            message(f"nothing is to be restored: {version.reference} stands and holds the same")
        row = {
            "dataset": version.reference,
            "entries": version.n_entries,
            "compositions": version.n_compositions,
            "message": version.message,
            "version_id": version.id,
        }
        emit([row], as_json=as_json)


# --- drawing -----------------------------------------------------------------------------


def _row(commit: Commit, everything: list[Commit]) -> dict[str, object]:
    called = {c.id: c.references for c in everything}
    return {
        "version_id": str(commit.id),
        "datasets": list(commit.references),
        "removed": list(commit.removed),
        "tags": list(commit.tags),
        "parents": [{"version_id": str(p), "datasets": list(called[p])} for p in commit.parents],
        "message": commit.message,
        "created_at": commit.created_at,
        "entries": commit.n_entries,
        "members_shared": commit.members_shared,
        "added": commit.added,
        "dropped": commit.dropped,
        "moved": commit.moved,
    }


def _draw(commits: list[Commit]) -> None:
    from rich.text import Text

    from gandb.datasets.graph import lanes, plain

    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    written = str if encoding.startswith("utf") else plain
    out = console()
    drawn = lanes([(c.id, c.parents) for c in commits])
    width = max((len(head) for head, _, _ in drawn), default=0)
    for commit, (head, beside, joins) in zip(commits, drawn, strict=True):
        line = Text(written(head).ljust(width) + "  ", "yellow") + _head(commit)
        out.print(line, soft_wrap=True)
        for text in commit.message.splitlines():
            lead = Text(written(beside).ljust(width) + "  ", "yellow")
            out.print(lead + Text("  " + _safe(text)), soft_wrap=True)
        for join in joins:
            out.print(Text(written(join), "yellow"), soft_wrap=True)


def _head(commit: Commit) -> object:
    from rich.text import Text

    name = ", ".join(commit.references)
    if not name:
        gone = [f"{reference} (removed)" for reference in commit.removed]
        name = ", ".join(gone) or str(commit.id)[:_SHORT]
    line = Text(name, "bold")
    if commit.tags:
        line += Text(f"  [{', '.join(_safe(t) for t in commit.tags)}]", "magenta")
    if commit.created_at is not None:
        line += Text(f"  {commit.created_at:%Y-%m-%d %H:%M}", "dim")
    line += Text(f"  {commit.n_entries:,} entries")
    if commit.added is not None:
        line += Text(f"  +{commit.added:,}", "green") + Text(f" -{commit.dropped:,}", "red")
        if commit.moved:
            line += Text(f"  {commit.moved:,} in another split")
    if not commit.members_shared:
        line += Text("  members not shared", "dim")
    return line


def _safe(text: str) -> str:
    from gandb.query.values import plain

    return plain(text)
