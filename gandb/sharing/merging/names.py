"""Dataset versions of a bundle and what they are called: ORIGIN/NAME@3, tags, and statements."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pyarrow as pa
import sqlalchemy as sa

from gandb.core.ids import Domain, content_id
from gandb.datasets.members import members_shared
from gandb.datasets.storing import fill_stub, store_version, write_stub
from gandb.jobs.queue import now
from gandb.schema import tables
from gandb.sharing.bundles.bundle import Bundle
from gandb.sharing.bundles.versions import BundleVersion, BundleVersions
from gandb.sharing.merging.report import Conflict, Reporter, merge_statements, subject_text
from gandb.sharing.merging.rows import same
from gandb.sharing.verifying.content import table_of
from gandb.store import Transaction

_NUMBERED = ("version_id", "message", "selection")
_NEW, _KNOWN, _FILLED, _STUB, _DIFFERS = "new", "known", "filled", "stub", "differs"


class Names:
    """Takes versions, names, tags and statements of a bundle into a store."""

    def __init__(self, tx: Transaction, bundle: Bundle, reporter: Reporter) -> None:
        self._tx = tx
        self._bundle = bundle
        self._reporter = reporter
        self._dry_run = reporter.dry_run
        self._states: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._ids: dict[str, UUID] = {}
        for row in table_of(bundle, "dataset").to_pylist():
            name = reporter.name_here(row["name"])
            self._names[row["id"]] = name
            self._ids[row["id"]] = content_id(Domain.DATASET, name.encode())

    # --- versions ------------------------------------------------------------------------

    def take_versions(self) -> None:
        """Take in versions, parents first; a stub that the bundle has the members of is filled."""
        versions = BundleVersions(self._bundle)
        new = 0
        for version in versions:
            state = self._state(version)
            self._states[str(version.id)] = state
            new += state in (_NEW, _STUB)
            if not self._dry_run:
                self._write(versions, version, state)
        if len(versions):
            n = len(versions)
            self._reporter.table("dataset_version", n, new, n - new)

    def _state(self, version: BundleVersion) -> str:
        own = tables.dataset_version.c
        there = self._tx.execute(sa.select(own.id).where(own.id == version.id)).first()
        if there is None:
            return _NEW if version.shared else _STUB
        if version.shared and not members_shared(self._tx.connection, version.id):
            return _FILLED
        return _KNOWN

    def _write(self, versions: BundleVersions, version: BundleVersion, state: str) -> None:
        if state == _NEW:
            store_version(
                self._tx,
                versions.members(version),
                version.split_recipe,
                version.parents,
                n_compositions=version.n_compositions,
                expected=version.id,
            )
        elif state == _STUB:
            write_stub(
                self._tx,
                version.members_hash,
                version.split_recipe,
                version.parents,
                n_entries=version.n_entries,
                n_compositions=version.n_compositions,
                expected=version.id,
            )
        elif state == _FILLED:
            fill_stub(self._tx, version.id, versions.members(version))

    # --- names and tags ------------------------------------------------------------------

    def take_names(self) -> None:
        """Take in datasets, the numbers of versions, and tags."""
        if not self._dry_run:
            for own, name in self._names.items():
                self._tx.insert_new(tables.dataset, {"id": self._ids[own], "name": name})
        self._take_numbers()
        self._take_tags()

    def _take_numbers(self) -> None:
        table = tables.dataset_number
        rows = table_of(self._bundle, "dataset_number").to_pylist()
        new = 0
        for row in rows:
            row = {
                "dataset_id": self._ids[row["dataset_id"]],
                "number": row["number"],
                "version_id": UUID(row["version_id"]),
                "message": row["message"],
                "selection": json.loads(row["selection"]),
            } | {"name": self._names[row["dataset_id"]]}
            name = row.pop("name")
            key = [table.c.dataset_id == row["dataset_id"], table.c.number == row["number"]]
            there = self._tx.execute(sa.select(table).where(*key)).mappings().first()
            state = self._states[str(row["version_id"])]
            if there is None:
                new += 1
                if not self._dry_run:
                    self._tx.execute(table.insert(), {**row, "created_at": now()})
            else:
                differing = [c for c in _NUMBERED if not same(there[c], row[c])]
                for column in differing:
                    subject = {"dataset": name, "number": row["number"]}
                    ours, theirs = there[column], row[column]
                    self._reporter.conflict(Conflict(table.name, subject, column, ours, theirs))
                if differing:
                    state = _DIFFERS
                elif state == _NEW:
                    state = _FILLED
            self._reporter.dataset(
                dataset=f"{name}@{row['number']}", version_id=str(row["version_id"]), state=state
            )
        self._reporter.table(table.name, len(rows), new, len(rows) - new)

    def _take_tags(self) -> None:
        table = tables.dataset_tag
        rows = table_of(self._bundle, "dataset_tag").to_pylist()
        new = 0
        for row in rows:
            key = {
                "dataset_id": self._ids[row["dataset_id"]],
                "tag": row["tag"],
                "origin": self._reporter.origin_here(row["origin"]),
                "version_id": UUID(row["version_id"]),
            }
            query = sa.select(table.c.origin, table.c.version_id).where(
                table.c.dataset_id == key["dataset_id"], table.c.tag == key["tag"]
            )
            others = [(row.origin, row.version_id) for row in self._tx.execute(query)]
            mine = (key["origin"], key["version_id"]) in others
            state = _KNOWN if mine else _NEW
            if any(version != key["version_id"] for _, version in others):
                state = _DIFFERS
            if not mine:
                new += 1
                if not self._dry_run:
                    values = {**key, "message": row["message"], "created_at": now()}
                    self._tx.execute(table.insert(), values)
            self._reporter.tag(
                tag=f"{self._names[row['dataset_id']]}@{row['tag']}",
                origin=row["origin"],
                version_id=row["version_id"],
                state=state,
                others=sorted({str(version) for _, version in others} - {row["version_id"]}),
            )
        self._reporter.table(table.name, len(rows), new, len(rows) - new)

    # --- statements ----------------------------------------------------------------------

    def take_statements(self) -> None:
        """Take in what groups stated before; what this store said itself comes home as its own."""
        rows = []
        for row in table_of(self._bundle, "statement").to_pylist():
            subject = self._localised(json.loads(row["subject"]))
            rows.append(
                (
                    row["relation"],
                    subject_text(subject),
                    row["attribute"],
                    self._reporter.origin_here(row["origin"]),
                    row["value"],
                )
            )
        if not rows:
            return
        columns = [c.name for c in tables.statement.columns]
        found = pa.table({n: pa.array([r[i] for r in rows]) for i, n in enumerate(columns)})
        new = int(self._tx.absent(tables.statement, found).sum())
        self._reporter.table("statement", len(rows), new, len(rows) - new)
        if not self._dry_run:
            merge_statements(self._tx, rows)

    def _localised(self, subject: Mapping[str, Any]) -> dict[str, Any]:
        """Return the key of a row as it is here: datasets are told by their names."""
        if "dataset" in subject:
            return {**subject, "dataset": self._reporter.name_here(str(subject["dataset"]))}
        return dict(subject)
