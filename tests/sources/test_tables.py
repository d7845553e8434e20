"""Tables into entries: what columns mean, which rows are refused, which rows are one entry."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.core.errors import InputError, NotFoundError, UnitError, UsageError
from gandb.core.units import PROPERTIES
from gandb.sources import SOURCES, Source
from gandb.sources.base import EXTERNAL_ID, FORMULA, IGNORE, Counts, ParsedTable
from gandb.sources.entries import Join
from gandb.sources.tables import read_tables

OQMD, MP, AFLOW = SOURCES["oqmd"], SOURCES["mp"], SOURCES["aflow"]


def write(folder: Path, **contents: str) -> list[Path]:
    """Write files named by keyword, ``a_csv`` for ``a.csv``."""
    paths = []
    for name, content in contents.items():
        stem, _, ending = name.rpartition("_")
        paths.append(folder / f"{stem}.{ending}")
        paths[-1].write_text(content, encoding="utf-8")
    return paths


def entries(table: ParsedTable) -> list[tuple[object, ...]]:
    """Every entry as (formula, external id, properties, extra, ordinal), sorted."""
    out = []
    for k in range(len(table)):
        properties = {n: v[k].as_py() for n, v in table.properties.items() if v[k].is_valid}
        external_id = table.external_ids[k].as_py() if table.external_ids is not None else None
        extra = table.extra[k].as_py() if table.extra is not None else None
        row = (table.formulas[k].as_py(), external_id, properties, extra, int(table.ordinals[k]))
        out.append(row)
    return sorted(out, key=repr)


# --- columns -------------------------------------------------------------------------------


def test_every_source_means_properties_and_units_that_exist() -> None:
    for name, source in SOURCES.items():
        assert source.name == name
        assert source.licence
        assert source.attribution
        assert all("doi:10." in citation for citation in source.citations)
        targets = [*source.columns.values(), *source.tables.values()]
        targets += [t for layout in source.layouts for t in layout.columns.values()]
        for target in targets:
            if target not in (FORMULA, EXTERNAL_ID, IGNORE):
                known, _, unit = target.partition(":")
                assert PROPERTIES[known]
                assert unit


def test_columns_of_the_oqmd_api(tmp_path: Path) -> None:
    record = {
        "name": "YbMnNO",
        "entry_id": 1039868,
        "composition": "Mn1 N1 O1 Yb1",
        "band_gap": 0.0,
        "delta_e": -1.59414634085853,
        "stability": 0.35,
        "prototype": None,
        "natoms": 8,
    }
    table = read_tables(write(tmp_path, page_json=json.dumps({"data": [record]})), OQMD)
    assert entries(table) == [
        (
            "Mn1 N1 O1 Yb1",
            "1039868",
            {
                "formation_energy_per_atom": -1.59414634085853,
                "energy_above_hull": 0.35,
                "band_gap": 0.0,
            },
            '{"name":"YbMnNO","natoms":8}',
            0,
        )
    ]
    assert table.compositions[0] == {"N": 1, "O": 1, "Mn": 1, "Yb": 1}


def test_columns_of_the_materials_project(tmp_path: Path) -> None:
    record = {
        "material_id": "mp-149",
        "formula_pretty": "Si",
        "bulk_modulus": {"vrh": 89.0, "voigt": 90.0},
        "total_magnetization": 4.0,
        "total_magnetization_normalized_formula_units": 2.0,
        "band_gap": None,
    }
    [entry] = entries(read_tables(write(tmp_path, mp_jsonl=json.dumps(record)), MP))
    assert entry[:3] == ("Si", "mp-149", {"bulk_modulus": 89.0, "total_magnetization": 2.0})
    assert json.loads(str(entry[3]))["total_magnetization"] == 4.0


def test_units_of_the_two_exports_of_aflow(tmp_path: Path) -> None:
    aflux, hull = write(
        tmp_path,
        aflux_csv="compound,auid,enthalpy_formation_atom,Egap\nMn1Pd2,a1,-0.195913,1e+12\n",
        hull_csv=(
            "compound,auid,enthalpy_formation_atom,distance_hull_enthalpy_formation_atom\n"
            "Mn1Pd2,a1,-195.913,56.554\nMn2,a2,1000000000000.0,1e+12\n"
        ),
    )
    assert entries(read_tables([aflux], AFLOW)) == [
        ("Mn1Pd2", "a1", {"formation_energy_per_atom": -0.195913}, None, 0)
    ]
    [first, second] = entries(read_tables([hull], AFLOW))
    assert first[2] == pytest.approx(
        {"formation_energy_per_atom": -0.195913, "energy_above_hull": 0.056554}
    )
    assert second[2] == {}


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("oqmd.Bandgap.csv", OQMD, "band_gap"),
        ("Formation_Enthalpy.csv", OQMD, "formation_energy_per_atom"),
        ("my-Energy_per_atom.csv", OQMD, "energy_per_atom"),
        ("mp.formation_energy_per_atom.csv", MP, "formation_energy_per_atom"),
        ("mp.e_hull.csv", MP, "energy_above_hull"),
        ("mp.mu_b.csv", MP, "total_magnetization"),
        ("mp.thermal_expansion.csv", MP, "thermal_expansion"),
        ("aflow.agl_thermal_conductivity_300K.csv", AFLOW, "thermal_conductivity"),
        ("aflow.EGAP.csv", AFLOW, "band_gap"),
    ],
)
@pytest.mark.parametrize("column", ["value", "target"])
def test_the_name_of_a_file_tells_what_its_values_are(
    tmp_path: Path, name: str, source: Source, found: str, column: str
) -> None:
    (tmp_path / name).write_text(f"formula,{column}\nFe,1.5\n")
    [entry] = entries(read_tables([tmp_path / name], source))
    assert entry[2] == {found: 1.5}


def test_values_of_a_file_with_a_name_that_tells_nothing(tmp_path: Path) -> None:
    paths = write(tmp_path, data_csv="formula,value\nFe,1500\n")
    with pytest.raises(InputError, match=r"--map value=PROPERTY\[:UNIT\].*band_gap"):
        read_tables(paths, OQMD)
    [entry] = entries(read_tables(paths, OQMD, {"value": "band_gap:meV"}))
    assert entry[2] == {"band_gap": 1.5}


def test_a_mapping_goes_before_what_the_source_knows(tmp_path: Path) -> None:
    paths = write(tmp_path, t_csv="name,composition,delta_e,gap,id,note\nFeO,Fe2O2,-96.5,2,7,x\n")
    mapping = {
        "name": "formula",
        "delta_e": "formation_energy_per_atom:kJ/mol",
        "gap": "Egap",
        "id": "external_id",
        "note": "ignore",
    }
    table = read_tables(paths, OQMD, mapping)
    [(formula, external_id, properties, extra, _)] = entries(table)
    assert (formula, external_id) == ("FeO", "7")
    assert extra == '{"composition":"Fe2O2"}'
    assert properties == pytest.approx(
        {"formation_energy_per_atom": -96.5 / 96.48533212, "band_gap": 2.0}
    )


def test_columns_in_another_case_and_nameless_ones(tmp_path: Path) -> None:
    paths = write(tmp_path, t_csv=",Formula,BAND_GAP,Unnamed: 0\n0,Fe,1.5,0\n1,O2,,1\n")
    assert entries(read_tables(paths, MP)) == [
        ("Fe", None, {"band_gap": 1.5}, None, 0),
        ("O2", None, {}, None, 0),
    ]


@pytest.mark.parametrize(
    ("mapping", "kind", "says"),
    [
        ({"gab": "band_gap"}, NotFoundError, "no column named 'gab'; known: gap, "),
        ({"gap": "bandgab"}, NotFoundError, "no property named 'bandgab'; known: band_gap, "),
        ({"gap": "formulae"}, NotFoundError, "no property named 'formulae'; known: formula, "),
        ({"gap": "band_gap:GPa"}, UnitError, "unit 'GPa' measures pressure"),
        ({"gap": "band_gap:parsec"}, UnitError, "units of band_gap: eV, meV"),
        ({"gap": "band_gap", "x": "Egap"}, UsageError, "'gap' and 'x' are both mapped to band_gap"),
    ],
)
def test_a_mapping_that_cannot_be_meant(
    tmp_path: Path, mapping: dict[str, str], kind: type[Exception], says: str
) -> None:
    paths = write(tmp_path, t_csv="formula,gap,x\nFe,1,2\n")
    with pytest.raises(kind) as caught:
        read_tables(paths, MP, mapping)
    assert says in str(caught.value)


def test_a_file_without_formulas_and_no_file_at_all(tmp_path: Path) -> None:
    paths = write(tmp_path, t_csv="a,b\n1,2\n")
    with pytest.raises(InputError, match="no column of formulas among a, b; name it with --map"):
        read_tables(paths, MP)
    with pytest.raises(UsageError, match="no file"):
        read_tables([], MP)


# --- rows ----------------------------------------------------------------------------------


def test_bad_rows_are_rejected_with_file_line_reason_and_text(tmp_path: Path) -> None:
    lines = [
        "Fe2O3,1.5,2",
        "FeXx,1.5,2",
        "Fe0,1.5,2",
        "H9999O,1,1",
        ",1,1",
        "NaN,NaN,2",
        "Fe,abc,2",
        "FeO,inf,2",
        "CoO,1e999,2",
        "NiO,1_000,-Infinity",
        "Cu+2,x,2",
        "MgO, +1.5 ,-0.0",
        "ZnO",
        "CaO,none,",
    ]
    text = "formula,band_gap,energy_per_atom\n" + "\n".join(lines) + "\n"
    [path] = write(tmp_path, t_csv=text)
    table = read_tables([path], MP)
    assert entries(table) == [
        ("CaO", None, {}, None, 0),
        ("Fe2O3", None, {"band_gap": 1.5, "energy_per_atom": 2.0}, None, 0),
        ("MgO", None, {"band_gap": 1.5, "energy_per_atom": 0.0}, None, 0),
        ("NaN", None, {"energy_per_atom": 2.0}, None, 0),
    ]
    assert table.compositions[1] == {"N": 1, "Na": 1}
    assert not np.signbit(table.properties["energy_per_atom"][2].as_py())
    gap, energy = "in column 'band_gap'", "in column 'energy_per_atom'"
    assert [(r.line, r.reason, r.raw) for r in table.rejects] == [
        (3, "unknown element 'Xx' at character 3", lines[1]),
        (4, "zero count '0' at character 3", lines[2]),
        (5, "10,000 atoms; at most 9,999 are allowed", lines[3]),
        (6, "empty formula", lines[4]),
        (8, f"not a number: 'abc' {gap}", lines[6]),
        (9, f"infinite value 'inf' {gap}", lines[7]),
        (10, f"infinite value '1e999' {gap}", lines[8]),
        (11, f"infinite value '-Infinity' {energy}; not a number: '1_000' {gap}", lines[9]),
        (
            12,
            f"a charge ('+2' at character 3) has no place in a formula; not a number: 'x' {gap}",
            lines[10],
        ),
        (14, "1 fields where 3 are named", lines[12]),
    ]
    assert {r.file for r in table.rejects} == {str(path)}
    assert (table.counts.rows_read, table.counts.rows_rejected, table.counts.entries) == (14, 10, 4)
    assert table.lines[:, 0].tolist() == [2, 7, 13, 15]


def test_bad_numbers_in_json(tmp_path: Path) -> None:
    values = ["1.5", "true", '"2"', "[1]", "1e999", "NaN", "Infinity", "1" * 400, '""']
    lines = [f'{{"formula": "Fe", "band_gap": {value}}}' for value in values]
    table = read_tables(write(tmp_path, t_jsonl="\n".join(lines)), MP)
    assert table.properties["band_gap"].to_pylist() == [1.5, 2.0, None, None]
    assert table.lines[:, 0].tolist() == [1, 3, 6, 9]
    assert [(r.line, r.reason.split(":")[0].split("'")[0]) for r in table.rejects] == [
        (2, "not a number"),
        (4, "not a number"),
        (5, "infinite value "),
        (7, "infinite value "),
        (8, "infinite value "),
    ]


def test_a_file_of_rejects_alone(tmp_path: Path) -> None:
    table = read_tables(write(tmp_path, band_gap_csv="formula,value\nXx,1\nFe,x\n"), MP)
    assert len(table) == 0
    assert table.counts == Counts(2, 2, 0, 0, 0, 0, 0)
    assert read_tables(write(tmp_path, band_gap_csv="formula,value\n"), MP).counts.rows_read == 0


# --- joining -------------------------------------------------------------------------------


def test_a_formula_once_in_each_file_is_one_entry(tmp_path: Path) -> None:
    paths = write(
        tmp_path,
        a_csv="formula,band_gap\nFe2O3,2\nNaCl,5\nK,0\n",
        b_csv="formula,energy_per_atom\nClNa,-3\nFe4O6,-7\nFe,-8\n",
        c_csv="formula,volume\nO3Fe2,10\n",
    )
    table = read_tables(paths, MP)
    assert entries(table) == [
        ("ClNa", None, {"band_gap": 5.0, "energy_per_atom": -3.0}, None, 0),
        ("Fe", None, {"energy_per_atom": -8.0}, None, 0),
        ("Fe2O3", None, {"band_gap": 2.0, "energy_per_atom": -7.0}, '{"volume":"10"}', 0),
        ("K", None, {"band_gap": 0.0}, None, 0),
    ]
    assert table.lines.tolist() == [[2, 3, 2], [3, 2, 0], [4, 0, 0], [0, 4, 0]]
    assert table.counts == Counts(
        rows_read=7,
        rows_rejected=0,
        rows_used=7,
        entries=4,
        entries_joined=2,
        rows_joined=5,
        rows_kept_apart=0,
    )
    # Which formula stands for an entry, as written, does not depend on the order of the files.
    assert table.compositions[0] == {"O": 3, "Fe": 2}
    for order in itertools.permutations(paths):
        assert entries(read_tables(order, MP)) == entries(table)


def test_polymorphs_are_never_guessed_together(tmp_path: Path) -> None:
    paths = write(
        tmp_path,
        a_csv="formula,band_gap\nSiO2,5\nSiO2,6\nNaCl,5\n",
        b_csv="formula,energy_per_atom\nSi2O4,-3\nNaCl,-4\n",
    )
    table = read_tables(paths, MP)
    assert entries(table) == [
        ("NaCl", None, {"band_gap": 5.0, "energy_per_atom": -4.0}, None, 0),
        ("Si2O4", None, {"energy_per_atom": -3.0}, None, 0),
        ("SiO2", None, {"band_gap": 5.0}, None, 0),
        ("SiO2", None, {"band_gap": 6.0}, None, 0),
    ]
    assert table.counts.rows_kept_apart == 3
    assert table.counts.rows_joined == 2
    assert len(read_tables(paths, MP, join=Join.NONE)) == 5


def test_two_values_of_one_property_are_two_entries(tmp_path: Path) -> None:
    paths = write(
        tmp_path, a_csv="formula,band_gap\nNaCl,5\nK,\n", b_csv="formula,band_gap\nNaCl,5\nK,1\n"
    )
    table = read_tables(paths, MP)
    assert [(e[0], e[2], e[4]) for e in entries(table)] == [
        ("K", {"band_gap": 1.0}, 0),
        ("NaCl", {"band_gap": 5.0}, 0),
        ("NaCl", {"band_gap": 5.0}, 1),
    ]


def test_extra_columns_that_contradict_each_other_keep_rows_apart(tmp_path: Path) -> None:
    paths = write(
        tmp_path,
        a_csv="formula,band_gap,phase\nNaCl,5,rock salt\nKCl,4,rock salt\n",
        b_csv="formula,energy_per_atom,phase,n\nNaCl,-3,rock salt,2\nKCl,-2,CsCl,1\n",
    )
    assert [(e[0], e[2], e[3]) for e in entries(read_tables(paths, MP))] == [
        ("KCl", {"band_gap": 4.0}, '{"phase":"rock salt"}'),
        ("KCl", {"energy_per_atom": -2.0}, '{"n":"1","phase":"CsCl"}'),
        ("NaCl", {"band_gap": 5.0, "energy_per_atom": -3.0}, '{"n":"2","phase":"rock salt"}'),
    ]


def test_external_ids_join_where_every_file_has_them(tmp_path: Path) -> None:
    paths = write(
        tmp_path,
        a_csv="material_id,formula,band_gap\nmp-1,SiO2,5\nmp-2,SiO2,6\nmp-3,K,0\n,Na,0\n",
        b_csv="material_id,formula,energy_per_atom\nmp-2,Si2O4,-3\nmp-1,SiO2,-4\nmp-3,Na,1\n,Na,1\n",
    )
    table = read_tables(paths, MP)
    assert [e[:3] for e in entries(table)] == [
        ("K", "mp-3", {"band_gap": 0.0}),
        ("Na", "mp-3", {"energy_per_atom": 1.0}),
        ("Na", None, {"band_gap": 0.0}),
        ("Na", None, {"energy_per_atom": 1.0}),
        ("SiO2", "mp-1", {"band_gap": 5.0, "energy_per_atom": -4.0}),
        ("SiO2", "mp-2", {"band_gap": 6.0, "energy_per_atom": -3.0}),
    ]
    assert table.counts.rows_kept_apart == 2  # mp-3 is K in one file and Na in the other


def test_ids_of_some_files_go_along_but_different_ids_keep_rows_apart(tmp_path: Path) -> None:
    a, b, c = write(
        tmp_path,
        a_csv="material_id,formula,band_gap\nmp-1,SiO2,5\nmp-3,K,0\n",
        b_csv="formula,energy_per_atom\nSiO2,-4\nK,-1\n",
        c_csv="material_id,formula,bulk_modulus.vrh\nmp-1,SiO2,30\nmp-4,K,3\n",
    )
    assert [e[:2] for e in entries(read_tables([a, b], MP))] == [("K", "mp-3"), ("SiO2", "mp-1")]
    assert [e[:2] for e in entries(read_tables([b, c, a], MP))] == [
        ("K", "mp-3"),
        ("K", "mp-4"),
        ("K", None),
        ("SiO2", "mp-1"),
    ]


def test_ordinals_tell_equal_rows_apart(tmp_path: Path) -> None:
    text = "formula,band_gap\nFe,1\nO2,1\nFe,1\nFe2,1\nFe,2\nFe,\nFe,1\nFe,nan\n"
    table = read_tables(write(tmp_path, t_csv=text), MP)
    found = [(table.formulas[k].as_py(), table.ordinals[k]) for k in range(len(table))]
    assert found == [
        ("Fe", 0),
        ("O2", 0),
        ("Fe", 1),
        ("Fe2", 3),  # equal to Fe but for its spelling: numbered after it
        ("Fe", 0),
        ("Fe", 0),
        ("Fe", 2),
        ("Fe", 1),
    ]
    assert table.ordinals.dtype == np.int32


ROW = st.tuples(
    st.sampled_from(["Fe", "Fe2", "O2", "NaCl", "ClNa", "K", "Xx"]),
    st.sampled_from(["1", "2", "", "oops"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(ROW, max_size=6), min_size=1, max_size=3), st.randoms())
def test_entries_do_not_depend_on_the_order_of_rows_or_files(
    tmp_path_factory: pytest.TempPathFactory,
    tables: list[list[tuple[str, str]]],
    rng: random.Random,
) -> None:
    folder = tmp_path_factory.mktemp("order")
    names = ["band_gap", "energy_per_atom", "shear_modulus.vrh"]

    def read(shuffle: bool) -> ParsedTable:
        paths = []
        for name, table in zip(names, tables, strict=False):
            rows = rng.sample(table, len(table)) if shuffle else table
            paths.append(folder / f"{name}.csv")
            text = f"formula,{name}\n" + "".join(f"{f},{v}\n" for f, v in rows)
            paths[-1].write_text(text)
        return read_tables(rng.sample(paths, len(paths)) if shuffle else paths, MP)

    before, after = read(shuffle=False), read(shuffle=True)
    assert entries(before) == entries(after)
    assert before.counts == after.counts
    assert len({repr(entry) for entry in entries(before)}) == len(before)
    assert before.counts.rows_read == sum(map(len, tables))


def test_a_table_whose_counts_do_not_add_up_cannot_be_made(tmp_path: Path) -> None:
    table = read_tables(write(tmp_path, band_gap_csv="formula,value\nFe,1\n"), MP)
    fields = dict(vars(table))
    with pytest.raises(ValueError, match="do not add up"):
        ParsedTable(**fields | {"counts": Counts(2, 0, 2, 1, 0, 0, 0)})
    with pytest.raises(ValueError, match="columns of"):
        ParsedTable(**fields | {"ordinals": np.zeros(2, np.int32)})


def test_a_value_beside_named_properties_means_nothing(tmp_path: Path) -> None:
    paths = write(tmp_path, t_csv="formula,band_gap,value,target\nFe,1,2,3\n")
    assert entries(read_tables(paths, MP)) == [
        ("Fe", None, {"band_gap": 1.0}, '{"target":"3","value":"2"}', 0)
    ]


def test_the_list_of_sources_is_light() -> None:
    code = "import sys, gandb.sources; print({'numba', 'pyarrow', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
