"""Verdicts on real crystals, against pymatgen's StructureMatcher."""

from __future__ import annotations

import gzip
import itertools
import json
from collections import defaultdict
from functools import cache
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Structure

from gandb.core.crystals import Crystal
from gandb.identity.cells import Cells, Reduced
from gandb.identity.matching import fit_pairs, greedy_groups, measure_pairs
from gandb.identity.recipes import MatchRecipe
from gandb.identity.reduction import reduce_arrays, reduce_crystal
from gandb.representations.pymatgen_structures import from_structure, to_structure
from gandb.sources.formats import DECODERS
from gandb.sources.reading import read_files
from gandb.sources.records import Encoded, Record
from tests import pymatgen_matcher as theirs
from tests.shared_data import SHARED, real
from tests.variants import VARIANTS, variants

DEFAULT = MatchRecipe()
FILES = ("mp-cifs.zip", "oqmd-cifs.zip", "aflow-cifs.zip", "alexandria-cifs.zip",
         "mp20-mini.csv.gz", "mp40-test.csv.gz")  # fmt: skip


@cache
def cross_database_pairs() -> list[dict[str, Any]]:
    with gzip.open(SHARED / "matching" / "cross-database-pairs.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


@cache
def real_crystals(file: str, every: int = 1) -> list[Crystal]:
    found = []
    for item in itertools.islice(read_files([SHARED / "structures" / file]), 0, None, every):
        sites = item.structure if isinstance(item, Record) else None
        if isinstance(sites, Encoded):
            sites = DECODERS[sites.format](sites.text)
        if sites is not None:
            found.append(sites.crystal())
    return found


def alike_pairs(crystals: list[Crystal], cells: list[Reduced]) -> np.ndarray:
    """Return all ordered pairs of one composition and one number of sites."""
    blocks: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for i, (crystal, cell) in enumerate(zip(crystals, cells, strict=True)):
        shares = ((e, round(a / len(crystal), 6)) for e, a in crystal.amounts.items())
        blocks[(len(cell), *sorted(shares))].append(i)
    pairs = [pair for block in blocks.values() for pair in itertools.permutations(block, 2)]
    return np.array(pairs, np.int64).reshape(-1, 2)


def check(cells: list[Reduced], pairs: np.ndarray, recipe: MatchRecipe = DEFAULT) -> np.ndarray:
    """Compare verdicts with pymatgen's on cells that both take as reduced, and return them."""
    found = fit_pairs(Cells.of(cells, recipe.comparator), pairs, recipe)
    np.testing.assert_array_equal(found, theirs.fits(cells, pairs, recipe))
    return found


def check_measures(cells: list[Reduced], pairs: np.ndarray, recipe: MatchRecipe = DEFAULT) -> None:
    rms, largest = measure_pairs(Cells.of(cells, recipe.comparator), pairs, recipe)
    expected = theirs.measures(cells, pairs, recipe)
    np.testing.assert_array_equal(np.isnan(rms), np.isnan(expected[:, 0]))
    late = ~(expected[:, 0] < 1e-5)  # below, pymatgen takes the first that it finds
    np.testing.assert_allclose(rms[late], expected[late, 0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(largest[late], expected[late, 1], rtol=0, atol=1e-5)
    assert (rms[~late] < 1e-5).all()


def check_cross_database(chosen: list[dict[str, Any]]) -> None:
    crystals = [DECODERS["poscar"](pair[side]).crystal() for pair in chosen for side in "ab"]
    cells = [reduce_crystal(crystal) for crystal in crystals]
    pairs = np.arange(len(cells)).reshape(-1, 2)
    found = fit_pairs(Cells.of(cells), pairs, DEFAULT)
    assert found.tolist() == [pair["match"] for pair in chosen]
    check_measures(cells, pairs[found])


# --- pairs of real crystals --------------------------------------------------------------------


@real
def test_pairs_across_databases() -> None:
    check_cross_database(cross_database_pairs()[::8])


@real
@pytest.mark.slow
def test_all_pairs_across_databases() -> None:
    check_cross_database(cross_database_pairs())


@real
def test_pairs_of_one_formula() -> None:
    crystals = [crystal for file in FILES[:4] for crystal in real_crystals(file)]
    amounts = [tuple(sorted(crystal.amounts)) for crystal in crystals]
    often = {what for what in amounts if amounts.count(what) > 1}
    crystals = [c for c, what in zip(crystals, amounts, strict=True) if what in often]
    crystals = [c for c in crystals if len(c) <= 60]
    cells = [reduce_crystal(crystal) for crystal in crystals]
    pairs = alike_pairs(crystals, cells)
    found = check(cells, pairs[::3])
    assert 0.1 < found.mean() < 0.9
    check_measures(cells, pairs[1::9])


@real
@pytest.mark.slow
def test_all_pairs_of_one_formula() -> None:
    crystals = [crystal for file in FILES for crystal in real_crystals(file)]
    cells = [reduce_crystal(crystal) for crystal in crystals]
    pairs = alike_pairs(crystals, cells)
    for recipe in (
        DEFAULT,
        MatchRecipe(ltol=0.3, stol=0.5, angle_tol=10),
        MatchRecipe(scale=False),
    ):
        check(cells, pairs, recipe)
        check_measures(cells, pairs[::3], recipe)


@real
def test_published_matcher_structures() -> None:
    names = sorted((SHARED / "matching" / "pymatgen").glob("*.json"))
    read = [json.loads(name.read_text()) for name in names]
    listed = [item for found in read for item in (found if isinstance(found, list) else [found])]
    structures = [Structure.from_dict(item) for item in listed]
    crystals = [from_structure(structure) for structure in structures]
    for recipe in (DEFAULT, MatchRecipe(comparator="element")):
        cells = [reduce_crystal(crystal) for crystal in crystals]
        pairs = np.array(list(itertools.product(range(len(cells)), repeat=2)))
        check(cells, pairs, recipe)


# --- variants of real crystals -----------------------------------------------------------------


def check_variants(
    crystals: list[Crystal], names: list[str], recipe: MatchRecipe, seed: int, most: int
) -> np.ndarray:
    """Compare crystals with their variants, each side reduced by its own program."""
    rng = np.random.default_rng(seed)
    ours: list[bool] = []
    expected: list[bool] = []
    ask = theirs.StructureMatcher(
        recipe.ltol, recipe.stol, recipe.angle_tol, recipe.primitive_cell, recipe.scale,
        comparator=theirs.matcher(recipe)._comparator,
    )  # fmt: skip
    for i, record in enumerate(crystals):
        for name, cell in variants(record, rng, names, max_sites=most):
            pair = [record, cell.crystal()]
            if (i + len(name)) % 2:
                pair.reverse()
            cells = [reduce_crystal(crystal, recipe.primitive_cell) for crystal in pair]
            packed = Cells.of(cells, recipe.comparator)
            ours.append(bool(fit_pairs(packed, np.array([[0, 1]]), recipe)[0]))
            expected.append(ask.fit(*(to_structure(crystal) for crystal in pair)))
    assert ours == expected
    return np.array(ours)


@real
@pytest.mark.parametrize("recipe", [DEFAULT, MatchRecipe(primitive_cell=False)])
def test_variants(recipe: MatchRecipe) -> None:
    crystals = [c for c in real_crystals("mp20-mini.csv.gz", 150) if len(c) <= 12]
    found = check_variants(crystals[:7], list(VARIANTS), recipe, 1, 40)
    assert 0.3 < found.mean() < 0.95


@real
@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        DEFAULT,
        MatchRecipe(ltol=0.05, stol=0.1, angle_tol=2),
        MatchRecipe(ltol=0.3, stol=0.5, angle_tol=10),
        MatchRecipe(scale=False),
        MatchRecipe(comparator="element"),
    ],
)
def test_many_variants(recipe: MatchRecipe) -> None:
    crystals = [c for c in real_crystals("mp40-test.csv.gz", 12) if len(c) <= 30]
    check_variants(crystals[:20], list(VARIANTS), recipe, 2, 100)


@real
def test_large_cells() -> None:
    crystals = [c for c in real_crystals("mp-cifs.zip", 2) if 40 <= len(c) <= 100][:6]
    rng = np.random.default_rng(3)
    for record in crystals:
        cells = [reduce_crystal(record)]
        for _, cell in variants(record, rng, ["noise 0.1", "moved", "antisite", "one site 1.0"]):
            cells.append(reduce_arrays(cell.lattice, cell.frac_coords, cell.species))
        pairs = np.array([(0, i) for i in range(1, len(cells)) if len(cells[i]) == len(cells[0])])
        check(cells, pairs)


@real
def test_groups_of_many() -> None:
    """Greedy groups of variants of many formulas, group for group."""
    rng = np.random.default_rng(4)
    crystals = [c for c in real_crystals("mp20-mini.csv.gz", 60) if len(c) <= 10][:20]
    cells = []
    for record in crystals:
        cells.append(reduce_crystal(record))
        for _, cell in variants(
            record, rng, ["noise 0.1", "antisite", "strain 1 %", "one site 1.0"]
        ):
            cells.append(reduce_arrays(cell.lattice, cell.frac_coords, cell.species))
    cells = [cells[i] for i in rng.permutation(len(cells))]
    structures = [theirs.structure_of(cell) for cell in cells]
    places = {id(structure): i for i, structure in enumerate(structures)}
    groups = theirs.matcher(DEFAULT).group_structures(structures)
    expected = [[places[id(s)] for s in group] for group in groups]
    assert greedy_groups(Cells.of(cells), DEFAULT) == expected
