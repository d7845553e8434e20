"""AFLOW's records in all their layouts, against json, pymatgen and each other."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.io.vasp import Poscar

from gandb.sources.aflow_records import (
    AFLOW_FOLDER,
    AFLOW_HULL,
    AFLOW_INDEX,
    AFLOWLIB_JSON,
    AFLOWLIB_OUT,
    AFLUX,
)
from gandb.sources.base import Reject
from gandb.sources.records import Record, Sites
from tests.sources.native import (
    NATIVE,
    check_structure,
    check_survives,
    fits,
    json_member,
    load,
    member_of,
    one_record,
    one_reject,
    read,
    real,
    records,
    text_member,
)

AFLOW = NATIVE / "aflow"
FORMATS = (AFLUX, AFLOWLIB_JSON, AFLOWLIB_OUT, AFLOW_INDEX, AFLOW_HULL, AFLOW_FOLDER)
AURL = "aflowlib.duke.edu:AFLOWDATA/ICSD_WEB/FCC/Cl1Na1_ICSD_18189"
SALT: dict[str, Any] = {
    "aurl": AURL,
    "auid": "aflow:0123456789abcdef",
    "compound": "Cl1Na1",
    "prototype": "Cl1Na1_ICSD_18189",
    "natoms": 2,
    "species": ["Cl", "Na"],
    "composition": [1, 1],
    "stoichiometry": [0.5, 0.5],
    "geometry": [3.99, 3.99, 3.99, 60, 60, 60],
    "positions_fractional": [[0, 0, 0], [0.5, 0.5, 0.5]],
    "energy_cell": -6.8,
    "energy_atom": -3.4,
    "enthalpy_formation_atom": -1.75,
    "volume_atom": 22.5,
    "Egap": 5.125,
    "spin_cell": 0,
    "ael_bulk_modulus_vrh": 23.5,
    "entropic_temperature": 1e9,
    "spacegroup_relax": 225,
    "loop": ["bands", "magnetic"],
}
SALT_PROPERTIES = {
    "formation_energy_per_atom": -1.75,
    "energy_per_atom": -3.4,
    "band_gap": 5.125,
    "volume_per_atom": 22.5,
    "total_magnetization": 0.0,
    "bulk_modulus": 23.5,
}


def expected_structure(said: dict[str, Any]) -> Structure:
    species = [
        s for s, n in zip(said["species"], said["composition"], strict=True) for _ in range(n)
    ]
    lattice = Lattice.from_parameters(*said["geometry"])
    return Structure(lattice, species, said["positions_fractional"])


def as_text(value: Any) -> str:
    """A value as ``aflowlib.out`` writes it."""
    if isinstance(value, list):
        between = ";" if isinstance(value[0], list) else ","
        return between.join(map(as_text, value))
    return str(value)


def out_of(said: dict[str, Any]) -> str:
    return " | ".join(f"{name}={as_text(value)}" for name, value in said.items()) + "\n"


def page_of(said: dict[str, Any]) -> str:
    rows = "\n".join(
        f'<br><a href="/AFLOWDATA/X/?{name}">{name}</a>={as_text(value)}\n'
        for name, value in said.items()
    )
    return f"<!DOCTYPE html>\n<html><body><tt><b>CONTENT:</b></tt>\n{rows}<br></body></html>"


# --- real files --------------------------------------------------------------------------


@real
def test_the_aflux_page_wholly() -> None:
    path = AFLOW / "aflux-page.json"
    found = records(read(AFLUX, member_of(path)))
    wanted = load(path)
    assert len(found) == len(wanted) == 5
    for number, (record, source) in enumerate(zip(found, wanted, strict=True), 1):
        assert record.line == number
        assert record.external_id == source["auid"]
        assert record.aliases[0] == ("aurl", source["aurl"])
        icsd = re.findall(r"ICSD_(\d+)", source["aurl"])
        assert [n for kind, n in record.aliases[1:] if kind == "icsd"] == icsd
        assert record.formula == source["compound"]
        check_structure(record, expected_structure(source))
        atoms = len(source["positions_fractional"])
        assert record.properties == {"energy_per_atom": source["energy_cell"] / atoms}
        named = ("spacegroup_relax", "Pearson_symbol_relax", "catalog", "aflowlib_date")
        assert record.extra == {k: source[k] for k in (*named, "energy_cell")}


@real
def test_the_hull_wholly() -> None:
    path = AFLOW / "MnPdPt-hull.json.gz"
    found = records(read(AFLOW_HULL, member_of(path)))
    wanted = load(path)
    assert len(found) == len(wanted) == 3_502
    missing = leftover = 0
    for number, (record, source) in enumerate(zip(found, wanted, strict=True), 1):
        assert record.line == number
        assert record.external_id == (source["auid"] or None)
        assert record.formula == source["compound"]
        assert record.structure is None
        assert Composition(source["compound"]).num_atoms > 0
        for name, column in (
            ("formation_energy_per_atom", "enthalpy_formation_atom"),
            ("energy_above_hull", "distance_hull_enthalpy_formation_atom"),
        ):
            if source[column] == 1e12:
                missing += 1
                assert name not in record.properties
                assert column not in record.extra
            else:
                assert record.properties[name] == pytest.approx(source[column] / 1000, rel=1e-15)
        for name in ("flags", "flagged_entry", "is_hull_point", "nspecies", "prototype"):
            assert record.extra.get(name, "") == source[name]
        for name in ("spin_atom", "m_stability_criterion", "entropic_temperature"):
            if 0 < abs(source[name]) < 1e-300 or source[name] == 1e9:
                leftover += 1
                assert name not in record.extra
            else:
                assert record.extra[name] == source[name]
    assert missing == 2 * 124
    assert leftover == 3 + 3_499 + 3 + 124
    duplicates = sum(record.extra["flags"]["duplicate_entry"] for record in found)
    assert duplicates == sum(source["flags"]["duplicate_entry"] for source in wanted) > 0


@real
def test_the_index_page_wholly() -> None:
    path = AFLOW / "rest-index-AlCuMn.html"
    record = one_record(read(AFLOW_INDEX, member_of(path)))
    text = re.sub(r"<[^>]+>", "", path.read_text())  # another way to the same words
    wanted = dict(re.findall(r"(?m)^(\w+)=(.*)$", text))
    assert len(wanted) > 60
    assert record.external_id == wanted["auid"] == "aflow:83cd2da0257e8def"
    assert record.aliases == (("aurl", wanted["aurl"]),)
    assert record.formula == wanted["compound"]
    assert record.properties == {
        "formation_energy_per_atom": float(wanted["enthalpy_formation_atom"]),
        "energy_per_atom": float(wanted["energy_atom"]),
        "band_gap": float(wanted["Egap"]),
        "volume_per_atom": float(wanted["volume_atom"]),
        "total_magnetization": float(wanted["spin_cell"]),
    }
    structural = ["geometry", "positions_fractional", "positions_cartesian", "composition"]
    absent = set(wanted) - set(record.extra)
    taken = ["enthalpy_formation_atom", "energy_atom", "Egap", "volume_atom", "spin_cell"]
    beside = ["auid", "aurl", "compound", "species", "keywords", "files"]
    assert absent == {*structural, *taken, *beside}
    for name, text in wanted.items():
        value = record.extra.get(name)
        if isinstance(value, int | float):
            assert value == float(text)
        elif isinstance(value, str):
            assert value == text.strip()
    # The same cell as in the folder's POSCAR of the relaxed structure.
    poscar = (AFLOW / "rest-entry" / "CONTCAR.relax").read_text().splitlines()
    named = "\n".join([*poscar[:5], "Al Cu Mn", *poscar[5:11]])
    relaxed = Poscar.from_str(named).structure
    assert isinstance(record.structure, Sites)
    crystal = record.structure.crystal()
    assert crystal.lengths.tolist() == pytest.approx(relaxed.lattice.abc, abs=1e-6)
    assert crystal.angles.tolist() == pytest.approx(relaxed.lattice.angles, abs=1e-6)
    assert sorted(crystal.species) == sorted(str(s.specie) for s in relaxed)


@real
def test_the_files_of_a_folder_each_go_one_way() -> None:
    fitting = {
        path.name: [form.name for form in FORMATS if fits(form, member_of(path))]
        for path in sorted((AFLOW / "rest-entry").iterdir())
    }
    assert fitting == {
        "AlCu_pvMn_pv.T0001.A2BC.cif": [],
        "CONTCAR.relax": [],
        "CONTCAR.relax.vasp": [],
        "POSCAR.orig": [],
        "aflow.in": ["aflow-folder"],
        "edata.bands.out": ["aflow-folder"],
        "edata.orig.out": ["aflow-folder"],
        "edata.relax.out": ["aflow-folder"],
    }
    for name in ("aflow.in", "edata.relax.out"):
        reject = one_reject(AFLOW_FOLDER.read(member_of(AFLOW / "rest-entry" / name)))
        assert "is not a record by itself" in reject.reason


@real
def test_formats_do_not_take_each_other_for_theirs() -> None:
    for path in sorted(NATIVE.rglob("*")):
        if path.is_file():
            fitting = [form.name for form in FORMATS if fits(form, member_of(path))]
            assert len(fitting) <= 1
            assert not fitting or "aflow" in path.parts


# --- layouts -----------------------------------------------------------------------------

LAYOUTS = {
    "list": (AFLUX, json_member([SALT])),
    "numbered": (AFLUX, json_member({"1 of 1": SALT})),
    "indented": (AFLUX, json_member({"1 of 1": SALT}, indent=2)),
    "lines": (AFLUX, json_member(SALT, "a.jsonl")),
    "aflowlib.json": (AFLOWLIB_JSON, json_member(SALT, "x/aflowlib.json")),
    "aflowlib.out": (AFLOWLIB_OUT, text_member(out_of(SALT), "aflowlib.out")),
    "page": (AFLOW_INDEX, text_member(page_of(SALT), "index.html")),
    "strings": (AFLUX, json_member([{k: as_text(v) for k, v in SALT.items()}])),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_entry_in_every_layout(layout: str) -> None:
    form, member = LAYOUTS[layout]
    record = one_record(read(form, member))
    assert record.external_id == SALT["auid"]
    assert record.aliases == (("aurl", AURL), ("icsd", "18189"))
    assert record.formula == "Cl1Na1"
    assert record.properties == SALT_PROPERTIES
    check_structure(record, expected_structure(SALT))
    if layout != "strings":
        names = ("prototype", "natoms", "stoichiometry", "energy_cell", "spacegroup_relax", "loop")
        assert record.extra == {name: SALT[name] for name in names}


def test_numbered_records_come_in_their_order() -> None:
    answer = {f"{n} of 11": SALT | {"auid": f"aflow:{n}"} for n in (10, 9, 11, *range(1, 9))}
    found = records(AFLUX.read(json_member(answer)))
    assert [r.external_id for r in found] == [f"aflow:{n}" for n in range(1, 12)]
    assert [r.line for r in found] == list(range(1, 12))


def test_values_of_the_cell_are_divided() -> None:
    said = {"auid": "aflow:1", "compound": "Al2O3", "composition": [2, 3]}
    said |= {"energy_cell": -10.0, "volume_cell": "50", "enthalpy_formation_cell": 1e12}
    record = one_record(AFLUX.read(json_member([said])))
    assert record.properties == {"energy_per_atom": -2.0, "volume_per_atom": 10.0}
    assert record.extra == {"composition": [2, 3], "energy_cell": -10.0, "volume_cell": "50"}


@pytest.mark.parametrize(
    "sentinel", [1e12, 1e9, -1e9, "1e+12", "-1.0E+09", 10**12, 2e-319, "", None]
)
def test_sentinels_are_missing(sentinel: Any) -> None:
    said = SALT | {"Egap": sentinel, "energy_atom": sentinel, "energy_cell": sentinel}
    record = one_record(AFLUX.read(json_member([said])))
    assert "band_gap" not in record.properties
    assert "energy_per_atom" not in record.properties


def test_one_atom_without_a_list_around_it() -> None:
    said = SALT | {"species": "Na", "composition": "1", "positions_fractional": "0,0,0"}
    record = one_record(AFLUX.read(json_member([said | {"compound": "Na1"}])))
    assert isinstance(record.structure, Sites)
    assert record.structure.crystal().species == ("Na",)


def test_without_what_makes_a_structure_there_is_none() -> None:
    record = one_record(AFLUX.read(json_member([SALT | {"positions_fractional": None}])))
    assert record.structure is None
    assert record.extra["geometry"] == SALT["geometry"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"geometry": [4, 4, 4]}, "geometry has 3 numbers"),
        ({"species": ["Cl"]}, "1 species"),
        ({"composition": [1, 2]}, "3 atoms"),
        ({"composition": [0.5, 1.5]}, "whole"),
        ({"positions_fractional": [[0, 0, "x"], [0.5, 0.5, 0.5]]}, "'x'"),
        ({"positions_fractional": [[0, 0, 1e12], [0.5, 0.5, 0.5]]}, "bounds"),
        ({"positions_fractional": 5}, "list"),
        ({"auid": 5}, "auid"),
        ({"Egap": "wide"}, "wide"),
        ({"compound": None, "geometry": None}, "neither"),
    ],
)
def test_bad_records(changed: dict[str, Any], reason: str) -> None:
    good, bad, after = AFLUX.read(json_member([SALT, SALT | changed, SALT]))
    assert isinstance(good, Record)
    assert isinstance(after, Record)
    assert isinstance(bad, Reject)
    assert (bad.line, reason in bad.reason) == (2, True), bad.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"aurl=aflowlib:x | auid=\xff", "utf-8"),
        ("aurl=aflowlib:x | nonsense", "keyword=value"),
        ("aurl=aflowlib:x | auid=aflow:1\n", "neither"),
        ("aurl=aflowlib:x | auid=aflow:1 | compound=Cl1Na", "cut off"),
        ("aurl=aflowlib:x | auid=aflow:1 | aflowlib_date=2015", "neither"),
    ],
)
def test_bad_lines(text: str | bytes, reason: str) -> None:
    assert reason in one_reject(AFLOWLIB_OUT.read(text_member(text))).reason


def test_a_bad_line_costs_itself() -> None:
    lines = [out_of(SALT), "aurl=aflowlib:x | nonsense\n", "\n", out_of(SALT)]
    found = list(AFLOWLIB_OUT.read(text_member("".join(lines))))
    assert [(type(f).__name__, f.line) for f in found] == [
        ("Record", 1),
        ("Reject", 2),
        ("Record", 4),
    ]


def test_pages_without_an_entry() -> None:
    assert "no keywords" in one_reject(AFLOW_INDEX.read(text_member("<html></html>"))).reason
    reason = one_reject(AFLOW_INDEX.read(text_member("<a href='?auid'>auid</a>=aflow:1"))).reason
    assert "neither" in reason


@pytest.mark.parametrize(
    "piece",
    [
        "<a ",
        "<!--",
        "<!",
        "<a href='",
        "</a",
        "&",
        "<a x?",
        "?a>",
        "<a x?a>a</a>=",
        "<br",
        "<a\n",
        "<",
    ],
)
def test_pages_of_open_tags_take_no_longer_than_others(piece: str) -> None:
    page = text_member(piece * (2_000_000 // len(piece)))
    assert all(isinstance(found, Reject) for found in AFLOW_INDEX.read(page))


@pytest.mark.parametrize("rest", ["|" + " " * 500_000, "| " * 250_000, "=" * 500_000])
def test_lines_of_spaces_take_no_longer_than_others(rest: str) -> None:
    one_reject(AFLOWLIB_OUT.read(text_member(f"aurl=aflowlib:x {rest}")))


def test_damaged_records_never_crash() -> None:
    check_survives(AFLUX, json.dumps([SALT, SALT]), range(300))
    check_survives(AFLUX, json.dumps({"1 of 2": SALT, "2 of 2": SALT}), range(100))
    check_survives(AFLOWLIB_OUT, out_of(SALT), range(200), "aflowlib.out")
    check_survives(AFLOW_INDEX, page_of(SALT), range(200), "index.html")
