"""The real tables and the shipped sample, against an independent reading of the same files."""

from __future__ import annotations

import csv
import gzip
import os
import random
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from pymatgen.core import Composition

from gandb.sources import SOURCES, sample_files
from gandb.sources.base import ParsedTable
from gandb.sources.tables import read_tables

SHARED = Path(
    os.environ.get("GANDB_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
).resolve()
FORMULAS = SHARED / "formulas"
README = Path(sample_files()["mp"][0]).with_name("README.md")

PROPERTY_OF = {
    "Bandgap": "band_gap",
    "Formation_Enthalpy": "formation_energy_per_atom",
    "Energy_per_atom": "energy_per_atom",
    "Volume_per_atom": "volume_per_atom",
    "band_gap": "band_gap",
    "bulk_modulus": "bulk_modulus",
    "e_hull": "energy_above_hull",
    "elastic_anisotropy": "elastic_anisotropy",
    "formation_energy_per_atom": "formation_energy_per_atom",
    "mu_b": "total_magnetization",
    "shear_modulus": "shear_modulus",
    "Egap": "band_gap",
    "ael_bulk_modulus_vrh": "bulk_modulus",
    "ael_debye_temperature": "debye_temperature",
    "ael_shear_modulus_vrh": "shear_modulus",
    "agl_thermal_conductivity_300K": "thermal_conductivity",
    "agl_thermal_expansion_300K": "thermal_expansion",
    "energy_atom": "energy_per_atom",
}

Material = frozenset[tuple[str, float]]

real = pytest.mark.skipif(not FORMULAS.is_dir(), reason="the real formula tables are not here")


def csv_rows(path: Path) -> list[tuple[str, float]]:
    with gzip.open(path, "rt", newline="") as handle:
        rows = csv.reader(handle)
        assert next(rows) == ["formula", "value"]
        return [(formula, float(value)) for formula, value in rows]


@cache
def reduced(formula: str) -> Material:
    """The share of every element, as pymatgen reads the formula."""
    amounts = {str(element): n for element, n in Composition(formula).items()}
    total = sum(amounts.values())
    return frozenset((symbol, round(n / total, 9)) for symbol, n in amounts.items())


def check_against_csv(table: ParsedTable, paths: Sequence[Path], formulas: int | None) -> None:
    """Hold entries against the csv module and pymatgen.

    Args:
        table: what was read.
        paths: the files it was read from, each of formula and value.
        formulas: how many formulas to look at, chosen at random; None for all.
    """
    files = [csv_rows(path) for path in paths]
    rejected = {(r.file, r.line) for r in table.rejects}
    assert table.counts.rows_read == sum(map(len, files))
    assert table.counts.rows_rejected == len(rejected)

    # Every property keeps every value, in its place or not.
    for name, column in table.properties.items():
        expected = Counter(
            value
            for path, rows in zip(paths, files, strict=True)
            if PROPERTY_OF[path.name.split(".")[1]] == name
            for line, (_, value) in enumerate(rows, 2)
            if (str(path), line) not in rejected
        )
        assert Counter(column.drop_null().to_pylist()) == expected, name

    # What belongs together, decided anew, formula by formula.
    texts = sorted({formula for rows in files for formula, _ in rows})
    if formulas is not None:
        texts = random.Random(0).sample(texts, formulas)
    chosen = {reduced(text) for text in texts}
    by_formula: dict[Material, list[list[tuple[str, str, float]]]] = {
        key: [[] for _ in files] for key in chosen
    }
    wanted = set(texts)
    for k, (path, rows) in enumerate(zip(paths, files, strict=True)):
        name = PROPERTY_OF[path.name.split(".")[1]]
        for line, (formula, value) in enumerate(rows, 2):
            if formulas is not None and formula not in wanted:
                continue
            key = reduced(formula)
            if key in by_formula and (str(path), line) not in rejected:
                by_formula[key][k].append((formula, name, value))
    expected_entries: Counter[tuple[Material, frozenset[tuple[str, float]]]] = Counter()
    for key, per_file in by_formula.items():
        if all(len(rows) <= 1 for rows in per_file):
            cells = [cell for rows in per_file for cell in rows]
            if cells:
                expected_entries[key, frozenset((name, v) for _, name, v in cells)] += 1
        else:
            for rows in per_file:
                for _, name, value in rows:
                    expected_entries[key, frozenset([(name, value)])] += 1
    found: Counter[tuple[Material, frozenset[tuple[str, float]]]] = Counter()
    columns = {name: column.to_pylist() for name, column in table.properties.items()}
    for k, text in enumerate(table.formulas.to_pylist()):
        if formulas is not None and text not in wanted:
            continue
        cells = [(name, column[k]) for name, column in columns.items() if column[k] is not None]
        found[reduced(text), frozenset(cells)] += 1
    assert found == expected_entries


@real
def test_aflow_whole() -> None:
    paths = sorted(FORMULAS.glob("aflow.*.csv.gz"))
    table = read_tables(paths, SOURCES["aflow"])
    check_against_csv(table, paths, None)
    assert len(table.rejects) == 10
    assert all("made whole" in reject.reason for reject in table.rejects)


@real
@pytest.mark.slow
def test_mp_whole() -> None:
    paths = sorted(FORMULAS.glob("mp.*.csv.gz"))
    table = read_tables(paths, SOURCES["mp"])
    check_against_csv(table, paths, None)
    assert table.rejects == []
    sodium_nitride = [k for k, f in enumerate(table.formulas.to_pylist()) if f == "NaN"]
    assert all(table.compositions[k] == {"N": 1, "Na": 1} for k in sodium_nitride)


@real
@pytest.mark.slow
def test_oqmd_whole_table_of_four_files() -> None:
    paths = sorted(FORMULAS.glob("oqmd.*.csv.gz"))
    table = read_tables(paths, SOURCES["oqmd"])
    # Every formula is there once, so a formula as text decides on its own.
    check_against_csv(table, paths, 20_000)
    assert (len(table), table.rejects) == (341_700, [])
    assert table.counts.rows_joined == table.counts.rows_used == 1_366_708
    assert table.ordinals.max() == 0
    assert [column.null_count for column in table.properties.values()] == [0, 0, 92, 0]


@real
def test_real_records_of_the_apis() -> None:
    native = SHARED / "native"
    oqmd = read_tables([native / "oqmd" / "rest-formationenergy.json"], SOURCES["oqmd"])
    assert len(oqmd) == oqmd.counts.rows_read == 200
    assert set(oqmd.properties) == {"formation_energy_per_atom", "band_gap", "energy_above_hull"}
    assert oqmd.external_ids is not None
    assert oqmd.external_ids[0].as_py() == "1039868"

    aflow = read_tables([native / "aflow" / "MnPdPt-hull.json.gz"], SOURCES["aflow"])
    assert len(aflow) == 3_502
    energies = aflow.properties["formation_energy_per_atom"].drop_null().to_numpy()
    assert energies.min() > -1.5  # eV/atom: the export is in meV/atom
    assert energies.max() < 10  # 1e+12 is missing
    assert aflow.properties["formation_energy_per_atom"].null_count > 0

    summary = read_tables([native / "mp" / "summary-records-mock.json"], SOURCES["mp"])
    assert summary.counts.rows_rejected == 0
    assert summary.properties["formation_energy_per_atom"].null_count == 0


@real
def test_real_tables_with_structures_in_their_cells() -> None:
    path = SHARED / "structures" / "mp20-mini.csv.gz"
    table = read_tables([path], SOURCES["mp"])
    with gzip.open(path, "rt", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(table) == len(rows) == 2_573
    assert table.rejects == []
    assert table.external_ids is not None
    assert table.external_ids.to_pylist() == [row["material_id"] for row in rows]
    for name, column in (("band_gap", "band_gap"), ("energy_above_hull", "e_above_hull")):
        assert table.properties[name].to_pylist() == [float(row[column]) for row in rows]
    for k in range(0, len(rows), 50):
        written = dict(Composition(rows[k]["pretty_formula"]).get_el_amt_dict())
        assert table.compositions[k] == written
    # The same file, from its lines: the first record begins on line 2 and spans many.
    with gzip.open(path, "rt", newline="") as handle:
        lines = handle.read().split("\n")
    for k in range(0, len(rows), 50):
        assert rows[k]["material_id"] in lines[table.lines[k, 0] - 1]


# --- the shipped sample --------------------------------------------------------------------


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_sample_reads_without_a_reject(source: str) -> None:
    paths = sample_files()[source]
    table = read_tables(paths, SOURCES[source])
    assert table.rejects == []
    assert "band_gap" in table.properties
    energy = "energy_per_atom" if source == "aflow" else "formation_energy_per_atom"
    assert len(table.properties[energy].drop_null()) >= 12_000
    check_against_csv(table, paths, None)


def test_sample_keeps_polymorphs_and_stays_small() -> None:
    [energies] = [p for p in sample_files()["mp"] if "formation_energy" in p.name]
    rows = csv_rows(energies)
    assert len(rows) > len({reduced(formula) for formula, _ in rows}) + 5_000
    assert sum(path.stat().st_size for paths in sample_files().values() for path in paths) < 2e6


def test_readme_of_the_sample_tells_its_sizes_and_terms() -> None:
    text = README.read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([^`]+)` \| ([\d,]+) \| ([\d,]+) \|", text, re.MULTILINE)
    files = {path.name: path for paths in sample_files().values() for path in paths}
    assert {name for name, _, _ in listed} == set(files)
    assert {p.name for p in README.parent.glob("*.csv.gz")} == set(files)
    for name, rows, formulas in listed:
        found = csv_rows(files[name])
        assert f"{len(found):,}" == rows
        assert f"{len({reduced(formula) for formula, _ in found}):,}" == formulas
    for source in SOURCES.values():
        assert source.url in text
        for citation in source.citations[:2]:
            assert citation[citation.index("doi:") :] in text


@real
def test_sample_is_part_of_the_real_tables() -> None:
    for paths in sample_files().values():
        for path in paths:
            assert not Counter(csv_rows(path)) - Counter(csv_rows(FORMULAS / path.name)), path.name
