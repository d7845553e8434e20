"""Formulas, shares and element bits as OPTIMADE states them, worked out once per composition.

Specification: chemical_formula_reduced, _anonymous and _hill under "Structures Entries" of
https://specification.optimade.org; Hill order: doi:10.1021/ja02046a005.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import fsum

import numpy as np
import pyarrow as pa

from gandb.core.compositions import CompositionBatch
from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.formula import parse_formulas
from gandb.core.species import parse_species

LOW = 60
"""Elements up to this atomic number have their bit in the low mask, the others in the high one."""

_WHOLE = 1e-6
_GENERATORS = re.compile(r"-?\d(?:_\d)?(?:/[a-z])?|[a-z]")


def facts_of(formulas: pa.ChunkedArray) -> dict[str, pa.Array]:
    """Work out what follows from reduced formulas as pymatgen writes them.

    Returns:
        arrays of n values: ``formula_reduced``, ``formula_anonymous``, ``formula_hill``, ``ratios``
        (lists, elements in alphabetical order), ``elements_low`` and ``elements_high``.
    """
    customary = parse_formulas(formulas).batch
    reduced = customary.reduced()[0]
    columns: dict[str, list[object]] = {
        name: []
        for name in (
            "formula_reduced",
            "formula_anonymous",
            "formula_hill",
            "ratios",
            "elements_low",
            "elements_high",
        )
    }
    for unit, counts in zip(_rows(customary), _rows(reduced), strict=True):
        atoms = sum(counts.values())
        low, high = element_masks(counts)
        columns["formula_reduced"].append(_text(dict(sorted(counts.items()))))
        columns["formula_anonymous"].append(anonymous_formula(counts))
        columns["formula_hill"].append(hill_formula(unit))
        columns["ratios"].append([n / atoms for _, n in sorted(counts.items())])
        columns["elements_low"].append(low)
        columns["elements_high"].append(high)
    types = {"ratios": pa.list_(pa.float64()), "elements_low": pa.int64(),
             "elements_high": pa.int64()}  # fmt: skip
    return {name: pa.array(v, types.get(name, pa.string())) for name, v in columns.items()}


def _rows(batch: CompositionBatch) -> list[dict[str, int]]:
    return [batch[i] for i in range(len(batch))]


def hill_formula(counts: Mapping[str, int]) -> str:
    """Write a formula in Hill order: C and H first if there is carbon, the rest alphabetical."""
    first = [s for s in ("C", "H") if s in counts] if "C" in counts else []
    order = first + sorted(s for s in counts if s not in first)
    return _text({s: counts[s] for s in order})


def anonymous_formula(counts: Mapping[str, int]) -> str:
    """Write a formula with letters for elements, the most frequent first: ``A2B``."""
    ordered = sorted(counts.values(), reverse=True)
    return _text({_letters(i): n for i, n in enumerate(ordered)})


def element_masks(symbols: object) -> tuple[int, int]:
    """Return the low and the high mask of elements; symbols of no element have no bit."""
    low = high = 0
    for symbol in symbols:  # type: ignore[attr-defined]
        z = ATOMIC_NUMBERS.get(symbol)
        if z is not None and z <= LOW:
            low |= 1 << (z - 1)
        elif z is not None:
            high |= 1 << (z - LOW - 1)
    return low, high


def adds_up(species: object) -> bool:
    """Say whether the occupancies of each element add up to whole atoms over all sites."""
    shares: dict[str, list[float]] = {}
    for site in species:  # type: ignore[attr-defined]
        for occupant in parse_species(site):
            shares.setdefault(occupant.element, []).append(occupant.occupancy)
    totals = np.array([fsum(values) for values in shares.values()])
    return bool((np.abs(totals - np.rint(totals)) < _WHOLE).all())


def spaced_symbol(symbol: str) -> str:
    """Write a short Hermann-Mauguin symbol as OPTIMADE does: ``P2_1/c`` becomes ``P 21/c``."""
    return " ".join([symbol[0], *_GENERATORS.findall(symbol[1:])]).replace("_", "")


def _letters(i: int) -> str:
    """Return A, B ... Z, Aa, Ba ... Za, Ab ..."""
    letter = chr(ord("A") + i % 26)
    return letter if i < 26 else letter + chr(ord("a") + i // 26 - 1)


def _text(counts: Mapping[str, int]) -> str:
    return "".join(f"{s}{n if n > 1 else ''}" for s, n in counts.items())
