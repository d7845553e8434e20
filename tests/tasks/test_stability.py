"""Stability of candidates and of entries, against energies worked out by hand and by pymatgen."""

from __future__ import annotations

import gzip
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from gandb.core.config import Settings
from gandb.core.errors import NotFoundError, UsageError
from gandb.datasets import selection, versions
from gandb.jobs import queue
from gandb.jobs.records import JobSpec
from gandb.jobs.worker import Worker
from gandb.schema import tables
from gandb.store import Store
from gandb.tasks import TASKS
from gandb.tasks.candidates import candidates_job
from gandb.tasks.judged_sets import find_set
from gandb.tasks.records import records_job
from gandb.tasks.stability import Choices, stability_job
from tests.content import differences, dump
from tests.crowds import BCC, CUBE, caesium_chloride, cell, rocksalt, rutile, write, zincblende
from tests.hulls import Calculation, Relaxation, dataset, relax, stabilities
from tests.shared_data import SHARED, real
from tests.tasks.labs import make_store, work

MG = cell(3.6 * BCC, "Mg", [[0, 0, 0]])
O2 = cell(4.0 * CUBE, "O O", [[0, 0, 0], [0.3, 0, 0]])
FE = cell(2.87 * BCC, "Fe", [[0, 0, 0]])
MGO, FEO, MGO_CSCL = (
    rocksalt(4.2, "Mg", "O"), rocksalt(4.3, "Fe", "O"), caesium_chloride(2.7, "Mg", "O"),
)  # fmt: skip
PHASES = [
    Calculation("mp-1", MG, -1.5, formation=0.0),
    Calculation("mp-2", O2, -4.9, formation=0.0),
    Calculation("mp-3", MGO, -5.5, -0.3, formation=-2.6),
    Calculation("mp-4", MGO_CSCL, -5.2, -0.3, formation=-2.3),
    Calculation("mp-5", FE, -8.4, formation=0.0),
]
NEW = {
    "mgo": zincblende(4.6, "Mg", "O"),
    "mgo2": rutile(4.6, 3.0, 0.305, "Mg", "O"),
    "lost": rocksalt(5.5, "Mg", "O"),
    "odd": rocksalt(4.9, "Zr", "O"),
    "raw": rocksalt(5.1, "Mg", "O"),
}


def candidates(store: Store, folder: Path) -> None:
    """Bring candidates in."""
    work(store, candidates_job("gen", [write(folder, "new", NEW.values())]))


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the phases and the candidates."""
    folder = tmp_path_factory.mktemp("begun")
    store = make_store(str(folder / "store"), folder)
    dataset(store, folder, "mp", PHASES)
    candidates(store, folder)
    return folder / "store"


@pytest.fixture
def store(begun: Path, tmp_path: Path) -> Store:
    """A copy of it."""
    shutil.copytree(begun, tmp_path / "store")
    return Store.open(Settings(str(tmp_path / "store")))


IDS = {name: str(made.crystal().id) for name, made in NEW.items()}


def judge(store: Store, what: str, *against: str, **choices: Any) -> dict[str, Any]:
    """Judge, and return what the job counted."""
    spec = stability_job(store, find_set(store, what), against, Choices(**choices))
    (job,) = work(store, spec)
    result: dict[str, Any] = dict(queue.chunks(store, job.id)[0]["result"])
    return result


def relaxed(store: Store, potential: str = "CHGNet-0.3.0") -> str:
    done = [
        Relaxation(NEW["mgo"].crystal(), -5.75, MGO.crystal()),
        Relaxation(NEW["mgo2"].crystal(), -5.4, converged=False),
        Relaxation(NEW["lost"].crystal(), None),
        Relaxation(NEW["odd"].crystal(), -9.0),
        *(Relaxation(c.cell.crystal(), c.energy + 0.1) for c in PHASES if c.name != "mp-4"),
    ]
    return str(relax(store, done, potential))


def test_candidates_against_total_energies(store_url: str, tmp_path: Path) -> None:
    store = make_store(store_url, tmp_path)
    dataset(store, tmp_path, "mp", PHASES)
    candidates(store, tmp_path)
    relaxation = relaxed(store)
    counted = judge(store, "gen", "mp@1", energies="total")
    rows = stabilities(store, counted["recipe_id"])
    assert rows.keys() == {IDS[name] for name in ("mgo", "mgo2", "lost", "odd")}
    mgo = rows[IDS["mgo"]]
    assert mgo["energy_above_hull"] == pytest.approx(0.05)  # -5.75 against -5.8
    assert mgo["energy_per_atom"] == pytest.approx(-5.75)
    assert mgo["correction_per_atom"] == 0
    assert mgo["formation_energy_per_atom"] == pytest.approx(-5.75 + (1.5 + 4.9) / 2)
    assert mgo["decomposition"] == {"MgO": 1.0}
    two = rows[IDS["mgo2"]]
    assert two["energy_above_hull"] == pytest.approx(-5.4 - (-5.8 * 2 - 4.9) / 3)
    assert two["decomposition"] == pytest.approx({"MgO": 2 / 3, "O2": 1 / 3})
    lost, odd = rows[IDS["lost"]], rows[IDS["odd"]]
    assert lost["error"] == "the relaxation failed: it came apart"
    assert lost["energy_above_hull"] is lost["decomposition"] is lost["missing"] is None
    assert (odd["missing"], odd["error"], odd["energy_above_hull"]) == (["Zr"], None, None)
    assert {k: counted[k] for k in ("structures", "judged", "unconverged", "failed")} == {
        "structures": 4, "judged": 2, "unconverged": 1, "failed": 1,
    }  # fmt: skip
    assert [counted[f"stable_{x}"] for x in ("0", "0.025", "0.1")] == [0, 0, 2]
    assert counted["missing_by_element"] == {"Zr": 1}
    parameters = recipe(store, counted["recipe_id"])
    assert parameters["structures"]["relaxation"] == relaxation
    assert parameters["references"]["phases"] == len(PHASES)
    assert parameters["references"]["corrections"] == {"scheme": "stated"}
    assert len(parameters["against"]) == 1


def recipe(store: Store, own: str) -> dict[str, Any]:
    query = sa.select(tables.recipe.c.parameters).where(sa.cast(tables.recipe.c.id, sa.Text) == own)
    with store.read() as connection:
        found: dict[str, Any] = connection.execute(query).scalar_one()
    return found


def test_formation_energies_refer_to_elements_of_the_same_potential(store: Store) -> None:
    relaxed(store)
    counted = judge(store, "gen", "mp@1")
    assert counted["energies"] == "formation"
    row = stabilities(store, counted["recipe_id"])[IDS["mgo"]]
    own = -5.75 - (-1.4 - 4.8) / 2  # elements as the potential has them
    assert row["formation_energy_per_atom"] == pytest.approx(own)
    assert row["energy_above_hull"] == pytest.approx(own + 2.6)
    assert counted["missing_by_element"] == {"Zr": 1}
    elements = recipe(store, counted["recipe_id"])["elements"]
    assert elements["found"]["Mg"] == {
        "structure": str(MG.crystal().id), "energy_per_atom": pytest.approx(-1.4),
    }  # fmt: skip
    assert elements["found"].keys() == {"Mg", "O", "Fe"}


def test_an_element_that_was_not_relaxed_is_missing(store: Store) -> None:
    relax(store, [Relaxation(NEW["mgo"].crystal(), -5.7), Relaxation(MG.crystal(), -1.4)])
    spec = stability_job(store, find_set(store, "gen"), ["mp@1"])
    assert spec.spec["elements"]["unrelaxed"]["O"] == str(O2.crystal().id)
    assert "has not been relaxed" in spec.spec["elements"]["missing"]["O"]
    (job,) = work(store, spec)
    result = queue.chunks(store, job.id)[0]["result"]
    assert (result["judged"], result["missing_by_element"]) == (0, {"O": 1})
    assert stabilities(store, result["recipe_id"])[IDS["mgo"]]["missing"] == ["O"]
    relax(store, [Relaxation(O2.crystal(), -4.8)])
    again = judge(store, "gen", "mp@1")
    assert again["judged"] == 1
    assert again["recipe_id"] != result["recipe_id"]


def test_both_sides_by_one_potential(store: Store) -> None:
    relaxed(store)
    counted = judge(store, "gen", "mp@1", energies="potential")
    row = stabilities(store, counted["recipe_id"])[IDS["mgo"]]
    assert row["energy_above_hull"] == pytest.approx(-5.75 + 5.4)
    assert counted["references_left_out"] == {"its structure has not been relaxed": 1}
    assert counted["references"] == 4
    own = judge(store, "mp@1", "mp@1", energies="potential", relaxed="chgnet")
    assert (own["judged"], own["stable_0"]) == (4, 4)


def test_a_potential_of_uncorrected_energies_is_corrected(store: Store) -> None:
    compatibility = pytest.importorskip("pymatgen.entries.compatibility")
    computed = pytest.importorskip("pymatgen.entries.computed_entries")
    relaxed(store, "SevenNet-0")
    counted = judge(store, "gen", "mp@1", energies="total")
    assert counted["corrections"] == "mp2020"
    entry = computed.ComputedEntry(
        {"Mg": 1, "O": 1}, 0.0, parameters={"run_type": "GGA"}, data={"oxide_type": "oxide"}
    )
    scheme = compatibility.MaterialsProject2020Compatibility(check_potcar=False)
    wanted = scheme.process_entry(entry).energy_per_atom
    row = stabilities(store, counted["recipe_id"])[IDS["mgo"]]
    assert row["correction_per_atom"] == pytest.approx(wanted)
    assert row["energy_per_atom"] == pytest.approx(-5.75 + wanted)
    plain = judge(store, "gen", "mp@1", energies="total", corrections="none")
    assert stabilities(store, plain["recipe_id"])[IDS["mgo"]]["correction_per_atom"] == 0


def test_what_cannot_be_compared_is_refused(store: Store) -> None:
    with pytest.raises(NotFoundError, match="none of these structures was relaxed"):
        judge(store, "gen", "mp@1")
    relaxed(store)
    with pytest.raises(NotFoundError, match=r"but by: .*CHGNet-0\.3\.0, 4 structures"):
        judge(store, "gen", "mp@1", relaxed="seven")
    with pytest.raises(UsageError, match="not known how energies by CHGNet"):
        judge(store, "gen", "mp@1", energies="total", reference_corrections="none")
    with pytest.raises(UsageError, match="--reference-corrections is for total energies"):
        judge(store, "gen", "mp@1", reference_corrections="mp2020")
    with pytest.raises(UsageError, match="need relaxed structures"):
        judge(store, "mp@1", "mp@1", energies="potential")
    with pytest.raises(UsageError, match="--corrections is for energies by a potential"):
        judge(store, "mp@1", "mp@1", corrections="none")
    with pytest.raises(NotFoundError, match="kind of energies"):
        judge(store, "gen", "mp@1", energies="free")
    with pytest.raises(NotFoundError, match="correction scheme"):
        judge(store, "gen", "mp@1", corrections="mit")
    relaxed(store, "SevenNet-0")
    with pytest.raises(UsageError, match="several recipes; name one of them"):
        judge(store, "gen", "mp@1")
    relaxed(store, "unheard-of")
    with pytest.raises(UsageError, match="how energies by unheard-of come to the scale"):
        judge(store, "gen", "mp@1", relaxed="unheard")


def test_a_hull_of_nothing_fails_and_says_why(store: Store) -> None:
    spec = stability_job(
        store, find_set(store, "mp@1"), ["mp@1"],
        Choices(energies="total", reference_corrections="mp2020"),
    )  # fmt: skip
    job = queue.submit(store, spec)
    Worker(store, TASKS, 60.0, [job.id]).run()
    error = queue.get(store, job.id).error
    assert error is not None
    assert "no reference has an energy" in error
    assert "cannot be corrected: does not say how: 5" in error


def test_entries_by_what_they_state(store_url: str, tmp_path: Path) -> None:
    """Formation energies as they are; of two entries of one structure, the lower one."""
    store = make_store(store_url, tmp_path)
    twice = Calculation("mp-9", MGO_CSCL, -5.0, formation=-2.1)
    dataset(store, tmp_path, "mp", [*PHASES, twice])
    counted = judge(store, "mp@1", "mp@1")
    rows = stabilities(store, counted["recipe_id"])
    assert len(rows) == len(PHASES) == counted["judged"]
    row = rows[str(MGO_CSCL.crystal().id)]
    assert row["energy_above_hull"] == pytest.approx(0.3)
    assert row["formation_energy_per_atom"] == pytest.approx(-2.3)
    assert row["energy_per_atom"] is None
    assert row["correction_per_atom"] is None
    assert counted["stable_0"] == 4


def test_what_is_asked_again_is_done_once_and_more_adds_rows(store: Store) -> None:
    relaxed(store)
    spec = stability_job(store, find_set(store, "gen"), ["mp@1"], Choices(energies="total"))
    work(store, spec)
    before = dump(store)
    again = stability_job(store, find_set(store, "gen"), ["mp@1"], Choices(energies="total"))
    assert again.id == spec.id
    work(store, again)
    assert differences(before, dump(store)) == []
    relax(store, [Relaxation(NEW["raw"].crystal(), -5.6)])
    more = stability_job(store, find_set(store, "gen"), ["mp@1"], Choices(energies="total"))
    assert more.id != spec.id
    (job,) = work(store, more)
    result = queue.chunks(store, job.id)[0]["result"]
    assert len(stabilities(store, result["recipe_id"])) == 5


@real
def test_real_entries_stand_where_pymatgen_puts_them(tmp_path: Path) -> None:
    """Li-Fe-O of the Materials Project, by each of its energies."""
    decoder = pytest.importorskip("monty.json").MontyDecoder()
    diagrams = pytest.importorskip("pymatgen.analysis.phase_diagram")
    compatibility = pytest.importorskip("pymatgen.entries.compatibility")
    path = SHARED / "native" / "mp" / "computed-structure-entries-Li-Fe-O.json.gz"
    store = make_store(str(tmp_path / "store"), tmp_path)
    work(store, records_job("mp", [path]))
    versions.create(store, "lfo", selection.by_condition(store, "source = 'mp'"), "all")
    for scheme in ("stated", "none", "mp2020"):
        counted = judge(store, "lfo@1", "lfo@1", reference_corrections=scheme)
        assert counted["references_left_out"] == {}
        rows = stabilities(store, counted["recipe_id"])
        entries = decoder.process_decoded(json.loads(gzip.decompress(path.read_bytes())))
        if scheme == "mp2020":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of guessed oxidation states
                entries = compatibility.MaterialsProject2020Compatibility().process_entries(entries)
        elif scheme == "none":
            for entry in entries:
                entry.energy_adjustments = []
        diagram = diagrams.PhaseDiagram(entries)
        above = sorted(diagram.get_e_above_hull(e) for e in entries)
        found = sorted(row["energy_above_hull"] for row in rows.values())
        np.testing.assert_allclose(found, above, atol=1e-9)
        assert counted["stable_0"] == len(diagram.stable_entries)
        formation = sorted(diagram.get_form_energy_per_atom(e) for e in entries)
        told = sorted(row["formation_energy_per_atom"] for row in rows.values())
        np.testing.assert_allclose(told, formation, atol=1e-9)


def test_the_job_states_what_it_depends_on(store: Store, tmp_path: Path) -> None:
    dataset(store, tmp_path, "oqmd", PHASES[:2])
    spec: JobSpec = stability_job(store, find_set(store, "mp@1"), ["oqmd@1", "mp@1", "oqmd@1"])
    other = stability_job(store, find_set(store, "mp@1"), ["mp@1", "oqmd@1"])
    assert spec.id == other.id
    assert len(spec.spec["against"]) == 2
