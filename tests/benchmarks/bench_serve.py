"""OPTIMADE pages over a million structures: first pages, deep pages, single ids, by HTTP.

A store is filled with structures derived from real ones (see `many_structures`), each under many
ids and with energies and gaps of its own, published, and served by ``gandb serve`` on loopback, as
its own process. Each figure is the median, or the 95th percentile, of requests that differ in what
they ask for, one after the other on one connection.
``GANDB_BENCH_SERVE=N`` takes another number of structures.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import sqlalchemy as sa

from gandb.core.config import Settings
from gandb.datasets import selection, versions
from gandb.schema import tables
from gandb.sharing.serving.publishing import publish
from gandb.sources.reading import read_crystal
from gandb.store import Store
from tests.benchmarks import data, optimade_peer
from tests.benchmarks.many_structures import bases_of, fill
from tests.postgres import fresh_database

N = int(os.environ.get("GANDB_BENCH_SERVE", 1_000_000))
FEW = 5_000
"""Structures for the comparison with the reference server, which reads them all for each page."""
PEER = f"optimade-python-tools, mongomock, of {FEW:,} structures"
OWN = ("stable", "gap_and_element")
"""Filters by properties that only gandb's server has."""
REPEATS = 20
BASES = 500
DERIVED = 10_000
"""Structures that are worked out; the others are the same ones under other ids."""

Report = Callable[..., None]
ELEMENTS = "O Si Fe Li Al Ti Na S Cl N Mg Ca".split()

FILTERS: dict[str, Callable[[random.Random], str]] = {
    "one_element": lambda r: f'elements HAS "{r.choice(ELEMENTS)}"',
    "two_elements": lambda r: 'elements HAS ALL "{}","{}"'.format(*r.sample(ELEMENTS, 2)),
    "elements_and_numbers": lambda r: (
        'elements HAS ALL "{}","{}" AND nelements=3 AND nsites<={}'.format(
            *r.sample(ELEMENTS, 2), r.randint(5, 30)
        )
    ),
    "none_of": lambda r: 'NOT elements HAS ANY "{}","{}","{}"'.format(*r.sample(ELEMENTS, 3)),
    "only": lambda r: 'elements HAS ONLY "{}","{}","{}"'.format(*r.sample(ELEMENTS, 3)),
    "stable": lambda r: f"_gandb_energy_above_hull<{r.random() / 1000:.6f}",
    "gap_and_element": lambda r: (
        f'_gandb_band_gap>{r.uniform(1, 8):.4f} AND elements HAS "{r.choice(ELEMENTS)}"'
    ),
    "formula": lambda r: 'chemical_formula_reduced="{}{}"'.format(*sorted(r.sample(ELEMENTS, 2))),
    "anonymous": lambda r: 'chemical_formula_anonymous="{}" AND nelements=2'.format(
        r.choice(["AB", "A2B", "A3B", "A5B2"])
    ),
    "space_group": lambda r: f"space_group_it_number={r.choice([12, 62, 166, 194, 221, 225])}",
    "rare": lambda r: 'chemical_formula_descriptive CONTAINS "{}7{}"'.format(
        r.choice(ELEMENTS), r.choice("ABC")
    ),
}
"""Filters by name; each request draws its own."""


def run(report: Report) -> None:
    """Measure both engines."""
    with tempfile.TemporaryDirectory(prefix="gandb-bench-serve-") as name:
        folder = Path(name)
        place = data.cached_store(f"serve-{N}", lambda store: make_store(store))
        measure(report, "duckdb", str(place))
        beside_the_peer(report, folder)
        with data.server() as server:
            if server is not None:
                with fresh_database(server) as url:
                    make_store(url, str(folder / "blobs"))
                    measure(report, "postgres", url)


def make_store(url: str, blobs: str | None = None, n: int = N) -> None:
    """Fill a store, give its entries energies and gaps, and publish all."""
    store = Store.create(Settings(store=url), blobs)
    crystals = [read_crystal(path) for path in real_files()]
    derived = min(n, DERIVED)
    fill(store, bases_of(crystals), derived)
    multiply(store, -(-n // derived))
    versions.create(store, "many", selection.by_condition(store, "true"), "all")
    began = time.perf_counter()
    made = publish(store, "many@1", allowed=["none"])
    print(f"published {made.n_structures:,} in {time.perf_counter() - began:.1f} s", flush=True)


def multiply(store: Store, times: int) -> None:
    """Write every structure and entry several times, under ids of its own, with other energies."""
    turns = f"CROSS JOIN generate_series(1, {times - 1}) AS turns(k)"
    draw = "(hash(id, {k}) % 1000000) / 1e6"
    if store.kind != "duckdb":
        draw = "(abs(hashtextextended(CAST(id AS TEXT), {k})) % 1000000) / 1e6"
    new = "CAST(md5(CAST({0} AS TEXT) || '{1}' || CAST(k AS TEXT)) AS UUID)"
    with store.write() as tx:
        for table, own in (
            (tables.structure, {"id": new.format("id", "s")}),
            (
                tables.entry,
                {"id": new.format("id", "e"), "structure_id": new.format("structure_id", "s")},
            ),
            (tables.snapshot_entry, {"entry_id": new.format("entry_id", "e")}),
        ):
            names = [c.name for c in table.columns]
            values = ", ".join(own.get(name, name) for name in names)
            tx.execute(
                sa.text(
                    f"INSERT INTO {table.name} ({', '.join(names)}) "
                    f"SELECT {values} FROM {table.name} {turns}"
                )
            )
        tx.execute(
            sa.text(
                f"UPDATE entry SET energy_above_hull = {draw.format(k=1)}, "
                f"band_gap = 10 * {draw.format(k=2)}, "
                f"formation_energy_per_atom = -4 * {draw.format(k=3)}"
            )
        )


def real_files() -> list[Path]:
    """Unpack real CIFs once; return their paths."""
    import zipfile

    source = data.ROOT.parent / "shared" / "data" / "structures" / "mp-cifs.zip"
    target = Path(tempfile.gettempdir()) / f"gandb-bench-cifs-{os.getuid()}"
    if not target.exists():
        with zipfile.ZipFile(source) as archive:
            archive.extractall(target)
    return sorted(target.rglob("*.cif"))[:BASES]


# --- asking ------------------------------------------------------------------------------


class Client:
    """One connection that is kept."""

    def __init__(self, base: str) -> None:
        self._at = urlsplit(base)
        self._connection = http.client.HTTPConnection(self._at.netloc, timeout=120)

    def get(self, path: str) -> tuple[float, dict[str, object]]:
        """Return seconds and the answer."""
        began = time.perf_counter()
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        body = response.read()
        seconds = time.perf_counter() - began
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {body[:300]!r}")
        return seconds, json.loads(body)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(store: str) -> Iterator[str]:
    """Run ``gandb serve`` and yield its URL."""
    port = free_port()
    command = [sys.executable, "-c", "from gandb.cli.app import main; main()", "-s", store]
    process = subprocess.Popen([*command, "serve", "--port", str(port)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def beside_the_peer(report: Report, folder: Path) -> None:
    """Ask gandb and the reference server the same of the same few structures."""
    store, lines = folder / "few", folder / "few.jsonl"
    make_store(str(store), n=FEW)
    data.gandb(
        str(store), "structure", "export", "SELECT structure_id FROM entries", "-o", lines,
        "--format", "optimade",
    )  # fmt: skip
    times: list[dict[str, float]] = []
    for server in (serving(str(store)), optimade_peer.serving(lines, folder / "peer", free_port())):
        with server as base:
            client, rng = Client(base), random.Random(7)
            client.get("/v1/structures?page_limit=1")
            asked = {
                name: [
                    client.get(f"/v1/structures?page_limit=20&filter={quote(draw(rng))}")[0]
                    for _ in range(REPEATS)
                ]
                for name, draw in FILTERS.items()
                if name not in OWN
            }
        times.append({name: 1000 * statistics.median(seconds) for name, seconds in asked.items()})
    for name, ours in times[0].items():
        report(f"serve.few.{name}.p50", ours, "ms", PEER, times[1][name])


def measure(report: Report, engine: str, store: str) -> None:
    """Measure one engine."""
    with serving(store) as base:
        client = Client(base)
        rng = random.Random(7)
        client.get("/v1/structures?page_limit=1")
        for name, draw in FILTERS.items():
            times = [
                client.get(f"/v1/structures?filter={quote(draw(rng))}")[0] for _ in range(REPEATS)
            ]
            told(report, f"serve.{engine}.{name}", times)
        times = [
            client.get(
                "/v1/structures?filter="
                + quote('elements HAS "O"')
                + f"&page_above={rng.randrange(2**31, 2**32):08x}-0000-0000-0000-000000000000"
            )[0]
            for _ in range(REPEATS)
        ]
        told(report, f"serve.{engine}.deep_page", times)
        ids = [
            d["id"]
            for d in client.get("/v1/structures?page_limit=100&response_fields=id")[1]["data"]
        ]
        times = [client.get(f"/v1/structures/{own}")[0] for own in rng.sample(ids, REPEATS)]
        told(report, f"serve.{engine}.single", times)
        following, times = f"{base}/v1/structures?page_limit=100", []
        for _ in range(REPEATS):
            at = urlsplit(following)
            seconds, page = client.get(f"{at.path}?{at.query}")
            times.append(seconds)
            following = page["links"]["next"]
        told(report, f"serve.{engine}.hundred_a_page", times)
        sorted_ = [
            client.get(f"/v1/structures?sort=-_gandb_band_gap&filter=nelements={n}")[0]
            for n in (2, 3, 4) * 3
        ]
        told(report, f"serve.{engine}.sorted", sorted_)


def told(report: Report, name: str, seconds: list[float]) -> None:
    """Report the median and the 95th percentile, in ms."""
    ordered = sorted(seconds)
    report(f"{name}.p50", 1000 * statistics.median(ordered), "ms")
    report(f"{name}.p95", 1000 * ordered[int(0.95 * (len(ordered) - 1))], "ms")
