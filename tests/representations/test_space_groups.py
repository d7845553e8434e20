"""Space groups, against spglib, gemmi, the published counts, and an algorithm of their own."""

from __future__ import annotations

import csv
import sys
import warnings
from fractions import Fraction
from importlib import resources

import gemmi
import numpy as np
import pytest
import spglib

from gandb.core.crystals import lattice_matrix
from gandb.core.errors import InputError, MissingExtraError
from gandb.representations import space_groups
from gandb.representations.space_groups import (
    N_SPACE_GROUPS,
    SpaceGroup,
    cell_constraints,
    constrain_cells,
    operations,
    space_group,
)
from tests.tools import extract_wyckoff

pytest.importorskip("moyopy")
pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")

ALL = range(1, N_SPACE_GROUPS + 1)
GENERIC = np.array([0.1131, 0.2417, 0.3593])


def first_halls() -> dict[int, int]:
    """The first Hall number of each group, by spglib."""
    found: dict[int, int] = {}
    with warnings.catch_warnings():  # of a new way to report errors
        warnings.simplefilter("ignore", DeprecationWarning)
        for hall in range(1, 531):
            kind = spglib.get_spacegroup_type(hall)
            assert kind is not None
            found.setdefault(kind.number, hall)
    return found


HALLS = first_halls()


def as_set(rotations: np.ndarray, translations: np.ndarray) -> set[tuple[int, ...]]:
    steps = np.rint(np.asarray(translations) * 24).astype(int) % 24
    turns = np.asarray(rotations, int)
    return {(*r.ravel().tolist(), *t.tolist()) for r, t in zip(turns, steps, strict=True)}


def fixing(group: SpaceGroup, point: np.ndarray) -> int:
    moved = group.rotations @ point + group.translations - point
    return int((np.abs(moved - np.rint(moved)).max(axis=1) < 1e-9).sum())


def test_operations_are_those_of_spglib_and_of_gemmi() -> None:
    for number in ALL:
        group = space_group(number)
        ours = as_set(group.rotations, group.translations)
        assert len(ours) == len(group)
        stated = spglib.get_symmetry_from_database(HALLS[number])
        assert stated is not None
        assert ours == as_set(stated["rotations"], stated["translations"])
        kind = spglib.get_spacegroup_type(HALLS[number])
        assert kind is not None
        found = gemmi.symops_from_hall(kind.hall_symbol)
        turns = [np.array(op.rot) // gemmi.Op.DEN for op in found]
        assert ours == as_set(np.array(turns), np.array([op.tran for op in found]) / gemmi.Op.DEN)
        assert group.symbol == kind.international_short


def test_the_identity_is_first() -> None:
    for number in ALL:
        group = space_group(number)
        assert (group.rotations[0] == np.eye(3)).all()
        assert not group.translations[0].any()
        assert not (group.translations < 0).any()
        assert not (group.translations >= 1).any()


def test_there_are_1731_positions() -> None:
    assert sum(len(space_group(number).positions) for number in ALL) == 1731


def test_a_position_has_its_multiplicity_and_symmetry() -> None:
    for number in ALL:
        group = space_group(number)
        letters = "abcdefghijklmnopqrstuvwxyzA"
        assert "".join(p.letter for p in group.positions) == letters[: len(group.positions)]
        general = group.positions[-1]
        assert (general.multiplicity, general.n_free) == (len(group), 3)
        assert (general.projection == np.eye(3)).all()
        for position in group.positions:
            point = position.projection @ GENERIC + position.offset
            # A point of it stays, has as many images as it says, and their orbit is no other's.
            assert np.allclose(position.projection @ point + position.offset, point, atol=1e-12)
            assert fixing(group, point) * position.multiplicity == len(group)
            assert position.n_free == np.linalg.matrix_rank(position.projection)
            assert position.n_free == sum(name in position.coordinates for name in "xyz")


def test_a_projection_takes_the_shortest_way() -> None:
    """Whatever cell the group allows, the way to the position is at right angles to it."""
    for number in ALL:
        group = space_group(number)
        rng = np.random.default_rng(number)
        lengths, angles = constrain_cells(
            np.array([number]), rng.uniform(4, 9, (1, 3)), rng.uniform(75, 105, (1, 3))
        )
        cosines = np.cos(np.radians(angles[0]))
        metric = np.ones((3, 3))
        for (i, j), value in zip([(1, 2), (0, 2), (0, 1)], cosines, strict=True):
            metric[i, j] = metric[j, i] = value
        metric *= np.outer(lengths[0], lengths[0])
        for turn in group.rotations.astype(float):  # it is the group's cell, too
            assert np.allclose(turn.T @ metric @ turn, metric, atol=1e-9)
        for position in group.positions:
            across = np.eye(3) - position.projection
            assert np.allclose(across.T @ metric @ position.projection, 0, atol=1e-9)


@pytest.mark.parametrize("number", [*range(1, 90, 11), 125, 141, 166, 167, 180, 194, 199, 214, 220])
def test_no_two_positions_are_one_and_none_is_missing(number: int) -> None:
    """What the operations fix, alone and together, is each found among the positions once."""
    group = space_group(number)
    turns = group.rotations.astype(float)
    derived = list(extract_wyckoff.special(turns, group.translations))
    if not any(round(float(np.trace(p))) == 3 for p, _ in derived):
        derived.append((np.eye(3), np.zeros(3)))
    assert len(derived) == len(group.positions)
    for projection, offset in derived:
        point = projection @ GENERIC + offset
        images = turns @ point + group.translations
        stays = fixing(group, point)
        assert (
            sum(
                stays * p.multiplicity == len(group)
                and extract_wyckoff.lies_on(images, p.projection, p.offset)
                for p in group.positions
            )
            == 1
        )


@pytest.mark.parametrize("number", [2, 15, 62, 139, 167, 180, 194, 216])
def test_the_table_says_what_moyo_says(number: int) -> None:
    text = (resources.files("gandb.representations") / "wyckoff_positions.csv").read_text()
    stated = [row for row in csv.reader(text.splitlines()) if row[0] == str(number)]
    found = extract_wyckoff.table(range(number, number + 1)).splitlines()[1:]
    assert [",".join(row) for row in stated] == [",".join(row) for row in csv.reader(found)]


@pytest.mark.parametrize("number", [15, 64, 141, 166, 176, 194, 221, 225, 227])
def test_spglib_gives_sites_the_same_multiplicity_and_symmetry(number: int) -> None:
    """Letters may differ where the choice of origin is free, and only there."""
    group = space_group(number)
    lengths, angles = constrain_cells(
        np.array([number]), np.array([[11.0, 13.0, 17.0]]), np.array([[80.0, 97.0, 103.0]])
    )
    lattice = lattice_matrix(lengths[0], angles[0])
    for position in group.positions:
        sites, kinds = [], []
        points = [np.array([0.1234, 0.0871, 0.2139]), np.array([0.0517, 0.1911, 0.1173])]
        points.append(position.projection @ GENERIC + position.offset)
        for kind, point in enumerate(points, 1):
            images = np.mod(group.rotations @ point + group.translations, 1.0)
            steps = images[:, None] - images[None]
            first = (np.abs(steps - np.rint(steps)).max(axis=2) < 1e-6).argmax(axis=1)
            keep = first == np.arange(len(images))
            sites += images[keep].tolist()
            kinds += [kind] * int(keep.sum())
        found = spglib.get_symmetry_dataset((lattice, sites, kinds), symprec=1e-4)
        assert found is not None
        assert found.number == number
        symbols = {
            found.site_symmetry_symbols[i].replace(" ", "")
            for i in range(len(kinds))
            if kinds[i] == 3
        }
        same = {p.site_symmetry for p in group.positions if p.multiplicity == position.multiplicity}
        assert symbols <= same
        letters = {found.wyckoffs[i] for i in range(len(kinds)) if kinds[i] == 3}
        (letter,) = letters
        assert group.position(letter).multiplicity == kinds.count(3)
        assert {group.position(letter).site_symmetry} == symbols


def test_positions_of_rock_salt_diamond_and_corundum() -> None:
    """International Tables, Vol. A, of groups 225, 227 (origin choice 1) and 167."""
    listed = {p.letter: (p.multiplicity, p.site_symmetry) for p in space_group(225).positions}
    assert listed["a"] == (4, "m-3m")
    assert listed["c"] == (8, "-43m")
    assert listed["l"] == (192, "1")
    assert space_group(227).position("a").offset.tolist() == [0, 0, 0]
    assert space_group(227).position("c").multiplicity == 16
    corundum = space_group(167)
    assert [(p.multiplicity, p.coordinates) for p in corundum.positions] == [
        (6, "0,0,1/4"), (6, "0,0,0"), (12, "0,0,z"), (18, "1/2,0,0"), (18, "x,0,1/4"),
        (36, "x,y,z"),
    ]  # fmt: skip
    with pytest.raises(InputError, match="no Wyckoff position 'z'"):
        corundum.position("z")


def test_a_double_coordinate_is_read() -> None:
    position = space_group(194).position("h")
    assert position.coordinates in ("x,2x,1/4", "x,2x,3/4")
    point = position.projection @ GENERIC + position.offset
    assert point[1] == pytest.approx(2 * point[0])
    assert Fraction(point[2]).limit_denominator(24) in (Fraction(1, 4), Fraction(3, 4))


def test_one_table_holds_all_operations() -> None:
    table = operations()
    assert len(table.offsets) == N_SPACE_GROUPS + 2
    for number in ALL:
        rows = slice(table.offsets[number], table.offsets[number + 1])
        assert (table.rotations[rows] == space_group(number).rotations).all()
        assert (table.translations[rows] == space_group(number).translations).all()


def test_cells_become_what_a_group_asks_for() -> None:
    groups = np.array([1, 14, 62, 139, 166, 194, 225])
    lengths, angles = constrain_cells(
        groups, np.tile([4.0, 6.0, 8.0], (7, 1)), np.tile([70.0, 80.0, 100.0], (7, 1))
    )
    assert lengths.tolist()[:3] == [[4, 6, 8]] * 3
    assert lengths[3:6].tolist() == [[5, 5, 8]] * 3
    assert lengths[6] == pytest.approx([6, 6, 6], abs=1e-12)
    assert angles.tolist() == [
        [70, 80, 100], [90, 80, 90], [90] * 3, [90] * 3, [90, 90, 120], [90, 90, 120], [90] * 3
    ]  # fmt: skip
    again = constrain_cells(groups, lengths, angles)
    assert (again[0] == lengths).all()
    assert (again[1] == angles).all()


def test_affine_matrices_form_the_group() -> None:
    group = space_group(194)
    matrices = group.affine()
    products = np.einsum("aij,bjk->abik", matrices, matrices).reshape(-1, 4, 4)
    assert (products[:, 3] == [0, 0, 0, 1]).all()
    assert as_set(products[:, :3, :3], products[:, :3, 3]) == as_set(
        group.rotations, group.translations
    )
    padded = group.affine(192)
    assert padded.shape == (192, 4, 4)
    assert (padded[: len(group)] == matrices).all()
    assert not padded[len(group) :].any()
    with pytest.raises(InputError, match="192 operations"):
        space_group(225).affine(48)


@pytest.mark.parametrize("number", [0, 231, -1])
def test_other_numbers_are_refused(number: int) -> None:
    with pytest.raises(InputError, match="1 to 230"):
        cell_constraints(number)
    with pytest.raises(InputError, match="1 to 230"):
        constrain_cells(np.array([number]), np.ones((1, 3)), np.ones((1, 3)))


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    space_groups._operations.cache_clear()
    monkeypatch.setitem(sys.modules, "moyopy", None)
    with pytest.raises(MissingExtraError, match="structures"):
        space_groups._operations(225)
