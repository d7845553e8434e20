"""The convex hull of energies: how far above it compositions lie, and what they would become.

A composition at some energy per atom is compared with the mixture of reference phases of equal
composition whose energy is lowest: that is the hull there. The difference is the energy above the
hull, below 0 for what lies under it; the phases of the mixture, with their shares of the atoms, are
the decomposition (Ong, Wang, Kang and Ceder, Chem. Mater. 20, 1798 (2008), doi:10.1021/cm702327g).

The mixture is found by the simplex method, over the phases whose elements are all among those of
the composition. Elements that have no phase of their own among the references are told; no energy
stands in for them, so nothing is said of compositions that hold them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gandb.core.compositions import CompositionBatch
from gandb.core.elements import MAX_Z, SYMBOLS
from gandb.core.errors import InputError
from gandb.energies.hull_kernels import mixtures

LEAST_SHARE = 1e-9
"""Share of the atoms, below which a phase is no part of a decomposition."""
_LISTED = 10  # elements, of up to so many all sub-systems are looked up one by one
_ABOVE_ELEMENTS = 1e-6  # eV/atom: phases further above the elements are never on the hull


@dataclass(frozen=True, eq=False)
class Judged:
    """Compositions against a hull; n of them.

    Attributes:
        hull: float64 (n,), energy of the lowest mixture, eV/atom; NaN where an element is missing.
        elements: float64 (n,), energy of the elements by themselves, eV/atom; NaN likewise.
        missing: for each, the symbols of its elements without a reference, alphabetically.
        offsets: int64 (n+1,), decomposition i is ``offsets[i]:offsets[i+1]`` of the next two.
        phases: int64 (p,), reference phases, as they were given.
        shares: float64 (p,), their shares of the atoms, largest first.
    """

    hull: np.ndarray
    elements: np.ndarray
    missing: list[tuple[str, ...]]
    offsets: np.ndarray
    phases: np.ndarray
    shares: np.ndarray

    def __len__(self) -> int:
        return len(self.hull)

    def decomposition(self, i: int) -> list[tuple[int, float]]:
        """Return the phases of mixture i with their shares of the atoms, largest first."""
        part = slice(self.offsets[i], self.offsets[i + 1])
        return list(zip(self.phases[part].tolist(), self.shares[part].tolist(), strict=True))


class Hull:
    """The lower hull of reference phases, in every chemical system.

    Args:
        compositions: n phases; several may share a composition, of which the lowest counts.
        energies: float64 (n,), eV/atom, all on one scale.

    Raises:
        InputError: an energy is not finite.
    """

    def __init__(self, compositions: CompositionBatch, energies: np.ndarray) -> None:
        values = np.asarray(energies, np.float64)
        if len(values) != len(compositions):
            raise ValueError(f"{len(compositions)} compositions with {len(values)} energies")
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise InputError(f"phase {row} has the energy {values[row]}")
        reduced, _ = compositions.reduced()
        lowest = _lowest_of_each(reduced, values)
        single = lowest[reduced.n_elements[lowest] == 1]
        self.element_phases = np.full(MAX_Z + 1, -1, np.int64)
        """Phase of each element by atomic number, int64 (119,); -1 where there is none."""
        self.element_phases[reduced.atomic_numbers[reduced.offsets[single]]] = single
        self.element_energies = np.full(MAX_Z + 1, np.nan)
        """Energy of each element by atomic number, eV/atom, float64 (119,); NaN likewise."""
        self.element_energies[self.element_phases >= 0] = values[
            self.element_phases[self.element_phases >= 0]
        ]
        apart = _of_elements(reduced, self.element_energies)[lowest]
        useful = (values[lowest] <= apart + _ABOVE_ELEMENTS) | np.isnan(apart)
        self._rows = lowest[useful]
        self._phases = reduced.take(self._rows)
        self._energies = values[self._rows]
        self._place = np.full(len(values), -1, np.int64)
        self._place[self._rows] = np.arange(len(self._rows))
        self._systems, group = _systems(self._phases)
        self._number = {_key(mask): k for k, mask in enumerate(self._systems)}
        self._members = np.split(
            np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1]
        )

    def __len__(self) -> int:
        """How many phases may lie on the hull: the lowest of each composition."""
        return len(self._rows)

    def judge(self, compositions: CompositionBatch) -> Judged:
        """Find the mixture of lowest energy for every composition.

        Args:
            compositions: n, reduced or not.
        """
        own, _ = compositions.reduced()
        elements = _of_elements(own, self.element_energies)
        hull = np.full(len(own), np.nan)
        parts: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for rows in _by_system(own, np.flatnonzero(~np.isnan(elements))):
            chosen, phases, shares = self._mixtures(own, rows)
            hull[rows] = (self._energies[chosen][phases] * shares).sum(axis=1)
            for row, phase, share in zip(rows.tolist(), phases, shares, strict=True):
                held = np.flatnonzero(share > LEAST_SHARE)
                held = held[np.argsort(-share[held], kind="stable")]
                parts[row] = self._rows[chosen[phase[held]]], share[held]
        nothing = np.zeros(0, np.int64), np.zeros(0)
        listed = [parts.get(row, nothing) for row in range(len(own))]
        offsets = np.zeros(len(own) + 1, np.int64)
        np.cumsum([len(phases) for phases, _ in listed], out=offsets[1:])
        return Judged(
            hull=hull,
            elements=elements,
            missing=[self._missing(own, row) for row in range(len(own))],
            offsets=offsets,
            phases=np.concatenate([nothing[0], *(phases for phases, _ in listed)]),
            shares=np.concatenate([nothing[1], *(shares for _, shares in listed)]),
        )

    def _missing(self, own: CompositionBatch, row: int) -> tuple[str, ...]:
        numbers = own.atomic_numbers[own.offsets[row] : own.offsets[row + 1]]
        return tuple(sorted(SYMBOLS[z] for z in numbers[self.element_phases[numbers] < 0]))

    def _mixtures(
        self, own: CompositionBatch, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the phases within a system, and for its compositions which of these, how much."""
        numbers = own.atomic_numbers[own.offsets[rows[0]] : own.offsets[rows[0] + 1]]
        chosen = np.sort(np.concatenate([self._members[k] for k in self._within(numbers.tolist())]))
        elements = np.searchsorted(chosen, self._place[self.element_phases[numbers]])
        phases, shares, ended = mixtures(
            self._phases.offsets, self._phases.atomic_numbers, self._phases.counts, self._energies,
            chosen, elements, own.offsets, own.atomic_numbers, own.counts, rows,
        )  # fmt: skip
        if not ended.all():
            raise ArithmeticError(f"no lowest mixture was found for {own[int(rows[~ended][0])]}")
        return chosen, phases, np.maximum(shares, 0.0)

    def _within(self, numbers: list[int]) -> list[int]:
        """Return which chemical systems of the phases have no other elements than these."""
        if len(numbers) <= _LISTED:
            keys = [0]
            for z in numbers:
                keys += [key | 1 << z for key in keys]
            return [self._number[key] for key in keys if key in self._number]
        others = ~_mask(numbers)
        outside = (self._systems[:, 0] & others[0]) | (self._systems[:, 1] & others[1])
        found: list[int] = np.flatnonzero(outside == 0).tolist()
        return found


def _lowest_of_each(reduced: CompositionBatch, energies: np.ndarray) -> np.ndarray:
    """Return the phases that are lowest in energy of their composition, ascending."""
    if not len(reduced):
        return np.zeros(0, np.int64)
    group = reduced.unique().inverse
    order = np.lexsort((np.arange(len(group)), energies, group))
    first = np.append(True, group[order][1:] != group[order][:-1])
    return np.sort(order[first])


def _of_elements(reduced: CompositionBatch, energies: np.ndarray) -> np.ndarray:
    """Return the energy per atom of each composition's elements by themselves, float64 (n,)."""
    if not len(reduced):
        return np.zeros(0)
    weighed = energies[reduced.atomic_numbers] * reduced.counts
    sums: np.ndarray = np.add.reduceat(weighed, reduced.offsets[:-1]) / reduced.n_atoms
    return sums


def _mask(numbers: list[int]) -> np.ndarray:
    """Return a chemical system as bits, uint64 (2,)."""
    key = sum(1 << z for z in numbers)
    return np.array([key & (1 << 64) - 1, key >> 64], np.uint64)


def _key(mask: np.ndarray) -> int:
    return int(mask[0]) | int(mask[1]) << 64


def _masks(batch: CompositionBatch) -> np.ndarray:
    """Return the elements of each composition as bits, uint64 (n, 2)."""
    if not len(batch):
        return np.zeros((0, 2), np.uint64)
    z = batch.atomic_numbers.astype(np.uint64)
    bits = np.uint64(1) << (z % np.uint64(64))
    halves = [np.where(z // np.uint64(64) == half, bits, np.uint64(0)) for half in (0, 1)]
    starts = batch.offsets[:-1]
    return np.stack([np.bitwise_or.reduceat(half, starts) for half in halves], axis=1)


def _systems(batch: CompositionBatch) -> tuple[np.ndarray, np.ndarray]:
    """Return the chemical systems as bits, uint64 (s, 2), and which each composition has."""
    masks = _masks(batch)
    pairs = masks.view([("low", np.uint64), ("high", np.uint64)]).reshape(-1)
    found, group = np.unique(pairs, return_inverse=True)
    return found.view(np.uint64).reshape(-1, 2), group.reshape(-1)


def _by_system(batch: CompositionBatch, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows of each chemical system."""
    if not len(rows):
        return
    group = _systems(batch.take(rows))[1]
    order = np.argsort(group, kind="stable")
    yield from np.split(rows[order], np.flatnonzero(np.diff(group[order])) + 1)
