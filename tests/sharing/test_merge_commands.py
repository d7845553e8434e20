"""``gandb share merge``, ``conflicts`` and ``bundles`` as users give them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gandb.cli.app import app
from gandb.sharing.verifying.values import shown
from gandb.store import Store
from gandb.tasks.verification import verify_store
from tests.sharing import groups
from tests.sharing.breaking import Broken
from tests.sharing.conftest import Group

CopyOf = Callable[[str], Store]


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


def test_merging_on_the_command_line(
    runner: CliRunner, two_groups: dict[str, Group], copy_of: CopyOf
) -> None:
    store = copy_of("ada")
    bundle = str(two_groups["bose"].bundle)
    at = ["--store", store.location, "share"]
    told = runner.invoke(app, [*at, "merge", bundle, "--dry-run"])
    assert told.exit_code == 0, told.output
    assert "nothing was changed" in told.stderr
    assert "bose/own@2" in told.stdout
    none = runner.invoke(app, [*at, "bundles"])
    assert "no bundle was taken in yet" in none.stderr

    done = runner.invoke(app, [*at, "merge", bundle])
    assert done.exit_code == 0, done.output
    assert "structures have no material yet: comparing them" in done.stderr
    assert [f for f in verify_store(store) if f["problems"]] == []

    again = runner.invoke(app, [*at, "merge", bundle, "--json", "--no-identify"])
    assert again.exit_code == 0, again.output
    (report,) = json.loads(again.stdout)
    assert sum(t["new"] for t in report["tables"]) == 0
    assert report["unidentified"] == 0
    before = runner.invoke(app, [*at, "merge", bundle, "--dry-run"])
    assert "this bundle was taken in before, on 20" in before.stderr

    differing = runner.invoke(app, [*at, "conflicts"])
    lines = [line.split() for line in differing.stdout.splitlines()[1:]]
    assert [line[0] for line in lines] == ["checkpoint", "checkpoint"]
    assert {"ada", "bose"} <= {word for line in lines for word in line}
    rows = json.loads(runner.invoke(app, [*at, "conflicts", "--json"]).stdout)
    assert [s["origin"] for s in rows[0]["statements"]] == ["", "bose"]
    taken = json.loads(runner.invoke(app, [*at, "bundles", "--json"]).stdout)
    assert [row["origin"] for row in taken] == ["bose"]


def test_what_is_refused_is_told_on_one_line(
    runner: CliRunner, two_groups: dict[str, Group], copy_of: CopyOf, tmp_path: Path
) -> None:
    broken = Broken.of(two_groups["bose"].bundle, tmp_path / "broken")
    broken.change("dataset", 0, {"name": "bose/a\x1b[2J\x1b]0;pwned\x07"})
    store = copy_of("ada")
    told = runner.invoke(app, ["--store", store.location, "share", "merge", str(broken.path)])
    assert told.exit_code == 4
    (line,) = [text for text in told.stderr.splitlines() if text.startswith("error: ")]
    assert "tables/dataset.parquet: row " in line
    assert "\x1b" not in told.output
    assert shown("\x1b[2J") == r"'\x1b[2J'"


def test_verdicts_shared_without_their_data_stay(
    runner: CliRunner, two_groups: dict[str, Group], tmp_path: Path
) -> None:
    store = groups.make(str(tmp_path / "store"), tmp_path, "cora")
    bundle = groups.bundle(
        two_groups["bose"].store, tmp_path / "bundle", models=["other"], entries=False
    )
    done = runner.invoke(app, ["--store", store.location, "share", "merge", str(bundle)])
    assert done.exit_code == 0, done.output
    grades = "SELECT grade, count(*) AS n FROM novelty GROUP BY grade ORDER BY grade"
    found = runner.invoke(app, ["--store", store.location, "sql", grades, "--format", "json"])
    assert found.exit_code == 0, found.output
    assert [f for f in verify_store(store) if f["problems"]] == []
