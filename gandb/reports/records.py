"""What a report is made of: runs of generators, the sets they learned from, and recipes.

A share is a fraction from 0 to 1 here; tables turn it into per cent. A number that was not computed
is absent (None, or a missing key), never 0. A number without a recipe is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gandb.core.elements import MAX_Z
from gandb.core.errors import IntegrityError

if TYPE_CHECKING:
    from gandb.reports.crystal_records import Crystals
    from gandb.reports.judgement_records import Judgements

UNIQUENESS = "uniqueness"
NOVELTY = "novelty"
RECOVERY = "holdout_recovery"
STATISTICS = "statistics"
"""Names under which `Run.recipes` holds the recipe of what is not a check by name."""


PLAIN_COUNTS = frozenset({"rejected", "composition_obtained"})
"""Shares of crystals that need no recipe."""


class Role(StrEnum):
    """Whether a generator is under test or is what it is compared with."""

    MODEL = "model"
    BASELINE = "baseline"


def short_id(full: str) -> str:
    """Return the first eight hexadecimal digits of an id."""
    return full.replace("-", "")[:8]


@dataclass(frozen=True)
class Recipe:
    """How a check or metric was computed.

    Attributes:
        id: content id of the recipe.
        name: the check or metric, such as ``cnen_strict``.
        version: version of its definition.
        parameters: its parameters, plain JSON values (a reference dataset version among them).
        data_files: SHA-256 in hexadecimal of each data file it reads, by name.
        description: one sentence on what it decides.
    """

    id: str
    name: str
    version: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    data_files: Mapping[str, str] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, eq=False)
class Curve:
    """One quantity followed during training.

    Attributes:
        iterations: generator iterations at which it was recorded, shape (m,), increasing.
        values: its values there, shape (m,), finite.
    """

    iterations: NDArray[np.float64]
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.iterations.ndim != 1 or self.iterations.shape != self.values.shape:
            raise IntegrityError(
                "a training curve needs as many values as iterations: got shapes "
                f"{self.values.shape} and {self.iterations.shape}"
            )

    @classmethod
    def recorded(cls, iterations: ArrayLike, values: ArrayLike) -> Curve:
        """Build a curve from raw columns, leaving out the points that are not finite."""
        x, y = np.asarray(iterations, np.float64), np.asarray(values, np.float64)
        if x.shape == y.shape:
            finite = np.isfinite(x) & np.isfinite(y)
            x, y = x[finite], y[finite]
        return cls(x, y)

    @classmethod
    def columns(cls, recorded: Mapping[str, ArrayLike], x: str = "iteration") -> dict[str, Curve]:
        """Build a curve of every column but ``x``, which holds the iterations."""
        return {k: cls.recorded(recorded[x], y) for k, y in recorded.items() if k != x}


@dataclass(frozen=True)
class CheckShare:
    """What share passes one check.

    Attributes:
        samples: share of all N samples, a rejected sample counting as one that fails.
        unique: share of the distinct compositions among them.
    """

    samples: float | None = None
    unique: float | None = None


@dataclass(frozen=True, eq=False)
class DatasetSummary:
    """The training set that runs are compared with.

    Attributes:
        ref: dataset and version, such as ``mp@1``.
        n_train: distinct compositions in the training split.
        n_test: distinct compositions in the held-out test split; None if there is none.
        element_frequency: share of training compositions that contain each element, shape (119,)
            by atomic number, entry 0 unused.
        n_elements: training compositions by number of elements, shape (m,), entry i counts those
            of i elements (counts or shares).
        checks: share of training compositions that pass each check, by check name.
        attribution: where the data come from and under which licence.
    """

    ref: str
    n_train: int
    n_test: int | None = None
    element_frequency: NDArray[np.float64] | None = None
    n_elements: NDArray[np.float64] | None = None
    checks: Mapping[str, float] = field(default_factory=dict)
    attribution: str = ""

    def __post_init__(self) -> None:
        where = f"dataset {self.ref}"
        _check_arrays(where, self.element_frequency, self.n_elements)
        for name, share in self.checks.items():
            _check_share(where, name, share)


@dataclass(frozen=True)
class CrystalShares:
    """What is known of the crystals of a run; names are those of `gandb.reports.crystal_metrics`.

    Attributes:
        shares: of all N samples, by name; those that are no crystal pass nothing.
        averages: over the samples that are crystals, by name of the check, in its unit.
    """

    shares: Mapping[str, float]
    averages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Run:
    """What one generation job gave.

    Attributes:
        job_id: id of the generation job.
        model: registered name of the generator, such as ``matgan`` or ``uniform``.
        role: model or baseline.
        dataset: training set and version, such as ``mp@1``.
        seed: seed of the sampling.
        n_samples: N, the samples drawn, rejected ones included.
        recipes: id of the recipe behind every number below: by check name, and under
            ``uniqueness``, ``novelty``, ``holdout_recovery`` and ``statistics`` (divergences,
            one-element and reduced share).
        training_seed: seed of the training; None for what is fitted without one.
        config: name or short hash of the configuration; runs of different ones are never merged.
        checks: shares that pass, by check name.
        rejections: samples that could not be decoded, by reason; empty if there were none, None
            if they were not counted.
        uniqueness: share of the first n samples that are distinct compositions, by n.
        novelty: share of the distinct compositions among the first n samples that are not in
            ``novelty_reference``, by n.
        novelty_reference: dataset version that novelty is judged against.
        holdout_recovery: share of the test split's compositions among the N samples.
        one_element_share: share of samples that are a single element.
        reduced_share: share of samples whose counts had a common divisor above 1.
        divergences: Jensen-Shannon divergence (base 2, so 0 to 1 bit) between samples and training
            set, by name: ``elements``, ``n_elements``, ``stoichiometries``, ``pairs``.
        curves: training curves by name, such as ``wasserstein``.
        element_frequency: share of samples that contain each element, shape (119,) by atomic
            number, entry 0 unused.
        n_elements: samples by number of elements, shape (m,), entry i counts those of i elements
            (counts or shares).
        crystals: what is known of the crystals, if it makes any; None for compositions.
    """

    job_id: str
    model: str
    role: Role
    dataset: str
    seed: int
    n_samples: int
    recipes: Mapping[str, str]
    training_seed: int | None = None
    config: str = ""
    checks: Mapping[str, CheckShare] = field(default_factory=dict)
    rejections: Mapping[str, int] | None = None
    uniqueness: Mapping[int, float] = field(default_factory=dict)
    novelty: Mapping[int, float] = field(default_factory=dict)
    novelty_reference: str = ""
    holdout_recovery: float | None = None
    one_element_share: float | None = None
    reduced_share: float | None = None
    divergences: Mapping[str, float | None] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    element_frequency: NDArray[np.float64] | None = None
    n_elements: NDArray[np.float64] | None = None
    crystals: CrystalShares | None = None

    def __post_init__(self) -> None:
        where = f"job {short_id(self.job_id)} ({self.model})"
        if self.n_samples < 1:
            raise IntegrityError(f"{where} has N = {self.n_samples} samples: nothing to report")
        rejected = sum((self.rejections or {}).values())
        if rejected > self.n_samples:
            raise IntegrityError(f"{where} rejects {rejected:,} samples of {self.n_samples:,}")
        for n in (*self.uniqueness, *self.novelty):
            if not 1 <= n <= self.n_samples:
                raise IntegrityError(f"{where} has a value at N = {n:,} of {self.n_samples:,}")
        if self.novelty and not self.novelty_reference:
            raise IntegrityError(f"{where} has novelty but no dataset version it is judged against")
        for family, name, share in self._shares():
            _check_share(where, name, share)
            if family not in self.recipes:
                raise IntegrityError(
                    f"{where} has a value for {name} but no recipe named {family!r}: "
                    "run the check again, so that the number has its recipe"
                )
        _check_arrays(where, self.element_frequency, self.n_elements)

    @property
    def seed_label(self) -> str:
        """The seed, as ``training/sampling`` where the two differ."""
        if self.training_seed is None or self.training_seed == self.seed:
            return str(self.seed)
        return f"{self.training_seed}/{self.seed}"

    def _shares(self) -> Iterable[tuple[str, str, float]]:
        """Yield (recipe name, quantity, value) of everything from 0 to 1 that is known."""
        for name, check in self.checks.items():
            for part, share in (("samples", check.samples), ("unique", check.unique)):
                if share is not None:
                    yield name, f"{name} of {part}", share
        for n, share in self.uniqueness.items():
            yield UNIQUENESS, f"uniqueness at {n}", share
        for n, share in self.novelty.items():
            yield NOVELTY, f"novelty at {n}", share
        for name, divergence in self.divergences.items():
            if divergence is not None:
                yield STATISTICS, f"divergence of {name}", divergence
        if self.holdout_recovery is not None:
            yield RECOVERY, "hold-out recovery", self.holdout_recovery
        if self.one_element_share is not None:
            yield STATISTICS, "one-element share", self.one_element_share
        if self.reduced_share is not None:
            yield STATISTICS, "reduced share", self.reduced_share
        if self.crystals is not None:
            for name, share in self.crystals.shares.items():
                if name not in PLAIN_COUNTS:
                    yield name, name, share


@dataclass(frozen=True)
class Reference:
    """What structures were compared with, and what counted as the same.

    Attributes:
        recipe: id of the recipe of novelty against it.
        words: what it is, such as ``all entries of mp (1,245)``.
        n_structures: distinct structures in it.
        tolerances: the matching in words.
        matching: id of the recipe of the matching.
        attribution: where imported structures come from and under which licence.
    """

    recipe: str
    words: str
    n_structures: int
    tolerances: str
    matching: str
    attribution: str = ""


@dataclass(frozen=True, eq=False)
class Novelty:
    """How unique and how new the structures of one generator's candidates are.

    All shares are of the N samples that have a structure.

    Attributes:
        job_id: id of the job that judged them.
        model: name of the generator.
        label: what the report calls it.
        role: model or baseline; an external model is a model.
        reference: what they were compared with.
        n_samples: N.
        n_candidates: distinct structures as recorded.
        uniqueness: materials among the first n samples, per sample, by n.
        greedy: the same of all N by greedy grouping in the order of sampling.
        unique_and_novel: materials that the reference does not hold, per sample.
        novel: share of samples that match nothing in the reference.
        grades: share of samples by grade (``known``, ``structure`` ...); what is missing from 1
            could not be judged.
    """

    job_id: str
    model: str
    label: str
    role: Role
    reference: Reference
    n_samples: int
    n_candidates: int
    uniqueness: Mapping[int, float]
    greedy: float
    unique_and_novel: float
    novel: float
    grades: Mapping[str, float]

    def __post_init__(self) -> None:
        where = f"job {short_id(self.job_id)} ({self.model})"
        if self.n_samples not in self.uniqueness:
            raise IntegrityError(f"{where} has no uniqueness at its N = {self.n_samples:,}")
        shares = {f"uniqueness at {n}": share for n, share in self.uniqueness.items()}
        shares |= {f"grade {name}": share for name, share in self.grades.items()}
        shares |= {"greedy uniqueness": self.greedy, "novelty": self.novel}
        shares |= {
            "unique and novel": self.unique_and_novel,
            "all grades": sum(self.grades.values()),
        }
        for name, share in shares.items():
            _check_share(where, name, min(share, 1.0) if share < 1 + 1e-9 else share)

    @property
    def unique(self) -> float:
        """Materials among all samples, per sample."""
        return self.uniqueness[self.n_samples]

    @property
    def not_judged(self) -> float:
        """Share of samples whose structure could not be judged."""
        return max(0.0, 1.0 - sum(self.grades.values()))


@dataclass(frozen=True, eq=False)
class Report:
    """Everything one report shows.

    Attributes:
        title: heading of the page.
        runs: the runs, models and baselines of any number of training sets.
        datasets: the training sets of those runs.
        recipes: the recipes that the runs name.
        commands: command lines that reproduce the report, in order.
        provenance: further facts as (name, value), such as the version of gandb.
        headline_check: the check that the first sentence is about.
        novelties: how new the structures of candidates are, where they have any.
        crystals: what figures show of crystals, where there are any.
        judgements: what was said of all candidates of checkpoints, where there are crystals.
    """

    title: str
    runs: tuple[Run, ...]
    datasets: tuple[DatasetSummary, ...] = ()
    recipes: tuple[Recipe, ...] = ()
    commands: tuple[str, ...] = ()
    provenance: tuple[tuple[str, str], ...] = ()
    headline_check: str = "cnen_strict"
    novelties: tuple[Novelty, ...] = ()
    crystals: Crystals | None = None
    judgements: Judgements | None = None

    def __post_init__(self) -> None:
        known = {recipe.id for recipe in self.recipes}
        for novelty in self.novelties:
            for recipe_id in (novelty.reference.recipe, novelty.reference.matching):
                if recipe_id not in known:
                    raise IntegrityError(
                        f"job {short_id(novelty.job_id)} ({novelty.model}) takes novelty from the "
                        f"recipe {recipe_id}, which is not described; run gandb db verify"
                    )
        for run in self.runs:
            for name, recipe_id in run.recipes.items():
                if recipe_id not in known:
                    raise IntegrityError(
                        f"job {short_id(run.job_id)} ({run.model}) takes {name} from the recipe "
                        f"{recipe_id}, which is not described; run gandb db verify"
                    )

    def dataset(self, ref: str) -> DatasetSummary | None:
        """Return the training set ``ref``, or None if it is not described."""
        return next((dataset for dataset in self.datasets if dataset.ref == ref), None)


@dataclass(frozen=True)
class Picture:
    """One drawn figure.

    Attributes:
        name: file stem, such as ``checks-mp@1``.
        png: the image.
        alt: what the image shows, for those who cannot see it.
        caption: what to read from it.
    """

    name: str
    png: bytes
    alt: str
    caption: str


def _check_share(where: str, name: str, share: float) -> None:
    if not (math.isfinite(share) and 0.0 <= share <= 1.0):
        raise IntegrityError(f"{where}: {name} is {share}, not a number from 0 to 1")


def _check_arrays(
    where: str, frequency: NDArray[np.float64] | None, n_elements: NDArray[np.float64] | None
) -> None:
    if frequency is not None:
        if frequency.shape != (MAX_Z + 1,):
            raise IntegrityError(
                f"{where}: element_frequency has shape {frequency.shape}, not ({MAX_Z + 1},)"
            )
        if not (np.isfinite(frequency).all() and (frequency >= 0).all() and (frequency <= 1).all()):
            raise IntegrityError(f"{where}: element_frequency has values outside 0 to 1")
    if n_elements is not None:
        if n_elements.ndim != 1 or not np.isfinite(n_elements).all() or (n_elements < 0).any():
            raise IntegrityError(f"{where}: n_elements must be one row of numbers from 0 up")
        if n_elements.sum() <= 0:
            raise IntegrityError(f"{where}: n_elements counts no formula at all")
