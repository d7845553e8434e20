"""How well generated crystals cover real ones, and how far two distributions lie apart.

Coverage is that of T. Xie et al., "Crystal Diffusion Variational Autoencoder", ICLR 2022,
arXiv:2110.06197: a real crystal is recalled if a generated one is near it by its structural
fingerprint, and one, perhaps another, by its compositional fingerprint; a generated one is precise
if real ones are near it in this sense. Precision is a share of all that were generated, those
without a fingerprint among them. `coverage` with ``joint`` asks that one crystal is near in both,
which the name promises and the published code does not ask.

Fingerprints are given as arrays. The published ones are the means over sites of matminer's
``CrystalNNFingerprint.from_preset("ops")``, and its Magpie statistics, each scaled by mean and
standard deviation over the data set.

The Wasserstein distance of two samples of numbers, such as densities, is the area between their
cumulative distributions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gandb.core.errors import InputError


@dataclass(frozen=True)
class Cutoffs:
    """How near counts as near.

    Attributes:
        structure: between structural fingerprints.
        composition: between scaled compositional fingerprints.
    """

    structure: float
    composition: float


CUTOFFS: Mapping[str, Cutoffs] = {
    "mp20": Cutoffs(0.4, 10.0),
    "perov5": Cutoffs(0.2, 4.0),
    "carbon24": Cutoffs(0.2, 4.0),
}
"""Those of the published code, by data set."""

_BLOCK = 4_000_000  # distances at once


@dataclass(frozen=True)
class Coverage:
    """What coverage is made of.

    Attributes:
        n_generated: all of them, with and without fingerprints.
        n_fingerprinted: generated ones with both fingerprints.
        n_reference: real ones.
        n_precise: generated ones near real ones.
        n_recalled: real ones near generated ones.
        mean_structure_to_reference: mean distance of a generated structure to the nearest real one.
        mean_structure_to_generated: of a real structure to the nearest generated one.
        mean_composition_to_reference: likewise, of compositions.
        mean_composition_to_generated: likewise.
    """

    n_generated: int
    n_fingerprinted: int
    n_reference: int
    n_precise: int
    n_recalled: int
    mean_structure_to_reference: float
    mean_structure_to_generated: float
    mean_composition_to_reference: float
    mean_composition_to_generated: float

    @property
    def precision(self) -> float:
        """Share of all generated crystals that are near real ones (COV-P)."""
        return self.n_precise / self.n_generated

    @property
    def recall(self) -> float:
        """Share of real crystals that are near generated ones (COV-R)."""
        return self.n_recalled / self.n_reference


def coverage(
    structures: np.ndarray,
    compositions: np.ndarray,
    reference_structures: np.ndarray,
    reference_compositions: np.ndarray,
    cutoffs: Cutoffs,
    joint: bool = False,
    times: np.ndarray | None = None,
    reference_times: np.ndarray | None = None,
) -> Coverage:
    """Compare generated crystals with real ones by their fingerprints.

    Args:
        structures: (n, s), of the generated; rows with NaN have no fingerprint.
        compositions: (n, c), scaled; likewise.
        reference_structures: (m, s), of the real ones.
        reference_compositions: (m, c), scaled.
        cutoffs: how near is near; a distance equal to a cutoff is.
        joint: ask that one crystal is near by both fingerprints.
        times: int (n,), how often each generated one came, 1 or more; once if not given.
        reference_times: int (m,), likewise of the real ones.

    Raises:
        InputError: shapes do not fit, nothing is generated or real, or a real crystal has no
            fingerprint.
    """
    own_s, own_c = _table(structures, "structures"), _table(compositions, "compositions")
    real_s = _table(reference_structures, "reference structures")
    real_c = _table(reference_compositions, "reference compositions")
    if len(own_s) != len(own_c) or len(real_s) != len(real_c):
        raise InputError("as many structural as compositional fingerprints are wanted")
    if own_s.shape[1] != real_s.shape[1] or own_c.shape[1] != real_c.shape[1]:
        raise InputError("fingerprints of generated and real crystals differ in length")
    if not len(own_s) or not len(real_s):
        raise InputError("coverage wants one generated and one real crystal at least")
    if not (np.isfinite(real_s).all() and np.isfinite(real_c).all()):
        raise InputError("a real crystal has no fingerprint: leave it out")
    own_times, real_times = _times(times, len(own_s)), _times(reference_times, len(real_s))
    kept = np.isfinite(own_s).all(axis=1) & np.isfinite(own_c).all(axis=1)
    n_generated = int(own_times.sum())
    own_s, own_c, own_times = own_s[kept], own_c[kept], own_times[kept]
    to_real = np.full((2, len(own_s)), np.inf)
    to_own = np.full((2, len(real_s)), np.inf)
    precise, recalled = np.zeros(len(own_s), bool), np.zeros(len(real_s), bool)
    rows = max(1, _BLOCK // len(real_s))
    for start in range(0, len(own_s), rows):
        part = slice(start, start + rows)
        far = _distances(own_s[part], real_s), _distances(own_c[part], real_c)
        for k in (0, 1):
            to_real[k, part] = far[k].min(axis=1)
            to_own[k] = np.minimum(to_own[k], far[k].min(axis=0))
        both = (far[0] <= cutoffs.structure) & (far[1] <= cutoffs.composition)
        precise[part] = both.any(axis=1)
        recalled |= both.any(axis=0)
    if not joint:
        precise = (to_real[0] <= cutoffs.structure) & (to_real[1] <= cutoffs.composition)
        recalled = (to_own[0] <= cutoffs.structure) & (to_own[1] <= cutoffs.composition)
    return Coverage(
        n_generated,
        int(own_times.sum()),
        int(real_times.sum()),
        int(own_times[precise].sum()),
        int(real_times[recalled].sum()),
        _mean(to_real[0], own_times),
        _mean(to_own[0], real_times),
        _mean(to_real[1], own_times),
        _mean(to_own[1], real_times),
    )


def wasserstein(one: np.ndarray, two: np.ndarray) -> float:
    """Return the Wasserstein distance of order 1 of two samples, in their unit.

    Raises:
        InputError: a sample is empty, or not all of it is finite.
    """
    a, b = (np.sort(np.asarray(values, np.float64).ravel()) for values in (one, two))
    for values in (a, b):
        if not len(values) or not np.isfinite(values).all():
            raise InputError("a Wasserstein distance wants two samples of finite numbers")
    steps = np.sort(np.concatenate([a, b]))
    shares = (np.searchsorted(x, steps[:-1], side="right") / len(x) for x in (a, b))
    first, second = shares
    return float((np.abs(first - second) * np.diff(steps)).sum())


def _times(times: np.ndarray | None, n: int) -> np.ndarray:
    found = np.ones(n, np.int64) if times is None else np.asarray(times, np.int64)
    if found.shape != (n,) or (found < 1).any():
        raise InputError(f"times of {n} crystals have shape {found.shape}, or one is not positive")
    return found


def _mean(values: np.ndarray, times: np.ndarray) -> float:
    total = int(times.sum())
    return math.fsum(values * times) / total if total else math.nan


def _table(values: np.ndarray, what: str) -> np.ndarray:
    found = np.asarray(values, np.float64)
    if found.ndim != 2:
        raise InputError(f"{what} have shape {found.shape}, not (crystals, features)")
    return found


def _distances(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return Euclidean distances, (k, l); exact within 1e-7 of the size of the fingerprints."""
    middle = two.mean(axis=0)
    a, b = one - middle, two - middle
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2.0 * (a @ b.T)
    found: np.ndarray = np.sqrt(np.maximum(squares, 0.0))
    return found
