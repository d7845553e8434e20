"""Workers: what becomes of chunks that end well, fail, are cancelled or interrupted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gandb.core.config import Settings
from gandb.core.errors import InputError, IntegrityError, StoreError
from gandb.jobs import leases, queue, worker
from gandb.jobs.heart import Heart, InterruptedWorkError
from gandb.jobs.records import Context, Outcome, State, Task
from gandb.jobs.worker import StopSignal, Worker
from gandb.store import Store, Transaction
from tests.jobs.stubs import LEASE, note, noted, notes


def run(store: Store, task: Task, **options: Any) -> int:
    return Worker(store, {"note": task}, LEASE).run(**options)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_PAUSE", 0.02)


def test_threads_share_the_chunks_and_one_closes(store: Store) -> None:
    order: list[int] = []

    def task(context: Context) -> Outcome:
        time.sleep(0.05)
        order.append(context.chunk)
        return note(context)

    made = queue.submit(store, notes("a", 6))
    done = Worker(store, {"note": task}, LEASE, only=[made.id]).run(threads=3)
    assert done == 6
    assert sorted(order) == list(range(6))
    assert order[-1] == 5
    assert noted(store) == [f"a {k}" for k in range(6)]
    chunks = queue.chunks(store, made.id)
    assert [c["result"] for c in chunks] == [{"chunk": k} for k in range(6)]
    assert {(c["state"], c["owner"], c["attempts"]) for c in chunks} == {("done", None, 1)}
    assert queue.get(store, made.id).state is State.DONE


def test_a_failure_has_its_reason_and_others_go_on(store: Store) -> None:
    def task(context: Context) -> Outcome:
        if context.job.spec["name"] == "bad":
            raise InputError("row 7 is no formula")
        return note(context)

    bad, good = queue.submit(store, notes("bad")), queue.submit(store, notes("good"))
    assert run(store, task) == 1
    assert queue.get(store, good.id).state is State.DONE
    failed = queue.get(store, bad.id)
    assert (failed.state, failed.error) == (State.FAILED, "row 7 is no formula")
    queue.retry(store, bad.id)
    assert run(store, note) == 1
    assert noted(store) == ["bad 0", "good 0"]
    assert queue.get(store, bad.id).error is None
    assert [a["outcome"] for a in queue.attempts(store, bad.id)] == ["failed", "done"]


def test_a_defect_leaves_its_traceback_in_the_log(store: Store) -> None:
    def task(context: Context) -> Outcome:
        if context.job.spec["name"] == "bad":
            raise ZeroDivisionError("of this test")
        return note(context)

    made = queue.submit(store, notes("bad"))
    queue.submit(store, notes("good"))
    assert run(store, task) == 1
    assert queue.get(store, made.id).error == "ZeroDivisionError: of this test"
    levels = [event["level"] for event in queue.events(store, made.id)]
    assert levels == ["info", "error", "error"]
    details = queue.events(store, made.id)[1]["message"]
    assert "Traceback (most recent call last)" in details
    assert 'raise ZeroDivisionError("of this test")' in details


def failing(times: int, error: type[StoreError] = StoreError) -> tuple[Task, Callable[[], int]]:
    calls: list[int] = []

    def task(context: Context) -> Outcome:
        calls.append(context.chunk)
        if len(calls) <= times:
            raise error("the disk is full")
        return note(context)

    return task, lambda: len(calls)


def test_a_store_that_fails_for_a_moment_costs_nothing(store: Store) -> None:
    made = queue.submit(store, notes())
    task, calls = failing(2)
    assert run(store, task) == 1
    assert calls() == 3
    assert noted(store) == ["a 0"]
    warnings = [e["message"] for e in queue.events(store, made.id) if e["level"] == "warning"]
    assert warnings == [f"chunk 0 of job {made.short_id}: the disk is full; trying again"] * 2


def test_a_store_that_keeps_failing_fails_the_job(duckdb_store: Store) -> None:
    made = queue.submit(duckdb_store, notes())
    task, calls = failing(99)
    assert run(duckdb_store, task) == 0
    assert calls() == 3
    assert queue.get(duckdb_store, made.id).error == "the disk is full"


def test_damage_is_not_tried_again(duckdb_store: Store) -> None:
    made = queue.submit(duckdb_store, notes())
    task, calls = failing(99, IntegrityError)
    assert run(duckdb_store, task) == 0
    assert calls() == 1
    assert queue.get(duckdb_store, made.id).state is State.FAILED


@pytest.mark.postgres
def test_a_database_that_goes_away_in_the_middle_leaves_nothing(
    postgres_database: str, tmp_path: Path
) -> None:
    store = Store.create(Settings(postgres_database), str(tmp_path / "blobs"))
    made = queue.submit(store, notes())
    merges: list[int] = []

    def task(context: Context) -> Outcome:
        plain = note(context)

        def merge(tx: Transaction) -> None:
            plain.merge(tx)
            merges.append(len(noted(store)))
            if len(merges) == 1:
                tx.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))

        return Outcome(merge, plain.result)

    assert run(store, task) == 1
    assert merges == [0, 0]
    assert noted(store) == ["a 0"]
    (warning,) = [e["message"] for e in queue.events(store, made.id) if e["level"] == "warning"]
    assert "the transaction was taken back" in warning


# --- stopping ----------------------------------------------------------------------------


def endless(begun: threading.Event) -> Task:
    def task(context: Context) -> Outcome:
        for step in range(100_000):
            begun.set()
            context.progress(step)
            time.sleep(0.01)
        raise AssertionError("nobody stopped it")

    return task


def test_cancelling_stops_the_work_within_seconds(store: Store) -> None:
    made = queue.submit(store, notes())
    begun = threading.Event()
    thread = threading.Thread(target=run, args=(store, endless(begun)))
    thread.start()
    assert begun.wait(30)
    queue.cancel(store, made.id)
    cancelled = time.monotonic()
    thread.join(30)
    assert time.monotonic() - cancelled < 6
    assert queue.get(store, made.id).state is State.CANCELLED
    assert [a["outcome"] for a in queue.attempts(store, made.id)] == ["cancelled"]
    queue.retry(store, made.id)
    assert run(store, note) == 1
    assert queue.get(store, made.id).state is State.DONE


def test_a_worker_asked_to_stop_hands_its_chunk_back(store: Store) -> None:
    made = queue.submit(store, notes("a", 3))
    begun, stop = threading.Event(), StopSignal()
    thread = threading.Thread(target=run, args=(store, endless(begun)), kwargs={"stop": stop})
    thread.start()
    assert begun.wait(30)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    chunk = queue.chunks(store, made.id)[0]
    assert (chunk["state"], chunk["owner"]) == ("pending", None)
    assert queue.get(store, made.id).state is State.RUNNING
    assert run(store, note) == 3


def test_a_watcher_that_leaves_does_not_fail_the_job(duckdb_store: Store) -> None:
    made = queue.submit(duckdb_store, notes())

    def leave(*_: object) -> None:
        raise BrokenPipeError("nobody reads")

    def task(context: Context) -> Outcome:
        context.progress(1)
        return note(context)

    with pytest.raises(BrokenPipeError, match="nobody reads"):
        Worker(duckdb_store, {"note": task}, LEASE, listener=leave).run(threads=2)
    assert queue.get(duckdb_store, made.id).state is State.RUNNING
    assert run(duckdb_store, note) == 1


def test_a_worker_that_polls_outlives_a_lost_store(
    duckdb_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.submit(duckdb_store, notes())
    plain, trouble, stop = leases.claim, [], StopSignal()

    def claim(*args: Any) -> Any:
        if len(trouble) < 2:
            raise StoreError("gone")
        return plain(*args)

    monkeypatch.setattr(leases, "claim", claim)
    with pytest.raises(StoreError, match="gone"):
        Worker(duckdb_store, {"note": note}, LEASE).run(poll=0.01)
    polling = Worker(duckdb_store, {"note": note}, LEASE, on_trouble=trouble.append)
    stopper = threading.Timer(20, stop.set)
    stopper.start()
    threading.Thread(target=lambda: wait_for_note(duckdb_store, stop)).start()
    assert polling.run(poll=0.01, stop=stop) == 1
    stopper.cancel()
    assert [str(e) for e in trouble] == ["gone", "gone"]


def wait_for_note(store: Store, stop: StopSignal) -> None:
    while not noted(store) and not stop.wait(0.05):
        pass
    stop.set()


# --- staging -----------------------------------------------------------------------------


def test_staged_work_survives_a_death_and_goes_when_it_is_merged(store: Store) -> None:
    made = queue.submit(store, notes("a", 3))
    found: list[bytes | None] = []

    def task(context: Context) -> Outcome:
        found.append(context.staged("part"))
        context.stage("part", b"half")
        if len(found) == 1:
            raise InputError("not this time")
        assert context.staged("part") == b"half"
        return note(context)

    run(store, task)
    queue.retry(store, made.id)
    assert run(store, task) == 3
    assert found == [None, b"half", None, None]
    assert store.files.unstage(str(made.id)) == 0


def test_what_a_dead_worker_left_of_a_finished_job_is_removed(duckdb_store: Store) -> None:
    made = queue.submit(duckdb_store, notes())
    assert run(duckdb_store, note) == 1
    duckdb_store.files.stage(f"{made.id}/000000", "part", b"left over")
    assert run(duckdb_store, note) == 0
    assert duckdb_store.files.staged(f"{made.id}/000000", "part") is None


# --- the heart ---------------------------------------------------------------------------


def beating(store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception) -> Heart:
    queue.submit(store, notes())
    held = leases.claim(store, "elsewhere:1:1:1", LEASE)
    assert held is not None
    beaten = threading.Event()

    def beat(*_: object) -> None:
        beaten.set()
        raise error

    monkeypatch.setattr(leases, "check", beat)
    monkeypatch.setattr(leases, "renew", beat)
    with Heart(store, held, 0.04, StopSignal()) as heart:
        assert beaten.wait(10)
        time.sleep(0.1)
    return heart


def test_a_heart_bears_a_store_that_is_away(
    duckdb_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    beating(duckdb_store, monkeypatch, StoreError("in use for 600 s")).require()


def test_a_heart_tells_of_a_lost_lease(
    duckdb_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    heart = beating(duckdb_store, monkeypatch, leases.LeaseLostError("gone"))
    with pytest.raises(leases.LeaseLostError, match="gone"):
        heart.require()


def test_a_heart_renews_the_lease_and_tells_of_steps(store: Store) -> None:
    made = queue.submit(store, notes(totals=(9,)))
    held = leases.claim(store, "elsewhere:1:1:1", 0.2)
    assert held is not None
    before = queue.chunks(store, made.id)[0]["lease_until"]
    stop = StopSignal()
    with Heart(store, held, 0.2, stop) as heart:
        heart.steps = 4
        deadline = time.monotonic() + 20
        while queue.chunks(store, made.id)[0]["progress"] != 4:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        heart.require()
        stop.set()
        with pytest.raises(InterruptedWorkError):
            heart.require()
    assert queue.chunks(store, made.id)[0]["lease_until"] > before
