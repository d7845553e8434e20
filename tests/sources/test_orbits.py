"""Orbits of atoms, against images worked out in fractions."""

from __future__ import annotations

from fractions import Fraction

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.core.crystals import CrystalError
from gandb.sources.orbits import expand, read_operations

GROUPS = list(gemmi.spacegroup_table())
CELLS = {
    "triclinic": (10, 11, 12, 81, 97, 104),
    "monoclinic": (10, 11, 12, 90, 90, 90),
    "orthorhombic": (10, 11, 12, 90, 90, 90),
    "tetragonal": (10, 10, 10, 90, 90, 90),  # whatever the unique axis
    "trigonal": (10, 10, 12, 90, 90, 120),
    "hexagonal": (10, 10, 12, 90, 90, 120),
    "cubic": (10, 10, 10, 90, 90, 90),
}
special = st.sampled_from(
    [Fraction(n, d) for d in (1, 2, 3, 4, 6, 8, 12) for n in range(d)]
    + [Fraction(n, 1000) for n in (37, 137, 263, 411)]
)


def lattice_of(group: gemmi.SpaceGroup) -> np.ndarray:
    """A cell that a group has: R axes as a cube, which is a rhombohedron too."""
    cell = CELLS["cubic" if group.ext == "R" else group.crystal_system_str()]
    matrix: np.ndarray = np.array(gemmi.UnitCell(*cell).orth.mat.tolist()).T
    return matrix


def exact_orbit(group: gemmi.SpaceGroup, place: tuple[Fraction, ...]) -> set[tuple[Fraction, ...]]:
    return {
        tuple(
            (sum((n * x for n, x in zip(row, place, strict=True)), Fraction(shift)) / o.DEN) % 1
            for row, shift in zip(o.rot, o.tran, strict=True)
        )
        for o in group.operations()
    }


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(GROUPS), st.tuples(special, special, special), st.sampled_from([4, 5, 9]))
def test_places_given_with_few_digits_make_the_exact_orbit(
    group: gemmi.SpaceGroup, place: tuple[Fraction, ...], digits: int
) -> None:
    matrix = lattice_of(group)
    operations = read_operations(tuple(o.triplet() for o in group.operations()))
    assert len(operations) == len(group.operations())
    rounded = np.array([[round(float(x), digits) for x in place]])
    source, coords, by = expand(matrix, rounded, operations)
    expected = np.array(sorted(exact_orbit(group, place)), float)
    assert len(coords) == len(expected)
    assert set(source.tolist()) == {0}
    apart = coords[:, None] - expected[None]
    apart -= np.rint(apart)
    assert np.abs(apart).max(axis=2).min(axis=1).max() < 2 * 10.0**-digits
    for image, which in zip(coords, by.tolist(), strict=True):
        made = operations.rotations[which] @ rounded[0] + operations.translations[which] - image
        assert np.abs(made - np.rint(made)).max() < 2 * 10.0**-digits


def test_operations_are_read_once_for_all() -> None:
    group = gemmi.find_spacegroup_by_number(225)
    texts = tuple(o.triplet() for o in group.operations())
    assert read_operations(texts) is read_operations(texts)
    assert len(read_operations((*texts, *texts[:50]))) == 192
    assert len(read_operations(texts[1:])) == 192  # the identity may be left out
    with pytest.raises(CrystalError, match="no group"):
        read_operations(texts[:-1])
