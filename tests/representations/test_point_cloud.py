"""Point clouds: exact there and back, and augmentations that keep the crystal what it is."""

from __future__ import annotations

import warnings
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.core.crystals import Crystal, crystal
from gandb.core.errors import InputError, UsageError
from gandb.identity.cells import Cells
from gandb.identity.matching import fit_pairs
from gandb.identity.recipes import MatchRecipe
from gandb.identity.reduction import reduce_crystal
from gandb.representations.point_cloud import (
    MG_MN_O,
    REJECTIONS,
    PointCloudForm,
    PointClouds,
    encode,
    permute_axes,
    permute_within_elements,
    supercells,
    translate,
)
from gandb.representations.pymatgen_structures import to_structure
from gandb.validation.symmetry import find_symmetry
from tests.real_crystals import real_crystals
from tests.shared_data import real

CUBIC = (90.0, 90.0, 90.0)


def by_system() -> dict[tuple[str, ...], list[Crystal]]:
    found: dict[tuple[str, ...], list[Crystal]] = {}
    for record in (c for c in real_crystals() if c.ordered):
        found.setdefault(tuple(sorted(record.amounts)), []).append(record)
    return found


def plain(record: Crystal) -> Crystal:
    """The record without site properties, oxidation states and charge."""
    names = [occupants[0].element for occupants in record.occupants]
    return crystal(record.lengths, record.angles, names, record.frac_coords)


def matches(pairs: list[tuple[Crystal, Crystal]]) -> np.ndarray:
    cells = Cells.of([reduce_crystal(c) for pair in pairs for c in pair])
    return fit_pairs(cells, np.arange(2 * len(pairs)).reshape(-1, 2), MatchRecipe())


def oxide(seed: int = 0, mg: int = 2, mn: int = 3, o: int = 5) -> Crystal:
    rng = np.random.default_rng(seed)
    names = ["Mg"] * mg + ["Mn"] * mn + ["O"] * o
    return crystal((5.1, 6.2, 7.3), (80, 95, 103), names, rng.random((len(names), 3)))


def quartz() -> Crystal:
    """Left quartz, P3_121; its mirror image has P3_221."""
    x, y, z = 0.413, 0.266, 0.786
    u = 0.469
    silicon = [(u, 0, 1 / 3), (0, u, 2 / 3), (-u, -u, 0)]
    oxygen = [
        (x, y, z - 2 / 3), (-y, x - y, z - 1 / 3), (-x + y, -x, z),
        (y, x, -z + 2 / 3), (x - y, -y, -z + 1 / 3), (-x, -x + y, -z + 1),
    ]  # fmt: skip
    return crystal((4.914, 4.914, 5.405), (90, 90, 120), ["Si"] * 3 + ["O"] * 6, silicon + oxygen)


# --- there and back ----------------------------------------------------------------------


@real
def test_real_structures_come_back_with_the_same_id() -> None:
    systems = by_system()
    assert len(systems) > 150
    for records in systems.values():
        bare = [plain(record) for record in records]
        form = PointCloudForm.for_crystals(bare, max_length=200.0)
        encoded = encode(bare, form)
        assert encoded.rejected() == {}
        matrices = encoded.clouds.matrices()
        assert matrices.shape == (len(bare), *form.shape)
        found, codes = PointClouds.of_matrices(form, matrices).crystals()
        assert not codes.any()
        assert [c.id for c in found if c is not None] == [c.id for c in bare]
        assert matrices.min() >= 0
        assert matrices.max() <= 1


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 8), st.integers(1, 12))
def test_any_cell_comes_back_with_the_same_id(seed: int, mg: int, mn: int, o: int) -> None:
    try:
        record = oxide(seed, mg, mn, o)
    except InputError:  # two atoms at one place
        return
    encoded = encode([record], MG_MN_O)
    assert PointClouds.of_matrices(MG_MN_O, encoded.clouds.matrices()).crystals()[0] == [record]
    # In single precision, within what that holds.
    single = encoded.clouds.matrices(np.float32)
    found = PointClouds.of_matrices(MG_MN_O, single)
    assert (found.present == encoded.clouds.present).all()
    assert np.abs(found.lengths - encoded.clouds.lengths).max() < 5e-6


def test_the_layout_is_that_of_the_paper() -> None:
    record = crystal((6, 7.5, 9), (90, 100, 110), ["Mg", "Mn", "O"], np.eye(3) * 0.5)
    matrix = encode([record], MG_MN_O).clouds.matrices()[0]
    assert matrix.shape == (30, 3)
    assert matrix[0] == pytest.approx([0.2, 0.25, 0.3])
    assert matrix[1] == pytest.approx([90 / 180, 100 / 180, 110 / 180])
    assert matrix[2] == pytest.approx([0.5, 1 / 6, 1 / 6])
    assert not matrix[3:10].any()
    assert matrix[10] == pytest.approx([1 / 6, 0.5, 1 / 6])
    assert matrix[18] == pytest.approx([1 / 6, 1 / 6, 0.5])
    assert not matrix[19:].any()


def test_what_a_form_cannot_hold_is_counted_by_reason() -> None:
    good = oxide()
    cases = {
        "disordered": crystal((5, 5, 5), CUBIC, ["Mg:0.5", "Mn", "O"], np.eye(3) / 3),
        "not_plain_elements": crystal((5, 5, 5), CUBIC, ["Mg2+", "Mn", "O"], np.eye(3) / 3),
        "element_outside_system": crystal((5, 5, 5), CUBIC, ["Fe", "Mn", "O"], np.eye(3) / 3),
        "element_missing": crystal((5, 5, 5), CUBIC, ["Mg", "O"], np.eye(3)[:2] / 3),
        "too_many_of_element": oxide(1, 9, 1, 1),
        "length_above_maximum": crystal((31, 5, 5), CUBIC, ["Mg", "Mn", "O"], np.eye(3) / 3),
    }
    encoded = encode([good, *cases.values()], MG_MN_O)
    assert encoded.rows.tolist() == [0]
    assert [REJECTIONS[code] for code in encoded.rejections] == ["accepted", *cases]
    assert encoded.rejected() == dict.fromkeys(cases, 1)
    assert len(encode([], MG_MN_O).clouds) == 0


def test_matrices_without_a_crystal_are_counted_by_reason() -> None:
    good = encode([oxide()], MG_MN_O).clouds.matrices()[0]
    empty, without, broken, overlapping = (good.copy() for _ in range(4))
    empty[2:] = 0
    without[2:10] = 0
    broken[0, 0] = np.nan
    overlapping[3] = overlapping[2]
    clouds = PointClouds.of_matrices(MG_MN_O, np.stack([good, empty, without, broken, overlapping]))
    for value in (np.nan, np.inf, -np.inf):  # an atom that is lost is no empty slot
        lost = good.copy()
        lost[2] = value
        codes = PointClouds.of_matrices(MG_MN_O, lost[None]).crystals()[1]
        assert REJECTIONS[codes[0]] == "not_finite"
    found, codes = clouds.crystals()
    assert [REJECTIONS[code] for code in codes] == [
        "accepted", "no_atoms", "element_missing", "not_finite", "no_crystal",
    ]  # fmt: skip
    assert [c is None for c in found] == [False, True, True, True, True]
    assert clouds.counts()[0].tolist() == [2, 3, 5]
    loose = PointCloudForm(("Mg", "Mn", "O"), (8, 8, 12))
    codes = PointClouds.of_matrices(loose, clouds.matrices()).crystals()[1]
    assert REJECTIONS[codes[2]] == "accepted"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(), min_size=12, max_size=12))
def test_nothing_that_a_network_writes_breaks_it(values: list[float]) -> None:
    form = PointCloudForm(("Mg", "O"), (1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clouds = PointClouds.of_matrices(form, np.array(values).reshape(1, 4, 3))
        crystals, codes = clouds.crystals()
    assert (crystals[0] is None) == bool(codes[0])


def test_a_mask_may_say_which_slots_hold_atoms() -> None:
    clouds = encode([oxide()], MG_MN_O).clouds
    noisy = clouds.matrices()
    noisy[:, 2:][~clouds.present] = 0.3
    assert PointClouds.of_matrices(MG_MN_O, noisy).present.all()
    found = PointClouds.of_matrices(MG_MN_O, noisy, clouds.present)
    assert found.crystals()[0] == [oxide()]


def test_forms_and_shapes_are_checked() -> None:
    for wrong, reason in (
        (lambda: PointCloudForm(("Xx",), (1,)), "no element"),
        (lambda: PointCloudForm(("O", "O"), (1, 1)), "each once"),
        (lambda: PointCloudForm(("O",), (0,)), "slots"),
        (lambda: PointCloudForm(("O",), (99_999,)), "at most"),
        (lambda: PointCloudForm(("O",), (1,), max_length=0), "above 0"),
        (lambda: PointCloudForm.for_crystals([]), "one or more"),
    ):
        with pytest.raises((UsageError, ValueError), match=reason):
            wrong()
    with pytest.raises(InputError, match="expected"):
        PointClouds.of_matrices(MG_MN_O, np.zeros((1, 29, 3)))
    clouds = encode([oxide()], MG_MN_O).clouds
    with pytest.raises(InputError, match="present of 1 clouds"):
        PointClouds(MG_MN_O, clouds.lengths, clouds.angles, clouds.frac_coords, np.ones((2, 28)))
    for broken in (
        lambda: permute_axes(clouds, np.array([[0, 1, 1]])),
        lambda: translate(clouds, np.zeros((2, 3))),
    ):
        with pytest.raises(InputError):
            broken()
    with pytest.raises(UsageError, match="axis 3"):
        supercells(clouds, 3)
    assert MG_MN_O.parameters()["slots"] == [8, 8, 12]


# --- augmentations -----------------------------------------------------------------------


def changed(clouds: PointClouds, rng: np.random.Generator) -> dict[str, PointClouds]:
    n = len(clouds)
    axes = np.array([rng.permutation(3) for _ in range(n)])
    found = {
        "axes": permute_axes(clouds, axes),
        "origin": translate(clouds, rng.uniform(-2, 2, (n, 3))),
        "order": permute_within_elements(clouds, rng),
    }
    found["all"] = permute_within_elements(
        translate(permute_axes(clouds, axes), rng.random((n, 3))), rng
    )
    return found


@real
def test_augmentations_keep_real_crystals() -> None:
    rng = np.random.default_rng(1)
    for records in list(by_system().values())[::4]:
        bare = [plain(record) for record in records if len(record) <= 30]
        if not bare:
            continue
        clouds = encode(bare, PointCloudForm.for_crystals(bare, max_length=200.0)).clouds
        for name, other in changed(clouds, rng).items():
            found, codes = other.crystals()
            assert not codes.any()
            assert matches([(a, b) for a, b in zip(bare, found, strict=True) if b]).all(), name


def test_every_order_of_axes_keeps_the_hand_of_quartz() -> None:
    pytest.importorskip("moyopy")
    assert find_symmetry(quartz()).space_group_number in (152, 154)
    number = find_symmetry(quartz()).space_group_number
    clouds = encode([quartz()], PointCloudForm(("Si", "O"), (3, 6))).clouds
    for axes in permutations(range(3)):
        found = permute_axes(clouds, np.array([axes])).crystals()[0][0]
        assert found is not None
        assert find_symmetry(found).space_group_number == number
        assert matches([(quartz(), found)])[0]


def test_augmentations_move_what_they_say() -> None:
    rng = np.random.default_rng(2)
    clouds = encode([oxide(k) for k in range(20)], MG_MN_O).clouds
    for name, other in changed(clouds, rng).items():
        assert np.abs(other.matrices() - clouds.matrices()).max() > 0.01, name
        assert (other.counts() == clouds.counts()).all()
        assert not other.frac_coords[~other.present].any()
        assert other.frac_coords.min() >= 0
        assert other.frac_coords.max() < 1
    shuffled = permute_within_elements(clouds, rng)
    assert [c.id for c in shuffled.crystals()[0] if c] == [oxide(k).id for k in range(20)]
    assert (shuffled.present[:, :8] != clouds.present[:, :8]).any()
    back = permute_axes(
        permute_axes(clouds, np.tile([2, 0, 1], (20, 1))), np.tile([1, 2, 0], (20, 1))
    )
    assert back.matrices() == pytest.approx(clouds.matrices())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_supercells_are_those_of_pymatgen(axis: int) -> None:
    pytest.importorskip("pymatgen")
    rng = np.random.default_rng(3)
    crystals = [
        oxide(k, mg, mn, o) for k, (mg, mn, o) in enumerate([(4, 4, 6), (1, 2, 3), (5, 1, 1)])
    ]
    clouds = permute_within_elements(encode(crystals, MG_MN_O).clouds, rng)
    larger = supercells(clouds, axis)
    assert larger.rejected() == {"too_many_of_element": 1}
    found, _ = larger.clouds.crystals()
    scaling: Any = [1, 1, 1]
    scaling[axis] = 2
    for row, two in zip(larger.rows.tolist(), found, strict=True):
        assert two is not None
        theirs = to_structure(crystals[row]) * scaling
        ours = to_structure(two)
        assert np.allclose(ours.lattice.parameters, theirs.lattice.parameters)
        gaps = ours.lattice.get_all_distances(ours.frac_coords, theirs.frac_coords)
        alike = np.array([[a.specie == b.specie for b in theirs] for a in ours])
        assert (((gaps < 1e-6) & alike).sum(axis=1) == 1).all()
        assert matches([(crystals[row], two)])[0]


def test_supercells_that_become_too_long_are_rejected() -> None:
    record = crystal((16, 5, 5), CUBIC, ["Mg", "Mn", "O"], np.eye(3) / 3)
    clouds = encode([record], MG_MN_O).clouds
    assert supercells(clouds, 0).rejected() == {"length_above_maximum": 1}
    assert supercells(clouds, 1, 3).clouds.counts().tolist() == [[3, 3, 3]]
