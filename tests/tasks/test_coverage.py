"""Coverage and Wasserstein distances as jobs, against the published steps by scipy."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import sqlalchemy as sa

from gandb.core.crystals import Crystal
from gandb.core.errors import JobError, NotFoundError, UsageError
from gandb.core.pool import Pool
from gandb.datasets import selection, versions
from gandb.jobs import queue
from gandb.representations.pymatgen_structures import to_structure
from gandb.schema import tables
from gandb.store import Store
from gandb.tasks import fingerprinting
from gandb.tasks.candidates import candidates_job
from gandb.tasks.coverage import CoverageOptions, coverage_job, find_energies
from gandb.tasks.fingerprinting import Fingerprints, fingerprints_job
from gandb.tasks.judged_sets import find_set
from gandb.tasks.records import records_job
from gandb.tasks.rows import recipe_row
from gandb.validation.coverage import Cutoffs
from gandb.validation.fingerprints import fingerprints, scaled
from tests.crowds import BASES, cell, fluorite, records, rocksalt, rutile, write
from tests.tasks.labs import make_store, work
from tests.tasks.test_structure_checks import BAD

pytest.importorskip("matminer")
distance = pytest.importorskip("scipy.spatial.distance")
stats = pytest.importorskip("scipy.stats")

SALT = rocksalt(5.7, "Na", "Cl")
HEAVY = cell(5.0 * np.eye(3), "Bk O", [[0, 0, 0], [0.5, 0.5, 0.5]])  # has no fingerprint
CANDIDATES = [
    SALT, SALT, rocksalt(5.2, "Li", "Cl"), HEAVY, fluorite(5.4, "Ca", "F"),
    cell(3.0 * np.eye(3), "Po", [[0, 0, 0]]), rocksalt(4.0, "Fe", "N"),
]  # fmt: skip
REAL = [*BASES[:3], BASES[6], BASES[10], BASES[12], rutile(4.6, 2.9, 0.3, "Sn", "O"), HEAVY]
CUT = Cutoffs(0.4, 10.0)


KEPT: dict[UUID, tuple[np.ndarray, np.ndarray]] = {}


def kept(crystal: Crystal) -> tuple[np.ndarray, np.ndarray]:
    """Work out fingerprints once for all tests."""
    if crystal.id not in KEPT:
        KEPT[crystal.id] = fingerprints(crystal)
    return KEPT[crystal.id]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in this process, where matminer is loaded."""
    monkeypatch.setattr(fingerprinting, "Pool", lambda work, *_: Pool(work, 0))
    monkeypatch.setattr(fingerprinting, "fingerprints", kept)


def fill(store: Store, folder: Path) -> None:
    (folder / "bad.cif").write_text(BAD)
    work(store, candidates_job("gen", [write(folder, "gen", CANDIDATES), folder / "bad.cif"]))
    work(store, records_job("mine", [write(folder, "real", REAL)]))
    versions.create(store, "d", selection.by_condition(store, "source = 'mine'"), "all")


def compared(store: Store, most: int = 100, **options: Any) -> dict[str, Any]:
    """Compare; return the job's result with its metrics by name: number and value."""
    sets = find_set(store, "gen"), find_set(store, "d@1")
    prints = work(store, *(fingerprints_job(own, most) for own in sets))
    wanted = CoverageOptions(cutoffs=CUT, **options)
    (job,) = work(store, coverage_job(*sets, (prints[0].id, prints[1].id), wanted))
    metric = tables.metric.c
    with store.read() as connection:
        rows = connection.execute(
            sa.select(metric.name, metric.step, metric.value).where(metric.job_id == job.id)
        ).all()
    return dict(queue.chunks(store, job.id)[0]["result"]) | {
        "metrics": {name: (step, value) for name, step, value in rows}
    }


@pytest.mark.usefixtures("here")
def test_coverage_is_that_of_the_published_steps(store_url: str, tmp_path: Path) -> None:
    store = make_store(store_url, tmp_path)
    fill(store, tmp_path)
    found = compared(store)
    # One of eight records is none, one has no fingerprint.
    assert (found["samples"], found["with_structure"], found["compared"]) == (8, 7, 7)
    (why,) = found["failures"]
    assert found["failures"] == found["reference_failures"] == {why: 1}
    generated = [kept(c.crystal()) for c in CANDIDATES if c is not HEAVY]
    real = [kept(c.crystal()) for c in REAL if c is not HEAVY]
    far = [
        distance.cdist(np.array([f[0] for f in generated]), np.array([f[0] for f in real])),
        distance.cdist(
            scaled(np.array([f[1] for f in generated])), scaled(np.array([f[1] for f in real]))
        ),
    ]
    metrics = found["metrics"]
    precise = (far[0].min(1) <= CUT.structure) & (far[1].min(1) <= CUT.composition)
    recalled = (far[0].min(0) <= CUT.structure) & (far[1].min(0) <= CUT.composition)
    near = (far[0] <= CUT.structure) & (far[1] <= CUT.composition)
    assert 0 < precise.sum() < 6
    expected = {
        "coverage_precision": (8, precise.sum() / 8),
        "coverage_recall": (7, recalled.mean()),
        "coverage_joint_precision": (8, near.any(1).sum() / 8),
        "coverage_joint_recall": (7, near.any(0).mean()),
        "coverage_mean_structure_to_reference": (6, far[0].min(1).mean()),
        "coverage_mean_composition_to_generated": (7, far[1].min(0).mean()),
    }
    for name, (n, value) in expected.items():
        assert metrics[name] == (n, pytest.approx(value, abs=1e-7))
    # Valid: all that have a fingerprint, as charges balance, or metals are among themselves.
    valid = [c.crystal() for c in CANDIDATES if c is not HEAVY]
    assert (found["valid"], found["chosen"]) == (6, 6)
    for name, of in (
        ("density", lambda c: float(to_structure(c).density)),
        ("n_elements", lambda c: len(c.counts())),
    ):
        far_apart = stats.wasserstein_distance(
            [of(c) for c in valid], [of(c.crystal()) for c in REAL]
        )
        assert metrics[f"wasserstein_{name}"] == (6, pytest.approx(far_apart))
    assert "wasserstein_energy" not in metrics


@pytest.mark.usefixtures("here")
def test_chunks_and_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How chunks are cut changes nothing; of a part, the share among it is told for all."""
    store = make_store(str(tmp_path / "store"), tmp_path)
    fill(store, tmp_path)
    whole = compared(store)
    spec = fingerprints_job(find_set(store, "gen"), 100)
    assert queue.submit(store, spec).state.value == "done"  # it is not worked out again
    one = Fingerprints.of_job(store, spec.id)
    monkeypatch.setattr(fingerprinting, "CHUNK", 2)
    (job,) = work(store, fingerprints_job(find_set(store, "gen"), 100))
    assert job.id != spec.id
    two = Fingerprints.of_job(store, job.id)
    assert (one.ids == two.ids).all()
    assert np.array_equal(one.structures, two.structures, equal_nan=True)
    assert one.failures == two.failures
    part = compared(store, most=4, samples=2, seed=1)
    assert part["chosen"] == 2
    assert part["compared"] < whole["compared"]
    assert part["metrics"]["coverage_precision"][0] == 8
    # A part that covered the reference entirely would stand for all samples that are crystals.
    assert part["metrics"]["coverage_precision"][1] <= 7 / 8


@pytest.mark.usefixtures("here")
def test_energies_of_a_relaxation_are_compared(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    fill(store, tmp_path)
    recipe = recipe_row("relaxation", "1", {"potential": "none"})
    energies = {own: -1.0 - k / 10 for k, own in enumerate(sorted(records(store)))}
    with store.write() as tx:
        tx.insert_new(tables.recipe, recipe)
        for own, energy in energies.items():
            tx.execute(
                tables.relaxation.insert(),
                {
                    "recipe_id": recipe["id"],
                    "structure_id": UUID(own),
                    "initial_energy_per_atom": energy,
                },
            )
    found = compared(store, energies=find_energies(store, str(recipe["id"])[:8]))
    by_id = {own: energies[own] for own in energies}
    mine = [by_id[str(c.crystal().id)] for c in CANDIDATES if c is not HEAVY]
    theirs = [by_id[str(c.crystal().id)] for c in REAL]
    n, value = found["metrics"]["wasserstein_energy"]
    assert n == 6
    assert value == pytest.approx(stats.wasserstein_distance(mine, theirs))
    for wrong in ("", "zz"):
        with pytest.raises(NotFoundError, match="relaxation recipe"):
            find_energies(store, wrong)


def test_what_takes_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that do not answer in time are ended, and the rest goes on."""
    store = make_store(str(tmp_path / "store"), tmp_path)
    work(store, candidates_job("gen", [write(tmp_path, "gen", CANDIDATES[:3])]))
    monkeypatch.setattr(fingerprinting, "LIMIT", 0.05)
    spec = fingerprints_job(find_set(store, "gen"), 100)
    (job,) = work(store, spec)
    (chunk,) = queue.chunks(store, job.id)
    assert chunk["result"]["failures"] == {"took longer than 0.05 s": 2}
    held = Fingerprints.of_job(store, job.id)
    assert np.isnan(held.structures).all()


def test_what_cannot_be_is_told(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    work(store, candidates_job("gen", [write(tmp_path, "gen", CANDIDATES[:2])]))
    own = find_set(store, "gen")
    with pytest.raises(UsageError, match="too few"):
        fingerprints_job(own, 0)
    with pytest.raises(UsageError, match="cut-off of structure"):
        CoverageOptions(cutoffs=Cutoffs(0.0, 1.0))
    with pytest.raises(UsageError, match="samples"):
        CoverageOptions(samples=0)
    job = queue.submit(store, fingerprints_job(own, 10))
    with pytest.raises(JobError, match="not done"):
        Fingerprints.of_job(store, job.id)
