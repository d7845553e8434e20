"""Records to and from ASE."""

from __future__ import annotations

from collections.abc import Sequence

ISOTOPE_MASSES = {"D": 2.01410177812, "T": 3.0160492779}
"""u, AME2020, doi:10.1088/1674-1137/abddaf."""


def isotopes(symbols: Sequence[str], masses: Sequence[float]) -> list[str]:
    """Return symbols with D and T for hydrogen of about their masses (u)."""
    return [
        {2: "D", 3: "T"}.get(int(mass), symbol) if symbol == "H" and 2 <= mass < 3.1 else symbol
        for symbol, mass in zip(symbols, masses, strict=True)
    ]
