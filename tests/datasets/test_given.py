"""Files that state splits: lines, folders of tables, and what is said of bad ones."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandb.core.errors import InputError
from gandb.datasets.changing import Change, change
from gandb.datasets.given import read_splits
from gandb.datasets.leaks import leaks
from gandb.datasets.selection import by_condition, with_splits
from gandb.datasets.splits import SPLITS, UNSPLIT, SplitRecipe
from gandb.datasets.versions import Selection, create
from gandb.schema import tables
from gandb.store import Store
from tests.datasets import labs

N = 30


@pytest.fixture
def store(store_url: str) -> Store:
    return labs.make_store(store_url, N, 3)


def _numbers(chosen: Selection) -> dict[int, str | None]:
    everything = {labs.text(i): n for n, i in enumerate(labs.entry_ids(N * labs.POLYMORPHS))}
    assert chosen.splits is not None
    return {
        everything[labs.text(i)]: None if s == UNSPLIT else SPLITS[s]
        for i, s in zip(chosen.entry_ids, chosen.splits, strict=True)
    }


def test_lines_of_ids_and_splits(store: Store, tmp_path: Path) -> None:
    own = labs.text(labs.entry_ids(60)[7])
    lines = ["# id split", "mp:mp-1 train", "mp-2\tVAL", "", f"{own.upper()}, test", "mp-9,dev"]
    given = read_splits(labs.write_lines(tmp_path / "splits.txt", lines))
    chosen = with_splits(store, given)
    assert _numbers(chosen) == {1: "train", 2: "validation", 7: "test", 9: "validation"}
    assert dict(chosen.origin) == {"split_file": "splits.txt", "ids": 4}
    version, _ = create(store, "given", chosen, "as given")
    assert version.split_recipe["by"] == "given"
    assert sorted(labs.members(store, "given@1").values()) == [
        "test", "train", "validation", "validation",
    ]  # fmt: skip


def test_a_folder_of_tables(store: Store, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text('"",material_id,cif\n0,mp-0,"a\nb"\n1,mp-1,c\n')
    with gzip.open(tmp_path / "val.csv.gz", "wt") as out:
        out.write("material_id,cif\nmp-5,x\n")
    (tmp_path / "test.txt").write_text("mp:mp-8\n\n# no\n")
    (tmp_path / "notes.md").write_text("nothing")
    chosen = with_splits(store, read_splits(tmp_path))
    assert _numbers(chosen) == {0: "train", 1: "train", 5: "validation", 8: "test"}


def test_given_splits_are_kept_even_where_they_leak(store: Store, tmp_path: Path) -> None:
    # Entries 2k and 2k + 1 are polymorphs of one composition.
    stated = {0: "train", 1: "test", 2: "train", 4: "test", 6: "validation", 7: "validation"}
    lines = [f"mp-{n} {split}" for n, split in stated.items()]
    given = read_splits(labs.write_lines(tmp_path / "s.txt", lines))
    chosen = with_splits(store, given, by_condition(store, "band_gap < 10"))
    wanted = {n: stated.get(n) for n in range(10)}
    assert _numbers(chosen) == wanted
    version, _ = create(store, "d", chosen, "", SplitRecipe((0.0, 0.0, 1.0)))
    expected = {**stated, 3: "train", 5: "test", 8: "test", 9: "test"}
    ids = labs.entry_ids(60)
    assert labs.members(store, "d@1") == {labs.text(ids[n]): s for n, s in expected.items()}
    told = {(row.split, row.level): row for row in leaks(store, version)}
    test = told["test", "composition"]
    assert (test.groups, test.leaked_groups, test.members, test.leaked_members) == (3, 1, 5, 1)
    assert told["validation", "composition"].leaked_members == 0
    # What comes in later follows its composition; a file may move single entries.
    more, _ = change(store, version, Change(add="band_gap BETWEEN 10 AND 11"), "")
    assert {k: v for k, v in labs.members(store, more.reference).items() if k in
            {labs.text(ids[n]) for n in expected}} == labs.members(store, "d@1")  # fmt: skip
    moved = Change(split_file=labs.write_lines(tmp_path / "m.txt", ["mp-1 train"]))
    clean, _ = change(store, more, moved, "without the leak")
    assert labs.members(store, clean.reference)[labs.text(ids[1])] == "train"
    assert all(not row.leaked_members for row in leaks(store, clean) if row.level == "composition")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["mp-1"], "line 1: 'mp-1' is not an id and one of train, validation, test"),
        (["mp-1 train", "mp-2 other"], "line 2: 'mp-2 other' is not an id"),
        (["mp-1 train", "mp-1 test"], r"mp-1 is in train \(line 1\) and in test \(line 2\)"),
        (["mp-1 train", "mp:mp-1 test"], "is put into"),
        (["# nothing"], "names no id"),
        (["mp-1 train", "mp-999 test"], r"1 of 2 ids name no entry .*line 2: mp-999"),
    ],
)
def test_files_that_are_refused(lines: list[str], words: str, tmp_path: Path, kept: Store) -> None:
    path = labs.write_lines(tmp_path / "s.txt", lines)
    with pytest.raises(InputError, match=words):
        with_splits(kept, read_splits(path))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return labs.make_store(str(tmp_path_factory.mktemp("kept") / "store"), N)


def test_folders_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no files train, val, test"):
        read_splits(tmp_path)
    (tmp_path / "train.csv").write_text("formula\nNaCl\n")
    with pytest.raises(InputError, match="has no column entry_id, material_id, external_id or id"):
        read_splits(tmp_path)
    (tmp_path / "train.csv").write_text("id\nmp-1\n\nmp-2\n,\n")
    with pytest.raises(InputError, match=r"row 3: id is empty"):
        read_splits(tmp_path)
    (tmp_path / "train.csv").write_text("id\nmp-1\n")
    (tmp_path / "train.txt").write_text("mp-1\n")
    with pytest.raises(InputError, match=r"both train.csv and train.txt are train"):
        read_splits(tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        read_splits(tmp_path / "none.txt")
    (tmp_path / "b.txt.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match="cannot read"):
        read_splits(tmp_path / "b.txt.gz")


def test_an_id_of_several_sources_is_refused(store_url: str, tmp_path: Path) -> None:
    store = labs.make_store(store_url, N)
    with store.write() as tx:
        tx.execute(
            tables.entry.update()
            .where(tables.entry.c.external_id == "mp-3")
            .values(source="oqmd", external_id="mp-1")
        )
    given = read_splits(labs.write_lines(tmp_path / "s.txt", ["mp-1 train"]))
    with pytest.raises(InputError, match=r"line 1: mp-1 is an id in mp and oqmd; write mp:mp-1"):
        with_splits(store, given)
    chosen = with_splits(store, given, by_condition(store, "source = 'oqmd'"))
    assert _numbers(chosen) == {3: "train"}


@given(st.dictionaries(st.integers(0, 500), st.sampled_from(SPLITS), min_size=1), st.data())
def test_any_table_is_read_as_it_was_written(rows: dict[int, str], data: st.DataObject) -> None:
    import tempfile

    separator = data.draw(st.sampled_from([" ", "\t", ",", ", ", "   "]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.txt"
        path.write_text("\n".join(f"mp-{n}{separator}{s}" for n, s in rows.items()))
        found = read_splits(path)
    assert dict(zip(found.lines.texts, found.splits, strict=True)) == {
        f"mp-{n}": SPLITS.index(s) for n, s in rows.items()
    }


# --- recipes -------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["composition", "chemical_system", "anonymous_formula"])
def test_no_group_is_torn_apart(by: str, store: Store) -> None:
    recipe = SplitRecipe((0.4, 0.3, 0.3), 1, by)
    version, _ = create(store, "d", labs.selection(range(60), N), "", recipe)
    levels = {"composition": 1, "chemical_system": 2, "anonymous_formula": 1}
    told = {(row.split, row.level): row.leaked_members for row in leaks(store, version)}
    assert not told["validation", "composition"] + told["test", "composition"]
    if levels[by] == 2:
        assert not told["validation", "chemical_system"] + told["test", "chemical_system"]
    ids = np.array([labs.text(i) for i in labs.entry_ids(60)])
    splits = labs.members(store, "d@1")
    batch = labs.compositions(N)
    names = {
        "composition": batch.reduced_formulas(),
        "chemical_system": batch.chemical_systems(),
        "anonymous_formula": batch.anonymous_formulas(),
    }[by].to_pylist()
    groups: dict[str, set[str]] = {}
    for n, own in enumerate(ids):
        groups.setdefault(names[n // labs.POLYMORPHS], set()).add(splits[own])
    assert all(len(found) == 1 for found in groups.values())
