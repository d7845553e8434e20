"""``gandb identify``, ``gandb novelty`` and ``gandb match`` from the outside."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gandb.cli.identity import IDENTIFY_EPILOG, NOVELTY_EPILOG
from tests.cli.test_commands import Outcome
from tests.crowds import BASES, extxyz, rocksalt, rutile, write
from tests.variants import Cell, diagonal_supercell, moved, noisy

RNG = np.random.default_rng(2)
NEAR = moved(noisy(diagonal_supercell(BASES[6], RNG), RNG, 0.01), RNG)


def poscar(cell: Cell, target: Path) -> Path:
    """Write a cell whose sites stand together by kind."""
    kinds = list(dict.fromkeys(cell.species))
    order = [i for kind in kinds for i, own in enumerate(cell.species) if own == kind]
    lines = ["cell", "1.0", *(" ".join(map(repr, row)) for row in cell.lattice.tolist())]
    lines += [" ".join(kinds), " ".join(str(cell.species.count(kind)) for kind in kinds), "Direct"]
    lines += [" ".join(map(repr, cell.frac_coords[i].tolist())) for i in order]
    target.write_text("\n".join(lines) + "\n")
    return target


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("identity")
    named = extxyz([BASES[6], NEAR])
    for name in ("mp-2657", "mp-99"):
        named = named.replace('pbc="T T T"\n', f'pbc="T T T" material_id={name}\n', 1)
    (folder / "titania.extxyz").write_text(named)
    write(folder, "others", [*BASES[:6], *BASES[7:12]])
    write(folder, "new", [NEAR, rocksalt(6.6, "K", "Br"), rutile(4.0, 6.5, 0.305, "Ti", "O")])
    poscar(BASES[6], folder / "one.vasp")
    poscar(NEAR, folder / "near.vasp")
    poscar(BASES[7], folder / "other.vasp")
    (folder / "formulas.json").write_text(
        json.dumps([{"material_id": "mp-5", "formula_pretty": "NaCl", "band_gap": 5.0}])
    )
    return folder


@pytest.fixture(scope="module")
def lab(folder: Path) -> str:
    """A store with entries of two sources and candidates of two models, all identified."""
    store = str(folder / "store")
    for command in (
        ("init", store),
        ("import", "mp", folder / "titania.extxyz"),
        ("import", "mine", folder / "others.extxyz"),
        ("dataset", "create", "d", "--where", "source = 'mine'"),
        ("import", "candidates", folder / "new.extxyz", "--model", "gen"),
        ("import", "candidates", folder / "formulas.json", "--model", "formulas"),
    ):
        outcome = Outcome(*command, store=store)
        assert outcome.code == 0, outcome.err
    outcome = Outcome("identify", "--json", store=store)
    assert outcome.code == 0, outcome.err
    (row,) = outcome.rows
    # The two titania are one material, and the candidate NEAR is one of their records.
    counted = {k: row[k] for k in ("kind", "structures", "new", "materials")}
    assert counted == {"kind": "identify", "structures": 15, "new": 15, "materials": 14}
    return store


# --- identify ----------------------------------------------------------------------------


def test_identify_again_says_that_nothing_is_new(lab: str) -> None:
    outcome = Outcome("identify", store=lab)
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == "nothing is new: every structure has its material\n"
    assert Outcome("identify", "--json", store=lab).rows == []


def test_an_empty_store_is_said_to_be_empty(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    assert Outcome("init", store).code == 0
    outcome = Outcome("identify", store=store)
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == "no structure is in the store yet; begin with: gandb import\n"


def test_identify_under_other_tolerances(lab: str) -> None:
    strict = ("--ltol", "0.01", "--stol", "0.001", "--angle-tol", "0.1")
    (row,) = Outcome("identify", *strict, "--json", store=lab).rows
    assert (row["structures"], row["materials"]) == (15, 15)
    plain = Outcome("identify", *strict, store=lab)
    assert "nothing is new" in plain.err
    query = "SELECT count(*) AS n FROM materials GROUP BY standard ORDER BY standard"
    found = Outcome("sql", query, "--json", store=lab).rows
    assert [row["n"] for row in found] == [15, 14]


def test_the_examples_of_the_help_run(lab: str) -> None:
    statements = re.findall(r'gandb sql "([^"]*)"', IDENTIFY_EPILOG + NOVELTY_EPILOG)
    assert len(statements) == 3
    for statement in statements:
        outcome = Outcome("sql", statement.replace("\\\n", ""), "--json", store=lab)
        assert outcome.code == 0, outcome.err


def test_identify_may_be_left_to_a_worker(folder: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    assert Outcome("init", store).code == 0
    assert Outcome("import", "mine", folder / "others.extxyz", store=store).code == 0
    for kind in ("keys", "identify"):
        outcome = Outcome("identify", "--no-wait", "--json", store=store)
        assert outcome.code == 0
        (row,) = outcome.rows
        assert row["kind"] == kind
        assert ("give the command again" in outcome.err) == (kind == "keys")
        # Asked again, it is the same job.
        assert Outcome("identify", "--no-wait", "--json", store=store).rows == [row]
        assert Outcome("worker", store=store).code == 0
    assert "nothing is new" in Outcome("identify", store=store).err


# --- novelty -----------------------------------------------------------------------------


def test_novelty(lab: str) -> None:
    outcome = Outcome("novelty", "gen", "--against", "entries", "--json", store=lab)
    assert outcome.code == 0, outcome.err
    (row,) = outcome.rows
    counts = {k: row[k] for k in ("samples", "candidates", "unique", "unique_greedy", "errors")}
    assert counts == {"samples": 3, "candidates": 3, "unique": 3, "unique_greedy": 3, "errors": 0}
    grades = {k: row[k] for k in ("known", "structure", "prototype", "substitution", "composition")}
    assert grades == {
        "known": 1, "structure": 1, "prototype": 0, "substitution": 1, "composition": 0,
    }  # fmt: skip
    assert row["reference"] == 13
    assert Outcome("novelty", "gen", "--against", "entries", "--json", store=lab).rows == [row]
    query = "SELECT reduced_formula, grade FROM novelty ORDER BY reduced_formula, grade"
    found = Outcome("sql", query, "--json", store=lab).rows
    assert [tuple(r.values()) for r in found] == [
        ("KBr", "substitution"), ("TiO2", "known"), ("TiO2", "structure"),
    ]  # fmt: skip
    # The dataset has no rutile, but the other titania.
    both = Outcome("novelty", "gen", "--against", "d@1", "--json", store=lab).rows[0]
    assert (both["known"], both["reference"]) == (0, 11)
    query = "SELECT DISTINCT reference FROM novelty ORDER BY reference"
    found = Outcome("sql", query, "--json", store=lab).rows
    entries = "all entries of mine (11) and mp (2)"
    assert [r["reference"] for r in found] == [entries, "d@1 (11)"]
    assert (row["against"], both["against"]) == (entries, "d@1 (11)")
    # Least new of all: the titania are known among all entries alone, KBr is as new in the dataset.
    query = (
        "SELECT reduced_formula, novelty, novelty_against FROM generated "
        "WHERE novelty IS NOT NULL ORDER BY novelty"
    )
    found = Outcome("sql", query, "--json", store=lab).rows
    assert [tuple(r.values()) for r in found] == [
        ("TiO2", "known", entries), ("TiO2", "structure", entries),
        ("KBr", "substitution", entries),
    ]  # fmt: skip
    plain = Outcome("novelty", "gen", "--against", "d@1", "--against", "entries", store=lab)
    assert plain.code == 0
    assert "gen" in plain.out


def test_novelty_may_be_left_to_a_worker(folder: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    assert Outcome("init", store).code == 0
    assert Outcome("import", "mine", folder / "others.extxyz", store=store).code == 0
    new = ("import", "candidates", folder / "new.extxyz", "--model", "gen")
    assert Outcome(*new, store=store).code == 0
    command = ("novelty", "gen", "--against", "entries", "--no-wait", "--json")
    assert Outcome(*command, store=store).rows[0]["kind"] == "keys"
    assert Outcome("worker", store=store).code == 0
    (row,) = Outcome(*command, store=store).rows
    assert row["model"] == "gen"
    assert Outcome("worker", "--job", row["job_id"], store=store).code == 0
    count = Outcome("sql", "SELECT count(*) AS n FROM novelty", "--json", store=store).rows
    assert count == [{"n": 3}]


# --- match -------------------------------------------------------------------------------


def matched(*args: object, store: str | None = None) -> dict[str, Any]:
    outcome = Outcome("match", *args, "--json", store=store)
    assert outcome.code == 0, outcome.err
    (row,) = outcome.rows
    return row


def test_files_are_compared_without_a_store(folder: Path) -> None:
    row = matched(folder / "one.vasp", folder / "near.vasp")
    assert (row["match"], row["forward"], row["backward"]) == (True, True, True)
    assert 0 < row["rms"] <= row["max_distance"] < 0.1
    assert 0 < row["rms_angstrom"] < 0.1
    assert len(row["sites"]) == 6
    assert abs(round(np.linalg.det(row["lattice_mapping"]))) == 1
    assert sorted(pair["a"] for pair in row["sites"]) == list(range(6))
    assert row["recipe"]["comparator"] == "element"
    row = matched(folder / "one.vasp", folder / "other.vasp")
    assert (row["match"], row["rms"], row["sites"]) == (False, None, [])
    assert row["why"]
    plain = Outcome("match", folder / "one.vasp", folder / "near.vasp")
    assert plain.code == 0
    assert "yes" in plain.out


def test_what_is_printed_is_clean(folder: Path, tmp_path: Path) -> None:
    salt = poscar(rocksalt(5.6, "Na", "Cl"), tmp_path / "salt.vasp")
    plain = Outcome("match", folder / "one.vasp", salt).out
    assert "what sits on their sites differs: 2 O, 1 Ti against 1 Cl, 1 Na" in plain
    for name in ("one.vasp", "near.vasp"):
        assert "-0.0," not in Outcome("match", folder / "one.vasp", folder / name).out
        assert "-0.0]" not in Outcome("match", folder / name, folder / "one.vasp").out


def test_what_is_neither_file_nor_structure_is_said_to_be_neither(lab: str) -> None:
    outcome = Outcome("match", "typo.cif", "mp-99", store=lab)
    assert outcome.code == 3
    assert "there is no file 'typo.cif', and no structure is called 'typo.cif'" in outcome.err


def test_the_verdict_is_that_of_pymatgen(folder: Path) -> None:
    pytest.importorskip("pymatgen.analysis.structure_matcher")
    from pymatgen.analysis.structure_matcher import ElementComparator, StructureMatcher

    from gandb.representations.pymatgen_structures import to_structure
    from gandb.sources.reading import read_crystal

    names = ("one.vasp", "near.vasp", "other.vasp")
    options: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        ((), {}),
        (("--stol", "0.001"), {"stol": 0.001}),
        (("--as-given",), {"primitive_cell": False}),
        (("--no-scale",), {"scale": False}),
    ]
    for given, keywords in options:
        matcher = StructureMatcher(comparator=ElementComparator(), **keywords)
        for a in names:
            for b in names:
                one, other = (to_structure(read_crystal(folder / name)) for name in (a, b))
                row = matched(folder / a, folder / b, *given)
                assert row["forward"] == matcher.fit(one, other), (a, b, given)
                assert row["backward"] == matcher.fit(other, one), (a, b, given)


def test_structures_are_found_by_their_names(lab: str, folder: Path) -> None:
    query = "SELECT structure_id, external_id FROM entries WHERE external_id IS NOT NULL"
    ids = {
        row["external_id"]: row["structure_id"]
        for row in Outcome("sql", query, "--json", store=lab).rows
    }
    expected = matched(folder / "one.vasp", folder / "near.vasp")
    for a, b in (
        ("mp-2657", "mp-99"),
        (ids["mp-2657"], ids["mp-99"]),
        (ids["mp-2657"][:13], ids["mp-99"][:13].upper()),
    ):
        found = matched(a, b, store=lab)
        assert found["match"]
        assert found["rms"] == pytest.approx(expected["rms"], abs=1e-6)
    assert matched("mp-2657", folder / "one.vasp", store=lab)["rms"] == pytest.approx(0, abs=1e-6)


# --- refusals ----------------------------------------------------------------------------

REFUSED: list[tuple[tuple[str, ...], int, str]] = [
    (("identify", "--ltol", "0"), 2, "ltol is 0; it must be above 0"),
    (("identify", "--stol", "nan"), 2, "stol is nan"),
    (("identify", "--comparator", "spin"), 2, "'spin' is not one of"),
    (("novelty", "gen"), 2, "Missing option '--against'"),
    (("novelty", "gem", "--against", "entries"), 2, "at least 4 digits"),
    (("novelty", "generator", "--against", "entries"), 3, "gen"),
    (("novelty", "gen", "--against", "e@1"), 3, "no dataset named 'e'; known: d"),
    (("novelty", "gen", "--against", "d@9"), 3, "known: d@1"),
    (("novelty", "gen", "--against", "d@1:all"), 2, "no split 'all'"),
    (("novelty", "gen", "--against", "training"), 2, "gen is an external model"),
    (("novelty", "gen", "--against", "earlier"), 2, "no structure is in earlier"),
    (("novelty", "gen", "--against", "formulas"), 2, "no structure is in formulas"),
    (
        ("novelty", "formulas", "--against", "entries"),
        2,
        "no candidate of formulas has a structure",
    ),
    (("novelty", "gen", "--against", "entries", "--angle-tol", "61"), 2, "angle_tol is 61"),
    (("match", "mp-1", "mp-99"), 3, "no structure is called 'mp-1'"),
    (("match", "", "mp-99"), 3, "no structure is called"),
    (("match", "mp-2657", "titania.extxyz"), 4, "titania.extxyz holds several records"),
    (("match", "mp-2657", "formulas.json"), 4, "formulas.json holds a formula"),
    (("match", "mp-2657", "empty.cif"), 4, "empty.cif"),
    (("match", "mp-2657"), 2, "Missing argument"),
    (("match", "mp-2657", "mp-99", "--stol", "3"), 2, "stol is 3"),
]


@pytest.mark.parametrize(("command", "code", "said"), REFUSED, ids=lambda v: str(v)[:60])
def test_bad_input_is_refused(
    command: tuple[str, ...], code: int, said: str, lab: str, folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    (folder / "empty.cif").write_text("")
    outcome = Outcome(*command, store=lab)
    assert outcome.code == code, outcome.err
    assert said in " ".join(re.sub("[│\n]", " ", outcome.err).split())
    assert outcome.out == ""


def test_a_file_that_is_not_there_is_named_without_a_store(folder: Path) -> None:
    outcome = Outcome("match", folder / "one.vasp", "typo.vasp")
    assert outcome.code == 3
    assert "there is no file 'typo.vasp', and no store is named" in outcome.err


def test_a_beginning_that_several_have_is_refused(lab: str) -> None:
    query = (
        "SELECT substr(CAST(structure_id AS TEXT), 1, 1) AS digit, count(*) AS n "
        "FROM structures GROUP BY 1 ORDER BY n DESC LIMIT 1"
    )
    (row,) = Outcome("sql", query, "--json", store=lab).rows
    assert row["n"] > 1
    outcome = Outcome("match", row["digit"], "mp-99", store=lab)
    assert outcome.code == 3
    assert "several structures are called" in outcome.err


# --- and the store is sound --------------------------------------------------------------


def test_verification_finds_nothing(lab: str) -> None:
    assert Outcome("novelty", "gen", "--against", "entries", store=lab).code == 0
    rows = Outcome("db", "verify", "--json", store=lab).rows
    assert [row for row in rows if row["problems"]] == []
    assert any("materials are the components" in row["check"] for row in rows)
