"""Radii of atoms, Å, by atomic number.

Covalent radii: B. Cordero et al., Dalton Trans. 2008, 2832, doi:10.1039/b801115j; of carbon that of
sp3, of manganese, iron and cobalt those of low spin. They go to curium.

Atomic radii: J. C. Slater, J. Chem. Phys. 41, 3199 (1964), doi:10.1063/1.1725697, in the selection
of pymatgen's ``Element.atomic_radius`` where that has a measured value. Of the noble gases
only argon has one.
"""

from __future__ import annotations

import numpy as np

from gandb.core.elements import ATOMIC_NUMBERS, MAX_Z

_COVALENT = {
    "H": 0.31, "He": 0.28, "Li": 1.28, "Be": 0.96, "B": 0.84, "C": 0.76, "N": 0.71, "O": 0.66,
    "F": 0.57, "Ne": 0.58, "Na": 1.66, "Mg": 1.41, "Al": 1.21, "Si": 1.11, "P": 1.07, "S": 1.05,
    "Cl": 1.02, "Ar": 1.06, "K": 2.03, "Ca": 1.76, "Sc": 1.70, "Ti": 1.60, "V": 1.53,
    "Cr": 1.39, "Mn": 1.39, "Fe": 1.32, "Co": 1.26, "Ni": 1.24, "Cu": 1.32, "Zn": 1.22,
    "Ga": 1.22, "Ge": 1.20, "As": 1.19, "Se": 1.20, "Br": 1.20, "Kr": 1.16, "Rb": 2.20,
    "Sr": 1.95, "Y": 1.90, "Zr": 1.75, "Nb": 1.64, "Mo": 1.54, "Tc": 1.47, "Ru": 1.46,
    "Rh": 1.42, "Pd": 1.39, "Ag": 1.45, "Cd": 1.44, "In": 1.42, "Sn": 1.39, "Sb": 1.39,
    "Te": 1.38, "I": 1.39, "Xe": 1.40, "Cs": 2.44, "Ba": 2.15, "La": 2.07, "Ce": 2.04,
    "Pr": 2.03, "Nd": 2.01, "Pm": 1.99, "Sm": 1.98, "Eu": 1.98, "Gd": 1.96, "Tb": 1.94,
    "Dy": 1.92, "Ho": 1.92, "Er": 1.89, "Tm": 1.90, "Yb": 1.87, "Lu": 1.87, "Hf": 1.75,
    "Ta": 1.70, "W": 1.62, "Re": 1.51, "Os": 1.44, "Ir": 1.41, "Pt": 1.36, "Au": 1.36,
    "Hg": 1.32, "Tl": 1.45, "Pb": 1.46, "Bi": 1.48, "Po": 1.40, "At": 1.50, "Rn": 1.50,
    "Fr": 2.60, "Ra": 2.21, "Ac": 2.15, "Th": 2.06, "Pa": 2.00, "U": 1.96, "Np": 1.90,
    "Pu": 1.87, "Am": 1.80, "Cm": 1.69,
}  # fmt: skip
_ATOMIC = {
    "H": 0.25, "Li": 1.45, "Be": 1.05, "B": 0.85, "C": 0.70, "N": 0.65, "O": 0.60, "F": 0.50,
    "Na": 1.80, "Mg": 1.50, "Al": 1.25, "Si": 1.10, "P": 1.00, "S": 1.00, "Cl": 1.00,
    "Ar": 0.71, "K": 2.20, "Ca": 1.80, "Sc": 1.60, "Ti": 1.40, "V": 1.35, "Cr": 1.40,
    "Mn": 1.40, "Fe": 1.40, "Co": 1.35, "Ni": 1.35, "Cu": 1.35, "Zn": 1.35, "Ga": 1.30,
    "Ge": 1.25, "As": 1.15, "Se": 1.15, "Br": 1.15, "Rb": 2.35, "Sr": 2.00, "Y": 1.80,
    "Zr": 1.55, "Nb": 1.45, "Mo": 1.45, "Tc": 1.35, "Ru": 1.30, "Rh": 1.35, "Pd": 1.40,
    "Ag": 1.60, "Cd": 1.55, "In": 1.55, "Sn": 1.45, "Sb": 1.45, "Te": 1.40, "I": 1.40,
    "Cs": 2.60, "Ba": 2.15, "La": 1.95, "Ce": 1.85, "Pr": 1.85, "Nd": 1.85, "Pm": 1.85,
    "Sm": 1.85, "Eu": 1.85, "Gd": 1.80, "Tb": 1.75, "Dy": 1.75, "Ho": 1.75, "Er": 1.75,
    "Tm": 1.75, "Yb": 1.75, "Lu": 1.75, "Hf": 1.55, "Ta": 1.45, "W": 1.35, "Re": 1.35,
    "Os": 1.30, "Ir": 1.35, "Pt": 1.35, "Au": 1.35, "Hg": 1.50, "Tl": 1.90, "Pb": 1.80,
    "Bi": 1.60, "Po": 1.90, "Ra": 2.15, "Ac": 1.95, "Th": 1.80, "Pa": 1.80, "U": 1.75,
    "Np": 1.75, "Pu": 1.75, "Am": 1.75,
}  # fmt: skip


def _by_number(radii: dict[str, float]) -> np.ndarray:
    found = np.full(MAX_Z + 1, np.nan)
    for symbol, radius in radii.items():
        found[ATOMIC_NUMBERS[symbol]] = radius
    found.setflags(write=False)
    return found


COVALENT_RADIUS: np.ndarray = _by_number(_COVALENT)
"""Covalent radius, Å, float64 (119,); NaN where there is none."""

ATOMIC_RADIUS: np.ndarray = _by_number(_ATOMIC)
"""Atomic radius, Å, float64 (119,); NaN where there is none."""

RADII: dict[str, np.ndarray] = {"covalent": COVALENT_RADIUS, "atomic": ATOMIC_RADIUS}
"""The tables by name."""
