"""Documents of the Materials Project, old and new, against json and pymatgen."""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Composition, Structure
from pymatgen.entries.computed_entries import (
    CompositionEnergyAdjustment,
    ComputedEntry,
    ComputedStructureEntry,
    ConstantEnergyAdjustment,
    ManualEnergyAdjustment,
    TemperatureEnergyAdjustment,
)

from gandb.core.errors import MissingExtraError
from gandb.sources.base import Reject
from gandb.sources.mp_documents import COMPUTED_ENTRIES, MP_LEGACY, MP_SUMMARY
from gandb.sources.records import Encoded, Record, Sites
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

MP = NATIVE / "mp"
SILICON = Structure(
    [[0.0, 2.73, 2.73], [2.73, 0.0, 2.73], [2.73, 2.73, 0.0]], ["Si"] * 2, [[0] * 3, [0.25] * 3]
)
SUMMARY: dict[str, Any] = {
    "material_id": "mp-149",
    "formula_pretty": "Si",
    "nsites": 2,
    "volume": SILICON.volume,
    "symmetry": {"number": 227, "symbol": "Fd-3m"},
    "structure": SILICON.as_dict(),
    "formation_energy_per_atom": 0.0,
    "energy_above_hull": 0.0,
    "energy_per_atom": -5.4,
    "uncorrected_energy_per_atom": -5.4,
    "band_gap": 0.61,
    "total_magnetization": 0.0002,
    "total_magnetization_normalized_formula_units": 0.0001,
    "bulk_modulus": {"voigt": 83.0, "reuss": 83.0, "vrh": 83.0},
    "shear_modulus": {"voigt": 60.0, "reuss": 57.0, "vrh": 58.5},
    "universal_anisotropy": 0.25,
    "database_IDs": {"icsd": ["icsd-52266", "icsd-29287"]},
    "theoretical": False,
}


# --- real files --------------------------------------------------------------------------


@real
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("computed-entries-Li-Fe-P-O.json.gz", 859),
        ("computed-structure-entries-Li-Fe-O.json.gz", 375),
        ("computed-entries-TiO2.json", 16),
        ("computed-entries-Mn-O.json", 6),
    ],
)
def test_computed_entries_wholly(name: str, count: int) -> None:
    found = records(read(COMPUTED_ENTRIES, member_of(MP / name)))
    wanted = load(MP / name)
    assert len(found) == len(wanted) == count
    for number, (record, source) in enumerate(zip(found, wanted, strict=True), 1):
        kind = ComputedStructureEntry if "structure" in source else ComputedEntry
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            entry = kind.from_dict(source)
        assert record.line == number
        number_alone = isinstance(source["entry_id"], int)
        assert record.external_id == f"{'mp-' if number_alone else ''}{source['entry_id']}"
        assert record.properties["energy_per_atom"] == pytest.approx(
            entry.energy_per_atom, abs=1e-12
        )
        assert record.extra["uncorrected_energy"] == entry.uncorrected_energy == source["energy"]
        assert record.extra.get("correction", 0.0) == pytest.approx(entry.correction, abs=1e-12)
        assert record.formula is not None
        assert Composition(record.formula) == entry.composition
        parameters = record.extra["parameters"]
        assert parameters["run_type"] == source["parameters"]["run_type"]
        assert parameters == source["parameters"]
        if isinstance(entry, ComputedStructureEntry):
            check_structure(record, entry.structure)
        else:
            assert record.structure is None
        data = source["data"]
        if "e_above_hull" in data:
            assert record.properties["energy_above_hull"] == data["e_above_hull"]
            assert record.properties.get("band_gap") == (data["band_gap"] or {}).get("energy")
            wanted_energy = data["formation_energy_per_atom"]
            assert record.properties["formation_energy_per_atom"] == wanted_energy
        else:
            assert set(record.properties) == {"energy_per_atom"}


@real
def test_summary_records_wholly() -> None:
    path = MP / "summary-records-mock.json"
    found = records(read(MP_SUMMARY, member_of(path)))
    wanted = load(path)
    assert len(found) == len(wanted) == 24
    for record, source in zip(found, wanted, strict=True):
        assert record.external_id == source["material_id"]
        assert record.formula == source["formula_pretty"]
        assert record.structure is None
        assert record.properties == {
            "formation_energy_per_atom": source["formation_energy_per_atom"],
            "energy_above_hull": source["energy_above_hull"],
            "volume_per_atom": source["volume"] / source["nsites"],
        }
        for name in ("nsites", "density", "symmetry", "is_stable"):
            assert record.extra[name] == source[name]


@real
def test_the_legacy_document() -> None:
    yaml = pytest.importorskip("ruamel.yaml")
    path = MP / "legacy-material-mp-20351.yaml"
    record = one_record(read(MP_LEGACY, member_of(path)))
    source = yaml.YAML(typ="rt", pure=True).load(path.read_text())
    assert record.external_id == "mp-20351"
    assert record.formula == "InP"
    check_structure(record, Structure.from_dict(json.loads(json.dumps(source["structure"]))))
    elasticity = source["elasticity"]
    assert record.properties == {
        "formation_energy_per_atom": source["formation_energy_per_atom"],
        "energy_per_atom": source["final_energy_per_atom"],
        "energy_above_hull": source["e_above_hull"],
        "band_gap": source["band_gap"]["search_gap"]["band_gap"],
        "volume_per_atom": source["volume"] / 2,
        "bulk_modulus": elasticity["K_VRH"],
        "shear_modulus": elasticity["G_VRH"],
        "elastic_anisotropy": elasticity["universal_anisotropy"],
        "total_magnetization": 8.62e-05,
    }
    icsd = [number for kind, number in record.aliases if kind == "icsd"]
    assert icsd == [str(n) for n in sorted(source["icsd_ids"])]
    assert record.extra["spacegroup"]["number"] == 216
    assert "xrd" in record.extra or "xrd" in record.extra["left_out"]


@real
def test_prose_about_fields_is_no_data() -> None:
    member = member_of(MP / "summary-fields-mp-149.md")
    assert not any(fits(form, member) for form in (MP_SUMMARY, COMPUTED_ENTRIES, MP_LEGACY))
    assert "neither" in one_reject(MP_SUMMARY.read(member)).reason


@real
def test_formats_do_not_take_each_other_for_theirs() -> None:
    for path in sorted(NATIVE.rglob("*")):
        if path.is_file():
            forms = (MP_SUMMARY, COMPUTED_ENTRIES, MP_LEGACY)
            fitting = [form.name for form in forms if fits(form, member_of(path))]
            assert len(fitting) <= 1
            assert not fitting or path.parent.name == "mp"


# --- summaries ---------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["list", "data", "one", "lines", "indented"])
def test_summary_layouts(layout: str) -> None:
    member = {
        "list": json_member([SUMMARY]),
        "data": json_member({"data": [SUMMARY], "meta": {"total_doc": 1}}),
        "one": json_member(SUMMARY),
        "lines": json_member(SUMMARY, "a.jsonl"),
        "indented": json_member({"meta": {}, "data": [SUMMARY]}, indent=2),
    }[layout]
    record = one_record(read(MP_SUMMARY, member))
    assert record.external_id == "mp-149"
    check_structure(record, SILICON)
    assert record.properties == {
        "formation_energy_per_atom": 0.0,
        "energy_above_hull": 0.0,
        "energy_per_atom": -5.4,
        "band_gap": 0.61,
        "volume_per_atom": SILICON.volume / 2,
        "total_magnetization": 0.0001,
        "bulk_modulus": 83.0,
        "shear_modulus": 58.5,
        "elastic_anisotropy": 0.25,
    }
    assert record.aliases[-2:] == (("icsd", "29287"), ("icsd", "52266"))
    assert record.extra["total_magnetization"] == 0.0002
    assert record.extra["symmetry"] == SUMMARY["symmetry"]
    assert "structure" not in record.extra


def test_old_and_new_ids_meet() -> None:
    both = [SUMMARY, SUMMARY | {"material_id": "mp-aaaaaaft"}]
    old, new = records(read(MP_SUMMARY, json_member(both)))
    assert old.external_id == new.external_id == "mp-149"
    assert old.aliases == new.aliases
    assert old.properties == new.properties


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"structure": None, "formula_pretty": None}, "neither a structure nor a formula"),
        ({"structure": {"sites": []}}, "lattice"),
        ({"structure": "{"}, "JSON"),
        ({"band_gap": "wide"}, "wide"),
        ({"material_id": ["mp-1"]}, "its id"),
        ({"nsites": {}}, "nsites"),
    ],
)
def test_bad_summaries(changed: dict[str, Any], reason: str) -> None:
    good, bad, after = MP_SUMMARY.read(json_member([SUMMARY, SUMMARY | changed, SUMMARY]))
    assert isinstance(good, Record)
    assert isinstance(after, Record)
    assert isinstance(bad, Reject)
    assert bad.line == 2
    assert reason in bad.reason


def test_an_error_answer_says_what_the_server_said() -> None:
    reject = one_reject(MP_SUMMARY.read(json_member({"detail": "Invalid authentication"})))
    assert "Invalid authentication" in reject.reason


# --- the old API -------------------------------------------------------------------------


def test_old_rest_answers() -> None:
    document = {
        "material_id": "mp-149",
        "pretty_formula": "Si",
        "full_formula": "Si2",
        "unit_cell_formula": {"Si": 2.0},
        "energy_per_atom": -5.4,
        "e_above_hull": 0,
        "band_gap": 0.6,
        "volume": 40.0,
        "nsites": 2,
        "icsd_ids": [52266],
        "elasticity": {"K_VRH": 83.0, "G_VRH": 61.0, "elastic_anisotropy": 0.3},
        "spacegroup": {"number": 227},
        "cif": "data_Si\n_cell_length_a 3.86\n",
        "task_ids": ["mp-149", "mp-1"],
    }
    answer = {"valid_response": True, "response": [document], "version": {"db": "2.0.0"}}
    record = one_record(read(MP_LEGACY, json_member(answer)))
    assert record.structure == Encoded("cif", document["cif"])
    assert record.formula == "Si"
    assert record.properties == {
        "energy_per_atom": -5.4,
        "energy_above_hull": 0.0,
        "band_gap": 0.6,
        "volume_per_atom": 20.0,
        "bulk_modulus": 83.0,
        "shear_modulus": 61.0,
        "elastic_anisotropy": 0.3,
    }
    assert ("icsd", "52266") in record.aliases
    assert record.extra["spacegroup"] == {"number": 227}
    assert record.extra["task_ids"] == ["mp-149", "mp-1"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pretty_formula: [", "YAML"),
        ("pretty_formula: !!python/object:os.system {}", "YAML"),
        (b"pretty_formula: Si\xff", "UTF-8"),
        ("- 5\n", "mapping"),
        ("pretty_formula: &a [*a]\n", ""),
        ("task_id: " + "[" * 5_000, ""),
        ("x" * 5_000_000, "bytes"),
    ],
)
def test_bad_yaml(text: str | bytes, reason: str) -> None:
    pytest.importorskip("ruamel.yaml")
    assert reason in one_reject(MP_LEGACY.read(text_member(text, "a.yaml"))).reason


def test_without_a_reader_of_yaml_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    with pytest.raises(MissingExtraError, match=r"gandb\[structures\]"):
        list(MP_LEGACY.read(text_member("pretty_formula: Si", "a.yaml")))


def test_aliases_that_stand_for_billions_are_refused() -> None:
    pytest.importorskip("ruamel.yaml")
    lines = ["pretty_formula: Si", "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    reject = one_reject(MP_LEGACY.read(text_member("\n".join(lines), "a.yaml")))
    assert "aliases" in reject.reason


# --- computed entries --------------------------------------------------------------------


def test_all_adjustments() -> None:
    entry = ComputedStructureEntry(
        SILICON,
        -10.5,
        energy_adjustments=[
            ConstantEnergyAdjustment(0.25, name="a constant"),
            ManualEnergyAdjustment(-0.125),
            CompositionEnergyAdjustment(0.5, 2, name="of atoms"),
            TemperatureEnergyAdjustment(-0.001, 300, 2, name="of heat"),
        ],
        parameters={"run_type": "GGA+U", "hubbards": {"Si": 1.0}, "potcar_symbols": ["PBE Si"]},
        data={"oxide_type": "None"},
        entry_id="mp-149-GGA+U",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = json.dumps([entry.as_dict()], default=str)
    record = one_record(read(COMPUTED_ENTRIES, text_member(text)))
    assert record.properties["energy_per_atom"] == pytest.approx(entry.energy_per_atom, abs=1e-12)
    assert record.extra["correction"] == pytest.approx(entry.correction, abs=1e-12)
    parts = record.extra["energy_adjustments"]
    assert sorted(parts.values()) == pytest.approx(
        sorted(adjustment.value for adjustment in entry.energy_adjustments)
    )
    assert record.external_id == "mp-149-GGA+U"
    assert ("mp-id", "mp-aaaaaaft") in record.aliases
    assert record.extra["parameters"] == entry.parameters
    check_structure(record, SILICON)


def test_alexandria_holds_its_entries_in_an_object() -> None:
    entry = ComputedStructureEntry(
        SILICON,
        -10.5,
        data={"mat_id": "agm1", "e_form": 0.01, "e_above_hull": 0.02, "band_gap_ind": 0.5},
    ).as_dict()
    record = one_record(read(COMPUTED_ENTRIES, json_member({"entries": [entry]}, indent=1)))
    assert record.external_id == "agm1"
    assert record.properties == {
        "energy_per_atom": -5.25,
        "formation_energy_per_atom": 0.01,
        "energy_above_hull": 0.02,
        "band_gap": 0.5,
    }


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"@class": "GibbsComputedStructureEntry"}, "Gibbs"),
        ({"energy": None}, "no energy"),
        ({"energy": "low"}, "low"),
        ({"composition": {"Si": 1, "O": 2}}, "differ"),
        ({"composition": {"Si": -2}}, "-2"),
        ({"composition": "Si2"}, "composition"),
        ({"composition": None, "structure": None}, "neither"),
        ({"energy_adjustments": [{"name": "x"}]}, "adjustment"),
        ({"energy_adjustments": [5]}, "adjustment"),
        ({"parameters": []}, "parameters"),
    ],
)
def test_bad_entries(changed: dict[str, Any], reason: str) -> None:
    good = ComputedStructureEntry(SILICON, -10.5, entry_id="x").as_dict()
    found = list(COMPUTED_ENTRIES.read(json_member([good, good | changed, good])))
    assert [type(f).__name__ for f in found] == ["Record", "Reject", "Record"]
    assert isinstance(found[1], Reject)
    assert reason in found[1].reason


# --- damage ------------------------------------------------------------------------------


def test_damaged_documents_never_crash() -> None:
    entry = ComputedStructureEntry(
        SILICON, -10.5, energy_adjustments=[ConstantEnergyAdjustment(0.25)], entry_id="mp-1"
    ).as_dict()
    check_survives(MP_SUMMARY, json.dumps([SUMMARY, SUMMARY]), range(300))
    check_survives(COMPUTED_ENTRIES, json.dumps([entry, entry], default=str), range(300))


def test_structures_are_those_of_the_document() -> None:
    record = one_record(MP_SUMMARY.read(json_member(SUMMARY)))
    assert isinstance(record.structure, Sites)
    assert np.allclose(record.structure.lattice, SILICON.lattice.matrix)
