"""How the compiled comparisons are called: cells and tolerances as they take them, and threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakKeyDictionary

import numpy as np

from gandb.identity.cells import Cells
from gandb.identity.matching_kernels import Tolerances
from gandb.identity.recipes import MatchRecipe
from gandb.identity.site_kernels import Sorted, sort_sites

_PART = 256  # pairs that a thread takes at once

_sorted_cells: WeakKeyDictionary[Cells, Sorted] = WeakKeyDictionary()


def tolerances_of(recipe: MatchRecipe) -> Tolerances:
    """Return the numbers of a recipe as the kernels take them."""
    return Tolerances(
        float(recipe.ltol), float(recipe.stol), float(recipe.angle_tol), bool(recipe.scale)
    )


def sorted_cells(cells: Cells) -> Sorted:
    """Return cells as the kernels take them; kept as long as the cells are."""
    found = _sorted_cells.get(cells)
    if found is None:
        found = sort_sites(
            np.ascontiguousarray(cells.lattices, np.float64),
            np.ascontiguousarray(cells.frac_coords, np.float64),
            np.ascontiguousarray(cells.kinds, np.int32),
            np.ascontiguousarray(cells.starts, np.int64),
        )
        _sorted_cells[cells] = found
    return found


def in_parts(work: Callable[[slice], None], count: int, threads: int) -> None:
    """Do work on all of ``range(count)``, in parts over some threads."""
    if threads == 1 or count <= _PART:
        work(slice(0, count))
        return
    parts = [slice(at, at + _PART) for at in range(0, count, _PART)]
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, parts):
            pass


def pair_array(pairs: np.ndarray) -> np.ndarray:
    """Return pairs as the kernels take them."""
    return np.ascontiguousarray(pairs, np.int64).reshape(-1, 2)
