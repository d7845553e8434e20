"""Working out the fingerprints of a set of structures, to compare sets by.

Each chunk keeps its fingerprints as a blob, so that a test set is worked out once, whatever is
compared with it. Where there are more structures than wanted, those with the smallest ids are
taken: ids are hashes, so that is a random choice, and the same one whenever it is made.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from gandb.core.crystals import Crystal
from gandb.core.errors import JobError, UsageError
from gandb.core.ids import canonical_json
from gandb.core.pool import Pool, default_processes
from gandb.jobs.queue import chunk_results
from gandb.jobs.records import Context, JobSpec, Outcome
from gandb.schema import tables
from gandb.store import Store, Transaction
from gandb.store.bulk import fetch_ids
from gandb.tasks.judged_sets import JudgedSet, structures_query
from gandb.tasks.keyed import id_keys, raw, uuids
from gandb.tasks.rows import recipe_row
from gandb.tasks.structures import crystals
from gandb.validation.fingerprints import (
    COMPOSITION_FEATURES,
    SITE_FEATURES,
    FingerprintError,
    fingerprint_parameters,
    fingerprints,
)

KIND = "fingerprints"
CHUNK = 250
"""Structures to a chunk."""
_PIECE = 5
LIMIT = 120.0
"""Seconds that one structure may take: neighbours across wide gaps are looked for without end."""
_WHY = "failures"


@cache
def fingerprint_recipe() -> dict[str, Any]:
    """Return the recipe row of fingerprints.

    Raises:
        MissingExtraError: matminer is not installed.
    """
    parameters = {**fingerprint_parameters(), "seconds_for_a_structure": LIMIT}
    return recipe_row("fingerprint", "1", parameters)


def fingerprints_job(judged: JudgedSet, most: int) -> JobSpec:
    """Describe the job of working out fingerprints.

    Args:
        judged: whose.
        most: structures to take, at most.

    Raises:
        UsageError: there are no structures, or none are wanted.
        MissingExtraError: matminer is not installed.
    """
    if not judged.n_structures:
        raise UsageError(f"{judged.name} has no structures, which coverage compares")
    if most < 1:
        raise UsageError(f"{most} structures are too few to compare")
    n = min(judged.n_structures, most)
    return JobSpec(
        kind=KIND,
        spec={
            "of": judged.spec,
            "structures": n,
            "recipe": str(fingerprint_recipe()["id"]),
        },
        totals=tuple(min(CHUNK, n - start) for start in range(0, n, CHUNK)),
        checkpoint_id=judged.checkpoint_id,
        dataset_version_id=judged.version_id,
    )


def work_out_fingerprints(context: Context) -> Outcome:
    """Do one chunk."""
    spec = context.job.spec
    start = context.chunk * CHUNK
    size = min(CHUNK, spec["structures"] - start)
    every = structures_query(spec["of"])
    (own,) = every.selected_columns
    query = every.order_by(own).offset(start).limit(size)
    with context.store.read() as connection:
        wanted = uuids(id_keys(fetch_ids(connection, query)))
        records = list(crystals(connection, tables.structure.c.id.in_(wanted)))
    found = Fingerprints.empty(len(records))
    done = 0
    # Never in this process: what takes too long has to be ended.
    with Pool(_work, min(default_processes(), -(-len(records) // _PIECE)), LIMIT, _late) as pool:
        pieces = ([c for _, c in records[k : k + _PIECE]] for k in range(0, len(records), _PIECE))
        for part in pool.map(pieces):
            for one in part:
                own_id = records[done][0].bytes
                found.ids[done] = np.frombuffer(own_id, np.uint8)
                if isinstance(one, str):
                    found.failures[str(records[done][0])] = one
                else:
                    found.structures[done], found.compositions[done] = one
                done += 1
            context.progress(done)
    packed = found.pack()
    sha256 = context.store.files.put_blob(packed)

    def merge(tx: Transaction) -> None:
        tx.insert_new(tables.recipe, fingerprint_recipe())
        tx.insert_new(
            tables.blob,
            {"sha256": sha256, "size": len(packed), "media_type": "application/safetensors"},
        )

    result = {
        "structures": len(records),
        "fingerprinted": len(records) - len(found.failures),
        "failures": dict(sorted(Counter(found.failures.values()).items())),
        "sha256": sha256,
    }
    return Outcome(merge, result)


_Found = tuple[np.ndarray, np.ndarray] | str
"""Both fingerprints of a crystal, or why there are none."""


def _work(piece: Sequence[Crystal]) -> list[_Found]:
    return [_fingerprints(crystal) for crystal in piece]


def _fingerprints(crystal: Crystal) -> _Found:
    try:
        return fingerprints(crystal)
    except FingerprintError as error:
        return str(error)


def _late(
    piece: Sequence[Crystal], ask: Callable[[Sequence[Crystal]], list[_Found]]
) -> list[_Found]:
    """Work out a piece that took too long one by one; what still does has no fingerprint."""
    if len(piece) > 1:
        return [one for crystal in piece for one in ask([crystal])]
    return [f"took longer than {LIMIT:g} s"]


# --- keeping -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """Fingerprints of n structures.

    Attributes:
        ids: uint8 (n, 16), ascending.
        structures: float64 (n, 61), NaN where there is none.
        compositions: float64 (n, 132), likewise.
        failures: by structure id, why there is none.
    """

    ids: np.ndarray
    structures: np.ndarray
    compositions: np.ndarray
    failures: dict[str, str]

    @classmethod
    def empty(cls, n: int) -> Fingerprints:
        """Return room for n."""
        return cls(
            np.zeros((n, 16), np.uint8),
            np.full((n, SITE_FEATURES), np.nan),
            np.full((n, COMPOSITION_FEATURES), np.nan),
            {},
        )

    def pack(self) -> bytes:
        """Write them as safetensors bytes."""
        why = np.frombuffer(canonical_json(self.failures), np.uint8)
        return save_arrays(
            {
                "ids": self.ids,
                "structures": self.structures,
                "compositions": self.compositions,
                _WHY: why,
            }
        )

    @classmethod
    def of_job(cls, store: Store, job_id: UUID) -> Fingerprints:
        """Read what a job worked out, in the order of the ids.

        Raises:
            JobError: the job is not done.
        """
        with store.read() as connection:
            state = connection.scalar(
                sa.select(tables.job.c.state).where(tables.job.c.id == job_id)
            )
            results = chunk_results(connection, job_id)
        if state != "done":
            raise JobError(f"job {str(job_id)[:8]} of fingerprints is not done")
        return cls._joined(
            load_arrays(store.files.get_blob(r["sha256"])) for r in results if r.get("sha256")
        )

    @classmethod
    def _joined(cls, parts: Iterator[dict[str, np.ndarray]]) -> Fingerprints:
        held = list(parts)
        failures: dict[str, str] = {}
        for part in held:
            failures |= json.loads(part[_WHY].tobytes())
        ids = np.concatenate([part["ids"] for part in held])
        order = np.argsort(id_keys(ids), kind="stable")
        return cls(
            raw(id_keys(ids)[order]),
            np.concatenate([part["structures"] for part in held])[order],
            np.concatenate([part["compositions"] for part in held])[order],
            failures,
        )
