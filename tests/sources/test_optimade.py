"""OPTIMADE of any provider, against json and pymatgen."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from gandb.core.species import parse_species
from gandb.sources.optimade import OPTIMADE, records_of_page
from gandb.sources.records import Record, Sites
from tests.sources.native import (
    NATIVE,
    check_structure,
    check_survives,
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

ATTRIBUTES: dict[str, Any] = {
    "chemical_formula_reduced": "NaCl",
    "lattice_vectors": [[0.0, 2.8, 2.8], [2.8, 0.0, 2.8], [2.8, 2.8, 0.0]],
    "cartesian_site_positions": [[0.0, 0.0, 0.0], [2.8, 2.8, 2.8]],
    "species_at_sites": ["Na", "Cl"],
    "species": [
        {"name": "Na", "chemical_symbols": ["Na"], "concentration": [1.0]},
        {"name": "Cl", "chemical_symbols": ["Cl"], "concentration": [1.0]},
    ],
    "nsites": 2,
    "structure_features": [],
}


def resource(resource_id: Any = "1", **attributes: Any) -> dict[str, Any]:
    return {"id": resource_id, "type": "structures", "attributes": ATTRIBUTES | attributes}


def page(*resources: Any, prefix: str = "exmpl", **more: Any) -> dict[str, Any]:
    meta = {"api_version": "1.1.0", "more_data_available": False, "provider": {"prefix": prefix}}
    return {"data": list(resources), "meta": meta, **more}


def expected_structure(attributes: dict[str, Any]) -> Structure:
    return Structure(
        Lattice(attributes["lattice_vectors"]),
        attributes["species_at_sites"],
        attributes["cartesian_site_positions"],
        coords_are_cartesian=True,
    )


# --- real files --------------------------------------------------------------------------


@real
def test_the_materials_project_file_wholly() -> None:
    path = NATIVE / "mp" / "optimade-structures.jsonl.gz"
    found = records(read(OPTIMADE, member_of(path)))
    wanted = load(path)
    assert len(found) == len(wanted) == 3_688
    for number, (record, source) in enumerate(zip(found, wanted, strict=True), 1):
        attributes = source["attributes"]
        assert record.line == number
        assert record.external_id == attributes["immutable_id"]
        assert ("mp-id", attributes["immutable_id"]) in record.aliases
        assert record.formula == attributes["chemical_formula_reduced"]
        check_structure(record, expected_structure(attributes))
        stability = attributes["_mp_stability"]
        if stability:
            kind = next(k for k in ("gga_gga+u_r2scan", "gga_gga+u", "r2scan") if k in stability)
            assert record.extra["thermo_type"] == kind
            energies = stability[kind]
            for name in ("energy_above_hull", "formation_energy_per_atom"):
                assert record.properties[name] == energies[name]
            assert record.extra["_mp_stability"] == stability
        assert len(record.properties) == (2 if stability else 0)
        kept = set(attributes) - set(ATTRIBUTES)
        for name in kept & set(record.extra):
            assert record.extra[name] == attributes[name]
        assert {n for n in kept if n.startswith("_") and attributes[n] != {}} <= set(record.extra)
        assert not set(record.extra) & set(ATTRIBUTES)


@real
def test_the_oqmd_pages_wholly() -> None:
    path = NATIVE / "oqmd" / "optimade-structures-pages.json"
    found = records(read(OPTIMADE, member_of(path)))
    pages = load(path)
    wanted = [r for p in pages for r in p["data"]]
    assert len(found) == len(wanted) == 1_000
    for number, (record, source) in enumerate(zip(found, wanted, strict=True), 1):
        attributes = source["attributes"]
        assert record.line == number
        assert record.external_id == str(attributes["_oqmd_entry_id"])
        assert record.aliases == (("optimade", str(source["id"])),)
        assert record.properties == {"band_gap": attributes["_oqmd_band_gap"]}
        assert record.extra == {}
        check_structure(record, expected_structure(attributes))
    # One page at a time, as the live client has them, gives the same records.
    again: list[Any] = []
    for one in pages:
        again.extend(records_of_page(one, path.name, len(again) + 1))
    assert again == found


# --- layouts -----------------------------------------------------------------------------


def test_every_layout_gives_the_same_records() -> None:
    one, two = resource("a"), resource("b", _exmpl_gap=1.5)
    header = {"x-optimade": {"meta": {"api_version": "1.1.0"}}}
    info = {"data": {"type": "info", "attributes": {"provider": {"prefix": "exmpl"}}}}
    reference = {"type": "references", "id": "r", "attributes": {}}
    lines = [header, {"meta": {"api_version": "1.1.0"}}, info, one, reference, two]
    members = [
        json_member([one, two]),
        json_member(page(one, two)),
        json_member(page(one, two), indent=2),
        json_member([page(one), page(two)]),
        text_member("\n".join(map(json.dumps, [one, two])), "a.jsonl"),
        text_member("\n".join(map(json.dumps, [page(one), page(two)])), "a.jsonl"),
        text_member("\n".join(map(json.dumps, lines)), "a.jsonl"),
    ]
    for member in members:
        found = records(read(OPTIMADE, member))
        assert [r.external_id for r in found] == ["a", "b"]
        assert [dict(r.extra) for r in found] == [{}, {"_exmpl_gap": 1.5}]
        assert found[0].structure == found[1].structure


def test_a_single_resource_and_an_empty_page() -> None:
    assert one_record(read(OPTIMADE, json_member({**page(), "data": resource("x")})))
    assert read(OPTIMADE, json_member(page())) == []


def test_errors_of_the_server_are_rejects() -> None:
    answer = {"errors": [{"status": "400", "detail": "no such filter"}], "meta": page()["meta"]}
    reject = one_reject(records_of_page(answer, "f", 7))
    assert "no such filter" in reject.reason
    assert reject.line == 7


def test_a_bad_resource_costs_itself() -> None:
    bad = {"id": "2", "type": "structures"}
    found = list(records_of_page(page(resource("1"), bad, 5, resource("3")), "f", 1))
    assert [type(r).__name__ for r in found] == ["Record", "Reject", "Reject", "Record"]
    assert [r.line for r in found] == [1, 2, 3, 4]


def test_literature_references() -> None:
    cited = resource("1") | {
        "relationships": {"references": {"data": [{"type": "references", "id": "doi-1"}]}}
    }
    included = [
        {"type": "references", "id": "doi-1", "attributes": {"doi": "10.1/1", "year": None}}
    ]
    found = one_record(records_of_page(page(cited, included=included), "f", 1))
    assert found.extra["references"] == [{"id": "doi-1", "doi": "10.1/1"}]


# --- providers ---------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("prefix", "attributes", "external_id", "aliases", "properties"),
    [
        (
            "oqmd",
            {"_oqmd_entry_id": 5, "_oqmd_delta_e": -1.5, "_oqmd_stability": 0.1},
            "5",
            (("optimade", "77"),),
            {"formation_energy_per_atom": -1.5, "energy_above_hull": 0.1},
        ),
        (
            "jarvis",
            {
                "_jarvis_jid": "JVASP-1",
                "_jarvis_formation_energy_peratom": -0.5,
                "_jarvis_ehull": -99999,
                "_jarvis_optb88vdw_bandgap": "na",
            },
            "JVASP-1",
            (("optimade", "77"),),
            {"formation_energy_per_atom": -0.5},
        ),
        (
            "alexandria",
            {
                "_alexandria_formation_energy_per_atom": -2.0,
                "_alexandria_hull_distance": 0.0,
                "_alexandria_band_gap": 3,
            },
            "77",
            (),
            {"formation_energy_per_atom": -2.0, "energy_above_hull": 0.0, "band_gap": 3.0},
        ),
        (
            "aflow",
            {"_aflow_auid": "aflow:1", "_aflow_aurl": "aflowlib:x", "_aflow_Egap": 0.25},
            "aflow:1",
            (("optimade", "77"), ("aurl", "aflowlib:x")),
            {"band_gap": 0.25},
        ),
        ("nmd", {"_nmd_results": {"material": {"elements": ["Na"]}}}, "77", (), {}),
    ],
)
def test_providers(
    named: bool,
    prefix: str,
    attributes: dict[str, Any],
    external_id: str,
    aliases: tuple[tuple[str, str], ...],
    properties: dict[str, float],
) -> None:
    one = resource("77", **attributes)
    if named:
        record = one_record(records_of_page(page(one, prefix=prefix), "f", 1))
    else:
        record = one_record(read(OPTIMADE, json_member([one])))
    assert record.external_id == external_id
    assert record.aliases == aliases
    assert record.properties == properties
    assert bool(record.extra) == (prefix == "nmd")


@pytest.mark.parametrize("given", ["mp-149", "https://x.materialsproject.org/v1/structures/mp-149"])
def test_both_forms_of_a_materials_project_id_meet(given: str) -> None:
    old = one_record(records_of_page(page(resource(given), prefix="mp"), "f", 1))
    new = one_record(records_of_page(page(resource("mp-aaaaaaft"), prefix="mp"), "f", 1))
    assert old.external_id == new.external_id == "mp-149"
    assert old.aliases == new.aliases


def test_energies_of_one_thermo_type() -> None:
    stability = {
        "r2scan": {"formation_energy_per_atom": -1.0, "energy_above_hull": 0.0},
        "gga_gga+u": {"formation_energy_per_atom": -2.0, "energy_above_hull": 0.25},
    }
    one = resource("mp-1", _mp_stability=stability)
    record = one_record(records_of_page(page(one, prefix="mp"), "f", 1))
    assert record.properties == {"formation_energy_per_atom": -2.0, "energy_above_hull": 0.25}
    assert record.extra == {"_mp_stability": stability, "thermo_type": "gga_gga+u"}


# --- structures --------------------------------------------------------------------------


def test_disorder_and_vacancies() -> None:
    species = [
        {"name": "M", "chemical_symbols": ["Na", "K"], "concentration": [0.5, 0.5]},
        {"name": "A", "chemical_symbols": ["Cl", "vacancy"], "concentration": [0.9, 0.1]},
    ]
    one = resource(species=species, species_at_sites=["M", "A"], structure_features=["disorder"])
    record = one_record(records_of_page(page(one), "f", 1))
    assert isinstance(record.structure, Sites)
    crystal = record.structure.crystal()
    assert sorted(crystal.species) == ["Cl:0.9", "Na:0.5 K:0.5"]
    assert not crystal.ordered
    assert {o.symbol for s in crystal.species for o in parse_species(s)} == {"Na", "K", "Cl"}


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"structure_features": ["assemblies"]}, "assemblies"),
        ({"structure_features": ["unknown_positions"]}, "unknown_positions"),
        ({"structure_features": ["site_attachments"]}, "site_attachments"),
        ({"structure_features": ["implicit_atoms"]}, "site_attachments"),
        ({"structure_features": "disorder"}, "not a list"),
        ({"assemblies": [{"sites_in_groups": [[0], [1]]}]}, "assemblies"),
        ({"species_at_sites": ["Na", "Xx"]}, "Xx"),
        ({"species_at_sites": ["Na"]}, "cartesian_site_positions"),
        ({"cartesian_site_positions": None}, "cartesian_site_positions"),
        ({"dimension_types": [1, 1, 0]}, "periodic"),
        ({"chemical_formula_reduced": 5}, "formula"),
        ({"chemical_formula_reduced": None, "lattice_vectors": None}, "response_fields"),
        ({"_oqmd_delta_e": "low", "_oqmd_entry_id": 1}, "'low'"),
    ],
)
def test_refused(attributes: dict[str, Any], reason: str) -> None:
    reject = one_reject(records_of_page(page(resource(**attributes), prefix="x"), "f", 3))
    assert reason in reject.reason
    assert (reject.file, reject.line) == ("f", 3)


def test_without_structure_a_formula_is_enough() -> None:
    attributes = {"chemical_formula_reduced": "NaCl", "nelements": 2, "_oqmd_band_gap": 8.5}
    one = {"id": "1", "type": "structures", "attributes": attributes}
    record = one_record(records_of_page(page(one, prefix="oqmd"), "f", 1))
    assert record.structure is None
    assert record.formula == "NaCl"
    assert record.properties == {"band_gap": 8.5}
    assert record.extra == {"chemical_formula_reduced": "NaCl", "nelements": 2}


def test_large_extra_is_named_and_left_out() -> None:
    one = resource(_nmd_files=["f" * 100] * 1_000, _nmd_code="VASP")
    record = one_record(records_of_page(page(one), "f", 1))
    assert record.extra == {"_nmd_code": "VASP", "left_out": ["_nmd_files"]}


def test_damaged_pages_never_crash() -> None:
    text = json.dumps(
        page(
            resource("1", _oqmd_delta_e=1.0, _oqmd_entry_id=2, assemblies=None),
            resource("2", _mp_stability={"gga_gga+u": {"energy_above_hull": 0.0}}),
            included=[{"id": "r", "type": "references", "attributes": {"doi": "1"}}],
        )
    )
    check_survives(OPTIMADE, text, range(400))
    check_survives(
        OPTIMADE, "\n".join(json.dumps(r) for r in [resource()] * 2), range(100), "a.jsonl"
    )


def test_records_are_plain() -> None:
    record = one_record(records_of_page(page(resource()), "f", 1))
    assert isinstance(record, Record)
    assert isinstance(record.structure, Sites)
    assert np.allclose(record.structure.lattice, ATTRIBUTES["lattice_vectors"])
