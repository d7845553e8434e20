"""Tables beside structure files: rows find their files, and nothing is told twice or wrongly."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import pytest

from gandb.sources.base import Reject
from gandb.sources.reading import read_files
from gandb.sources.records import Record

POSCAR = "{name}\n1\n4 0 0\n0 4 0\n0 0 4\nCs Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"


def _write(folder: Path, table: str, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(POSCAR.format(name="CsCl"))
    (folder / "metadata.csv").write_text(table)
    return folder


def _read(*paths: Path) -> tuple[dict[str, Record], list[Reject]]:
    items = list(read_files(paths))
    found = {Path(i.file).name: i for i in items if isinstance(i, Record)}
    return found, [i for i in items if isinstance(i, Reject)]


def test_rows_find_their_files_by_id_prefix_and_file_name(tmp_path: Path) -> None:
    table = (
        "material_id,band_gap,e_above_hull,file,note\n"
        "mp-1,1.5,0.01,,plain\nmp-2,2.5,,,prefixed\nx-3,,,odd name.vasp,named\nmp-9,1,1,,nowhere\n"
    )
    folder = _write(tmp_path / "set", table, "mp-1.vasp", "mp_mp-2.vasp", "odd name.vasp")
    found, rejects = _read(folder)
    assert {name: r.external_id for name, r in found.items()} == {
        "mp-1.vasp": "mp-1", "mp_mp-2.vasp": "mp-2", "odd name.vasp": "x-3",
    }  # fmt: skip
    assert found["mp-1.vasp"].properties == {"band_gap": 1.5, "energy_above_hull": 0.01}
    assert found["mp_mp-2.vasp"].properties == {"band_gap": 2.5}
    assert found["odd name.vasp"].extra["metadata"]["note"] == "named"
    (left,) = rejects
    assert "3 ids belong to files that are here, 1 to none" in left.reason


def test_a_table_tells_of_its_own_folder_alone(tmp_path: Path) -> None:
    _write(tmp_path / "all" / "one", "id,band_gap\na,1\n", "a.vasp")
    _write(tmp_path / "all" / "two", "id,band_gap\na,2\n", "a.vasp")
    items = [i for i in read_files([tmp_path / "all"]) if isinstance(i, Record)]
    assert sorted(i.properties["band_gap"] for i in items) == [1.0, 2.0]


def test_numbers_of_another_database_do_not_become_properties(tmp_path: Path) -> None:
    table = "jid,reference,formation_energy_per_atom\nJVASP-1,auid-0123456789abcdef,-1.5\n"
    found, _ = _read(_write(tmp_path / "set", table, "JVASP-1.vasp"))
    record = found["JVASP-1.vasp"]
    assert record.properties == {}
    assert record.extra["metadata"]["formation_energy_per_atom"] == "-1.5"
    assert ("auid", "aflow:0123456789abcdef") in record.aliases


@pytest.mark.parametrize("table", ["", "no,ids\n1,2\n", 'id,x\n"open,1\n', "\x00\x01"])
def test_a_file_that_is_no_such_table_is_a_reject(tmp_path: Path, table: str) -> None:
    found, rejects = _read(_write(tmp_path / "set", table, "a.vasp"))
    assert found["a.vasp"].external_id == "a"
    assert len(rejects) == 1


def test_real_collections(shared_data: Path) -> None:
    for name, ids in (("mp", "material_id"), ("aflow", "jid"), ("oqmd", "material_id")):
        path = shared_data / "structures" / f"{name}-cifs.zip"
        with zipfile.ZipFile(path) as archive:
            text = archive.read(f"{name}/metadata.csv").decode()
            files = [n for n in archive.namelist() if n.endswith(".cif")]
        rows = {row[ids]: row for row in csv.DictReader(io.StringIO(text))}
        records = [i for i in read_files([path]) if isinstance(i, Record)]
        assert len(records) == len(files)
        for record in records:
            row = rows[str(record.external_id)]
            assert record.extra["metadata"]["formula"] == row["formula"]
            assert str(record.external_id) in record.file
