"""What the figures on crystals show: numbers about crystals, energies, hulls, compositions.

A *subject* is what a colour stands for: the candidates of one generator on one training set, those
of all seeds together. Numbers that were not worked out are missing, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gandb.reports.collect_pictures import Drawable
from gandb.reports.records import Role

QUANTITIES = ("structural_validity", "radius_distances", "density", "volume_per_atom")
"""Checks whose numbers are shown: shortest distance (Å), its ratio to the sum of covalent radii,
density (g/cm³), volume per atom (Å³)."""


@dataclass(frozen=True, eq=False)
class Subject:
    """The candidates of one generator on one training set, or the training set itself.

    Attributes:
        model: registered name; empty for the training set.
        label: what figures call it.
        role: None for the training set.
        dataset: training set and version; empty for a model from outside.
        n_samples: N over all seeds; of the training set its structures.
        values: numbers by check, float64 (m,), each crystal as often as it was sampled.
        compositions: float64 (c, 119), shares of elements by atomic number, of distinct
            compositions; at most 2,000 of them.
        n_compositions: how many distinct ones there are.
        above_hull: energies above the hull, eV/atom, float64 (k,), of distinct structures; empty
            without any.
        n_relaxed: structures that were compared with the hull, judged or not.
    """

    model: str
    label: str
    role: Role | None
    dataset: str
    n_samples: int
    values: Mapping[str, np.ndarray]
    compositions: np.ndarray
    n_compositions: int
    above_hull: np.ndarray
    n_relaxed: int = 0


@dataclass(frozen=True, eq=False)
class HullCandidate:
    """A candidate beside a hull.

    Attributes:
        formula: reduced.
        model: registered name of its generator.
        shares: float64 (e,), of the atoms, by the elements of the system.
        formation: energy of formation, eV/atom.
        above: energy above the hull, eV/atom.
    """

    formula: str
    model: str
    shares: np.ndarray
    formation: float
    above: float


@dataclass(frozen=True, eq=False)
class HullSystem:
    """A chemical system of two or three elements: reference phases and candidates.

    Attributes:
        elements: symbols, alphabetically.
        recipe: id of the recipe of stability.
        words: what the references are.
        formulas: of the p phases.
        shares: float64 (p, e), of the atoms.
        formation: float64 (p,), eV/atom.
        stable: bool (p,), on the hull.
        candidates: those of the report that were judged by the recipe.
    """

    elements: tuple[str, ...]
    recipe: str
    words: str
    formulas: tuple[str, ...]
    shares: np.ndarray
    formation: np.ndarray
    stable: np.ndarray
    candidates: tuple[HullCandidate, ...]


@dataclass(frozen=True, eq=False)
class Crystals:
    """All that a report shows of crystals beside its table.

    Attributes:
        subjects: models first, then baselines.
        references: training sets by name.
        hulls: of the best candidates' systems.
        hull_words: what energies above the hull rest on; several where recipes differ.
        best: candidates to look at.
        best_words: how they were chosen.
    """

    subjects: tuple[Subject, ...]
    references: Mapping[str, Subject] = field(default_factory=dict)
    hulls: tuple[HullSystem, ...] = ()
    hull_words: tuple[str, ...] = ()
    best: tuple[Drawable, ...] = ()
    best_words: str = ""
