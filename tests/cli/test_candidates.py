"""``gandb import candidates`` from the outside: roles, and what is said of folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.test_commands import Outcome
from tests.crowds import BASES, write


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release of a model and a baseline, each in a folder, packed beside it as well."""
    release = tmp_path / "release"
    for name, cells in (("model", BASES[:4]), ("baseline", BASES[4:7])):
        (release / name).mkdir(parents=True)
        write(release / name, "out", cells)
    shutil.make_archive(str(tmp_path / "packed"), "zip", release)
    return release


@pytest.fixture
def store(tmp_path: Path) -> str:
    store = str(tmp_path / "store")
    assert Outcome("init", store).code == 0
    return store


def taken(folder: Path, model: str, *options: str, store: str) -> Outcome:
    return Outcome("import", "candidates", folder, "--model", model, *options, store=store)


def test_folders_that_were_taken_together_are_named(release: Path, store: str) -> None:
    outcome = taken(release, "both", store=store)
    assert outcome.code == 0
    assert "took 3 from release/baseline, 4 from release/model." in outcome.err
    assert "under names of its own" in outcome.err
    assert "more than one" not in outcome.err
    outcome = taken(release / "model", "one", store=store)
    assert (outcome.code, outcome.err) == (0, "")


def test_what_lies_packed_and_unpacked_is_noticed(release: Path, store: str) -> None:
    shutil.move(str(release.parent / "packed.zip"), release / "packed.zip")
    outcome = taken(release, "twice", store=store)
    assert "3 from release/baseline, 4 from release/model, 7 from release/packed.zip" in outcome.err
    assert "7 candidates lie in more than one of these" in outcome.err
    assert "packed and unpacked" in outcome.err


def test_rejects_are_counted_and_their_log_is_named(release: Path, store: str) -> None:
    (release / "model" / "broken.cif").write_text("data_x\n_cell_length_a 4\n")
    outcome = taken(release / "model", "one", store=store)
    assert "1 of 5 records were rejected; see: gandb job logs " in outcome.err
    job = outcome.err.strip().split()[-1]
    assert "broken.cif" in Outcome("job", "logs", job, store=store).out


def test_baselines_stand_beside_models(release: Path, store: str, tmp_path: Path) -> None:
    assert taken(release / "model", "net", store=store).code == 0
    assert taken(release / "baseline", "random", "--role", "baseline", store=store).code == 0
    query = "SELECT model, role FROM leaderboard ORDER BY model"
    found = Outcome("sql", query, "--json", store=store).rows
    assert [tuple(row.values()) for row in found] == [("net", "external"), ("random", "baseline")]
    write(tmp_path, "known", BASES[2:6])
    assert Outcome("import", "mine", tmp_path / "known.extxyz", store=store).code == 0
    for model in ("net", "random"):
        assert Outcome("novelty", model, "--against", "entries", store=store).code == 0
    rows = Outcome("report", "--json", store=store).rows
    assert [(row["label"], row["role"]) for row in rows] == [
        ("net", "model"), ("random", "baseline"),
    ]  # fmt: skip
    plain = Outcome("report", store=store)
    assert "random (baseline)" in plain.out
    assert "The baselines have other N" in plain.out.replace("\n", " ")


def test_a_model_has_one_role(release: Path, store: str) -> None:
    assert taken(release / "model", "net", store=store).code == 0
    outcome = taken(release / "baseline", "net", "--role", "baseline", store=store)
    assert outcome.code == 7
    assert "net unknown was imported as external before" in outcome.err
    assert "--role external, or another --model" in outcome.err
    assert taken(release / "baseline", "net", "--role", "king", store=store).code == 2
