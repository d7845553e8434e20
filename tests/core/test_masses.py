"""Atomic masses, against pymatgen's."""

from __future__ import annotations

import numpy as np
import pytest

from gandb.core.elements import SYMBOLS
from gandb.core.masses import ATOMIC_MASS


def test_masses_are_those_of_pymatgen() -> None:
    core = pytest.importorskip("pymatgen.core")
    assert np.isnan(ATOMIC_MASS[0])
    for z in range(1, 119):
        assert (
            pytest.approx(float(core.Element(SYMBOLS[z]).atomic_mass), rel=1e-9) == ATOMIC_MASS[z]
        )
