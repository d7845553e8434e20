"""Reading from a store what was said of all candidates of a checkpoint: S.U.N., and coverage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

import sqlalchemy as sa

from gandb.core.errors import NotFoundError, UsageError
from gandb.jobs.queue import chunk_results
from gandb.jobs.records import State
from gandb.reports.crystal_metrics import generator_label
from gandb.reports.judgement_records import Coverage, Judgements, Stable
from gandb.reports.records import Role
from gandb.reports.sun import sun_table
from gandb.schema import tables
from gandb.store import Store
from gandb.tasks import data
from gandb.tasks.coverage import KIND as COVERAGE
from gandb.tasks.reference_names import ReferenceNames


def collect_judgements(store: Store, checkpoints: Iterable[UUID]) -> Judgements:
    """Gather what is known of checkpoints; what was not judged is left out.

    Args:
        store: where it is.
        checkpoints: their ids; all candidates of each are counted, as they were judged last.
    """
    known = {c.id: c for c in data.list_checkpoints(store)}
    wanted = [known[own] for own in dict.fromkeys(checkpoints)]
    wanted.sort(key=lambda c: (c.role == Role.BASELINE.value, c.model, c.seed))
    stable = []
    for own in wanted:
        try:
            table = sun_table(store, own)
        except (NotFoundError, UsageError):
            continue  # not judged, or not in one way
        if table.relaxed:
            stable.append(Stable(_label(own, wanted), _role(own), table))
    return Judgements(tuple(stable), tuple(_coverage(store, wanted, known)))


def _coverage(
    store: Store, wanted: Sequence[data.Checkpoint], known: dict[UUID, data.Checkpoint]
) -> list[Coverage]:
    """Return the newest comparison of each checkpoint with each set, made in one way."""
    job, metric = tables.job.c, tables.metric.c
    by_id = {own.id: own for own in wanted}
    query = (
        sa.select(job.id, job.checkpoint_id, job.spec)
        .where(
            job.kind == COVERAGE,
            job.state == State.DONE.value,
            job.checkpoint_id.in_(by_id),
        )
        .order_by(job.finished_at.desc(), job.id)
    )
    found: dict[tuple[str, UUID], Coverage] = {}
    with store.read() as connection:
        names = ReferenceNames(connection, known)
        for row in connection.execute(query).all():
            (result,) = chunk_results(connection, row.id)
            own = by_id[row.checkpoint_id]
            against = names.argument(row.spec["against"])
            alike = f"{against}, cut-offs {_cutoffs(row.spec['cutoffs'])}"
            values = connection.execute(
                sa.select(metric.name, metric.value).where(metric.job_id == row.id)
            ).all()
            found.setdefault(
                (alike, own.id),
                Coverage(
                    label=_label(own, wanted),
                    role=_role(own),
                    against=alike,
                    n_samples=int(result["samples"]),
                    n_compared=int(result["compared"]),
                    n_valid=int(result["chosen"]),
                    n_reference=int(result["reference"]),
                    recipe=result["recipe_id"],
                    values={name: float(value) for name, value in values},
                ),
            )
    order = {own.id: place for place, own in enumerate(wanted)}
    return [found[key] for key in sorted(found, key=lambda key: (key[0], order[key[1]]))]


def _cutoffs(cutoffs: dict[str, float]) -> str:
    return " and ".join(f"{name} {value:g}" for name, value in cutoffs.items())


def _role(own: data.Checkpoint) -> Role:
    return Role.BASELINE if own.role == Role.BASELINE.value else Role.MODEL


def _label(own: data.Checkpoint, others: Sequence[data.Checkpoint]) -> str:
    """Name a checkpoint: model and training set, and its seed or id where that does not do."""
    label = generator_label(own.model) + (f", {own.dataset}" if own.dataset else "")
    alike = [c for c in others if (c.model, c.dataset) == (own.model, own.dataset)]
    if len(alike) == 1:
        return label
    seeds = len({c.seed for c in alike}) == len(alike)
    return f"{label}, seed {own.seed}" if seeds else f"{label}, {own.short_id}"
