"""Choosing members by a SQL condition or from a file of ids, and what is said of bad ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gandb.core.errors import InputError, QueryError, UsageError
from gandb.datasets.selection import by_condition, from_file
from gandb.datasets.versions import create
from gandb.store import Store
from tests.datasets import labs

N = 30


def _numbers(ids: np.ndarray) -> list[int]:
    everything = [labs.text(i) for i in labs.entry_ids(N * labs.POLYMORPHS)]
    return sorted(everything.index(labs.text(i)) for i in ids)


@pytest.fixture
def store(store_url: str) -> Store:
    return labs.make_store(store_url, N, 3)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return labs.make_store(str(tmp_path_factory.mktemp("kept") / "store"), N)


def test_a_condition_chooses_entries_with_their_compositions(store: Store) -> None:
    chosen = by_condition(store, "band_gap BETWEEN 4 AND 9 -- some\n OR external_id = 'mp-20'")
    assert _numbers(chosen.entry_ids) == [4, 5, 6, 7, 8, 9, 20]
    owners = {labs.text(i) for i in labs.selection([4, 6, 8, 20], N).composition_ids}
    assert {labs.text(i) for i in chosen.composition_ids} == owners
    assert chosen.origin["where"].startswith("band_gap")
    version, _ = create(store, "mp", chosen, "m")
    assert (version.n_entries, version.n_compositions) == (7, 4)


def test_elements_are_asked_for_alike_on_both_engines(store: Store) -> None:
    chosen = by_condition(store, "elements @> ARRAY['Li'] AND n_elements = 2")
    z = labs.compositions(N).atomic_numbers.reshape(-1, 2)
    assert len(chosen.entry_ids) == 2 * int((z == 3).any(axis=1).sum())


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("band_gp > 1", "band_gap"),
        ("", "syntax"),
        ("band_gap >", "syntax"),
        ("true); DELETE FROM entry; --", "statements|syntax"),
    ],
)
def test_a_condition_that_is_none(store: Store, condition: str, words: str) -> None:
    with pytest.raises(QueryError, match=f"(?i){words}"):
        by_condition(store, condition)


def test_a_condition_that_nothing_meets_makes_no_version(kept: Store) -> None:
    chosen = by_condition(kept, "band_gap < 0")
    assert chosen.entry_ids.shape == (0, 16)
    with pytest.raises(UsageError, match="no entry was selected"):
        create(kept, "none", chosen, "m")


def test_a_file_names_entries_by_either_id(store: Store, tmp_path: Path) -> None:
    ids = [labs.text(i) for i in labs.entry_ids(10)]
    lines = ["# chosen by hand", "", f"  {ids[3]} ", ids[4].upper(), "mp:mp-7", "mp:mp-7", ids[7]]
    chosen = from_file(store, labs.write_lines(tmp_path / "ids.txt", lines))
    assert _numbers(chosen.entry_ids) == [3, 4, 7]
    assert {labs.text(i) for i in chosen.composition_ids} == {
        labs.text(i) for i in labs.selection([3, 4, 7], N).composition_ids
    }
    assert chosen.origin == {"from": "ids.txt", "ids": 4}


def test_lines_that_name_nothing_are_named(kept: Store, tmp_path: Path) -> None:
    lines = ["mp:mp-1", *(f"mp:no-{i}" for i in range(7)), "oqmd:mp-1"]
    path = labs.write_lines(tmp_path / "ids.txt", lines)
    with pytest.raises(
        InputError, match=r"ids\.txt: 8 of 9 ids .*line 2: mp:no-0, line 3: .*\.\.\."
    ):
        from_file(kept, path)


def test_a_file_without_ids_selects_nothing(kept: Store, tmp_path: Path) -> None:
    chosen = from_file(kept, labs.write_lines(tmp_path / "ids.txt", ["# nothing"]))
    assert len(chosen.entry_ids) == 0


def test_a_file_that_cannot_be_read(kept: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        from_file(kept, tmp_path / "missing.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot read"):
        from_file(kept, tmp_path / "binary")
