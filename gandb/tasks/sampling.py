"""Drawing a chunk of samples: decode, reduce, count what is equal, judge charges."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from gandb.core.compositions import CompositionBatch
from gandb.core.ids import canonical_json
from gandb.generators import load as load_generator
from gandb.generators.base import Generator
from gandb.generators.structures import StructureGenerator
from gandb.jobs.records import Context, Job
from gandb.schema.tables import checkpoint
from gandb.store import Store
from gandb.tasks import data
from gandb.validation.charge import check_all

_RESULT = "result"


def inputs(job: Job) -> tuple[UUID, UUID]:
    """Return the checkpoint of a generation job and the dataset version it was trained on."""
    if job.checkpoint_id is None or job.dataset_version_id is None:
        raise ValueError("a generation job without a checkpoint or a dataset version")
    return job.checkpoint_id, job.dataset_version_id


@dataclass(frozen=True)
class Batch:
    """What a chunk found.

    Attributes:
        compositions: u distinct reduced compositions, in order of first appearance.
        of: int64 (e,), composition of each event; an event is a composition in one multiple.
        units: uint16 (e,), formula units as generated.
        times: int32 (e,), how often.
        first: int64 (e,), first sample of the job, from 0.
        result: counts for the chunk's row.
    """

    compositions: CompositionBatch
    of: np.ndarray
    units: np.ndarray
    times: np.ndarray
    first: np.ndarray
    result: dict[str, Any]

    def pack(self) -> bytes:
        """Write it as safetensors bytes."""
        arrays = {
            "offsets": self.compositions.offsets,
            "atomic_numbers": self.compositions.atomic_numbers,
            "counts": self.compositions.counts,
            "of": self.of,
            "units": self.units,
            "times": self.times,
            "first": self.first,
            _RESULT: np.frombuffer(canonical_json(self.result), np.uint8),
        }
        return save_arrays(arrays)

    @classmethod
    def unpack(cls, payload: bytes) -> Batch | None:
        """Read staged work; None if it is damaged, so that it is done again."""
        try:
            a = load_arrays(payload)
            batch = CompositionBatch(a["offsets"], a["atomic_numbers"], a["counts"])
            result = json.loads(a[_RESULT].tobytes())
            return cls(batch, a["of"], a["units"], a["times"], a["first"], result)
        except (SafetensorError, KeyError, ValueError):
            return None


def draw(context: Context) -> Batch:
    """Draw a chunk's samples and work out what is distinct among them."""
    spec = context.job.spec
    start = context.chunk * spec["chunk_size"]
    n = min(spec["chunk_size"], spec["n"] - start)
    checkpoint_id, _ = inputs(context.job)
    generator = cast(Generator, GENERATORS.get(context.store, checkpoint_id, spec["device"]))
    seed = np.random.SeedSequence(context.job.seed, spawn_key=(context.chunk,))
    samples = generator.sample(n, seed, spec["condition"], spec["device"])
    drawn, rows = samples.compositions()
    reduced, units = drawn.reduced()
    unique = reduced.unique()
    compositions = reduced.take(unique.first)
    keys, first, times = np.unique(
        unique.inverse * 65_536 + units, return_index=True, return_counts=True
    )
    of, event_units = np.divmod(keys, 65_536)
    verdicts = check_all(compositions)
    passed = {name: v.passed[unique.inverse] for name, v in verdicts.items()}
    passed["cnen_matgan"] &= units == 1
    one_element = reduced.n_elements == 1
    result = {
        "samples": n,
        "decoded": len(rows),
        "rejected": samples.rejected(),
        "one_element": int(one_element.sum()),
        "reducible": int((units > 1).sum()),
        **{name: int(flags.sum()) for name, flags in passed.items()},
        "cnen_strict_multi": int((passed["cnen_strict"] & ~one_element).sum()),
    }
    return Batch(
        compositions,
        of,
        event_units.astype(np.uint16),
        times.astype(np.int32),
        start + rows[first],
        result,
    )


class _Generators:
    """The generator that a thread used last."""

    def __init__(self) -> None:
        self._local = threading.local()

    def get(self, store: Store, checkpoint_id: UUID, device: str) -> Generator | StructureGenerator:
        key = (store.location, checkpoint_id, device)
        if getattr(self._local, "key", None) != key:
            query = sa.select(checkpoint.c.sha256).where(checkpoint.c.id == checkpoint_id)
            with store.read() as connection:
                sha256 = connection.execute(query).scalar_one()
            weights = store.files.get_blob(sha256)
            with data.BUILDING:
                self._local.generator = load_generator(weights, device)
            self._local.key = key
        found: Generator | StructureGenerator = self._local.generator
        return found


GENERATORS = _Generators()
"""What a worker keeps between chunks."""
