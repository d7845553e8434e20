"""What groups made of data: models, jobs, checkpoints, candidates and what was said of them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from gandb.core.errors import JobError
from gandb.jobs.queue import now
from gandb.schema import tables
from gandb.sharing.bundles.bundle import Bundle
from gandb.sharing.merging.report import Reporter
from gandb.sharing.merging.rows import STATED, Rows
from gandb.sharing.portable import importable
from gandb.sharing.verifying.content import pieces, table_named, table_of
from gandb.store import Transaction
from gandb.store.merge import chosen
from gandb.tasks import (
    candidates,
    coverage,
    generation,
    novelty,
    relaxation,
    stability,
    structure_checks,
    structure_novelty,
    training,
)
from gandb.tasks.known_compositions import novelty_recipe
from gandb.validation.charge import CNEN

SHARED_KINDS = frozenset(
    {
        candidates.KIND,
        coverage.KIND,
        generation.KIND,
        novelty.KIND,
        relaxation.KIND,
        stability.KIND,
        structure_checks.KIND,
        structure_novelty.KIND,
        structure_novelty.RELAXED_KIND,
        training.KIND,
    }
)
"""Jobs whose result is of use elsewhere. Imports and the grouping of structures are work on one
store: what they brought is in the bundle, and another store does its own."""


class Results:
    """Takes models, jobs, checkpoints and candidates of a bundle into a store."""

    def __init__(self, tx: Transaction, bundle: Bundle, reporter: Reporter, rows: Rows) -> None:
        self._tx = tx
        self._bundle = bundle
        self._reporter = reporter
        self._rows = rows
        self._dry_run = reporter.dry_run
        kinds = table_of(bundle, "job", ["id", "kind"])
        shared = pc.is_in(kinds.column("kind"), pa.array(sorted(SHARED_KINDS)))
        self._jobs = kinds.filter(shared).column("id").combine_chunks()

    def take(self) -> None:
        """Take everything in.

        Raises:
            JobError: a job that the bundle has done is not done here.
        """
        self._require_done()
        for name in ("blob", "model"):
            self._rows.take(name)
        self._take_jobs()
        self._rows.take("checkpoint")
        if not self._dry_run and self._tx.connection.dialect.name == "postgresql":
            # Jobs and checkpoints refer to each other; that is settled now.
            self._tx.connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
        self._take_chunks()
        self._rows.take("metric", self._of_jobs)
        known = self._take_candidates()
        for name in ("generation_event", "candidate_record", "candidate_novelty"):
            self._rows.take(name)
        if not self._dry_run:
            self._count_again(known)
            self._copy_again()

    # --- jobs ----------------------------------------------------------------------------

    def _of_jobs(self, rows: pa.Table) -> pa.Table:
        name = "job_id" if "job_id" in rows.column_names else "id"
        return rows.filter(pc.is_in(rows.column(name), self._jobs))

    def _require_done(self) -> None:
        own = tables.job.c
        ids = [UUID(i) for i in self._jobs.to_pylist()]
        query = sa.select(own.id, own.kind, own.state).where(own.id.in_(ids), own.state != "done")
        for row in self._tx.execute(query.order_by(own.id).limit(1)):
            short = str(row.id)[:8]
            raise JobError(
                f"the bundle has done job {short} ({row.kind}), which is {row.state} here: finish "
                f"it first (gandb worker; if it failed or was cancelled, gandb job retry {short}), "
                "then merge"
            )

    def _take_jobs(self) -> None:
        table = table_named("job")
        rows = self._of_jobs(table_of(self._bundle, "job"))
        if not rows.num_rows:
            return
        found = importable(table.columns, rows)
        new = self._tx.absent(table.table, found)
        self._rows.noted("job", new)
        whole = self._bundle.rows("job") == rows.num_rows
        if not new.all():
            self._rows.compare("job", ~new if whole else self._spread(new), STATED["job"])
        if self._dry_run or not new.any():
            return
        moment = pa.array([now()] * int(new.sum()), pa.timestamp("us"))
        coming = found.filter(pa.array(new))
        for name in ("created_at", "finished_at"):
            coming = coming.append_column(name, moment)
        self._tx.append(table.table, coming)

    def _spread(self, new: np.ndarray) -> np.ndarray:
        """Return which of all jobs of the bundle are known, bool (n,)."""
        every = table_of(self._bundle, "job", ["id"]).column("id")
        known = np.zeros(len(every), bool)
        places = np.flatnonzero(pc.is_in(every, self._jobs).to_numpy(zero_copy_only=False))
        known[places] = ~new
        return known

    def _take_chunks(self) -> None:
        """Take in chunks, which were done by nobody here."""
        table = table_named("job_chunk")
        rows = self._of_jobs(table_of(self._bundle, "job_chunk"))
        if not rows.num_rows:
            return
        new = self._tx.absent(table.table, importable(table.columns, rows))
        self._rows.noted("job_chunk", new)
        every = table_of(self._bundle, "job_chunk", ["job_id"]).column("job_id")
        known = np.zeros(len(every), bool)
        places = np.flatnonzero(pc.is_in(every, self._jobs).to_numpy(zero_copy_only=False))
        known[places] = ~new
        if known.any():
            self._rows.compare("job_chunk", known, STATED["job_chunk"])
        if self._dry_run or not new.any():
            return
        coming = importable(table.columns, rows).filter(pa.array(new))
        n = len(coming)
        coming = coming.append_column("attempts", pa.array(np.zeros(n, np.int32)))
        coming = coming.append_column("progress", coming.column("total"))
        self._tx.append(table.table, coming)

    # --- candidates ----------------------------------------------------------------------

    def _take_candidates(self) -> pa.Table | None:
        """Take in candidates; return the ids of those that were there."""
        table = table_named("candidate")
        new = self._rows.take("candidate")
        if not len(new) or new.all():
            return None
        ids = chosen(pieces(self._bundle, "candidate", ["id"]), ~new)
        return pa.concat_tables([importable(table.columns, p) for p in ids])

    def _count_again(self, known: pa.Table | None) -> None:
        """Count how often candidates that were there came up, now that more events are."""
        if known is None or not known.num_rows:
            return
        stage = self._tx.stage(tables.candidate, known)
        self._tx.connection.exec_driver_sql(
            "UPDATE candidate SET times_generated = e.n, "
            "cnen_matgan = (c.cnen_matgan AND e.units = 1) FROM "
            "(SELECT candidate_id, CAST(sum(times) AS BIGINT) AS n, min(formula_units) AS units "
            f"FROM generation_event WHERE candidate_id IN (SELECT id FROM {stage}) "
            "GROUP BY candidate_id) AS e, composition AS c "
            "WHERE e.candidate_id = candidate.id AND c.id = candidate.composition_id "
            "AND (candidate.times_generated <> e.n "
            "OR candidate.cnen_matgan IS DISTINCT FROM (c.cnen_matgan AND e.units = 1))"
        )
        self._tx.unstage(stage)

    def _copy_again(self) -> None:
        """Let copies say what this store says, where the bundle says something else."""
        if not self._bundle.rows("candidate") and not self._bundle.rows("entry"):
            return
        run = self._tx.connection.exec_driver_sql
        if self._reporter.conflicts_in("check_result"):
            for name in CNEN[:2]:
                run(
                    f"UPDATE candidate SET {name} = c.{name} FROM composition AS c "
                    f"WHERE c.id = candidate.composition_id AND candidate.{name} <> c.{name}"
                )
            run(
                "UPDATE candidate SET cnen_matgan = (c.cnen_matgan AND e.units = 1) FROM "
                "(SELECT candidate_id, min(formula_units) AS units FROM generation_event "
                "GROUP BY candidate_id) AS e, composition AS c "
                "WHERE e.candidate_id = candidate.id AND c.id = candidate.composition_id "
                "AND candidate.cnen_matgan IS DISTINCT FROM (c.cnen_matgan AND e.units = 1)"
            )
            for checkpoint, version in self._trained():
                run(
                    "UPDATE candidate SET novel = r.passed FROM check_result AS r "
                    f"WHERE r.recipe_id = '{novelty_recipe(version)['id']}' "
                    "AND r.subject_id = candidate.composition_id "
                    f"AND candidate.checkpoint_id = '{checkpoint}' "
                    "AND candidate.novel IS DISTINCT FROM r.passed"
                )
        if self._reporter.conflicts_in("structure_symmetry"):
            for table in ("entry", "candidate"):
                run(
                    f"UPDATE {table} SET space_group_number = s.space_group_number "
                    f"FROM structure AS s WHERE s.id = {table}.structure_id AND "
                    f"{table}.space_group_number IS DISTINCT FROM s.space_group_number"
                )

    def _trained(self) -> list[tuple[Any, UUID]]:
        rows = table_of(self._bundle, "checkpoint", ["id", "dataset_version_id"]).to_pylist()
        return [
            (UUID(r["id"]), UUID(r["dataset_version_id"]))
            for r in rows
            if r["dataset_version_id"] is not None
        ]
