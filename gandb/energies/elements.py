"""The elements' own phases, to which formation energies refer: which are taken, and why some not.

A formation energy by a potential needs the elements' energies by the same potential: an energy by
CHGNet less those of DFT would be off by all that the two differ. So the most stable phase that a
database states of each element is taken, and its energy once the potential has relaxed it. Nothing
stands in for an element whose phase is not at hand, or lies above what its source calls the ground
state.

Measured on 400 structures of up to 20 sites that the Materials Project had relaxed (seed 0), taken
as they are: formation energies by CHGNet 0.3.0 and its own elements differ from those on record by
0.057 eV/atom on average, half of them by less than 0.026. The 226 of MP-20 among them, which are of
the kind that CHGNet learned from, differ by 0.032; the others, of later years, by 0.090.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

WITHIN = 0.02
"""eV/atom that one may lie above the ground state, by its own source, to stand for its element."""


@dataclass(frozen=True)
class ElementEntry:
    """What a database states of a phase of one element.

    Attributes:
        symbol: the element.
        source: the database.
        structure: id of its structure; None if it has none.
        above_ground: energy above the element's ground state, eV/atom: above the hull, or of
            formation; None if neither is stated.
        energy: total energy, eV/atom, comparable within the source; None if it is not stated.
    """

    symbol: str
    source: str
    structure: str | None
    above_ground: float | None
    energy: float | None


@dataclass(frozen=True)
class Relaxed:
    """What a potential made of a structure: its energy, eV/atom, or why there is none."""

    energy: float | None
    problem: str | None = None


@dataclass(frozen=True)
class Elements:
    """References of elements.

    Attributes:
        structures: for each element that has one, the id of its structure.
        energies: eV/atom by the potential, without corrections, for the same elements.
        missing: why the other elements have none.
    """

    structures: Mapping[str, str]
    energies: Mapping[str, float]
    missing: Mapping[str, str]


def ground_states(entries: Iterable[ElementEntry]) -> tuple[dict[str, str], dict[str, str]]:
    """Choose the structure of each element's most stable phase.

    Of the entries with a structure the lowest counts, if it lies no more than `WITHIN` above the
    ground state: as its source states where it does, else above the lowest total energy, if all
    these are of one source. Of equal ones the first by id is taken.

    Returns:
        structure ids by element, and for all others why there is none.
    """
    by_element: dict[str, list[ElementEntry]] = {}
    for entry in entries:
        by_element.setdefault(entry.symbol, []).append(entry)
    found: dict[str, str] = {}
    missing: dict[str, str] = {}
    for symbol in sorted(by_element):
        graded = _graded(by_element[symbol])
        if isinstance(graded, str):
            missing[symbol] = graded
            continue
        held = [(height, own) for height, own in graded if own is not None]
        if not held:
            missing[symbol] = "no entry of it has both an energy and a structure"
            continue
        height, own = min(held)
        if height > WITHIN:
            missing[symbol] = (
                f"its most stable structure lies {height:.3f} eV/atom above the ground state"
            )
        else:
            found[symbol] = own
    return found, missing


def _graded(entries: list[ElementEntry]) -> list[tuple[float, str | None]] | str:
    """Return how far entries lie above the ground state, with their structures; or why not."""
    stated = [(e.above_ground, e.structure) for e in entries if e.above_ground is not None]
    if stated:
        return stated
    total = [(e.energy, e.structure) for e in entries if e.energy is not None]
    if not total:
        return "no energy of it is stated"
    if len({e.source for e in entries if e.energy is not None}) > 1:
        return "its total energies are of several sources, which cannot be compared"
    lowest = min(energy for energy, _ in total)
    return [(energy - lowest, own) for energy, own in total]


def relaxed_elements(
    structures: Mapping[str, str], missing: Mapping[str, str], relaxed: Mapping[str, Relaxed]
) -> Elements:
    """Join the chosen structures with what a potential made of them.

    Args:
        structures: structure ids by element, as `ground_states` chose them.
        missing: why others have none.
        relaxed: by structure id.
    """
    energies: dict[str, float] = {}
    problems = dict(missing)
    for symbol, structure in structures.items():
        own = relaxed.get(structure)
        if own is None:
            problems[symbol] = f"its structure {structure} has not been relaxed"
        elif own.energy is None:
            problems[symbol] = f"its structure {structure}: {own.problem}"
        else:
            energies[symbol] = own.energy
    return Elements({s: structures[s] for s in energies}, energies, problems)
