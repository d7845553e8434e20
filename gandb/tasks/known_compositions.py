"""Novelty of compositions: against what dataset version, and what a worker keeps to judge it."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from gandb.core.compositions import uuid_array
from gandb.identity.novelty import ReferenceSet
from gandb.store import Store
from gandb.tasks import data
from gandb.tasks.rows import recipe_row, repeat_id

_REASONS = pa.array(["new composition", "known composition"])


def novelty_recipe(version_id: UUID) -> dict[str, Any]:
    """Return the recipe row of novelty against a dataset version, all its splits."""
    return recipe_row("novelty", "1", {"against": str(version_id), "by": "reduced composition"})


def novelty_rows(recipe_id: UUID, ids: np.ndarray, known: np.ndarray) -> pa.Table:
    """Return the rows of ``check_result`` for novelty."""
    return pa.table(
        {
            "recipe_id": repeat_id(recipe_id, len(ids)),
            "subject_id": uuid_array(ids),
            "passed": pa.array(~known),
            "reason": _REASONS.take(pa.array(known.astype(np.int8))),
        }
    )


class _References:
    """The set of compositions that novelty is judged against, shared by the threads of a worker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: tuple[tuple[str, UUID], ReferenceSet] | None = None

    def get(self, store: Store, version_id: UUID) -> ReferenceSet:
        key = (store.location, version_id)
        with self._lock:
            if self._held is None or self._held[0] != key:
                self._held = None  # one at a time is what fits any machine
                with store.read() as connection:
                    self._held = key, ReferenceSet(data.composition_ids(connection, version_id))
            return self._held[1]


REFERENCES = _References()
"""What a worker keeps between chunks."""
