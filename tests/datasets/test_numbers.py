"""Tags, numbers that are taken away, versions that come back, and names of other groups."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa

from gandb.core.errors import NotFoundError, UsageError
from gandb.core.ids import Domain, content_id
from gandb.datasets import history
from gandb.datasets.changing import Change, change
from gandb.datasets.names import find, reference_of, tags_of, versions_of
from gandb.datasets.numbers import delete_tag, remove, restore, rests_on, tag
from gandb.datasets.splits import SplitRecipe
from gandb.datasets.versions import Version, add_number, create, resolve
from gandb.query.frames import query
from gandb.schema import tables
from gandb.store import Store
from tests.datasets import labs

N = 30


@pytest.fixture
def store(store_url: str) -> Store:
    return labs.make_store(store_url, N)


def _three(store: Store) -> list[Version]:
    made = [create(store, "mp", labs.selection(range(20), N), "first")[0]]
    made.append(change(store, made[0], Change(add="band_gap < 30"), "more")[0])
    made.append(change(store, made[1], Change(drop="band_gap < 5"), "less")[0])
    return made


def _theirs(store: Store, version: Version, name: str, origin: str, day: int) -> None:
    row = {
        "dataset_id": content_id(Domain.DATASET, version.name.encode()),
        "tag": name,
        "origin": origin,
        "version_id": version.id,
        "message": "",
        "created_at": dt.datetime(2026, 1, day),
    }
    with store.write() as tx:
        tx.execute(tables.dataset_tag.insert(), row)


def _set_origin(store: Store, origin: str) -> None:
    with store.write() as tx:
        tx.execute(tables.setting.insert(), {"key": "origin", "value": origin})


# --- tags --------------------------------------------------------------------------------


def test_a_tag_stands_for_a_version_until_it_is_moved(store: Store) -> None:
    first, second, _ = _three(store)
    made, new = tag(store, "mp@1", "best", "why not")
    assert new
    assert (made.name, made.tag, made.origin, made.message) == ("mp", "best", "", "why not")
    assert resolve(store, "mp@best") == first
    assert tag(store, "mp@best", "best") == (made, False)
    with pytest.raises(UsageError, match=r"mp@best stands for mp@1; .* mp@2 with --move"):
        tag(store, "mp@2", "best")
    assert tag(store, "mp@2", "best", move=True)[1]
    assert resolve(store, "mp@best") == second
    assert tag(store, "mp", "v1.0")[0].version_id == resolve(store, "mp@3").id
    with pytest.raises(UsageError, match="stands for mp@2, not for mp@1"):
        delete_tag(store, "mp@1", "best")
    assert delete_tag(store, "mp", "best").version_id == second.id
    with pytest.raises(NotFoundError, match=r"no dataset version named 'mp@best'; .*mp@v1.0"):
        resolve(store, "mp@best")
    with pytest.raises(NotFoundError, match=r"no tag of mp named 'bset'"):
        delete_tag(store, "mp", "bset")
    for text in ("3", "-x", "a b", "", "x" * 65, "a/b"):
        with pytest.raises(UsageError, match="cannot be a tag"):
            tag(store, "mp@1", text)


def test_of_several_groups_the_own_tag_counts_else_the_newest(store: Store) -> None:
    first, second, third = _three(store)
    _theirs(store, first, "best", "delta", 1)
    _theirs(store, second, "best", "echo", 2)
    assert resolve(store, "mp@best") == second
    tag(store, "mp@3", "best")
    assert resolve(store, "mp@best") == third
    rows = query(store, "SELECT reference, dataset, origin, counts FROM tags").to_pylist()
    told = {r["origin"]: (r["reference"], r["dataset"], r["counts"]) for r in rows}
    assert told == {
        "": ("mp@best", "mp@3", True),
        "delta": ("mp@best", "mp@1", False),
        "echo": ("mp@best", "mp@2", False),
    }
    with store.read() as connection:
        assert {t.origin: t.counts for t in tags_of(connection, "mp")} == {
            "": True, "delta": False, "echo": False,
        }  # fmt: skip
    delete_tag(store, "mp", "best")
    assert resolve(store, "mp@best") == second
    with pytest.raises(UsageError, match="was set by echo, not by this store"):
        delete_tag(store, "mp", "best")
    told_of = {c.references: c.tags for c in history.log(store, "mp")}
    assert told_of["mp@1",] == ("mp@best (delta)",)


# --- removing and restoring --------------------------------------------------------------


def test_a_removed_number_is_gone_from_all_lists_and_comes_back(store: Store) -> None:
    _, second, third = _three(store)
    assert remove(store, "mp@3") == third
    assert resolve(store, "mp") == second
    with pytest.raises(NotFoundError, match=r"mp@3 was removed on .* gandb dataset restore mp@3"):
        resolve(store, "mp@3")
    shown = query(store, "SELECT dataset FROM datasets ORDER BY number").to_pylist()
    assert [r["dataset"] for r in shown] == ["mp@1", "mp@2"]
    assert labs.members(store, "mp@3") == {}
    with store.read() as connection:
        assert reference_of(connection, third.id) == "mp@3"
        assert len(versions_of(connection, "mp")) == 3
    again, new = change(store, second, Change(drop="band_gap < 5"), "less, again")
    assert new  # the same version has another number; the old one is not given again
    assert (again.reference, again.id) == ("mp@4", third.id)
    remove(store, "mp@4")
    assert restore(store, "mp@3") == (find(store, "mp@3"), True)
    assert resolve(store, "mp") == third
    assert restore(store, "mp@3") == (third, False)
    assert len(labs.members(store, "mp@3")) == 25
    back, new = restore(store, "mp@1", "back to the beginning")
    assert new
    assert (back.reference, back.parents) == ("mp@5", (third.id,))
    assert back.selection == {"restore": "mp@1"}
    assert labs.members(store, "mp@5") == labs.members(store, "mp@1")
    remove(store, "mp@2")
    assert restore(store, "mp@2", number_only=True)[0] == second
    assert resolve(store, "mp") == back
    log = {c.references for c in history.log(store)}
    assert log == {("mp@1",), ("mp@2",), ("mp@3",), ("mp@5",)}


def test_removing_what_is_not_there(store: Store) -> None:
    _three(store)
    with pytest.raises(UsageError, match="say which version of mp to remove: mp@NUMBER"):
        remove(store, "mp")
    with pytest.raises(UsageError, match="say which version of mp to restore"):
        restore(store, "mp")
    with pytest.raises(NotFoundError, match="no dataset version named 'mp@9'"):
        remove(store, "mp@9")
    for number in (1, 2, 3):
        remove(store, f"mp@{number}")
    with pytest.raises(NotFoundError, match="all versions of mp were removed; bring one back"):
        resolve(store, "mp")
    made, _ = create(store, "mp", labs.selection(range(3), N), "anew")
    assert (made.reference, made.parents) == ("mp@4", ())


def test_what_rests_on_a_version_is_named(store: Store) -> None:
    first, _, third = _three(store)
    tag(store, "mp@1", "used")
    job = {
        "id": content_id(Domain.JOB, b"1"), "kind": "train", "spec": {}, "code_version": "0",
        "dataset_version_id": first.id, "n_chunks": 1, "state": "done",
        "created_at": dt.datetime(2026, 1, 1),
    }  # fmt: skip
    spec = {"against": [{"version": str(third.id), "split": None}]}
    judged = job | {
        "id": content_id(Domain.JOB, b"2"), "kind": "structure_novelty", "spec": spec,
        "dataset_version_id": None,
    }  # fmt: skip
    empty = ((sa.ARRAY, []), (sa.JSON, {}), (sa.Text, ""), (sa.Integer, 0))
    shown: dict[str, Any] = {
        c.name: next((value for kind, value in empty if isinstance(c.type, kind)), None)
        for c in tables.publication.c
        if not c.nullable
    }
    shown |= {"name": "mp@1", "dataset_version_id": first.id, "public": True}
    shown["created_at"] = dt.datetime(2026, 1, 1)
    with store.write() as tx:
        tx.execute(tables.job.insert(), job)
        tx.execute(tables.job.insert(), judged)
        tx.execute(tables.publication.insert(), shown)
    with store.read() as connection:
        assert rests_on(connection, first) == [
            "tag mp@used", f"job {job['id']} (train)", "publication mp@1",
        ]  # fmt: skip
    with pytest.raises(UsageError, match=r"mp@1 is in use by tag mp@used, job .* --force"):
        remove(store, "mp@1")
    with pytest.raises(UsageError, match=r"mp@3 is in use by job .* \(structure_novelty\)"):
        remove(store, "mp@3")
    # Under another number nothing is lost but the tag, which is of this dataset.
    with store.write() as tx:
        add_number(tx, "copy", first.id, "", {})
    with pytest.raises(UsageError, match="mp@1 is in use by tag mp@used; hide"):
        remove(store, "mp@1")
    remove(store, "mp@1", force=True)
    with pytest.raises(NotFoundError, match="mp@1 was removed"):
        resolve(store, "mp@used")
    assert restore(store, "mp@used", number_only=True)[0] == first


# --- other groups ------------------------------------------------------------------------


def test_names_of_other_groups(store: Store) -> None:
    first, *_ = _three(store)
    with store.write() as tx:
        add_number(tx, "delta/mp", first.id, "theirs", {})
    theirs = resolve(store, "delta/mp")
    assert (theirs.reference, theirs.id) == ("delta/mp@1", first.id)
    with pytest.raises(UsageError, match="gandb dataset change delta/mp --as mp"):
        create(store, "delta/mp", labs.selection(range(3), N), "")
    own, _ = change(store, theirs, Change(drop="band_gap = 1"), "ours", "ours")
    assert (own.reference, own.parents) == ("ours@1", (first.id,))
    tag(store, "delta/mp@1", "checked")
    assert resolve(store, "delta/mp@checked") == theirs
    remove(store, "delta/mp@1", force=True)
    assert restore(store, "delta/mp@1")[0] == theirs
    _set_origin(store, "echo")
    assert resolve(store, "echo/mp@3") == resolve(store, "mp@3")
    with pytest.raises(NotFoundError, match="no dataset named 'foxtrot/mp'"):
        resolve(store, "foxtrot/mp")


def test_the_graph_is_a_view(store: Store) -> None:
    first, _, third = _three(store)
    other, _ = create(store, "o", labs.selection(range(40, 44), N), "o", SplitRecipe())
    both, _ = change(store, third, Change(unite=(other, first)), "both")
    rows = query(
        store, "SELECT dataset, position, parent FROM dataset_parents ORDER BY dataset, position"
    ).to_pylist()
    assert [(r["dataset"], r["position"], r["parent"]) for r in rows] == [
        ("mp@2", 0, "mp@1"),
        ("mp@3", 0, "mp@2"),
        ("mp@4", 0, "mp@3"),
        ("mp@4", 1, "o@1"),
        ("mp@4", 2, "mp@1"),
    ]
    assert both.parents == (third.id, other.id, first.id)
    assert [c.references for c in history.log(store, "mp@2")] == [("mp@2",), ("mp@1",)]
    with store.read() as connection:
        n = connection.scalar(sa.select(sa.func.count()).select_from(tables.dataset_parent))
    assert n == 5
