"""Charge neutrality and electronegativity balance (CNEN) of many formulas at once.

A formula is balanced if its elements can be given one oxidation state each so that the charges sum
to zero and every cation is strictly less electronegative than every anion. What else counts as
valid differs between programs, and decides the number that comes out, so each convention is a
*rule* with its own name, version and table:

- ``cnen_strict``: ``smact_validity(include_alloys=False)`` of smact 4.0.2;
- ``cnen_default``: the same at its defaults, where a formula of metals alone passes;
- ``cnen_matgan``: what MatGAN's published code does, npj Comput. Mater. 6, 84 (2020),
  doi:10.1038/s41524-020-00352-0: the table of smact 2.2, no exemption of alloys, and the formula as
  it was written. That code asks only for ratios without a common divisor, so Fe2O2 fails there
  where FeO passes; a single element passes however it is written. It stops at nine elements,
  where this goes on;
- ``charge_neutral``: neutrality alone, ``smact_validity(include_alloys=False,
  use_pauling_test=False)`` of smact 4.0.2.

All pass single elements and fail a formula with an element that has no oxidation state; those that
look at electronegativity fail one with an element that has none. Where smact 4.0.2 raises an
error, for compounds of elements beyond lawrencium, the rules here fail the formula.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from gandb.core.compositions import CompositionBatch
from gandb.core.errors import NotFoundError
from gandb.validation import kernels
from gandb.validation.oxidation import load_table

REASONS: Mapping[int, str] = {
    kernels.BALANCED: "balanced",
    kernels.SINGLE_ELEMENT: "single element",
    kernels.ALLOY: "alloy",
    kernels.NEUTRAL: "neutral",
    kernels.NO_OXIDATION_STATE: "no oxidation state",
    kernels.NOT_NEUTRAL: "not neutral",
    kernels.NO_ELECTRONEGATIVITY: "no electronegativity",
    kernels.ELECTRONEGATIVITY_ORDER: "electronegativity order",
    kernels.NOT_REDUCED: "not reduced",
    kernels.EMPTY: "empty",
}
"""Word for each reason code. The first that applies, in the order in which smact asks: alloy, no
oxidation state, not neutral, no electronegativity, electronegativity order."""

PASSING: frozenset[int] = frozenset(
    {kernels.BALANCED, kernels.SINGLE_ELEMENT, kernels.ALLOY, kernels.NEUTRAL}
)
"""Codes of the reasons why a formula passes; all others are why it fails."""


@dataclass(frozen=True)
class Rule:
    """One convention of what is valid.

    Attributes:
        name: what recipes and columns call it.
        version: raised whenever a verdict could change with the table unchanged.
        table: name of the oxidation table.
        alloys: a formula of metals alone passes.
        reduced: judge the reduced formula; if not, one with a common divisor fails.
        electronegativity: ask for the order of electronegativities too.
    """

    name: str
    version: str
    table: str
    alloys: bool = False
    reduced: bool = True
    electronegativity: bool = True

    @property
    def parameters(self) -> dict[str, Any]:
        """What decides a verdict, as plain JSON, with the table's content hash."""
        table = load_table(self.table)
        return {
            "alloys_pass": self.alloys,
            "electronegativity_test": self.electronegativity,
            "oxidation_table": table.name,
            "oxidation_table_sha256": table.sha256,
            "oxidation_table_version": table.version,
            "reduced_formula": self.reduced,
            "single_elements_pass": True,
        }


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("cnen_strict", "1", "icsd24"),
        Rule("cnen_default", "1", "icsd24", alloys=True),
        Rule("cnen_matgan", "1", "smact22", reduced=False),
        Rule("charge_neutral", "1", "icsd24", electronegativity=False),
    )
}
"""Every rule by name."""

CNEN: tuple[str, ...] = ("cnen_strict", "cnen_default", "cnen_matgan")
"""The rules that `check_all` applies if not told otherwise."""


@dataclass(frozen=True)
class Verdicts:
    """What a rule says of n formulas.

    Attributes:
        passed: bool (n,).
        reason: uint8 (n,), codes into `REASONS`.
    """

    passed: np.ndarray
    reason: np.ndarray

    def tally(self) -> dict[str, int]:
        """Count the formulas per reason, in words; reasons that do not occur are left out."""
        times = np.bincount(self.reason, minlength=len(REASONS))
        return {word: int(times[code]) for code, word in REASONS.items() if times[code]}


def get_rule(name: str) -> Rule:
    """Return a rule by name.

    Raises:
        NotFoundError: there is no such rule.
    """
    if name not in RULES:
        raise NotFoundError.naming("validity rule", name, RULES)
    return RULES[name]


def check(batch: CompositionBatch, rule: Rule | str, units: np.ndarray | None = None) -> Verdicts:
    """Judge formulas by one rule.

    Args:
        batch: n formulas; reduced or not, the charges balance alike, but smaller counts are faster.
        rule: a rule or its name.
        units: (n,), formula units of each formula as it was written, as `CompositionBatch.reduced`
            returns them; for rules on the formula as written. Without it the formulas of ``batch``
            are taken to stand as they were written.
    """
    rule = get_rule(rule) if isinstance(rule, str) else rule
    strict, alloys = _judge(batch, rule, units, exempt=rule.alloys)
    return _apply(rule, strict, alloys)


def check_all(
    batch: CompositionBatch, units: np.ndarray | None = None, rules: Sequence[str] = CNEN
) -> dict[str, Verdicts]:
    """Judge formulas by several rules, each oxidation table in one pass.

    Args:
        batch: n formulas.
        units: as in `check`.
        rules: names of rules.

    Returns:
        the verdicts by name of rule.
    """
    passes: dict[tuple[str, bool], tuple[np.ndarray, np.ndarray]] = {}
    verdicts = {}
    for rule in map(get_rule, rules):
        key = (rule.table, rule.reduced)
        if key not in passes:
            passes[key] = _judge(batch, rule, units, exempt=False)
        verdicts[rule.name] = _apply(rule, *passes[key])
    return verdicts


def _judge(
    batch: CompositionBatch, rule: Rule, units: np.ndarray | None, *, exempt: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Run the kernel with the rule's table: reasons without exemption, and which are alloys."""
    if rule.reduced:
        divisors = np.empty(0, np.uint16)
    else:
        divisors = batch.reduced()[1] if units is None else np.asarray(units, np.uint16)
        if len(divisors) != len(batch):
            raise ValueError(f"{len(divisors)} units for {len(batch)} formulas; give one for each")
    reasons, alloys = kernels.judge(
        batch.offsets, batch.atomic_numbers, batch.counts, divisors, exempt, *_arrays(rule.table)
    )
    return reasons, alloys


_NEUTRAL_REASONS = np.array(sorted(REASONS), np.uint8)
"""Reason under a rule that does not ask for electronegativities, by reason under one that does."""
_NEUTRAL_REASONS[
    [kernels.BALANCED, kernels.NO_ELECTRONEGATIVITY, kernels.ELECTRONEGATIVITY_ORDER]
] = kernels.NEUTRAL


def _apply(rule: Rule, strict: np.ndarray, alloys: np.ndarray) -> Verdicts:
    """Turn reasons without exemption into the rule's verdicts."""
    reason = strict if rule.electronegativity else _NEUTRAL_REASONS[strict]
    if rule.alloys:
        reason = np.where(alloys, np.uint8(kernels.ALLOY), reason)
    return Verdicts(reason <= kernels.NEUTRAL, reason)


@cache
def _arrays(name: str) -> tuple[np.ndarray, ...]:
    """Lay out a table for the kernel, one row for every value of a byte; see `kernels.judge`."""
    table = load_table(name)
    rank = np.full(256, kernels.NO_RANK, np.uint8)
    values = sorted(set(table.electronegativity.values()))
    for z, x in table.electronegativity.items():
        rank[z] = values.index(x)
    metal = np.zeros(256, np.bool_)
    metal[list(table.metals)] = True
    return (
        rank,
        metal,
        *_ragged(table.states),
        *_ragged({z: tuple(q for q in s if q > 0) for z, s in table.states.items()}),
        *_ragged({z: tuple(-q for q in reversed(s) if q < 0) for z, s in table.states.items()}),
    )


def _ragged(rows: Mapping[int, tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """Return lengths, int64 (256,), and values, int64 (256, longest), zero beyond each length."""
    width = max(1, *map(len, rows.values()))
    lengths = np.zeros(256, np.int64)
    values = np.zeros((256, width), np.int64)
    for z, row in rows.items():
        lengths[z] = len(row)
        values[z, : len(row)] = row
    return lengths, values
