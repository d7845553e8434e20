"""POSCAR, against pymatgen's Poscar and ASE's read_vasp."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import random
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io.vasp import read_vasp, write_vasp
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Poscar

from gandb.core.errors import InputError
from gandb.sources.base import Reject
from gandb.sources.poscar import POSCAR, decode_poscar
from gandb.sources.records import Encoded, Member, Record, Sites

SHARED = Path(
    os.environ.get("GANDB_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
).resolve()
JARVIS = SHARED / "generated" / "jarvis-atomgen"
REST_ENTRY = SHARED / "native" / "aflow" / "rest-entry"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the real structures are not here")

HEAD = "comment\n1.0\n4 0 0\n0 5 0\n0 0 6\n"
PLAIN = HEAD + "Fe O\n1 2\nDirect\n0 0 0\n0.25 0.5 0.5\n0.75 0.5 0.5\n"


def by_pymatgen(text: str) -> Structure:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Poscar.from_str(text).structure


def fractional(sites: Sites) -> np.ndarray:
    coords = np.array(sites.coords, float)
    found: np.ndarray = (
        coords @ np.linalg.inv(np.array(sites.lattice)) if sites.cartesian else coords
    )
    return found


def assert_as_pymatgen(text: str) -> Sites:
    sites, structure = decode_poscar(text), by_pymatgen(text)
    assert np.abs(np.array(sites.lattice) - structure.lattice.matrix).max() < 1e-9
    assert np.abs(fractional(sites) - structure.frac_coords).max() < 1e-9
    assert list(sites.species) == [site.species_string for site in structure]
    return sites


def assert_as_ase(text: str) -> Sites:
    sites, atoms = decode_poscar(text), read_vasp(io.StringIO(text))
    assert np.abs(np.array(sites.lattice) - atoms.cell.array).max() < 1e-9
    assert np.abs(fractional(sites) - atoms.get_scaled_positions(wrap=False)).max() < 1e-9
    assert list(sites.species) == atoms.get_chemical_symbols()
    return sites


def records(text: str | bytes, name: str = "POSCAR") -> list[Record | Reject]:
    data = text.encode() if isinstance(text, str) else text
    return list(POSCAR.read(Member(name, len(data), lambda: io.BytesIO(data))))


# --- real files ---------------------------------------------------------------------------


@real
def test_candidates_of_the_leaderboard() -> None:
    number = 0
    for path in sorted(JARVIS.glob("*.zip")):
        archive = zipfile.ZipFile(path)
        with archive.open(archive.namelist()[0]) as handle:
            for row in csv.DictReader(io.TextIOWrapper(handle)):
                for column in ("target", "prediction"):
                    number += 1
                    text = row[column].replace("\\n", "\n")
                    if number % 10 == 0:
                        assert_as_pymatgen(text)
                    if number % 50 == 0:
                        assert_as_ase(text)
    assert number == 16_110


@real
def test_files_of_an_aflow_entry() -> None:
    expected = ["Al", "Al", "Cu", "Mn"]
    assert assert_as_pymatgen((REST_ENTRY / "CONTCAR.relax.vasp").read_text()).species == expected
    for name in ("CONTCAR.relax", "POSCAR.orig"):  # of VASP 4: pymatgen makes names up
        text = (REST_ENTRY / name).read_text()
        sites, structure = decode_poscar(text), by_pymatgen(text)
        assert sites.species == expected
        assert np.abs(np.array(sites.lattice) - structure.lattice.matrix).max() < 1e-9
        assert np.abs(fractional(sites) - structure.frac_coords).max() < 1e-9
    assert abs(sites.crystal().volume - 55.4646) < 1e-6  # a negative factor is the volume


# --- what is written ----------------------------------------------------------------------

coordinates = st.floats(-2, 2, allow_nan=False).map(lambda x: round(x, 9))


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(*[st.floats(3, 30)] * 3, *[st.floats(70, 110)] * 3),
    st.lists(
        st.tuples(st.sampled_from(["Fe", "O", "Na"]), st.tuples(*[coordinates] * 3)),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_what_ase_and_pymatgen_write(
    cell: tuple[float, ...],
    atoms: list[tuple[str, tuple[float, float, float]]],
    direct: bool,
    named: bool,
    selective: bool,
) -> None:
    lattice = Lattice.from_parameters(*cell)
    symbols, coords = [s for s, _ in atoms], [c for _, c in atoms]
    structure = Structure(lattice, symbols, coords)
    flags = [[k % 2 == 1, k % 3 == 0, True] for k in range(len(atoms))] if selective else None
    poscar = Poscar(structure, "made", selective_dynamics=flags, sort_structure=False)
    sites = assert_as_pymatgen(poscar.get_str(direct=direct, significant_figures=12))
    assert sites.properties == ({"selective_dynamics": flags} if flags else {})
    assert np.abs(fractional(sites) - np.array(coords)).max() < 1e-9

    made = Atoms(symbols, cell=lattice.matrix, scaled_positions=coords, pbc=True)
    handle = io.StringIO()
    write_vasp(handle, made, direct=direct, vasp5=named)
    if named:
        assert_as_ase(handle.getvalue())


@pytest.mark.parametrize("scale", ["1.0", "2.5", "-120.0", "1.1 1.2 1.3", "0.5 ! half", "1d0"])
@pytest.mark.parametrize("mode", ["Direct", "Cartesian", "k", "direct (4) [A2]", "fractional"])
def test_scale_factors(scale: str, mode: str) -> None:
    """Held against ASE: pymatgen knows no three factors and scales by a negative volume."""
    text = PLAIN.replace("1.0", scale, 1).replace("Direct", mode).replace("4 0 0", "4 0.5 0.1")
    plain = text.replace(" ! half", "").replace("1d0", "1.0")
    sites, atoms = decode_poscar(text), read_vasp(io.StringIO(plain))
    assert np.abs(np.array(sites.lattice) - atoms.cell.array).max() < 1e-9
    assert np.abs(fractional(sites) - atoms.get_scaled_positions(wrap=False)).max() < 1e-9
    if scale.startswith("-"):
        assert abs(sites.crystal().volume - 120) < 1e-6


def test_velocities_and_what_follows_are_left_out() -> None:
    tails = [
        "\n 0 0 0\n 1 1 1\n 2 2 2\n", " \n0 0 0\n0 0 0\n0 0 0\n\n1\n",
        "Cartesian\n0 0 0\n0 0 0\n0 0 0\n",
        "Lattice velocities and vectors\n 1\n", "\n\n\n",
    ]  # fmt: skip
    for tail in tails:
        assert len(decode_poscar(PLAIN + tail).species) == 3


@pytest.mark.parametrize(
    ("comment", "counts", "species"),
    [
        ("Al Cu Mn", "2 1 1", ["Al", "Al", "Cu", "Mn"]),
        ("Al2 Cu1 Mn1", "2 1 1", ["Al", "Al", "Cu", "Mn"]),
        ("Al2CuMn", "2 1 1", ["Al", "Al", "Cu", "Mn"]),
        ("Al2CuMn  prototype L2_1", "4 2 2", ["Al"] * 4 + ["Cu"] * 2 + ["Mn"] * 2),
        ("AlCu_pvMn_pv/T0001.A2BC - (T0001.A2BC)", "2 1 1", ["Al", "Al", "Cu", "Mn"]),
        ("Mg_pvOs_pv/x", "1 1", ["Mg", "Os"]),
        ("Si", "2", ["Si", "Si"]),
        ("Si diamond", "2", ["Si", "Si"]),
    ],
)
def test_species_of_version_4_in_the_comment(comment: str, counts: str, species: list[str]) -> None:
    total = sum(map(int, counts.split()))
    coords = "".join(f"0 0 {k / total}\n" for k in range(total))
    text = f"{comment}\n{HEAD.partition(chr(10))[2]}{counts}\nDirect\n{coords}"
    assert decode_poscar(text).species == species


@pytest.mark.parametrize(
    "comment", ["", "generated", "Al Cu", "Al Cu Mn Fe", "CuAl2Mn", "unknown structure", "X Y Q",
                "POSCAR", "3 1 1"]
)  # fmt: skip
def test_species_that_nothing_names_are_refused(comment: str) -> None:
    coords = "".join(f"0 0 {k / 4}\n" for k in range(4))
    text = f"{comment}\n{HEAD.partition(chr(10))[2]}2 1 1\nDirect\n{coords}"
    with pytest.raises(InputError, match="add a line of symbols"):
        decode_poscar(text)


def test_species_at_the_ends_of_lines() -> None:
    coords = "0 0 0 Fe_pv\n0 0 0.3 O\n0 0 .6 O\n"
    assert decode_poscar(f"{HEAD}1 2\nDirect\n{coords}").species == ["Fe", "O", "O"]
    selective = "0 0 0 T T F Fe\n0 0 0.3 T F F O\n0 0 .6 .FALSE. F F O\n"
    sites = decode_poscar(f"{HEAD}1 2\nSelective dynamics\nDirect\n{selective}")
    assert sites.species == ["Fe", "O", "O"]
    assert sites.properties["selective_dynamics"][1] == [True, False, False]
    with pytest.raises(InputError, match="is it cut off"):
        decode_poscar(f"{HEAD}Fe O\n1 2\nDirect\n{coords[:-3]}")
    with pytest.raises(InputError, match="contradict the counts"):
        decode_poscar(f"{HEAD}2 1\nDirect\n{coords}")
    with pytest.raises(InputError, match="site 1 is O by the header and Fe by its own line"):
        decode_poscar(f"{HEAD}O Fe\n1 2\nDirect\n{coords}")


@pytest.mark.parametrize("name", ["Cu_pv", "Cu/2f1c9a", "Cu", "Cu.pbe", "Cu:PAW_PBE"])
def test_names_of_potentials(name: str) -> None:
    text = f"{HEAD}{name} O # x\n1 2 ! y\nDirect\n0 0 0\n0 0 .3\n0 0 .6\n"
    assert decode_poscar(text).species == ["Cu", "O", "O"]


# --- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("0.75 0.5 0.5\n", "", "3 sites are announced and 2 are there"),
        ("0.75 0.5 0.5\n", "0.75 0.5\n", "line 11: '0.75 0.5' is no coordinates"),
        ("0.75 0.5 0.5\n", "\n0.75 0.5 0.5\n", "line 11: is empty"),
        ("0.75 0.5 0.5\n", "0.75 0.5 0.5\n0.1 0.1 0.1\n", "line 12: coordinates beyond the 3"),
        ("0.75 0.5 0.5\n", "0.75 x 0.5\n", "line 11: must be 3 numbers"),
        ("0.75 0.5 0.5\n", "0.75 nan 0.5\n", "line 11"),
        ("0.75 0.5 0.5\n", "0.75 1_0 0.5\n", "line 11: must be 3 numbers"),
        ("0.75 0.5 0.5\n", "0.75 \u0661 0.5\n", "line 11: must be 3 numbers"),
        ("0.75 0.5 0.5\n", "0.75 ****** 0.5\n", "line 11: must be 3 numbers"),
        ("1.0\n", "zero\n", "line 2: must be a scale"),
        ("1.0\n", "0\n", "line 2: must be a scale"),
        ("1.0\n", "nan\n", "line 2: must be a scale"),
        ("1.0\n", "1 -1 1\n", "line 2: must be a scale"),
        ("4 0 0\n", "4 0\n", "line 3: must be 3 numbers"),
        ("4 0 0\n", "4 inf 0\n", "line 3: must be 3 numbers"),
        ("Fe O\n", "Fe Xx\n", "'Xx' is no element"),
        ("Fe O\n", "Fe H.5\n", "'H.5' is no element"),
        ("Fe O\n", "Fe O S\n", "3 species .* and 2 counts"),
        ("1 2\n", "1 two\n", "line 7: must count"),
        ("1 2\n", "1.0 2.0\n", "line 7: must count"),
        ("1 2\n", "0 0\n", "make no structure"),
        ("1 2\n", "1 20000\n", "make no structure"),
        ("Direct\n", "", "line 8: must say Direct or Cartesian"),
        ("Direct\n", "\n", "line 8: must say Direct or Cartesian"),
        ("Direct\n", "Selective\nDirect\n", "needs three of T and F"),
        ("4 0 0\n", "0 0 0\n", "cell"),
        ("4 0 0\n", "4e9 0 0\n", "1,000"),
        ("0.75", "0.25", "at one place"),
    ],
)
def test_what_is_wrong_is_said(old: str, new: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        decode_poscar(PLAIN.replace(old, new, 1)).crystal()


def test_a_volume_without_vectors_is_refused() -> None:
    text = PLAIN.replace("1.0", "-50", 1).replace("4 0 0", "0 5 0")
    with pytest.raises(InputError, match="span no volume"):
        decode_poscar(text)


def test_every_cut_is_refused_or_whole() -> None:
    for end in range(len(PLAIN) - 2):
        try:
            sites = decode_poscar(PLAIN[:end]).crystal()
        except InputError:
            continue
        assert len(sites) == 3
        assert end > PLAIN.rindex("\n", 0, -1)  # within the last number


# --- reader -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("POSCAR", None), ("mp-149/POSCAR", "mp-149"), ("x.zip/mp-149/CONTCAR", "mp-149"),
        ("POSCAR_mp-149", "mp-149"), ("a/mp-149.vasp", "mp-149"), ("mp-149.POSCAR.vasp", "mp-149"),
        ("aflow/CONTCAR.relax.vasp", "aflow"), ("x/POSCAR.mp-1", "mp-1"), ("x/a-poscar", "a"),
    ],
)  # fmt: skip
def test_ids_come_from_names(name: str, own: str | None) -> None:
    [record] = records(PLAIN, name)
    assert isinstance(record, Record)
    assert record.external_id == own
    assert record.extra == {"comment": "comment"}
    assert record.structure == Encoded("poscar", PLAIN)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (PLAIN.encode("utf-16"), "not UTF-8"),
        (PLAIN.encode("utf-16-le"), "UTF-16"),
        (PLAIN.replace("comment", "caf\xe9").encode("latin-1"), "not UTF-8: byte 0xe9"),
        (bytes(5_000), "binary"),
        (b"1 2 3\n" * 3_000_000, "more than"),
    ],
)
def test_what_is_no_poscar_is_one_reject(data: bytes, reason: str) -> None:
    [found] = records(data)
    assert isinstance(found, Reject)
    assert reason in found.reason
    assert len(found.raw) <= 1_000


def test_which_files_are_taken_for_poscar() -> None:
    for name in ("a/poscar", "contcar.relax", "x.vasp", "poscar_1", "x.poscar"):
        assert POSCAR.fits(name, b"")
    assert POSCAR.fits("structure", PLAIN.encode())
    assert POSCAR.fits("structure.txt", (HEAD + "2 1\nDirect\n0 0 0\n").encode())
    for name, head in (("a.cif", PLAIN), ("notes.txt", "a\n" * 20), ("poscar.json", "")):
        assert not POSCAR.fits(name, head.encode())


def test_mutations_never_crash() -> None:
    rng = random.Random(3)
    selective = f"{HEAD}1 2\nS\nD\n0 0 0 T T F Fe\n0 0 0.3 T F F O\n0 0 .6 F F F O\n\n0 0 0\n"
    outcomes = {"crystal": 0, "refused": 0, "reject": 0}
    tokens = [
        "\n",
        " ",
        "-1",
        "nan",
        "1e400",
        "Xx",
        "\x00",
        "é",
        "999999999999",
        "T",
        "Direct\n",
        "1_0",
        "①",
    ]
    for number in range(600):
        text = (PLAIN, selective)[number % 2]
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(["", rng.choice(tokens)]) + text[at + rng.randint(0, 9) :]
        for one in records(text):
            if isinstance(one, Reject):
                outcomes["reject"] += 1
                continue
            assert isinstance(one.structure, Encoded)
            outcome = "refused"
            with contextlib.suppress(InputError):
                decode_poscar(one.structure.text).crystal()
                outcome = "crystal"
            outcomes[outcome] += 1
    assert min(outcomes.values()) > 10


def test_a_last_number_that_is_cut_off_is_refused() -> None:
    """At no place can a file that a program wrote be cut into another structure."""
    handle = io.StringIO()
    places = [[0.12345678, 0.25, 0.75], [2.5, 2.61234567, 2.71234567]]
    write_vasp(handle, Atoms("NaCl", places, cell=[5, 5, 5], pbc=True), direct=False)
    text = handle.getvalue()
    whole = decode_poscar(text).crystal().id
    for at in range(len(text)):
        with contextlib.suppress(InputError):
            assert decode_poscar(text[:at]).crystal().id == whole, text[:at]
