"""Which rows of the large tables a bundle has: joins with temporary tables of ids.

References are followed until every one of them leads to a row in the bundle; what nothing refers
to stays out. Two references are cut, and become null, where members of versions are not shared:
those of a candidate's novelty to structures of the data that it was compared with.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from gandb.core.compositions import uuid_array
from gandb.datasets.versions import members_query
from gandb.schema import tables
from gandb.schema.tables import candidate, checkpoint
from gandb.sharing.bundles.selection import DONE, Graph, Selection, graph
from gandb.store.merge import Merger
from gandb.tasks import coverage, relaxation, stability, structure_checks, structure_novelty
from gandb.tasks.known_compositions import novelty_recipe

JUDGING = (
    coverage.KIND,
    relaxation.KIND,
    stability.KIND,
    structure_checks.KIND,
    structure_novelty.KIND,
    structure_novelty.RELAXED_KIND,
)
"""Kinds of jobs that judge the crystals of a checkpoint."""
_NOVELTY = "novelty"


class Closure:
    """The rows that a selection comes to, as queries on an open transaction.

    Args:
        connection: a transaction that reads one state of the store; gets temporary tables.
        selection: what was asked.
    """

    def __init__(self, connection: sa.Connection, selection: Selection) -> None:
        self._connection = connection
        self._selection = selection
        self._duckdb = connection.dialect.name == "duckdb"
        if not self._duckdb:
            # Temporary tables are made in it. It still sees one state, and changes nothing else.
            connection.exec_driver_sql("SET TRANSACTION READ WRITE")
        self._candidates()
        self.graph: Graph = self._graph()
        self._members()
        self._entries()
        self._structures()
        self._results()

    # --- which ids -----------------------------------------------------------------------

    def _run(self, sql: str) -> None:
        self._connection.exec_driver_sql(sql)

    def _make(self, name: str, query: str) -> None:
        """Make a temporary table ``packed_NAME`` of what a query selects."""
        drop = "" if self._duckdb else " ON COMMIT DROP"
        self._run(f"CREATE TEMP TABLE packed_{name}{drop} AS {query}")
        if not self._duckdb:
            self._run(f"ANALYZE packed_{name}")

    def _listed(self, name: str, ids: Iterable[UUID]) -> None:
        raw = np.frombuffer(b"".join(sorted(i.bytes for i in ids)), np.uint8).reshape(-1, 16)
        self._staged(name, raw)

    def _staged(self, name: str, ids: np.ndarray) -> None:
        merger = Merger(self._connection)
        stage = merger.stage(candidate, pa.table({"id": uuid_array(ids)}))
        self._make(name, f"SELECT id FROM {stage}")
        merger.unstage(stage)

    def _candidates(self) -> None:
        """Choose candidates; only those that a finished job has made count."""
        chosen = self._selection
        self._staged("asked_candidate", chosen.candidate_ids)
        self._listed("asked_job", chosen.jobs)
        asked = (
            "SELECT id FROM candidate"
            if chosen.everything
            else "SELECT id FROM packed_asked_candidate UNION SELECT candidate_id "
            "FROM generation_event WHERE job_id IN (SELECT id FROM packed_asked_job)"
        )
        done = f"SELECT id FROM job WHERE state = '{DONE}'"
        self._make(
            "candidate",
            "SELECT candidate_id AS id, CAST(sum(times) AS BIGINT) AS times_generated, "
            "min(formula_units) AS least_units FROM generation_event "
            f"WHERE candidate_id IN ({asked}) AND job_id IN ({done}) GROUP BY candidate_id",
        )

    def _graph(self) -> Graph:
        packed = "SELECT id FROM packed_candidate"
        done = f"SELECT id FROM job WHERE state = '{DONE}'"
        checkpoints = self._ids(
            f"SELECT DISTINCT checkpoint_id FROM candidate WHERE id IN ({packed})"
        )
        jobs = self._ids(
            f"SELECT DISTINCT job_id FROM generation_event WHERE candidate_id IN ({packed}) "
            f"AND job_id IN ({done}) UNION SELECT DISTINCT job_id FROM candidate_record "
            f"WHERE candidate_id IN ({packed}) AND job_id IN ({done})"
        )
        jobs |= self._judging(checkpoints)
        # A training job that was asked for brings what it made.
        jobs_asked = "SELECT id FROM packed_asked_job"
        checkpoints |= self._ids(f"SELECT id FROM checkpoint WHERE job_id IN ({jobs_asked})")
        found = graph(self._connection, self._selection, checkpoints, jobs)
        self._listed("version", found.versions)
        self._listed("checkpoint", found.checkpoints)
        self._listed("job", found.jobs)
        return found

    def _judging(self, checkpoints: set[UUID]) -> set[UUID]:
        """Return the jobs that judged the crystals of checkpoints.

        Views say of a candidate what its checkpoint was judged by last, and ask these for it.
        """
        if not checkpoints:
            return set()
        own = tables.job.c
        query = sa.select(own.id).where(
            own.kind.in_(JUDGING), own.state == DONE, own.checkpoint_id.in_(checkpoints)
        )
        return set(self._connection.scalars(query))

    def _ids(self, query: str) -> set[UUID]:
        rows = self._connection.execute(sa.text(query))
        return {r[0] if isinstance(r[0], UUID) else UUID(str(r[0])) for r in rows}

    # --- members -------------------------------------------------------------------------

    def _members(self) -> None:
        """Write what each version changes against its first parent, or all its members.

        A version is told by what it changes if its first parent is told too, what both have keeps
        its split, and less changes than it has members.
        """
        self._run(
            "CREATE TEMP TABLE packed_member (version_id UUID, entry_id UUID, change SMALLINT, "
            "split TEXT)" + ("" if self._duckdb else " ON COMMIT DROP")
        )
        bases: dict[UUID, tuple[UUID, ...]] = {}
        shared = [v for v in self.graph.versions if v in self.graph.shared]
        waiting: dict[UUID, int] = {}
        for version in shared:
            if first := self._first_parent(version):
                waiting[first] = waiting.get(first, 0) + 1
        for version in shared:
            self._load(version)
            parent = self._first_parent(version)
            if parent is not None and self._write_changes(version, parent):
                bases[version] = (version, *bases[parent])
            else:
                bases[version] = (version,)
                self._run(
                    f"INSERT INTO packed_member SELECT '{version}', entry_id, 1, split "
                    f"FROM {_members_of(version)}"
                )
            if parent is not None:
                waiting[parent] -= 1
            for own in {version, parent} - {None}:
                if own is not None and not waiting.get(own):
                    self._run(f"DROP TABLE {_members_of(own)}")
        self.bases = bases

    def _first_parent(self, version: UUID) -> UUID | None:
        parents = self.graph.parents[version]
        return parents[0] if parents and parents[0] in self.graph.shared else None

    def _load(self, version: UUID) -> None:
        query = members_query(version)
        sql = str(
            query.compile(dialect=self._connection.dialect, compile_kwargs={"literal_binds": True})
        )
        name = _members_of(version).removeprefix("packed_")
        self._make(name, sql)

    def _write_changes(self, version: UUID, parent: UUID) -> bool:
        """Write a version as changes against its parent; return False if that does not serve."""
        own, old = _members_of(version), _members_of(parent)
        counts = self._connection.execute(
            sa.text(
                "SELECT count(o.entry_id), count(p.entry_id), "
                "count(CASE WHEN o.entry_id = p.entry_id THEN 1 END), "
                "count(CASE WHEN o.split <> p.split THEN 1 END) "
                f"FROM {own} AS o FULL JOIN {old} AS p ON p.entry_id = o.entry_id"
            )
        ).one()
        n_own, n_old, n_both, n_moved = counts
        if n_moved or (n_own - n_both) + (n_old - n_both) >= n_own:
            return False
        for change, here, there in ((1, own, old), (-1, old, own)):
            self._run(
                f"INSERT INTO packed_member SELECT '{version}', entry_id, {change}, split "
                f"FROM {here} WHERE entry_id NOT IN (SELECT entry_id FROM {there})"
            )
        return True

    # --- entries, structures, compositions -----------------------------------------------

    def _entries(self) -> None:
        chosen = self._selection
        parts = ["SELECT entry_id AS id FROM packed_member WHERE change = 1"]
        if chosen.entries and chosen.everything:
            parts = ["SELECT id FROM entry"]
        elif chosen.entries:
            parts.append(
                f"SELECT entry_id FROM snapshot_entry WHERE snapshot_id IN ({self._imported()})"
            )
            parts.append(
                "SELECT e.id FROM entry AS e WHERE e.structure_id IN (SELECT "
                "n.reference_structure_id FROM candidate_novelty AS n WHERE n.candidate_id IN "
                "(SELECT id FROM packed_candidate))"
            )
        self._make("entry", " UNION ".join(parts))

    def _imported(self) -> str:
        """Return SQL for the snapshots that jobs which were asked for have imported."""
        value = "c.result ->> '$.snapshot_id'" if self._duckdb else "c.result ->> 'snapshot_id'"
        return (
            "SELECT s.id FROM source_snapshot AS s JOIN job_chunk AS c "
            f"ON CAST(s.id AS TEXT) = ({value}) "
            "WHERE c.job_id IN (SELECT id FROM packed_asked_job)"
        )

    def _structures(self) -> None:
        entries = "SELECT id FROM packed_entry"
        candidates = "SELECT id FROM packed_candidate"
        parts = [
            f"SELECT structure_id AS id FROM entry WHERE id IN ({entries}) "
            "AND structure_id IS NOT NULL",
            f"SELECT structure_id FROM candidate WHERE id IN ({candidates}) "
            "AND structure_id IS NOT NULL",
        ]
        if self._selection.entries:
            parts += [
                f"SELECT {name} FROM candidate_novelty WHERE candidate_id IN ({candidates}) "
                f"AND {name} IS NOT NULL"
                for name in ("reference_structure_id", "representative_id")
            ]
        if self._selection.everything and self._selection.entries:
            parts = ["SELECT id FROM structure"]
        self._make("unrelaxed", " UNION ".join(parts))
        self._make(
            "structure",
            "SELECT id FROM packed_unrelaxed UNION SELECT relaxed_id FROM relaxation "
            "WHERE structure_id IN (SELECT id FROM packed_unrelaxed) AND relaxed_id IS NOT NULL",
        )
        parts = [
            f"SELECT composition_id AS id FROM entry WHERE id IN ({entries})",
            f"SELECT composition_id FROM candidate WHERE id IN ({candidates})",
            "SELECT composition_id FROM structure WHERE id IN (SELECT id FROM packed_structure)",
        ]
        if self._selection.everything and self._selection.entries:
            parts = ["SELECT id FROM composition"]
        self._make("composition", " UNION ".join(parts))

    def _results(self) -> None:
        """Choose verdicts, evidence and materials, and then the recipes that are behind them."""
        structures = "SELECT id FROM packed_structure"
        self._make(
            "comparison",
            "SELECT recipe_id, structure_a, structure_b FROM comparison "
            f"WHERE structure_a IN ({structures}) AND structure_b IN ({structures})",
        )
        whole = (
            "SELECT recipe_id, material_id FROM material_member AS m "
            "LEFT JOIN packed_structure AS s ON s.id = m.structure_id "
            "GROUP BY recipe_id, material_id HAVING count(*) = count(s.id)"
        )
        self._make("material", whole)
        self._make("verdict", self._verdicts())
        self._make(
            "recipe",
            "SELECT recipe_id AS id FROM packed_verdict "
            f"UNION SELECT recipe_id FROM structure_symmetry WHERE structure_id IN ({structures}) "
            f"UNION SELECT recipe_id FROM structure_key WHERE structure_id IN ({structures}) "
            f"UNION SELECT recipe_id FROM structure_check WHERE structure_id IN ({structures}) "
            "UNION SELECT recipe_id FROM relaxation WHERE structure_id IN "
            "(SELECT id FROM packed_unrelaxed) "
            f"UNION SELECT recipe_id FROM stability WHERE structure_id IN ({structures}) "
            "UNION SELECT recipe_id FROM packed_comparison "
            "UNION SELECT recipe_id FROM packed_material "
            "UNION SELECT recipe_id FROM candidate_novelty WHERE candidate_id IN "
            "(SELECT id FROM packed_candidate) "
            "UNION SELECT recipe_id FROM metric WHERE recipe_id IS NOT NULL AND job_id IN "
            "(SELECT id FROM packed_job)"
            + (" UNION SELECT id FROM recipe" if self._selection.everything else ""),
        )

    def _verdicts(self) -> str:
        """Return SQL for the verdicts on compositions.

        Novelty is against one dataset version: it comes along for the candidates of checkpoints
        that were trained on it, and with everything.
        """
        packed = "x.subject_id IN (SELECT id FROM packed_composition)"
        select = "SELECT x.recipe_id, x.subject_id FROM check_result AS x"
        if self._selection.everything:
            return f"{select} WHERE {packed}"
        others = f"SELECT id FROM recipe WHERE check_name <> '{_NOVELTY}'"
        parts = [f"{select} WHERE {packed} AND x.recipe_id IN ({others})"]
        found = self._connection.execute(
            sa.select(checkpoint.c.id, checkpoint.c.dataset_version_id).where(
                checkpoint.c.dataset_version_id.is_not(None)
            )
        ).all()
        for checkpoint_id, version_id in found:
            if checkpoint_id in self.graph.checkpoints:
                parts.append(
                    f"{select} WHERE x.recipe_id = '{novelty_recipe(version_id)['id']}' "
                    "AND x.subject_id IN (SELECT g.composition_id FROM candidate AS g JOIN "
                    "packed_candidate AS p ON p.id = g.id "
                    f"WHERE g.checkpoint_id = '{checkpoint_id}')"
                )
        return " UNION ".join(parts)

    # --- the rows ------------------------------------------------------------------------

    def query(self, name: str) -> str:
        """Return SQL for the rows of a table of the bundle, in the columns of the store's table.

        Raises:
            KeyError: its rows are not selected here.
        """
        if name == "candidate_novelty" and not self._selection.entries:
            return _NOVELTY_WITHOUT_ENTRIES
        return _QUERIES[name]


def _members_of(version: UUID) -> str:
    return f"packed_members_{version.hex}"


def _among(table: str, **keys: str) -> str:
    conditions = " AND ".join(f"t.{k} IN (SELECT id FROM packed_{v})" for k, v in keys.items())
    return f"SELECT t.* FROM {table} AS t WHERE {conditions}"


_QUERIES: dict[str, str] = {
    "recipe": _among("recipe", id="recipe"),
    "composition": _among("composition", id="composition"),
    "composition_element": _among("composition_element", composition_id="composition"),
    "check_result": "SELECT t.* FROM check_result AS t JOIN packed_verdict AS p "
    "ON p.recipe_id = t.recipe_id AND p.subject_id = t.subject_id",
    "structure": _among("structure", id="structure"),
    "structure_symmetry": _among("structure_symmetry", structure_id="structure"),
    "structure_key": _among("structure_key", structure_id="structure"),
    "structure_check": _among("structure_check", structure_id="structure"),
    "relaxation": _among("relaxation", structure_id="unrelaxed"),
    "stability": _among("stability", structure_id="structure"),
    "comparison": "SELECT t.* FROM comparison AS t JOIN packed_comparison AS p "
    "ON p.recipe_id = t.recipe_id AND p.structure_a = t.structure_a "
    "AND p.structure_b = t.structure_b",
    "material_member": "SELECT t.* FROM material_member AS t JOIN packed_material AS p "
    "ON p.recipe_id = t.recipe_id AND p.material_id = t.material_id",
    "source_snapshot": "SELECT t.* FROM source_snapshot AS t WHERE t.id IN "
    "(SELECT snapshot_id FROM snapshot_entry WHERE entry_id IN (SELECT id FROM packed_entry))",
    "entry": _among("entry", id="entry"),
    "entry_alias": _among("entry_alias", entry_id="entry"),
    "snapshot_entry": _among("snapshot_entry", entry_id="entry"),
    "dataset_version": _among("dataset_version", id="version"),
    "dataset_parent": _among("dataset_parent", version_id="version"),
    "dataset_member": "SELECT t.* FROM packed_member AS t",
    "blob": "SELECT t.* FROM blob AS t WHERE t.sha256 IN (SELECT c.sha256 FROM checkpoint AS c "
    "WHERE c.id IN (SELECT id FROM packed_checkpoint))",
    "model": "SELECT t.* FROM model AS t WHERE t.id IN (SELECT c.model_id FROM checkpoint AS c "
    "WHERE c.id IN (SELECT id FROM packed_checkpoint))",
    "job": _among("job", id="job"),
    "job_chunk": _among("job_chunk", job_id="job"),
    "checkpoint": _among("checkpoint", id="checkpoint"),
    "metric": _among("metric", job_id="job"),
    "candidate": "SELECT {columns}, p.times_generated, "
    "(c.cnen_matgan AND p.least_units = 1) AS cnen_matgan FROM candidate AS t "
    "JOIN packed_candidate AS p ON p.id = t.id JOIN composition AS c ON c.id = t.composition_id",
    "generation_event": _among("generation_event", candidate_id="candidate", job_id="job"),
    "candidate_record": _among("candidate_record", candidate_id="candidate", job_id="job"),
    "candidate_novelty": _among("candidate_novelty", candidate_id="candidate"),
}
_QUERIES["candidate"] = _QUERIES["candidate"].replace(
    "{columns}",
    ", ".join(
        f"t.{c.name}" for c in candidate.c if c.name not in ("times_generated", "cnen_matgan")
    ),
)

_NOVELTY_WITHOUT_ENTRIES = (
    "SELECT t.recipe_id, t.candidate_id, t.level, t.n_compared, t.rms, t.error, "
    "r.id AS reference_structure_id, o.id AS representative_id FROM candidate_novelty AS t "
    "LEFT JOIN packed_structure AS r ON r.id = t.reference_structure_id "
    "LEFT JOIN packed_structure AS o ON o.id = t.representative_id "
    "WHERE t.candidate_id IN (SELECT id FROM packed_candidate)"
)
