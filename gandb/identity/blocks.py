"""Grouping many blocks: small ones at once, each large one for itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from gandb.identity.comparing import Comparison
from gandb.identity.grouping import Effort, Grouped, group_block, group_small_blocks

USUAL = Effort()


def group_blocks(
    comparison: Comparison,
    amd: np.ndarray,
    known: np.ndarray,
    blocks: Sequence[np.ndarray],
    effort: Effort = USUAL,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[np.ndarray, Grouped]]:
    """Group structures of any blocks, see `gandb.identity.grouping.group_block`.

    Args:
        comparison: what answers on pairs of all structures.
        amd: float64 (n, k), of all.
        known: int64 (n,), of all; numbers differ between blocks.
        blocks: int64, the structures of each block, ascending; together all, each once.
        effort: how much is compared.
        progress: told the number of questions so far.

    Yields:
        structures, int64 ascending, and what was found of them, numbered within these.
    """
    small = [block for block in blocks if len(block) <= effort.full]
    if small:
        rows = np.sort(np.concatenate(small))
        own = [np.searchsorted(rows, block) for block in small]
        part = _Part(comparison, rows)
        yield rows, group_small_blocks(part, amd[rows], known[rows], own, effort, progress)
    for rows in blocks:
        if len(rows) > effort.full:
            part = _Part(comparison, rows)
            yield rows, group_block(part, amd[rows], known[rows], effort, progress)


class _Part:
    """A comparison of some of the structures, numbered anew."""

    def __init__(self, comparison: Comparison, rows: np.ndarray) -> None:
        self._comparison, self._rows = comparison, rows
        self.reaches = comparison.reaches

    def fit(self, pairs: np.ndarray) -> np.ndarray:
        return self._comparison.fit(self._rows[pairs])

    def measure(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._comparison.measure(self._rows[pairs])

    def near(self, pairs: np.ndarray, level: int) -> np.ndarray:
        return self._comparison.near(self._rows[pairs], level)

    def apart(self, pairs: np.ndarray, level: int) -> np.ndarray:
        return self._comparison.apart(self._rows[pairs], level)
