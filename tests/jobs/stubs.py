"""Jobs that do next to nothing, and what is left of them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from gandb.jobs.records import Context, JobSpec, Outcome
from gandb.schema.tables import setting
from gandb.store import Store, Transaction

LEASE = 60.0


def note(context: Context) -> Outcome:
    """Merge a row that says which chunk was done."""
    key = f"{context.job.spec['name']} {context.chunk}"

    def merge(tx: Transaction) -> None:
        tx.execute(setting.insert(), {"key": key, "value": "done"})

    return Outcome(merge, {"chunk": context.chunk})


def notes(name: str = "a", chunks: int = 1, **changes: Any) -> JobSpec:
    """Ask for `note` in so many chunks."""
    return JobSpec(**{"kind": "note", "spec": {"name": name}, "totals": (1,) * chunks, **changes})


def noted(store: Store) -> list[str]:
    """Return what was merged."""
    with store.read() as connection:
        query = sa.select(setting.c.key).where(setting.c.value == "done").order_by(setting.c.key)
        return [row[0] for row in connection.execute(query)]
