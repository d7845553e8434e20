"""Training crystals by base sites, and the combinations that are asked of networks."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.core.crystals import crystal
from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.errors import InputError, UsageError
from gandb.generators.base_sites import (
    Combinations,
    Maker,
    Rules,
    on_grid,
    read_space_groups,
    select,
)
from gandb.generators.structures import Request
from gandb.representations.asymmetric_unit import AsymmetricUnits
from gandb.representations.space_groups import space_group
from tests.cubic_crystals import cubic_ternaries, placed

CUBIC = (216, 221, 225)
RULES = Rules(3, CUBIC, True, "any", 0.01)


def test_crystals_come_back_as_their_base_sites() -> None:
    sites, rejected = select(cubic_ternaries(), RULES)
    assert not rejected
    assert np.bincount(sites.groups).tolist() == [64, 75, 64]
    assert (np.diff(sites.atomic_numbers, axis=1) > 0).all()
    for row in range(0, len(sites), 10):
        group = space_group(CUBIC[sites.groups[row]])
        units = AsymmetricUnits.of_sites(
            [group.number], sites.lengths[row], np.full(3, 90.0),
            [sites.atomic_numbers[row].tolist()], [sites.frac_coords[row]],
        )  # fmt: skip
        letters = [group.positions[p].letter for p in sites.positions[row]]
        assert units.wyckoff_letters() == (tuple(letters),)


def test_what_is_left_out_is_counted_by_reason() -> None:
    eighth = placed(227, 8.0, {"Mg": (0, 0, 0), "Al": (0.625,) * 3, "O": (0.386,) * 3})
    split = placed(225, 8.0, {"K": (0.25,) * 3, "Pt": (0, 0, 0), "Cl": (0.24, 0, 0)})
    mixed = crystal([4.0] * 3, [90] * 3, ["Fe:0.5 Ni:0.5"], [[0, 0, 0]])
    salt = placed(225, 5.6, {"Na": (0, 0, 0), "Cl": (0.5,) * 3})
    lanthanide = placed(221, 4.0, {"La": (0, 0, 0), "Al": (0.5,) * 3, "O": (0.5, 0.5, 0)})
    given = (eighth, split, mixed, salt, lanthanide)
    rules = Rules(3, (221, 225), False, "not_all_quarters", 0.01)
    sites, rejected = select(given, rules)
    assert len(sites) == 1
    assert rejected == {
        "disordered": 1, "other_number_of_elements": 1, "other_space_group": 1, "f_block": 1,
    }  # fmt: skip
    rules = Rules(3, (221, 225, 227), True, "no_odd_eighths", 0.01)
    assert select(given, rules)[1]["coordinates_no_odd_eighths"] == 1
    with pytest.raises(InputError, match="none of the 1 training crystals"):
        select((salt,), rules)


def test_crystals_that_are_others_on_the_grid_are_left_out() -> None:
    crystals = [
        placed(225, 8.0, {"K": (0.25,) * 3, "Pt": (0, 0, 0), "Cl": (0.24, 0, 0)}),
        placed(225, 8.0, {"Rb": (0.25,) * 3, "Pt": (0, 0, 0), "H": (0.09, 0, 0)}),
        placed(216, 8.0, {"Rb": (0, 0, 0), "Sn": (0.5,) * 3, "C": (0.22,) * 3}),
    ]
    sites, _ = select(crystals, RULES)
    found, others = on_grid(sites, CUBIC, 4)
    assert others == 2  # hydrogen upon platinum, and carbon on a position with more symmetry
    assert np.allclose(found.frac_coords * 4, np.rint(found.frac_coords * 4))


@cache
def combinations() -> Combinations:
    sites, _ = select(cubic_ternaries(), RULES)
    return Combinations.of(sites.groups, sites.atomic_numbers)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.0, 1.0), st.sets(st.integers(0, 2)))
def test_combinations_are_of_different_elements_in_order(
    seed: int, exchanged: float, groups: set[int]
) -> None:
    own = combinations()
    drawn, elements = own.draw(200, np.random.default_rng(seed), exchanged, tuple(groups))
    assert (np.diff(elements, axis=1) > 0).all()
    if groups:
        assert set(drawn.tolist()) <= groups
    assert set(elements.ravel().tolist()) <= set(own.elements.ravel().tolist())


def test_elements_are_exchanged_for_those_with_like_company() -> None:
    own = combinations()
    known = {(g, *row) for g, row in zip(own.groups.tolist(), own.elements.tolist(), strict=True)}
    rng = np.random.default_rng(0)
    groups, elements = own.draw(2000, rng, 0.0)
    drawn = [(g, *row) for g, row in zip(groups.tolist(), elements.tolist(), strict=True)]
    assert set(drawn) <= known
    potassium, rubidium, oxygen = (ATOMIC_NUMBERS[s] for s in ("K", "Rb", "O"))
    chance = np.diff(own.exchange[potassium], prepend=0.0)
    assert chance[rubidium] > 0.1
    assert chance[potassium] == 0.0
    assert chance[oxygen] == 0.0  # of these two, one alone stands beside titanium and a halogen
    new = own.draw(2000, rng, 0.5)[1]
    assert len({tuple(row) for row in new.tolist()}) > len({row[1:] for row in known})


def maker(**options: object) -> Maker:
    return Maker("pgcgm", CUBIC, combinations(), 0.5, None, 400, 64)


def heusler(
    groups: np.ndarray, elements: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Answer with fixed sites in random order."""
    coords = np.array([(0, 0, 0), (0.5,) * 3, (0.25,) * 3])
    order = np.array([rng.permutation(3) for _ in groups])
    return np.full((len(groups), 3), 6.0), coords[order]


def test_a_composition_is_drawn_until_it_comes() -> None:
    request = Request((13, 28, 39), (1, 2, 1), (225,))
    samples = maker().make(100, np.random.SeedSequence(1), request, heusler)
    assert set(samples.space_groups.tolist()) == {225}
    made = [own for own in samples.crystals if own is not None]
    assert len(made) > 95  # each time the chance is a third
    for own in made:
        assert own.counts() == {"Al": 4, "Ni": 8, "Y": 4}
    assert samples.rejected() == (
        {"another_composition": 100 - len(made)} if len(made) < 100 else {}
    )
    assert set(samples.formulas) == {"YAlNi2"}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(elements=(3, 8)), "3 elements, not of 2"),
        (Request(elements=(2, 3, 8)), "no radius of He"),
        (Request(space_groups=(62,)), "not \\[62\\]"),
        (Request((3, 8, 9), (1, 5, 7), ()), "no multiplicities"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(request_: Request, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        maker().make(1, np.random.SeedSequence(0), request_, heusler)


@pytest.mark.parametrize("listed", [[], [225, 225], [2], ["225"], [True]])
def test_space_groups_of_a_model_are_checked(listed: list[object]) -> None:
    with pytest.raises(UsageError, match="space_groups"):
        read_space_groups(listed, range(195, 231), "cubicgan")
