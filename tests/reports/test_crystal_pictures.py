"""Pictures of crystals: what is shown against counting by hand, and that files are pictures."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("matplotlib")
pytest.importorskip("moyopy")

from matplotlib.image import imread

from gandb.core.crystals import CrystalError, crystal
from gandb.core.elements import SYMBOLS
from gandb.core.errors import UsageError
from gandb.reports.crystal_pictures import MOST, draw, grid, subscripts
from gandb.reports.crystal_scene import (
    BOND_REACH,
    CrystalPicture,
    Scene,
    conventional,
    enough_cells,
    scene,
    view,
    whole_cell,
)
from gandb.reports.element_colours import element_colour
from tests.crowds import caesium_chloride, fluorite, perovskite, rocksalt, zincblende
from tests.variants import Cell


def shown(made: Cell) -> Scene:
    standard = conventional(made.crystal())
    assert standard is not None
    return scene(standard)


def elements(found: Scene) -> list[str]:
    return [shares[0][0] for shares in found.atoms.shares]


def neighbours(found: Scene, atom: int) -> list[str]:
    pairs = [pair for pair in found.bonds.tolist() if atom in pair]
    return sorted(elements(found)[sum(pair) - atom] for pair in pairs)


def middle(found: Scene) -> int:
    """The atom in the middle of the cell."""
    return int((found.atoms.places**2).sum(axis=1).argmin())


@pytest.mark.parametrize(
    ("made", "counts"),
    [
        (rocksalt(5.64, "Na", "Cl"), {"Na": 14, "Cl": 13}),
        (caesium_chloride(4.12, "Cs", "Cl"), {"Cs": 8, "Cl": 1}),
        (perovskite(3.9, "Sr", "Ti", "O"), {"Sr": 8, "Ti": 1, "O": 6}),
        (zincblende(5.41, "Zn", "S"), {"Zn": 14, "S": 4}),
        (fluorite(5.46, "Ca", "F"), {"Ca": 14, "F": 8}),
    ],
)
def test_a_whole_cell_has_its_corners_edges_and_faces(made: Cell, counts: dict[str, int]) -> None:
    """Numbers of balls in a textbook's drawing; which kind is at the corner is the setting's."""
    found = elements(shown(made))
    seen = {name: found.count(name) for name in set(found)}
    assert sorted(seen.values()) == sorted(counts.values())
    assert seen.keys() == counts.keys()


def test_bonds_are_those_of_the_textbook() -> None:
    salt = shown(rocksalt(5.64, "Na", "Cl"))
    kind = elements(salt)[middle(salt)]
    assert neighbours(salt, middle(salt)) == 6 * ["Na" if kind == "Cl" else "Cl"]
    titanate = shown(perovskite(3.9, "Sr", "Ti", "O"))
    (titanium,) = (k for k, name in enumerate(elements(titanate)) if name == "Ti")
    assert neighbours(titanate, titanium) == 6 * ["O"]  # and no strontium: both are metals
    blende = shown(zincblende(5.41, "Zn", "S"))
    for atom, name in enumerate(elements(blende)):
        if name == "S":
            assert neighbours(blende, atom) in (4 * ["Zn"], ["Zn"], 2 * ["Zn"])


def test_metals_among_themselves_are_bonded() -> None:
    found = shown(caesium_chloride(2.95, "Cu", "Zn"))
    assert len(neighbours(found, middle(found))) == 8


@given(
    st.lists(
        st.tuples(*(st.sampled_from([0.0, 0.25, 0.4, 0.6]) for _ in range(3))),
        min_size=1, max_size=6, unique=True,
    )
)  # fmt: skip
def test_a_site_stands_at_every_place_that_is_the_same(places: list[tuple[float, ...]]) -> None:
    """Once inside, twice on a face, four times on an edge, eight times at a corner."""
    made = crystal([7, 8, 9], [80, 95, 110], ["Fe"] * len(places), places)
    frac, sites = whole_cell(made)
    for site, place in enumerate(made.frac_coords):
        own = frac[sites == site]
        assert len(own) == 2 ** int((place == 0).sum())
        assert len(np.unique(own, axis=0)) == len(own)
        np.testing.assert_allclose(own - np.rint(own - place), np.tile(place, (len(own), 1)))
    assert frac.min() >= 0
    assert frac.max() <= 1


def test_atoms_just_inside_a_face_are_on_it() -> None:
    made = crystal([5, 5, 5], [90, 90, 90], ["Fe"], [[0.995, 0.5, 0.5]])
    frac, _ = whole_cell(made)
    assert sorted(frac[:, 0].tolist()) == pytest.approx([-0.005, 0.995])


def test_several_cells_hold_as_many_atoms_more() -> None:
    made = crystal([2.8, 2.8, 14], [90, 90, 120], ["Li", "O"], [[0, 0, 0.5], [0.3, 0.4, 0.2]])
    assert enough_cells(made) == (2, 2, 1)
    _, sites = whole_cell(made, (2, 2, 1))
    assert np.bincount(sites).tolist() == [9, 4]
    assert enough_cells(crystal([5, 5, 5], [90, 90, 90], ["Fe"], [[0, 0, 0]])) == (1, 1, 1)


@given(
    st.lists(st.floats(2, 20), min_size=3, max_size=3),
    st.lists(st.floats(70, 110), min_size=3, max_size=3),
    st.floats(-80, 80),
    st.floats(-60, 60),
)
def test_the_view_turns_and_keeps_lengths(
    lengths: list[float], angles: list[float], azimuth: float, elevation: float
) -> None:
    made = crystal(lengths, angles, ["Fe"], [[0, 0, 0]])
    turn = view(made.lattice, azimuth, elevation)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(turn) == pytest.approx(1.0)
    seen = made.lattice[2] @ turn.T
    assert seen[0] == pytest.approx(0, abs=1e-9)  # c stands upright
    assert seen[1] > 0
    found = scene(made, (1, 1, 1), azimuth, elevation)
    own = np.linalg.norm(np.diff(found.edges[:3], axis=1)[:, 0], axis=1)
    np.testing.assert_allclose(own, made.lengths, rtol=1e-9)


def test_bonds_end_where_they_say() -> None:
    near = crystal([9, 9, 9], [90, 90, 90], ["O", "O"], [[0.3, 0.5, 0.5], [0.3 + 0.16, 0.5, 0.5]])
    far = crystal([9, 9, 9], [90, 90, 90], ["O", "O"], [[0.3, 0.5, 0.5], [0.3 + 0.17, 0.5, 0.5]])
    assert 9 * 0.16 < 2 * 0.66 * BOND_REACH < 9 * 0.17
    assert len(scene(near).bonds) == 1
    assert len(scene(far).bonds) == 0


def test_the_conventional_cell_is_shown_where_there_is_one() -> None:
    primitive = rocksalt(5.64, "Na", "Cl").crystal()
    standard = conventional(primitive)
    assert standard is not None
    assert (len(primitive), len(standard)) == (2, 8)
    assert conventional(crystal([0.1, 5, 5], [90, 90, 90], ["Fe"], [[0, 0, 0]])) is None


def pixels(png: bytes) -> np.ndarray:
    found: np.ndarray = imread(io.BytesIO(png))[..., :3]
    return found


def test_a_picture_is_not_blank_and_has_the_elements_colours() -> None:
    made = CrystalPicture(perovskite(3.9, "Sr", "Ti", "O").crystal(), "SrTiO3", ("Pm-3m (221)",))
    seen = pixels(draw(made))
    assert min(seen.shape[:2]) > 300
    assert 0.05 < (seen < 0.99).any(axis=2).mean() < 0.9
    red = (seen[..., 0] > 0.6) & (seen[..., 1] < 0.15) & (seen[..., 2] < 0.15)
    green = (seen[..., 1] > 0.6) & (seen[..., 0] < 0.15) & (seen[..., 2] < 0.15)
    assert red.any()  # oxygen
    assert green.sum() > red.sum()  # strontium is the largest


def test_files_are_the_same_each_time() -> None:
    made = [
        CrystalPicture(caesium_chloride(4.1, "Cs", name).crystal(), f"Cs{name}")
        for name in ("Cl", "Br", "I")
    ]
    assert grid(made) == grid(made)
    svg = grid(made, 2, "svg")
    assert svg == grid(made, 2, "svg")
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert grid(made, 2, "pdf").startswith(b"%PDF")
    wide, tall = pixels(grid(made, 3)), pixels(grid(made, 1))
    assert wide.shape[1] > 2 * tall.shape[1]
    assert tall.shape[0] > 2 * wide.shape[0]


def test_shared_and_empty_sites_are_drawn_in_sectors() -> None:
    made = crystal([4, 4, 4], [90, 90, 90], ["Fe:0.5 Ni:0.25"], [[0.5, 0.5, 0.5]])
    found = scene(made)
    assert dict(found.atoms.shares[0]) == {"Fe": 0.5, "Ni": 0.25}
    assert (pixels(draw(CrystalPicture(made, "Fe2Ni"))) < 0.9).any()


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(UsageError, match="no structure to draw"):
        grid([])
    one = CrystalPicture(rocksalt(5, "Na", "Cl").crystal(), "NaCl")
    with pytest.raises(UsageError, match="too many for one figure"):
        grid([one] * (MOST + 1))
    with pytest.raises(UsageError, match="0 columns"):
        grid([one], 0)
    many = np.stack(np.meshgrid(*[np.arange(13) / 13] * 3), axis=-1).reshape(-1, 3)
    with pytest.raises(CrystalError, match="a picture shows"):
        scene(crystal([40, 40, 40], [90, 90, 90], ["Fe"] * len(many), many))


def test_words_and_colours() -> None:
    assert subscripts("Ca10(PO4)6") == "Ca₁₀(PO₄)₆"
    assert subscripts("Fe0.5O") == "Fe₀.₅O"
    assert element_colour("O") == "#ff0d0d"  # Jmol's
    assert all(len(element_colour(symbol)) == 7 for symbol in SYMBOLS[1:])
