"""The table of elements against pymatgen's."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Element

from gandb.core.elements import (
    ALPHABETICAL_RANK,
    ATOMIC_NUMBERS,
    ELECTRONEGATIVITY,
    FORMULA_RANK,
    MAX_Z,
    SYMBOLS,
)


def test_symbols_are_those_of_the_periodic_table() -> None:
    assert MAX_Z == 118
    assert list(SYMBOLS) == ["", *(Element.from_Z(z).symbol for z in range(1, MAX_Z + 1))]
    assert {s: z for z, s in enumerate(SYMBOLS) if s} == ATOMIC_NUMBERS


@pytest.mark.filterwarnings("ignore:No Pauling electronegativity")
def test_electronegativities_are_those_that_order_formulas() -> None:
    assert np.isnan(ELECTRONEGATIVITY[0])
    for z in range(1, MAX_Z + 1):
        theirs, ours = Element.from_Z(z).X, ELECTRONEGATIVITY[z]
        assert theirs == ours or (np.isnan(theirs) and np.isnan(ours)), SYMBOLS[z]


def test_ranks_order_the_elements() -> None:
    by_name = sorted(range(1, MAX_Z + 1), key=lambda z: ALPHABETICAL_RANK[z])
    assert [SYMBOLS[z] for z in by_name] == sorted(SYMBOLS[1:])
    by_charge = sorted(range(1, MAX_Z + 1), key=lambda z: FORMULA_RANK[z])
    values = [ELECTRONEGATIVITY[z] for z in by_charge]
    stated = [v for v in values if not np.isnan(v)]
    assert stated == sorted(stated)
    assert all(np.isnan(v) for v in values[len(stated) :])


def test_tables_cannot_be_changed() -> None:
    for table in (ELECTRONEGATIVITY, ALPHABETICAL_RANK, FORMULA_RANK):
        with pytest.raises(ValueError, match="read-only"):
            table[1] = 0
