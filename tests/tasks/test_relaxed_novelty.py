"""Relaxed structures are judged as such, beside what their candidates were as generated."""

from __future__ import annotations

from pathlib import Path

import pytest

from gandb.core.errors import UsageError
from gandb.jobs import queue
from gandb.tasks import structure_novelty
from gandb.tasks.data import find_checkpoint
from gandb.tasks.identity import STANDARD
from gandb.tasks.keys import keys_job
from gandb.tasks.references import candidate_structures
from gandb.tasks.relaxed_energies import find_relaxation
from gandb.tasks.structure_novelty import structure_novelty_job
from gandb.tasks.verification import verify_store
from tests.crowds import (
    caesium_chloride,
    fluorite,
    rocksalt,
    rutile,
    zincblende,
)
from tests.hulls import Relaxation, relax
from tests.tasks.labs import make_store, work
from tests.tasks.novelty_lab import (
    KNOWN,
    candidates,
    jobs_of,
    judge,
    judged,
    known,
    work_failing,
)


def test_relaxed_structures_are_judged_as_such(store_url: str, tmp_path: Path) -> None:
    """What was new may relax into what is known, and two into one; the rest is not judged."""
    store = make_store(store_url, tmp_path)
    known(store, tmp_path, KNOWN)
    made = {
        "becomes known": zincblende(5.2, "Na", "Cl"),
        "first of two": fluorite(4.87, "Ti", "O"),
        "other of two": rutile(4.0, 6.5, 0.305, "Ti", "O"),
        "lost": caesium_chloride(3.4, "K", "Br"),
        "left alone": rocksalt(6.6, "K", "Br"),
    }
    candidates(store, tmp_path, "new", list(made.values()), "gen")
    own = {name: cell_.crystal() for name, cell_ in made.items()}
    target = fluorite(5.0, "Ti", "O").crystal()
    by = relax(
        store,
        [
            Relaxation(own["becomes known"], -3.4, rocksalt(5.7, "Na", "Cl").crystal()),
            Relaxation(own["first of two"], -8.0, target),
            Relaxation(own["other of two"], -8.0, target, converged=False),
            Relaxation(own["lost"], None),
        ],
    )
    counted, _ = judge(store, "gen", "entries")
    relaxation = find_relaxation(store, candidate_structures(jobs_of(store)), None)
    assert relaxation.id == by
    checkpoint = find_checkpoint(store, "gen")
    with pytest.raises(UsageError, match="no keys yet"):
        work_failing(store, structure_novelty_job(store, checkpoint, ["entries"], STANDARD,
                                                  relaxation))  # fmt: skip
    spec = keys_job(store)
    assert spec is not None
    work(store, spec)
    wanted = structure_novelty_job(store, checkpoint, ["entries"], STANDARD, relaxation)
    queue.retry(store, wanted.id)
    (job,) = work(store, wanted)
    assert job.kind == structure_novelty.RELAXED_KIND
    result = queue.chunks(store, job.id)[0]["result"]
    assert {k: result[k] for k in ("candidates", "unique", "known", "prototype")} == {
        "candidates": 3, "unique": 2, "known": 1, "prototype": 2,
    }  # fmt: skip
    assert result["recipe_id"] != counted["recipe_id"]
    rows = judged(store, result["recipe_id"])
    assert rows.keys() == {str(own[name].id) for name in list(own)[:3]}
    assert rows[str(own["becomes known"].id)]["grade"] == "known"
    two = [str(own[name].id) for name in ("first of two", "other of two")]
    assert {str(rows[i]["representative_id"]) for i in two} == {min(two)}
    assert "mine" in rows[two[0]]["reference"]
    before = judged(store, counted["recipe_id"])
    assert before[str(own["becomes known"].id)]["grade"] != "known"
    assert [f["name"] for f in verify_store(store) if f["problems"]] == []
