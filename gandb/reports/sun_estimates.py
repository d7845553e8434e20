"""Shares with confidence intervals, and the estimator of S.U.N. from a relaxed sample.

Of N samples, n are valid, unique and novel, which is known of all of them; of these, m were drawn
at random and relaxed, and k of them are stable. The share of samples that are stable, unique and
novel (S.U.N.) is then estimated as (n / N) (k / m).

Intervals of a share are Wilson's (doi:10.1080/01621459.1927.10502953), at 95 %. That of the product
is made of those of its factors by recovering their variances (MOVER; Zou, Huang and Zhang,
doi:10.1016/j.csda.2008.09.033), to first order: each side's distance is the root of the sum of the
squares of (k / m) times the distance for n / N and (n / N) times that for k / m. So it covers both
that another N samples would have given another n, and that other m would have given another k. It
needs no correction for a finite population: where all n were relaxed, it comes to the interval of
the single share k / N up to the asymmetry of Wilson's.

What uniqueness says depends on N: the share of distinct ones falls as more are drawn, so S.U.N.
shares are compared at equal N.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Z = 1.959963984540054
"""Of 95 %, two-sided."""


@dataclass(frozen=True)
class Estimate:
    """A share with its interval at 95 %; all NaN where there is nothing to estimate it from.

    Attributes:
        value: from 0 to 1.
        low, high: bounds.
    """

    value: float
    low: float
    high: float


UNKNOWN = Estimate(math.nan, math.nan, math.nan)


def share(count: int, total: int) -> Estimate:
    """Return the share of ``count`` among ``total`` with Wilson's interval."""
    if not 0 <= count <= total:
        raise ValueError(f"{count} of {total}")
    if not total:
        return UNKNOWN
    p, square = count / total, Z * Z / total
    middle = (p + square / 2) / (1 + square)
    half = Z / (1 + square) * math.sqrt(p * (1 - p) / total + square / (4 * total))
    low = 0.0 if count == 0 else max(middle - half, 0.0)
    high = 1.0 if count == total else min(middle + half, 1.0)
    return Estimate(p, low, high)


def product(first: Estimate, second: Estimate) -> Estimate:
    """Return the product of two shares that were found independently, with its interval."""
    if math.isnan(first.value):
        return UNKNOWN
    if math.isnan(second.value):  # nothing was drawn of the second
        known = first.value == 0
        return Estimate(0.0, 0.0, first.high) if known else UNKNOWN
    value = first.value * second.value
    down = math.hypot(
        second.value * (first.value - first.low), first.value * (second.value - second.low)
    )
    up = math.hypot(
        second.value * (first.high - first.value), first.value * (second.high - second.value)
    )
    return Estimate(value, max(value - down, 0.0), min(value + up, 1.0))
