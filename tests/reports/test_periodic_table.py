from __future__ import annotations

import pytest

from gandb.core.elements import MAX_Z, SYMBOLS
from gandb.reports.periodic_table import COLUMNS, position

ELEMENTS = range(1, MAX_Z + 1)


def test_every_element_has_a_cell_of_its_own() -> None:
    cells = {position(z) for z in ELEMENTS}
    assert len(cells) == MAX_Z
    assert all(1 <= row <= 9 and 1 <= column <= COLUMNS for row, column in cells)


def test_positions_are_pymatgens() -> None:
    pymatgen = pytest.importorskip("pymatgen.core.periodic_table")
    for z in ELEMENTS:
        element = pymatgen.Element(SYMBOLS[z])
        if element.is_lanthanoid:
            expected = 8, z - pymatgen.Element("La").Z + 3
        elif element.is_actinoid:
            expected = 9, z - pymatgen.Element("Ac").Z + 3
        else:
            expected = element.row, element.group
        assert position(z) == expected, SYMBOLS[z]


@pytest.mark.parametrize("z", [0, -1, 119])
def test_no_such_element(z: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to 118"):
        position(z)
