"""The list of checks that every structure gets."""

from __future__ import annotations

import numpy as np
import pytest

from gandb.core.crystals import crystal
from gandb.validation.sites import Sites
from gandb.validation.standard_checks import STANDARD, standard_checks

pytest.importorskip("moyopy")


def test_each_check_has_the_name_it_goes_by() -> None:
    checks = standard_checks()
    assert [*checks] == [*STANDARD]
    for name, check in checks.items():
        assert check.name == name
        assert check.version
        assert check.parameters


def test_each_judges_records_and_arrays_alike() -> None:
    records = [
        crystal((a,) * 3, (90.0,) * 3, ["Cs", "Cl"], [(0, 0, 0), (0.5, 0.5, 0.5)])
        for a in (0.4, 2.0, 4.1, 40.0)
    ]
    sites = Sites.of(records)
    for name, judge in STANDARD.items():
        outcome = judge(records, sites)
        assert outcome.check == standard_checks()[name]
        assert outcome.passed.shape == outcome.value.shape == outcome.reason.shape == (4,)
        assert outcome.passed[2], name
        assert not (outcome.passed & outcome.errors).any()
        one = [judge([record], Sites.of([record])).passed[0] for record in records]
        assert np.array_equal(outcome.passed, one)
