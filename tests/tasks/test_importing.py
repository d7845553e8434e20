"""Tables become entries: all of them once, the bad ones as rejects, in any order and format."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from gandb.core.errors import InputError, NotFoundError, UsageError
from gandb.jobs import queue
from gandb.jobs.records import JobSpec, State
from gandb.jobs.worker import Worker
from gandb.schema.tables import composition, entry, snapshot_entry, snapshot_reject, source_snapshot
from gandb.store import Store
from gandb.tasks import TASKS
from gandb.tasks.importing import import_job
from tests.content import dump
from tests.tasks.labs import cut_tables, make_store, work

ROWS = [
    ("NaCl", "mp-1", "-2.1", "5.0"),
    ("Na2Cl2", "mp-2", "-2.0", "5.1"),  # a polymorph, written in another multiple
    ("NaN", "mp-3", "0.4", ""),
    ("Fe2O3", "mp-4", "", "2.0"),
    ("Fe2O3", "mp-4", "", "2.0"),  # the same record twice
    ("TiO2", "mp-5", "-3.4", "3.2"),
]
COLUMNS = ("formula", "material_id", "formation_energy_per_atom", "band_gap")
BAD = [
    ("Xx2O", "mp-6", "1", "1", "Xx"),
    ("Fe0O1", "mp-7", "1", "1", "0"),
    ("Fe10001", "mp-8", "1", "1", "10,001"),
    ("FeO", "mp-9", "low", "1", "low"),
]


def write_csv(path: Path, rows: list[tuple[str, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(COLUMNS)
        writer.writerows(row[:4] for row in rows)
    return path


def numbers(row: tuple[str, ...]) -> dict[str, Any]:
    values = dict(zip(COLUMNS, row[:4], strict=True))
    return {k: (float(v) if v else None) if k in COLUMNS[2:] else v for k, v in values.items()}


def write_jsonl(path: Path, rows: list[tuple[str, ...]]) -> Path:
    path.write_text("".join(json.dumps(numbers(r)) + "\n" for r in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: list[tuple[str, ...]]) -> Path:
    pq.write_table(pa.Table.from_pylist([numbers(r) for r in rows]), path)
    return path


@pytest.fixture
def store(store_url: str, tmp_path: Path) -> Store:
    return make_store(store_url, tmp_path)


@pytest.fixture
def duckdb_store(tmp_path: Path) -> Store:
    return make_store(str(tmp_path / "store"), tmp_path)


def count(store: Store, table: sa.Table) -> int:
    with store.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def result(store: Store, spec: JobSpec) -> dict[str, Any]:
    found: dict[str, Any] = queue.chunks(store, spec.id)[0]["result"]
    return found


def failure(store: Store, spec: JobSpec) -> str:
    job = queue.submit(store, spec)
    Worker(store, TASKS, 60.0, [job.id]).run()
    ended = queue.get(store, job.id)
    assert ended.state is State.FAILED
    return str(ended.error)


def test_every_row_becomes_an_entry_of_its_own(store: Store, tmp_path: Path) -> None:
    spec = import_job("mp", [write_csv(tmp_path / "a.csv", ROWS)], release="2026", query="all")
    work(store, spec)
    counts = result(store, spec)
    assert (counts["rows_read"], counts["rows_rejected"], counts["entries"]) == (6, 0, 6)
    assert counts["compositions"] == count(store, composition) == 4
    assert count(store, entry) == count(store, snapshot_entry) == 6
    columns = (entry.c.external_id, composition.c.reduced_formula, entry.c.formula,
               entry.c.formula_units, entry.c.ordinal, entry.c.formation_energy_per_atom,
               entry.c.band_gap)  # fmt: skip
    query = sa.select(*columns).join(composition, composition.c.id == entry.c.composition_id)
    with store.read() as connection:
        rows = sorted(tuple(r) for r in connection.execute(query))
        (snapshot,) = connection.execute(sa.select(source_snapshot)).mappings()
    assert rows == [
        ("mp-1", "NaCl", "NaCl", 1, 0, -2.1, 5.0),
        ("mp-2", "NaCl", "Na2Cl2", 2, 0, -2.0, 5.1),
        ("mp-3", "NaN", "NaN", 1, 0, 0.4, None),
        ("mp-4", "Fe2O3", "Fe2O3", 1, 0, None, 2.0),
        ("mp-4", "Fe2O3", "Fe2O3", 1, 1, None, 2.0),
        ("mp-5", "TiO2", "TiO2", 1, 0, -3.4, 3.2),
    ]
    assert (snapshot["release"], snapshot["filter"], snapshot["n_rows"]) == ("2026", "all", 6)
    assert snapshot["files"][0]["name"] == "a.csv"
    assert "Materials Project" in snapshot["attribution"]


def test_the_same_files_again_are_the_same_job(store: Store, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ROWS)
    work(store, import_job("mp", [path]))
    before = dump(store)
    work(store, import_job("mp", [path]))
    assert dump(store) == before
    copy = tmp_path / "copy"
    copy.mkdir()
    work(store, import_job("mp", [write_csv(copy / "a.csv", ROWS)]))
    after = dump(store)
    assert len(after.pop("job")) == len(before.pop("job")) + 1  # from another folder
    after.pop("job_chunk")
    before.pop("job_chunk")
    assert after == before


@pytest.mark.parametrize("write", [write_csv, write_jsonl, write_parquet])
def test_entries_do_not_depend_on_order_format_or_name(
    duckdb_store: Store, tmp_path: Path, write: Any
) -> None:
    store = duckdb_store
    work(store, import_job("mp", [write_csv(tmp_path / "a.csv", ROWS)]))
    before = dump(store)
    suffix = {"write_csv": "csv", "write_jsonl": "jsonl", "write_parquet": "parquet"}
    other = write(tmp_path / f"b.{suffix[write.__name__]}", ROWS[::-1])
    spec = import_job("mp", [other])
    work(store, spec)
    after = dump(store)
    for table in ("entry", "composition", "composition_element", "check_result"):
        assert after[table] == before[table]
    assert count(store, source_snapshot) == 2
    assert count(store, snapshot_entry) == 2 * len(ROWS)
    assert result(store, spec)["entries"] == len(ROWS)


def test_bad_rows_are_kept_with_file_line_and_reason(store: Store, tmp_path: Path) -> None:
    rows = [ROWS[0], *BAD, ROWS[5]]
    spec = import_job("mp", [write_csv(tmp_path / "mixed.csv", rows)])
    work(store, spec)
    counts = result(store, spec)
    assert (counts["rows_read"], counts["rows_rejected"], counts["entries"]) == (6, 4, 2)
    with store.read() as connection:
        query = sa.select(snapshot_reject).order_by(snapshot_reject.c.line)
        rejects = connection.execute(query).mappings().all()
    assert [r["line"] for r in rejects] == [3, 4, 5, 6]
    for reject, (formula, external_id, _, _, named) in zip(rejects, BAD, strict=True):
        assert reject["file"] == "mixed.csv"
        assert named in reject["reason"]
        assert formula in reject["raw"]
        assert external_id in reject["raw"]


def test_strict_takes_nothing_in(store: Store, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "mixed.csv", [ROWS[0], *BAD])
    message = failure(store, import_job("mp", [path], strict=True))
    assert message.startswith("4 rows are malformed and --strict was asked for")
    assert "mixed.csv line 3: " in message
    content = dump(store)
    assert len(content.pop("job")) == len(content.pop("job_chunk")) == 1
    assert all(rows == [] for rows in content.values())


def test_polymorphs_and_properties_of_real_tables(duckdb_store: Store, tmp_path: Path) -> None:
    """Every value of the source's files is an entry's, and the number of each is the same."""
    files = cut_tables(tmp_path, 400)
    spec = import_job("mp", files)
    work(duckdb_store, spec)
    counts = result(duckdb_store, spec)
    assert counts["rows_read"] == 800
    assert counts["rows_rejected"] == 0
    assert counts["entries"] == 800 - counts["entries_joined"]
    assert counts["rows_kept_apart"] > 0
    with duckdb_store.read() as connection:
        for path, name in zip(files, ("formation_energy_per_atom", "band_gap"), strict=True):
            assert name in path.name
            column = entry.c[name]
            stored = sorted(
                r[0] for r in connection.execute(sa.select(column).where(column.is_not(None)))
            )
            with path.open(encoding="utf-8") as handle:
                written = sorted(float(row["value"]) for row in csv.DictReader(handle))
            assert stored == written


def test_a_file_that_changed_is_refused(duckdb_store: Store, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ROWS)
    spec = import_job("mp", [path])
    write_csv(path, ROWS[:2])
    assert "has changed since the import was asked for" in failure(duckdb_store, spec)
    path.unlink()
    queue.retry(duckdb_store, spec.id)
    Worker(duckdb_store, TASKS, 60.0).run()
    assert "cannot read" in str(queue.get(duckdb_store, spec.id).error)
    assert count(duckdb_store, entry) == 0


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ROWS)
    with pytest.raises(NotFoundError, match="known: mp, aflow, oqmd"):
        import_job("mpp", [path])
    with pytest.raises(InputError, match=r"cannot read .*none\.csv: No such file"):
        import_job("mp", [tmp_path / "none.csv"])
    (tmp_path / "other").mkdir()
    with pytest.raises(UsageError, match=r"several are named a\.csv"):
        import_job("mp", [path, write_csv(tmp_path / "other" / "a.csv", ROWS)])
