"""Workers are killed at any moment; the store ends up as if nothing had happened, row for row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from gandb.core.config import Settings
from gandb.schema.tables import job, job_attempt
from gandb.store import Store
from gandb.tasks.verification import verify_store
from tests.conftest import ROOT
from tests.content import differences, dump
from tests.tasks.labs import TINY, cut_tables, make_store

PLACES = {
    "import": ("claimed", "completing", "merging", "executing"),
    "dataset": ("merging", "executing"),
    "train": ("claimed", "writing", "staged", "completing", "merging", "executing"),
    "generate": ("claimed", "writing", "staged", "completing", "merging", "executing", "committed"),
}
"""Where a command of a kind may die, beside any moment; see `tests.tasks.nursery.TRAPS`."""
PASSES = {"merging": 8, "executing": 12}
"""How many passes of a place a process may outlive, 1 if not named."""

_TRAIN = [part for name, value in TINY.items() for part in ("--set", f"{name}={value}")]


class Nursery:
    """Starts commands in processes of their own; see `tests.tasks.nursery`."""

    def __init__(self, folder: Path, module: str = "tests.tasks.nursery") -> None:
        self.log = folder / "log.txt"
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(
        self, *args: str, kill_after: float | None = None, trap: tuple[str, int] | None = None
    ) -> dict[str, Any]:
        """Run a command to its end or its death; the code of a killed one is -9."""
        order = {"args": args, "kill_after": kill_after, "trap": trap, "log": str(self.log)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        reply: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert reply["code"] in (0, -9), self.log.read_text()[-4000:]
        return reply

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return cut_tables(tmp_path_factory.mktemp("tables"), 800)


def commands(address: str, tables: list[Path]) -> list[tuple[str, list[str]]]:
    """The life of a store: import, a dataset version, training, generation."""
    at = ["--store", address]
    sample = ["-n", "1600", "--chunk-size", "200", "--threads", "2", "--wait"]
    return [
        ("import", [*at, "import", "mp", *map(str, tables)]),
        ("dataset", [*at, "dataset", "create", "d", "--where", "source = 'mp'"]),
        ("train", [*at, "train", "matgan", "d@1", *_TRAIN, "--seed", "3", "--wait"]),
        ("train", [*at, "train", "count_given_element", "d@1", "--wait"]),
        ("generate", [*at, "generate", "matgan:d@1", *sample, "--seed", "5"]),
        ("generate", [*at, "generate", "count_given_element:d@1", *sample]),
    ]


def plan(
    kind: str, deaths: int, usual: float, rng: np.random.Generator
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Choose how a command dies: in turns at any moment, and at a chosen place; last, committed."""
    for death in range(deaths):
        if death == deaths - 1 and kind in ("import", "train"):
            yield "committed", {"trap": ("committed", 1)}
        elif death % 2:
            place = str(rng.choice(PLACES[kind]))
            passes = int(rng.integers(1, PASSES.get(place, 1) + 1))
            yield place, {"trap": (place, passes)}
        else:
            yield "any moment", {"kill_after": rng.uniform(0.02, 0.8 * usual)}


class Lives:
    """An undisturbed store, and others that live through deaths."""

    def __init__(self, nursery: Nursery, tables: list[Path], folder: Path) -> None:
        self.nursery = nursery
        self.tables = tables
        self.folder = folder
        self.hits: Counter[str] = Counter()
        make_store(str(folder / "calm"), folder)
        self.seconds = [
            nursery.run(*args)["seconds"] for _, args in commands(str(folder / "calm"), tables)
        ]
        store = Store.open(Settings(str(folder / "calm")))
        self.content = dump(store)
        self.blobs = sorted(store.files.blobs())

    def live(self, address: str, deaths: dict[str, int], rng: np.random.Generator) -> None:
        """Do everything in a new store, each kind of command dying so often; compare the end."""
        store = make_store(address, self.folder / "other")
        for i, (kind, args) in enumerate(commands(address, self.tables)):
            for how, order in plan(kind, deaths.get(kind, 0), self.seconds[i], rng):
                reply = self.nursery.run(*args, **order)
                if reply["code"] == 0:  # too late, or the trap lies off its way: it is done
                    self.seconds[i] = min(self.seconds[i], reply["seconds"])
                    break
                self.hits[f"{kind}, {how}: {self._at(store, reply['pid'])}"] += 1
            assert self.nursery.run(*args)["code"] == 0
        assert differences(self.content, dump(store)) == []
        assert [f for f in verify_store(store) if f["problems"]] == []
        assert set(self.blobs) <= set(store.files.blobs())
        assert self.nursery.run("--store", address, "worker")["code"] == 0  # sweeps
        assert list((Path(store.files.root) / "staging").glob("*")) == []

    @staticmethod
    def _at(store: Store, pid: int) -> str:
        """Say what the process that died had in hand."""
        query = (
            sa.select(job.c.kind, job_attempt.c.job_id, job_attempt.c.chunk, job_attempt.c.worker)
            .join(job, job.c.id == job_attempt.c.job_id)
            .where(job_attempt.c.outcome.is_(None))
        )
        with store.read() as connection:
            rows = connection.execute(query).all()
        held = [row for row in rows if row.worker.split(":")[1] == str(pid)]
        if not held:
            return "no chunk in hand"
        folder = Path(store.files.root) / "staging"
        files = [f for r in held for f in (folder / str(r.job_id) / f"{r.chunk:06d}").glob("[!.]*")]
        return "work staged" if files else "at work"


@pytest.fixture(scope="module")
def lives(nursery: Nursery, tables: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Lives:
    return Lives(nursery, tables, tmp_path_factory.mktemp("lives"))


def report(lives: Lives, capsys: pytest.CaptureFixture[str]) -> int:
    total = sum(lives.hits.values())
    with capsys.disabled():
        print(f"\n{total} deaths:")
        for what, times in sorted(lives.hits.items()):
            print(f"  {times:3d}  {what}")
    lives.hits.clear()
    return total


def test_a_few_deaths_leave_no_trace(
    lives: Lives, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deaths = {"import": 2, "dataset": 1, "train": 2, "generate": 3}
    rng = np.random.default_rng(1)
    for life in range(4):
        if sum(lives.hits.values()) < 8:  # how many one life has depends on how busy things are
            lives.live(str(tmp_path / f"store{life}"), deaths, rng)
    assert report(lives, capsys) >= 8


@pytest.mark.slow
def test_fifty_deaths_leave_no_trace(
    lives: Lives, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(2)
    deaths = {"import": 10, "dataset": 2, "train": 8, "generate": 12}
    for life in range(8):
        if sum(lives.hits.values()) < 50:
            lives.live(str(tmp_path / f"store{life}"), deaths, rng)
    assert report(lives, capsys) >= 50


@pytest.mark.postgres
def test_deaths_leave_no_trace_on_postgres(
    lives: Lives, tmp_path: Path, postgres_database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    deaths = {"import": 2, "train": 2, "generate": 3}
    lives.folder = tmp_path
    lives.live(postgres_database, deaths, np.random.default_rng(3))
    assert report(lives, capsys) > 0
