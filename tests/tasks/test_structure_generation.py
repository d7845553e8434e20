"""Crystals that jobs generate, against the same samples drawn outside of any job."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import sqlalchemy as sa

from gandb.core.elements import SYMBOLS
from gandb.core.errors import UsageError
from gandb.datasets import selection, versions
from gandb.datasets.splits import SplitRecipe
from gandb.generators import load
from gandb.generators.structures import StructureData, StructureSamples
from gandb.schema.tables import (
    candidate,
    checkpoint,
    generation_event,
    metric,
    structure,
    structure_symmetry,
)
from gandb.store import Store
from gandb.tasks.data import Checkpoint, checkpoint_of_job, structure_data
from gandb.tasks.generation import generation_job
from gandb.tasks.preparing import symmetry_recipe
from gandb.tasks.records import records_job
from gandb.tasks.structures import crystals
from gandb.tasks.training import training_job
from gandb.tasks.verification import verify_store
from tests.content import differences, dump
from tests.crowds import caesium_chloride, fluorite, perovskite, rocksalt, write
from tests.tasks.labs import make_store, work

spglib = pytest.importorskip("spglib")

SAMPLES, CHUNK = 130, 50
ELEMENTS = [str(symbol) for symbol in SYMBOLS]


def trained(store: Store, folder: Path, model: str) -> Checkpoint:
    """Import textbook crystals and fit a model to those of the train split."""
    names = [("Na", "Cl"), ("K", "Br"), ("Li", "F"), ("Mg", "O"), ("Ca", "S")]
    cells = [make(a, *pair) for a, make in ((5.6, rocksalt), (4.0, caesium_chloride))
             for pair in names]  # fmt: skip
    cells += [fluorite(5.4, metal, "F") for metal in ("Ca", "Sr", "Ba", "Cd")]
    cells += [perovskite(3.9, a, b, "O") for a in ("Sr", "Ba") for b in ("Ti", "Zr")]
    file = folder / "crystals.extxyz"
    written = file if file.exists() else write(folder, "crystals", cells)
    work(store, records_job("textbook", [written], licence="CC0"))
    chosen = selection.by_condition(store, "structure_id IS NOT NULL")
    version, _ = versions.create(store, "crystals", chosen, "all", SplitRecipe((0.6, 0.2, 0.2), 0))
    (job,) = work(store, training_job(model, version, 0))
    return checkpoint_of_job(store, job.id)


def drawn(
    store: Store, found: Checkpoint, seed: int, condition: Mapping[str, Any] | None = None
) -> list[StructureSamples]:
    """Draw a job's samples again, chunk by chunk."""
    with store.read() as connection:
        query = sa.select(checkpoint.c.sha256).where(checkpoint.c.id == found.id)
        sha256 = connection.execute(query).scalar_one()
    generator = load(store.files.get_blob(sha256))
    return [
        generator.sample(
            min(CHUNK, SAMPLES - start), np.random.SeedSequence(seed, spawn_key=(chunk,)), condition
        )
        for chunk, start in enumerate(range(0, SAMPLES, CHUNK))
    ]  # type: ignore[misc]


def test_training_data_are_the_structures_of_the_train_split(
    store_url: str, tmp_path: Path
) -> None:
    store = make_store(store_url, tmp_path)
    found = trained(store, tmp_path, "random_coordinates")
    assert found.dataset_version_id is not None
    data = structure_data(store, found.dataset_version_id)
    query = (
        "SELECT e.structure_id FROM dataset_members AS m JOIN entries AS e "
        "ON e.entry_id = m.entry_id WHERE m.dataset = 'crystals@1' AND m.split = 'train'"
    )
    with store.read() as connection:
        expected = {UUID(str(row[0])) for row in connection.exec_driver_sql(query)}
        everything = dict(crystals(connection))
    assert {c.id for c in data.crystals} == expected
    assert [c.id for c in data.crystals] == sorted(c.id for c in data.crystals)
    assert 0 < len(data) < len(everything)
    assert StructureData.of(data.crystals[::-1]).digest() == data.digest()


@pytest.mark.parametrize("model", ["random_coordinates", "prototype_substitution"])
def test_candidates_are_the_samples(store_url: str, tmp_path: Path, model: str) -> None:
    store = make_store(store_url, tmp_path)
    found = trained(store, tmp_path, model)
    jobs = work(store, *(generation_job(found, SAMPLES, s, chunk_size=CHUNK) for s in (0, 1)))
    times: Counter[UUID] = Counter()
    events: dict[tuple[UUID, int, UUID], list[Any]] = {}
    for job, seed in zip(jobs, (0, 1), strict=True):
        row = 0
        for chunk, samples in enumerate(drawn(store, found, seed)):
            for record, group, formula in zip(
                samples.crystals, samples.space_groups.tolist(), samples.formulas, strict=True
            ):
                if record is not None:
                    times[record.id] += 1
                    said = [0, row, group or None, formula]
                    events.setdefault((job.id, chunk, record.id), said)[0] += 1
                row += 1
    with store.read() as connection:
        rows = connection.execute(
            sa.select(candidate).where(candidate.c.checkpoint_id == found.id)
        ).mappings().all()  # fmt: skip
        structures = {row["id"]: row["structure_id"] for row in rows}
        assert {row["structure_id"]: row["times_generated"] for row in rows} == times
        stored = {
            (e.job_id, e.chunk, structures[e.candidate_id]): [
                e.times, e.first_index, e.requested_space_group, e.requested_formula
            ]
            for e in connection.execute(sa.select(generation_event)).all()
        }  # fmt: skip
        assert stored == events
        by_id = dict(crystals(connection, structure.c.id.in_(list(times))))
        assert by_id.keys() == times.keys()
        assert all(own == record.id for own, record in by_id.items())
        values = dict(
            connection.execute(
                sa.select(metric.c.name, metric.c.value).where(metric.c.job_id == jobs[0].id)
            ).all()
        )
    own = [key[2] for key in events if key[0] == jobs[0].id]
    accepted = sum(e[0] for key, e in events.items() if key[0] == jobs[0].id)
    assert values["uniqueness"] == pytest.approx(len(set(own)) / SAMPLES)
    assert values["rejected"] == pytest.approx(1 - accepted / SAMPLES)
    assert not [f for f in verify_store(store) if f["problems"]]


def test_symmetry_is_found_at_both_tolerances(store_url: str, tmp_path: Path) -> None:
    store = make_store(store_url, tmp_path)
    found = trained(store, tmp_path, "prototype_substitution")
    work(store, generation_job(found, 40, 0))
    with store.read() as connection:
        own = sa.select(candidate.c.structure_id)
        records = dict(crystals(connection, structure.c.id.in_(own)))
        for symprec in (0.01, 0.1):
            table = structure_symmetry.c
            query = sa.select(table.structure_id, table.space_group_number).where(
                table.recipe_id == symmetry_recipe(symprec)["id"], table.structure_id.in_(own)
            )
            groups = dict(connection.execute(query).all())
            assert groups.keys() == records.keys()
            for key, record in records.items():
                cell = (
                    record.lattice,
                    record.frac_coords,
                    [ELEMENTS.index(s) for s in record.species],
                )
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # spglib's own
                    expected = spglib.get_symmetry_dataset(cell, symprec)
                assert groups[key] == expected.number


def test_the_same_work_leaves_the_same_content(tmp_path: Path) -> None:
    dumps = []
    for number in range(2):
        store = make_store(str(tmp_path / f"store{number}"), tmp_path)
        found = trained(store, tmp_path, "random_coordinates")
        work(store, generation_job(found, SAMPLES, 7, chunk_size=CHUNK), threads=1 + number)
        dumps.append(dump(store))
    assert not differences(*dumps)


def test_what_is_asked_for_is_kept_and_what_cannot_be_is_refused(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    found = trained(store, tmp_path, "prototype_substitution")
    assert found.dataset_version_id is not None
    data = structure_data(store, found.dataset_version_id)
    asked = sorted(next(set(c.species) for c in data.crystals if len(set(c.species)) == 2))
    (job,) = work(store, generation_job(found, 30, 0, condition={"elements": asked}))
    with store.read() as connection:
        event = generation_event.c
        query = sa.select(event.requested_formula).where(event.job_id == job.id).distinct()
        assert connection.scalars(query).all() == ["-".join(asked)]
        systems = sa.select(candidate.c.chemical_system).distinct()
        assert connection.scalars(systems).all() == ["-".join(asked)]
    for condition, words in (
        ({"elements": ["K", "Xy"]}, "no element"),
        ({"elements": []}, "give a list"),
        ({"elements": ["K"], "composition": "KCl"}, "not for both"),
        ({"composition": "K0"}, "cannot read"),
        ({"space_group": 231}, "from 1 to 230"),
        ({"band_gap": [1, 2]}, "cannot be asked"),
    ):
        with pytest.raises(UsageError, match=words):
            generation_job(found, 30, 0, condition=condition)
