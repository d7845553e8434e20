"""What sits on a site: its text, against pymatgen's, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Composition, Element, Species

from gandb.core.elements import SYMBOLS
from gandb.core.species import Occupant, SpeciesError, parse_species, species_text
from tests.crystals import ISOTOPES, MIXED, numbers

STATES = st.one_of(
    st.none(),
    st.integers(-8, 8).map(float),
    numbers(-8, 8, 1),
    numbers(-8, 8, 4),
    numbers(-8, 8, 8),
)
SHARES = st.one_of(st.just(1.0), numbers(0.01, 1, 2), numbers(0.00000001, 1, 8))


def occupants() -> st.SearchStrategy[Occupant]:
    return st.builds(Occupant, st.sampled_from([*SYMBOLS[1:], *ISOTOPES]), SHARES, STATES)


@given(st.sampled_from(SYMBOLS[1:]), STATES)
def test_a_full_site_is_written_as_pymatgen_writes_it(symbol: str, state: float | None) -> None:
    ours = species_text([Occupant(symbol, 1.0, state)])
    if state is None:
        assert ours == str(Element(symbol))
        return
    if state.is_integer():  # of others, pymatgen writes two digits
        assert ours == str(Species(symbol, state))
    [read] = parse_species(ours)
    assert (read.symbol, read.occupancy, read.oxidation_state) == (symbol, 1.0, state)


@given(st.sampled_from(SYMBOLS[1:]), numbers(-8, 8, 2))
def test_what_pymatgen_writes_is_read(symbol: str, state: float) -> None:
    written = str(Species(symbol, state))
    assert parse_species(written) == (Occupant(symbol, 1.0, state + 0.0),)
    assert Species.from_str(species_text(parse_species(written))) == Species(symbol, state)


@pytest.mark.parametrize("symbol", SYMBOLS[1:])
def test_every_element_is_one_here_and_there(symbol: str) -> None:
    assert parse_species(symbol) == (Occupant(symbol),)
    assert Element(symbol).symbol == symbol


@given(st.lists(occupants(), min_size=1, max_size=5), st.randoms())
def test_the_text_is_canonical(site: list[Occupant], random: Any) -> None:
    text = species_text(site)
    assert species_text(parse_species(text)) == text
    shuffled = list(site)
    random.shuffle(shuffled)
    other = species_text(shuffled)
    if other != text:  # sums of floats may differ in the ninth digit
        for one, two in zip(parse_species(text), parse_species(other), strict=True):
            assert (one.symbol, one.oxidation_state) == (two.symbol, two.oxidation_state)
            assert one.occupancy == pytest.approx(two.occupancy, abs=2e-8)


@given(st.lists(occupants(), min_size=1, max_size=5))
def test_equal_species_are_added_up_and_the_rest_kept_apart(site: list[Occupant]) -> None:
    expected: dict[tuple[str, float | None], float] = {}
    for occupant in site:
        key = (occupant.symbol, occupant.oxidation_state)
        expected[key] = expected.get(key, 0.0) + occupant.occupancy
    read = parse_species(species_text(site))
    found = {(o.symbol, o.oxidation_state): o.occupancy for o in read}
    assert len(found) == len(read)
    assert found == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("text", MIXED)
def test_mixed_sites_are_the_composition_that_pymatgen_has(text: str) -> None:
    theirs = Composition({str(o): o.occupancy for o in parse_species(text)})
    assert {str(o): o.occupancy for o in parse_species(text)} == {
        str(species): amount for species, amount in theirs.items()
    }
    assert theirs.num_atoms == pytest.approx(sum(o.occupancy for o in parse_species(text)))


def test_order_is_by_atomic_number_isotope_and_oxidation_state() -> None:
    given_ = "Ni2+:0.1 Fe3+:0.1 Fe:0.1 Fe2+:0.1 D:0.1 H:0.1 Fe2-:0.1"
    assert species_text(parse_species(given_)) == (
        "D:0.1 H:0.1 Fe:0.1 Fe2-:0.1 Fe2+:0.1 Fe3+:0.1 Ni2+:0.1"
    )
    assert [o.element for o in parse_species("D:0.5 T:0.5")] == ["H", "H"]


@pytest.mark.parametrize(
    ("given_", "canonical"),
    [
        ("Fe:1", "Fe"),
        ("Fe:1.0", "Fe"),
        ("Fe:0.5 Fe:0.5", "Fe"),
        ("Fe3+:0.50", "Fe3+:0.5"),
        ("Fe1+", "Fe+"),
        ("O1-", "O-"),
        ("Ti0-", "Ti0+"),
        ("Fe2.50+", "Fe2.5+"),
        ("Fe:0.5,Ni:0.5", "Fe:0.5 Ni:0.5"),
        ("  Ni:0.5   Fe:0.5 ", "Fe:0.5 Ni:0.5"),
        ("Fe:0.000000011", "Fe:0.00000001"),
        ("Fe:0.5 Ni:0", "Fe:0.5"),
        ("Fe0.00001+", "Fe0.00001+"),
    ],
)
def test_other_ways_to_write_it(given_: str, canonical: str) -> None:
    assert species_text(parse_species(given_)) == canonical


def test_numbers_of_numpy_are_numbers() -> None:
    occupant = Occupant("Fe", np.float32(0.5), np.int64(3))  # type: ignore[arg-type]
    assert species_text([occupant]) == "Fe3+:0.5"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no species is named"),
        (" , ", "no species is named"),
        ("Xx", "no element 'Xx'"),
        ("fe", "not an element"),
        ("Fe+3", "not an element"),
        ("Fe3", "not an element"),
        ("Fe1e1+", "not an element"),
        ("26", "not an element"),
        ("Fe:half", "occupancy 'half' is not a number"),
        ("Fe:", "occupancy '' is not a number"),
        ("Fe:-0.5", "occupancy -0.5 of Fe is impossible"),
        ("Fe:nan", "occupancy nan of Fe is impossible"),
        ("Fe:inf", "occupancy inf of Fe is impossible"),
        ("Fe21+", "oxidation state 21 of Fe is impossible"),
        ("Fe" * 2_000, "4,000 characters are too many"),
    ],
)
def test_texts_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(SpeciesError, match=reason):
        parse_species(text)


@pytest.mark.parametrize(
    ("site", "reason"),
    [
        ([], "every occupancy is 0"),
        ([Occupant("Fe", 0.0)], "every occupancy is 0"),
        ([Occupant("Fe", 1e-9)], "every occupancy is 0"),
        ([Occupant("Fe", -0.1)], "is impossible"),
        ([Occupant("Fe", math.nan)], "is impossible"),
        ([Occupant("Fe", 1.0, math.nan)], "is impossible"),
        ([Occupant("Fe", 1.0, -math.inf)], "is impossible"),
        ([Occupant("X")], "no element 'X'"),
        ([Occupant("Fe", "0.5")], "occupancy '0.5' is not a number"),
        ([Occupant("Fe", None)], "occupancy None is not a number"),
        ([Occupant("Fe", 1.0, "3")], "oxidation state '3' is not a number"),
    ],
)
def test_sites_that_are_refused(site: list[Occupant], reason: str) -> None:
    with pytest.raises(SpeciesError, match=reason):
        species_text(site)


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        site = parse_species(text)
        canonical = species_text(site)
    except SpeciesError:
        return
    assert species_text(parse_species(canonical)) == canonical
