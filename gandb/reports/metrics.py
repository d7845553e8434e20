"""The quantities a report compares: their names, meaning, order, and their values in a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from gandb.reports.records import NOVELTY, RECOVERY, STATISTICS, UNIQUENESS, Run


class Better(StrEnum):
    """Which way a quantity is better, if any."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"


class Unit(StrEnum):
    """What a quantity is measured in; differences of shares are percentage points."""

    PERCENT = "%"
    BIT = "bit"
    PLAIN = ""

    @property
    def scale(self) -> float:
        """Factor from a value to what is written: per cent, or thousandths of a bit."""
        return {Unit.PERCENT: 100.0, Unit.BIT: 1000.0, Unit.PLAIN: 1.0}[self]


@dataclass(frozen=True)
class Metric:
    """One quantity.

    Attributes:
        key: stable name, as in JSON: ``cnen_strict.samples``, ``uniqueness@20000``.
        label: what the table calls it.
        section: heading it stands under.
        meaning: its definition in one sentence.
        recipe: name under which `Run.recipes` holds its recipe; empty for a plain count.
        better: which way it is better.
        unit: unit of its value.
        at: the number of samples it was taken at; None for the N of the run.
    """

    key: str
    label: str
    section: str
    meaning: str
    recipe: str
    better: Better = Better.HIGHER
    unit: Unit = Unit.PERCENT
    at: int | None = None


CHECK_LABELS = {
    "cnen_strict": "strict CNEN",
    "cnen_default": "default CNEN",
    "cnen_matgan": "MatGAN's CNEN",
    "charge_neutral": "neutral",
}
"""Labels of the known checks, in the order they are shown; others follow under their own name."""

CHECK_MEANINGS = {
    "cnen_strict": "charge-neutral and electronegativity-balanced, all-metal formulas tested too",
    "cnen_default": "the same, all-metal formulas passing without a test",
    "cnen_matgan": "MatGAN's own rule, on the formula as generated, not divided by its gcd",
    "charge_neutral": "charge-neutral in some combination of oxidation states, nothing else asked",
}

DIVERGENCE_LABELS = {
    "elements": "JSD elements",
    "n_elements": "JSD element count",
    "stoichiometries": "JSD stoichiometry",
    "pairs": "JSD element pairs",
}
"""Labels of the known divergences, in the order they are shown."""

DIVERGENCE_MEANINGS = {
    "elements": "which elements occur",
    "n_elements": "how many elements a formula has",
    "stoichiometries": "the ratios, elements forgotten",
    "pairs": "which two elements occur together",
}

BALANCED = "validity"
DIVERSE = "diversity"
CLOSE = "closeness"
SECTIONS = (BALANCED, DIVERSE, CLOSE)
"""Headings of the table, in order."""


def check_label(name: str) -> str:
    """Return what a check is called in prose."""
    return CHECK_LABELS.get(name, name.replace("_", " "))


def percent(share: float, digits: int = 1) -> str:
    """Write a share as per cent, never rounding what is not 0 or 100 to them."""
    text = f"{100 * share:.{digits}f}"
    if share > 0 and float(text) == 0:
        return f"<{10**-digits:.{digits}f}"
    if share < 1 and float(text) == 100:
        return f">{100 - 10**-digits:.{digits}f}"
    return text


def check_metric(name: str, part: str) -> Metric:
    """Return the quantity of one check; ``part`` is ``samples`` or ``unique``."""
    of = "all samples" if part == "samples" else "the distinct compositions"
    rule = CHECK_MEANINGS.get(name, f"passing the check {name}")
    label = check_label(name) if part == "samples" else f"{check_label(name)}, unique"
    return Metric(f"{name}.{part}", label, BALANCED, f"Share of {of}: {rule}.", name)


def measurements(run: Run) -> dict[Metric, float]:
    """Return every comparable number of ``run``, in the order of the table."""
    values: dict[Metric, float] = {}
    for name in _ordered(run.checks, CHECK_LABELS):
        share = run.checks[name]
        if share.samples is not None:
            values[check_metric(name, "samples")] = share.samples
        if share.unique is not None:
            values[check_metric(name, "unique")] = share.unique
    for n in sorted(run.uniqueness):
        values[
            Metric(
                f"uniqueness@{n}",
                f"unique at N={n:,}",
                DIVERSE,
                f"Share of the first {n:,} samples that are distinct compositions.",
                UNIQUENESS,
                at=n,
            )
        ] = run.uniqueness[n]
    for n in sorted(run.novelty):
        values[
            Metric(
                f"novelty@{n}",
                f"novel at N={n:,}",
                DIVERSE,
                f"Share of the distinct compositions among the first {n:,} samples that the "
                "reference dataset version does not hold.",
                NOVELTY,
                at=n,
            )
        ] = run.novelty[n]
    if run.holdout_recovery is not None:
        values[_RECOVERY] = run.holdout_recovery
    for name in _ordered(run.divergences, DIVERGENCE_LABELS):
        divergence = run.divergences[name]
        if divergence is None:
            continue
        values[
            Metric(
                f"jsd.{name}",
                DIVERGENCE_LABELS.get(name, f"JSD {name.replace('_', ' ')}"),
                CLOSE,
                "Jensen-Shannon divergence of samples from training set, base 2 (0 same, 1 bit "
                f"disjoint): {DIVERGENCE_MEANINGS.get(name, name.replace('_', ' '))}.",
                STATISTICS,
                Better.LOWER,
                Unit.BIT,
            )
        ] = divergence
    if run.one_element_share is not None:
        values[_ONE_ELEMENT] = run.one_element_share
    if run.reduced_share is not None:
        values[_REDUCED] = run.reduced_share
    if run.rejections is not None:
        values[_REJECTED] = sum(run.rejections.values()) / run.n_samples
    return values


def table_order(metrics: set[Metric]) -> tuple[Metric, ...]:
    """Sort quantities as the table shows them."""
    checks, divergences = list(CHECK_LABELS), list(DIVERGENCE_LABELS)
    tail = [_ONE_ELEMENT.key, _REDUCED.key, _REJECTED.key]

    def place(metric: Metric) -> tuple[int, int, int, str]:
        name = metric.key.removeprefix("jsd.").split(".")[0].split("@")[0]
        if metric.section == BALANCED:
            rank = checks.index(name) if name in checks else len(checks)
            rank += 100 * metric.key.endswith(".unique")
        elif metric.section == DIVERSE:
            rank = [UNIQUENESS, NOVELTY, RECOVERY].index(name)
        elif metric.key in tail:
            rank = 100 + tail.index(metric.key)
        else:
            rank = divergences.index(name) if name in divergences else len(divergences)
        return SECTIONS.index(metric.section), rank, metric.at or 0, metric.key

    return tuple(sorted(metrics, key=place))


def _ordered(names: Iterable[str], known: Mapping[str, str]) -> list[str]:
    """Sort names: the known ones in their order, then the rest by name."""
    given = set(names)
    return [name for name in known if name in given] + sorted(given - set(known))


_RECOVERY = Metric(
    RECOVERY,
    "held-out recovered",
    DIVERSE,
    "Share of the compositions of the held-out test split that the samples contain.",
    RECOVERY,
)
_ONE_ELEMENT = Metric(
    "one_element",
    "single elements",
    CLOSE,
    "Share of samples that are one element; the CNEN rules let these pass.",
    STATISTICS,
    Better.NEITHER,
)
_REDUCED = Metric(
    "reduced",
    "reduced by gcd",
    CLOSE,
    "Share of samples whose counts had a common divisor above 1.",
    STATISTICS,
    Better.NEITHER,
)
_REJECTED = Metric(
    "rejected",
    "rejected",
    CLOSE,
    "Share of samples that could not be decoded into a formula.",
    "",
    Better.LOWER,
)
