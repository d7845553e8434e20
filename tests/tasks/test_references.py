"""What references name, and that a name that cannot be is refused with what is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gandb.core.errors import NotFoundError, UsageError
from gandb.datasets import selection, versions
from gandb.store import Store
from gandb.store.bulk import fetch
from gandb.tasks.candidates import candidates_job
from gandb.tasks.data import find_checkpoint
from gandb.tasks.generation import generation_job
from gandb.tasks.records import records_job
from gandb.tasks.references import generation_jobs, reference_spec, reference_structures
from gandb.tasks.structure_novelty import structure_novelty_job
from gandb.tasks.training import training_job
from tests.crowds import BASES, write
from tests.tasks.labs import make_store, work


@contextmanager
def refused(error: type[Exception], *said: str) -> Iterator[None]:
    with pytest.raises(error) as caught:
        yield
    for part in said:
        assert part in str(caught.value)


def structures(store: Store, *specs: Mapping[str, Any]) -> list[str]:
    with store.read() as connection:
        found = fetch(connection, reference_structures(specs)).column("structure_id").to_pylist()
    assert len(found) == len(set(found))
    return sorted(found)


def rows(store: Store, query: str) -> list[str]:
    with store.read() as connection:
        return sorted(str(row[0]) for row in connection.execute(sa.text(query)))


@pytest.fixture
def store(store_url: str, tmp_path: Path) -> Store:
    """Two sources, a dataset of both with a second version, and two models."""
    store = make_store(store_url, tmp_path)
    work(store, records_job("one", [write(tmp_path, "one", BASES[:9])]))
    work(store, records_job("two", [write(tmp_path, "two", BASES[6:12])]))
    split = versions.SplitRecipe(fractions=(0.5, 0.25, 0.25))
    for where in ("source = 'one'", "true"):
        versions.create(store, "d", selection.by_condition(store, where), where, split)
    work(store, candidates_job("first", [write(tmp_path, "first", BASES[3:6])]))
    work(store, candidates_job("second", [write(tmp_path, "second", BASES[10:])]))
    return store


def test_each_name_stands_for_its_structures(store: Store, tmp_path: Path) -> None:
    second = find_checkpoint(store, "second")

    def named(text: str) -> list[str]:
        return structures(store, reference_spec(store, second, text))

    entries = "SELECT DISTINCT structure_id FROM entries"
    assert named("entries") == rows(store, entries)
    assert len(named("entries")) == 12
    assert named("d@1") == rows(store, f"{entries} WHERE source = 'one'")
    assert named("d@2") == named("entries")
    by_split = {}
    for split in ("train", "validation", "test"):
        members = (
            "SELECT DISTINCT e.structure_id FROM dataset_members AS m "
            "JOIN entries AS e ON e.entry_id = m.entry_id "
            f"WHERE m.dataset = 'd@2' AND m.split = '{split}'"
        )
        by_split[split] = named(f"d@2:{split}")
        assert by_split[split] == rows(store, members)
    assert len(by_split["train"]) > 0
    assert sorted({own for part in by_split.values() for own in part}) == named("entries")
    of_first = "SELECT structure_id FROM generated WHERE model = 'first'"
    assert named("first") == named("earlier") == rows(store, of_first)
    short = find_checkpoint(store, "first").short_id
    assert named(short) == named("first")
    one, other = (reference_spec(store, second, name) for name in ("d@1", "first"))
    assert structures(store, one, other) == sorted({*named("d@1"), *named("first")})
    # What a name stood for stays, whatever comes later.
    before = reference_spec(store, second, "entries"), reference_spec(store, second, "earlier")
    work(store, records_job("three", [write(tmp_path, "three", BASES[12:14])]))
    work(store, candidates_job("third", [write(tmp_path, "third", BASES[:2])]))
    assert structures(store, before[0]) == named("d@2") != named("entries")
    assert named("earlier") == structures(store, before[1])
    third = find_checkpoint(store, "third")
    assert reference_spec(store, third, "earlier")["jobs"] == sorted(
        str(job)
        for name in ("first", "second")
        for job in generation_jobs(store, find_checkpoint(store, name))
    )


def test_training_is_the_training_split_of_the_checkpoint(store: Store) -> None:
    version = versions.resolve(store, "d@2")
    work(store, training_job("count_given_element", version, 0))
    own = find_checkpoint(store, "count_given_element:d@2")
    found = structures(store, reference_spec(store, own, "training"))
    assert found == structures(store, reference_spec(store, own, "d@2:train"))
    with refused(NotFoundError, "nothing was generated yet", "gandb generate"):
        structure_novelty_job(store, own, ["training"])
    work(store, generation_job(own, 20, 0, chunk_size=20))
    with refused(UsageError, "count_given_element:d@2 has a structure", "gandb check"):
        structure_novelty_job(store, own, ["training", "d@1"])


def test_what_is_not_there_is_refused(store: Store, tmp_path: Path) -> None:
    first = find_checkpoint(store, "first")
    assert reference_spec(store, first, "earlier") == {"jobs": []}
    assert structures(store, {"jobs": []}) == []
    own = find_checkpoint(store, "second")
    with refused(UsageError, "second is an external model", "--against NAME@NUMBER"):
        reference_spec(store, own, "training")
    with refused(UsageError, "entries has no split 'train'", "NAME@NUMBER:SPLIT"):
        reference_spec(store, own, "entries:train")
    with refused(UsageError, "no split 'trian'", "train"):
        reference_spec(store, own, "d@1:trian")
    with refused(NotFoundError, "no dataset named 'e'", "known: d"):
        reference_spec(store, own, "e@1")
    with refused(NotFoundError, "d@9", "known: d@2, d@1"):
        reference_spec(store, own, "d@9")
    with refused(NotFoundError, "d@9", "known: d@2, d@1"):
        reference_spec(store, own, "d@9:train")
    with refused(NotFoundError, "known: "):
        reference_spec(store, own, "mattergen")
    for text in ("d@1:trained", "", "d@", "@1", "d@x", ":train", "entries:train"):
        with pytest.raises((NotFoundError, UsageError)):
            reference_spec(store, own, text)
    empty = make_store(str(tmp_path / "empty"), tmp_path)
    with refused(NotFoundError, "nothing was imported yet"):
        reference_spec(empty, own, "entries")
