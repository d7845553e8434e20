"""What a merge brings: counts by table, names, conflicts; and statements, which keep both sides."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from gandb.core.ids import canonical_json
from gandb.datasets.names import OWN
from gandb.schema import tables
from gandb.sharing.bundles.bundle import Bundle
from gandb.store import Transaction

LONGEST_VALUE = 800
"""Bytes of a statement's value; of a longer one its hash and its beginning are kept."""
_LISTED = 200
_BEGINNING = 300


@dataclass(frozen=True)
class TableReport:
    """What became of the rows of a table.

    Attributes:
        rows: of the bundle.
        new: of these, those that came in.
        known: those that were there, and stay as they were.
        differing: of the known, those of which the bundle says something else.
    """

    table: str
    rows: int
    new: int
    known: int
    differing: int


@dataclass(frozen=True)
class Conflict:
    """Two groups say different things of one.

    Attributes:
        relation: table of the row.
        subject: its key.
        attribute: the column.
        ours: what this store says, and goes on to say.
        theirs: what the bundle says.
    """

    relation: str
    subject: Mapping[str, Any]
    attribute: str
    ours: Any
    theirs: Any


@dataclass(frozen=True)
class MergeReport:
    """What a bundle brought, or would bring.

    Attributes:
        sha256: of the bundle's manifest.
        origin: the group that packed it.
        dry_run: nothing was written.
        before: when the same bundle was taken in before, UTC.
        tables: rows by table, those of no rows left out.
        datasets: numbered versions as they are called here, each ``new``, ``known``, ``filled`` (a
            stub got its members) or ``differs``; ``stub`` if its members were not shared.
        tags: the same for tags.
        n_conflicts: how many cells differ.
        conflicts: the first of them.
        n_other_records: entries of the bundle whose source and id another entry has here.
        other_records: some of them, in words.
        unidentified: structures that `gandb identify` has not seen.
    """

    sha256: str
    origin: str
    dry_run: bool
    before: dt.datetime | None
    tables: Sequence[TableReport]
    datasets: Sequence[Mapping[str, Any]]
    tags: Sequence[Mapping[str, Any]]
    n_conflicts: int
    conflicts: Sequence[Conflict]
    n_other_records: int
    other_records: Sequence[str]
    unidentified: int

    @property
    def new(self) -> int:
        """How many rows came in."""
        return sum(t.new for t in self.tables)

    def as_json(self) -> dict[str, Any]:
        """Return plain data without times."""
        plain: dict[str, Any] = _plain(asdict(self))
        del plain["dry_run"], plain["before"]
        return plain


@dataclass
class Reporter:
    """Takes note of what a merge does.

    Attributes:
        own: this store's origin.
    """

    bundle: Bundle
    own: str | None
    dry_run: bool
    before: dt.datetime | None
    _tables: dict[str, TableReport] = field(default_factory=dict)
    _datasets: list[Mapping[str, Any]] = field(default_factory=list)
    _tags: list[Mapping[str, Any]] = field(default_factory=list)
    _conflicts: list[Conflict] = field(default_factory=list)
    _others: tuple[int, list[str]] = (0, [])

    def table(self, name: str, rows: int, new: int, known: int) -> None:
        """Take note of a table."""
        if rows:
            self._tables[name] = TableReport(name, rows, new, known, 0)

    def n_new(self, name: str) -> int:
        """Return how many rows of a table are new, as far as is known by now."""
        return self._tables[name].new if name in self._tables else 0

    def dataset(self, **facts: Any) -> None:
        """Take note of a numbered version."""
        self._datasets.append(facts)

    def tag(self, **facts: Any) -> None:
        """Take note of a tag."""
        self._tags.append(facts)

    def other_records(self, n: int, examples: list[str]) -> None:
        """Take note of entries that another entry contradicts."""
        self._others = n, examples

    def conflict(self, found: Conflict) -> None:
        """Take note of a cell that differs."""
        self._conflicts.append(found)

    def conflicts_in(self, *relations: str) -> list[Conflict]:
        """Return the conflicts in some tables."""
        return [c for c in self._conflicts if c.relation in relations]

    def origin_here(self, origin: str) -> str:
        """Return what an origin is called in this store: nothing if it is this store's own."""
        return OWN if origin == self.own else origin

    def name_here(self, name: str) -> str:
        """Return what a dataset is called in this store: its own come home without origin."""
        group, _, rest = name.partition("/")
        return rest if group == self.own else name

    def write_statements(self, tx: Transaction) -> None:
        """Write both sides of every conflict; what was stated before is not stated again."""
        if self.dry_run or not self._conflicts:
            return
        theirs = self.origin_here(self.bundle.origin)
        keys = [(c.relation, subject_text(c.subject), c.attribute) for c in self._conflicts]
        stated = _stated(tx, sorted({relation for relation, _, _ in keys}))
        rows: dict[tuple[str, ...], None] = {}
        for key, conflict in zip(keys, self._conflicts, strict=True):
            here, there = value_text(conflict.ours), value_text(conflict.theirs)
            # Who said first what the row says may be known by now; this store repeats it then.
            if here not in stated.get(key, ()):
                rows[(*key, OWN, here)] = None
            rows[(*key, theirs, there)] = None
        merge_statements(tx, list(rows))

    def report(self, structures: int) -> MergeReport:
        """Return what was noted."""
        differing: dict[str, set[str]] = {}
        for conflict in self._conflicts:
            subject = subject_text(conflict.subject)
            differing.setdefault(conflict.relation, set()).add(subject)
        return MergeReport(
            sha256=self.bundle.sha256,
            origin=self.bundle.origin,
            dry_run=self.dry_run,
            before=self.before,
            tables=[
                TableReport(t.table, t.rows, t.new, t.known, len(differing.get(t.table, ())))
                for t in self._tables.values()
            ],
            datasets=self._datasets,
            tags=self._tags,
            n_conflicts=len(self._conflicts),
            conflicts=self._conflicts[:_LISTED],
            n_other_records=self._others[0],
            other_records=self._others[1],
            unidentified=structures,
        )


# --- statements --------------------------------------------------------------------------

_COLUMNS = ("relation", "subject", "attribute", "origin", "value")


def subject_text(subject: Mapping[str, Any]) -> str:
    """Write a key as ``statement.subject`` has it."""
    plain = {k: v if isinstance(v, (bool, int, type(None))) else str(v) for k, v in subject.items()}
    return canonical_json(plain).decode()


def value_text(value: Any) -> str:
    """Write a value as ``statement.value`` has it; of a long one its hash and its beginning."""
    text = canonical_json(_plain(value)).decode()
    data = text.encode()
    if len(data) <= LONGEST_VALUE:
        return text
    digest = hashlib.sha256(data).hexdigest()
    return canonical_json({"begins": text[:_BEGINNING], "sha256": digest}).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def merge_statements(tx: Transaction, rows: Sequence[tuple[str, ...]]) -> int:
    """Take in statements that are new; return how many."""
    listed = sorted(set(rows))
    columns = {n: pa.array([r[i] for r in listed], pa.string()) for i, n in enumerate(_COLUMNS)}
    return tx.merge(tables.statement, pa.table(columns)) if listed else 0


def _stated(tx: Transaction, relations: Sequence[str]) -> dict[tuple[str, str, str], set[str]]:
    """Return the values that are stated, by relation, subject and attribute."""
    own = tables.statement
    found: dict[tuple[str, str, str], set[str]] = {}
    for row in tx.execute(own.select().where(own.c.relation.in_(relations))):
        found.setdefault((row.relation, row.subject, row.attribute), set()).add(row.value)
    return found
