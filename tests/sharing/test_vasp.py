"""Inputs for VASP by pymatgen's sets, and results read back under what they were made of."""

from __future__ import annotations

import gzip
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gandb.core.errors import NotFoundError, UsageError
from gandb.datasets import selection, versions
from gandb.jobs import queue
from gandb.sharing.vasp import NOTE, incar_settings, input_sets, write_inputs
from gandb.sharing.vasp_results import RESULTS, collect_results
from gandb.store import Store
from gandb.tasks.candidates import candidates_job
from gandb.tasks.choosing import choose
from gandb.tasks.judged_sets import find_set
from gandb.tasks.records import records_job
from gandb.tasks.stability import Choices, stability_job
from tests.crowds import rocksalt, rutile, write, zincblende
from tests.hulls import Relaxation, relax
from tests.tasks.labs import make_store, work

core = pytest.importorskip("pymatgen.core")
ase = pytest.importorskip("ase")

DATA = Path(ase.__file__).parent / "test" / "testdata" / "vasp"
SALT = rocksalt(5.64, "Na", "Cl")
MADE = (SALT, rutile(4.6, 3.0, 0.305, "Fe", "O"), zincblende(3.57, "C", "C"))


def begun(address: str, folder: Path) -> Store:
    """A store with three candidates."""
    store = make_store(address, folder)
    work(store, candidates_job("gen", [write(folder, "new", MADE)]))
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return begun(str(tmp_path / "store"), tmp_path)


def folders(where: Path) -> dict[str, Path]:
    """What was written, by structure id."""
    notes = [(json.loads(p.read_text()), p.parent) for p in where.rglob(NOTE)]
    return {note["structure_id"]: place for note, place in notes}


@pytest.fixture(autouse=True)
def no_potcars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PMG_VASP_PSP_DIR", raising=False)


@pytest.mark.parametrize("name", ["MPRelaxSet", "MPStaticSet", "MPScanRelaxSet", "MatPESStaticSet"])
def test_inputs_are_those_of_the_set(store: Store, tmp_path: Path, name: str) -> None:
    sets = pytest.importorskip("pymatgen.io.vasp.sets")
    inputs = pytest.importorskip("pymatgen.io.vasp.inputs")
    ids = choose(store, "gen").ids
    written = write_inputs(store, ids, tmp_path / "out", name, incar={"ENCUT": 600})
    assert (written.folders, written.potcar, written.left_out) == (3, False, {})
    found = folders(tmp_path / "out")
    assert found.keys() == {str(made.crystal().id) for made in MADE} == {str(i) for i in ids}
    for made in MADE:
        place = found[str(made.crystal().id)]
        note = json.loads((place / NOTE).read_text())
        assert note["input_set"] == name
        assert len(note["candidate_ids"]) == 1
        assert set(note["files"]) == {p.name for p in place.iterdir()} - {NOTE}
        assert "POTCAR.spec" in note["files"]
        structure = core.Structure.from_file(place / "POSCAR")
        own = core.Structure(made.lattice, list(made.species), made.frac_coords)
        matcher = pytest.importorskip("pymatgen.analysis.structure_matcher")
        assert matcher.StructureMatcher(scale=False).get_rms_dist(own, structure)[0] < 1e-6
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = getattr(sets, name)(structure, user_incar_settings={"ENCUT": 600})
            assert dict(inputs.Incar.from_file(place / "INCAR")) == dict(wanted.incar)


def test_potcars_are_written_where_they_are(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made-up ones, as the real ones are licensed: what is written is asked of pymatgen."""
    settings = pytest.importorskip("pymatgen.core").SETTINGS
    monkeypatch.setitem(settings, "PMG_VASP_PSP_DIR", str(tmp_path))
    sets = pytest.importorskip("pymatgen.io.vasp.sets")
    asked = []
    monkeypatch.setattr(
        sets.MPStaticSet,
        "write_input",
        lambda self, place, **options: (Path(place).mkdir(), asked.append(options)),
    )
    written = write_inputs(store, choose(store, "gen").ids, tmp_path / "out", "MPStaticSet")
    assert written.potcar
    assert [o["potcar_spec"] for o in asked] == [False] * 3


def test_relaxed_structures_keep_the_name_of_what_they_were(store: Store, tmp_path: Path) -> None:
    after = rocksalt(5.7, "Na", "Cl").crystal()
    recipe = relax(store, [Relaxation(SALT.crystal(), -3.4, after)])
    ids = choose(store, "gen").ids
    written = write_inputs(store, ids, tmp_path / "out", "MPStaticSet", relaxation=recipe)
    assert (written.folders, written.left_out) == (1, {"no relaxed structure": 2})
    (place,) = folders(tmp_path / "out").values()
    note = json.loads((place / NOTE).read_text())
    assert note["structure_id"] == str(SALT.crystal().id)
    assert note["calculated_id"] == str(after.id)
    assert note["relaxation_recipe_id"] == str(recipe)
    volume = core.Structure.from_file(place / "POSCAR").volume
    assert volume == pytest.approx(after.volume)


def test_nothing_half_written_and_nothing_overwritten(store: Store, tmp_path: Path) -> None:
    ids = choose(store, "gen").ids
    with pytest.raises(NotFoundError, match="MPRelaxSet"):
        write_inputs(store, ids, tmp_path / "out", "MPRelaxSets")
    assert not {"MVLSlabSet", "VaspInputSet", "NEBSet", "MPMDSet"} & set(input_sets())
    with pytest.raises(RuntimeError, match="stop"):
        write_inputs(store, ids, tmp_path / "out", "MPStaticSet", progress=_stop)
    assert not list(tmp_path.glob("*out*"))
    assert not list(tmp_path.glob(".out*"))
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="name a new folder"):
        write_inputs(store, ids, tmp_path / "out", "MPStaticSet")
    recipe = relax(store, [Relaxation(SALT.crystal(), None)])
    with pytest.raises(UsageError, match="nothing to write: 3 no relaxed structure"):
        write_inputs(store, ids, tmp_path / "new", "MPStaticSet", relaxation=recipe)


def _stop(done: int) -> None:
    if done == 2:
        raise RuntimeError("stop")


def test_settings_of_incar() -> None:
    given = ["encut=600", "ISMEAR = -5", "LWAVE=true", "GGA=PS", "MAGMOM=[5, 5]"]
    assert incar_settings(given) == {
        "ENCUT": 600, "ISMEAR": -5, "LWAVE": True, "GGA": "PS", "MAGMOM": [5, 5],
    }  # fmt: skip
    with pytest.raises(UsageError, match="NAME=VALUE"):
        incar_settings(["ENCUT"])


# --- results -----------------------------------------------------------------------------


def entries(store: Store, source: str) -> list[dict[str, Any]]:
    query = "SELECT * FROM entries WHERE source = :source"
    with store.read() as connection:
        rows = connection.execute(sa.text(query), {"source": source}).mappings()
        found = [dict(row) for row in rows]
    for row in found:
        row["extra"] = json.loads(row["extra"]) if isinstance(row["extra"], str) else row["extra"]
    return found


def calculated(store: Store, folder: Path) -> Path:
    """Inputs of all candidates, with real results of two of them: rock salt and diamond."""
    ids = choose(store, "gen").ids
    write_inputs(store, ids, folder, "MPStaticSet")
    found = folders(folder)
    shutil.copy(DATA / "vasprun_dfpt.xml", found[str(SALT.crystal().id)] / "vasprun.xml")
    packed = found[str(MADE[2].crystal().id)] / "vasprun.xml.gz"
    packed.write_bytes(gzip.compress((DATA / "vasprun_pstress.xml").read_bytes()))
    return folder


@pytest.mark.skipif(not DATA.is_dir(), reason="ASE came without its test files")
def test_results_come_back_as_entries(store: Store, tmp_path: Path) -> None:
    outputs = pytest.importorskip("pymatgen.io.vasp.outputs")
    folder = calculated(store, tmp_path / "out")
    found = collect_results(folder)
    assert found.n == 2
    assert list(found.left_out.values()) == ["has no vasprun.xml yet"]
    first = (folder / RESULTS).read_bytes()
    assert collect_results(folder).n == 2
    assert (folder / RESULTS).read_bytes() == first
    (job,) = work(store, records_job("dft", [found.path], form="computed-entries"))
    assert queue.chunks(store, job.id)[0]["result"]["entries"] == 2
    rows = {row["reduced_formula"]: row for row in entries(store, "dft")}
    assert rows.keys() == {"NaCl", "C"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = outputs.Vasprun(
            DATA / "vasprun_dfpt.xml", parse_dos=False, parse_eigen=False, parse_potcar_file=False
        )
    salt = rows["NaCl"]
    assert salt["energy_per_atom"] == pytest.approx(float(run.final_energy) / 2)
    assert salt["structure_id"] is not None
    own = salt["extra"]["data"]["gandb"]
    assert own["structure_id"] == str(SALT.crystal().id)
    assert len(own["candidate_ids"]) == 1
    assert len(own["vasprun_sha256"]) == 64
    parameters = salt["extra"]["parameters"]
    assert parameters["run_type"] == "GGA"
    assert parameters["potcar_spec"][0]["titel"].startswith("PAW_PBE Na")
    assert salt["external_id"] == f"{SALT.crystal().id}:MPStaticSet"


@pytest.mark.skipif(not DATA.is_dir(), reason="ASE came without its test files")
def test_results_are_a_reference(store_url: str, tmp_path: Path) -> None:
    store = begun(store_url, tmp_path)
    found = collect_results(calculated(store, tmp_path / "out"))
    work(store, records_job("dft", [found.path], form="computed-entries"))
    versions.create(store, "dft", selection.by_condition(store, "source = 'dft'"), "results")
    relax(store, [Relaxation(MADE[2].crystal(), -10.2)])
    spec = stability_job(store, find_set(store, "gen"), ["dft@1"], Choices(energies="total"))
    (job,) = work(store, spec)
    result = queue.chunks(store, job.id)[0]["result"]
    assert (result["judged"], result["references"]) == (1, 2)


@pytest.mark.skipif(not DATA.is_dir(), reason="ASE came without its test files")
def test_what_does_not_count_is_told(store: Store, tmp_path: Path) -> None:
    folder = calculated(store, tmp_path / "out")
    found = folders(folder)
    place = found[str(SALT.crystal().id)]
    iron = found[str(MADE[1].crystal().id)]
    shutil.copy(place / "vasprun.xml", iron / "vasprun.xml")  # of another crystal
    (found[str(MADE[2].crystal().id)] / NOTE).write_text("{}")
    whole = (place / "vasprun.xml").read_text()
    (place / "vasprun.xml").write_text(whole[: len(whole) // 3])
    with pytest.raises(NotFoundError, match="has a result"):
        collect_results(folder)
    assert not (folder / RESULTS).exists()
    (place / "vasprun.xml").write_text(whole)
    told = collect_results(folder).left_out
    assert len(told) == 2
    assert "is of {'Na': 1.0, 'Cl': 1.0}" in told[iron.name]
    assert any("not of this version" in why for why in told.values())
    with pytest.raises(NotFoundError, match="name what gandb vasp write made"):
        collect_results(tmp_path / "store")
