"""Verification finds every kind of contradiction that is planted, and none in a sound store."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa

from gandb.store.verify import remove_leftovers
from gandb.tasks.verification import verify_store
from tests.filled import Filled, fill

ONE = "(SELECT min(CAST(id AS TEXT)) FROM {t})"


def problems(filled: Filled) -> dict[str, int]:
    return {f["check"]: f["problems"] for f in verify_store(filled.store) if f["problems"]}


def one(table: str) -> str:
    return f"CAST(id AS TEXT) = (SELECT min(CAST(id AS TEXT)) FROM {table})"


PLANTED = {
    "composition.id is the hash of its content": (
        f"UPDATE composition SET reduced_formula = 'Og7' WHERE {one('composition')}"
    ),
    "composition.n_atoms follows from the formula": (
        f"UPDATE composition SET n_atoms = n_atoms + 1 WHERE {one('composition')}"
    ),
    "composition.cnen_strict equals its check_result": (
        f"UPDATE composition SET cnen_strict = NOT cnen_strict WHERE {one('composition')}"
    ),
    "composition_element adds up to its composition": (
        "DELETE FROM composition_element WHERE element = 'O'"
    ),
    "candidate.times_generated is the sum of its events": (
        f"UPDATE candidate SET times_generated = 10 * times_generated WHERE {one('candidate')}"
    ),
    "candidate.elements equals its composition's": (
        f"UPDATE candidate SET elements = ARRAY['Og'] WHERE {one('candidate')}"
    ),
    "candidate.cnen_default follows from its composition's": (
        f"UPDATE candidate SET cnen_default = NOT cnen_default WHERE {one('candidate')}"
    ),
    "dataset versions have the members they were made with": (
        "UPDATE dataset_change SET split = 'test'"
    ),
    "dataset_version.id is the hash of its content": (
        "UPDATE dataset_version SET split_recipe = '{}'"
    ),
    "dataset_version.parent_id is the first parent": (
        "INSERT INTO dataset_parent SELECT id, 0, id FROM dataset_version"
    ),
    "recipe.id is the hash of its content": "UPDATE recipe SET version = '0'",
    "key composition(id)": (
        f"INSERT INTO composition SELECT * FROM composition WHERE {one('composition')}"
    ),
    "reference entry.composition_id to composition": (
        f"UPDATE entry SET composition_id = '{uuid.UUID(int=7)}' WHERE {one('entry')}"
    ),
}


@pytest.fixture
def filled(tmp_path: Path) -> Filled:
    return fill(str(tmp_path / "store"), tmp_path / "tables")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    folder = tmp_path_factory.mktemp("sound")
    return fill(str(folder / "store"), folder / "tables")


def test_a_sound_store_has_no_problem(store_url: str, tmp_path: Path) -> None:
    assert problems(fill(store_url, tmp_path / "tables")) == {}


class TakenBackError(Exception):
    """Ends a transaction without a trace."""


@pytest.mark.parametrize("check", PLANTED)
def test_each_contradiction_is_found(check: str, sound: Filled) -> None:
    found: dict[str, object] = {}
    with contextlib.suppress(TakenBackError), sound.store.write() as tx:
        tx.execute(sa.text(PLANTED[check]))
        # Verification reads by its own transaction, so look through the one that has the plant.
        found = {f["check"]: f["problems"] for f in _verify_inside(sound, tx)}
        raise TakenBackError
    assert found[check]
    assert problems(sound) == {}


def _verify_inside(filled: Filled, tx: object) -> list[dict[str, object]]:
    from contextlib import contextmanager

    class Inside:
        files = filled.store.files

        @contextmanager
        def read(self):  # type: ignore[no-untyped-def]
            yield tx.connection  # type: ignore[attr-defined]

    return verify_store(Inside())  # type: ignore[arg-type]


def test_damaged_and_lost_blobs_are_found(filled: Filled) -> None:
    files = filled.store.files
    first, second = sorted(files.blobs())
    path = Path(files.root) / "blobs" / first[:2] / first[2:]
    path.write_bytes(b"not it")
    files.drop_blob(second)
    assert problems(filled) == {"blobs are there and undamaged": 2}


def test_leftovers_are_removed_and_nothing_else(filled: Filled) -> None:
    files = filled.store.files
    kept = set(files.blobs())
    orphan = files.put_blob(b"nobody names me")
    files.stage(str(filled.jobs[0].id), "chunk-000000.safetensors", b"left by a killed worker")
    assert set(files.blobs()) == kept | {orphan}
    assert remove_leftovers(filled.store) >= 2
    assert set(files.blobs()) == kept
    assert files.staged(str(filled.jobs[0].id), "chunk-000000.safetensors") is None
    assert problems(filled) == {}
