"""A million entries handed on: packed by one group, taken in by another whose store is empty.

Two kinds: OQMD's formulas, each several times with energies of its own, as polymorphs have them;
and entries with structures (see `shared_structures`), whose ids the merge works out again, on
both engines. ``GANDB_BENCH_SHARED`` says how many. Every time is of a whole command, from the
shell's side until it has committed and ended.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from gandb.core.config import Settings
from gandb.store import Store
from tests.benchmarks import data
from tests.benchmarks.shared_structures import make_store
from tests.postgres import fresh_database

ENTRIES = int(os.environ.get("GANDB_BENCH_SHARED", "1000000"))
PEER = "DuckDB: every table to Parquet and back, unsorted, without any check"
SEED = 20_261_122

Report = Callable[..., None]


def run(report: Report) -> None:
    """Hand both kinds on."""
    report("share.load", data.load(), "processes/core")
    with tempfile.TemporaryDirectory(prefix="gandb-bench-") as name, data.server() as server:
        folder = Path(name)
        table = folder / "oqmd.formation_energy_per_atom.csv"
        write_formulas(table, ENTRIES)
        formulas = str(folder / "formulas")
        data.gandb(formulas, "init", formulas)
        data.gandb(formulas, "import", "oqmd", table)
        data.gandb(formulas, "dataset", "create", "all", "--where", "true")
        data.gandb(formulas, "share", "origin", "bench")
        hand_on(report, "share.formulas", Path(formulas), folder, None)
        structures = data.cached_store(
            f"shared-{ENTRIES}", lambda place: make_store(place, ENTRIES)
        )
        hand_on(report, "share.structures", structures, folder, server)


def write_formulas(path: Path, n: int) -> None:
    """Write a table of n formulas with energies."""
    rng = random.Random(SEED)
    known = sorted({row[0] for t in data.oqmd_tables() for row in data.read_table(t)[1:]})
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["formula", "value"])
        writer.writerows((known[i % len(known)], round(rng.uniform(-4, 1), 5)) for i in range(n))


def hand_on(report: Report, what: str, store: Path, folder: Path, server: str | None) -> None:
    """Pack a store, and merge the bundle into an empty store of each engine."""
    bundle = folder / f"{what}-bundle"
    theirs = by_hand(store / "gandb.duckdb", folder / f"{what}-by-hand")
    packed = data.gandb(str(store), "share", "pack", bundle, "--all")
    size = sum(p.stat().st_size for p in bundle.rglob("*") if p.is_file())
    report(f"{what}.bundle", size / 1e6, "MB")
    told(report, f"{what}.pack", packed)
    asked = data.gandb(
        str(store), "sql", "--bundle", bundle,
        "SELECT count(*) FROM entries WHERE list_contains(elements, 'Li') AND n_elements = 3",
    )  # fmt: skip
    told(report, f"{what}.sql", asked)
    target = folder / f"{what}-merged"
    _merge(report, what, bundle, str(target), packed.seconds, theirs)
    shutil.rmtree(target)
    if server is not None:
        with fresh_database(server) as database:
            _merge(report, f"{what}.postgres", bundle, database, packed.seconds, theirs)


def _merge(report: Report, what: str, bundle: Path, url: str, packed: float, theirs: float) -> None:
    Store.create(Settings(store=url), str(bundle.parent / "blobs") if "://" in url else None)
    merged = data.gandb(url, "share", "merge", bundle, "--no-identify")
    told(report, f"{what}.merge", merged)
    report(f"{what}.pack_and_merge.seconds", packed + merged.seconds, "s", PEER, theirs)
    told(report, f"{what}.merge_again", data.gandb(url, "share", "merge", bundle, "--no-identify"))


def told(report: Report, what: str, one: data.Measured) -> None:
    """Report what a command took."""
    report(f"{what}.seconds", one.seconds, "s")
    report(f"{what}.cpu_seconds", one.cpu_seconds, "s")
    report(f"{what}.rss", one.rss_gb, "GB")


def by_hand(database: Path, folder: Path) -> float:
    """Hand all tables on as a script does, without checks of any kind: seconds."""
    folder.mkdir()
    started = time.perf_counter()
    with duckdb.connect(str(database), read_only=True) as connection:
        found = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        for (name,) in found:
            connection.execute(
                f"COPY {name} TO '{folder}/{name}.parquet' (FORMAT parquet, COMPRESSION zstd)"
            )
    with duckdb.connect(str(folder / "again.duckdb")) as connection:
        for (name,) in found:
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM '{folder}/{name}.parquet'")
    return time.perf_counter() - started
