"""Verification finds each contradiction that is planted in what identity says."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from gandb.store import Store
from gandb.tasks.candidates import candidates_job
from gandb.tasks.data import find_checkpoint
from gandb.tasks.records import records_job
from gandb.tasks.structure_novelty import structure_novelty_job
from gandb.tasks.verification import verify_store
from tests.crowds import BASES, write
from tests.tasks.labs import make_store, work
from tests.tasks.test_identity import identified

_A_MATCH = (
    "CAST(structure_a AS TEXT) = "
    "(SELECT min(CAST(structure_a AS TEXT)) FROM comparison WHERE matched)"
)
_FORMULA = "(SELECT id FROM composition WHERE reduced_formula = '{}')"

PLANTED = {
    "structure_key has its structure's composition": (
        f"UPDATE structure_key SET composition_id = {_FORMULA.format('KCl')} "
        f"WHERE composition_id = {_FORMULA.format('GaAs')}"
    ),
    "structure_key has a cell or an error": "UPDATE structure_key SET error = 'none'",
    "structure_key.cell has the sites that it should": (
        "UPDATE structure_key SET n_reduced = n_reduced + 1"
    ),
    "comparison names the smaller id first": (
        "UPDATE comparison SET structure_a = structure_b, structure_b = structure_a"
    ),
    "comparison.matched follows from both directions": (
        f"UPDATE comparison SET matched = NOT matched WHERE {_A_MATCH}"
    ),
    "comparison has distances where it matched": (
        f"UPDATE comparison SET rms = NULL WHERE {_A_MATCH}"
    ),
    "comparison is of one composition": (
        "UPDATE comparison SET structure_b = CAST((SELECT max(CAST(id AS TEXT)) FROM structure "
        f"WHERE composition_id = {_FORMULA.format('KCl')}) AS UUID)"
    ),
    "materials are the components of the matches": (
        "UPDATE material_member SET material_id = structure_id"
    ),
    "candidate_novelty has a grade or an error": (
        "UPDATE candidate_novelty SET reference_structure_id = NULL WHERE level = 0"
    ),
    "candidate_novelty.representative_id is the smallest": (
        "UPDATE candidate_novelty SET representative_id = CAST((SELECT max(CAST(id AS TEXT)) "
        "FROM structure) AS UUID)"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("sound")
    return filled(str(folder / "store"), folder)


def filled(address: str, folder: Path) -> Store:
    """Make a store with materials of several structures, and candidates judged."""
    store = make_store(address, folder)
    near = [type(base)(base.lattice * 1.01, base.frac_coords, base.species) for base in BASES[:8]]
    work(store, records_job("mine", [write(folder, "mine", [*BASES[:10], *near])]))
    work(store, candidates_job("gen", [write(folder, "gen", [BASES[0], *BASES[8:]])]))
    identified(store)
    work(store, structure_novelty_job(store, find_checkpoint(store, "gen"), ["entries"]))
    return store


def findings(store: Any) -> dict[str, int]:
    return {f["check"].split(" (")[0]: f["problems"] for f in verify_store(store) if f["problems"]}


def test_a_sound_store_has_no_problem(store_url: str, tmp_path: Path) -> None:
    store = filled(store_url, tmp_path)
    assert findings(store) == {}
    checks = {f["check"].split(" (")[0] for f in verify_store(store)}
    assert set(PLANTED) <= checks


class TakenBackError(Exception):
    """Ends a transaction without a trace."""


@pytest.mark.parametrize("check", PLANTED)
def test_each_contradiction_is_found(check: str, sound: Store) -> None:
    found: dict[str, int] = {}
    with contextlib.suppress(TakenBackError), sound.write() as tx:
        tx.execute(sa.text(PLANTED[check]))
        inside = SimpleNamespace(
            files=sound.files, read=lambda: contextlib.nullcontext(tx.connection)
        )
        found = findings(inside)
        raise TakenBackError
    assert found[check]


def test_a_match_that_was_lost_is_found(sound: Store) -> None:
    """Without its evidence, a material of two is no material."""
    with contextlib.suppress(TakenBackError), sound.write() as tx:
        tx.execute(sa.text("DELETE FROM comparison"))
        inside = SimpleNamespace(
            files=sound.files, read=lambda: contextlib.nullcontext(tx.connection)
        )
        assert findings(inside)["materials are the components of the matches"]
        raise TakenBackError
