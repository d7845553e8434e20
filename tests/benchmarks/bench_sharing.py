"""A million entries handed on: packed by one group, taken in by another whose store is empty.

The entries are OQMD's formulas, each several times with energies of its own, as polymorphs have
them; ``GANDB_BENCH_SHARED`` says how many. Where the dump of `tests.benchmarks.oqmd_dump` is wanted
too (``GANDB_BENCH_SHARED_STRUCTURES``), as many entries with structures are handed on likewise.
Every time is of a whole command, from the shell's side until it has committed and ended.
"""

from __future__ import annotations

import csv
import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from tests.benchmarks import data
from tests.benchmarks.oqmd_dump import write_dump

ENTRIES = int(os.environ.get("GANDB_BENCH_SHARED", "1000000"))
STRUCTURES = int(os.environ.get("GANDB_BENCH_SHARED_STRUCTURES", "0"))
PEER = "DuckDB: every table to Parquet and back, unsorted, without any check"
SEED = 20_261_122


def run(report: Callable[..., None]) -> None:
    """Pack, inspect, verify and merge."""
    with tempfile.TemporaryDirectory(prefix="gandb-bench-") as name:
        folder = Path(name)
        table = folder / "oqmd.formation_energy_per_atom.csv"
        _write_formulas(table, ENTRIES)
        _handed_on(report, "sharing.entries", folder / "entries", table, ENTRIES)
        if STRUCTURES:
            dump = folder / "oqmd.sql"
            write_dump(dump, STRUCTURES)
            _handed_on(report, "sharing.structures", folder / "structures", dump, STRUCTURES)


def _write_formulas(path: Path, n: int) -> None:
    rng = random.Random(SEED)
    known = sorted({row[0] for t in data.oqmd_tables() for row in data.read_table(t)[1:]})
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["formula", "value"])
        writer.writerows((known[i % len(known)], round(rng.uniform(-4, 1), 5)) for i in range(n))


def _handed_on(report: Callable[..., None], what: str, folder: Path, source: Path, n: int) -> None:
    store, other, bundle = (str(folder / name) for name in ("store", "other", "bundle"))
    folder.mkdir()
    data.gandb(store, "init", store)
    data.gandb(store, "import", "oqmd", source)
    data.gandb(store, "dataset", "create", "all", "--where", "true")
    data.gandb(store, "share", "origin", "ada")
    theirs = _by_hand(Path(store) / "gandb.duckdb", folder / "by-hand")
    packed = data.gandb(store, "share", "pack", bundle, "--dataset", "all@1")
    data.gandb(other, "init", other)
    data.gandb(other, "share", "origin", "bose")
    merged = data.gandb(other, "share", "merge", bundle, "--no-identify")
    entries = json.loads(
        data.gandb(other, "sql", "--json", "SELECT count(*) AS n FROM entry").output
    )
    if entries[0]["n"] != n:
        raise SystemExit(f"{entries[0]['n']:,} entries came over, not {n:,}")
    again = data.gandb(other, "share", "merge", bundle, "--no-identify")
    asked = data.gandb(
        store, "sql", "--bundle", bundle,
        "SELECT count(*) FROM entries WHERE list_contains(elements, 'Li') AND n_elements = 3",
    )  # fmt: skip
    size = sum(p.stat().st_size for p in Path(bundle).rglob("*") if p.is_file())
    report(f"{what}.load", data.load(), "processes/core")
    report(f"{what}.entries", n, "entries")
    report(f"{what}.megabytes", size / 1e6, "MB, the bundle")
    both = packed.seconds + merged.seconds
    report(f"{what}.pack_and_merge.seconds", both, "s; wanted: 120", PEER, theirs)
    for name, one in {"pack": packed, "merge": merged, "merge_again": again, "sql": asked}.items():
        report(f"{what}.{name}.seconds", one.seconds, "s")
        report(f"{what}.{name}.cpu_seconds", one.cpu_seconds, "s")
        report(f"{what}.{name}.rss_gb", one.rss_gb, "GB")


def _by_hand(database: Path, folder: Path) -> float:
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
