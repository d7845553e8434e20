"""Unique, novel and graded novelty of structures, set beside each other by reference.

What was compared with one reference, and matched in one way, can be compared; nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gandb.reports.metrics import percent
from gandb.reports.records import Novelty, Reference, Report, Role

MEANINGS = {
    "unique": "Materials among the samples, per sample; a material is what matches links together.",
    "greedy": "The same as published code counts it: each sample joins the first earlier group "
    "whose first member it matches, so the count depends on the order.",
    "unique, novel": "Materials of which no member matches a structure of the reference, per "
    "sample.",
    "known": "Share of samples that match a structure of the reference.",
    "structure": "Share of samples with a composition and a symmetry label that the reference "
    "holds together, but in another structure.",
    "prototype": "Share of samples of a known composition with a symmetry label that is new for "
    "it.",
    "substitution": "Share of samples of a new composition that match a known structure once "
    "elements are renamed.",
    "composition": "Share of samples of a new composition for which no such structure was found.",
    "not judged": "Share of samples whose structure could not be judged.",
}
"""Column to what it means, in order; grades add up to 100% with what was not judged."""


def by_reference(report: Report) -> list[tuple[Reference, list[Novelty]]]:
    """Return the references of a report with what was compared with each, models first."""
    held: dict[str, list[Novelty]] = {}
    for found in report.novelties:
        held.setdefault(found.reference.recipe, []).append(found)
    return [
        (own[0].reference, sorted(own, key=lambda n: (n.role is Role.BASELINE, n.label)))
        for own in held.values()
    ]


def columns(lines: Sequence[Novelty]) -> list[str]:
    """Return the heads of the columns that the lines fill."""
    heads = list(MEANINGS)
    if not any(line.not_judged > 1e-9 for line in lines):
        heads.remove("not judged")
    common = common_number(lines)
    if common is not None:
        heads.insert(1, f"unique at {common:,}")
    return heads


def common_number(lines: Sequence[Novelty]) -> int | None:
    """Return the largest number of samples at which all are known; None if all have one N."""
    if len({line.n_samples for line in lines}) == 1:
        return None
    shared = set.intersection(*(set(line.uniqueness) for line in lines))
    return max(shared, default=None)


def share(line: Novelty, head: str) -> float:
    """Return what a line has under a head, 0 to 1."""
    if head.startswith("unique at "):
        return line.uniqueness[int(head.removeprefix("unique at ").replace(",", ""))]
    known = {
        "unique": line.unique,
        "greedy": line.greedy,
        "unique, novel": line.unique_and_novel,
        "not judged": line.not_judged,
    }
    return known[head] if head in known else line.grades[head]


def novelty_headlines(report: Report) -> list[str]:
    """Say in one sentence per reference how many structures of each model are unique and novel."""
    found = []
    for reference, lines in by_reference(report):
        models = [line for line in lines if line.role is Role.MODEL]
        if not models:
            continue
        verdicts = [_verdict(line, lines) for line in models]
        shares = "; ".join(
            f"{line.label} {percent(line.unique_and_novel)}% of {line.n_samples:,}"
            f"{f', {verdict}' if verdict else ''}"
            for line, verdict in zip(models, verdicts, strict=True)
        )
        alone = "" if any(verdicts) else ". No baseline stands beside them"
        if alone and any(line.role is Role.BASELINE for line in lines):
            alone = ". The baselines have other N, so none stands beside them"
        found.append(
            f"Unique and novel structures, per sample, against {reference.words}: {shares}{alone}."
        )
    return found


def notes(reference: Reference, lines: Sequence[Novelty]) -> list[str]:
    """Return what must be said under a table."""
    found = [
        f"Values in % of the N structures sampled. What is the same: {reference.tolerances}.",
        f"The reference holds {reference.n_structures:,} structures.",
        "greedy: as published code counts, which depends on the order.",
    ]
    if len({line.n_samples for line in lines}) > 1:
        found.append("Uniqueness falls as N grows: compare at one N.")
    if all(line.role is not Role.BASELINE for line in lines):
        found.append("No baseline was judged against this reference: the numbers stand alone.")
    return found


def meanings(report: Report) -> list[tuple[str, str]]:
    """Return the columns of all tables and what they mean."""
    used = {head for _, lines in by_reference(report) for head in columns(lines)}
    return [(head, meaning) for head, meaning in MEANINGS.items() if head in used]


def _verdict(line: Novelty, lines: Sequence[Novelty]) -> str:
    """Set a model beside the best baseline of its reference with as many samples, if any."""
    alike = [o for o in lines if o.role is Role.BASELINE and o.n_samples == line.n_samples]
    if not alike:
        return ""
    best = max(alike, key=lambda other: other.unique_and_novel)
    points = 100 * (line.unique_and_novel - best.unique_and_novel)
    noise = 200 * math.hypot(*(_noise(own) for own in (line, best)))
    other = f"the best baseline ({best.label} {percent(best.unique_and_novel)}%)"
    if abs(points) <= noise:
        return f"level with {other} within the noise of ±{noise:.1f} points"
    if points > 0:
        return f"{points:.1f} points above {other}"
    return f"{-points:.1f} points below {other}, so it does not beat its baselines"


def _noise(line: Novelty) -> float:
    """Return one standard deviation of a share of N samples."""
    share = line.unique_and_novel
    return math.sqrt(share * (1 - share) / line.n_samples)
