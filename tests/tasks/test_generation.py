"""Candidates, events and metrics, against samples counted one by one."""

from __future__ import annotations

from collections import Counter
from math import gcd
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import sqlalchemy as sa

from gandb.core.elements import SYMBOLS
from gandb.datasets.versions import members_query, resolve
from gandb.generators import load
from gandb.jobs import queue
from gandb.jobs.worker import Worker
from gandb.schema.tables import (
    candidate,
    check_result,
    checkpoint,
    composition,
    entry,
    generation_event,
    metric,
    recipe,
)
from gandb.tasks import TASKS
from gandb.tasks.data import find_checkpoint
from gandb.tasks.generation import generation_job
from gandb.validation.charge import CNEN
from tests.content import dump
from tests.tasks.labs import CHUNK, MODELS, SAMPLES, Lab, make_lab, work

pymatgen = pytest.importorskip("pymatgen.core")

Key = frozenset[tuple[str, int]]


def reduce(counts: dict[str, int]) -> tuple[Key, int]:
    divisor = gcd(*counts.values())
    return frozenset((e, n // divisor) for e, n in counts.items()), divisor


def key_of(formula: str) -> Key:
    """Read a formula with pymatgen; customary forms such as K2O2 are reduced."""
    counts = pymatgen.Composition(formula).get_el_amt_dict()
    return reduce({element: int(n) for element, n in counts.items()})[0]


def sampled(lab: Lab, model: str, seed: int) -> list[tuple[Key, int] | None]:
    """Draw a job's samples again: composition and formula units of each, None if rejected."""
    with lab.store.read() as connection:
        found = lab.checkpoints[model].id
        query = sa.select(checkpoint.c.sha256).where(checkpoint.c.id == found)
        sha256 = connection.execute(query).scalar_one()
    generator = load(lab.store.files.get_blob(sha256))
    drawn: list[tuple[Key, int] | None] = []
    for chunk, start in enumerate(range(0, SAMPLES, CHUNK)):
        stream = np.random.SeedSequence(seed, spawn_key=(chunk,))
        samples = generator.sample(min(CHUNK, SAMPLES - start), stream)
        for numbers, counts in zip(samples.atomic_numbers, samples.counts, strict=True):
            pairs = zip(numbers.tolist(), counts.tolist(), strict=True)
            parts = {str(SYMBOLS[z]): n for z, n in pairs if n}
            drawn.append(reduce(parts) if parts else None)
    return drawn


def formulas(lab: Lab, reference: str, split: str | None = None) -> set[Key]:
    """Return the compositions of a dataset version, as pymatgen reads its formulas."""
    members = members_query(resolve(lab.store, reference).id).subquery()
    query = sa.select(entry.c.formula).join(members, members.c.entry_id == entry.c.id)
    if split is not None:
        query = query.where(members.c.split == split)
    with lab.store.read() as connection:
        rows = connection.execute(query).all()
    return {key_of(row[0]) for row in rows}


def metrics(lab: Lab, job_id: UUID) -> dict[tuple[str, int], float]:
    query = sa.select(metric.c.name, metric.c.step, metric.c.value).where(metric.c.job_id == job_id)
    with lab.store.read() as connection:
        return {(name, step): value for name, step, value in connection.execute(query)}


def verdicts(lab: Lab) -> dict[str, dict[Key, bool]]:
    """Return the standard verdicts by rule and composition, from `check_result`."""
    query = (
        sa.select(recipe.c.check_name, composition.c.reduced_formula, check_result.c.passed)
        .join(recipe, recipe.c.id == check_result.c.recipe_id)
        .join(composition, composition.c.id == check_result.c.subject_id)
        .where(recipe.c.check_name.in_(CNEN))
    )
    found: dict[str, dict[Key, bool]] = {name: {} for name in CNEN}
    with lab.store.read() as connection:
        for name, formula, passed in connection.execute(query):
            found[name][key_of(formula)] = passed
    return found


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("model", MODELS)
def test_metrics_are_what_counting_samples_gives(lab: Lab, model: str, seed: int) -> None:
    drawn = sampled(lab, model, seed)
    good = [sample for sample in drawn if sample is not None]
    keys = {key for key, _ in good}
    known, held_out = formulas(lab, "d@1"), formulas(lab, "d@1", "test")
    passed = verdicts(lab)
    expected: dict[tuple[str, int], float] = {}
    n = len(drawn)
    for at in (1000, 2000, 2300):
        seen = {sample[0] for sample in drawn[:at] if sample is not None}
        expected["uniqueness", at] = len(seen) / at
        expected["novelty", at] = len(seen - known) / len(seen)
    as_reduced = {key for key, units in good if units == 1}
    for name in CNEN:
        only = as_reduced if name == "cnen_matgan" else keys
        expected[f"unique.{name}", n] = sum(passed[name][k] for k in only) / len(keys)
        counted = [k for k, units in good if units == 1 or name != "cnen_matgan"]
        expected[name, n] = sum(passed[name][k] for k in counted) / n
    several = [key for key, _ in good if len(key) > 1]
    expected["cnen_strict_multi", n] = sum(passed["cnen_strict"][k] for k in several) / len(several)
    expected["recovery", n] = len(keys & held_out) / len(held_out)
    expected["rejected", n] = (n - len(good)) / n
    expected["one_element", n] = (len(good) - len(several)) / n
    expected["reducible", n] = sum(units > 1 for _, units in good) / n
    found = metrics(lab, lab.jobs[model, seed].id)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-12)
    assert found["reducible", n] > 0
    assert 0 < found["uniqueness", n] < 1


@pytest.mark.parametrize("model", MODELS)
def test_candidates_are_the_distinct_samples_of_all_jobs(lab: Lab, model: str) -> None:
    times: Counter[Key] = Counter()
    as_reduced: set[Key] = set()
    for seed in (0, 1):
        for sample in sampled(lab, model, seed):
            if sample is not None:
                times[sample[0]] += 1
                as_reduced |= {sample[0]} if sample[1] == 1 else set()
    known, passed = formulas(lab, "d@1"), verdicts(lab)
    with lab.store.read() as connection:
        query = sa.select(candidate).where(candidate.c.checkpoint_id == lab.checkpoints[model].id)
        rows = connection.execute(query).mappings().all()
    assert len(rows) == len(times)
    for row in rows:
        key = key_of(row["reduced_formula"])
        assert row["times_generated"] == times[key]
        assert row["novel"] == (key not in known)
        assert row["cnen_strict"] == passed["cnen_strict"][key]
        assert row["cnen_default"] == passed["cnen_default"][key]
        assert row["cnen_matgan"] == (passed["cnen_matgan"][key] and key in as_reduced)
        assert row["elements"] == sorted(e for e, _ in key)


@pytest.mark.parametrize("model", MODELS)
def test_events_add_up_and_name_the_first_sample(lab: Lab, model: str) -> None:
    job = lab.jobs[model, 1]
    expected: dict[tuple[int, Key, int], tuple[int, int]] = {}
    for i, sample in enumerate(sampled(lab, model, 1)):
        if sample is not None:
            place = (i // CHUNK, *sample)
            first, times = expected.get(place, (i, 0))
            expected[place] = (first, times + 1)
    query = (
        sa.select(generation_event, candidate.c.reduced_formula)
        .join(candidate, candidate.c.id == generation_event.c.candidate_id)
        .where(generation_event.c.job_id == job.id)
    )
    found: dict[Any, tuple[int, int]] = {}
    with lab.store.read() as connection:
        for row in connection.execute(query).mappings():
            key = key_of(row["reduced_formula"])
            found[row["chunk"], key, row["formula_units"]] = (row["first_index"], row["times"])
    assert found == expected


def test_copies_of_verdicts_equal_the_results(lab: Lab) -> None:
    with lab.store.read() as connection:
        for name in CNEN:
            query = (
                sa.select(sa.func.count())
                .select_from(composition)
                .outerjoin(check_result, check_result.c.subject_id == composition.c.id)
                .join(recipe, recipe.c.id == check_result.c.recipe_id)
                .where(recipe.c.check_name == name, check_result.c.passed == composition.c[name])
            )
            agreeing = connection.execute(query).scalar_one()
            everything = connection.execute(
                sa.select(sa.func.count()).select_from(composition)
            ).scalar_one()
            assert agreeing == everything > 0


def test_novelty_against_another_version(lab: Lab) -> None:
    gapped = formulas(lab, "gapped@1")
    for model in MODELS:
        keys = {s[0] for seed in (0, 1) for s in sampled(lab, model, seed) if s is not None}
        (row,) = [
            r for r in queue.listing(lab.store, kind="novelty")
            if queue.get(lab.store, r["job_id"]).checkpoint_id == lab.checkpoints[model].id
        ]  # fmt: skip
        result = queue.chunks(lab.store, row["job_id"])[0]["result"]
        assert result["candidates"] == len(keys)
        assert result["novel"] == len(keys - gapped)
        assert result["reference"] == len(gapped)
        query = (
            sa.select(composition.c.reduced_formula, check_result.c.passed, check_result.c.reason)
            .join(composition, composition.c.id == check_result.c.subject_id)
            .where(check_result.c.recipe_id == UUID(result["recipe_id"]))
        )
        with lab.store.read() as connection:
            rows = connection.execute(query).all()
        assert len(rows) >= len(keys)
        for formula, passed, reason in rows:
            known = key_of(formula) in gapped
            assert (passed, reason) == (
                not known, "known composition" if known else "new composition",
            )  # fmt: skip


def test_metrics_do_not_depend_on_which_job_came_first(
    lab: Lab, tables: list[Path], tmp_path: Path
) -> None:
    other = make_lab(str(tmp_path / "store"), tmp_path, tables, seeds=(1, 0))
    assert dump(other.store) == dump(lab.store)


def test_damaged_staged_work_is_done_again(own_lab: Lab) -> None:
    for payload in (b"", b"no samples", b"\x08" + bytes(40)):
        seed = 100 + len(payload)
        spec = generation_job(own_lab.checkpoints["count_given_element"], 50, seed, chunk_size=50)
        job = queue.submit(own_lab.store, spec)
        own_lab.store.files.stage(f"{job.id}/000000", "samples.safetensors", payload)
        assert Worker(own_lab.store, TASKS, 60.0, [job.id]).run() == 2
        assert queue.chunks(own_lab.store, job.id)[0]["result"]["samples"] == 50


def test_a_chunk_is_no_larger_than_the_job(lab: Lab) -> None:
    found = find_checkpoint(lab.store, "count_given_element:d@1")
    assert generation_job(found, 70, 0) == generation_job(found, 70, 0, chunk_size=70)
    spec = generation_job(found, 2500, 0, chunk_size=1000)
    assert spec.totals == (1000, 1000, 500, 1)


def test_a_condition_that_cannot_be_fails_with_its_reason(own_lab: Lab) -> None:
    spec = generation_job(
        own_lab.checkpoints["count_given_element"], 50, 0, condition={"band_gap": [3.0, None]}
    )
    job = queue.submit(own_lab.store, spec)
    Worker(own_lab.store, TASKS, 60.0, [job.id]).run()
    assert "takes no condition" in str(queue.get(own_lab.store, job.id).error)


def test_work_is_not_repeated(lab: Lab) -> None:
    before = dump(lab.store)
    for (model, seed), job in lab.jobs.items():
        spec = generation_job(lab.checkpoints[model], SAMPLES, seed, chunk_size=CHUNK)
        assert work(lab.store, spec) == [job]
    assert dump(lab.store) == before
