"""Reports read from a store."""

from __future__ import annotations

from pathlib import Path

from gandb.reports import page
from gandb.reports.collect import collect
from gandb.schema.tables import dataset_base, dataset_change
from tests.filled import fill


def test_a_training_set_that_was_not_shared_is_named_alone(tmp_path: Path) -> None:
    filled = fill(str(tmp_path / "store"), tmp_path / "files")
    with filled.store.write() as tx:
        tx.execute(dataset_base.delete())
        tx.execute(dataset_change.delete())
    report = collect(filled.store, filled.jobs)
    assert {run.dataset for run in report.runs} == {filled.dataset.reference}
    assert not report.datasets
    assert all(run.checks and run.uniqueness and not run.divergences for run in report.runs)
    assert filled.dataset.reference in page.render(report)
