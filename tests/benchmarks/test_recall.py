"""What counts as the same and as different by construction, in the table of recall."""

from __future__ import annotations

import numpy as np
import pytest

from gandb.validation.symmetry import find_symmetry
from tests.benchmarks.recall import APART, measure, table, told_apart
from tests.crowds import perovskite, rocksalt, rutile, zincblende
from tests.variants import (
    DIFFERENT,
    SAME,
    VARIANTS,
    VARIED,
    Cell,
    NotPossibleError,
    antisite,
    wyckoff_moved,
)

CRYSTALS = [
    rutile(4.6, 3.0, 0.305, "Ti", "O"),
    perovskite(3.9, "Sr", "Ti", "O"),
    zincblende(5.4, "Zn", "S"),
]


def test_kinds_are_known_and_apart() -> None:
    assert set(VARIANTS) >= SAME | VARIED | DIFFERENT
    assert len(SAME | VARIED | DIFFERENT) == len(SAME) + len(VARIED) + len(DIFFERENT)


@pytest.mark.parametrize("name", sorted(SAME))
def test_what_is_the_same_is_never_told_apart(name: str) -> None:
    for place, cell in enumerate(CRYSTALS):
        assert not told_apart(cell, VARIANTS[name](cell, np.random.default_rng(place)))


def test_sites_that_moved_a_little_are_not_told_apart() -> None:
    rng = np.random.default_rng(0)
    for cell in CRYSTALS:
        steps = rng.normal(size=(len(cell), 3))
        steps *= APART * rng.random((len(cell), 1)) / np.linalg.norm(steps, axis=1, keepdims=True)
        coords = cell.frac_coords + steps @ np.linalg.inv(cell.lattice)
        assert not told_apart(cell, Cell(cell.lattice, coords, cell.species))


def test_swaps_are_told_apart_unless_they_are_a_symmetry() -> None:
    rng = np.random.default_rng(1)
    salt = rocksalt(5.6, "Na", "Cl")
    assert not told_apart(salt, antisite(salt, rng))
    swapped = ("Ti", "Sr", *CRYSTALS[1].species[2:])
    other = Cell(CRYSTALS[1].lattice, CRYSTALS[1].frac_coords, swapped)
    assert told_apart(CRYSTALS[1], other)
    assert told_apart(other, CRYSTALS[1])


def test_wyckoff_parameters_change_and_the_symmetry_stays() -> None:
    rng = np.random.default_rng(2)
    moved = wyckoff_moved(CRYSTALS[0], rng, 0.2)
    assert find_symmetry(moved.crystal()).space_group_number == 136
    steps = moved.frac_coords - CRYSTALS[0].frac_coords
    steps = (steps - np.rint(steps)) @ CRYSTALS[0].lattice
    assert np.isclose(np.linalg.norm(steps, axis=1).max(), 0.2)
    with pytest.raises(NotPossibleError):
        wyckoff_moved(CRYSTALS[2], rng)


def test_the_table_counts_pairs() -> None:
    rows = measure([cell.crystal() for cell in CRYSTALS[:2]])
    found = {row.kind: row for row in rows}
    assert found["unimodular, moved"].pairs == found["unimodular, moved"].found == 2
    assert found["element"].found == 0
    assert all(row.agree <= row.pairs for row in rows)
    assert f"| all | {sum(row.pairs for row in rows):,} |" in table(rows)
