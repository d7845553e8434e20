"""How new the structures of candidates are, against references, and how many of them are unique.

Each candidate gets a level. Level 0, known: it matches a structure of the reference. Else, if the
reference has its composition, what is new is its structure (1: there is one with the same symmetry
label) or its prototype (2). If the composition is new: it is a substitution (3) where a structure
of the reference matches once elements are renamed, else the composition is new (4) with it all.

A candidate whose symmetry was not found is never called a new prototype, only a new structure.
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
from gandb.identity.matching import KernelComparison, fit_anonymous_pairs, greedy_groups
from gandb.identity.recipes import MatchRecipe
from gandb.identity.searching import Compared, Search, search
from gandb.jobs.records import Context, JobSpec, Outcome
from gandb.schema import tables
from gandb.store import Store, Transaction
from gandb.store.bulk import fetch, ids_from_text
from gandb.tasks import data
from gandb.tasks.generation import sample_grid
from gandb.tasks.identity import STANDARD, evidence_rows, group_keyed, match_recipe
from gandb.tasks.keyed import Keyed, id_keys, keyed_of, raw
from gandb.tasks.keys import key_recipe
from gandb.tasks.references import (
    candidate_structures,
    generation_jobs,
    reference_spec,
    reference_structures,
)
from gandb.tasks.rows import recipe_row, repeat_id

KIND = "structure_novelty"
GRADES = ("known", "structure", "prototype", "substitution", "composition")
"""What is new, by level."""
KNOWN, STRUCTURE, PROTOTYPE, SUBSTITUTION, COMPOSITION = range(5)
SUBSTITUTIONS = 50
"""Structures, the nearest by AMD, that a candidate of new composition is compared with."""
_PAIRS = 2_000_000  # candidates times references that are looked at in one go


def structure_novelty_job(
    store: Store,
    checkpoint: data.Checkpoint,
    against: Sequence[str],
    recipe: MatchRecipe = STANDARD,
) -> JobSpec:
    """Describe the job of judging all candidates of a checkpoint that have structures.

    Args:
        store: where they are.
        checkpoint: whose candidates.
        against: references, see `gandb.tasks.references.reference_spec`; together they are one.
        recipe: what counts as the same.

    Raises:
        NotFoundError: there is no such reference, or no candidate.
        UsageError: no reference is named, or one cannot be.
    """
    if not against:
        raise UsageError("name what to compare with: --against NAME@NUMBER, or --against entries")
    found = {str(spec): spec for spec in (reference_spec(store, checkpoint, a) for a in against)}
    return JobSpec(
        kind=KIND,
        spec={
            "jobs": [str(i) for i in generation_jobs(store, checkpoint)],
            "against": [found[key] for key in sorted(found)],
            "recipe": recipe.parameters(),
        },
        totals=(0,),
        checkpoint_id=checkpoint.id,
    )


def novelty_recipe(recipe: MatchRecipe, against: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the recipe row of novelty against references."""
    parameters = {
        "against": list(against),
        "matching": str(match_recipe(recipe)["id"]),
        "substitutions": {"of": "anonymous formula and reduced cell", "nearest": SUBSTITUTIONS},
    }
    return recipe_row(KIND, "1", parameters)


def judge_structures(context: Context) -> Outcome:
    """Judge all candidates of the job."""
    judged = _Judged.of(context)
    return Outcome(judged.merge, judged.result)


# --- reading -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Candidates with a structure, in the order in which they came.

    Attributes:
        ids, structures: S16 (n,).
        compositions: S16 (n,).
        anonymous: anonymous formulas.
        labels: symmetry labels, None where unknown.
        first: int64 (n,), the sample at which it came first, counting those with a structure.
        samples: how many samples there are.
        keys: of the distinct structures.
        errors: by structure id, why it has no keys.
    """

    ids: np.ndarray
    structures: np.ndarray
    compositions: np.ndarray
    anonymous: list[str]
    labels: dict[bytes, str | None]
    first: np.ndarray
    samples: int
    keys: Keyed
    errors: dict[bytes, str]

    @classmethod
    def of(cls, connection: sa.Connection, jobs: Sequence[UUID]) -> _Candidates:
        candidate, event = tables.candidate.c, tables.generation_event.c
        query = (
            sa.select(
                candidate.id,
                candidate.structure_id,
                candidate.composition_id,
                candidate.anonymous_formula,
                sa.func.sum(event.times, type_=sa.BigInteger()).label("times"),
                sa.func.min(event.first_index).label("first"),
            )
            .join(tables.generation_event, event.candidate_id == candidate.id)
            .where(event.job_id.in_(jobs), candidate.structure_id.is_not(None))
            .group_by(
                candidate.id,
                candidate.structure_id,
                candidate.composition_id,
                candidate.anonymous_formula,
            )
        )
        rows = fetch(connection, query)
        if not len(rows):
            raise UsageError(
                "none of these candidates has a structure: compare compositions with gandb check"
            )
        ids, structures, compositions = (
            id_keys(ids_from_text(rows.column(name)))
            for name in ("id", "structure_id", "composition_id")
        )
        order = np.lexsort((ids, rows.column("first").to_numpy()))
        times = rows.column("times").to_numpy()[order]
        keys = keyed_of(connection, np.unique(structures))
        labels, errors = _labels(connection, jobs)
        missing = set(structures.tolist()) - set(labels)
        if missing:
            raise UsageError(
                f"{len(missing)} structures have no keys yet; begin with: gandb identify"
            )
        anonymous = rows.column("anonymous_formula").to_pylist()
        return cls(
            ids=ids[order],
            structures=structures[order],
            compositions=compositions[order],
            anonymous=[anonymous[i] for i in order.tolist()],
            labels=labels,
            first=np.cumsum(times) - times,
            samples=int(times.sum()),
            keys=keys,
            errors=errors,
        )


def _labels(
    connection: sa.Connection, jobs: Sequence[UUID]
) -> tuple[dict[bytes, str | None], dict[bytes, str]]:
    key = tables.structure_key.c
    query = sa.select(key.structure_id, key.symmetry_label, key.error).where(
        key.recipe_id == key_recipe()["id"], key.structure_id.in_(candidate_structures(jobs))
    )
    rows = fetch(connection, query)
    own = id_keys(ids_from_text(rows.column("structure_id"))).tolist()
    labels = dict(zip(own, rows.column("symmetry_label").to_pylist(), strict=True))
    errors = dict(zip(own, rows.column("error").to_pylist(), strict=True))
    return labels, {k: v for k, v in errors.items() if v is not None}


@dataclass(frozen=True, eq=False)
class _Known:
    """Structures of the reference that have a composition of the candidates.

    Attributes:
        ids: S16 (r,).
        blocks: S20 (r,), empty where there is no reduced cell.
        labels: symmetry labels by composition.
        n_reference: how many structures the reference has.
    """

    ids: np.ndarray
    blocks: np.ndarray
    labels: dict[bytes, set[str]]
    n_reference: int

    @classmethod
    def of(
        cls, connection: sa.Connection, reference: sa.Select[Any], jobs: Sequence[UUID]
    ) -> _Known:
        key, candidate, event = (
            tables.structure_key.c, tables.candidate.c, tables.generation_event.c,
        )  # fmt: skip
        wanted = (
            sa.select(candidate.composition_id)
            .join(tables.generation_event, event.candidate_id == candidate.id)
            .where(event.job_id.in_(jobs), candidate.structure_id.is_not(None))
        )
        query = sa.select(
            key.structure_id, key.composition_id, key.n_reduced, key.symmetry_label
        ).where(
            key.recipe_id == key_recipe()["id"],
            key.composition_id.in_(wanted),
            key.structure_id.in_(reference),
        )
        rows = fetch(connection, query)
        compositions = ids_from_text(rows.column("composition_id"))
        blocks = np.zeros((len(rows), 20), np.uint8)
        blocks[:, :16] = compositions
        sites = rows.column("n_reduced").fill_null(0).to_numpy().astype(">u4")
        blocks[:, 16:] = np.ascontiguousarray(sites).view(np.uint8).reshape(-1, 4)
        labels: dict[bytes, set[str]] = {}
        stated = rows.column("symmetry_label").to_pylist()
        for own, label in zip(id_keys(compositions).tolist(), stated, strict=True):
            labels.setdefault(own, set()).add(label or "")
        every = reference.subquery()
        count = sa.select(sa.func.count()).select_from(every)
        n = connection.scalar(count) or 0
        keyed = connection.scalar(
            count.join(tables.structure_key, key.structure_id == every.c.structure_id).where(
                key.recipe_id == key_recipe()["id"]
            )
        )
        if keyed != n:
            raise UsageError(
                f"{n - (keyed or 0):,} structures of the reference have no keys yet; "
                "begin with: gandb identify"
            )
        ids = id_keys(ids_from_text(rows.column("structure_id")))
        order = np.argsort(ids, kind="stable")
        return cls(ids[order], blocks.view("S20").reshape(-1)[order], labels, n)


# --- comparing ---------------------------------------------------------------------------


@dataclass(eq=False)
class _Judged:
    """The candidates with their levels; arrays by distinct structure, in the order of the keys."""

    job_id: UUID
    recipe: MatchRecipe
    against: Sequence[Mapping[str, Any]]
    candidates: _Candidates
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
        with context.store.read() as connection:
            candidates = _Candidates.of(connection, jobs)
            known = _Known.of(connection, reference, jobs)
        keys = candidates.keys
        n = len(keys)
        judged = cls(
            job_id=context.job.id,
            recipe=recipe,
            against=spec["against"],
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
        judged._grade(known)
        judged._find_substitutions(context, reference)
        judged._find_groups(context)
        return judged

    def _find_known(self, context: Context, known: _Known) -> None:
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
            both, found = self._search(context, own, there, lists, KernelComparison)
            self.evidence += [self._evidence(both.places.ids, part) for part in found.parts]
            self._take(own, found, there, KNOWN)

    def _search(
        self, context: Context, own: np.ndarray, there: Keyed, lists: list[np.ndarray], judge: Any
    ) -> tuple[Keyed, Search]:
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
        return both, found

    def _take(self, own: np.ndarray, found: Search, there: Keyed, level: int) -> None:
        hit = found.reference >= 0
        rows = own[hit]
        self.level[rows] = level
        self.reference[rows] = there.places.ids[found.reference[hit] - len(own)]
        self.rms[rows] = found.rms[hit]

    def _evidence(self, ids: np.ndarray, part: Compared) -> pa.Table:
        """Return rows of evidence: the smaller id comes first."""
        turned = ids[part.query] > ids[part.reference]
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

    def _grade(self, known: _Known) -> None:
        """Levels 1 and 2: those of a composition that the reference has."""
        places = self.candidates.keys.places
        rest = np.flatnonzero(self.level != KNOWN)
        for row, own, composition in zip(
            rest.tolist(),
            places.ids[rest].tolist(),
            places.compositions[rest].tolist(),
            strict=True,
        ):
            there = known.labels.get(composition)
            if there is not None:
                label = self.candidates.labels[own]
                new = label is not None and label not in there
                self.level[row] = PROTOTYPE if new else STRUCTURE

    def _find_substitutions(self, context: Context, reference: sa.Select[Any]) -> None:
        """Level 3: those that match a structure of other elements."""
        keys = self.candidates.keys
        rest = np.flatnonzero(self.level == COMPOSITION)
        formula = dict(
            zip(self.candidates.structures.tolist(), self.candidates.anonymous, strict=True)
        )
        by_kind: dict[tuple[str, int], list[int]] = {}
        sites = raw(keys.places.blocks, 20)[:, 16:].copy().view(">u4").reshape(-1)
        for row in rest.tolist():
            kind = formula[keys.places.ids[row]]
            by_kind.setdefault((kind, int(sites[row])), []).append(row)
        for (kind, n_reduced), rows in sorted(by_kind.items()):
            own = np.array(rows)
            with context.store.read() as connection:
                near = _nearest(connection, reference, kind, n_reduced, keys.amd[own])
                there = keyed_of(connection, np.unique(np.concatenate(near)))
            if not len(there):
                continue
            lists = [np.searchsorted(there.places.ids, ids) for ids in near]
            _, found = self._search(context, own, there, lists, _Renaming)
            self._take(own, found, there, SUBSTITUTION)

    def _find_groups(self, context: Context) -> None:
        keys = self.candidates.keys
        done = int(self.n_compared.sum())
        for rows, grouped in group_keyed(
            keys, self.recipe, None, lambda k: context.progress(done + k)
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
    def rows(self) -> pa.Table:
        """One row per candidate."""
        found = self.candidates
        place = {i: k for k, i in enumerate(found.keys.places.ids.tolist())}
        rows = np.array([place.get(i, -1) for i in found.structures.tolist()])
        none = rows < 0
        errors = [found.errors.get(i) for i in found.structures.tolist()]
        level = self.level[rows]
        return pa.table(
            {
                "recipe_id": repeat_id(novelty_recipe(self.recipe, self.against)["id"], len(rows)),
                "candidate_id": uuid_array(raw(found.ids)),
                "level": pa.array(level, pa.int16(), mask=none),
                "n_compared": pa.array(np.where(none, 0, self.n_compared[rows]), pa.int32()),
                "reference_structure_id": _maybe(self.reference[rows], none),
                "representative_id": _maybe(self.representative[rows], none),
                "rms": pa.array(self.rms[rows], mask=none | np.isnan(self.rms[rows])),
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
        times = np.diff(np.append(found.first, n))[judged]
        order = found.first[judged]
        _, first = np.unique(self.representative[rows], return_index=True)
        values = [
            ("structure_uniqueness", at, float((order[first] < at).sum() / at))
            for at in sample_grid(n)
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
            "recipe_id": str(novelty_recipe(self.recipe, self.against)["id"]),
        }

    def merge(self, tx: Transaction) -> None:
        """Write verdicts, evidence and metrics; verdicts of an earlier, smaller set give way."""
        recipe = novelty_recipe(self.recipe, self.against)
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
                    "name": name,
                    "step": step,
                    "value": value,
                    "recipe_id": recipe["id"],
                }
                for name, step, value in self.metrics
            ],
        )


class _Renaming:
    """Whether pairs match once elements of the one are renamed; see `fit_anonymous_pairs`."""

    def __init__(self, cells: Cells, recipe: MatchRecipe, threads: int) -> None:
        del threads
        self._cells, self._recipe = cells, recipe

    def fit(self, pairs: np.ndarray) -> np.ndarray:
        """Say whether the first matches the second; bool (k,)."""
        return fit_anonymous_pairs(self._cells, pairs, self._recipe)

    def measure(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return no distances: they depend on the renaming."""
        none = np.full(len(pairs), np.nan)
        return none, none


def _nearest(
    connection: sa.Connection,
    reference: sa.Select[Any],
    anonymous: str,
    n_reduced: int,
    amd: np.ndarray,
) -> list[np.ndarray]:
    """Return the ids of the reference's structures of a kind that are nearest to each, by AMD."""
    key = tables.structure_key.c
    query = (
        sa.select(key.structure_id, key.amd)
        .join(tables.composition, tables.composition.c.id == key.composition_id)
        .where(
            tables.composition.c.anonymous_formula == anonymous,
            key.recipe_id == key_recipe()["id"],
            key.n_reduced == n_reduced,
            key.structure_id.in_(reference),
        )
    )
    rows = fetch(connection, query)
    if not len(rows):
        return [np.zeros(0, "S16") for _ in amd]
    ids = id_keys(ids_from_text(rows.column("structure_id")))
    flat = rows.column("amd").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    there = flat.reshape(len(rows), -1)
    found = []
    for own in amd:
        distance = np.abs(there - own).max(axis=1)
        near = np.lexsort((ids, distance))[:SUBSTITUTIONS]
        found.append(np.sort(ids[near]))
    return found


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


def _maybe(ids: np.ndarray, none: np.ndarray) -> pa.ExtensionArray:
    """Return ids as an Arrow array, null where there is none."""
    absent = none | (ids == b"")
    values = [None if no else row.tobytes() for row, no in zip(raw(ids), absent, strict=True)]
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(values, pa.binary(16)))
