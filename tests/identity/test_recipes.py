"""Tolerances are checked, and are what they are stored as."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandb.core.errors import UsageError
from gandb.identity.recipes import MatchRecipe


def test_the_defaults_are_those_of_pymatgen() -> None:
    pytest.importorskip("pymatgen.analysis.structure_matcher")
    from pymatgen.analysis.structure_matcher import SpeciesComparator, StructureMatcher

    own, other = MatchRecipe(), StructureMatcher().as_dict()
    for name in ("ltol", "stol", "angle_tol", "primitive_cell", "scale"):
        assert getattr(own, name) == other[name]
    assert other["attempt_supercell"] is False
    assert other["allow_subset"] is False
    assert other["comparator"]["@class"] == SpeciesComparator.__name__
    assert own.comparator == "species"


@given(
    st.builds(
        MatchRecipe,
        ltol=st.floats(0, 1, exclude_min=True),
        stol=st.floats(0, 2, exclude_min=True),
        angle_tol=st.floats(0, 60, exclude_min=True),
        primitive_cell=st.booleans(),
        scale=st.booleans(),
        comparator=st.sampled_from(["species", "element"]),
    )
)
def test_a_recipe_comes_back_from_what_is_stored(recipe: MatchRecipe) -> None:
    stored = json.loads(json.dumps(recipe.parameters()))
    assert MatchRecipe(**stored) == recipe
    assert MatchRecipe(**stored).parameters() == recipe.parameters()


@pytest.mark.parametrize("name", ["ltol", "stol", "angle_tol"])
@pytest.mark.parametrize("value", [0, -0.1, 61, math.nan, math.inf])
def test_tolerances_out_of_bounds_are_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{name} is .*above 0 and at most"):
        MatchRecipe(**{name: value})


def test_there_are_two_comparators() -> None:
    with pytest.raises(UsageError, match="'spin'; choose species or element"):
        MatchRecipe(comparator="spin")  # type: ignore[arg-type]
