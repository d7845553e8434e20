"""Whether reduced cells match, as pymatgen's ``StructureMatcher`` judges it.

Two cells match if a basis of the one lattice is near the other within tolerances of lengths and
angles, and the sites, on the lattice between the two, lie within a tolerance of each other, kind by
kind. The comparison is that of S. P. Ong et al., doi:10.1016/j.commatsci.2012.10.028
(https://pymatgen.org), with its details: it has a direction (the second cell is the one whose basis
is matched), mirror images count as equal, and cells with different numbers of sites never match.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import cmp_to_key
from itertools import permutations
from typing import NamedTuple

import numpy as np

from gandb.core.elements import ATOMIC_NUMBERS, ELECTRONEGATIVITY
from gandb.core.species import Occupant, parse_species, species_text
from gandb.identity import matching_kernels as kernels
from gandb.identity.bounds import bound_pairs, near_pairs
from gandb.identity.cells import Cells, Reduced
from gandb.identity.explaining import Match, match
from gandb.identity.kernel_calls import in_parts, pair_array, sorted_cells, tolerances_of
from gandb.identity.recipes import MatchRecipe
from gandb.identity.site_kernels import Sorted

__all__ = [
    "Match",
    "bound_pairs",
    "fit_anonymous_pairs",
    "fit_pairs",
    "greedy_groups",
    "match",
    "measure_pairs",
    "near_pairs",
]

_SAME_AMOUNT = 1e-8  # of a species in a composition of one atom


def fit_pairs(cells: Cells, pairs: np.ndarray, recipe: MatchRecipe, threads: int = 1) -> np.ndarray:
    """Say of pairs of cells whether the first matches the second.

    This is the verdict of ``StructureMatcher.fit(first, second)``. Swapping the two can change it.

    Args:
        cells: reduced cells, packed with the recipe's comparator.
        pairs: int64 (k, 2), indices of cells.
        recipe: the tolerances.
        threads: how many threads share the work.

    Returns:
        bool (k,).
    """
    values, _ = _compared(cells, pairs, recipe, kernels.FIT, threads)
    fits: np.ndarray = values < recipe.stol
    return fits


def measure_pairs(
    cells: Cells, pairs: np.ndarray, recipe: MatchRecipe, threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return how far apart the sites of pairs of cells are where they lie best on each other.

    This is ``StructureMatcher.get_rms_dist(first, second)``: of all ways to lay the first on the
    second, the one with the least root mean square of displacements. Where that is below 1e-5,
    pymatgen stops at the first such way; here the search goes on, so the value may be smaller.
    The largest displacement may exceed the recipe's ``stol``, even where the pair fits otherwise.

    Args:
        cells: reduced cells, packed with the recipe's comparator.
        pairs: int64 (k, 2), indices of cells.
        recipe: the tolerances; a root mean square of ``stol`` or more is none.
        threads: how many threads share the work.

    Returns:
        Root mean square and largest displacement, both float64 (k,) and in units of
        (volume / sites)^(1/3) of the lattice between the two; NaN where there is none.
    """
    values, largest = _compared(cells, pairs, recipe, kernels.RMS, threads)
    found = values < recipe.stol
    return np.where(found, values, np.nan), np.where(found, largest, np.nan)


def fit_anonymous_pairs(
    cells: Cells, pairs: np.ndarray, recipe: MatchRecipe, threads: int = 1
) -> np.ndarray:
    """Say of pairs of cells whether they match once species are exchanged for others.

    This is ``StructureMatcher.fit_anonymous(first, second)``: each species of the first becomes one
    of the second, no two the same one, and some way to do so gives a match. Keeping all species is
    one of the ways.

    Args:
        cells: reduced cells, packed with the recipe's comparator.
        pairs: int64 (k, 2), indices of cells.
        recipe: the tolerances.
        threads: how many threads share the work.

    Returns:
        bool (k,).
    """
    ordered = sorted_cells(cells)
    listed = pair_array(pairs)
    tolerances = tolerances_of(recipe)
    full = np.array([_is_full(text) for text in cells.texts], bool)
    partial = np.concatenate([[0], np.cumsum(~full[cells.kinds])])
    plain = (np.diff(partial[cells.starts]) == 0)[listed].all(axis=1)
    fits = np.zeros(len(listed), bool)
    chosen = listed[plain]
    found = np.zeros(len(chosen), bool)

    def work(part: slice) -> None:
        kernels.compare_anonymously(ordered, chosen[part], tolerances, found[part])

    in_parts(work, len(chosen), threads)
    fits[plain] = found
    for row in np.flatnonzero(~plain).tolist():
        one, two = listed[row].tolist()
        fits[row] = _fits_renamed(cells, one, two, recipe)
    return fits


def greedy_groups(
    cells: Cells, recipe: MatchRecipe, symmetric: bool = False, threads: int = 1
) -> list[list[int]]:
    """Group cells as ``StructureMatcher.group_structures`` does, in the same order.

    Each cell in turn goes to the first group whose first member it matches. So the groups depend
    on the order of the cells, and two members of a group need not match each other.

    Args:
        cells: reduced cells, packed with the recipe's comparator.
        recipe: the tolerances.
        symmetric: whether a match must hold in both directions; else only the direction from the
            first member to the other counts.
        threads: how many threads share the work; each takes one composition at a time.

    Returns:
        Indices of the cells of each group.
    """
    ordered = sorted_cells(cells)
    blocks = _compositions(cells, ordered)

    def divided(block: np.ndarray) -> list[list[int]]:
        groups = []
        while len(block):
            first, others = block[0], block[1:]
            pairs = np.stack([np.full_like(others, first), others], axis=1)
            same = fit_pairs(cells, pairs, recipe)
            if symmetric:
                same[same] = fit_pairs(cells, pairs[same, ::-1], recipe)
            groups.append([int(first), *others[same].tolist()])
            block = others[~same]
        return groups

    if threads == 1:
        return [group for block in blocks for group in divided(block)]
    with ThreadPoolExecutor(threads) as pool:
        return [group for found in pool.map(divided, blocks) for group in found]


def _compared(
    cells: Cells, pairs: np.ndarray, recipe: MatchRecipe, goal: int, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    ordered = sorted_cells(cells)
    listed = pair_array(pairs)
    tolerances = tolerances_of(recipe)
    values = np.empty(len(listed))
    largest = np.empty(len(listed))

    def work(part: slice) -> None:
        kernels.compare_pairs(ordered, listed[part], tolerances, goal, values[part], largest[part])

    in_parts(work, len(listed), threads)
    return values, largest


# --- species for others ----------------------------------------------------------------------


def _is_full(text: str) -> bool:
    """Whether one species fills the site."""
    occupants = parse_species(text)
    return len(occupants) == 1 and occupants[0].occupancy == 1.0


def _fits_renamed(cells: Cells, one: int, two: int, recipe: MatchRecipe) -> bool:
    """Compare two cells, not both ordered, with the species of the first renamed in every way."""
    if len(_texts(cells, one)) != len(_texts(cells, two)):
        return False
    mine, others = _amounts(cells, one), _amounts(cells, two)
    if len(mine) != len(others):
        return False
    second = _reduced(cells, two)
    names = list(mine)
    for given in permutations(others):
        renamed = dict(zip(names, given, strict=True))
        if any(abs(mine[name] - others[renamed[name]]) >= _SAME_AMOUNT for name in names):
            continue
        first = _reduced(cells, one, renamed)
        pair = Cells.of([first, second], recipe.comparator)
        if fit_pairs(pair, np.array([[0, 1]]), recipe)[0]:
            return True
    return False


def _texts(cells: Cells, cell: int) -> list[str]:
    kinds = cells.kinds[cells.starts[cell] : cells.starts[cell + 1]]
    return [cells.texts[kind] for kind in kinds.tolist()]


def _reduced(cells: Cells, cell: int, renamed: dict[_Species, _Species] | None = None) -> Reduced:
    """Return one of the cells, with its species renamed if that is asked for."""
    sites = slice(cells.starts[cell], cells.starts[cell + 1])
    texts = _texts(cells, cell)
    if renamed is not None:
        texts = [
            species_text(
                Occupant(renamed[_species(o)].symbol, o.occupancy, renamed[_species(o)].state)
                for o in parse_species(text)
            )
            for text in texts
        ]
    return Reduced(cells.lattices[cell], cells.frac_coords[sites], tuple(texts))


# --- compositions in pymatgen's order --------------------------------------------------------


class _Species(NamedTuple):
    """A species, in pymatgen's order: by electronegativity, symbol and oxidation state."""

    electronegativity: float
    symbol: str
    charge: float
    state: float | None


_Amounts = dict[_Species, float]


def _species(occupant: Occupant) -> _Species:
    x = float(ELECTRONEGATIVITY[ATOMIC_NUMBERS[occupant.element]])
    state = occupant.oxidation_state
    return _Species(math.inf if math.isnan(x) else x, occupant.symbol, state or 0.0, state)


def _compositions(cells: Cells, ordered: Sorted) -> list[np.ndarray]:
    """Return the cells of each composition, int64, as pymatgen sorts compositions.

    The one with less of the most electropositive species in which two differ comes first.
    """
    alike: dict[tuple[bytes, bytes], list[int]] = {}
    for cell in range(len(cells)):
        blocks = slice(ordered.first_blocks[cell], ordered.first_blocks[cell + 1])
        key = (ordered.kinds[blocks].tobytes(), ordered.ends[blocks].tobytes())
        alike.setdefault(key, []).append(cell)
    members = list(alike.values())
    amounts = [_amounts(cells, block[0]) for block in members]

    def compared(i: int, j: int) -> int:
        return _order(amounts[i], amounts[j])

    found: list[list[int]] = []
    before: _Amounts = {}
    for i in sorted(range(len(members)), key=cmp_to_key(compared)):
        if found and _order(before, amounts[i]) == 0:
            found[-1].extend(members[i])
        else:
            found.append(list(members[i]))
        before = amounts[i]
    return [np.array(sorted(block), np.int64) for block in found]


def _amounts(cells: Cells, cell: int) -> _Amounts:
    """Return the share of each species in a cell, by what orders species."""
    kinds = cells.kinds[cells.starts[cell] : cells.starts[cell + 1]]
    found: _Amounts = {}
    for kind, count in zip(*np.unique(kinds, return_counts=True), strict=True):
        for occupant in parse_species(cells.texts[kind]):
            key = _species(occupant)
            found[key] = found.get(key, 0.0) + occupant.occupancy * int(count)
    total = sum(found.values())
    return {key: amount / total for key, amount in found.items()}


def _order(one: _Amounts, two: _Amounts) -> int:
    for key in sorted({*one, *two}, key=lambda species: (*species[:3], species.state is not None)):
        difference = _share(one, key) - _share(two, key)
        if abs(difference) >= _SAME_AMOUNT:
            return -1 if difference < 0 else 1
    return 0


def _share(amounts: _Amounts, wanted: _Species) -> float:
    """Return the share of a species; of an element without oxidation state, with all its ions."""
    if wanted.state is None:
        return sum(share for key, share in amounts.items() if key.symbol == wanted.symbol)
    return amounts.get(wanted, 0.0)
