"""Radii, against ase's and pymatgen's tables."""

from __future__ import annotations

import numpy as np
import pytest

from gandb.core.elements import SYMBOLS
from gandb.core.radii import ATOMIC_RADIUS, COVALENT_RADIUS, RADII


def test_covalent_radii_are_those_of_ase() -> None:
    data = pytest.importorskip("ase.data")
    assert COVALENT_RADIUS[1:97] == pytest.approx(data.covalent_radii[1:97])
    assert np.isnan(COVALENT_RADIUS[97:]).all()  # ase puts 0.2 there


def test_atomic_radii_are_those_of_pymatgen() -> None:
    core = pytest.importorskip("pymatgen.core")
    for z in range(1, 119):
        stated = core.Element(SYMBOLS[z]).data.get("Atomic radius")
        if isinstance(stated, float | int):
            assert ATOMIC_RADIUS[z] == stated
        else:
            assert np.isnan(ATOMIC_RADIUS[z])


def test_tables_cannot_be_changed() -> None:
    for table in RADII.values():
        with pytest.raises(ValueError, match="read-only"):
            table[1] = 1.0
