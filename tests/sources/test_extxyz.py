"""Extended XYZ, against ASE's reader and writer."""

from __future__ import annotations

import contextlib
import io
import random
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.core.errors import InputError
from gandb.sources import extxyz
from gandb.sources.base import Reject
from gandb.sources.extxyz import EXTXYZ
from gandb.sources.records import Member, Record, Sites

PLAIN = (
    '2\nLattice="4.0 0.0 0.0 0.0 4.0 0.0 0.0 0.0 5.0" Properties=species:S:1:pos:R:3 '
    'energy=-10.5 pbc="T T T"\nFe 0.0 0.0 0.0\nO 2.0 2.0 2.5\n'
)


def records(text: str | bytes, name: str = "dir/x.extxyz") -> list[Record | Reject]:
    data = text.encode() if isinstance(text, str) else text
    return list(EXTXYZ.read(Member(name, len(data), lambda: io.BytesIO(data))))


def only(text: str | bytes) -> tuple[Record, Sites]:
    [record] = records(text)
    assert isinstance(record, Record), record
    assert isinstance(record.structure, Sites)
    return record, record.structure


def refused(text: str | bytes) -> str:
    [found] = records(text)
    if isinstance(found, Record):
        assert isinstance(found.structure, Sites)
        with pytest.raises(InputError) as caught:
            found.structure.crystal()
        return str(caught.value)
    assert found.reason
    assert len(found.raw) <= 1_000
    return found.reason


def written(frames: list[Atoms], **options: Any) -> str:
    handle = io.StringIO()
    write(handle, frames, format="extxyz", **options)
    return handle.getvalue()


# --- what ASE writes ----------------------------------------------------------------------

floats = st.floats(-20, 20).map(lambda x: round(x, 8))
vectors = st.tuples(floats, floats, floats)


@st.composite
def structures(draw: st.DrawFn) -> Atoms:
    n = draw(st.integers(1, 6))
    symbols = draw(st.lists(st.sampled_from(["Fe", "O", "Na"]), min_size=n, max_size=n))
    lengths = draw(st.tuples(*[st.floats(3, 20)] * 3))
    atoms = Atoms(
        symbols,
        positions=draw(st.lists(vectors, min_size=n, max_size=n)),
        cell=np.diag(lengths) + np.array([[0, 0.1, 0.2], [0.3, 0, 0.4], [0.5, 0.6, 0]]),
        pbc=True,
    )
    if draw(st.booleans()):
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=draw(floats),
            forces=draw(st.lists(vectors, min_size=n, max_size=n)),
            magmoms=draw(st.lists(floats, min_size=n, max_size=n)),
        )
    for key in draw(st.sets(st.sampled_from(["a", "name with blank", "flag", "list"]))):
        atoms.info[key] = draw(
            st.one_of(
                st.integers(-5, 5), floats, st.booleans(), st.sampled_from(["text", "a b", "x=y"])
            )
        )
    return atoms


@settings(max_examples=100, deadline=None)
@given(st.lists(structures(), min_size=1, max_size=4))
def test_what_ase_writes_is_read_as_ase_reads_it(frames: list[Atoms]) -> None:
    text = written(frames)
    theirs = read(io.StringIO(text), index=":", format="extxyz")
    mine = records(text)
    assert len(mine) == len(theirs) == len(frames)
    for record, atoms in zip(mine, theirs, strict=True):
        assert isinstance(record, Record)
        assert isinstance(record.structure, Sites)
        sites = record.structure
        assert sites.cartesian
        assert np.array_equal(np.array(sites.lattice), atoms.cell.array)
        assert np.array_equal(np.array(sites.coords), atoms.positions)
        assert list(sites.species) == atoms.get_chemical_symbols()
        if atoms.calc is None:
            assert sites.properties == {}
            assert record.properties == {}
        else:
            assert np.array_equal(np.array(sites.properties["forces"]), atoms.get_forces())
            moments = atoms.get_magnetic_moments()
            assert np.array_equal(np.array(sites.properties["magmom"]), moments)
            energy = atoms.get_potential_energy() / len(atoms)
            assert record.properties["energy_per_atom"] == pytest.approx(energy, abs=1e-14)
        for key, value in atoms.info.items():
            assert record.extra[key] == value, key


def test_lines_and_names_of_frames() -> None:
    found = records(PLAIN * 3)
    assert [r.line for r in found] == [1, 5, 9]
    names = [r.external_id for r in found if isinstance(r, Record)]
    assert names == ["x#1", "x#2", "x#3"]
    assert only(PLAIN)[0].external_id == "x"
    text = PLAIN.replace("energy", "material_id=mp-149 energy")
    assert [r.external_id for r in records(text * 2) if isinstance(r, Record)] == ["mp-149"] * 2


def test_energies_are_properties_and_the_rest_is_extra() -> None:
    text = PLAIN.replace(
        "energy=-10.5",
        'energy=-10.5 energy_above_hull=0.25 band_gap=1.5 stress="1 2 3 4 5 6 7 8 9" lone '
        "note='a b' nothing=nan virial=_JSON [[1,2],[3,4]] set={1 2 3} T=300",
    )
    record, _ = only(text)
    assert record.properties == {"energy_per_atom": -5.25, "energy_above_hull": 0.25}
    extra = dict(record.extra)
    assert extra.pop("stress") == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert extra.pop("lattice") == [[4, 0, 0], [0, 4, 0], [0, 0, 5]]
    assert extra.pop("band_gap") == 1.5
    assert extra.pop("lone") is True
    assert extra.pop("note") == "a b"
    assert extra.pop("set") == [1, 2, 3]
    assert extra.pop("T") == 300
    assert "nothing" not in extra


def test_columns_of_any_order_and_atomic_numbers() -> None:
    comment = 'Lattice="4 0 0 0 4 0 0 0 5" Properties=id:I:1:pos:R:3:Z:I:1:fixed:L:1:charges:R:1'
    _, sites = only(f"2\n{comment}\n1 0 0 0 26 T 0.5\n2 2 2 2.5 8 F -0.5\n")
    assert list(sites.species) == ["Fe", "O"]
    assert sites.properties == {"charge": [0.5, -0.5]}
    crystal = sites.crystal()
    assert crystal.frac_coords.tolist() == [[0.5, 0.5, 0.5], [0.0, 0.0, 0.0]]


# --- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("T T T", "T T F", "not periodic"),
        ("T T T", "F F F", "not periodic"),
        ('Lattice="4.0 0.0 0.0 0.0 4.0 0.0 0.0 0.0 5.0" ', "", "no Lattice"),
        ("0.0 5.0", "5.0", "nine numbers"),
        ("0.0 5.0", "0.0 nan", "Lattice"),
        ("0.0 5.0", "0.0 0.0", "not all positive"),
        ("0.0 5.0", "0.0 5e9", "1,000"),
        ("Fe 0.0", "Fe nan", "not finite"),
        ("Fe 0.0", "Fe x", "not of type R"),
        ("Fe 0.0", "Fe 1_0", "not of type R"),
        ("Fe 0.0", "Fe", "3 columns where 4"),
        ("Fe 0.0", "Fe 0.0 0.0", "5 columns where 4"),
        ("Fe 0.0", "Xx 0.0", "Xx"),
        ("pos:R:3", "pos:R:2", "no positions"),
        ("pos:R:3", "pos:R", "not a list of name"),
        ("pos:R:3", "pos:Q:3", "unknown or doubled"),
        ("pos:R:3", "pos:R:999999999", "not a list of name"),
        ("species:S:1", "kind:S:1", "neither species"),
        ("2\n", "3\n", "3 atoms are announced and 2 are there"),
        ("2\n", "1\n", "more than the 1 atoms"),
        ("2\n", "0\n", "0 atoms"),
        ("2\n", "two\n", "number of atoms"),
        ("2\n", "-2\n", "number of atoms"),
        ("2\n", "100000\n", "100,000 atoms are announced and 2 are there"),
        ("2\n", "999999999999\n", "1 to 10,000"),
        ("O 2.0 2.0 2.5", "O 0.0 0.0 0.0", "at one place"),
        ("O 2.0 2.0 2.5\n", "", "2 atoms are announced and 1 are there"),
    ],
)
def test_what_is_wrong_is_said(old: str, new: str, reason: str) -> None:
    assert reason in refused(PLAIN.replace(old, new, 1))


@pytest.mark.parametrize(
    "data",
    [b"", b"\n\n", b"hello\n" * 100_000, bytes(100_000), PLAIN.encode("utf-16"), b"2\n",
     PLAIN.replace("energy", "name=\xe9").encode("latin-1"), b"1\n" * 200_000, b"x" * 3_000_000,
     b"1000000\n\n" + b"H 0 0 0\n" * 300_000],
)  # fmt: skip
def test_what_is_no_extended_xyz_is_rejects(data: bytes) -> None:
    found = records(data)
    assert found
    assert all(isinstance(one, Reject) for one in found)


@pytest.mark.parametrize(
    "bad",
    [
        PLAIN.replace("O 2.0 2.0 2.5\n", ""),
        PLAIN.replace("Fe 0.0", "Fe x"),
        PLAIN + "O 1 1 1\n",
        PLAIN.replace("2\n", "1\n", 1),
        PLAIN.replace("2\n", "5\n", 1),
        PLAIN.replace("2\n", "oops\n", 1),
        PLAIN.replace("Lattice", "Cell"),
        PLAIN.replace("T T T", "T T F"),
        PLAIN.replace("2\n", "99999999999\n", 1),
        PLAIN.replace("Fe", "F\udce9"),
        PLAIN.replace("energy", "name=\udce9"),
    ],
)
def test_one_bad_frame_costs_one_frame(bad: str) -> None:
    data = (PLAIN + bad + PLAIN * 2).encode(errors="surrogateescape")
    good = []
    rejects = []
    for one in records(data):
        if isinstance(one, Reject):
            rejects.append(one)
        else:
            assert isinstance(one.structure, Sites)
            try:
                good.append(len(one.structure.crystal()))
            except InputError:
                rejects.append(Reject(one.file, one.line, "", ""))
    assert good == [2, 2, 2]
    assert [one.line for one in rejects] == [5]


def test_lines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extxyz, "MAX_LINE_BYTES", 1_000)
    long = PLAIN.replace("energy", "note=" + "x" * 2_000 + " energy")
    assert all(isinstance(one, Reject) for one in records(long))
    monkeypatch.setattr(extxyz, "MAX_FRAME_BYTES", 40)
    found = records(PLAIN * 2 + PLAIN.replace("O 2.0 2.0 2.5", "O 2 2 2"))
    assert [type(one) for one in found] == [Record] * 3
    monkeypatch.setattr(extxyz, "MAX_FRAME_BYTES", 27)
    found = records(PLAIN * 2 + PLAIN.replace("O 2.0 2.0 2.5", "O 2 2 2"))
    assert [type(one) for one in found] == [Reject, Reject, Record]


def test_frames_stream() -> None:
    """A frame is given before the next ones but one are read."""
    taken = []

    class Slow(io.RawIOBase):
        def __init__(self) -> None:
            self._left = 10_000

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            if not self._left:
                return 0
            self._left -= 1
            taken.append(1)
            data = PLAIN.encode()
            buffer[: len(data)] = data
            return len(data)

    found = EXTXYZ.read(Member("x.extxyz", None, lambda: io.BufferedReader(Slow())))
    next(found)
    assert len(taken) < 100
    assert sum(1 for _ in found) == 9_999


def test_which_files_are_taken_for_extended_xyz() -> None:
    assert EXTXYZ.fits("a/b.extxyz", b"")
    assert EXTXYZ.fits("a/b.xyz", b"")
    assert EXTXYZ.fits("frames", PLAIN.encode())
    assert not EXTXYZ.fits("frames", b"2\nwater\nO 0 0 0\n")


def test_mutations_never_crash() -> None:
    rng = random.Random(4)
    source = PLAIN + PLAIN.replace("pos:R:3", "pos:R:3:forces:R:3").replace("0\n", "0 1 2 3\n")
    tokens = ["\n", " ", "nan", "=", '"', "'", "[", "{", "\x00", "é", "99999999999",
              "Lattice=", "2\n", "T", ":", "1e999"]  # fmt: skip
    outcomes = {Record: 0, Reject: 0}
    for _ in range(600):
        text = source
        for _ in range(rng.randint(1, 5)):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(["", rng.choice(tokens)]) + text[at + rng.randint(0, 9) :]
        for one in records(text):
            outcomes[type(one)] += 1
            if isinstance(one, Record):
                assert isinstance(one.structure, Sites)
                with contextlib.suppress(InputError):
                    one.structure.crystal()
    assert min(outcomes.values()) > 50


def test_a_last_number_that_is_cut_off_is_refused() -> None:
    """At no place can a file that a program wrote be cut into another structure."""
    places = [[0.12345678, 0.25, 0.75], [2.5, 2.61234567, 2.71234567]]
    text = written([Atoms("NaCl", places, cell=[5, 5, 5], pbc=True)])
    whole = only(text)[1].crystal().id
    for at in range(1, len(text)):
        for found in records(text[:at]):
            if isinstance(found, Record):
                assert isinstance(found.structure, Sites)
                assert found.structure.crystal().id == whole, text[:at]
