"""Baseline ``random_wyckoff``: Wyckoff positions of a space group filled at random.

As PyXtal does it (Fredericks et al., Comput. Phys. Commun. 261, 107810 (2021),
doi:10.1016/j.cpc.2020.107810), without its code: a space group and the atoms of its conventional
cell are given; each element's atoms go to positions whose multiplicities add up to their number,
those without free coordinates at most once; the cell has the shape that the group allows, drawn at
random, and a volume by the atoms' covalent radii; free coordinates are drawn until atoms are far
enough apart, or given up.

Space group and atoms are those of a training crystal, each as likely as any other, unless a
condition says otherwise. What is left to chance is all that a model of structures has to learn:
which positions, where on them, and the shape of the cell. The volume is measured in sums of
4/3 pi r^3 and drawn with the training crystals' mean and deviation of its logarithm, or set by an
option.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np

from gandb.core.crystals import Crystal, lattice_matrix
from gandb.core.elements import ATOMIC_NUMBERS, MAX_Z
from gandb.core.errors import InputError, UsageError
from gandb.core.radii import COVALENT_RADIUS
from gandb.generators import base
from gandb.generators.kept_crystals import formula_asked
from gandb.generators.structures import (
    COMPOSITION,
    ELEMENTS,
    SPACE_GROUP,
    Request,
    StructureData,
    StructureSamples,
    read_condition,
)
from gandb.representations import asymmetric_unit
from gandb.representations.asymmetric_unit import AsymmetricUnits
from gandb.representations.space_groups import SpaceGroup, cell_constraints, space_group
from gandb.representations.standard_cells import SymmetryError, standard_cell

REASONS: tuple[str, ...] = (
    *asymmetric_unit.REJECTIONS,
    "no_positions",
    "atoms_too_near",
)
"""Why a sample is no crystal, by code; 0 is accepted."""

_NO_POSITIONS, _TOO_NEAR = REASONS.index("no_positions"), REASONS.index("atoms_too_near")
_FILLINGS = 20  # how often positions are chosen anew
_SPREAD = 0.3  # deviation of logarithms of lengths, before they are scaled to the volume
_LEAST_ANGLE, _MOST_ANGLE = 60.0, 120.0
_AROUND = np.array([(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)])
_SAME = 1e-4  # of the cell
_RADII: np.ndarray = np.where(np.isfinite(COVALENT_RADIUS), COVALENT_RADIUS, 1.5)


@dataclass(frozen=True)
class RandomWyckoffConfig:
    """Options of this baseline.

    Attributes:
        tolerance: atoms are at least this share of the sum of their covalent radii apart; 0 for
            any distance. PyXtal takes 0.5 for inorganic crystals.
        attempts: how often the free coordinates of an orbit, and then the cell, are drawn anew.
        volume: volume of a cell in sums of 4/3 pi r^3; 0 for the training crystals'.
        max_atoms: training crystals with more atoms in their conventional cell are left out, and
            none is made with more.
        symprec: how far, Å, an operation may miss a site of a training crystal.
    """

    tolerance: float = 0.5
    attempts: int = 20
    volume: float = 0.0
    max_atoms: int = 200
    symprec: float = 0.01

    def checked(self) -> Self:
        """Return it.

        Raises:
            UsageError: an option cannot be.
        """
        for name in ("tolerance", "volume"):
            if not 0 <= getattr(self, name) < 100:
                raise UsageError(f"option {name!r} is {getattr(self, name)}; give 0 or more")
        for name in ("attempts", "max_atoms"):
            if getattr(self, name) < 1:
                raise UsageError(f"option {name!r} is {getattr(self, name)}; give at least 1")
        if not self.symprec > 0:
            raise UsageError(f"option 'symprec' is {self.symprec}; give a number above 0")
        return self


@dataclass(frozen=True, eq=False)
class RandomWyckoff:
    """Random fillings of space groups.

    Attributes:
        options: its configuration.
        space_groups: int16 (n,), those of the training crystals.
        offsets: int64 (n + 1,), elements of crystal i are ``offsets[i]:offsets[i + 1]``.
        atomic_numbers: uint8 (m,), ascending within a crystal.
        counts: uint16 (m,), atoms of it in the conventional cell.
        volume: float64 (2,), mean and deviation of the logarithm of volumes in sums of 4/3 pi r^3.
    """

    options: RandomWyckoffConfig
    space_groups: np.ndarray
    offsets: np.ndarray
    atomic_numbers: np.ndarray
    counts: np.ndarray
    volume: np.ndarray
    name: str = "random_wyckoff"

    @property
    def config(self) -> Mapping[str, Any]:
        """Return the configuration as plain JSON data."""
        return base.config_json(self.options)

    @classmethod
    def fit(cls, name: str, data: StructureData, options: RandomWyckoffConfig) -> base.Fit[Self]:
        """Keep space groups and atoms of the training crystals.

        Raises:
            InputError: none can be used.
            MissingExtraError: moyopy is not installed.
        """
        options.checked()
        rejected: dict[str, int] = {}
        groups, rows, volumes = [], [], []
        for own in data.crystals:
            found = _training(own, options)
            if isinstance(found, str):
                rejected[found] = rejected.get(found, 0) + 1
                continue
            number, counts, volume = found
            groups.append(number)
            rows.append(sorted(counts.items()))
            radii = sum(n * _RADII[z] ** 3 for z, n in counts.items())
            volumes.append(np.log(volume / (4.0 / 3.0 * np.pi * radii)))
        if not rows:
            raise InputError(
                f"none of the {len(data)} training crystals can be used: {rejected or 'none given'}"
            )
        generator = cls(
            options,
            np.array(groups, np.int16),
            np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64),
            np.array([z for row in rows for z, _ in row], np.uint8),
            np.array([n for row in rows for _, n in row], np.uint16),
            np.array([np.mean(volumes), np.std(volumes)]),
            name,
        )
        return base.Fit(generator, len(rows), rejected)

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
            condition: None, or any of ``elements`` (which take the counts of a training crystal
                of as many elements), ``composition`` (any whole multiple of it, up to the option
                ``max_atoms``) and ``space_group``.
            device: ignored.

        Raises:
            UsageError: the condition cannot be met.
        """
        del device
        request = read_condition(condition, self.name, (ELEMENTS, COMPOSITION, SPACE_GROUP))
        cells = _Cells(self, request)
        codes = np.zeros(n, np.uint8)
        crystals: list[Crystal | None] = [None] * n
        groups = np.zeros(n, np.int16)
        for part, rng in base.blocks(n, seed, _BLOCK):
            places, made = [], []
            for i in range(part.start, part.stop):
                number, counts = cells.draw(rng)
                groups[i] = number
                unit = self._fill(space_group(number), counts, rng)
                if isinstance(unit, int):
                    codes[i] = unit
                else:
                    places.append(i)
                    made.append(unit)
            if made:
                numbers, lengths, angles, kinds, coords = zip(*made, strict=True)
                units = AsymmetricUnits.of_sites(
                    numbers, np.array(lengths), np.array(angles), kinds, coords
                )
                found, reasons = asymmetric_unit.expand(units).crystals()
                for i, own, code in zip(places, found, reasons.tolist(), strict=True):
                    crystals[i], codes[i] = own, code
        return StructureSamples(crystals, codes, REASONS, groups, [formula_asked(request)] * n)

    def _fill(
        self, group: SpaceGroup, counts: Mapping[int, int], rng: np.random.Generator
    ) -> tuple[int, np.ndarray, np.ndarray, list[int], np.ndarray] | int:
        """Return base sites for a group's cell with so many atoms, or the code of why not."""
        for _ in range(_FILLINGS):
            chosen = choose_positions(group, counts, rng)
            if chosen is not None:
                break
        else:
            return _NO_POSITIONS
        for _ in range(self.options.attempts):
            lengths, angles = self._cell(group, counts, rng)
            coords = self._place(group, chosen, lattice_matrix(lengths, angles), rng)
            if coords is not None:
                return group.number, lengths, angles, [z for z, _ in chosen], coords
        return _TOO_NEAR

    def _cell(
        self, group: SpaceGroup, counts: Mapping[int, int], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw lengths, Å, and angles, degrees, that a group allows."""
        radii = sum(n * _RADII[z] ** 3 for z, n in counts.items())
        factor = self.options.volume or float(np.exp(rng.normal(*self.volume)))
        average, fixed = cell_constraints(group.number)
        while True:
            angles = np.where(
                np.isnan(fixed), rng.uniform(_LEAST_ANGLE, _MOST_ANGLE, size=3), fixed
            )
            lengths = np.exp(average @ rng.normal(0.0, _SPREAD, size=3))
            flat = float(np.linalg.det(lattice_matrix(np.ones(3), angles)))
            if np.isfinite(flat) and flat > 0.1:
                break
        volume = factor * 4.0 / 3.0 * np.pi * radii
        return lengths * (volume / (flat * np.prod(lengths))) ** (1 / 3), angles

    def _place(
        self,
        group: SpaceGroup,
        chosen: Sequence[tuple[int, int]],
        lattice: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray | None:
        """Draw coordinates of base sites, float64 (k, 3); None where atoms are too near."""
        points: list[np.ndarray] = []
        atoms = np.zeros((0, 3))
        sizes = np.zeros(0)
        for z, place in chosen:
            position = group.positions[place]
            for _ in range(self.options.attempts if position.n_free else 1):
                point = position.projection @ rng.random(3) + position.offset
                orbit = _orbit(group, point, position.multiplicity)
                others = np.concatenate([atoms, orbit])
                reach = np.concatenate([sizes, np.full(len(orbit), _RADII[z])]) + _RADII[z]
                if _far(orbit[0], others, len(atoms), reach * self.options.tolerance, lattice):
                    break
            else:
                return None
            points.append(point)
            atoms, sizes = others, reach - _RADII[z]
        return np.array(points)

    def checkpoint(self) -> bytes:
        """Write what the training crystals have."""
        names = ("space_groups", "offsets", "atomic_numbers", "counts", "volume")
        tensors = {name: getattr(self, name) for name in names}
        return base.pack(tensors, base.describe(self.name, self.options))

    @classmethod
    def restore(
        cls, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any], device: str
    ) -> Self:
        """Make it of a checkpoint's tensors; the device makes no difference.

        Raises:
            InputError: they do not fit together.
        """
        del device
        options = base.read_options(
            RandomWyckoffConfig, description["config"], description["model"]
        ).checked()
        groups, offsets, numbers, counts, volume = (
            tensors[name]
            for name in ("space_groups", "offsets", "atomic_numbers", "counts", "volume")
        )
        fit = len(groups) > 0 and offsets.shape == (len(groups) + 1,) and volume.shape == (2,)
        fit = fit and offsets[0] == 0 and offsets[-1] == len(numbers) == len(counts)
        fit = fit and bool((np.diff(offsets) > 0).all()) and bool((counts > 0).all())
        fit = fit and 1 <= groups.min() <= groups.max() <= 230
        if not fit or not 1 <= numbers.min() <= numbers.max() <= MAX_Z:
            raise InputError("the checkpoint's tables do not fit together; train it again")
        return cls(options, groups, offsets, numbers, counts, volume, description["model"])

    def atoms(self, i: int) -> dict[int, int]:
        """Return the atoms of training crystal i by atomic number."""
        part = slice(self.offsets[i], self.offsets[i + 1])
        return dict(
            zip(self.atomic_numbers[part].tolist(), self.counts[part].tolist(), strict=True)
        )


_BLOCK = 1024
"""Samples that share a random stream."""


class _Cells:
    """Draws a space group and the atoms of its conventional cell."""

    def __init__(self, model: RandomWyckoff, request: Request) -> None:
        self._model, self._request = model, request
        divisor = int(np.gcd.reduce(request.counts)) if request.counts else 1
        self._counts = tuple(count // divisor for count in request.counts)
        rows = np.arange(len(model.space_groups))
        sizes = np.diff(model.offsets)
        asked = request.space_groups
        known = np.isin(model.space_groups, asked) if asked else np.ones(len(rows), bool)
        self._groups = model.space_groups[known].tolist() or list(asked)
        if request.counts:
            self._groups = [g for g in self._groups if _multiples(g, self._counts, self._most)]
            if not self._groups:
                raise UsageError(
                    f"no space group asked for holds this composition in {self._most} atoms or "
                    "fewer; ask for others, or raise the option 'max_atoms'"
                )
        elif request.elements:
            known &= sizes == len(request.elements)
            if not known.any():
                raise UsageError(
                    f"no training crystal has {len(request.elements)} elements"
                    f"{' in the space groups asked for' if asked else ''}; {model.name} takes its "
                    "counts from there: ask for a composition"
                )
        self._rows = rows[known]
        if not request.counts and not len(self._rows):
            raise UsageError(
                f"no training crystal has one of the space groups {list(asked)}; "
                f"{model.name} takes its atoms from there: ask for a composition too"
            )

    @property
    def _most(self) -> int:
        return self._model.options.max_atoms

    def draw(self, rng: np.random.Generator) -> tuple[int, dict[int, int]]:
        """Return a space group and the atoms of a cell by atomic number."""
        request = self._request
        if request.counts:
            number = self._groups[int(rng.integers(len(self._groups)))]
            times = _multiples(number, self._counts, self._most)
            own = times[int(rng.integers(len(times)))]
            counts = (count * own for count in self._counts)
            return number, dict(zip(request.elements, counts, strict=True))
        row = int(self._rows[rng.integers(len(self._rows))])
        number, atoms = int(self._model.space_groups[row]), self._model.atoms(row)
        if request.elements:
            elements = rng.permutation(np.array(request.elements)).tolist()
            atoms = dict(zip(elements, atoms.values(), strict=True))
        return number, atoms


@cache
def _multiples(number: int, counts: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Return by what a composition can be multiplied so that a group's positions hold it."""
    reached = _sums(number, most)
    times = range(1, most // sum(counts) + 1)
    return tuple(t for t in times if all(reached[c * t] for c in counts))


@cache
def _sums(number: int, most: int) -> np.ndarray:
    """Return which numbers of atoms a group's positions add up to, bool (most + 1,)."""
    group = space_group(number)
    reached = np.zeros(most + 1, bool)
    reached[0] = True
    for position in group.positions:
        step = position.multiplicity
        if position.n_free == 0:
            if step <= most:
                reached[step:] |= reached[: most + 1 - step].copy()
        else:
            for n in range(step, most + 1):
                reached[n] |= reached[n - step]
    return reached


def choose_positions(
    group: SpaceGroup, counts: Mapping[int, int], rng: np.random.Generator
) -> list[tuple[int, int]] | None:
    """Choose Wyckoff positions whose multiplicities add up to the atoms of each element.

    Elements come in random order; each next position is any that is left and not too large.

    Returns:
        Atomic number and place of the position of every base site; None where it came out wrong.
    """
    sizes = np.array([position.multiplicity for position in group.positions])
    fixed = np.array([position.n_free == 0 for position in group.positions])
    left = np.ones(len(sizes), bool)
    chosen: list[tuple[int, int]] = []
    for z in rng.permutation(np.array(list(counts))).tolist():
        atoms = counts[z]
        while atoms:
            fit = np.flatnonzero(left & (sizes <= atoms))
            if not len(fit):
                return None
            place = int(fit[rng.integers(len(fit))])
            left[place] = left[place] and not fixed[place]
            atoms -= int(sizes[place])
            chosen.append((z, place))
    return chosen


def _training(
    own: Crystal, options: RandomWyckoffConfig
) -> tuple[int, dict[int, int], float] | str:
    """Return space group, atoms and volume of the conventional cell, or why there are none."""
    if not own.ordered:
        return "disordered"
    if any(text not in ATOMIC_NUMBERS for text in own.species):
        return "not_plain_elements"
    if any(not np.isfinite(COVALENT_RADIUS[ATOMIC_NUMBERS[text]]) for text in own.species):
        return "element_without_radius"
    try:
        cell = standard_cell(own, options.symprec)
    except SymmetryError:
        return "no_symmetry"
    if len(cell.species) > options.max_atoms:
        return "too_many_atoms"
    counts: dict[int, int] = {}
    for text in cell.species:
        z = ATOMIC_NUMBERS[text]
        counts[z] = counts.get(z, 0) + 1
    return cell.space_group_number, counts, abs(float(np.linalg.det(cell.lattice)))


def _orbit(group: SpaceGroup, point: np.ndarray, multiplicity: int) -> np.ndarray:
    """Return the different images of a point, float64 (multiplicity, 3); the point is first."""
    images = np.mod(group.rotations @ point + group.translations, 1.0)
    if multiplicity == len(images):
        whole: np.ndarray = images
        return whole
    found = [images[0]]
    for image in images[1:]:
        steps = np.array(found) - image
        if np.abs(steps - np.rint(steps)).max(axis=1).min() > _SAME:
            found.append(image)
    return np.array(found)


def _far(
    point: np.ndarray, others: np.ndarray, itself: int, reach: np.ndarray, lattice: np.ndarray
) -> bool:
    """Tell whether an atom is as far, Å, from all others and from its own images in other cells.

    Args:
        point: (3,).
        others: (n, 3), the atom itself among them.
        itself: which of them it is.
        reach: (n,), least distances.
        lattice: (3, 3).
    """
    if not reach.any():
        return True
    steps = others - point
    steps -= np.rint(steps)
    vectors = (steps[:, None] + _AROUND) @ lattice
    squares = (vectors**2).sum(axis=2)
    squares[itself, len(_AROUND) // 2] = np.inf
    return bool((squares >= (reach**2)[:, None]).all())
