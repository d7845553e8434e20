"""Symmetry of records, against spglib, published prototypes, and what must not change it."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gandb.core.crystals import Crystal, crystal, crystal_of_matrix
from gandb.core.errors import MissingExtraError
from gandb.validation.symmetry import (
    SYMPREC,
    Symmetry,
    SymmetryError,
    find_symmetry,
    symmetry_recipe_parameters,
)

pytest.importorskip("moyopy")

CUBIC = (90.0, 90.0, 90.0)
HEXAGONAL = (90.0, 90.0, 120.0)
FACES = [(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)]


def placed(*sites: tuple[str, list[tuple[float, float, float]]]) -> dict[str, Any]:
    return {
        "species": [what for what, places in sites for _ in places],
        "frac_coords": [place for _, places in sites for place in places],
    }


def shifted(places: list[Any], by: tuple[float, float, float]) -> list[Any]:
    return [tuple(np.add(place, by)) for place in places]


def rock_salt(cation: str = "Na", anion: str = "Cl") -> Crystal:
    sites = placed((cation, FACES), (anion, shifted(FACES, (0.5, 0.5, 0.5))))
    return crystal((5.64,) * 3, CUBIC, **sites)


def rutile() -> Crystal:
    x = 0.3053  # W. H. Baur, Acta Cryst. 9, 515 (1956)
    ring = [(x, x, 0), (-x, -x, 0), (0.5 - x, 0.5 + x, 0.5), (0.5 + x, 0.5 - x, 0.5)]
    sites = placed(("Ti", [(0, 0, 0), (0.5, 0.5, 0.5)]), ("O", ring))
    return crystal((4.594, 4.594, 2.958), CUBIC, **sites)


def perovskite() -> Crystal:
    sites = placed(
        ("Sr", [(0.5, 0.5, 0.5)]),
        ("Ti", [(0, 0, 0)]),
        ("O", [(0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5)]),
    )
    return crystal((3.905,) * 3, CUBIC, **sites)


def wurtzite() -> Crystal:
    sites = placed(
        ("Zn", [(1 / 3, 2 / 3, 0), (2 / 3, 1 / 3, 0.5)]),
        ("S", [(1 / 3, 2 / 3, 0.3748), (2 / 3, 1 / 3, 0.8748)]),
    )
    return crystal((3.811, 3.811, 6.234), HEXAGONAL, **sites)


def diamond() -> Crystal:
    sites = placed(("C", FACES + shifted(FACES, (0.25, 0.25, 0.25))))
    return crystal((3.567,) * 3, CUBIC, **sites)


def quartz(*, right: bool) -> Crystal:
    """Alpha quartz of either hand; the left one is the mirror image through the origin."""
    # L. Levien et al., Am. Mineral. 65, 920 (1980), shifted to the origin of the Tables (z + 2/3).
    u, x, y, z = 0.4697, 0.4133, 0.2672, 0.1188 + 2 / 3
    third = 1 / 3
    silicon = [(u, 0, 2 * third), (0, u, third), (-u, -u, 0)]
    oxygen = [
        (x, y, z),
        (-y, x - y, z + 2 * third),
        (y - x, -x, z + third),
        (y, x, -z),
        (-x, y - x, 2 * third - z),
        (x - y, -y, third - z),
    ]
    sites = placed(("Si", silicon), ("O", oxygen))
    sign = 1 if right else -1
    coords = [tuple(sign * v for v in place) for place in sites["frac_coords"]]
    return crystal((4.916, 4.916, 5.4054), HEXAGONAL, sites["species"], coords)


PROTOTYPES = [
    # crystal, number, symbol, point group, Pearson symbol, sites in the primitive cell,
    # species with Wyckoff letter and site symmetry (letters up to a choice of origin)
    (rock_salt(), 225, "Fm-3m", "m-3m", "cF8", 2, {("Na", "ab", "m-3m"), ("Cl", "ab", "m-3m")}),
    (rutile(), 136, "P4_2/mnm", "4/mmm", "tP6", 6, {("Ti", "ab", "m.mm"), ("O", "fg", "m.2m")}),
    (
        perovskite(),
        221,
        "Pm-3m",
        "m-3m",
        "cP5",
        5,
        {("Sr", "ab", "m-3m"), ("Ti", "ab", "m-3m"), ("O", "cd", "4/mm.m")},
    ),
    (wurtzite(), 186, "P6_3mc", "6mm", "hP4", 4, {("Zn", "b", "3m."), ("S", "b", "3m.")}),
    (diamond(), 227, "Fd-3m", "m-3m", "cF8", 2, {("C", "ab", "-43m")}),
    (quartz(right=True), 154, "P3_221", "32", "hP9", 9, {("Si", "ab", ".2."), ("O", "c", "1")}),
    (quartz(right=False), 152, "P3_121", "32", "hP9", 9, {("Si", "ab", ".2."), ("O", "c", "1")}),
]


@pytest.mark.parametrize(
    ("record", "number", "symbol", "point_group", "pearson", "n_primitive", "sites"), PROTOTYPES
)
def test_published_prototypes(
    record: Crystal,
    number: int,
    symbol: str,
    point_group: str,
    pearson: str,
    n_primitive: int,
    sites: set[tuple[str, str, str]],
) -> None:
    found = find_symmetry(record)
    assert (found.space_group_number, found.space_group_symbol) == (number, symbol)
    assert (found.point_group, found.pearson_symbol) == (point_group, pearson)
    assert (found.n_primitive, found.symprec) == (n_primitive, SYMPREC)
    given = zip(record.species, found.wyckoff_letters, found.site_symmetries, strict=True)
    for what, letter, site_symmetry in set(given):
        [(_, letters, expected)] = [site for site in sites if site[0] == what]
        assert letter in letters
        assert site_symmetry == expected
    assert found.orbits == tuple(record.species.index(what) for what in record.species)


def test_crystal_systems_follow_the_number() -> None:
    # International Tables for Crystallography, Vol. A: the last number of each system.
    assert {find_symmetry(record).crystal_system for record, *_ in PROTOTYPES} == {
        "cubic",
        "tetragonal",
        "hexagonal",
        "trigonal",
    }


# --- what is alike -----------------------------------------------------------------------


def test_species_are_told_apart_by_their_whole_text() -> None:
    def number(*cations: str) -> int:
        sites = placed(
            *((what, [place]) for what, place in zip(cations, FACES, strict=True)),
            ("O", shifted(FACES, (0.5, 0.5, 0.5))),
        )
        return find_symmetry(crystal((4.2,) * 3, CUBIC, **sites)).space_group_number

    assert number("Fe", "Fe", "Fe", "Fe") == 225
    assert number("Fe3+", "Fe2+", "Fe2+", "Fe2+") == 221
    assert number("Fe:0.5 Ni:0.5", "Ni:0.5 Fe:0.5", "Fe:0.5 Ni:0.5", "Fe:0.5 Ni:0.5") == 225
    assert number("Fe:0.4 Ni:0.6", "Fe:0.5 Ni:0.5", "Fe:0.5 Ni:0.5", "Fe:0.5 Ni:0.5") == 221
    assert number("D", "H", "H", "H") == 221


def test_magnetic_moments_do_not_count() -> None:
    plain = rock_salt("Mn", "O")
    moments = [5.0, -5.0, 5.0, -5.0, 0.0, 0.0, 0.0, 0.0]
    magnetic = replace(plain, properties={"magmom": tuple(moments)})
    assert find_symmetry(magnetic) == find_symmetry(plain)


def test_a_partly_occupied_site_counts_once() -> None:
    sites = placed(("Li:0.5", FACES), ("Cl", shifted(FACES, (0.5, 0.5, 0.5))))
    found = find_symmetry(crystal((5.1,) * 3, CUBIC, **sites))
    assert (found.space_group_number, found.pearson_symbol) == (225, "cF8")


# --- what must not change it -------------------------------------------------------------


def supercell(record: Crystal, times: tuple[int, int, int]) -> Crystal:
    cells = np.array(list(product(*map(range, times))), float)
    coords = (record.frac_coords[:, None, :] + cells[None]) / times
    species = [what for what in record.species for _ in cells]
    return crystal(record.lengths * times, record.angles, species, coords.reshape(-1, 3))


def reset(record: Crystal, change: np.ndarray) -> Crystal:
    """Return the same crystal on other lattice vectors: change is integer, determinant 1 or -1."""
    coords = record.frac_coords @ np.linalg.inv(change)
    return crystal_of_matrix(change @ record.lattice, record.species, coords)


def unimodular(random: np.random.Generator) -> np.ndarray:
    change = np.eye(3)
    for _ in range(3):
        i, j = random.choice(3, 2, replace=False)
        change[i] += random.integers(-1, 2) * change[j]
    change[random.integers(3)] *= random.choice([-1, 1])
    return change


def facts(record: Crystal, found: Symmetry) -> tuple[Any, ...]:
    sites = Counter(zip(record.species, found.site_symmetries, strict=True))
    share = math.gcd(*sites.values())
    return (
        found.space_group_number,
        found.pearson_symbol,
        found.n_primitive,
        {site: n // share for site, n in sites.items()},
    )


@pytest.mark.parametrize("case", range(len(PROTOTYPES)))
def test_the_choice_of_cell_origin_and_order_does_not_matter(case: int) -> None:
    record: Crystal = PROTOTYPES[case][0]
    expected = facts(record, find_symmetry(record))
    random = np.random.default_rng(case)
    for _ in range(15):
        order = random.permutation(len(record))
        other = crystal(
            record.lengths,
            record.angles,
            [record.species[i] for i in order],
            record.frac_coords[order] + random.random(3),
        )
        times = tuple(random.integers(1, 4, 3).tolist())
        for same in (other, supercell(other, times), reset(other, unimodular(random))):
            assert facts(same, find_symmetry(same)) == expected


def test_supercells_keep_one_orbit_per_wyckoff_position() -> None:
    record = supercell(rock_salt(), (2, 3, 1))
    found = find_symmetry(record)
    assert set(found.orbits) == {0, record.species.index("Cl")}
    assert (found.pearson_symbol, found.n_primitive) == ("cF8", 2)


# --- tolerances and failures -------------------------------------------------------------


def test_tolerance_decides() -> None:
    record = perovskite()
    moved = record.frac_coords.copy()
    moved[record.species.index("Ti")] = (0, 0, 0.01)  # 0.039 Å
    polar = crystal(record.lengths, record.angles, record.species, moved)
    assert find_symmetry(polar, 0.01).space_group_symbol == "P4mm"
    assert find_symmetry(polar, 0.1).space_group_symbol == "Pm-3m"


def test_angle_tolerance_is_in_degrees() -> None:
    skewed = crystal((4.0,) * 3, (90.0, 90.0, 90.4), ["Po"], [(0, 0, 0)])
    assert find_symmetry(skewed, 0.05, angle_tolerance=1.0).space_group_number == 221
    assert find_symmetry(skewed, 0.05, angle_tolerance=0.1).space_group_number != 221


def test_failures_say_why_and_are_not_p1() -> None:
    coords = [(0.23, 0.98, 0.5), (0.24, 0.01, 0.48), (0.23, 0.98, 0.51)]
    near = crystal((4.0,) * 3, CUBIC, ["O:0.1", "O:0.1", "Cu:0.1"], coords)
    with pytest.raises(SymmetryError, match=r"no space group within 0.1 Å"):
        find_symmetry(near, 0.1)
    for tolerance in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(SymmetryError, match="must be above 0"):
            find_symmetry(rock_salt(), tolerance)
    with pytest.raises(SymmetryError, match=r"3\.91 Å high: at most 0\.2 Å"):
        find_symmetry(perovskite(), 1.0)


def test_thin_cells_and_their_supercells_are_refused() -> None:
    # moyo 0.21 does not come back from these.
    thin = crystal((0.0899, 1.8817, 0.0866), HEXAGONAL, ["Fe:0.5"], [(0.1, 0.2, 0.3)])
    with pytest.raises(SymmetryError, match="Å high"):
        find_symmetry(thin)
    with pytest.raises(SymmetryError, match=r"its sites repeat every 0\.0\d+ Å"):
        find_symmetry(supercell(thin, (3, 1, 3)))
    near = crystal((6.0,) * 3, CUBIC, ["Li:0.5"] * 2 + ["O"], [(0, 0, 0), (0, 0, 0.02), (0.5,) * 3])
    assert find_symmetry(near).space_group_number == 99


@pytest.mark.parametrize(("number", "used"), [(1, 0.0025), (2, 0.02)])
def test_answers_at_other_tolerances_are_no_answers(
    monkeypatch: pytest.MonkeyPatch, number: int, used: float
) -> None:
    import moyopy

    found = SimpleNamespace(number=number, symprec=used)
    monkeypatch.setattr(moyopy, "MoyoDataset", lambda *_, **__: found)
    with pytest.raises(SymmetryError, match=f"only number {number} within {used} Å"):
        find_symmetry(rock_salt())


def test_a_search_that_breaks_is_an_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import moyopy

    class PanicException(BaseException):
        pass

    def panic(*_: object, **__: object) -> None:
        raise PanicException("called `Option::unwrap()` on a `None` value")

    monkeypatch.setattr(moyopy, "MoyoDataset", panic)
    with pytest.raises(SymmetryError, match="broke: called"):
        find_symmetry(rock_salt())


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moyopy", None)
    with pytest.raises(MissingExtraError, match=r"gandb\[structures\]"):
        find_symmetry(rock_salt())


def test_the_terminal_stays_quiet() -> None:
    code = (
        "from tests.validation.test_symmetry import rock_salt, supercell, find_symmetry\n"
        "print(find_symmetry(supercell(rock_salt(), (2, 3, 1))).space_group_number)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert (done.stdout.strip(), done.stderr.strip()) == ("225", "")


def test_who_configures_logging_sees_the_warnings(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        find_symmetry(supercell(rock_salt(), (2, 3, 1)))
    assert "Omitted" in caplog.text


def test_recipe_parameters_name_program_version_and_tolerances() -> None:
    import moyopy

    found = symmetry_recipe_parameters(0.1, 5.0)
    assert (found["program"], found["version"]) == ("moyopy", moyopy.__version__)
    assert (found["symprec_angstrom"], found["angle_tolerance_degrees"]) == (0.1, 5.0)
    assert symmetry_recipe_parameters() != found


# --- spglib ------------------------------------------------------------------------------


@pytest.fixture
def spglib() -> Iterator[Any]:
    with warnings.catch_warnings():  # of a new way to report errors
        warnings.simplefilter("ignore", DeprecationWarning)
        yield pytest.importorskip("spglib")


def spglib_dataset(spglib: Any, record: Crystal, symprec: float) -> Any:
    kinds = {text: i for i, text in enumerate(dict.fromkeys(record.species))}
    cell = (record.lattice, record.frac_coords, [kinds[text] for text in record.species])
    return spglib.get_symmetry_dataset(cell, symprec=symprec)


def test_symbols_are_those_of_spglib(spglib: Any) -> None:
    import moyopy

    first: dict[int, Any] = {}
    for hall in range(1, 531):
        kind = spglib.get_spacegroup_type(hall)
        first.setdefault(kind.number, kind)
    for number, kind in first.items():
        group = moyopy.SpaceGroupType(number)
        assert group.hm_short.replace(" ", "") == kind.international_short
        assert group.geometric_crystal_class == kind.pointgroup_international


def test_real_structures_against_spglib(spglib: Any, shared_data: Path) -> None:
    gemmi = pytest.importorskip("gemmi")
    records: list[tuple[str, Crystal]] = []
    for name in ("aflow", "alexandria", "mp", "oqmd"):
        with zipfile.ZipFile(shared_data / "structures" / f"{name}-cifs.zip") as archive:
            names = sorted(n for n in archive.namelist() if n.endswith(".cif"))
            for member in names[::8]:
                block = gemmi.cif.read_string(archive.read(member).decode()).sole_block()
                small = gemmi.make_small_structure_from_block(block)
                cell = small.cell
                record = crystal(
                    (cell.a, cell.b, cell.c),
                    (cell.alpha, cell.beta, cell.gamma),
                    [site.element.name for site in small.sites],
                    [site.fract.tolist() for site in small.sites],
                )
                records.append((member, record))
    agreed = 0
    for member, record in records:
        theirs = spglib_dataset(spglib, record, SYMPREC)
        try:
            ours = find_symmetry(record)
        except SymmetryError:
            continue
        if ours.space_group_number != theirs.number:
            # Where the two disagree, half or twice the tolerance changes the other's mind.
            near = {spglib_dataset(spglib, record, SYMPREC * f).number for f in (0.5, 2.0)}
            assert ours.space_group_number in near, member
            continue
        agreed += 1
        assert ours.space_group_symbol == theirs.international
        assert ours.hall_number == theirs.hall_number
        assert ours.point_group == theirs.pointgroup
        assert ours.n_primitive == len(set(theirs.mapping_to_primitive.tolist()))
        assert list(ours.orbits) == theirs.crystallographic_orbits.tolist()
        assert list(ours.site_symmetries) == list(theirs.site_symmetry_symbols)
    assert agreed >= 0.99 * len(records)
