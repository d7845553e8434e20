"""The SQL of pages: which entries fit a filter, in which order, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.schema.tables import (
    candidate,
    candidate_novelty,
    material_member,
    published,
    structure,
)
from gandb.sharing.serving.conditions import Condition
from gandb.sharing.serving.properties import PREFIX, Origin, Property
from gandb.sharing.serving.publishing import Publication
from gandb.tasks.structures import RECORD

NOVELTY = ("known", "structure", "prototype", "substitution", "composition")
"""Names of the levels of `candidate_novelty`."""

_ROW = published.c
_ALL_IDS = 2**128 - 1
_SHARES = (1 / 64, 1 / 8)
_LIVE = frozenset({f"{PREFIX}{n}" for n in ("novelty", "material_id", "times_generated")})


@dataclass(frozen=True)
class Order:
    """One key of a sorted answer."""

    property: Property
    descending: bool = False


@dataclass(frozen=True)
class Found:
    """One entry of a page: its id, and the values of the keys it is sorted by."""

    id: UUID
    keys: tuple[Any, ...]


@dataclass(frozen=True)
class Span:
    """Ids above one and up to another."""

    above: UUID
    last: UUID


def spans(above: UUID | None) -> Iterator[Span]:
    """Cut the ids after a place into a few, a small one first.

    Rows lie sorted by id, and ids are hashes: a share of all ids holds that share of the rows. So
    what is frequent is found in a small part of the table, what is rare takes a few queries more.
    """
    begin = 0 if above is None else above.int
    for share in (*_SHARES, 1.0):
        end = min(_ALL_IDS, begin + int(share * _ALL_IDS))
        if begin < end:
            yield Span(UUID(int=begin), UUID(int=end))
        begin = end


class Rows:
    """What may be seen of the published rows, and what a query joins to them.

    Args:
        publications: those that whoever asks may read.
        everything: whether these are all that there are.
        kind: of the engine.

    Attributes:
        live: whether a filter looked at what other tables say at this moment.
    """

    def __init__(self, publications: Sequence[Publication], everything: bool, kind: str) -> None:
        self._publications = {p.name: p for p in publications}
        self._everything = everything
        self._duckdb = kind == "duckdb"
        self._joins: dict[str, tuple[Any, Any]] = {}
        self._now: dict[str, Callable[[], Any]] = {
            f"{PREFIX}kind": self._kind,
            f"{PREFIX}publications": self._names,
            f"{PREFIX}novelty": self._novelty,
            f"{PREFIX}material_id": self._material_id,
            f"{PREFIX}times_generated": self._times_generated,
        }
        self.live = False

    @property
    def copies(self) -> int:
        """Most rows that one entry may have among those that may be seen."""
        names = set(self._publications)
        overlap = any(names & set(p.overlapping) for p in self._publications.values())
        return len(names) if overlap else 1

    # --- expressions ---------------------------------------------------------------------

    def locate(self, found: Property) -> Any:
        """Return the expression of a property; joins what it needs."""
        if found.origin is Origin.ROW:
            return found.column
        if found.origin is Origin.STRUCTURE:
            self._join("structure", structure, structure.c.id == _ROW.structure_id)
            return found.column
        if found.origin is Origin.FIXED:
            return _fixed(found.column)
        self.live = self.live or found.name in _LIVE
        return self._now[found.name]()

    def _join(self, name: str, table: Any, on: Any) -> None:
        self._joins.setdefault(name, (table, on))

    def _kind(self) -> Any:
        entries = [p.name for p in self._publications.values() if p.kind == "entry"]
        return sa.case((_ROW.publication.in_(entries), "entry"), else_="candidate")

    def _names(self) -> Any:
        texts = sa.ARRAY(sa.Text())
        other = published.alias("other")
        names = sa.func.array_agg(other.c.publication, type_=texts)
        return (
            sa.select(names)
            .where(other.c.id == _ROW.id, other.c.publication.in_(list(self._publications)))
            .correlate(published)
            .scalar_subquery()
        )

    def _novelty(self) -> Any:
        least = (
            sa.select(
                candidate_novelty.c.candidate_id,
                sa.func.min(candidate_novelty.c.level).label("level"),
            )
            .group_by(candidate_novelty.c.candidate_id)
            .subquery("novelty")
        )
        self._join("novelty", least, least.c.candidate_id == _ROW.id)
        level = self._joins["novelty"][0].c.level
        return sa.case(dict(enumerate(NOVELTY)), value=level, else_=sa.null())

    def _material_id(self) -> Any:
        own = material_member
        on = sa.and_(own.c.structure_id == _ROW.structure_id, own.c.standard)
        self._join("material", own, on)
        return own.c.material_id

    def _times_generated(self) -> Any:
        self._join("candidate", candidate, candidate.c.id == _ROW.id)
        return candidate.c.times_generated

    # --- queries -------------------------------------------------------------------------

    def visible(self) -> Condition:
        """Say which rows may be seen."""
        names = list(self._publications)
        if not names:
            return sa.false()
        if self._everything:
            return sa.true()
        if len(names) == 1:
            return _ROW.publication == names[0]
        return _ROW.publication.in_(names)

    def page(
        self,
        condition: Condition | None,
        orders: Sequence[Order],
        above: Sequence[Any] | None,
        limit: int,
        offset: int = 0,
        span: Span | None = None,
    ) -> sa.Select[Any]:
        """Return the query of the first entries after a place.

        Args:
            condition: that they fit.
            orders: keys to sort by; the id is the last one always.
            above: values of the keys, and the id, of the last entry before; None from the start.
            limit: how many entries.
            offset: how many to pass over.
            span: ids to look at; None for all.
        """
        keys = [(self._sortable(o.property), o.descending) for o in orders]
        labelled = [k.label(f"key_{i}") for i, (k, _) in enumerate(keys)]
        query = sa.select(_ROW.id.label("id"), *labelled).where(self.visible())
        if condition is not None:
            query = query.where(condition)
        if span is not None:
            query = query.where(_ROW.id > span.above, _ROW.id <= span.last)
        elif above is not None:
            query = query.where(_after([*keys, (_ROW.id, False)], above))
        if offset and self.copies > 1:
            query = query.group_by(_ROW.id, *(k for k, _ in keys))
        else:
            limit *= self.copies
        order = [(k.desc() if down else k.asc()).nulls_last() for k, down in keys]
        query = query.order_by(*order, _ROW.id)
        return self._joined(query).limit(limit).offset(offset or None)

    def _sortable(self, found: Property) -> Any:
        """Return the expression of a property that sorts texts by code point."""
        key = self.locate(found)
        return sa.collate(key, "C") if isinstance(key.type, sa.Text) and not self._duckdb else key

    def count(self, condition: Condition | None) -> sa.Select[Any]:
        """Return the query of how many entries fit."""
        what = sa.func.count() if self.copies == 1 else sa.func.count(_ROW.id.distinct())
        query = sa.select(what.label("n")).select_from(published).where(self.visible())
        return self._joined(query if condition is None else query.where(condition))

    def details(self, ids: Sequence[UUID], columns: Iterable[Any]) -> sa.Select[Any]:
        """Return the query of columns of published rows; of an entry, one for each publication."""
        chosen = dict.fromkeys([_ROW.publication, _ROW.id, *columns])
        return sa.select(*chosen).where(
            self.visible(), _ROW.id.between(min(ids), max(ids)), _ROW.id.in_(ids)
        )

    def _joined(self, query: sa.Select[Any]) -> sa.Select[Any]:
        source: Any = published
        for table, on in self._joins.values():
            source = source.outerjoin(table, on)
        return query.select_from(source)


def structure_records(ids: Sequence[UUID]) -> sa.Select[Any]:
    """Return the query of the records of structures."""
    return sa.select(*RECORD).where(structure.c.id.in_(ids))


def novelty_of(ids: Sequence[UUID]) -> sa.Select[Any]:
    """Return the query of the least level of candidates."""
    own = candidate_novelty.c
    return (
        sa.select(own.candidate_id.label("id"), sa.func.min(own.level).label("value"))
        .where(own.candidate_id.in_(ids))
        .group_by(own.candidate_id)
    )


def material_of(ids: Sequence[UUID]) -> sa.Select[Any]:
    """Return the query of the materials of structures."""
    own = material_member.c
    return sa.select(own.structure_id.label("id"), own.material_id.label("value")).where(
        own.standard, own.structure_id.in_(ids)
    )


def times_of(ids: Sequence[UUID]) -> sa.Select[Any]:
    """Return the query of how often candidates were generated."""
    own = candidate.c
    return sa.select(own.id.label("id"), own.times_generated.label("value")).where(own.id.in_(ids))


def _fixed(value: Any) -> Any:
    if isinstance(value, list):
        type_ = sa.ARRAY(sa.BigInteger())
        return sa.cast(sa.literal(value, type_), type_)
    if isinstance(value, str):
        return sa.cast(sa.literal(value), sa.Text)
    return sa.cast(sa.literal(value, sa.BigInteger()), sa.BigInteger)


def _after(keys: Sequence[tuple[Any, bool]], values: Sequence[Any]) -> Condition:
    """Say what comes after given values of the keys; nulls come last."""
    found: list[Condition] = []
    same: list[Condition] = []
    for (key, descending), value in zip(keys, values, strict=True):
        if value is not None:
            later = key < value if descending else key > value
            if getattr(key, "nullable", True):  # an index finds what comes later, if that is all
                later = sa.or_(later, key.is_(None))
            found.append(sa.and_(*same, later))
        same.append(key.is_(None) if value is None else key == value)
    return sa.or_(*found) if found else sa.false()
