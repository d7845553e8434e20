"""Charge balance by bond valence, against pymatgen's analyser and a search through all choices."""

from __future__ import annotations

import csv
from importlib import resources
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.core.crystals import Crystal, crystal
from gandb.core.elements import ATOMIC_NUMBERS, SYMBOLS
from gandb.core.errors import UsageError
from gandb.representations.pymatgen_structures import to_structure
from gandb.validation import bond_valence as module
from gandb.validation.bond_valence import (
    BondValence,
    balance,
    bond_valence_balance,
    bond_valence_sums,
)
from gandb.validation.outcomes import REASONS
from gandb.validation.sites import Sites
from tests.real_crystals import real_crystals
from tests.shared_data import real

pytest.importorskip("moyopy")
theirs = pytest.importorskip("pymatgen.core.bond_valence")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

CUBIC = (90.0, 90.0, 90.0)
FACES = [(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)]


def small_crystals() -> list[Crystal]:
    return [c for c in real_crystals() if c.ordered and len(c) <= 30]


def rock_salt(cation: str, anion: str, a: float) -> Crystal:
    sites = [*FACES, *(tuple(np.add(f, 0.5)) for f in FACES)]
    return crystal((a,) * 3, CUBIC, [cation] * 4 + [anion] * 4, np.array(sites))


# --- pymatgen ----------------------------------------------------------------------------


def test_tables_are_those_of_pymatgen() -> None:
    folder = resources.files("gandb.validation") / "data"
    radii = list(csv.DictReader((folder / "bond_valence_radii.csv").read_text().splitlines()))
    assert {row["symbol"] for row in radii} == {e.symbol for e in theirs.BV_PARAMS}
    for element, values in theirs.BV_PARAMS.items():
        (row,) = (row for row in radii if row["symbol"] == element.symbol)
        assert (float(row["r"]), float(row["c"])) == (values["r"], values["c"])
    ours = {
        (SYMBOLS[z], state): values
        for z, states in module._states().items()
        for state, values in states.items()
    }
    stated = {
        (species.symbol, int(species.oxi_state)): (
            values["mean"], values["std"], theirs.PRIOR_PROB[species],
        )
        for species, values in theirs.ICSD_BV_DATA.items()
        if species.oxi_state != 0 and values["std"] > 0
    }  # fmt: skip
    assert ours == stated
    assert {e.symbol for e in theirs.ELECTRONEG} == set(module._ELECTRONEGATIVE)


@real
def test_sums_are_those_of_pymatgen() -> None:
    crystals = small_crystals()[::8]
    sites = Sites.of(crystals)
    sums, codes = bond_valence_sums(sites, threads=2)
    judged = 0
    for row, record in enumerate(crystals):
        if REASONS[codes[row]] not in ("passed", "no bonds between ions"):
            continue
        judged += 1
        structure = to_structure(record)
        expected = [
            theirs.calculate_bv_sum(site, structure.get_neighbors(site, 4.0), 1.015)
            for site in structure
        ]
        own = sums[sites.offsets[row] : sites.offsets[row + 1]]
        assert own == pytest.approx(np.array(expected, float), abs=1e-9)
    assert judged > 15


@real
def test_states_are_those_of_pymatgen() -> None:
    crystals = small_crystals()[::4]
    found = bond_valence_balance(crystals)
    analyser: Any = theirs.BVAnalyzer()
    balanced = 0
    for record, states, code in zip(crystals, found.states, found.outcome.reason, strict=True):
        if REASONS[code] == "no bonds between ions":
            continue  # pymatgen guesses from how often states occur
        try:
            expected = analyser.get_valences(to_structure(record))
        except ValueError:
            expected = None
        if states is None:
            assert expected is None
            continue
        balanced += 1
        assert states.sum() == 0
        assert states.tolist() == expected
    assert balanced > 20


# --- all choices -------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_the_most_probable_choice_of_all_is_found(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = rng.choice(["Li", "Fe", "Mn", "O", "S", "Cl"], n)
    sizes = rng.integers(1, 4, n)
    orbits = np.repeat(np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes)
    numbers = np.repeat([ATOMIC_NUMBERS[k] for k in kinds], sizes)
    sums = np.repeat(
        np.where(np.isin(kinds, ["O", "S", "Cl"]), -1, 1) * rng.uniform(0.5, 4, n), sizes
    )
    found = balance(numbers, sums, orbits)
    firsts = np.unique(orbits)
    likely = [module._probabilities(int(numbers[i]), float(sums[i])) for i in firsts]
    best, chosen = -np.inf, None
    for states in product(*likely):
        if sum(s * k for s, k in zip(states, sizes, strict=True)) != 0:
            continue
        spans = [
            [s for s, k in zip(states, kinds, strict=True) if k == kind] for kind in set(kinds)
        ]
        if max(max(s) - min(s) for s in spans) > 1:
            continue
        score = sum(p[s] for p, s in zip(likely, states, strict=True))
        if score > best:
            best, chosen = score, states
    if chosen is None:
        assert found is None
        return
    assert found is not None
    assert found.sum() == 0
    ours = sum(p[int(found[i])] for p, i in zip(likely, firsts, strict=True))
    assert ours == pytest.approx(best)


# --- verdicts ----------------------------------------------------------------------------


def test_salts_balance_and_what_does_not_is_told() -> None:
    salt, oxide = rock_salt("Na", "Cl", 5.69), rock_salt("Mg", "O", 4.25)
    crowded = crystal(
        (5.0,) * 3, CUBIC, ["Na"] + ["F"] * 3, [(0, 0, 0), (0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5)]
    )
    metal = crystal((2.87,) * 3, CUBIC, ["Fe"] * 2, [(0, 0, 0), (0.5,) * 3])
    unknown = rock_salt("Ne", "F", 5.0)
    mixed = crystal(salt.lengths, salt.angles, ["Na:0.5 K:0.5"] * 4 + ["Cl"] * 4, salt.frac_coords)
    found = bond_valence_balance([salt, oxide, crowded, metal, unknown, mixed])
    assert [REASONS[code] for code in found.outcome.reason] == [
        "passed", "passed", "charges do not balance", "no bonds between ions",
        "an element without bond valence parameters", "disordered",
    ]  # fmt: skip
    assert found.outcome.passed.tolist() == [True, True, False, False, False, False]
    assert found.outcome.errors.tolist() == [False, False, False, True, True, True]
    assert found.states[0] is not None
    assert sorted(set(found.states[0].tolist())) == [-1, 1]
    assert found.states[1] is not None
    assert sorted(set(found.states[1].tolist())) == [-2, 2]
    assert found.outcome.value[1] == pytest.approx(
        np.sqrt(((np.abs(found.sums[1]) - 2) ** 2).mean())
    )
    assert np.isnan(found.outcome.value[2:]).all()


def test_a_thin_cell_without_a_space_group_is_an_error() -> None:
    thin = crystal((1.5, 9, 9), CUBIC, ["Na", "Cl"], [(0, 0, 0), (0.5, 0.2, 0)])
    found = bond_valence_balance([thin])
    assert found.outcome.tally() == {"no space group found": 1}


def test_the_work_for_a_crystal_is_bounded_and_the_bound_is_told() -> None:
    salt = rock_salt("Na", "Cl", 5.69)
    for most, told in ((2, {"passed": 1}), (1, {"too many inequivalent atoms": 1})):
        found = bond_valence_balance([salt], BondValence(most_atoms=most))
        assert found.outcome.tally() == told
        assert found.outcome.check.parameters["most_inequivalent_atoms"] == most
    assert found.outcome.errors.tolist() == [True]
    with pytest.raises(UsageError, match="most_atoms"):
        BondValence(most_atoms=0)


def test_the_recipe_says_all() -> None:
    check = BondValence().check
    assert check.name == "bond_valence_balance"
    assert set(check.parameters["tables_sha256"]) == set(module._TABLES)
    with pytest.raises(UsageError, match="max_radius"):
        BondValence(max_radius=0)
    one = bond_valence_balance([rock_salt("Mg", "O", 4.25)], BondValence(distance_scale=1.0))
    two = bond_valence_balance([rock_salt("Mg", "O", 4.25)])
    assert np.abs(one.sums[0]).mean() > np.abs(two.sums[0]).mean()
    assert bond_valence_balance([]).states == []
