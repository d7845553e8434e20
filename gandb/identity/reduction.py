"""Reduced cells: the Niggli cell of a crystal, and of the smallest cell that repeats within it.

This is the cell that pymatgen's ``StructureMatcher`` compares (doi:10.1016/j.commatsci.2012.10.028,
https://pymatgen.org): the same number of sites, lattice and order of sites, so that what is found
equal here is found equal there. Sites that repeat within 0.25 Å along each lattice vector count as
repeating, and take the mean of their places; so a supercell with a little noise in it has the cell
of the crystal without.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cmp_to_key, lru_cache

import numpy as np

from gandb.core.crystals import Crystal
from gandb.core.elements import ATOMIC_NUMBERS, ELECTRONEGATIVITY
from gandb.core.errors import InputError
from gandb.core.species import Occupant, parse_species
from gandb.identity.cells import Reduced
from gandb.identity.reduction_kernels import DONE, reduce_sites

_MIN_FLATNESS = 1e-6
"""Least volume of a cell relative to a box of its edges."""


class ReductionError(InputError):
    """A cell that has no reduced one, with the reason."""


def reduce_crystal(crystal: Crystal, primitive: bool = True) -> Reduced:
    """Return the Niggli cell of a crystal, of its primitive cell if that is asked for.

    Raises:
        ReductionError: no Niggli cell is found within the steps allowed, which no crystal is known
            to need.
    """
    return _reduced(crystal.lattice, crystal.frac_coords, crystal.species, primitive)


def reduce_many(crystals: Iterable[Crystal], primitive: bool = True) -> list[Reduced]:
    """Reduce crystals one after another, as `reduce_crystal`.

    Raises:
        ReductionError: as there.
    """
    return [reduce_crystal(crystal, primitive) for crystal in crystals]


def reduce_arrays(
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    species: Sequence[str],
    primitive: bool = True,
) -> Reduced:
    """Return the Niggli cell of vectors as rows (3, 3), Å, coordinates (n, 3) and species (n,).

    Orientation and order of sites count: they decide which of several equal descriptions it is.

    Raises:
        ReductionError: the arrays are no cell, or no Niggli cell is found.
        SpeciesError: a text is no species.
    """
    vectors = np.array(lattice, np.float64)
    coords = np.array(frac_coords, np.float64)
    if vectors.shape != (3, 3) or coords.shape != (len(species), 3) or not len(species):
        raise ReductionError(
            f"a lattice of shape {vectors.shape} and coordinates of shape {coords.shape} "
            f"for {len(species)} sites"
        )
    if not (np.isfinite(vectors).all() and np.isfinite(coords).all()):
        raise ReductionError("lattice and coordinates are not all finite")
    edges = float(np.prod(np.linalg.norm(vectors, axis=1)))
    volume = abs(float(np.linalg.det(vectors)))
    if not volume > _MIN_FLATNESS * edges:
        raise ReductionError(
            f"the lattice vectors lie in one plane, or nearly: {volume:g} of {edges:g} Å³"
        )
    return _reduced(vectors, coords, tuple(species), primitive)


def _reduced(
    lattice: np.ndarray, frac_coords: np.ndarray, species: tuple[str, ...], primitive: bool
) -> Reduced:
    labels = {text: site_label(text) for text in dict.fromkeys(species)}
    ranks = {label: rank for rank, label in enumerate(sorted(set(labels.values())))}
    rank_of = {text: ranks[label] for text, label in labels.items()}
    groups = np.array([rank_of[text] for text in species])
    sizes = np.bincount(groups)
    code, cell, coords, sources = reduce_sites(
        np.array(lattice, order="C"), np.array(frac_coords, order="C"), groups, sizes, primitive
    )
    if code != DONE:
        edges = ", ".join(f"{edge:g}" for edge in np.linalg.norm(lattice, axis=1))
        raise ReductionError(f"no Niggli cell is found for a cell with edges of {edges} Å")
    if len(sources) == len(species) and len(labels) == 1:
        return Reduced(cell, coords, species)
    return Reduced(cell, coords, tuple(species[i] for i in sources.tolist()))


# --- which sites may coincide --------------------------------------------------------------


@lru_cache(maxsize=10_000)
def site_label(text: str) -> str:
    """Return the text by which pymatgen tells sites apart, and orders them, in search of cells.

    It rounds: occupancies to three digits, broken oxidation states to two decimals. An element
    without oxidation state counts all that has its symbol, and D and T are H there.

    Raises:
        SpeciesError: it is no species.
    """
    occupants = parse_species(text)
    if len(occupants) == 1 and occupants[0].occupancy == 1.0:
        return _name(occupants[0])
    ordered = sorted(occupants, key=_PLACE)
    return ", ".join(f"{_name(o)}:{_amount(o, occupants):.3}" for o in ordered)


def _name(occupant: Occupant) -> str:
    state = occupant.oxidation_state
    if state is None:
        return occupant.element
    size = abs(state)
    if abs(size - 1) <= 1e-8:
        number = ""
    elif abs(size - round(size)) <= 1e-8:
        number = str(round(size))
    else:
        number = f"{size:.2f}"
    return f"{occupant.symbol}{number}{'-' if state < 0 else '+'}"


def _amount(occupant: Occupant, occupants: Iterable[Occupant]) -> float:
    if occupant.oxidation_state is not None:
        return occupant.occupancy
    return sum(o.occupancy for o in occupants if o.element == occupant.element)


def _order(one: Occupant, other: Occupant) -> int:
    """Return -1 if one is listed before the other, for sorting that asks for nothing else.

    By electronegativity, symbol, oxidation state; of one element, states come before none, and a
    state of 0 is before none of the others.
    """
    first, second = _rank(one), _rank(other)
    state, other_state = one.oxidation_state, other.oxidation_state
    if first != second:
        before = first < second
    elif state is None or other_state is None:
        before = other_state is None and state is not None
    else:
        before = state != 0 and state < other_state
    return -1 if before else 0


_PLACE = cmp_to_key(_order)


def _rank(occupant: Occupant) -> tuple[float, str]:
    value = float(ELECTRONEGATIVITY[ATOMIC_NUMBERS[occupant.element]])
    return (float("inf") if np.isnan(value) else value), occupant.element
