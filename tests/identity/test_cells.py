"""Reduced cells as bytes and side by side: exact, and damaged ones refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandb.core.errors import InputError
from gandb.core.species import parse_species
from gandb.identity.cells import Cells, Reduced, kind_text
from gandb.identity.matching import fit_pairs, measure_pairs
from gandb.identity.recipes import MatchRecipe
from gandb.identity.reduction import reduce_crystal
from tests.crowds import BASES
from tests.crystals import species
from tests.variants import noisy

NUMBERS = st.floats(allow_nan=False, width=64)


@st.composite
def cells(draw: st.DrawFn) -> Reduced:
    n = draw(st.integers(0, 6))
    numbers = draw(st.lists(NUMBERS, min_size=9 + 3 * n, max_size=9 + 3 * n))
    return Reduced(
        np.array(numbers[:9]).reshape(3, 3),
        np.array(numbers[9:]).reshape(-1, 3),
        tuple(draw(st.lists(species(disordered=True), min_size=n, max_size=n))),
    )


def assert_equal(one: Reduced, other: Reduced) -> None:
    """Compare bit by bit."""
    assert one.species == other.species
    assert one.lattice.tobytes() == other.lattice.tobytes()
    assert one.frac_coords.tobytes() == other.frac_coords.tobytes()
    assert other.lattice.shape == (3, 3)
    assert other.frac_coords.shape == (len(one), 3)


@given(cells())
def test_bytes_hold_a_cell_exactly(cell: Reduced) -> None:
    data = cell.to_bytes()
    assert_equal(cell, Reduced.from_bytes(data))
    assert Reduced.from_bytes(data).to_bytes() == data
    back = Reduced.from_bytes(data)
    back.lattice[0, 0] = 1.0  # what was read can be worked with


@given(cells(), st.data())
def test_what_is_cut_or_longer_is_refused(cell: Reduced, data: st.DataObject) -> None:
    written = cell.to_bytes()
    cut = written[: data.draw(st.integers(0, len(written) - 1))]
    longer = written + data.draw(st.binary(min_size=1, max_size=20))
    for damaged in (cut, longer):
        with pytest.raises(InputError):
            Reduced.from_bytes(damaged)
        with pytest.raises(InputError):
            Cells.from_bytes([written, damaged])


@given(st.one_of(st.binary(max_size=300), cells().map(Reduced.to_bytes)), st.data())
def test_any_bytes_are_read_or_refused(given_bytes: bytes, data: st.DataObject) -> None:
    """No bytes end in anything else than a cell or a refusal."""
    damaged = bytearray(given_bytes)
    for _ in range(data.draw(st.integers(0, 3)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        cell = Reduced.from_bytes(bytes(damaged))
    except InputError:
        return
    assert cell.frac_coords.shape == (len(cell.species), 3)


def test_another_layout_is_named() -> None:
    data = bytearray(reduce_crystal(BASES[0].crystal()).to_bytes())
    data[0] = 2
    with pytest.raises(InputError, match="layout 2; this version reads 1"):
        Reduced.from_bytes(bytes(data))


@given(st.lists(cells(), max_size=5), st.sampled_from(["species", "element"]))
def test_cells_side_by_side_are_what_they_were(given_cells: list[Reduced], comparator: str) -> None:
    packed = Cells.of(given_cells, comparator)  # type: ignore[arg-type]
    same = Cells.from_bytes([c.to_bytes() for c in given_cells], comparator)  # type: ignore[arg-type]
    assert packed.texts == same.texts == tuple(sorted(set(packed.texts)))
    assert len(packed) == len(given_cells)
    for name in ("lattices", "frac_coords", "kinds", "starts"):
        assert getattr(packed, name).tobytes() == getattr(same, name).tobytes()
    for i, cell in enumerate(given_cells):
        sites = slice(packed.starts[i], packed.starts[i + 1])
        assert packed.lattices[i].tobytes() == cell.lattice.tobytes()
        assert packed.frac_coords[sites].tobytes() == cell.frac_coords.tobytes()
        stated = [packed.texts[kind] for kind in packed.kinds[sites]]
        assert stated == [kind_text(text, comparator) for text in cell.species]  # type: ignore[arg-type]


@given(species(disordered=True), species(disordered=True))
def test_kinds_are_equal_where_the_comparator_says_so(one: str, other: str) -> None:
    assert (kind_text(one, "species") == kind_text(other, "species")) == (one == other)

    def elements(text: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for occupant in parse_species(text):
            found[occupant.symbol] = found.get(occupant.symbol, 0.0) + occupant.occupancy
        return {symbol: round(amount, 8) for symbol, amount in found.items()}

    same = kind_text(one, "element") == kind_text(other, "element")
    assert same == (elements(one) == elements(other))


@given(st.integers(0, 5), st.randoms(use_true_random=False))
def test_a_pair_does_not_hang_on_what_lies_beside_it(seed: int, random: object) -> None:
    """Verdicts and distances are the same to the last bit, whatever else is packed."""
    rng = np.random.default_rng(seed)
    names = np.array([4, 5, 8, 14])[rng.permutation(4)]
    pair = [BASES[names[0]], noisy(BASES[names[0]], rng, 0.05)]
    others = [BASES[i] for i in rng.permutation(15)[: rng.integers(0, 6)]]
    reduced = [reduce_crystal(cell.crystal()) for cell in (*pair, *others)]
    recipe = MatchRecipe()
    alone = Cells.of(reduced[:2])
    order = rng.permutation(len(reduced))
    crowd = Cells.of([reduced[i] for i in order])
    one, other = (int(np.flatnonzero(order == i)[0]) for i in (0, 1))
    here, there = np.array([[0, 1], [1, 0]]), np.array([[one, other], [other, one]])
    assert np.array_equal(fit_pairs(alone, here, recipe), fit_pairs(crowd, there, recipe))
    for left, right in zip(
        measure_pairs(alone, here, recipe), measure_pairs(crowd, there, recipe), strict=True
    ):
        assert left.tobytes() == right.tobytes()
