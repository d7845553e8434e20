"""``gandb structure draw`` from the outside."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("moyopy")

from tests.cli.test_commands import Outcome
from tests.crowds import perovskite, rocksalt, write, zincblende
from tests.hulls import Relaxation, relax

CELLS = [rocksalt(5.64, "Na", "Cl"), perovskite(3.9, "Sr", "Ti", "O"), zincblende(5.4, "Zn", "S")]
ALL = "SELECT structure_id, reduced_formula, n_sites FROM structures ORDER BY reduced_formula"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("draw")
    where = str(folder / "store")
    write(folder, "known", CELLS)
    for command in (("init", where), ("import", "mine", folder / "known.extxyz")):
        outcome = Outcome(*command, store=where)
        assert outcome.code == 0, outcome.err
    return where


@pytest.mark.parametrize(
    ("ending", "head"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_one_file_for_all(store: str, tmp_path: Path, ending: str, head: bytes) -> None:
    target = tmp_path / f"all.{ending}"
    outcome = Outcome("structure", "draw", ALL, "-o", target, "--columns", 2, store=store)
    assert outcome.code == 0, outcome.err
    assert "wrote 3 pictures" in outcome.err
    assert target.read_bytes().startswith(head)


def test_a_folder_has_one_each_in_the_order_of_the_query(store: str, tmp_path: Path) -> None:
    outcome = Outcome("structure", "draw", ALL, "-o", tmp_path / "all", store=store)
    assert outcome.code == 0, outcome.err
    names = sorted(path.name for path in (tmp_path / "all").iterdir())
    assert [name[:6] for name in names] == ["1-NaCl", "2-SrTi", "3-ZnS-"]


def test_relaxed_ones_and_what_was_not_relaxed(store: str, tmp_path: Path) -> None:
    from gandb.core.config import Settings
    from gandb.store import Store

    target = tmp_path / "relaxed.svg"
    none = Outcome("structure", "draw", ALL, "-o", target, "--relaxed", store=store)
    assert none.code != 0
    assert "no structure to draw" in none.err
    relax(Store.open(Settings(store)), [Relaxation(CELLS[0].crystal(), -3.0)])
    outcome = Outcome("structure", "draw", ALL, "-o", target, "--relaxed", store=store)
    assert outcome.code == 0, outcome.err
    assert "wrote 1 picture to" in outcome.err
    assert "left out 2: not relaxed" in outcome.err


@pytest.mark.parametrize(
    ("query", "name", "words"),
    [
        ("SELECT reduced_formula FROM structures", "a.png", "no column structure_id"),
        (ALL, "a.gif", "pictures end in .png, .svg or .pdf"),
        (f"SELECT * FROM ({ALL}) AS x WHERE n_sites > 99", "a.png", "no structure to draw"),
        (f"SELECT * FROM ({ALL}) AS x WHERE n_sites > 99", "folder", "no structure to draw"),
        ("SELECT 'x' AS structure_id", "a.png", "structure_id is no id"),
        (
            "SELECT '00000000-0000-0000-0000-000000000000' AS structure_id",
            "a.png",
            "which is not there",
        ),
    ],
)
def test_what_cannot_be_drawn(
    store: str, tmp_path: Path, query: str, name: str, words: str
) -> None:
    outcome = Outcome("structure", "draw", query, "-o", tmp_path / name, store=store)
    assert outcome.code != 0
    assert words in " ".join(outcome.err.split())
    assert not (tmp_path / name).exists()
