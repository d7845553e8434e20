"""Taking a bundle in: the same thing from two groups becomes one, what differs is kept twice.

Rows are told by their keys, which are taken from content, so nothing is renumbered. A row that is
there stays. Where a bundle says something else of it, both are kept as statements, each with the
group that makes it. Names of datasets live under the origin of the group that gave them; a group's
own names come home without it.

Everything is one transaction, after all content has been checked and blobs have been written. If it
fails, the blobs go again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from gandb.core.errors import GandbError, MemoryLimitError
from gandb.jobs.queue import now
from gandb.schema import tables
from gandb.sharing.bundles.bundle import Bundle, open_bundle
from gandb.sharing.merging.names import Names
from gandb.sharing.merging.report import MergeReport, Reporter
from gandb.sharing.merging.results import Results
from gandb.sharing.merging.rows import Rows
from gandb.sharing.origin import origin_on
from gandb.sharing.verifying.content import Progress, verify_content
from gandb.store import Store, Transaction

MEMORY = 500
"""MB that DuckDB should do with; where that does not suffice, it is done again without a bound."""

Told = Callable[[str], None]
"""Is told what is being done."""


class _DryRunError(Exception):
    """Ends the transaction of a dry run, so that nothing of it remains."""


def merge(
    store: Store,
    path: Path,
    *,
    dry_run: bool = False,
    told: Told | None = None,
    progress: Progress | None = None,
) -> MergeReport:
    """Take a bundle in, or say what it would bring.

    Args:
        store: where to.
        path: the bundle, a folder or a zip.
        dry_run: change nothing.
        told: is told what is being done.
        progress: is told how many more rows have been checked.

    Returns:
        what came in, what was there, and what differs.

    Raises:
        InputError: it is no bundle, or its content is not what it says.
        RevisionError: it is of another schema revision.
        JobError: a job that it has done is still open here.
    """
    with open_bundle(path) as bundle:
        told = told or (lambda _: None)
        told("checking")
        verify_content(bundle, progress)
        told("comparing" if dry_run else "merging")
        written = [] if dry_run else _write_blobs(store, bundle)
        try:
            try:
                return _merge(store, bundle, dry_run, MEMORY)
            except MemoryLimitError:
                return _merge(store, bundle, dry_run, None)
        except BaseException:
            with suppress(GandbError):
                _drop_blobs(store, written)
            raise


def _merge(store: Store, bundle: Bundle, dry_run: bool, memory: int | None) -> MergeReport:
    found: list[MergeReport] = []
    with suppress(_DryRunError), store.write(alone=True) as tx:
        if memory is not None:
            tx.limit_memory(memory)
        if not dry_run:
            _write_blobs(store, bundle)  # nobody removes them from here on
        report = _take_in(tx, bundle, dry_run)
        found.append(report)
        if dry_run:
            raise _DryRunError
    return found[0]


def _take_in(tx: Transaction, bundle: Bundle, dry_run: bool) -> MergeReport:
    own = origin_on(tx.connection)
    before = tx.execute(
        sa.select(tables.bundle.c.merged_at).where(tables.bundle.c.sha256 == bundle.sha256)
    ).scalar_one_or_none()
    reporter = Reporter(bundle, own, dry_run=dry_run, before=before)
    rows = Rows(tx, bundle, reporter)
    rows.take("recipe")
    rows.take_compositions()
    rows.take_structures()
    rows.take_entries()
    names = Names(tx, bundle, reporter)
    names.take_versions()
    names.take_names()
    results = Results(tx, bundle, reporter, rows)
    results.take()
    names.take_statements()
    reporter.write_statements(tx)
    report = reporter.report(structures=rows.unidentified())
    if not dry_run:
        row = {
            "sha256": bundle.sha256,
            "origin": bundle.origin,
            "selection": dict(bundle.manifest["selection"]),
            "report": report.as_json(),
            "merged_at": now(),
        }
        tx.insert_new(tables.bundle, row)
    return report


# --- blobs -------------------------------------------------------------------------------


def _write_blobs(store: Store, bundle: Bundle) -> list[str]:
    """Write the blobs that are not there; return which."""
    written = []
    for sha256, path in sorted(bundle.blobs.items()):
        if not store.files.has_blob(sha256):
            store.files.put_blob(path.read_bytes())
            written.append(sha256)
    return written


def _drop_blobs(store: Store, written: list[str]) -> None:
    """Remove blobs again, unless somebody has come to name them meanwhile."""
    if not written:
        return
    with store.write() as tx:
        query = sa.select(tables.blob.c.sha256).where(tables.blob.c.sha256.in_(written))
        named = set(tx.connection.scalars(query))
        for sha256 in written:
            if sha256 not in named and store.files.has_blob(sha256):
                store.files.drop_blob(sha256)


# --- what was taken in -------------------------------------------------------------------


def bundles(store: Store) -> list[dict[str, Any]]:
    """List the bundles that a store has taken in, oldest first."""
    own = tables.bundle
    with store.read() as connection:
        found = connection.execute(sa.select(own).order_by(own.c.merged_at, own.c.sha256))
        return [dict(row) for row in found.mappings()]
