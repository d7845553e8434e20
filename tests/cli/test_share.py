"""``gandb share`` and ``gandb sql --bundle`` as a user types them."""

from __future__ import annotations

import csv
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner, Result

from gandb.cli.app import app
from gandb.core.config import Settings
from gandb.query.frames import query
from gandb.schema.views import VIEWS
from gandb.store import Store
from tests.tasks.labs import Lab, cut_tables, make_lab

OWN_VIEWS = (
    "generated",
    "entries",
    "checks",
    "checkpoints",
    "leaderboard",
    "structures",
    "lineage",
)
"""Views that say the same of a bundle of everything as of the store it was packed from."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("share")
    return make_lab(str(folder / "store"), folder, cut_tables(folder, 150))


@pytest.fixture(scope="module")
def bundle(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "all.zip"
    gandb(lab.store, "share", "origin", "ada")
    gandb(lab.store, "share", "pack", str(out), "--all")
    return out


def gandb(store: Store | None, *args: str, code: int = 0) -> Result:
    where = ["--store", str(store.location)] if store else ["--store", "/nowhere"]
    result = CliRunner().invoke(app, [*where, *args])
    assert result.exit_code == code, result.output
    return result


def test_a_store_has_a_name_among_groups(tmp_path: Path) -> None:
    store = Store.create(Settings(store=str(tmp_path / "store")))
    assert "no name among groups" in gandb(store, "share", "origin").stderr
    refused = gandb(store, "share", "pack", str(tmp_path / "out"), "--all", code=2)
    assert "gandb share origin NAME" in refused.stderr
    gandb(store, "share", "origin", "Not This", code=2)
    gandb(store, "share", "origin", "bose", "--url", "not an address", code=2)
    gandb(store, "share", "origin", "--url", "https://bose.example.org", code=2)
    gandb(store, "share", "origin", "bose", "--url", "https://bose.example.org")
    gandb(store, "share", "origin", "bose-2")
    (found,) = json.loads(gandb(store, "share", "origin", "--json").stdout)
    assert found == {"origin": "bose-2", "url": "https://bose.example.org"}


def test_packing_tells_what_was_packed(lab: Lab, bundle: Path, tmp_path: Path) -> None:
    told = gandb(lab.store, "share", "pack", str(tmp_path / "b"), "--candidates", "novel", "--json")
    (row,) = json.loads(told.stdout)
    assert row["candidate"] == _count(lab.store, "SELECT count(*) FROM generated WHERE novel")
    assert row["entry"] > 0
    assert "packing" in told.stderr
    again = gandb(lab.store, "share", "pack", str(tmp_path / "b"), "--all", code=5)
    assert "never overwrites" in again.stderr
    nothing = gandb(lab.store, "share", "pack", str(tmp_path / "c"), code=2)
    assert "say what to pack" in nothing.stderr
    wrong = gandb(
        lab.store, "share", "pack", str(tmp_path / "c"), "--all", "--published", "soon", code=2
    )
    assert "YYYY" in wrong.stderr or "2026-11-30" in wrong.stderr
    bad = gandb(lab.store, "share", "pack", str(tmp_path / "c"), "--candidates", "nov", code=6)
    assert "nov" in bad.stderr
    assert not (tmp_path / "c").exists()


def _count(store: Store, sql: str) -> int:
    return int(query(store, sql).column(0)[0].as_py())


def test_inspect_tells_what_it_is(bundle: Path) -> None:
    shown = gandb(None, "share", "inspect", str(bundle)).stdout
    for part in ("ada", "composition", "CC BY 4.0", "Materials Project", "@1"):
        assert part in shown
    (facts,) = json.loads(gandb(None, "share", "inspect", str(bundle), "--json").stdout)
    assert facts["origin"] == "ada"
    assert facts["problem"] is None
    assert facts["rows"]["entry"] > 0
    assert all(d["members"] == "here" for d in facts["datasets"])
    assert facts["selection"]["all"] is True


def unpacked(bundle: Path, folder: Path) -> Path:
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(folder)
    return folder


def test_inspect_tells_of_a_broken_one_what_it_can(bundle: Path, tmp_path: Path) -> None:
    broken = unpacked(bundle, tmp_path / "broken")
    (broken / "tables/entry.parquet").write_bytes(b"PAR1")
    told = gandb(None, "share", "inspect", str(broken), code=4)
    assert "ada" in told.stdout
    assert "CC BY 4.0" in told.stdout
    assert "entry.parquet" in told.stderr
    (broken / "manifest.json").write_text("{")
    assert "manifest" in gandb(None, "share", "inspect", str(broken), code=4).stderr
    (tmp_path / "no.zip").write_bytes(b"no")
    assert "cannot read" in gandb(None, "share", "inspect", str(tmp_path / "no.zip"), code=4).stderr
    gandb(None, "share", "inspect", str(tmp_path / "none"), code=4)


def test_verify(bundle: Path, tmp_path: Path) -> None:
    (row,) = json.loads(gandb(None, "share", "verify", str(bundle), "--json").stdout)
    assert row["sound"] is True
    broken = unpacked(bundle, tmp_path / "broken")
    with (broken / "tables/entry.parquet").open("ab") as out:
        out.write(b"x")
    assert "entry.parquet" in gandb(None, "share", "verify", str(broken), code=4).stderr


# --- in place ----------------------------------------------------------------------------


def asked(bundle: Path, sql: str, *more: str, code: int = 0) -> Any:
    result = gandb(None, "sql", "--bundle", str(bundle), "--json", *more, sql, code=code)
    return json.loads(result.stdout) if not code else result.stderr


def test_a_bundle_answers_as_its_store(lab: Lab, bundle: Path) -> None:
    for view in OWN_VIEWS:
        names = [c for c in query(lab.store, f"SELECT * FROM {view} LIMIT 0").column_names
                 if c not in ("dataset", "created_at")]  # fmt: skip
        sql = f"SELECT {', '.join(names)} FROM {view} ORDER BY ALL LIMIT 200"
        own = gandb(lab.store, "sql", "--json", sql)
        assert _read(asked(bundle, sql)) == _read(json.loads(own.stdout)), view
    assert asked(bundle, "SELECT count(*) AS n FROM entries")[0]["n"] > 0


def _read(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Read documents, of which a store keeps the text as it came."""
    return [
        {k: json.loads(v) if isinstance(v, str) and v[:1] == "{" else v for k, v in row.items()}
        for row in rows
    ]


def test_every_view_can_be_asked(bundle: Path, tmp_path: Path) -> None:
    folder = unpacked(bundle, tmp_path / "folder")
    for view in VIEWS:
        here = asked(folder, f"SELECT count(*) AS n FROM {view}")
        assert here == asked(bundle, f"SELECT count(*) AS n FROM {view}")
    found = asked(folder, "SELECT DISTINCT dataset FROM dataset_members")
    assert all(row["dataset"].startswith("ada/") for row in found)


def test_a_bundle_is_only_read_and_nothing_else(bundle: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    for sql in (
        f"SELECT * FROM '{secret}'",
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM read_text('{secret}')",
        f"COPY entry TO '{tmp_path}/out.csv'",
        "CREATE TABLE t AS SELECT 1",
        "DELETE FROM entry",
        f"ATTACH '{tmp_path}/x.db'",
        "SET enable_external_access = true",
        "SELECT * FROM glob('/*')",
    ):
        assert "error" in asked(bundle, sql, code=6)
    assert [p.name for p in tmp_path.iterdir()] == ["secret.csv"]


def test_formats_and_errors_are_those_of_sql(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    gandb(
        None, "sql", "--bundle", str(bundle), "SELECT formula FROM entries LIMIT 3", "-o", str(out)
    )
    assert len(list(csv.reader(io.StringIO(out.read_text())))) == 4
    assert "did you mean" in asked(bundle, "SELECT * FROM entrys", code=6) or "entries" in asked(
        bundle, "SELECT * FROM entrys", code=6
    )
    shutil.copy(bundle, tmp_path / "cut.zip")
    with (tmp_path / "cut.zip").open("r+b") as handle:
        handle.truncate(1_000)
    assert "cannot read" in asked(tmp_path / "cut.zip", "SELECT 1", code=4)


def test_plain_duckdb_reads_the_tables(bundle: Path, tmp_path: Path) -> None:
    folder = unpacked(bundle, tmp_path / "folder")
    with duckdb.connect() as connection:
        (found,) = connection.execute(
            f"SELECT count(*) FROM '{folder}/tables/entry.parquet' AS e "
            f"JOIN '{folder}/tables/composition.parquet' AS c ON c.id = e.composition_id "
            "WHERE list_contains(c.elements, 'O')"
        ).fetchall()
    assert found[0] > 0
    assert found[0] == asked(
        bundle, "SELECT count(*) AS n FROM entries WHERE list_contains(elements, 'O')"
    )[0]["n"]  # fmt: skip
