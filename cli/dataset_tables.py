"""Dataset versions and their differences, for people to read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gandb.cli.output import console, emit
from gandb.query.values import plain

if TYPE_CHECKING:
    from gandb.datasets.diffs import Diff

_LEVELS = {
    "composition": "compositions",
    "material": "materials",
    "structure": "exact structures",
    "chemical_system": "chemical systems",
    "prototype": "prototypes",
}


def print_version(told: Mapping[str, Any]) -> None:
    """Print what `gandb.datasets.describing.describe` returned."""
    _pairs(
        {
            "dataset": told["dataset"],
            "also": ", ".join(told["also"]),
            "tags": ", ".join(_tag(row) for row in told["tags"]),
            "message": told["message"],
            "made": f"{told['created_at']:%Y-%m-%d %H:%M} UTC" if told["created_at"] else "",
            "from": ", ".join(parent["dataset"] for parent in told["parents"]),
            "chosen by": _plainly(told["selection"]),
            "split by": _plainly(told["split_recipe"]),
            "entries": f"{told['entries']:,}",
            "compositions": f"{told['compositions']:,}",
            "version id": told["version_id"],
        }
    )
    if not told["members_shared"]:
        print("the members were not shared with this store")
        return
    _table("Splits", told["splits"])
    _table("Sources", told["sources"], ("source", "release", "entries", "licence", "attribution"))
    if any(row["members"] for row in told["leak"]):
        _table("What of validation and test is also in train", leak_rows(told["leak"]))


def leak_rows(leak: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return leaks as rows of a table, without those of which nothing is known."""
    return [
        {
            "split": row["split"],
            "of": _LEVELS[row["level"]],
            "distinct": row["groups"],
            "in train": row["leaked_groups"],
            "members": row["members"],
            "concerned": row["leaked_members"],
            "share": f"{row['leaked_members'] / row['members']:.1%}",
        }
        for row in leak
        if row["members"]
    ]


def print_diff(found: Diff) -> None:
    """Print how two versions differ."""
    before, after = found.before.reference, found.after.reference
    if not found:
        print(f"{before} and {after} hold the same entries in the same splits")
        return
    print(
        f"{before} ({found.before.n_entries:,} entries) -> {after} ({found.after.n_entries:,}): "
        f"+{found.n_added:,} -{found.n_dropped:,}, {found.n_moved:,} in another split"
    )
    _table("Entries", found.sources)
    _table("What came and went", [row for row in found.groups if row["gained"] or row["lost"]])
    _table("Changed splits", found.moves)
    _table("Changed properties, of entries of one external id", found.properties)
    for kind, rows in found.examples.items():
        if rows:
            _table(f"{kind}, for example", rows)


def _pairs(values: Mapping[str, str]) -> None:
    from rich.text import Text

    out = console()
    width = max(map(len, values))
    for name, value in values.items():
        if value:
            line = Text(name.ljust(width) + "  ", "cyan") + Text(plain(value))
            out.print(line, soft_wrap=True)


def _table(
    title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None
) -> None:
    from rich.text import Text

    if rows:
        out = console()
        out.print()
        out.print(Text(title, "bold"))
        emit(rows, as_json=False, columns=columns)


def _tag(row: Mapping[str, Any]) -> str:
    by = f" (by {row['origin']})" if row["origin"] else ""
    return f"{row['tag']}{by}" + ("" if row["counts"] else ", which means another version here")


def _plainly(value: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{key.replace('_', ' ')} {v if isinstance(v, str) else json.dumps(v)}"
        for key, v in value.items()
    )
