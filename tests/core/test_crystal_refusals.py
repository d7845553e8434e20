"""Crystals that are no records: refused, with what is wrong."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from gandb.core.crystals import (
    MAX_SITES,
    Crystal,
    CrystalError,
    crystal,
    crystal_of_matrix,
)
from gandb.core.species import Occupant

CUBE = ((5.0, 5.0, 5.0), (90.0, 90.0, 90.0))
HERE = [(0.0, 0.0, 0.0)]


def cube(coords: Any, species: Any = None, **more: Any) -> Crystal:
    return crystal(*CUBE, species or ["Fe"] * len(coords), coords, **more)


@pytest.mark.parametrize(
    ("edges", "reason"),
    [
        ((math.nan, 5, 5), "cell lengths are not all finite"),
        ((math.inf, 5, 5), "cell lengths are not all finite"),
        ((0, 5, 5), "cell lengths 0, 5, 5 are not all positive"),
        ((5, -5, 5), "not all positive"),
        ((5, 5, 1e-12), "not all positive"),
        ((5, 5, 1000.1), "at most 1,000"),
        ((5, 5, 1e300), "at most 1,000"),
        ((5, 5), "cell lengths have shape"),
        ((5, 5, None), "cell lengths are not all finite"),
        ((5, 5, "long"), "cell lengths are not all numbers"),
        ((5, 5, 10**400), "cell lengths are not all numbers"),
        ((5, 5, [5]), "cell lengths are not all numbers"),
        ((0.1, 0.1, 0.1), "no volume"),
        ((1000, 1000, 0.001), "no volume"),
    ],
)
def test_lengths_that_are_refused(edges: Any, reason: str) -> None:
    with pytest.raises(CrystalError, match=reason):
        crystal(edges, CUBE[1], ["Fe"], HERE)


@pytest.mark.parametrize(
    ("corners", "reason"),
    [
        ((math.nan, 90, 90), "cell angles are not all finite"),
        ((0, 90, 90), "not between 0 and 180"),
        ((180, 90, 90), "not between 0 and 180"),
        ((180 - 1e-12, 90, 90), "not between 0 and 180"),
        ((1e-12, 90, 90), "not between 0 and 180"),
        ((-90, 90, 90), "not between 0 and 180"),
        ((1e300, 90, 90), "not between 0 and 180"),
        ((120, 120, 120), "has no volume"),
        ((150, 150, 150), "has no volume"),
        ((30, 60, 90), "has no volume"),
        ((20, 60, 90), "has no volume"),
        ((90, 90), "cell angles have shape"),
    ],
)
def test_angles_that_are_refused(corners: Any, reason: str) -> None:
    with pytest.raises(CrystalError, match=reason):
        crystal(CUBE[0], corners, ["Fe"], HERE)


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (np.zeros((3, 3)), "not all positive"),
        (np.ones((3, 3)), "angles 0, 0, 0 are not between"),
        (np.diag([5.0, 5.0, 0.0]), "not all positive"),
        ([[5, 0, 0], [0, 5, 0], [5, 5, 0]], "no volume"),
        (np.diag([5.0, 5.0, 1e200]), "beyond 1,000"),
        (np.diag([5.0, 5.0, 1e-200]), "not all positive"),
        (np.full((3, 3), np.nan), "not all finite"),
        (np.eye(2), "lattice vectors have shape"),
        ([[5, 0, 0], [0, 5, 0]], "lattice vectors have shape"),
        ([[5, 0, 0], [0, 5], [0, 0, 5]], "not all numbers"),
        (None, "lattice vectors have shape"),
    ],
)
def test_lattice_vectors_that_are_refused(matrix: Any, reason: str) -> None:
    with pytest.raises(CrystalError, match=reason):
        crystal_of_matrix(matrix, ["Fe"], HERE)


@pytest.mark.parametrize(
    ("coords", "reason"),
    [
        ([(math.nan, 0, 0)], "not all finite"),
        ([(math.inf, 0, 0)], "not all finite"),
        ([(0, 0)], "have shape"),
        ([(0, 0, 0), (0.5, 0.5, 0.5)], "have shape"),
        ([], "have shape"),
        ([("a", 0, 0)], "not all numbers"),
        ([(10**400, 0, 0)], "not all numbers"),
        ([(1e7, 0, 0)], "are they Cartesian"),
        (None, "have shape"),
    ],
)
def test_coordinates_that_are_refused(coords: Any, reason: str) -> None:
    with pytest.raises(CrystalError, match=reason):
        cube(coords, ["Fe"])
    with pytest.raises(CrystalError):
        crystal_of_matrix(np.diag([5.0, 5.0, 5.0]), ["Fe"], coords)


@pytest.mark.parametrize("far", [1e8, 1e300])
def test_cartesian_coordinates_have_an_end(far: float) -> None:
    with pytest.raises(CrystalError, match="beyond a million cells"):
        crystal_of_matrix(np.diag([5.0, 5.0, 5.0]), ["Fe"], [(far, 0, 0)], cartesian=True)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("Xx", "site 2: there is no element 'Xx'"),
        ("", "site 2: no species is named"),
        ("Fe:0", "site 2: .*every occupancy is 0"),
        ("Fe:-0.1", "site 2: occupancy -0.1 of Fe is impossible"),
        ("Fe:nan", "site 2: occupancy nan"),
        ("Fe:1.1", "occupied 1.1 times"),
        ("Fe:0.7 Ni:0.7", "occupied 1.4 times"),
        ("Fe99+", "oxidation state 99"),
        ([], "site 2: .*every occupancy is 0"),
        ([Occupant("Fe", 2.0)], "occupied 2 times"),
        ([Occupant("Fe", 1.0, math.nan)], "oxidation state nan"),
        (26, "site 2: 26 is no species"),
        (None, "site 2: None is no species"),
        ([("Fe", 1.0)], "is no species"),
    ],
)
def test_species_that_are_refused(what: Any, reason: str) -> None:
    with pytest.raises(CrystalError, match=reason):
        cube([(0, 0, 0), (0.5, 0.5, 0.5)], ["O", what])


def test_sites_have_a_least_and_a_most() -> None:
    with pytest.raises(CrystalError, match="no sites"):
        crystal(*CUBE, [], [])
    with pytest.raises(CrystalError, match="no sites"):
        crystal(*CUBE, [], np.empty((0, 3)))
    n = MAX_SITES + 1
    with pytest.raises(CrystalError, match="10,001 sites; at most 10,000"):
        cube(np.random.default_rng(0).random((n, 3)))


@pytest.mark.parametrize("charge", [math.nan, math.inf, "one", 10**400, [1]])
def test_charges_that_are_refused(charge: Any) -> None:
    with pytest.raises(CrystalError, match="its charge"):
        cube(HERE, charge=charge)


def test_records_are_frozen() -> None:
    record = cube(HERE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.charge = 1.0  # type: ignore[misc]
    for values in (record.lengths, record.angles, record.frac_coords):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1.0


def test_a_reduced_formula_has_a_bound() -> None:
    side = np.arange(22) / 22
    coords = np.stack(np.meshgrid(side, side, side[:21]), -1).reshape(-1, 3)[:10_000]
    cell = {"lengths": [100.0] * 3, "angles": [90.0] * 3, "frac_coords": coords}
    assert crystal(species=["Fe"] * 10_000, **cell).counts() == {"Fe": 10_000}
    with pytest.raises(CrystalError, match="more than 9,999 atoms"):
        crystal(species=["Fe"] * 9_999 + ["O"], **cell).counts()
