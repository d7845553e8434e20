"""What is known of things that descend from each other: a line for people, facts for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.core.units import PROPERTIES
from gandb.schema import tables
from gandb.sharing.lineage.ids import KINDS, Key

_SHA = 12  # digits of a checksum that a line shows
_AT_A_TIME = 50


@dataclass(frozen=True)
class Thing:
    """One thing.

    Attributes:
        key: which.
        label: what it is, on one line; without its id.
        facts: all that is known of it, plain JSON data.
    """

    key: Key
    label: str
    facts: Mapping[str, Any]


def describe(connection: sa.Connection, keys: Iterable[Key]) -> dict[Key, Thing]:
    """Describe things, those of one kind with one query.

    Args:
        connection: an open transaction of a store.
        keys: which; what a store has only the id of is described as not there.
    """
    by_kind: dict[str, list[Key]] = {}
    for key in dict.fromkeys(keys):
        by_kind.setdefault(key.kind, []).append(key)
    found: dict[Key, Thing] = {}
    for kind, some in by_kind.items():
        told = _TELLERS[kind](connection, [k.id for k in some])
        for key in some:
            label, facts = told.get(key.id, ("not in this store", {"present": False}))
            found[key] = Thing(key, label, facts)
    return found


def with_disputes(connection: sa.Connection, things: Mapping[Key, Thing]) -> dict[Key, Thing]:
    """Add to the facts what other groups state differently, as ``disputed``.

    Args:
        connection: an open transaction of a store.
        things: as described.
    """
    table = tables.statement
    found = dict(things)
    for kind, source in KINDS.items():
        keys = [key for key in things if key.kind == kind]
        for start in range(0, len(keys), _AT_A_TIME):
            some = keys[start : start + _AT_A_TIME]
            query = (
                sa.select(table)
                .where(
                    table.c.relation == source.name,
                    sa.or_(*(table.c.subject.contains(key.id) for key in some)),
                )
                .order_by(table.c.attribute, table.c.origin, table.c.value)
            )
            for row in _rows(connection, query):
                key = next(k for k in some if k.id in row["subject"])
                facts = {k: row[k] for k in ("attribute", "origin", "value")}
                thing = found[key]
                said = [*thing.facts.get("disputed", ()), facts]
                found[key] = replace(thing, facts={**thing.facts, "disputed": said})
    return found


_Told = dict[str, tuple[str, dict[str, Any]]]


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(query).mappings()]


def _uuids(ids: Sequence[str]) -> list[UUID]:
    return [UUID(i) for i in ids]


def _stated(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row says as JSON data, without what is null; ids and times as text."""
    return {
        k: str(v) if isinstance(v, UUID) else v.isoformat() + "Z" if hasattr(v, "isoformat") else v
        for k, v in row.items()
        if v is not None
    }


# --- what was generated ------------------------------------------------------------------


def _candidates(connection: sa.Connection, ids: Sequence[str]) -> _Told:
    table = tables.candidate
    names = "reduced_formula times_generated n_sites space_group_number cnen_strict cnen_default"
    columns = [table.c[name] for name in (*names.split(), "cnen_matgan", "novel")]
    query = sa.select(table.c.id, *columns).where(table.c.id.in_(_uuids(ids)))
    told: _Told = {}
    for row in _rows(connection, query):
        own = str(row.pop("id"))
        label = f"{row['reduced_formula']}{_crystal(row)}"
        times = row["times_generated"]
        told[own] = (f"{label}, generated {_times(times)}", _stated(row))
    records = tables.candidate_record
    said = sa.select(
        records.c.candidate_id, records.c.file, records.c.line, records.c.external_id
    ).where(records.c.candidate_id.in_(_uuids(ids)))
    for row in sorted(_rows(connection, said), key=lambda r: (r["file"], r["line"])):
        _, facts = told[str(row.pop("candidate_id"))]
        facts.setdefault("records", []).append(_stated(row))
    return told


def _crystal(row: Mapping[str, Any]) -> str:
    if row["n_sites"] is None:
        return ""
    group = row["space_group_number"]
    return f", {row['n_sites']} sites" + (f", space group {group}" if group else "")


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n:,} times"


def _models(connection: sa.Connection, ids: Sequence[str]) -> _Told:
    query = sa.select(tables.model).where(tables.model.c.id.in_(_uuids(ids)))
    told: _Told = {}
    for row in _rows(connection, query):
        label = f"{row['name']} {row['version']} ({row['role']})"
        told[str(row.pop("id"))] = (label, _stated(row))
    return told


def _checkpoints(connection: sa.Connection, ids: Sequence[str]) -> _Told:
    k, m, b = tables.checkpoint, tables.model, tables.blob
    query = (
        sa.select(
            k.c.id,
            m.c.name.label("model"),
            m.c.version.label("model_version"),
            m.c.role,
            k.c.seed,
            k.c.iteration,
            k.c.sha256,
            b.c.size,
        )
        .join(m, m.c.id == k.c.model_id)
        .outerjoin(b, b.c.sha256 == k.c.sha256)
        .where(k.c.id.in_(_uuids(ids)))
    )
    told: _Told = {}
    for row in _rows(connection, query):
        own = str(row.pop("id"))
        if row["role"] == "external":
            label = f"{row['model']} {row['model_version']}, an external model"
        else:
            what = "" if row["role"] == "model" else f" ({row['role']})"
            label = f"{row['model']} {row['model_version']}{what}, seed {row['seed']}"
            if row["role"] == "model":
                label += f", {row['iteration']:,} iterations"
            label += f", weights sha256 {row['sha256'][:_SHA]}"
        told[own] = (label, _stated(row))
    return told


def _jobs(connection: sa.Connection, ids: Sequence[str]) -> _Told:
    j = tables.job
    query = sa.select(
        j.c.id, j.c.kind, j.c.spec, j.c.seed, j.c.code_version, j.c.n_chunks, j.c.state,
        j.c.created_at, j.c.finished_at,
    ).where(j.c.id.in_(_uuids(ids)))  # fmt: skip
    told: _Told = {}
    for row in _rows(connection, query):
        own = str(row.pop("id"))
        row["spec"] = _shareable(row["spec"])
        parts = [str(row["kind"]).replace("_", " ")]
        if isinstance(row["spec"].get("n"), int):
            parts.append(f"{row['spec']['n']:,} samples")
        if row["seed"] is not None:
            parts.append(f"seed {row['seed']}")
        parts.append(f"gandb {row['code_version']}")
        if row["state"] != "done":
            parts.append(str(row["state"]))
        elif row["finished_at"] is not None:
            parts.append(f"{row['finished_at']:%Y-%m-%d}")
        told[own] = (", ".join(parts), _stated(row))
    return told


def _shareable(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification without the places on somebody's disk that its files lay at."""
    found = {k: v for k, v in spec.items() if v is not None}
    files = found.get("files")
    if isinstance(files, list):
        found["files"] = [
            {k: v for k, v in f.items() if k != "path"} if isinstance(f, dict) else f for f in files
        ]
    return found


# --- what it was made of -----------------------------------------------------------------


def _versions(connection: sa.Connection, ids: Sequence[str]) -> _Told:
    v, d, n = tables.dataset_version, tables.dataset, tables.dataset_number
    told: _Told = {}
    query = sa.select(
        v.c.id, v.c.n_entries, v.c.n_compositions, v.c.members_hash, v.c.split_recipe
    ).where(v.c.id.in_(_uuids(ids)))
    facts = {str(row.pop("id")): _stated(row) for row in _rows(connection, query)}
    called = (
        sa.select(n.c.version_id, d.c.name, n.c.number, n.c.message, n.c.selection, n.c.removed_at)
        .join(d, d.c.id == n.c.dataset_id)
        .where(n.c.version_id.in_(_uuids(ids)))
        .order_by(d.c.name, n.c.number)
    )
    for row in _rows(connection, called):
        name = {
            "dataset": f"{row['name']}@{row['number']}",
            "message": row["message"],
            "selection": row["selection"],
        }
        if row["removed_at"] is not None:
            name["removed"] = True
        facts[str(row["version_id"])].setdefault("names", []).append(name)
    t = tables.dataset_tag
    tags = (
        sa.select(t.c.version_id, d.c.name, t.c.tag)
        .join(d, d.c.id == t.c.dataset_id)
        .where(t.c.version_id.in_(_uuids(ids)))
        .order_by(d.c.name, t.c.tag)
    )
    for row in _rows(connection, tags):
        own = facts[str(row["version_id"])].setdefault("tags", [])
        if (tag := f"{row['name']}@{row['tag']}") not in own:
            own.append(tag)
    b = tables.dataset_base
    held = {
        str(i)
        for i in connection.scalars(
            sa.select(b.c.version_id).where(b.c.version_id.in_(_uuids(ids))).distinct()
        )
    }
    for own_id, known in facts.items():
        known["members_shared"] = own_id in held
        names = known.get("names", [])
        shown = [x["dataset"] + (" (removed)" if x.get("removed") else "") for x in names]
        label = (" = ".join(shown) or "a version without a name") + (
            f", {known['n_entries']:,} entries of {known['n_compositions']:,} compositions"
        )
        if not known["members_shared"]:
            label += "; its members were not shared"
        if message := next((x["message"] for x in names if x["message"]), ""):
            label += f": {message.splitlines()[0]}"
        told[own_id] = (label, known)
    return told


def _entries(connection: sa.Connection, ids: Sequence[str]) -> _Told:
    e, c = tables.entry, tables.composition
    names = ("source", "external_id", "formula", "n_sites", "space_group_number", *PROPERTIES)
    query = (
        sa.select(e.c.id, c.c.reduced_formula, *(e.c[name] for name in names))
        .join(c, c.c.id == e.c.composition_id)
        .where(e.c.id.in_(_uuids(ids)))
    )
    told: _Told = {}
    for row in _rows(connection, query):
        own = str(row.pop("id"))
        named = f"{row['source']}:{row['external_id']}" if row["external_id"] else row["source"]
        told[own] = (f"{named}, {row['reduced_formula']}{_crystal(row)}", _stated(row))
    return told


def _snapshots(connection: sa.Connection, ids: Sequence[str]) -> _Told:
    query = sa.select(tables.source_snapshot).where(tables.source_snapshot.c.id.in_(_uuids(ids)))
    told: _Told = {}
    for row in _rows(connection, query):
        own = str(row.pop("id"))
        release = f" {row['release']}" if row["release"] else ""
        files = row["files"] or []
        read = ", ".join(f["name"] for f in files[:3]) or row["endpoint"] or "no file"
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        label = (
            f"{row['source']}{release}: {row['n_entries']:,} entries of {read}{more}; "
            f"licence {row['licence']}"
        )
        told[own] = (label, _stated(row))
    return told


def _structures(connection: sa.Connection, ids: Sequence[str]) -> _Told:
    s, c = tables.structure, tables.composition
    query = (
        sa.select(
            s.c.id, c.c.reduced_formula, s.c.n_sites, s.c.ordered, s.c.space_group_number,
            s.c.space_group_symbol,
        )
        .join(c, c.c.id == s.c.composition_id)
        .where(s.c.id.in_(_uuids(ids)))
    )  # fmt: skip
    told: _Told = {}
    for row in _rows(connection, query):
        label = f"{row['reduced_formula']}{_crystal(row)}"
        told[str(row.pop("id"))] = (label, _stated(row))
    return told


def _compositions(connection: sa.Connection, ids: Sequence[str]) -> _Told:
    c = tables.composition
    query = sa.select(
        c.c.id, c.c.reduced_formula, c.c.chemical_system, c.c.cnen_strict, c.c.cnen_default,
        c.c.cnen_matgan,
    ).where(c.c.id.in_(_uuids(ids)))  # fmt: skip
    return {
        str(row.pop("id")): (str(row["reduced_formula"]), _stated(row))
        for row in _rows(connection, query)
    }


def _recipes(connection: sa.Connection, ids: Sequence[str]) -> _Told:
    query = sa.select(tables.recipe).where(tables.recipe.c.id.in_(_uuids(ids)))
    told: _Told = {}
    for row in _rows(connection, query):
        told[str(row.pop("id"))] = (f"{row['check_name']} {row['version']}", _stated(row))
    return told


def _publications(connection: sa.Connection, names: Sequence[str]) -> _Told:
    p = tables.publication
    query = sa.select(p.c.name, p.c.public).where(p.c.name.in_(names))
    return {
        row["name"]: (f"{row['name']}, {'public' if row['public'] else 'not public'}", _stated(row))
        for row in _rows(connection, query)
    }


_TELLERS: Mapping[str, Callable[[sa.Connection, Sequence[str]], _Told]] = {
    "candidate": _candidates,
    "checkpoint": _checkpoints,
    "composition": _compositions,
    "dataset_version": _versions,
    "entry": _entries,
    "job": _jobs,
    "model": _models,
    "publication": _publications,
    "recipe": _recipes,
    "source_snapshot": _snapshots,
    "structure": _structures,
}
