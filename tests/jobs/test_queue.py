"""Asking for jobs, finding, cancelling and retrying them."""

from __future__ import annotations

import datetime as dt
import threading
from uuid import UUID

import pytest
import sqlalchemy as sa

from gandb import __version__
from gandb.core.errors import JobError, NotFoundError, UsageError
from gandb.jobs import leases, queue
from gandb.jobs.records import State
from gandb.jobs.worker import Worker
from gandb.schema.tables import job
from gandb.store import Store
from tests.jobs.stubs import LEASE, note, noted, notes


def of_version(store: Store, job_id: UUID, version: str) -> None:
    with store.write() as tx:
        tx.execute(sa.update(job).where(job.c.id == job_id).values(code_version=version))


def test_the_same_work_asked_for_twice_is_one_job(store: Store) -> None:
    first = queue.submit(store, notes("a", 2))
    assert queue.submit(store, notes("a", 2)) == first
    assert first.state is State.QUEUED
    other = queue.submit(store, notes("a", 3))
    assert other.id != first.id
    assert {row["job_id"] for row in queue.listing(store)} == {first.id, other.id}
    assert len(queue.chunks(store, first.id)) == 2


def test_asked_for_by_many_at_once_it_is_one_job(store: Store) -> None:
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            queue.submit(store, notes("a", 3))
        except BaseException as error:  # noqa: BLE001 - looked at below
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    (row,) = queue.listing(store)
    assert row["n_chunks"] == len(queue.chunks(store, row["job_id"])) == 3


def test_find_names_what_exists(duckdb_store: Store) -> None:
    made = queue.submit(duckdb_store, notes())
    assert queue.find(duckdb_store, made.short_id.upper()) == made
    with pytest.raises(NotFoundError, match=f"known: {made.short_id}"):
        queue.find(duckdb_store, "0123456789")
    with pytest.raises(UsageError, match="at least 4 digits"):
        queue.find(duckdb_store, made.short_id[:3])


def test_listing_counts_steps(store: Store) -> None:
    made = queue.submit(store, notes("a", totals=(5, 7, 1)))
    held = leases.claim(store, "here:1:1:1", LEASE)
    assert held is not None
    leases.renew(store, held, LEASE, progress=3)
    (row,) = queue.listing(store, state="running", kind="note")
    assert (row["steps_done"], row["steps"], row["chunks_done"]) == (3, 13, 0)
    leases.complete(store, held, note_outcome())
    (row,) = queue.listing(store)
    assert (row["steps_done"], row["steps"], row["chunks_done"]) == (5, 13, 1)
    assert queue.listing(store, state="done") == []
    assert queue.listing(store, kind="other") == []
    with store.read() as connection:
        assert queue.chunk_results(connection, made.id) == [{"n": 1}]


def note_outcome() -> leases.Outcome:
    return leases.Outcome(lambda tx: None, {"n": 1})


def test_cancel_and_retry(store: Store) -> None:
    made = queue.submit(store, notes("a", 3))
    held = leases.claim(store, "here:1:1:1", LEASE)
    assert held is not None
    leases.complete(store, held, note_outcome())
    queue.cancel(store, made.id)
    assert queue.get(store, made.id).state is State.CANCELLED
    with pytest.raises(JobError, match="is cancelled; there is nothing to cancel"):
        queue.cancel(store, made.id)
    assert Worker(store, {"note": note}, LEASE).run() == 0
    assert queue.submit(store, notes("a", 3)).state is State.CANCELLED
    assert queue.retry(store, made.id).state is State.QUEUED
    with pytest.raises(JobError, match="is queued; only failed or cancelled"):
        queue.retry(store, made.id)
    assert Worker(store, {"note": note}, LEASE).run() == 2  # the chunk that was done stays done
    assert noted(store) == ["a 1", "a 2"]
    with pytest.raises(JobError, match="is done; there is nothing to cancel"):
        queue.cancel(store, made.id)
    said = [event["message"] for event in queue.events(store, made.id)]
    assert said == ["note asked for", "cancelled", "asked for again", "done"]


def test_a_job_cancelled_at_work_can_be_retried_while_its_worker_lives(store: Store) -> None:
    made = queue.submit(store, notes())
    slow = leases.claim(store, "elsewhere:1:1:1", LEASE)
    assert slow is not None
    queue.cancel(store, made.id)
    queue.retry(store, made.id)
    with pytest.raises(leases.LeaseLostError):
        leases.complete(store, slow, note_outcome())
    assert Worker(store, {"note": note}, LEASE).run() == 1
    leases.release(store, slow, "cancelled")
    assert queue.get(store, made.id).state is State.DONE
    outcomes = [a["outcome"] for a in queue.attempts(store, made.id)]
    assert outcomes == ["cancelled", "done"]


# --- other versions of gandb -------------------------------------------------------------


def test_another_versions_job_blocks_nobody(store: Store) -> None:
    foreign = queue.submit(store, notes("foreign", 2))
    of_version(store, foreign.id, "0.0.1")
    queue.submit(store, notes("own"))
    assert Worker(store, {"note": note}, LEASE).run() == 1
    assert noted(store) == ["own 0"]
    assert [j.id for j in queue.of_other_versions(store)] == [foreign.id]
    message = rf"begun by gandb 0\.0\.1, this is {__version__}"
    with pytest.raises(JobError, match=message):
        Worker(store, {"note": note}, LEASE, only=[foreign.id]).run()
    assert queue.get(store, foreign.id).state is State.QUEUED


def test_another_versions_job_is_adopted_before_anything_is_done(duckdb_store: Store) -> None:
    store = duckdb_store
    made = queue.submit(store, notes("a", 2))
    of_version(store, made.id, "0.0.1")
    store.files.stage(f"{made.id}/000000", "state", b"of another version")
    held = queue.submit(store, notes("a", 2))
    assert held.code_version == __version__
    assert store.files.staged(f"{made.id}/000000", "state") is None
    assert Worker(store, {"note": note}, LEASE).run() == 2


def test_another_versions_chunks_are_not_mixed_with_ours(duckdb_store: Store) -> None:
    store = duckdb_store
    made = queue.submit(store, notes("a", 3))
    held = leases.claim(store, "here:1:1:1", LEASE)
    assert held is not None
    leases.complete(store, held, note_outcome())
    of_version(store, made.id, "0.0.1")
    assert queue.submit(store, notes("a", 3)).code_version == "0.0.1"
    queue.cancel(store, made.id)
    with pytest.raises(JobError, match=r"Finish it with gandb 0\.0\.1"):
        queue.retry(store, made.id)


def test_what_was_done_lately(duckdb_store: Store) -> None:
    made = queue.submit(duckdb_store, notes())
    assert queue.done_within(duckdb_store, dt.timedelta(days=1)) == []
    Worker(duckdb_store, {"note": note}, LEASE).run()
    assert queue.done_within(duckdb_store, dt.timedelta(days=1)) == [made.id]
    assert queue.done_within(duckdb_store, dt.timedelta(0)) == []
