"""Oxidation-state tables: which charges an element may carry, and how electronegative it is.

A verdict on charge neutrality means nothing without its table: the same formulas are 98% or 32%
valid under two releases of one program. So the tables ship with gandb as data files, and every
recipe names its table with the SHA-256 of the table's content. ``data/SOURCES.md`` says where each
comes from and under which licence.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

from gandb.core.elements import MAX_Z, SYMBOLS
from gandb.core.errors import InputError, NotFoundError
from gandb.core.ids import canonical_json, sha256_hex

TABLES: dict[str, str] = {
    "icsd24": "smact 4.0.2",
    "smact14": "smact 4.0.2",
    "smact22": "smact 2.2.1",
}
"""Name of each shipped table and the release it was taken from."""

LARGEST_STATE = 15
"""Largest magnitude of an oxidation state that a table may hold."""


@dataclass(frozen=True)
class OxidationTable:
    """What a check may assume about each element, by atomic number.

    Attributes:
        name: what recipes call it.
        version: the release of the source.
        states: ascending oxidation states of each element that has any; none is zero.
        electronegativity: Pauling electronegativity of each element that has one.
        metals: elements that count as metals for the alloy exemption.

    Raises:
        InputError: an atomic number or a state that no table can hold.
    """

    name: str
    version: str
    states: Mapping[int, tuple[int, ...]]
    electronegativity: Mapping[int, float]
    metals: frozenset[int]

    def __post_init__(self) -> None:
        for z in {*self.states, *self.electronegativity, *self.metals}:
            if not 1 <= z <= MAX_Z:
                raise InputError(
                    f"oxidation table {self.name!r}: no element has atomic number {z}; "
                    f"use 1 to {MAX_Z}"
                )
        for z, states in self.states.items():
            ascending = tuple(sorted(set(states)))
            if not states or ascending != states:
                raise InputError(
                    f"oxidation table {self.name!r}: the states of {SYMBOLS[z]} are {states}; "
                    "list them once each, in ascending order, or leave the element out"
                )
            if 0 in states or max(abs(q) for q in states) > LARGEST_STATE:
                raise InputError(
                    f"oxidation table {self.name!r}: the states of {SYMBOLS[z]} are {states}; "
                    f"they must not be zero, nor beyond {LARGEST_STATE} in magnitude"
                )

    @cached_property
    def canonical_bytes(self) -> bytes:
        """The content as canonical JSON, keyed by symbol; name and version are not part of it."""
        return canonical_json(
            {
                "electronegativity": {SYMBOLS[z]: x for z, x in self.electronegativity.items()},
                "metals": [SYMBOLS[z] for z in sorted(self.metals)],
                "oxidation_states": {SYMBOLS[z]: list(q) for z, q in self.states.items()},
            }
        )

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of `canonical_bytes`, in hexadecimal."""
        return sha256_hex(self.canonical_bytes)


@cache
def load_table(name: str) -> OxidationTable:
    """Return a shipped table.

    Raises:
        NotFoundError: gandb ships no table of that name.
    """
    if name not in TABLES:
        raise NotFoundError.naming("oxidation table", name, TABLES)
    states: dict[int, tuple[int, ...]] = {}
    electronegativity: dict[int, float] = {}
    metals: set[int] = set()
    source = files("gandb.validation") / "data" / f"{name}.csv"
    for row in csv.DictReader(source.read_text(encoding="utf-8").splitlines()):
        z = int(row["atomic_number"])
        if row["oxidation_states"]:
            states[z] = tuple(int(q) for q in row["oxidation_states"].split())
        if row["electronegativity"]:
            electronegativity[z] = float(row["electronegativity"])
        if row["metal"] == "1":
            metals.add(z)
    return OxidationTable(name, TABLES[name], states, electronegativity, frozenset(metals))
