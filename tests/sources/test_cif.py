"""CIF: real files, blocks, ids, round trips and broken texts, against pymatgen."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from gandb.core.crystals import CrystalError
from gandb.core.errors import InputError, MissingExtraError
from gandb.sources import cif_blocks
from gandb.sources.archives import members
from gandb.sources.base import Reject
from gandb.sources.cif import CIF, decode_cif
from gandb.sources.records import Encoded, Member, Record
from tests.sources.cif_texts import (
    MAGNETIC,
    PLAIN,
    assert_as_pymatgen,
    assert_same_sites,
    cif,
    decoded,
    records,
)

SHARED = Path(
    os.environ.get("GANDB_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
).resolve()
ZIPS = (
    "structures/mp-cifs.zip", "structures/oqmd-cifs.zip", "structures/aflow-cifs.zip",
    "structures/alexandria-cifs.zip", "generated/ftcp-cifs.zip", "generated/mattergen-cifs.zip",
    "validity/seed_42.zip", "validity/seed_123.zip",
    "native/aflow/rest-entry/AlCu_pvMn_pv.T0001.A2BC.cif",
)  # fmt: skip
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the real structures are not here")


# --- real files ---------------------------------------------------------------------------


def real_members(every: int) -> Iterator[tuple[int, Member]]:
    number = 0
    for path in ZIPS:
        for found in members([SHARED / path]):
            assert isinstance(found, Member), found
            if not found.name.endswith(".cif"):
                continue
            number += 1
            if number % every == 0:
                yield number, found


def check_real(every: int) -> int:
    number = 0
    for number, member in real_members(every):  # noqa: B007
        [record] = CIF.read(member)
        assert isinstance(record, Record)
        assert isinstance(record.structure, Encoded)
        assert member.name.endswith(f"{record.external_id}.cif")
        if member.name.endswith("MgMn(Fe3O4)2_symmetrized.cif"):
            # Its atoms lie 0.02 Å from their images; pymatgen keeps both of each.
            with pytest.raises(CrystalError, match="do not have the stated formula"):
                decoded(record.structure.text)
            continue
        assert_as_pymatgen(record.structure.text, within=1e-4)
    return number


@real
def test_real_files_agree_with_pymatgen() -> None:
    check_real(12)


@real
@pytest.mark.slow
def test_all_real_files_agree_with_pymatgen() -> None:
    assert check_real(1) == 7_815


# --- the text -----------------------------------------------------------------------------

FE = cif("4 5 6 90 90 90", "Fe1 Fe 0 0 0 1", "", PLAIN, name="one")
NI = cif("5 5 6 90 90 90", "Ni1 Ni 0 0 0 1", "", PLAIN, name="two")


def test_the_text_of_aflow_is_mended() -> None:
    text = FE.replace(
        "data_one",
        "data_AlCu_pvMn_pv/T0001.A2BC - (T0001.A2BC) -\n"
        "_pd_phase_name AlCu_pvMn_pv/T0001.A2BC - (T0001.A2BC) -",
    )
    [record] = records(text)
    assert isinstance(record, Record)
    assert record.extra["chemical_name"] == "AlCu_pvMn_pv/T0001.A2BC - (T0001.A2BC) -"
    assert decoded(text).species == ("Fe",)


def test_blocks_are_records() -> None:
    found = records(FE + NI)
    assert [r.external_id for r in found if isinstance(r, Record)] == ["x#one", "x#two"]
    assert [r.line for r in found] == [1, FE.count("\n") + 1]
    species = [
        decoded(r.structure.text).species
        for r in found
        if isinstance(r, Record) and isinstance(r.structure, Encoded)
    ]
    assert species == [("Fe",), ("Ni",)]
    [alone] = records(FE)
    assert isinstance(alone, Record)
    assert alone.external_id == "x"
    with pytest.raises(InputError, match="2 structures"):
        decode_cif(FE + NI)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_text_fields_do_not_split_blocks(ends: str) -> None:
    told = "_publ_section_comment\n;\ndata_three\nloop_\n_atom_site_label\n;\n"
    text = "# a comment\n\n" + FE + told + NI + "_publ_section_comment\n; x ;\ndata_four\n;\n"
    found = records(("\ufeff" + text).replace("\n", ends))
    assert [r.external_id for r in found if isinstance(r, Record)] == ["x#one", "x#two"]


def test_one_bad_block_costs_one_record() -> None:
    bad = FE.replace("data_one", "data_bad")
    for broken in (
        bad + "_publ_section_comment\n;\nnever closed\n",
        bad.replace("0 0 0 1", "0 0 0"),
        bad + "_x 'unclosed\n",
        bad + "_cell_length_a 7\n",
        bad.replace("Fe1", "Fe\udce9"),
    ):
        text = FE + broken + NI + NI.replace("two", "three")
        found = records(text.encode(errors="surrogateescape"))
        kinds = [type(r) for r in found]
        assert kinds == [Record, Reject, Record, Record], broken
        bad_one = found[1]
        assert isinstance(bad_one, Reject)
        lines = text.split("\n")
        start = lines.index("data_bad") + 1
        assert start <= bad_one.line <= start + broken.count("\n") + 1
        assert bad_one.reason


def test_large_blocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cif_blocks, "MAX_BLOCK_BYTES", 10_000)
    huge = FE.replace("data_one", "data_huge") + "# padding\n" * 5_000
    found = records(FE + huge + NI)
    assert [type(r) for r in found] == [Record, Reject, Record]
    assert isinstance(found[1], Reject)
    assert "more than 10,000 bytes" in found[1].reason
    unclosed = FE.replace("data_one", "data_bad") + "_x\n;\n"
    text = unclosed + "".join(NI.replace("two", f"k{k}") for k in range(300))
    found = records(text)
    assert [type(r) for r in found] == [Reject] + [Record] * 300


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no block"),
        (b"# nothing\n", "no block"),
        (b"data_x\n_a 1\n", "no block"),
        (b"hello\n", "does not begin with data_"),
        (FE.encode("utf-16"), "UTF-16"),
        (FE.encode() + b"_x '\xe9'\n", "not UTF-8"),
        (b"data_x\n" + bytes(1_000), "binary"),
        (FE.partition("loop_")[0].encode(), "no atom sites"),
        (b"x\n" * 1_000_000, "does not begin"),
        (b"data_x\n" + b"_a 1\n" * 3, "no block"),
    ],
)
def test_what_is_no_cif_is_one_reject(data: bytes, reason: str) -> None:
    [found] = records(data)
    assert isinstance(found, Reject)
    assert re.search(reason, found.reason)
    assert len(found.raw) <= 1_000


def test_a_text_that_is_cut_off_is_told_by_its_formula() -> None:
    structure = Structure.from_spacegroup(
        "Pnma", Lattice.orthorhombic(5, 7, 6), ["Ca", "Ti", "O"],
        [[0.03, 0.25, 0.99], [0, 0, 0.5], [0.48, 0.25, 0.07]],
    )  # fmt: skip
    text = str(CifWriter(structure))
    assert len(decoded(text)) == 12
    for lines in range(1, 10):
        cut = "\n".join(text.rstrip().split("\n")[:-lines]) + "\n"
        with pytest.raises(CrystalError, match="cut off"):
            decoded(cut)
    assert len(decoded(cut + "#END\n")) == 3  # a file that says that it ends there


# --- ids and literature -------------------------------------------------------------------

ICSD = (
    "#(C) 2023 by FIZ Karlsruhe\n"
    + cif(
        "8.0806(2) 8.0806(2) 8.0806(2) 90. 90. 90.",
        "Mg1 Mg2+ 8 a 0.125 0.125 0.125 . 1. 0\n"
        "Al1 Al3+ 16 d 0.5 0.5 0.5 . 1. 0\nO1 O2- 32 e 0.2624(3) 0.2624(3) 0.2624(3) . 1. 0",
        """_database_code_ICSD 31373
_audit_creation_date 1984-06-06
_chemical_name_common 'Magnesium dialuminium oxide'
_chemical_formula_structural 'Mg (Al2 O4)'
_chemical_formula_sum 'Al2 Mg1 O4'
_chemical_name_structure_type Spinel-Al2MgO4
_chemical_name_mineral Spinel
_cell_volume 527.6
_cell_formula_units_Z 8
_cell_measurement_temperature 298(2)
_diffrn_ambient_pressure 101
_refine_ls_R_factor_all 0.021
_symmetry_space_group_name_H-M 'F d -3 m Z'
_space_group_IT_number 227
loop_
_citation_id
_citation_journal_full
_citation_year
_citation_journal_volume
_citation_page_first
_citation_page_last
_citation_journal_id_ASTM
primary 'Zeitschrift fuer Kristallographie' 1937 96 440 445 ZEKRDZ
2 'Acta Crystallographica' 1950 3 9 ? ACCRA9
loop_
_citation_author_citation_id
_citation_author_name
primary 'Hauptmann, H.'
primary 'Novak, J.'
2 'Else, S.'
loop_
_atom_type_symbol
_atom_type_oxidation_number
Mg2+ 2
Al3+ 3
O2- -2""",
        "label type_symbol symmetry_multiplicity Wyckoff_symbol fract_x fract_y fract_z "
        "B_iso_or_equiv occupancy attached_hydrogens",
        name="31373-ICSD",
    )
    + "#End of TTdata_31373-ICSD\n"
)


def test_an_export_of_icsd() -> None:
    [named] = records(ICSD.replace("_database_code_ICSD 31373", ""))
    assert isinstance(named, Record)
    assert named.aliases == (("icsd", "31373"),)  # by the block's name
    [record] = records(ICSD, "EntryWithCollCode31373.cif")
    assert isinstance(record, Record)
    assert record.external_id == "31373"
    assert record.aliases == (("icsd", "31373"),)
    assert record.line == 2
    extra = dict(record.extra)
    assert extra["references"] == [
        {
            "authors": ["Hauptmann, H.", "Novak, J."], "volume": "96", "page": "440",
            "journal": "Zeitschrift fuer Kristallographie", "year": 1937,
        },
        {"authors": ["Else, S."], "journal": "Acta Crystallographica", "year": 1950,
         "volume": "3", "page": "9"},
    ]  # fmt: skip
    assert extra["stated_formula"] == "Al2 Mg1 O4"
    assert (extra["stated_space_group"], extra["stated_space_group_number"]) == ("F d -3 m Z", 227)
    assert (extra["temperature_k"], extra["pressure_kpa"], extra["r_factor"]) == (298, 101, 0.021)
    assert extra["structure_type"] == "Spinel-Al2MgO4"
    found = decoded(ICSD)
    assert found.amounts == {"Mg": 8.0, "Al": 16.0, "O": 32.0}
    assert set(found.species) == {"Mg2+", "Al3+", "O2-"}


def test_an_entry_of_cod() -> None:
    text = cif(
        "4.9134(2) 4.9134(2) 5.4052(3) 90 90 120",
        "Si 0.46970(10) 0.00000 0.00000\nO 0.41350(20) 0.26690(20) 0.11910(10)",
        """loop_
_publ_author_name
'M\\"uller, A.'
'Curie, M.'
_publ_section_title
;
 The structure of
 quartz; data_ and all
;
_journal_name_full               'American Mineralogist'
_journal_page_first              920
_journal_paper_doi               10.2138/am.1980.1
_journal_volume                  65
_journal_year                    1980
_chemical_formula_sum            'O2 Si'
_space_group_IT_number           152
_symmetry_space_group_name_Hall  'P 31 2"'
_symmetry_space_group_name_H-M   'P 31 2 1'
_database_code_amcsd             AMCSD:0000789
_cod_database_code               9000775
loop_
_space_group_symop_operation_xyz
x,y,z
y,x,2/3-z
-y,x-y,1/3+z
-x,-x+y,1/3-z
-x+y,-x,2/3+z
x-y,-y,-z""",
        name="9000775",
    )
    [record] = records(text, "cod/9000775.cif")
    assert isinstance(record, Record)
    assert record.external_id == "9000775"
    assert record.aliases == (("cod", "9000775"), ("amcsd", "0000789"))
    assert record.extra["references"] == [
        {
            "authors": ['M\\"uller, A.', "Curie, M."], "journal": "American Mineralogist",
            "year": 1980, "volume": "65", "page": "920", "doi": "10.2138/am.1980.1",
        }
    ]  # fmt: skip
    with pytest.raises(CrystalError, match=r"no group|do not fit"):
        decoded(text)  # as printed here, its operations contradict each other
    right = text.replace("y,x,2/3-z", "y,x,1/3-z").replace("-x,-x+y,1/3-z", "-x,-x+y,2/3-z")
    assert_as_pymatgen(right, within=1e-4)


def test_a_deposition_of_csd_with_its_header_block() -> None:
    header = """data_global
_journal_name_full 'Inorg. Chem.'
_journal_year 2011
loop_
_publ_author_name
'A. Author'
"""
    text = header + FE + "_database_code_depnum_ccdc_archive 'CCDC 812345'\n" + NI
    found = records(text)
    assert all(isinstance(r, Record) for r in found)
    first, second = [r for r in found if isinstance(r, Record)]
    assert (first.external_id, first.aliases) == ("812345", (("ccdc", "812345"),))
    assert second.external_id == "x#two"
    expected = [{"authors": ["A. Author"], "journal": "Inorg. Chem.", "year": 2011}]
    assert first.extra["references"] == second.extra["references"] == expected


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gemmi", None)
    with pytest.raises(MissingExtraError, match="structures"):
        decode_cif(FE)
    with pytest.raises(MissingExtraError, match="structures"):
        records(FE)


def test_which_files_are_taken_for_cif() -> None:
    assert CIF.fits("a/b.cif", b"")
    assert CIF.fits("a/b.mcif", b"")
    assert CIF.fits("entry", FE.encode())
    assert not CIF.fits("b.json", FE.encode())
    assert not CIF.fits("notes.txt", b"data_ is a word\n")


# --- round trips and broken texts ---------------------------------------------------------

lengths = st.floats(3, 30)
angles = st.floats(70, 110)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(lengths, lengths, lengths, angles, angles, angles),
    st.lists(
        st.tuples(st.sampled_from(["Fe", "O", "Na", "Cl"]), *[st.integers(0, 19)] * 3),
        min_size=1, max_size=8, unique_by=lambda a: a[1:],
    ),
)  # fmt: skip
def test_what_pymatgen_writes(
    cell: tuple[float, ...], atoms: list[tuple[str, int, int, int]]
) -> None:
    coords = [[x / 20 for x in atom[1:]] for atom in atoms]
    structure = Structure(Lattice.from_parameters(*cell), [atom[0] for atom in atoms], coords)
    text = str(CifWriter(structure, significant_figures=12))
    assert_same_sites(decoded(text), [atom[0] for atom in atoms], np.array(coords), within=1e-6)


def test_mutations_never_crash() -> None:
    rng = random.Random(5)
    magnetic = cif("4 5 6 90 90 90", "Mn1 Mn 0 0 0 1\nO1 O .1 .2 .3 1", MAGNETIC, PLAIN)
    sources = [ICSD, FE + NI, magnetic]
    tokens = ["data_", "loop_", ";", "'", '"', "?", ".", "nan", "1e999", "-1", "\n;\n",
              "_cell_length_a 0", "save_", "\x00", "é", "99999999999", "_",
              "#", "\n", "x,y,-z", "global_"]  # fmt: skip
    outcomes = {Record: 0, Reject: 0}
    for number in range(500):
        text = sources[number % len(sources)]
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(text) + 1)
            kind = rng.randrange(4)
            if kind == 0:
                text = text[:at] + rng.choice(tokens) + text[at:]
            elif kind == 1:
                text = text[:at] + text[at + rng.randint(1, 60) :]
            elif kind == 2:
                text = text[:at]
            else:
                other = rng.randrange(len(text) + 1)
                text = text[:at] + text[min(at, other) : max(at, other)][:200] + text[at:]
        found = records(text)
        assert found
        for one in found:
            outcomes[type(one)] += 1
            if isinstance(one, Record):
                assert isinstance(one.structure, Encoded)
                with contextlib.suppress(InputError):
                    decode_cif(one.structure.text).crystal()
    assert min(outcomes.values()) > 50


def test_a_file_that_may_be_cut_within_its_atoms_is_refused() -> None:
    """Without a formula, a row that is the last of a file needs its line break."""
    lines = [f"_cell_length_{x} 4" for x in "abc"]
    lines += [f"_cell_angle_{x} 90" for x in ("alpha", "beta", "gamma")]
    tags = "label fract_x fract_y fract_z type_symbol".split()
    lines += ["loop_", *(f"_atom_site_{tag}" for tag in tags), "Si1 0 0 0 Si", "Si2 .5 .5 .5 Si"]
    text = "\n".join(["data_a", *lines])
    whole = [text + end for end in ("\n", "\r\n", "\n#END", "\n\n")]
    for each in whole:
        data = each.encode()
        (found,) = CIF.read(Member("a.cif", len(data), partial(io.BytesIO, data)))
        assert isinstance(found, Record), found
    for cut in (text, text[:-1], text[:-2], text[:-16], text[:-17], "data_a\n"):
        data = cut.encode()
        (refused,) = CIF.read(Member("a.cif", len(data), partial(io.BytesIO, data)))
        assert isinstance(refused, Reject), cut
