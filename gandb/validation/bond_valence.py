"""Charge balance by bond valence: oxidation states that fit both the bonds and the charges.

An atom's *bond valence sum* adds ``exp((R - d) / 0.31)`` over its bonds, where d is their length,
Å, and R comes from two parameters of each element: M. O'Keeffe and N. E. Brese, J. Am. Chem. Soc.
113, 3226 (1991), doi:10.1021/ja00009a002. How probable an oxidation state is at a given sum is
known from the ICSD, as a mean, a standard deviation and a frequency: the data of pymatgen's
``BVAnalyzer`` (https://pymatgen.org, MIT licence), whose model this is. Distances are scaled by
1.015, as relaxed structures (GGA) are larger than measured ones.

A crystal passes if its atoms can have oxidation states that add up to zero, where atoms that
symmetry makes equal have one state, states of one element differ by 1 at most, and none is less
than a hundredth as probable as that atom's best. Of all such choices, the most probable is
found, however many there are; pymatgen tries the first 100,000 only.

The value is the global instability index, the root mean square of what sums lack of the states
given (A. Salinas-Sanchez et al., J. Solid State Chem. 100, 201 (1992),
doi:10.1016/0022-4596(92)90094-C); NaN where no states balance.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from gandb.core.crystals import Crystal
from gandb.core.elements import ATOMIC_NUMBERS, ELECTRONEGATIVITY, MAX_Z, SYMBOLS
from gandb.core.errors import UsageError
from gandb.core.ids import sha256_hex
from gandb.representations.standard_cells import SymmetryError, find_dataset
from gandb.validation import geometry_kernels as kernels
from gandb.validation.outcomes import CODES, OF_KERNEL, Check, Outcome
from gandb.validation.sites import Sites, in_parts

_ELECTRONEGATIVE = "H B C Si N P As Sb O S Se Te F Cl Br I".split()  # O'Keeffe and Brese
_SOFTNESS = 0.31  # Å
_LEAST_PROBABLE = 0.01  # of an atom's best
_TABLES = ("bond_valence_radii.csv", "bond_valence_sums.csv")

_Choice = tuple[float, Any]  # log of the probability, and the states chosen as a chain


@dataclass(frozen=True)
class BondValence:
    """How bond valences are judged.

    Attributes:
        max_radius: longest bond, Å.
        distance_scale: what distances are multiplied by; 1 for measured structures.
        symprec: how far, Å, atoms may be from where symmetry makes them equal.
        most_atoms: inequivalent atoms that a crystal may have. The search takes time with their
            square, 0.1 s for a thousand; a crystal of more is an error that says so.

    Raises:
        UsageError: a number is not above 0.
    """

    max_radius: float = 4.0
    distance_scale: float = 1.015
    symprec: float = 0.1
    most_atoms: int = 1_000

    def __post_init__(self) -> None:
        if self.most_atoms < 1:
            raise UsageError(f"most_atoms is {self.most_atoms}; it must be above 0")
        for name in ("max_radius", "distance_scale", "symprec"):
            if not 0 < getattr(self, name) < 100:
                raise UsageError(f"{name} is {getattr(self, name):g}; it must be above 0")

    @property
    def check(self) -> Check:
        """The check, with all that decides a verdict."""
        return Check(
            "bond_valence_balance",
            "1",
            {
                "max_radius_angstrom": self.max_radius,
                "distance_scale": self.distance_scale,
                "symprec_angstrom": self.symprec,
                "most_inequivalent_atoms": self.most_atoms,
                "softness_angstrom": _SOFTNESS,
                "least_relative_probability": _LEAST_PROBABLE,
                "states_of_an_element_differ_by": 1,
                "tables_sha256": {name: sha256_hex(_text(name).encode()) for name in _TABLES},
            },
            "valence units",
        )


@dataclass(frozen=True, eq=False)
class Valences:
    """Oxidation states of the atoms of n crystals.

    Attributes:
        outcome: the verdicts.
        states: of each crystal int64 (sites,); None where no states balance.
        sums: of each crystal the bond valence sums, float64 (sites,), positive for cations.
    """

    outcome: Outcome
    states: list[np.ndarray | None]
    sums: list[np.ndarray]


def bond_valence_sums(
    sites: Sites, recipe: BondValence | None = None, threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bond valence sums of many crystals.

    Bonds form between two elements of which one is electronegative (the 16 of the source).

    Returns:
        Sums, float64 (m,), in valence units, positive for cations; and for each crystal 0 or the
        code of why there are none, uint8 (n,), into `gandb.validation.geometry.REASONS`.
    """
    recipe = BondValence() if recipe is None else recipe
    known, strengths = _strengths()
    sums = np.zeros(len(sites.atomic_numbers))
    found = np.zeros(len(sites), np.uint8)
    given = sites.lengths, sites.angles, sites.offsets, sites.frac_coords, sites.atomic_numbers
    numbers = strengths, recipe.max_radius, recipe.distance_scale, _SOFTNESS
    in_parts(
        len(sites),
        threads,
        lambda i, j: kernels.bond_valences(i, j, *given, *numbers, sums, found),
    )
    owner = np.repeat(np.arange(len(sites)), np.diff(sites.offsets))
    codes = OF_KERNEL[found]
    for wrong, word in (
        (~known[sites.atomic_numbers], "an element without bond valence parameters"),
        (sites.atomic_numbers == 0, "disordered"),
    ):
        codes[np.unique(owner[wrong])] = CODES[word]
    bound = np.bincount(owner, sums != 0, minlength=len(sites)) > 0
    codes[(codes == 0) & ~bound] = CODES["no bonds between ions"]
    return sums, codes


def bond_valence_balance(
    crystals: Sequence[Crystal], recipe: BondValence | None = None, threads: int = 1
) -> Valences:
    """Give atoms the most probable oxidation states that balance, and judge whether there are any.

    A crystal without bonds between ions, such as a metal, cannot be judged: it is an error, where
    pymatgen finds that valences cannot be assigned.

    Raises:
        MissingExtraError: moyopy is not installed.
    """
    recipe = BondValence() if recipe is None else recipe
    sites = Sites.of(crystals)
    sums, reason = bond_valence_sums(sites, recipe, threads)
    own = [sums[sites.offsets[i] : sites.offsets[i + 1]] for i in range(len(sites))]
    value = np.full(len(sites), np.nan)
    states: list[np.ndarray | None] = [None] * len(sites)
    for row in np.flatnonzero(reason == 0).tolist():
        try:
            orbits = np.array(find_dataset(crystals[row], recipe.symprec).orbits)
        except SymmetryError:
            reason[row] = CODES["no space group found"]
            continue
        if len(np.unique(orbits)) > recipe.most_atoms:
            reason[row] = CODES["too many inequivalent atoms"]
            continue
        numbers = sites.atomic_numbers[sites.offsets[row] : sites.offsets[row + 1]]
        found = balance(numbers, own[row], orbits)
        if found is None:
            reason[row] = CODES["charges do not balance"]
            continue
        states[row] = found
        value[row] = math.sqrt(float(((own[row] - found) ** 2).mean()))
    return Valences(Outcome(recipe.check, value, reason == 0, reason), states, own)


def balance(numbers: np.ndarray, sums: np.ndarray, orbits: np.ndarray) -> np.ndarray | None:
    """Return the most probable oxidation states that add up to zero, int64 (n,), or None.

    Args:
        numbers: (n,), atomic numbers.
        sums: (n,), bond valence sums; that of an orbit's first atom speaks for it.
        orbits: (n,), the first atom of each one's orbit.
    """
    by_element: dict[int, list[tuple[int, int, dict[int, float]]]] = {}
    for first, size in zip(*np.unique(orbits, return_counts=True), strict=True):
        z = int(numbers[first])
        likely = _probabilities(z, float(sums[first]))
        if not likely:
            return None
        by_element.setdefault(z, []).append((int(first), int(size), likely))
    totals: dict[int, _Choice] = {0: (0.0, None)}
    for members in by_element.values():
        totals = _joined(totals, _of_element(members))
    if 0 not in totals:
        return None
    found = np.zeros(len(numbers), np.int64)
    for first, state in _listed(totals[0][1]):
        found[orbits == first] = state
    return found


def _of_element(members: list[tuple[int, int, dict[int, float]]]) -> dict[int, _Choice]:
    """Return the best choice for the atoms of one element, by their total charge."""
    best: dict[int, _Choice] = {}
    for lowest in sorted({state for _, _, likely in members for state in likely}):
        totals: dict[int, _Choice] = {0: (0.0, None)}
        for first, size, likely in members:
            step: dict[int, _Choice] = {}
            for state in (lowest, lowest + 1):
                if state not in likely:
                    continue
                for charge, (score, chain) in totals.items():
                    total, new = charge + size * state, score + likely[state]
                    if total not in step or new > step[total][0]:
                        step[total] = (new, (chain, (first, state)))
            totals = step
        for charge, choice in totals.items():
            if charge not in best or choice[0] > best[charge][0]:
                best[charge] = choice
    return best


def _joined(one: dict[int, _Choice], two: dict[int, _Choice]) -> dict[int, _Choice]:
    found: dict[int, _Choice] = {}
    for charge, (score, chain) in one.items():
        for more, (other, tail) in two.items():
            total, new = charge + more, score + other
            if total not in found or new > found[total][0]:
                found[total] = (new, (chain, tail))
    return found


def _listed(chain: Any) -> list[tuple[int, int]]:
    """Return the (atom, state) pairs of a chain of pairs, which may branch."""
    found: list[tuple[int, int]] = []
    left = [chain]
    while left:
        item = left.pop()
        if item is None:
            continue
        if isinstance(item[0], int):
            found.append(item)
        else:
            left += item
    return found


def _probabilities(z: int, total: float) -> dict[int, float]:
    """Return the logarithms of how probable an element's states are at a bond valence sum."""
    logs = {
        state: -((total - mean) ** 2) / (2 * deviation**2) + math.log(occurrence / deviation)
        for state, (mean, deviation, occurrence) in _states().get(z, {}).items()
    }
    if not logs:
        return {}
    highest = max(logs.values())
    norm = highest + math.log(math.fsum(math.exp(x - highest) for x in logs.values()))
    bound = highest + math.log(_LEAST_PROBABLE)
    return {state: x - norm for state, x in logs.items() if x > bound}


# --- tables ------------------------------------------------------------------------------


@cache
def _text(name: str) -> str:
    return (files("gandb.validation") / "data" / name).read_text()


@cache
def _states() -> Mapping[int, Mapping[int, tuple[float, float, float]]]:
    """Mean, standard deviation and number of reports of each oxidation state, by element."""
    found: dict[int, dict[int, tuple[float, float, float]]] = {}
    for row in csv.DictReader(_text("bond_valence_sums.csv").splitlines()):
        found.setdefault(ATOMIC_NUMBERS[row["symbol"]], {})[int(row["oxidation_state"])] = (
            float(row["mean"]),
            float(row["standard_deviation"]),
            float(row["occurrence"]),
        )
    return found


@cache
def _strengths() -> tuple[np.ndarray, np.ndarray]:
    """Which elements have parameters, bool (119,), and `kernels.bond_valences`'s strengths."""
    known = np.zeros(MAX_Z + 1, bool)
    strengths = np.full((MAX_Z + 1, MAX_Z + 1, 2), np.nan)
    radii = {
        ATOMIC_NUMBERS[row["symbol"]]: (float(row["r"]), float(row["c"]))
        for row in csv.DictReader(_text("bond_valence_radii.csv").splitlines())
    }
    known[list(radii)] = True
    for one, (r1, c1) in radii.items():
        for two, (r2, c2) in radii.items():
            if one == two or not {SYMBOLS[one], SYMBOLS[two]} & set(_ELECTRONEGATIVE):
                continue
            difference = (math.sqrt(c1) - math.sqrt(c2)) ** 2
            strengths[one, two, 0] = r1 + r2 - r1 * r2 * difference / (c1 * r1 + c2 * r2)
            cation = ELECTRONEGATIVITY[one] < ELECTRONEGATIVITY[two]
            strengths[one, two, 1] = 1.0 if cation else -1.0
    return known, strengths
