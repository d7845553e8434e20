"""Crystals as base sites of as many elements: what CubicGAN and PGCGM are trained on and make.

A training crystal is its space group, its cell, and k base sites of k elements, ascending in atomic
number. What a network is asked for, a space group and k elements, is drawn from `Combinations`;
what it answers becomes crystals by `Maker`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, permutations
from typing import Any

import numpy as np

from gandb.core.crystals import Crystal
from gandb.core.elements import MAX_Z, SYMBOLS
from gandb.core.errors import InputError, UsageError
from gandb.core.radii import ATOMIC_RADIUS, COVALENT_RADIUS
from gandb.generators import base
from gandb.generators.element_features import F_BLOCK, GROUP
from gandb.generators.kept_crystals import formula_asked
from gandb.generators.structures import Request, StructureSamples
from gandb.representations.asymmetric_unit import (
    REJECTIONS,
    AsymmetricUnits,
    Merging,
    encode,
    expand,
)
from gandb.representations.space_groups import space_group

REASONS: tuple[str, ...] = (*REJECTIONS, "another_composition")
"""Why a sample is no crystal, by code; 0 is accepted."""

COORDINATES = ("any", "no_odd_eighths", "not_all_quarters")
"""Rules on the coordinates of training crystals: CubicGAN takes the second, PGCGM the third."""

ROUNDS = 16
"""How often a sample is drawn anew where a composition was asked for and another came."""

_ON_GRID = 1e-4
_HAS_RADII: np.ndarray = np.isfinite(COVALENT_RADIUS) & np.isfinite(ATOMIC_RADIUS)


# --- training crystals -------------------------------------------------------------------


@dataclass(frozen=True)
class Rules:
    """Which crystals a model is trained on.

    Attributes:
        n_sites: base sites, and elements, of a crystal.
        space_groups: numbers, ascending.
        f_block: whether lanthanoids and actinoids are taken.
        coordinates: one of `COORDINATES`.
        symprec: how far, Å, an operation may miss a site.
    """

    n_sites: int
    space_groups: tuple[int, ...]
    f_block: bool
    coordinates: str
    symprec: float


@dataclass(frozen=True, eq=False)
class BaseSites:
    """n training crystals of k base sites.

    Attributes:
        groups: int64 (n,), places of their space groups in `Rules.space_groups`.
        lengths: float64 (n, 3), Å.
        atomic_numbers: int64 (n, k), ascending.
        frac_coords: float64 (n, k, 3), in [0, 1).
        positions: int64 (n, k), places of their Wyckoff positions among those of the group.
    """

    groups: np.ndarray
    lengths: np.ndarray
    atomic_numbers: np.ndarray
    frac_coords: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.groups)


def select(crystals: Sequence[Crystal], rules: Rules) -> tuple[BaseSites, dict[str, int]]:
    """Find the base sites of the crystals that fit, and count the others by reason.

    Raises:
        InputError: none fits.
        MissingExtraError: moyopy is not installed.
    """
    rejected: dict[str, int] = {}

    def leave(reason: str, times: int = 1) -> None:
        if times:
            rejected[reason] = rejected.get(reason, 0) + times

    chosen = []
    for own in crystals:  # cheap questions first: the search for symmetry takes a while
        if not own.ordered:
            leave("disordered")
        elif len(own.amounts) != rules.n_sites:
            leave("other_number_of_elements")
        else:
            chosen.append(own)
    encoded = encode(chosen, rules.symprec, max_base_sites=rules.n_sites)
    for reason, times in encoded.rejected().items():
        leave("other_number_of_base_sites" if reason == "too_many_base_sites" else reason, times)
    units = encoded.units
    full = np.diff(units.offsets) == rules.n_sites
    leave("other_number_of_base_sites", int((~full).sum()))
    units = units.take(full)
    numbers = units.atomic_numbers.astype(np.int64).reshape(-1, rules.n_sites)
    coords = units.frac_coords.reshape(-1, rules.n_sites, 3)
    kept = np.ones(len(units), bool)
    for reason, wrong in (
        ("other_space_group", ~np.isin(units.space_groups, rules.space_groups)),
        ("f_block", F_BLOCK[numbers].any(axis=1) & (not rules.f_block)),
        ("element_without_radius", ~_HAS_RADII[numbers].all(axis=1)),
        (f"coordinates_{rules.coordinates}", _against(rules.coordinates, coords)),
    ):
        leave(reason, int((kept & wrong).sum()))
        kept &= ~wrong
    if not kept.any():
        raise InputError(
            f"none of the {len(crystals)} training crystals has {rules.n_sites} base sites of "
            f"{rules.n_sites} elements in the space groups asked for: {rejected or 'no crystals'}"
        )
    places = np.searchsorted(rules.space_groups, units.space_groups[kept])
    letters = units.take(kept).wyckoff_letters()
    positions = np.array([[_letter_place(letter) for letter in row] for row in letters], np.int64)
    return BaseSites(places, units.lengths[kept], numbers[kept], coords[kept], positions), rejected


def on_grid(sites: BaseSites, space_groups: Sequence[int], steps: int) -> tuple[BaseSites, int]:
    """Bring coordinates to ``steps`` per edge.

    Returns:
        The crystals whose sites keep their Wyckoff positions, apart from each other, and how many
        others there were.
    """
    coords = np.mod(np.rint(sites.frac_coords * steps) / steps, 1.0)
    n, k = sites.atomic_numbers.shape
    units = AsymmetricUnits(
        np.array(space_groups, np.int16)[sites.groups],
        sites.lengths,
        np.full((n, 3), 90.0),
        np.arange(n + 1, dtype=np.int64) * k,
        sites.atomic_numbers.astype(np.uint8).ravel(),
        coords.reshape(-1, 3),
    )
    kept = expand(units).crystals()[1] == 0
    letters = [[_letter_place(letter) for letter in row] for row in units.wyckoff_letters()]
    kept &= (np.array(letters, np.int64) == sites.positions).all(axis=1)
    found = BaseSites(
        sites.groups[kept],
        sites.lengths[kept],
        sites.atomic_numbers[kept],
        coords[kept],
        sites.positions[kept],
    )
    return found, int((~kept).sum())


def _letter_place(letter: str) -> int:
    """Return the place of a Wyckoff position: ``a`` is 0, ``A`` follows ``z``."""
    return 26 if letter == "A" else ord(letter) - ord("a")


def _against(rule: str, coords: np.ndarray) -> np.ndarray:
    """Tell which crystals break a rule on coordinates, bool (n,)."""
    steps = coords.reshape(len(coords), 3 * coords.shape[1]) * 8.0
    on_grid = np.abs(steps - np.rint(steps)) < _ON_GRID
    if rule == "no_odd_eighths":
        return np.asarray((on_grid & (np.rint(steps) % 2 == 1)).any(axis=1))
    if rule == "not_all_quarters":
        return np.asarray((on_grid & (np.rint(steps) % 2 == 0)).all(axis=1))
    return np.zeros(len(coords), bool)


def read_space_groups(listed: Sequence[Any], allowed: Iterable[int], model: str) -> tuple[int, ...]:
    """Return the option ``space_groups`` in ascending order.

    Raises:
        UsageError: it is empty, has a number twice, or one that the model cannot make.
    """
    known = set(allowed)
    if not listed or any(isinstance(g, bool) or not isinstance(g, int) for g in listed):
        raise UsageError(f"option 'space_groups' is {listed!r}; give a list of numbers")
    wrong = sorted(set(listed) - known)
    if wrong or len(set(listed)) != len(listed):
        raise UsageError(
            f"option 'space_groups' of {model} has {wrong or 'a number twice'}; give different "
            f"numbers from {min(known)} to {max(known)}"
        )
    return tuple(sorted(listed))


# --- what to ask the network for ---------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Combinations:
    """Space groups and elements of the training crystals, and which elements stand in for which.

    A combination is a training one, in which each element may be exchanged for another that the
    training crystals have in like company: element a becomes b by how often both occur in one
    space group beside one third element and another of one group of the periodic table, each such
    company weighing 1 in all. So combinations come up that the training set lacks.

    Attributes:
        groups: int64 (n,), places in the list of space groups.
        elements: int64 (n, k), ascending.
        exchange: float64 (119, 119), running sums of the chance that the element of a row becomes
            that of a column; all zero where nothing can stand in.
    """

    groups: np.ndarray
    elements: np.ndarray
    exchange: np.ndarray

    @classmethod
    def of(cls, groups: np.ndarray, elements: np.ndarray) -> Combinations:
        """Take what training crystals have."""
        k = elements.shape[1]
        whose, what = [], []
        for i, j in permutations(range(k), 2):
            beside = groups * (MAX_Z + 1) + elements[:, j]
            for rest in [m for m in range(k) if m not in (i, j)] or [j]:
                whose.append(elements[:, i])
                what.append(beside * 19 + GROUP[elements[:, rest]])
        kinds, places = np.unique(np.concatenate(what), return_inverse=True)
        company = np.zeros((MAX_Z + 1, len(kinds)))
        np.add.at(company, (np.concatenate(whose), places.ravel()), 1.0)
        alike = (company / company.sum(axis=0)) @ company.T
        np.fill_diagonal(alike, 0.0)
        sums = alike.sum(axis=1, keepdims=True)
        shares = np.divide(alike, sums, out=np.zeros_like(alike), where=sums > 0)
        return cls(groups, elements, np.cumsum(shares, axis=1))

    def shares(self, n_groups: int) -> np.ndarray:
        """Return the share of each space group, float64 (n_groups,)."""
        times = np.bincount(self.groups, minlength=n_groups)
        return np.asarray(times / times.sum())

    def draw(
        self, n: int, rng: np.random.Generator, exchanged: float, groups: Sequence[int] = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw n combinations.

        Args:
            n: how many.
            rng: where their randomness comes from.
            exchanged: chance that an element is exchanged.
            groups: places of the space groups to draw from; () for all.

        Returns:
            Places of space groups, int64 (n,), and elements, int64 (n, k), ascending.
        """
        rows = np.arange(len(self.groups))
        if groups:
            rows = np.flatnonzero(np.isin(self.groups, groups))
        picked = rows[rng.integers(len(rows), size=n)]
        elements = self.elements[picked].copy()
        for site in range(elements.shape[1]):
            changes, places = rng.random((2, n))
            sums = self.exchange[elements[:, site]]
            known = sums[:, -1] > 0
            other = (sums <= (places * sums[:, -1])[:, None]).sum(axis=1)
            twice = (elements == other[:, None]).any(axis=1)
            changing = (changes < exchanged) & known & ~twice
            elements[changing, site] = other[changing]
        return self.groups[picked], np.sort(elements, axis=1)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the arrays of a checkpoint; the rest follows from them."""
        return {
            "training_groups": self.groups.astype(np.uint8),
            "training_elements": self.elements.astype(np.uint8),
        }

    @classmethod
    def restore(
        cls, tensors: Mapping[str, np.ndarray], n_groups: int, n_sites: int
    ) -> Combinations:
        """Take the arrays of a checkpoint.

        Raises:
            InputError: they do not fit.
        """
        groups, elements = tensors["training_groups"], tensors["training_elements"]
        fit = len(groups) > 0 and elements.shape == (len(groups), n_sites)
        if (
            not fit
            or groups.max() >= n_groups
            or not 1 <= elements.min() <= elements.max() <= MAX_Z
        ):
            raise InputError("the checkpoint's training combinations do not fit its options")
        return cls.of(groups.astype(np.int64), elements.astype(np.int64))


# --- crystals of what the network answers ------------------------------------------------

Answer = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""Lengths (n, 3), Å, and coordinates (n, k, 3) for groups (n,) and elements (n, k)."""


@dataclass(frozen=True)
class Maker:
    """Draws what to ask for, asks, and makes crystals of the answers.

    Attributes:
        model: its name, for messages.
        space_groups: numbers, ascending.
        combinations: what to ask for where it is free.
        exchanged: chance that an element of a training combination is exchanged.
        merging: which atoms are joined; None for those at one place only.
        max_sites: most atoms of a crystal.
        batch: samples drawn at a time.
    """

    model: str
    space_groups: tuple[int, ...]
    combinations: Combinations
    exchanged: float
    merging: Merging | None
    max_sites: int
    batch: int

    def make(
        self, n: int, seed: np.random.SeedSequence, request: Request, answer: Answer
    ) -> StructureSamples:
        """Draw n samples.

        Raises:
            UsageError: the model cannot do what is asked for.
        """
        places = self._places(request)
        crystals: list[Crystal | None] = []
        codes = np.zeros(n, np.uint8)
        numbers = np.zeros(n, np.int16)
        for part, rng in base.blocks(n, seed, self.batch):
            size = part.stop - part.start
            groups, found, codes[part] = self._block(size, rng, request, places, answer)
            crystals += found
            numbers[part] = np.array(self.space_groups)[groups]
        asked = formula_asked(request)
        return StructureSamples(crystals, codes, REASONS, numbers, [asked] * n)

    def _block(
        self,
        n: int,
        rng: np.random.Generator,
        request: Request,
        places: tuple[int, ...],
        answer: Answer,
    ) -> tuple[np.ndarray, list[Crystal | None], np.ndarray]:
        groups = np.zeros(n, np.int64)
        codes = np.zeros(n, np.uint8)
        found: list[Crystal | None] = [None] * n
        left = np.arange(n)
        for _ in range(ROUNDS if request.counts else 1):
            own, elements = self.combinations.draw(len(left), rng, self.exchanged, places)
            if request.elements:
                elements[:] = request.elements
            lengths, coords = answer(own, elements, rng)
            made, reasons = self.crystals(own, elements, lengths, coords)
            other = np.zeros(len(left), bool)
            if request.counts:
                other = np.array([c is not None and not _agrees(c, request) for c in made])
            groups[left] = own
            codes[left] = np.where(other, REASONS.index("another_composition"), reasons)
            for place, crystal, wrong in zip(left.tolist(), made, other.tolist(), strict=True):
                found[place] = None if wrong else crystal
            left = left[other]
            if not len(left):
                break
        return groups, found, codes

    def crystals(
        self, groups: np.ndarray, elements: np.ndarray, lengths: np.ndarray, coords: np.ndarray
    ) -> tuple[list[Crystal | None], np.ndarray]:
        """Return the crystals of base sites, None for those rejected, and codes into `REASONS`."""
        n, k = elements.shape
        units = AsymmetricUnits(
            np.array(self.space_groups, np.int16)[groups],
            np.asarray(lengths, np.float64),
            np.full((n, 3), 90.0),
            np.arange(n + 1, dtype=np.int64) * k,
            elements.astype(np.uint8).ravel(),
            np.mod(np.asarray(coords, np.float64), 1.0).reshape(-1, 3),
        )
        return expand(units, self.merging, self.max_sites).crystals()

    def _places(self, request: Request) -> tuple[int, ...]:
        """Return the space groups that a request leaves, by place; () for all."""
        k = self.combinations.elements.shape[1]
        if request.elements and len(request.elements) != k:
            raise UsageError(
                f"this {self.model} makes crystals of {k} elements, not of {len(request.elements)}"
            )
        for z in request.elements:
            if not _HAS_RADII[z]:
                raise UsageError(f"{self.model} knows no radius of {SYMBOLS[z]}")
        trained = np.flatnonzero(self.combinations.shares(len(self.space_groups)) > 0).tolist()
        known = [self.space_groups[i] for i in trained]
        wrong = [g for g in request.space_groups if g not in known]
        if wrong:
            raise UsageError(f"this {self.model} was trained on space groups {known}, not {wrong}")
        if not request.space_groups and not request.counts:
            return ()
        left = [i for i in trained if self.space_groups[i] in (request.space_groups or known)]
        if request.counts:
            left = [i for i in left if _can_hold(self.space_groups[i], request.counts)]
            if not left:
                raise UsageError(
                    f"with one base site per element, no multiplicities of the space groups "
                    f"{list(request.space_groups) or known} are as {list(request.counts)}"
                )
        return tuple(left)


def _agrees(own: Crystal, request: Request) -> bool:
    counts = np.array([own.amounts.get(SYMBOLS[z], 0) for z in request.elements])
    asked = np.array(request.counts)
    return bool((counts * asked[0] == asked * counts[0]).all())


def _can_hold(number: int, counts: tuple[int, ...]) -> bool:
    """Tell whether multiplicities of a group are as counts are, up to a common factor."""
    sizes = sorted({position.multiplicity for position in space_group(number).positions})
    wanted = sorted(counts)
    for chosen in combinations_with_replacement(sizes, len(counts)):
        if all(a * wanted[0] == b * chosen[0] for a, b in zip(chosen, wanted, strict=True)):
            return True
    return False
