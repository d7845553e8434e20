"""The physical properties that gandb knows, their units, and conversion between units.

Every property is stored in one unit. Factors follow from the exact constants of the SI (2019) and
the 2022 CODATA values of the Hartree energy and the Bohr radius, doi:10.1103/RevModPhys.97.025002;
the calorie is the thermochemical one, 4.184 J, and energies per mole are per mole of atoms.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from gandb.core.errors import NotFoundError, UnitError

ELEMENTARY_CHARGE = 1.602176634e-19
"""C, exact."""
AVOGADRO = 6.02214076e23
"""1/mol, exact."""
HARTREE = 27.211386245981
"""eV, CODATA 2022."""
BOHR = 0.529177210544
"""Å, CODATA 2022."""

_EV_IN_KJ_MOL = ELEMENTARY_CHARGE * AVOGADRO / 1000
_EV_PER_CUBIC_ANGSTROM_IN_GPA = ELEMENTARY_CHARGE * 1e21


class Dimension(StrEnum):
    """What a property measures."""

    ENERGY_PER_ATOM = "energy per atom"
    ENERGY = "energy"
    VOLUME_PER_ATOM = "volume per atom"
    PRESSURE = "pressure"
    RATIO = "ratio"
    TEMPERATURE = "temperature"
    THERMAL_CONDUCTIVITY = "thermal conductivity"
    THERMAL_EXPANSION = "thermal expansion"
    MAGNETIC_MOMENT = "magnetic moment"


_ENERGIES = {
    "eV": 1.0,
    "meV": 1e-3,
    "kJ/mol": 1 / _EV_IN_KJ_MOL,
    "J/mol": 1e-3 / _EV_IN_KJ_MOL,
    "kcal/mol": 4.184 / _EV_IN_KJ_MOL,
    "Hartree": HARTREE,
    "Ry": HARTREE / 2,
    "J": 1 / ELEMENTARY_CHARGE,
}

UNITS: dict[Dimension, dict[str, float]] = {
    Dimension.ENERGY_PER_ATOM: {
        (unit if unit.endswith("/mol") else f"{unit}/atom"): factor
        for unit, factor in _ENERGIES.items()
    },
    Dimension.ENERGY: dict(_ENERGIES),
    Dimension.VOLUME_PER_ATOM: {
        "Å³/atom": 1.0,
        "nm³/atom": 1e3,
        "bohr³/atom": BOHR**3,
        "cm³/mol": 1e24 / AVOGADRO,
    },
    Dimension.PRESSURE: {
        "GPa": 1.0,
        "MPa": 1e-3,
        "Pa": 1e-9,
        "kbar": 0.1,
        "bar": 1e-4,
        "Mbar": 100.0,
        "eV/Å³": _EV_PER_CUBIC_ANGSTROM_IN_GPA,
        "Hartree/bohr³": HARTREE / BOHR**3 * _EV_PER_CUBIC_ANGSTROM_IN_GPA,
    },
    Dimension.RATIO: {"1": 1.0, "%": 0.01},
    Dimension.TEMPERATURE: {"K": 1.0, "meV": 1e-3 * ELEMENTARY_CHARGE / 1.380649e-23},
    Dimension.THERMAL_CONDUCTIVITY: {"W/(m K)": 1.0, "W/(cm K)": 100.0, "mW/(m K)": 1e-3},
    Dimension.THERMAL_EXPANSION: {"1/K": 1.0, "1e-6/K": 1e-6, "ppm/K": 1e-6},
    Dimension.MAGNETIC_MOMENT: {"μB": 1.0},
}
"""What one of each unit is in the unit that is stored, which is the first of its dimension."""

_SPELLINGS = str.maketrans({"^": None, "·": " ", "−": "-"})
_ALIASES = {
    "a3": "å3", "ang3": "å3", "angstrom3": "å3", "a03": "bohr3",
    "ev/a3": "ev/å3", "ev/ang3": "ev/å3", "ev/angstrom3": "ev/å3",
    "ha": "hartree", "eh": "hartree", "rydberg": "ry",
    "ub": "μb", "mub": "μb", "mu_b": "μb", "bohr magneton": "μb", "bohr_magneton": "μb",
    "w/m/k": "w/(m k)", "w/mk": "w/(m k)", "w/(m*k)": "w/(m k)", "w m-1 k-1": "w/(m k)",
    "k-1": "1/k", "kelvin": "k", "dimensionless": "1", "percent": "%",
}  # fmt: skip


@dataclass(frozen=True)
class Property:
    """A physical property of a record.

    Attributes:
        name: the column that holds it.
        unit: the unit it is stored in.
        description: what it is, in one sentence.
        dimension: what it measures, which decides the units it may be given in.
        aliases: other names that an option may use for it.
    """

    name: str
    unit: str
    description: str
    dimension: Dimension
    aliases: tuple[str, ...] = ()


_ALL = (
    Property(
        "formation_energy_per_atom",
        "eV/atom",
        "Energy of the compound less that of its elements in their reference states, per atom.",
        Dimension.ENERGY_PER_ATOM,
        ("formation_energy", "formation_enthalpy", "e_form"),
    ),
    Property(
        "energy_per_atom",
        "eV/atom",
        "Total energy of the calculation per atom; comparable only within one source.",
        Dimension.ENERGY_PER_ATOM,
        ("energy",),
    ),
    Property(
        "energy_above_hull",
        "eV/atom",
        "Energy above the convex hull of stable phases, per atom; 0 on the hull.",
        Dimension.ENERGY_PER_ATOM,
        ("e_hull", "e_above_hull", "stability"),
    ),
    Property(
        "band_gap",
        "eV",
        "Difference between the lowest empty and the highest filled state; 0 for a metal.",
        Dimension.ENERGY,
        ("bandgap", "gap", "egap"),
    ),
    Property(
        "volume_per_atom",
        "Å³/atom",
        "Cell volume divided by the number of atoms in the cell.",
        Dimension.VOLUME_PER_ATOM,
        ("volume_atom",),
    ),
    Property(
        "bulk_modulus",
        "GPa",
        "Voigt-Reuss-Hill average of the bulk modulus.",
        Dimension.PRESSURE,
        ("bulk_modulus_vrh", "k_vrh"),
    ),
    Property(
        "shear_modulus",
        "GPa",
        "Voigt-Reuss-Hill average of the shear modulus.",
        Dimension.PRESSURE,
        ("shear_modulus_vrh", "g_vrh"),
    ),
    Property(
        "elastic_anisotropy",
        "1",
        "Universal elastic anisotropy index; 0 for an isotropic crystal.",
        Dimension.RATIO,
        ("universal_anisotropy",),
    ),
    Property(
        "debye_temperature",
        "K",
        "Debye temperature from the elastic constants.",
        Dimension.TEMPERATURE,
    ),
    Property(
        "thermal_conductivity",
        "W/(m K)",
        "Lattice thermal conductivity at 300 K.",
        Dimension.THERMAL_CONDUCTIVITY,
    ),
    Property(
        "thermal_expansion",
        "1/K",
        "Volumetric thermal expansion coefficient at 300 K.",
        Dimension.THERMAL_EXPANSION,
    ),
    Property(
        "total_magnetization",
        "μB",
        "Total magnetic moment, per formula as the source gives it.",
        Dimension.MAGNETIC_MOMENT,
        ("mu_b", "magnetization", "magnetic_moment"),
    ),
)

PROPERTIES: dict[str, Property] = {p.name: p for p in _ALL}
"""Every property by name, in the order in which tables show them."""

_BY_ALIAS = {alias: p for p in _ALL for alias in (p.name, *p.aliases)}


def find_property(name: str) -> Property:
    """Return the property of a name or alias, in any case.

    Raises:
        NotFoundError: naming those that exist.
    """
    found = _BY_ALIAS.get(name.strip().lower())
    if found is None:
        raise NotFoundError.naming("property", name, PROPERTIES)
    return found


def unit_factor(unit: str, of: Property) -> float:
    """Return what one ``unit`` of a property is in the unit it is stored in.

    ``Å^3``, ``A3`` and ``Å³`` are one unit, as are ``uB``, ``µB`` and ``μB``; ``/atom`` may be left
    out. Case counts only between mega and milli (``MPa``, ``mPa``).

    Raises:
        UnitError: the unit is unknown or measures something else; names those that fit.
    """
    units = UNITS[of.dimension]
    if unit in units:
        return units[unit]
    given = _spelling(unit, of.dimension)
    for known, factor in units.items():
        if _spelling(known, of.dimension) == given:
            return factor
    others = [d for d, known in UNITS.items() if unit in known or given in map(_plain, known)]
    what = f"measures {', '.join(others)}, not {of.dimension}" if others else "is not known"
    raise UnitError(
        f"unit {unit!r} {what}; units of {of.name}: {', '.join(units)} (stored in {of.unit})"
    )


def convert(values: np.ndarray, unit: str, of: Property) -> np.ndarray:
    """Convert values (any shape) from ``unit`` into the unit that a property is stored in.

    NaN stays NaN. In the stored unit the values come back unchanged.

    Raises:
        UnitError: as `unit_factor`.
    """
    factor = unit_factor(unit, of)
    return values if factor == 1.0 else values * factor


def _plain(unit: str) -> str:
    spelled = unicodedata.normalize("NFKC", unit).translate(_SPELLINGS)
    spelled = " ".join(spelled.replace("/", " / ").split()).replace(" / ", "/")
    first = spelled[:1] if spelled[:1] in ("M", "m") else spelled[:1].lower()  # mega or milli
    lowered = first + spelled[1:].lower()
    return _ALIASES.get(lowered, lowered)


def _spelling(unit: str, dimension: Dimension) -> str:
    """Return one spelling of a unit, without the ``/atom`` that the dimension implies."""
    spelled = _plain(unit)
    if dimension in (Dimension.ENERGY_PER_ATOM, Dimension.VOLUME_PER_ATOM):
        for ending in ("/atom", " per atom", "/at"):
            if spelled.endswith(ending):
                return _plain(spelled.removesuffix(ending))
    return spelled
