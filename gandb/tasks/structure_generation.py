"""A chunk of a generation job whose samples are crystals: draw, find symmetry, deduplicate, merge.

Samples with equal records are one candidate; whether others are the same material is for
`gandb.tasks.structure_novelty` to say. Symmetry is looked for at the standard tolerance, and at
that of the papers, 0.1 Å, by which a space group that was asked for counts as found again.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from gandb.core.compositions import uuid_array
from gandb.core.crystals import Crystal
from gandb.core.ids import Domain, canonical_json
from gandb.core.kernels import hash_rows
from gandb.generators.structures import StructureGenerator
from gandb.jobs.records import Context, Outcome
from gandb.schema import tables
from gandb.store import Transaction
from gandb.tasks.known_compositions import REFERENCES, novelty_recipe, novelty_rows
from gandb.tasks.parts import raw_ids
from gandb.tasks.preparing import Part, composition_batch, part_of_crystals, symmetry_recipe
from gandb.tasks.rows import Compositions, merge_compositions, repeat_id
from gandb.tasks.sampling import GENERATORS, inputs
from gandb.tasks.taking import CANDIDATE_FACTS, take_candidates
from gandb.validation.charge import CNEN
from gandb.validation.symmetry import SYMPREC

SYMPRECS = (SYMPREC, 0.1)
"""Tolerances of the symmetry searches, Å."""
_STAGED = "crystals.safetensors"
_RESULT = "result"


@dataclass(frozen=True)
class CrystalBatch:
    """What a chunk found: u distinct crystals, in order of first appearance.

    Attributes:
        part: their compositions, structures and symmetry; see `gandb.tasks.preparing`.
        times: int32 (u,), how often each came.
        first: int64 (u,), sample of the job at which it came first, from 0.
        space_groups: int16 (u,), what was asked for there; 0 for nothing.
        formulas: (u,) likewise; None for nothing.
        result: counts for the chunk's row.
    """

    part: Part
    times: np.ndarray
    first: np.ndarray
    space_groups: np.ndarray
    formulas: list[str | None]
    result: dict[str, Any]

    def pack(self) -> bytes:
        """Write it as safetensors bytes."""
        arrays = {name: _bytes_of(table) for name, table in self.part.items()}
        more = {"formulas": self.formulas, "result": self.result}
        return save_arrays(
            {
                **arrays,
                "times": self.times,
                "first": self.first,
                "space_groups": self.space_groups,
                _RESULT: np.frombuffer(canonical_json(more), np.uint8),
            }
        )

    @classmethod
    def unpack(cls, payload: bytes) -> CrystalBatch | None:
        """Read staged work; None if it is damaged, so that it is done again."""
        try:
            arrays = load_arrays(payload)
            more = json.loads(arrays.pop(_RESULT).tobytes())
            times, first = arrays.pop("times"), arrays.pop("first")
            groups = arrays.pop("space_groups")
            part = {name: _table_of(raw) for name, raw in arrays.items()}
            return cls(part, times, first, groups, more["formulas"], more["result"])
        except (SafetensorError, pa.ArrowException, KeyError, ValueError):
            return None


def _bytes_of(table: pa.Table) -> np.ndarray:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return np.frombuffer(sink.getvalue(), np.uint8)


def _table_of(raw: np.ndarray) -> pa.Table:
    with pa.ipc.open_stream(io.BytesIO(raw.tobytes())) as reader:
        return reader.read_all()


def generate_structures(context: Context) -> Outcome:
    """Do one chunk; what an earlier attempt staged is merged instead of drawn again."""
    staged = context.staged(_STAGED)
    batch = CrystalBatch.unpack(staged) if staged else None
    if batch is None:
        batch = draw_crystals(context)
        context.stage(_STAGED, batch.pack())
    context.progress(batch.result["samples"])
    prepared = _Prepared.of(context, batch)
    return Outcome(prepared.merge, batch.result)


def draw_crystals(context: Context) -> CrystalBatch:
    """Draw a chunk's samples and work out what is distinct among them."""
    spec = context.job.spec
    start = context.chunk * spec["chunk_size"]
    n = min(spec["chunk_size"], spec["n"] - start)
    checkpoint_id, _ = inputs(context.job)
    generator = GENERATORS.get(context.store, checkpoint_id, spec["device"])
    seed = np.random.SeedSequence(context.job.seed, spawn_key=(context.chunk,))
    samples = cast(StructureGenerator, generator).sample(n, seed, spec["condition"], spec["device"])
    crystals: dict[UUID, Crystal] = {}
    first: dict[UUID, int] = {}
    times: dict[UUID, int] = {}
    order = []
    for row, record in enumerate(samples.crystals):
        if record is None:
            continue
        crystals.setdefault(record.id, record)
        first.setdefault(record.id, row)
        times[record.id] = times.get(record.id, 0) + 1
        order.append(record.id)
    part = part_of_crystals(list(crystals.values()), SYMPRECS)
    rows = np.array(list(first.values()), np.int64)
    place = {own: k for k, own in enumerate(crystals)}
    inverse = np.array([place[own] for own in order], np.int64)
    result = {
        "samples": n,
        "decoded": len(order),
        "rejected": samples.rejected(),
        **_composition_counts(part, inverse),
    }
    return CrystalBatch(
        part=part,
        times=np.array(list(times.values()), np.int32),
        first=start + rows,
        space_groups=samples.space_groups[rows].astype(np.int16),
        formulas=[samples.formulas[row] for row in rows.tolist()],
        result=result,
    )


def _composition_counts(part: Part, inverse: np.ndarray) -> dict[str, int]:
    """Count samples by what holds of their compositions; see `gandb.tasks.generation`."""
    found = _compositions(part)
    places = _places(part, found)[inverse] if len(inverse) else inverse
    one = found.batch.n_elements == 1
    passed = {name: v.passed for name, v in found.verdicts.items()}
    return {
        "one_element": int(one[places].sum()),
        "reducible": 0,
        **{name: int(flags[places].sum()) for name, flags in passed.items()},
        "cnen_strict_multi": int((passed["cnen_strict"] & ~one)[places].sum()),
    }


def _compositions(part: Part) -> Compositions:
    listed = part["compositions"]
    ids = raw_ids(listed.column("id"))
    _, rows = np.unique(ids, axis=0, return_index=True)
    return Compositions.of(ids[rows], composition_batch(listed.take(pa.array(rows))))


def _places(part: Part, compositions: Compositions) -> np.ndarray:
    """Return which composition each structure has, int64 (u,)."""
    known = {bytes(i): k for k, i in enumerate(compositions.ids)}
    own = raw_ids(part["structures"].column("composition_id"))
    return np.array([known[bytes(i)] for i in own], np.int64)


# --- merging -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Prepared:
    """A batch with its rows worked out, so that the transaction is short."""

    part: Part
    compositions: Compositions
    candidates: pa.Table
    events: pa.Table
    novelty: pa.Table
    recipe: dict[str, Any]

    @classmethod
    def of(cls, context: Context, batch: CrystalBatch) -> _Prepared:
        checkpoint_id, version_id = inputs(context.job)
        compositions = _compositions(batch.part)
        structures = batch.part["structures"]
        places = _places(batch.part, compositions)
        subjects = raw_ids(structures.column("id"))
        own = np.tile(np.frombuffer(checkpoint_id.bytes, np.uint8), (len(subjects), 1))
        ids = hash_rows(np.hstack([own, subjects]), Domain.CANDIDATE)
        known = REFERENCES.get(context.store, version_id).contains(compositions.ids)
        chosen = pa.array(places)
        verdicts = {name: pa.array(v.passed) for name, v in compositions.verdicts.items()}
        candidates = pa.table(
            {
                "id": uuid_array(ids),
                "checkpoint_id": repeat_id(checkpoint_id, len(ids)),
                "composition_id": structures.column("composition_id"),
                **{name: compositions.facts[name].take(chosen) for name in CANDIDATE_FACTS},
                **{name: verdicts[name].take(chosen) for name in CNEN},
                "novel": pa.array(~known[places]),
                "times_generated": pa.array(batch.times.astype(np.int64)),
                "structure_id": structures.column("id"),
                **{k: structures.column(k) for k in ("n_sites", "space_group_number")},
            }
        )
        groups = batch.space_groups
        events = pa.table(
            {
                "job_id": repeat_id(context.job.id, len(ids)),
                "chunk": pa.array(np.full(len(ids), context.chunk, np.int32)),
                "candidate_id": uuid_array(ids),
                "formula_units": pa.array(np.ones(len(ids), np.int16)),
                "times": pa.array(batch.times),
                "first_index": pa.array(batch.first),
                "requested_space_group": pa.array(groups, mask=groups == 0),
                "requested_formula": pa.array(batch.formulas, pa.string()),
            }
        )
        recipe = novelty_recipe(version_id)
        novelty = novelty_rows(recipe["id"], compositions.ids, known)
        return cls(batch.part, compositions, candidates, events, novelty, recipe)

    def merge(self, tx: Transaction) -> None:
        """Write everything; the chunk's own row is marked in the same transaction."""
        merge_compositions(tx, self.compositions)
        for symprec in SYMPRECS:
            tx.insert_new(tables.recipe, symmetry_recipe(symprec))
        tx.insert_new(tables.recipe, self.recipe)
        tx.merge(tables.check_result, self.novelty)
        tx.merge(tables.structure, self.part["structures"])
        tx.merge(tables.structure_symmetry, self.part["symmetry"])
        take_candidates(tx, self.candidates, self.events)
