"""Live imports: whatever a server does, the store ends up as with a well-behaved one."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gandb.jobs import queue
from gandb.jobs.records import State
from gandb.jobs.worker import Worker
from gandb.schema.tables import entry, snapshot_file
from gandb.sources.http import Patience, Session
from gandb.store import Store
from gandb.tasks import TASKS, fetching
from gandb.tasks.fetching import live_spec
from gandb.tasks.records import records_job, reparse_job
from gandb.tasks.snapshots import find_snapshot, snapshots
from gandb.tasks.verification import verify_store
from tests.content import Dump, differences, dump
from tests.sources import replay
from tests.sources.replay import PRANKS, TROUBLES, Replay, Script
from tests.tasks.labs import make_store, work

N = 60
SWIFT = tuple(t for t in TROUBLES if t != "hang")
QUICK = Patience(tries=12, unfit_tries=12, connect_timeout=2.0, read_timeout=0.4)
DAY = dt.datetime(2026, 1, 2)
SPENT = ("job", "job_chunk", "blob")  # when it was asked, how it went, the pages as they came


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sessions not really wait."""

    def session(**more: Any) -> Session:
        return Session(QUICK, sleep=lambda _: None, chance=random.Random(0), **more)

    monkeypatch.setattr(fetching, "Session", session)


def structures(count: int) -> list[Mapping[str, Any]]:
    """Make OPTIMADE resources of cubic salts, each with an edge of its own."""
    return [
        {
            "id": f"x-{i}",
            "type": "structures",
            "attributes": {
                "nelements": 2,
                "chemical_formula_reduced": "ClCs",
                "lattice_vectors": [[4 + i / 100, 0, 0], [0, 4 + i / 100, 0], [0, 0, 4 + i / 100]],
                "cartesian_site_positions": [[0, 0, 0], [2 + i / 200] * 3],
                "species_at_sites": ["Cs", "Cl"],
                "species": [
                    {"name": s, "chemical_symbols": [s], "concentration": [1.0]}
                    for s in ("Cs", "Cl")
                ],
                "dimension_types": [1, 1, 1],
                "nsites": 2,
                "structure_features": [],
            },
        }
        for i in range(count)
    ]


def spec(address: str, when: dt.datetime = DAY, limit: int | None = None) -> Any:
    live = live_spec(
        "optimade", endpoint=f"{address}/optimade", page_size=10, limit=limit, asked_at=when
    )
    return records_job("salts", live=live, keep_raw=True)


def content(store: Store) -> Dump:
    """What a store says, without the addresses of servers that live for one test."""
    found = {k: v for k, v in dump(store).items() if k not in SPENT}
    assert [row["n_entries"] for row in snapshots(store)] == [N]
    found["source_snapshot"] = []
    found["snapshot_entry"] = [(row[-1],) for row in found["snapshot_entry"]]
    return found


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Dump:
    """What a store says after a server that behaves."""
    folder = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetching, "Session", lambda **more: Session(QUICK, **more))
        store = make_store(str(folder / "store"), folder)
        with Replay(structures(N), replay.optimade()).running() as server:
            work(store, spec(server.url))
    return content(store)


@pytest.mark.parametrize("seed", range(6))
def test_a_misbehaving_server_changes_nothing(
    calm: Dump, store_url: str, tmp_path: Path, seed: int
) -> None:
    script = Script(seed, SWIFT, PRANKS, most_pranks=6, reorder=2, reorders=2)
    store = make_store(store_url, tmp_path)
    with Replay(structures(N), replay.optimade(), script).running() as server:
        work(store, spec(server.url))
    assert differences(calm, content(store)) == []
    assert [f for f in verify_store(store) if f["problems"]] == []


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_fetch_that_is_broken_off_goes_on(
    calm: Dump, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    with Replay(structures(N), replay.optimade()).running() as server:
        wanted = spec(server.url)
        job = queue.submit(store, wanted)
        plain, left = fetching._save, [after]

        def dying(context: Any, listed: Any, *, complete: bool) -> None:
            plain(context, listed, complete=complete)
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

        monkeypatch.setattr(fetching, "_save", dying)
        with pytest.raises(KeyboardInterrupt):
            Worker(store, TASKS, 60.0, [job.id]).run()
        monkeypatch.setattr(fetching, "_save", plain)
        Worker(store, TASKS, 60.0, [job.id]).run()
    assert queue.get(store, job.id).state is State.DONE
    assert differences(calm, content(store)) == []
    with store.read() as connection:
        pages = connection.execute(sa.select(sa.func.count()).select_from(snapshot_file)).scalar()
    assert pages == N // 10


def test_asking_again_another_day_adds_nothing_if_nothing_changed(
    store_url: str, tmp_path: Path
) -> None:
    store = make_store(store_url, tmp_path)
    with Replay(structures(N), replay.optimade()).running() as server:
        work(store, spec(server.url))
        before = content(store)
        work(store, spec(server.url, DAY + dt.timedelta(days=1)))
    assert differences(before, content(store)) == []
    assert len(snapshots(store)) == 1


def test_pages_are_parsed_again_without_the_server(store_url: str, tmp_path: Path) -> None:
    store = make_store(store_url, tmp_path)
    with Replay(structures(N), replay.optimade()).running() as server:
        work(store, spec(server.url))
    before = content(store)
    work(store, reparse_job(find_snapshot(store, "salts")))
    assert differences(before, content(store)) == []
    with store.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(entry)).scalar() == N


def test_a_server_that_stays_away_fails_the_job_and_says_so(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    script = Script(0, ("500",), rate=1.0, in_a_row=10**9)
    with Replay(structures(N), replay.optimade(), script).running() as server:
        job = queue.submit(store, spec(server.url))
        Worker(store, TASKS, 60.0, [job.id]).run()
        error = str(queue.get(store, job.id).error)
    assert server.url.partition("//")[2] in error
    assert "500" in error
    assert snapshots(store) == []


@pytest.mark.parametrize("limit", [1, 10, 25])
def test_no_more_come_in_than_were_asked_for(tmp_path: Path, limit: int) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    with Replay(structures(N), replay.optimade()).running() as server:
        work(store, spec(server.url, limit=limit))
    assert [s["n_entries"] for s in snapshots(store)] == [limit]


def test_the_command_line_goes_on_with_a_fetch_that_broke_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from gandb.cli.app import app

    store = make_store(str(tmp_path / "store"), tmp_path)
    plain, left = fetching._save, [2]

    def dying(context: Any, listed: Any, *, complete: bool) -> None:
        plain(context, listed, complete=complete)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "_save", dying)
    with Replay(structures(N), replay.optimade()).running() as server:
        command = ["--store", str(tmp_path / "store"), "import", "salts", "--live", "--endpoint",
                   f"{server.url}/optimade", "--page-size", "10", "--json"]  # fmt: skip
        broken = CliRunner().invoke(app, command)
        assert broken.exit_code == 130, broken.stderr
        whole = CliRunner().invoke(app, command)
        assert whole.exit_code == 0, whole.stderr
        assert "going on with job" in whole.stderr
        asked = [path for path, _ in server.asked if "structures" in path]
    assert len(asked) == N // 10, "no page was asked for twice"
    (snapshot,) = snapshots(store)
    assert (snapshot["source"], snapshot["n_entries"]) == ("salts", N)
