"""Baseline ``prototype_substitution``: a training crystal with elements replaced.

What may replace what is learned from the training crystals, in the way of H. Glawe, A. Sanna,
E. K. U. Gross and M. A. L. Marques, New J. Phys. 18, 093011 (2016),
doi:10.1088/1367-2630/18/9/093011, who count how often two elements occur in the same place of one
structure type; H.-C. Wang, S. Botti and M. A. L. Marques, npj Comput. Mater. 7, 12 (2021),
doi:10.1038/s41524-020-00481-6, find stable crystals so. Here a structure type is a space group with
the Wyckoff positions of each element, and a place in it is the positions of one element. With
c_p(A) crystals that have A at place p, and N_p in all, A is replaced by B with a probability
proportional to

    S(A, B) = sum over p of c_p(A) c_p(B) / N_p,

how often one meets B, drawing a crystal with A and then another of its type. A share f(B) of all
crystals that have B is added as a single observation, so that no replacement is impossible.

A crystal keeps its coordinates. Its cell is scaled alike in all directions, by the change of the
sum of its atoms' volumes; those of the elements are fitted to the cells of the training crystals.
The elements stay different, so the crystal keeps its space group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any, Self

import numpy as np

from gandb.core.crystals import Crystal, CrystalError, crystal
from gandb.core.elements import ATOMIC_NUMBERS, ELECTRONEGATIVITY, MAX_Z, SYMBOLS
from gandb.core.errors import InputError, UsageError, known_names
from gandb.core.radii import COVALENT_RADIUS
from gandb.generators import base
from gandb.generators.kept_crystals import KeptCrystals, formula_asked, usable
from gandb.generators.structures import (
    COMPOSITION,
    ELEMENTS,
    SPACE_GROUP,
    Request,
    StructureData,
    StructureSamples,
    read_condition,
)
from gandb.representations.standard_cells import SymmetryError, find_dataset

REASONS = ("accepted", "no_other_element", "no_crystal")
"""Why a sample is none, by code: no element of the training set is left to replace one with, or the
record refuses it."""

MOST_ELEMENTS = 7
"""Most elements that can be asked for: all orders of them are weighed."""

LEARNED, FREQUENCY = "learned", "frequency"
_SMALLEST = 0.25  # volume of an element, of that by its radius
_PRIOR = 1.0  # crystals for which volumes by radii count in the fit
_SYMBOLS = np.array(SYMBOLS)

_Replacement = tuple[int, dict[int, int] | None]
"""A training crystal, and what replaces each of its elements; None where nothing is left to."""


@dataclass(frozen=True)
class PrototypeSubstitutionConfig:
    """Options of this baseline.

    Attributes:
        similarity: ``learned``: replacements by S(A, B); ``frequency``: by f(B), whatever they
            replace.
        replaced: how many elements of each crystal are replaced, or all where it has fewer; 0 for a
            number drawn from one to all.
        symprec: tolerance of the symmetry search in the training crystals, Å.
        max_atoms: training crystals with more atoms in their cell are left out; 0 for none.
    """

    similarity: str = LEARNED
    replaced: int = 0
    symprec: float = 0.01
    max_atoms: int = 0


@dataclass(frozen=True)
class PrototypeSubstitution:
    """Training crystals with elements replaced.

    Attributes:
        options: its configuration.
        kept: the n training crystals.
        space_groups: int16 (n,), of each; 0 where no symmetry was found.
        likeness: float64 (119, 119), S(A, B).
        volumes: float64 (119,), of an atom of each element, Å³; NaN of those without one.
    """

    options: PrototypeSubstitutionConfig
    kept: KeptCrystals
    space_groups: np.ndarray
    likeness: np.ndarray
    volumes: np.ndarray
    name: str = "prototype_substitution"

    @property
    def config(self) -> Mapping[str, Any]:
        """Return the configuration as plain JSON data."""
        return base.config_json(self.options)

    @classmethod
    def fit(
        cls, name: str, data: StructureData, options: PrototypeSubstitutionConfig
    ) -> base.Fit[Self]:
        """Find the structure types of the ordered training crystals, and count who replaces whom.

        Raises:
            UsageError: an option cannot be.
            InputError: no crystal is ordered.
            MissingExtraError: moyopy is not installed.
        """
        _check(options)
        chosen, rejected = usable(data.crystals, options.max_atoms)
        kept = KeptCrystals.of(chosen)
        groups = np.zeros(len(chosen), np.int16)
        places: dict[tuple[Any, ...], list[int]] = {}
        for i, own in enumerate(chosen):
            groups[i], held = _places(own, options.symprec)
            for place, number in held:
                places.setdefault(place, []).append(number)
        likeness = np.zeros((MAX_Z + 1, MAX_Z + 1))
        for numbers in places.values():
            found, times = np.unique(numbers, return_counts=True)
            likeness[np.ix_(found, found)] += np.outer(times, times) / len(numbers)
        volumes = _fit_volumes(kept, np.array([own.volume for own in chosen]))
        return base.Fit(cls(options, kept, groups, likeness, volumes, name), len(chosen), rejected)

    @cached_property
    def shares(self) -> np.ndarray:
        """Share f of the training crystals that have each element, of the sum, float64 (119,)."""
        times = (self.kept.counts > 0).sum(axis=0).astype(np.float64)
        found: np.ndarray = times / times.sum()
        return found

    @cached_property
    def weights(self) -> np.ndarray:
        """Probability of B in the place of A, float64 (119, 119); A itself included."""
        if self.options.similarity == FREQUENCY:
            return np.broadcast_to(self.shares, self.likeness.shape)
        sums = self.likeness + self.shares
        found: np.ndarray = sums / sums.sum(axis=1, keepdims=True)
        return found

    def sample(
        self,
        n: int,
        seed: np.random.SeedSequence,
        condition: Mapping[str, Any] | None = None,
        device: str | None = None,
    ) -> StructureSamples:
        """Draw n crystals; see `gandb.generators.structures`. The device makes no difference.

        Args:
            n: number of samples.
            seed: where their randomness comes from.
            condition: None, or ``space_group`` and either of ``elements`` and ``composition`` (as
                a reduced formula). Then training crystals are drawn by how likely their elements
                are to be replaced by those; one that has them in the same places is none to draw.
            device: ignored.

        Raises:
            UsageError: nothing in the training set can become what is asked for.
        """
        del device
        request = read_condition(condition, self.name, (ELEMENTS, COMPOSITION, SPACE_GROUP))
        rows = np.arange(len(self.kept))
        if request.space_groups:
            rows = np.flatnonzero(np.isin(self.space_groups, request.space_groups))
            if not len(rows):
                raise UsageError(
                    f"no training crystal of this {self.name} has a space group of "
                    f"{list(request.space_groups)}; {self._known_groups()}"
                )
        if request.elements:
            drawing = _Assigning.of(self, rows, request)
        found: list[Crystal | None] = [None] * n
        rejections = np.zeros(n, np.uint8)
        groups = np.zeros(n, np.int16)
        for part, rng in base.blocks(n, seed):
            size = part.stop - part.start
            if request.elements:
                pairs = drawing.draw(size, rng)
            else:
                pairs = self._mutate(rows[rng.integers(len(rows), size=size)], rng)
            for place, (i, new) in enumerate(pairs, part.start):
                if request.space_groups:
                    groups[place] = self.space_groups[i]
                if new is None:
                    rejections[place] = 1
                    continue
                found[place] = self._replaced(i, new)
                rejections[place] = 2 * (found[place] is None)
        formulas = [formula_asked(request)] * n
        return StructureSamples(found, rejections, REASONS, groups, formulas)

    def elements(self, i: int) -> np.ndarray:
        """Return the atomic numbers of the elements of training crystal i, ascending."""
        return np.flatnonzero(self.kept.counts[i])

    def _mutate(self, rows: np.ndarray, rng: np.random.Generator) -> Iterator[_Replacement]:
        """Yield each training crystal of ``rows`` with who replaces whom; None where nobody can."""
        weights = self.weights
        for i in rows.tolist():
            present = self.elements(i)
            most = len(present)
            times = min(self.options.replaced, most) or 1 + int(rng.integers(most))
            new = {int(z): int(z) for z in present}
            taken = present.tolist()
            for old in rng.permutation(present)[:times].tolist():
                chances = weights[old].copy()
                chances[taken] = 0.0
                sums = np.cumsum(chances)
                if not sums[-1] > 0:
                    break
                new[old] = int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))
                taken.append(new[old])
            yield i, new if len(taken) == len(present) + times else None

    def _replaced(self, i: int, new: Mapping[int, int]) -> Crystal | None:
        """Return training crystal i with elements replaced; None where the record refuses it."""
        old = self.kept.numbers(i)
        names = np.zeros(MAX_Z + 1, np.int64)
        names[list(new)] = list(new.values())
        numbers = names[old]
        change = self.volumes[numbers].sum() / self.volumes[old].sum()
        try:
            return crystal(
                self.kept.lengths(i) * math.cbrt(change),
                self.kept.angles(i),
                _SYMBOLS[numbers].tolist(),
                self.kept.frac_coords(i),
            )
        except CrystalError:
            return None

    def _known_groups(self) -> str:
        found = np.unique(self.space_groups[self.space_groups > 0]).tolist()
        return f"it has {', '.join(map(str, found)) or 'none'}"

    def checkpoint(self) -> bytes:
        """Write the training crystals and the tables."""
        tensors = {
            **self.kept.tensors(),
            "space_groups": self.space_groups,
            "likeness": self.likeness,
            "volumes": self.volumes,
        }
        return base.pack(tensors, base.describe(self.name, self.options))

    @classmethod
    def restore(
        cls, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any], device: str
    ) -> Self:
        """Make it of a checkpoint's tensors; the device makes no difference.

        Raises:
            InputError: the tensors do not fit together.
        """
        del device
        name = str(description["model"])
        options = base.read_options(PrototypeSubstitutionConfig, description["config"], name)
        kept = KeptCrystals.restore(tensors)
        width = MAX_Z + 1
        for key, shape in (
            ("space_groups", (len(kept),)), ("likeness", (width, width)), ("volumes", (width,)),
        ):  # fmt: skip
            if tensors[key].shape != shape:
                raise InputError(f"tensor {key!r} has shape {tensors[key].shape}, not {shape}")
        return cls(
            options, kept, tensors["space_groups"], tensors["likeness"], tensors["volumes"], name
        )


def _check(options: PrototypeSubstitutionConfig) -> None:
    if options.similarity not in (LEARNED, FREQUENCY):
        known = known_names("similarity", options.similarity, (LEARNED, FREQUENCY))
        raise UsageError(f"option 'similarity' is {options.similarity!r}; {known}")
    if options.replaced < 0:
        raise UsageError(f"option 'replaced' is {options.replaced}; give 0 or more")
    if not options.symprec > 0:
        raise UsageError(f"option 'symprec' is {options.symprec}; give a length in Å above 0")


def _places(own: Crystal, symprec: float) -> tuple[int, list[tuple[tuple[Any, ...], int]]]:
    """Return the space group, 0 where none is found, and the place of each element, with it.

    Elements with the same Wyckoff positions are told apart by electronegativity.
    """
    try:
        symmetry = find_dataset(own, symprec)
    except SymmetryError:
        return 0, []
    letters: dict[str, list[str]] = {}
    for text, letter, orbit in zip(own.species, symmetry.wyckoffs, symmetry.orbits, strict=True):
        letters.setdefault(text, []).append(f"{letter}{orbit}")
    found = []
    for text, sites in letters.items():
        # One letter for each orbit, not for each atom: so a supercell is of the same type.
        positions = "".join(sorted(label[0] for label in set(sites)))
        number = ATOMIC_NUMBERS[text]
        found.append((positions, float(np.nan_to_num(ELECTRONEGATIVITY[number], nan=9.0)), number))
    found.sort()
    kind = (symmetry.number, *(positions for positions, _, _ in found))
    return symmetry.number, [((*kind, place), z) for place, (_, _, z) in enumerate(found)]


def _fit_volumes(kept: KeptCrystals, volumes: np.ndarray) -> np.ndarray:
    """Return the volume of an atom of each element, float64 (119,), Å³; NaN of those absent.

    Least squares of the relative errors of the cells' volumes, (n,), Å³, drawn to volumes that go
    with the covalent radius, as if each had been seen in one crystal more.
    """
    present = np.flatnonzero(kept.counts.any(axis=0))
    counts = kept.counts[:, present].astype(np.float64)
    radii = COVALENT_RADIUS[present]
    radii = np.where(np.isnan(radii), np.nanmean(COVALENT_RADIUS), radii)
    shares = counts / volumes[:, None]
    ratio = shares @ radii
    prior = radii * (ratio.sum() / (ratio**2).sum())
    # Unknowns are volumes in units of the prior's.
    rows = shares * prior
    normal = rows.T @ rows + np.diag(np.full(len(present), _PRIOR / len(present)))
    right = rows.sum(axis=0) + _PRIOR / len(present)
    found = np.full(MAX_Z + 1, np.nan)
    found[present] = np.maximum(np.linalg.solve(normal, right), _SMALLEST) * prior
    return found


@dataclass(frozen=True)
class _Assigning:
    """Which training crystals can become what is asked for, and how likely each is.

    Attributes:
        model: whose crystals they are.
        rows: int64 (m,), those with as many elements as asked for.
        present: int64 (m, k), their elements, ascending.
        orders: int64 (k!, k), each a way to put the elements asked for into the places of those.
        chances: float64 (m, k!), of each; 0 where it cannot be.
    """

    rows: np.ndarray
    present: np.ndarray
    orders: np.ndarray
    chances: np.ndarray

    @classmethod
    def of(cls, model: PrototypeSubstitution, rows: np.ndarray, request: Request) -> _Assigning:
        """Weigh all orders of the elements asked for in all crystals of ``rows``.

        Raises:
            UsageError: an element is unknown to the training set, there are too many, or no crystal
                can become what is asked for.
        """
        asked = np.array(request.elements)
        if len(asked) > MOST_ELEMENTS:
            raise UsageError(
                f"{model.name} can be asked for at most {MOST_ELEMENTS} elements, not {len(asked)}"
            )
        if unknown := [SYMBOLS[z] for z in asked.tolist() if not model.shares[z] > 0]:
            raise UsageError(
                f"no training crystal of this {model.name} has {', '.join(unknown)}, so nothing is "
                "known of what it can replace; train it on a dataset that has it"
            )
        held = model.kept.reduced[rows]
        rows = rows[(held > 0).sum(axis=1) == len(asked)]
        present = np.array([model.elements(i) for i in rows.tolist()], np.int64).reshape(
            -1, len(asked)
        )
        orders = np.array(list(permutations(range(len(asked)))))
        chances = np.ones((len(rows), len(orders)))
        counts = np.array(request.counts or [0] * len(asked)) // (
            np.gcd.reduce(request.counts) if request.counts else 1
        )
        same = np.ones(chances.shape, bool)
        for place in range(len(asked)):
            old, new = present[:, place, None], asked[orders[:, place]]
            chances *= model.weights[old, new]
            same &= old == new
            if request.counts:
                amounts = model.kept.reduced[rows, present[:, place]]
                chances *= amounts[:, None] == counts[orders[:, place]]
        chances[same] = 0.0
        if not chances.any():
            raise UsageError(
                f"no training crystal of this {model.name}"
                + (
                    f" with a space group of {list(request.space_groups)}"
                    if request.space_groups
                    else ""
                )
                + f" can become {formula_asked(request)}: none has its "
                + ("stoichiometry" if request.counts else "number of elements")
            )
        return cls(rows, present, asked[orders], chances)

    def draw(self, n: int, rng: np.random.Generator) -> Iterator[_Replacement]:
        """Yield n training crystals with who replaces whom."""
        sums = np.cumsum(self.chances.ravel())
        drawn = np.searchsorted(sums, rng.random(n) * sums[-1], side="right")
        for which in np.minimum(drawn, len(sums) - 1).tolist():
            row, order = divmod(which, len(self.orders))
            pairs: Sequence[tuple[int, int]] = list(
                zip(self.present[row].tolist(), self.orders[order].tolist(), strict=True)
            )
            yield int(self.rows[row]), dict(pairs)
