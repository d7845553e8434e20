"""The checks that every structure gets, each by its name.

What is not here: charge balance by composition (`gandb.validation.charge`), which candidates have
from the start, and whether a space group was found again, which depends on what was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

from gandb.core.crystals import Crystal
from gandb.validation.bond_valence import bond_valence_balance
from gandb.validation.geometry import (
    coordination,
    density,
    radius_distances,
    structural_validity,
    volume_per_atom,
)
from gandb.validation.outcomes import Check, Outcome
from gandb.validation.sites import Sites

Judge = Callable[[Sequence[Crystal], Sites], Outcome]
"""Judges crystals, given as records and as arrays."""


def _by_sites(judge: Callable[[Sites], Outcome]) -> Judge:
    return lambda _, sites: judge(sites)


STANDARD: Mapping[str, Judge] = {
    "structural_validity": _by_sites(structural_validity),
    "structural_validity_published": _by_sites(partial(structural_validity, self_images=False)),
    "radius_distances": _by_sites(radius_distances),
    "radius_distances_atomic": _by_sites(partial(radius_distances, radii="atomic")),
    "density": _by_sites(density),
    "volume_per_atom": _by_sites(volume_per_atom),
    "coordination": _by_sites(coordination),
    "bond_valence_balance": lambda crystals, _: bond_valence_balance(crystals).outcome,
}
"""Every standard check by name, in the order in which they are told."""


@cache
def standard_checks() -> dict[str, Check]:
    """Return what each standard check is made of, by name.

    Raises:
        MissingExtraError: moyopy is not installed.
    """
    nothing = Sites.of([])
    return {name: judge([], nothing).check for name, judge in STANDARD.items()}
