"""How new the structures of candidates are, against references, and how many of them are unique.

Each candidate gets a level. Level 0, known: it matches a structure of the reference. Else, if the
reference has its composition, what is new is its structure (1) or its prototype (2). If the
composition is new: it is a substitution (3) where a structure of the reference matches once
elements are renamed, else the composition is new (4) with it all.

A prototype is called new only if that is shown: a symmetry beyond P1 was found at one of the
tolerances of `gandb.tasks.symmetry_labels`, and at none of them the candidate has the label of a
structure of its composition in the reference, where labels are those at 0.01 Å. So a candidate
whose symmetry is lost, as before relaxation, is a new structure, no more.

Relaxed structures are judged in the same way, under a recipe that names the relaxation, and in a
job of another kind: those candidates alone that a recipe relaxed. What was new may relax into what
is known, and two of different structures into one. Rows are of the same candidates; the
representative of those that relax into the same is the smallest of their structures as generated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from gandb.core.compositions import uuid_array
from gandb.core.errors import UsageError
from gandb.core.pool import default_processes
from gandb.identity.cells import Cells
from gandb.identity.grouping import Evidence
from gandb.identity.kernel_comparison import KernelComparison
from gandb.identity.matching import greedy_groups
from gandb.identity.recipes import MatchRecipe
from gandb.identity.searching import Compared, Search, search
from gandb.jobs.records import Context, JobSpec, Outcome
from gandb.schema import tables
from gandb.store import Store, Transaction
from gandb.tasks import data
from gandb.tasks.generation import sample_grid
from gandb.tasks.identity import STANDARD, evidence_rows, group_keyed, match_recipe
from gandb.tasks.judged import Candidates, Known, Materials
from gandb.tasks.keyed import Keyed, keyed_of, raw
from gandb.tasks.reference_names import ReferenceNames
from gandb.tasks.references import (
    candidate_structures,
    generation_jobs,
    reference_spec,
    reference_structures,
)
from gandb.tasks.relaxed_energies import Recipe as Relaxation
from gandb.tasks.rows import recipe_row, repeat_id
from gandb.tasks.substitutions import (
    Kind,
    Renaming,
    kind_batches,
    kind_sizes,
    smallest,
    structures_of_kinds,
)
from gandb.tasks.symmetry_labels import label_parameters, wider_labels

KIND = "structure_novelty"
RELAXED_KIND = "relaxed_novelty"
GRADES = ("known", "structure", "prototype", "substitution", "composition")
"""What is new, by level."""
KNOWN, STRUCTURE, PROTOTYPE, SUBSTITUTION, COMPOSITION = range(5)
P1 = "1 "
"""How the label of a crystal without symmetry begins."""
SUBSTITUTIONS = 50
"""Structures, the nearest by AMD, that a candidate of new composition is compared with."""
_PAIRS = 2_000_000  # candidates times references that are looked at in one go


def structure_novelty_job(
    store: Store,
    checkpoint: data.Checkpoint,
    against: Sequence[str],
    recipe: MatchRecipe = STANDARD,
    relaxation: Relaxation | None = None,
) -> JobSpec:
    """Describe the job of judging all candidates of a checkpoint that have structures.

    Args:
        store: where they are.
        checkpoint: whose candidates.
        against: references, see `gandb.tasks.references.reference_spec`; together they are one.
        recipe: what counts as the same.
        relaxation: judge what this made of the structures, of those that it relaxed.

    Raises:
        NotFoundError: there is no such reference, or no candidate.
        UsageError: no reference is named, or one cannot be; there are no structures; or the recipe
            compares cells that are not primitive, which have no keys.
    """
    if not against:
        raise UsageError("name what to compare with: --against NAME@NUMBER, or --against entries")
    if not recipe.primitive_cell:
        raise UsageError("keys are of primitive cells: compare cells as given with gandb match")
    found = {str(spec): spec for spec in (reference_spec(store, checkpoint, a) for a in against)}
    references = [found[key] for key in sorted(found)]
    jobs = generation_jobs(store, checkpoint)
    with store.read() as connection:
        if not _any_row(connection, candidate_structures(jobs)):
            raise UsageError(
                f"no candidate of {checkpoint.reference} has a structure; "
                "compare compositions with gandb check"
            )
        if not _any_row(connection, reference_structures(references)):
            raise UsageError(f"no structure is in {', '.join(against)}: nothing to compare with")
    spec: dict[str, Any] = {
        "jobs": [str(i) for i in jobs],
        "against": references,
        "recipe": recipe.parameters(),
    }
    if relaxation is not None:
        spec["relaxation"] = {"recipe": str(relaxation.id), "rows": relaxation.n}
    return JobSpec(
        kind=KIND if relaxation is None else RELAXED_KIND,
        spec=spec,
        totals=(0,),
        checkpoint_id=checkpoint.id,
    )


def _any_row(connection: sa.Connection, structures: sa.Select[Any]) -> bool:
    (own,) = structures.selected_columns
    return connection.execute(structures.where(own.is_not(None)).limit(1)).first() is not None


def novelty_recipe(
    recipe: MatchRecipe,
    against: Sequence[Mapping[str, Any]],
    relaxation: UUID | None = None,
) -> dict[str, Any]:
    """Return the recipe row of novelty against references, of structures relaxed by a recipe."""
    parameters: dict[str, Any] = {
        "against": list(against),
        "matching": str(match_recipe(recipe)["id"]),
        "substitutions": {"of": "anonymous formula and reduced cell", "nearest": SUBSTITUTIONS},
        "labels": label_parameters(),
    }
    if relaxation is not None:
        parameters["relaxation"] = str(relaxation)
    return recipe_row(KIND, "2", parameters)


def judge_structures(context: Context) -> Outcome:
    """Judge all candidates of the job."""
    judged = _Judged.of(context)
    return Outcome(judged.merge, judged.result)


# --- comparing ---------------------------------------------------------------------------


@dataclass(eq=False)
class _Judged:
    """The candidates with their levels; arrays by distinct structure, in the order of the keys."""

    job_id: UUID
    recipe: MatchRecipe
    against: Sequence[Mapping[str, Any]]
    relaxation: UUID | None
    words: str
    candidates: Candidates
    n_reference: int
    level: np.ndarray
    reference: np.ndarray
    rms: np.ndarray
    n_compared: np.ndarray
    representative: np.ndarray
    greedy: int
    evidence: list[pa.Table]

    @classmethod
    def of(cls, context: Context) -> _Judged:
        spec = context.job.spec
        recipe = MatchRecipe(**spec["recipe"])
        jobs = [UUID(i) for i in spec["jobs"]]
        reference = reference_structures(spec["against"])
        relaxation = UUID(spec["relaxation"]["recipe"]) if "relaxation" in spec else None
        checkpoints = {c.id: c for c in data.list_checkpoints(context.store)}
        with context.store.read() as connection:
            candidates = Candidates.of(connection, jobs, relaxation)
            known = Known.of(connection, reference, jobs)
            words = ReferenceNames(connection, checkpoints).words(spec["against"])
        keys = candidates.keys
        n = len(keys)
        judged = cls(
            job_id=context.job.id,
            recipe=recipe,
            against=spec["against"],
            relaxation=relaxation,
            words=words,
            candidates=candidates,
            n_reference=known.n_reference,
            level=np.full(n, COMPOSITION, np.int16),
            reference=np.zeros(n, "S16"),
            rms=np.full(n, np.nan),
            n_compared=np.zeros(n, np.int64),
            representative=np.zeros(n, "S16"),
            greedy=0,
            evidence=[],
        )
        judged._find_known(context, known)
        judged._grade(context, known)
        judged._find_substitutions(context, reference)
        judged._find_groups(context, jobs)
        return judged

    def _find_known(self, context: Context, known: Known) -> None:
        """Level 0: those whose structure is there, then those that match one."""
        keys = self.candidates.keys
        same = np.isin(keys.places.ids, known.ids)
        self.level[same] = KNOWN
        self.reference[same] = keys.places.ids[same]
        self.rms[same] = 0.0
        for own, others in _parcels(keys.places.blocks, np.flatnonzero(~same), known.blocks):
            with context.store.read() as connection:
                there = keyed_of(connection, known.ids[np.unique(np.concatenate(others))])
            place = {i: k for k, i in enumerate(there.places.ids.tolist())}
            lists = [
                np.array([place[i] for i in known.ids[rows].tolist()], np.int64) for rows in others
            ]
            asked, both, found = self._search(context, own, there, lists, KernelComparison)
            self.evidence += [self._evidence(asked, both.places.ids, part) for part in found.parts]
            self._take(own, found, there, KNOWN)

    def _search(
        self, context: Context, own: np.ndarray, there: Keyed, lists: list[np.ndarray], judge: Any
    ) -> tuple[Any, Keyed, Search]:
        """Compare candidates with their references; numbers of these follow the candidates'."""
        keys = self.candidates.keys
        both = keys.take(own).followed_by(there)
        starts = np.zeros(len(own) + 1, np.int64)
        np.cumsum([len(rows) for rows in lists], out=starts[1:])
        references = np.concatenate(lists) + len(own)
        cells = Cells.from_bytes(both.cells, self.recipe.comparator)
        asked = judge(cells, self.recipe, default_processes())
        queries = np.arange(len(own))
        done = int(self.n_compared.sum())
        found = search(
            asked, both.amd, queries, starts, references, lambda k: context.progress(done + k)
        )
        self.n_compared[own] += found.n_compared
        return asked, both, found

    def _take(self, own: np.ndarray, found: Search, there: Keyed, level: int) -> None:
        hit = found.reference >= 0
        rows = own[hit]
        self.level[rows] = level
        self.reference[rows] = there.places.ids[found.reference[hit] - len(own)]
        self.rms[rows] = found.rms[hit]

    def _evidence(self, asked: KernelComparison, ids: np.ndarray, part: Compared) -> pa.Table:
        """Return rows of evidence: the smaller id comes first, distances are from it if it can be.

        So they are what grouping finds of the same pairs.
        """
        turned = ids[part.query] > ids[part.reference]
        again = turned & (part.forward == 1) & (part.backward == 1)
        pairs = np.stack([part.reference, part.query], axis=1)[again]
        part.rms[again], part.max_distance[again] = asked.measure(pairs)
        evidence = Evidence(
            a=np.where(turned, part.reference, part.query),
            b=np.where(turned, part.query, part.reference),
            forward=np.where(turned, part.backward, part.forward),
            backward=np.where(turned, part.forward, part.backward),
            rms=part.rms,
            max_distance=part.max_distance,
            amd_distance=part.amd_distance,
            method=np.zeros(len(part.query), np.int8),
        )
        return evidence_rows(self.recipe, ids, evidence)

    def _grade(self, context: Context, known: Known) -> None:
        """Levels 1 and 2: those of a composition that the reference has."""
        places, labels = self.candidates.keys.places, self.candidates.labels
        there = [known.labels.get(own, set()) for own in places.compositions.tolist()]
        ids = places.ids.tolist()
        rest = [row for row in np.flatnonzero(self.level != KNOWN).tolist() if there[row]]
        self.level[rest] = STRUCTURE
        unlike = [row for row in rest if labels[ids[row]] not in there[row]]
        done = int(self.n_compared.sum())
        wider = wider_labels(
            context.store, places.ids[unlike], lambda k: context.progress(done + k)
        )
        for row in unlike:
            own = wider[ids[row]] | {labels[ids[row]] or P1}
            if not own & there[row] and any(not label.startswith(P1) for label in own):
                self.level[row] = PROTOTYPE

    def _find_substitutions(self, context: Context, reference: sa.Select[Any]) -> None:
        """Level 3: those that match a structure of other elements."""
        keys = self.candidates.keys
        formula = dict(
            zip(self.candidates.structures.tolist(), self.candidates.anonymous, strict=True)
        )
        sites = raw(keys.places.blocks, 20)[:, 16:].copy().view(">u4").reshape(-1)
        kinds: dict[Kind, list[int]] = {}
        for row in np.flatnonzero(self.level == COMPOSITION).tolist():
            kind = formula[keys.places.ids[row]], int(sites[row])
            kinds.setdefault(kind, []).append(row)
        with context.store.read() as connection:
            sizes = kind_sizes(connection, reference, kinds)
        for together in kind_batches(sizes):
            near: dict[int, np.ndarray] = {}
            with context.store.read() as connection:
                for kind, ids, amd in structures_of_kinds(connection, reference, together):
                    for row in kinds[kind]:
                        distance = np.abs(amd - keys.amd[row].astype(np.float32)).max(axis=1)
                        near[row] = ids[smallest(distance, ids, SUBSTITUTIONS)]
                there = keyed_of(connection, np.unique(np.concatenate(list(near.values()))))
            own = np.array(sorted(near))
            lists = [np.searchsorted(there.places.ids, np.sort(near[row])) for row in own.tolist()]
            _, _, found = self._search(context, own, there, lists, Renaming)
            self._take(own, found, there, SUBSTITUTION)

    def _find_groups(self, context: Context, jobs: Sequence[UUID]) -> None:
        """Find which candidates are one material; what `gandb.tasks.identity` knows is not asked.

        Structures of different materials do not match. A material without any other structure is a
        group; of the others that link its candidates those are only part, so they are compared.
        """
        keys = self.candidates.keys
        with context.store.read() as connection:
            materials = Materials.of(
                connection, match_recipe(self.recipe)["id"], jobs, self.relaxation
            )
        blocks: list[np.ndarray] = []
        for rows, whole in materials.within(keys.places):
            if whole:
                self.representative[rows] = keys.places.ids[rows[0]]
            else:
                blocks.append(rows)
        done = int(self.n_compared.sum())
        for rows, grouped in group_keyed(
            keys, self.recipe, None, lambda k: context.progress(done + k), blocks
        ):
            ids = keys.places.ids[rows]
            self.representative[rows] = ids[grouped.component]
            self.evidence += [evidence_rows(self.recipe, ids, part) for part in grouped.parts()]
        place = {i: k for k, i in enumerate(keys.places.ids.tolist())}
        order = [place[i] for i in self.candidates.structures.tolist() if i in place]
        cells = [keys.cells[k] for k in order]
        self.greedy = len(
            greedy_groups(Cells.from_bytes(cells, self.recipe.comparator), self.recipe)
        )

    # --- writing -------------------------------------------------------------------------

    @property
    def _recipe(self) -> dict[str, Any]:
        return novelty_recipe(self.recipe, self.against, self.relaxation)

    @property
    def rows(self) -> pa.Table:
        """One row per candidate."""
        found = self.candidates
        place = {i: k for k, i in enumerate(found.keys.places.ids.tolist())}
        rows = np.array([place.get(i, -1) for i in found.structures.tolist()])
        none = rows < 0
        rows = rows[~none]
        errors = [found.errors.get(i) for i in found.structures.tolist()]
        level, compared = np.zeros((2, len(none)), np.int64)
        level[~none], compared[~none] = self.level[rows], self.n_compared[rows]
        reference, representative = np.zeros((2, len(none)), "S16")
        reference[~none] = self.reference[rows]
        representative[~none] = _smallest_of_each(self.representative[rows], found.origins[~none])
        rms = np.full(len(none), np.nan)
        rms[~none] = self.rms[rows]
        return pa.table(
            {
                "recipe_id": repeat_id(self._recipe["id"], len(none)),
                "candidate_id": uuid_array(raw(found.ids)),
                "level": pa.array(level.astype(np.int16), mask=none),
                "n_compared": pa.array(compared.astype(np.int32)),
                "reference_structure_id": _maybe(reference),
                "representative_id": _maybe(representative),
                "rms": pa.array(rms, mask=np.isnan(rms)),
                "error": pa.array(errors, pa.string()),
            }
        )

    @property
    def metrics(self) -> list[tuple[str, int, float]]:
        """Name, number of samples, value."""
        found, n = self.candidates, self.candidates.samples
        place = {i: k for k, i in enumerate(found.keys.places.ids.tolist())}
        judged = np.array([i in place for i in found.structures.tolist()])
        rows = np.array([place[i] for i in found.structures[judged].tolist()], np.int64)
        times = found.times[judged]
        order = found.first[judged]
        _, first = np.unique(self.representative[rows], return_index=True)
        values = [
            ("structure_uniqueness", at, float((order[first] < at).sum() / at))
            for at in sample_grid(n, first=1)
        ]
        values.append(("structure_uniqueness_greedy", n, self.greedy / n))
        novel = np.unique(self.representative[rows][self.level[rows] > KNOWN])
        old = np.unique(self.representative[rows][self.level[rows] == KNOWN])
        both = len(np.setdiff1d(novel, old))
        values.append(("unique_and_novel", n, both / n))
        values.append(("structure_novelty", n, float(times[self.level[rows] > KNOWN].sum() / n)))
        for level, grade in enumerate(GRADES):
            share = float(times[self.level[rows] == level].sum() / n)
            values.append((f"novelty_{grade}", n, share))
        return values

    @property
    def result(self) -> dict[str, Any]:
        """Counts of the job."""
        found = self.candidates
        times = dict(
            zip(*np.unique(self.rows.column("level").drop_null(), return_counts=True), strict=True)
        )
        return {
            "samples": found.samples,
            "candidates": len(found.ids),
            "unique": len(np.unique(self.representative)),
            "unique_greedy": self.greedy,
            **{grade: int(times.get(level, 0)) for level, grade in enumerate(GRADES)},
            "errors": len(found.errors),
            "reference": self.n_reference,
            "against": self.words,
            "recipe_id": str(self._recipe["id"]),
        }

    def merge(self, tx: Transaction) -> None:
        """Write verdicts, evidence and metrics; verdicts of an earlier, smaller set give way."""
        recipe = self._recipe
        tx.insert_new(tables.recipe, recipe)
        tx.insert_new(tables.recipe, match_recipe(self.recipe))
        rows = self.rows
        keys = rows.select(["recipe_id", "candidate_id"])
        stage = tx.stage(tables.candidate_novelty, keys)
        tx.connection.exec_driver_sql(
            f"DELETE FROM candidate_novelty WHERE EXISTS (SELECT 1 FROM {stage} AS s WHERE "
            "s.recipe_id = candidate_novelty.recipe_id "
            "AND s.candidate_id = candidate_novelty.candidate_id)"
        )
        tx.unstage(stage)
        tx.append(tables.candidate_novelty, rows)
        for part in self.evidence:
            tx.merge(tables.comparison, part)
        tx.execute(
            tables.metric.insert(),
            [
                {
                    "job_id": self.job_id,
                    "name": name if self.relaxation is None else f"relaxed_{name}",
                    "step": step,
                    "value": value,
                    "recipe_id": recipe["id"],
                }
                for name, step, value in self.metrics
            ],
        )


def _parcels(
    blocks: np.ndarray, own: np.ndarray, others: np.ndarray
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Yield candidates, as rows of ``blocks``, each with the rows of ``others`` in its block."""
    order = np.argsort(others, kind="stable")
    low = np.searchsorted(others[order], blocks[own], "left")
    high = np.searchsorted(others[order], blocks[own], "right")
    held: list[int] = []
    lists: list[np.ndarray] = []
    pairs = 0
    for row, start, end in zip(own.tolist(), low.tolist(), high.tolist(), strict=True):
        if start == end:
            continue
        held.append(row)
        lists.append(order[start:end])
        pairs += end - start
        if pairs > _PAIRS:
            yield np.array(held), lists
            held, lists, pairs = [], [], 0
    if held:
        yield np.array(held), lists


def _smallest_of_each(groups: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return for each of n the smallest id, S16, in its group."""
    order = np.argsort(ids, kind="stable")
    _, first, place = np.unique(groups[order], return_index=True, return_inverse=True)
    found = np.zeros(len(ids), "S16")
    found[order] = ids[order][first][place.reshape(-1)]
    return found


def _maybe(ids: np.ndarray) -> pa.ExtensionArray:
    """Return ids as an Arrow array, null where there is none."""
    values = [
        row.tobytes() if any_ else None for row, any_ in zip(raw(ids), ids != b"", strict=True)
    ]
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(values, pa.binary(16)))
