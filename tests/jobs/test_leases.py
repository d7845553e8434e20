"""Who may take a chunk, and who may no longer write."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from uuid import UUID

import pyarrow as pa
import pytest
import sqlalchemy as sa

from gandb.core.errors import JobError
from gandb.jobs import leases, owners, queue
from gandb.jobs.records import Claim, Outcome, State
from gandb.schema.tables import setting
from gandb.store import Store, Transaction
from tests.jobs.stubs import LEASE, noted, notes

A, B = "elsewhere:1:1:1", "elsewhere:2:1:1"


def outcome(name: str) -> Outcome:
    def merge(tx: Transaction) -> None:
        tx.execute(setting.insert(), {"key": name, "value": "done"})

    return Outcome(merge, {})


def claimed(store: Store, owner: str, lease: float = LEASE) -> Claim:
    held = leases.claim(store, owner, lease)
    assert held is not None
    return held


def outcomes(store: Store, job_id: UUID) -> list[str | None]:
    return [attempt["outcome"] for attempt in queue.attempts(store, job_id)]


def test_chunks_are_taken_in_order_and_the_last_one_after_all_others(store: Store) -> None:
    made = queue.submit(store, notes("a", 3))
    first, second = claimed(store, A), claimed(store, B)
    assert [first.chunk, second.chunk] == [0, 1]
    assert leases.claim(store, "elsewhere:3:1:1", LEASE) is None
    assert not leases.any_free(store, "elsewhere:3:1:1", None, None)
    assert not leases.complete(store, first, outcome("0"))
    assert leases.claim(store, A, LEASE) is None
    assert not leases.complete(store, second, outcome("1"))
    assert leases.any_free(store, A, [made.id], ["note"])
    assert leases.complete(store, claimed(store, A), outcome("2"))
    assert queue.get(store, made.id).state is State.DONE


def test_claims_may_be_limited_to_jobs_and_kinds(store: Store) -> None:
    first, second = queue.submit(store, notes("a")), queue.submit(store, notes("b", kind="other"))
    assert leases.claim(store, A, LEASE, kinds=["third"]) is None
    assert leases.claim(store, A, LEASE, only=[]) is None
    held = leases.claim(store, A, LEASE, only=[second.id])
    assert held is not None
    assert held.job.id == second.id
    held = leases.claim(store, B, LEASE, kinds=["note"])
    assert held is not None
    assert held.job.id == first.id


def test_a_slow_worker_that_lost_its_lease_writes_nothing(store: Store) -> None:
    made = queue.submit(store, notes())
    slow = claimed(store, A, lease=0.0)
    fast = claimed(store, B)
    assert (slow.chunk, slow.attempt, fast.attempt) == (0, 1, 2)
    for act in (
        lambda: leases.check(store, slow),
        lambda: leases.renew(store, slow, LEASE),
        lambda: leases.complete(store, slow, outcome("slow")),
        lambda: leases.fail(store, slow, "too slow"),
    ):
        with pytest.raises(
            leases.LeaseLostError, match=r"chunk 0 of job .* has another worker now"
        ):
            act()
    leases.release(store, slow, "lost")
    leases.check(store, fast)
    assert queue.get(store, made.id).state is State.RUNNING
    assert leases.complete(store, fast, outcome("fast"))
    with pytest.raises(leases.LeaseLostError, match="is done by now"):
        leases.fail(store, slow, "too slow")
    assert noted(store) == ["fast"]
    assert queue.get(store, made.id).state is State.DONE


def test_a_lease_that_is_renewed_lasts(store: Store) -> None:
    queue.submit(store, notes())
    held = claimed(store, A, lease=0.0)
    leases.renew(store, held, LEASE)
    assert leases.claim(store, B, LEASE) is None


def test_a_lease_nobody_took_is_still_good(store: Store) -> None:
    queue.submit(store, notes())
    assert leases.complete(store, claimed(store, A, lease=0.0), outcome("late"))


def test_a_cancelled_job_takes_nothing_in(store: Store) -> None:
    made = queue.submit(store, notes())
    held = claimed(store, A)
    queue.cancel(store, made.id)
    for act in (
        lambda: leases.check(store, held),
        lambda: leases.complete(store, held, outcome("0")),
        lambda: leases.fail(store, held, "no"),
    ):
        with pytest.raises(leases.CancelledError):
            act()
    assert noted(store) == []


def test_a_failed_merge_leaves_nothing(store: Store) -> None:
    queue.submit(store, notes())
    held = claimed(store, A)

    def merge(tx: Transaction) -> None:
        tx.execute(setting.insert(), {"key": "half", "value": "done"})
        raise JobError("half way")

    with pytest.raises(JobError, match="half way"):
        leases.complete(store, held, Outcome(merge))
    assert noted(store) == []
    leases.check(store, held)


def test_a_merge_that_cannot_do_with_its_memory_gets_more(store: Store) -> None:
    queue.submit(store, notes())
    held = claimed(store, A)
    tries: list[int] = []

    def merge(tx: Transaction) -> None:
        tries.append(0)
        keys = [f"{i}-{'x' * 100}" for i in range(50_000)]
        tx.append(setting, pa.table({"key": keys, "value": keys}))

    assert leases.complete(store, held, Outcome(merge, memory=1))
    assert len(tries) == (2 if store.kind == "duckdb" else 1)
    with store.read() as connection:
        count = sa.select(sa.func.count()).where(setting.c.key.endswith("x"))
        assert connection.execute(count).scalar() == 50_000


def test_a_chunk_that_kills_its_workers_fails_its_job(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "MAX_LOST", 3)
    made = queue.submit(store, notes("a"))
    other = queue.submit(store, notes("b"))
    for attempt in range(3):
        assert claimed(store, A, lease=0.0).attempt == attempt + 1
    held = claimed(store, A)  # the fourth look at it
    assert held.job.id == other.id
    failed = queue.get(store, made.id)
    assert failed.state is State.FAILED
    assert failed.error is not None
    assert "lost 3 times in a row" in failed.error
    assert outcomes(store, made.id) == ["lost", "lost", "failed"]
    queue.retry(store, made.id)
    assert claimed(store, B, lease=0.0).job.id == made.id
    assert claimed(store, A).job.id == made.id  # the count begins anew


# --- who lives ---------------------------------------------------------------------------


def a_process() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def name_of(pid: int) -> str:
    found = owners._status_of(pid)
    assert found is not None
    return f"{socket.gethostname()}:{pid}:{found[1]}:1"


def test_a_worker_is_dead_when_its_process_ended() -> None:
    process = a_process()
    owner = name_of(process.pid)
    assert not owners.is_dead(owner)
    process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not owners.is_dead(owner):  # at the latest as a zombie: nobody has waited for it yet
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.wait()
    assert owners.is_dead(owner)


def test_a_later_process_of_the_same_number_is_another() -> None:
    host, pid, start, thread = owners.this_worker().rsplit(":", 3)
    assert (host, int(pid)) == (socket.gethostname(), os.getpid())
    assert int(thread) == threading.get_ident()
    assert not owners.is_dead(f"{host}:{pid}:{start}:{thread}")
    assert owners.is_dead(f"{host}:{pid}:{int(start) - 1}:{thread}")
    assert not owners.is_dead(f"{host}:{pid}:0:{thread}")  # start unknown: it may be the same


def test_a_worker_elsewhere_may_live() -> None:
    assert not owners.is_dead("elsewhere.example:999999:1:1")


def test_a_dead_workers_chunk_is_free_at_once(store: Store) -> None:
    process = a_process()
    owner = name_of(process.pid)
    made = queue.submit(store, notes())
    claimed(store, owner)
    assert leases.claim(store, B, LEASE) is None
    process.kill()
    process.wait()
    assert claimed(store, B).attempt == 2
    assert outcomes(store, made.id) == ["lost", None]
    said = [(e["level"], e["message"]) for e in queue.events(store, made.id)]
    assert said[1:] == [("warning", "chunk 0 taken over from a lost worker")]


def test_what_a_worker_held_before_is_free_to_itself(store: Store) -> None:
    queue.submit(store, notes())
    claimed(store, A)
    assert claimed(store, A).attempt == 2
