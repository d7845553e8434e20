"""``gandb hull``, ``novelty --relaxed``, ``sun`` and ``vasp`` from the outside, in their order."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gandb.core.config import Settings
from gandb.store import Store
from tests.cli.test_commands import Outcome
from tests.crowds import rocksalt, rutile, write, zincblende
from tests.hulls import Calculation, Relaxation, relax, write_entries
from tests.reports.test_sun import PHASES

NEW = {
    "known": rocksalt(4.22, "Mg", "O"),
    "stable": zincblende(4.6, "Mg", "O"),
    "unstable": rutile(4.6, 3.0, 0.305, "Mg", "O"),
    "odd": rocksalt(4.9, "Zr", "O"),
}
ZR = Calculation("mp-7", rocksalt(5.0, "Zr", "Zr"), -8.5, formation=0.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with references, candidates that were judged and relaxed, and elements likewise."""
    folder = tmp_path_factory.mktemp("hull")
    store = str(folder / "store")
    assert Outcome("init", store).code == 0
    phases = write_entries(folder / "mp.json", [*PHASES, ZR])
    assert Outcome("import", "mp", phases, store=store).code == 0
    assert Outcome("dataset", "create", "mp", "--where", "source = 'mp'", store=store).code == 0
    cells = write(folder, "new", NEW.values())
    assert Outcome("import", "candidates", cells, "--model", "gen", store=store).code == 0
    done = [
        Relaxation(NEW[name].crystal(), energy)
        for name, energy in (("known", -5.5), ("stable", -5.45), ("unstable", -4.6), ("odd", -9.0))
    ]
    done += [Relaxation(c.cell.crystal(), c.energy) for c in PHASES[:2]]
    relax(Store.open(Settings(store)), done)
    return folder / "store"


@pytest.fixture
def store(made: Path, tmp_path: Path) -> str:
    shutil.copytree(made, tmp_path / "store")
    return str(tmp_path / "store")


def test_from_relaxed_candidates_to_inputs_for_vasp(store: str, tmp_path: Path) -> None:
    outcome = Outcome("hull", "gen", "--against", "mp@1", store=store)
    assert outcome.code == 0, outcome.err
    assert "energies of formation, as the references state them; CHGNet-0.3.0's" in outcome.err
    assert "the hull is of 4 entries" in outcome.err
    assert "has not been relaxed" in outcome.out
    assert '--sql "SELECT structure_id FROM structures WHERE structure_id IN' in outcome.err
    (row,) = json.loads(
        Outcome("hull", "gen", "--against", "mp@1", "--energies", "total", "--json",
                store=store).out
    )  # fmt: skip
    assert (row["judged"], row["stable_0.1"]) == (4, 3)
    assert row["missing_by_element"] == {}
    assert Outcome("check", "gen", store=store).code == 0
    assert Outcome("novelty", "gen", "--against", "mp@1", store=store).code == 0
    relaxed = Outcome("novelty", "gen", "--against", "mp@1", "--relaxed", "--json", store=store)
    assert relaxed.code == 0, relaxed.err
    assert json.loads(relaxed.out)[0]["candidates"] == 4
    table = Outcome("sun", "gen", "--stable", "0.1", store=store)
    assert table.code == 0, table.err
    assert "S.U.N. (0.1)" in table.out
    assert "N = 4 samples" in table.err
    assert "S.U.N. is (n / N) (k / m)" in table.err
    (said,) = json.loads(Outcome("sun", "gen", "--against", "mp@1", "--json", store=store).out)
    assert said["recipes"]["relaxed_novelty"] is not None
    shares = {line["share"]: line for line in said["shares"]}
    assert shares["S.U.N. (0.1)"]["low"] <= shares["S.U.N. (0.1)"]["value"]
    best = "SELECT structure_id FROM sun WHERE s_u_n_01"
    target = tmp_path / "vasp"
    pytest.importorskip("pymatgen.io.vasp.sets")
    written = Outcome("vasp", "write", "--sql", best, "--to", target, "--relaxed", store=store)
    assert written.code == 0, written.err
    assert "POTCARs are licensed" in written.err
    read = Outcome("vasp", "read", target, "--source", "dft", store=store)
    assert read.code == 3
    assert "has no vasprun.xml yet" in read.err


def test_what_does_not_go_together_is_refused(store: str, tmp_path: Path) -> None:
    for words, code, why in (
        (("hull", "gen", "--against", "mp@2"), 3, "mp@2"),
        (("hull", "gen", "--against", "mp@1", "--relaxed", "x"), 3, "were not relaxed by 'x'"),
        (("hull", "gen", "--against", "mp@1", "--energies", "free"), 3, "kind of energies"),
        (("hull", "mp@1", "--against", "mp@1", "--corrections", "none"), 2, "by a potential"),
        (("novelty", "gen", "--against", "mp@1", "--relaxation", "x"), 2, "add --relaxed"),
        (("sun", "gen"), 3, "gandb check gen"),
        (("vasp", "write", "gen", "--to", tmp_path / "v", "--set", "MPrelax"), 3, "MPRelaxSet"),
        (("vasp", "write", "gen", "--to", tmp_path / "v", "--incar", "X"), 2, "NAME=VALUE"),
        (("vasp", "read", tmp_path, "--source", "dft"), 3, "gandb vasp write"),
    ):
        outcome = Outcome(*words, store=store)
        assert (outcome.code, why in outcome.err) == (code, True), (words, outcome.err)
    assert not (tmp_path / "v").exists()
