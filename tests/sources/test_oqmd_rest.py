from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Lattice, Structure

from gandb.core.crystals import CrystalError
from gandb.sources.base import Reject
from gandb.sources.oqmd_rest import OQMD_REST
from gandb.sources.records import Member, Record, Sites

SHARED = Path(
    os.environ.get("GANDB_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
).resolve()
SAMPLE = SHARED / "native" / "oqmd" / "rest-formationenergy.json"
PAGES = SHARED / "native" / "oqmd" / "optimade-structures-pages.json"
real = pytest.mark.skipif(not SAMPLE.is_file(), reason="the real answers are not here")

TITANATE: dict[str, Any] = {
    "name": "CaTiO3",
    "entry_id": 6126,
    "calculation_id": 7,
    "icsd_id": 31865,
    "formationenergy_id": 8,
    "duplicate_entry_id": 6126,
    "composition": "Ca1 O3 Ti1",
    "composition_generic": "ABC3",
    "prototype": "CaTiO3",
    "spacegroup": "Pm-3m",
    "volume": 56.578,
    "ntypes": 3,
    "natoms": 5,
    "sites": ["Ca @ 0.5 0.5 0.5", "O @ 0.5 0 0", "O @ 0 0.5 0", "O @ 0 0 0.5", "Ti @ 0 0 -1e-05"],
    "band_gap": 2.3,
    "delta_e": -3.31978205998463,
    "stability": 0.0,
    "fit": "standard",
    "calculation_label": "static",
    "unit_cell": [[3.84, 0.0, 0.0], [0.0, 3.84, 0.0], [0.0, 0.0, 3.84]],
}
PAGE = {
    "links": {"next": None, "base_url": {"href": "http://oqmd.org/oqmdapi"}},
    "resource": {},
    "data": [TITANATE],
    "meta": {"api_version": "1.0", "data_available": 1},
    "response_message": "OK",
}


def read(data: bytes | Any, name: str = "page.json") -> list[Record | Reject]:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return list(OQMD_REST.read(Member(name, len(raw), lambda: io.BytesIO(raw))))


def only(found: Sequence[Record | Reject]) -> Record:
    assert len(found) == 1
    assert isinstance(found[0], Record), found[0]
    return found[0]


def reason(**changed: Any) -> str:
    found = read([{**TITANATE, **changed}])
    assert len(found) == 1
    assert isinstance(found[0], Reject), found[0]
    return found[0].reason


def test_a_record_says_all_that_the_answer_says() -> None:
    record = only(read(PAGE))
    assert record.external_id == "6126"
    assert record.aliases == (("icsd", "31865"),)
    assert record.formula == "Ca1 O3 Ti1"
    assert record.properties == {
        "formation_energy_per_atom": -3.31978205998463,
        "energy_above_hull": 0.0,
        "band_gap": 2.3,
        "volume_per_atom": 56.578 / 5,
    }
    gone = {"entry_id", "icsd_id", "composition", "delta_e", "stability", "band_gap", "volume",
            "sites", "unit_cell"}  # fmt: skip
    assert dict(record.extra) == {k: v for k, v in TITANATE.items() if k not in gone}
    assert isinstance(record.structure, Sites)
    assert record.structure.crystal().amounts == {"O": 3.0, "Ca": 1.0, "Ti": 1.0}


@pytest.mark.parametrize("indent", [None, 2])
def test_pages_and_records_may_come_in_any_arrangement(indent: int | None) -> None:
    one = only(read(PAGE))

    def dumped(value: Any) -> bytes:
        return json.dumps(value, indent=indent).encode()

    assert only(read(dumped([TITANATE]))) == one
    assert only(read(dumped(TITANATE))) == one
    assert read(dumped([PAGE, PAGE])) == read(dumped([TITANATE, TITANATE]))
    lines = b"\n".join(json.dumps(v).encode() for v in (TITANATE, TITANATE))
    assert [r.external_id for r in read(lines, "a.jsonl") if isinstance(r, Record)] == ["6126"] * 2
    lines = b"\n".join(json.dumps(v).encode() for v in (PAGE, PAGE))
    assert [r.external_id for r in read(lines, "a.jsonl") if isinstance(r, Record)] == ["6126"] * 2


def test_fields_that_were_not_asked_for_are_no_fault() -> None:
    fields = ("name", "entry_id", "spacegroup", "ntypes", "band_gap", "delta_e")
    record = only(read([{name: TITANATE[name] for name in fields}]))
    assert record.formula == "CaTiO3"
    assert record.structure is None
    assert set(record.properties) == {"band_gap", "formation_energy_per_atom"}
    assert only(read([{**TITANATE, "unit_cell": None}])).structure is None
    assert only(read([{**TITANATE, "natoms": None}])).properties["volume_per_atom"] == 56.578 / 5
    nothing = only(read([{**TITANATE, "band_gap": None, "stability": float("nan")}]))
    assert set(nothing.properties) == {"formation_energy_per_atom", "volume_per_atom"}
    bare = read([{"entry_id": 3, "delta_e": 0.5}])
    assert isinstance(bare[0], Reject)
    assert "neither" in bare[0].reason


def test_sites_without_occupancies_give_no_structure() -> None:
    shared = "(Fe,Ni) @ 0 0 0"
    record = only(read([{**TITANATE, "sites": [shared, *TITANATE["sites"][1:]]}]))
    assert record.structure is None
    assert "site 1" in record.extra["structure_missing"]
    assert record.extra["sites"][0] == shared
    assert record.properties["volume_per_atom"] == 56.578 / 5
    empty = only(read([{**TITANATE, "sites": ["Vac @ 0.5 0.5 0", *TITANATE["sites"]]}]))
    assert isinstance(empty.structure, Sites)
    assert len(empty.structure.species) == 5


def test_what_is_wrong_is_said() -> None:
    assert "site 1 is 'Ca 0 0 0'" in reason(sites=["Ca 0 0 0"])
    assert "site 1" in reason(sites=["Ca @ 0 0 nan"])
    assert "site 2" in reason(sites=["Ca @ 0 0 0", 5])
    assert "sites is of type str" in reason(sites="Ca @ 0 0 0")
    assert "unit_cell" in reason(unit_cell=[[1, 0, 0], [0, 1, 0]])
    assert "unit_cell" in reason(unit_cell=[[1, 0, 0], [0, 1, 0], [0, 0, float("inf")]])
    assert "unit_cell" in reason(unit_cell=[[1, 0, 0], [0, 1, 0], [0, 0, None]])
    assert "delta_e" in reason(delta_e="much")
    assert "entry_id" in reason(entry_id=[1])
    assert "composition" in reason(composition=5)
    unknown = only(read([{**TITANATE, "sites": ["Xx @ 0 0 0"]}]))
    assert isinstance(unknown.structure, Sites)
    with pytest.raises(CrystalError, match="Xx"):
        unknown.structure.crystal()


def test_one_bad_record_costs_one_record() -> None:
    found = read([TITANATE, 5, {**TITANATE, "delta_e": "x"}, TITANATE])
    assert [isinstance(r, Record) for r in found] == [True, False, False, True]
    assert [r.line for r in found] == [1, 2, 3, 4]
    text = json.dumps([TITANATE, TITANATE]).encode()
    cut = read(text[:-100])
    assert isinstance(cut[0], Record)
    assert isinstance(cut[-1], Reject)
    error = read({"response_message": "Internal error", "links": {}})
    assert len(error) == 1
    assert isinstance(error[0], Reject)
    assert "Internal error" in error[0].reason


def test_which_files_are_of_this_format() -> None:
    def fits(value: Any) -> bool:
        return OQMD_REST.fits("x.json", json.dumps(value).encode())

    assert fits(PAGE)
    assert fits([TITANATE])
    assert fits([{"name": "CaTiO3", "entry_id": 1, "delta_e": 0.5}])
    assert not fits([{"@module": "pymatgen.entries", "entry_id": "mp-1", "delta_e": 1}])
    assert not fits({"data": [{"attributes": {"_oqmd_entry_id": 1, "_oqmd_delta_e": 1}}]})
    assert not fits([{"material_id": "mp-1"}])
    assert not OQMD_REST.fits("x.csv", b'entry_id,delta_e\n1,"entry_id"')


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(TITANATE)),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text("Fe@ 0.5()", max_size=9),
            lambda inner: st.lists(inner, max_size=4),
            max_leaves=8,
        ),
        max_size=3,
    )
)
def test_any_values_give_a_record_or_a_reject(changed: dict[str, Any]) -> None:
    found = read([{**TITANATE, **changed}, TITANATE])
    assert len(found) == 2
    assert isinstance(found[1], Record)
    if isinstance(found[0], Record):
        json.dumps(dict(found[0].extra), allow_nan=False)
        assert all(np.isfinite(v) for v in found[0].properties.values())


@real
def test_every_real_record_agrees_with_pymatgen() -> None:
    records = read(SAMPLE.read_bytes())
    values = json.loads(SAMPLE.read_text())
    assert len(records) == len(values) == 200
    for number, (record, value) in enumerate(zip(records, values, strict=True), 1):
        assert isinstance(record, Record)
        assert record.line == number
        assert record.external_id == str(value["entry_id"])
        assert record.formula is not None
        assert Composition(record.formula) == Composition(value["composition"])
        properties = {
            "formation_energy_per_atom": value["delta_e"],
            "energy_above_hull": value["stability"],
            "band_gap": value["band_gap"],
            "volume_per_atom": value["volume"] / value["natoms"],
        }
        assert record.properties == {k: v for k, v in properties.items() if v is not None}
        for name in ("calculation_id", "formationenergy_id", "spacegroup", "fit"):
            assert record.extra[name] == value[name]
        lattice = Lattice(value["unit_cell"])
        parts = [site.split(" @ ") for site in value["sites"]]
        theirs = Structure(lattice, [a for a, _ in parts], [b.split() for _, b in parts])
        assert isinstance(record.structure, Sites)
        ours = record.structure.crystal()
        assert np.abs(ours.lengths - lattice.abc).max() < 1e-6
        assert np.abs(ours.angles - lattice.angles).max() < 1e-6
        assert abs(ours.volume - value["volume"]) < 1e-3 * value["volume"]
        back = Structure(
            Lattice.from_parameters(*ours.lengths, *ours.angles), ours.species, ours.frac_coords
        )
        assert _distances(back) == pytest.approx(_distances(theirs), abs=1e-6)
        assert sorted(back.species) == sorted(theirs.species)


def _distances(structure: Structure) -> list[float]:
    """Distances between all sites, by the pair of elements, sorted."""
    z = np.array([s.Z for s in structure.species])
    pairs = np.minimum.outer(z, z) * 1000 + np.maximum.outer(z, z)
    order = np.lexsort((structure.distance_matrix.round(6).ravel(), pairs.ravel()))
    return structure.distance_matrix.ravel()[order].tolist()  # type: ignore[no-any-return]


@real
def test_optimade_answers_of_oqmd_are_not_of_this_format() -> None:
    assert OQMD_REST.fits(SAMPLE.name, SAMPLE.read_bytes()[:65_536])
    assert not OQMD_REST.fits(PAGES.name, PAGES.read_bytes()[:65_536])
