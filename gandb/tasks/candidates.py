"""Candidates of other models: files become an external model, a generation job, candidates.

What is known of their origin is kept as a document in place of weights. From there on they are
counted, checked, deduplicated and queried like candidates of gandb's own models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from gandb.core.compositions import unique_ids, uuid_array
from gandb.core.errors import UsageError
from gandb.core.ids import Domain, canonical_json, json_id, sha256_hex
from gandb.core.kernels import hash_rows
from gandb.jobs.records import Context, JobSpec, Outcome
from gandb.schema import tables
from gandb.sources.formats import format_named
from gandb.store import Transaction
from gandb.tasks.data import EXTERNAL
from gandb.tasks.parts import Parts, distinct, raw_ids
from gandb.tasks.preparing import composition_batch
from gandb.tasks.records import MEMORY, PARSER, describe, merge_structures, prepare_all
from gandb.tasks.rows import Compositions, cnen_recipes, recipe_row, repeat_id
from gandb.tasks.taking import CANDIDATE_FACTS, take_candidates
from gandb.validation.charge import CNEN
from gandb.validation.symmetry import SYMPREC

KIND = "import_candidates"
_STANDARD = (SYMPREC,)
_LOGGED = 200  # rejects that a job's log names


def candidates_job(
    model: str,
    files: Sequence[Path],
    *,
    version: str | None = None,
    origin: Mapping[str, Any] | None = None,
    role: str = EXTERNAL,
    form: str | None = None,
    strict: bool = False,
    keep_raw: bool = False,
) -> JobSpec:
    """Describe the job of taking in what another model generated.

    Args:
        model: its name.
        files: files, folders and archives with structures or formulas.
        version: of the model.
        origin: what is known: training data, paper, settings, who ran it.
        role: `EXTERNAL`, or `BASELINE` for what models are to be compared with.
        form: name of the format; None tells it from each file.
        strict: refuse everything if a single record is malformed.
        keep_raw: keep the files as blobs.

    Raises:
        NotFoundError: there is no such format.
        InputError: a file cannot be read.
        UsageError: the model has no name.
    """
    if form is not None:
        format_named(form)
    if not model.strip():
        raise UsageError("name the model that generated the candidates: --model NAME")
    return JobSpec(
        kind=KIND,
        spec={
            "source": model,
            "model": model,
            "version": version or "unknown",
            "origin": dict(origin or {}),
            "files": [describe(path) for path in files],
            "format": form,
            "live": None,
            "strict": strict,
            "keep_raw": keep_raw,
            "symprec": None,
            "parser": PARSER,
            # Left out as it was before there were roles: what was imported then is known by its id.
            **({} if role == EXTERNAL else {"role": role}),
        },
        totals=(0,),
    )


def import_candidates(context: Context) -> Outcome:
    """Read the files and hand over the merge."""
    parts = prepare_all(context)
    _log_rejects(context, parts)
    card = _card(context.job.spec)
    context.store.files.put_blob(card)
    taken = _Candidates.of(context, parts, card)
    return Outcome(taken.merge, taken.result, MEMORY)


def _log_rejects(context: Context, parts: Parts) -> None:
    """Say in the job's log what was turned away, and why."""
    if not parts.counts["rejects"]:
        return
    for row in parts.read(["rejects"])["rejects"].slice(0, _LOGGED).to_pylist():
        context.log(f"rejected {row['file']} record {row['line']}: {row['reason']}", "warning")
    if (more := parts.counts["rejects"] - _LOGGED) > 0:
        context.log(f"{more:,} more were rejected; check the files by importing them as a source",
                    "warning")  # fmt: skip


def _card(spec: Mapping[str, Any]) -> bytes:
    """Return the document that stands for the weights of an external model."""
    return canonical_json(
        {"model": spec["model"], "version": spec["version"], "origin": spec["origin"]}
    )


@dataclass(frozen=True)
class _Candidates:
    """All candidates of a job, worked out; n records become u distinct candidates."""

    job_id: UUID
    spec: Mapping[str, Any]
    parts: Parts
    card: bytes
    rows: pa.Table
    first: np.ndarray
    inverse: np.ndarray
    compositions: Compositions
    result: dict[str, Any]

    @classmethod
    def of(cls, context: Context, parts: Parts, card: bytes) -> _Candidates:
        read = parts.read(["entries", "compositions"])
        rows = read["entries"]
        listed = distinct(read["compositions"], "id")
        batch = composition_batch(listed) if listed.num_rows else None
        if batch is None:
            raise UsageError("none of the files holds a candidate that can be read")
        compositions = Compositions.of(raw_ids(listed.column("id")), batch)
        subjects = _subjects(rows)
        unique = unique_ids(subjects)
        by_composition = unique_ids(raw_ids(rows.column("composition_id")))
        result = {
            "rows_read": parts.counts["items"],
            "rows_rejected": parts.counts["rejects"],
            "candidates": len(unique.ids),
            "compositions": len(by_composition.ids),
            "samples": len(rows),
            **_folders(rows.column("file").to_pylist(), unique.inverse),
        }
        return cls(
            context.job.id,
            context.job.spec,
            parts,
            card,
            rows,
            unique.first,
            unique.inverse,
            compositions,
            result,
        )

    def merge(self, tx: Transaction) -> None:
        """Write everything: model, checkpoint, candidates, events, records, metrics."""
        checkpoint_id = self._model(tx)
        for span in self.parts.spans():
            merge_structures(tx, span, _STANDARD)
        ids = self._candidate_ids(checkpoint_id)
        candidates = self._candidates(checkpoint_id, ids)
        take_candidates(tx, candidates, self._events(ids))
        tx.append(tables.candidate_record, self._records(ids))
        self._measure(tx)
        tx.execute(
            tables.job.update()
            .where(tables.job.c.id == self.job_id)
            .values(checkpoint_id=checkpoint_id)
        )

    def _model(self, tx: Transaction) -> UUID:
        name, version, origin = (self.spec[k] for k in ("model", "version", "origin"))
        config = {"origin": origin}
        content = {"name": name, "version": version, "config": config}
        model_id = json_id(Domain.MODEL, content)
        sha256 = sha256_hex(self.card)
        checkpoint_id = json_id(
            Domain.CHECKPOINT, {"model": str(model_id), "dataset_version": "", "sha256": sha256}
        )
        role = self.spec.get("role", EXTERNAL)
        tx.insert_new(tables.model, {"id": model_id, "role": role, **content})
        own = tables.model.c
        held = tx.connection.scalar(sa.select(own.role).where(own.id == model_id))
        if held != role:
            raise UsageError(
                f"{name} {version} was imported as {held} before, and now comes as {role}: a model "
                f"has one role; give --role {held}, or another --model or --model-version"
            )
        blob = {"sha256": sha256, "size": len(self.card), "media_type": "application/json"}
        tx.insert_new(tables.blob, blob)
        tx.insert_new(
            tables.checkpoint,
            {
                "id": checkpoint_id,
                "model_id": model_id,
                "dataset_version_id": None,
                "job_id": self.job_id,
                "seed": 0,
                "iteration": 0,
                "sha256": sha256,
            },
        )
        return checkpoint_id

    def _candidate_ids(self, checkpoint_id: UUID) -> np.ndarray:
        subjects = _subjects(self.rows)[self.first]
        own = np.tile(np.frombuffer(checkpoint_id.bytes, np.uint8), (len(subjects), 1))
        return hash_rows(np.hstack([own, subjects]), Domain.CANDIDATE)

    def _candidates(self, checkpoint_id: UUID, ids: np.ndarray) -> pa.Table:
        rows = self.rows.take(pa.array(self.first))
        known = {bytes(i): place for place, i in enumerate(self.compositions.ids)}
        own = raw_ids(rows.column("composition_id"))
        places = pa.array([known[bytes(i)] for i in own])
        verdicts = {n: pa.array(v.passed) for n, v in self.compositions.verdicts.items()}
        times = np.bincount(self.inverse, minlength=len(ids)).astype(np.int64)
        return pa.table(
            {
                "id": uuid_array(ids),
                "checkpoint_id": repeat_id(checkpoint_id, len(ids)),
                "composition_id": rows.column("composition_id"),
                **{name: self.compositions.facts[name].take(places) for name in CANDIDATE_FACTS},
                **{name: verdicts[name].take(places) for name in CNEN},
                "times_generated": pa.array(times),
                **{k: rows.column(k) for k in ("structure_id", "n_sites", "space_group_number")},
            }
        )

    def _events(self, ids: np.ndarray) -> pa.Table:
        units = np.ones(len(ids), np.int16)
        times = np.bincount(self.inverse, minlength=len(ids)).astype(np.int32)
        return pa.table(
            {
                "job_id": repeat_id(self.job_id, len(ids)),
                "chunk": pa.array(np.zeros(len(ids), np.int32)),
                "candidate_id": uuid_array(ids),
                "formula_units": pa.array(units),
                "times": pa.array(times),
                "first_index": pa.array(self.first),
            }
        )

    def _records(self, ids: np.ndarray) -> pa.Table:
        rows = pa.table(
            {
                "job_id": repeat_id(self.job_id, len(self.rows)),
                "candidate_id": uuid_array(ids[self.inverse]),
                **{k: self.rows.column(k) for k in ("file", "line", "external_id", "extra")},
            }
        )
        return distinct(rows, "candidate_id", "file", "line")

    def _measure(self, tx: Transaction) -> None:
        """Write the metrics of the job: shares of all samples, and uniqueness."""
        n = len(self.rows)
        own = raw_ids(self.rows.column("composition_id"))
        known = {bytes(i): place for place, i in enumerate(self.compositions.ids)}
        places = np.array([known[bytes(i)] for i in own])
        total = n + self.parts.counts["rejects"]
        by = "structure record, or reduced composition without one"
        recipe = recipe_row("uniqueness", "1", {"by": by, "of": "all samples"})
        share = recipe_row("statistics", "1", {"of": "all samples"})
        for row in (recipe, share, *cnen_recipes().values()):
            tx.insert_new(tables.recipe, row)
        values = [
            ("uniqueness", len(self.first) / n, recipe["id"]),
            ("rejected", 1 - n / total, share["id"]),
        ]
        for name, row in cnen_recipes().items():
            passed = self.compositions.verdicts[name].passed[places]
            values.append((name, float(passed.mean()), row["id"]))
        tx.execute(
            tables.metric.insert(),
            [
                {"job_id": self.job_id, "name": k, "step": n, "value": v, "recipe_id": r}
                for k, v, r in values
            ],
        )


def _folders(files: Sequence[str], candidates: np.ndarray) -> dict[str, Any]:
    """Return how many records came from which folder or archive, where there are several.

    Args:
        files: (n,) file of each record, with the folders and archives that it lies in.
        candidates: (n,) number of the candidate that each record is.

    Returns:
        ``folders``, records by folder, as deep as the first that differ, and ``in_several``, how
        many candidates are in more than one of them; nothing if all records lie in one.
    """
    inside = [PurePosixPath(file).parent.parts for file in files]
    alike = takewhile(lambda names: len(set(names)) == 1, zip(*inside, strict=False))
    depth = len(list(alike)) + 1
    folders = ["/".join(parts[:depth]) for parts in inside]
    if len(counts := Counter(folders)) < 2:
        return {}
    places = Counter(
        candidate for candidate, _ in set(zip(candidates.tolist(), folders, strict=True))
    )
    return {
        "folders": dict(sorted(counts.items())),
        "in_several": sum(n > 1 for n in places.values()),
    }


def _subjects(rows: pa.Table) -> np.ndarray:
    """Return what tells candidates apart, uint8 (n, 16): the structure, else the composition."""
    subjects = raw_ids(rows.column("composition_id")).copy()
    ids = rows.column("structure_id").combine_chunks()
    storage = ids.storage if isinstance(ids, pa.ExtensionArray) else ids
    for place, value in enumerate(storage.to_pylist()):
        if value is not None:
            subjects[place] = np.frombuffer(value, np.uint8)
    return subjects
