"""Reduced cells, against pymatgen's: its public steps, as StructureMatcher takes them."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Element, Lattice, PeriodicSite, Species, Structure

from gandb.core.crystals import Crystal, crystal
from gandb.core.errors import InputError
from gandb.core.species import parse_species, species_text
from gandb.identity.cells import Reduced
from gandb.identity.reduction import (
    ReductionError,
    reduce_arrays,
    reduce_crystal,
    reduce_many,
    site_label,
)
from gandb.representations.pymatgen_structures import from_structure, to_structure
from gandb.sources.formats import DECODERS
from gandb.sources.reading import read_files
from gandb.sources.records import Encoded, Record
from tests.crystals import FULL, IONS, MIXED, crystals
from tests.shared_data import SHARED, real
from tests.variants import (
    VARIANTS,
    Cell,
    hermite_matrices,
    moved,
    noisy,
    random_supercell,
    reset,
    strained,
    supercell_of,
    variants,
)

Sites = tuple[Sequence[str], Sequence[Sequence[float]]]

SPACE_GROUPS: dict[str, tuple[str, Lattice, Sites]] = {
    "Al": ("Fm-3m", Lattice.cubic(4.05), (["Al"], [[0, 0, 0]])),
    "Fe": ("Im-3m", Lattice.cubic(2.87), (["Fe"], [[0, 0, 0]])),
    "Mg": ("P6_3/mmc", Lattice.hexagonal(3.21, 5.21), (["Mg"], [[1 / 3, 2 / 3, 0.25]])),
    "Si": ("Fd-3m", Lattice.cubic(5.43), (["Si"], [[0, 0, 0]])),
    "NaCl": ("Fm-3m", Lattice.cubic(5.64), (["Na+", "Cl-"], [[0, 0, 0], [0.5, 0.5, 0.5]])),
    "ZnS": (
        "P6_3mc",
        Lattice.hexagonal(3.82, 6.26),
        (["Zn", "S"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.375]]),
    ),
    "TiO2": (
        "P4_2/mnm",
        Lattice.tetragonal(4.59, 2.96),
        (["Ti4+", "O2-"], [[0, 0, 0], [0.305, 0.305, 0]]),
    ),
    "SrTiO3": (
        "Pm-3m",
        Lattice.cubic(3.905),
        (["Sr", "Ti", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]),
    ),
    "SiO2": (
        "P3_221",
        Lattice.hexagonal(4.91, 5.4),
        (["Si", "O"], [[0.4697, 0, 2 / 3], [0.4135, 0.2669, 0.7858]]),
    ),
    "Al2O3": (
        "R-3c",
        Lattice.hexagonal(4.76, 12.99),
        (["Al", "O"], [[0, 0, 0.352], [0.306, 0, 0.25]]),
    ),
    "MgAl2O4": (
        "Fd-3m",
        Lattice.cubic(8.08),
        (["Mg", "Al", "O"], [[0, 0, 0], [0.625, 0.625, 0.625], [0.387, 0.387, 0.387]]),
    ),
    "ZrO2": (
        "P2_1/c",
        Lattice.monoclinic(5.15, 5.21, 5.32, 99.2),
        (["Zr", "O", "O"], [[0.275, 0.04, 0.208], [0.07, 0.332, 0.345], [0.45, 0.757, 0.479]]),
    ),
    "LiFePO4": (
        "Pnma",
        Lattice.orthorhombic(10.33, 6.01, 4.69),
        (
            ["Li+", "Fe2+", "P", "O2-", "O2-", "O2-"],
            [
                [0, 0, 0],
                [0.282, 0.25, 0.975],
                [0.095, 0.25, 0.418],
                [0.097, 0.25, 0.743],
                [0.457, 0.25, 0.206],
                [0.166, 0.046, 0.285],
            ],
        ),
    ),
    "CaCO3": (
        "R-3c",
        Lattice.hexagonal(4.99, 17.06),
        (["Ca", "C", "O"], [[0, 0, 0], [0, 0, 0.25], [0.257, 0, 0.25]]),
    ),
    "CuAlO2, C-centred": (
        "C2/m",
        Lattice.monoclinic(5.1, 2.86, 6.3, 105.3),
        (["Cu", "Al", "O"], [[0, 0, 0], [0, 0.5, 0.5], [0.3, 0, 0.2]]),
    ),
}

DISORDERED = [
    crystal((2.87,) * 3, (90, 90, 90), ["Fe:0.5 Ni:0.5"] * 2, [[0, 0, 0], [0.5, 0.5, 0.5]]),
    crystal(  # alike to three digits, hence to pymatgen's eyes
        (2.87,) * 3,
        (90, 90, 90),
        ["Fe:0.5 Ni:0.5", "Fe:0.5001 Ni:0.4999"],
        [[0, 0, 0], [0.5, 0.5, 0.5]],
    ),
    crystal(
        (2.87,) * 3,
        (90, 90, 90),
        ["Fe:0.5 Ni:0.5", "Fe:0.51 Ni:0.49"],
        [[0, 0, 0], [0.5, 0.5, 0.5]],
    ),
    crystal(
        (4.2, 4.2, 8.4),
        (90, 90, 90),
        ["Li+:0.75", "Li+:0.75", "Na:0.33333333 K:0.66666667", "Na:0.3333 K:0.6667", "D", "H"],
        [[0, 0, 0.1], [0, 0, 0.6], [0.5, 0.5, 0], [0.5, 0.5, 0.5], [0, 0.5, 0], [0, 0.5, 0.5]],
    ),
]


@cache
def conventional(name: str) -> Crystal:
    group, lattice, (species, coords) = SPACE_GROUPS[name]
    return from_structure(Structure.from_spacegroup(group, lattice, species, coords))


def some_small(rng: np.random.Generator, n: int = 6) -> list[Crystal]:
    """Return so many of the small crystals, a disordered one among them."""
    names = rng.choice(sorted(SPACE_GROUPS), n - 1, replace=False)
    return [*map(conventional, names), DISORDERED[rng.integers(len(DISORDERED))]]


def structure_of(cell: Cell) -> Structure:
    return Structure(cell.lattice, [composition_of(t) for t in cell.species], cell.frac_coords)


def composition_of(text: str) -> Composition:
    parts: dict[Element | Species, float] = {}
    for occupant in parse_species(text):
        state = occupant.oxidation_state
        what = Element(occupant.symbol) if state is None else Species(occupant.symbol, state)
        parts[what] = occupant.occupancy
    return Composition(parts)


def reference(structure: Structure, primitive: bool = True) -> Structure:
    reduced = structure.get_reduced_structure(reduction_algo="niggli")
    return reduced.get_primitive_structure() if primitive else reduced


def check(found: Reduced, expected: Structure) -> None:
    assert len(found) == len(expected)
    np.testing.assert_allclose(found.lattice, expected.lattice.matrix, rtol=0, atol=1e-8)
    assert [site_label(t) for t in found.species] == [s.species_string for s in expected]
    away = found.frac_coords - expected.frac_coords
    assert np.abs(away - np.rint(away)).max() < 1e-8


def check_crystal(record: Crystal, primitive: bool = True) -> Reduced:
    found = reduce_crystal(record, primitive)
    check(found, reference(to_structure(record), primitive))
    return found


def check_cell(cell: Cell) -> Reduced:
    found = reduce_arrays(cell.lattice, cell.frac_coords, cell.species)
    check(found, reference(structure_of(cell)))
    return found


# --- small crystals and their variants ----------------------------------------------------


@pytest.mark.parametrize("name", SPACE_GROUPS)
def test_conventional_cells(name: str) -> None:
    record = conventional(name)
    found = check_crystal(record)
    assert found.volume / len(found) == pytest.approx(record.volume / len(record))
    assert len(check_crystal(record, primitive=False)) == len(record)


@pytest.mark.parametrize("record", DISORDERED)
def test_disordered_cells(record: Crystal) -> None:
    check_crystal(record)


def test_sites_alike_to_three_digits_coincide() -> None:
    assert [len(reduce_crystal(record)) for record in DISORDERED] == [1, 1, 2, 3]


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_of_small_crystals(name: str) -> None:
    rng = np.random.default_rng(len(name))
    for record in some_small(rng):
        for _, cell in variants(record, rng, [name], max_sites=60):
            check_crystal(cell.crystal()) if rng.random() < 0.5 else check_cell(cell)


def test_supercells_of_every_shape() -> None:
    cell = Cell.of(conventional("SrTiO3"))
    rng = np.random.default_rng(0)
    for det in (2, 3, 4, 5, 6):
        for matrix in hermite_matrices(det)[::det]:
            assert len(check_cell(supercell_of(cell, matrix))) == 5
            check_cell(noisy(supercell_of(cell, matrix), rng, 0.02))


def test_a_supercell_of_supercells_is_reduced_step_by_step() -> None:
    cell = Cell.of(conventional("Fe"))
    for matrix in ([[2, 0, 0], [0, 2, 0], [0, 0, 2]], [[1, 0, 0], [0, 3, 1], [0, 0, 4]]):
        assert len(check_cell(supercell_of(cell, np.array(matrix)))) == 1


def test_noise_about_the_tolerance() -> None:
    """Sites that nearly do, and nearly do not, repeat within 0.25 Å."""
    rng = np.random.default_rng(3)
    sizes = set()
    for record in some_small(rng, 10):
        for size in (0.05, 0.11):
            cell = noisy(random_supercell(Cell.of(record), rng, 3), rng, size)
            if len(cell) <= 40:
                sizes.add(len(check_cell(cell)) < len(cell))
    assert sizes == {True, False}


def test_a_tie_is_decided_by_the_last_bit() -> None:
    """Sites exactly 0.25 Å from repeating: a rounding sends pymatgen itself either way."""
    lattice = np.array([[4.0, 5, 0], [0, 10, 0], [0, 0, 4]])
    sizes = []
    for off in (-0.025 - 1e-13, -0.025 + 1e-13):
        cell = Cell(lattice, np.array([[0.5, off, 0], [0.5, 0.5, 0]]), ("Fe", "Fe"))
        sizes.append(len(check_cell(cell)))
    assert sizes == [2, 1]


def test_lattices_on_the_edge_between_forms() -> None:
    """Higher symmetry, broken by about the tolerance of the search for the Niggli cell."""
    rng = np.random.default_rng(4)
    sizes = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
    for record, size in itertools.product(some_small(rng, 12), sizes):
        cell = strained(reset(Cell.of(record), rng), rng, size)
        found = reduce_arrays(cell.lattice, cell.frac_coords, cell.species, primitive=False)
        check(found, reference(structure_of(cell), primitive=False))


def test_left_handed_and_turned_lattices() -> None:
    rng = np.random.default_rng(5)
    for record in some_small(rng):
        cell = moved(Cell.of(record), rng)
        left = Cell(cell.lattice[[1, 0, 2]], cell.frac_coords[:, [1, 0, 2]], cell.species)
        found = check_cell(left)
        assert np.linalg.det(found.lattice) > 0


@settings(max_examples=60)
@given(record=crystals(max_sites=6), seed=st.integers(0, 2**32 - 1), what=st.integers(0, 4))
def test_any_crystal(record: Crystal, seed: int, what: int) -> None:
    rng = np.random.default_rng(seed)
    cell = Cell.of(record)
    if what % 2:
        cell = random_supercell(cell, rng)
    if what >= 2:
        cell = moved(reset(cell, rng), rng)
    if what >= 3:
        cell = noisy(cell, rng, 0.03)
    with warnings.catch_warnings():  # of elements without electronegativity
        warnings.simplefilter("ignore")
        check_cell(cell)


# --- which sites are alike ----------------------------------------------------------------


@given(
    st.lists(st.sampled_from([*FULL, *IONS, *MIXED, "D", "T", "He", "Ne"]), min_size=1, max_size=5)
)
def test_labels_are_those_of_pymatgen(texts: list[str]) -> None:
    shared = [
        replace(o, occupancy=o.occupancy / len(texts)) for t in texts for o in parse_species(t)
    ]
    with warnings.catch_warnings():  # of elements without electronegativity
        warnings.simplefilter("ignore")
        for text in (texts[0], species_text(shared)):
            assert site_label(text) == label_there(text)


def label_there(text: str) -> str:
    site = PeriodicSite(composition_of(text), [0, 0, 0], Lattice.cubic(1), skip_checks=True)
    return str(site.species_string)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Fe", "Fe"),
        ("Fe3+", "Fe3+"),
        ("Cl-", "Cl-"),
        ("Fe2.5+", "Fe2.50+"),
        ("Ti0+", "Ti0+"),
        ("Ni:0.5 Fe:0.5", "Fe:0.5, Ni:0.5"),
        ("O:0.997", "O:0.997"),
        ("O:0.9999", "O:1.0"),
        ("Fe:0.33333333 Fe3+:0.66", "Fe3+:0.66, Fe:0.993"),
        ("D", "H"),
        ("D+", "D+"),
    ],
)
def test_labels(text: str, label: str) -> None:
    assert site_label(text) == label == label_there(text)


# --- what holds of any reduced cell -------------------------------------------------------


def test_order_of_sites_is_kept_where_nothing_repeats() -> None:
    cell = Cell.of(conventional("LiFePO4"))
    order = np.random.default_rng(6).permutation(len(cell))
    species = tuple(cell.species[i] for i in order)
    found = reduce_arrays(cell.lattice, cell.frac_coords[order], species)
    assert found.species == species


def test_batches_and_threads_give_the_same() -> None:
    rng = np.random.default_rng(7)
    records = [c.crystal() for r in some_small(rng) for _, c in variants(r, rng, max_sites=40)]
    alone = [reduce_crystal(record).to_bytes() for record in records]
    assert [cell.to_bytes() for cell in reduce_many(records)] == alone
    with ThreadPoolExecutor(2) as pool:
        assert [cell.to_bytes() for cell in pool.map(reduce_crystal, records)] == alone


def test_inputs_stay_as_they_are() -> None:
    cell = random_supercell(Cell.of(conventional("NaCl")), np.random.default_rng(8))
    before = cell.lattice.copy(), cell.frac_coords.copy()
    found = reduce_arrays(cell.lattice, cell.frac_coords, cell.species)
    found.lattice[:] = 0
    found.frac_coords[:] = 0
    np.testing.assert_array_equal(cell.lattice, before[0])
    np.testing.assert_array_equal(cell.frac_coords, before[1])


# --- what is out of the ordinary ----------------------------------------------------------


def test_hundreds_of_sites() -> None:
    rng = np.random.default_rng(9)
    iron = Cell.of(conventional("Fe"))
    assert len(check_cell(noisy(supercell_of(iron, np.diag([4, 4, 4])), rng, 0.03))) == 1
    glass = Cell(np.eye(3) * 17, rng.random((400, 3)), ("Si",) * 400)
    assert len(reduce_arrays(glass.lattice, glass.frac_coords, glass.species)) == 400
    large = supercell_of(iron, np.diag([6, 6, 6]))
    assert len(reduce_arrays(large.lattice, large.frac_coords, large.species)) == 1
    # No factor in common: nothing to search for.
    odd = Cell(np.eye(3) * 17, rng.random((401, 3)), ("Si",) * 400 + ("O",))
    assert len(reduce_arrays(odd.lattice, odd.frac_coords, odd.species)) == 401


@pytest.mark.parametrize("edges", [(3, 3, 300), (0.3, 0.3, 40), (0.05, 0.6, 0.5), (2, 400, 500)])
def test_long_thin_and_tiny_cells(edges: tuple[float, float, float]) -> None:
    lattice = np.diag(edges).astype(float)
    lattice[2, :2] = 0.2 * lattice[0, 0], 0.45 * lattice[1, 1]
    check_cell(Cell(lattice, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), ("Fe", "Fe")))
    check_cell(Cell(lattice, np.array([[0, 0, 0], [0.4, 0.3, 0.2]]), ("Fe", "O")))


def test_the_longest_and_thinnest_crystal_ends() -> None:
    record = crystal((0.1, 0.1, 1000), (90, 90, 90), ["Fe", "Fe"], [[0, 0, 0], [0, 0, 0.5]])
    assert len(reduce_crystal(record)) == 1


def test_sheared_cells() -> None:
    for shear in (10, 100, 1000):
        lattice = np.array([[3, 0, 0], [3.0 * shear, 4, 0], [3 * shear + 0.1, 0, 5]])
        check_cell(Cell(lattice, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), ("Fe", "O")))


@pytest.mark.parametrize(
    ("lattice", "coords", "species"),
    [
        (np.zeros((3, 3)), [[0, 0, 0]], ["Fe"]),
        ([[1, 0, 0], [2, 0, 0], [0, 0, 1]], [[0, 0, 0]], ["Fe"]),
        ([[1, 0, 0], [0, 1, 0], [1, 1, 1e-9]], [[0, 0, 0]], ["Fe"]),
        (np.full((3, 3), np.nan), [[0, 0, 0]], ["Fe"]),
        (np.eye(3), [[0, 0, np.inf]], ["Fe"]),
        (np.eye(3), [[0, 0, 0]], ["Fe", "O"]),
        (np.eye(3), [[0, 0, 0]], ["Xx"]),
        (np.eye(2), [[0, 0, 0]], ["Fe"]),
        (np.eye(3), np.zeros((0, 3)), []),
    ],
)
def test_what_is_no_cell(lattice: np.ndarray, coords: np.ndarray, species: list[str]) -> None:
    with pytest.raises(InputError):
        reduce_arrays(np.array(lattice), np.array(coords), species)


def test_flat_cells_are_named_so() -> None:
    with pytest.raises(ReductionError, match="in one plane"):
        reduce_arrays(np.diag([1.0, 1.0, 0.0]), np.zeros((1, 3)), ["Fe"])


# --- real structures ----------------------------------------------------------------------

FILES = (
    "structures/aflow-cifs.zip",
    "structures/alexandria-cifs.zip",
    "structures/mp-cifs.zip",
    "structures/oqmd-cifs.zip",
    "structures/mp20-mini.csv.gz",
    "structures/mp40-test.csv.gz",
    "generated/mattergen-cifs.zip",
)


def real_crystals(name: str, step: int) -> Iterator[Crystal]:
    records = (r for r in read_files([SHARED / name]) if isinstance(r, Record) and r.structure)
    for record in itertools.islice(records, 0, None, step):
        sites = record.structure
        if isinstance(sites, Encoded):
            try:
                sites = DECODERS[sites.format](sites.text)
            except InputError:
                continue
        assert sites is not None
        yield sites.crystal()


@real
@pytest.mark.parametrize("name", FILES)
def test_real_crystals_and_their_variants(name: str) -> None:
    rng = np.random.default_rng(10)
    names = ("supercell, noise 0.01", "supercell, noise 0.05", "unimodular, moved", "antisite")
    seen = 0
    for i, record in enumerate(real_crystals(name, 61)):
        if len(record) > 40:
            continue
        check_crystal(record)
        for _, cell in variants(record, rng, [names[i % len(names)]]):
            check_cell(cell)
            seen += 1
    assert seen > 5


@real
def test_real_disordered_crystals() -> None:
    rng = np.random.default_rng(11)
    seen = 0
    for record in real_crystals("structures/mp-flla-2015.csv.gz", 200):
        mixed = tuple("Fe:0.5 Ni:0.5" if t == record.species[0] else t for t in record.species)
        if len(record) > 25:
            continue
        cell = Cell(record.lattice, record.frac_coords, mixed)
        check_cell(cell)
        check_cell(noisy(random_supercell(cell, rng, 2), rng, 0.02))
        seen += 1
    assert seen >= 8
