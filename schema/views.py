"""The views, in the order in which they build on each other; their SQL lies in ``views/``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources

import sqlalchemy as sa

VIEWS = (
    "entries",
    "aliases",
    "structures",
    "symmetry",
    "datasets",
    "dataset_members",
    "dataset_parents",
    "tags",
    "checkpoints",
    "materials",
    "match_evidence",
    "novelty_references",
    "novelty",
    "generated",
    "snapshots",
    "checks",
    "structure_checks",
    "current_recipes",
    "latest_judgements",
    "generated_structures",
    "sun",
    "lineage",
    "lineage_edges",
    "lineage_checks",
    "lineage_sources",
    "lineage_forward",
    "leaderboard",
)

_COLUMN = re.compile(r"^\s+(?:.*\bAS\s+)?(?:\w+\.)?(?P<name>\w+),?\s*-- (?P<note>.+)$")


@dataclass(frozen=True)
class View:
    """A view as its file states it.

    Attributes:
        comment: what a row is.
        sql: the query.
        notes: for each column ``= table.column`` or ``type | meaning | unit | provenance``.
    """

    name: str
    comment: str
    sql: str
    notes: dict[str, str]


def load_view(name: str) -> View:
    """Read a view's file: comment lines on top, then a query with one noted column per line."""
    text = resources.files("gandb.schema").joinpath("views", f"{name}.sql").read_text("utf-8")
    head = [line[3:] for line in text.splitlines() if line.startswith("-- ")]
    notes = {m["name"]: m["note"].strip() for m in map(_COLUMN.match, text.splitlines()) if m}
    return View(name, " ".join(head), text, notes)


def create_views(connection: sa.Connection) -> None:
    """Create every view."""
    for name in VIEWS:
        connection.exec_driver_sql(f"CREATE VIEW {name} AS\n{load_view(name).sql}")


def drop_views(connection: sa.Connection) -> None:
    """Drop every view of ours that exists."""
    existing = set(sa.inspect(connection).get_view_names())
    for name in reversed(VIEWS):
        if name in existing:
            connection.exec_driver_sql(f"DROP VIEW {name}")
