"""Every real file, whole: what is read of it adds up to what it holds, and nothing is double.

What records say is compared where their formats are tested; here it is how many there are.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from pymatgen.io.cif import CifParser
from pymatgen.io.vasp.inputs import Poscar

from gandb.core.errors import InputError
from gandb.sources.base import Reject
from gandb.sources.formats import DECODERS
from gandb.sources.reading import read_files
from gandb.sources.records import Encoded, Record
from tests.shared_data import SHARED, real

FOLDERS = ("structures", "native", "generated", "validity", "matching/pymatgen")
_BESIDE = r"a table beside the files, .* rows: .* ids belong to files that are here, .* to none"
_JARVIS = "generated/jarvis-atomgen"
_SUPERCON = "AI-AtomGen-Tc_supercon-dft_3d-test-rmse"
_CARBON = "AI-AtomGen-energy_per_atom-carbon24-test-rmse"
_PEROVSKITES = "AI-AtomGen-heat_ref-perov5-test-rmse"
_ONE_PLACE = "are at one place, within 0.01 Å"
_NO_FORMAT = "no format fits"
_NO_RECORD = r"no format fits|is not a record by itself"

EXPECTED: dict[str, tuple[int, dict[str, str]]] = {
    "structures/aflow-cifs.zip": (1_223, {"aflow/metadata.csv": _BESIDE}),
    "structures/alexandria-cifs.zip": (1_204, {"alexandria/metadata.csv": _BESIDE}),
    "structures/mp-cifs.zip": (1_245, {"mp/metadata.csv": _BESIDE}),
    "structures/oqmd-cifs.zip": (1_258, {"oqmd/metadata.csv": _BESIDE}),
    "structures/mp-flla-2015.csv.gz": (3_938, {}),
    "structures/mp20-mini.csv.gz": (2_573, {}),
    "structures/mp40-test.csv.gz": (708, {}),
    "native/aflow/MnPdPt-hull.json.gz": (3_502, {}),
    "native/aflow/aflux-page.json": (5, {}),
    "native/aflow/rest-entry/AlCu_pvMn_pv.T0001.A2BC.cif": (1, {}),
    "native/aflow/rest-entry/CONTCAR.relax": (1, {}),
    "native/aflow/rest-entry/CONTCAR.relax.vasp": (1, {}),
    "native/aflow/rest-entry/POSCAR.orig": (1, {}),
    "native/aflow/rest-entry/aflow.in": (0, {"aflow.in": _NO_RECORD}),
    "native/aflow/rest-entry/edata.bands.out": (0, {"edata.bands.out": _NO_RECORD}),
    "native/aflow/rest-entry/edata.orig.out": (0, {"edata.orig.out": _NO_RECORD}),
    "native/aflow/rest-entry/edata.relax.out": (0, {"edata.relax.out": _NO_RECORD}),
    "native/aflow/rest-index-AlCuMn.html": (1, {}),
    "native/mp/computed-entries-Li-Fe-P-O.json.gz": (859, {}),
    "native/mp/computed-entries-Mn-O.json": (6, {}),
    "native/mp/computed-entries-TiO2.json": (16, {}),
    "native/mp/computed-structure-entries-Li-Fe-O.json.gz": (375, {}),
    "native/mp/legacy-material-mp-20351.yaml": (1, {}),
    "native/mp/optimade-structures.jsonl.gz": (3_688, {}),
    "native/mp/summary-fields-mp-149.md": (0, {"summary-fields-mp-149.md": _NO_FORMAT}),
    "native/mp/summary-records-mock.json": (24, {}),
    "native/oqmd/mysqldump.sql": (1, {}),
    "native/oqmd/optimade-structures-pages.json": (1_000, {}),
    "native/oqmd/rest-formationenergy.json": (200, {}),
    "generated/ftcp-cifs.zip": (112, {}),
    "generated/mattergen-cifs.zip": (
        771,
        # Its oxygens lie 0.02 Å beside their special positions, so that its operations make 12 of
        # them where formula and multiplicities say 8; pymatgen makes 12 and says so too. The file
        # beside it, without symmetry, comes in.
        {
            "mattergen/dft_mag_density_hhi_score/MgMn(Fe3O4)2_symmetrized.cif": (
                "its operations make 4 of it where 2 are stated, and together they do not have the "
                "stated formula"
            )
        },
    ),
    # Two atoms of each lie within 0.01 Å, as `test_rejected_atoms_are_at_one_place` shows.
    f"{_JARVIS}/atomgpt_model__{_SUPERCON}.csv.zip": (
        103,
        {f"{_SUPERCON}.csv:24": _ONE_PLACE, f"{_SUPERCON}.csv:78": _ONE_PLACE},
    ),
    f"{_JARVIS}/atomgpt_model__{_CARBON}.csv.zip": (
        2_028,
        {f"{_CARBON}.csv:1083": _ONE_PLACE, f"{_CARBON}.csv:1384": _ONE_PLACE},
    ),
    **{
        f"{_JARVIS}/cdvae_model__{name}.csv.zip": (n, {})
        for name, n in ((_SUPERCON, 105), (_CARBON, 2_030), (_PEROVSKITES, 3_785))
    },
    "validity/seed_123.zip": (1_000, {"statistics.json": _NO_FORMAT}),
    "validity/seed_42.zip": (1_000, {"statistics.json": _NO_FORMAT}),
    **{
        f"matching/pymatgen/{name}.json": (1, {})
        for name in "Al3F9 Al3F9_distorted Li3GaPCO7 Na2Fe2PAsO4S4 Na2Fe2PNO4Se4".split()
    },
}
"""Records of each file, and what of it is rejected (a file in it, or a line of one) and why."""


# --- how much a file holds, without gandb ----------------------------------------------------


def _blocks(text: bytes) -> int:
    """CIF blocks with atoms."""
    import gemmi

    document = gemmi.cif.read_string(text.decode())
    return sum(len(block.find_loop("_atom_site_fract_x")) > 0 for block in document)


def _begun(text: bytes) -> int:
    """CIF blocks of a file that strict readers of CIF do not take."""
    return len(re.findall(rb"^data_", text, re.MULTILINE))


def _rows(text: bytes) -> int:
    lines = io.StringIO(text.decode(), newline="")
    return sum(1 for row in csv.reader(lines) if row and not row[0].startswith("#")) - 1


def _objects(text: bytes) -> int:
    value = json.loads(text)
    if isinstance(value, dict):
        return 1
    return sum(len(item["data"]) if "links" in item else 1 for item in value)


def _resources(text: bytes) -> int:
    found = map(json.loads, text.splitlines())
    return sum(value.get("type") == "structures" for value in found)


def _inserted(text: bytes) -> int:
    """Rows of ``entries`` of a dump; a row is in brackets, and strings have none of their own."""
    statements = re.findall(rb"INSERT INTO `entries` VALUES (.*);\n", text)
    return sum(len(re.findall(rb"\((?:[^()']|'[^']*')*\)", rows)) for rows in statements)


def _inside(path: Path) -> int:
    """What a zip holds: records of CIFs and tables, and any other file as one thing."""
    total = 0
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".cif"):
                total += _blocks(archive.read(name))
            elif name.endswith(".csv") and len(archive.namelist()) == 1:
                total += _rows(archive.read(name))
            else:
                total += not name.endswith("/")
    return total


_COUNTS: dict[str, Callable[[bytes], int]] = {
    ".cif": _begun,
    ".csv": _rows,
    ".json": _objects,
    ".jsonl": _resources,
    ".sql": _inserted,
}


def held(path: Path) -> int:
    """How many records a file holds; one that holds none counts as one thing to reject."""
    if path.suffix == ".zip":
        return _inside(path)
    packed = path.suffix == ".gz"
    kind = path.suffixes[-2] if packed else path.suffix
    if kind not in _COUNTS:
        return 1
    return _COUNTS[kind](gzip.decompress(path.read_bytes()) if packed else path.read_bytes())


# --- as it is read -----------------------------------------------------------------------------


@cache
def _read(name: str) -> tuple[list[Record], list[Reject]]:
    """Records that hold a crystal or none, and rejects, as an import tells them apart."""
    records: list[Record] = []
    rejects: list[Reject] = []
    for item in read_files([SHARED / name]):
        if isinstance(item, Reject):
            rejects.append(item)
            continue
        structure = item.structure
        try:
            if isinstance(structure, Encoded):
                structure = DECODERS[structure.format](structure.text)
            if structure is not None:
                structure.crystal()
        except InputError as error:
            rejects.append(Reject(item.file, item.line, str(error), ""))
        else:
            records.append(item)
    return records, rejects


@real
def test_the_table_names_every_file() -> None:
    files = [path for folder in FOLDERS for path in (SHARED / folder).rglob("*") if path.is_file()]
    assert {str(path.relative_to(SHARED)) for path in files} == set(EXPECTED)


@real
@pytest.mark.parametrize("name", EXPECTED)
def test_records_and_rejects_add_up_to_what_the_file_holds(name: str) -> None:
    records, rejects = _read(name)
    expected, reasons = EXPECTED[name]
    top = f"{Path(name).name}/" if name.endswith(".zip") else ""
    named = {}
    for reject in rejects:
        inner = reject.file.removeprefix(top)
        named[inner if inner in reasons else f"{inner}:{reject.line}"] = reject.reason
    assert set(named) == set(reasons), named
    for where, reason in named.items():
        assert re.search(reasons[where], reason), (where, reason)
    assert len(rejects) == len(reasons)
    assert len(records) == expected
    assert len(records) + len(rejects) == held(SHARED / name)


@real
@pytest.mark.parametrize("name", EXPECTED)
def test_nothing_is_double(name: str) -> None:
    records, rejects = _read(name)
    places = Counter((item.file, item.line) for item in records)
    places += Counter((item.file, item.line) for item in rejects)
    assert [place for place, n in places.items() if n > 1] == []


@real
@pytest.mark.parametrize("name", [_SUPERCON, _CARBON])
def test_rejected_atoms_are_at_one_place(name: str) -> None:
    """pymatgen finds atoms within 0.01 Å in the same rows, and in no others."""
    path = SHARED / _JARVIS / f"atomgpt_model__{name}.csv.zip"
    with zipfile.ZipFile(path) as archive:
        (inner,) = archive.namelist()
        rows = list(csv.reader(io.StringIO(archive.read(inner).decode())))[1:]
    lines = {
        line
        for line, row in enumerate(rows, 2)
        if not Poscar.from_str(row[2].replace("\\n", "\n")).structure.is_valid(tol=0.01)
    }
    assert lines == {
        int(where.rpartition(":")[2]) for where in EXPECTED[str(path.relative_to(SHARED))][1]
    }


@real
def test_rejected_operations_do_not_give_the_formula() -> None:
    """pymatgen's expansion of MatterGen's one rejected file is not of its formula either."""
    path = SHARED / "generated/mattergen-cifs.zip"
    (name,) = EXPECTED["generated/mattergen-cifs.zip"][1]
    with zipfile.ZipFile(path) as archive:
        text = archive.read(name).decode()
        beside = archive.read(name.replace("_symmetrized", "")).decode()
    with pytest.warns(UserWarning, match="Incorrect stoichiometry"):
        (made,) = CifParser.from_str(text).parse_structures(primitive=False)
    assert made.composition.formula == "Mg1 Mn1 Fe6 O12"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (meant,) = CifParser.from_str(beside).parse_structures(primitive=False)
    assert meant.composition.formula == "Mg1 Mn1 Fe6 O8"
