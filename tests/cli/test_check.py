"""``gandb check`` on structures from the outside."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gandb.cli.check import EPILOG
from gandb.core.pool import Pool
from gandb.tasks import fingerprinting
from tests.cli.test_commands import Outcome
from tests.crowds import BASES, rocksalt, write
from tests.tasks.test_structure_checks import BAD

CELLS = [*BASES[:4], BASES[0], BASES[6], rocksalt(1.2, "Na", "Cl")]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("check")
    where = str(folder / "store")
    (folder / "bad.cif").write_text(BAD)
    write(folder, "new", CELLS)
    write(folder, "known", BASES[:8])
    for command in (
        ("init", where),
        ("import", "mine", folder / "known.extxyz"),
        ("dataset", "create", "d", "--where", "source = 'mine'"),
        ("import", "candidates", folder / "new.extxyz", folder / "bad.cif", "--model", "gen"),
    ):
        outcome = Outcome(*command, store=where)
        assert outcome.code == 0, outcome.err
    return where


def test_a_table_per_check(store: str) -> None:
    plain = Outcome("check", "gen", store=store)
    assert plain.code == 0, plain.err
    assert "gen: 6 structures, 8 samples, 7 of them with a structure" in plain.err
    lines = plain.out.splitlines()
    assert lines[0].split()[:7] == [
        "check", "passed", "failed", "errors", "of_structures", "of_samples", "mean",
    ]  # fmt: skip
    (near,) = (line for line in lines if line.startswith("radius_distances "))
    assert near.split()[1:6] == ["5", "1", "0", "83.33%", "75.00%"]
    assert near.endswith("atoms too near 1")
    (row,) = Outcome("check", "gen", "--json", store=store).rows
    (same,) = (found for found in row["checks"] if found["check"] == "radius_distances")
    assert (same["passed"], same["of_samples"]) == (5, 0.75)
    assert row["samples"] == 8


def test_versions_and_a_worker(store: str) -> None:
    (asked,) = Outcome("check", "d@1", "--no-wait", "--json", store=store).rows
    assert (asked["checked"], asked["structures"]) == ("d@1", 8)
    (row,) = Outcome("check", "d@1", "--json", store=store).rows
    assert row["job_id"] == asked["job_id"]
    assert {found["of_samples"] for found in row["checks"] if found["check"] == "density"} == {1.0}


def test_the_queries_of_the_help_work(store: str) -> None:
    assert Outcome("check", "gen", store=store).code == 0
    for query in re.findall(r'gandb sql "([^"]+)"', EPILOG):
        assert Outcome("sql", query, "--json", store=store).code == 0
    query = "SELECT count(*) AS n FROM structure_checks WHERE check_name = 'density'"
    assert Outcome("sql", query, "--json", store=store).rows[0]["n"] >= 6


def test_coverage(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matminer")
    # In this process, as each other one has to load matminer.
    monkeypatch.setattr(fingerprinting, "Pool", lambda work, *_: Pool(work, 0))
    waiting = Outcome("check", "gen", "--coverage", "d@1", "--no-wait", "--json", store=store)
    assert [row["kind"] for row in waiting.rows] == ["fingerprints", "fingerprints"]
    assert "give the command again" in waiting.err
    (row,) = Outcome("check", "gen", "--coverage", "d@1", "--json", store=store).rows
    assert (row["samples"], row["compared"], row["reference"]) == (8, 7, 8)
    metrics: dict[str, Any] = row["metrics"]
    assert 0 < metrics["coverage_joint_precision"] <= metrics["coverage_precision"] <= 7 / 8
    plain = Outcome("check", "gen", "--coverage", "d@1", "--cutoffs", "0.2,4", store=store)
    assert plain.out.splitlines()[0].split() == ["metric", "value"]
    assert "7 of 8 samples" in plain.err


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (("nothing",), 3, "a dataset version is written NAME@NUMBER"),
        (("d@1:tests",), 2, "there is no split 'tests'"),
        (("d@7",), 3, "d@7"),
        (("d@1", "--against", "d@1"), 2, "gandb dataset diff"),
        (("gen", "--against", "d@1", "--coverage", "d@1"), 2, "one at a time"),
        (("gen", "--coverage", "d@1", "--cutoffs", "near"), 2, "0.4,10"),
        (("gen", "--coverage", "d@1", "--cutoffs", "0,1"), 2, "above 0"),
        (("gen", "--coverage", "d@1", "--most", "0"), 2, "too few"),
        (("gen", "--coverage", "d@1", "--energies", "abc"), 3, "relaxation recipe"),
    ],
)
def test_what_cannot_be_is_refused(
    store: str, command: tuple[str, ...], code: int, says: str
) -> None:
    outcome = Outcome("check", *command, store=store)
    assert outcome.code == code, outcome.err
    assert says in outcome.err
