"""How candidates enter a store: new ones as rows, known ones by adding to what was counted."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from gandb.schema import tables
from gandb.store import Transaction

CANDIDATE_FACTS = (
    "reduced_formula", "chemical_system", "anonymous_formula", "elements", "n_elements", "n_atoms",
)  # fmt: skip
"""Columns of a candidate that follow from its composition."""


def take_candidates(tx: Transaction, candidates: pa.Table, events: pa.Table) -> None:
    """Write candidates with the events that made them.

    Args:
        tx: the transaction that also marks their chunk as done, since redoing it would count again.
        candidates: distinct rows of ``candidate``, with ``times_generated`` as the events add up.
        events: rows of ``generation_event``.
    """
    absent = pa.array(tx.absent(tables.candidate, candidates))
    _count_again(tx, candidates.filter(pc.invert(absent)))
    tx.append(tables.candidate, candidates.filter(absent))
    tx.append(tables.generation_event, events)


def _count_again(tx: Transaction, known: pa.Table) -> None:
    """Add to the candidates that are there already."""
    if not known.num_rows:
        return
    stage = tx.stage(tables.candidate, known.select(["id", "cnen_matgan", "times_generated"]))
    tx.connection.exec_driver_sql(
        "UPDATE candidate SET times_generated = candidate.times_generated + s.times_generated, "
        "cnen_matgan = candidate.cnen_matgan OR s.cnen_matgan "
        f"FROM {stage} AS s WHERE candidate.id = s.id"
    )
    tx.unstage(stage)
