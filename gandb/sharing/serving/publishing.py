"""Publishing: a copy of what is served of a dataset version, or of a model's candidates.

A publication is made in one transaction. Its rows hold what filters ask for, sorted by id, so that
a page is found in one table; structures stay where they are. What later changes (materials,
novelty, how often a candidate was generated) is not copied but looked up with each answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import pyarrow as pa
import sqlalchemy as sa

from gandb.core.compositions import uuid_array
from gandb.core.errors import NotFoundError, UsageError
from gandb.core.ids import canonical_json, sha256_hex
from gandb.core.units import PROPERTIES
from gandb.datasets.versions import members_query, resolve
from gandb.jobs.queue import now
from gandb.schema.tables import (
    candidate,
    composition,
    entry,
    publication,
    published,
    snapshot_entry,
    source_snapshot,
    structure,
)
from gandb.sharing.licences import model_notices, notices, require_allowed
from gandb.sharing.serving.formulas import adds_up, facts_of, spaced_symbol
from gandb.sharing.serving.packed import COLUMNS, pack_columns
from gandb.store import Store, Transaction
from gandb.store.bulk import fetch, ids_from_text
from gandb.store.loading import loading
from gandb.tasks.data import Checkpoint, find_checkpoint

_DOI = re.compile(r"\b10\.\d{4,9}/[^\s\"<>,;]+[^\s\"<>,;.)]")
_PACK = "gandb_pack_structure"
_VERDICTS = ("cnen_strict", "cnen_default", "cnen_matgan")
_FACTS = (
    "formula_reduced",
    "formula_anonymous",
    "formula_hill",
    "ratios",
    "elements_low",
    "elements_high",
)


@dataclass(frozen=True)
class Publication:
    """What is served under one name.

    Attributes:
        name: ``NAME@3``, ``MODEL:NAME@3``, or an external model's name.
        public: everyone may read it.
        n_structures: how many entries or candidates it serves.
        n_without: how many it leaves out, for want of a structure.
        overlapping: publications before it that share entries or candidates with it.
        sources: attributes of OPTIMADE references, by id.
        created_at: when it was published, UTC.
        dataset_version_id: of a dataset version.
        checkpoint_id: whose candidates it serves.
    """

    name: str
    public: bool
    n_structures: int
    n_without: int
    overlapping: tuple[str, ...]
    sources: Mapping[str, Mapping[str, str]]
    created_at: datetime
    dataset_version_id: UUID | None = None
    checkpoint_id: UUID | None = None

    @property
    def kind(self) -> str:
        """``entry`` or ``candidate``."""
        return "entry" if self.dataset_version_id else "candidate"


@dataclass(frozen=True)
class _Target:
    """What a reference names, before it is published."""

    name: str
    version_id: UUID | None
    checkpoint: Checkpoint | None


def publish(
    store: Store, reference: str, *, public: bool = True, allowed: Collection[str] = ()
) -> Publication:
    """Publish a dataset version or a model's candidates, or do so again.

    Args:
        store: where.
        reference: ``NAME@3``, ``MODEL:NAME@3``, or an external model's name.
        public: for everyone; else for who has a token.
        allowed: texts of licences that the user says he may hand data on under.

    Raises:
        NotFoundError: there is no such thing, or its members were not shared.
        UsageError: nothing in it has a structure, or it is for everyone and the terms of its
            sources forbid that.
    """
    target = _target(store, reference)
    with store.write() as tx:
        connection = tx.connection
        name = _free_name(connection, target)
        moment = now().replace(microsecond=0)
        chosen = _entries(target.version_id) if target.version_id else _candidates(target)
        if public:
            _require_allowed(connection, target, chosen, allowed)
        sources, told = _sources(store, connection, target)
        prior = _prior(connection)
        connection.execute(published.delete().where(published.c.publication == name))
        connection.execute(publication.delete().where(publication.c.name == name))
        counts = connection.execute(
            sa.select(sa.func.count(), sa.func.count(chosen.c.structure_id)).select_from(chosen)
        ).one()
        total, n = int(counts[0]), int(counts[1])
        if not n:
            raise UsageError(
                f"nothing in {name} has a structure ({total:,} without), so that there is nothing "
                "to serve"
            )
        row: dict[str, Any] = {
            "name": name,
            "dataset_version_id": target.version_id,
            "checkpoint_id": target.checkpoint.id if target.checkpoint else None,
            "public": public,
            "n_structures": n,
            "n_without": total - n,
            "overlapping": [],
            "sources": sources,
            "created_at": now(),
        }
        connection.execute(publication.insert(), row)
        _fill(tx, name, chosen, told, prior, moment, n)
        row["overlapping"] = _overlapping(connection, name)
        connection.execute(
            publication.update()
            .where(publication.c.name == name)
            .values(overlapping=row["overlapping"])
        )
        return _publication(row)


def list_publications(connection: sa.Connection) -> list[Publication]:
    """Return all publications by name."""
    rows = connection.execute(sa.select(publication).order_by(publication.c.name)).mappings()
    return [_publication(row) for row in rows]


def remove(store: Store, name: str) -> Publication:
    """Take a publication back.

    Raises:
        NotFoundError: there is none of that name; names those that exist.
    """
    with store.write() as tx:
        known = {p.name: p for p in list_publications(tx.connection)}
        if name not in known:
            raise NotFoundError.naming("publication", name, known)
        tx.execute(published.delete().where(published.c.publication == name))
        tx.execute(publication.delete().where(publication.c.name == name))
        return known[name]


def _publication(row: Mapping[Any, Any]) -> Publication:
    return Publication(
        name=row["name"],
        public=row["public"],
        n_structures=row["n_structures"],
        n_without=row["n_without"],
        overlapping=tuple(row["overlapping"]),
        sources=row["sources"],
        created_at=row["created_at"],
        dataset_version_id=row["dataset_version_id"],
        checkpoint_id=row["checkpoint_id"],
    )


# --- what is meant -----------------------------------------------------------------------


def _target(store: Store, reference: str) -> _Target:
    if ":" not in reference:
        try:
            version = resolve(store, reference)
        except (NotFoundError, UsageError):
            if "@" in reference:
                raise
        else:
            return _Target(version.reference, version.id, None)
    found = find_checkpoint(store, reference)
    return _Target(found.reference, None, found)


def _free_name(connection: sa.Connection, target: _Target) -> str:
    """Return the target's name, told apart from another checkpoint's of the same name."""
    if target.checkpoint is None:
        return target.name
    query = sa.select(publication.c.checkpoint_id).where(publication.c.name == target.name)
    taken = connection.execute(query).scalar()
    if taken in (None, target.checkpoint.id):
        return target.name
    return f"{target.name}#{target.checkpoint.short_id}"


def _entries(version_id: UUID) -> sa.Subquery:
    members = members_query(version_id).subquery()
    return (
        sa.select(
            entry.c.id,
            entry.c.structure_id,
            entry.c.composition_id,
            entry.c.source,
            entry.c.external_id,
            sa.null().cast(sa.Text).label("model"),
            *(entry.c[name] for name in PROPERTIES),
            sa.null().cast(sa.Boolean).label("novel"),
        )
        .join(members, members.c.entry_id == entry.c.id)
        .subquery()
    )


def _candidates(target: _Target) -> sa.Subquery:
    if target.checkpoint is None:
        raise ValueError("neither a dataset version nor a checkpoint")
    return (
        sa.select(
            candidate.c.id,
            candidate.c.structure_id,
            candidate.c.composition_id,
            sa.null().cast(sa.Text).label("source"),
            sa.null().cast(sa.Text).label("external_id"),
            sa.literal(target.checkpoint.model).label("model"),
            *(sa.null().cast(sa.Double).label(name) for name in PROPERTIES),
            candidate.c.novel,
        )
        .where(candidate.c.checkpoint_id == target.checkpoint.id)
        .subquery()
    )


def _require_allowed(
    connection: sa.Connection, target: _Target, chosen: sa.Subquery, allowed: Collection[str]
) -> None:
    """Refuse to show everyone what the terms of its source do not allow."""
    served = sa.select(chosen.c.id).where(chosen.c.structure_id.is_not(None))
    sql = served.compile(connection, compile_kwargs={"literal_binds": True})
    told = notices if target.version_id else model_notices
    otherwise = "Serve it to who has a token (--private)"
    require_allowed(told(connection, str(sql), allowed), "not published", otherwise)


# --- whom to cite ------------------------------------------------------------------------


def _sources(
    store: Store, connection: sa.Connection, target: _Target
) -> tuple[dict[str, dict[str, str]], Any]:
    """Return references by id, and the ids that go with each entry (or with every candidate)."""
    if target.checkpoint is not None:
        own = _reference_of_model(store, target.checkpoint)
        return own, list(own)
    members = members_query(target.version_id).subquery()  # type: ignore[arg-type]
    held = (
        sa.select(snapshot_entry.c.snapshot_id)
        .join(members, members.c.entry_id == snapshot_entry.c.entry_id)
        .distinct()
    )
    query = sa.select(
        source_snapshot.c.id,
        source_snapshot.c.source,
        source_snapshot.c.licence,
        source_snapshot.c.attribution,
    ).where(source_snapshot.c.id.in_(held))
    found: dict[str, dict[str, str]] = {}
    of_snapshot: dict[UUID, str] = {}
    for row in connection.execute(query.order_by(source_snapshot.c.source)):
        own_id = _reference_id(row.source, row.licence, row.attribution)
        found[own_id] = _reference(row.source, row.licence, row.attribution)
        of_snapshot[row.id] = own_id
    which = sa.case(of_snapshot, value=snapshot_entry.c.snapshot_id) if of_snapshot else sa.null()
    texts = sa.cast(which, sa.Text)
    told = (
        sa.select(
            snapshot_entry.c.entry_id,
            sa.func.array_agg(texts.distinct(), type_=sa.ARRAY(sa.Text)).label("reference_ids"),
        )
        .join(members, members.c.entry_id == snapshot_entry.c.entry_id)
        .group_by(snapshot_entry.c.entry_id)
        .subquery()
    )
    return found, told


def _reference_of_model(store: Store, found: Checkpoint) -> dict[str, dict[str, str]]:
    licence, attribution = "not stated", f"Generated by {found.reference}."
    if found.role == "external":
        origin = json.loads(store.files.get_blob(found.sha256)).get("origin") or {}
        said = [f"{k}: {v}" for k, v in sorted(origin.items()) if isinstance(v, str | int | float)]
        licence = str(origin.get("licence") or origin.get("license") or licence)
        attribution = " ".join([attribution, *(f"{text}." for text in said)])
    own_id = _reference_id(found.model, licence, attribution)
    return {own_id: _reference(found.model, licence, attribution)}


def _reference_id(source: str, licence: str, attribution: str) -> str:
    digest = sha256_hex(canonical_json([source, licence, attribution]))[:8]
    return f"{re.sub('[^A-Za-z0-9_.-]', '-', source)}-{digest}"


def _reference(source: str, licence: str, attribution: str) -> dict[str, str]:
    found = {
        "bib_type": "misc",
        "title": f"Structures of {source}",
        "note": attribution,
        "source": source,
        "licence": licence,
    }
    if match := _DOI.search(attribution):
        found |= {"doi": match[0], "url": f"https://doi.org/{match[0]}"}
    return found


# --- rows --------------------------------------------------------------------------------


def _prior(connection: sa.Connection) -> sa.TableClause | None:
    """Keep aside when ids were first published; None if nothing was."""
    if not connection.execute(sa.select(sa.exists(sa.select(published.c.id)))).scalar():
        return None
    ending = " ON COMMIT DROP" if connection.dialect.name == "postgresql" else ""
    connection.exec_driver_sql(
        f"CREATE TEMP TABLE published_before{ending} AS "
        "SELECT id, min(last_modified) AS last_modified FROM published GROUP BY id"
    )
    return sa.table("published_before", sa.column("id", sa.Uuid), sa.column("last_modified"))


def _fill(
    tx: Transaction,
    name: str,
    chosen: sa.Subquery,
    told: Any,
    prior: sa.TableClause | None,
    moment: datetime,
    n_rows: int,
) -> None:
    connection = tx.connection
    facts_name = tx.stage(published, _facts(connection, chosen))
    facts = sa.table(
        facts_name, sa.column("composition_id", sa.Uuid), *(sa.column(f) for f in _FACTS)
    )
    symbols = _symbols(connection)
    whole = _whole(connection, chosen)
    hill = sa.case(
        (sa.or_(structure.c.ordered, structure.c.id.in_(whole)), facts.c.formula_hill),
        else_=sa.null(),
    )
    source = (
        chosen.join(structure, structure.c.id == chosen.c.structure_id)
        .join(composition, composition.c.id == chosen.c.composition_id)
        .join(facts, facts.c.composition_id == chosen.c.composition_id)
    )
    first: Any = sa.cast(sa.literal(moment, sa.DateTime), sa.DateTime)
    if prior is not None:
        source = source.outerjoin(prior, prior.c.id == chosen.c.id)
        first = sa.func.coalesce(prior.c.last_modified, first)
    if isinstance(told, sa.Subquery):
        source = source.outerjoin(told, told.c.entry_id == chosen.c.id)
        references = sa.func.coalesce(told.c.reference_ids, _texts([]))
    else:
        references = _texts(told)
    symbol = structure.c.space_group_symbol
    values: dict[str, Any] = {
        "publication": sa.literal(name),
        "id": chosen.c.id,
        "structure_id": chosen.c.structure_id,
        "composition_id": chosen.c.composition_id,
        **{c: chosen.c[c] for c in ("source", "external_id", "model", *PROPERTIES, "novel")},
        "formula": composition.c.reduced_formula,
        **{f: facts.c[f] for f in _FACTS},
        "formula_hill": hill,
        "elements": composition.c.elements,
        "n_elements": composition.c.n_elements,
        "n_sites": structure.c.n_sites,
        "ordered": structure.c.ordered,
        "space_group_number": structure.c.space_group_number,
        "space_group_symbol": sa.case(symbols, value=symbol, else_=symbol) if symbols else symbol,
        **{verdict: composition.c[verdict] for verdict in _VERDICTS},
        "reference_ids": references,
        "last_modified": first,
    }
    values["record"] = _packed(connection, values)
    query = sa.select(*(v.label(k) for k, v in values.items())).select_from(source)
    query = query.order_by(chosen.c.id)
    postgres = connection.dialect.name == "postgresql"
    filled = connection.execute(sa.select(sa.exists(sa.select(published.c.id)))).scalar()
    fresh = postgres and not filled
    with loading(connection, "published", n_rows) if fresh else nullcontext():
        connection.execute(published.insert().from_select(list(values), query))
    tx.unstage(facts_name)
    if prior is not None:
        connection.exec_driver_sql("DROP TABLE published_before")
    if postgres:
        connection.exec_driver_sql("ANALYZE published")


def _packed(connection: sa.Connection, values: Mapping[str, Any]) -> Any:
    """Return a row as one value; see `gandb.sharing.serving.packed`."""
    if connection.dialect.name != "duckdb":
        return sa.null().cast(sa.LargeBinary)
    driver: Any = connection.connection.driver_connection
    types = ["DOUBLE"] * 7 + ["VARCHAR[]", "DOUBLE[]", "VARCHAR", "VARCHAR"]
    driver.create_function(
        _PACK, pack_columns, types, "BLOB", type="arrow", null_handling="special"
    )
    row = structure.c
    cell = (row.a, row.b, row.c, row.alpha, row.beta, row.gamma, row.charge)
    properties = sa.cast(row.site_properties, sa.Text)
    rest = sa.cast(sa.func.json_array(*(values[name] for name in COLUMNS)), sa.Text)
    return sa.Function(
        _PACK, *cell, row.species, row.frac_coords, properties, rest, type_=sa.LargeBinary()
    )


def _overlapping(connection: sa.Connection, name: str) -> list[str]:
    """Return the other publications that share ids with one."""
    other = published.alias()
    query = (
        sa.select(other.c.publication)
        .join(published, published.c.id == other.c.id)
        .where(published.c.publication == name, other.c.publication != name)
        .distinct()
    )
    return sorted(connection.scalars(query))


def _texts(values: list[str]) -> Any:
    return sa.cast(sa.literal(values, sa.ARRAY(sa.Text)), sa.ARRAY(sa.Text))


def _facts(connection: sa.Connection, chosen: sa.Subquery) -> pa.Table:
    """Return what follows from each composition, once."""
    query = (
        sa.select(composition.c.id, composition.c.reduced_formula)
        .where(
            composition.c.id.in_(
                sa.select(chosen.c.composition_id).where(chosen.c.structure_id.is_not(None))
            )
        )
        .order_by(composition.c.id)
    )
    rows = fetch(connection, query)
    ids = uuid_array(ids_from_text(rows.column("id")))
    return pa.table({"composition_id": ids, **facts_of(rows.column("reduced_formula"))})


def _symbols(connection: sa.Connection) -> dict[str, str]:
    """Return how each space group symbol of the store is written for clients."""
    query = sa.select(structure.c.space_group_symbol).distinct()
    found = [s for s in connection.scalars(query) if s]
    return {s: spaced_symbol(s) for s in sorted(found)}


def _whole(connection: sa.Connection, chosen: sa.Subquery) -> list[UUID]:
    """Return the disordered structures whose occupancies add up to whole atoms."""
    query = sa.select(structure.c.id, structure.c.species).where(
        sa.not_(structure.c.ordered),
        structure.c.id.in_(sa.select(chosen.c.structure_id)),
    )
    rows = fetch(connection, query)
    ids, sites = rows.column("id").to_pylist(), rows.column("species").to_pylist()
    return [UUID(i) for i, species in zip(ids, sites, strict=True) if adds_up(species)]


__all__ = ["Publication", "list_publications", "publish", "remove"]
