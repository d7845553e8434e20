"""Distances between images of sites, with gradient, against pymatgen and a brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice

from gandb.generators.site_distances import SymmetryImages
from gandb.representations.space_groups import space_group

GROUPS = (62, 148, 166, 186, 194, 225)


def cells(group: int, lengths: list[float]) -> tuple[torch.Tensor, Lattice]:
    found = space_group(group)
    own = found.length_average @ np.array(lengths)
    return torch.tensor(own, dtype=torch.float32)[None], Lattice.from_parameters(
        *own, *found.angles
    )


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, len(GROUPS) - 1),
    st.lists(st.floats(3.0, 15.0), min_size=3, max_size=3),
    st.lists(st.floats(0.02, 0.98), min_size=6, max_size=6),
)
def test_least_distances_are_those_of_all_images(
    place: int, lengths: list[float], values: list[float]
) -> None:
    images = SymmetryImages(GROUPS, 2)
    own, lattice = cells(GROUPS[place], lengths)
    coords = np.array(values).reshape(2, 3)
    radii = torch.tensor([[0.5, 0.5]])
    nearest, _ = images.surroundings(
        torch.tensor(coords, dtype=torch.float32)[None],
        torch.tensor([place]),
        own,
        torch.full((1, 2), 0.005),
        radii,
    )
    group = space_group(GROUPS[place])
    orbits = [np.mod(group.rotations @ x + group.translations, 1.0) for x in coords]
    for p, (i, j) in enumerate(images.pairs):
        distances = lattice.get_all_distances(coords[i], orbits[j])[0]
        if i == j:
            distances = [*distances[distances > 0.0049], *lattice.abc]
        assert nearest[0, p] == pytest.approx(min(distances), abs=3e-3)


def test_density_counts_the_images_around_a_site() -> None:
    images = SymmetryImages((221,), 2)
    coords = torch.tensor([[[0.0, 0, 0], [0.5, 0.5, 0.5]]])
    _, density = images.surroundings(
        coords, torch.tensor([0]), torch.full((1, 3), 4.0), torch.full((1, 2), 0.01),
        torch.full((1, 2), np.sqrt(12.0) / 2, dtype=torch.float32),
    )  # fmt: skip
    # 48 operations leave the centre where it is: its nearest image is sqrt(12) Å away, a share of 1
    assert density[0, 1] == pytest.approx(48 * np.exp(-2.0), rel=1e-3)


@pytest.mark.parametrize("number", GROUPS)
def test_sites_settle_on_the_special_position_beside_them(number: int) -> None:
    rng = np.random.default_rng(number)
    group = space_group(number)
    images = SymmetryImages((number,), len(group.positions))
    exact = np.array([p.projection @ rng.random(3) + p.offset for p in group.positions])
    lengths = group.length_average @ np.array([31.0, 33.0, 35.0])
    beside = exact + rng.normal(0.0, 1e-3, exact.shape)
    settled = images.settled(
        torch.tensor(beside, dtype=torch.float32)[None],
        torch.tensor([0]),
        torch.tensor(lengths, dtype=torch.float32)[None],
        torch.full((1, len(exact)), 0.4),
    )[0].numpy()
    for point, position in zip(settled, group.positions, strict=True):
        nearest = position.projection @ point + position.offset
        assert np.abs(nearest - point).max() < 2e-5


def test_distances_have_a_gradient_that_parts_atoms() -> None:
    images = SymmetryImages((62,), 2)
    lengths = torch.tensor([[8.0, 9.0, 10.0]])
    coords = torch.tensor([[[0.12, 0.05, 0.2], [0.14, 0.07, 0.22]]], requires_grad=True)
    given = torch.tensor([0]), lengths, torch.full((1, 2), 0.01), torch.full((1, 2), 1.0)
    before, _ = images.surroundings(coords, *given)
    before[0, 1].backward()
    assert coords.grad is not None
    after, _ = images.surroundings(coords.detach() + 0.01 * coords.grad, *given)
    assert after[0, 1] > before[0, 1]
