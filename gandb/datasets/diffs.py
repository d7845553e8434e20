"""What differs between two dataset versions, by content, whatever lies between them.

Entries are records: another release of a database that states another energy makes another entry.
So an entry that went and one that came under the same (source, external id) are told as one whose
properties changed, where there is one of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from gandb.core.units import PROPERTIES
from gandb.datasets.comparing import state_of
from gandb.datasets.members import require_members
from gandb.datasets.names import Version
from gandb.query.frames import query
from gandb.store import Store

_GAINS = ("compositions", "materials", "structures")
_PAIRED = (*PROPERTIES, "formula", "composition_id", "structure_id")
_ORDER = 'source COLLATE "C", external_id COLLATE "C"'  # the same on both engines
_PAIR_ORDER = 'p.source COLLATE "C", p.external_id COLLATE "C"'
_KIND = "CASE WHEN was = now THEN 'moved' WHEN now = 1 THEN 'added' ELSE 'dropped' END"


@dataclass(frozen=True)
class Diff:
    """What differs between two versions.

    Attributes:
        before: one version.
        after: the other.
        sources: for each source how many entries were ``added``, ``dropped``, ``moved`` to another
            split, and how many of the former two are ``changed``: one entry for another of the
            same external id.
        moves: for each pair of splits how many entries moved from one to the other.
        groups: for compositions, materials (under the standard recipe) and exact structures how
            many came that no member had before (``gained``) and how many went (``lost``).
        properties: for each property, and formula, composition and structure, in how many pairs of
            ``changed`` entries it differs, and by how much at most (in the unit of the property).
        examples: some of the rows that `changed_entries` and `changed_properties` return.
    """

    before: Version
    after: Version
    sources: list[dict[str, Any]]
    moves: list[dict[str, Any]]
    groups: list[dict[str, Any]]
    properties: list[dict[str, Any]]
    examples: Mapping[str, list[dict[str, Any]]]

    @property
    def n_added(self) -> int:
        """Entries that came."""
        return sum(row["added"] for row in self.sources)

    @property
    def n_dropped(self) -> int:
        """Entries that went."""
        return sum(row["dropped"] for row in self.sources)

    @property
    def n_moved(self) -> int:
        """Entries that are in another split."""
        return sum(row["moved"] for row in self.sources)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "before": self.before.reference,
            "after": self.after.reference,
            "added": self.n_added,
            "dropped": self.n_dropped,
            "moved": self.n_moved,
            "sources": self.sources,
            "moves": self.moves,
            **{row["of"]: {k: row[k] for k in ("gained", "lost")} for row in self.groups},
            "properties": self.properties,
            "examples": dict(self.examples),
        }

    def __bool__(self) -> bool:
        return any((self.n_added, self.n_dropped, self.n_moved))


def diff(store: Store, before: Version, after: Version, examples: int = 5) -> Diff:
    """Compare two versions, which need not be of one dataset.

    Args:
        store: where they are.
        before: one version.
        after: the other.
        examples: how many entries and properties of each kind to show.

    Raises:
        NotFoundError: the members of one were not shared.
    """
    with store.read() as connection:
        for version in (before, after):
            require_members(connection, version.id, version.reference)
        sql = state_of(connection, before.id, after.id) + _PAIRS + _summary(examples)
        rows = connection.exec_driver_sql(sql).all()
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row)
    sources: dict[str, dict[str, Any]] = {}
    for _, name, kind, _, n, *_ in found.get("source", []):
        empty = {"source": name, "added": 0, "dropped": 0, "moved": 0, "changed": 0}
        sources.setdefault(name, empty)[kind] = int(n)
    for _, name, _, _, n, *_ in found.get("pairs", []):
        sources[name]["changed"] = int(n)
    moves = [{"from": r[1], "to": r[2], "entries": int(r[4])} for r in found.get("move", [])]
    gains = {r[1]: {"gained": int(r[4]), "lost": int(r[5])} for r in found.get("group", [])}
    changed = [
        {"property": r[1], "changed": int(r[4]), "largest": r[5], "unit": _unit(r[1])}
        for r in found.get("property", [])
        if r[4]
    ]
    shown = {
        kind: [_example(row, kind) for row in found.get(kind, [])]
        for kind in ("added", "dropped", "moved", "changed")
    }
    return Diff(
        before,
        after,
        sorted(sources.values(), key=lambda r: str(r["source"])),
        sorted(moves, key=lambda r: (r["from"], r["to"])),
        [{"of": name, **gains[name]} for name in _GAINS],
        sorted(changed, key=lambda r: _PAIRED.index(r["property"])),
        shown,
    )


def changed_entries(store: Store, before: Version, after: Version) -> pa.Table:
    """Return every entry that came, went or moved to another split, as rows.

    Columns are change (added, dropped, moved), source, external_id, formula, entry_id,
    split_before, split_after, by change, source and external id.

    Raises:
        NotFoundError: the members of one version were not shared.
    """
    return _listed(
        store,
        before,
        after,
        f"""{_CHANGED}
SELECT {_KIND} AS change, source, external_id, formula, entry_id, split_before, split_after
FROM changed
ORDER BY change, {_ORDER}, entry_id""",
    )


def changed_properties(store: Store, before: Version, after: Version) -> pa.Table:
    """Return every property that differs between entries of one (source, external id), as rows.

    Columns are source, external_id, property, before, after and unit.

    Raises:
        NotFoundError: the members of one version were not shared.
    """
    parts = "\nUNION ALL\n".join(
        f"SELECT p.source, p.external_id, '{name}' AS property, d.{name} AS before,"
        f" a.{name} AS after, '{_unit(name)}' AS unit FROM pairs AS p"
        " JOIN entry AS d ON d.id = p.dropped JOIN entry AS a ON a.id = p.added"
        f" WHERE d.{name} IS DISTINCT FROM a.{name}"
        for name in PROPERTIES
    )
    return _listed(
        store,
        before,
        after,
        f"{_PAIRS}\nSELECT * FROM (\n{parts}\n) AS c ORDER BY {_ORDER}, property",
    )


def _listed(store: Store, before: Version, after: Version, ending: str) -> pa.Table:
    with store.read() as connection:
        for version in (before, after):
            require_members(connection, version.id, version.reference)
        sql = state_of(connection, before.id, after.id) + ending
    return query(store, sql)


def _unit(name: str) -> str:
    return PROPERTIES[name].unit if name in PROPERTIES else ""


def _example(row: Any, kind: str) -> dict[str, Any]:
    names = {
        "added": ("source", "external_id", "formula", "split"),
        "dropped": ("source", "external_id", "formula", "split"),
        "moved": ("source", "external_id", "from", "to"),
        "changed": ("source", "external_id", "property", "before", "after"),
    }[kind]
    texts = [row[1], row[2], row[3], row[6]]
    values = [*texts[:3], row[4], row[5]] if kind == "changed" else texts
    return dict(zip(names, values, strict=True))


# --- SQL ---------------------------------------------------------------------------------

_CHANGED = """,
changed AS MATERIALIZED (
    SELECT s.entry_id, s.was, s.now, s.split_before, s.split_after,
        e.source, e.external_id, e.formula
    FROM state AS s
    JOIN entry AS e ON e.id = s.entry_id
    WHERE s.was <> s.now OR s.split_before <> s.split_after
)"""

_PAIRS = f"""{_CHANGED},
renewed AS MATERIALIZED (
    SELECT d.source, d.external_id, d.entry_id AS dropped, a.entry_id AS added
    FROM changed AS d
    JOIN changed AS a ON a.source = d.source AND a.external_id = d.external_id
    WHERE d.was > d.now AND a.was < a.now
),
pairs AS MATERIALIZED (
    SELECT r.source, r.external_id, r.dropped, r.added
    FROM renewed AS r
    JOIN (
        SELECT source, external_id FROM renewed GROUP BY source, external_id HAVING count(*) = 1
    ) AS o ON o.source = r.source AND o.external_id = r.external_id
)"""
"""Entries that went and came under one external id, one of each."""


def _summary(examples: int) -> str:
    none = "CAST(NULL AS TEXT)"
    counts = ", ".join(
        f"count(CASE WHEN d.{n} IS DISTINCT FROM a.{n} THEN 1 END) AS n_{n}" for n in _PAIRED
    )
    most = ", ".join(f"max(abs(a.{n} - d.{n})) AS most_{n}" for n in PROPERTIES)
    joined = "JOIN entry AS d ON d.id = p.dropped JOIN entry AS a ON a.id = p.added"
    parts = [
        f"SELECT 'source' AS kind, source AS a, {_KIND} AS b, {none} AS c,"
        f" CAST(count(*) AS DOUBLE PRECISION) AS x, CAST(NULL AS DOUBLE PRECISION) AS y,"
        f" {none} AS d FROM changed GROUP BY source, {_KIND}",
        f"SELECT 'pairs', p.source, {none}, {none}, count(*), NULL, {none}"
        " FROM pairs AS p GROUP BY p.source",
        f"SELECT 'move', split_before, split_after, {none}, count(*), NULL, {none} FROM changed"
        " WHERE was = now GROUP BY split_before, split_after",
        *(
            f"SELECT 'property', '{n}', {none}, {none}, n_{n},"
            f" {f'most_{n}' if n in PROPERTIES else 'NULL'}, {none} FROM differences"
            for n in _PAIRED
        ),
        *(_gained(name) for name in _GAINS),
    ]
    for kind, split in (("added", "split_after"), ("dropped", "split_before")):
        parts.append(
            f"SELECT * FROM (SELECT '{kind}', source, external_id, formula,"
            f" CAST(NULL AS DOUBLE PRECISION), CAST(NULL AS DOUBLE PRECISION), {split}"
            f" FROM changed WHERE {_KIND} = '{kind}'"
            f" ORDER BY {_ORDER}, entry_id LIMIT {examples}) AS {kind}_"
        )
    parts.append(
        "SELECT * FROM (SELECT 'moved', source, external_id, split_before,"
        " CAST(NULL AS DOUBLE PRECISION), CAST(NULL AS DOUBLE PRECISION), split_after"
        f" FROM changed WHERE {_KIND} = 'moved'"
        f" ORDER BY {_ORDER}, entry_id LIMIT {examples}) AS moved_"
    )
    parts += [
        "SELECT * FROM (SELECT 'changed', p.source, p.external_id,"
        f" '{n}', d.{n}, a.{n}, {none} FROM pairs AS p {joined} WHERE d.{n} IS DISTINCT FROM a.{n}"
        f" ORDER BY {_PAIR_ORDER} LIMIT {examples}) AS changed_{n}"
        for n in PROPERTIES
    ]
    return (
        f",\ndifferences AS MATERIALIZED (SELECT {counts}, {most} FROM pairs AS p {joined})\n"
        + "\nUNION ALL\n".join(parts)
    )


def _gained(name: str) -> str:
    source = {
        "compositions": "SELECT composition_id AS id, was, now FROM state",
        "structures": (
            "SELECT structure_id AS id, was, now FROM state WHERE structure_id IS NOT NULL"
        ),
        "materials": (
            "SELECT m.material_id AS id, s.was, s.now FROM state AS s"
            " JOIN material_member AS m ON m.structure_id = s.structure_id WHERE m.standard"
        ),
    }[name]
    return (
        f"SELECT 'group', '{name}', CAST(NULL AS TEXT), CAST(NULL AS TEXT),"
        " count(CASE WHEN was = 0 THEN 1 END), count(CASE WHEN now = 0 THEN 1 END),"
        " CAST(NULL AS TEXT) FROM ("
        f"SELECT id, max(was) AS was, max(now) AS now FROM ({source}) AS m GROUP BY id"
        ") AS g"
    )
