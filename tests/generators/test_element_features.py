"""What networks are told of elements, against pymatgen's periodic table."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Element

from gandb.core.elements import MAX_Z
from gandb.generators.element_features import BLOCK, F_BLOCK, FEATURES, GROUP, NAMES, PERIOD


@pytest.mark.parametrize("z", range(1, MAX_Z + 1))
def test_places_in_the_periodic_table_are_pymatgens(z: int) -> None:
    element = Element.from_Z(z)
    assert PERIOD[z] == element.row
    assert GROUP[z] == element.group
    if z != 2:  # pymatgen counts helium to the p block
        assert "spdf"[BLOCK[z]] == element.block
    assert F_BLOCK[z] == (element.is_lanthanoid or element.is_actinoid)


def test_features_are_scaled_and_tell_elements_apart() -> None:
    assert FEATURES.shape == (MAX_Z + 1, len(NAMES))
    assert np.isfinite(FEATURES).all()
    assert FEATURES.min() == 0.0
    assert FEATURES.max() == 1.0
    assert not FEATURES[0].any()
    assert len(np.unique(FEATURES, axis=0)) == MAX_Z + 1
