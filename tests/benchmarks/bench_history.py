"""Histories of datasets: a diff of two large versions, fifty versions in the space of two.

The entries are made up, a million of them. What the store grows by is what the database counts: the
blocks in use of DuckDB's file, the tables and indexes of PostgreSQL. "A hundredth changed" is
measured both ways: a hundredth of the members came or went (half came, half went), and a hundredth
was replaced (as many came as went). The plain peer keeps every version as a Parquet file of ids and
splits of its own, as a folder under DVC would.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from gandb.datasets import diffs, history
from gandb.datasets.members import Members, as_keys, read_members
from gandb.datasets.splits import SplitRecipe
from gandb.datasets.versions import Selection, Version, create
from gandb.store import Store
from tests.benchmarks import data
from tests.datasets import labs
from tests.postgres import fresh_database

MEMBERS = 1_000_000
HISTORY = 300_000
VERSIONS = 50
CHANGED = {"changed": 0.005, "replaced": 0.01}
"""Share of the members that goes from one version to the next, as many others come, by meaning."""
SHARES = (0.01, 0.5)
"""How much of a version another has not, for the diffs."""
PEER = "full copies in Parquet"
_MB = 1e6


def run(report: Callable[..., None]) -> None:
    """Measure both engines; each history grows in a store of its own, where nothing is free yet."""
    report("history.load", data.load(), "processes/core")
    with tempfile.TemporaryDirectory(prefix="gandb-bench-") as name, data.server() as server:
        folder = Path(name)
        for meaning in CHANGED:
            _measure(report, str(folder / meaning), "history", meaning, folder)
            if server is not None:
                with fresh_database(server) as database:
                    _measure(report, database, "history.postgres", meaning, folder)


def _measure(
    report: Callable[..., None], url: str, prefix: str, meaning: str, folder: Path
) -> None:
    n_compositions = int(MEMBERS * (1 + max(SHARES))) // labs.POLYMORPHS
    store = labs.make_store(url, n_compositions, shuffle=0)
    everything = labs.selection(np.arange(n_compositions * labs.POLYMORPHS), n_compositions)
    _grow(report, store, everything, prefix, meaning, folder)
    if meaning != "changed":
        return
    started = time.perf_counter()
    first, _ = create(store, "large", _taken(everything, np.arange(MEMBERS)), "")
    report(f"{prefix}.create_million_s", time.perf_counter() - started, "s")
    for share in SHARES:
        begin = int(MEMBERS * share)
        other, _ = create(
            store, f"other{share:g}", _taken(everything, np.arange(begin, begin + MEMBERS)), "",
            parents=[first.id],
        )  # fmt: skip
        _compare(report, store, first, other, f"{prefix}.diff_{share:.0%}".replace("%", "pc"))
    apart, _ = create(
        store, "apart", _taken(everything, np.arange(MEMBERS // 100, MEMBERS + MEMBERS // 100)), "",
        SplitRecipe((0.8, 0.1, 0.1), 1), parents=[],
    )  # fmt: skip
    _compare(report, store, first, apart, f"{prefix}.diff_unrelated")


def _taken(everything: Selection, rows: np.ndarray) -> Selection:
    return Selection(everything.entry_ids[rows], everything.composition_ids[rows], {})


def _compare(
    report: Callable[..., None], store: Store, one: Version, other: Version, name: str
) -> None:
    """Time a diff; it must say what sets of ids say, which the peer reads from its files."""
    with store.read() as connection:
        held = [read_members(connection, v.id) for v in (one, other)]
    with tempfile.TemporaryDirectory(prefix="gandb-bench-") as folder:
        paths = [_written(Path(folder) / f"{i}.parquet", m) for i, m in enumerate(held)]
        started = time.perf_counter()
        ids = [as_keys(_raw(pq.read_table(p).column("id"))) for p in paths]
        plain = [len(np.setdiff1d(ids[1 - k], ids[k], assume_unique=True)) for k in (0, 1)]
        peer = time.perf_counter() - started
    started = time.perf_counter()
    found = diffs.diff(store, one, other)
    seconds = time.perf_counter() - started
    if [found.n_added, found.n_dropped] != plain:
        raise SystemExit(f"{name}: {found.n_added}, {found.n_dropped}; sets of ids say {plain}")
    report(f"{name}_s", seconds, "s", f"{PEER}, numpy on the ids alone", peer)


def _grow(
    report: Callable[..., None],
    store: Store,
    everything: Selection,
    prefix: str,
    meaning: str,
    folder: Path,
) -> None:
    """Make one version, then forty-nine that change a hundredth of it each; report the growth."""
    name, prefix = f"history-{meaning}", f"{prefix}.{meaning}"
    rng = np.random.default_rng(0)
    total = len(everything)
    members = rng.choice(total, HISTORY, replace=False)
    sizes, spent, copies = [_size(store)], [], 0
    for number in range(VERSIONS):
        if number:
            changed = int(HISTORY * CHANGED[meaning])
            outside = np.setdiff1d(np.arange(total), members)
            members[rng.choice(HISTORY, changed, replace=False)] = rng.choice(
                outside, changed, replace=False
            )
        started = time.perf_counter()
        version, _ = create(store, name, _taken(everything, members), f"version {number + 1}")
        spent.append(time.perf_counter() - started)
        with store.read() as connection:
            copies += (
                _written(folder / "v.parquet", read_members(connection, version.id)).stat().st_size
            )
        if number in (0, VERSIONS - 1):
            sizes.append(_size(store))
            started = time.perf_counter()
            with store.read() as connection:
                read_members(connection, version.id)
            report(f"{prefix}.read_v{number + 1}_s", time.perf_counter() - started, "s")
    one, whole = sizes[1] - sizes[0], sizes[2] - sizes[0]
    report(f"{prefix}.one_version_mb", one / _MB, "MB", PEER, copies / VERSIONS / _MB)
    report(f"{prefix}.fifty_versions_mb", whole / _MB, "MB", PEER, copies / _MB)
    report(f"{prefix}.fifty_over_one", whole / one, "times", PEER, float(VERSIONS))
    report(f"{prefix}.create_next_s", float(np.median(spent[1:])), "s")
    started = time.perf_counter()
    if len(history.log(store, name)) != VERSIONS:
        raise SystemExit("the log lacks versions")
    report(f"{prefix}.log_s", time.perf_counter() - started, "s")


def _size(store: Store) -> int:
    """Return the bytes that a store takes on disk."""
    if store.kind == "duckdb":
        with store.read() as connection:
            query = "SELECT block_size * used_blocks FROM pragma_database_size()"
            return int(connection.execute(sa.text(query)).scalar_one())
    tables = "('dataset_change', 'dataset_base', 'dataset_version', 'dataset_number')"
    query = f"SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname IN {tables}"
    with store.read() as connection:
        return int(connection.execute(sa.text(query)).scalar_one())


def _written(path: Path, members: Members) -> Path:
    ids = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(members), [None, pa.py_buffer(members.keys.tobytes())]
    )
    pq.write_table(
        pa.table({"id": ids, "split": pa.array(members.splits)}), path, compression="zstd"
    )
    return path


def _raw(column: pa.ChunkedArray) -> np.ndarray:
    array = column.combine_chunks()
    raw = np.frombuffer(array.buffers()[1], np.uint8)[: len(array) * 16]
    return raw.reshape(-1, 16)
