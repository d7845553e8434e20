"""Whether compositions are new against a reference."""

from __future__ import annotations

import numpy as np

from gandb.core import kernels


class ReferenceSet:
    """The ids of what is known, hashed once, to judge many ids at once.

    Args:
        ids: uint8 (n, 16), distinct.
    """

    def __init__(self, ids: np.ndarray) -> None:
        self._ids = np.ascontiguousarray(ids).view(np.uint64).reshape(-1, 2)
        self._table = kernels.build_table(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def contains(self, ids: np.ndarray) -> np.ndarray:
        """Say of each id, uint8 (k, 16), whether it is known; bool (k,)."""
        wanted = np.ascontiguousarray(ids).view(np.uint64).reshape(-1, 2)
        rows: np.ndarray = kernels.look_up(self._table, self._ids, wanted)
        return rows >= 0
