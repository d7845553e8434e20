"""Properties and units: factors against independent values, refusals that name what fits."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from gandb.core.errors import NotFoundError, UnitError
from gandb.core.units import PROPERTIES, UNITS, convert, find_property, unit_factor


@pytest.mark.parametrize(
    ("name", "unit", "expected"),
    [
        # Published conversion factors (CODATA 2022), to the digits they are published with.
        ("formation_energy_per_atom", "eV/atom", 1.0),
        ("formation_energy_per_atom", "kJ/mol", 1 / 96.48533212),
        ("formation_energy_per_atom", "kcal/mol", 1 / 23.06054783),
        ("formation_energy_per_atom", "J/mol", 1 / 96485.33212),
        ("energy_per_atom", "Hartree/atom", 27.211386246),
        ("energy_per_atom", "Ry/atom", 13.605693123),
        ("energy_above_hull", "meV/atom", 0.001),
        ("band_gap", "J", 6.241509074e18),
        ("volume_per_atom", "nm³/atom", 1000.0),
        ("volume_per_atom", "bohr³/atom", 0.529177210544**3),
        ("volume_per_atom", "cm³/mol", 1.66053906717),
        ("bulk_modulus", "kbar", 0.1),
        ("bulk_modulus", "Mbar", 100.0),
        ("shear_modulus", "eV/Å³", 160.2176634),
        ("shear_modulus", "Hartree/bohr³", 29421.015697),
        ("debye_temperature", "meV", 11.604518122),
        ("thermal_conductivity", "W/(cm K)", 100.0),
        ("thermal_expansion", "1e-6/K", 1e-6),
        ("elastic_anisotropy", "%", 0.01),
        ("total_magnetization", "μB", 1.0),
    ],
)
def test_factors(name: str, unit: str, expected: float) -> None:
    assert unit_factor(unit, PROPERTIES[name]) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("name", "spellings", "unit"),
    [
        ("volume_per_atom", ["Å^3", "A^3", "Å3/atom", "ang^3", "Angstrom^3 per atom"], "Å³/atom"),
        ("volume_per_atom", ["\u212b^3/atom", "A\u030a³"], "Å³/atom"),
        ("energy_per_atom", ["ha", "Eh/atom", "hartree"], "Hartree/atom"),
        ("energy_per_atom", ["mev", "mEV/Atom", " meV / atom "], "meV/atom"),
        ("bulk_modulus", ["gpa", "GPA"], "GPa"),
        ("bulk_modulus", ["eV/A^3", "eV/Å^3", "eV/ang^3"], "eV/Å³"),
        ("total_magnetization", ["uB", "µB", "mu_B", "bohr magneton"], "μB"),
        ("thermal_conductivity", ["W/m/K", "W m⁻1 K⁻1", "W/(m·K)", "W m^-1 K^-1"], "W/(m K)"),
        ("thermal_expansion", ["K^-1", "K⁻¹"], "1/K"),
        ("elastic_anisotropy", ["dimensionless"], "1"),
    ],
)
def test_spellings_of_one_unit(name: str, spellings: list[str], unit: str) -> None:
    for spelling in spellings:
        assert unit_factor(spelling, PROPERTIES[name]) == unit_factor(unit, PROPERTIES[name])


@pytest.mark.parametrize(
    ("name", "unit", "says"),
    [
        ("band_gap", "GPa", "measures pressure, not energy"),
        ("band_gap", "eV/atom", "measures energy per atom, not energy"),
        ("bulk_modulus", "eV", "measures energy, not pressure"),
        ("band_gap", "furlong", "is not known"),
        ("band_gap", "MeV", "is not known"),  # mega is not milli
        ("bulk_modulus", "mPa", "is not known"),
        ("bulk_modulus", "", "is not known"),
    ],
)
def test_refusals_name_the_units_that_fit(name: str, unit: str, says: str) -> None:
    with pytest.raises(UnitError) as caught:
        unit_factor(unit, PROPERTIES[name])
    message = str(caught.value)
    assert repr(unit) in message
    assert says in message
    for known in UNITS[PROPERTIES[name].dimension]:
        assert known in message


def test_convert_keeps_missing_values_and_leaves_stored_units_alone() -> None:
    values = np.array([1500.0, np.nan, -2.0])
    np.testing.assert_allclose(
        convert(values, "meV", PROPERTIES["band_gap"]), [1.5, np.nan, -0.002]
    )
    assert convert(values, "eV", PROPERTIES["band_gap"]) is values
    assert values[0] == 1500.0


def test_every_property_is_stored_in_the_first_unit_of_its_dimension() -> None:
    for name, known in PROPERTIES.items():
        assert known.name == name
        assert known.unit == next(iter(UNITS[known.dimension]))
        assert UNITS[known.dimension][known.unit] == 1.0
        assert known.description.endswith(".")


def test_no_two_units_of_a_dimension_share_a_spelling() -> None:
    for known in PROPERTIES.values():
        for unit, factor in UNITS[known.dimension].items():
            lowered = unit if unit[0] == "M" else unit.lower()
            assert unit_factor(lowered, known) == factor


def test_names_and_aliases() -> None:
    assert find_property("band_gap").name == "band_gap"
    assert find_property(" Egap ").name == "band_gap"
    assert find_property("e_hull").name == "energy_above_hull"
    aliases = [alias for p in PROPERTIES.values() for alias in (p.name, *p.aliases)]
    assert len(aliases) == len(set(aliases))
    with pytest.raises(NotFoundError, match="no property named 'bandgab'; known: band_gap, "):
        find_property("bandgab")


def test_units_load_without_numba_and_pyarrow() -> None:
    code = "import sys, gandb.core.units; print({'numba', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
